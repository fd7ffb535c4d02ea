--- A node whose work is committed once in a run: by which attempt ever.
---
---     local claim = once.claim(ctx, conn)      -- before any work
---     if claim.done then ... return end        -- an earlier attempt has committed
---     local tx <close> = conn:transaction()
---     ...
---     once.commit(ctx, spec.on, conn, tx, claim, { row_count = n })
---
--- The ledger (lua/ledger.lua) in the target decides. A COMMIT whose answer is lost is looked up
--- there; where that cannot be done the attempt fails as one that may be repeated, for the next
--- one asks the ledger first.

local errors = require "tidemill.errors"
local ledger = require "tidemill.ledger"

local once = {}

local ASKS_FIRST = "another attempt, or restore, asks the ledger first, so nothing is done twice"

--- Claims the node for this attempt. No transaction may be open. Raises conflict if a newer
--- attempt holds it.
---@param ctx tidemill.Context
---@param conn pg.Conn
---@return ledger.Claim
function once.claim(ctx, conn)
  local claim = ledger.claim(conn, { run = ctx.run_id, node = ctx.node, attempt = ctx.attempt, flow = ctx.flow })
  if claim.done then
    ctx:log("info", "attempt %d has committed this already: nothing to do", claim.done.attempt)
  end
  return claim
end

-- What became of a COMMIT on a session that broke: true, false, or nil if nobody can tell.
local function look_up(ctx, connection, session, claim)
  local known, done = pcall(function()
    local conn <close> = ctx:postgres(connection)
    ctx:end_session(conn, session, "this attempt")
    local found = ledger.done(conn, claim.who)
    return found ~= nil and found.attempt == claim.who.attempt -- not another's work
  end)
  if known then return done end
  return nil
end

--- Records the work in the ledger and commits the transaction that carries it. Raises conflict,
--- with nothing committed, if a newer attempt has claimed the node.
---@param ctx tidemill.Context
---@param connection string  its name
---@param conn pg.Conn
---@param tx pg.Tx
---@param claim ledger.Claim
---@param work ledger.Work
function once.commit(ctx, connection, conn, tx, claim, work)
  claim:complete(conn, work)
  local session = { backend_pid = conn:pid(), backend_start = conn:backend_start() }
  local ok, raised = pcall(tx.commit, tx)
  if ok then return end
  if not errors.is(raised) or raised.kind ~= "in_doubt" then error(raised, 0) end
  conn:close()
  local done = look_up(ctx, connection, session, claim)
  if done then
    ctx:log("warn", "the connection broke during COMMIT; the ledger says that it was committed")
    return
  end
  errors.raise("io", done == false and "the connection broke during COMMIT, and nothing was committed"
    or "the connection broke during COMMIT, and the ledger cannot be asked", ASKS_FIRST, raised)
end

--- Commits a transaction on which nobody relies if this attempt ends here: what it did is done again, or
--- left to be removed. So a lost answer to COMMIT is no doubt, but a failure that may be repeated.
---@param tx pg.Tx
function once.commit_aside(tx)
  local ok, raised = pcall(tx.commit, tx)
  if ok then return end
  if not errors.is(raised) or raised.kind ~= "in_doubt" then error(raised, 0) end
  errors.raise("io", raised.message, nil, raised)
end

--- Records pieces of the work and commits the transaction that carries them, as `commit` does for
--- all of it. If the answer to COMMIT is lost the attempt fails as one that may be repeated.
---@param conn pg.Conn
---@param tx pg.Tx
---@param claim ledger.Claim
---@param pieces ledger.Object[]
---@param manifest? string  that they are of
function once.commit_pieces(conn, tx, claim, pieces, manifest)
  claim:record(conn, pieces, manifest)
  local ok, raised = pcall(tx.commit, tx)
  if ok then return end
  if not errors.is(raised) or raised.kind ~= "in_doubt" then error(raised, 0) end
  errors.raise("io", ("the connection broke during COMMIT of %s"):format(pieces[1].key), ASKS_FIRST, raised)
end

return once
