--- When a schedule fires: the firing times of a document's `schedule`, forward from an instant.
---
--- A schedule is what lua/document.lua makes of a flow's: kind cron, every, once or event,
--- times in milliseconds since 1970. Its effective period includes both of its ends. An event
--- schedule has no times of its own.

local calendar = {}

local function next_cron(schedule, after, n)
  local cron = require("cron").parse(schedule.cron, { timezone = schedule.timezone, dst = schedule.dst })
  local times = cron:next(after // 1000, n)
  for i, t in ipairs(times) do times[i] = t * 1000 end
  return times
end

local function next_every(schedule, after, n)
  local step = math.floor(schedule.every_s * 1000)
  local first = schedule.anchor_ms + ((after - schedule.anchor_ms) // step + 1) * step
  local times = {}
  for i = 1, n do times[i] = first + (i - 1) * step end
  return times
end

local function next_once(schedule, after)
  return schedule.at_ms > after and { schedule.at_ms } or {}
end

local KINDS = { cron = next_cron, every = next_every, once = next_once }

--- The first `n` firing times after an instant (strictly), fewer when the schedule ends.
---@param schedule? table   of a document; nil never fires
---@param after integer     ms
---@param n? integer        default 1
---@param always? boolean   without regard to the effective period
---@return integer[]        ms
function calendar.next(schedule, after, n, always)
  local body = schedule and KINDS[schedule.kind]
  if not body then return {} end
  if schedule.from_ms and not always then after = math.max(after, schedule.from_ms - 1) end
  local times = body(schedule, after, n or 1)
  while schedule.to_ms and not always and #times > 0 and times[#times] > schedule.to_ms do
    times[#times] = nil
  end
  return times
end

--- The firing times from `first` to `last`, both included. Raises nothing; stops at `limit`.
---@param schedule? table
---@param first integer    ms
---@param last integer     ms
---@param limit integer    most times
---@param always? boolean  without regard to the effective period
---@return integer[] times, boolean more  whether there were more than `limit`
function calendar.between(schedule, first, last, limit, always)
  local times, after = {}, first - 1
  while true do
    local some = calendar.next(schedule, after, 500, always)
    for _, t in ipairs(some) do
      if t > last then return times, false end
      if #times == limit then return times, true end
      times[#times + 1] = t
    end
    if #some < 500 then return times, false end
    after = some[#some]
  end
end

-- The effective period of a schedule: "", ", from 2026-01-01 00:00:00 +08:00 to ...".
local function period(schedule, timezone)
  local zone, words = schedule.timezone or timezone, {}
  if schedule.from_ms then words[1] = "from " .. calendar.show(schedule.from_ms, zone) end
  if schedule.to_ms then words[#words + 1] = "to " .. calendar.show(schedule.to_ms, zone) end
  return #words > 0 and ", " .. table.concat(words, " ") or ""
end

--- What a schedule is, for people: "cron '0 0 2 * * ?' in Asia/Shanghai", "every 15m", "none".
---@param schedule? table
---@param timezone string  of the flow
---@return string
function calendar.describe(schedule, timezone)
  if not schedule then return "none" end
  local show_duration = require("tidemill.units").show_duration
  if schedule.kind == "cron" then
    return ("cron '%s' in %s%s%s"):format(schedule.cron, schedule.timezone or timezone,
      (schedule.dst or "once") ~= "once" and ", dst " .. schedule.dst or "", period(schedule, timezone))
  elseif schedule.kind == "every" then
    return ("every %s%s"):format(show_duration(schedule.every_s), period(schedule, timezone))
  elseif schedule.kind == "once" then
    return "once, at " .. calendar.show(schedule.at_ms, timezone)
  end
  local names = {}
  for i, one in ipairs(schedule.after or {}) do
    names[i] = ("'%s'"):format(one.flow .. (one.node and "/" .. one.node or ""))
  end
  return ("after %s%s%s"):format(table.concat(names, " and "),
    schedule.timeout_s and ", within " .. show_duration(schedule.timeout_s) or "",
    schedule.trial == false and ", runs by hand left out" or "")
end

--- An instant in a zone, for people: "2026-01-02 03:04:05 +08:00".
---@param ms integer
---@param timezone? string  default "UTC"
---@param fraction? boolean  with milliseconds
---@return string
function calendar.show(ms, timezone, fraction)
  local time = require "time"
  local ok, text = pcall(time.format, ms // 1000, "yyyy-MM-dd HH:mm:ss", timezone)
  if not ok then return calendar.show(ms, "UTC", fraction) end
  local offset = time.civil(ms // 1000, timezone).offset
  local sign = offset < 0 and "-" or "+"
  offset = math.abs(offset)
  return ("%s%s %s%02d:%02d"):format(text, fraction and (".%03d"):format(ms % 1000) or "", sign,
    offset // 3600, offset % 3600 // 60)
end

return calendar
