--- Flow files, good and bad: the model, and every message of `tidemill check`.

local check = require "tidemill.check"
local desk = require "tests.support.desk"
local lu = require "luaunit"

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
    escape = '"', null = "", header = false, encoding = "UTF8", compress = "none", object_size = 256 << 20 })
  lu.assertEquals(l.spec, { from = "lake:p/", on = "adbpg", into = "t", mode = "append" })
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

function TestModel.test_a_flow_of_a_hundred_nodes_is_checked_within_50_ms()
  local lines = {}
  for i = 1, 100 do
    lines[i] = ('flow.sql "n%d" { on = "rds", sql = "SELECT ${bizdate}, %d", after = %s },'):format(i, i,
      i > 1 and ('"n%d"'):format(i - 1) or "{}")
  end
  local path = d:flow("big.lua", table.concat(lines, "\n"))
  local start = os.clock()
  check.flow(path)
  local seconds = os.clock() - start
  lu.assertTrue(seconds < (os.getenv "TM_SANITIZER" ~= "" and 1 or 0.05), seconds .. " s")
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
  ["a node without its table"] = { 'flow.sql "a",', { 3, "flow.sql 'a' has no table { ... }" } },
  ["a value that is no node"] = { 'flow.sql "a" { on = "rds", sql = "x" }, 42,', { 2, "value 2 of the flow is not a node" } },
  ["a table name that is none"] = { 'flow.load "a" { from = "lake:x/", on = "rds", into = "a b; DROP" },',
    { 3, "'a b; DROP' does not name a table" } },
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

os.exit(lu.LuaUnit.run())
