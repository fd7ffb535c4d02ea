-- needs: fdw
-- Logging rejected rows: killed in the middle, by several at once, and records without an end.

local fdw = require "tests.support.fdw"
local lu = require "luaunit"
local zip = require "zip"

TestFdwErrlog = {}

local BAD = 5000

-- Every third row is bad, and says where it stands.
local function rows()
  local lines = {}
  for i = 1, BAD * 3 do lines[i] = i % 3 == 0 and ("bad %d,row\n"):format(i) or ("%d,row\n"):format(i) end
  return table.concat(lines)
end

local LOGGED = [[SELECT count(*) AS n, count(*) FILTER (WHERE rawdata = 'bad ' || linenum || ',row'
  AND errmsg = 'invalid input syntax for type integer: "bad ' || linenum || '", column n') AS right
  FROM gp_read_error_log('%s')]]

local function lab(name, store, uri)
  local f = fdw.open(name, { store = store, uri = uri })
  f.objects:put("rows/1.csv", rows())
  local t = f:foreign("adbpg", "n int, t text", { dir = "rows/", format = "csv", encoding = "utf8",
    segment_reject_limit = "1000000", log_errors = "true" })
  return f, t
end

function TestFdwErrlog:test_a_killed_writer_spoils_no_row_but_its_last()
  local server <close> = fdw.server "errlog-killed"
  local store <close> = fdw.ossd { name = "errlog-killed" }
  local f, t = lab("errlog_killed", store, server.uri)
  local _ <close> = f
  f.conn:exec "CHECKPOINT" -- the server of a test commits asynchronously
  for kill = 1, 3 do
    local s <close> = f:session { ("DO $$ BEGIN LOOP PERFORM count(*) FROM %s; END LOOP; END $$"):format(t) }
    s:reach(1)
    local before = f.conn:one(LOGGED:format(t)).n
    fdw.eventually(20, function() return f.conn:one(LOGGED:format(t)).n > before end, "rows are logged")
    fdw.sleep(0.01 * kill)
    server:crash(s.pid)
    f:connect()
    local after = f.conn:one(LOGGED:format(t))
    lu.assertTrue(after.n > before)
    lu.assertEquals(after.right, after.n)
    f.conn:query("SELECT count(*) FROM " .. t)
    local again = f.conn:one(LOGGED:format(t))
    lu.assertEquals(again.n, after.n + BAD)
    lu.assertEquals(again.right, again.n)
    f.conn:query(("SELECT gp_truncate_error_log('%s')"):format(t))
  end
end

function TestFdwErrlog:test_sessions_log_side_by_side()
  local store <close> = fdw.ossd { name = "errlog-many" }
  local f, t = lab("errlog_many", store)
  local _ <close> = f
  local sessions = {}
  for i = 1, 4 do
    sessions[i] = f:session { ("SELECT count(*) FROM %s"):format(t), ("SELECT count(*) FROM %s"):format(t) }
  end
  for _, s in ipairs(sessions) do
    local result = s:result()
    lu.assertTrue(result.ok, result.message)
    s:close()
  end
  local logged = f.conn:one(LOGGED:format(t))
  lu.assertEquals(logged.n, 8 * BAD)
  lu.assertEquals(logged.right, logged.n)
end

function TestFdwErrlog:test_what_led_to_an_abort_is_logged()
  local store <close> = fdw.ossd { name = "errlog-abort" }
  local f, t = lab("errlog_abort", store)
  local _ <close> = f
  local s <close> = f:session { ("SELECT pg_sleep(60) FROM %s WHERE n > 100"):format(t) }
  s:reach(1)
  local waits = ("SELECT wait_event IS NOT DISTINCT FROM 'PgSleep' AS yes FROM pg_stat_activity WHERE pid = %d"):format(s.pid)
  fdw.eventually(20, function() return f.conn:one(waits).yes end, "the scan waits")
  lu.assertEquals(f.conn:one(LOGGED:format(t)).n, 0) -- gathered, not yet written
  f.conn:query(("SELECT pg_terminate_backend(%d)"):format(s.pid))
  lu.assertFalse(s:result(20).ok)
  fdw.eventually(20, function() return f.conn:one(LOGGED:format(t)).n == 33 end, "33 rows are logged")
end

function TestFdwErrlog:test_a_record_without_an_end_is_one_row_and_is_not_kept_in_memory()
  local store <close> = fdw.ossd { name = "errlog-long" }
  local f <close> = fdw.open("errlog_long", { store = store })
  f.objects:put("long/1.csv.gz", zip.compress('1,one\n2,"' .. ("x\n"):rep(70 << 20) .. '"\n3,three\n4,"four\n', "gzip"))
  local t = f:foreign("adbpg", "n int, t text", { dir = "long/", format = "csv", encoding = "utf8", filetype = "gzip",
    segment_reject_limit = "10", log_errors = "true" })
  lu.assertEquals(f.conn:one("SELECT array_agg(n)::text AS all FROM " .. t).all, "{1,3}")
  local logged = {}
  for row in f.conn:rows("SELECT linenum, bytenum, errmsg, length(rawdata) AS n FROM gp_read_error_log($1)", t) do
    logged[#logged + 1] = row
  end
  lu.assertEquals(#logged, 2)
  lu.assertEquals(logged[1].errmsg, "row is longer than 128 MB: perhaps a quote that is not closed")
  lu.assertEquals({ logged[1].linenum, logged[1].bytenum, logged[1].n }, { 2, 6, 8192 })
  lu.assertEquals(logged[2].errmsg, "unterminated CSV quoted field")
  lu.assertEquals({ logged[2].linenum, logged[2].n }, { (70 << 20) + 4, 8 })
  local pid = f.conn:one("SELECT pg_backend_pid() AS pid").pid
  lu.assertTrue(fdw.status(pid, "VmRSS") < 128 * 1024 * fdw.SLOW, "what was kept is given back")
end

os.exit(lu.LuaUnit.run())
