--- calendar: firing times of each kind of schedule.

local calendar = require "tidemill.calendar"
local lu = require "luaunit"
local time = require "time"

local function ms(text, zone) return math.floor(time.parse(text, zone) * 1000) end

local function shown(times, zone)
  local out = {}
  for i, t in ipairs(times) do out[i] = calendar.show(t, zone) end
  return out
end

TestCalendar = {}

function TestCalendar.test_a_cron_schedule_fires_after_the_gap_of_a_clock_change()
  local schedule = { kind = "cron", cron = "0 30 2 * * ?", timezone = "Europe/Berlin", dst = "once" }
  lu.assertEquals(shown(calendar.next(schedule, ms("2026-03-28 02:30", "Europe/Berlin"), 2), "Europe/Berlin"),
    { "2026-03-29 03:00:00 +02:00", "2026-03-30 02:30:00 +02:00" })
end

function TestCalendar.test_next_is_strictly_after_and_the_period_includes_its_ends()
  local schedule = { kind = "cron", cron = "0 0 0 * * ?", timezone = "UTC", dst = "once", from_ms = ms "2026-01-02",
    to_ms = ms "2026-01-04" }
  lu.assertEquals(shown(calendar.next(schedule, ms "2025-01-01", 9)),
    { "2026-01-02 00:00:00 +00:00", "2026-01-03 00:00:00 +00:00", "2026-01-04 00:00:00 +00:00" })
  lu.assertEquals(calendar.next(schedule, ms "2026-01-04"), {})
  lu.assertEquals(#calendar.next(schedule, ms "2026-01-04", 3, true), 3)
end

function TestCalendar.test_every_keeps_to_its_anchor_before_and_after_it()
  local schedule = { kind = "every", every_s = 900, anchor_ms = ms "2026-01-01 00:10" }
  lu.assertEquals(shown(calendar.next(schedule, ms "2026-01-01 00:10", 2), "+05:30"),
    { "2026-01-01 05:55:00 +05:30", "2026-01-01 06:10:00 +05:30" })
  lu.assertEquals(shown(calendar.next(schedule, ms "2025-12-31 23:00")), { "2025-12-31 23:10:00 +00:00" })
  lu.assertEquals(shown(calendar.next(schedule, ms "2025-12-31 23:10" - 1)), { "2025-12-31 23:10:00 +00:00" })
end

function TestCalendar.test_once_fires_once_and_events_have_no_times()
  local once = { kind = "once", at_ms = 5000 }
  lu.assertEquals(calendar.next(once, 4999, 3), { 5000 })
  lu.assertEquals(calendar.next(once, 5000, 3), {})
  lu.assertEquals(calendar.next({ kind = "event", after = { { flow = "a" } } }, 0, 3), {})
  lu.assertEquals(calendar.next(nil, 0), {})
end

function TestCalendar.test_between_includes_both_ends_and_says_when_there_are_more()
  local schedule = { kind = "every", every_s = 1, anchor_ms = 0 }
  local times, more = calendar.between(schedule, 5000, 1505000, 10000)
  lu.assertEquals({ #times, times[1], times[#times], more }, { 1501, 5000, 1505000, false })
  times, more = calendar.between(schedule, 5000, 1505000, 700)
  lu.assertEquals({ #times, more }, { 700, true })
end

function TestCalendar.test_schedules_are_described()
  for text, schedule in pairs {
    ["cron '0 0 2 * * ?' in Asia/Shanghai"] = { kind = "cron", cron = "0 0 2 * * ?", timezone = "Asia/Shanghai" },
    ["cron '0 0 2 * * ?' in UTC, dst each"] = { kind = "cron", cron = "0 0 2 * * ?", dst = "each" },
    ["every 15m 00s"] = { kind = "every", every_s = 900 },
    ["every 15m 00s, from 1970-01-01 00:00:05 +00:00 to 1970-01-02 00:00:00 +00:00"] =
      { kind = "every", every_s = 900, from_ms = 5000, to_ms = 86400000 },
    ["cron '0 0 2 * * ?' in Asia/Shanghai, to 1970-01-01 08:00:05 +08:00"] =
      { kind = "cron", cron = "0 0 2 * * ?", timezone = "Asia/Shanghai", to_ms = 5000 },
    ["after 'a', within 2h 00m, runs by hand left out"] =
      { kind = "event", after = { { flow = "a" } }, timeout_s = 7200, trial = false },
    ["once, at 1970-01-01 00:00:05 +00:00"] = { kind = "once", at_ms = 5000 },
    ["after 'a' and 'b/n'"] = { kind = "event", after = { { flow = "a" }, { flow = "b", node = "n" } } },
  } do
    lu.assertEquals(calendar.describe(schedule, "UTC"), text)
  end
  lu.assertEquals(calendar.describe(nil, "UTC"), "none")
end

os.exit(lu.LuaUnit.run())
