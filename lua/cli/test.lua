--- `tidemill test FLOW.lua|FLOW_test.lua|DIR...`: the tests that a flow's author wrote.

local collect = require "tidemill.flowtest.collect"
local errors = require "tidemill.errors"
local json = require "json"
local sandbox = require "tidemill.sandbox"
local signal = require "tidemill.signal"
local text = require "tidemill.text"

local function exists(path) return sandbox.read_file(path) ~= nil end

local function is_folder(path)
  local r = require "proc".run { cmd = { "test", "-d", path } }
  return r.code == 0
end

local function files_in(folder)
  local r = require "proc".run { cmd = { "find", folder, "-name", "*_test.lua", "-type", "f", "-print0" },
    check = true }
  local found = {}
  for path in r.stdout:gmatch "[^%z]+" do found[#found + 1] = path end
  table.sort(found)
  if #found == 0 then errors.usage(("no *_test.lua in '%s'"):format(folder)) end
  return found
end

-- The files of tests that an argument names.
local function files_of(argument)
  if is_folder(argument) then return files_in(argument) end
  if argument:find "_test%.lua$" then
    if not exists(argument) then errors.usage(("cannot read '%s'"):format(argument)) end
    return { argument }
  end
  local beside = argument:gsub("%.lua$", "") .. "_test.lua"
  if not exists(beside) then
    errors.usage(exists(argument) and ("'%s' has no tests: there is no '%s'"):format(argument, beside)
      or ("cannot read '%s'"):format(argument), "see 'tidemill help flowtest'")
  end
  return { beside }
end

-- Globals of one file are not those of the next.
local function environment()
  local env = {}
  env._G = env
  return setmetatable(env, { __index = _G })
end

local function gather(path)
  local chunk, message = loadfile(path, "t", environment())
  if not chunk then errors.usage(message) end
  return collect.gather(function() chunk(path) end)
end

-- Where a failure stands: that of the assertion, or the innermost line of the file of tests.
local function place_of(err, path)
  if err.failure then return err.line end
  for level = 3, 40 do
    local info = debug.getinfo(level, "Sl")
    if not info then return nil end
    if info.source == "@" .. path and info.currentline > 0 then return info.currentline end
  end
end

local function run_one(test, path)
  local started = signal.mono()
  local line
  local ok, err = xpcall(test.body, function(raised)
    local from = errors.from(raised)
    line = place_of(from, path)
    return from
  end)
  if not ok and err.kind == "canceled" then error(err, 0) end
  return { test = test.name, file = path, line = not ok and line or test.line, ok = ok, error = not ok and err or nil,
    ms = signal.mono() - started }
end

local Lines, Json = {}, {}

function Lines.file(path) print(path) end

function Lines.result(result)
  if result.ok then return print("ok      " .. result.test) end
  print(("FAILED  %s"):format(result.test))
  local lines = errors.lines(result.error)
  local message, place = result.error.message, ("%s:%d: "):format(result.file, result.line)
  lines[1] = "  " .. (message:sub(1, #place) == place and message or place .. message)
  for i = 2, #lines do lines[i] = "  " .. lines[i]:gsub("\n", "\n  ") end
  print(table.concat(lines, "\n"))
end

function Lines.summary(passed, failed)
  print(("%s passed, %d failed"):format(text.count(passed, "test"), failed))
end

function Json.file() end

function Json.result(result)
  local err = result.error
  print(json.encode(text.clean_all { test = result.test, file = result.file, line = result.line, ok = result.ok,
    ms = result.ms, error = err and { kind = err.kind, message = err.message, detail = err.detail,
      hint = err.hint } }))
end

function Json.summary(passed, failed) print(json.encode { passed = passed, failed = failed }) end

-- Modules beside the tests are found while `body` runs, and forgotten after it: another folder may
-- have some of the same names.
local function with_modules_beside(path, body, ...)
  local before, beside = package.path, (path:match "^(.*/)" or "./") .. "?.lua"
  local loaded = {}
  for name in pairs(package.loaded) do loaded[name] = true end
  package.path = beside .. ";" .. before -- luacheck: ignore 122
  local results = table.pack(pcall(body, ...))
  package.path = before -- luacheck: ignore 122
  for name in pairs(package.loaded) do
    if not loaded[name] and package.searchpath(name, beside) then package.loaded[name] = nil end -- luacheck: ignore 122
  end
  if not results[1] then error(results[2], 0) end
  return table.unpack(results, 2, results.n)
end

-- A file that cannot be read to its end counts as one failed test.
local function run_file(path, filter, report)
  local ok, tests = pcall(gather, path)
  if not ok then
    local err = errors.from(tests)
    if err.kind == "canceled" then error(err, 0) end
    report.result { test = "the file is read", file = path, line = err.line or 1, ok = false, error = err, ms = 0 }
    return 0, 1
  end
  local passed, failed = 0, 0
  for _, test in ipairs(tests) do
    if not filter or test.name:find(filter, 1, true) then
      local result = run_one(test, path)
      report.result(result)
      if result.ok then passed = passed + 1 else failed = failed + 1 end
    end
  end
  return passed, failed
end

local function run(opts, args)
  local report = opts.json and Json or Lines
  local passed, failed = 0, 0
  for _, argument in ipairs(args) do
    for _, path in ipairs(files_of(argument)) do
      report.file(path)
      local good, bad = with_modules_beside(path, run_file, path, opts.only, report)
      passed, failed = passed + good, failed + bad
    end
  end
  if passed + failed == 0 then
    errors.usage(opts.only and ("no test has '%s' in its name"):format(opts.only) or "there is no test in these files",
      "see 'tidemill help flowtest'")
  end
  report.summary(passed, failed)
  return failed == 0 and 0 or 1
end

return {
  name = "test",
  summary = "run the tests that a flow's author wrote; no database is needed",
  usage = "FLOW.lua|FLOW_test.lua|FOLDER...",
  args = { 1, nil },
  about = [[
Runs FLOW_test.lua beside FLOW.lua, or every *_test.lua in a folder and below. Tests look at
variables and SQL at a given time, at what runs after which outcome, at firing times, and call the
flow's functions with stubs for connections: see 'tidemill help flowtest'.

Exit code 0: all passed, 1: some failed, 2: there is none, or a file cannot be read.]],
  options = {
    { name = "only", value = "TEXT", help = "run the tests with TEXT in their name" },
    { name = "json", help = "print a JSON object for each test, then one with the counts" },
  },
  run = run,
}
