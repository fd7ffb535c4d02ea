--- The commands on published flows and runs, on SQLite: publish, flows, versions, diff, rollback, unpublish,
--- pause, resume, trigger, backfill, restore, rerun, mark, stop, why, runs, logs, gc.

local json = require "json"
local lu = require "luaunit"
local proc = require "proc"
local yard = require "tests.support.yard"

local y

TestOperations = {}

function TestOperations.setUp() y = yard.new "operations" end
function TestOperations.tearDown() y:close() end

local DAILY = 'schedule = { cron = "0 0 2 * * ?", timezone = "Asia/Shanghai" }, vars = { day = flow.time "yyyyMMdd" },'
local PRINTS = [[
  flow.lua "a" { outputs = { "x" }, run = function(ctx) print("day " .. ctx.vars.day) return { x = 41 } end },
  flow.lua "b" { after = "a", run = function(ctx)
    if io.open "fail" then error "told to fail" end
    print("x " .. ctx.upstream.a.x)
  end },
  flow.lua "c" { after = "b", run = function() print "version one" end },
]]

local function published(settings, nodes)
  y:flow { settings = settings or DAILY, nodes = nodes or PRINTS }
  return y:ok("publish", "f.lua")
end

local function lines_of(text)
  local list = {}
  for line in text:gmatch "[^\n]+" do list[#list + 1] = line end
  return list
end

-- A serve that is alive, as far as the store knows: this process, which claims nothing.
local function pretend_serve()
  local store <close> = y:store()
  return store:register_runner { kind = "serve", lease_ms = 600000, jobs = 4 }
end

-- ---- publish and versions ----

function TestOperations.test_publish_prints_the_next_five_firings_with_their_offset()
  local out = published()
  lu.assertStrContains(out, "published flow 'yard' as version 1\n")
  lu.assertStrContains(out, "schedule: cron '0 0 2 * * ?' in Asia/Shanghai\n")
  lu.assertEquals(select(2, out:gsub("\n  %d%d%d%d%-%d%d%-%d%d 02:00:00 %+08:00", "")), 5)
  local r = y:run("publish", "f.lua")
  lu.assertStrContains(r.out, "nothing changed, version 1 is live")
  lu.assertStrContains(r.err, "no live 'tidemill serve'")
end

function TestOperations.test_publish_tells_what_changed_node_by_node()
  published()
  y:flow { settings = DAILY:gsub("0 0 2", "0 30 3") .. 'concurrency = "queue", retries = nil,',
    nodes = PRINTS:gsub("version one", "version two"):gsub('after = "b"', 'after = "b", retries = 3')
      :gsub('flow.lua "a"', 'flow.lua "first"'):gsub('after = "a"', 'after = "first"'):gsub("upstream.a", "upstream.first") }
  local out = y:ok("publish", "f.lua", "-m", "later")
  for _, text in ipairs { "as version 2", "changes from version 1:", "~ schedule: cron '0 0 2 * * ?' in Asia/Shanghai -> "
    .. "cron '0 30 3 * * ?' in Asia/Shanghai", "~ concurrency: skip -> queue", "+ node 'first' (lua)",
    "- node 'a' (lua)", "~ node 'b' (lua): after a -> first", "~ node 'c' (lua): retries 0 -> 3; run\n", "03:30:00 +08:00" } do
    lu.assertStrContains(out, text)
  end
  local tree = y:json("publish", "f.lua", "--json")
  lu.assertEquals({ tree.changed, tree.version, #tree.next }, { false, 2, 5 })
end

function TestOperations.test_a_file_that_a_flow_requires_is_part_of_its_version()
  y:write("words.lua", 'return { word = "first" }')
  y:flow { nodes = 'flow.lua "n" { run = function() print(require "words".word) end },' }
  y:ok("publish", "f.lua")
  y:write("words.lua", 'return { word = "second" }')
  lu.assertStrContains(y:ok "flows", "1 (edited since)")
  y:ok("trigger", "yard")
  lu.assertStrContains(y:ok("logs", "last"), "first")
  lu.assertStrContains(y:ok("publish", "f.lua"), "~ file 'words'")
  y:ok("trigger", "yard")
  lu.assertStrContains(y:ok("logs", "last"), "second")
end

function TestOperations.test_an_invalid_flow_is_not_published()
  y:flow { nodes = 'flow.lua "n" { after = "m", run = function() end },' }
  y:fails(2, "which does not exist", "publish", "f.lua")
  y:fails(2, "missing.lua", "publish", "missing.lua")
  lu.assertStrContains(y:run("flows").err, "no published flows")
  y:flow { file = "good.lua", name = "good", nodes = PRINTS, settings = DAILY }
  lu.assertStrContains(y:fails(1, "the flow of good.lua is not published", "trigger", "good.lua"),
    "tidemill publish good.lua")
  local out = y:fails(2, "which does not exist", "publish", "f.lua", "good.lua")
  lu.assertStrContains(out, "published flow 'good' as version 1")
end

function TestOperations.test_a_schedule_can_be_left_off()
  y:flow { settings = DAILY, nodes = PRINTS }
  local out = y:ok("publish", "f.lua", "--no-schedule")
  lu.assertStrContains(out, "not enabled")
  lu.assertNotStrContains(out, "next firings")
  lu.assertStrContains(y:ok "flows", " published ")
  lu.assertStrContains(y:ok("publish", "f.lua"), "as version 1")
  lu.assertStrContains(y:ok "flows", " scheduled ")
end

function TestOperations.test_flows_lists_version_state_next_firing_and_last_run()
  published()
  y:ok("trigger", "yard", "--at", "2026-03-02 02:00")
  local out = y:ok "flows"
  lu.assertStrMatches(out, ".*yard +1 +scheduled +%d+%-%d+%-%d+ 02:00:00 %+08:00 +2026%-03%-02 02:00:00 %+08:00 success.*")
  local one = y:json("flows", "--json")
  lu.assertEquals({ one.flow, one.version, one.state, one.last.state, one.files }, { "yard", 1, "scheduled", "success" })
  lu.assertEquals(one.next_at % 86400000, 18 * 3600000) -- 02:00 in Shanghai
  os.remove(y.dir .. "/f.lua")
  lu.assertStrContains(y:ok "flows", "1 (file gone)")
end

function TestOperations.test_diff_shows_nodes_and_lines()
  published()
  lu.assertStrContains(y:ok("diff", "yard"), "are the same")
  y:flow { settings = DAILY, nodes = PRINTS:gsub("version one", "version two") }
  local out = y:ok("diff", "yard")
  lu.assertStrContains(out, "~ node 'c' (lua): run")
  lu.assertStrContains(out, '-  flow.lua "c" { after = "b", run = function() print "version one" end },\n+  flow.lua "c"')
  lu.assertNotStrContains(y:ok("diff", "yard", "--brief"), "@@")
  y:ok("publish", "f.lua")
  lu.assertEquals(y:ok("diff", "yard", "1", "2"), y:ok("diff", "yard", "1"))
  lu.assertStrContains(y:ok("diff", "yard", "2", "1"), "version 2 -> version 1")
  lu.assertStrContains(y:json("diff", "yard", "1", "f.lua", "--json").diff, "version two")
  y:fails(1, "has no version 7", "diff", "yard", "7")
  y:fails(2, "neither a version nor a file", "diff", "yard", "nonsense")
end

function TestOperations.test_rollback_makes_an_earlier_version_live()
  published()
  published((DAILY:gsub("0 0 2", "0 0 5")))
  lu.assertStrContains(y:ok("rollback", "yard", "--reason", "too late"), "version 1 is live")
  lu.assertStrContains(y:ok "flows", "02:00:00 +08:00")
  lu.assertStrContains(y:ok "flows", "1 (edited since)")
  lu.assertStrContains(y:ok("rollback", "yard", "1"), "live already")
  local out = y:ok("versions", "yard")
  lu.assertStrMatches(out, ".*2 +%d%d%d%d%-.*1 +live .*")
  lu.assertStrContains(out, "rollback of version 1, by ")
  lu.assertStrContains(out, ": too late")
  local tree = y:json("versions", "yard", "--json")
  lu.assertEquals({ #tree.versions, tree.versions[2].live, #tree.history }, { 2, true, 3 })
  y:fails(2, "not the number of a version", "rollback", "yard", "one")
end

function TestOperations.test_an_unpublished_flow_is_not_run()
  published()
  lu.assertStrContains(y:ok("unpublish", "yard"), "is unpublished")
  lu.assertStrContains(y:ok("unpublish", "yard"), "is not published")
  lu.assertStrContains(y:fails(2, "flow 'yard' is not published", "trigger", "yard"), "hint: tidemill publish /")
  lu.assertStrContains(y:run("flows").err, "no published flows")
  lu.assertStrContains(y:ok("flows", "--all"), "unpublished")
  lu.assertStrContains(y:ok("rollback", "yard", "1"), "version 1 is live")
  lu.assertStrContains(y:ok "flows", "scheduled")
end

function TestOperations.test_a_flow_is_named_by_its_name_its_start_or_its_file()
  y:flow { name = "Import orders", file = "orders.lua", nodes = PRINTS, settings = DAILY }
  y:flow { name = "Import prices", file = "prices.lua", nodes = PRINTS, settings = DAILY }
  y:ok("publish", "orders.lua")
  y:ok("publish", "prices.lua")
  for _, word in ipairs { "Import prices", "import p", "prices.lua", "./prices.lua" } do
    lu.assertStrContains(y:ok("pause", word), "'Import prices' is paused")
    y:ok("resume", word)
  end
  y:fails(2, "'Import' fits several flows: 'Import orders', 'Import prices'", "versions", "Import")
  y:fails(1, "did you mean 'Import orders'?", "versions", "Import ordres")
  y:fails(1, "there is no flow or run 'nothing'", "why", "nothing")
end

-- ---- pauses ----

function TestOperations.test_a_flow_is_paused_and_resumed()
  published()
  lu.assertStrContains(y:ok("pause", "yard", "--reason", "busy day"), "is paused")
  lu.assertStrContains(y:ok("pause", "yard"), "is paused already, by ")
  lu.assertStrContains(y:ok "flows", " paused ")
  lu.assertStrContains(y:ok("why", "yard"), "busy day")
  lu.assertStrContains(y:ok("publish", "f.lua"), "the flow is paused")
  lu.assertStrContains(y:ok("resume", "yard"), "goes on")
  lu.assertStrContains(y:ok("resume", "yard"), "is not paused")
  lu.assertStrContains(y:ok("versions", "yard"), "pause, by ")
end

function TestOperations.test_all_flows_are_paused_before_a_busy_day()
  for i = 1, 3 do
    y:flow { name = "flow " .. i, file = i .. ".lua", settings = DAILY, nodes = PRINTS }
    y:ok("publish", i .. ".lua")
  end
  y:ok("pause", "flow 1", "flow 2", "--reason", "x")
  lu.assertEquals(#lines_of(y:ok("pause", "--all")), 1)
  lu.assertEquals(select(2, y:ok("flows"):gsub(" paused ", "")), 3)
  y:ok("unpublish", "flow 3")
  y:ok("resume", "--all")
  lu.assertEquals(select(2, y:ok("flows"):gsub(" paused ", "")), 0)
  lu.assertStrContains(y:ok("resume", "flow 3"), "is not paused") -- unpublished, it was as well
  y:fails(2, "name flows or runs, or give --all", "pause")
  y:fails(1, "there is no flow or run 'x'", "pause", "flow 3", "x")
  lu.assertEquals(select(2, y:ok("flows"):gsub(" paused ", "")), 0)
end

-- ---- running ----

function TestOperations.test_trigger_runs_what_is_published_with_its_business_time()
  published()
  y:flow { settings = DAILY, nodes = PRINTS:gsub("version one", "version two") }
  y:ok("trigger", "yard", "--at", "2026-03-01 02:00:00")
  local logs = y:ok("logs", "last")
  lu.assertStrContains(logs, "day 20260228")
  lu.assertStrContains(logs, "version one")
  local run = y:json("show", "last", "--json")
  lu.assertEquals({ run.cause, run.version_no, run.state, #run.nodes }, { "trigger", 1, "success", 3 })
  y:fails(2, "--at does not understand", "trigger", "yard", "--at", "soon")
  y:fails(2, "has no variable 'dya' to set", "trigger", "yard", "--set", "dya=1")
  y:ok("trigger", "yard", "--set", "day=19990101")
  lu.assertStrContains(y:ok("logs", "last"), "day 19990101")
end

function TestOperations.test_a_dry_trigger_records_a_success_and_runs_nothing()
  published()
  lu.assertStrContains(y:ok("trigger", "yard", "--dry", "--at", "2026-03-01"), "nothing was run")
  local run = y:json("show", "last", "--json")
  lu.assertEquals({ run.state, #run.attempts, run.nodes[1].state }, { "success", 0, "success" })
  lu.assertStrContains(run.message, "dry run by ")
end

function TestOperations.test_restore_runs_what_did_not_succeed_with_the_runs_own_version()
  published()
  y:write("fail", "")
  y:fails(1, "told to fail", "trigger", "yard", "--at", "2026-03-01 02:00:00")
  lu.assertEquals(y:states(), { a = "success", b = "failed", c = "skipped" })
  os.remove(y.dir .. "/fail")
  y:flow { settings = DAILY, nodes = PRINTS:gsub("version one", "version two") }
  y:ok("publish", "f.lua")
  y:ok("restore", "last", "--reason", "mended")
  lu.assertEquals(y:states(), { a = "success", b = "success", c = "success" })
  local run = y:json("show", "last", "--json")
  lu.assertEquals({ #run.attempts, run.version_no, run.nodes[1].attempts, run.nodes[2].attempts }, { 4, 1, 1, 2 })
  local logs = y:ok("logs", "last")
  lu.assertStrContains(logs, "x 41")
  lu.assertStrContains(logs, "version one")
  lu.assertStrContains(y:ok("why", "last"), "mended")
  y:fails(1, "nothing to restore", "restore", "last")
end

function TestOperations.test_restore_may_go_on_with_another_version()
  published()
  y:write("fail", "")
  y:fails(1, "told to fail", "trigger", "yard", "--at", "2026-03-01 02:00:00")
  y:flow { settings = DAILY, nodes = PRINTS:gsub('if io.open "fail"', "if false"):gsub('flow.lua "c"', 'flow.lua "d"')
    .. 'flow.lua "e" { after = "a", run = function() print "new here" end },' }
  y:ok("publish", "f.lua")
  y:ok("restore", "last", "--version", "latest")
  lu.assertEquals(y:states(), { a = "success", b = "success", d = "success", e = "success" })
  local run = y:json("show", "last", "--json")
  lu.assertEquals({ run.version_no, run.nodes[1].attempts, run.nodes[2].attempts }, { 2, 1, 2 })
  lu.assertStrContains(y:ok("logs", "last"), "new here")
  lu.assertStrContains(y:ok("why", "last"), "version 2 instead of 1, without 'c'")
  lu.assertStrContains(y:fails(1, "nothing to restore", "restore", "last"), "tidemill rerun")
end

function TestOperations.test_some_of_the_nodes_may_be_run()
  published(DAILY, [[
    flow.lua "a" { run = function() end }, flow.lua "b" { after = "a", run = function() end },
    flow.lua "c" { after = "b", run = function() end }, flow.lua "x" { run = function() end },]])
  y:ok("trigger", "yard", "--from-node", "b")
  lu.assertEquals(y:states(), { b = "success", c = "success" })
  y:ok("trigger", "yard", "--only", "x", "--only", "a")
  lu.assertEquals(y:states(), { a = "success", x = "success" })
  y:ok("backfill", "yard", "--from", "2026-01-01", "--to", "2026-01-01", "--without", "b")
  lu.assertEquals(y:states(), { a = "success", c = "success", x = "success" })
  y:ok("rerun", "last")
  lu.assertEquals(y:states(), { a = "success", c = "success", x = "success" })
  y:ok("run", "f.lua", "--from-node", "b", "--without", "c")
  lu.assertEquals(y:states(), { b = "success" })
  y:fails(2, "has no node 'bb'", "trigger", "yard", "--without", "bb")
  y:fails(2, "no node of the flow is left", "run", "f.lua", "--from-node", "c", "--without", "c")
end

function TestOperations.test_rerun_is_a_new_run_of_the_same_business_time_and_version()
  published()
  y:ok("trigger", "yard", "--at", "2026-03-01 02:00:00", "--set", "day=kept")
  local first = y:json("show", "last", "--json")
  y:flow { settings = DAILY, nodes = PRINTS:gsub("version one", "version two") }
  y:ok("publish", "f.lua")
  y:ok("rerun", first.id)
  local second = y:json("show", "last", "--json")
  lu.assertEquals({ second.cause, second.of_run, second.version_no, second.scheduled_at, second.business_at },
    { "rerun", first.id, 1, first.scheduled_at, first.business_at })
  lu.assertStrContains(y:ok("logs", second.id), "day kept")
  y:ok("rerun", first.id, "--version", "latest", "--set", "day=other")
  local logs = y:ok("logs", "last")
  lu.assertStrContains(logs, "version two")
  lu.assertStrContains(logs, "day other")
  y:fails(1, "has no version 9", "rerun", first.id, "--version", "9")
end

function TestOperations.test_rerun_from_a_node_takes_over_what_is_before_it()
  published()
  y:ok("trigger", "yard")
  y:ok("rerun", "last", "--from", "b")
  local run = y:json("show", "last", "--json")
  lu.assertEquals({ run.nodes[1].state, run.nodes[1].attempts, run.nodes[2].attempts, run.nodes[3].attempts },
    { "success", 0, 1, 1 })
  lu.assertEquals(run.outputs.a.x, 41)
  lu.assertStrContains(y:ok("logs", "last"), "x 41")
  y:fails(2, "has no node 'bb'", "rerun", "last", "--from", "bb")
end

function TestOperations.test_a_trial_run_can_be_restored_and_repeated_as_it_was()
  y:flow { settings = DAILY, nodes = PRINTS }
  y:write("fail", "")
  lu.assertEquals(y:run("run", "f.lua", "--only", "b").code, 1)
  os.remove(y.dir .. "/fail")
  y:flow { settings = DAILY, nodes = 'flow.lua "else" { run = function() end },' }
  y:flow { settings = DAILY, nodes = PRINTS:gsub("told to fail", "x"):gsub("ctx.upstream.a.x", "'text'"),
    file = "other.lua" }
  lu.assertEquals(y:run("restore", "last").code, 1) -- b alone has no upstream outputs: it fails as before
  lu.assertEquals(y:states(), { b = "failed" })
  y:run("rerun", "last")
  lu.assertEquals(y:states(), { b = "failed" })
end

function TestOperations.test_mark_gives_a_run_another_end()
  published()
  y:write("fail", "")
  y:fails(1, "told to fail", "trigger", "yard")
  lu.assertStrContains(y:ok("mark", "last", "success", "--reason", "loaded by hand"), "success, was failed")
  lu.assertStrContains(y:ok("show", "last"), "loaded by hand")
  lu.assertStrContains(y:ok("mark", "last", "success"), "already")
  y:fails(2, "not 'succes'", "mark", "last", "succes")
  y:fails(1, "there is no run 'zzz'", "mark", "zzz", "failed")
end

-- ---- backfill ----

function TestOperations.test_backfill_runs_every_business_date_of_the_range()
  published()
  local out = y:ok("backfill", "yard", "--from", "2026-02-27", "--to", "2026-03-01")
  lu.assertStrContains(out, "3 runs of flow 'yard' version 1, business dates 2026-02-27 to 2026-03-01 (Asia/Shanghai)")
  lu.assertStrContains(out, "1  business 2026-02-27 02:00:00 +08:00  scheduled 2026-02-28 02:00:00 +08:00")
  local days = {}
  for _, line in ipairs(lines_of(y:ok("runs", "--cause", "backfill", "--json"))) do
    local run = json.decode(line)
    lu.assertEquals(run.state, "success")
    table.insert(days, 1, y:ok("logs", run.id, "a"):match "day (%d+)")
  end
  lu.assertEquals(days, { "20260227", "20260228", "20260301" })
end

function TestOperations.test_only_missing_leaves_out_what_is_done()
  published()
  y:ok("backfill", "yard", "--from", "2026-01-02", "--to", "2026-01-02")
  local tree = y:json("backfill", "yard", "--from", "2026-01-01", "--to", "2026-01-03", "--only-missing", "--order",
    "desc", "--dry-run", "--json")
  lu.assertEquals({ #tree.runs, tree.left_out }, { 2, 1 })
  lu.assertTrue(tree.runs[1].business_at > tree.runs[2].business_at)
  lu.assertStrContains(y:ok("backfill", "yard", "--from", "2026-01-02", "--to", "2026-01-02", "--only-missing"), "0 runs")
  lu.assertEquals(#lines_of(y:ok("runs", "--json")), 1) -- a dry run makes none
end

function TestOperations.test_a_failure_in_a_backfill_does_not_stop_the_rest()
  published(DAILY, [[flow.lua "n" { run = function(ctx)
    if ctx.vars.day == "20260102" then error "not this day" end
  end },]])
  y:fails(1, "not this day", "backfill", "f.lua", "--from", "2026-01-01", "--to", "2026-01-03")
  local states = {}
  for _, line in ipairs(lines_of(y:ok("runs", "--json"))) do table.insert(states, 1, json.decode(line).state) end
  lu.assertEquals(states, { "success", "failed", "success" })
end

function TestOperations.test_an_interrupted_backfill_stops_what_has_not_begun()
  published(DAILY, 'flow.lua "n" { run = function() require "proc".poll({}, 60) end },')
  local child <close> = y:spawn("backfill", "yard", "--from", "2026-01-01", "--to", "2026-01-03")
  yard.eventually(function()
    local store <close> = y:store()
    return #store:runs { state = "running" } == 1
  end, "the first one runs")
  child:kill "INT"
  lu.assertEquals(child:wait(60).code, 130)
  local store <close> = y:store()
  lu.assertEquals(#store:runs { state = "canceled" }, 3)
end

function TestOperations.test_backfill_wants_dates_that_it_understands()
  published()
  y:fails(2, "--from and --to are needed", "backfill", "yard", "--from", "2026-01-01")
  y:fails(2, "--to does not understand '2026-02-30'", "backfill", "yard", "--from", "2026-01-01", "--to", "2026-02-30")
  y:fails(2, "is after --to", "backfill", "yard", "--from", "2026-01-02", "--to", "2026-01-01")
  y:fails(2, "did you mean 'desc'", "backfill", "yard", "--from", "2026-01-02", "--to", "2026-01-01", "--order", "decs")
end

-- ---- with a serve ----

function TestOperations.test_runs_are_queued_for_a_live_serve()
  published()
  pretend_serve()
  local out = y:ok("trigger", "yard")
  local id = out:match "run (%S+) is queued for serve on "
  lu.assertNotNil(id, out)
  lu.assertStrContains(out, "tidemill logs " .. id .. " -f")
  lu.assertEquals(y:json("trigger", "yard", "--json").state, "queued")
  out = y:ok("why", "last")
  lu.assertStrContains(out, ("run %s (trigger, scheduled "):format(id))
  lu.assertStrContains(out, 'goes first; concurrency is "skip"')
  lu.assertStrContains(y:ok("why", id), "a runner to claim it")
  lu.assertStrContains(y:ok("pause", id, "--reason", "month end"), "is paused")
  lu.assertStrContains(y:ok("stop", id, "--reason", "not now"), "is canceled")
  local why = y:ok("why", id)
  lu.assertStrMatches(why, ".*pause: asked by %S+@%S+: month end\n.*")
  lu.assertStrMatches(why, ".*stop: asked by %S+@%S+: not now\n.*")
end

function TestOperations.test_here_runs_in_the_terminal_although_a_serve_lives()
  published()
  pretend_serve()
  lu.assertStrContains(y:ok("trigger", "yard", "--here"), "success")
  lu.assertStrContains(y:ok("rerun", "last", "--here"), "success")
end

function TestOperations.test_a_backfill_is_queued_for_a_serve_behind_what_is_scheduled()
  published()
  pretend_serve()
  local tree = y:json("backfill", "yard", "--from", "2026-01-01", "--to", "2026-01-04", "--jobs", "2", "--json")
  lu.assertEquals(#tree.runs, 4)
  local store <close> = y:store()
  local b = store:backfill(tree.backfill)
  lu.assertEquals({ b.jobs, b.total, b.waiting }, { 2, 4, 4 })
  for i, id in ipairs(tree.runs) do
    local run = store:run(id)
    lu.assertEquals({ run.backfill_position, run.priority, run.concurrency }, { i, 1, "parallel" })
  end
  lu.assertEquals(#store:claim_runs { runner = store:register_runner { kind = "serve", lease_ms = 15000 }, limit = 9 }, 2)
  lu.assertStrContains(y:ok("why", tree.runs[4]), "3 runs of backfill " .. tree.backfill
    .. " go first; it runs at most 2 at once, 0 of 4 have ended")
  lu.assertEquals(#lines_of(y:ok("runs", "--backfill", tree.backfill, "--json")), 4)
  lu.assertEquals(#lines_of(y:ok("runs", "--backfill", tree.backfill:sub(-6), "--json")), 4)
  y:fails(1, "there is no run '%'", "stop", "%")
end

-- ---- looking ----

function TestOperations.test_why_tells_what_became_of_a_firing_time()
  published()
  local slot = y:json("flows", "--json").next_at
  local store <close> = y:store()
  store.db:exec([[INSERT INTO slots (flow, schedule, slot_at, first_at, slot_count, state, reason, created_at)
    VALUES ('yard', 'main', ?, ?, 3, 'missed', 'nobody was there', 1)]], slot - 86400000, slot - 3 * 86400000)
  local function at(ms) return require "time".format(ms / 1000, "yyyy-MM-dd HH:mm:ss", "Asia/Shanghai") end
  local out = y:ok("why", "yard", at(slot - 2 * 86400000))
  lu.assertStrContains(out, "missed (one of 3 from ")
  lu.assertStrContains(out, "nobody was there")
  lu.assertStrContains(y:ok("why", "yard", at(slot)), "it is still to come")
  lu.assertStrContains(y:ok("why", "yard", at(slot + 1000)), "that is no firing time")
  lu.assertEquals(y:json("why", "yard", at(slot - 86400000), "--json").state, "missed")
  out = y:ok("why", "yard")
  lu.assertStrContains(out, "no live 'tidemill serve' on this store")
  lu.assertStrContains(out, "nobody was there")
  y:fails(2, "does not understand", "why", "yard", "later")
end

function TestOperations.test_runs_are_filtered()
  published()
  y:ok("trigger", "yard", "--at", "2026-03-01 02:00")
  y:ok("trigger", "yard", "--at", "2026-03-02 02:00")
  y:ok("run", "f.lua", "--at", "2026-03-02 02:00")
  local function count(...) return #lines_of(y:ok("runs", "--json", ...)) end
  lu.assertEquals({ count(), count("--cause", "trigger"), count("--business-date", "2026-03-01"),
    count("--business-date", "2026-02-28"), count("--business-date", "2026-03-02"), count("--since", "1h"),
    count("--until", "1h"), count("--since", "2020-01-01"), count("--until", "2020-01-01 00:00"), count("--flow", "ya"),
    count("--limit", "1"), count("--active") }, { 3, 2, 2, 1, 0, 3, 0, 3, 0, 3, 1, 0 })
  y:fails(1, "no run of a flow 'yart', and no published flow of that name\nhint: did you mean 'yard'?", "runs", "--flow",
    "yart")
  y:fails(1, "there is no backfill '%'", "runs", "--backfill", "%")
  y:fails(2, "--since does not understand", "runs", "--since", "whenever")
  local sum = y:json("runs", "--summary", "--json")
  lu.assertEquals({ sum.flow, sum.runs, sum.success, sum.failed }, { "yard", 3, 3, 0 })
  lu.assertTrue(sum.shortest_ms <= sum.median_ms and sum.median_ms <= sum.longest_ms)
  lu.assertStrMatches(y:ok("runs", "--summary"), "FLOW.*yard +3 +3 +0 .*")
  lu.assertStrContains(y:ok "runs", "2026-03-02 02:00:00 +08:00")
end

local SLOW = [[flow.lua "n" { run = function()
  for i = 1, 600 do
    print("line " .. i)
    io.stdout:flush()
    if io.open "go on" then break end
    require "proc".poll({}, 0.1)
  end
  print "the end"
end },
flow.lua "m" { after = "n", run = function() print "after it" end },]]

local function start_slow()
  y:flow { settings = DAILY, nodes = SLOW }
  local child = y:spawn("run", "f.lua")
  yard.eventually(function()
    local store <close> = y:store()
    local run = store:runs { limit = 1 }[1]
    return run and #store:logs(run.id) > 2
  end, "it logs")
  return child
end

function TestOperations.test_logs_follow_a_run_to_its_end()
  local child <close> = start_slow()
  local follower <close> = y:spawn("logs", "last", "-f")
  local text = ""
  yard.eventually(function()
    text = text .. (follower:read(1, 0.1) or "")
    return text:find "line 4"
  end, "lines come")
  y:write("go on", "")
  yard.eventually(function()
    local more = follower:read(1, 0.1)
    text = text .. (more or "")
    return more == nil
  end, "it ends")
  lu.assertEquals(follower:wait(60).code, 0)
  lu.assertEquals(child:wait(60).code, 0)
  lu.assertStrMatches(text, "%d%d:%d%d:%d%d%.%d%d%d n: line 1\n.*n: the end\n.*m: after it\n")
  local _, count = text:gsub("line 1\n", "")
  lu.assertEquals(count, 1)
  lu.assertEquals(y:ok("logs", "last", "--tail", "1"):match "m: (.*)\n", "after it")
  lu.assertEquals(y:ok("logs", "last", "n", "--tail", "0"), "")
  lu.assertEquals(json.decode(y:ok("logs", "last", "m", "--json")).line, "after it")
end

function TestOperations.test_times_of_logs_are_in_the_flows_zone()
  y:flow { settings = 'schedule = { timezone = "Pacific/Kiritimati" },', nodes = 'flow.lua "n" { run = function() print "x" end },' }
  local _, live = y:ok("run", "f.lua")
  local shown = y:ok("logs", "last"):match "^(%d+:%d+)"
  lu.assertStrContains(live.err, shown)
  local at = json.decode(y:ok("logs", "last", "--json")).at
  lu.assertEquals(shown, require "time".format(at // 1000, "HH:mm", "Pacific/Kiritimati"))
end

function TestOperations.test_a_run_is_stopped_from_elsewhere()
  local child <close> = start_slow()
  y:fails(1, "has not ended", "rerun", "last")
  y:fails(1, "stop it first", "mark", "last", "success")
  lu.assertStrContains(y:ok("stop", "last", "--wait"), "is canceled")
  lu.assertEquals(child:wait(60).code, 130)
  lu.assertEquals(y:states(), { n = "canceled", m = "skipped" })
  y:fails(1, "has ended: canceled", "stop", "last")
end

function TestOperations.test_a_run_whose_runner_died_is_stopped_and_restored()
  local child <close> = start_slow()
  child:kill "KILL"
  child:wait(60)
  lu.assertStrContains(y:ok("stop", "last"), "is canceled")
  lu.assertEquals(y:states(), { n = "canceled", m = "skipped" })
  lu.assertStrContains(y:ok("show", "last"), "its runner was gone")
  y:write("go on", "")
  y:ok("restore", "last")
  lu.assertEquals(y:states(), { n = "success", m = "success" })
end

function TestOperations.test_a_paused_run_starts_nothing_new_until_it_is_resumed()
  local child <close> = start_slow()
  lu.assertStrContains(y:ok("pause", "last"), "what runs goes on to its end, nothing new starts")
  lu.assertStrContains(y:ok("why", "last"), "it is asked to pause")
  proc.poll({}, 3) -- its runner looks every second
  y:write("go on", "")
  yard.eventually(function()
    local store <close> = y:store()
    return store:find_run "last".state == "paused"
  end, "it is paused")
  lu.assertEquals(y:states(), { n = "success", m = "waiting" })
  lu.assertStrContains(y:ok("why", "last"), "it is paused")
  y:ok("resume", "last")
  lu.assertEquals(child:wait(60).code, 0)
  lu.assertEquals(y:states(), { n = "success", m = "success" })
end

function TestOperations.test_a_folder_without_runs_and_project_is_told_of_and_left_as_it_is()
  assert(os.remove(y.dir .. "/tidemill.lua"))
  for _, command in ipairs { "runs", "flows", "gc" } do y:fails(2, "there is no tidemill.lua in this folder", command) end
  y:fails(2, "there is no tidemill.lua in this folder", "show", "last")
  lu.assertNil(io.open(y.dir .. "/.tidemill/state.db"))
  y:flow { nodes = "flow.shell 'n' { command = 'true' }," }
  y:ok("run", "f.lua")
  lu.assertStrContains(y:ok "runs", "yard")
end

function TestOperations.test_gc_forgets_what_is_old()
  published()
  y:ok("trigger", "yard")
  lu.assertStrContains(y:ok("gc", "--keep", "0s", "--dry-run"), "would remove: 1 run")
  lu.assertStrContains(y:ok("gc"), "removed: nothing")
  lu.assertEquals(y:json("gc", "--keep", "0s", "--json").runs, 1)
  lu.assertStrContains(y:run("runs").err, "no runs")
  lu.assertStrContains(y:ok "flows", "scheduled")
  y:fails(2, "--keep does not understand", "gc", "--keep", "forever")
end

os.exit(lu.LuaUnit.run())
