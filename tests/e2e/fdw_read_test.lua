-- needs: fdw
--- What a scan asks of the store, when, and how it lets go: requests are counted on the way.

local fdw = require "tests.support.fdw"
local lu = require "luaunit"
local zip = require "zip"

local o = fdw.ossd { name = "read" }
local f = fdw.open("read", { store = o })
local relay = fdw.relay(o)

-- A foreign table whose requests go through the relay.
local function table_on(dialect, list, server)
  list.format = list.format or "csv"
  return f:foreign(f:server(dialect, server, o:behind(relay.url)), "n int, t text", list)
end

-- Those since the last call, by their kind: lists, heads, gets.
local function requests()
  local seen = { list = 0, head = 0, get = 0 }
  for _, line in ipairs(relay:requests()) do
    local kind = line:find "^HEAD" and "head" or line:find "list%-type" and "list" or line:find "^GET" and "get"
    if kind then seen[kind] = seen[kind] + 1 end
  end
  return seen
end

local function at_most(count)
  local seen = requests().get
  lu.assertTrue(seen <= count, seen .. " requests, at most " .. count)
end

local function put_small(dir, count)
  for i = 1, count do f.objects:put(("%s%04d.csv"):format(dir, i), i .. ",x\n") end
end

local big -- "big/", of one object of some 24 MB, each row on a line of its own
local function put_big()
  if not big then
    local rows = {}
    for i = 1, 1 << 19 do rows[i] = ("%d,%s\n"):format(i, ("x"):rep(38)) end
    f.objects:put("big/a.csv", table.concat(rows))
    big = #table.concat(rows)
  end
end

local function within(seconds, run, ...)
  local started = fdw.now()
  local result = run(...)
  fdw.soon(started, seconds)
  return result
end

local function pid() return f.conn:one("SELECT pg_backend_pid() AS pid").pid end

-- Threads end soon after the statement, not within it.
local function no_threads()
  fdw.eventually(5, function() return fdw.status(pid(), "Threads") == 1 end, "all threads end")
end

TestRead = {}
function TestRead.setUp()
  f.conn:exec "ROLLBACK; RESET ALL"
  relay:tell "pass"
  relay:tell "delay 0"
  requests()
end

function TestRead.test_a_statement_lists_once_and_asks_for_no_head()
  put_small("once/", 3)
  local t = table_on("adbpg", { dir = "once/" })
  f.conn:exec "SET enable_nestloop = off"
  local n = f.conn:one(("SELECT count(*) AS n FROM %s a JOIN %s b USING (n)"):format(t, t)).n
  lu.assertEquals(n, 3)
  lu.assertEquals(requests(), { list = 1, head = 0, get = 6 })
  f.conn:query("EXPLAIN SELECT * FROM " .. t)
  lu.assertEquals(requests(), { list = 1, head = 0, get = 0 })
end

function TestRead.test_a_filepath_is_looked_for_up_to_the_first_gap()
  f.objects:put("path/f", "1,a\n")
  f.objects:put("path/f.1", "2,a\n")
  f.objects:put("path/f.3", "3,a\n")
  local t = table_on("rds", { filepath = "path/f" })
  lu.assertEquals(f.conn:one("SELECT sum(n) AS n FROM " .. t).n, 3)
  lu.assertEquals(requests(), { list = 0, head = 3, get = 2 })
end

function TestRead.test_many_small_objects_are_on_their_way_together()
  put_small("small/", 96)
  local t = table_on("adbpg", { dir = "small/" })
  relay:tell "delay 300"
  -- One after the other they would take 96 * 300 ms, longer than `within` allows.
  within(3, function() lu.assertEquals(f.conn:one("SELECT sum(n) AS n FROM " .. t).n, 96 * 97 // 2) end)
  lu.assertEquals(requests().get, 96)
end

function TestRead.test_a_limit_leaves_the_rest_in_the_store()
  put_small("small/", 96)
  local t = table_on("adbpg", { dir = "small/" })
  lu.assertEquals(f.conn:one(("SELECT n FROM %s LIMIT 1"):format(t)).n, 1)
  at_most(8)
  no_threads()
  put_big()
  fdw.eventually(5, function()
    fdw.sleep(0.05)
    return requests().get == 0
  end, "no request comes late")
  t = table_on("adbpg", { dir = "big/" })
  f.conn:exec "SET oss_fdw.prefetch = '8MB'"
  lu.assertEquals(f.conn:one(("SELECT n FROM %s LIMIT 1"):format(t)).n, 1)
  at_most(7) -- of a megabyte each, 24 in all
  no_threads()
end

function TestRead.test_memory_does_not_depend_on_the_size_of_an_object()
  local member = zip.compress(("7,%s\n"):format(("x"):rep(100)):rep(160000), "gzip")
  f.objects:put("zipped/a.csv.gz", member:rep(8)) -- 130 MB of rows
  put_big()
  local gz = table_on("rds", { dir = "zipped/", compressiontype = "gzip" })
  local plain = table_on("rds", { dir = "big/" })
  f:connect()
  f.conn:query "SELECT 1"
  local before = fdw.status(pid(), "VmHWM")
  lu.assertEquals(f.conn:one("SELECT count(*) AS n FROM " .. gz).n, 8 * 160000)
  lu.assertEquals(f.conn:one("SELECT count(*) AS n FROM " .. plain).n, 1 << 19)
  if fdw.SLOW == 1 then lu.assertTrue(fdw.status(pid(), "VmHWM") - before < 48 * 1024) end
  no_threads()
end

function TestRead.test_a_cursor_may_rest_for_longer_than_the_slowest_rate_allows()
  put_big()
  local t = table_on("adbpg", { dir = "big/" }, { speed_limit = "1000", speed_time = "1" })
  f.conn:exec("BEGIN; DECLARE c CURSOR FOR SELECT n FROM " .. t)
  lu.assertEquals(f.conn:one("FETCH 1 FROM c").n, 1)
  fdw.sleep(2.5)
  lu.assertEquals(#f.conn:query "FETCH 100000 FROM c", 100000)
  f.conn:exec "ROLLBACK"
  no_threads()
end

-- Waiting for the store, in a listing or in a body, ends at once when it is to.
local function stalled(prepare, sql)
  for _, how in ipairs { "timeout", "cancel", "terminate" } do
    relay:tell "pass"
    local setting = how == "timeout" and "SET statement_timeout = 300" or "SET statement_timeout = 0"
    prepare()
    local s <close> = f:session { setting, sql }
    s:runs(2, f.conn)
    fdw.sleep(0.2)
    if how ~= "timeout" then f.conn:one(("SELECT pg_%s_backend($1) AS ok"):format(how), s.pid) end
    local r = within(2, function() return s:result(20) end)
    lu.assertFalse(r.ok)
    lu.assertEquals(r.code, how == "terminate" and "57P01" or "57014")
    relay:tell "pass"
  end
end

function TestRead.test_a_stalled_listing_can_be_cancelled()
  put_small("once/", 3)
  local t = table_on("adbpg", { dir = "once/" })
  stalled(function() relay:tell "stall" end, ("SELECT pg_sleep(0.1), count(*) FROM %s"):format(t))
end

function TestRead.test_a_stalled_body_can_be_cancelled()
  put_big()
  local t = table_on("adbpg", { dir = "big/" })
  stalled(function() relay:tell "down 3000000 stall" end, ("SELECT pg_sleep(0.1), count(*) FROM %s"):format(t))
end

function TestRead.test_a_failed_scan_lets_go_of_everything_and_the_session_goes_on()
  put_big()
  f.objects:put("bad/a.csv", "1,one\n" .. ("2,two\n"):rep(20000) .. "three,3\n")
  local good, bad = table_on("adbpg", { dir = "big/" }), table_on("adbpg", { dir = "bad/" })
  f.conn:one("SELECT count(*) AS n FROM " .. good)
  local fds = fdw.entries(pid(), "fd")
  for _ = 1, 10 do
    local err = f:fails("22P02", ("SELECT count(b.n) FROM (SELECT n FROM %s LIMIT 9) a, %s b"):format(good, bad))
    lu.assertStrContains(err.detail .. tostring(err.context), "bad/a.csv")
  end
  no_threads()
  lu.assertTrue(fdw.entries(pid(), "fd") <= fds + 4, "descriptors leak")
  lu.assertEquals(f.conn:one("SELECT count(*) AS n FROM " .. good).n, 1 << 19)
end

function TestRead.test_an_unreachable_store_is_told_when_executed_not_when_explained()
  local t = table_on("rds", { dir = "once/" }, { host = "http://127.0.0.1:1" })
  f:quiet()
  f.conn:query("EXPLAIN SELECT * FROM " .. t)
  lu.assertNotNil(f:noticed "cannot be listed")
  local err = f:fails("HV00N", "SELECT * FROM " .. t)
  lu.assertStrContains(err.message, "oss://")
end

local code = lu.LuaUnit.run()
relay:close()
f:close()
o:close()
os.exit(code)
