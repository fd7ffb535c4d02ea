--- `tidemill plan FLOW.lua`: what would run at one time: graph, order, every text filled in.

local calendar = require "tidemill.calendar"
local check = require "tidemill.check"
local condition = require "tidemill.condition"
local document = require "tidemill.document"
local errors = require "tidemill.errors"
local graph = require "tidemill.graph"
local json = require "json"
local kinds = require "tidemill.kinds"
local options = require "tidemill.cli.options"
local plan = require "tidemill.plan"
local suggest = require "tidemill.suggest"
local time = require "time"
local units = require "tidemill.units"
local variables = require "tidemill.variables"

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

-- The first firing time after an instant, in seconds; nil when there is none.
local function next_firing(model, scheduled)
  local schedule = document.schedule(model.schedule, model.timezone)
  local first = calendar.next(schedule, math.floor(scheduled * 1000))[1]
  return first and first // 1000
end

-- "sql on rds", "extract rds -> lake:orders/"
local function label(node)
  local spec = node.spec
  local what = node.kind
  if spec.on then what = what .. " on " .. spec.on end
  if node.kind == "extract" then
    what = ("extract %s -> %s"):format(spec.from, spec.to)
  elseif node.kind == "load" then
    what = ("load %s -> %s %s%s"):format(spec.from, spec.on, spec.into,
      node.pipeline and (", while '%s' runs"):format(node.pipeline) or "")
  elseif node.kind == "wait_for" then
    what = "wait_for " .. (spec.what == "previous" and "the previous run" or spec.what .. " " .. spec[spec.what])
  elseif node.kind == "subflow" then
    what = "subflow " .. (spec.flow or spec.file)
  end
  return ("%s (%s)"):format(node.name, what)
end

local FIRST = { "on", "from", "to", "into", "query", "table", "sql" } -- shown before the others
local HIDDEN = { template = true, what = true, timeout = true, pipeline = true } -- of a spec: told otherwise

local function function_at(value)
  local info = debug.getinfo(value, "S")
  return ("function at %s:%d"):format(info.short_src, info.linedefined)
end

-- A value on one line; tables in tables stand in braces.
local function shown_value(value, inside)
  if type(value) == "function" then return function_at(value) end
  if condition.is(value) then
    local call = condition.call(value)
    return call and function_at(call) or table.concat(condition.texts(value), ", and ")
  end
  if type(value) ~= "table" then return tostring(value) end
  local parts = {}
  for _, one in ipairs(value) do parts[#parts + 1] = shown_value(one, true) end
  for _, key in ipairs(suggest.keys(value)) do
    parts[#parts + 1] = ("%s = %s"):format(key, shown_value(value[key], true))
  end
  local text = table.concat(parts, ", ")
  return inside and "{ " .. text .. " }" or text
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

-- A duration or a size as people write it; a table made from the data alone.
local function shown_quantity(field, value)
  local kind = field and field.type
  if kind == "duration" then return units.show_duration(value) end
  if kind == "size" then return units.show_setting(value) end
  if kind == "create" and type(value) == "table" and next(value) == nil then return true end
  return kind == "rate" and units.show_setting(value) .. "/s" or value
end

local function add_line(out, name, text)
  out[#out + 1] = ("     %-12s %s"):format(name, text)
end

local QUOTED = { delimiter = true, quote = true, escape = true, null = true, separator = true }

-- A text of several lines stands below its name; of several values each has a line.
local function add_field(out, name, value)
  local several = type(value) == "table" and (name == "sql" or type(value[1]) == "table")
  for _, one in ipairs(several and value or { value }) do
    local text = shown_value(one)
    if QUOTED[name] then text = ("%q"):format(text) end
    if name == "sql" or name == "query" or text:find "\n" then
      out[#out + 1] = ("     %s:"):format(name)
      for _, line in ipairs(dedented(text)) do out[#out + 1] = line == "" and "" or "       " .. line end
    else
      add_line(out, name, text)
    end
  end
end

-- Of a load right behind an extract: whether it takes objects while that runs.
local function add_pipeline(out, node, model)
  local declared = model.by_name[node.name]
  if declared.pipeline then
    add_line(out, "pipeline", ("takes objects while '%s' runs, commits once that has succeeded"):format(
      declared.pipeline))
    return
  end
  for _, name in ipairs(declared.no_pipeline and node.after or {}) do
    if model.by_name[name].kind == "extract" then
      add_line(out, "pipeline", "no, since " .. declared.no_pipeline)
      return
    end
  end
end

-- What a node says of when and how it runs.
local function add_policies(out, node, model)
  local declared = model.by_name[node.name]
  if #node.after > 0 then add_line(out, "after", table.concat(node.after, ", ")) end
  add_pipeline(out, node, model)
  if declared.delivered_by then
    add_line(out, "delivered by", #declared.delivered_by > 0 and table.concat(declared.delivered_by, ", ")
      or "itself: no load behind it reads its place")
  end
  if declared.trigger ~= "all_success" then add_line(out, "trigger", declared.trigger) end
  if node.when then add_line(out, "when", shown_value(node.when)) end
  if declared.retries > 0 then
    add_line(out, "retries", ("%d, %s apart at first"):format(declared.retries,
      units.show_duration(declared.retry_delay)))
  end
  if declared.timeout then add_line(out, "timeout", units.show_duration(declared.timeout)) end
  if declared.max_wait then add_line(out, "max_wait", units.show_duration(declared.max_wait)) end
  if declared.deadline then add_line(out, "deadline", units.show_duration(declared.deadline)) end
  if declared.allow_failure then add_line(out, "allow_failure", "true") end
  if declared.pool then add_line(out, "pool", declared.pool) end
  if declared.priority ~= 5 then add_line(out, "priority", declared.priority) end
end

local function add_node(out, i, node, model)
  out[#out + 1] = ("%2d. %s (%s)"):format(i, node.name, node.kind)
  add_policies(out, node, model)
  for _, variable in ipairs(node.variables) do
    out[#out + 1] = ("     ${%s} = %s  (%s)"):format(variable.name, variable.value or "not known yet", variable.from)
  end
  local seen = {}
  for _, name in ipairs(FIRST) do
    seen[name] = true
    if node.spec[name] ~= nil then add_field(out, name, node.spec[name]) end
  end
  local declared = kinds.nodes[node.kind]
  for _, name in ipairs(suggest.keys(node.spec)) do
    local value = node.spec[name]
    local default = declared[name] and declared[name].default
    local shown = shown_quantity(declared[name], value)
    local empty = type(shown) == "table" and next(shown) == nil
    if not seen[name] and not HIDDEN[name] and not empty and (default == nil or default ~= value) then
      add_field(out, name, shown)
    end
  end
end

local function schedule_text(model, zone, next_time)
  local schedule = document.schedule(model.schedule, model.timezone)
  if not schedule then return "none: runs by hand" end
  local text = calendar.describe(schedule, zone)
  if schedule.kind == "event" then return text end
  return ("%s, next %s"):format(text, next_time and show_instant(next_time, zone) or "never")
end

local function hook_text(hook)
  return hook.webhook and "webhook " .. hook.webhook or hook.shell and "shell " .. hook.shell
    or "email " .. table.concat(hook.email, ", ")
end

local function add_head(out, model, made, next_time)
  out[#out + 1] = ("flow         %s"):format(model.name)
  out[#out + 1] = ("file         %s"):format(model.loaded.file)
  out[#out + 1] = ("schedule     %s"):format(schedule_text(model, made.timezone, next_time))
  out[#out + 1] = ("policies     on_error %s, concurrency %s, missed %s"):format(model.on_error, model.concurrency,
    model.missed.policy)
  if model.priority ~= 5 then out[#out + 1] = ("priority     %d"):format(model.priority) end
  if model.deadline then out[#out + 1] = ("deadline     %s"):format(units.show_duration(model.deadline)) end
  for _, event in ipairs { "on_success", "on_failure", "on_late" } do
    for _, hook in ipairs(model[event] or {}) do out[#out + 1] = ("%-12s %s"):format(event, hook_text(hook)) end
  end
  out[#out + 1] = ("scheduled    %s"):format(show_instant(made.scheduled, made.timezone))
  out[#out + 1] = ("business     %s"):format(show_instant(made.business, made.timezone))
  out[#out + 1] = ""
end

local function text_of(model, made, next_time)
  local out = {}
  add_head(out, model, made, next_time)
  for _, line in ipairs(graph.draw(made.nodes, label)) do out[#out + 1] = line end
  for i, node in ipairs(made.nodes) do
    out[#out + 1] = ""
    add_node(out, i, node, model)
  end
  return table.concat(out, "\n") .. "\n"
end

local function plain(value)
  if type(value) == "function" or condition.is(value) then return shown_value(value) end
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
    local declared, spec = model.by_name[node.name], plain(node.spec)
    spec.template = nil
    nodes[#nodes + 1] = { name = node.name, kind = node.kind, level = node.level, line = node.line,
      pipeline = declared.pipeline, no_pipeline = declared.no_pipeline, delivered_by = declared.delivered_by,
      trigger = declared.trigger,
      when = node.when and shown_value(node.when), pool = declared.pool,
      priority = declared.priority, allow_failure = declared.allow_failure, retries = declared.retries,
      timeout = declared.timeout, max_wait = declared.max_wait, deadline = declared.deadline,
      after = json.array(table.move(node.after, 1, #node.after, 1, {})),
      pending = json.array(table.move(node.pending, 1, #node.pending, 1, {})),
      variables = used, spec = spec }
  end
  return json.encode { flow = made.flow, file = model.loaded.file, scheduled = made.scheduled,
    business = made.business, timezone = made.timezone, next = next_time,
    schedule = model.schedule and plain(model.schedule), on_error = model.on_error,
    concurrency = model.concurrency, missed = model.missed, priority = model.priority, deadline = model.deadline,
    on_success = plain(model.on_success), on_failure = plain(model.on_failure), on_late = plain(model.on_late),
    set = model.set, nodes = nodes } .. "\n"
end

local function run(opts, args)
  local model = check.flow(args[1])
  variables.set(model, options.settings("plan", opts.set))
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
    { name = "set", value = "NAME=VALUE", many = true, help = "another value for a variable; may be repeated" },
    { name = "json", help = "print JSON; times are seconds since 1970" },
  },
  run = run,
}
