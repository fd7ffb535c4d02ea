--- Which loads deliver what an extract has made: those behind it, near or far, that read the place it
--- writes to; if none of them says that very place, all loads behind it.
---
--- The watermark of an extract is saved when they have succeeded (lua/state/facts.lua).

local graph = require "tidemill.graph"
local pipelined = require "tidemill.pipelined"

local deliveries = {}

--- The loads that deliver what an extract has made, in order of the file.
---@param built tidemill.Model  its graph is checked
---@param extract tidemill.Node
---@return tidemill.Node[]
function deliveries.loads(built, extract)
  local behind, all, same = graph.downstream(built.nodes, extract.name), {}, {}
  for _, node in ipairs(built.nodes) do
    if node.kind == "load" and behind[node.name] then
      all[#all + 1] = node
      if pipelined.same_place(built, extract, node) then same[#same + 1] = node end
    end
  end
  return #same > 0 and same or all
end

--- Their names, of an extract that keeps a watermark; nil of any other node.
---@param built tidemill.Model
---@param node tidemill.Node
---@return string[]?
function deliveries.names(built, node)
  if node.kind ~= "extract" or not node.spec.watermark then return nil end
  local names = {}
  for i, load in ipairs(deliveries.loads(built, node)) do names[i] = load.name end
  return names
end

return deliveries
