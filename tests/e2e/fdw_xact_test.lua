-- takes: 30
--- The moments of a commit at which a transaction can end otherwise, each held still by the store
--- (`--fault stall`, `late`): nothing of it is seen, and nothing of it stays once somebody writes.

local fdw = require "tests.support.fdw"
local lu = require "luaunit"

local server = fdw.server("fdw-xact", "--set", "wal_writer_delay=10s", "--set", "synchronous_commit=on")
local o = fdw.ossd { name = "xact" }
local f = fdw.open("xact", { store = o, uri = server.uri })

-- Four objects; what is less than a part, such as the last one, waits for the commit in memory.
local OBJECTS, UPLOADS, NONE = 4, 3, "0 0"
f.conn:exec "CREATE TABLE src AS SELECT n AS a, repeat(md5(n::text), 4) AS b FROM generate_series(1, 24000) n"
local WANT = f:hash "src"
f.conn:exec "CREATE TABLE one AS SELECT 1 AS a, 'small'::text AS b"
local ONE = f:hash "one"

local function uploads_in(dir)
  return f:foreign("adbpg", "a int, b text",
    { dir = dir, format = "text", fragment_size = "1", oss_flush_block_size = "1" })
end
local function small_in(dir) return f:foreign("rds", "a int, b text", { dir = dir, format = "csv" }) end

-- A session that has written and is in its commit, the store doing as `fault` says.
local function committing(fault, t, from)
  f:connect()
  f.conn:query "SELECT pg_advisory_lock(1)"
  local s = f:session { "BEGIN", ("INSERT INTO %s SELECT * FROM %s"):format(t, from or "src"),
    "SELECT pg_advisory_xact_lock(1)", "COMMIT" }
  s:reach(3)
  o:restart { fault }
  f.conn:query "SELECT pg_advisory_unlock(1)"
  s:runs(4, f.conn)
  return s
end

local function objects(dir, count)
  fdw.eventually(20, function() return #f:keys(dir) == count end, count .. " objects in " .. dir)
end

-- Once the store does what it should, in a new session: nothing is seen; the next writer removes all.
local function is_clean_after_the_next_write(t, dir)
  o:restart {}
  f:connect()
  lu.assertEquals(f:hash(t), NONE)
  lu.assertEquals(f.conn:value(("SELECT count(*) FROM oss_fdw_list_file('%s')"):format(t)), 0)
  f.conn:exec(("INSERT INTO %s SELECT * FROM one"):format(t))
  lu.assertEquals(f:hash(t), ONE)
  lu.assertEquals(#f:keys(dir), 1)
  lu.assertEquals(f:uploads(dir), {})
end

-- What the name of the first upload or object says of its transaction.
local function xid_in(dir)
  local upload = f:uploads(dir)[1]
  local key = upload and upload.key or f:keys(dir)[1]
  return math.tointeger(key:match "_%d%d%d%d%d%d%d%d%d%d%d%d%d%d%d%d%d%d(%d+)_seg")
end

TestKill = {}

function TestKill.test_before_the_first_object_is_complete()
  local t = uploads_in "k0/"
  local s <close> = committing("stall=1", t)
  fdw.sleep(0.5)
  lu.assertEquals({ #f:keys "k0/", #f:uploads "k0/" }, { 0, UPLOADS })
  local xid = xid_in "k0/"
  server:crash(s.pid)
  f:connect()
  -- An id that stands in a name is never another transaction's, though nothing else was written.
  lu.assertTrue(f.conn:value "SELECT pg_current_xact_id()::text::bigint" > xid)
  lu.assertEquals(f.conn:value("SELECT pg_xact_status(($1::text)::xid8)", tostring(xid)), "aborted")
  is_clean_after_the_next_write(t, "k0/")
end

function TestKill.test_between_two_objects()
  local t = uploads_in "k1/"
  local s <close> = committing("stall=2", t)
  objects("k1/", OBJECTS // 2)
  server:crash(s.pid)
  is_clean_after_the_next_write(t, "k1/")
end

function TestKill.test_when_all_are_complete_but_the_commit_is_not_recorded()
  local t = uploads_in "k2/"
  local s <close> = committing("late=1", t)
  objects("k2/", OBJECTS)
  lu.assertEquals(f:hash(t), NONE) -- under way, so not seen
  server:crash(s.pid)
  is_clean_after_the_next_write(t, "k2/")
end

function TestKill.test_a_small_object_that_waited_in_memory()
  local t = small_in "k3/"
  local s <close> = committing("late=1", t, "one")
  objects("k3/", 1)
  server:crash(s.pid)
  is_clean_after_the_next_write(t, "k3/")
end

-- ---- an end that can still clean up ----

TestEnd = {}

local function ends(signal, code, fault, count, t, dir)
  local s <close> = committing(fault, t)
  objects(dir, count)
  fdw.sleep(0.3)
  local before = fdw.now()
  fdw.kill(s.pid, signal)
  local result = s:result(30)
  lu.assertFalse(result.ok)
  lu.assertEquals(result.code or result.kind, code)
  fdw.soon(before, 10)
  fdw.eventually(10, function() return #f:keys(dir) == 0 and #f:uploads(dir) == 0 end, "all is removed")
  lu.assertEquals(f:hash(t), NONE)
end

function TestEnd.test_a_backend_terminated_between_two_objects_removes_them()
  ends("TERM", "in_doubt", "stall=2", OBJECTS // 2, uploads_in "e0/", "e0/")
end

function TestEnd.test_a_backend_terminated_when_all_are_complete_removes_them()
  ends("TERM", "in_doubt", "late=1", OBJECTS, uploads_in "e1/", "e1/")
end

function TestEnd.test_a_cancel_between_two_objects_removes_them()
  ends("INT", "57014", "stall=2", OBJECTS // 2, uploads_in "e2/", "e2/")
end

function TestEnd.test_a_cancel_before_the_first_object_removes_the_uploads()
  ends("INT", "57014", "stall=1", 0, uploads_in "e3/", "e3/")
end

-- What was on its way when it was given up may come to be after the clean-up: a ghost, not seen.
function TestEnd.test_an_object_that_comes_to_be_after_the_abort_is_a_ghost()
  local t = small_in "e4/"
  local s <close> = committing("stall=1", t, "one")
  fdw.sleep(1) -- of 3: it has sent the object
  fdw.kill(s.pid, "TERM")
  lu.assertEquals(s:result(30).kind, "in_doubt") -- so libpq calls a COMMIT without an answer
  objects("e4/", 1)
  is_clean_after_the_next_write(t, "e4/")
end

-- ---- the store ----

TestStore = {}

function TestStore.test_killed_in_mid_commit_is_an_error_and_a_rollback()
  local t = uploads_in "s0/"
  local s <close> = committing("stall=2", t)
  objects("s0/", OBJECTS // 2)
  local before = fdw.now()
  o:kill()
  local result = s:result(60)
  lu.assertFalse(result.ok)
  lu.assertEquals(result.code, "HV00N")
  lu.assertStrContains(result.message, "s0/ft_")
  fdw.soon(before, 45)
  o:start {}
  is_clean_after_the_next_write(t, "s0/")
end

function TestStore.test_a_rollback_without_a_store_warns_and_the_same_session_sweeps_later()
  local t = uploads_in "s1/"
  f:connect()
  f.conn:exec(("BEGIN; INSERT INTO %s SELECT * FROM src"):format(t))
  lu.assertEquals(#f:uploads "s1/", UPLOADS)
  o:kill()
  f:quiet()
  local before = fdw.now()
  f.conn:exec "ROLLBACK"
  fdw.soon(before, 15)
  local notice = f:noticed "3 uploads of oss_fdw left behind"
  lu.assertEquals(notice and notice.severity, "WARNING")
  o:start {}
  lu.assertEquals(#f:uploads "s1/", UPLOADS)
  f.conn:exec(("INSERT INTO %s SELECT * FROM one"):format(t)) -- within the minute
  lu.assertEquals(f:uploads "s1/", {})
  lu.assertEquals(f:hash(t), ONE)
end

function TestStore.test_a_completion_without_an_answer_is_found_to_have_happened()
  local t = uploads_in "s2/"
  o:restart { "complete-drop=2" }
  f:connect()
  f.conn:exec(("INSERT INTO %s SELECT * FROM src"):format(t))
  o:restart {}
  lu.assertEquals(f:hash(t), WANT)
  lu.assertEquals({ #f:keys "s2/", #f:uploads "s2/" }, { OBJECTS, 0 })
end

-- ---- PostgreSQL's own ends ----

TestCommit = {}

-- Core checks for write skew after the objects are complete.
function TestCommit.test_a_serialization_failure_after_the_objects_deletes_them()
  local t = uploads_in "c0/"
  f:connect()
  f.conn:exec "CREATE TABLE skew (class int, value int); INSERT INTO skew VALUES (1, 10), (2, 20)"
  f.conn:query "SELECT pg_advisory_lock(1)"
  f.conn:exec "BEGIN ISOLATION LEVEL SERIALIZABLE"
  f.conn:query "SELECT sum(value) FROM skew WHERE class = 1"
  local s <close> = f:session { "BEGIN ISOLATION LEVEL SERIALIZABLE", "SELECT sum(value) FROM skew WHERE class = 2",
    "INSERT INTO skew VALUES (1, 1)", ("INSERT INTO %s SELECT * FROM src"):format(t), "SELECT pg_advisory_xact_lock(1)", "COMMIT" }
  s:reach(5)
  f.conn:exec "INSERT INTO skew VALUES (2, 1)"
  o:restart { "late=1" }
  f.conn:exec "COMMIT"
  f.conn:query "SELECT pg_advisory_unlock(1)"
  objects("c0/", OBJECTS)
  lu.assertEquals(s:result(30).code, "40001")
  lu.assertEquals({ f:keys "c0/", f:uploads "c0/" }, { {}, {} })
  o:restart {}
end

-- The commit record is on disk even where the session would not wait for it.
function TestCommit.test_a_commit_that_was_told_survives_a_crash_with_synchronous_commit_off()
  local t = small_in "c1/"
  f:connect()
  f.conn:exec "SET synchronous_commit = off"
  f.conn:exec(("INSERT INTO %s SELECT * FROM one"):format(t))
  server:crash(f.conn:pid())
  f:connect()
  lu.assertEquals(f:hash(t), ONE)
  f.conn:exec(("INSERT INTO %s SELECT * FROM one"):format(t))
  lu.assertEquals(#f:keys "c1/", 2)
end

-- ---- what it costs, and how long it may take ----

TestCost = {}

local relay = fdw.relay(o)
local behind = o:behind(relay.url)

local function kinds()
  local seen = {}
  for i, line in ipairs(relay:requests()) do
    seen[i] = line:match "^%u+ " .. (line:match "uploads" or line:match "list%-type" or "")
  end
  table.sort(seen)
  return seen
end

function TestCost.test_a_sweep_is_two_requests_a_minute()
  local t = f:foreign(f:server("adbpg", nil, behind), "a int, b text", { dir = "cost/", format = "csv" })
  f:connect()
  relay:requests()
  f.conn:exec(("INSERT INTO %s SELECT * FROM one"):format(t))
  lu.assertEquals(kinds(), { "GET list-type", "GET uploads", "PUT " })
  f.conn:exec(("INSERT INTO %s SELECT * FROM one"):format(t))
  f.conn:exec(("BEGIN; INSERT INTO %s SELECT * FROM one; INSERT INTO %s SELECT * FROM one; COMMIT"):format(t, t))
  lu.assertEquals(kinds(), { "PUT ", "PUT ", "PUT " })
  f.conn:exec(("INSERT INTO %s SELECT * FROM one WHERE false"):format(t))
  lu.assertEquals(kinds(), {})
end

-- Four pages of objects are listed at a time; the next sweep goes on behind them.
function TestCost.test_a_sweep_of_many_objects_goes_on_where_it_stopped()
  local t = f:foreign("adbpg", "a int, b text", { dir = "many/", format = "csv" }, "many")
  f:connect()
  for _ = 1, 12 do f.conn:exec(("INSERT INTO %s SELECT * FROM one"):format(t)) end
  f.conn:exec "BEGIN"
  local dead = f.conn:value "SELECT pg_current_xact_id()::text"
  f.conn:exec "ROLLBACK"
  local key = f:keys "many/"[12]
  local ghost = key:gsub("_(%d%d%d%d%d%d%d%d%d%d%d%d%d%d%d)%d+_seg", "_%1" .. "999" .. dead .. "_seg")
  f.objects:put(ghost, "1,ghost\n")
  lu.assertEquals(f.conn:value("SELECT count(*) FROM " .. t), 12)
  local function round()
    o:restart { "page=2" }
    f.conn:exec(("INSERT INTO %s SELECT * FROM one"):format(t))
    f.conn:exec(("BEGIN; INSERT INTO %s SELECT * FROM src"):format(uploads_in "elsewhere/"))
    o:kill()
    f.conn:exec "ROLLBACK" -- leaves uploads behind, so the next write sweeps
    o:start {}
    return #f:keys(ghost)
  end
  f:connect()
  lu.assertEquals({ round(), round() }, { 1, 0 })
  lu.assertEquals(#f:keys "many/", 14)
end

function TestCost.test_a_rollback_beside_a_network_that_stalls_ends_soon()
  local t = f:foreign(f:server("adbpg", nil, behind), "a int, b text",
    { dir = "stall/", format = "text", fragment_size = "1", oss_flush_block_size = "1" })
  f:connect()
  f.conn:exec(("BEGIN; INSERT INTO %s SELECT * FROM src; INSERT INTO %s SELECT * FROM src"):format(t, t))
  relay:tell "stall"
  local before = fdw.now()
  f.conn:exec "ROLLBACK"
  fdw.soon(before, 10)
  relay:tell "pass"
  f.conn:exec(("INSERT INTO %s SELECT * FROM one"):format(t))
  lu.assertEquals({ #f:keys "stall/", #f:uploads "stall/" }, { 1, 0 })
end

function TestCost.test_nothing_is_left_in_the_backend()
  local t = uploads_in "left/"
  f:connect()
  local pid = f.conn:pid()
  local function use()
    f.conn:exec(("BEGIN; INSERT INTO %s SELECT * FROM src; SAVEPOINT a; INSERT INTO %s SELECT * FROM src; " ..
      "ROLLBACK TO a; ROLLBACK"):format(t, t))
    f.conn:exec(("INSERT INTO %s SELECT * FROM src"):format(t))
  end
  for _ = 1, 3 do use() end
  local before = fdw.status(pid, "RssAnon")
  fdw.settles(pid, 15, 60, use)
  local more = fdw.status(pid, "RssAnon") - before
  local most = fdw.SLOW > 1 and 512 or 24 -- MB; a sanitizer keeps what is freed
  lu.assertTrue(more < most << 10, ("%d kB more"):format(more))
end

TestZServer = {}

function TestZServer.test_the_server_crashed_only_where_it_was_killed() fdw.sound(server.pid, server.uri) end

local code = lu.LuaUnit.run()
pcall(f.close, f)
server:close()
relay:close()
o:close()
os.exit(code)
