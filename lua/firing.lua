--- What becomes of the slots of one flow: pure decisions over a schedule, a policy and a clock.
---
--- A slot is a firing time. Each slot up to a flow's cursor has its place in the ledger; those in
--- (cursor, now] are due and are decided here, oldest first, each once:
---
--- - The flow is paused: `skipped`, whenever the slot was. A paused flow catches nothing up.
--- - The slot is late, that is older than the grace (60 s: a restart, a busy machine; the
---   scheduler was down, or the clock was set forward): the flow's `missed` policy decides.
---     skip    `missed`
---     latest  the newest slot due runs, the late ones before it are `superseded`. If a slot
---             in time is due as well, that is the newest.
---     all     each runs, oldest first
---   Slots older than the policy's window are `missed` whatever the policy.
--- - Otherwise it is in time: it runs if the flow's `concurrency` lets it (lua/state/slots.lua).
---
--- Slots that do not run are rows of their own while no more than ROWS of them come together;
--- beyond that one row stands for up to WALK of them: its time is the last one's, `first` and `count`
--- tell the others. So a year of an every-second schedule is 316 rows, in as many transactions.
--- Runs are never put together: `all` asks for each of them, within its window.
---
--- The walk always goes on from the last slot, not from the clock: in the hour that comes
--- twice, rule "quartz" gives other times to one who asks in the middle of it.

local calendar = require "tidemill.calendar"
local units = require "tidemill.units"

local firing = {}

firing.GRACE_MS = 60000
local ROWS, WALK = 1000, 100000
local RUNS = 200 -- slots that may run, in one transaction

---@class tidemill.Firing
---@field at integer       ms; the last one when `count` > 1
---@field first integer    ms
---@field count integer
---@field state "due"|"catch_up"|"skipped"|"missed"|"superseded"
---@field reason? string

local function ago(now, at)
  return units.show_duration((now - at) / 1000)
end

--- Why a slot of a paused flow does not run.
function firing.paused_reason(flow)
  return ("the flow is paused%s%s"):format(flow.paused_by and " by " .. flow.paused_by or "",
    flow.pause_reason and ": " .. flow.pause_reason or "")
end

-- Why slots that the scheduler came late to are what they are: a text for each.
local function late_reason(now, tail)
  return function(at) return ("the scheduler came %s late%s"):format(ago(now, at), tail) end
end

-- What a due slot is, until when the slots behind it are the same, and why: of each slot.
local function classify(flow, slot, now, grace)
  if flow.paused_at then
    local reason = firing.paused_reason(flow)
    return "skipped", now, function() return reason end
  end
  local late = now - grace - 1
  if slot > late then return "due", now, function() end end
  local missed = flow.policy.missed or {}
  local policy = missed.policy or "skip"
  if policy == "skip" then return "missed", late, late_reason(now, "; missed is \"skip\"") end
  local outside = missed.window_s and math.min(late, now - math.floor(missed.window_s * 1000) - 1)
  if outside and slot <= outside then
    return "missed", outside, late_reason(now, ", the window of missed is " .. units.show_duration(missed.window_s))
  end
  if policy == "latest" then return "superseded", late, late_reason(now, "; missed is \"latest\"") end
  return "catch_up", late, late_reason(now, "; missed is \"all\"")
end

local function add(entries, state, first, last, count, reason)
  entries[#entries + 1] = { state = state, first = first, at = last, count = count, reason = reason }
end

local function add_all(entries, state, times, from, to, reason_of)
  if to - from + 1 > ROWS then
    add(entries, state, times[from], times[to], to - from + 1, reason_of(times[from]))
  else
    for i = from, to do add(entries, state, times[i], times[i], 1, reason_of(times[i])) end
  end
end

-- The times of one class; the cursor behind them.
local function take(entries, flow, cursor, now, grace, slot)
  local state, bound, reason_of = classify(flow, slot, now, grace)
  local runs = state == "due" or state == "catch_up"
  local times = calendar.between(flow.schedule, cursor + 1, bound, runs and RUNS - #entries or WALK)
  if runs then
    for _, at in ipairs(times) do add(entries, state, at, at, 1, reason_of(at)) end
    return times[#times]
  end
  local last = #times
  if state == "superseded" then
    local newer = calendar.next(flow.schedule, times[last])[1]
    if not newer or newer > now then last = last - 1 end
  end
  add_all(entries, state, times, 1, last, reason_of)
  if last < #times then
    add(entries, "catch_up", times[#times], times[#times], 1,
      "the newest of those missed: " .. reason_of(times[#times]))
  end
  return times[#times]
end

--- Decides the slots of a flow that are due.
---@param flow {schedule: table, policy: table, cursor_at: integer, paused_at: integer?}
---@param now integer  ms
---@param grace? integer  ms (default firing.GRACE_MS)
---@return {entries: tidemill.Firing[], cursor: integer, next_at: integer?}
---  what to record, oldest first; the new cursor; the first slot behind it (which is due as
---  well when one transaction does not hold them all)
function firing.decide(flow, now, grace)
  local entries, cursor = {}, flow.cursor_at
  while true do
    local slot = calendar.next(flow.schedule, cursor)[1]
    if not slot or slot > now or #entries >= RUNS then
      return { entries = entries, cursor = cursor, next_at = slot }
    end
    local before = #entries
    cursor = take(entries, flow, cursor, now, grace or firing.GRACE_MS, slot)
    if #entries > before and entries[#entries].count > 1 then -- a transaction's worth of walking
      return { entries = entries, cursor = cursor, next_at = calendar.next(flow.schedule, cursor)[1] }
    end
  end
end

--- The slots of a flow in (cursor, now] as rows that run nothing, a transaction's worth.
---@param state "skipped"|"missed"|"superseded"
---@return {entries: tidemill.Firing[], cursor: integer, next_at: integer?}
function firing.settle(flow, now, state, reason)
  local entries, cursor = {}, flow.cursor_at
  local times = calendar.between(flow.schedule, cursor + 1, now, WALK)
  add_all(entries, state, times, 1, #times, function() return reason end)
  cursor = times[#times] or cursor
  return { entries = entries, cursor = cursor, next_at = calendar.next(flow.schedule, cursor)[1] }
end

return firing
