--- runner: claims, competition, requests, takeover, leases, outages, leaving, under virtual time.

local errors = require "tidemill.errors"
local lu = require "luaunit"
local world = require "tests.support.world"

TestRunner = {}

local function forever() return { never = true } end
local function state(w, run) return w.store:run(run).state end

local function starts(w)
  local order = {}
  for _, line in ipairs(w.log) do
    order[#order + 1] = line:match "start (.*)"
  end
  return table.concat(order, " ")
end

-- ---- competition ----

function TestRunner.test_many_runs_share_the_places()
  local w <close> = world.new()
  for i = 1, 5 do w:create { nodes = { { name = "n" .. i } }, flow = "f" .. i } end
  local h = w:runner { jobs = 2 }
  w:go(0)
  lu.assertEquals({ h.runner:active().runs, h.runner:active().nodes, h.runner:active().ready }, { 5, 2, 3 })
  w:go(100)
  lu.assertEquals(h.runner:active().runs, 0)
  for _, run in ipairs(w.store:runs()) do lu.assertEquals(run.state, "success") end
  lu.assertEquals(w.log[3]:match "^%d+", "10")
end

function TestRunner.test_the_order_is_node_priority_run_priority_scheduled_time()
  local w <close> = world.new()
  w:create { flow = "late", nodes = { { name = "late" } }, scheduled = 5000 }
  w:create { flow = "early", nodes = { { name = "early" }, { name = "second" }, { name = "urgent", priority = 9 } } }
  w:create { flow = "high", nodes = { { name = "high" } }, priority = 8, scheduled = 9000 }
  w:runner { jobs = 1 }
  w:go(1000)
  lu.assertEquals(starts(w), "urgent high early second late")
end

function TestRunner.test_a_full_pool_holds_back_its_nodes_alone_and_says_why_once()
  local w <close> = world.new()
  w.script = { a = function() return { ok = true, after = 5000 } end }
  local run = w:create { nodes = { { name = "a", pool = "db" }, { name = "b", pool = "db" }, { name = "c" } } }
  local h = w:runner { pools = function(name) return name == "db" and 1 or nil end }
  w:go(3000)
  lu.assertEquals(w:states(run), { a = "running", b = "waiting", c = "success" })
  w:go(6000)
  lu.assertEquals(state(w, run), "success")
  lu.assertStrContains(starts(w), "a c b")
  local _, count = w:decisions(run):gsub("pool 'db' is full %(1 at once%)", "")
  lu.assertEquals({ count, h.runner:active().ready }, { 1, 0 })
end

function TestRunner.test_two_runners_keep_one_pool()
  local w <close> = world.new { on_file = true }
  w.script.n = function() return { ok = true, after = 2000 } end
  for _ = 1, 6 do w:create { nodes = { { name = "n", pool = "db" } } } end
  local pools = function() return 2 end
  w:runner { pools = pools, most_runs = 3 }
  w:runner { pools = pools, most_runs = 3 }
  for t = 100, 12000, 100 do
    w:go(t)
    local n = 0
    for _ in pairs(w.processes) do n = n + 1 end
    lu.assertTrue(n <= 2, n)
  end
  for _, run in ipairs(w.store:runs()) do lu.assertEquals(run.state, "success") end
end

function TestRunner.test_a_root_that_must_wait_says_so_and_then_runs()
  local w <close> = world.new { on_file = true }
  w.script.a = function() return { ok = true, after = 5000 } end
  w:create { nodes = { { name = "a" } }, cause = "schedule" }
  w:runner()
  w:go(100)
  local run = w:create { nodes = { { name = "b" } }, cause = "rerun", concurrency = "queue" }
  local h = w:runner { kind = "run", root = run }
  w:go(9000)
  lu.assertEquals({ state(w, run), h.over }, { "success", true })
  lu.assertStrContains(table.concat(w.said, "\n"), ("run %s waits for run "):format(run))
  lu.assertStrContains(table.concat(w.said, "\n"), 'is running; concurrency is "queue"')
end

function TestRunner.test_runs_that_wait_for_others_leave_them_their_place()
  local w <close> = world.new()
  local inner, hash = w:document { flow = "inner", nodes = { { name = "work" } } }
  w.script.sub = function() return { ok = true, wait = { kind = "run", file = "i" } } end
  local runs = {}
  for i = 1, 4 do
    runs[i] = w:create { nodes = { { name = "sub" } }, subflows = { i = { hash = hash, document = inner, sources = {} } } }
  end
  local h = w:runner { most_runs = 2 }
  w:go(30000)
  for i = 1, 4 do lu.assertEquals(state(w, runs[i]), "success") end
  lu.assertEquals({ h.runner.idle, h.runner.count }, { 0, 0 })
end

function TestRunner.test_paused_runs_take_no_place()
  local w <close> = world.new()
  w.script.a = function() return { ok = true, after = 1000 } end
  local paused = w:create { nodes = { { name = "a" }, { name = "b", after = { "a" } } } }
  local h = w:runner { most_runs = 1 }
  w:go(500)
  w.store:request(paused, "pause")
  local other = w:create { nodes = { { name = "c" } } }
  w:go(10000)
  lu.assertEquals({ state(w, paused), state(w, other), h.runner.idle }, { "paused", "success", 1 })
  w.store:request(paused, "resume")
  w:go(20000)
  lu.assertEquals({ state(w, paused), h.runner.idle }, { "success", 0 })
end

function TestRunner.test_a_run_whose_sources_are_gone_fails_and_the_others_go_on()
  local w <close> = world.new()
  local broken = w:create { nodes = { { name = "a" } } }
  local good = w:create { nodes = { { name = "b" } } }
  w.store.db:exec("DELETE FROM sources WHERE hash = 'hash1'")
  w:runner()
  w:go(5000)
  lu.assertEquals({ state(w, broken), w:states(broken).a, state(w, good) }, { "failed", "canceled", "success" })
  lu.assertEquals(w.store:run(broken).error.message, "the state store has no sources 'hash1'")
end

-- ---- requests ----

function TestRunner.test_pause_lets_running_nodes_finish_and_resume_goes_on()
  local w <close> = world.new()
  w.script.a = function() return { ok = true, after = 3000 } end
  local run = w:create { nodes = { { name = "a" }, { name = "b", after = { "a" } } } }
  w:runner()
  w:go(500)
  w.store:request(run, "pause")
  w:go(10000)
  lu.assertEquals({ state(w, run), w:states(run) }, { "paused", { a = "success", b = "waiting" } })
  w.store:request(run, "resume")
  w:go(20000)
  lu.assertEquals(state(w, run), "success")
end

function TestRunner.test_a_resume_that_comes_before_the_rest_undoes_the_pause()
  local w <close> = world.new()
  w.script.a = function() return { ok = true, after = 8000 } end
  local run = w:create { nodes = { { name = "a" }, { name = "b", after = { "a" } } } }
  w:runner()
  w:go(500)
  w.store:request(run, "pause")
  w:go(3000)
  lu.assertFalse(w.store:request(run, "resume"))
  w:go(5000)
  lu.assertNil(w.store:run(run).request)
  w:go(20000)
  lu.assertEquals(state(w, run), "success")
end

function TestRunner.test_a_resume_before_the_runner_saw_the_pause_leaves_nothing_behind()
  local w <close> = world.new()
  w.script.a = function() return { ok = true, after = 3000 } end
  local run = w:create { nodes = { { name = "a" }, { name = "b", after = { "a" } } } }
  w:runner()
  w:go(500)
  w.store:request(run, "pause")
  w.store:request(run, "resume")
  w:go(2000)
  lu.assertNil(w.store:run(run).request)
  w:go(20000)
  lu.assertEquals(state(w, run), "success")
end

function TestRunner.test_what_a_lost_runner_was_asked_of_a_paused_run_is_done_by_the_next()
  for request, ends in pairs { stop = "canceled", resume = "success" } do
    local w <close> = world.new { on_file = true }
    local run = w:create { nodes = { { name = "a" }, { name = "b", after = { "a" } } } }
    w.script.a = function() return { ok = true, after = 1000 } end
    local first = w:runner()
    w:go(500)
    w.store:request(run, "pause")
    w:go(5000)
    lu.assertEquals(state(w, run), "paused")
    first:die()
    lu.assertFalse(w.store:request(run, request))
    w:runner()
    w:go(60000)
    lu.assertEquals(state(w, run), ends)
  end
end

function TestRunner.test_a_paused_retry_waits_for_the_resume()
  local w <close> = world.new()
  w.script.a = function(job) return job.attempt == 1 and { error = errors.new("io", "x") } or { ok = true } end
  local run = w:create { nodes = { { name = "a", retries = 1, retry_delay = 2 } } }
  w:runner()
  w:go(500)
  w.store:request(run, "pause")
  w:go(60000)
  lu.assertEquals({ state(w, run), w:states(run).a }, { "paused", "retrying" })
  w.store:request(run, "resume")
  w:go(62000)
  lu.assertEquals(state(w, run), "success")
end

function TestRunner.test_stop_cancels_what_runs()
  local w <close> = world.new()
  w.script.a = forever
  local run = w:create { nodes = { { name = "a" }, { name = "b", after = { "a" } } } }
  w:runner()
  w:go(500)
  w.store:request(run, "stop")
  w:go(3000)
  lu.assertEquals({ state(w, run), w.store:run(run).message, w:states(run) },
    { "canceled", "stopped", { a = "canceled", b = "skipped" } })
end

function TestRunner.test_stop_ends_a_paused_run()
  local w <close> = world.new()
  w.script.a = function() return { ok = true, after = 3000 } end
  local run = w:create { nodes = { { name = "a" }, { name = "b", after = { "a" } } } }
  w:runner()
  w:go(50)
  w.store:request(run, "pause")
  w:go(5000)
  lu.assertEquals(state(w, run), "paused")
  w.store:request(run, "stop")
  w:go(10000)
  lu.assertEquals({ state(w, run), w:states(run) }, { "canceled", { a = "success", b = "skipped" } })
end

function TestRunner.test_restore_keeps_what_succeeded_and_goes_on_numbering()
  local w <close> = world.new()
  local good, seen = false, nil
  w.script = { a = function() return { ok = true, messages = { { t = "output", name = "x", value = 1 } } } end,
    b = function() return good and { ok = true } or { error = errors.new("sql", "no") } end,
    c = function(job)
      seen = job.upstream
      return { ok = true }
    end }
  local run = w:create { nodes = { { name = "a" }, { name = "b", after = { "a" }, retries = 1, retry_delay = 1 },
    { name = "c", after = { "b" } } } }
  w:runner()
  w:go(5000)
  lu.assertEquals(w:states(run), { a = "success", b = "failed", c = "skipped" })
  w.store:restore_run(run)
  w:go(10000)
  lu.assertEquals(#w.store:attempts(run, "b"), 4) -- its retries are fresh
  good = true
  w.store:restore_run(run)
  w:go(15000)
  lu.assertEquals({ state(w, run), seen }, { "success", { a = { x = 1 }, b = {} } })
  lu.assertEquals({ #w.store:attempts(run, "a"), #w.store:attempts(run, "b") }, { 1, 5 })
end

-- ---- deadlines ----

function TestRunner.test_a_run_is_late_while_it_runs_waits_or_is_queued()
  local w <close> = world.new()
  w.script = { a = function() return { ok = true, after = 60000 } end }
  local hooks = { on_late = { { shell = "echo late" } } }
  local running = w:create { nodes = { { name = "a" } }, deadline = 30000, cause = "schedule", hooks = hooks }
  local queued = w:create { nodes = { { name = "b" } }, deadline = 30000, scheduled = 1000, cause = "schedule",
    concurrency = "queue" }
  local fine = w:create { nodes = { { name = "c" } }, deadline = 30000, flow = "g" }
  w:runner()
  w:go(29000)
  lu.assertNil(w.store:run(running).late_at)
  w:go(40000)
  lu.assertNotNil(w.store:run(running).late_at)
  lu.assertNotNil(w.store:run(queued).late_at)
  w:go(90000)
  lu.assertEquals({ state(w, running), state(w, queued), w.store:run(fine).late_at }, { "success", "success", nil })
  lu.assertEquals(#w.store.db:query("SELECT id FROM notices WHERE run_id = ? AND what = 'late'", running), 1)
end

function TestRunner.test_a_late_node_is_told_of_once_whoever_runs_it()
  local w <close> = world.new { on_file = true }
  w.script.a = forever
  local run = w:create { cause = "schedule", hooks = { on_late = { { shell = "true" } } },
    nodes = { { name = "a", deadline = 5 }, { name = "b", after = { "a" }, deadline = 60 } } }
  local first = w:runner()
  w:go(10000)
  w:runner()
  first:die()
  w:go(70000)
  local told = {}
  for i, notice in ipairs(w.store:notices(run)) do told[i] = notice.node end
  lu.assertEquals(told, { "a", "b" }) -- b was due under the second one, from the start of the run
end

function TestRunner.test_with_another_runner_and_after_an_outage_the_wait_for_a_place_begins_anew()
  local w <close> = world.new { on_file = true }
  w.script.a = function() return { ok = true, after = 25000 } end
  local run = w:create { nodes = { { name = "a" }, { name = "b", max_wait = 30 } } }
  local first = w:runner { jobs = 1 }
  w:go(10000)
  first:die()
  local second = w:runner { jobs = 1 }
  w:go(30000)
  lu.assertEquals(w:states(run), { a = "running", b = "waiting" })
  second:cut(10000)
  w:go(100000)
  lu.assertEquals(w:states(run), { a = "success", b = "success" })
end

function TestRunner.test_a_runner_that_leaves_fails_no_node_for_want_of_a_place()
  local w <close> = world.new { on_file = true }
  w.script.a = function() return { ok = true, after = 20000 } end
  local run = w:create { nodes = { { name = "a" }, { name = "b", max_wait = 5 } } }
  local first = w:runner { jobs = 1 }
  w:go(2000)
  first.runner:drain "nodes"
  w:go(19000)
  lu.assertEquals(w:states(run), { a = "running", b = "waiting" })
  w:runner()
  w:go(60000)
  lu.assertEquals(state(w, run), "success")
end

-- ---- takeover ----

local LEASE = 15000

function TestRunner.test_a_dead_runners_runs_go_on_within_a_lease()
  local w <close> = world.new { on_file = true }
  w.script = { a = function() return { ok = true, messages = { { t = "output", name = "x", value = 1 } } } end,
    b = function(job)
      return job.attempt == 1 and { never = true, session = true } or { ok = true, session = true }
    end }
  local run = w:create { nodes = { { name = "a" }, { name = "b", after = { "a" } } } }
  local first = w:runner()
  w:go(1000)
  local second = w:runner()
  w:go(2000)
  first:die()
  w:go(1000 + LEASE + LEASE // 3 + 3000)
  lu.assertEquals(state(w, run), "success")
  local attempts = w.store:attempts(run, "b")
  lu.assertEquals({ attempts[1].state, attempts[2].state, attempts[2].runner }, { "lost", "success", second.runner.id })
  lu.assertStrContains(w:decisions(run), "lost: attempt 1: its runner")
  lu.assertEquals(#w.store:attempts(run, "a"), 1)
end

function TestRunner.test_the_successor_gets_the_sessions_of_lost_attempts()
  local w <close> = world.new { on_file = true }
  local sessions
  w.script.a = function(job)
    sessions = job.sessions
    return { never = job.attempt == 1, ok = true, session = true }
  end
  w:create { nodes = { { name = "a" } } }
  local first = w:runner()
  w:go(500)
  first:die()
  w:runner()
  w:go(40000)
  lu.assertEquals(sessions, { { attempt = 1, connection = "db", backend_pid = 1, backend_start = "t" } })
end

function TestRunner.test_a_lost_attempt_is_repeated_under_complete_running_and_uses_no_retry()
  local w <close> = world.new { on_file = true }
  w.script = { a = function(job)
    if job.attempt == 1 then return { never = true } end
    return job.attempt == 2 and { error = errors.new("io", "x") } or { ok = true }
  end, bad = function() return { error = errors.new("sql", "no") } end }
  local run = w:create { nodes = { { name = "a", retries = 1, retry_delay = 1 }, { name = "bad" } } }
  local first = w:runner()
  w:go(500)
  first:die()
  w:runner()
  w:go(60000)
  lu.assertEquals({ state(w, run), w:states(run) }, { "failed", { a = "success", bad = "failed" } })
  lu.assertEquals(#w.store:attempts(run, "a"), 3)
  lu.assertEquals(w.store:run(run).error.message, "no") -- known from the store
end

function TestRunner.test_five_losses_in_a_row_fail_the_node()
  local w <close> = world.new { on_file = true }
  w.script.a = forever
  local run = w:create { nodes = { { name = "a", retries = 9 } } }
  for i = 1, 6 do
    local h = w:runner()
    w:go(i * 30000)
    h:die()
  end
  lu.assertEquals({ state(w, run), #w.store:attempts(run) }, { "failed", 5 })
  lu.assertStrContains(w.store:run(run).error.message, "5 attempts in a row were lost")
end

function TestRunner.test_a_wait_goes_on_with_the_successor_and_a_subflow_stays_one()
  local w <close> = world.new { on_file = true }
  local inner, hash = w:document { flow = "inner", nodes = { { name = "work" } } }
  w.script = { sub = function() return { ok = true, wait = { kind = "run", file = "i" } } end,
    work = function() return { ok = true, after = 60000 } end,
    probe = function(job) return job.waiting and { ok = true } or { ok = true, wait = { kind = "probe", every = 50 } } end }
  local run = w:create { nodes = { { name = "sub" }, { name = "probe" } },
    subflows = { i = { hash = hash, document = inner, sources = {} } } }
  local first = w:runner()
  w:go(1000)
  first:die()
  w:runner()
  w:go(200000)
  lu.assertEquals({ state(w, run), #w.store:runs { flow = "inner" } }, { "success", 1 })
  lu.assertEquals({ #w.store:attempts(run, "probe"), #w.store:attempts(run, "sub") }, { 1, 1 })
end

function TestRunner.test_a_stopped_runner_finds_its_lease_lost_and_starts_afresh()
  local w <close> = world.new { on_file = true }
  w.script.a = function(job) return { never = job.attempt == 1, ok = true, after = 100 } end
  local run = w:create { nodes = { { name = "a" } } }
  local first = w:runner()
  w:go(500)
  local id = first.runner.id
  first:stop()
  w:runner()
  w:go(40000)
  lu.assertEquals(state(w, run), "success")
  lu.assertEquals(#first.children, 1)
  first:continue()
  w:go(45000)
  lu.assertEquals(#first.children, 0)
  lu.assertNotEquals(first.runner.id, id)
  lu.assertStrContains(table.concat(w.said, "\n"), "the lease of runner " .. id .. " is lost")
  local another = w:create { nodes = { { name = "b" } } }
  w:go(50000)
  lu.assertEquals(state(w, another), "success")
end

function TestRunner.test_a_run_that_was_taken_away_is_forgotten_and_its_children_killed()
  local w <close> = world.new()
  w.script.a = forever
  local run = w:create { nodes = { { name = "a" } } }
  local kept = w:create { flow = "g", nodes = { { name = "b" } } }
  local h = w:runner()
  w.script.b = function() return { ok = true, after = 3000 } end
  w:go(500)
  local other = w.store:register_runner { kind = "serve", lease_ms = 3600000 }
  w.store.db:exec("UPDATE runs SET epoch = epoch + 1, runner = ? WHERE id = ?", other, run)
  for _, ex in pairs(h.runner.runs) do -- something to write
    if ex.id == run then ex:stop "stopped" end
  end
  h.runner:poke()
  h.runner.dirty[1] = h.runner.runs[run]
  w:go(10000)
  lu.assertEquals({ state(w, run), state(w, kept) }, { "running", "success" })
  lu.assertEquals({ h.runner:active().runs, h.runner:active().nodes, #h.children }, { 0, 0, 0 })
end

-- ---- the store out of reach ----

function TestRunner.test_a_short_outage_delays_and_loses_nothing()
  local w <close> = world.new { on_file = true }
  w.script.a = function() return { ok = true, after = 3000, messages = { { t = "output", name = "x", value = 5 } } } end
  local run = w:create { nodes = { { name = "a" }, { name = "b", after = { "a" } } } }
  local h = w:runner()
  w:go(1000)
  h:cut(8000)
  w:go(8000)
  lu.assertEquals(h.runner:active().outage_ms ~= nil, true)
  w:go(20000)
  lu.assertEquals({ state(w, run), w.store:outputs(run) }, { "success", { a = { x = 5 } } })
  lu.assertEquals(#w.store:attempts(run), 2)
  lu.assertStrContains(table.concat(w.said, "\n"), "the state store is back after")
end

function TestRunner.test_an_outage_past_the_lease_ends_the_children()
  local w <close> = world.new { on_file = true }
  w.script.a = function(job) return { never = job.attempt == 1, ok = true } end
  local run = w:create { nodes = { { name = "a" } } }
  local h = w:runner()
  w:go(1000)
  h:cut(39000)
  w:go(14000)
  lu.assertEquals(#h.children, 1)
  w:go(17000)
  lu.assertEquals(#h.children, 0)
  w:go(60000)
  lu.assertEquals({ state(w, run), #w.store:attempts(run) }, { "success", 2 })
end

-- A server that took over from one that died may not have the last commits of that one.
function TestRunner.test_a_store_that_lost_a_claim_gives_the_run_again()
  local w <close> = world.new { on_file = true }
  w.script.a = function() return { ok = true, after = 3000 } end
  local run = w:create { nodes = { { name = "a" }, { name = "b", after = { "a" } } } }
  local h = w:runner()
  w:go(1000)
  w.store.db:exec "DELETE FROM attempts"
  w.store.db:exec "UPDATE nodes SET state = 'waiting', attempts = 0, started_at = NULL"
  w.store.db:exec "UPDATE runs SET state = 'queued', runner = NULL, epoch = 0, claimed_at = NULL, started_at = NULL"
  w:go(10000)
  lu.assertEquals({ state(w, run), #w.store:attempts(run) }, { "success", 2 })
  lu.assertEquals({ h.runner:active().runs, h.runner:active().nodes, #h.children }, { 0, 0, 0 })
  lu.assertStrContains(table.concat(w.said, "\n"), "is given to this runner again")
  h.runner:drain "nodes"
  w:go(20000)
  lu.assertTrue(h.over)
end

-- ---- leaving ----

function TestRunner.test_drain_of_nodes_gives_the_rest_back()
  local w <close> = world.new { on_file = true }
  w.script.a = function() return { ok = true, after = 2000 } end
  local run = w:create { nodes = { { name = "a" }, { name = "b", after = { "a" } } } }
  local h = w:runner()
  w:go(500)
  h.runner:drain "nodes"
  w:go(5000)
  lu.assertTrue(h.over)
  lu.assertEquals({ state(w, run), w.store:run(run).runner, w:states(run) },
    { "running", nil, { a = "success", b = "waiting" } })
  w:runner()
  w:go(10000)
  lu.assertEquals({ state(w, run), #w.store:attempts(run) }, { "success", 2 })
end

function TestRunner.test_who_leaves_gives_a_run_back_as_soon_as_nothing_of_it_runs()
  local w <close> = world.new { on_file = true }
  w.script.a = function() return { ok = true, after = 60000 } end
  w:create { nodes = { { name = "a" } } }
  local free = w:create { flow = "g", nodes = { { name = "b" } }, scheduled = 1 }
  local h = w:runner { jobs = 1 }
  w:go(500)
  h.runner:drain "nodes"
  w:runner()
  w:go(3000)
  lu.assertEquals({ state(w, free), h.over }, { "success", nil })
  lu.assertStrContains(w:decisions(free), "handback: its runner gave it back")
end

function TestRunner.test_drain_of_runs_finishes_them()
  local w <close> = world.new { on_file = true }
  w.script.a = function() return { ok = true, after = 2000 } end
  local begun = w:create { nodes = { { name = "a" }, { name = "b", after = { "a" } } } }
  local unbegun = w:create { flow = "h", nodes = { { name = "d" } }, scheduled = 9 }
  local h = w:runner { jobs = 1 }
  w:go(500)
  h.runner:drain "runs"
  local later = w:create { flow = "g", nodes = { { name = "c" } } }
  w:go(9000)
  lu.assertTrue(h.over)
  lu.assertEquals({ state(w, begun), state(w, later), w:states(unbegun) }, { "success", "queued", { d = "waiting" } })
end

function TestRunner.test_leaving_now_cancels_and_what_was_lost_is_repeated()
  local w <close> = world.new { on_file = true }
  w.script = { a = function(job) return { never = job.attempt == 1, ok = true } end,
    stubborn = function(job) return { never = job.attempt == 1, ignores_cancel = true, ok = true } end }
  local run = w:create { nodes = { { name = "a" }, { name = "stubborn" } } }
  local h = w:runner()
  w:go(500)
  h.runner:drain "now"
  w:go(20000)
  lu.assertTrue(h.over)
  lu.assertEquals(w.log[#w.log], "10500 end stubborn")
  lu.assertEquals(w:states(run), { a = "waiting", stubborn = "waiting" })
  w:runner()
  w:go(30000)
  lu.assertEquals({ state(w, run), #w.store:attempts(run) }, { "success", 4 })
  lu.assertEquals(w.store:attempts(run, "a")[1].state, "lost")
end

-- ---- reports ----

function TestRunner.test_an_answer_comes_after_the_store_has_the_report()
  local w <close> = world.new()
  local known
  w.script.a = function() return { ok = true, session = true } end
  local run = w:create { nodes = { { name = "a" } } }
  local h = w:runner()
  local add = w.store.add_session
  w.store.add_session = function(...)
    lu.assertNil(h.children[1].replies)
    known = true
    return add(...)
  end
  w:go(1000)
  lu.assertTrue(known)
  lu.assertEquals({ state(w, run), #w.store:sessions(run, "a") }, { "success", 1 })
end

function TestRunner.test_malformed_reports_are_logged_and_harmless()
  local w <close> = world.new()
  w.script.a = function() return { ok = true, messages = { { t = "output", name = {}, value = 1 },
    { t = "progress", rows = "many", bytes = -1 }, { t = "session", backend_pid = "x" }, { t = "result" }, { t = 7 },
    { t = "log" }, {} } } end
  local run = w:create { nodes = { { name = "a" } } }
  w:runner()
  w:go(1000)
  lu.assertEquals(state(w, run), "success")
  local lines = {}
  for _, line in ipairs(w.store:logs(run)) do lines[#lines + 1] = line.line end
  lu.assertStrContains(table.concat(lines, "\n"), "malformed report 'output'")
end

function TestRunner.test_a_fault_of_ours_fails_that_run_alone()
  local w <close> = world.new()
  local bad = w:create { nodes = { { name = "a" }, { name = "z", after = { "a" } } } }
  local good = w:create { flow = "g", nodes = { { name = "b" } } }
  local begin = w.store.begin_attempt
  w.store.begin_attempt = function(self, run, ...)
    if run == bad then error "a bug" end
    return begin(self, run, ...)
  end
  w:runner()
  w:go(1000)
  lu.assertEquals({ state(w, bad), state(w, good) }, { "failed", "success" })
  lu.assertStrContains(w.store:run(bad).error.message, "a bug")
  lu.assertEquals(w:states(bad), { a = "canceled", z = "canceled" })
end

function TestRunner.test_a_thousand_runs_cost_little_memory()
  local w <close> = world.new()
  local _, hash = w:document { nodes = { { name = "a" }, { name = "b", after = { "a" } }, { name = "c", after = { "b" } } } }
  local document = w.store:document(hash)
  for i = 1, 1000 do
    w.store:create_run { flow = "f" .. i, file = "/f.lua", version = hash, cause = "schedule", scheduled = i,
      business = 0, timezone = "UTC", nodes = document.nodes }
  end
  local h = w:runner { jobs = 1 }
  w.script = { a = forever }
  collectgarbage()
  local before = collectgarbage "count"
  w:go(2000)
  collectgarbage()
  lu.assertEquals(h.runner:active().runs, 1000)
  local each = (collectgarbage "count" - before) * 1024 / 1000
  lu.assertTrue(each < 8000, ("%.0f bytes a run of 3 nodes"):format(each))
end

os.exit(lu.LuaUnit.run())
