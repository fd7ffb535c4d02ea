-- needs: pg ossd
-- timeout: 1500
-- takes: 80
--- kill -9, and SIGSTOP past the lease, of serve and of node processes, at any moment: every run ends,
--- nothing is done twice.
---
--- A flow of five nodes fires every second: SQL that is exactly_once, an extract, a load, more
--- SQL. Its runners and their node processes are killed 15 times on each store, 100 times with
--- TM_SCALE=full (200 in all), 6 times under a sanitizer; where two runners share a store, some are
--- stopped instead, with their nodes or without, until the other has taken over, and then go on. After
--- that the ledger of firing times must have no hole, every run must end, and the tables must hold the
--- work of each run once.

local lab = require "tests.support.lab"
local lu = require "luaunit"
local patience = require "tests.support.patience"
local pgtest = require "tests.support.pgtest"
local proc = require "proc"
local signal = require "tidemill.signal"
local state = require "tidemill.state"

local BIN = assert(os.getenv "TM_BIN")
local SLOW = (os.getenv "TM_SANITIZER" or "") ~= "" and 4 or 1
local KILLS = os.getenv "TM_SCALE" == "full" and 100 or SLOW > 1 and 6 or 15
local ROWS = 2000
local LEASE_MS = SLOW > 1 and 4000 or 3000

local FLOW = [[
local flow = require "flow"
local tries = { retries = 50, retry_delay = 0.2, backoff = 1 }
local function node(fields)
  for key, value in pairs(tries) do fields[key] = value end
  return fields
end
return flow "kill" {
  schedule = { every = "1s" }, concurrency = "parallel", missed = { "all", window = "10d" },
  flow.sql "first" (node { on = "db", exactly_once = true, sql = "INSERT INTO work VALUES ('${run_id}', 'first'); " ..
    "SELECT pg_sleep(0.3); UPDATE sums SET n = n + 1 WHERE what = 'first'" }),
  flow.extract "out" (node { after = "first", from = "db", to = "lake:kill/${run_id}/", object_size = "64KiB",
    query = "SELECT '${run_id}' AS run, g AS id, repeat('x', 100) AS v FROM generate_series(1, %d) g, " ..
      "(SELECT pg_sleep(0.3)) AS slow" }),
  flow.load "in" (node { after = "out", from = "lake:kill/${run_id}/", on = "db", into = "loaded" }),
  flow.sql "last" (node { after = "in", on = "db", exactly_once = true,
    sql = "INSERT INTO work VALUES ('${run_id}', 'last'); UPDATE sums SET n = n + 1 WHERE what = 'last'; " ..
      "SELECT pg_sleep(0.2)" }),
  flow.shell "beside" (node { after = "first", command = "sleep 0.5" }),
}
]]

TestKill = {}
local T = TestKill

function T:setUp()
  self.lab = lab.new "kill"
  self.db = self.lab:database("db", os.getenv "TM_PG")
  self.db:exec [[CREATE TABLE work (run text, what text);
    CREATE TABLE sums (what text PRIMARY KEY, n bigint NOT NULL); INSERT INTO sums VALUES ('first', 0), ('last', 0);
    CREATE TABLE loaded (run text, id int, v text);
    CREATE FUNCTION slow() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN PERFORM pg_sleep(0.1); RETURN NEW; END';
    CREATE TRIGGER slow BEFORE INSERT ON loaded FOR EACH ROW WHEN (NEW.id % 500 = 0) EXECUTE FUNCTION slow()]]
  self.bucket = self.lab:lake("lake", "kill-test")
  self.lab:write("f.lua", FLOW:format(ROWS))
  self.serves, self.kills, self.frozen = {}, {}, 0
end

function T:tearDown()
  for _, serve in ipairs(self.serves) do serve:close() end
  if self.state_url and self.state_url:find "^postgres" then
    pcall(pgtest.drop, "kill_test_state")
  end
  for object in self.bucket:list "" do self.bucket:delete(object.key) end
  pcall(self.bucket.delete_bucket, self.bucket)
  self.lab:close()
end

function T:store() return state.open(self.state_url, { directory = self.lab.dir }) end

function T:query(sql, ...)
  local store <close> = self:store()
  return store.db:query(sql, ...)
end

function T:serve()
  local serve = proc.spawn { cmd = { "sh", "-c", 'exec "$@" 2>>serve.log', "sh", BIN, "serve", "--listen", "none",
    "--jobs", "6", "--lease", LEASE_MS // 1000 .. "s" }, cwd = self.lab.dir, env = self.lab.env, stdout = "null",
    group = false }
  self.serves[#self.serves + 1] = serve
  return serve
end

local function children(pid)
  local f <close> = io.open(("/proc/%d/task/%d/children"):format(pid, pid))
  local found = {}
  for child in (f and f:read "a" or ""):gmatch "%d+" do found[#found + 1] = child end
  return found
end

-- Stops a runner, and perhaps its nodes, for longer than its lease; then all go on.
local function freeze(serve)
  local pids = { tostring(serve:pid()) }
  if math.random() < 0.5 then table.move(children(serve:pid()), 1, 99, 2, pids) end
  local list = table.concat(pids, " ")
  os.execute(("kill -STOP %s 2>/dev/null"):format(list))
  proc.poll({}, LEASE_MS / 1000 * (1.2 + 0.5 * math.random()))
  os.execute(("kill -CONT %s 2>/dev/null"):format(list))
end

-- Kills a runner, which is started again at once, or one of its node processes.
function T:kill_something()
  local i = math.random(#self.serves)
  local serve = self.serves[i]
  local nodes = children(serve:pid())
  if #self.serves > 1 and math.random() < 0.2 then
    self.frozen = self.frozen + 1
    return freeze(serve)
  end
  if #nodes > 0 and math.random() < 0.4 then
    os.execute(("kill -KILL %s 2>/dev/null"):format(nodes[math.random(#nodes)]))
    return
  end
  local pid = serve:pid()
  serve:kill "KILL"
  serve:wait(60)
  self.kills[tostring(pid)] = signal.wall()
  serve:close()
  table.remove(self.serves, i)
  if math.random() < 0.3 then proc.poll({}, math.random() * 1.5) end -- nobody is there for a while
  self:serve()
end

-- How long each takeover came after the kill that made it needed, in ms.
function T:takeovers()
  local delays = {}
  for _, row in ipairs(self:query "SELECT at, reason FROM decisions WHERE what = 'takeover'") do
    local killed = self.kills[row.reason:match "%-(%d+)%-%x+ " or ""]
    if killed then delays[#delays + 1] = row.at - killed end
  end
  table.sort(delays)
  return delays
end

function T:wait_for_all()
  local deadline = signal.mono() + (60 + 2 * KILLS) * 1000 * patience
  while self:query("SELECT count(*) AS n FROM runs WHERE state IN ('queued', 'running', 'paused')")[1].n > 0 do
    if signal.mono() > deadline then return end
    proc.poll({}, 0.5)
  end
end

function T:run_kills(runners)
  self.lab:project(("state = %q, "):format(self.state_url))
  local r = self.lab:run("publish", "f.lua")
  lu.assertEquals(r.code, 0, r.all)
  for _ = 1, runners do self:serve() end
  proc.poll({}, SLOW)
  for _ = 1, KILLS do
    proc.poll({}, (0.1 + (SLOW > 1 and 1.4 or 0.9) * math.random()) * SLOW)
    self:kill_something()
  end
  lu.assertEquals(self.lab:run("unpublish", "kill").code, 0)
  self:wait_for_all()
  -- Five runners killed under one node after the other: it is given up until a person restores it.
  for _, run in ipairs(self:query "SELECT id FROM runs WHERE state = 'failed'") do
    local restored = self.lab:run("restore", run.id)
    lu.assertStrContains(self.lab:run("show", run.id).out, "in a row were lost with their runners")
    lu.assertEquals(restored.code, 0, restored.all)
  end
  self:wait_for_all()
  for _, serve in ipairs(self.serves) do
    serve:kill "TERM"
    lu.assertEquals((serve:wait(60 * patience) or {}).code, 0)
  end
end

function T:look()
  local open = self:query [[SELECT id, state, message FROM runs WHERE state NOT IN ('success') ORDER BY id]]
  for _, run in ipairs(open) do print(self.lab:run("show", run.id).all) end -- for whoever has to find out why
  lu.assertEquals(open, {})
  for _, sql in ipairs {
    "SELECT run_id, node, state FROM nodes WHERE state IN ('waiting', 'running', 'retrying', 'polling')",
    "SELECT run_id, node, attempt, state FROM attempts WHERE state IN ('running', 'polling')",
    "SELECT id FROM runners WHERE state = 'alive'",
    "SELECT run_id FROM slots WHERE run_id IS NOT NULL GROUP BY run_id HAVING count(*) > 1",
    [[SELECT slot_at, state FROM slots WHERE state <> 'run' AND (state <> 'superseded' -- by unpublish, at the end
      OR slot_at < (SELECT max(slot_at) FROM slots WHERE state = 'run'))]] } do
    lu.assertEquals(self:query(sql), {}, sql)
  end
  local slots = self:query "SELECT slot_at FROM slots ORDER BY slot_at"
  for i = 2, #slots do lu.assertEquals(slots[i].slot_at - slots[i - 1].slot_at, 1000) end
  local runs = self:query "SELECT count(*) AS n FROM runs"[1].n
  lu.assertEquals(self:query("SELECT count(*) AS n FROM slots WHERE state = 'run'")[1].n, runs)
  lu.assertTrue(runs >= KILLS / 4, runs .. " runs")
  -- what the runs did, each once
  local db = self.db
  local function none(sql) lu.assertEquals(db:value("SELECT count(*) FROM (" .. sql .. ") AS wrong"), 0, sql) end
  none "SELECT run, what FROM work GROUP BY run, what HAVING count(*) <> 1"
  none(("SELECT run FROM loaded GROUP BY run HAVING count(*) <> %d OR count(DISTINCT id) <> %d"):format(ROWS, ROWS))
  lu.assertEquals(db:value "SELECT count(*) FROM work", 2 * runs)
  lu.assertEquals(db:value "SELECT count(DISTINCT run) FROM loaded", runs)
  lu.assertEquals(db:value "SELECT string_agg(what || ' ' || n, ',' ORDER BY what) FROM sums",
    ("first %d,last %d"):format(runs, runs))
  lu.assertTrue(pgtest.eventually(20, function()
    return db:value [[SELECT count(*) FROM pg_stat_activity WHERE datname = current_database()
      AND application_name LIKE 'tidemill %' AND pid <> pg_backend_pid()]] == 0
  end), "sessions are left at the server")
  local killed, delays = 0, self:takeovers()
  for _ in pairs(self.kills) do killed = killed + 1 end
  local lost = self:query "SELECT count(*) AS n FROM attempts WHERE state IN ('lost', 'failed')"[1].n
  print(("%s: %d blows, %d of them kills of runners, %d stops; %d runs, %d attempts cut short, %d runs taken over, " ..
    "after at most %s ms"):format(self.state_url:match "^%a+", KILLS, killed, self.frozen, runs, lost, #delays,
    delays[#delays] or "-"))
  return delays
end

function T:test_on_sqlite_with_one_runner()
  self.state_url = "sqlite:.tidemill/state.db"
  self:run_kills(1)
  self:look()
end

function T:test_on_postgresql_with_two_runners()
  self.state_url = pgtest.database "kill_test_state"
  self:run_kills(2)
  local delays = self:look()
  -- The other runner is there: it takes over within one lease, or somewhat later when it is held up.
  local half, all = delays[(#delays + 1) // 2] or 0, delays[#delays] or 0
  lu.assertTrue(half <= LEASE_MS * SLOW, ("half of the runs were taken over after %s ms"):format(half))
  lu.assertTrue(all <= LEASE_MS * patience, ("a run was taken over after %s ms"):format(all))
end

math.randomseed(tonumber(os.getenv "TM_SEED") or os.time())
os.exit(lu.LuaUnit.run())
