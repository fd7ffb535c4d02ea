--- Increments that earlier runs left undelivered: whether a load has committed them all the same.
---
--- The state store saw no success, but a load may have committed without anyone being told. The ledger
--- in its target knows. The question is put by claiming the node under the number of an attempt that the
--- run has not made: from then on no attempt that may still live can commit, and the answer stays true.
--- (If the run is restored, its next attempt has that number.)

local errors = require "tidemill.errors"
local ledger = require "tidemill.ledger"
local watermark = require "tidemill.watermark"

local leavings = {}

local function stuck(ctx, left, load, message, hint)
  errors.raise("conflict", ("load '%s' of run %s %s"):format(load.name, left.run, message),
    ("%s; until then node '%s' makes no increment: rows would be lost or come twice"):format(
      hint or ("tidemill restore %s finishes it"):format(left.run), ctx.node))
end

-- Whether a load of that run has committed: all, or nothing. Raises conflict if it is neither.
local function has_committed(ctx, left, load)
  if load.done then return true end
  if load.attempts == 0 then return false end
  local planned = ctx.plan.by_name[load.name]
  if not planned or planned.kind ~= "load" then
    stuck(ctx, left, load, "was begun, and the flow has it no more",
      ("see what it has loaded, then: %s --set VALUE"):format(watermark.command(ctx.flow, left.node)))
  end
  local conn <close> = ctx:postgres(planned.spec.on)
  local claim = ledger.claim(conn, { run = left.run, node = load.name, attempt = load.attempts + 1, flow = ctx.flow })
  if claim.done then
    if left.manifest and claim.done.manifest and claim.done.manifest ~= left.manifest then
      stuck(ctx, left, load, "has committed another increment than the one that is open",
        ("see what it has loaded, then: %s --set VALUE"):format(watermark.command(ctx.flow, left.node)))
    end
    return true
  end
  if claim:begun(conn).count > 0 then stuck(ctx, left, load, "has committed a part of its increment") end
  return false
end

--- Finds out about one.
---@param ctx tidemill.Context
---@param left tidemill.Left
---@return boolean delivered
function leavings.look(ctx, left)
  local delivered, missing
  for _, load in ipairs(left.loads) do
    if has_committed(ctx, left, load) then delivered = load else missing = missing or load end
  end
  if delivered and missing then
    stuck(ctx, left, missing, ("has not committed its increment, while load '%s' has"):format(delivered.name))
  end
  ctx:log("info", delivered and "the increment of run %s was delivered, says the ledger"
    or "the increment of run %s was not delivered: this one holds its rows too", left.run)
  return delivered ~= nil
end

return leavings
