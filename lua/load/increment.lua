--- An increment is loaded by the run that made it.
---
--- Its extract's watermark moves when the loads of that run have succeeded. A load of another run would add
--- rows which the next increment holds again, for nobody knows that they are there; or add them a second time.

local errors = require "tidemill.errors"
local locations = require "tidemill.locations"

local increment = {}

--- Raises conflict if a load that appends is to take the increment of another run of its flow.
---@param ctx tidemill.Context
---@param spec table
---@param m manifest.Manifest
function increment.check(ctx, spec, m)
  if not m.increment or m.run == ctx.run_id or m.flow ~= ctx.flow or spec.mode ~= "append" then return end
  errors.raise("conflict", ("manifest '%s' is an increment that run %s has made"):format(m.id, tostring(m.run)),
    ("tidemill restore %s loads it, if that is still to be done; else run the flow with its extract"):format(
      tostring(m.run)))
end

--- What this load has committed in this run must be what the extract before it names; if that has made
--- another increment since, there is nothing to be done that would be right.
---@param ctx tidemill.Context
---@param spec table
---@param done ledger.Done
function increment.check_done(ctx, spec, done)
  for name, outputs in pairs(ctx.upstream or {}) do
    local node = ctx.plan.by_name[name]
    if node and node.kind == "extract" and node.spec.watermark and done.manifest and outputs.manifest
      and outputs.manifest ~= done.manifest
      and locations.same(node.spec.to, spec.from) then
      errors.raise("conflict", ("this load has committed the increment '%s' before, and '%s' has made another")
        :format(done.manifest, name), "run the flow anew: tidemill rerun " .. ctx.run_id)
    end
  end
end

return increment
