--- tidemill.sandbox: declaring touches nothing, and says where it went wrong.

local desk = require "tests.support.desk"
local lu = require "luaunit"
local sandbox = require "tidemill.sandbox"

local d

local function setUp() d = desk.new "sandbox" end
local function tearDown() d:close() end

TestSandbox = { setUp = setUp, tearDown = tearDown }

local function load_text(text, opts)
  return sandbox.load(d:write("a.lua", text), opts)
end

local function message_of(text, opts)
  local ok, err = pcall(load_text, text, opts)
  lu.assertFalse(ok, text)
  lu.assertEquals(err.kind, "usage")
  return err.message
end

function TestSandbox.test_nothing_of_the_world_is_in_reach()
  for _, text in ipairs { 'io.open("/etc/passwd")', "os.execute 'true'", "os.time()", "os.getenv 'HOME'",
    "print 'x'", "math.random()", "math.randomseed(1)", "debug.getinfo(1)", "package.loaded", "loadfile 'x'", "dofile 'x'",
    "collectgarbage()", "coroutine.wrap(print)", "string.dump(function() end)", "require('proc').run {}",
    "require('pg').connect 'x'", "require 'pg'.x = 1", "getmetatable('').__index.rep = nil", "_G.io.x()",
    "load('io.open()')()", "setmetatable({}, { __gc = true })", "require 'tidemill.errors'", "require 'flow'.sql = 1", "env 'HOME'" } do
    message_of("local _ = " .. text .. " ")
    message_of(text)
  end
  lu.assertEquals(("x"):rep(2), "xx")
end

function TestSandbox.test_pure_lua_is_there()
  local loaded = load_text [[
    local t = {}
    for i, word in ipairs { "a", "b" } do t[i] = word:upper() .. string.format("%d", i) end
    table.sort(t, function(a, b) return a > b end)
    return select("#", table.unpack(t)) + math.floor(2.5) + utf8.len "é" + #tostring(_VERSION) * 0
      + (pcall(error, "x") and 100 or 0) + load("return 1")()]]
  lu.assertEquals(loaded.value, 6)
end

function TestSandbox.test_what_the_file_changes_stays_in_it()
  load_text "string.rep = nil; table.insert = nil; x = 1; math.pi = 3"
  lu.assertIsFunction(string.rep)
  lu.assertIsFunction(table.insert)
  lu.assertNil(rawget(_G, "x"))
  lu.assertNotEquals(math.pi, 3)
end

function TestSandbox.test_an_undefined_name_suggests_the_nearest()
  lu.assertStrContains(message_of "\nlocal x = strin.rep('x', 2)", "a.lua:2: undefined variable 'strin'; did you mean 'string'?")
  lu.assertStrContains(message_of "return tosting(1) .. ''", "did you mean 'tostring'?")
  lu.assertStrContains(message_of "local f = require 'flow'\nlocal n = f.extrat 'x'", "a.lua:2: flow.extrat does not exist")
end

function TestSandbox.test_errors_name_file_and_line()
  for text, wanted in pairs {
    ["x = = 1"] = "a.lua:1: unexpected symbol near '='",
    ["\n\nlocal t = nil; t.x = 1"] = "a.lua:3: attempt to index a nil value",
    ["\nerror 'stop here'"] = "a.lua:2: stop here",
    ["error({})"] = "a.lua: raised a table instead of a message",
    ["error()"] = "a.lua: raised a nil instead of a message",
    ["\27Lua"] = "a.lua: ",
  } do
    lu.assertStrContains(message_of(text), wanted)
  end
  local ok, err = pcall(sandbox.load, d.dir .. "/missing.lua")
  lu.assertFalse(ok)
  lu.assertStrContains(err.message, "missing.lua: No such file or directory")
end

function TestSandbox.test_a_long_path_is_given_in_full()
  local long = ("folder_with_a_long_name/"):rep(4)
  local path = d:write(long .. "a.lua", "\nerror 'here'")
  local ok, err = pcall(sandbox.load, path)
  lu.assertFalse(ok)
  lu.assertEquals(err.message, path .. ":2: here")
end

function TestSandbox.test_an_endless_loop_is_stopped_even_behind_pcall()
  local limit = { steps = 3, seconds = 10 }
  for _, text in ipairs { "while true do end", "while true do pcall(function() while true do end end) end",
    "local function f() return f() end f()", "while true do pcall(load 'while true do end') end",
    "while true do xpcall(function() while true do end end, function() while true do end end) end",
    "setmetatable({}, { __index = function() while true do end end }).x = 1 local _ = setmetatable({}, "
      .. "{ __index = function() while true do end end }).y" } do
    lu.assertStrContains(message_of(text, { limit = limit }), "computes for too long while being declared")
  end
  lu.assertNil(debug.gethook())
end

function TestSandbox.test_files_beside_the_flow_are_required_and_remembered()
  d:write("shared.lua", 'local deep = require "lib.deep"\nreturn { n = deep.n + 1 }')
  d:write("lib/deep.lua", "return { n = 41 }")
  d:write("late.lua", "return 'late'")
  local loaded = load_text [[
    local shared = require "shared"
    assert(shared == require "shared")
    return { n = shared.n, run = function() return require "late" end }]]
  lu.assertEquals(loaded.value.n, 42)
  local names = {}
  for i, file in ipairs(loaded.files) do
    names[i] = file.module or "flow"
    lu.assertEquals(file.text, sandbox.read_file(file.path))
  end
  lu.assertEquals(names, { "flow", "shared", "lib.deep", "late" })
  loaded:start()
  lu.assertEquals(loaded.value.run(), "late")
end

function TestSandbox.test_a_stored_version_needs_no_files()
  local loaded = sandbox.load("gone/a.lua", { text = 'return require "shared"',
    stored = { shared = { path = "gone/shared.lua", text = "return 7" } } })
  lu.assertEquals(loaded.value, 7)
end

function TestSandbox.test_an_error_in_a_required_file_names_that_file()
  d:write("shared.lua", "\n\nerror 'broken'")
  lu.assertStrContains(message_of 'local _ = require "shared"', "shared.lua:3: broken")
  lu.assertStrContains(message_of '\nlocal _ = require "shard"', "a.lua:2: no module 'shard'")
end

function TestSandbox.test_modules_named_while_declaring_work_while_running()
  local loaded = load_text [[
    local json = require "json"
    local function encode(t) return json.encode(t) end
    return { encode = encode, early = pcall(encode, {}) }]]
  lu.assertFalse(loaded.value.early)
  loaded:start()
  lu.assertEquals(loaded.value.encode { 1 }, "[1]")
end

function TestSandbox.test_running_functions_see_the_whole_library()
  local loaded = load_text "return function() return os.time() > 0 and io.open and math.random() and coroutine.create end"
  lu.assertFalse(pcall(loaded.value))
  loaded:start()
  lu.assertIsFunction(loaded.value())
end

os.exit(lu.LuaUnit.run())
