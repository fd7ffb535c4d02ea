--- What `${name}` means in a node of a flow, at one business time.
---
--- The same name may be defined in several places; the first of these counts:
---
---     what --set gave      data as it stands
---     a node's own         in one field: those of a flow.loop in its sql, ${range}, ${lo} and ${hi}
---                          in the query of a flow.extract with split_by
---     vars of the node, vars of the flow
---     params               their defaults, data as they stand
---     constants
---     outputs              of nodes upstream
---     states               ${node.status}, ${node.error} of nodes upstream
---     the system           below
---
--- Texts in `vars` and `constants` may refer to other variables; outputs, params and what was
--- set are never looked into, since they are data. The system variables are
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
--- upstream nodes have an output of that name. lua/kinds/nodes.lua says which outputs a kind of
--- node has. Syntax and replacement are in lua/references.lua.

local condition = require "tidemill.condition"
local errors = require "tidemill.errors"
local graph = require "tidemill.graph"
local kinds = require "tidemill.kinds"
local references = require "tidemill.references"
local suggest = require "tidemill.suggest"
local time = require "time"
local types = require "tidemill.kinds.types"

local variables = { references = references.find, expand = references.expand }

-- ---- what may be set ----

--- The names besides params that --set may give another value: those of vars and constants.
---@param model tidemill.Model
---@return string[]
function variables.settable(model)
  local names = {}
  local places = { model.vars, model.constants }
  for _, node in ipairs(model.nodes) do places[#places + 1] = node.vars end
  for _, vars in ipairs(places) do
    for name in pairs(vars) do names[name] = not model.params[name] or nil end
  end
  return suggest.keys(names)
end

--- Checks values that --set or a subflow's `set` gives: names that may be set, values of their
--- types, params without a default. Returns the values as texts; raises a usage error.
---@param params table<string, {type: string, default: string?, time: string?}>
---@param settable string[]
---@param set table<string, string|number|boolean>
---@return table<string, string>
function variables.check_set(params, settable, set)
  local known, is_known, values = suggest.keys(params), {}, {}
  table.move(settable, 1, #settable, #known + 1, known)
  for _, name in ipairs(known) do is_known[name] = true end
  for _, name in ipairs(suggest.keys(set)) do
    if not is_known[name] then
      errors.usage(("the flow has no variable '%s' to set"):format(name), suggest.hint(name, known, "it has")
        or "only params, and variables of vars and constants can be set")
    end
    local value = tostring(set[name])
    if params[name] then
      local good, wants = types.param_value(params[name].type, value)
      if not good then errors.usage(("param '%s' wants %s, got '%s'"):format(name, wants, value)) end
    end
    values[name] = value
  end
  for _, name in ipairs(suggest.keys(params)) do
    local param = params[name]
    if values[name] == nil and param.default == nil and param.time == nil then
      errors.usage(("param '%s' has no default and is not set"):format(name),
        ("give it with --set %s=VALUE"):format(name))
    end
  end
  return values
end

--- Gives variables of a model other values, for all that is planned of it from now on. Raises a
--- usage error as variables.check_set does.
---@param model tidemill.Model
---@param set table<string, string|number|boolean>
function variables.set(model, set)
  model.set = variables.check_set(model.params, variables.settable(model), set)
end

-- ---- the moment ----

---@class variables.Moment
---@field scheduled number  epoch seconds
---@field business number   epoch seconds
---@field timezone string
---@field run_id? string
---@field outputs table<string, table<string, string>>  by node, then by name
---@field states table<string, {status: string, error: string?}>  by node

--- The business time of a scheduled time: a calendar day earlier in the zone.
---@param scheduled number  epoch seconds
---@param timezone string
---@param more? table  run_id, outputs, states
---@return variables.Moment
function variables.moment(scheduled, timezone, more)
  more = more or {}
  return { scheduled = scheduled, business = time.business(scheduled, timezone), timezone = timezone,
    run_id = more.run_id, outputs = more.outputs or {}, states = more.states or {} }
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

-- ---- what nodes upstream hand on ----

-- The nodes upstream, in written order, each with its outputs.
local function upstream_of(model, node)
  local found, before = {}, graph.upstream(model.nodes, node.name)
  for _, other in ipairs(model.nodes) do
    if before[other.name] then
      local declared, fixed, open = kinds.outputs(other.kind, other.spec)
      found[#found + 1] = { name = other.name, declared = declared, fixed = fixed, open = open }
    end
  end
  return found
end

-- The outputs with names of their own: by name the nodes that have them.
local function plain_outputs(upstream)
  local by_name = {}
  for _, other in ipairs(upstream) do
    for _, name in ipairs(other.declared) do
      by_name[name] = by_name[name] or {}
      table.insert(by_name[name], other.name)
    end
  end
  return by_name
end

local function has(list, value)
  for _, one in ipairs(list) do
    if one == value then return true end
  end
  return false
end

-- "node.x": what x of that node is, if it is anything.
local function of_node(upstream, name)
  for _, other in ipairs(upstream) do
    local size = #other.name
    if name:sub(1, size) == other.name and name:sub(size + 1, size + 1) == "." then
      local own = name:sub(size + 2)
      if has(other.declared, own) or has(other.fixed, own) then return { node = other.name, name = own }, "output" end
      if own == "status" or own == "error" then return { node = other.name, name = own }, "state" end
      if other.open and own ~= "" then return { node = other.name, name = own }, "output" end
    end
  end
end

local function names_of_nodes(upstream, all)
  for _, other in ipairs(upstream) do
    for _, list in ipairs { other.declared, other.fixed, { "status", "error" } } do
      for _, name in ipairs(list) do all[other.name .. "." .. name] = true end
    end
  end
end

-- ---- the scope ----

---@class variables.Scope
---@field value_of fun(name: string): string?  nil: unknown, or an output that is not there yet
---@field known fun(name: string, field: string?): boolean  `field`: of the node, which uses it
---@field names fun(field: string?): string[]
---@field own table<string, true>    the variables that the node fills in itself ...
---@field own_field? string          ... in this field alone
---@field outputs table<string, string[]>  plain names of outputs, with the nodes that have them
---@field used {name: string, value: string?, from: string}[]  in the order of first use
---@field faults {name: string, message: string}[]

local function to_set(list)
  local set = {}
  for _, name in ipairs(list) do set[name] = true end
  return set
end

local function message_of(raised)
  return type(raised) == "table" and raised.message or tostring(raised)
end

--- What `${name}` means in one node at one moment.
---@param model tidemill.Model
---@param node tidemill.Node
---@param moment variables.Moment
---@return variables.Scope
function variables.scope(model, node, moment)
  local upstream = upstream_of(model, node)
  local outputs, cache, busy, set = plain_outputs(upstream), {}, {}, model.set or {}
  local own_field, own_names = kinds.own_variables(node.kind, node.spec)
  local own = to_set(own_names or {})
  local scope = { used = {}, faults = {}, outputs = outputs, own = own, own_field = own_field }

  local function fault(name, message)
    table.insert(scope.faults, { name = name, message = message })
  end

  local function defined(name)
    if set[name] ~= nil then return set[name], "--set" end
    if node.vars[name] ~= nil then return node.vars[name], "node" end
    if model.vars[name] ~= nil then return model.vars[name], "flow" end
    if model.params[name] ~= nil then return model.params[name], "param" end
    if model.constants[name] ~= nil then return model.constants[name], "constant" end
    if outputs[name] then return outputs[name], "plain" end
    local content, from = of_node(upstream, name)
    if content then return content, from end
    if system[name] then return system[name], "system" end
  end

  local function time_of(name, pattern)
    local ok, value = pcall(time.variable, moment.business, pattern, nil, moment.timezone, model.locale)
    if ok then return value end
    fault(name, ("variable '%s': %s"):format(name, message_of(value)))
    return "?"
  end

  -- The value, and where it came from in words.
  local evaluate = {}
  evaluate["--set"] = function(_, content) return content, "--set" end
  function evaluate.node(name, content, from)
    if type(content) == "table" then return time_of(name, content.pattern), from end
    return references.expand(content, scope.value_of), from
  end
  evaluate.flow, evaluate.constant = evaluate.node, evaluate.node
  function evaluate.param(name, content)
    return content.time and time_of(name, content.time) or content.default, "param"
  end
  function evaluate.plain(name, content)
    if #content > 1 then
      fault(name, ("'${%s}' is an output of several nodes: %s"):format(name, table.concat(content, ", ")))
    end
    return (moment.outputs[content[1]] or {})[name], ("output of '%s'"):format(content[1])
  end
  function evaluate.output(_, content)
    return (moment.outputs[content.node] or {})[content.name], ("output of '%s'"):format(content.node)
  end
  function evaluate.state(_, content)
    local state = moment.states[content.node]
    local value = state and (state[content.name] or content.name == "error" and "") or nil
    return value, ("state of '%s'"):format(content.node)
  end
  function evaluate.system(_, content) return content(moment, model, node), "system" end

  function scope.value_of(name)
    if cache[name] then return cache[name].value end
    if busy[name] then
      fault(name, ("variable '%s' refers to itself"):format(name))
      return "?"
    end
    local content, from = defined(name)
    if content == nil then return nil end
    busy[name] = true
    local entry = { name = name }
    entry.value, entry.from = evaluate[from](name, content, from)
    busy[name] = nil
    cache[name] = entry
    table.insert(scope.used, entry)
    return entry.value
  end

  function scope.known(name, field)
    return field ~= nil and field == own_field and own[name] or defined(name) ~= nil
  end

  function scope.names(field)
    local all = {}
    for _, place in ipairs { field and field == own_field and own or {}, node.vars, model.vars, model.params,
      model.constants, outputs, system } do
      for name in pairs(place) do all[name] = true end
    end
    names_of_nodes(upstream, all)
    return suggest.keys(all)
  end

  return scope
end

--- A copy of a spec with every text filled in; functions, numbers and conditions as they are.
---@param spec any
---@param value_of fun(name: string): string?
---@return any
function variables.fill(spec, value_of)
  if type(spec) == "string" then return references.expand(spec, value_of) end
  if type(spec) ~= "table" or condition.is(spec) then return spec end
  local copy = {}
  for key, value in pairs(spec) do copy[key] = variables.fill(value, value_of) end
  return copy
end

--- Calls `visit(text, field)` for every text of a spec, fields sorted by name; conditions are
--- left out.
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

--- The conditions of a node by the field that holds them.
---@param node tidemill.Node
---@return table<string, tidemill.Condition>
function variables.conditions(node)
  return { when = node.when, condition = condition.is(node.spec.condition) and node.spec.condition or nil }
end

--- Names that are defined in more than one place: {name, places = {"the node", ...}}.
---@param model tidemill.Model
---@param node tidemill.Node
---@param scope variables.Scope  the node's
---@return {name: string, places: string[]}[]
function variables.clashes(model, node, scope)
  local places, doubled = {}, {}
  for _, one in ipairs { { "the " .. node.kind, scope.own }, { "the node", node.vars },
    { "the flow's vars", model.vars },
    { "the flow's params", model.params }, { "the flow's constants", model.constants },
    { "an upstream output", scope.outputs }, { "the system", system } } do
    for name in pairs(one[2]) do
      if places[name] then doubled[name] = places[name] else places[name] = {} end
      table.insert(places[name], one[1])
    end
  end
  local clashes = {}
  for _, name in ipairs(suggest.keys(doubled)) do clashes[#clashes + 1] = { name = name, places = places[name] } end
  return clashes
end

--- Outputs of nodes as variables see them: texts.
---@param outputs table<string, table<string, string|number|boolean>>  by node, then by name
---@return table<string, table<string, string>>
function variables.texts(outputs)
  local texts = {}
  for node, values in pairs(outputs) do
    texts[node] = {}
    for name, value in pairs(values) do texts[node][name] = tostring(value) end
  end
  return texts
end

--- What became of the nodes before a node, as variables see it.
---@param status? table<string, {state: string, error: string?}>  by node, as a job has it
---@return table<string, {status: string, error: string?}>
function variables.states(status)
  local states = {}
  for name, one in pairs(status or {}) do states[name] = { status = one.state, error = one.error } end
  return states
end

return variables
