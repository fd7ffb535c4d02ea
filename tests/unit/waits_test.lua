--- executor: nodes that wait without a process, and subflows.

local errors = require "tidemill.errors"
local lu = require "luaunit"
local world = require "tests.support.world"

TestWaits = {}

local ZERO = 1700000000000 -- of the world's wall clock

local function new_world(nodes, script, options)
  local w = world.new()
  w.script = script
  w.run = w:create { nodes = nodes, on_error = options and options.on_error, settings = options and options.settings,
    cause = options and options.cause }
  w.host = w:runner { root = w.run, kind = "run", jobs = options and options.jobs, pools = options and options.pools }
  return w
end

local function result(w)
  w:go()
  return w.host.runner.result
end

-- Not yet, so many times; then success.
local function patient(times, wait)
  local n = 0
  return function()
    n = n + 1
    if n > times then return { ok = true } end
    local one = { kind = "probe", every = 60, reason = "no rows yet" }
    for key, value in pairs(wait or {}) do one[key] = value end
    return { ok = true, wait = one }
  end
end

function TestWaits.test_a_probe_is_started_again_with_the_same_attempt_number()
  local w = new_world({ { name = "a" }, { name = "b", after = { "a" } } }, { a = patient(2) })
  lu.assertEquals(result(w).state, "success")
  lu.assertEquals(w.log, { "0 start a", "10 end a", "60010 start a", "60020 end a", "120020 start a", "120030 end a",
    "120030 start b", "120040 end b" })
  local attempts = w.store:attempts(w.run, "a")
  lu.assertEquals({ #attempts, attempts[1].probes, attempts[1].state }, { 1, 2, "success" })
  local _, count = w:decisions(w.run):gsub("no rows yet", "")
  lu.assertEquals(count, 1) -- the reason is said once
end

function TestWaits.test_what_waits_holds_no_worker_and_no_pool()
  local w = new_world({ { name = "a", pool = "db" }, { name = "b", pool = "db" } }, { a = patient(1) },
    { jobs = 1, pools = function() return 1 end })
  w:go(100)
  lu.assertEquals(w:states(w.run), { a = "polling", b = "success" })
  lu.assertEquals(w.host.runner:active().nodes, 0)
  lu.assertEquals(result(w).state, "success")
end

function TestWaits.test_past_its_deadline_a_wait_fails_without_a_retry()
  local w = new_world({ { name = "a", retries = 3 } }, { a = patient(99, { deadline_ms = ZERO + 150000 }) })
  local r = result(w)
  lu.assertEquals({ r.state, r.error.kind, r.error.message }, { "failed", "timeout", "waited in vain: no rows yet" })
  lu.assertEquals(w.now, 150000)
  lu.assertEquals(#w.store:attempts(w.run), 1)
end

function TestWaits.test_a_timeout_covers_the_processes_and_not_the_pauses()
  local w = new_world({ { name = "a", timeout = 1 } }, { a = function(job)
    return job.waiting and { ok = true, after = 600 } or { ok = true, after = 300,
      wait = { kind = "probe", every = 60 } }
  end })
  lu.assertEquals(result(w).state, "success")
  w = new_world({ { name = "a", timeout = 1 } }, { a = function(job)
    return job.waiting and { never = true } or { ok = true, after = 300, wait = { kind = "probe", every = 60 } }
  end })
  lu.assertEquals(result(w).error.kind, "timeout")
  lu.assertEquals(w.now, 60300 + 700 + 5)
end

function TestWaits.test_a_failed_probe_is_a_failed_attempt()
  local n = 0
  local w = new_world({ { name = "a", retries = 1, retry_delay = 1 } }, { a = function()
    n = n + 1
    if n == 1 then return { ok = true, wait = { kind = "probe", every = 5 } } end
    return n == 2 and { error = errors.new("io", "broken") } or { ok = true }
  end })
  lu.assertEquals(result(w).state, "success")
  lu.assertEquals(#w.store:attempts(w.run), 2)
end

function TestWaits.test_a_wait_of_an_unknown_kind_is_an_error()
  local w = new_world({ { name = "a" } }, { a = function() return { ok = true, wait = { kind = "rain" } } end })
  lu.assertEquals(result(w).error.message, "the node asks to wait for 'rain'")
end

function TestWaits.test_complete_running_goes_on_waiting_and_stop_does_not()
  local nodes = { { name = "a" }, { name = "bad" } }
  local bad = function() return { error = errors.new("sql", "no"), after = 50 } end
  local w = new_world(nodes, { a = patient(1), bad = bad })
  lu.assertEquals(result(w).state, "failed")
  lu.assertEquals(w:states(w.run), { a = "success", bad = "failed" })
  w = new_world(nodes, { a = patient(1), bad = bad }, { on_error = "stop" })
  lu.assertEquals(result(w).state, "failed")
  lu.assertEquals(w:states(w.run), { a = "canceled", bad = "failed" })
  lu.assertEquals(w.store:attempts(w.run, "a")[1].state, "canceled")
end

-- ---- other flows ----

-- A run of flow "up" that has ended so.
local function upstream(w, scheduled, state)
  local run = w:create { flow = "up", nodes = { { name = "n" } }, scheduled = scheduled, cause = "schedule" }
  w.store.db:exec("UPDATE runs SET state = ?, ended_at = 1 WHERE id = ?", state, run)
  w.store.db:exec("UPDATE nodes SET state = ? WHERE run_id = ?", state, run)
  return run
end

local function waiting_for(wait)
  wait.kind, wait.every = "flow", 10
  wait.from_ms, wait.to_ms = not wait.previous and ZERO - 1000 or nil, not wait.previous and ZERO + 1000 or nil
  return { a = function() return { ok = true, wait = wait } end }
end

function TestWaits.test_a_success_of_the_flow_in_the_span_ends_the_wait()
  local w = new_world({ { name = "a" } }, waiting_for { flow = "up" })
  upstream(w, -5000, "success")
  upstream(w, 0, "failed")
  w:go(25000)
  lu.assertEquals(w:states(w.run), { a = "polling" })
  local good = upstream(w, 500, "success")
  lu.assertEquals(result(w).state, "success")
  lu.assertEquals({ w.now, w.store:outputs(w.run).a.run_id }, { 30010, good })
  lu.assertEquals(#w.log, 2) -- one process
end

function TestWaits.test_all_runs_of_the_span_are_waited_for()
  local w = new_world({ { name = "a" } }, waiting_for { flow = "up", all = true, deadline_ms = ZERO + 200000 })
  local db = w.store.db
  local function set(run, state) db:exec("UPDATE runs SET state = ? WHERE id = ?", state, run) end
  local function still(until_ms)
    w:go(until_ms)
    lu.assertEquals(w:states(w.run), { a = "polling" })
  end
  upstream(w, -5000, "failed") -- before the span
  upstream(w, 5000, "queued") -- after it
  upstream(w, -100, "skipped")
  still(15000) -- none at all
  local good = upstream(w, 500, "success")
  local bad, open = upstream(w, -900, "failed"), upstream(w, 0, "running")
  still(35000)
  set(open, "success")
  still(55000)
  upstream(w, -900, "running") -- it is repeated
  still(75000)
  upstream(w, -900, "success")
  lu.assertEquals(result(w).state, "success")
  lu.assertEquals({ w.store:run(bad).state, w.store:outputs(w.run).a.run_id }, { "failed", good }) -- the newest
end

function TestWaits.test_a_node_of_all_runs_of_the_span()
  local w = new_world({ { name = "a" } }, waiting_for { flow = "up", node = "n", all = true })
  local one, two = upstream(w, 0, "running"), upstream(w, 100, "running")
  w.store.db:exec("UPDATE nodes SET state = 'success' WHERE run_id = ?", one)
  w:go(15000)
  lu.assertEquals(w:states(w.run), { a = "polling" })
  w.store.db:exec("UPDATE nodes SET state = 'success' WHERE run_id = ?", two)
  lu.assertEquals(result(w).state, "success")
end

function TestWaits.test_firings_that_are_due_are_waited_for()
  local w = new_world({ { name = "a" } }, waiting_for { flow = "up", all = true })
  upstream(w, 0, "success")
  w.store.db:exec([[INSERT INTO flows (flow, file, version_no, schedule, next_at, changed)
    VALUES ('up', 'f', 1, '{"kind":"cron"}', ?, 1)]], ZERO - 500)
  w:go(55000)
  lu.assertEquals(w:states(w.run), { a = "polling" })
  w.store.db:exec("UPDATE flows SET next_at = ?", ZERO + 86400000)
  lu.assertEquals(result(w).state, "success")
end

function TestWaits.test_of_all_runs_a_failed_one_fails_fast_and_is_named_in_the_end()
  local w = new_world({ { name = "a" } }, waiting_for { flow = "up", all = true, fail_fast = true })
  local bad = upstream(w, 0, "failed")
  upstream(w, 500, "success")
  lu.assertEquals(result(w).error.message, ("run %s of flow 'up' has failed"):format(bad))
  w = new_world({ { name = "a" } }, waiting_for { flow = "up", all = true, deadline_ms = ZERO + 30000 })
  bad = upstream(w, 0, "failed")
  lu.assertEquals(result(w).error.message, ("waited in vain: run %s of flow 'up' has not succeeded"):format(bad))
end

function TestWaits.test_a_node_of_the_flow_may_be_enough()
  local w = new_world({ { name = "a" } }, waiting_for { flow = "up", node = "n" })
  local run = upstream(w, 0, "failed")
  w.store.db:exec("UPDATE nodes SET state = 'success' WHERE run_id = ?", run)
  lu.assertEquals(result(w).state, "success")
end

function TestWaits.test_fail_fast_does_not_wait_for_a_repair()
  local w = new_world({ { name = "a" } }, waiting_for { flow = "up", fail_fast = true })
  local run = upstream(w, 0, "failed")
  lu.assertEquals(result(w).error.message, ("run %s of flow 'up' has failed"):format(run))
end

function TestWaits.test_the_previous_cycle_is_waited_for_if_there_is_one()
  local w = new_world({ { name = "a" } }, waiting_for { previous = true }, { cause = "schedule" })
  lu.assertEquals(result(w).state, "success")
  w = new_world({ { name = "a" } }, waiting_for { previous = true }, { cause = "schedule" })
  local before = w:create { flow = "f", nodes = { { name = "n" } }, scheduled = -60000, cause = "schedule" }
  w.store.db:exec("UPDATE runs SET state = 'failed', ended_at = 1 WHERE id = ?", before)
  w:go(25000)
  lu.assertEquals(w:states(w.run), { a = "polling" })
  w.store.db:exec("UPDATE runs SET state = 'success' WHERE id = ?", before)
  lu.assertEquals(result(w).state, "success")
end

-- ---- subflows ----

-- A run whose node "sub" runs the flow "inner", of one node "work".
local function with_subflow(script, options)
  options = options or {}
  local w = world.new()
  local inner, hash = w:document { flow = "inner", nodes = { { name = "work" } } }
  inner.settable = { "day" }
  script.sub = script.sub or function()
    return { ok = true, wait = { kind = "run", file = "inner.lua", scheduled_ms = ZERO, set = { day = "5" } } }
  end
  w.script = script
  w.run = w:create { nodes = { { name = "sub" }, { name = "behind", after = { "sub" } } }, on_error = options.on_error,
    subflows = { ["inner.lua"] = { hash = hash, document = inner, sources = { text = "", stored = {} } } } }
  w.host = w:runner { root = w.run, kind = "run" }
  return w
end

local function inner_runs(w)
  return w.store:runs { flow = "inner" }
end

function TestWaits.test_a_subflow_is_a_run_whose_outputs_are_those_of_the_node()
  local job
  local w = with_subflow { work = function(one)
    job = one
    return { ok = true, messages = { { t = "output", name = "rows", value = 7 } } }
  end }
  lu.assertEquals(result(w).state, "success")
  local inner = inner_runs(w)
  lu.assertEquals(w.store:outputs(w.run), { sub = { rows = 7, run_id = inner[1].id } })
  lu.assertEquals(w:states(w.run), { sub = "success", behind = "success" })
  lu.assertEquals(#inner, 1)
  lu.assertEquals({ inner[1].state, inner[1].cause, inner[1].parent_run, inner[1].parent_node, inner[1].business_at },
    { "success", "subflow", w.run, "sub", w.store:run(w.run).business_at })
  lu.assertEquals({ job.set, job.scheduled }, { { day = "5" }, ZERO / 1000 })
end

function TestWaits.test_a_failed_subflow_fails_its_node_with_the_cause()
  local w = with_subflow { work = function() return { error = errors.new("sql", "no such table") } end }
  local r = result(w)
  lu.assertEquals({ r.state, r.error.kind, r.error.cause.message }, { "failed", "sql", "no such table" })
  lu.assertStrContains(r.error.message, "of flow 'inner' is failed")
end

function TestWaits.test_an_interrupt_ends_subflow_and_run()
  local w = with_subflow { work = function() return { never = true } end }
  w:go(500)
  w.host.runner:interrupt()
  lu.assertEquals(result(w).state, "canceled")
  lu.assertEquals(inner_runs(w)[1].state, "canceled")
  lu.assertEquals(w:states(w.run), { sub = "canceled", behind = "skipped" })
end

function TestWaits.test_a_stop_of_the_run_stops_its_subflow()
  local w = with_subflow { work = function() return { never = true } end }
  w:go(500)
  lu.assertFalse(w.store:request(w.run, "stop"))
  lu.assertEquals(result(w).state, "canceled")
  lu.assertEquals(inner_runs(w)[1].state, "canceled")
end

function TestWaits.test_a_flow_that_is_not_published_is_an_error()
  local w = with_subflow { sub = function() return { ok = true, wait = { kind = "run", flow = "nowhere" } } end }
  lu.assertEquals(result(w).error.message, "the flow 'nowhere' is not published")
end

function TestWaits.test_a_subflow_is_given_only_what_may_be_set()
  local w = with_subflow { sub = function() return { ok = true, wait = { kind = "run", file = "inner.lua",
    set = { nothing = "1" } } } end }
  local error_of = result(w).error
  lu.assertEquals({ error_of.kind, error_of.message }, { "usage", "the flow has no variable 'nothing' to set" })
  lu.assertEquals(inner_runs(w), {})
end

function TestWaits.test_a_flow_that_runs_itself_comes_to_an_end()
  local w = world.new()
  local document, hash = w:document { flow = "inner", nodes = { { name = "sub" } } }
  local sources = { text = "", stored = {} }
  sources.subflows = { ["inner.lua"] = { hash = hash, document = document, sources = { text = "", stored = {} } } }
  w.store.db:exec("UPDATE sources SET sources = ? WHERE hash = ?", require("json").encode(sources), hash)
  w.script = { sub = function() return { ok = true, wait = { kind = "run", file = "inner.lua" } } end }
  w.run = w.store:create_run { flow = "inner", file = "/f.lua", version = hash, cause = "manual", scheduled = ZERO,
    business = ZERO, timezone = "UTC", nodes = document.nodes }
  w.host = w:runner { root = w.run, kind = "run" }
  lu.assertEquals(result(w).state, "failed")
  lu.assertEquals(#inner_runs(w), 11)
end

os.exit(lu.LuaUnit.run())
