--- Is a flow valid? Everything that can be known without touching a database or a store.
---
--- `check.flow` loads a file, builds its model and looks at graph, schedule, variables and
--- connections. All problems are raised together as one usage error, sorted by place.

local errors = require "tidemill.errors"
local graph = require "tidemill.graph"
local kinds = require "tidemill.kinds"
local model = require "tidemill.model"
local project = require "tidemill.project"
local sandbox = require "tidemill.sandbox"
local suggest = require "tidemill.suggest"
local variables = require "tidemill.variables"

local check = {}

-- Any instant will do to try formats and offsets: 2024-03-15 00:00 UTC.
local SAMPLE = 1710460800

local function names_of(built)
  return suggest.keys(built.by_name)
end

local function check_graph(built)
  for _, node in ipairs(built.nodes) do
    local kept, seen = {}, {}
    for _, name in ipairs(node.after) do
      if not built.by_name[name] then
        model.complain(built, node, model.line_of(built, node, "after"),
          ("node '%s' is after '%s', which does not exist"):format(node.name, name),
          suggest.hint(name, names_of(built), "nodes"))
      elseif not seen[name] then
        kept[#kept + 1] = name
        seen[name] = true
      end
    end
    node.after = kept
  end
  for _, cycle in ipairs(graph.cycles(built.nodes)) do
    local first = built.by_name[cycle[1]]
    model.complain(built, first, first.line, ("cycle: %s"):format(table.concat(cycle, " -> ")),
      "a node cannot wait for itself; remove one 'after' of these")
  end
end

local function message_of(raised)
  return type(raised) == "table" and raised.message or tostring(raised)
end

local function check_schedule(built, zone)
  local schedule, time = built.schedule or {}, require "time"
  local function complain(field, raised)
    model.complain(built, built, model.line_of(built, built, field), message_of(raised),
      type(raised) == "table" and raised.hint or nil)
  end
  local ok, raised = pcall(time.zone, zone)
  if not ok then
    complain("timezone", raised)
    zone = "UTC"
  end
  if schedule.cron then
    ok, raised = pcall(require("cron").parse, schedule.cron, { timezone = zone, dst = schedule.dst })
    if not ok then complain("cron", raised) end
  end
  for _, field in ipairs { "from", "to" } do
    if schedule[field] then
      ok, raised = pcall(time.parse, schedule[field], zone)
      if not ok then complain(field, raised) end
    end
  end
  return zone
end

-- "sql of node 'a', line 2"
local function place_in(declared, field, text, reference)
  local _, lines = text:sub(1, reference.at - 1):gsub("\n", "")
  local whose = declared.kind and (" of node '%s'"):format(declared.name) or " of the flow"
  return field .. whose .. (text:find "\n" and (", line %d"):format(lines + 1) or "")
end

local function unknown_variable(built, declared, scope, field, text, reference)
  local where = place_in(declared, field, text, reference)
  local line = model.line_in(built, declared, field, text, reference.at)
  if reference.fault then
    model.complain(built, declared, line, ("malformed variable '%s' in %s"):format(reference.fault, where),
      "a variable is ${name}; write $${ for a literal ${")
  else
    model.complain(built, declared, line, ("unknown variable '${%s}' in %s"):format(reference.name, where),
      suggest.hint(reference.name, scope.names(), "variables"))
  end
end

-- Texts of `vars` and `constants` may refer to variables too.
local function check_definitions(built, declared, scope, field)
  local vars = declared[field]
  for _, name in ipairs(suggest.keys(vars)) do
    local content = vars[name]
    if type(content) == "string" then
      for _, reference in ipairs(variables.references(content)) do
        if reference.fault or not scope.known(reference.name) then
          unknown_variable(built, declared, scope, field, content, reference)
        end
      end
    end
    scope.value_of(name)
  end
end

local function check_variables(built, node, moment, tried)
  local scope = variables.scope(built, node, moment)
  variables.each_text(node.spec, function(text, field)
    for _, reference in ipairs(variables.references(text)) do
      if reference.fault or not scope.known(reference.name) then
        unknown_variable(built, node, scope, field, text, reference)
      end
    end
  end)
  check_definitions(built, node, scope, "vars")
  if not tried.flow then -- once, with the first node
    tried.flow = true
    check_definitions(built, built, scope, "constants")
    check_definitions(built, built, scope, "vars")
  end
  local filled = variables.fill(node.spec, scope.value_of)
  for _, fault in ipairs(scope.faults) do
    local declared = node.vars[fault.name] and node or built
    if not tried[declared] or not tried[declared][fault.message] then
      tried[declared] = tried[declared] or {}
      tried[declared][fault.message] = true
      model.complain(built, declared, model.line_of(built, declared, fault.name), fault.message)
    end
  end
  for _, clash in ipairs(variables.clashes(built, node)) do
    local key = "clash " .. clash.name .. table.concat(clash.places)
    if not tried[key] then
      tried[key] = true
      table.insert(built.warnings, { file = node.file, line = node.line,
        message = ("variable '%s' of node '%s' is defined by %s; the first one counts"):format(clash.name, node.name,
          table.concat(clash.places, " and by ")) })
    end
  end
  return filled
end

---@class tidemill.CheckOptions
---@field text? string                a stored version instead of the file ...
---@field stored? table               ... with what it requires (see sandbox.load)
---@field trusted? boolean           these sources have been checked before: only build the model
---@field project? tidemill.Project   instead of looking for tidemill.lua

--- Loads a flow file and checks it. Raises one usage error with every problem.
---@param path string
---@param opts? tidemill.CheckOptions
---@return tidemill.Model  with `timezone` (the schedule's, the project's, or "UTC") and `project`
function check.flow(path, opts)
  opts = opts or {}
  local built = model.build(sandbox.load(path, { text = opts.text, stored = opts.stored }))
  built.project = opts.project or project.open(path)
  local zone = built.schedule and built.schedule.timezone or built.project.timezone
  built.timezone = opts.trusted and zone or check_schedule(built, zone)
  check_graph(built) -- also settles `after`
  if opts.trusted then return built end
  local moment, tried = variables.moment(SAMPLE, built.timezone), {}
  local function known(name, wants) return built.project:fault(name, wants) end
  for _, node in ipairs(built.nodes) do
    local filled = check_variables(built, node, moment, tried)
    kinds.settle(node.kind, filled, known, function(field, message, hint)
      model.complain(built, node, model.line_of(built, node, field), ("node '%s': %s"):format(node.name, message),
        hint)
    end)
  end
  if #built.problems > 0 then error(errors.of_problems(built.problems), 0) end
  return built
end

return check
