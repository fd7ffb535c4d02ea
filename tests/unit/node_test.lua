--- One attempt of a node in its process: what it is given, and what it reports.

local attempt = require "tests.support.attempt"
local desk = require "tests.support.desk"
local lu = require "luaunit"

local d

TestNode = {}

function TestNode.setUp() d = desk.new "node" end
function TestNode.tearDown() d:close() end

local function run(body, job, common)
  d:flow("f.lua", body)
  local given = { run_id = "r", node = "n", attempt = 1 }
  for key, value in pairs(job or {}) do given[key] = value end
  local one <close> = attempt.of(d, "f.lua", common):start(given)
  return one:finish(), one
end

local WORDS = [[flow.lua "n" { after = "u", run = function(ctx)
  print(ctx.run_id, ctx.attempt, ctx.vars.bizdate, ctx.timezone, ctx.vars.x, ctx.upstream.u.x, ctx.vars["u.status"])
end }, flow.lua "u" { outputs = "x", run = function() end }, vars = { zone = "${timezone}" },]]

function TestNode.test_a_job_tells_run_time_zone_and_what_is_upstream()
  local result, one = run(WORDS, { run_id = "r7", attempt = 3, scheduled = 1772402400, timezone = "Asia/Shanghai", -- 22:00 UTC
    upstream = { u = { x = 5 } }, status = { u = { state = "success" } } })
  lu.assertTrue(result.ok, one.printed)
  lu.assertStrContains(one.printed, "r7\t3\t2026-03-01\tAsia/Shanghai\t5\t5\tsuccess")
  result, one = run(WORDS, { scheduled = 1772402400, timezone = "UTC", upstream = { u = { x = 5 } } })
  lu.assertTrue(result.ok, one.printed)
  lu.assertStrContains(one.printed, "2026-02-28\tUTC") -- the run's zone, whatever the project now says
end

function TestNode.test_what_was_set_for_the_run_counts()
  local body = [[flow.lua "n" { vars = { v = "own" }, run = function(ctx) print("v=" .. ctx.vars.v) end },]]
  lu.assertStrContains(select(2, run(body)).printed, "v=own")
  lu.assertStrContains(select(2, run(body, { set = { v = "given" } })).printed, "v=given")
end

function TestNode.test_the_runners_project_is_used_where_it_names_one()
  d:write("tidemill.lua", "return { connections = { wrong = { file = \"wrong\" } } }")
  local project = d:write("elsewhere/tidemill.lua", "return { connections = { right = { file = \"right\" } } }")
  d:write("elsewhere/right/x", "")
  local body = [[flow.lua "n" { run = function(ctx) print(ctx:store("right"):url()) end },]]
  local result = run(body)
  lu.assertStrContains(result.error.message, "unknown connection 'right'")
  local found, one = run(body, nil, { project = project })
  lu.assertTrue(found.ok, found.error and found.error.message)
  lu.assertStrContains(one.printed, "elsewhere/right")
end

function TestNode.test_a_false_when_skips_and_a_closed_gate_says_why()
  local result = run [[flow.shell "n" { when = "${bizdate} < 2000-01-01", command = "exit 1" },]]
  lu.assertEquals({ result.ok, result.closed }, { true })
  lu.assertStrContains(result.skip, "'when' does not hold: ${bizdate} < 2000-01-01")
  local gate
  result, gate = run [[flow.branch "n" { condition = "${bizdate} < 2000-01-01" },]]
  lu.assertStrContains(result.closed, "is false")
  lu.assertEquals(gate.outputs, { result = "false" })
end

function TestNode.test_a_subflow_asks_for_its_run()
  d:write("child.lua", 'local flow = require "flow" return flow "child" { params = { p = "" }, flow.shell "a" { command = "true" } }')
  local result = run([[flow.subflow "n" { file = "child.lua", set = { p = "${bizdate}" } },]], { scheduled = 1772402400.5 })
  lu.assertEquals(result.wait, { kind = "run", file = "child.lua", set = { p = "2026-02-28" }, scheduled_ms = 1772402400500 })
end

function TestNode.test_a_probe_keeps_the_deadline_of_the_first_look()
  d:project()
  local store = d.dir .. "/lake"
  d:write("tidemill.lua", ("return { connections = { lake = { file = %q } } }"):format(store))
  d:write("lake/x", "")
  local body = [[flow.wait_for "n" { object = "lake:never", every = "7s", timeout = "1m" },]]
  local result = run(body)
  lu.assertEquals({ result.wait.kind, result.wait.every }, { "probe", 7 })
  local left = result.wait.deadline_ms - require "tidemill.signal".wall()
  lu.assertTrue(left > 40000 and left <= 60000, left)
  lu.assertEquals(run(body, { waiting = { deadline_ms = 12345 } }).wait.deadline_ms, 12345)
end

function TestNode.test_a_flow_is_awaited_in_the_runs_zone()
  local result = run([[flow.wait_for "n" { flow = "other", node = "x", at = "day", fail_fast = true },]],
    { scheduled = 1772402400, timezone = "Asia/Shanghai" })
  lu.assertEquals({ result.wait.from_ms, result.wait.to_ms }, { 1772380800000, 1772467199999 })
  lu.assertEquals({ result.wait.flow, result.wait.node, result.wait.fail_fast, result.wait.every }, { "other", "x", true, 30 })
  result = run [[flow.wait_for "n" { previous = true },]]
  lu.assertEquals({ result.wait.previous, result.wait.flow, result.wait.from_ms }, { true, "f" })
end

function TestNode.test_an_output_that_nobody_gave_is_told()
  local result = run([[flow.lua "u" { outputs = "x", run = function() end },
    flow.shell "n" { after = "u", command = "echo ${x}" },]], { upstream = { u = {} } })
  lu.assertStrContains(result.error.message, "no node before 'n' gave the output 'x'")
end

function TestNode.test_texts_of_any_size_are_cut_before_they_are_reported()
  local result, one = run [[flow.lua "n" { run = function(ctx)
    ctx:log("info", ("\u{e9}"):rep(70000))
    ctx:output("fits", ("x"):rep(1 << 20))
    error("a" .. ("\u{e9}"):rep(70000))
  end },]]
  lu.assertEquals({ #one.logs[1], #one.logs[2], #one.logs[3] }, { 65536, 65536, 140000 - 2 * 65536 })
  lu.assertEquals(#one.outputs.fits, 1 << 20)
  local kept, more = result.error.message:match "^(.*)%.%.%. %((%d+) bytes more%)$"
  lu.assertTrue(utf8.len(kept) ~= nil and #kept <= 65536 and #kept > 65000)
  lu.assertTrue(tonumber(more) > 140000 - 65536)
end

function TestNode.test_an_output_that_is_too_large_is_an_error_not_lost()
  local result, one = run [[flow.lua "n" { run = function() return { v = ("x"):rep((1 << 20) + 1) } end },]]
  lu.assertEquals({ result.ok, result.error.message }, { false, "output 'v' is larger than 1048576 bytes" })
  lu.assertNil(one.outputs.v)
  result = run [[flow.lua "n" { run = function() return { v = 1 / 0 } end },]]
  lu.assertEquals(result.error.message, "output 'v' is inf: a finite number wanted")
end

function TestNode.test_an_output_that_no_store_can_hold_is_an_error_without_our_line()
  local result = run [[flow.lua "n" { run = function(ctx) ctx:output("v", "a\0b") end },]]
  lu.assertEquals(result.error.message, "output 'v': text in UTF-8 without zero bytes wanted")
end

function TestNode.test_secrets_of_connections_that_are_not_used_are_scrubbed_too()
  d:write("tidemill.lua", 'return { connections = { db = { postgres = "postgres://u:hunter2@h/d" } } }')
  local result, one = run [[flow.lua "n" { run = function(ctx)
    ctx:log("info", "it is hunter2")
    error("no, it is hunter2")
  end },]]
  lu.assertEquals(one.logs[1], "it is ***")
  lu.assertNotStrContains(result.error.message, "hunter2")
end

os.exit(lu.LuaUnit.run())
