--- backfill: business dates to scheduled times; both ends, clock changes, month ends.

local backfill = require "tidemill.backfill"
local calendar = require "tidemill.calendar"
local lu = require "luaunit"
local time = require "time"

TestBackfill = {}

local function shown(range)
  local out = {}
  for i, t in ipairs(backfill.moments(range)) do out[i] = calendar.show(t, range.timezone):sub(1, 16) end
  return out
end

local function business_dates(range)
  local out, seen = {}, {}
  for _, t in ipairs(backfill.moments(range)) do
    local date = time.format(backfill.business(t, range.timezone) / 1000, "yyyy-MM-dd", range.timezone)
    if not seen[date] then out[#out + 1] = date end
    seen[date] = true
  end
  return out
end

local function cron(expression, zone)
  return { kind = "cron", cron = expression, timezone = zone or "UTC", dst = "once" }
end

function TestBackfill.test_one_a_day_includes_both_ends()
  local range = { from = "2026-03-01", to = "2026-03-03", timezone = "Asia/Shanghai" }
  lu.assertEquals(shown(range), { "2026-03-02 00:00", "2026-03-03 00:00", "2026-03-04 00:00" })
  lu.assertEquals(business_dates(range), { "2026-03-01", "2026-03-02", "2026-03-03" })
  range.order = "desc"
  lu.assertEquals(business_dates(range), { "2026-03-03", "2026-03-02", "2026-03-01" })
end

function TestBackfill.test_one_date_is_one_run()
  lu.assertEquals(shown { from = "2024-02-29", to = "2024-02-29", timezone = "UTC" }, { "2024-03-01 00:00" })
end

function TestBackfill.test_month_ends_and_leap_days_are_there()
  lu.assertEquals(business_dates { from = "2024-02-27", to = "2024-03-02", timezone = "UTC" },
    { "2024-02-27", "2024-02-28", "2024-02-29", "2024-03-01", "2024-03-02" })
  lu.assertEquals(business_dates { from = "2025-02-27", to = "2025-03-01", timezone = "UTC" },
    { "2025-02-27", "2025-02-28", "2025-03-01" })
  lu.assertEquals(business_dates { from = "2026-01-30", to = "2026-02-01", timezone = "UTC", every = "1d" },
    { "2026-01-30", "2026-01-31", "2026-02-01" })
  lu.assertEquals(shown { from = "2026-01-31", to = "2026-02-28", timezone = "UTC",
    schedule = cron "0 0 1 1 * ?" }, { "2026-02-01 01:00", "2026-03-01 01:00" })
end

function TestBackfill.test_a_schedules_own_slots_are_taken()
  local range = { from = "2026-03-01", to = "2026-03-02", timezone = "Asia/Shanghai",
    schedule = cron("0 30 2,14 * * ?", "Asia/Shanghai") }
  lu.assertEquals(shown(range), { "2026-03-02 02:30", "2026-03-02 14:30", "2026-03-03 02:30", "2026-03-03 14:30" })
  lu.assertEquals(business_dates(range), { "2026-03-01", "2026-03-02" })
  range.every = "1d"
  lu.assertEquals(#backfill.moments(range), 2)
end

function TestBackfill.test_the_first_and_the_last_instant_of_the_range_count()
  local zone = "America/New_York"
  local slots = shown { from = "2026-05-01", to = "2026-05-01", timezone = zone,
    schedule = cron("59 59 23 * * ?", zone) }
  lu.assertEquals(slots, { "2026-05-02 23:59" })
  slots = shown { from = "2026-05-01", to = "2026-05-01", timezone = zone, schedule = cron("0 0 0 * * ?", zone) }
  lu.assertEquals(slots, { "2026-05-02 00:00" })
end

function TestBackfill.test_the_effective_period_of_the_schedule_does_not_count()
  local schedule = cron "0 0 2 * * ?"
  schedule.from_ms = math.floor(time.parse "2030-01-01") * 1000
  lu.assertEquals(#shown { from = "2026-05-01", to = "2026-05-03", timezone = "UTC", schedule = schedule }, 3)
  lu.assertEquals(#shown { from = "2026-05-01", to = "2026-05-02", timezone = "UTC",
    schedule = { kind = "every", every_s = 21600, anchor_ms = schedule.from_ms } }, 8)
end

function TestBackfill.test_days_of_23_and_25_hours_have_one_run_a_day_and_as_many_hours()
  local zone = "Europe/Berlin" -- 29 March 2026: 02:00 to 03:00 is skipped; 25 October: it comes twice
  for _, date in ipairs { "2026-03-28", "2026-10-24" } do
    lu.assertEquals(#backfill.moments { from = date, to = date, timezone = zone }, 1)
    lu.assertEquals(#backfill.moments { from = date, to = date, timezone = zone, every = "6h" }, 4)
  end
  lu.assertEquals(#backfill.moments { from = "2026-03-28", to = "2026-03-28", timezone = zone, every = "1h" }, 23)
  lu.assertEquals(#backfill.moments { from = "2026-10-24", to = "2026-10-24", timezone = zone, every = "1h" }, 25)
  lu.assertEquals(business_dates { from = "2026-03-27", to = "2026-03-30", timezone = zone },
    { "2026-03-27", "2026-03-28", "2026-03-29", "2026-03-30" })
  lu.assertEquals(shown { from = "2026-03-28", to = "2026-03-28", timezone = zone,
    schedule = cron("0 30 2 * * ?", zone) }, { "2026-03-29 03:00" })
end

function TestBackfill.test_a_midnight_that_does_not_exist_is_the_next_instant()
  local range = { from = "2018-11-02", to = "2018-11-04", timezone = "America/Sao_Paulo" } -- gap on 4 November
  lu.assertEquals(shown(range), { "2018-11-03 00:00", "2018-11-04 01:00", "2018-11-05 00:00" })
  lu.assertEquals(business_dates(range), { "2018-11-02", "2018-11-03", "2018-11-04" })
  range.from, range.to = "2018-11-04", "2018-11-05"
  lu.assertEquals(shown(range), { "2018-11-05 00:00", "2018-11-06 00:00" })
end

function TestBackfill.test_intervals_of_days_and_odd_ones()
  lu.assertEquals(shown { from = "2026-01-01", to = "2026-01-08", timezone = "UTC", every = "3d" },
    { "2026-01-02 00:00", "2026-01-05 00:00", "2026-01-08 00:00" })
  lu.assertEquals(shown { from = "2026-01-01", to = "2026-01-01", timezone = "UTC", every = "7h" },
    { "2026-01-02 00:00", "2026-01-02 07:00", "2026-01-02 14:00", "2026-01-02 21:00" })
  lu.assertEquals(#backfill.moments { from = "2026-01-01", to = "2026-01-01", timezone = "UTC", every = "15m" }, 96)
end

function TestBackfill.test_once_and_event_schedules_have_one_a_day()
  for _, schedule in ipairs { { kind = "once", at_ms = 5 }, { kind = "event", after = { { flow = "a" } } } } do
    lu.assertEquals(#backfill.moments { from = "2026-01-01", to = "2026-01-31", timezone = "UTC",
      schedule = schedule }, 31)
  end
end

function TestBackfill.test_what_it_does_not_understand_is_a_usage_error()
  for text, range in pairs {
    ["--from does not understand 'yesterday'"] = { from = "yesterday", to = "2026-01-01" },
    ["--to does not understand '2026-02-30'"] = { from = "2026-01-01", to = "2026-02-30" },
    ["--from does not understand '2026-01-01 03:00'"] = { from = "2026-01-01 03:00", to = "2026-02-30" },
    ["--from 2026-01-02 is after --to 2026-01-01"] = { from = "2026-01-02", to = "2026-01-01" },
    ["--every does not understand 'weekly'"] = { from = "2026-01-01", to = "2026-01-01", every = "weekly" },
    ["--every does not understand '1s'"] = { from = "2026-01-01", to = "2026-01-01", every = "1s" },
    ["more than 10000 runs"] = { from = "1990-01-01", to = "2026-01-01" },
    ["more than 10000 runs from 2026"] = { from = "2026-01-01", to = "2026-01-31", every = "1m" },
  } do
    range.timezone = "UTC"
    local ok, err = pcall(backfill.moments, range)
    lu.assertFalse(ok, text)
    lu.assertEquals(err.kind, "usage")
    lu.assertStrContains(err.message, text)
  end
end

os.exit(lu.LuaUnit.run())
