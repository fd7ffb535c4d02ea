--- Runs that have come loose from the process that ran them.

local common = require "tidemill.state.common"

local ownership = {}

--- Trial runs that were running and that no runner has.
---@return string[] ids
function ownership:orphans()
  local ids = {}
  for i, row in ipairs(self.db:query("SELECT id FROM runs" .. self.db:by "runs_to_claim" .. [[ WHERE runner IS NULL
    AND backfill IS NULL AND state IN ('queued', 'running') AND state = 'running' AND cause = 'manual'
    ORDER BY id]])) do ids[i] = row.id end
  return ids
end

--- Ends a run that was running and that no runner has, for good unless it is restored. Does nothing
--- if a runner has it, or it has ended.
---@param run string
---@param reason string
---@param state? "failed"|"canceled"  (default "failed"); canceled: a user wants it so
---@return boolean ended
function ownership:mark_orphan(run, reason, state)
  state = state or "failed"
  return self.db:transaction(function()
    local row = self.db:row([[SELECT id, flow, version, version_no, cause, root_run, settings FROM runs
      WHERE id = ? AND runner IS NULL
      AND state IN ('running', 'paused')]] .. self.db:lock "wait", run)
    if not row then return false end
    local at = self:now()
    self.db:exec([[UPDATE nodes
      SET state = CASE WHEN state = 'waiting' AND lost_row = 0 THEN 'skipped' ELSE ? END, message = ?,
      ended_at = ?, next_at = NULL, waiting = NULL
      WHERE run_id = ? AND state IN ('waiting', 'retrying', 'polling')]], state, reason, at, run)
    self.db:exec("UPDATE attempts SET state = 'canceled', ended_at = ? WHERE run_id = ? AND state = 'polling'", at, run)
    self.db:exec([[UPDATE runs SET state = ?, message = ?, ended_at = ?, epoch = epoch + 1, request = NULL
      WHERE id = ?]], state, reason, at, run)
    self:decide_in(run, nil, "orphan", reason)
    if state == "canceled" then return true end
    local document = self:document(row.version)
    self:add_notices_in(row, document and document.hooks, "failure")
    return true
  end)
end

--- Gives back runs that a runner has by the store, but does not know of: it is done with them, or the
--- answer to its claim was lost. No attempt of them runs.
---@param runner string
---@param known table<string, any>  by id, those that it knows of
---@return integer count
function ownership:release_strays(runner, known)
  return self.db:transaction(function()
    local count = 0
    for _, row in ipairs(self.db:query([[SELECT id FROM runs WHERE runner = ? AND state <> 'queued'
      AND state IN ('queued', 'running', 'paused') ORDER BY id]] .. self.db:lock "wait", runner)) do
      if not known[row.id] then
        self.db:exec(common.TAKE_BACK .. "WHERE id = ?", row.id)
        self:decide_in(row.id, nil, "handback", "its runner gave it back")
        count = count + 1
      end
    end
    return count
  end)
end

return ownership
