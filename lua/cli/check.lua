--- `tidemill check FLOW.lua...`: is it valid? No side effect, no network.

local calendar = require "tidemill.calendar"
local check = require "tidemill.check"
local document = require "tidemill.document"
local json = require "json"
local options = require "tidemill.cli.options"

local function show_warnings(model)
  for _, warning in ipairs(model.warnings) do
    io.stderr:write(("%s:%d: warning: %s\n"):format(warning.file, warning.line, warning.message))
  end
end

local function show(model)
  local count = #model.nodes
  local schedule, pipelined = document.schedule(model.schedule, model.timezone), 0
  for _, node in ipairs(model.nodes) do pipelined = pipelined + (node.pipeline and 1 or 0) end
  print(("%s: flow '%s' is valid: %d node%s%s, %s"):format(model.loaded.file, model.name, count,
    count == 1 and "" or "s", pipelined > 0 and (" (%d pipelined)"):format(pipelined) or "",
    schedule and calendar.describe(schedule, model.timezone) or "no schedule"))
end

local function places(list)
  local out = json.array {}
  for i, one in ipairs(list) do
    out[i] = { file = one.file, line = one.line, message = one.message, hint = one.hint }
  end
  return out
end

-- A file as one line of JSON; the exit code.
local function show_json(path)
  local ok, found = pcall(check.flow, path)
  if not ok and (type(found) ~= "table" or found.kind ~= "usage") then error(found, 0) end
  local told = { file = path, valid = ok, problems = places(ok and {} or found.problems or { found }) }
  if ok then told.flow, told.nodes, told.warnings = found.name, #found.nodes, places(found.warnings) end
  io.stdout:write(json.encode(told), "\n")
  return ok and 0 or 2
end

local function run(opts, args)
  if opts.json then
    local code = 0
    for _, path in ipairs(args) do code = math.max(code, show_json(path)) end
    return code
  end
  return options.each(args, function(path)
    local model = check.flow(path)
    show_warnings(model)
    if not opts.quiet then show(model) end
  end)
end

return {
  name = "check",
  summary = "is a flow valid? graph, variables, cron, connections; no side effect",
  usage = "FLOW.lua...",
  args = { 1, nil },
  about = [[
Loads each file without effects and reports every problem with its place: unknown fields and
wrong types, duplicate nodes, unknown dependencies, cycles, unknown variables, bad cron
expressions, formats and time zones, connections that the project file does not define.
Neither databases nor stores are contacted, no environment variable is needed. "pipelined" counts the
loads that take objects while their extract runs; 'tidemill plan' says which, and why others do not.
Exit code 0: valid, 2: not.]],
  options = {
    { name = "quiet", short = "q", help = "print problems and warnings only" },
    { name = "json", help = "print one JSON object a file: problems and warnings with file, line, message, hint" },
  },
  run = run,
}
