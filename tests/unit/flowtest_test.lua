--- flowtest and `tidemill test`: what a flow's author may ask, and what a failure says.

local flowtest = require "flowtest"
local json = require "json"
local lab = require "tests.support.lab"
local lu = require "luaunit"
local proc = require "proc"

local FLOW = [[
local flow = require "flow"
return flow "f" {
  schedule = { cron = "0 30 1 * * ?", timezone = "Asia/Shanghai" },
  on_error = "continue",
  vars = { day = flow.time "yyyy-MM-dd" },
  constants = { schema = "dw" },
  flow.extract "take" { from = "rds", table = "orders", to = "lake:o/${day}/", retries = 1, timeout = "10m",
    map = function(row) if row.id == "2" then return nil end row.name = row.name .. "!" return row end },
  flow.lua "count" { after = "take", outputs = { "rows" }, run = function(ctx)
    local conn <close> = ctx:postgres "adbpg"
    local tx <close> = conn:transaction()
    local n = conn:value("SELECT count(*) FROM ${schema}.t WHERE day = $1", ctx.vars.day)
    for row in conn:rows "SELECT name FROM t" do ctx:log("info", "%s", row.name) end
    ctx:progress { rows = n }
    tx:commit()
    return { rows = n }
  end },
  flow.branch "any" { after = "count", condition = "${rows} > 0" },
  flow.sql "sum" { after = "any", on = "adbpg", sql = { "DELETE FROM ${schema}.s", "INSERT INTO s VALUES (${rows})" } },
  flow.sql "alarm" { after = "take", trigger = "one_failed", on = "adbpg", sql = "SELECT '${take.status}'" },
  flow.sql "monday" { on = "adbpg", vars = { weekday = flow.time "e" }, when = "${weekday} = 1", sql = "SELECT 1" },
} ]]

local function flow() return flowtest.flow("f.lua", FLOW) end

TestFlowtest = {}

function TestFlowtest.test_variables_and_sql_are_those_of_the_given_time()
  local at = flow():at("2026-03-01 01:30:00", { outputs = { count = { rows = 5 } } })
  local vars = at:vars "sum"
  lu.assertEquals({ vars.day, vars.schema, vars.rows, vars.scheduled_time },
    { "2026-02-28", "dw", "5", "2026-03-01 01:30:00" })
  lu.assertEquals(at:sql "sum", "DELETE FROM dw.s;\nINSERT INTO s VALUES (5);")
  lu.assertEquals(at:sql "take", "SELECT * FROM orders")
  lu.assertEquals({ at:spec "take".to, at:spec "take".delimiter }, { "lake:o/2026-02-28/", "," })
  lu.assertNil(flow():at("2026-03-01 01:30:00"):vars("sum").rows)
end

function TestFlowtest.test_a_wrong_name_is_answered_with_the_nearest()
  local err = flowtest.raises(function() flow():at("2026-03-01"):sql "summ" end, "no node 'summ'")
  lu.assertEquals(err.hint, "did you mean 'sum'?")
  err = flowtest.raises(function() flow():run { outcomes = { tak = "fail" } } end, "outcomes: the flow has no node 'tak'")
  lu.assertEquals(err.hint, "did you mean 'take'?")
  err = flowtest.raises(function() flow():run { outcomes = { take = "fails" } } end)
  lu.assertEquals({ err.message, err.hint }, { "node 'take': no outcome 'fails'", "did you mean 'fail'?" })
end

function TestFlowtest.test_conditions_hold_or_not_and_say_why()
  local f = flow()
  lu.assertEquals({ f:at("2026-03-01", { outputs = { count = { rows = 0 } } }):holds "any" },
    { false, "${rows} > 0: 0 > 0 is false" })
  lu.assertTrue(f:at("2026-03-01", { outputs = { count = { rows = 3 } } }):holds "any")
  lu.assertTrue(f:at("2026-03-01"):holds "take")
end

function TestFlowtest.test_firings_are_in_the_zone_of_the_flow_and_count_the_first_instant()
  lu.assertEquals(flow():firings(2, "2026-02-28 01:30:00"), { "2026-02-28 01:30:00", "2026-03-01 01:30:00" })
  lu.assertEquals(#flow():firings(), 5)
  local none = flowtest.flow("n.lua", 'local flow = require "flow" return flow "n" { flow.sql "a" { on = "x", sql = "1" } }')
  lu.assertEquals(none:firings(), {})
end

function TestFlowtest.test_functions_run_against_stubs_that_keep_what_they_were_asked()
  local f = flow():stub("adbpg", { ["SELECT  count(*) ...;"] = 7, ["SELECT name\nFROM t;"] = { { name = "ann" },
    { name = "bob" } } })
  local called = f:at("2026-03-01 01:30:00"):call "count"
  lu.assertEquals(called.outputs, { rows = 7 })
  lu.assertEquals(called.log, { "info: ann", "info: bob" })
  lu.assertEquals(called.rows, 7)
  local asked = {}
  for i, one in ipairs(called.statements) do asked[i] = one.sql end
  lu.assertEquals(asked, { "BEGIN", "SELECT count(*) FROM ${schema}.t WHERE day = $1", "SELECT name FROM t", "COMMIT" })
  lu.assertEquals(called.statements[2].params, { "2026-02-28" })
end

function TestFlowtest.test_a_stub_may_fail_or_compute_and_refuses_what_it_does_not_know()
  local f = flow():stub("adbpg", { ["SELECT count(*)..."] = flowtest.error("io", "cut off", { code = "08006" }) })
  lu.assertEquals(flowtest.raises(function() f:call "count" end, "cut off").code, "08006")
  f:stub("adbpg", function(sql, day) return sql:find "count" and #day or {} end)
  lu.assertEquals(f:call("count").outputs, { rows = 10 })
  f:stub("adbpg", { ["SELECT counts FROM t"] = 1 })
  local err = flowtest.raises(function() f:call "count" end, "no stub of 'adbpg' answers: SELECT count(*) FROM")
  lu.assertStrContains(err.hint, "SELECT counts FROM t")
  flowtest.raises(function() flow():call "count" end, "connection 'adbpg' has no stub")
  flowtest.raises(function() flow():call "sum" end, "only flow.lua nodes can be called")
end

function TestFlowtest.test_a_store_is_a_table_of_keys()
  local objects = { ["o/a.json"] = "{}" }
  local f = flowtest.flow("s.lua", [[local flow = require "flow" return flow "s" { flow.lua "a" { run = function(ctx)
    local store, prefix = ctx:location "lake:o/"
    for entry in store:list { prefix = prefix } do ctx:log("info", entry.key) end
    store:put(prefix .. "b.txt", store:get(prefix .. "a.json") .. "!")
    return { size = store:head(prefix .. "b.txt").size }
  end } } ]]):stub_store("lake", objects)
  local called = f:call "a"
  lu.assertEquals({ called.log, called.outputs, objects["o/b.txt"] }, { { "info: o/a.json" }, { size = 3 }, "{}!" })
end

function TestFlowtest.test_a_map_sees_texts_and_drops_rows()
  local null = json.null
  lu.assertEquals(flow():map("take", { { id = 1, name = "ann" }, { id = 2, name = "x" }, { id = 3, name = "b\tc" } }),
    { { id = "1", name = "ann!" }, { id = "3", name = "b\tc!" } })
  local f = flowtest.flow("m.lua", [[local flow = require "flow" return flow "m" { flow.extract "a" { from = "rds",
    query = "SELECT 1", to = "lake:o/", columns = { "sum", "note" },
    map = function(row) return { sum = row.a + row.b, note = row.note } end } } ]])
  lu.assertEquals(f:map("a", { { a = 1, b = 2, note = null } }), { { sum = "3", note = null } })
  flowtest.raises(function() flow():map("sum", {}) end, "has no map")
end

function TestFlowtest.test_a_run_goes_where_outcomes_and_conditions_send_it()
  local run = flow():run { at = "2026-03-03 01:30:00", outputs = { count = { rows = 2 } } } -- of Monday's business
  lu.assertEquals(run.state, "success", run.message)
  lu.assertEquals(run.states, { take = "success", count = "success", any = "success", sum = "success",
    alarm = "skipped", monday = "success" })
  run = flow():run { at = "2026-03-02 01:30:00", outputs = { count = { rows = 0 } } }
  lu.assertEquals({ run.state, run.states.sum, run.states.monday }, { "success", "skipped", "skipped" })
  lu.assertEquals(run.nodes.any.outputs, { result = "false" })
  lu.assertStrContains(table.concat(run.decisions, "\n"), "'when' does not hold: ${weekday} = 1: 7 = 1 is false")
end

function TestFlowtest.test_failures_are_retried_and_set_off_what_waits_for_them()
  local run = flow():run { outcomes = { take = "fail", monday = "skip" } }
  lu.assertEquals({ run.state, run.message }, { "failed", "node 'take' failed" })
  lu.assertEquals(run.states, { take = "failed", count = "skipped", any = "skipped", sum = "skipped",
    alarm = "success", monday = "skipped" })
  lu.assertEquals({ run.nodes.take.attempts, run.nodes.take.error.kind }, { 2, "io" })
  run = flow():run { outcomes = { take = { { state = "fail", kind = "sql", message = "no" }, "success" }, count = "fail",
    monday = { state = "success", after = "2h" } } }
  lu.assertEquals({ run.states.take, run.states.count, run.seconds }, { "success", "failed", 7200 })
  lu.assertEquals(run.order, { "take", "monday", "count" })
end

function TestFlowtest.test_an_attempt_may_hang_crash_or_call_the_function()
  local run = flow():run { outcomes = { take = { "timeout", "crash" }, monday = "skip" } }
  lu.assertEquals(run.states.take, "failed")
  lu.assertStrContains(run.nodes.take.error.message, "SIGKILL")
  lu.assertEquals(run.starts[1].at, 0)
  lu.assertTrue(run.seconds > 600)
  local f = flow():stub("adbpg", { ["SELECT count..."] = 4, ["SELECT name..."] = {} })
  run = f:run { outcomes = { count = "call", monday = "skip" } }
  lu.assertEquals({ run.states.sum, run.nodes.count.outputs.rows, #run.called.count.statements }, { "success", 4, 4 })
  lu.assertError(function() f:run { outcomes = { sum = "timeout" }, outputs = { count = { rows = 1 } } } end)
end

function TestFlowtest.test_an_output_that_nobody_gives_fails_the_node_that_needs_it()
  local run = flow():run { outcomes = { any = "success", monday = "skip" } }
  lu.assertEquals(run.states.sum, "failed")
  lu.assertStrContains(run.nodes.sum.error.message, "no node before 'sum' gave the output 'rows'")
end

function TestFlowtest.test_params_are_set()
  local f = flowtest.flow("p.lua", [[local flow = require "flow" return flow "p" {
    params = { region = { type = "text", default = "eu" } }, flow.sql "a" { on = "x", sql = "SELECT '${region}'" } }]])
  lu.assertEquals(f:at("2026-01-01"):sql "a", "SELECT 'eu'")
  lu.assertEquals(f:set { region = "us" }:at("2026-01-01"):sql "a", "SELECT 'us'")
  flowtest.raises(function() f:set { regoin = 1 } end, "no variable 'regoin' to set")
end

function TestFlowtest.test_a_difference_is_told_by_its_path()
  local function message(got, want)
    local err = flowtest.raises(function() flowtest.equal(got, want) end)
    return err.message .. (err.detail and "\n" .. err.detail or "")
  end
  lu.assertEquals(message(1, 2), "got 1, want 2")
  lu.assertEquals(message({ a = { b = { 1, 2 } } }, { a = { b = { 1, 3 } } }), "a.b[2]: got 2, want 3")
  lu.assertEquals(message({ "x", c = true }, { "y" }), 'not equal\n[1]: got "x", want "y"\nc: got true, want nil')
  lu.assertEquals(message("a\nb\nc", "a\nB\nc"), 'not equal\nline 2\n    got:  "b"\n    want: "B"')
  flowtest.equal({ a = { 1, { b = 2 } } }, { a = { 1, { b = 2 } } })
  lu.assertStrContains(flowtest.raises(function() flowtest.contains("abc", "d") end).message, '"d" is not in')
  flowtest.contains({ { a = 1 }, 2 }, { a = 1 })
  flowtest.raises(function() flowtest.matches("abc", "^b") end, "does not match '^b'")
  flowtest.raises(function() flowtest.ok(nil, "the thing") end, "the thing: got nil")
  flowtest.raises(function() flowtest.raises(function() end) end, "no error was raised")
end

-- ---- the command ----

local l

TestCommand = {}

function TestCommand.setUp()
  l = lab.new "flowtest"
  l:write("f.lua", FLOW)
end

function TestCommand.tearDown() l:close() end

local function write_tests(file, body)
  l:write(file, ('local t = require "flowtest"\nlocal f = t.flow "f.lua"\n%s\n'):format(body))
end

function TestCommand.test_the_tests_beside_a_flow_are_run()
  write_tests("f_test.lua", 't.test("one holds", function() t.equal(f.name, "f") end)')
  lu.assertEquals(l:run("test", "f.lua"), { code = 0, out = "f_test.lua\nok      one holds\n1 test passed, 0 failed\n",
    err = "", all = "f_test.lua\nok      one holds\n1 test passed, 0 failed\n" })
  lu.assertEquals(l:run("test", "f_test.lua").code, 0)
end

function TestCommand.test_failures_tell_their_line_and_the_rest_goes_on()
  write_tests("f_test.lua", [[
t.test("it is called g", function()
  t.equal(f.name, "g")
end)
t.test("it breaks", function()
  local x = nil
  return x.y
end)
t.test("it has no such node", function() f:at("2026-01-01"):sql "summ" end)
t.test("it holds", function() end)]])
  local r = l:run("test", "f.lua")
  lu.assertEquals({ r.code, r.err }, { 1, "" })
  lu.assertEquals(r.out, [[
f_test.lua
FAILED  it is called g
  f_test.lua:4: got "f", want "g"
FAILED  it breaks
  f_test.lua:8: attempt to index a nil value (local 'x')
FAILED  it has no such node
  f_test.lua:10: the flow has no node 'summ'
  hint: did you mean 'sum'?
ok      it holds
1 test passed, 3 failed
]])
end

function TestCommand.test_a_folder_stands_for_all_tests_below_it()
  os.execute(("mkdir '%s/sub'"):format(l.dir))
  write_tests("f_test.lua", 'shared = 1 t.test("one", function() end)')
  l:write("sub/g.lua", FLOW)
  l:write("sub/g_test.lua", 'local t = require "flowtest" local f = t.flow "g.lua" '
    .. 't.test("two", function() t.equal({ f.name, shared == nil }, { "f", true }) end)')
  local r = l:run("test", ".")
  lu.assertEquals(r.out, "./f_test.lua\nok      one\n./sub/g_test.lua\nok      two\n2 tests passed, 0 failed\n")
  lu.assertEquals(l:run("test", "--only", "tw", ".").out, "./f_test.lua\n./sub/g_test.lua\nok      two\n1 test passed, 0 failed\n")
end

function TestCommand.test_modules_beside_the_tests_are_theirs()
  for _, name in ipairs { "one", "two" } do
    os.execute(("mkdir '%s/%s'"):format(l.dir, name))
    l:write(name .. "/names.lua", ("return %q"):format(name))
    l:write(name .. "/a_test.lua", ('local t = require "flowtest" local n = require "names"\n'
      .. 't.test("it is " .. n, function() t.equal(n, %q) end)'):format(name))
  end
  lu.assertEquals(l:run("test", ".").out,
    "./one/a_test.lua\nok      it is one\n./two/a_test.lua\nok      it is two\n2 tests passed, 0 failed\n")
end

function TestCommand.test_a_flow_that_is_not_valid_fails_with_its_place()
  l:write("f.lua", FLOW:gsub("flow.branch", "flow.brunch"))
  write_tests("f_test.lua", 't.test("never", function() end)')
  local r = l:run("test", "f.lua")
  lu.assertEquals(r.code, 1)
  lu.assertStrContains(r.out, "FAILED  the file is read")
  lu.assertStrContains(r.out, "flow.brunch does not exist; did you mean flow.branch?")
end

function TestCommand.test_json_has_an_object_for_each_test()
  write_tests("f_test.lua", 't.test("a", function() end)\nt.test("b", function() t.equal({ x = 1 }, { x = 2 }) end)')
  local r, lines = l:run("test", "--json", "f.lua"), {}
  for line in r.out:gmatch "[^\n]+" do lines[#lines + 1] = json.decode(line) end
  lu.assertEquals(r.code, 1)
  lu.assertEquals({ lines[1].test, lines[1].ok, lines[1].line }, { "a", true, 3 })
  lu.assertEquals({ lines[2].ok, lines[2].line, lines[2].error.message }, { false, 4, "x: got 1, want 2" })
  lu.assertEquals(lines[3], { passed = 1, failed = 1 })
end

function TestCommand.test_what_has_no_tests_is_a_usage_error()
  lu.assertEquals(l:run("test", "f.lua").code, 2)
  lu.assertStrContains(l:run("test", "f.lua").err, "'f.lua' has no tests: there is no 'f_test.lua'")
  lu.assertStrContains(l:run("test", "missing.lua").err, "cannot read 'missing.lua'")
  lu.assertStrContains(l:run("test", ".").err, "no *_test.lua in '.'")
  write_tests("f_test.lua", "")
  lu.assertStrContains(l:run("test", "f.lua").err, "there is no test in these files")
end

function TestCommand.test_the_flows_of_scripts_pass_theirs_without_anything_around()
  local r = proc.run { cmd = { os.getenv "TM_BIN", "test", "scripts" }, timeout = 60 }
  lu.assertEquals(r.code, 0, r.stdout)
  lu.assertStrContains(r.stdout, "0 failed\n")
  local flows = proc.run { cmd = "cd scripts; for f in *.lua; do case $f in tidemill.lua|*_test.lua) ;; "
    .. "*) [ -e ${f%.lua}_test.lua ] || echo $f ;; esac; done" }
  lu.assertEquals(flows.stdout, "") -- each flow has tests
end

os.exit(lu.LuaUnit.run())
