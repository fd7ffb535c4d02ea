--- `${name}` in the texts of a node, filled in for one business time.
---
--- Replacement is textual, before anything reaches a database: quotes around a value are the
--- author's. `$${` stands for a literal `${`. Names are letters, digits, '_' and '.', and
--- may start with a digit.
---
--- The same name may be defined in several places; the first of these counts: variables of
--- the node, variables of the flow, constants of the flow, outputs of upstream nodes,
--- system variables. The system variables are
---
---     bizdate         business time, yyyy-MM-dd
---     biztime         business time, yyyy-MM-dd HH:mm:ss
---     scheduled_date  scheduled time, yyyy-MM-dd
---     scheduled_time  scheduled time, yyyy-MM-dd HH:mm:ss
---     timezone        the flow's zone
---     flow_name, node_name
---     run_id          of the run; in `tidemill plan` the text RUN_ID
---
--- An output `x` of the node `n` is `${x}` in every node behind `n`, or `${n.x}` where two
--- upstream nodes have an output of that name. Extracts have `${n.rows}`, `${n.objects}`,
--- `${n.bytes}` and `${n.manifest}`, loads `${n.rows}`. Texts in `vars` and `constants` may refer to
--- other variables; outputs are never looked into, since they are data.

local graph = require "tidemill.graph"
local condition = require "tidemill.condition"
local kinds = require "tidemill.kinds"
local references = require "tidemill.references"
local suggest = require "tidemill.suggest"
local time = require "time"

local variables = { references = references.find, expand = references.expand }

---@class variables.Moment
---@field scheduled number  epoch seconds
---@field business number   epoch seconds
---@field timezone string
---@field run_id? string
---@field outputs? table<string, table<string, string>>  by node, then by name

--- The business time of a scheduled time: a calendar day earlier in the zone.
---@param scheduled number  epoch seconds
---@param timezone string
---@param more? table  run_id, outputs
---@return variables.Moment
function variables.moment(scheduled, timezone, more)
  more = more or {}
  return { scheduled = scheduled, business = time.business(scheduled, timezone), timezone = timezone,
    run_id = more.run_id, outputs = more.outputs or {} }
end

local DATE, DATE_TIME = "yyyy-MM-dd", "yyyy-MM-dd HH:mm:ss"

local system = {
  bizdate = function(m) return time.format(m.business, DATE, m.timezone) end,
  biztime = function(m) return time.format(m.business, DATE_TIME, m.timezone) end,
  scheduled_date = function(m) return time.format(m.scheduled, DATE, m.timezone) end,
  scheduled_time = function(m) return time.format(m.scheduled, DATE_TIME, m.timezone) end,
  timezone = function(m) return m.timezone end,
  flow_name = function(_, model) return model.name end,
  node_name = function(_, _, node) return node.name end,
  run_id = function(m) return m.run_id or "RUN_ID" end,
}

---@class variables.Scope
---@field value_of fun(name: string): string?  nil: unknown, or an output that is not there yet
---@field known fun(name: string): boolean
---@field names fun(): string[]
---@field used {name: string, value: string?, from: string}[]  in the order of first use
---@field faults {name: string, message: string}[]

-- The outputs that a node may refer to: by plain name the list of nodes that have it.
local function outputs_of(model, node)
  local by_name = {}
  local upstream = graph.upstream(model.nodes, node.name)
  for _, other in ipairs(model.nodes) do
    if upstream[other.name] then
      local declared, fixed = kinds.outputs(other.kind, other.spec)
      for _, name in ipairs(declared) do
        by_name[name] = by_name[name] or {}
        table.insert(by_name[name], other.name)
        by_name[other.name .. "." .. name] = { other.name, plain = name }
      end
      for _, name in ipairs(fixed) do
        by_name[other.name .. "." .. name] = { other.name, plain = name }
      end
    end
  end
  return by_name
end

--- What `${name}` means in one node at one moment.
---@param model tidemill.Model
---@param node tidemill.Node
---@param moment variables.Moment
---@return variables.Scope
function variables.scope(model, node, moment)
  local outputs, cache, busy = outputs_of(model, node), {}, {}
  local scope = { used = {}, faults = {} }

  local function fault(name, message)
    table.insert(scope.faults, { name = name, message = message })
  end

  local function defined(name)
    if node.vars[name] ~= nil then return node.vars[name], "node" end
    if model.vars[name] ~= nil then return model.vars[name], "flow" end
    if model.constants[name] ~= nil then return model.constants[name], "constant" end
    if outputs[name] then return outputs[name], "output" end
    if system[name] then return system[name], "system" end
  end

  local function evaluate(name, content, from)
    if from == "system" then return content(moment, model, node) end
    if from == "output" then
      if #content > 1 then
        fault(name, ("'${%s}' is an output of several nodes: %s"):format(name, table.concat(content, ", ")))
      end
      return (moment.outputs[content[1]] or {})[content.plain or name]
    end
    if type(content) == "table" then
      local ok, value = pcall(time.variable, moment.business, content.pattern, nil, moment.timezone)
      if ok then return value end
      fault(name, ("variable '%s': %s"):format(name, type(value) == "table" and value.message or tostring(value)))
      return "?"
    end
    return variables.expand(content, scope.value_of)
  end

  function scope.value_of(name)
    if cache[name] then return cache[name].value end
    if busy[name] then
      fault(name, ("variable '%s' refers to itself"):format(name))
      return "?"
    end
    local content, from = defined(name)
    if content == nil then return nil end
    busy[name] = true
    local entry = { name = name, from = from }
    entry.value = evaluate(name, content, from)
    if from == "output" then entry.from = ("output of '%s'"):format(content[1]) end
    busy[name] = nil
    cache[name] = entry
    table.insert(scope.used, entry)
    return entry.value
  end

  function scope.known(name) return defined(name) ~= nil end

  function scope.names()
    local all = {}
    for _, place in ipairs { node.vars, model.vars, model.constants, outputs, system } do
      for name in pairs(place) do all[name] = true end
    end
    return suggest.keys(all)
  end

  return scope
end

--- A copy of a spec with every text filled in; functions and numbers as they are.
---@param spec any
---@param value_of fun(name: string): string?
---@return any
function variables.fill(spec, value_of)
  if type(spec) == "string" then return variables.expand(spec, value_of) end
  if type(spec) ~= "table" or condition.is(spec) then return spec end
  local copy = {}
  for key, value in pairs(spec) do copy[key] = variables.fill(value, value_of) end
  return copy
end

--- Calls `visit(text, field)` for every text of a spec, fields sorted by name.
---@param spec table
---@param visit fun(text: string, field: string)
function variables.each_text(spec, visit)
  local function walk(value, field)
    if type(value) == "string" then visit(value, field) end
    if type(value) ~= "table" or condition.is(value) then return end
    for _, one in ipairs(value) do walk(one, field) end
    for _, key in ipairs(suggest.keys(value)) do walk(value[key], field) end
  end
  for _, field in ipairs(suggest.keys(spec)) do walk(spec[field], field) end
end

--- Names that are defined in more than one place: {name, "node and flow", ...}.
---@param model tidemill.Model
---@param node tidemill.Node
---@return {name: string, places: string[]}[]
function variables.clashes(model, node)
  local places = {}
  local outputs = outputs_of(model, node)
  local tables = { { "the node", node.vars }, { "the flow's vars", model.vars },
    { "the flow's constants", model.constants }, { "an upstream output", outputs }, { "the system", system } }
  for _, one in ipairs(tables) do
    for name in pairs(one[2]) do
      places[name] = places[name] or {}
      table.insert(places[name], one[1])
    end
  end
  local clashes = {}
  for _, name in ipairs(suggest.keys(places)) do
    if #places[name] > 1 then clashes[#clashes + 1] = { name = name, places = places[name] } end
  end
  return clashes
end

return variables
