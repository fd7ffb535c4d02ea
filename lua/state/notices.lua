--- The outbox of hooks: notices that a run ended or is late, to be sent by some runner.
---
--- A notice is written in the transaction that ends the run, so none is forgotten and none is
--- sent for an end that did not come about. It is sent at least once: a runner takes it
--- (`sending`), sends it in a process of its own and records the outcome; what a runner that
--- died had taken is taken again. A failed try is repeated after DELAYS, then given up.
---
--- A trial run sends nothing unless its settings say so, nor do its subflows.

local common = require "tidemill.state.common"
local json = require "json"
local signal = require "tidemill.signal"

local notices = {}

-- Seconds before each further try, 62 minutes in all; each up to a tenth longer.
local DELAYS = { 5, 30, 120, 600, 1200, 1800 }
local MOST_FAILED = 20 -- failed nodes told of
local STUCK_MS = 600000 -- no try takes so long: its outcome will not come any more

local LISTS = { success = "on_success", failure = "on_failure", late = "on_late" }

-- The run's row is locked, as every writer of its decisions has it.
local function decide(self, run, reason)
  self.db:query("SELECT id FROM runs WHERE id = ?" .. self.db:lock "wait", run)
  self:decide_in(run, nil, "hook", reason)
end

local function settings_of(run)
  local settings = run.settings
  return type(settings) == "string" and json.decode(settings) or settings or {}
end

-- Whether the run, or the one that it is a part of, only tries a file out.
local function is_trial(self, run)
  local root = run
  if run.root_run and run.root_run ~= run.id then
    root = self.db:row("SELECT id, cause, version_no, settings FROM runs WHERE id = ?", run.root_run) or run
  end
  local trial = root.cause == "manual" or root.cause == "rerun" and not root.version_no
  return trial and not settings_of(root).hooks
end

--- Writes the notices that a flow's hooks want of a run; for use inside the transaction that
--- makes them due.
---@param run {id: string, flow: string, cause: string, root_run: string?, version_no: integer?,
---  settings: table|string|nil}
---@param hooks? table   document.hooks: on_success, on_failure, on_late, each a list
---@param what "success"|"failure"|"late"
---@param node? string   of the run, which is late; without one it is the run
function notices:add_notices_in(run, hooks, what, node)
  local list = hooks and hooks[LISTS[what]] or {}
  if #list == 0 then return end
  if is_trial(self, run) then
    return decide(self, run.id, "hooks are not sent for a trial run; run --hooks sends them")
  end
  local now = self:now()
  for _, target in ipairs(list) do
    self.db:exec([[INSERT INTO notices (id, run_id, flow, what, node, target, state, next_at, created_at)
      VALUES (?, ?, ?, ?, ?, ?, 'pending', ?, ?)]], "msg_" .. signal.random(24), run.id, run.flow, what, node,
      json.encode(target), now, now)
  end
end

---@class tidemill.Notice
---@field id string
---@field run_id string
---@field flow string
---@field what "success"|"failure"|"late"
---@field node string?     the one that is late
---@field target table     one entry of the flow's hooks
---@field attempts integer this try included
---@field runner string

--- Takes notices that are due, to be sent by this runner now.
---@param runner string
---@param limit integer
---@param root? string  only those of this run and its subflows
---@return tidemill.Notice[]
function notices:take_notices(runner, limit, root)
  return self.db:transaction(function()
    local now = self:now()
    local rows = self.db:query([[SELECT id, run_id, flow, what, node, target, attempts FROM notices n
      WHERE state IN ('pending', 'sending') AND next_at <= ?
      AND (state = 'pending' OR next_at <= ?
        OR NOT EXISTS (SELECT 1 FROM runners r WHERE r.id = n.runner AND r.state = 'alive'))]]
      .. (root and " AND EXISTS (SELECT 1 FROM runs WHERE runs.id = n.run_id AND runs.root_run = ?)" or "")
      .. (" ORDER BY next_at, id LIMIT %d"):format(limit) .. self.db:lock "skip", now, now - STUCK_MS, root)
    for _, row in ipairs(rows) do
      self.db:exec([[UPDATE notices SET state = 'sending', runner = ?, attempts = attempts + 1, next_at = ?
        WHERE id = ?]], runner, now, row.id)
      row.attempts, row.runner, row.target = row.attempts + 1, runner, json.decode(row.target)
    end
    return rows
  end)
end

local function name_of(target)
  if target.webhook then return ("webhook '%s'"):format(target.webhook) end
  return target.shell and "shell hook" or "e-mail"
end

local TOLD = { success = "the success", failure = "the failure", late = "the delay" }

--- Records how a try went. Does nothing if another runner has taken the notice since.
---@param notice tidemill.Notice
---@param outcome {ok: boolean, error: table?, final: boolean?}  final: no other try
function notices:end_notice(notice, outcome)
  self.db:transaction(function()
    local now, name = self:now(), name_of(notice.target)
    local told = TOLD[notice.what] .. (notice.node and (" of node '%s'"):format(notice.node) or "")
    local state, next_at, reason = "sent", now, ("%s was told of %s"):format(name, told)
    if not outcome.ok then
      local delay, message = DELAYS[notice.attempts], outcome.error and outcome.error.message or "failed"
      state = (outcome.final or not delay) and "failed" or "pending"
      if state == "pending" then
        next_at = now + math.floor(delay * 1000 * (1 + 0.1 * math.random()))
        reason = ("%s could not be told of %s: %s; again in %d s"):format(name, told, message, delay)
      else
        reason = ("%s was not told of %s, given up after %d: %s"):format(name, told, notice.attempts, message)
      end
    end
    local mine = self.db:exec([[UPDATE notices SET state = ?, next_at = ?, error = ?, ended_at = ?
      WHERE id = ? AND runner = ? AND attempts = ? AND state = 'sending']], state, next_at,
      common.encode_error(outcome.error), state ~= "pending" and now or nil, notice.id, notice.runner,
      notice.attempts) == 1
    if mine then decide(self, notice.run_id, reason) end
  end)
end

--- How many notices of a run and its subflows are not sent yet, and when the next is due.
---@param root string
---@return integer count, integer? next_at
function notices:open_notices(root)
  local row = self.db:row([[SELECT count(*) AS open, min(next_at) AS next_at FROM notices n
    WHERE state IN ('pending', 'sending')
    AND EXISTS (SELECT 1 FROM runs WHERE runs.id = n.run_id AND runs.root_run = ?)]], root)
  return row.open, row.next_at
end

--- What is told of a run.
---@param run string
---@return table  flow, run, version, cause, state, scheduled, business, started, ended (ms), timezone, message,
---  failed: {node, attempt, message, kind, code}[], failed_count; nil when there is no such run
function notices:notice_facts(run)
  local row = self.db:row([[SELECT flow, version_no, cause, state, scheduled_at, business_at, started_at, ended_at,
    timezone, message FROM runs WHERE id = ?]], run)
  if not row then return nil end
  local facts = { flow = row.flow, run = run, version = row.version_no, cause = row.cause, state = row.state,
    scheduled = row.scheduled_at, business = row.business_at, started = row.started_at, ended = row.ended_at,
    timezone = row.timezone, message = row.message, failed = json.array {} }
  facts.failed_count = self.db:row("SELECT count(*) AS n FROM nodes WHERE run_id = ? AND state = 'failed'", run).n
  for i, node in ipairs(self.db:query(([[SELECT n.node, n.attempts, n.message, a.error FROM nodes n
    LEFT JOIN attempts a ON a.run_id = n.run_id AND a.node = n.node AND a.attempt = n.attempts
    WHERE n.run_id = ? AND n.state = 'failed' ORDER BY n.position LIMIT %d]]):format(MOST_FAILED), run)) do
    local err = common.decode_error(node).error or {}
    facts.failed[i] = { node = node.node, attempt = node.attempts, message = err.message or node.message,
      kind = err.kind, code = err.code }
  end
  return facts
end

return notices
