--- Which loads may take the objects of an extract while that runs (lua/executor/pipeline.lua), and why
--- others may not.
---
--- It is decided from the flow alone. A load may if one extract, and no other, stands right before it; if
--- both say the same place, whatever the time of the run; and if nothing of the load can depend on how the
--- extract ends, beside that it ends well.

local graph = require "tidemill.graph"
local locations = require "tidemill.locations"
local variables = require "tidemill.variables"

local pipelined = {}

-- Instants that differ in every part of a date and a time: what is the same at both is so always.
local SAMPLES = { 1710460800, 1953899225 }

-- Where a node makes or finds a manifest, at one moment; nil if it is no such node.
local function place_of(built, node, moment)
  local text = node.kind == "extract" and node.spec.to or node.kind == "load" and node.spec.from
    or node.kind == "wait_for" and node.spec.extracted
  if not text then return nil end
  local scope = variables.scope(built, node, moment)
  return variables.fill(text, scope.value_of)
end

--- Whether two nodes name the same place, at any time.
---@param built tidemill.Model
---@param a tidemill.Node
---@param b tidemill.Node
---@return boolean
function pipelined.same_place(built, a, b)
  for _, sample in ipairs(SAMPLES) do
    local moment = variables.moment(sample, built.timezone)
    if not locations.same(place_of(built, a, moment), place_of(built, b, moment)) then return false end
  end
  return true
end

-- The extract right before a load, if there is one and no other.
local function extract_before(built, node)
  local found
  for _, name in ipairs(node.after) do
    local up = built.by_name[name]
    if up.kind == "extract" and found then
      return nil, ("it is after two extracts, '%s' and '%s'"):format(found.name, name)
    elseif up.kind == "extract" then
      found = up
    end
  end
  return found, "it is after no extract"
end

-- Another node before the load that makes or finds data in its place.
local function other_data(built, node, extract)
  local before = graph.upstream(built.nodes, node.name)
  for _, other in ipairs(built.nodes) do
    if before[other.name] and other ~= extract and (other.kind == "extract" or other.spec.extracted)
      and pipelined.same_place(built, other, node) then return other end
  end
end

-- A variable of the load whose value is known only when the extract is through.
local function late_variable(built, node, extract)
  local scope = variables.scope(built, node, variables.moment(SAMPLES[1], built.timezone))
  variables.fill(node.spec, scope.value_of)
  for _, used in ipairs(scope.used) do
    if used.from == ("output of '%s'"):format(extract.name) or used.from == ("state of '%s'"):format(extract.name) then
      return used.name
    end
  end
end

-- The extract, or nil and what speaks against it.
local function look(built, node)
  local extract, missing = extract_before(built, node)
  if not extract then return nil, missing end
  if node.trigger ~= "all_success" then return nil, ("its trigger is %s"):format(node.trigger) end
  if node.when then return nil, "it has a 'when'" end
  if not pipelined.same_place(built, extract, node) then
    return nil, ("'%s' writes to %s, and it reads %s"):format(extract.name, extract.spec.to, node.spec.from)
  end
  if extract.spec.objects then return nil, ("'%s' completes all of its objects at its end"):format(extract.name) end
  local other = other_data(built, node, extract)
  if other then return nil, ("'%s' before it is about data in the same place"):format(other.name) end
  local name = late_variable(built, node, extract)
  if name then return nil, ("it uses ${%s}, which is known when '%s' has ended"):format(name, extract.name) end
  return extract.name
end

--- The extract whose objects a load takes while that runs; nil for any other node, and, of a load that does
--- not, why: in words that go on after "since".
---@param built tidemill.Model  its graph is checked
---@param node tidemill.Node
---@return string? extract, string? reason
function pipelined.source(built, node)
  if node.kind ~= "load" then return nil end
  if node.spec.pipeline == false then
    return nil, node.spec.via and "the target reads the objects by itself" or "pipeline is false"
  end
  return look(built, node)
end

return pipelined
