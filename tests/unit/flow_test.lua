--- Flow files, good and bad: the model, and every message of `tidemill check`.

local check = require "tidemill.check"
local desk = require "tests.support.desk"
local json = require "json"
local lu = require "luaunit"
local patience = require "tests.support.patience"

local d

TestModel = {}

function TestModel.setUp()
  d = desk.new "flow"
  d:project()
end
function TestModel.tearDown() d:close() end

local function model_of(body) return check.flow(d:flow("m.lua", body)) end

function TestModel.test_defaults_and_units_are_settled()
  local m = model_of [[
    schedule = { cron = "00 00 00-23/1 * * ?", timezone = "Asia/Shanghai" },
    flow.sql "a" { on = "rds", sql = "SELECT 1", retries = 2, retry_delay = "1m30s", timeout = "2h" },
    flow.extract "e" { from = "rds", table = "t", to = "lake:p/", after = "a" },
    flow.load "l" { from = "lake:p/", on = "adbpg", into = "t", after = { "e" } },]]
  lu.assertEquals({ m.name, m.on_error, m.concurrency, m.timezone }, { "f", "complete_running", "skip", "Asia/Shanghai" })
  lu.assertEquals(m.missed, { policy = "skip", window = 86400 })
  lu.assertEquals(m.schedule, { cron = "00 00 00-23/1 * * ?", timezone = "Asia/Shanghai", dst = "once",
    kind = "cron" })
  local a, e, l = m.by_name.a, m.by_name.e, m.by_name.l
  lu.assertEquals({ a.retries, a.retry_delay, a.timeout, a.backoff, a.line }, { 2, 90, 7200, 2, 4 })
  lu.assertEquals({ e.retries, e.retry_delay, e.timeout }, { 0, 10, nil })
  lu.assertEquals(e.after, { "a" })
  lu.assertEquals(e.spec, { from = "rds", table = "t", to = "lake:p/", format = "csv", delimiter = ",", quote = '"',
    escape = '"', null = "", header = false, encoding = "UTF8", compress = "none" })
  lu.assertEquals(l.spec, { from = "lake:p/", on = "adbpg", into = "t", mode = "append", jobs = 1, delete = false })
end

function TestModel.test_nodes_may_come_in_lists_and_name_each_other_by_value()
  local m = model_of [[
    schedule = "0 0 1 * * ?", missed = { "all", window = "3d" },
    (function()
      local list, last = {}, nil
      for i = 1, 3 do
        last = flow.sql("n" .. i) { on = "rds", sql = "SELECT " .. i, after = last }
        list[i] = last
      end
      return list
    end)(),]]
  lu.assertEquals(#m.nodes, 3)
  lu.assertEquals(m.by_name.n3.after, { "n2" })
  lu.assertEquals(m.missed, { policy = "all", window = 259200 })
  lu.assertEquals(m.timezone, "UTC")
end

function TestModel.test_functions_stay_and_run_with_everything_at_hand()
  local m = model_of [[
    flow.lua "n" { run = function() return os.getenv "HOME" and type(require "json") == "table" and math.random end },]]
  m.loaded:start()
  lu.assertIsFunction(m.nodes[1].spec.run())
end

function TestModel.test_short_forms_become_the_one_that_bodies_know()
  local m = model_of [==[
    flow.assign "a" { on = "rds", sql = "x", outputs = { x = "col", y = 2, z = { row = "all", separator = "", default = 0 } } },
    flow.loop "l1" { on = "rds", sql = "x", list = "a,b" },
    flow.loop "l2" { on = "rds", sql = "x", list = { "a", 2 }, name = "item" , batch = 3, pause = "1m" },
    flow.loop "l3" { on = "rds", sql = "x", lists = { { list = "a;b", separator = ";" }, { list = "c d", pattern = "%s+" }, { "e" } } },
    flow.check "c" { on = "rds", table = "t", rules = { { not_null = "a" },
      { unique = { "a", "b" }, name = "key", severity = "warn", max = 2 },
      { rows = { min = 1, max = "${bizdate}" } }, { accepted = { column = "c", values = { 1, true, "x" } } },
      { range = { column = "c", max = 5 } }, { fresh = { column = "u", within = "1h" } }, { sql = "SELECT 1" },
      { references = { column = "c", table = "o", to = "id" } } } },
    flow.wait_for "w" { flow = "B" },
    flow.wait_for "v" { on = "rds", table = "t", column = "u", newer_than = "${bizdate}", timeout = "3h", every = "5s" },
    flow.shell "s" { command = "true", outputs = "x" },]==]
  lu.assertEquals(m.by_name.a.spec.outputs, { x = { row = 1, column = "col", separator = "," },
    y = { row = 1, column = 2, separator = "," }, z = { row = "all", column = 1, separator = "", default = "0" } })
  lu.assertEquals(m.by_name.l1.spec, { on = "rds", sql = "x", batch = 1, pause = 0, exactly_once = false,
    lists = { { list = "a,b", name = "loop.item", separator = "," } } })
  lu.assertEquals(m.by_name.l2.spec, { on = "rds", sql = "x", batch = 3, pause = 60, exactly_once = false,
    lists = { { list = { "a", "2" }, name = "item" } } })
  lu.assertEquals(m.by_name.l3.spec.lists, { { list = "a;b", name = "loop.item", separator = ";" },
    { list = "c d", name = "loop.item1", pattern = "%s+" }, { list = { "e" }, name = "loop.item2" } })
  local rules = m.by_name.c.spec.rules
  lu.assertEquals(rules[1], { kind = "not_null", name = "not_null: a", severity = "fail", allowed = 0, columns = { "a" } })
  lu.assertEquals(rules[2], { kind = "unique", name = "key", severity = "warn", allowed = 2, columns = { "a", "b" } })
  lu.assertEquals(rules[3], { kind = "rows", name = "rows", severity = "fail", allowed = 0, min = 1, max = "${bizdate}" })
  lu.assertEquals(rules[4].values, { "1", "true", "x" })
  lu.assertEquals({ rules[5].max, rules[6].within, rules[7].sql, rules[8].to }, { "5", 3600, "SELECT 1", "id" })
  lu.assertEquals(m.by_name.w.spec, { what = "flow", flow = "B", at = "day", every = 30, timeout = 3600, fail_fast = false,
    all = true })
  lu.assertEquals(m.by_name.w.timeout, 3600)
  lu.assertEquals({ m.by_name.v.spec.what, m.by_name.v.spec.timeout, m.by_name.v.spec.every }, { "table", 10800, 5 })
  lu.assertEquals(m.by_name.s.spec, { command = "true", outputs = { "x" } })
end

function TestModel.test_params_hooks_and_schedules()
  local m = model_of [[
    schedule = { after = "A", timeout = "2h" }, priority = 9, deadline = "1h30m",
    params = { a = "x", b = 5, c = 1.5, d = true, e = flow.time "yyyy", f = { type = "date", default = "2026-01-02" },
      g = { type = "integer", default = "7", description = "seven" } },
    on_success = { shell = "true" }, on_late = { { email = "a@b" } },
    flow.sql "n" { on = "rds", sql = "x", when = "${a} = x", priority = 1, pool = "heavy", allow_failure = true },]]
  lu.assertEquals(m.schedule, { kind = "event", after = { { flow = "A" } }, timeout = 7200, trial = true })
  lu.assertEquals({ m.priority, m.deadline }, { 9, 5400 })
  local kinds = {}
  for name, param in pairs(m.params) do kinds[name] = ("%s %s"):format(param.type, param.default or param.time) end
  lu.assertEquals(kinds, { a = "text x", b = "integer 5", c = "number 1.5", d = "boolean true", e = "date yyyy",
    f = "date 2026-01-02", g = "integer 7" })
  lu.assertEquals(m.on_success, { { shell = "true" } })
  lu.assertEquals(m.on_late, { { email = { "a@b" } } })
  local n = m.by_name.n
  lu.assertEquals({ n.priority, n.pool, n.allow_failure, n.trigger }, { 1, "heavy", true, "all_success" })
end

function TestModel.test_a_node_has_a_longest_wait_and_a_deadline()
  local m = model_of [[on_late = { shell = "x" }, flow.sql "n" { on = "rds", sql = "x", max_wait = "5m", deadline = "1h" },]]
  lu.assertEquals({ m.by_name.n.max_wait, m.by_name.n.deadline, m.warnings }, { 300, 3600, {} })
end

function TestModel.test_a_wait_for_a_flow_is_for_all_its_runs()
  local m = model_of [[flow.wait_for "a" { flow = "B" }, flow.wait_for "b" { flow = "B", all = false },
    flow.wait_for "c" { previous = true },]]
  lu.assertEquals({ m.by_name.a.spec.all, m.by_name.b.spec.all, m.by_name.c.spec.all }, { true, false, nil })
end

function TestModel.test_what_is_odd_but_may_be_meant_is_a_warning()
  local lines = { "on_late = { shell = 'x' }, constants = { bizdate = '1', ['loop.item'] = '2' }," }
  for i = 1, 101 do lines[#lines + 1] = ('flow.sql "n%d" { on = "rds", sql = "x" },'):format(i) end
  lines[#lines + 1] = 'flow.branch "b" { condition = "${bizdate} > 1", after = "n1" },'
  lines[#lines + 1] = 'flow.loop "l" { on = "rds", count = 1, list = nil, sql = "${loop.index}" },'
  local texts = {}
  for i, warning in ipairs(model_of(table.concat(lines, "\n")).warnings) do texts[i] = warning.line .. " " .. warning.message end
  table.sort(texts)
  lu.assertEquals(texts, { "105 no node is after branch 'b', so it decides nothing",
    "2 flow 'f' has 103 nodes; 100 are as many as a flow should have",
    "3 the flow has on_late but no deadline, so no run is late",
    "4 variable 'bizdate' of node 'n1' is defined by the flow's constants and by the system; the first one counts" })
end

function TestModel.test_a_subflow_is_checked_with_the_flow_that_it_is_part_of()
  d:write("part/sub.lua", [[return require "flow" "sub" { params = { region = {} , n = 1 },
    require("flow").sql "s" { on = "rdz", sql = "${region}" } }]])
  local ok, err = pcall(model_of, [[flow.subflow "a" { file = "part/sub.lua" },
    flow.subflow "b" { file = "part/sub.lua", set = { regio = "x" }, after = "a" },]])
  lu.assertFalse(ok)
  lu.assertStrContains(tostring(err), "part/sub.lua:2: node 's': unknown connection 'rdz'")
  d:write("part/sub.lua", [[return require "flow" "sub" { params = { region = {} , n = 1 },
    require("flow").subflow "s" { file = "../part/deeper.lua", set = { x = "${region}" } } }]])
  d:write("part/deeper.lua", [[return require "flow" "deeper" { params = { x = "" },
    require("flow").sql "s" { on = "rds", sql = "${x}" } }]])
  ok, err = pcall(model_of, [[flow.subflow "a" { file = "part/sub.lua", set = { n = 2 } },
    flow.subflow "b" { file = "part/sub.lua",
      set = { regoin = "x" }, after = "a" },]])
  lu.assertFalse(ok)
  lu.assertStrContains(err.detail, "m.lua:3: node 'a': param 'region' has no default and is not set")
  lu.assertStrContains(err.detail, "m.lua:5: node 'b': the flow has no variable 'regoin' to set\n  hint: did you mean 'region'?")
  local m = model_of [[flow.subflow "a" { file = "part/sub.lua", set = { region = "x" } },]]
  lu.assertEquals(m.subflows["part/sub.lua"].name, "sub")
  lu.assertEquals(m.subflows["part/sub.lua"].subflows["../part/deeper.lua"].name, "deeper")
end

function TestModel.test_subflows_in_a_circle_are_found_however_they_are_named()
  d:write("part/b.lua", 'return require "flow" "b" {\nrequire("flow").subflow "up" { file = "../part/../m.lua" } }')
  local ok, err = pcall(model_of, 'flow.subflow "a" { file = "./part/b.lua" },')
  lu.assertFalse(ok)
  lu.assertStrContains(err.message, ("b.lua:2: subflows in a circle: %s/m.lua -> %s/part/b.lua -> %s/m.lua"):format(d.dir,
    d.dir, d.dir))
end

function TestModel.test_a_flow_of_a_hundred_nodes_is_checked_in_no_time()
  local lines = { 'vars = { day = flow.time "yyyy-MM-dd" }, constants = { dw = "dw" }, params = { region = "eu" },' }
  local kinds = { 'assign "n%d" { sql = "SELECT a FROM ${dw}.t WHERE d = \'${day}\'", outputs = { v%d = 1 },',
    'loop "n%d" { sql = "SELECT \'${loop.item}\' FROM ${dw}.t", list = "a,b,${region}",',
    'check "n%d" { table = "${dw}.t", rules = { { not_null = "a" }, { unique = "a" } },',
    'sql "n%d" { sql = "SELECT ${bizdate}", when = "${region} = eu and ${n1.status}",',
    'sql "n%d" { sql = "SELECT ${bizdate}, ${v1}, ${n1.status}, ${day}",' }
  for i = 1, 100 do
    lines[#lines + 1] = ('flow.%s on = "rds", after = %s },'):format(kinds[(i - 1) % 5 + 1]:format(i, i),
      i > 1 and ('"n%d"'):format(i - 1) or "{}")
  end
  local path = d:flow("big.lua", table.concat(lines, "\n"))
  local seconds = math.huge -- of CPU, the shortest: the machine's other work counts little
  for _ = 1, 3 do
    local start = os.clock()
    check.flow(path)
    seconds = math.min(seconds, os.clock() - start)
  end
  lu.assertTrue(seconds < 0.03 * patience, seconds .. " s")
end

-- Each case: the body of a flow from line 3 on, and per problem the line, a part of the
-- message, and perhaps a part of the hint.
local BAD = {
  ["a cycle"] = { [[
flow.sql "a" { on = "rds", sql = "x", after = "c" },
flow.sql "b" { on = "rds", sql = "x", after = "a" },
flow.sql "c" { on = "rds", sql = "x", after = "b" },]],
    { 3, "cycle: a -> b -> c -> a", "cannot wait for itself" } },
  ["a node after itself"] = { 'flow.sql "a" { on = "rds", sql = "x", after = "a" },', { 3, "cycle: a -> a" } },
  ["an unknown dependency"] = { [[
flow.sql "extract" { on = "rds", sql = "x" },
flow.sql "b" { on = "rds", sql = "x",
  after = "extrct" },]],
    { 5, "node 'b' is after 'extrct', which does not exist", "did you mean 'extract'?" } },
  ["a duplicate node"] = { [[
flow.sql "a" { on = "rds", sql = "x" },

flow.sql "a" { on = "rds", sql = "y" },]],
    { 5, "duplicate node 'a', first declared at line 3" } },
  ["an unknown variable"] = { [==[
flow.sql "a" { on = "rds", vars = { mydate = flow.time "yyyyMMdd" }, sql = [[
  SELECT 1;
  SELECT '${mydte}';
]] },]==],
    { 5, "unknown variable '${mydte}' in sql of node 'a', line 2", "did you mean 'mydate'?" } },
  ["a malformed variable"] = { 'flow.sql "a" { on = "rds", sql = "${my date}" },',
    { 3, "malformed variable '${my date}'", "$${" } },
  ["a variable of an unrelated node's output"] = { [[
flow.lua "a" { run = function() end, outputs = { "x" } },
flow.sql "b" { on = "rds", sql = "${x}" },]],
    { 4, "unknown variable '${x}'" } },
  ["an output of two nodes"] = { [[
flow.lua "a" { run = function() end, outputs = { "x" } },
flow.lua "b" { run = function() end, outputs = { "x" } },
flow.sql "c" { on = "rds", sql = "${x}", after = { "a", "b" } },]],
    { 2, "'${x}' is an output of several nodes: a, b" } },
  ["variables in a circle"] = { [[
vars = { x = "${y}", y = "${x}" },
flow.sql "a" { on = "rds", sql = "${x}" },]],
    { 3, "variable 'x' refers to itself" } },
  ["a bad cron"] = { [[
schedule = { cron = "00 61 * * * ?" },
flow.sql "a" { on = "rds", sql = "x" },]],
    { 3, "61" } },
  ["an unknown zone"] = { [[
schedule = { cron = "0 0 * * * ?",
  timezone = "Asia/Shangai" },
flow.sql "a" { on = "rds", sql = "x" },]],
    { 4, "Asia/Shangai" } },
  ["a bad date of a schedule"] = { [[
schedule = { cron = "0 0 * * * ?", from = "2026-13-01" },
flow.sql "a" { on = "rds", sql = "x" },]],
    { 3, "2026-13-01" } },
  ["a bad time format"] = { [[
flow.sql "a" { on = "rds", sql = "${v}",
  vars = { v = flow.time "yyyyQQ" } },]],
    { 4, "variable 'v'", nil } },
  ["a bad offset"] = { 'flow.sql "a" { on = "rds", sql = "${v}", vars = { v = flow.time("yyyy", "-1x") } },',
    { 3, "variable 'v'" } },
  ["an unknown connection"] = { 'flow.sql "a" { on = "rdz", sql = "x" },',
    { 3, "unknown connection 'rdz'", "did you mean 'rds'?" } },
  ["a store where a database is needed"] = { 'flow.sql "a" { on = "lake", sql = "x" },',
    { 3, "connection 'lake' is an object store, where a PostgreSQL connection is needed" } },
  ["a database where a store is needed"] = { 'flow.extract "a" { from = "rds", table = "t", to = "adbpg:x/" },',
    { 3, "connection 'adbpg' is a PostgreSQL connection, where an object store is needed" } },
  ["a location without a connection"] = { 'flow.extract "a" { from = "rds", table = "t", to = "orders/" },',
    { 3, "a location is \"connection:path/\"" } },
  ["a location that climbs"] = { 'flow.extract "a" { from = "rds", table = "t", to = "lake:../x/" },', { 3, "'..'" } },
  ["an empty flow"] = { "", { 2, "flow 'f' has no nodes" } },
  ["bad policies"] = { [[
on_error = "stopp",
concurrency = "serial",
missed = { "latest", window = "soon" },
flow.sql "a" { on = "rds", sql = "x" },]],
    { 3, "'on_error' wants one of complete_running, stop, continue, got 'stopp'", "did you mean 'stop'?" },
    { 4, "'concurrency' wants one of skip, queue, parallel, got 'serial'" },
    { 5, "'missed' wants window as a duration" } },
  ["unknown fields"] = { [[
scedule = "0 0 * * * ?",
flow.sql "a" { on = "rds", sql = "x", retires = 3 },]],
    { 3, "the flow has no field 'scedule'", "did you mean 'schedule'?" },
    { 4, "node 'a' has no field 'retires'", "did you mean 'retries'?" } },
  ["wrong types"] = { [[
flow.sql "a" { on = "rds", sql = 5,
  retries = "3",
  timeout = "soon",
  after = 7 },]],
    { 3, "node 'a': 'sql' wants text, or a list of texts, got 5" },
    { 4, "'retries' wants an integer from 0 to 1000, got '3'" },
    { 5, "'timeout' wants a duration" },
    { 6, "'after' wants the name of a node" } },
  ["missing fields"] = { 'flow.load "a" { from = "lake:x/" },', { 3, "node 'a' needs 'into'" }, { 3, "node 'a' needs 'on'" } },
  ["neither query nor table"] = { 'flow.extract "a" { from = "rds", to = "lake:x/" },', { 3, "needs a query or a table" } },
  ["options of the wrong format"] = { [[
flow.extract "a" { from = "rds", table = "t", to = "lake:x/", format = "text",
  quote = "'",
  header = true },]],
    { 4, "has 'quote', which only format csv knows" }, { 5, "has 'header', which only format csv knows" } },
  ["columns that nothing makes"] = { [[
flow.extract "a" { from = "rds", table = "t", to = "lake:x/",
  columns = { "x" } },]],
    { 4, "has columns but no map" } },
  ["options that contradict"] = { [[
flow.extract "a" { from = "rds", table = "t", to = "lake:x/", compress = "gzip",
  level = 19,
  quote = ",", },]],
    { 4, "has level 19; gzip goes to 9" }, { 5, "the same quote and delimiter" } },
  ["ranges of a table"] = { [[
flow.extract "a" { from = "rds", table = "t", to = "lake:x/",
  split_by = "t.id",
  range_pages = 9 },
flow.extract "b" { from = "rds", table = "t", to = "lake:x/", split_by = "ctid",
  resume = true,
  ranges = 5 },
flow.extract "c" { from = "rds", table = "t", to = "lake:x/", split_by = "id",
  max_rate = "fast",
  verify = "hash",
  resume = true },]],
    { 4, "has split_by 't.id'", "of a table, a column's name alone" }, { 5, "has 'range_pages', but is not split by ctid" },
    { 7, "is to resume, but is split by ctid" },
    { 10, "'max_rate' wants bytes a second" }, { 11, "has both 'verify' and 'resume'" } },
  ["ranges of a query"] = { [[
flow.extract "a" { from = "rds", query = "SELECT 1", to = "lake:x/",
  jobs = 2,
  where = "a > 1" },
flow.extract "b" { from = "rds", to = "lake:x/",
  query = "SELECT 1",
  split_by = "t.id" },
flow.extract "c" { from = "rds", query = "SELECT ${range}", to = "lake:x/",
  split_by = "id" },
flow.extract "d" { from = "rds", to = "lake:x/",
  query = "SELECT ${lo}" },]],
    { 4, "has jobs > 1 for a query without 'split_by'" }, { 5, "has 'where' without 'table'" },
    { 7, "has 'split_by', but its query has no ${range}" }, { 10, "has split_by 'id' for a query" },
    { 12, "unknown variable '${lo}'" } },
  ["a map in ranges"] = { [[
flow.extract "a" { from = "rds", table = "t", to = "lake:x/", map = function(row) return row end,
  jobs = 2,
  split_by = "id" },]],
    { 4, "has jobs > 1 and a map" }, { 5, "has 'split_by' and a map" } },
  ["a node without its table"] = { 'flow.sql "a",', { 3, "flow.sql 'a' has no table { ... }" } },
  ["a value that is no node"] = { 'flow.sql "a" { on = "rds", sql = "x" }, 42,', { 2, "value 2 of the flow is not a node" } },
  ["a table name that is none"] = { 'flow.load "a" { from = "lake:x/", on = "rds", into = "a b; DROP" },',
    { 3, "'a b; DROP' does not name a table" } },
  -- ---- conditions, triggers, pools ----
  ["a condition that is none"] = { [==[
flow.sql "a" { on = "rds", sql = "x",
  when = [[${bizdate} > '2026-01-01'
    and ${bizdate} => 5]] },]==],
    { 5, "node 'a': 'when': '=>' is no operator in '${bizdate} > '2026-01-01' and ${bizdate} => 5'", "operators: = ==" } },
  ["a condition without a variable"] = { [[
flow.sql "a" { on = "rds", sql = "x" },
flow.branch "b" { after = "a",
  condition = { "${bizdate} > 1", "rows > 0" } },
flow.sql "c" { on = "rds", sql = "x", after = "b" },]],
    { 5, "'condition': 'rows' is a fixed text, not a variable in 'rows > 0'", "write ${rows} for the variable" } },
  ["an unknown variable of a condition"] = { [[
flow.sql "count" { on = "rds", sql = "x" },
flow.sql "b" { on = "rds", sql = "x", after = "count",
  when = "${cuont.rows} > 0 or ${count.status}" },]],
    { 5, "unknown variable '${cuont.rows}' in when of node 'b'", "did you mean 'count.rows'?" } },
  ["a condition of a wrong type"] = { 'flow.sql "a" { on = "rds", sql = "x", when = 5 },',
    { 3, "node 'a': 'when' wants a condition such as \"${rows} > 0\", a list of them, or a function, got 5" } },
  ["a trigger without nodes"] = { 'flow.sql "a" { on = "rds", sql = "x", trigger = "one_failed" },',
    { 3, "node 'a' has trigger 'one_failed', but is after no node", "a trigger says" } },
  ["an unknown trigger"] = { [[
flow.sql "a" { on = "rds", sql = "x" },
flow.sql "b" { on = "rds", sql = "x", after = "a", trigger = "all_fail" },]],
    { 4, "node 'b': 'trigger' wants one of all_success, all_done,", "did you mean 'all_failed'?" } },
  ["an unknown pool"] = { 'flow.sql "a" { on = "rds", sql = "x", pool = "heavi" },',
    { 3, "node 'a': unknown pool 'heavi'", "did you mean 'heavy'?" } },
  ["a priority out of range"] = { 'flow.sql "a" { on = "rds", sql = "x", priority = 11 },',
    { 3, "node 'a': 'priority' wants an integer from 1 to 10, got 11" } },
  ["the state of a node that is not upstream"] = { [[
flow.sql "a" { on = "rds", sql = "x" },
flow.sql "b" { on = "rds", sql = "${a.status}" },]],
    { 4, "unknown variable '${a.status}' in sql of node 'b'" } },

  -- ---- SQL ----
  ["a command of psql"] = { 'flow.sql "a" { on = "rds", sql = [[\nSELECT 1;\n\\copy t from x]] },',
    { 5, "node 'a': '\\copy' is a command of psql, not SQL", "flow.load" } },
  ["rows from a client"] = { 'flow.sql "a" { on = "rds", sql = { "SELECT 1", [[COPY t\nFROM STDIN]] } },',
    { 3, "node 'a': COPY FROM STDIN has no client that would send the rows", "flow.load" } },
  ["a quote without an end"] = { 'flow.sql "a" { on = "rds", sql = [[\nSELECT \'${bizdate}\';\nSELECT \'x]] },',
    { 5, "node 'a': unterminated quoted text" } },
  ["a transaction in a transaction"] = { [[
flow.sql "a" { on = "rds", sql = "SELECT 1; COMMIT" },
flow.sql "b" { on = "rds", sql = "BEGIN; COMMIT", transaction = false },
flow.loop "c" { on = "rds", sql = "BEGIN", count = 2 },]],
    { 3, "node 'a': COMMIT in a node that is one transaction", "transaction = false" },
    { 5, "node 'c': BEGIN in a loop, whose batches are transactions" } },
  ["two queries of an assign"] = { 'flow.assign "a" { on = "rds", sql = "SELECT 1; SELECT 2", outputs = { x = 1 } },',
    { 3, "node 'a': an assign has one query, here are 2 statements" } },

  -- ---- kinds of nodes ----
  ["exactly once without a transaction"] = { [[
flow.sql "a" { on = "rds", sql = "x", transaction = false,
  exactly_once = true },]],
    { 4, "node 'a' is exactly_once without a transaction" } },
  ["a command that is none"] = { 'flow.shell "a" { command = {} , env = { ["A B"] = "x" } },',
    { 3, "node 'a': 'command' wants text for the shell, or a list { program, argument, ... }, got an empty table" },
    { 3, "node 'a': 'env' wants names of environment variables, got 'A B'" } },
  ["outputs of an assign"] = { [[
flow.assign "a" { on = "rds", sql = "x",
  outputs = { x = { row = "all", column = "all" }, y = { rows = 1 }, z = { row = 0 } } },]],
    { 4, "node 'a' output 'x' wants all rows and all columns", "a value is a cell, a row or a column" },
    { 4, "node 'a' output 'y' has no field 'rows'", "did you mean 'row'?" },
    { 4, "node 'a' output 'z': 'row' wants a row: its number from 1, or \"all\"" } },
  ["an assign without outputs"] = { 'flow.assign "a" { on = "rds", sql = "x", outputs = {} },',
    { 3, "node 'a': 'outputs' wants a table of names and what of the result they hold" } },
  ["a loop over nothing"] = { 'flow.loop "a" { on = "rds", sql = "${loop.item}" },',
    { 3, "node 'a' needs a list, lists or a count" }, { 3, "unknown variable '${loop.item}'" } },
  ["a loop over too much"] = { [[
flow.loop "a" { on = "rds", sql = "x", list = "a,b",
  count = 5,
  batch = 201,
  pause = "4m" },]],
    { 4, "node 'a' has both list and count" },
    { 5, "node 'a': 'batch' wants an integer from 1 to 200, got 201" },
    { 6, "node 'a': 'pause' wants a duration of at most 180 seconds, got '4m'" } },
  ["a count out of range"] = { [[
constants = { many = 101 },
flow.loop "a" { on = "rds", sql = "x", count = "${many}" },
flow.loop "b" { on = "rds", sql = "x", count = 0 },]],
    { 4, "node 'a': '101' is not an integer from 1 to 100" },
    { 5, "node 'b': 'count' wants an integer from 1 to 100, got 0" } },
  ["lists of a loop"] = { [[
flow.loop "a" { on = "rds", sql = "x",
  lists = { { list = "a", name = "x" }, { list = { "b" }, name = "x", separator = ";" }, { list = "c", pattern = "," ,
    separator = "," }, { list = "d", name = "e", pattern = "%" }, { list = "d", name = "f", pattern = ",*" }, { name = "y" } } },]],
    { 4, "node 'a' list 6 needs 'list'" },
    { 4, "node 'a' has two loop variables 'x'" },
    { 4, "node 'a' has a separator for a list of texts" },
    { 4, "node 'a' has both a separator and a pattern" },
    { 4, "node 'a' has a malformed pattern '%'" },
    { 4, "node 'a' has a pattern ',*' that matches nothing at all" } },
  ["a loop variable outside the sql"] = { [[
flow.loop "a" { on = "rds", sql = "${loop.item}", list = "a,${loop.index}", name = "loop.item" },
flow.sql "b" { on = "rds", sql = "${loop.item}", after = "a" },]],
    { 3, "unknown variable '${loop.index}' in lists of node 'a'" },
    { 4, "unknown variable '${loop.item}' in sql of node 'b'" } },
  ["a wait for nothing or for two things"] = { [[
flow.wait_for "a" { every = 5 },
flow.wait_for "b" { flow = "x", object = "lake:x" },
flow.wait_for "c" { object = "lake:x", node = "n" },
flow.wait_for "d" { query = "SELECT 1" },
flow.wait_for "e" { on = "rds", table = "t" },]],
    { 3, "node 'a' does not say what it waits for", "give one of flow" },
    { 4, "node 'b' waits for both 'flow' and 'object'" },
    { 5, "node 'c' has 'node', which does not go with 'object'" },
    { 6, "node 'd' needs 'on'" },
    { 7, "node 'e' needs 'column' and 'newer_than' beside 'table'" } },
  ["a wait for oneself"] = { [[
flow.wait_for "a" { flow = "f" },
flow.wait_for "b" { previous = true, node = "aa" },]],
    { 3, "node 'a' waits for the run that it is part of", "previous = true" },
    { 4, "node 'b' waits for node 'aa', which does not exist", "did you mean 'a'?" } },
  ["times of a wait"] = { [[
flow.wait_for "a" { flow = "x", at = "dai" },
flow.wait_for "b" { flow = "x", offset = "1 day" },
flow.wait_for "c" { flow = "x", from = "-1d" },
flow.wait_for "d" { flow = "x", from = "-1d", to = "+0d", at = "day", every = 0 },]],
    { 3, "node 'a': 'at' wants one of same, hour, day, week, month, got 'dai'", "did you mean 'day'?" },
    { 4, "node 'b': 'offset' wants an offset such as \"-1d\"" },
    { 5, "node 'c' needs both 'from' and 'to', or neither" },
    { 6, "node 'd': 'every' wants a duration of at least 1 seconds, got 0" },
    { 6, "node 'd' has 'at' or 'offset' beside 'from' and 'to'" } },
  ["all of what is one"] = { [[
flow.wait_for "a" { previous = true, all = true },
flow.wait_for "b" { flow = "x", all = "yes" },]],
    { 3, "node 'a' has 'all', which does not go with 'previous'" },
    { 4, "node 'b': 'all' wants true or false" } },
  ["a longest wait and a deadline of nothing"] = { [[
flow.sql "a" { on = "rds", sql = "x", max_wait = 0 },
flow.sql "b" { on = "rds", sql = "x",
  deadline = "soon", max_wiat = 5 },]],
    { 3, "node 'a': 'max_wait' wants" },
    { 5, "node 'b': 'deadline' wants a duration such as" },
    { 5, "node 'b' has no field 'max_wiat'", "did you mean 'max_wait'?" } },
  ["a wait for an object nowhere"] = { 'flow.wait_for "a" { object = "lakke:x" },',
    { 3, "unknown connection 'lakke'", "did you mean 'lake'?" } },
  ["rules of a check"] = { [[
flow.check "a" { on = "rds", table = "t", rules = {
  { not_nul = "x" }, { name = "n" }, { rows = {} }, { unique = "a", not_null = "b" }, { fresh = { column = "c" } },
  { accepted = { column = "c", value = 1 } }, { rows = { min = 1 }, max = 2 }, { sql = "x", severity = "error" } } },]],
    { 3, "node 'a' rule 1 is of unknown kind 'not_nul'", "did you mean 'not_null'?" },
    { 3, "node 'a' rule 2 does not say what it checks", "kinds: accepted, fresh" },
    { 3, "node 'a' rule 3 ('rows') needs 'min' or 'max'" },
    { 3, "node 'a' rule 4 is both 'not_null' and 'unique'" },
    { 3, "node 'a' rule 5 ('fresh') needs 'within'" },
    { 3, "node 'a' rule 6 ('accepted') has no field 'value'", "did you mean 'values'?" },
    { 3, "node 'a' rule 6 ('accepted') needs 'values'" },
    { 3, "node 'a' rule 7 ('rows') has 'max', but counts no violations" },
    { 3, "node 'a' rule 8 ('sql'): 'severity' wants one of fail, warn" } },
  ["a check without a table"] = { [[
flow.check "a" { on = "rds", rules = { { sql = "x" }, { not_null = "x" } } },
flow.check "b" { on = "rds", table = "t", rules = { { references = { column = "x", table = "a b", to = "y" } } } },]],
    { 3, "node 'a' needs 'table' for rule 'not_null: x'" },
    { 4, "node 'b': 'a b' does not name a table" } },
  ["subflows that cannot be"] = { [[
flow.subflow "a" { flow = "f" },
flow.subflow "b" { flow = "x", file = "y.lua" },
flow.subflow "c" {},
flow.subflow "d" { file = "/etc/passwd" },
flow.subflow "e" { file = "nowhere.lua" },
flow.subflow "g" { file = "bad.lua" },]],
    { 3, "node 'a' runs the flow that it is part of", "a flow cannot be part of itself" },
    { 4, "node 'b' has both flow and file" },
    { 5, "node 'c' needs a flow or a file" },
    { 6, "node 'd' has file '/etc/passwd'", "relative to this one" },
    { 7, "node 'e': cannot read nowhere.lua" },
    { 8, "subflows in a circle: bad.lua -> bad.lua" } },

  -- ---- the flow ----
  ["schedules that contradict"] = { [[
schedule = { cron = "0 0 * * * ?", every = "1h", trial = true,
  dst = "each" },
flow.sql "a" { on = "rds", sql = "x" },]],
    { 3, "schedule has both 'cron' and 'every'", "a flow has one schedule" },
    { 3, "schedule has 'trial', which does not go with 'cron'" } },
  ["a schedule that says nothing"] = { [[
schedule = { from = "2026-01-01" },
flow.sql "a" { on = "rds", sql = "x" },]],
    { 3, "schedule has 'from', which says nothing without cron, every, at or after" } },
  ["a schedule that never fires"] = { [[
schedule = "0 0 0 30 2 ?",
flow.sql "a" { on = "rds", sql = "x" },]],
    { 3, "the schedule never fires" } },
  ["a schedule that never fires in its period"] = { [[
schedule = { cron = "0 0 0 1 1 ?", from = "2026-02-01", to = "2026-03-01" },
flow.sql "a" { on = "rds", sql = "x" },]],
    { 3, "the schedule never fires between 'from' and 'to'" } },
  ["a period that ends before it starts"] = { [[
schedule = { every = "1d", to = "2026-01-31",
  from = "2026-02-01" },
flow.sql "a" { on = "rds", sql = "x" },]],
    { 4, "the schedule's 'from' (2026-02-01) is not before its 'to' (2026-01-31)" } },
  ["a schedule after itself"] = { [[
schedule = { after = { "g", "f/a" } },
flow.sql "a" { on = "rds", sql = "x" },]],
    { 3, "flow 'f' is scheduled after itself" } },
  ["a schedule after what is no flow"] = { [[
schedule = { after = { "g", 3 } },
flow.sql "a" { on = "rds", sql = "x" },]],
    { 3, "schedule: 'after' wants names of flows, or \"flow/node\", got 3" } },
  ["a schedule every nothing"] = { [[
schedule = { every = 0, from = "2026-02-01", to = "2026-01-31" },
flow.sql "a" { on = "rds", sql = "x" },]],
    { 3, "schedule: 'every' wants a duration of at least 1 seconds, got 0" } },
  ["missed firings"] = { [[
missed = { "al", window = "3d" },
flow.sql "a" { on = "rds", sql = "x" },]],
    { 3, "the flow: 'missed' wants one of skip, latest, all, got 'al'", "did you mean 'all'?" } },
  ["the window of missed firings"] = { [[
missed = { "all", window = "3x" },
flow.sql "a" { on = "rds", sql = "x" },]],
    { 3, "the flow: 'missed' wants window as a duration such as \"6h\", got '3x'" } },
  ["a misspelt window of missed firings"] = { [[
missed = { "all", widow = "3d" },
flow.sql "a" { on = "rds", sql = "x" },]],
    { 3, "'missed' has no field 'widow'", "did you mean 'window'?" } },
  ["missed firings with a window that is not named"] = { [[
missed = { "all", "3d" },
flow.sql "a" { on = "rds", sql = "x" },]],
    { 3, "'missed' has no field '2'", "fields: window" } },
  ["names of variables"] = { [[
vars = { ["b c"] = 1 },
flow.sql "a" { on = "rds", sql = "x" },]],
    { 3, "the flow: 'vars' wants names of letters, digits, '_' and '.', got 'b c'" } },
  ["a bad instant"] = { [[
schedule = { at = "tomorrow" },
flow.sql "a" { on = "rds", sql = "x" },]],
    { 3, "cannot read the time 'tomorrow'" } },
  ["params"] = { [[
params = {
  a = { type = "int" }, b = { type = "integer", default = "x" }, c = { defualt = 1 },
  d = { type = "number", default = flow.time "yyyy" }, },
schedule = "0 0 1 * * ?",
flow.sql "n" { on = "rds", sql = "${a}${b}${c}${d}${e}" },]],
    { 3, "param 'a': 'type' wants one of text, integer, number, boolean, date, got 'int'" },
    { 3, "param 'b': 'default' wants an integer, got 'x'" },
    { 3, "param 'c' has no field 'defualt'", "did you mean 'default'?" },
    { 3, "param 'd' of type number cannot have a time as default" },
    { 4, "param 'b' has no default, but the flow has a schedule", "sets no params" },
    { 4, "param 'c' has no default, but the flow has a schedule" },
    { 7, "unknown variable '${a}'" }, { 7, "unknown variable '${e}'" } },
  ["a time that a param cannot have"] = { [[
params = { x = { default = flow.time "yyyyQ" } },
flow.sql "n" { on = "rds", sql = "x" },]],
    { 3, "variable 'x': " } },
  ["hooks"] = { [[
on_success = { { webhook = "alertz" }, { shell = "" }, { email = "nobody" } },
on_failure = { webhook = "rds" },
on_late = { { slack = "x" }, { email = "a@b", shell = "x" }, "x" },
flow.sql "n" { on = "rds", sql = "x" },]],
    { 3, "on_success: 'shell' wants text" },
    { 3, "on_success: 'nobody' is no e-mail address" },
    { 3, "unknown connection 'alertz'", "did you mean 'alerts'?" },
    { 4, "connection 'rds' is a PostgreSQL connection, where a webhook is needed" },
    { 5, "on_late has a hook with 'slack'" },
    { 5, "on_late has a hook without webhook, shell or email" },
    { 5, "on_late has a hook with both 'shell' and 'email'" },
    { 5, "the flow: 'on_late' wants a list of { webhook = }, { shell = } and { email = }" } },
  ["several problems, sorted by place"] = { [[
flow.sql "b" { on = "nowhere", sql = "${nothing}" },
flow.sql "a" { on = "rds", sql = "x", after = "z" },
flow.sql "a" { on = "rds", sql = "x" },]],
    { 3, "unknown variable '${nothing}'" }, { 3, "unknown connection 'nowhere'" }, { 4, "is after 'z'" },
    { 5, "duplicate node 'a'" } },
}

TestBadFlows = { setUp = TestModel.setUp, tearDown = TestModel.tearDown }

for name, case in pairs(BAD) do
  TestBadFlows["test_" .. name:gsub("%W", "_") .. "_is_refused_with_its_place"] = function()
    d:flow("bad.lua", case[1])
    local r = d:run("check", "bad.lua")
    lu.assertEquals(r.code, 2, r.all)
    lu.assertEquals(r.out, "")
    local at = 1
    for i = 2, #case do
      local line, message, hint = table.unpack(case[i], 1, 3)
      local place = ("bad.lua:%d: "):format(line)
      at = r.err:find(place, at, true)
      lu.assertNotNil(at, ("no '%s' in order in\n%s"):format(place, r.err))
      local text = r.err:sub(at):match "^[^\n]*"
      lu.assertStrContains(text, message)
      if hint then lu.assertStrContains(r.err:sub(at):match "^[^\n]*\n([^\n]*)", hint) end
      at = at + #text
    end
    local _, count = r.err:gsub("bad%.lua:%d+: ", "")
    lu.assertEquals(count, #case - 1, r.err)
  end
end

function TestBadFlows.test_a_text_that_is_all_faults_is_refused_in_a_moment()
  d:flow("bad.lua", 'flow.sql "a" { on = "rds", sql = "' .. ("${"):rep(1000000) .. '" },')
  local start = os.time()
  local r = d:run("check", "bad.lua")
  lu.assertEquals(r.code, 2)
  lu.assertStrContains(r.err, "bad.lua: 5 problems")
  lu.assertTrue(os.time() - start < (os.getenv "TM_SANITIZER" ~= "" and 60 or 10))
end

function TestBadFlows.test_what_the_store_cannot_keep_is_not_utf_8()
  local function message(body)
    local ok, err = pcall(check.flow, d:flow("enc.lua", body))
    return ok and "valid" or err.message
  end
  for body, want in pairs {
    ['owner = "\\xff",\nflow.shell "a" { command = "true" },'] = "flow 'f': owner is not text in UTF-8",
    ['on_failure = { email = "a@b.c", subject = "\\xff" },\nflow.shell "a" { command = "true" },']
      = "flow 'f': hooks.on_failure.subject is not text in UTF-8",
    ['flow.shell "\\xff" { command = "true" },'] = "3: node '?': name is not text in UTF-8",
    ['vars = { v = "\\0" }, flow.shell "a" { command = "true" },'] = "flow 'f': vars.v is not text in UTF-8",
    ['flow.shell "a" { command = "echo \\xff" },'] = "valid", -- goes to the shell as it is
  } do
    lu.assertStrContains(message(body), want)
  end
end

function TestBadFlows.test_run_refuses_them_too()
  d:flow("bad.lua", 'flow.sql "a" { on = "rds", sql = "x", after = "a" },')
  local r = d:run("plan", "bad.lua")
  lu.assertEquals(r.code, 2)
  lu.assertStrContains(r.err, "bad.lua:3: cycle: a -> a")
end

function TestBadFlows.test_without_a_project_the_connection_is_the_problem()
  os.remove(d.dir .. "/tidemill.lua")
  d:flow("bad.lua", 'flow.sql "a" { on = "rds", sql = "x" },')
  local r = d:run("check", "bad.lua")
  lu.assertEquals(r.code, 2)
  lu.assertStrContains(r.err, "unknown connection 'rds'")
end

function TestBadFlows.test_several_files_are_all_looked_at()
  d:flow("good.lua", 'flow.sql "a" { on = "rds", sql = "x" },')
  d:flow("bad.lua", "")
  local r = d:run("check", "bad.lua", "good.lua")
  lu.assertEquals(r.code, 2)
  lu.assertStrContains(r.err, "bad.lua:2: flow 'f' has no nodes")
  lu.assertStrContains(r.out, "good.lua: flow 'f' is valid: 1 node")
end

function TestBadFlows.test_json_has_each_file_on_a_line()
  d:flow("good.lua", 'flow.sql "a" { on = "rds", sql = "x" },')
  d:flow("bad.lua", 'flow.sql "a" { on = "rd", sql = "x" },')
  d:flow("ugly.lua", "}")
  local r = d:run("check", "--json", "good.lua", "bad.lua", "ugly.lua")
  lu.assertEquals(r.code, 2)
  local lines = {}
  for line in r.out:gmatch "[^\n]+" do lines[#lines + 1] = json.decode(line) end
  lu.assertEquals(lines[1], { file = "good.lua", flow = "f", nodes = 1, valid = true, problems = {}, warnings = {} })
  lu.assertEquals(lines[2], { file = "bad.lua", valid = false, problems = { { file = "bad.lua", line = 3,
    message = "node 'a': unknown connection 'rd'", hint = "did you mean 'rds'?" } } })
  lu.assertStrContains(lines[3].problems[1].message, "ugly.lua:4: ")
end

os.exit(lu.LuaUnit.run())
