--- What the executor of a run records: attempts, ends, waits, sessions, logs.
---
--- Every method here but `sessions` is fenced: in its transaction it first makes sure that the
--- run is still this store's, by the runner and epoch of the claim, and holds it so until the
--- commit. If it is not, it raises kind "conflict", code "LOST", and nothing was written: the
--- caller ends the run's children and forgets the run.
---
--- Logs have a budget. Of an attempt the first HEAD and the last TAIL lines are kept, at most
--- HALF_BYTES of each; of a run RUN_BYTES, past which an attempt keeps FEW lines of each.

local common = require "tidemill.state.common"
local crash = require "tidemill.crash"
local errors = require "tidemill.errors"
local json = require "json"

local attempts = {}

local HEAD, TAIL, FEW, LINE_BYTES = 2000, 2000, 20, 8192
local HALF_BYTES, RUN_BYTES = 2 << 20, 64 << 20

local function lost(run)
  return errors.new("conflict", ("run %s belongs to another runner now"):format(run), { code = "LOST" })
end

-- Runs f(claim, state) as a fenced transaction. `over` admits a run that has ended.
local function fenced(self, run, f, how, over)
  local claim = self.claims[run] or error(lost(run), 0)
  return self.db:transaction(function()
    local row = self.db:row("SELECT state FROM runs WHERE id = ? AND runner = ? AND epoch = ?" .. self.db:lock "share",
      run, claim.runner, claim.epoch)
    if not row or row.state ~= "running" and row.state ~= "paused" and not over then error(lost(run), 0) end
    return f(claim, row.state)
  end, how)
end

--- Raises LOST unless the run is still this store's.
---@param run string
function attempts:check_claim(run) fenced(self, run, function() end, "relaxed") end

--- The caller has no more to do with the run; what it writes for it will raise LOST.
---@param run string
function attempts:forget_run(run)
  self.claims[run], self.logs_of[run] = nil, nil
end

--- Records why something was done.
---@param run string
---@param node? string
---@param what string
---@param reason string
function attempts:decide(run, node, what, reason)
  fenced(self, run, function() self:decide_in(run, node, what, reason) end, "relaxed")
end

-- ---- attempts ----

--- An attempt starts, or, if it was polling, goes on; its node is running. To say so twice
--- is harmless; an attempt that has ended is not taken up again (conflict).
---@param run string
---@param node string
---@param attempt integer
---@param pool? {pool: string, limit: integer}  a pool, and how many attempts may be in it, whoever runs them
---@param decision? {what: string, reason: string}  why it starts, if that is to be recorded
---@return boolean started, string? reason  false, "pool full": nothing was written
function attempts:begin_attempt(run, node, attempt, pool, decision)
  crash.point "runner.begin.before"
  local begun, reason = fenced(self, run, function(claim)
    local at = self:now()
    if pool then
      self.db:mutex("tidemill pool " .. pool.pool)
      local n = self.db:row([[SELECT count(*) AS n FROM attempts WHERE pool = ? AND state = 'running'
        AND NOT (run_id = ? AND node = ? AND attempt = ?)]], pool.pool, run, node, attempt).n
      if n >= pool.limit then return false, "pool full" end
    end
    -- It is there already when it was polling, or is told again for want of an answer.
    if self.db:exec([[INSERT INTO attempts (run_id, node, attempt, state, runner, pool, started_at)
      VALUES (?, ?, ?, 'running', ?, ?, ?) ON CONFLICT (run_id, node, attempt)
      DO UPDATE SET state = 'running', runner = excluded.runner, pool = excluded.pool WHERE attempts.state = 'polling'
      OR attempts.state = 'running' AND attempts.runner = excluded.runner]],
      run, node, attempt, claim.runner, pool and pool.pool, at) == 0 then
      errors.raise("conflict", ("run %s: attempt %d of node '%s' was made before"):format(run, attempt, node))
    end
    self.db:exec([[UPDATE nodes SET state = 'running', attempts = ?, message = NULL, next_at = NULL,
      started_at = coalesce(started_at, ?) WHERE run_id = ? AND node = ?]], attempt, at, run, node)
    if decision then self:decide_in(run, node, decision.what, decision.reason) end
    return true
  end, "relaxed")
  crash.point "runner.begin.after"
  return begun, reason
end

--- The process of an attempt, once it has one.
function attempts:attempt_pid(run, node, attempt, pid)
  fenced(self, run, function()
    self.db:exec("UPDATE attempts SET pid = ? WHERE run_id = ? AND node = ? AND attempt = ?", pid, run, node, attempt)
  end, "relaxed")
end

---@class tidemill.Ended
---@field state "success"|"failed"|"canceled"  of the attempt
---@field node_state string   what the node is now
---@field message? string     of the node
---@field next_at? integer    when the next attempt starts, of a node that is retrying
---@field tolerated? boolean  the node failed for good, and may
---@field rows? integer
---@field bytes? integer
---@field cpu_ms? integer
---@field max_rss_bytes? integer
---@field code? integer
---@field signal? string
---@field error? table
---@field outputs? table<string, any>  kept if the attempt succeeded
---@field decision? {what: string, reason: string}
---@field unbegun? boolean    the attempt never began: this makes its row
---@field facts? boolean      the node's success may make facts of what was kept
---@field withdrawn? boolean  the node waits again, and the attempt counts for no retry

local function keep_outputs(self, run, node, outputs)
  local rows = {}
  for name, value in pairs(outputs or {}) do rows[#rows + 1] = { run, node, name, json.encode(value) } end
  common.insert(self.db, "INSERT INTO outputs (run_id, node, name, value) VALUES", 4, rows,
    "ON CONFLICT (run_id, node, name) DO UPDATE SET value = excluded.value")
end

local function event_of(self, run, node)
  if not self:is_listened() then return end
  local row = self.db:row("SELECT id, flow, cause, scheduled_at FROM runs WHERE id = ?", run)
  self:add_event_in(row, node)
end

--- An attempt has ended, or its node is done without one more; what it used and gave, and
--- what becomes of its node, in one step.
---@param ended tidemill.Ended
function attempts:end_attempt(run, node, attempt, ended)
  local over = ended.node_state ~= "retrying" and not ended.withdrawn
  crash.point "runner.end.before"
  fenced(self, run, function()
    local at = self:now()
    if ended.unbegun then
      self.db:exec([[INSERT INTO attempts (run_id, node, attempt, state, started_at) VALUES (?, ?, ?, ?, ?)
        ON CONFLICT (run_id, node, attempt) DO NOTHING]], run, node, attempt, ended.state, at)
      self.db:exec("UPDATE nodes SET attempts = ? WHERE run_id = ? AND node = ?", attempt, run, node)
    end
    self.db:exec([[UPDATE attempts SET state = ?, ended_at = ?, row_count = ?, bytes = ?, cpu_ms = ?,
      max_rss_bytes = ?, exit_code = ?, exit_signal = ?, error = ? WHERE run_id = ? AND node = ? AND attempt = ?]],
      ended.state, at, ended.rows, ended.bytes, ended.cpu_ms, ended.max_rss_bytes, ended.code, ended.signal,
      common.encode_error(ended.error), run, node, attempt)
    self.db:exec([[UPDATE nodes SET state = ?, message = ?, ended_at = ?, next_at = ?, waiting = NULL, lost_row = 0,
      tolerated = ?, row_count = ?, bytes = ?, lost = lost + ? WHERE run_id = ? AND node = ?]], ended.node_state,
      ended.message, over and at or nil, ended.next_at, ended.tolerated and 1 or 0, ended.rows, ended.bytes,
      ended.withdrawn and 1 or 0, run, node)
    if ended.state == "success" then keep_outputs(self, run, node, ended.outputs) end
    if ended.decision then self:decide_in(run, node, ended.decision.what, ended.decision.reason) end
    if ended.node_state == "success" then
      if ended.facts then self:deliver_in(run, node) end
      event_of(self, run, node)
    end
  end)
  crash.point "runner.end.after"
end

--- Nodes that will not run (again): skipped, canceled or failed, with the reason.
---@param names string[]
---@param node_state "skipped"|"canceled"|"failed"
---@param reason string
function attempts:end_nodes(run, names, node_state, reason)
  local what = ({ skipped = "skip", canceled = "cancel", failed = "fail" })[node_state]
  fenced(self, run, function()
    local at = self:now()
    for _, node in ipairs(names) do
      self.db:exec([[UPDATE nodes SET state = ?, message = ?, ended_at = ?, next_at = NULL, waiting = NULL
        WHERE run_id = ? AND node = ?]], node_state, reason, at, run, node)
      self.db:exec([[UPDATE attempts SET state = ?, ended_at = ? WHERE run_id = ? AND node = ? AND state = 'polling']],
        node_state == "failed" and "failed" or "canceled", at, run, node)
      self:decide_in(run, node, what, reason)
    end
  end)
end

--- A node waits for something and holds neither worker nor pool: it is polling, as is its attempt.
---@param waiting? table   kept for whoever takes the run over; nil: it waits no more, its state stays
---@param next_at? integer when to look again
---@param message? string  such as "no rows yet"
function attempts:set_waiting(run, node, waiting, next_at, message)
  fenced(self, run, function()
    if not waiting then
      self.db:exec("UPDATE nodes SET waiting = NULL, next_at = NULL WHERE run_id = ? AND node = ?", run, node)
      return
    end
    self.db:exec([[UPDATE nodes SET state = 'polling', waiting = ?, next_at = ?, message = ?, lost_row = 0
      WHERE run_id = ? AND node = ?]], json.encode(waiting), next_at, message, run, node)
    self.db:exec([[UPDATE attempts SET state = 'polling', pool = NULL, pid = NULL, probes = probes + 1
      WHERE run_id = ? AND node = ? AND state = 'running']], run, node)
  end)
end

--- Records that a node is past its deadline, with the flow's notices, once in the life of a run.
---@param deadline_at integer
---@return boolean first
function attempts:late_node(run, node, deadline_at)
  return fenced(self, run, function()
    if self.db:exec("UPDATE nodes SET late_at = ? WHERE run_id = ? AND node = ? AND late_at IS NULL", self:now(), run,
      node) == 0 then return false end
    local row = self.db:row("SELECT id, flow, version, version_no, cause, root_run, settings FROM runs WHERE id = ?",
      run)
    self:decide_in(run, node, "late", ("it has not ended by its deadline, %s UTC"):format(
      os.date("!%Y-%m-%d %H:%M:%S", deadline_at // 1000)))
    local document = self:document(row.version)
    self:add_notices_in(row, document and document.hooks, "late", node)
    return true
  end)
end

--- A server session that an attempt has opened.
---@param session {connection: string, backend_pid: integer, backend_start: string}
function attempts:add_session(run, node, attempt, session)
  fenced(self, run, function()
    self.db:exec([[INSERT INTO sessions (run_id, node, attempt, connection, backend_pid, backend_start)
      VALUES (?, ?, ?, ?, ?, ?) ON CONFLICT DO NOTHING]], run, node, attempt, session.connection,
      session.backend_pid, session.backend_start)
  end)
end

--- Sessions of the attempts of a node.
function attempts:sessions(run, node)
  return self.db:query([[SELECT attempt, connection, backend_pid, backend_start FROM sessions
    WHERE run_id = ? AND node = ? ORDER BY attempt, connection, backend_pid]], run, node)
end

-- ---- the run ----

-- What was asked for meanwhile is still to be done.
local function set_state(self, run, state, reason)
  local request = state == "paused" and "pause" or "resume"
  fenced(self, run, function()
    self.db:exec("UPDATE runs SET state = ?, request = nullif(request, ?) WHERE id = ?", state, request, run)
    self:decide_in(run, nil, request, reason)
  end)
end

--- The runner starts no more nodes of the run, as was asked.
function attempts:pause_run(run) set_state(self, run, "paused", "its running nodes finish, no other starts") end

--- The run goes on.
function attempts:resume_run(run) set_state(self, run, "running", "its nodes start again") end

local NOTICE = { success = "success", failed = "failure" }

--- Records the end of a run; with it, in the same transaction, the notices of its flow's hooks and
--- the event for those that wait for the flow. The claim ends. To say so twice, for want of an
--- answer, is harmless. Sealed objects (lua/state/objects.lua) are of no more use after a success.
---@param run string
---@param result {state: "success"|"failed"|"canceled", message: string?, error: table?, sealed: boolean?}
---sealed: the run has nodes that may have sealed objects
function attempts:end_run(run, result)
  crash.point "runner.over.before"
  fenced(self, run, function(_, state)
    if state == result.state then return end
    if state ~= "running" and state ~= "paused" then error(lost(run), 0) end
    self.db:exec([[UPDATE runs SET state = ?, message = ?, error = ?, ended_at = ?, request = NULL WHERE id = ?]],
      result.state, result.message, common.encode_error(result.error), self:now(), run)
    local row = self.db:row([[SELECT id, flow, version, version_no, cause, root_run, settings, scheduled_at FROM runs
      WHERE id = ?]], run)
    local document = self:document(row.version)
    if NOTICE[result.state] then
      self:add_notices_in(row, document and document.hooks, NOTICE[result.state])
    end
    if result.state == "success" then
      if result.sealed then self:deliver_in(run) end
      self:add_event_in(row, "")
      if result.sealed then self:forget_objects_in(run) end
    end
  end, nil, true)
  crash.point "runner.over.after"
  self:forget_run(run)
end

-- ---- logs ----

-- What is known of a run's log, and of that of one of its attempts.
local function account_of(self, run, node, attempt)
  local of_run = self.logs_of[run]
  if not of_run then
    local row = self.db:row([[SELECT CAST(coalesce(sum(length(line)), 0) AS BIGINT) AS bytes FROM logs
      WHERE run_id = ?]], run)
    of_run = { bytes = row.bytes, attempts = {} }
    self.logs_of[run] = of_run
  end
  local key = ("%s\0%d"):format(node, attempt)
  local log = of_run.attempts[key]
  if not log then
    local row = self.db:row([[SELECT coalesce(max(seq), 0) AS seq FROM logs WHERE run_id = ? AND node = ?
      AND attempt = ?]], run, node, attempt)
    -- lines 1 to head are kept for good; from `first` on the tail, with the bytes of its lines
    log = { seq = row.seq, head = row.seq, head_bytes = 0, first = row.seq + 1, tail_bytes = 0, sizes = {} }
    of_run.attempts[key] = log
  end
  return of_run, log
end

-- Enters lines into the account; gives their rows, and which of those that are stored are to go.
local function enter(of_run, log, lines, key)
  local rows, cut_from = {}, log.first
  local few = of_run.bytes > RUN_BYTES
  local most_head, most_tail = few and FEW or HEAD, few and FEW or TAIL
  for _, one in ipairs(lines) do
    local line = one.line
    if #line > LINE_BYTES then
      local cut = utf8.offset(line, 0, LINE_BYTES + 1) -- between characters
      line = line:sub(1, cut and cut - 1 or LINE_BYTES) .. " ..."
    end
    log.seq = log.seq + 1
    rows[log.seq] = { key[1], key[2], key[3], log.seq, one.at, one.stream, one.level, line }
    of_run.bytes = of_run.bytes + #line
    if log.head == log.seq - 1 and log.head < most_head and log.head_bytes + #line <= HALF_BYTES then
      log.head, log.head_bytes, log.first = log.seq, log.head_bytes + #line, log.seq + 1
      cut_from = log.first
    else
      log.sizes[log.seq], log.tail_bytes = #line, log.tail_bytes + #line
      while log.seq - log.first >= most_tail or log.tail_bytes > HALF_BYTES do
        local size = log.sizes[log.first]
        log.sizes[log.first], log.tail_bytes, of_run.bytes = nil, log.tail_bytes - size, of_run.bytes - size
        log.first = log.first + 1
      end
    end
  end
  return rows, cut_from, log.first - 1
end

--- Adds lines to the log of an attempt; lines between its head and tail are dropped.
---@param lines {at: integer, stream: string, level: string, line: string}[]
function attempts:add_logs(run, node, attempt, lines)
  if not self.claims[run] then error(lost(run), 0) end
  local of_run, log = account_of(self, run, node, attempt)
  local before = log.seq
  local rows, cut_from, cut_to = enter(of_run, log, lines, { run, node, attempt })
  local kept = {}
  for seq = before + 1, log.seq do
    if seq < cut_from or seq > cut_to then kept[#kept + 1] = rows[seq] end
  end
  self.logs_of[run] = nil -- looked up anew if this fails
  fenced(self, run, function()
    common.insert(self.db, "INSERT INTO logs (run_id, node, attempt, seq, at, stream, level, line) VALUES", 8, kept)
    if cut_to >= cut_from and cut_from <= before then
      self.db:exec("DELETE FROM logs WHERE run_id = ? AND node = ? AND attempt = ? AND seq >= ? AND seq <= ?",
        run, node, attempt, cut_from, math.min(cut_to, before))
    end
  end, "relaxed")
  self.logs_of[run] = of_run
end

return attempts
