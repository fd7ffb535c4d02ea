--- state: runs, attempts, logs, recovery.

local errors = require "tidemill.errors"
local lu = require "luaunit"
local proc = require "proc"
local state = require "tidemill.state"

TestState = {}

local function a_run(changes)
  local run = { flow = "f", file = "/f.lua", version = "abc", cause = "manual", scheduled = 1700000000000,
    business = 1699913600000, timezone = "Asia/Shanghai",
    nodes = { { name = "a", kind = "lua", after = {} }, { name = "b", kind = "sql", after = { "a" } } } }
  for key, value in pairs(changes or {}) do run[key] = value end
  return run
end

function TestState:setUp() self.store = state.open "sqlite::memory:" end
function TestState:tearDown() self.store:close() end

function TestState.test_a_folder_that_cannot_be_made_is_named()
  local ok, err = pcall(state.open, "sqlite:/proc/nope/state.db")
  lu.assertFalse(ok)
  lu.assertEquals({ err.kind, err.message },
    { "io", "cannot make the folder '/proc/nope' of the state store: No such file or directory" })
end

function TestState:test_a_run_starts_with_waiting_nodes()
  local id = self.store:begin_run(a_run())
  lu.assertStrMatches(id, "%d%d%d%d%d%d%d%d%-%d%d%d%d%d%d%-%x%x%x%x%x%x")
  local run = self.store:find_run(id)
  lu.assertEquals({ run.flow, run.state, run.scheduled_at, run.business_at, run.timezone, run.version },
    { "f", "running", 1700000000000, 1699913600000, "Asia/Shanghai", "abc" })
  local nodes = self.store:nodes(id)
  lu.assertEquals({ nodes[1].node, nodes[1].state, nodes[1].upstream }, { "a", "waiting", {} })
  lu.assertEquals({ nodes[2].node, nodes[2].state, nodes[2].upstream }, { "b", "waiting", { "a" } })
end

function TestState:test_an_attempt_keeps_what_it_used_and_gave()
  local id = self.store:begin_run(a_run())
  self.store:begin_attempt(id, "a", 1)
  self.store:attempt_pid(id, "a", 1, 42)
  lu.assertEquals(self.store:nodes(id)[1].state, "running")
  self.store:end_attempt(id, "a", 1, { state = "failed", node_state = "retrying", code = 1,
    message = "again in 1 s",
    error = errors.new("io", "broken", { detail = "d", hint = "h", code = "08006" }),
    decision = { what = "retry", reason = "io: broken" } })
  lu.assertEquals(self.store:nodes(id)[1].state, "retrying")
  lu.assertNil(self.store:nodes(id)[1].ended_at)
  self.store:begin_attempt(id, "a", 2)
  self.store:end_attempt(id, "a", 2, { state = "success", node_state = "success", rows = 7, bytes = 70,
    cpu_ms = 5,
    max_rss_bytes = 1 << 20, code = 0, outputs = { big = math.maxinteger, text = "é", list = { 1, 2 } } })
  local attempts = self.store:attempts(id)
  lu.assertEquals(#attempts, 2)
  lu.assertEquals({ attempts[1].state, attempts[1].pid, attempts[1].error.message, attempts[1].error.hint },
    { "failed", 42, "broken", "h" })
  lu.assertEquals({ attempts[2].state, attempts[2].row_count, attempts[2].cpu_ms, attempts[2].max_rss_bytes },
    { "success", 7, 5, 1 << 20 })
  lu.assertEquals(self.store:outputs(id), { a = { big = math.maxinteger, text = "é", list = { 1, 2 } } })
  lu.assertEquals(self.store:decisions(id)[1].reason, "io: broken")
  lu.assertEquals(self.store:nodes(id)[1].attempts, 2)
end

function TestState:test_an_attempt_number_is_taken_once()
  local id = self.store:begin_run(a_run())
  self.store:begin_attempt(id, "a", 1)
  local ok, err = pcall(self.store.begin_attempt, self.store, id, "a", 1)
  lu.assertFalse(ok)
  lu.assertEquals(err.kind, "conflict")
end

function TestState:test_a_run_ends_once()
  local id = self.store:begin_run(a_run())
  self.store:end_run(id, { state = "failed", message = "node a failed", error = errors.new("sql", "no") })
  self.store:end_run(id, { state = "success" })
  local run = self.store:find_run(id)
  lu.assertEquals({ run.state, run.message, run.error.kind }, { "failed", "node a failed", "sql" })
  lu.assertNotNil(run.ended_at)
end

function TestState:test_runs_are_listed_newest_first_and_filtered()
  local first = self.store:begin_run(a_run { flow = "x" })
  proc.poll({}, 0.003)
  local second = self.store:begin_run(a_run())
  self.store:end_run(second, { state = "success" })
  local function ids(filter)
    local list = {}
    for _, run in ipairs(self.store:runs(filter)) do list[#list + 1] = run.id end
    return list
  end
  lu.assertEquals(ids(), { second, first })
  lu.assertEquals(ids { flow = "x" }, { first })
  lu.assertEquals(ids { state = "success" }, { second })
  lu.assertEquals(ids { limit = 1 }, { second })
end

function TestState:test_a_run_is_found_by_prefix_last_six_and_last()
  local id = self.store:begin_run(a_run())
  for _, word in ipairs { id, id:sub(1, -2), id:sub(-6), "last" } do
    lu.assertEquals(self.store:find_run(word).id, id)
  end
  local ok, err = pcall(self.store.find_run, self.store, "nothing")
  lu.assertFalse(ok)
  lu.assertEquals(err.kind, "not_found")
  self.store:begin_run(a_run())
  ok, err = pcall(self.store.find_run, self.store, "2")
  lu.assertFalse(ok)
  lu.assertStrContains(err.message, "fits several runs")
end

function TestState:test_a_log_keeps_head_and_tail()
  local id = self.store:begin_run(a_run())
  for batch = 0, 9 do
    local lines = {}
    for i = 1, 1000 do
      lines[i] = { at = batch, stream = "stdout", level = "info", line = "line " .. batch * 1000 + i }
    end
    self.store:add_logs(id, "a", 1, lines)
  end
  local logs = self.store:logs(id, "a", 1)
  lu.assertEquals(#logs, 4000)
  lu.assertEquals({ logs[1].line, logs[2000].line, logs[2001].line, logs[4000].line },
    { "line 1", "line 2000", "line 8001", "line 10000" })
  local long = ("x"):rep(1 << 20)
  self.store:add_logs(id, "b", 1, { { at = 1, stream = "stderr", level = "info", line = long } })
  lu.assertTrue(#self.store:logs(id, "b")[1].line < 10000)
end

function TestState:test_sessions_are_kept()
  local id = self.store:begin_run(a_run())
  local session = { connection = "rds", backend_pid = 5, backend_start = "2026-01-01" }
  self.store:add_session(id, "b", 1, session)
  self.store:add_session(id, "b", 1, session)
  lu.assertEquals(#self.store:sessions(id, "b"), 1)
end

function TestState:test_a_living_owner_keeps_its_run()
  local id = self.store:begin_run(a_run())
  lu.assertEquals(self.store:recover(), {})
  lu.assertEquals(self.store:find_run(id).state, "running")
end

function TestState:test_a_dead_owner_loses_its_run()
  for _, change in ipairs { "owner_pid = 4194305", "owner_start = '1'", "owner_boot = 'before'" } do
    local id = self.store:begin_run(a_run())
    self.store:begin_attempt(id, "a", 1)
    self.store.db:exec(("UPDATE runs SET %s WHERE id = ?"):format(change), id)
    lu.assertEquals(self.store:recover(), { id })
    local run, nodes = self.store:find_run(id), self.store:nodes(id)
    lu.assertEquals({ run.state, run.message, nodes[1].state, nodes[2].state },
      { "failed", "runner died", "failed", "skipped" })
    lu.assertEquals(self.store:attempts(id)[1].error.message, "runner died")
    lu.assertEquals(self.store:recover(), {})
  end
  local far = self.store:begin_run(a_run())
  self.store.db:exec("UPDATE runs SET owner_host = 'elsewhere', owner_pid = 4194305 WHERE id = ?", far)
  lu.assertEquals(self.store:recover(), {})
end

function TestState.test_a_file_is_made_with_its_directory_and_kept()
  local dir = (os.getenv "TM_TMP" or "/tmp") .. "/state-test"
  os.execute("rm -rf " .. dir)
  local store = state.open("sqlite:deep/state.db", dir)
  local id = store:begin_run(a_run())
  store:close()
  local again <close> = state.open("sqlite:" .. dir .. "/deep/state.db", "/elsewhere")
  lu.assertEquals(again:find_run(id).flow, "f")
  again.db:exec "INSERT INTO schema_version VALUES (99)"
  local ok, err = pcall(state.open, "sqlite:deep/state.db", dir)
  lu.assertFalse(ok)
  lu.assertStrContains(err.message, "schema version 99")
  os.execute("rm -rf " .. dir)
end

function TestState.test_another_kind_of_database_is_refused()
  local ok, err = pcall(state.open, "mysql://user:secret@host/x")
  lu.assertFalse(ok)
  lu.assertNotStrContains(err.message, "secret")
end

os.exit(lu.LuaUnit.run())
