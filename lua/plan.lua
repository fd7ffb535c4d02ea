--- What a flow would do at one scheduled time: nodes in order, every text filled in.
---
--- A plan is frozen by the scheduled time: the same model and time give the same plan, which
--- is why retries and reruns keep it. Only outputs and states of upstream nodes are not known
--- before these have run; texts that refer to them keep the `${name}`, and `plan.node` fills a
--- node again from the model once they are there. Conditions are never filled: they take the
--- values of their variables when they are evaluated.

local condition = require "tidemill.condition"
local graph = require "tidemill.graph"
local references = require "tidemill.references"
local variables = require "tidemill.variables"

local plan = {}

---@class tidemill.PlannedNode
---@field name string
---@field kind string
---@field after string[]
---@field level integer        1 without dependencies
---@field line integer
---@field spec table           variables filled in; `template` is the field that has variables of its own (the
---sql of a loop, the query of a split extract) taken apart (see references.template): only those are open
---@field when? tidemill.Condition
---@field pipeline? string     of a load: the extract whose objects it takes while that runs
---@field value_of? fun(name: string): string?  for conditions: any variable of the node (plan.node)
---@field variables {name: string, value: string?, from: string}[]  those used, in order of use
---@field pending string[]     of those in texts: outputs that were not there yet
---@field vars? table<string, string>  if a function wants them: every variable of the node

---@class tidemill.Plan
---@field flow string
---@field file string
---@field scheduled number     epoch seconds
---@field business number      epoch seconds
---@field timezone string
---@field nodes tidemill.PlannedNode[]  in running order, the same every time
---@field by_name table<string, tidemill.PlannedNode>

---@class tidemill.PlanOptions
---@field scheduled number     epoch seconds
---@field run_id? string
---@field outputs? table<string, table<string, string>>  by node, then by name
---@field states? table<string, {status: string, error: string?}>  of nodes upstream

-- A Lua function may ask for any variable, so all of them are worked out.
local function all_variables(scope)
  local vars = {}
  for _, name in ipairs(scope.names()) do vars[name] = scope.value_of(name) end
  return vars
end

-- The field with variables of its own as templates and as texts, in which only those stay open.
local function fill_own(planned, node, scope)
  local function value_of(name)
    if scope.own[name] then return nil end
    return scope.value_of(name)
  end
  local given, templates, texts = node.spec[scope.own_field], {}, {}
  for i, text in ipairs(type(given) == "table" and given or { given }) do
    templates[i] = references.template(text, value_of)
    texts[i] = references.render(templates[i])
  end
  planned.spec.template = templates
  planned.spec[scope.own_field] = type(given) == "table" and texts or texts[1]
end

local function wants_vars(node)
  if node.kind == "lua" then return true end
  for _, cond in pairs(variables.conditions(node)) do
    if condition.call(cond) then return true end
  end
  return false
end

local function fill(model, node, level, moment)
  local scope = variables.scope(model, node, moment)
  local planned = { name = node.name, kind = node.kind, after = node.after, level = level, line = node.line,
    when = node.when, pipeline = node.pipeline, pending = {} }
  local spec = node.spec
  if scope.own_field then
    spec = {}
    for key, value in pairs(node.spec) do spec[key] = key ~= scope.own_field and value or nil end
  end
  planned.spec = variables.fill(spec, scope.value_of)
  if scope.own_field then fill_own(planned, node, scope) end
  for _, variable in ipairs(scope.used) do
    if variable.value == nil then table.insert(planned.pending, variable.name) end
  end
  for _, cond in pairs(variables.conditions(node)) do
    for _, reference in ipairs(condition.references(cond)) do scope.value_of(reference.name) end
  end
  planned.variables = table.move(scope.used, 1, #scope.used, 1, {})
  if wants_vars(node) then planned.vars = all_variables(scope) end
  return planned, scope
end

--- Plans a checked model (see lua/check.lua).
---@param model tidemill.Model
---@param opts tidemill.PlanOptions
---@return tidemill.Plan
function plan.make(model, opts)
  local moment = variables.moment(opts.scheduled, model.timezone, opts)
  local made = { flow = model.name, file = model.file, scheduled = moment.scheduled, business = moment.business,
    timezone = model.timezone, nodes = {}, by_name = {} }
  local ordered, levels = graph.order(model.nodes)
  for _, node in ipairs(ordered) do
    local planned = fill(model, node, levels[node.name], moment)
    table.insert(made.nodes, planned)
    made.by_name[node.name] = planned
  end
  return made
end

--- Plans one node, with `opts.outputs` of the nodes that have run.
---@param model tidemill.Model
---@param name string
---@param opts tidemill.PlanOptions
---@return tidemill.PlannedNode
function plan.node(model, name, opts)
  local _, levels = graph.order(model.nodes)
  local moment = variables.moment(opts.scheduled, model.timezone, opts)
  local planned, scope = fill(model, model.by_name[name], levels[name], moment)
  planned.value_of = scope.value_of
  return planned
end

return plan
