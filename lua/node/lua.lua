--- The body of a flow.lua node: its function, called with the context.
---
--- What the function returns are the node's outputs: a table of names and texts, numbers or
--- booleans, or nothing. Outputs that the node declares must be there in the end.

local errors = require "tidemill.errors"

---@param ctx tidemill.Context
---@param spec table
return function(ctx, spec)
  local given, plain_output = {}, ctx.output
  function ctx.output(self, name, value)
    plain_output(self, name, value)
    given[name] = true
  end
  local outputs = spec.run(ctx)
  if outputs ~= nil and type(outputs) ~= "table" then
    errors.usage(("the function of node '%s' returned %s; its outputs are a table, or nothing"):format(ctx.node,
      type(outputs)))
  end
  for name, value in pairs(outputs or {}) do ctx:output(name, value) end
  for _, name in ipairs(spec.outputs or {}) do
    if not given[name] then
      errors.usage(("node '%s' declares the output '%s', and its function did not give it"):format(ctx.node, name))
    end
  end
end
