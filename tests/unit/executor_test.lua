--- executor: order, policies, retries, timeouts, requests, under virtual time.

local errors = require "tidemill.errors"
local lu = require "luaunit"
local world = require "tests.support.world"

TestExecutor = {}

--- A world with one run and its runner; see tests/support/world.lua.
local function new_world(nodes, script, options)
  options = options or {}
  local w = world.new()
  w.script = script or {}
  w.run = w:create { nodes = nodes, on_error = options.on_error, deadline = options.deadline }
  w.host = w:runner { root = w.run, kind = "run", jobs = options.jobs, pools = options.pools }
  return w
end

-- Runs to the end, or until `stop` (ms). Returns the result.
local function go(w, stop)
  return w:go(stop) and w.host.runner.result or nil
end

local function fails(kind, message)
  return function() return { error = errors.new(kind or "io", message or "broken") } end
end

function TestExecutor.test_nodes_start_when_their_upstream_has_succeeded()
  local w = new_world { { name = "a" }, { name = "b", after = { "a" } }, { name = "c", after = { "a" } },
    { name = "d", after = { "b", "c" } } }
  lu.assertEquals(go(w).state, "success")
  lu.assertEquals(w.log, { "0 start a", "10 end a", "10 start b", "10 start c", "20 end b", "20 end c",
    "20 start d", "30 end d" })
  lu.assertEquals(w:states(w.run), { a = "success", b = "success", c = "success", d = "success" })
end

function TestExecutor.test_no_more_than_jobs_run_at_once()
  local w = new_world({ { name = "a" }, { name = "b" }, { name = "c" } }, {}, { jobs = 2 })
  go(w)
  lu.assertEquals(w.log, { "0 start a", "0 start b", "10 end a", "10 end b", "10 start c", "20 end c" })
end

function TestExecutor.test_outputs_reach_all_nodes_behind()
  local seen
  local w = new_world({ { name = "a" }, { name = "b", after = { "a" } }, { name = "c", after = { "b" } } }, {
    a = function() return { ok = true, messages = { { t = "output", name = "x", value = "1" } } } end,
    c = function(job)
      seen = job.upstream
      return { ok = true }
    end })
  go(w)
  lu.assertEquals(seen, { a = { x = "1" }, b = {} })
  lu.assertEquals(w.store:outputs(w.run), { a = { x = "1" } })
end

-- a fails at 10; b runs until 100; c waits for a; d waits for b
local function four(on_error)
  return new_world({ { name = "a" }, { name = "b" }, { name = "c", after = { "a" } },
    { name = "d", after = { "b" } } },
    { a = fails(), b = function() return { ok = true, after = 100 } end }, { on_error = on_error })
end

function TestExecutor.test_complete_running_lets_running_nodes_finish_and_starts_none()
  local w = four "complete_running"
  local result = go(w)
  lu.assertEquals({ result.state, result.message, result.error.message },
    { "failed", "node 'a' failed", "broken" })
  lu.assertEquals(w:states(w.run), { a = "failed", b = "success", c = "skipped", d = "skipped" })
  lu.assertStrContains(w:decisions(w.run), "upstream node 'a' failed")
  lu.assertStrContains(w:decisions(w.run), "node 'a' failed and on_error is complete_running")
end

function TestExecutor.test_complete_running_is_the_default()
  lu.assertEquals((function()
    local w = four(nil)
    go(w)
    return w:states(w.run)
  end)(), { a = "failed", b = "success", c = "skipped", d = "skipped" })
end

function TestExecutor.test_stop_cancels_running_nodes()
  local w = four "stop"
  lu.assertEquals(go(w).state, "failed")
  lu.assertEquals(w:states(w.run), { a = "failed", b = "canceled", c = "skipped", d = "skipped" })
  lu.assertItemsEquals(w.log, { "0 start a", "0 start b", "10 end a", "10 cancel b", "15 end b" })
  lu.assertStrContains(w:decisions(w.run), "upstream node 'b' was cancelled")
end

function TestExecutor.test_a_cancel_that_nobody_here_asked_for_is_a_failure()
  local w = new_world({ { name = "a", retries = 1 }, { name = "b", after = { "a" } } },
    { a = fails("canceled", "canceling statement due to user request") })
  local result = go(w)
  lu.assertEquals({ result.state, result.message }, { "failed", "node 'a' failed" })
  lu.assertEquals(w:states(w.run), { a = "failed", b = "skipped" })
end

function TestExecutor.test_continue_goes_on_with_other_branches()
  local w = four "continue"
  lu.assertEquals(go(w).state, "failed")
  lu.assertEquals(w:states(w.run), { a = "failed", b = "success", c = "skipped", d = "success" })
end

function TestExecutor.test_a_failed_attempt_is_retried_with_backoff()
  local starts = {}
  local w
  w = new_world({ { name = "a", retries = 3, retry_delay = 10, backoff = 2 } }, { a = function(job)
    starts[#starts + 1] = w.now
    return job.attempt < 4 and fails()() or { ok = true }
  end })
  lu.assertEquals(go(w).state, "success")
  lu.assertEquals(starts, { 0, 10010, 30020, 70030 })
  lu.assertEquals(#w.store:attempts(w.run), 4)
  lu.assertStrContains(w:decisions(w.run), "attempt 1 failed (io); attempt 2 starts in 10 s")
end

function TestExecutor.test_retries_run_out()
  local w = new_world({ { name = "a", retries = 1, retry_delay = 1 } }, { a = fails() })
  lu.assertEquals(go(w).state, "failed")
  lu.assertEquals(#w.store:attempts(w.run), 2)
  lu.assertStrContains(w:decisions(w.run), "all 1 retries are used")
end

function TestExecutor.test_some_kinds_of_error_are_never_retried()
  for _, kind in ipairs { "usage", "auth", "integrity", "in_doubt" } do
    local w = new_world({ { name = "a", retries = 5, retry_delay = 1 } }, { a = fails(kind) })
    go(w)
    lu.assertEquals(#w.store:attempts(w.run), 1)
    lu.assertStrContains(w:decisions(w.run), ("an error of kind '%s' is not retried"):format(kind))
  end
end

function TestExecutor.test_a_retry_hands_on_the_sessions_of_lost_attempts()
  local sessions
  local w = new_world({ { name = "a", retries = 1, retry_delay = 1 } }, { a = function(job)
    sessions = job.sessions
    return { signal = job.attempt == 1 and "SIGKILL" or nil, ok = job.attempt == 2 or nil,
      messages = { { t = "session", connection = "rds", backend_pid = 7, backend_start = "t0" } } }
  end })
  go(w)
  lu.assertEquals(sessions, { { attempt = 1, connection = "rds", backend_pid = 7, backend_start = "t0" } })
end

function TestExecutor.test_complete_running_keeps_retrying_what_had_started()
  local w = new_world({ { name = "a", retries = 1, retry_delay = 60 }, { name = "b" } }, {
    a = function(job) return job.attempt == 1 and fails()() or { ok = true } end,
    b = function() return { after = 30, error = errors.new("sql", "no") } end })
  lu.assertEquals(go(w).state, "failed")
  lu.assertEquals(w:states(w.run), { a = "success", b = "failed" })
end

function TestExecutor.test_a_timeout_cancels_and_is_retried()
  local w = new_world({ { name = "a", timeout = 1, retries = 1, retry_delay = 1 } }, { a = function(job)
    return job.attempt == 1 and { never = true } or { ok = true }
  end })
  lu.assertEquals(go(w).state, "success")
  local first = w.store:attempts(w.run)[1]
  lu.assertEquals({ first.state, first.error.kind, first.error.message },
    { "failed", "timeout", "no end after 1 s" })
end

function TestExecutor.test_what_ignores_the_cancel_is_killed_ten_seconds_later()
  local w = new_world({ { name = "a", timeout = 1 } }, { a = function()
    return { never = true, ignores_cancel = true }
  end })
  lu.assertEquals(go(w).state, "failed")
  lu.assertEquals(w.log, { "0 start a", "1000 cancel a", "11000 kill a", "11000 end a" })
  local attempt = w.store:attempts(w.run)[1]
  lu.assertEquals({ attempt.error.kind, attempt.exit_signal }, { "timeout", "SIGKILL" })
end

function TestExecutor.test_success_that_crosses_the_cancel_counts()
  local w = new_world({ { name = "a", timeout = 1 } }, { a = function()
    return { after = 1002, ok = true, ignores_cancel = true }
  end })
  lu.assertEquals(go(w).state, "success")
end

-- ---- places and deadlines ----

local function busy(ms) return function() return { ok = true, after = ms } end end

function TestExecutor.test_a_node_that_waits_too_long_for_a_place_fails()
  local w = new_world({ { name = "a" }, { name = "b", max_wait = 2, retries = 3 }, { name = "c", after = { "b" } },
    { name = "d", max_wait = 60 } }, { a = busy(5000) }, { jobs = 1, on_error = "continue" })
  local result = go(w)
  local message = "waited 2 s for a free place, of those that --jobs gives"
  lu.assertEquals({ result.state, result.error.kind, result.error.message }, { "failed", "timeout", message })
  lu.assertEquals(w:states(w.run), { a = "success", b = "failed", c = "skipped", d = "success" })
  lu.assertEquals(w.log, { "0 start a", "5000 end a", "5000 start d", "5010 end d" }) -- b has left the queue
  local attempts = w.store:attempts(w.run, "b") -- one that never had a process
  lu.assertEquals({ #attempts, attempts[1].state, attempts[1].error.kind, attempts[1].pid }, { 1, "failed", "timeout" })
  lu.assertEquals(attempts[1].started_at, attempts[1].ended_at)
  lu.assertStrContains(w:decisions(w.run), "timeout: " .. message)
  lu.assertEquals(w.store:notice_facts(w.run).failed[1].kind, "timeout")
end

function TestExecutor.test_it_says_which_pool_it_waited_for()
  local pools = function(name) return name == "db" and 1 or nil end
  local w = new_world({ { name = "a", pool = "db" }, { name = "b", pool = "db" }, { name = "c", pool = "db", max_wait = 1 } },
    { a = busy(5000) }, { pools = pools })
  lu.assertEquals(go(w).error.message, "waited 1 s for a place in pool 'db' (1 at once)")
  lu.assertEquals(w.host.runner:active().ready, 0)
end

function TestExecutor.test_a_retry_waits_for_a_place_too_and_a_failure_may_be_allowed()
  local w = new_world({ { name = "a", max_wait = 1, retries = 5, retry_delay = 1, allow_failure = true },
    { name = "b", after = { "a" } } }, { a = fails() })
  w:go(900)
  w.host.runner.jobs = 0 -- no place any more
  w:go(2500)
  lu.assertEquals(w:states(w.run), { a = "failed", b = "waiting" })
  w.host.runner.jobs = 1
  lu.assertEquals(go(w).state, "success")
  local attempts = w.store:attempts(w.run, "a")
  lu.assertEquals({ #attempts, attempts[1].error.kind, attempts[2].error.kind }, { 2, "io", "timeout" })
end

function TestExecutor.test_without_max_wait_a_node_waits_for_ever()
  local w = new_world({ { name = "a" }, { name = "b" } }, { a = busy(3600000) }, { jobs = 1 })
  lu.assertEquals(go(w).state, "success")
end

function TestExecutor.test_a_pause_is_no_wait_for_a_place()
  local w = new_world({ { name = "a" }, { name = "b", max_wait = 2 } }, { a = busy(1500) }, { jobs = 1 })
  w:go(500)
  w.store:request(w.run, "pause")
  w:go(60000)
  w.store:request(w.run, "resume")
  lu.assertEquals(go(w).state, "success")
end

function TestExecutor.test_a_node_past_its_deadline_is_late_once_and_goes_on()
  local w = world.new()
  w.script = { a = busy(9000), b = busy(10) }
  w.run = w:create { cause = "schedule", hooks = { on_late = { { shell = "true" } } }, nodes = { { name = "a", deadline = 5 },
    { name = "b", after = { "a" }, deadline = 8 }, { name = "c", deadline = 1 } } }
  w.host = w:runner { root = w.run }
  w:go(4999)
  lu.assertEquals(w.store:notices(w.run), {})
  lu.assertEquals(go(w).state, "success")
  local told, late = {}, {}
  for i, notice in ipairs(w.store:notices(w.run)) do told[i] = { notice.what, notice.node } end
  lu.assertEquals(told, { { "late", "a" }, { "late", "b" } })
  for _, node in ipairs(w.store:nodes(w.run)) do late[node.node] = node.late_at and node.late_at - 1700000000000 end
  lu.assertEquals(late, { a = 5000, b = 8000 }) -- c ended in time
  local _, count = w:decisions(w.run):gsub("late: it has not ended by its deadline, 2023%-11%-14 22:13:2", "")
  lu.assertEquals(count, 2)
  lu.assertStrContains(table.concat(require("tidemill.why").story(w.store, w.store:run(w.run)), "\n"),
    "node 'a' is late since 2023-11-14 22:13:25")
  lu.assertNil(w.store:run(w.run).late_at)
end

function TestExecutor.test_an_interrupt_cancels_all_and_a_second_kills()
  local w = new_world({ { name = "a" }, { name = "b" }, { name = "c", after = { "a" } },
    { name = "r", retries = 3, retry_delay = 100 } }, {
    a = function() return { never = true } end,
    b = function() return { never = true, ignores_cancel = true } end, r = fails() })
  lu.assertNil(go(w, 500))
  w.host.runner:interrupt()
  lu.assertNil(go(w, 600))
  lu.assertEquals(w:states(w.run).b, "running")
  w.host.runner:interrupt()
  local result = go(w)
  lu.assertEquals({ result.state, result.message }, { "canceled", "interrupted" })
  lu.assertEquals(w:states(w.run), { a = "canceled", b = "canceled", c = "skipped", r = "canceled" })
  lu.assertEquals(w.store:find_run(w.run).state, "canceled")
end

function TestExecutor.test_a_silent_death_names_signal_and_memory()
  local w = new_world({ { name = "a" } }, { a = function() return { signal = "SIGSEGV" } end })
  lu.assertStrContains(go(w).error.message, "ended by SIGSEGV (peak memory 64 MiB)")
  w = new_world({ { name = "a" } }, { a = function() return { code = 3 } end })
  lu.assertStrContains(go(w).error.message, "exit code 3 and no result")
  local attempt = w.store:attempts(w.run)[1]
  lu.assertEquals({ attempt.cpu_ms, attempt.max_rss_bytes, attempt.exit_code }, { 750, 64 << 20, 3 })
end

function TestExecutor.test_a_result_followed_by_a_crash_is_a_failure()
  local w = new_world({ { name = "a" } }, { a = function() return { ok = true, signal = "SIGABRT" } end })
  lu.assertEquals(go(w).state, "failed")
end

function TestExecutor.test_a_process_that_cannot_start_is_a_failed_attempt()
  local w = new_world({ { name = "a", retries = 1, retry_delay = 1 } }, { a = function(job)
    return job.attempt == 1 and { spawn_fails = true } or { ok = true }
  end })
  lu.assertEquals(go(w).state, "success")
  lu.assertEquals(w.store:attempts(w.run)[1].error.message, "no more processes")
end

function TestExecutor.test_logs_and_progress_are_kept()
  local w = new_world({ { name = "a" } }, { a = function()
    return { ok = true, messages = { { t = "log", level = "warn", line = "careful" },
      { t = "progress", rows = 5, bytes = 50 } } }
  end })
  go(w)
  lu.assertEquals({ w.store:nodes(w.run)[1].row_count, w.store:nodes(w.run)[1].bytes }, { 5, 50 })
  local logs = w.store:logs(w.run, "a", 1)
  lu.assertEquals({ logs[1].line, logs[1].level, logs[1].stream }, { "careful", "warn", "log" })
end

function TestExecutor.test_any_order_of_ends_gives_a_sound_end()
  -- random graphs, failures, retries and policies: no node stays open, none runs before its upstream
  for seed = 1, 150 do
    math.randomseed(seed)
    local nodes, script = {}, {}
    for i = 1, math.random(1, 12) do
      local after = {}
      for j = 1, i - 1 do
        if math.random() < 0.3 then after[#after + 1] = "n" .. j end
      end
      nodes[i] = { name = "n" .. i, after = after, retries = math.random(0, 2), retry_delay = math.random(),
        timeout = math.random() < 0.3 and math.random() * 2 or nil,
        max_wait = math.random() < 0.2 and math.random() or nil, deadline = math.random() * 3 }
      script["n" .. i] = function()
        local r = math.random()
        if r < 0.2 then return { error = errors.new("io", "x"), after = math.random(1, 1000) } end
        if r < 0.3 then return { never = true, ignores_cancel = math.random() < 0.5 } end
        return { ok = true, after = math.random(1, 1000) }
      end
    end
    local policies = { "complete_running", "stop", "continue" }
    local w = new_world(nodes, script, { on_error = policies[seed % 3 + 1], jobs = math.random(1, 4) })
    if not go(w, 20000) then w.host.runner:interrupt() end
    lu.assertNotNil(w.host.runner.result or go(w))
    local states, succeeded = w:states(w.run), 0
    for _, node in ipairs(nodes) do
      local s = states[node.name]
      lu.assertTrue(s == "success" or s == "failed" or s == "skipped" or s == "canceled", s)
      if s == "success" then
        succeeded = succeeded + 1
        for _, up in ipairs(node.after) do lu.assertEquals(states[up], "success") end
      end
    end
    lu.assertEquals(w.host.runner.result.state == "success", succeeded == #nodes)
    lu.assertEquals(#w.host.children, 0)
    w.store:close()
  end
end

os.exit(lu.LuaUnit.run())
