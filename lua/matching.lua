--- Which events start a flow that runs after others: pure matching of successes.
---
--- An event is the success of a flow, or of a node of it. A subscriber awaits one or more; it
--- fires when each of them has an event of the same business date, that is of scheduled times on
--- one local date in the subscriber's zone. An event is used once by a subscriber, the earliest
--- first, so two runs of each on one date make two firings. A rerun is a success again: it counts.
---
--- The first event of a set begins its timeout. A set that is not complete by then is given up
--- for good: its events are used, its slot is missed. Only the events' own times count, so a
--- scheduler that was down decides as one that was there; events are never late.
---
--- The slot is the latest scheduled time of the set.

local time = require "time"

local matching = {}

local function same(awaited, event)
  return awaited.flow == event.flow and (awaited.node or "") == (event.node or "")
end

--- "'a', 'b/n'": what a set awaits, for people.
---@param list {flow: string, node: string?}[]
---@return string
function matching.names(list)
  local names = {}
  for i, one in ipairs(list) do
    names[i] = ("'%s%s'"):format(one.flow, (one.node or "") ~= "" and "/" .. one.node or "")
  end
  return table.concat(names, ", ")
end

-- The first event of each queue: which, since when, the latest scheduled time, who is absent.
local function heads(awaited, queues)
  local set = { events = {}, absent = {} }
  for i, one in ipairs(awaited) do
    local event = queues[i][1]
    if event then
      set.events[#set.events + 1] = event
      set.since = math.min(set.since or event.at, event.at)
      set.slot = math.max(set.slot or event.scheduled_at, event.scheduled_at)
    else
      set.absent[#set.absent + 1] = one
    end
  end
  return set
end

local function drop_heads(queues)
  for _, queue in ipairs(queues) do table.remove(queue, 1) end
end

-- Gives up the sets of a date whose time is over at `now`.
local function expire(schedule, queues, now, sets)
  while true do
    local set = heads(schedule.after, queues)
    local ends = set.since and schedule.timeout_s and set.since + math.floor(schedule.timeout_s * 1000)
    if not ends or ends > now then return ends end
    set.complete = false
    sets[#sets + 1] = set
    drop_heads(queues)
  end
end

local function wanted(schedule, event)
  return schedule.trial ~= false or event.cause ~= "manual"
end

---@class tidemill.EventSet
---@field complete boolean   false: its time is over
---@field events table[]
---@field absent table[]     of the awaited, those without an event
---@field since integer      ms, when its first event came
---@field slot integer       ms

--- Matches the events that a subscriber has not used yet.
---@param schedule table   {kind = "event", after = {{flow, node}...}, timeout_s, trial}
---@param timezone string  of the subscriber
---@param events {seq: integer, flow: string, node: string, cause: string, scheduled_at: integer, at: integer}[]
---  in order of `seq`
---@param now integer      ms
---@return tidemill.EventSet[] sets, integer? next_at  the first timeout of what is left
function matching.match(schedule, timezone, events, now)
  local dates, order, sets = {}, {}, {}
  for _, event in ipairs(events) do
    local date = time.format(event.scheduled_at / 1000, "yyyy-MM-dd", timezone)
    local queues = dates[date]
    if not queues then
      queues = {}
      for i = 1, #schedule.after do queues[i] = {} end
      dates[date], order[#order + 1] = queues, date
    end
    expire(schedule, queues, event.at, sets)
    for i, awaited in ipairs(schedule.after) do
      if wanted(schedule, event) and same(awaited, event) then table.insert(queues[i], event) end
    end
    local set = heads(schedule.after, queues)
    if set.since and #set.absent == 0 then
      set.complete = true
      sets[#sets + 1] = set
      drop_heads(queues)
    end
  end
  local next_at
  for _, date in ipairs(order) do
    local ends = expire(schedule, dates[date], now, sets)
    next_at = ends and math.min(next_at or ends, ends) or next_at
  end
  return sets, next_at
end

return matching
