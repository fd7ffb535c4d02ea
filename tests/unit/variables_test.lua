--- tidemill.variables and tidemill.plan: what ${name} becomes.

local check = require "tidemill.check"
local condition = require "tidemill.condition"
local desk = require "tests.support.desk"
local lu = require "luaunit"
local plan = require "tidemill.plan"
local references = require "tidemill.references"
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
    ["${orders to the lake.rows}"] = "orders to the lake.rows@1",
    ["${n-1.x} ${a b.c d}"] = "n-1.x@1 !${a b.c d}@10",
    ["${a $b.c}"] = "!${a $b.c}@1",
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

function TestReferences.test_a_template_keeps_what_has_no_value_and_never_looks_into_values()
  local function value_of(name) return ({ a = "${b}", c = "$", d = "x$" })[name] end
  local template = references.template("1 ${a} ${b} $${a} ${c}{b} ${d}${b}$", value_of)
  lu.assertEquals(references.render(template), "1 ${b} ${b} ${a} ${b} x$${b}$")
  lu.assertEquals(references.render(template, function(name) return "<" .. name .. ">" end), "1 ${b} <b> ${a} ${b} x$<b>$")
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

function TestPlan.test_names_may_be_chinese()
  local settings = { flow = 'locale = "zh",', node = 'vars = { v = flow.time "Gyyyy MMM E a" }' }
  lu.assertEquals(sql_of("${v}", settings), "公元2024 三月 星期五 上午")
  settings.flow = nil
  lu.assertEquals(sql_of("${v}", settings), "AD 2024 Mar Fri AM")
end

function TestPlan.test_node_beats_flow_beats_constant_beats_system()
  local flow_vars, constants = 'vars = { v = "flow" },', 'constants = { v = "constant", bizdate = "mine" },'
  lu.assertEquals(sql_of("${v}", { flow = flow_vars .. constants, node = 'vars = { v = "node" }' }), "node")
  lu.assertEquals(sql_of("${v}", { flow = flow_vars .. constants }), "flow")
  lu.assertEquals(sql_of("${v}", { flow = constants }), "constant")
  lu.assertEquals(sql_of("${bizdate}", { flow = constants }), "mine")
end

-- What ${v} is in the node n when these say so; `outputs` and `states` are of the node up.
local function value_of_v(where, more)
  local body = ([[%s flow.lua "up" { run = function() end, outputs = { %s } },
    flow.sql "n" { on = "rds", sql = "${v}", after = "up", %s },]]):format(where.flow or "", where.outputs or "",
    where.node or "")
  local path = TestPlan.desk:flow("p.lua", body)
  local model = check.flow(path)
  variables.set(model, where.set or {})
  local opts = { scheduled = AT, outputs = { up = { v = "output" } } }
  for key, value in pairs(more or {}) do opts[key] = value end
  return plan.node(model, "n", opts).spec.sql
end

function TestPlan.test_what_was_set_beats_node_beats_flow_beats_param_beats_constant_beats_output()
  local where = { outputs = '"v"', node = 'vars = { v = "node" },', set = { v = "set" },
    flow = 'vars = { v = "flow" }, params = { v = "param" }, constants = { v = "constant" },' }
  lu.assertEquals(value_of_v(where), "set")
  where.set = nil
  lu.assertEquals(value_of_v(where), "node")
  where.node = nil
  lu.assertEquals(value_of_v(where), "flow")
  where.flow = where.flow:gsub("^vars = %b{},", "")
  lu.assertEquals(value_of_v(where), "param")
  where.flow = where.flow:gsub("params = %b{},", "")
  lu.assertEquals(value_of_v(where), "constant")
  where.flow = nil
  lu.assertEquals(value_of_v(where), "output")
end

function TestPlan.test_params_and_what_was_set_are_data()
  lu.assertEquals(value_of_v { flow = 'params = { v = "${bizdate}" },' }, "${bizdate}")
  lu.assertEquals(value_of_v { flow = 'vars = { v = "x" },', set = { v = "${bizdate} $${" } }, "${bizdate} $${")
  lu.assertEquals(value_of_v { flow = 'params = { v = { default = flow.time("yyyyMMdd", "+1d") } },' }, "20240316")
  lu.assertEquals(value_of_v { flow = "params = { v = true }," }, "true")
end

function TestPlan.test_a_node_knows_what_became_of_those_upstream()
  local _, model = plan_of [[
    flow.sql "first" { on = "rds", sql = "x" },
    flow.sql "the second" { on = "rds", sql = "x", after = "first" },
    flow.sql "n" { on = "rds", after = "the second", trigger = "all_done",
      sql = "${first.status} '${the second.status}' ${the second.error}" },]]
  local node = plan.node(model, "n", { scheduled = AT, states = { first = { status = "success" },
    ["the second"] = { status = "failed", error = "no such table ${x}" } } })
  lu.assertEquals(node.spec.sql, "success 'failed' no such table ${x}")
  lu.assertEquals(node.pending, {})
  node = plan.node(model, "n", { scheduled = AT })
  lu.assertEquals(node.pending, { "first.status", "the second.status", "the second.error" })
  node = plan.node(model, "n", { scheduled = AT, states = { first = { status = "success" },
    ["the second"] = { status = "success" } } })
  lu.assertEquals(node.spec.sql, "success 'success' ")
end

function TestPlan.test_a_node_that_waits_for_another_flow_has_its_outputs()
  local _, model = plan_of [[
    flow.subflow "sub" { flow = "other" },
    flow.wait_for "w" { flow = "other" },
    flow.sql "n" { on = "rds", after = { "sub", "w" }, sql = "${sub.any.thing} ${w.x} ${w.run_id} ${w.status}" },]]
  local node = plan.node(model, "n", { scheduled = AT, outputs = { sub = { ["any.thing"] = "1" }, w = { x = "2", run_id = "r" } },
    states = { w = { status = "success" } } })
  lu.assertEquals(node.spec.sql, "1 2 r success")
end

function TestPlan.test_only_loop_variables_stay_open_in_the_sql_of_a_loop()
  local _, model = plan_of [[
    flow.assign "ids" { on = "rds", sql = "x", outputs = { ids = { row = "all" } } },
    flow.loop "n" { on = "rds", after = "ids", lists = { { list = "${ids}" }, { list = { "${bizdate}" }, name = "day" } },
      sql = { "INSERT '${loop.item}' ${loop.index} '${day}' '${ids}' $${x}", "${bizdate}" } },]]
  local node = plan.node(model, "n", { scheduled = AT, outputs = { ids = { ids = "a,${loop.item}" } } })
  lu.assertEquals(node.spec.lists[1].list, "a,${loop.item}")
  lu.assertEquals(node.spec.lists[2].list, { "2024-03-15" })
  lu.assertEquals(node.pending, {})
  local values = { ["loop.item"] = "i'", ["loop.index"] = "3", day = "d" }
  local texts = {}
  for i, template in ipairs(node.spec.template) do
    texts[i] = references.render(template, function(name) return values[name] end)
  end
  lu.assertEquals(texts, { "INSERT 'i'' 3 'd' 'a,${loop.item}' ${x}", "2024-03-15" })
end

function TestPlan.test_conditions_are_left_alone_and_their_variables_at_hand()
  local _, model = plan_of [[
    flow.assign "count" { on = "rds", sql = "x", outputs = { rows = 1 } },
    flow.branch "n" { after = "count", condition = "${rows} > 0", when = function(vars) return vars.rows == "5" end },]]
  local node = plan.node(model, "n", { scheduled = AT, outputs = { count = { rows = "5" } } })
  local holds, reason = condition.eval(node.spec.condition, node.value_of, node.vars)
  lu.assertEquals({ holds, reason }, { true, "${rows} > 0: 5 > 0 is true" })
  lu.assertTrue((condition.eval(node.when, node.value_of, node.vars)))
  node = plan.node(model, "n", { scheduled = AT })
  lu.assertEquals(node.pending, {}) -- an output that only a condition wants is missed when that is evaluated
  lu.assertFalse(pcall(condition.eval, node.spec.condition, node.value_of))
end

function TestPlan.test_what_may_be_set_is_named()
  local _, model = plan_of [[vars = { a = "1" }, params = { p = 1 }, constants = { c = 2 },
    flow.sql "n" { on = "rds", sql = "x", vars = { b = "1" } },]]
  lu.assertEquals(variables.settable(model), { "a", "b", "c" })
  for name, message in pairs { bizdate = "the flow has no variable 'bizdate' to set", aa = "the flow has no variable 'aa' to set" } do
    local ok, err = pcall(variables.set, model, { [name] = "x" })
    lu.assertFalse(ok)
    lu.assertEquals(err.message, message)
  end
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
