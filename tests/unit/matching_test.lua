--- matching: which successes together start a flow that runs after others.

local lu = require "luaunit"
local matching = require "tidemill.matching"
local time = require "time"

local function ms(text, zone) return math.floor(time.parse(text, zone) * 1000) end

local HOUR = 3600000
local NINE = ms "2026-03-10 09:00"

--- Events from { "a", scheduled, at }, numbered in order.
local function events(list)
  local out = {}
  for i, e in ipairs(list) do
    local flow, node = e[1]:match "^([^/]*)/?(.*)$"
    out[i] = { seq = i, flow = flow, node = node, cause = e.cause or "schedule", scheduled_at = e[2], at = e[3] or e[2] }
  end
  return out
end

local AFTER = { { flow = "a" }, { flow = "b", node = "n" } }

--- "1+2 at 09:00": sets by the numbers of their events.
local function shown(sets)
  local out = {}
  for i, set in ipairs(sets) do
    local numbers = {}
    for j, e in ipairs(set.events) do numbers[j] = e.seq end
    out[i] = ("%s%s at %s"):format(table.concat(numbers, "+"), set.complete and "" or " given up",
      time.format(set.slot / 1000, "dd HH:mm"))
  end
  return table.concat(out, ", ")
end

local function match(list, now, schedule, zone)
  schedule = schedule or { after = AFTER }
  local sets, next_at = matching.match(schedule, zone or "UTC", events(list), now or NINE + 24 * HOUR)
  return shown(sets), next_at, sets
end

TestMatching = {}

function TestMatching.test_it_fires_when_all_have_succeeded_at_the_latest_scheduled_time()
  lu.assertEquals(match { { "a", NINE }, { "b/n", NINE - HOUR, NINE + 1 } }, "1+2 at 10 09:00")
  lu.assertEquals(match { { "b/n", NINE + HOUR }, { "a", NINE } }, "2+1 at 10 10:00")
  lu.assertEquals(match { { "a", NINE } }, "")
end

function TestMatching.test_a_success_of_the_flow_is_not_one_of_its_node()
  lu.assertEquals(match { { "a/n", NINE }, { "b/n", NINE } }, "")
  lu.assertEquals(match { { "a", NINE }, { "b", NINE } }, "")
end

function TestMatching.test_business_dates_do_not_mix()
  lu.assertEquals(match { { "a", NINE - 24 * HOUR }, { "b/n", NINE }, { "a", NINE } }, "3+2 at 10 09:00")
end

function TestMatching.test_the_date_is_that_of_the_subscribers_zone()
  local late, early = ms "2026-03-09 23:30", ms "2026-03-10 00:30"
  lu.assertEquals(match { { "a", late }, { "b/n", early } }, "")
  lu.assertEquals(match({ { "a", late }, { "b/n", early } }, nil, nil, "Asia/Shanghai"), "1+2 at 10 00:30")
end

function TestMatching.test_an_event_is_used_once_the_earliest_first()
  lu.assertEquals(match { { "a", NINE }, { "a", NINE + HOUR }, { "b/n", NINE }, { "b/n", NINE + HOUR },
    { "b/n", NINE + 2 * HOUR } }, "1+3 at 10 09:00, 2+4 at 10 10:00")
end

function TestMatching.test_one_awaited_flow_fires_at_each_success()
  lu.assertEquals(match({ { "a", NINE }, { "a", NINE } }, nil, { after = { { flow = "a" } } }),
    "1 at 10 09:00, 2 at 10 09:00")
end

local TIMED = { after = AFTER, timeout_s = 7200 }

function TestMatching.test_a_set_that_is_not_complete_in_time_is_given_up()
  local list = { { "a", NINE } }
  local text, next_at = match(list, NINE + 2 * HOUR - 1, TIMED)
  lu.assertEquals({ text, next_at }, { "", NINE + 2 * HOUR })
  local given_up, none, sets = match(list, NINE + 2 * HOUR, TIMED)
  lu.assertEquals({ given_up, none }, { "1 given up at 10 09:00", nil })
  lu.assertEquals(matching.names(sets[1].absent), "'b/n'")
end

function TestMatching.test_a_scheduler_that_was_down_decides_by_the_times_of_the_events()
  local in_time = { { "a", NINE }, { "b/n", NINE, NINE + HOUR } }
  lu.assertEquals(match(in_time, NINE + 100 * HOUR, TIMED), "1+2 at 10 09:00")
  local too_late = { { "a", NINE }, { "b/n", NINE, NINE + 3 * HOUR } }
  lu.assertEquals(match(too_late, NINE + 3 * HOUR, TIMED), "1 given up at 10 09:00")
  lu.assertEquals(match(too_late, NINE + 5 * HOUR, TIMED), "1 given up at 10 09:00, 2 given up at 10 09:00")
end

function TestMatching.test_what_is_left_has_the_first_timeout()
  local _, next_at = match({ { "a", NINE, NINE + 50 }, { "b/n", NINE - 24 * HOUR, NINE + 20 } }, NINE + HOUR, TIMED)
  lu.assertEquals(next_at, NINE + 20 + 2 * HOUR)
end

function TestMatching.test_trial_runs_count_unless_they_are_told_not_to()
  local list = { { "a", NINE, cause = "manual" } }
  lu.assertEquals(match(list, nil, { after = { { flow = "a" } } }), "1 at 10 09:00")
  lu.assertEquals(match(list, nil, { after = { { flow = "a" } }, trial = false }), "")
end

os.exit(lu.LuaUnit.run())
