--- changes: what distinguishes two versions of a flow, node by node.

local changes = require "tidemill.changes"
local check = require "tidemill.check"
local desk = require "tests.support.desk"
local document = require "tidemill.document"
local json = require "json"
local lu = require "luaunit"

local d

TestChanges = {}

function TestChanges.setUp()
  d = desk.new "changes"
  d:project()
end

function TestChanges.tearDown() d:close() end

-- A side as publish has it, through JSON as from the store, or with its model at hand.
local function side(body, with_model)
  local model = check.flow(d:flow("f.lua", body))
  local made, sources = document.of(model), document.sources(model)
  return { document = json.decode(json.encode(made)), sources = json.decode(json.encode(sources)),
    model = with_model and model or nil }
end

-- The changes from one body to the other, in words; the same whether models are at hand.
local function told(a, b)
  local old, new, live = side(a), side(b), side(b, true)
  local lines = changes.lines(changes.between(old, new))
  lu.assertEquals(changes.lines(changes.between(old, live)), lines)
  return table.concat(lines, "\n")
end

local NOTHING = "  nothing that a run would notice"
local SQL = 'flow.sql "a" { on = "rds", sql = "SELECT 1" },'

function TestChanges.test_the_same_flow_has_no_changes()
  lu.assertEquals(told(SQL, SQL), NOTHING)
  lu.assertTrue(changes.none(changes.between(side(SQL), side(SQL))))
end

function TestChanges.test_moving_a_node_in_the_file_changes_nothing()
  local node = 'flow.lua "a" { run = function(ctx)\n  local x = ctx.vars\n  return { y = x }\nend },'
  lu.assertEquals(told(node, "\n\n-- a comment\n" .. node), NOTHING)
end

function TestChanges.test_nodes_come_and_go()
  lu.assertEquals(told(SQL .. 'flow.lua "b" { run = function() end },', SQL .. 'flow.sql "c" { on = "rds", sql = "SELECT 2" },'),
    "  + node 'c' (sql)\n  - node 'b' (lua)")
end

function TestChanges.test_a_changed_field_is_named_with_its_values_when_they_are_short()
  lu.assertEquals(told(SQL, 'flow.sql "a" { on = "adbpg", sql = "SELECT 1", retries = 2, timeout = "5m", retry_delay = "3s" },'),
    "  ~ node 'a' (sql): on rds -> adbpg; retries 0 -> 2; retry_delay 10s -> 3s; timeout none -> 5m 00s")
  lu.assertEquals(told(SQL, 'flow.sql "a" { on = "rds", sql = [[SELECT\n2]] },'), "  ~ node 'a' (sql): sql")
  lu.assertEquals(told(SQL, 'flow.sql "a" { on = "rds", sql = "SELECT 2" },'),
    "  ~ node 'a' (sql): sql SELECT 1 -> SELECT 2")
end

function TestChanges.test_functions_are_compared_by_what_they_do()
  local a = 'flow.lua "a" { run = function() return { x = %s } end },'
  lu.assertEquals(told(a:format "1", a:format "2"), "  ~ node 'a' (lua): run")
  lu.assertEquals(told(a:format "1", a:format "1 -- as before\n"), NOTHING)
end

function TestChanges.test_dependencies_conditions_and_variables_are_fields()
  local two = SQL .. 'flow.sql "b" { on = "rds", sql = "SELECT \'${x}\'", %s },'
  lu.assertEquals(told(two:format 'vars = { x = "1" }', two:format 'vars = { x = "2" }, after = "a"'),
    "  ~ node 'b' (sql): after none -> a; variable 'x' 1 -> 2")
  lu.assertEquals(told(two:format 'vars = { x = "1" }', two:format 'vars = { x = flow.time "yyyyMMdd|-1d" }'),
    "  ~ node 'b' (sql): variable 'x' 1 -> yyyyMMdd|-1d")
  lu.assertEquals(told(two:format 'vars = { x = "1" }', two:format 'vars = { x = "1" }, when = "${x} == 1"'),
    "  ~ node 'b' (sql): when none -> ${x} == 1")
end

function TestChanges.test_settings_of_the_flow_are_told()
  local lines = told(SQL .. 'schedule = { cron = "0 0 2 * * ?" },', SQL .. [[
    schedule = { every = "15m" }, on_error = "stop", concurrency = "queue", deadline = "2h",
    owner = "me",
    missed = { "all", window = "6h" }, priority = 9, vars = { day = flow.time "yyyyMMdd" },
    params = { t = { type = "text", default = "orders" } }, on_failure = { shell = "true" },]])
  for _, line in ipairs { "~ schedule: cron '0 0 2 * * ?' in UTC -> every 15m 00s", "~ on_error: complete_running -> stop",
    "~ concurrency: skip -> queue", "~ deadline: none -> 2h 00m", "~ owner: none -> me", "~ missed: skip -> all",
    "~ missed window: 1d 00h -> 6h 00m",
    "~ priority: 5 -> 9", "~ variable 'day': none -> yyyyMMdd", "~ param 't'", "~ hook 'on_failure'" } do
    lu.assertStrContains(lines, line)
  end
end

function TestChanges.test_the_period_of_a_schedule_is_part_of_it()
  lu.assertEquals(told(SQL .. 'schedule = { cron = "0 0 2 * * ?" },',
    SQL .. 'schedule = { cron = "0 0 2 * * ?", from = "2026-01-01" },'),
    "  ~ schedule: cron '0 0 2 * * ?' in UTC -> cron '0 0 2 * * ?' in UTC, from 2026-01-01 00:00:00 +00:00")
end

function TestChanges.test_required_files_are_told()
  local uses = 'flow.lua "a" { run = function() require "words".say() end },'
  d:write("words.lua", "return { say = print }")
  local a = side(uses)
  d:write("words.lua", "return { say = error }")
  lu.assertEquals(changes.lines(changes.between(a, side(uses))), { "  ~ file 'words'" })
  lu.assertEquals(changes.lines(changes.between(a, side 'flow.lua "a" { run = function() end },')),
    { "  ~ node 'a' (lua): run", "  - file 'words'" })
end

function TestChanges.test_sources_that_no_longer_load_leave_the_documents()
  local a, b = side(SQL), side 'flow.sql "a" { on = "rds", sql = "SELECT 2", retries = 1 },'
  a.sources.text = "bm90IEx1YQ=="
  lu.assertEquals(changes.lines(changes.between(a, b)), { "  ~ node 'a' (sql): retries 0 -> 1" })
  local c = side 'flow.sql "a" { on = "rds", sql = "SELECT 3" },'
  lu.assertEquals(changes.lines(changes.between(a, c)), { "  ~ node 'a' (sql): definition" })
end

os.exit(lu.LuaUnit.run())
