--- The suite of the state store, the same for each database.
---
---     state_suite.define("TestState", function() return url, options, clean end)
---
--- `open` is called for each test and gives a function that opens the (empty) store, any
--- number of times, and one that removes it.

local errors = require "tidemill.errors"
local lu = require "luaunit"

local suite = {}

local NODES = { { name = "a", kind = "lua", after = {} }, { name = "b", kind = "sql", after = { "a" } } }

function suite.a_run(changes)
  local run = { flow = "f", file = "/f.lua", version = "abc", cause = "manual", scheduled = 1700000000000,
    business = 1699913600000, timezone = "Asia/Shanghai", nodes = NODES }
  for key, value in pairs(changes or {}) do run[key] = value end
  return run
end
local a_run = suite.a_run

--- Runs f, which must raise an error of this kind, and code if given; returns it.
function suite.fails(kind, code, f, ...)
  local ok, err = pcall(f, ...)
  lu.assertFalse(ok, "nothing was raised")
  lu.assertEquals({ type(err) == "table" and err.kind or tostring(err), code and err.code }, { kind, code })
  return err
end
local fails = suite.fails

--- Registers a runner, makes a run and claims it.
local function claimed(store, changes)
  local runner = store:register_runner { kind = "run", lease_ms = 15000 }
  local id = store:create_run(a_run(changes))
  lu.assertEquals(#store:claim_runs { runner = runner, limit = 1, root = id }, 1)
  return id, runner
end

local function ids(list)
  local out = {}
  for i, run in ipairs(list) do out[i] = run.id or run end
  return out
end

--- Defines the global test class `name`.
---@param name string
---@param make fun(): fun(options: table?): table, fun()
function suite.define(name, make)
  local T = {}
  _G[name] = T

  function T:setUp()
    self.open, self.clean = make()
    self.store = self.open()
  end

  function T:tearDown()
    self.store:close()
    self.clean()
  end

  -- ---- runs ----

  function T:test_a_run_starts_queued_with_waiting_nodes()
    local id = self.store:create_run(a_run())
    lu.assertStrMatches(id, "%d%d%d%d%d%d%d%d%-%d%d%d%d%d%d%-%x%x%x%x%x%x")
    local run = self.store:find_run(id)
    lu.assertEquals({ run.flow, run.state, run.scheduled_at, run.business_at, run.timezone, run.version, run.epoch },
      { "f", "queued", 1700000000000, 1699913600000, "Asia/Shanghai", "abc", 0 })
    local nodes = self.store:nodes(id)
    lu.assertEquals({ nodes[1].node, nodes[1].state, nodes[1].upstream }, { "a", "waiting", {} })
    lu.assertEquals({ nodes[2].node, nodes[2].state, nodes[2].upstream }, { "b", "waiting", { "a" } })
  end

  function T:test_an_attempt_keeps_what_it_used_and_gave()
    local id = claimed(self.store)
    lu.assertTrue(self.store:begin_attempt(id, "a", 1))
    self.store:attempt_pid(id, "a", 1, 42)
    lu.assertEquals(self.store:nodes(id)[1].state, "running")
    self.store:end_attempt(id, "a", 1, { state = "failed", node_state = "retrying", code = 1, next_at = 17,
      message = "again in 1 s", error = errors.new("io", "broken", { detail = "d", hint = "h", code = "08006" }),
      decision = { what = "retry", reason = "io: broken" } })
    local node = self.store:nodes(id)[1]
    lu.assertEquals({ node.state, node.next_at, node.ended_at }, { "retrying", 17 })
    self.store:begin_attempt(id, "a", 2)
    self.store:end_attempt(id, "a", 2, { state = "success", node_state = "success", rows = 7, bytes = 70, cpu_ms = 5,
      max_rss_bytes = 1 << 40, code = 0, outputs = { big = math.maxinteger, text = "é", list = { 1, 2 } } })
    local attempts = self.store:attempts(id)
    lu.assertEquals(#attempts, 2)
    lu.assertEquals({ attempts[1].state, attempts[1].pid, attempts[1].error.message, attempts[1].error.hint },
      { "failed", 42, "broken", "h" })
    lu.assertEquals({ attempts[2].state, attempts[2].row_count, attempts[2].cpu_ms, attempts[2].max_rss_bytes },
      { "success", 7, 5, 1 << 40 })
    lu.assertEquals(math.type(attempts[2].max_rss_bytes), "integer")
    lu.assertEquals(self.store:outputs(id), { a = { big = math.maxinteger, text = "é", list = { 1, 2 } } })
    lu.assertEquals(self.store:decisions(id)[1].reason, "io: broken")
    lu.assertEquals(self.store:nodes(id)[1].attempts, 2)
  end

  function T:test_an_attempt_number_is_taken_once()
    local id = claimed(self.store)
    self.store:begin_attempt(id, "a", 1)
    fails("conflict", nil, self.store.begin_attempt, self.store, id, "a", 1)
  end

  function T:test_a_run_ends_once()
    local id = claimed(self.store)
    self.store:end_run(id, { state = "failed", message = "node a failed", error = errors.new("sql", "no") })
    fails("conflict", "LOST", self.store.end_run, self.store, id, { state = "success" })
    local run = self.store:find_run(id)
    lu.assertEquals({ run.state, run.message, run.error.kind }, { "failed", "node a failed", "sql" })
    lu.assertNotNil(run.ended_at)
  end

  function T:test_runs_are_listed_newest_first_and_filtered()
    local now = 1700000000000
    local store <close> = self.open { clock = function()
      now = now + 1
      return now
    end }
    local first = store:create_run(a_run { flow = "x" })
    local second = claimed(store)
    store:end_run(second, { state = "success" })
    lu.assertEquals(ids(store:runs()), { second, first })
    lu.assertEquals(ids(store:runs { flow = "x" }), { first })
    lu.assertEquals(ids(store:runs { state = "success" }), { second })
    lu.assertEquals(ids(store:runs { limit = 1 }), { second })
  end

  function T:test_a_run_is_found_by_prefix_last_six_and_last()
    local id = self.store:create_run(a_run())
    for _, word in ipairs { id, id:sub(1, -2), id:sub(-6), "last" } do
      lu.assertEquals(self.store:find_run(word).id, id)
    end
    fails("not_found", nil, self.store.find_run, self.store, "nothing")
    self.store:create_run(a_run())
    lu.assertStrContains(fails("usage", nil, self.store.find_run, self.store, "2").message, "fits several runs")
  end

  -- ---- logs ----

  function T:test_a_log_keeps_head_and_tail()
    local id = claimed(self.store)
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
    lu.assertEquals({ logs[2000].seq, logs[2001].seq }, { 2000, 8001 })
    local long = ("x"):rep(1 << 20)
    self.store:add_logs(id, "b", 1, { { at = 1, stream = "stderr", level = "info", line = long } })
    lu.assertTrue(#self.store:logs(id, "b")[1].line < 10000)
  end

  function T:test_sessions_are_kept()
    local id = claimed(self.store)
    local session = { connection = "rds", backend_pid = 5, backend_start = "2026-01-01" }
    self.store:add_session(id, "b", 1, session)
    self.store:add_session(id, "b", 1, session)
    lu.assertEquals(#self.store:sessions(id, "b"), 1)
  end
end

return suite
