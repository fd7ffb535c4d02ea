-- timeout: 3600
-- takes: 30
--- Whatever is killed, whenever: the backend, the store, the network between them.
---
--- The server, the store and the relay are this test's own. Each moment is drawn from a seed that
--- a failure names. Afterwards: a statement that said it succeeded has its rows, one that failed
--- has none, and the next writer leaves nothing in the store but what is committed.

local fdw = require "tests.support.fdw"
local lu = require "luaunit"

local MOMENTS = tonumber(os.getenv "TM_MOMENTS") or fdw.FULL and 300 or fdw.SLOW > 1 and 10 or 30
local FIRST_SEED = tonumber(os.getenv "TM_SEED") or 1
local ROWS = 100000

local server = fdw.server("fdw-crash", "--set", "synchronous_commit=on") -- or a crash forgets tables just made
local o = fdw.ossd { name = "crash" }
local relay = fdw.relay(o)
local f = fdw.open("crash", { store = o, uri = server.uri })
local behind = o:behind(relay.url)

local OPTIONS = { -- several objects, each of several parts
  rds = { oss_file_max_size = "8", oss_flush_block_size = "1", format = "csv" },
  adbpg = { fragment_size = "2", oss_flush_block_size = "1", format = "text" },
  gzip = { fragment_size = "1", filetype = "gzip", format = "csv", oss_flush_block_size = "1" },
}
local SERVERS = {
  rds = f:server("rds", { oss_speed_time = "2", oss_connect_timeout = "2" }, behind),
  adbpg = f:server("adbpg", { speed_time = "2", connect_timeout = "2" }, behind),
}
SERVERS.gzip = SERVERS.adbpg

f.conn:exec(("CREATE TABLE src AS SELECT i AS a, md5(i::text) || md5((i + 7)::text) AS b FROM generate_series(1, %d) i")
  :format(ROWS))
local WANT = f:hash "src"
local NONE = "0 0"

-- A table over `dir`, named for it, the same in each moment that uses it.
local function foreign(kind, dir)
  local list = { dir = dir }
  for k, v in pairs(OPTIONS[kind]) do list[k] = v end
  return f:foreign(SERVERS[kind], "a int, b text", list)
end

local function pick(list) return list[math.random(#list)] end

-- ---- what happens, and what it takes to make it good ----

local DISASTERS = {
  kill_backend = function(s) server:crash(s.pid) end,
  terminate = function(s) fdw.kill(s.pid, "TERM") end,
  cancel = function(s) fdw.kill(s.pid, "INT") end,
  kill_store = function() o:kill "KILL" return function() o:start() end end,
  stop_store = function() o:kill "TERM" return function() o:start() end end,
  cut = function() relay:tell "cut" return function() relay:tell "pass" end end,
  stall = function() relay:tell "stall" return function() relay:tell "pass" end end,
  cut_up = function() relay:tell("up %d cut", math.random(2000000)) return function() relay:tell "pass" end end,
  cut_down = function() relay:tell("down %d cut", math.random(4000)) return function() relay:tell "pass" end end,
}
-- A SIGKILL makes the whole server recover, which takes a second: not too often.
local OFTEN = { "kill_backend", "kill_backend", "terminate", "terminate", "cancel", "kill_store", "kill_store", "stop_store", "cut",
  "cut", "stall", "cut_up", "cut_up", "cut_down" }

local STEPS = {
  write = function(t) return { ("INSERT INTO %s SELECT * FROM src"):format(t) }, 1 end,
  commit = function(t) return { "BEGIN", ("INSERT INTO %s SELECT * FROM src"):format(t), "COMMIT" }, 3 end,
  savepoint = function(t)
    return { ("BEGIN; INSERT INTO %s SELECT * FROM src WHERE a %% 2 = 0; SAVEPOINT s; INSERT INTO %s SELECT * FROM src; " ..
      "ROLLBACK TO s; INSERT INTO %s SELECT * FROM src WHERE a %% 2 = 1; COMMIT"):format(t, t, t) }, 1
  end,
  read = function(t) return { "CREATE TABLE got AS SELECT * FROM " .. t }, 1 end,
}

-- What this cluster sees in the directory, in a new session.
local function look(t)
  f:connect()
  return f:hash(t)
end

-- How long each phase takes, by a first time without a disaster: milliseconds.
local TAKES = {}

local function time(phase, t)
  local steps, from = STEPS[phase](t)
  local s <close> = f:session(steps)
  s:reach(from)
  local started = fdw.now()
  lu.assertTrue(s:result(120).ok, s.done.message)
  TAKES[phase] = fdw.now() - started
end

-- Runs the steps, lets the disaster happen at a random moment after step `from` was sent.
local function play(phase, t, name, delay)
  local steps, from = STEPS[phase](t)
  table.insert(steps, 1, ("SET statement_timeout = '%ds'"):format(3 * fdw.SLOW))
  local s <close> = f:session(steps)
  s:reach(from + 1)
  fdw.sleep(math.random() * (0.9 * TAKES[phase] + delay * 10) / 1000)
  local undo = DISASTERS[name](s)
  if undo and math.random() < 0.35 then
    fdw.sleep(math.random(0, 300) / 1000)
    undo()
    undo = nil
  end
  local ok, result = pcall(s.result, s, 30)
  if undo then undo() end
  relay:tell "pass"
  return ok and result or { ok = false, message = tostring(result), code = "lost" }
end

local function no_secret(result, say)
  fdw.no_secret(table.concat({ say, result.message or "", result.detail or "", result.hint or "" }, " "), "an error")
end

local function shown_and_stored(t, dir)
  local shown = {}
  for i, row in ipairs(f.conn:query(("SELECT name FROM oss_fdw_list_file('%s')"):format(t))) do shown[i] = row.name end
  table.sort(shown)
  return shown, f:keys(dir)
end

-- The keys under dir are those that the table shows, and no upload is left. What a request that
-- was cut off does at the store may come after the first sweep, and is for the next.
local function only_committed(t, dir, say)
  local shown, stored = shown_and_stored(t, dir)
  if #shown ~= #stored or #f:uploads(dir) > 0 then
    fdw.sleep(0.5)
    f:connect()
    f.conn:exec(("BEGIN; INSERT INTO %s VALUES (0, ''); ROLLBACK"):format(t))
    shown, stored = shown_and_stored(t, dir)
  end
  lu.assertEquals(stored, shown, say)
  lu.assertEquals(f:uploads(dir), {}, say)
end
local function write_moment(seed, phase, name, kind, delay)
  local say = ("seed %d, %s in mid-%s, %s: "):format(seed, name, phase, kind)
  local dir = ("w%d/"):format(seed)
  local t = foreign(kind, dir)
  local result = play(phase, t, name, delay)
  no_secret(result, say)
  say = say .. tostring(result.code) .. " " .. tostring(result.message) .. ": "
  local seen = look(t)
  if result.ok then
    lu.assertEquals(seen, WANT, say)
  elseif result.code ~= "lost" and result.kind ~= "in_doubt" and result.code ~= "57P01" and result.code ~= "57P02"
    and not (name == "kill_backend" and phase ~= "commit") then -- a statement that commits by itself tells of no doubt
    lu.assertEquals(seen, NONE, say)
  else
    lu.assertTrue(seen == NONE or seen == WANT, say .. seen)
  end
  if seen == NONE then
    f.conn:exec(("INSERT INTO %s SELECT * FROM src"):format(t))
  else -- a writer that leaves nothing of its own
    f.conn:exec(("BEGIN; INSERT INTO %s VALUES (0, ''); ROLLBACK"):format(t))
  end
  lu.assertEquals(f:hash(t), WANT, say)
  only_committed(t, dir, say)
  f.conn:exec("DROP FOREIGN TABLE " .. t)
  f.objects:delete_many(f:keys(dir))
  return result
end

local readable = {}

local function read_moment(seed, name, kind, delay)
  local say = ("seed %d, %s in mid-read, %s: "):format(seed, name, kind)
  if not readable[kind] then
    readable[kind] = foreign(kind, "read-" .. kind .. "/")
    f.conn:exec(("INSERT INTO %s SELECT * FROM src"):format(readable[kind]))
  end
  local result = play("read", readable[kind], name, delay)
  no_secret(result, say)
  f:connect()
  local made = f.conn:value "SELECT to_regclass('got') IS NOT NULL"
  if made then lu.assertEquals(f:hash "got", WANT, say) end
  lu.assertFalse(result.ok and not made, say)
  lu.assertEquals(f:hash(readable[kind]), WANT, say)
  f.conn:exec "DROP TABLE IF EXISTS got"
  return result
end

TestCrash = {}

function TestCrash.test_random_moments()
  local went, failed = {}, 0
  local first = foreign("adbpg", "first/")
  for _, phase in ipairs { "write", "commit", "savepoint", "read" } do time(phase, first) end
  f.conn:exec "DROP TABLE got"
  for seed = FIRST_SEED, FIRST_SEED + MOMENTS - 1 do
    math.randomseed(seed)
    local name, phase, kind = pick(OFTEN), pick { "write", "write", "commit", "commit", "savepoint", "read", "read" },
      pick { "rds", "adbpg", "gzip" }
    local delay = pick { 0, 0, 3, 10 }
    relay:tell("delay %d", delay)
    local started = fdw.now()
    local result = phase == "read" and read_moment(seed, name, kind, delay)
      or write_moment(seed, phase, name, kind, delay)
    failed = failed + (result.ok and 0 or 1)
    went[#went + 1] = ("%d %s %s %s: %s, %d ms"):format(seed, name, phase, kind, result.ok and "ok" or result.code,
      fdw.now() - started)
    if os.getenv "TM_VERBOSE" then print(went[#went], result.message) end
  end
  relay:tell "delay 0"
  lu.assertTrue(failed * 10 >= MOMENTS, "too few disasters struck:\n" .. table.concat(went, "\n"))
end

-- Objects that were completed before the kill, of a transaction that then did not commit.
function TestCrash.test_a_backend_killed_in_mid_commit_shows_nothing_and_is_swept()
  local t = foreign("adbpg", "mid/")
  relay:tell "hold POST uploadId="
  local s <close> = f:session { "BEGIN", ("INSERT INTO %s SELECT * FROM src"):format(t), "COMMIT" }
  relay:held(60)
  fdw.eventually(10, function() return #f:keys "mid/" > 0 end, "an object is complete")
  server:crash(s.pid)
  relay:tell "release"
  pcall(s.result, s, 10)
  lu.assertEquals(look(t), NONE)
  lu.assertTrue(#f:keys "mid/" > 0) -- so the test means something
  lu.assertEquals(f.conn:value(("SELECT count(*) FROM oss_fdw_list_file('%s')"):format(t)), 0)
  f.conn:exec(("INSERT INTO %s SELECT * FROM src"):format(t))
  lu.assertEquals(f:hash(t), WANT)
  only_committed(t, "mid/", "after the sweep")
end

-- Rows of a transaction still under way are nobody's, and a sweep beside it does not touch them.
function TestCrash.test_a_writer_beside_a_commit_under_way_leaves_it_alone()
  local t = foreign("adbpg", "beside/")
  relay:tell "hold POST uploadId="
  local s <close> = f:session { ("INSERT INTO %s SELECT * FROM src"):format(t) }
  relay:held(60)
  f:connect()
  f.conn:exec(("INSERT INTO %s VALUES (0, 'beside')"):format(t))
  lu.assertEquals(f:hash(t), f:hash "(SELECT 0 AS a, 'beside' AS b)")
  relay:tell "release"
  lu.assertTrue(s:result(30).ok)
  lu.assertEquals(f:hash(t), f:hash "(SELECT * FROM src UNION ALL SELECT 0, 'beside')")
  only_committed(t, "beside/", "in the end")
end

-- ---- one backend that meets two hundred failures ----

TestLeak = {}

local function failing_statements()
  local good = foreign("adbpg", "leak/")
  local bad = f:foreign(SERVERS.rds, "a int, b text", { dir = "leak-bad/", format = "csv", compressiontype = "gzip" })
  f.objects:put("leak-bad/a.gz", require "zip".compress(("1,one\n"):rep(50000)) .. "rubbish")
  local rows = f:foreign(SERVERS.rds, "a int, b text", { dir = "leak-rows/", format = "csv" })
  f.objects:put("leak-rows/a", ("1,one\n"):rep(100000) .. "x,y\n" .. ("1,one\n"):rep(100000))
  f.objects:put("leak-rows/b", ("1,one\n"):rep(100000))
  local wrong = f:foreign(f:server("adbpg", { key = fdw.secret() }), "a int, b text", { dir = "leak/", format = "csv" })
  local missing = f:foreign(f:server("rds", { bucket = "no-such-bucket" }), "a int, b text", { dir = "d/", format = "csv" })
  return {
    "SELECT count(*) FROM " .. bad, "SELECT sum(a) FROM " .. rows, "SELECT * FROM " .. wrong,
    "SELECT * FROM " .. missing, "INSERT INTO " .. wrong .. " VALUES (1, 'x')", "INSERT INTO " .. missing .. " VALUES (1, 'x')",
    ("INSERT INTO %s SELECT 1 / (a - 50000), b FROM src"):format(good),
    ("INSERT INTO %s SELECT r.a, r.b FROM src s JOIN %s r ON true"):format(good, rows),
    ("BEGIN; INSERT INTO %s SELECT * FROM src; SAVEPOINT a; INSERT INTO %s SELECT * FROM src LIMIT 1000; " ..
      "ROLLBACK TO a; SELECT 1 / 0"):format(good, good),
    ("SELECT * FROM (SELECT * FROM %s LIMIT 10) x, (SELECT 1 / 0) y"):format(rows),
  }, good
end

function TestLeak.test_two_hundred_failures_leave_no_descriptor_and_no_thread()
  f:connect()
  local statements, good = failing_statements()
  local conn, pid = f.conn, f.conn:pid()
  local function fail(i)
    local sql = statements[i % #statements + 1]
    conn:exec("SET statement_timeout = " .. (i % 7 == 6 and 15 or 0))
    local ok = pcall(conn.exec, conn, sql)
    repeat until pcall(conn.exec, conn, "ROLLBACK; SET statement_timeout = 0") -- which 15 ms may end too
    lu.assertFalse(ok, sql)
  end
  for i = 1, 20 do fail(i) end
  local before = fdw.status(pid, "RssAnon")
  fdw.settles(pid, 150, 600, fail)
  local more = fdw.status(pid, "RssAnon") - before
  lu.assertEquals(conn:pid(), pid)
  lu.assertTrue(fdw.SLOW > 1 or more < 24 << 10, ("%d kB more"):format(more))
  f:connect() -- a session sweeps at its first write: what was cancelled while it was sent may have come later
  f.conn:exec(("BEGIN; INSERT INTO %s VALUES (0, ''); ROLLBACK"):format(good))
  lu.assertEquals(f:keys "leak/", {})
  lu.assertEquals(f:uploads "leak/", {})
end

TestZServer = {}

function TestZServer.test_the_server_never_crashed_by_itself()
  lu.assertStrContains(fdw.sound(server.pid, server.uri), "was terminated by signal 9") -- so it is the right log
end

local code = lu.LuaUnit.run()
pcall(f.close, f)
server:close()
relay:close()
o:close()
os.exit(code)
