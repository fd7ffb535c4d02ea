--- `tidemill plan FLOW.lua`: what would run at one time: graph, order, every text filled in.

local check = require "tidemill.check"
local errors = require "tidemill.errors"
local graph = require "tidemill.graph"
local json = require "json"
local kinds = require "tidemill.kinds"
local plan = require "tidemill.plan"
local suggest = require "tidemill.suggest"
local time = require "time"
local units = require "tidemill.units"

local DATE_TIME = "yyyy-MM-dd HH:mm:ss"

--- The scheduled time that --at names, or now.
local function scheduled_time(text, timezone)
  if not text then return os.time() end
  local ok, instant = pcall(time.parse, text, timezone)
  if not ok then
    errors.usage(("plan: --at does not understand '%s'"):format(text), "write it like \"2026-01-02 03:04:05\"")
  end
  return instant
end

local function show_instant(instant, timezone)
  return ("%s %s"):format(time.format(instant, DATE_TIME, timezone), timezone)
end

local function next_firing(model, scheduled)
  local schedule = model.schedule
  if not (schedule and schedule.cron) then return nil end
  return require("cron").parse(schedule.cron, { timezone = model.timezone, dst = schedule.dst }):next(scheduled)
end

-- "sql on rds", "extract rds -> lake:orders/"
local function label(node)
  local spec = node.spec
  local what = ({
    sql = function() return "sql on " .. spec.on end,
    extract = function() return ("extract %s -> %s"):format(spec.from, spec.to) end,
    load = function() return ("load %s -> %s %s"):format(spec.from, spec.on, spec.into) end,
  })[node.kind]
  return ("%s (%s)"):format(node.name, what and what() or node.kind)
end

local FIRST = { "on", "from", "to", "into", "query", "table", "sql" } -- shown before the others

local function shown_value(value)
  if type(value) == "function" then
    local info = debug.getinfo(value, "S")
    return ("function at %s:%d"):format(info.short_src, info.linedefined)
  end
  if type(value) ~= "table" then return tostring(value) end
  local parts = {}
  for _, one in ipairs(value) do parts[#parts + 1] = tostring(one) end
  for _, key in ipairs(suggest.keys(value)) do parts[#parts + 1] = ("%s -> %s"):format(key, value[key]) end
  return table.concat(parts, ", ")
end

-- The lines of a text without what all of them are indented by.
local function dedented(text)
  local lines, least = {}, nil
  for line in (text:gsub("^%s*\n", ""):gsub("%s+$", "") .. "\n"):gmatch "([^\n]*)\n" do
    lines[#lines + 1] = line
    local indent = line:find "%S" and #line:match "^ *"
    if indent and (indent > 0 or #lines > 1) and (not least or indent < least) then least = indent end
  end
  for i, line in ipairs(lines) do
    lines[i] = line:sub(math.min(least or 0, #line:match "^ *") + 1)
  end
  return lines
end

-- A text of several lines stands below its name.
local function add_field(out, name, value)
  local texts = (name == "sql" and type(value) == "table") and value or { value }
  for _, one in ipairs(texts) do
    local text = shown_value(one)
    if name == "delimiter" or name == "quote" or name == "escape" or name == "null" then text = ("%q"):format(text) end
    if (name == "sql" or name == "query") or text:find "\n" then
      out[#out + 1] = ("     %s:"):format(name)
      for _, line in ipairs(dedented(text)) do out[#out + 1] = line == "" and "" or "       " .. line end
    else
      out[#out + 1] = ("     %-12s %s"):format(name, text)
    end
  end
end

local function add_node(out, i, node, model)
  out[#out + 1] = ("%2d. %s (%s)"):format(i, node.name, node.kind)
  if #node.after > 0 then out[#out + 1] = ("     %-12s %s"):format("after", table.concat(node.after, ", ")) end
  local declared = model.by_name[node.name]
  if declared.retries > 0 then
    out[#out + 1] = ("     %-12s %d, %s apart at first"):format("retries", declared.retries,
      units.show_duration(declared.retry_delay))
  end
  if declared.timeout then
    out[#out + 1] = ("     %-12s %s"):format("timeout", units.show_duration(declared.timeout))
  end
  for _, variable in ipairs(node.variables) do
    out[#out + 1] = ("     ${%s} = %s  (%s)"):format(variable.name, variable.value or "not known yet", variable.from)
  end
  local seen = {}
  for _, name in ipairs(FIRST) do
    seen[name] = true
    if node.spec[name] ~= nil then add_field(out, name, node.spec[name]) end
  end
  local defaults = kinds.nodes[node.kind]
  for _, name in ipairs(suggest.keys(node.spec)) do
    local default = defaults[name].default
    if not seen[name] and (default == nil or default ~= node.spec[name]) then add_field(out, name, node.spec[name]) end
  end
end

local function text_of(model, made, next_time)
  local out = { ("flow         %s"):format(model.name) }
  out[#out + 1] = ("file         %s"):format(model.loaded.file)
  local cron = model.schedule and model.schedule.cron
  out[#out + 1] = ("schedule     %s"):format(cron and ("%s, next %s"):format(cron,
    next_time and show_instant(next_time, made.timezone) or "never") or "none: runs by hand")
  out[#out + 1] = ("policies     on_error %s, concurrency %s, missed %s"):format(model.on_error, model.concurrency,
    model.missed.policy)
  out[#out + 1] = ("scheduled    %s"):format(show_instant(made.scheduled, made.timezone))
  out[#out + 1] = ("business     %s"):format(show_instant(made.business, made.timezone))
  out[#out + 1] = ""
  for _, line in ipairs(graph.draw(made.nodes, label)) do out[#out + 1] = line end
  for i, node in ipairs(made.nodes) do
    out[#out + 1] = ""
    add_node(out, i, node, model)
  end
  return table.concat(out, "\n") .. "\n"
end

local function plain(value)
  if type(value) == "function" then return shown_value(value) end
  if type(value) ~= "table" then return value end
  local copy = {}
  for key, one in pairs(value) do copy[key] = plain(one) end
  return copy
end

local function json_of(model, made, next_time)
  local nodes = json.array {}
  for _, node in ipairs(made.nodes) do
    local used = json.array {}
    for _, variable in ipairs(node.variables) do
      used[#used + 1] = { name = variable.name, value = variable.value, from = variable.from }
    end
    nodes[#nodes + 1] = { name = node.name, kind = node.kind, level = node.level, line = node.line,
      after = json.array(table.move(node.after, 1, #node.after, 1, {})),
      pending = json.array(table.move(node.pending, 1, #node.pending, 1, {})),
      variables = used, spec = plain(node.spec) }
  end
  return json.encode { flow = made.flow, file = model.loaded.file, scheduled = made.scheduled,
    business = made.business, timezone = made.timezone, next = next_time,
    schedule = model.schedule and plain(model.schedule), on_error = model.on_error,
    concurrency = model.concurrency, missed = model.missed, nodes = nodes } .. "\n"
end

local function run(opts, args)
  local model = check.flow(args[1])
  for _, warning in ipairs(model.warnings) do
    io.stderr:write(("%s:%d: warning: %s\n"):format(warning.file, warning.line, warning.message))
  end
  local scheduled = scheduled_time(opts.at, model.timezone)
  local made = plan.make(model, { scheduled = scheduled })
  local render = opts.json and json_of or text_of
  io.stdout:write(render(model, made, next_firing(model, scheduled)))
  return 0
end

return {
  name = "plan",
  summary = "what would run: graph, order, every SQL with variables filled in",
  usage = "FLOW.lua",
  args = { 1, 1 },
  about = [[
Shows the flow as it would run at one scheduled time. Variables are computed from the
business time, which is the scheduled time minus one day in the flow's time zone. Nothing is
contacted, nothing is changed.]],
  options = {
    { name = "at", value = "TIME",
      help = "the scheduled time, \"2026-01-02 03:04:05\" in the flow's zone; default now" },
    { name = "json", help = "print JSON; times are seconds since 1970" },
  },
  run = run,
}
