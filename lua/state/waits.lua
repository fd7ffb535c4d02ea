--- What nodes wait for: subflows, and runs of other flows.

local json = require "json"

local waits = {}

--- Begins a subflow for a node, in one step with the node's wait for it, and once: a node that
--- waits for a run already is given that. Fenced, as the writes of lua/state/attempts.lua.
---@param run string
---@param node string
---@param child tidemill.NewRun
---@param waiting table   of kind "run"; its field `run` is set
---@return table waiting
function waits:begin_subrun(run, node, child, waiting)
  return self.db:transaction(function()
    self:check_claim(run)
    local kept = self.db:row("SELECT waiting FROM nodes WHERE run_id = ? AND node = ?", run, node).waiting
    kept = kept and json.decode(kept)
    if kept and kept.run then return kept end
    waiting.run = self:create_run_in(child)
    self:set_waiting(run, node, waiting, self:now(), ("run %s of flow '%s'"):format(waiting.run, child.flow))
    return waiting
  end)
end

--- The newest published version of a flow; nil if it is not published.
---@param flow string
---@return {hash: string, document: table, version_no: integer}?
function waits:published(flow)
  local row = self.db:row("SELECT hash, version_no FROM flows WHERE flow = ? AND version_no IS NOT NULL", flow)
  if not row then return nil end
  return { hash = row.hash, version_no = row.version_no, document = self:document(row.hash) }
end

-- The newest run in a span of scheduled times, if it did not end well.
local function failure(self, wait)
  local row = self.db:row([[SELECT id, state FROM runs WHERE flow = ? AND cause <> 'manual' AND state <> 'skipped'
    AND scheduled_at >= ? AND scheduled_at <= ? ORDER BY scheduled_at DESC, id DESC LIMIT 1]], wait.flow, wait.from_ms,
    wait.to_ms)
  if row and (row.state == "failed" or row.state == "canceled") then return "failed", row.id end
end

-- Of the scheduled times in a span that have no success, a run: one that failed, if there is
-- such, else the newest. Of several runs of one time the newest counts, or any that succeeded.
local OPEN = [[SELECT r.id, r.state FROM runs r %s WHERE r.flow = ? AND r.cause <> 'manual' AND r.state <> 'skipped'
  AND r.scheduled_at >= ? AND r.scheduled_at <= ? AND %s <> 'success'
  AND NOT EXISTS (SELECT 1 FROM runs o %s WHERE o.flow = r.flow AND o.scheduled_at = r.scheduled_at
    AND o.cause <> 'manual' AND o.state <> 'skipped' AND (%s = 'success' OR o.id > r.id))
  ORDER BY CASE WHEN r.state IN ('failed', 'canceled') THEN 0 ELSE 1 END, r.scheduled_at DESC, r.id DESC LIMIT 1]]
local OPEN_RUN = OPEN:format("", "r.state", "", "o.state")
local OPEN_NODE = OPEN:format("JOIN nodes n ON n.run_id = r.id AND n.node = ?", "n.state",
  "JOIN nodes m ON m.run_id = o.id AND m.node = ?", "m.state")

local function open_run(self, wait)
  if not wait.node then return self.db:row(OPEN_RUN, wait.flow, wait.from_ms, wait.to_ms) end
  return self.db:row(OPEN_NODE, wait.node, wait.flow, wait.from_ms, wait.to_ms, wait.node)
end

-- Whether firing times in the span are due that the ledger does not have yet.
local function is_behind(self, wait)
  local row = self.db:row([[SELECT schedule FROM flows WHERE flow = ? AND paused_at IS NULL AND schedule IS NOT NULL
    AND next_at >= ? AND next_at <= ? AND next_at <= ?]], wait.flow, wait.from_ms, wait.to_ms, self:now())
  return row ~= nil and json.decode(row.schedule).kind ~= "event"
end

--- How far what a node waits for is: "success" with the run's id (without one: there never was
--- an earlier run to wait for), "failed" with that run's, or nil while there is nothing to tell,
--- with the run that is not done yet, if it is for one.
---
--- Of a flow one success in the span is enough; with `all` each scheduled time in it that has
--- runs must have one, those that are due included. Skipped and missed firings do not count.
---@param run {flow: string, scheduled_at: integer}  the run of the node
---@param wait {flow: string?, node: string?, from_ms: integer?, to_ms: integer?, previous: boolean?,
---  all: boolean?}
---@return "success"|"failed"|nil, string? run
function waits:awaited(run, wait)
  local found = self:upstream_run { flow = wait.flow or run.flow, node = wait.node, from_ms = wait.from_ms,
    to_ms = wait.to_ms, previous = wait.previous, before_ms = run.scheduled_at }
  if wait.previous then
    if not found then return "success" end
    if found.state == "failed" or found.state == "canceled" then return "failed", found.id end
    return found.state == "success" and "success" or nil, found.id
  end
  if wait.all then
    local open = open_run(self, wait)
    if open then return (open.state == "failed" or open.state == "canceled") and "failed" or nil, open.id end
    if not found or is_behind(self, wait) then return nil end
  end
  if found then return "success", found.id end
  return failure(self, wait)
end

return waits
