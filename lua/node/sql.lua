--- The body of a flow.sql node: its statements, one after the other.
---
--- With `transaction` all of them, of all texts, are one transaction; without it each commits by
--- itself, and those before a failure stay. An `exactly_once` node's transaction also writes its
--- row of the target's ledger: a repeated attempt whose predecessor committed runs nothing. The
--- rows that statements affected are added up.

local errors = require "tidemill.errors"
local once = require "tidemill.once"
local script = require "tidemill.script"

---@param ctx tidemill.Context
---@param spec table  the node's fields, variables filled in
return function(ctx, spec)
  local conn <close> = ctx:postgres(spec.on)
  local list = script.statements(ctx, "sql", spec.sql, conn)
  local rows
  if spec.transaction == false then
    rows = script.run(ctx, conn, list)
    local state = conn:state()
    if state ~= "idle" then -- a BEGIN and no COMMIT: the server would drop it all
      errors.raise("sql", "the statements leave a transaction open, so nothing of it is kept", "end it with COMMIT")
    end
  else
    script.refuse_control(list, "a node that is one transaction",
      "leave BEGIN and COMMIT out, or set transaction = false")
    local claim = spec.exactly_once and once.claim(ctx, conn)
    if claim and claim.done then
      rows = claim.done.row_count
    else
      local tx <close> = conn:transaction()
      rows = script.run(ctx, conn, list)
      if claim then
        once.commit(ctx, spec.on, conn, tx, claim, { row_count = rows })
      else
        tx:commit()
      end
    end
  end
  ctx:progress { rows = rows, detail = "", done = true }
  if rows then ctx:output("rows", rows) end
end
