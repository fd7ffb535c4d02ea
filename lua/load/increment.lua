--- An increment is loaded by the run that made it.
---
--- Its extract's watermark moves when the loads of that run have succeeded. A load of another run would add
--- rows which the next increment holds again, for nobody knows that they are there; or add them a second time.

local errors = require "tidemill.errors"

local increment = {}

--- Raises conflict if a load that appends is to take the increment of another run of its flow.
---@param ctx tidemill.Context
---@param spec table
---@param m manifest.Manifest
function increment.check(ctx, spec, m)
  if not m.increment or m.run == ctx.run_id or m.flow ~= ctx.flow or spec.mode ~= "append" then return end
  error(errors.new("conflict", ("manifest '%s' is an increment that run %s has made"):format(m.id, tostring(m.run)),
    { hint = ("tidemill restore %s loads it, if that is still to be done; else run the flow with its extract"):format(
      tostring(m.run)) }), 0)
end

return increment
