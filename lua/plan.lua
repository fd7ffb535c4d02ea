--- What a flow would do at one scheduled time: nodes in order, every text filled in.
---
--- A plan is frozen by the scheduled time: the same model and time give the same plan, which
--- is why retries and reruns keep it. Only outputs of upstream nodes are not known before
--- these have run; texts that refer to them keep the `${name}`, and `plan.node` fills a
--- node again from the model once they are there.

local graph = require "tidemill.graph"
local variables = require "tidemill.variables"

local plan = {}

---@class tidemill.PlannedNode
---@field name string
---@field kind string
---@field after string[]
---@field level integer        1 without dependencies
---@field line integer
---@field spec table           variables filled in
---@field variables {name: string, value: string?, from: string}[]  those used, in order of use
---@field pending string[]     outputs that were not there yet
---@field vars? table<string, string>  of a lua node: every variable it has, for its function

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

-- A Lua function may ask for any variable, so all of them are worked out.
local function all_variables(scope)
  local vars = {}
  for _, name in ipairs(scope.names()) do vars[name] = scope.value_of(name) end
  return vars
end

local function fill(model, node, level, moment)
  local scope = variables.scope(model, node, moment)
  local planned = { name = node.name, kind = node.kind, after = node.after, level = level, line = node.line,
    spec = variables.fill(node.spec, scope.value_of), pending = {} }
  planned.variables = table.move(scope.used, 1, #scope.used, 1, {})
  for _, variable in ipairs(planned.variables) do
    if variable.value == nil then table.insert(planned.pending, variable.name) end
  end
  if node.kind == "lua" then planned.vars = all_variables(scope) end
  return planned
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
  return fill(model, model.by_name[name], levels[name], variables.moment(opts.scheduled, model.timezone, opts))
end

return plan
