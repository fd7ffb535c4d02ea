-- takes: 28
--- The commands on published flows and runs beside a live serve.

local json = require "json"
local lu = require "luaunit"
local proc = require "proc"
local yard = require "tests.support.yard"

local y, serve

TestBesideServe = {}

function TestBesideServe.setUp()
  y = yard.new "operations-serve"
  serve = y:spawn("serve", "--listen", "none", "--jobs", "4", "--drain", "0s")
  yard.eventually(function()
    local store <close> = y:store()
    return #store:servers() == 1
  end, "serve is up")
end

function TestBesideServe.tearDown()
  serve:kill "TERM"
  local status = serve:wait(60)
  local log = serve:read(2, 0) or ""
  serve:close()
  y:close()
  lu.assertEquals(status and status.code, 0, log)
end

local EACH_SECOND = 'schedule = { cron = "* * * * * ?", timezone = "Asia/Shanghai" }, concurrency = "parallel",'

local function publish(settings, body)
  y:flow { settings = settings, nodes = ('flow.lua "n" { run = function(ctx) %s end },'):format(body or "") }
  return y:ok("publish", "f.lua")
end

local function runs(filter)
  local store <close> = y:store()
  return store:runs(filter)
end

function TestBesideServe.test_what_is_triggered_is_run_by_it_and_can_be_waited_for()
  publish(nil, 'print "hello"')
  local id = y:ok("trigger", "yard"):match "run (%S+) is queued for serve on "
  yard.eventually(function() return runs()[1].state == "success" end, "it ran")
  lu.assertStrContains(y:ok("logs", id, "-f"), "hello")
  local out, r = y:ok("trigger", "yard", "--wait")
  lu.assertStrContains(out, "flow 'yard': success")
  lu.assertStrContains(r.err, "n: success")
  publish(nil, 'if io.open "fail" then error "told to fail" end')
  y:write("fail", "")
  y:fails(1, "told to fail", "trigger", "yard", "--wait")
  os.remove(y.dir .. "/fail")
  lu.assertStrContains(y:ok("restore", "last", "--wait"), "success")
  lu.assertStrContains(y:ok("rerun", "last", "--wait"), "success")
  local last
  for line in y:ok("rerun", "last", "--wait", "--json"):gmatch "[^\n]+" do last = json.decode(line) end
  lu.assertEquals({ last.event, last.state }, { "end", "success" })
end

function TestBesideServe.test_its_runs_are_stopped_paused_and_resumed()
  y:flow { nodes = [[
    flow.lua "n" { run = function() while not io.open "go on" do require "proc".poll({}, 0.05) end end },
    flow.lua "m" { after = "n", run = function() end }, ]] }
  y:ok("publish", "f.lua")
  y:ok("trigger", "yard")
  yard.eventually(function() return y:states().n == "running" end, "it runs")
  lu.assertStrContains(y:ok("stop", "last", "--wait"), "is canceled")
  lu.assertEquals(y:states(), { n = "canceled", m = "skipped" })
  y:ok("restore", "last")
  yard.eventually(function() return y:states().n == "running" end, "it runs again")
  y:ok("pause", "last")
  proc.poll({}, 3) -- its runner looks every second
  y:write("go on", "")
  yard.eventually(function() return runs()[1].state == "paused" end, "it is paused")
  lu.assertEquals(y:states(), { n = "success", m = "waiting" })
  y:ok("resume", "last")
  yard.eventually(function() return runs()[1].state == "success" end, "it goes on")
end

function TestBesideServe.test_a_backfill_runs_jobs_at_once_and_every_date_once()
  publish('vars = { day = flow.time "yyyyMMdd" },',
    [[print("day " .. ctx.vars.day) require "proc".poll({}, 0.3)]])
  local out = y:ok("backfill", "yard", "--from", "2026-01-01", "--to", "2026-01-06", "--jobs", "3", "--wait")
  lu.assertStrContains(out, "6 runs of flow 'yard'")
  local days, most = {}, 0
  local list = runs { cause = "backfill" }
  for _, run in ipairs(list) do
    days[#days + 1] = y:ok("logs", run.id):match "day (%d+)"
    local beside = 0
    for _, other in ipairs(list) do
      if other.started_at <= run.started_at and other.ended_at > run.started_at then beside = beside + 1 end
    end
    most = math.max(most, beside)
  end
  table.sort(days)
  lu.assertEquals(days, { "20260101", "20260102", "20260103", "20260104", "20260105", "20260106" })
  lu.assertTrue(most >= 2 and most <= 3, most)
end

function TestBesideServe.test_a_backfill_is_stopped_as_a_whole()
  publish(nil, 'require "proc".poll({}, 60)')
  local tree = y:json("backfill", "yard", "--from", "2026-01-01", "--to", "2026-01-05", "--json")
  yard.eventually(function() return #runs { state = "running" } == 1 end, "the first one runs")
  local out = y:ok("stop", tree.backfill)
  lu.assertStrContains(out, "4 runs stopped before the start, 1 run to be cancelled")
  yard.eventually(function() return #runs { state = "canceled" } == 5 end, "all of them end")
  lu.assertStrContains(y:ok("stop", tree.backfill:sub(-6)), "0 runs")
end

function TestBesideServe.test_a_dry_trigger_lets_the_flows_behind_it_go_on()
  publish()
  y:flow { name = "behind", file = "behind.lua", settings = 'schedule = { after = { "yard" } },',
    nodes = 'flow.lua "n" { run = function(ctx) print("after " .. ctx.scheduled) end },' }
  y:ok("publish", "behind.lua")
  y:ok("trigger", "yard", "--dry")
  yard.eventually(function() return #runs { flow = "behind", cause = "event", state = "success" } == 1 end, "it fires")
  y:ok("trigger", "yard", "--wait")
  yard.eventually(function() return #runs { flow = "behind", cause = "event", state = "success" } == 2 end, "it fires")
  lu.assertStrContains(y:ok("why", "behind"), "firing times, newest first")
end

function TestBesideServe.test_the_live_version_is_what_fires()
  publish(EACH_SECOND, 'print "one"')
  yard.eventually(function() return #runs { cause = "schedule", state = "success" } >= 2 end, "it fires")
  publish(EACH_SECOND, 'print "two"')
  yard.eventually(function()
    local last = runs { cause = "schedule", state = "success", limit = 1 }[1]
    return last.version_no == 2 and y:ok("logs", last.id):find "two"
  end, "version 2 fires")
  y:ok("rollback", "yard")
  yard.eventually(function() return runs { state = "success", limit = 1 }[1].version_no == 1 end, "version 1 fires")
  y:ok("unpublish", "yard")
  yard.eventually(function() return #runs { active = true } == 0 end, "what began ends")
  local count = #runs { limit = 1000 }
  proc.poll({}, 2.5)
  lu.assertEquals(#runs { limit = 1000 }, count)
end

function TestBesideServe.test_firing_times_of_a_pause_are_skipped_with_the_reason()
  publish(EACH_SECOND)
  yard.eventually(function() return #runs { cause = "schedule" } >= 1 end, "it fires")
  y:ok("pause", "yard", "--reason", "busy day")
  yard.eventually(function()
    local store <close> = y:store()
    return #store:slots { flow = "yard", state = "skipped", limit = 1 } > 0
  end, "one is skipped")
  local count = #runs { limit = 1000 }
  proc.poll({}, 2.2)
  lu.assertEquals(#runs { limit = 1000 }, count)
  y:ok("resume", "yard")
  yard.eventually(function() return #runs { limit = 1000 } > count end, "it fires again")
  y:ok("unpublish", "yard")
  local store <close> = y:store()
  local skipped = store:slots { flow = "yard", state = "skipped", limit = 1000 }
  local slots = 0
  for _, slot in ipairs(skipped) do slots = slots + slot.slot_count end
  lu.assertTrue(slots >= 2, slots)
  lu.assertStrContains(skipped[1].reason, "busy day")
  local text = require "time".format(skipped[1].slot_at / 1000, "yyyy-MM-dd HH:mm:ss", "Asia/Shanghai")
  lu.assertStrContains(y:ok("why", "yard", text), "skipped")
end

os.exit(lu.LuaUnit.run())
