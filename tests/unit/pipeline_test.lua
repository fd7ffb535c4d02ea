--- executor/pipeline: loads that take objects while their extract runs, under virtual time.

local errors = require "tidemill.errors"
local lu = require "luaunit"
local world = require "tests.support.world"

TestPipeline = {}

local EXTRACT = { name = "x", kind = "extract" }
local LOAD = { name = "l", kind = "load", after = { "x" }, pipeline = "x" }

local function with(node, more)
  local copy = {}
  for key, value in pairs(node) do copy[key] = value end
  for key, value in pairs(more) do copy[key] = value end
  return copy
end

-- A world with a run of these nodes; `extract` and `load` say how x and l go.
local function new(options)
  local w = world.new(options.world)
  w.script = { x = world.extracts(options.extract), l = world.loads(w, options.load) }
  for name, play in pairs(options.script or {}) do w.script[name] = play end
  w.run = w:create { nodes = options.nodes or { EXTRACT, LOAD }, on_error = options.on_error }
  w.host = w:runner { root = w.run, kind = options.kind or "run", jobs = options.jobs, pools = options.pools }
  return w
end

local function taken(w) return w.taken[w.run .. " l"] end

local function starts(w)
  local list = {}
  for _, line in ipairs(w.log) do
    list[#list + 1] = line:match "^%d+ start .*"
  end
  return list
end

local function attempts(w, node)
  local list = {}
  for i, one in ipairs(w.store:attempts(w.run, node)) do list[i] = one.state end
  return table.concat(list, " ")
end

local function fails(kind) return { ok = false, error = errors.new(kind or "io", "broken") } end

-- Attempt 1 fails, the others do not.
local function once_bad(job) return job.attempt == 1 and fails() or {} end

-- ---- the good course ----

function TestPipeline.test_a_load_takes_objects_while_its_extract_runs_and_ends_behind_the_manifest()
  local w <close> = new {}
  local early
  w:go(250)
  early = #taken(w).objects
  w:go()
  lu.assertEquals({ w.host.runner.result.state, early }, { "success", 2 })
  lu.assertEquals(taken(w).objects, { "x-1-000001", "x-1-000002", "x-1-000003" })
  lu.assertEquals(taken(w).manifest, "m1/3")
  lu.assertEquals(starts(w), { "0 start x", "1 start l" })
  lu.assertEquals(w.log[#w.log]:match "^(%d+) end l", "450")
  lu.assertStrContains(w:decisions(w.run), "pipeline: it takes the objects of 'x' (attempt 1) while that runs")
  lu.assertEquals(w.store.db:row "SELECT count(*) AS n FROM node_objects".n, 0)
end

function TestPipeline.test_without_an_announcement_the_edge_is_an_ordinary_one()
  local w <close> = new { extract = { announces = false } }
  w:go()
  lu.assertEquals(starts(w), { "0 start x", "400 start l" })
  lu.assertFalse(taken(w).fed)
end

function TestPipeline.test_an_edge_that_is_not_pipelined_waits()
  local w <close> = new { nodes = { EXTRACT, with(LOAD, { pipeline = false }) } }
  w:go()
  lu.assertEquals(starts(w), { "0 start x", "400 start l" })
end

function TestPipeline.test_a_slow_load_gets_every_object_in_lots_and_the_extract_does_not_wait()
  local w <close> = new { extract = { objects = 100, every = 1 }, load = { pace = 7 } }
  w:go()
  lu.assertEquals(#taken(w).objects, 100)
  for n, key in ipairs(taken(w).objects) do lu.assertEquals(key, ("x-1-%06d"):format(n)) end
  lu.assertEquals(w.log[3], "101 end x")
end

function TestPipeline.test_several_loads_take_the_objects_of_one_extract()
  local w <close> = new { nodes = { EXTRACT, LOAD, with(LOAD, { name = "l2" }) } }
  w.script.l2 = world.loads(w)
  w:go()
  for _, name in ipairs { "l", "l2" } do
    lu.assertEquals({ #w.taken[w.run .. " " .. name].objects, w.taken[w.run .. " " .. name].manifest }, { 3, "m1/3" })
  end
end

function TestPipeline.test_other_nodes_before_the_load_must_have_succeeded_first()
  local w <close> = new { nodes = { EXTRACT, { name = "ddl" }, with(LOAD, { after = { "x", "ddl" } }) },
    script = { ddl = function() return { ok = true, after = 250 } end } }
  w:go()
  lu.assertEquals(starts(w), { "0 start x", "0 start ddl", "250 start l" })
  lu.assertEquals({ taken(w).fed, #taken(w).objects }, { true, 3 })
  local again <close> = new { nodes = { EXTRACT, { name = "ddl" }, with(LOAD, { after = { "x", "ddl" } }) },
    on_error = "continue", script = { ddl = function() return fails() end } }
  again:go()
  lu.assertEquals(again:states(again.run), { x = "success", ddl = "failed", l = "skipped" })
end

function TestPipeline.test_it_has_no_outputs_of_the_running_extract()
  local seen
  local w <close> = new {}
  local play = w.script.l
  w.script.l = function(job)
    seen = job.upstream
    return play(job)
  end
  w:go()
  lu.assertEquals(seen, { x = {} })
end

-- ---- places ----

function TestPipeline.test_with_one_place_the_edge_is_an_ordinary_one()
  local w <close> = new { jobs = 1 }
  w:go()
  lu.assertEquals(starts(w), { "0 start x", "400 start l" })
  lu.assertFalse(taken(w).fed)
end

function TestPipeline.test_a_load_ahead_of_its_turn_starts_behind_all_nodes_that_are_ready()
  local w <close> = new { jobs = 2, nodes = { EXTRACT, { name = "a" }, { name = "b" }, with(LOAD, { priority = 10 }) },
    script = { a = function() return { ok = true, after = 50 } end, b = function() return { ok = true, after = 50 } end } }
  w:go()
  lu.assertEquals(starts(w), { "0 start x", "0 start a", "50 start b", "100 start l" })
  lu.assertEquals({ taken(w).fed, #taken(w).objects }, { true, 3 })
end

function TestPipeline.test_one_that_finds_no_place_in_time_starts_as_an_ordinary_one()
  local w <close> = new { jobs = 2, nodes = { EXTRACT, { name = "a" }, LOAD },
    script = { a = function() return { ok = true, after = 1000 } end } }
  w:go()
  lu.assertEquals(starts(w), { "0 start x", "0 start a", "400 start l" })
  lu.assertEquals({ taken(w).fed, w:states(w.run).l }, { false, "success" })
end

function TestPipeline.test_waiting_ahead_of_its_turn_is_no_waiting_for_a_place()
  local w <close> = new { jobs = 2, nodes = { EXTRACT, { name = "a" }, with(LOAD, { max_wait = 0.1 }) },
    script = { a = function() return { ok = true, after = 1000 } end } }
  w:go()
  lu.assertEquals(w:states(w.run).l, "success")
end

function TestPipeline.test_it_leaves_a_place_free_where_there_are_more_than_two()
  local nodes = { EXTRACT, { name = "a", after = { "g" } }, { name = "g" }, LOAD, with(LOAD, { name = "l2" }),
    with(LOAD, { name = "l3" }) }
  local w <close> = new { jobs = 4, nodes = nodes, script = { g = function() return { ok = true, after = 50 } end } }
  w.script.l2, w.script.l3 = w.script.l, w.script.l
  w:go()
  lu.assertEquals(starts(w), { "0 start x", "0 start g", "1 start l", "50 start a", "60 start l2", "400 start l3" })
  lu.assertEquals(w:states(w.run).l3, "success")
end

function TestPipeline.test_it_leaves_a_place_of_its_pool_free()
  local function play(limit)
    local w <close> = new { nodes = { EXTRACT, { name = "a" }, { name = "b", after = { "a" }, pool = "dw" },
      with(LOAD, { pool = "dw" }) }, pools = function() return limit end, extract = { objects = 20 },
      script = { a = function() return { ok = true, after = 300 } end } }
    w:go()
    lu.assertEquals(w:states(w.run), { x = "success", a = "success", b = "success", l = "success" })
    lu.assertEquals(w:decisions(w.run):find("is full", 1, true), nil)
    return table.concat(starts(w), ", ")
  end
  lu.assertEquals(play(1), "0 start x, 0 start a, 300 start b, 2100 start l")
  lu.assertEquals(play(2), "0 start x, 0 start a, 1 start l, 300 start b")
end

function TestPipeline.test_it_tries_a_pool_again_that_was_full()
  local w <close> = new { nodes = { EXTRACT, { name = "a", pool = "dw" }, with(LOAD, { pool = "dw" }) },
    pools = function() return 2 end, extract = { objects = 2, every = 1000 },
    script = { a = function() return { ok = true, after = 700 } end } }
  w:go()
  lu.assertEquals({ starts(w)[3], taken(w).fed }, { "1001 start l", true })
end

-- ---- the extract comes to nothing ----

function TestPipeline.test_an_extract_that_fails_at_its_end_leaves_nothing_published()
  local w <close> = new { extract = { play = fails() } }
  w:go()
  lu.assertEquals(w:states(w.run), { x = "failed", l = "skipped" })
  lu.assertEquals({ #taken(w).objects, taken(w).upstream, w.commits[w.run .. " l"] }, { 3, "failed" })
  lu.assertEquals(attempts(w, "l"), "canceled")
  lu.assertStrContains(w:decisions(w.run), "withdraw: nothing was published: attempt 1 of 'x' has not succeeded")
end

function TestPipeline.test_a_retried_extract_feeds_the_load_with_its_new_objects_alone()
  local w <close> = new { nodes = { with(EXTRACT, { retries = 1, retry_delay = 1 }), LOAD },
    extract = { play = once_bad } }
  w:go()
  lu.assertEquals(w:states(w.run), { x = "success", l = "success" })
  lu.assertEquals(taken(w).objects, { "x-2-000001", "x-2-000002", "x-2-000003" })
  lu.assertEquals({ taken(w).manifest, attempts(w, "l"), w.commits[w.run .. " l"] }, { "m2/3", "canceled success", 1 })
end

function TestPipeline.test_a_withdrawn_attempt_uses_up_no_retry()
  local w <close> = new { nodes = { with(EXTRACT, { retries = 3, retry_delay = 1 }), with(LOAD, { retries = 1,
    retry_delay = 1 }) }, extract = { play = function(job) return job.attempt < 4 and fails() or {} end },
    load = { play = function(job) return job.attempt == 4 and with(fails(), { fails_after = 20 }) or {} end } }
  w:go()
  lu.assertEquals(w:states(w.run), { x = "success", l = "success" })
  lu.assertEquals(attempts(w, "l"), "canceled canceled canceled failed success")
end

function TestPipeline.test_an_extract_that_dies_is_told_as_any_failure()
  local w <close> = new { extract = { play = { ok = false, signal = "SIGSEGV" } } }
  w:go()
  lu.assertEquals(w:states(w.run), { x = "failed", l = "skipped" })
end

function TestPipeline.test_a_failure_that_is_allowed_makes_the_edge_an_ordinary_one()
  local w <close> = new { nodes = { with(EXTRACT, { allow_failure = true }), LOAD }, extract = { play = fails() } }
  w:go()
  lu.assertEquals(w:states(w.run), { x = "failed", l = "success" })
  lu.assertEquals({ attempts(w, "l"), taken(w).fed }, { "canceled success", false })
end

function TestPipeline.test_a_load_that_withdraws_by_itself_starts_again_as_an_ordinary_one()
  local w <close> = new { load = { play = function(job)
    return job.feed and { fails_after = 600, wait = { kind = "upstream" } } or {}
  end } }
  w:go()
  lu.assertEquals({ w:states(w.run).l, attempts(w, "l"), taken(w).fed }, { "success", "canceled success", false })
  lu.assertStrContains(w:decisions(w.run), "attempt 1 of 'x' made other objects than those that were taken")
  local again <close> = new { load = { play = function(job) -- while the extract still runs: not fed by this attempt again
    return job.feed and { fails_after = 20, wait = { kind = "upstream" } } or {}
  end } }
  again:go()
  lu.assertEquals({ attempts(again, "l"), starts(again)[3] }, { "canceled success", "400 start l" })
end

function TestPipeline.test_a_node_that_is_not_fed_may_not_wait_for_its_upstream()
  local w <close> = new { nodes = { { name = "l" } }, load = { play = { wait = { kind = "upstream" } } } }
  w:go()
  lu.assertEquals(w:states(w.run), { l = "failed" })
end

-- ---- the load comes to nothing ----

function TestPipeline.test_a_load_that_fails_first_fails_as_ever_and_the_extract_goes_on()
  for policy, state in pairs { complete_running = "success", stop = "canceled", continue = "success" } do
    local w <close> = new { on_error = policy, load = { play = with(fails(), { fails_after = 120 }) } }
    w:go()
    lu.assertEquals(w:states(w.run), { x = state, l = "failed" }, policy)
  end
end

function TestPipeline.test_a_retried_load_takes_all_objects_from_the_first()
  local w <close> = new { nodes = { EXTRACT, with(LOAD, { retries = 1, retry_delay = 0.1 }) },
    load = { play = function(job) return job.attempt == 1 and with(fails(), { fails_after = 120 }) or {} end } }
  w:go()
  lu.assertEquals(attempts(w, "l"), "failed success")
  lu.assertEquals({ taken(w).fed, taken(w).objects }, { true, { "x-1-000001", "x-1-000002", "x-1-000003" } })
end

function TestPipeline.test_a_retry_that_comes_when_the_extract_is_between_attempts_waits_for_it()
  local w <close> = new { nodes = { with(EXTRACT, { retries = 1, retry_delay = 5 }), with(LOAD, { retries = 1,
    retry_delay = 1 }) }, extract = { play = once_bad },
    load = { play = function(job) return job.attempt == 1 and with(fails(), { fails_after = 120 }) or {} end } }
  w:go()
  lu.assertEquals(w:states(w.run), { x = "success", l = "success" })
  lu.assertEquals({ attempts(w, "l"), starts(w)[4] }, { "failed success", "5401 start l" })
end

function TestPipeline.test_a_retry_of_a_load_whose_extract_failed_for_good_is_skipped()
  local w <close> = new { on_error = "continue", nodes = { EXTRACT, with(LOAD, { retries = 1, retry_delay = 100 }) },
    extract = { play = fails() }, load = { play = with(fails(), { fails_after = 120 }) } }
  w:go()
  lu.assertEquals(w:states(w.run), { x = "failed", l = "skipped" })
  lu.assertTrue(w.now < 1000)
end

function TestPipeline.test_its_timeout_counts_from_the_success_of_the_extract()
  local w <close> = new { nodes = { EXTRACT, with(LOAD, { timeout = 0.1 }) }, extract = { objects = 20 } }
  w:go()
  lu.assertEquals(w:states(w.run), { x = "success", l = "success" })
  local again <close> = new { nodes = { EXTRACT, with(LOAD, { timeout = 0.1 }) }, load = { play = { after = 500 } } }
  again:go()
  lu.assertEquals(again:states(again.run), { x = "success", l = "failed" })
  lu.assertEquals(again.store:attempts(again.run, "l")[1].error.kind, "timeout")
  lu.assertStrContains(table.concat(again.log, "\n"), "500 cancel l")
end

-- ---- users and runners ----

function TestPipeline.test_a_stop_cancels_both()
  local w <close> = new { kind = "serve", extract = { objects = 50 } }
  w:go(250)
  w.store:request(w.run, "stop")
  w:go(5000)
  lu.assertEquals(w:states(w.run), { x = "canceled", l = "canceled" })
  lu.assertNil(w.commits[w.run .. " l"])
end

function TestPipeline.test_a_pause_lets_both_finish()
  local w <close> = new { extract = { objects = 20 }, nodes = { EXTRACT, LOAD, { name = "z", after = { "l" } } } }
  w:go(250)
  w.store:request(w.run, "pause")
  w:go(9000)
  lu.assertEquals(w:states(w.run), { x = "success", l = "success", z = "waiting" })
  lu.assertEquals(w.store:run(w.run).state, "paused")
end

function TestPipeline.test_a_pause_starts_no_load_ahead_of_its_turn()
  local w <close> = new { nodes = { EXTRACT, { name = "ddl" }, with(LOAD, { after = { "x", "ddl" } }) },
    extract = { objects = 50 }, script = { ddl = function() return { ok = true, after = 2500 } end } }
  w:go(250)
  w.store:request(w.run, "pause")
  w:go(9000)
  lu.assertEquals(w:states(w.run), { x = "success", ddl = "success", l = "waiting" })
  w.store:request(w.run, "resume")
  w:go()
  lu.assertEquals(w:states(w.run).l, "success")
end

function TestPipeline.test_a_runner_that_dies_takes_both_with_it_and_the_next_begins_with_the_extract()
  local w <close> = new { world = { on_file = true }, kind = "serve", nodes = { EXTRACT, with(LOAD, { retries = 0 }) } }
  w:go(250)
  w.host:die()
  w:runner { jobs = 4 }
  w:go(100000, function() return w.store:run(w.run).ended_at end)
  lu.assertEquals(w:states(w.run), { x = "success", l = "success" })
  lu.assertEquals({ attempts(w, "x"), attempts(w, "l") }, { "lost success", "lost success" })
  lu.assertEquals(taken(w).objects, { "x-2-000001", "x-2-000002", "x-2-000003" })
end

function TestPipeline.test_a_runner_that_dies_behind_the_manifest_leaves_an_ordinary_load()
  local w <close> = new { world = { on_file = true }, kind = "serve", load = { play = { after = 5000 } } }
  w:go(1000)
  w.host:die()
  w:runner { jobs = 4 }
  w:go(100000, function() return w.store:run(w.run).ended_at end)
  lu.assertEquals({ attempts(w, "x"), attempts(w, "l"), taken(w).fed }, { "success", "lost success", false })
end

function TestPipeline.test_a_withdrawn_load_is_taken_over_as_one_that_waits()
  local w <close> = new { world = { on_file = true }, kind = "serve",
    nodes = { with(EXTRACT, { retries = 1, retry_delay = 50 }), LOAD }, extract = { play = once_bad } }
  w:go(2000)
  lu.assertEquals(w:states(w.run), { x = "retrying", l = "waiting" })
  w.host:die()
  w:runner { jobs = 4 }
  w:go(200000, function() return w.store:run(w.run).ended_at end)
  lu.assertEquals({ attempts(w, "x"), attempts(w, "l") }, { "failed success", "canceled success" })
end

function TestPipeline.test_a_runner_that_leaves_now_gives_both_back()
  local w <close> = new { world = { on_file = true }, kind = "serve", extract = { objects = 50 } }
  w:go(250)
  w.host.runner:drain "now"
  w:runner { jobs = 4 }
  w:go(200000, function() return w.store:run(w.run).ended_at end)
  lu.assertEquals(w:states(w.run), { x = "success", l = "success" })
  lu.assertEquals(w.commits[w.run .. " l"], 1)
end

function TestPipeline.test_a_store_out_of_reach_delays_and_loses_nothing()
  local w <close> = new { world = { on_file = true }, kind = "serve", extract = { objects = 40 } }
  w:go(450)
  w.host:cut(3000)
  w:go(100000, function() return w.store:run(w.run).ended_at end)
  lu.assertEquals(#taken(w).objects, 40)
  lu.assertEquals(w.commits[w.run .. " l"], 1)
end

-- ---- reports that are not as they should be ----

function TestPipeline.test_malformed_reports_of_objects_are_refused()
  local good = world.object({ node = "x", attempt = 1 }, 1)
  local answers = {}
  local bad = { {}, { objects = 1 }, { objects = { 1 } }, { objects = { with(good, { n = 2 }) } },
    { objects = { with(good, { key = 7 }) } }, { objects = { with(good, { rows = -1 }) } },
    { objects = { with(good, { span = "s" }) } }, { objects = { good, good } } }
  local says = { { 1, { t = "announce", ack = 50 } }, { 1, { t = "feed", ack = 51, after = 0 } },
    { 1, { t = "earlier", ack = 52, last = { attempt = "x" } } } }
  for i, one in ipairs(bad) do says[#says + 1] = { 2, with(one, { t = "sealed", ack = 60 + i }) } end
  says[#says + 1] = { 3, { t = "sealed", ack = 99, objects = { good } } }
  local w <close> = new { nodes = { EXTRACT } }
  w.script.x = function()
    return { ok = true, after = 50, says = says, hears = function(_, answer) answers[answer.ack] = answer end }
  end
  w:go()
  for ack in pairs { [50] = 1, [51] = 1, [52] = 1, [61] = 1, [68] = 1 } do
    lu.assertEquals(answers[ack].refused, "it is malformed", tostring(ack))
  end
  for i = 1, #bad do lu.assertNotNil(answers[60 + i].refused, tostring(i)) end
  lu.assertEquals(answers[99], { ack = 99 })
end

function TestPipeline.test_only_extracts_have_objects()
  local answer
  local w <close> = new { nodes = { { name = "a" } }, script = { a = function()
    return { ok = true, after = 50, says = { { 1, { t = "sealed", ack = 1, objects = {} } } },
      hears = function(_, heard) answer = heard end }
  end } }
  w:go()
  lu.assertEquals(answer, { ack = 1, refused = "it is malformed" })
end

function TestPipeline.test_a_later_attempt_is_told_what_earlier_ones_have_sealed()
  local pages = {}
  local w <close> = new { nodes = { with(EXTRACT, { retries = 1, retry_delay = 1 }) }, extract = { play = once_bad } }
  local play = w.script.x
  w.script.x = function(job)
    local how = play(job)
    if job.attempt == 2 then
      table.insert(how.says, { 5, { t = "earlier", ack = 1, limit = 2 } })
      table.insert(how.says, { 6, { t = "earlier", ack = 2, limit = 2, last = { attempt = 1, n = 2 } } })
      how.hears = function(_, answer) pages[answer.ack] = answer.objects or pages[answer.ack] end
    end
    return how
  end
  w:go()
  lu.assertEquals({ #pages[1], pages[1][2].key, pages[1][1].attempt, #pages[2], pages[2][1].n },
    { 2, "x-1-000002", 1, 1, 3 })
end

os.exit(lu.LuaUnit.run())
