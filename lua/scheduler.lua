--- The scheduler: published flows become slots in the ledger, slots become queued runs.
---
--- It is a step function over a clock and the state store, so that a test runs a year of cron
--- in seconds. Any number of schedulers work on one store: each due flow is locked, decided and moved on
--- in one transaction (lua/state/slots.lua), by whoever comes first, and nothing but what it
--- has already seen is in a scheduler's memory. It never loads a flow file.
---
--- What is decided, and where:
---
--- - Slots in time, late, missed, caught up, paused: lua/firing.lua. Concurrency: lua/state/slots.lua.
---   Flows that run after others: lua/matching.lua.
--- - The clock is the store's (PostgreSQL: the server's), so hosts need not agree. When it goes
---   back nothing fires until it has passed the cursor again; when it jumps forward the slots between
---   are late. Firing times on days of clock changes: the schedule's `dst` rule, in `cron`.
--- - Publishing sets the cursor to now: the past of a schedule, whatever its start date, never
---   fires. Unpublishing takes the schedule away: no slots. The effective period includes both its ends.
--- - A new version counts from the first slot that is decided after it was published.
---
--- The flows due are found by one query on an index, which also tells when to wake up: a
--- thousand idle flows cost no more than one. What others change (a publish, an event) is seen
--- within POLL_MS, or at once after `poke`.

local scheduler = {}
local Scheduler = { __name = "tidemill.scheduler" }
Scheduler.__index = Scheduler

local POLL_MS = 1000
local CONTENDED_MS = 50  -- due flows that another scheduler holds: look again so soon
local STEP_BATCHES = 10  -- transactions in one step, so that runs are started between

---@class tidemill.SchedulerOptions
---@field store table        lua/state.lua
---@field emit? fun(event: table)  sees what was decided: {event = "slot", flow, slot_at, state, count, run, reason},
---                          {event = "set aside", flow, error}, {event = "clock", behind_ms}
---@field grace_ms? integer  how late a slot may be and still be in time (lua/firing.lua)

--- Makes a scheduler.
---@param options tidemill.SchedulerOptions
function scheduler.new(options)
  return setmetatable({ store = options.store, emit = options.emit or function() end, grace = options.grace_ms,
    wake_at = nil, looked_at = nil, changes = nil, event = nil, subscribers = {}, pending = {} }, Scheduler)
end

local function tell(self, result)
  for _, slot in ipairs(result.slots) do
    slot.event = "slot"
    self.emit(slot)
  end
  for _, one in ipairs(result.failed) do
    self.emit { event = "set aside", flow = one.flow, error = one.error }
  end
  return #result.slots
end

-- Fires what its time has made due. Returns slots decided, and when to look again.
local function fire_by_time(self, now)
  local count = 0
  for _ = 1, STEP_BATCHES do
    local at = self.store:next_due()
    if not at or at > now then return count, at end
    local result = self.store:fire_due(now, self.grace)
    count = count + tell(self, result)
    if result.flows == 0 then return count, now + CONTENDED_MS end
  end
  return count, now
end

-- The subscribers that an event concerns become pending.
local function add_subscribers(self, event)
  for flow, schedule in pairs(self.subscribers) do
    for _, awaited in ipairs(schedule.after) do
      if awaited.flow == event.flow and (awaited.node or "") == event.node then self.pending[flow] = true end
    end
  end
end

local function load_subscribers(self, changes)
  local known = self.subscribers
  self.subscribers, self.changes = {}, changes
  for _, one in ipairs(self.store:event_flows()) do
    self.subscribers[one.flow] = one.schedule
    if not known[one.flow] then self.pending[one.flow] = true end
  end
end

-- Fires what events have made due: subscribers that are new here are looked at whatever came,
-- the others when an event concerns them. One stays pending until its transaction is through.
local function fire_by_events(self, now)
  local changes = self.store:changes()
  if changes ~= self.changes then load_subscribers(self, changes) end
  local last = self.store:last_event() or 0
  if self.event and last > self.event then
    for _, event in ipairs(self.store:events_after(self.event)) do
      add_subscribers(self, event)
      last = event.seq
    end
  end
  self.event = last
  local names, count = {}, 0
  for flow in pairs(self.pending) do names[#names + 1] = flow end
  table.sort(names)
  for _, flow in ipairs(names) do
    count = count + tell(self, self.store:fire_flow(flow, now, self.grace))
    self.pending[flow] = nil
  end
  return count
end

--- One step: decides what is due.
---@param now integer    ms since 1970, on the store's clock
---@return integer at    when to call again at the latest, on that clock
---@return integer count slots decided; when there are some, runs may be waiting for a runner
function Scheduler:step(now)
  if self.wake_at and now < self.wake_at and now >= self.looked_at then return self.wake_at, 0 end
  if self.looked_at and now < self.looked_at - POLL_MS then
    self.emit { event = "clock", behind_ms = self.looked_at - now }
  end
  self.looked_at = now
  local by_events = fire_by_events(self, now)
  local by_time, at = fire_by_time(self, now)
  self.wake_at = math.min(at or math.huge, now + POLL_MS)
  return self.wake_at, by_events + by_time
end

--- Makes the next step look at the store whatever the time.
function Scheduler:poke() self.wake_at = nil end

return scheduler
