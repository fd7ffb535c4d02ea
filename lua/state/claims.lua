--- Handing runs to runners.
---
--- A run is claimed by one runner. Whatever takes it away (lua/state/runners.lua, a restore)
--- makes its epoch grow; all that its runner writes is fenced by both (lua/state/attempts.lua).
---
--- Who may be claimed. A queued run waits while its flow is paused (cause schedule or event),
--- and, unless its concurrency is "parallel" or its cause "manual", while another run of the flow,
--- manual ones aside, is running or stands before it. Of a backfill at most backfills.jobs run
--- at once, by position. What was running when its runner was lost waits for nothing. The
--- candidates are found without locks; a lock on the flow's or backfill's name, held until the
--- claim is committed, then makes sure that the count is exact.

local common = require "tidemill.state.common"
local crash = require "tidemill.crash"
local json = require "json"

local claims = {}

local decode = common.decode
local ACTIVE = "state IN ('queued', 'running', 'paused')"

-- A queued run that its flow lets start now, as far as one can see without locks.
local function may_start(db)
  return ([[(r.state = 'running' OR (
  (r.cause NOT IN ('schedule', 'event')
    OR NOT EXISTS (SELECT 1 FROM flows f WHERE f.flow = r.flow AND f.paused_at IS NOT NULL))
  AND (r.concurrency = 'parallel' OR r.cause = 'manual' OR (
    NOT EXISTS (SELECT 1 FROM runs q%s WHERE q.flow = r.flow AND q.state IN ('running', 'paused')
      AND q.cause <> 'manual')
    AND NOT EXISTS (SELECT 1 FROM runs q%s WHERE q.flow = r.flow AND q.state = 'queued'
      AND q.cause <> 'manual' AND q.backfill IS NULL AND (q.priority > r.priority
        OR q.priority = r.priority AND (q.scheduled_at, q.id) < (r.scheduled_at, r.id))
      AND (q.cause NOT IN ('schedule', 'event')
        OR NOT EXISTS (SELECT 1 FROM flows f WHERE f.flow = q.flow AND f.paused_at IS NOT NULL)))))))]])
    :format(db:by "runs_of_flow_started", db:by "runs_of_flow_queued")
end

local CANDIDATE = [[SELECT r.id, r.flow, r.state, r.cause, r.concurrency, r.backfill, r.priority, r.scheduled_at
  FROM runs r]]
local FREE = " WHERE r.runner IS NULL AND r.backfill IS NULL AND r.state IN ('queued', 'running') AND "
local ORDER = " ORDER BY r.priority DESC, r.scheduled_at, r.id LIMIT ?"

-- Runs that any runner may have, those first that go first.
local function free(self, limit, lock)
  return self.db:query(CANDIDATE .. self.db:by "runs_to_claim" .. FREE .. may_start(self.db) .. ORDER .. lock, limit)
end

local function add(list, rows) table.move(rows, 1, #rows, #list + 1, list) end

local OF_BACKFILL = " WHERE r.backfill = ? AND r." .. ACTIVE .. " AND r.state = '%s' AND r.runner IS NULL"
local LOST_OF_BACKFILL, NEXT_OF_BACKFILL = OF_BACKFILL:format "running", OF_BACKFILL:format "queued"

-- Closes a backfill of which no run is active, unless one is being made.
local function close_backfill(self, id)
  if self.db:row("SELECT id FROM backfills WHERE id = ?" .. self.db:lock "skip", id)
    and not self.db:row("SELECT id FROM runs" .. self.db:by "runs_of_backfill" .. " WHERE backfill = ? AND " .. ACTIVE
      .. " LIMIT 1", id) then
    self.db:exec("UPDATE backfills SET open = 0 WHERE id = ?", id)
  end
end

-- The next runs of each open backfill, whose mutex is taken.
local function backfill_candidates(self, limit)
  local list, skip, by = {}, self.db:lock "skip", self.db:by "runs_of_backfill"
  local from = CANDIDATE .. by
  for _, b in ipairs(self.db:query "SELECT id, jobs FROM backfills WHERE open = 1 ORDER BY id") do
    self.db:mutex("tidemill backfill " .. b.id)
    add(list, self.db:query(from .. LOST_OF_BACKFILL .. ORDER .. skip, b.id, limit))
    local busy = self.db:row("SELECT count(*) AS n FROM runs" .. by .. " WHERE backfill = ? AND " .. ACTIVE
      .. " AND state IN ('running', 'paused')", b.id).n
    if busy < b.jobs then
      local queued = self.db:query(from .. NEXT_OF_BACKFILL .. " AND " .. may_start(self.db)
        .. " ORDER BY r.backfill_position LIMIT ?" .. skip, b.id, math.min(b.jobs - busy, limit))
      add(list, queued)
      if busy == 0 and #queued == 0 then close_backfill(self, b.id) end
    end
  end
  return list
end

local function goes_first(a, b)
  if a.priority ~= b.priority then return a.priority > b.priority end
  if a.scheduled_at ~= b.scheduled_at then return a.scheduled_at < b.scheduled_at end
  return a.id < b.id
end

local function candidates(self, options)
  local skip = self.db:lock "skip"
  local list
  if options.root then
    local mine = " AND r.state <> 'paused' AND (r.runner IS NULL OR r.state = 'queued' AND r.runner = ?) AND "
      .. may_start(self.db) .. ORDER .. skip
    list = self.db:query(CANDIDATE .. " WHERE r.id = ? AND r." .. ACTIVE .. mine, options.root, options.runner,
      options.limit)
    add(list, self.db:query(CANDIDATE .. " WHERE r.root_run = ? AND r.root_run <> r.id AND r." .. ACTIVE .. mine,
      options.root, options.runner, options.limit))
  else
    list = free(self, options.limit, skip)
    add(list, self.db:query(CANDIDATE .. " WHERE r.runner = ? AND r.state = 'queued' AND " .. may_start(self.db)
      .. ORDER .. skip, options.runner, options.limit))
    add(list, backfill_candidates(self, options.limit))
  end
  table.sort(list, goes_first)
  return list
end

local function is_limited(r)
  return r.state == "queued" and r.concurrency ~= "parallel" and r.cause ~= "manual"
end

-- Flows of which a run is running, out of those with a limited candidate; their mutexes are
-- taken, in order of name so that no two claims wait for each other.
local function busy_flows(self, list)
  local flows, names, busy = {}, {}, {}
  for _, r in ipairs(list) do
    if is_limited(r) and not flows[r.flow] then
      flows[r.flow], names[#names + 1] = true, r.flow
    end
  end
  table.sort(names)
  for _, flow in ipairs(names) do
    self.db:mutex("tidemill flow " .. flow)
    busy[flow] = self.db:row("SELECT id FROM runs" .. self.db:by "runs_of_flow_started" .. [[ WHERE flow = ?
      AND state IN ('running', 'paused') AND cause <> 'manual' LIMIT 1]], flow) ~= nil
  end
  return busy
end

-- The ids that are taken, in order.
local function choose(self, options)
  local list = candidates(self, options)
  local busy, ids = busy_flows(self, list), {}
  for _, r in ipairs(list) do
    if #ids < options.limit and not (is_limited(r) and busy[r.flow]) then
      ids[#ids + 1] = r.id
      if r.cause ~= "manual" then busy[r.flow] = true end
    end
  end
  return ids
end

local function nothing_to_claim(self, options)
  if options.root then
    return not self.db:row([[SELECT id FROM runs WHERE id = ? AND state IN ('queued', 'running')
      AND (runner IS NULL OR state = 'queued')]], options.root)
      and not self.db:row([[SELECT id FROM runs WHERE root_run = ? AND root_run <> id
      AND state IN ('queued', 'running', 'paused') AND (runner IS NULL OR state = 'queued') LIMIT 1]], options.root)
  end
  return #free(self, 1, "") == 0
    and not self.db:row("SELECT id FROM runs WHERE runner = ? AND state = 'queued' LIMIT 1", options.runner)
    and not self.db:row "SELECT id FROM backfills WHERE open = 1 LIMIT 1"
end

local RUN = [[SELECT id, flow, file, version, version_no, cause, schedule, slot_at, state, concurrency, priority,
  scheduled_at, business_at, timezone, settings, parent_run, parent_node, root_run, of_run, backfill, epoch, request,
  created_at, claimed_at, started_at, deadline_at, late_at FROM runs WHERE id IN (]]

-- What a runner must know of the runs.
local function load(self, ids)
  local by_id, list = {}, {}
  common.in_lists(ids, function(marks, ...)
    for _, run in ipairs(self.db:query(RUN .. marks .. ")", ...)) do
      run.settings, run.nodes = decode(run.settings) or {}, {}
      run.document = self:document(run.version)
      by_id[run.id] = run
    end
    local nodes = {}
    for _, node in ipairs(self.db:query([[SELECT run_id, node, position, kind, upstream, state, attempts, before,
      lost, lost_row, next_at, waiting, started_at, ended_at, row_count, bytes, message, tolerated, late_at FROM nodes
      WHERE run_id IN (]] .. marks .. ") ORDER BY run_id, position", ...)) do
      local run = by_id[node.run_id]
      node.upstream, node.waiting, node.outputs = json.decode(node.upstream), decode(node.waiting), {}
      table.insert(run.nodes, node)
      nodes[node.run_id .. "\0" .. node.node] = node
    end
    for _, row in ipairs(self.db:query("SELECT run_id, node, name, value FROM outputs WHERE run_id IN ("
      .. marks .. ")", ...)) do
      local outputs = nodes[row.run_id .. "\0" .. row.node].outputs
      outputs[row.name] = json.decode(row.value)
    end
  end)
  for i, id in ipairs(ids) do list[i] = by_id[id] end
  return list
end

--- Takes runs that wait for a runner: the highest priority first, then the oldest scheduled
--- time. What the caller writes for them from here on is fenced.
---
--- Each has the fields of its row (settings decoded), `document`, and `nodes` in order of
--- position: node, kind, upstream (list), state, attempts (made so far), before (attempts
--- that do not count for `retries`, as lost ones do not), lost_row (lost ones in a row),
--- next_at, waiting (decoded), outputs, started_at, ended_at, message, tolerated.
---@param options {runner: string, limit: integer, root: string?}  root: this run and its subflows only
---@return table[]
function claims:claim_runs(options)
  if options.limit < 1 or nothing_to_claim(self, options) then return {} end
  crash.point "runner.claim.before"
  local list = self.db:transaction(function()
    -- Its row is held: who declares it gone waits, and then gives back these runs as well.
    local alive = self.db:row("SELECT 1 AS one FROM runners WHERE id = ? AND state = 'alive'" .. self.db:lock "share",
      options.runner)
    if not alive then return {} end
    local ids = choose(self, options)
    local at = self:now()
    common.in_lists(ids, function(marks, ...)
      self.db:exec([[UPDATE runs SET state = 'running', runner = ?, claimed_at = ?,
        started_at = coalesce(started_at, ?) WHERE id IN (]] .. marks .. ")", options.runner, at, at, ...)
    end)
    return load(self, ids)
  end)
  crash.point "runner.claim.after"
  for _, run in ipairs(list) do self.claims[run.id] = { runner = options.runner, epoch = run.epoch } end
  return list
end

return claims
