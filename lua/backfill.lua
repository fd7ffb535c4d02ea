--- Which runs a backfill of business dates asks for.
---
--- A range of dates includes both of its ends, in the flow's zone. A run belongs to a business
--- date D when its scheduled time lies on the day after D, as everywhere (business time is
--- the scheduled time minus one day). So the moments of a range are, by local dates, those from
--- FROM + 1 to TO + 1:
---
---   - of a cron or `every` schedule: its own slots there (`--every` overrides that). The
---     schedule's effective period does not count: a backfill is for what lies before it.
---   - without one, and for once and event schedules: one a day, at 00:00.
---   - `every` N days: at 00:00 of every Nth day. Hours that divide a day and minutes that divide
---     an hour keep to the clock as cron does, also on days of 23 and 25 hours. Any other
---     interval is elapsed time from the start of the range.

local calendar = require "tidemill.calendar"
local errors = require "tidemill.errors"
local time = require "time"
local units = require "tidemill.units"

local backfill = {}

--- Most runs of one backfill.
backfill.LIMIT = 10000

local DAY_S = 86400

-- Midnight that opens the date so many days after `date`, or the first instant of that day
-- where a clock change skips midnight; seconds since 1970.
local function midnight(date, days, timezone)
  return time.parse(time.format(time.parse(date) + days * DAY_S, "yyyy-MM-dd"), timezone)
end

local function read_date(text, option, timezone)
  local ok, instant = false, nil
  if text:match "^%d%d%d%d%-%d%d%-%d%d$" then ok, instant = pcall(time.parse, text, timezone) end
  if not ok then
    errors.usage(("backfill: --%s does not understand '%s'"):format(option, text),
      "a business date is written like 2026-01-31")
  end
  return instant
end

local function every_days(from, to, days, timezone)
  local found, stop = {}, midnight(to, 1, timezone)
  for i = 0, backfill.LIMIT do
    local t = midnight(from, 1 + i * days, timezone)
    if t > stop then break end
    found[#found + 1] = math.floor(t * 1000)
  end
  return found
end

-- The schedule that walks through a day in steps of `seconds`.
local function stepping(seconds, timezone, first)
  local hours, minutes = seconds // 3600, seconds // 60
  if seconds % 3600 == 0 and 24 % hours == 0 then
    return { kind = "cron", cron = ("0 0 0/%d * * ?"):format(hours), timezone = timezone, dst = "once" }
  elseif seconds % 60 == 0 and 60 % minutes == 0 then
    return { kind = "cron", cron = ("0 0/%d * * * ?"):format(minutes), timezone = timezone, dst = "once" }
  end
  return { kind = "every", every_s = seconds, anchor_ms = first }
end

local function check_every(text)
  local seconds = units.duration(text)
  if not seconds or seconds < 60 or seconds % 1 ~= 0 then
    errors.usage(("backfill: --every does not understand '%s'"):format(text),
      "an interval of at least a minute: 1d, 6h, 30m")
  end
  return math.tointeger(seconds)
end

local function reversed(list)
  local out = {}
  for i = #list, 1, -1 do out[#out + 1] = list[i] end
  return out
end

---@class tidemill.BackfillRange
---@field from string      first business date, "2026-01-31"
---@field to string        last business date
---@field timezone string
---@field schedule? table  of the document
---@field every? string    "1d", "6h"
---@field order? "asc"|"desc"

--- The scheduled times of a backfill in the order they run. Raises usage for dates and
--- intervals that it does not understand, and for more than backfill.LIMIT of them.
---@param range tidemill.BackfillRange
---@return integer[]  ms
function backfill.moments(range)
  local zone = range.timezone
  if read_date(range.from, "from", zone) > read_date(range.to, "to", zone) then
    errors.usage(("backfill: --from %s is after --to %s"):format(range.from, range.to),
      "both are business dates; --order desc runs the latest first")
  end
  local first = math.floor(midnight(range.from, 1, zone) * 1000)
  local last = math.floor(midnight(range.to, 2, zone) * 1000) - 1
  local schedule, every, more = range.schedule, range.every and check_every(range.every), false
  local found
  if not every and not (schedule and (schedule.kind == "cron" or schedule.kind == "every")) then every = DAY_S end
  if every and every % DAY_S == 0 then
    found = every_days(range.from, range.to, every // DAY_S, zone)
  else
    if every then schedule = stepping(every, zone, first) end
    found, more = calendar.between(schedule, first, last, backfill.LIMIT, true)
  end
  if more or #found > backfill.LIMIT then
    errors.usage(("backfill: more than %d runs from %s to %s"):format(backfill.LIMIT, range.from, range.to),
      "split the range")
  end
  return range.order == "desc" and reversed(found) or found
end

--- The business time of a scheduled time.
---@param scheduled integer  ms
---@param timezone string
---@return integer           ms
function backfill.business(scheduled, timezone)
  return math.floor(time.business(scheduled / 1000, timezone) * 1000 + 0.5)
end

return backfill
