--- firing: what becomes of due slots, by policy, lateness and pauses.

local firing = require "tidemill.firing"
local lu = require "luaunit"
local time = require "time"

local function ms(text, zone) return math.floor(time.parse(text, zone) * 1000) end

local NOON = ms "2026-03-10 12:00:00"
local HOUR, MINUTE = 3600000, 60000

--- An hourly flow whose ledger is complete up to `cursor`.
local function hourly(cursor, missed, more)
  local flow = { schedule = { kind = "every", every_s = 3600, anchor_ms = 0 }, policy = { missed = missed },
    cursor_at = cursor }
  for key, value in pairs(more or {}) do flow[key] = value end
  return flow
end

--- "10:00 missed, 11:00 catch_up": entries for people.
local function shown(plan, zone)
  local out = {}
  for i, e in ipairs(plan.entries) do
    out[i] = ("%s %s%s"):format(time.format(e.at / 1000, "HH:mm", zone), e.state,
      e.count > 1 and (" x%d since %s"):format(e.count, time.format(e.first / 1000, "MM-dd HH:mm", zone)) or "")
  end
  return table.concat(out, ", ")
end

TestFiring = {}

function TestFiring.test_a_slot_within_the_grace_is_in_time()
  local plan = firing.decide(hourly(NOON - HOUR), NOON)
  lu.assertEquals(shown(plan), "12:00 due")
  lu.assertEquals({ plan.cursor, plan.next_at, plan.entries[1].reason }, { NOON, NOON + HOUR, nil })
  lu.assertEquals(shown(firing.decide(hourly(NOON - HOUR), NOON + MINUTE)), "12:00 due")
  lu.assertEquals(shown(firing.decide(hourly(NOON - HOUR), NOON + MINUTE + 1)), "12:00 missed")
end

function TestFiring.test_what_is_not_due_stays_and_the_cursor_with_it()
  local plan = firing.decide(hourly(NOON), NOON + HOUR - 1)
  lu.assertEquals({ #plan.entries, plan.cursor, plan.next_at }, { 0, NOON, NOON + HOUR })
end

function TestFiring.test_a_clock_behind_the_cursor_fires_nothing()
  local plan = firing.decide(hourly(NOON), NOON - 5 * HOUR)
  lu.assertEquals({ #plan.entries, plan.cursor, plan.next_at }, { 0, NOON, NOON + HOUR })
end

function TestFiring.test_skip_records_what_was_missed()
  local plan = firing.decide(hourly(NOON - 4 * HOUR, { policy = "skip" }), NOON)
  lu.assertEquals(shown(plan), "09:00 missed, 10:00 missed, 11:00 missed, 12:00 due")
  lu.assertStrContains(plan.entries[1].reason, "came 3h 00m late")
  lu.assertStrContains(plan.entries[3].reason, "came 1h 00m late")
end

function TestFiring.test_latest_runs_the_newest_of_those_missed()
  local plan = firing.decide(hourly(NOON - 4 * HOUR, { policy = "latest" }), NOON - 10 * MINUTE)
  lu.assertEquals(shown(plan), "09:00 superseded, 10:00 superseded, 11:00 catch_up")
  lu.assertStrContains(plan.entries[3].reason, "the newest of those missed")
end

function TestFiring.test_latest_runs_the_slot_in_time_and_no_other()
  local plan = firing.decide(hourly(NOON - 3 * HOUR, { policy = "latest" }), NOON + 1)
  lu.assertEquals(shown(plan), "10:00 superseded, 11:00 superseded, 12:00 due")
end

function TestFiring.test_all_runs_each()
  local plan = firing.decide(hourly(NOON - 3 * HOUR, { policy = "all" }), NOON)
  lu.assertEquals(shown(plan), "10:00 catch_up, 11:00 catch_up, 12:00 due")
end

function TestFiring.test_outside_the_window_all_and_latest_miss_too()
  for policy, last in pairs { all = "10:00 catch_up, 11:00 catch_up", latest = "10:00 superseded, 11:00 catch_up" } do
    local plan = firing.decide(hourly(NOON - 5 * HOUR, { policy = policy, window_s = 2 * 3600 }), NOON - MINUTE - 1)
    lu.assertEquals(shown(plan), "08:00 missed, 09:00 missed, " .. last)
    lu.assertStrContains(plan.entries[1].reason, "the window of missed is 2h")
  end
end

function TestFiring.test_a_window_shorter_than_the_grace_takes_nothing_from_it()
  local plan = firing.decide(hourly(NOON - 2 * HOUR, { policy = "all", window_s = 1 }), NOON + 30000)
  lu.assertEquals(shown(plan), "11:00 missed, 12:00 due")
end

function TestFiring.test_a_paused_flow_skips_all_that_is_due()
  local plan = firing.decide(hourly(NOON - 2 * HOUR, { policy = "all" },
    { paused_at = NOON - MINUTE, paused_by = "ada", pause_reason = "moving house" }), NOON)
  lu.assertEquals(shown(plan), "11:00 skipped, 12:00 skipped")
  lu.assertEquals(plan.entries[2].reason, "the flow is paused by ada: moving house")
end

--- Decides until nothing is due; every slot once, in order.
local function drain(flow, now)
  local entries, rounds = {}, 0
  repeat
    local plan = firing.decide(flow, now)
    for _, e in ipairs(plan.entries) do entries[#entries + 1] = e end
    flow.cursor_at, rounds = plan.cursor, rounds + 1
  until not plan.next_at or plan.next_at > now
  return entries, rounds
end

function TestFiring.test_a_long_outage_becomes_few_rows()
  local flow = { schedule = { kind = "cron", cron = "* * * * * ?", timezone = "UTC" }, policy = {},
    cursor_at = NOON }
  local day = 4 * 86400000
  local entries, rounds = drain(flow, NOON + day)
  local count, after = 0, NOON
  for _, e in ipairs(entries) do
    lu.assertEquals(e.first, after + 1000)
    count, after = count + e.count, e.at
  end
  lu.assertEquals({ count, after }, { day // 1000, NOON + day })
  lu.assertTrue(#entries < 80, #entries) -- four rows, and the slots in time
  lu.assertEquals(rounds, 5)
end

function TestFiring.test_superseded_rows_come_together_and_the_newest_still_runs()
  local flow = { schedule = { kind = "every", every_s = 60, anchor_ms = 0 }, policy = { missed = { policy = "latest" } },
    cursor_at = NOON - 48 * HOUR }
  local entries = drain(flow, NOON)
  lu.assertEquals(shown { entries = entries }, "11:58 superseded x2878 since 03-08 12:01, 11:59 due, 12:00 due")
  flow = { schedule = { kind = "every", every_s = 60, anchor_ms = 30000 }, cursor_at = NOON - 48 * HOUR,
    policy = { missed = { policy = "latest" } } }
  flow.schedule.to_ms = NOON - HOUR
  lu.assertEquals(shown { entries = drain(flow, NOON) }, "10:58 superseded x2819 since 03-08 12:00, 10:59 catch_up")
end

function TestFiring.test_runs_are_never_put_together()
  local flow = { schedule = { kind = "every", every_s = 60, anchor_ms = 0 }, policy = { missed = { policy = "all" } },
    cursor_at = NOON - 48 * HOUR }
  local entries, rounds = drain(flow, NOON)
  lu.assertEquals(#entries, 2880)
  for _, e in ipairs(entries) do lu.assertEquals(e.count, 1) end
  lu.assertEquals(rounds, 15)
end

function TestFiring.test_once_fires_once()
  local flow = { schedule = { kind = "once", at_ms = NOON }, policy = {}, cursor_at = NOON - HOUR }
  local plan = firing.decide(flow, NOON + 5)
  lu.assertEquals({ shown(plan), plan.next_at }, { "12:00 due", nil })
  flow.cursor_at = plan.cursor
  lu.assertEquals(#firing.decide(flow, NOON + HOUR).entries, 0)
end

function TestFiring.test_once_in_the_past_of_a_publish_never_fires()
  local flow = { schedule = { kind = "once", at_ms = NOON }, policy = { missed = { policy = "all" } },
    cursor_at = NOON + 1 }
  lu.assertEquals(#firing.decide(flow, NOON + HOUR).entries, 0)
end

function TestFiring.test_the_effective_period_includes_both_ends()
  local flow = hourly(0, { policy = "all" })
  flow.schedule.from_ms, flow.schedule.to_ms = NOON - 3 * HOUR, NOON - HOUR
  local plan = firing.decide(flow, NOON)
  lu.assertEquals(shown(plan), "09:00 catch_up, 10:00 catch_up, 11:00 catch_up")
  lu.assertNil(plan.next_at)
end

function TestFiring.test_settling_runs_nothing()
  local plan = firing.settle(hourly(NOON - 3 * HOUR, { policy = "all" }), NOON, "superseded", "a new schedule")
  lu.assertEquals(shown(plan), "10:00 superseded, 11:00 superseded, 12:00 superseded")
  lu.assertEquals({ plan.cursor, plan.next_at, plan.entries[1].reason }, { NOON, NOON + HOUR, "a new schedule" })
  plan = firing.settle(hourly(NOON), NOON + 1, "superseded", "a new schedule")
  lu.assertEquals({ #plan.entries, plan.cursor }, { 0, NOON })
end

--- The walk goes on from slots: looking at each moment gives what one look at the end gives.
function TestFiring.test_often_or_seldom_the_slots_are_the_same()
  for _, rule in ipairs { "once", "quartz", "each" } do
    for _, expression in ipairs { "0 */15 * * * ?", "0 30 2 * * ?", "0 0/20 1-3 * * ?" } do
      for zone, day in pairs { ["Europe/Berlin"] = "2026-10-25", ["America/New_York"] = "2026-03-08" } do
        local function flow()
          return { schedule = { kind = "cron", cron = expression, timezone = zone, dst = rule },
            policy = { missed = { policy = "all" } }, cursor_at = ms(day, zone) }
        end
        local seldom, often, one = {}, {}, flow()
        for i, e in ipairs(drain(flow(), ms(day, zone) + 10 * HOUR)) do seldom[i] = e.at end
        for minute = 1, 600 do
          for _, e in ipairs(drain(one, ms(day, zone) + minute * MINUTE)) do often[#often + 1] = e.at end
        end
        lu.assertEquals(often, seldom, rule .. " " .. expression .. " " .. zone)
      end
    end
  end
end

os.exit(lu.LuaUnit.run())
