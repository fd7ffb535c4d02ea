--- `tidemill help`, the doc comments behind it, and that they tell the truth.

local desk = require "tests.support.desk"
local docs = require "tidemill.docs"
local embedded = require "tidemill.embedded"
local lu = require "luaunit"

local function modules()
  local names = {}
  for _, path in ipairs(embedded.names()) do names[#names + 1] = path:match "^stdlib/([%w_]+)%.lua$" end
  return names
end

local function page_of(name) return docs.parse(embedded.source("stdlib/" .. name .. ".lua")) end

-- The members of a module that its page documents: name -> kind.
local function documented(name)
  local found = {}
  for _, item in ipairs(page_of(name).items) do
    local member = (item.kind == "function" or item.kind == "value") and not item.of
      and item.name:match("^" .. name .. "%.([%w_]+)$")
    if member then found[member] = item.kind end
  end
  return found
end

TestDocs = {}

function TestDocs.test_every_member_of_a_module_is_documented_and_exists()
  for _, name in ipairs(modules()) do
    local module, told = require(name), documented(name)
    for member, value in pairs(module) do
      if not member:find "^_" then
        lu.assertNotNil(told[member], ("%s.%s has no doc comment"):format(name, member))
        lu.assertEquals(told[member] == "function", type(value) == "function", name .. "." .. member)
      end
    end
    for member in pairs(told) do
      lu.assertNotNil(module[member], ("%s.%s is documented but does not exist"):format(name, member))
    end
  end
end

function TestDocs.test_every_module_has_a_head_with_an_example_and_text_for_every_function()
  for _, name in ipairs(modules()) do
    local page = page_of(name)
    lu.assertTrue(#docs.summary(page) > 10, name)
    lu.assertStrContains(table.concat(page.lines, "\n"), "    ", false, name .. " has no example")
    for _, item in ipairs(page.items) do
      if item.kind == "function" then
        lu.assertStrMatches(table.concat(item.lines, "\n"), ".*%S.*", nil, nil, name .. ": " .. item.name)
      end
    end
  end
end

function TestDocs.test_a_page_is_made_of_comments()
  local page = docs.parse [[
---@meta m
--- Does things.
---
---     example()

local m = {}

---@class m.Opts
---@field rows? integer  most rows
---(default 5)
---@field map fun(row: table, n: integer): table?  changes a row
---            or drops it

--- A thing.
---@class m.Thing
local Thing = {}

--- Opens one.
---@param name string
---@param opts? m.Opts  how
---@return m.Thing? thing  nil: none
function m.open(name, opts) end

--- Ends it.
function Thing:close() end

--- Nothing at all.
m.null = nil

--- Not told.
local function hidden() end
]]
  local text = docs.render("m", page)
  for _, part in ipairs { "module m\n\nDoes things.\n\n    example()", "m.open(name, opts) -> m.Thing?\n    Opens one.",
    "opts?  m.Opts\n          how", "thing: m.Thing?, nil: none", "METHODS\n\nThing:close()\n    Ends it.", "VALUES\n\nm.null",
    "rows?  integer\n          most rows (default 5)", "map  fun(row: table, n: integer): table?\n          changes a row or drops it",
    "m.Thing\n    A thing." } do
    lu.assertStrContains(text, part)
  end
  lu.assertNotStrContains(text, "hidden")
end

TestHelp = {}

function TestHelp.setUp() TestHelp.desk = desk.new "help" end
function TestHelp.tearDown() TestHelp.desk:close() end

function TestHelp.test_the_overview_names_all_and_each_has_its_page()
  local d = TestHelp.desk
  local overview = d:run "help"
  lu.assertEquals(overview.code, 0, overview.all)
  local count = 0
  for topic in overview.out:gmatch "\n  ([%w_-]+) +%S" do
    local r = d:run("help", topic)
    lu.assertEquals(r.code, 0, topic .. r.all)
    lu.assertTrue(#r.out > 60, topic)
    count = count + 1
  end
  local main, shown = require "tidemill.main", 0
  for _, name in ipairs(main.commands) do shown = shown + (main.command(name).hidden and 0 or 1) end
  lu.assertEquals(count, #require "tidemill.cli.help".topics() + shown, overview.out)
end

function TestHelp.test_the_page_of_ossd_is_its_own_help()
  local d = TestHelp.desk
  local r = d:run("help", "ossd")
  lu.assertStrContains(r.out, "--root DIR")
  lu.assertEquals(r.out, d:run("ossd", "--help").out)
end

function TestHelp.test_the_page_of_oss_fdw_has_each_option_setting_and_function()
  local page = TestHelp.desk:run("help", "oss_fdw").out
  local function names(path, pattern)
    local file <close> = assert(io.open("runtime/oss_fdw/" .. path))
    local count = 0
    for name in file:read "a":gmatch(pattern) do
      count = count + 1
      if not name:find "_handler" and not name:find "_validator" then
        lu.assertStrContains(page, name)
      end
    end
    lu.assertTrue(count > 5, path)
  end
  names("optdef.c", '{"([%l_]+)", FDW_ON')
  names("guc.c", '"(oss_fdw%.[%l_]+)"')
  names("oss_fdw--1.0.sql", "CREATE FUNCTION ([%l_]+)")
end

function TestHelp.test_an_unknown_topic_suggests_the_nearest()
  local r = TestHelp.desk:run("help", "variable")
  lu.assertEquals(r.code, 2)
  lu.assertStrContains(r.err, "no help on 'variable'\nhint: did you mean 'variables'?")
end

function TestHelp.test_the_examples_of_flows_are_valid()
  local d = TestHelp.desk
  d:project()
  local texts = { embedded.source "stdlib/flow.lua", require "tidemill.help.flow-file" }
  local readme = io.open "README.md"
  if readme then
    texts[#texts + 1] = readme:read "a"
    readme:close()
  end
  local count = 0
  for _, text in ipairs(texts) do
    text = "\n" .. text:gsub("\n%-%-%- ?", "\n"):gsub("\n```%w*", "\n")
    for example in text:gmatch '\n( *local flow = require "flow"\n.-\n *return flow ".-\n *}\n)' do
      local indent = example:match "^ *"
      example = ("\n" .. example):gsub("\n" .. indent, "\n")
      example = example:match '^.-\n}\n'
      d:write("example.lua", example)
      local r = d:run("check", "example.lua")
      lu.assertEquals(r.code, 0, r.all .. example)
      count = count + 1
    end
  end
  lu.assertTrue(count >= 3, "no example found")
end

function TestHelp.test_the_settings_that_topics_show_are_valid()
  local d = TestHelp.desk
  d:project()
  local count = 0
  for topic, name in pairs { schedules = "schedule", policies = "on_failure", variables = "params",
    hooks = "on_failure" } do
    local page = require("tidemill.help." .. topic)
    for at in page:gmatch("\n    ()" .. name .. " = [^\n]") do
      local setting = page:match("^[^\n]*{\n.-\n    }", at) or page:match("^[^\n]*", at)
      d:flow("setting.lua", 'flow.sql "n" { on = "rds", sql = "x" },\n' .. setting)
      local r = d:run("check", "setting.lua")
      lu.assertEquals(r.code, 0, r.all .. setting)
      count = count + 1
    end
  end
  lu.assertEquals(count, 8)
end

function TestHelp.test_the_scripts_are_valid_without_any_environment()
  for _, name in ipairs { "rds_to_adbpg", "orders_to_warehouse", "events_by_day" } do
    local r = require("proc").run { cmd = { os.getenv "TM_BIN", "check", "scripts/" .. name .. ".lua" } }
    lu.assertEquals(r.code, 0, r.stderr)
  end
end

os.exit(lu.LuaUnit.run())
