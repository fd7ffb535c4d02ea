--- The body of a flow.subflow node: it asks for a run of the other flow, with the scheduled time
--- of this one. The runner makes that run, and ends this node as it ends.

---@param ctx tidemill.Context
---@param spec table  the node's fields, variables filled in
return function(ctx, spec)
  return { wait = { kind = "run", flow = spec.flow, file = spec.file, set = spec.set,
    scheduled_ms = math.floor(ctx.scheduled * 1000 + 0.5) } }
end
