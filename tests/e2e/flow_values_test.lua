--- Values through a run: params, outputs, states, conditions, subflows; without any database.

local desk = require "tests.support.desk"
local json = require "json"
local lu = require "luaunit"

local d

TestValues = {}

function TestValues.setUp()
  d = desk.new "values"
  d:write("tidemill.lua", "return {}")
end
function TestValues.tearDown() d:close() end

-- Runs the flow; its exit code, the last state of each node, and the lines that nodes logged.
local function run(body, ...)
  d:flow("f.lua", body)
  local r = d:run("run", "f.lua", "--json", ...)
  local states, lines = {}, {}
  for line in r.out:gmatch "[^\n]+" do
    local event = json.decode(line)
    if event.event == "node" then states[event.node] = event.state end
    if event.node and event.message then lines[#lines + 1] = event.node .. ": " .. event.message end
    if event.event == "log" then lines[#lines + 1] = event.node .. ": " .. event.line end
  end
  table.sort(lines)
  return r.code, states, lines, r
end

local function assert_has(lines, wanted)
  for _, line in ipairs(lines) do
    if line == wanted then return end
  end
  lu.fail(("no '%s' in:\n%s"):format(wanted, table.concat(lines, "\n")))
end

function TestValues.test_params_and_what_was_set_reach_every_node()
  local body = [[params = { region = "eu", day = { default = flow.time "yyyyMMdd" } }, vars = { v = "v-${region}" },
    flow.shell "s" { command = { "echo", "${region} ${day} ${v}" } },
    flow.lua "l" { run = function(ctx) ctx:log("info", "%s %s", ctx.vars.region, ctx.vars.v) end },]]
  local code, _, lines = run(body, "--at", "2026-01-02")
  lu.assertEquals({ code, lines }, { 0, { "l: eu v-eu", "s: eu 20260101 v-eu" } })
  code, _, lines = run(body, "--at", "2026-01-02", "--set", "region=us; rm", "--set", "v=${region}")
  lu.assertEquals({ code, lines }, { 0, { "l: us; rm ${region}", "s: us; rm 20260101 ${region}" } })
end

function TestValues.test_a_branch_opens_one_of_two_ways()
  local body = [[params = { n = 1 },
    flow.shell "count" { command = "echo '{\"rows\": \"${n}\"}'", outputs = "rows" },
    flow.branch "many" { after = "count", condition = "${rows} > 10 and ${count.exit_code} = 0" },
    flow.branch "few" { after = "count", condition = "not ${rows} > 10" },
    flow.shell "big" { after = "many", command = "true" },
    flow.shell "small" { after = "few", command = "true" },
    flow.shell "join" { after = { "big", "small" }, trigger = "all_done", command = "echo '${big.status} ${small.status}'",
      when = "${big.status} or ${small.status}" },]]
  local code, states, lines = run(body)
  lu.assertEquals({ code, states.big, states.small, states.join }, { 0, "skipped", "success", "success" })
  assert_has(lines, "join: skipped success")
  assert_has(lines, "many: ${rows} > 10: 1 > 10 is false")
  code, states, lines = run(body, "--set", "n=11")
  lu.assertEquals({ code, states.big, states.small, states.join }, { 0, "success", "skipped", "success" })
  assert_has(lines, "many: ${rows} > 10 and ${count.exit_code} = 0: 11 > 10 and 0 = 0 is true")
end

function TestValues.test_a_node_acts_on_what_became_of_others()
  local code, states, lines = run [[on_error = "continue",
    flow.shell "the bad one" { command = "exit 7" },
    flow.shell "tolerated" { command = "exit 8", allow_failure = true },
    flow.shell "behind" { after = "tolerated", command = "true" },
    flow.shell "never" { after = "the bad one", command = "true" },
    flow.shell "handler" { after = { "the bad one", "tolerated" }, trigger = "one_failed",
      command = "echo '${the bad one.status}: ${the bad one.error}'" },
    flow.shell "calm" { after = "the bad one", trigger = "all_done", when = "${the bad one.status}", command = "true" },]]
  lu.assertEquals({ code, states }, { 1, { ["the bad one"] = "failed", tolerated = "failed", behind = "success",
    never = "skipped", handler = "success", calm = "skipped" } })
  assert_has(lines, "handler: failed: the command ended with exit code 7")
  assert_has(lines, "calm: 'when' does not hold: ${the bad one.status}: 'failed' is false")
end

function TestValues.test_a_node_that_is_not_over_has_not_succeeded()
  local code, states, lines = run [[
    flow.shell "slow" { timeout = "30s", command = "touch begun; while [ ! -e over ]; do sleep 0.02; done" },
    flow.shell "quick" { timeout = "30s", command = "while [ ! -e begun ]; do sleep 0.02; done" },
    flow.shell "first" { after = { "quick", "slow" }, trigger = "one_success", when = "${quick.status} and not ${slow.status}",
      command = "touch over; echo 'slow is ${slow.status}'" },]]
  lu.assertEquals({ code, states }, { 0, { slow = "success", quick = "success", first = "success" } })
  assert_has(lines, "first: slow is running")
end

function TestValues.test_a_failure_that_is_allowed_is_no_failure_of_the_run()
  local code, states = run 'flow.shell "a" { command = "false", allow_failure = true }, flow.shell "b" { after = "a", command = "true" },'
  lu.assertEquals({ code, states }, { 0, { a = "failed", b = "success" } })
  for _, out in ipairs { d:run("run", "f.lua").out, d:run("show", "last").out } do
    lu.assertStrMatches(out, ".*\na +failed %(allowed%) .*\nnode 'a' failed, as it may\n.*")
  end
end

function TestValues.test_a_file_subflow_takes_values_and_hands_them_on()
  d:write("part/sub.lua", [[return require "flow" "sub" { params = { region = {}, day = { default = require "flow".time "yyyyMMdd" } },
    require "flow".lua "make" { outputs = "made", run = function(ctx)
      return { made = require "helper".join(ctx.vars.region, ctx.vars.day) }
    end } }]])
  d:write("part/helper.lua", 'return { join = function(a, b) return a .. "/" .. b end }')
  local code, states, lines = run([[params = { region = "eu" },
    flow.shell "s" { command = "echo '{\"x\": \"${region}-1\"}'", outputs = "x" },
    flow.subflow "sub" { after = "s", file = "part/sub.lua", set = { region = "${x}" } },
    flow.shell "use" { after = "sub", command = "echo '${sub.made} ${sub.status}'; test -n '${sub.run_id}'" },]], "--at", "2026-01-02")
  lu.assertEquals({ code, states.sub, states["sub / make"], states.use }, { 0, "success", "success", "success" })
  assert_has(lines, "use: eu-1/20260101 success")
  local shown = json.decode(d:run("runs", "--json").out:match "[^\n]+")
  lu.assertNotNil(shown)
end

function TestValues.test_a_subflow_that_cannot_be_set_like_that_fails_before_it_runs()
  d:write("sub.lua", [[return require "flow" "sub" { params = { n = { type = "integer" } },
    require "flow".shell "x" { command = "true" } }]])
  local body = [[params = { v = "7" },
    flow.shell "s" { command = "echo '{\"x\": \"${v}\"}'", outputs = "x" },
    flow.subflow "sub" { after = "s", file = "sub.lua", set = { n = "${x}" } },]]
  local code, states = run(body)
  lu.assertEquals({ code, states.sub }, { 0, "success" })
  local lines, r
  code, states, lines, r = run(body, "--set", "v=many")
  lu.assertEquals({ code, states.sub, states["sub / x"] }, { 1, "failed", nil }, table.concat(lines, "\n"))
  lu.assertStrContains(r.all, "param 'n' wants an integer, got 'many'")
end

function TestValues.test_values_of_nodes_upstream_never_become_code()
  local code, _, lines = run [[
    flow.shell "s" { command = "printf '%s\n' '{\"x\": \"$${bizdate} $${y} $$$${\"}'", outputs = "x" },
    flow.lua "l" { after = "s", run = function(ctx) ctx:log("info", "%s", ctx.vars.x) end },
    flow.shell "e" { after = "s", command = { "echo", "${x}" } },
    flow.branch "b" { after = "s", condition = "${x} like '$${bizdate}%'" },
    flow.shell "behind" { after = "b", command = "true" },]]
  lu.assertEquals(code, 0, table.concat(lines, "\n"))
  assert_has(lines, "e: ${bizdate} ${y} $$${")
  assert_has(lines, "l: ${bizdate} ${y} $$${")
end

function TestValues.test_an_output_that_nobody_gave_is_an_error_of_its_reader()
  local code, states, _, r = run [[on_error = "continue",
    flow.shell "a" { command = "false", outputs = "x" },
    flow.shell "b" { after = "a", trigger = "all_done", command = "echo ${x}" },
    flow.shell "c" { after = "a", trigger = "all_done", when = "${x} > 1", command = "true" },]]
  lu.assertEquals({ code, states.b, states.c }, { 1, "failed", "failed" })
  lu.assertStrContains(r.all, "no node before 'b' gave the output 'x'")
  lu.assertStrContains(r.all, "'${x}' has no value")
end

os.exit(lu.LuaUnit.run())
