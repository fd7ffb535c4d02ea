--- tidemill.variables and tidemill.plan: what ${name} becomes.

local check = require "tidemill.check"
local desk = require "tests.support.desk"
local lu = require "luaunit"
local plan = require "tidemill.plan"
local time = require "time"
local variables = require "tidemill.variables"

TestReferences = {}

function TestReferences.test_names_literals_and_malformed_ones_are_found()
  for text, wanted in pairs {
    [""] = "",
    ["no $ here { }"] = "",
    ["${a}"] = "a@1",
    ["x${6_month_ago}y${a.b}"] = "6_month_ago@2 a.b@17",
    ["$${a}"] = "",
    ["$${a}${b}"] = "b@6",
    ["${a b}"] = "!${a b}@1",
    ["${"] = "!${@1",
    ["${a\n}"] = "!${a@1",
    ["${}"] = "!${}@1",
    ["$a $$ {b}"] = "",
  } do
    local found = {}
    for i, r in ipairs(variables.references(text)) do found[i] = (r.name or "!" .. r.fault) .. "@" .. r.at end
    lu.assertEquals(table.concat(found, " "), wanted, text)
  end
end

function TestReferences.test_replacement_is_textual_and_happens_once()
  local values = { a = "1", b = "${a}", c = "%1 $", ["2"] = "two" }
  for text, wanted in pairs {
    ["'${a}'"] = "'1'",
    ["${a}${a}"] = "11",
    ["${b}"] = "${a}",
    ["${c}"] = "%1 $",
    ["${2}"] = "two",
    ["$${a} costs ${a}"] = "${a} costs 1",
    ["${unknown} ${a}"] = "${unknown} 1",
    ["$tag$ ${a} $tag$"] = "$tag$ 1 $tag$",
  } do
    lu.assertEquals(variables.expand(text, function(name) return values[name] end), wanted)
  end
end

TestPlan = {}

function TestPlan.setUp()
  TestPlan.desk = desk.new "variables"
  TestPlan.desk:project()
end
function TestPlan.tearDown() TestPlan.desk:close() end

local AT = time.parse("2024-03-16 09:05:07", "Asia/Shanghai")

-- The plan of a flow around `body`, in Shanghai, for 2024-03-16 09:05:07.
local function plan_of(body, more)
  local path = TestPlan.desk:flow("p.lua", 'schedule = { timezone = "Asia/Shanghai" },\n' .. body)
  local model = check.flow(path)
  local opts = { scheduled = AT, run_id = "r1" }
  for key, value in pairs(more or {}) do opts[key] = value end
  return plan.make(model, opts), model
end

local function sql_of(text, settings)
  return plan_of(('%s flow.sql "n" { on = "rds", sql = %q, %s },'):format(settings and settings.flow or "", text,
    settings and settings.node or "")).nodes[1].spec.sql
end

function TestPlan.test_the_base_is_the_scheduled_time_minus_a_day_in_the_zone()
  for text, wanted in pairs {
    ["${bizdate}"] = "2024-03-15",
    ["${biztime}"] = "2024-03-15 09:05:07",
    ["${scheduled_date} ${scheduled_time}"] = "2024-03-16 2024-03-16 09:05:07",
    ["${timezone} ${flow_name}/${node_name}/${run_id}"] = "Asia/Shanghai f/n/r1",
  } do
    lu.assertEquals(sql_of(text), wanted)
  end
end

function TestPlan.test_time_variables_take_formats_and_offsets()
  for declared, wanted in pairs {
    ['flow.time "yyyyMMdd"'] = "20240315",
    ['flow.time("yyyyMMdd", "+1d")'] = "20240316",
    ['flow.time("yyyyMMdd", "-1M", "+1d")'] = "20240216",
    ['flow.time("yyyyMMdd", { "-1M", "+1d" })'] = "20240216",
    ['flow.time "yyyy-MM-dd|+0m+0h-2d+0w+0M+1y"'] = "2025-03-13",
    ['flow.time "yyyyMM01"'] = "20240301",
    ['flow.time "z"'] = "UTC+08:00",
    ['"fixed"'] = "fixed",
    ["12"] = "12",
  } do
    lu.assertEquals(sql_of("${v}", { node = ("vars = { v = %s }"):format(declared) }), wanted, declared)
  end
end

function TestPlan.test_node_beats_flow_beats_constant_beats_system()
  local flow_vars, constants = 'vars = { v = "flow" },', 'constants = { v = "constant", bizdate = "mine" },'
  lu.assertEquals(sql_of("${v}", { flow = flow_vars .. constants, node = 'vars = { v = "node" }' }), "node")
  lu.assertEquals(sql_of("${v}", { flow = flow_vars .. constants }), "flow")
  lu.assertEquals(sql_of("${v}", { flow = constants }), "constant")
  lu.assertEquals(sql_of("${bizdate}", { flow = constants }), "mine")
end

function TestPlan.test_a_clash_is_warned_of()
  local _, model = plan_of 'vars = { v = "x" }, flow.sql "n" { on = "rds", sql = "${v}", vars = { v = "y" } },'
  lu.assertEquals(#model.warnings, 1)
  lu.assertStrContains(model.warnings[1].message, "variable 'v' of node 'n' is defined by the node and by the flow's vars")
end

function TestPlan.test_definitions_may_refer_to_others()
  lu.assertEquals(sql_of("${path}", { flow = 'vars = { day = flow.time "yyyyMMdd" },',
    node = 'vars = { path = "rds/${day}/${node_name}" }' }), "rds/20240315/n")
end

function TestPlan.test_every_text_of_a_node_is_filled_in()
  local made = plan_of [[
    vars = { d = "D" },
    flow.sql "list" { on = "rds", sql = { "one ${d}", "two ${d}" } },
    flow.extract "e" { from = "rds", table = "t_${d}", to = "lake:p/${d}/" },
    flow.load "l" { from = "lake:p/${d}/", on = "adbpg", into = "s.t_${d}", columns = { a = "a_${d}" } },]]
  lu.assertEquals(made.by_name.list.spec.sql, { "one D", "two D" })
  lu.assertEquals(made.by_name.e.spec.table, "t_D")
  lu.assertEquals(made.by_name.e.spec.to, "lake:p/D/")
  lu.assertEquals(made.by_name.l.spec.into, "s.t_D")
  lu.assertEquals(made.by_name.l.spec.columns, { a = "a_D" })
end

function TestPlan.test_outputs_wait_for_their_node()
  local body = [[
    flow.lua "find" { run = function() end, outputs = { "max" } },
    flow.extract "e" { from = "rds", table = "t", to = "lake:p/" },
    flow.sql "use" { on = "rds", after = { "find", "e" }, sql = "${max} ${find.max} ${e.rows} $${x}" },]]
  local made, model = plan_of(body)
  lu.assertEquals(made.by_name.use.pending, { "max", "find.max", "e.rows" })
  local outputs = { find = { max = "7" }, e = { rows = "1000" } }
  local node = plan.node(model, "use", { scheduled = AT, outputs = outputs })
  lu.assertEquals(node.spec.sql, "7 7 1000 ${x}")
  lu.assertEquals(node.pending, {})
end

function TestPlan.test_a_lua_node_gets_all_its_variables()
  local made = plan_of 'vars = { d = "D" }, flow.lua "n" { run = function() end, vars = { e = "E${d}" } },'
  local vars = made.nodes[1].vars
  lu.assertEquals({ vars.d, vars.e, vars.bizdate }, { "D", "ED", "2024-03-15" })
end

function TestPlan.test_the_same_time_gives_the_same_plan()
  local body = 'flow.sql "b" { on = "rds", sql = "${bizdate}" }, flow.sql "a" { on = "rds", sql = "x", after = "b" },'
  lu.assertEquals((plan_of(body)).nodes, (plan_of(body)).nodes)
end

function TestPlan.test_the_command_prints_text_and_json()
  local d = TestPlan.desk
  d:flow("p.lua", 'vars = { day = flow.time "yyyyMMdd" }, flow.sql "n" { on = "rds", sql = "SELECT ${day}" },')
  local r = d:run("plan", "p.lua", "--at", "2026-01-02 03:04:05")
  lu.assertEquals(r.code, 0, r.all)
  for _, part in ipairs { "flow         f", "n (sql on rds)", "${day} = 20260101  (flow)", "SELECT 20260101" } do
    lu.assertStrContains(r.out, part)
  end
  local made = require("json").decode(d:run("plan", "p.lua", "--at", "2026-01-02", "--json").out)
  lu.assertEquals(made.nodes[1].spec.sql, "SELECT 20260101")
  lu.assertEquals(made.nodes[1].variables[1], { name = "day", value = "20260101", from = "flow" })
  r = d:run("plan", "p.lua", "--at", "yesterday")
  lu.assertEquals(r.code, 2)
  lu.assertStrContains(r.err, "--at does not understand 'yesterday'")
end

os.exit(lu.LuaUnit.run())
