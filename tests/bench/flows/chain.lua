--- Forty trivial nodes, each after the one before.

local flow = require "flow"

local nodes = {}
for i = 1, 40 do
  nodes[i] = flow.lua(("node %d"):format(i)) {
    after = i > 1 and ("node %d"):format(i - 1) or nil,
    run = function() end,
  }
end
return flow "bench chain" (nodes)
