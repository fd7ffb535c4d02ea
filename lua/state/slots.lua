--- The slot ledger: due flows, their slots and the runs these make, in one transaction.
---
--- A flow's row is its lock and its cursor. Who holds it re-reads cursor and version, so that of many
--- schedulers one decides a slot, and the ledger's key refuses a slot decided before (a clock or a
--- publish that set the cursor back). Slots, runs and cursor are committed together: a scheduler
--- that dies leaves all or nothing. The index on flows.next_at is the timer heap of every
--- scheduler: next_at <= now means no more than "look at this flow".
---
--- Concurrency of a slot that is in time (lua/firing.lua tells which are). `skip`: while a run of the flow
--- with a cause other than manual is queued, running or paused, the slot is `skipped`, with a run
--- in state skipped and a decision that name the run in the way. `queue` and `parallel`: a run is queued;
--- claiming keeps the order. Runs that make up for missed slots are queued under
--- `skip` as well, one behind the other, and so are slots in time that come with them.
---
--- A flow whose row cannot be read is set aside for a minute and told; the others go on.

local common = require "tidemill.state.common"
local errors = require "tidemill.errors"
local firing = require "tidemill.firing"
local json = require "json"
local matching = require "tidemill.matching"
local time = require "time"
local units = require "tidemill.units"

local FLOWS = [[SELECT flow, file, version_no, hash, schedule, policy, cursor_at, next_at, events_seen, paused_at,
  paused_by, pause_reason FROM flows ]]
local BATCH = 50 -- flows in one transaction
local ASIDE_MS = 60000

---@class tidemill.Fired  a slot decided
---@field flow string
---@field slot_at integer  ms
---@field state "run"|"skipped"|"missed"|"superseded"
---@field count integer    slots the row stands for
---@field run? string
---@field reason? string

-- ---- rows ----

local function read_flow(row)
  row.schedule = json.decode(row.schedule)
  row.policy = row.policy and json.decode(row.policy) or {}
  row.policy.timezone = row.policy.timezone or "UTC"
  return row
end

-- Writes a ledger row; false if the slot has one.
local function insert_slot(self, flow, schedule, entry, state, reason)
  return self.db:exec([[INSERT INTO slots (flow, schedule, slot_at, first_at, slot_count, state, reason,
    version_no, created_at) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?) ON CONFLICT DO NOTHING]], flow.flow, schedule,
    entry.at, entry.count > 1 and entry.first or nil, entry.count, state, reason, flow.version_no, self:now()) == 1
end

-- Writes rows that run nothing.
local function insert_slots(self, flow, entries, fired)
  local now, rows = self:now(), {}
  for i, e in ipairs(entries) do
    rows[i] = { flow.flow, "main", e.at, e.count > 1 and e.first or nil, e.count, e.state, e.reason,
      flow.version_no, now }
    fired[#fired + 1] = { flow = flow.flow, slot_at = e.at, state = e.state, count = e.count, reason = e.reason }
  end
  common.insert(self.db, [[INSERT INTO slots (flow, schedule, slot_at, first_at, slot_count, state, reason,
    version_no, created_at) VALUES]], 9, rows, "ON CONFLICT DO NOTHING")
end

-- ---- runs ----

-- The run in the way of another, by flow. A backfill is not: of its many runs one is always queued, and
-- claiming keeps it and what is scheduled apart.
local function busy_flows(self, flows)
  local names, marks, busy = {}, {}, {}
  for _, flow in ipairs(flows) do
    if (flow.policy.concurrency or "skip") == "skip" then
      names[#names + 1], marks[#marks + 1] = flow.flow, "?"
    end
  end
  if #names == 0 then return busy end
  for _, row in ipairs(self.db:query(([[SELECT flow, min(id) AS id FROM runs%s WHERE flow IN (%s)
    AND state IN ('queued', 'running', 'paused') AND cause NOT IN ('manual', 'backfill') GROUP BY flow]])
    :format(self.db:by "runs_of_flow_active", table.concat(marks, ", ")), table.unpack(names))) do
    busy[row.flow] = row.id
  end
  return busy
end

local function create_run(self, flow, cause, entry, state, message)
  local policy = flow.policy
  local scheduled = entry.scheduled or entry.at
  return self:create_run_in { flow = flow.flow, file = flow.file, version = flow.hash, version_no = flow.version_no,
    cause = cause, schedule = cause == "event" and "event" or "main", slot = entry.at, scheduled = scheduled,
    business = entry.business, timezone = policy.timezone, settings = {},
    priority = policy.priority, concurrency = policy.concurrency or "skip",
    deadline = policy.deadline_s and scheduled + math.floor(policy.deadline_s * 1000) or nil,
    nodes = state == "queued" and flow.document.nodes or {}, state = state, message = message }
end

-- A slot that may run: does, or is skipped because a run is in the way.
local function run_slot(self, flow, cause, entry, busy, fired)
  local in_way = entry.state == "due" and busy[flow.flow]
  local state = in_way and "skipped" or "run"
  local reason = in_way and ("run %s had not ended; concurrency is \"skip\""):format(in_way) or entry.reason
  if not insert_slot(self, flow, cause == "event" and "event" or "main", entry, state, reason) then return false end
  local run = create_run(self, flow, cause, entry, in_way and "skipped" or "queued", in_way and reason or nil)
  self.db:exec("UPDATE slots SET run_id = ? WHERE flow = ? AND schedule = ? AND slot_at = ?", run, flow.flow,
    cause == "event" and "event" or "main", entry.at)
  if in_way then
    self:decide_in(run, nil, "skip", reason)
  else
    if entry.reason then self:decide_in(run, nil, cause == "event" and "event" or "catch up", entry.reason) end
    if (flow.policy.concurrency or "skip") == "skip" then busy[flow.flow] = run end
  end
  fired[#fired + 1] = { flow = flow.flow, slot_at = entry.at, state = state, count = 1, run = run, reason = reason,
    scheduled_at = entry.scheduled or entry.at }
  return true
end

-- Records what was decided for the slots of a flow, and moves its cursor.
local function record(self, flow, plan, busy, fired)
  local quiet, catching = {}, false
  for _, entry in ipairs(plan.entries) do
    if entry.state == "catch_up" or entry.state == "due" then
      catching = catching or entry.state == "catch_up"
      if catching then entry.state = "catch_up" end
      run_slot(self, flow, "schedule", entry, busy, fired)
    else
      quiet[#quiet + 1] = entry
    end
  end
  insert_slots(self, flow, quiet, fired)
  self.db:exec("UPDATE flows SET cursor_at = ?, next_at = ? WHERE flow = ?", plan.cursor, plan.next_at, flow.flow)
end

-- ---- events ----

-- Events that a subscriber awaits, has not used, and that came after it was published.
local function unused_events(self, flow)
  local found = {}
  local sql = ([[SELECT seq, flow, node, cause, run_id, scheduled_at, at FROM events e
    WHERE flow = ? AND node = ? AND seq > ? AND at > ? %s AND NOT EXISTS (SELECT 1 FROM event_uses u
    WHERE u.flow = ? AND u.event_seq = e.seq) ORDER BY seq]])
    :format(flow.schedule.trial == false and "AND cause <> 'manual'" or "")
  for _, one in ipairs(flow.schedule.after) do
    for _, row in ipairs(self.db:query(sql, one.flow, one.node or "", flow.events_seen, flow.cursor_at,
      flow.flow)) do
      found[row.seq] = row
    end
  end
  local events = {}
  for _, row in pairs(found) do events[#events + 1] = row end
  table.sort(events, function(a, b) return a.seq < b.seq end)
  return events
end

-- Up to which event there is none left for a flow, once these sets of `events` are used. Later
-- events have a higher seq, so those before need not be looked at again.
local function seen_by(flow, events, sets)
  local used = {}
  for _, set in ipairs(sets) do
    for _, event in ipairs(set.events) do used[event.seq] = true end
  end
  for _, event in ipairs(events) do
    if not used[event.seq] then return event.seq - 1 end
  end
  return #events > 0 and events[#events].seq or flow.events_seen
end

-- The ledger's key for a set of events: its scheduled time, or the first free millisecond behind.
local function free_slot(self, flow, at)
  while self.db:row("SELECT 1 AS one FROM slots WHERE flow = ? AND schedule = 'event' AND slot_at = ?", flow, at) do
    at = at + 1
  end
  return at
end

local function absent_reason(flow, set)
  return ("no success of %s within %s of the first event (%s)"):format(matching.names(set.absent),
    units.show_duration(flow.schedule.timeout_s), matching.names(set.events))
end

local function record_set(self, flow, set, busy, fired)
  local entry = { at = free_slot(self, flow.flow, set.slot), scheduled = set.slot, business = set.business, count = 1,
    state = "due" }
  for _, event in ipairs(set.events) do
    self.db:exec("INSERT INTO event_uses (flow, event_seq, slot_at) VALUES (?, ?, ?)", flow.flow, event.seq, entry.at)
  end
  if set.complete and not flow.paused_at then
    run_slot(self, flow, "event", entry, busy, fired)
    return
  end
  local state = set.complete and "skipped" or "missed"
  local reason = set.complete and firing.paused_reason(flow) or absent_reason(flow, set)
  insert_slot(self, flow, "event", entry, state, reason)
  fired[#fired + 1] = { flow = flow.flow, slot_at = entry.at, state = state, count = 1, reason = reason }
end

-- Records what was decided for sets of events.
local function record_sets(self, flow, plan, busy, fired)
  for _, set in ipairs(plan.sets) do record_set(self, flow, set, busy, fired) end
  self.db:exec("UPDATE flows SET next_at = ?, events_seen = ? WHERE flow = ?", plan.next_at, plan.seen, flow.flow)
end

-- ---- methods ----

-- The frozen business time of a scheduled one.
local function business(flow, scheduled)
  return math.floor(time.business(scheduled / 1000, flow.policy.timezone) * 1000)
end

-- What follows from a flow's row and, for one that runs after others, its events. Raises when
-- the row makes no sense; the database is not asked here, so that its errors are not taken for that.
local function decide(flow, events, now, grace)
  if events then
    local sets, next_at = matching.match(flow.schedule, flow.policy.timezone, events, now)
    for _, set in ipairs(sets) do set.business = business(flow, set.slot) end
    return { sets = sets, next_at = next_at, seen = seen_by(flow, events, sets), runs = #sets > 0 }
  end
  local plan = firing.decide(flow, now, grace)
  for _, entry in ipairs(plan.entries) do
    if entry.state == "due" or entry.state == "catch_up" then
      entry.business, plan.runs = business(flow, entry.at), true
    end
  end
  return plan
end

-- The plan of a row; nil and why there is none.
local function plan_of(self, row, now, grace)
  local ok, flow = pcall(read_flow, row)
  if not ok then return nil, flow end
  local events = flow.schedule.kind == "event" and unused_events(self, flow) or nil
  local decided, plan = pcall(decide, flow, events, now, grace)
  if not decided then return nil, plan end
  plan.flow = flow
  if plan.runs then flow.document = self:document(flow.hash) end
  if plan.runs and not flow.document then
    return nil, errors.new("not_found", ("the store has no sources '%s'"):format(flow.hash))
  end
  return plan
end

local function fire_rows(self, rows, now, grace)
  local result, plans, flows = { slots = {}, failed = {}, flows = #rows }, {}, {}
  for _, row in ipairs(rows) do
    local plan, raised = plan_of(self, row, now, grace)
    if plan then
      plans[#plans + 1], flows[#flows + 1] = plan, plan.flow
    else
      self.db:exec("UPDATE flows SET next_at = ? WHERE flow = ?", now + ASIDE_MS, row.flow)
      table.insert(result.failed, { flow = row.flow, error = errors.from(raised) })
    end
  end
  local busy = busy_flows(self, flows)
  for _, plan in ipairs(plans) do
    (plan.sets and record_sets or record)(self, plan.flow, plan, busy, result.slots)
  end
  return result
end

local slots = {}

--- Decides what is due of flows that no other scheduler holds, the longest due first, and moves
--- their cursors: one transaction.
---@param now integer     ms
---@param grace? integer  ms, see lua/firing.lua
---@param limit? integer  most flows (default 50)
---@return {flows: integer, slots: tidemill.Fired[], failed: {flow: string, error: table}[]}
function slots:fire_due(now, grace, limit)
  return self.db:transaction(function()
    return fire_rows(self, self.db:query(FLOWS .. [[WHERE next_at <= ? AND schedule IS NOT NULL
      ORDER BY next_at, flow LIMIT ?]] .. self.db:lock "skip", now, limit or BATCH), now, grace)
  end)
end

--- Decides what events have made due of one flow that runs after others.
---@return {flows: integer, slots: tidemill.Fired[], failed: {flow: string, error: table}[]}
function slots:fire_flow(flow, now, grace)
  return self.db:transaction(function()
    return fire_rows(self, self.db:query(FLOWS .. "WHERE flow = ? AND schedule IS NOT NULL" .. self.db:lock "wait",
      flow), now, grace)
  end)
end

--- When the first flow wants to be looked at; nil when none does.
---@return integer?
function slots:next_due()
  return self.db:row("SELECT min(next_at) AS at FROM flows WHERE next_at IS NOT NULL").at -- as the index has it
end

--- The newest event, for who has seen them up to another one; nil when there is none.
---@return integer?
function slots:last_event()
  return self.db:row("SELECT max(seq) AS seq FROM events").seq
end

--- Flow and node of the events after one.
---@param seq integer
---@return {seq: integer, flow: string, node: string}[]
function slots:events_after(seq)
  return self.db:query("SELECT seq, flow, node FROM events WHERE seq > ? ORDER BY seq", seq)
end

--- The live flows that run after others: {flow, schedule}. Those that cannot be read are left out.
---@return {flow: string, schedule: table}[]
function slots:event_flows()
  local found = {}
  for _, row in ipairs(self.db:query [[SELECT flow, schedule FROM flows WHERE schedule LIKE '%"event"%']]) do
    local ok, schedule = pcall(json.decode, row.schedule)
    if ok and schedule.kind == "event" then found[#found + 1] = { flow = row.flow, schedule = schedule } end
  end
  return found
end

--- Records that the slots of a flow up to now run nothing, whatever its policy, and moves
--- its cursor behind them; for a schedule that ends, or a pause that does. Many transactions if need be.
---@param state "skipped"|"missed"|"superseded"
---@return integer count  of slots
function slots:settle_slots(flow, state, reason, now)
  local function part()
    local row = self.db:row(FLOWS .. "WHERE flow = ? AND schedule IS NOT NULL" .. self.db:lock "wait", flow)
    local found = row and read_flow(row)
    if not found or found.schedule.kind == "event" then return 0 end
    local plan, fired, count = firing.settle(found, now, state, reason), {}, 0
    insert_slots(self, found, plan.entries, fired)
    self.db:exec("UPDATE flows SET cursor_at = ?, next_at = ? WHERE flow = ?", plan.cursor, plan.next_at, flow)
    for _, slot in ipairs(fired) do count = count + slot.count end
    return count, plan.next_at
  end
  local total = 0
  repeat
    local count, next_at = self.db:transaction(part)
    total = total + count
  until not next_at or next_at > now
  return total
end

--- The flows whose time comes next, soonest first: {flow, version_no, schedule, policy, next_at,
--- paused_at}. Those that cannot be read are left out.
---@param limit integer
---@return table[]
function slots:upcoming(limit)
  local rows = self.db:query("SELECT flow, version_no, schedule, policy, next_at, paused_at FROM flows" ..
    " WHERE next_at IS NOT NULL AND schedule IS NOT NULL ORDER BY next_at, flow LIMIT ?", limit)
  local flows = {}
  for _, row in ipairs(rows) do
    if pcall(read_flow, row) then flows[#flows + 1] = row end
  end
  return flows
end

--- What there is to do, in numbers.
---@return {runs: table<string, integer>, oldest_ms: integer?, flows: integer, paused_flows: integer}
---  runs by state (queued, running, paused), how long the oldest queued one has waited, flows
---  with a schedule
function slots:activity()
  local result, oldest = { runs = {} }, nil
  for _, row in ipairs(self.db:query [[SELECT state, count(*) AS n, min(created_at) AS oldest FROM runs
    WHERE state IN ('queued', 'running', 'paused') GROUP BY state]]) do
    result.runs[row.state] = row.n
    if row.state == "queued" then oldest = row.oldest end
  end
  result.oldest_ms = oldest and self:now() - oldest
  local flows = self.db:row "SELECT count(*) AS n, count(paused_at) AS paused FROM flows WHERE schedule IS NOT NULL"
  result.flows, result.paused_flows = flows.n, flows.paused
  return result
end

--- The ledger of a flow, newest first.
---@param filter? {flow: string?, state: string?, limit: integer?}
---@return table[]
function slots:slots(filter)
  filter = filter or {}
  return self.db:query([[SELECT flow, schedule, slot_at, first_at, slot_count, state, run_id, reason, version_no,
    created_at FROM slots WHERE (? IS NULL OR flow = ?) AND (? IS NULL OR state = ?)
    ORDER BY slot_at DESC, flow LIMIT ?]], filter.flow, filter.flow, filter.state, filter.state, filter.limit or 20)
end

return slots
