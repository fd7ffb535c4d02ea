--- Runs: their sources, making them, changing their course. Claiming is in claims.lua.

local common = require "tidemill.state.common"
local errors = require "tidemill.errors"
local json = require "json"
local text = require "tidemill.text"

local runs = {}

local encode = common.encode
local ACTIVE = "state IN ('queued', 'running', 'paused')"
local OVER = { success = true, failed = true, canceled = true, skipped = true }
local MAX_DOCUMENTS = 200

-- ---- sources ----

--- Keeps a flow's document and sources under their hash; again is harmless.
---@param hash string
---@param document table  lua/document.lua
---@param sources table
function runs:save_source(hash, document, sources)
  if self.db:row("SELECT 1 AS one FROM sources WHERE hash = ?", hash) then return end
  self.db:exec([[INSERT INTO sources (hash, document, sources, created_at) VALUES (?, ?, ?, ?)
    ON CONFLICT DO NOTHING]], hash, json.encode(document), json.encode(sources), self:now())
end

--- The document and sources of a hash. Raises not_found.
---@param hash string
---@return {document: table, sources: table}
function runs:source(hash)
  local row = self.db:row("SELECT document, sources FROM sources WHERE hash = ?", hash)
  if not row then
    errors.raise("not_found", ("the state store has no sources '%s'"):format(hash))
  end
  return { document = json.decode(row.document), sources = json.decode(row.sources) }
end

--- The document of a hash, not to be changed; nil if there is none. Kept in memory.
---@param hash string
---@return table?
function runs:document(hash)
  if self.documents[hash] then return self.documents[hash] end
  local row = self.db:row("SELECT document FROM sources WHERE hash = ?", hash)
  if not row then return nil end
  if self.documents_kept >= MAX_DOCUMENTS then self.documents, self.documents_kept = {}, 0 end
  self.documents[hash], self.documents_kept = json.decode(row.document), self.documents_kept + 1
  return self.documents[hash]
end

-- ---- changes ----

--- A number that moves when flows, versions, pauses or requests change.
---@return integer
function runs:changes() return self.db:row("SELECT seq FROM changes WHERE one = 1").seq end

--- Moves that number; for use in the transaction of the change, as late in it as can be.
function runs:touch() self.db:exec "UPDATE changes SET seq = seq + 1 WHERE one = 1" end

-- ---- decisions ----

--- Records why something was done, in the transaction under way.
---@param node? string
function runs:decide_in(run, node, what, reason)
  self.db:exec([[INSERT INTO decisions (run_id, seq, at, node, what, reason)
    VALUES (?, (SELECT coalesce(max(seq), 0) + 1 FROM decisions WHERE run_id = ?), ?, ?, ?, ?)]],
    run, run, self:now(), node, what, reason)
end

-- ---- making ----

---@class tidemill.NewRun
---@field flow string
---@field file string
---@field version string        hash of sources that are saved
---@field version_no? integer   of the published version
---@field cause "manual"|"schedule"|"event"|"trigger"|"backfill"|"rerun"|"subflow"
---@field schedule? string      "main" or "event", with `slot`
---@field slot? integer         the firing time that it is for
---@field scheduled integer
---@field business integer
---@field timezone string
---@field settings? {set: table?, only: string[]?}
---@field priority? integer     1 to 10, 10 first (default 5)
---@field concurrency? "skip"|"queue"|"parallel"  (default "parallel")
---@field parent_run? string    of a subflow
---@field parent_node? string
---@field of_run? string        the run that it repeats
---@field backfill? string
---@field backfill_position? integer
---@field deadline? integer     when it is late
---@field runner? string        the one runner that may claim it, while that lives
---@field state? "queued"|"skipped"|"success"  (default "queued"); of the others there are no nodes without `done`
---@field message? string       why it is in this state
---@field nodes table[]         the document's: name, kind, after
---@field done? table<string, {outputs: table?}>  nodes that count as done, with their outputs

local function insert_nodes(self, id, run, at)
  local rows, outputs = {}, {}
  for i, node in ipairs(run.nodes or {}) do
    local done = run.done and run.done[node.name]
    rows[i] = { id, node.name, i, node.kind, common.encode_list(node.after or {}), done and "success" or "waiting",
      done and at or nil, done and ("taken over from run " .. (run.of_run or "?")) or nil }
    for name, value in pairs(done and done.outputs or {}) do
      outputs[#outputs + 1] = { id, node.name, name, json.encode(value) }
    end
  end
  common.insert(self.db, [[INSERT INTO nodes (run_id, node, position, kind, upstream, state, ended_at, message)
    VALUES]], 8, rows)
  common.insert(self.db, "INSERT INTO outputs (run_id, node, name, value) VALUES", 4, outputs)
end

-- A backfill gets an active run: claims must look at it, and must not close it meanwhile.
local function open_backfill(self, id)
  local row = self.db:row("SELECT open FROM backfills WHERE id = ?" .. self.db:lock "wait", id)
  if row and row.open == 0 then self.db:exec("UPDATE backfills SET open = 1 WHERE id = ?", id) end
end

--- Makes a run in the transaction under way; see create_run.
---@param run tidemill.NewRun
---@return string id
function runs:create_run_in(run)
  local at, state = self:now(), run.state or "queued"
  local root
  if run.parent_run then
    local parent = self.db:row("SELECT root_run FROM runs WHERE id = ?", run.parent_run)
    root = parent and parent.root_run
  end
  local id
  repeat -- of a thousand ids in one second two are the same 3 times in 100
    id = common.new_id(at)
  until self.db:exec([[INSERT INTO runs (id, short_id, flow, file, version, version_no, cause, schedule, slot_at, state,
    concurrency, priority, scheduled_at, business_at, timezone, settings, parent_run, parent_node, root_run, of_run,
    backfill, backfill_position, runner, created_at, ended_at, deadline_at, message)
    VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)
    ON CONFLICT DO NOTHING]],
    id, id:sub(-6), run.flow, run.file, run.version, run.version_no, run.cause, run.schedule, run.slot, state,
    run.concurrency or "parallel", run.priority or 5, run.scheduled, run.business, run.timezone,
    encode(run.settings), run.parent_run, run.parent_node, root or id, run.of_run, run.backfill,
    run.backfill_position, state == "queued" and run.runner or nil, at, OVER[state] and at or nil, run.deadline,
    run.message) == 1
  if not OVER[state] or run.done then insert_nodes(self, id, run, at) end
  if run.backfill then open_backfill(self, run.backfill) end
  return id
end

--- Makes a run and its nodes.
---@param run tidemill.NewRun
---@return string id  "yyyyMMdd-HHmmss-" (UTC) and six hexadecimal digits
function runs:create_run(run)
  return self.db:transaction(function() return self:create_run_in(run) end)
end

-- ---- requests ----

local function locked(self, run)
  local row = self.db:row([[SELECT id, flow, version, state, runner, cause, epoch, request, backfill, scheduled_at,
    started_at FROM runs WHERE id = ?]] .. self.db:lock "wait", run)
  return row or errors.raise("not_found", ("there is no run '%s'"):format(run))
end

local function has_ended(row)
  errors.raise("conflict", ("run %s has ended: %s"):format(row.id, row.state))
end

-- Ends a run that no runner has.
local function cancel_waiting(self, run, reason)
  local at = self:now()
  self.db:exec([[UPDATE nodes SET state = 'canceled', message = ?, ended_at = ?, next_at = NULL, waiting = NULL
    WHERE run_id = ? AND state IN ('waiting', 'retrying', 'polling')]], reason, at, run)
  self.db:exec([[UPDATE runs SET state = 'canceled', message = ?, ended_at = ?, request = NULL WHERE id = ?]],
    reason, at, run)
end

-- For each request: what is done at once, or false if the run's runner must do it.
local at_once = {}

function at_once.stop(self, row)
  if row.state == "queued" or row.state == "paused" and not row.started_at then
    cancel_waiting(self, row.id, "stopped before it started")
    return true
  elseif not row.runner then -- its next runner ends what the lost one left
    self.db:exec("UPDATE runs SET state = 'running' WHERE id = ?", row.id)
  end
  return false
end

function at_once.pause(self, row)
  if row.state == "paused" then return true end
  if row.state == "running" then return false end
  self.db:exec("UPDATE runs SET state = 'paused', runner = NULL WHERE id = ?", row.id)
  return true
end

function at_once.resume(self, row)
  if row.runner and (row.state == "paused" or row.request) then return false end -- it may have seen the pause
  self.db:exec([[UPDATE runs SET request = NULL,
    state = CASE WHEN state = 'paused' AND started_at IS NULL THEN 'queued' WHEN state = 'paused' THEN 'running'
      ELSE state END WHERE id = ?]], row.id)
  return true
end

--- Asks that a run be stopped, paused or resumed. Raises not_found, and conflict if it has ended
--- or is to be stopped: a stop is for good.
---@param run string
---@param what "stop"|"pause"|"resume"
---@param by? string  who asks and why: "by user@host: reason"
---@return boolean done  it is so now; false: its runner will see to it
function runs:request(run, what, by)
  return self.db:transaction(function()
    local row = locked(self, run)
    if OVER[row.state] then has_ended(row) end
    if row.request == "stop" and what ~= "stop" then
      errors.raise("conflict", ("run %s is to be stopped"):format(run),
        ("when it has ended: tidemill restore %s goes on with it"):format(run))
    end
    local done = at_once[what](self, row)
    if not done then self.db:exec("UPDATE runs SET request = ? WHERE id = ?", what, run) end
    self:decide_in(run, nil, what, ("asked %s%s"):format(done and "" or "of its runner ", by or "by a user"))
    self:touch()
    return done
  end)
end

--- What users want of the runs that a runner has.
---@param runner string
---@return {run: string, request: string}[]
function runs:requests(runner)
  return self.db:query([[SELECT id AS run, request FROM runs WHERE runner = ? AND request IS NOT NULL
    AND state IN ('queued', 'running', 'paused') ORDER BY id]], runner)
end

-- ---- after the end ----

-- Whether a run that counts as a success, because it was marked so, has nodes that were to run and
-- did not succeed. Those that it skipped were not.
local function has_undone(self, run)
  return self.db:row([[SELECT node FROM nodes WHERE run_id = ? AND state NOT IN ('success', 'skipped')
    AND tolerated = 0 LIMIT 1]], run) ~= nil
end

--- Has a run that ended go on: its nodes without success, or those named, wait again, and it
--- is queued. Failures that were tolerated stay. Raises not_found, and conflict
--- if the run has not ended or nothing of it is to be done.
---@param run string
---@param names? string[]
---@param reason? string   for `why`
---@param runner? string   the one runner that may claim it
---@return integer count   nodes that will run
function runs:restore_run(run, names, reason, runner)
  return self.db:transaction(function()
    local row = locked(self, run)
    if not OVER[row.state] then
      errors.raise("conflict", ("run %s has not ended: %s"):format(run, row.state),
        ("tidemill stop %s ends it"):format(run))
    end
    local count = 0
    local again = [[UPDATE nodes SET state = 'waiting', message = NULL, started_at = NULL, ended_at = NULL,
      next_at = NULL, waiting = NULL, tolerated = 0, before = attempts, lost = 0, lost_row = 0 WHERE run_id = ? AND ]]
    for _, name in ipairs(names or {}) do
      count = count + self.db:exec(again .. "node = ?", run, name)
      self.db:exec("DELETE FROM outputs WHERE run_id = ? AND node = ?", run, name)
    end
    if not names and (row.state ~= "success" or has_undone(self, run)) then
      count = self.db:exec(again .. "state <> 'success' AND tolerated = 0", run)
    end
    if count == 0 and (names or row.state == "success") then -- else it died when only its end was to be written
      errors.raise("conflict", ("run %s has nothing to restore"):format(run),
        ("tidemill rerun %s runs all of it again"):format(run))
    end
    self.db:exec([[UPDATE runs SET state = 'queued', runner = ?, epoch = epoch + 1, request = NULL, ended_at = NULL,
      message = NULL, error = NULL WHERE id = ?]], runner, run)
    if row.backfill then open_backfill(self, row.backfill) end
    self:decide_in(run, nil, "restore", ("%s to run%s"):format(text.count(count, "node"),
      reason and ", " .. reason or ""))
    return count
  end)
end

--- Gives a run that no runner has another end. A success counts for those that wait for
--- the flow. Raises not_found, and conflict if a runner has it or it is what it should be.
---@param run string
---@param state "success"|"failed"
---@param reason string
function runs:mark_run(run, state, reason)
  self.db:transaction(function()
    local row = locked(self, run)
    if row.state == state then has_ended(row) end
    if row.state == "running" or row.state == "paused" or row.state == "queued" and row.runner then
      errors.raise("conflict", ("run %s is %s"):format(run, row.state), "stop it first: tidemill stop " .. run)
    end
    self.db:exec([[UPDATE runs SET state = ?, message = ?, error = CASE WHEN ? = 'success' THEN NULL ELSE error END,
      ended_at = coalesce(ended_at, ?), epoch = epoch + 1, request = NULL WHERE id = ?]], state, "marked: " .. reason,
      state, self:now(), run)
    self:decide_in(run, nil, "mark", ("%s, was %s: %s"):format(state, row.state, reason))
    if state == "success" then self:add_event_in(row, "") end
  end)
end

-- ---- events ----

-- The flows and nodes whose success some published flow waits for.
local function listened(self)
  local seq = self:changes()
  if self.listened_at ~= seq then
    local names = {}
    for _, row in ipairs(self.db:query [[SELECT schedule FROM flows WHERE version_no IS NOT NULL
      AND schedule LIKE '%"event"%']]) do
      for _, source in ipairs(json.decode(row.schedule).after or {}) do
        names[source.flow .. "\0" .. (source.node or "")] = true
      end
    end
    self.listened, self.listened_at = names, seq
  end
  return self.listened
end

--- Whether any published flow waits for others; in the transaction under way.
function runs:is_listened() return next(listened(self)) ~= nil end

--- Records the success of a run, or of its node, once, if some published flow waits for it; in
--- the transaction under way, as late in it as can be. `seq` is the order of commits.
---@param run {id: string, flow: string, cause: string, scheduled_at: integer}
---@param node string  "" for the run itself
function runs:add_event_in(run, node)
  if not listened(self)[run.flow .. "\0" .. node] then return end
  self.db:mutex "tidemill events"
  if self.db:row("SELECT seq FROM events WHERE run_id = ? AND node = ?", run.id, node) then return end
  self.db:exec([[INSERT INTO events (seq, flow, node, run_id, cause, scheduled_at, at)
    VALUES ((SELECT coalesce(max(seq), 0) + 1 FROM events), ?, ?, ?, ?, ?, ?)]],
    run.flow, node, run.id, run.cause, run.scheduled_at, self:now())
end

-- ---- deadlines ----

--- Runs, queued ones too, that are past their deadline and not yet known to be late.
---@param limit? integer  (default 100)
---@return string[] ids
function runs:overdue(limit)
  local ids = {}
  for i, row in ipairs(self.db:query([[SELECT id FROM runs WHERE deadline_at IS NOT NULL AND late_at IS NULL
    AND state IN ('queued', 'running', 'paused') AND deadline_at <= ? ORDER BY deadline_at LIMIT ?]],
    self:now(), limit or 100)) do ids[i] = row.id end
  return ids
end

--- Records that a run is late, with its notices, once; whoever runs it.
---@param run string
---@return boolean first
function runs:late(run)
  return self.db:transaction(function()
    local at = self:now()
    if self.db:exec("UPDATE runs SET late_at = ? WHERE id = ? AND late_at IS NULL AND " .. ACTIVE, at, run) == 0 then
      return false
    end
    local row = self.db:row([[SELECT id, flow, version, version_no, cause, root_run, settings, deadline_at,
      timezone FROM runs WHERE id = ?]], run)
    self:decide_in(run, nil, "late", "it has not ended by its deadline, "
      .. require("tidemill.calendar").show(row.deadline_at or at, row.timezone))
    local document = self:document(row.version)
    self:add_notices_in(row, document and document.hooks, "late")
    return true
  end)
end

return runs
