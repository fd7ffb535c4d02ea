--- The body of a flow.branch node: its condition. Where it does not hold the node is done all
--- the same, and what is behind it is skipped.

local condition = require "tidemill.condition"

---@param ctx tidemill.Context
---@param spec table  the node's fields, variables filled in
return function(ctx, spec)
  local planned = ctx.planned
  local holds, why = condition.eval(spec.condition, planned.value_of, planned.vars)
  ctx:log("info", "%s", why)
  ctx:output("result", tostring(holds))
  if not holds then return { closed = why } end
end
