--- One node of a flow, run in a test: functions for real, connections from stubs.

local condition = require "tidemill.condition"
local csv = require "csv"
local errors = require "tidemill.errors"
local locations = require "tidemill.locations"
local plan = require "tidemill.plan"
local stream = require "stream"
local stubs = require "tidemill.flowtest.stubs"
local suggest = require "tidemill.suggest"
local variables = require "tidemill.variables"

local attempt = {}

local Context = { __name = "flowtest.Context" }
Context.__index = Context

function Context:output(name, value)
  local kind = type(value)
  if type(name) ~= "string" or not name:match "^[%w_.]+$" then
    errors.usage(("an output is named by letters, digits, '_' and '.', not '%s'"):format(tostring(name)))
  elseif kind ~= "string" and kind ~= "number" and kind ~= "boolean" then
    error(("output '%s': text, a number or a boolean wanted, got %s"):format(name, kind), 2)
  end
  self.done.outputs[name] = value
end

function Context:progress(p)
  for key, value in pairs(p) do self.done[key] = value end
end

function Context:log(level, format, ...)
  local line = select("#", ...) > 0 and format:format(...) or tostring(format)
  table.insert(self.done.log, ("%s: %s"):format(level, line))
end

local function stubbed(self, kind, name)
  local answers = self.stubs[kind][name]
  if answers then return answers end
  local others = self.stubs[kind == "postgres" and "store" or "postgres"][name]
  local how = kind == "postgres" and "stub(%q, { [\"SELECT ...\"] = rows })" or "stub_store(%q, { key = bytes })"
  errors.usage(others and ("'%s' is stubbed as another kind of connection"):format(name)
    or ("connection '%s' has no stub"):format(name),
    suggest.hint(name, suggest.keys(self.stubs[kind]), "stubbed") or how:format(name))
end

function Context:postgres(name)
  return stubs.postgres(name, stubbed(self, "postgres", name), self.done.statements)
end

function Context:store(name) return stubs.store(name, stubbed(self, "store", name)) end

function Context:location(text)
  local name, prefix = locations.folder(text)
  return self:store(name), prefix
end

---@class tidemill.TestMoment
---@field model tidemill.Model
---@field scheduled number
---@field outputs table<string, table>
---@field states table<string, table>
---@field stubs {postgres: table, store: table}

--- One node with everything filled in.
---@param moment tidemill.TestMoment
---@param name string
---@return tidemill.PlannedNode
function attempt.planned(moment, name)
  return plan.node(moment.model, name, { scheduled = moment.scheduled, run_id = "RUN_ID",
    outputs = variables.texts(moment.outputs), states = moment.states })
end

--- Whether a node's `when`, or the condition of a branch, holds, and why. True without one.
---@param planned tidemill.PlannedNode
---@param cond? tidemill.Condition
---@return boolean, string
function attempt.holds(planned, cond)
  if not cond then return true, "no condition" end
  return condition.eval(cond, planned.value_of, planned.vars)
end

--- Runs the function of a flow.lua node. Returns what it did.
---@param moment tidemill.TestMoment
---@param name string
---@return {outputs: table, log: string[], statements: table[], rows: integer?, bytes: integer?, detail: string?}
function attempt.call(moment, name)
  local model, planned = moment.model, attempt.planned(moment, name)
  if planned.kind ~= "lua" then
    errors.usage(("node '%s' is of kind %s, only flow.lua nodes can be called"):format(name, planned.kind),
      planned.kind == "extract" and planned.spec.map and "its map can: map(node, rows)" or nil)
  end
  local done = { outputs = {}, log = {}, statements = {} }
  local ctx = setmetatable({ done = done, stubs = moment.stubs, model = model, planned = planned, flow = model.name,
    node = name, run_id = "RUN_ID", attempt = 1, scheduled = moment.scheduled,
    business = require "time".business(moment.scheduled, model.timezone), timezone = model.timezone,
    started = moment.scheduled, vars = planned.vars or {}, upstream = moment.outputs }, Context)
  model.loaded:start()
  require "tidemill.node.lua"(ctx, planned.spec)
  return done
end

local function columns_of(rows)
  local names = {}
  for _, row in ipairs(rows) do
    for _, name in ipairs(suggest.keys(row)) do names[name] = true end
  end
  return suggest.keys(names)
end

--- Sends rows through the map of an extract, as the stream does: what it sees are texts.
---@param moment tidemill.TestMoment
---@param name string
---@param rows table[]
---@return table[]
function attempt.map(moment, name, rows)
  local spec = attempt.planned(moment, name).spec
  if not spec.map then errors.usage(("node '%s' has no map"):format(name)) end
  local columns = rows.columns or columns_of(rows)
  moment.model.loaded:start()
  local sink <close> = stream.collect()
  local text = { format = "text" }
  stream.pump(stream.bytes(csv.format(rows, { format = "text", columns = columns })),
    stream.map(spec.map, { columns = columns, input = text, output = text, output_columns = spec.columns }), sink)
  local out = {}
  for row in csv.parse(stream.collected(sink), { format = "text", columns = spec.columns or columns }) do
    out[#out + 1] = row
  end
  return out
end

return attempt
