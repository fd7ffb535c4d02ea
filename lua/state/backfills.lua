--- Backfills: the runs of many business dates, and successes that are only recorded.

local common = require "tidemill.state.common"
local json = require "json"

local backfills = {}

---@class tidemill.NewBackfill
---@field flow string
---@field from integer      the first business time, ms
---@field to integer        the last one
---@field order "asc"|"desc"
---@field jobs integer      most runs of it at once
---@field settings table    as asked for: every, only_missing ...
---@field by string
---@field total integer     runs of it

--- Records a backfill, without its runs.
---@param b tidemill.NewBackfill
---@return string id
function backfills:create_backfill(b)
  local id, at = common.new_id(self:now()), self:now()
  self.db:exec([[INSERT INTO backfills (id, flow, from_at, to_at, ordering, jobs, settings, created_at, created_by,
    total) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)]], id, b.flow, b.from, b.to, b.order, b.jobs, json.encode(b.settings),
    at, b.by, b.total)
  return id
end

--- Records a backfill and queues all of its runs, in one transaction.
---@param b tidemill.NewBackfill
---@param runs tidemill.NewRun[]  in their order; backfill and position are filled in
---@return string id, string[] ids
function backfills:queue_backfill(b, runs)
  local id, ids
  self.db:transaction(function()
    id, ids = self:create_backfill(b), {}
    for i, run in ipairs(runs) do
      run.backfill, run.backfill_position = id, i
      ids[i] = self:create_run_in(run)
    end
  end)
  return id, ids
end

--- The scheduled times, out of many, for which a flow has a success or one under way; trials
--- do not count.
---@param flow string
---@param times integer[]
---@return table<integer, boolean>
function backfills:covered(flow, times)
  local found = {}
  if #times == 0 then return found end
  local first, last = times[1], times[#times]
  if first > last then first, last = last, first end
  for _, row in ipairs(self.db:query([[SELECT DISTINCT scheduled_at FROM runs WHERE flow = ? AND scheduled_at >= ?
    AND scheduled_at <= ? AND cause <> 'manual' AND state IN ('success', 'queued', 'running', 'paused')]], flow, first,
    last)) do
    found[row.scheduled_at] = true
  end
  return found
end

--- Records a success of a flow without running anything, for what waits for it.
---@param run tidemill.NewRun
---@param reason string
---@return string id
function backfills:record_success(run, reason)
  return self.db:transaction(function()
    local done = {}
    for _, node in ipairs(run.nodes) do done[node.name] = {} end
    run.state, run.message, run.done = "success", reason, done
    local id = self:create_run_in(run)
    self.db:exec("UPDATE nodes SET message = 'dry run' WHERE run_id = ?", id)
    self:decide_in(id, nil, "dry run", reason)
    local row = { id = id, flow = run.flow, cause = run.cause, scheduled_at = run.scheduled }
    for _, node in ipairs(run.nodes) do self:add_event_in(row, node.name) end
    self:add_event_in(row, "")
    return id
  end)
end

return backfills
