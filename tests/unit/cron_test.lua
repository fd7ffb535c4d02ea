--- The module cron: every vector under every rule, every refusal, and what holds for all.

local lu = require "luaunit"
local cron = require "cron"
local json = require "json"
local time = require "time"

local function read(path)
  local file <close> = assert(io.open(path, "rb"))
  return file:read "a"
end

local vectors = json.decode(read "tests/vectors/cron-quartz.json")

local function times(list, zone)
  local out = {}
  for i, t in ipairs(list) do out[i] = time.iso(t, zone) end
  return table.concat(out, " ")
end

local function wanted(list, zone)
  local out = {}
  for i, text in ipairs(list) do out[i] = time.parse(text) end
  return times(out, zone)
end

--- Fails with the message of the error that `f` must raise.
local function raised(f, ...)
  local ok, err = pcall(f, ...)
  lu.assertFalse(ok)
  return err
end

TestVectors = {}

local function check(case, rule, list)
  local schedule = cron.parse(case.expr, { timezone = case.zone, dst = rule })
  local from = time.parse(case.from)
  local name = ("%s %s %s"):format(case.id, case.expr, rule)
  local n = #list + (case.ends and 1 or 0)
  local got = n > 0 and schedule:next(from, n) or {}
  lu.assertEquals(times(got, case.zone), wanted(list, case.zone), name)
  local t = from
  for _ = 1, #list do -- one by one gives the same, and each leads back
    t = schedule:next(t)
    lu.assertEquals(schedule:previous(t + 1), t, name)
  end
  if case.ends then lu.assertNil(schedule:next(t), name) end
end

for _, case in ipairs(vectors.cases) do
  TestVectors[("test_%s_%s"):format(case.id:gsub("-", "_"), case.group:gsub("-", "_"))] = function()
    if case.next_by_rule then
      for rule, list in pairs(case.next_by_rule) do check(case, rule, list) end
    elseif case.next_by_reading then -- a step after names counts
      check(case, "once", case.next_by_reading.plain)
    else
      for _, rule in ipairs { "once", "quartz", "each" } do check(case, rule, case.next) end
    end
  end
end

function TestVectors.test_every_case_was_read()
  lu.assertEquals(#vectors.cases, 70)
  lu.assertEquals(#vectors.refused, 22)
end

TestRefused = {}

for _, case in ipairs(vectors.refused) do
  TestRefused["test_" .. case.id:gsub("-", "_")] = function()
    local err = raised(cron.parse, case.expr)
    lu.assertEquals(err.kind, "usage", case.expr)
    lu.assertStrContains(err.message, "cron expression '" .. case.expr .. "'")
  end
end

--- expression, a part of the message, a part of the hint or nil
local refusals = {
  { "0 0 24 * * ?", "hour '24' is not within 0-23" },
  { "0 60 0 * * ?", "minute '60' is not within 0-59" },
  { "0 0 0 0 * ?", "day-of-month '0' is not within 1-31" },
  { "0 0 0 1 13 ?", "month '13' is not within 1-12 or JAN-DEC" },
  { "0 0 0 ? * 0", "day-of-week '0' is not within 1-7 or SUN-SAT", "1 is Sunday" },
  { "0 0 0 1 1 ? 1969", "year '1969' is not within 1970-2099" },
  { "0 0 0 1 1 ? 2100", "year '2100' is not within 1970-2099" },
  { "0 0 0 1 1 ? 2030-2024", "year '2030-2024' ends before it begins" },
  { "0 0 15W * * ?", "hour '15W' holds W, which belongs to day-of-month", "fourth field" },
  { "0 0 0 ? * 15W", "day-of-week '15W' is not within 1-7" },
  { "0 0 0 ? * 5W", "day-of-week '5W' holds W" },
  { "0 0 0 6#3 * ?", "day-of-month '6#3' holds #, which belongs to day-of-week" },
  { "0 0 L * * ?", "hour 'L' holds L, which belongs to the day fields" },
  { "0 ? 0 * * ?", "minute '?' holds ?" },
  { "0 0 0 1-15W * ?", "day-of-month '1-15W'" },
  { "0 0 0 15W-20 * ?", "day-of-month '15W-20'" },
  { "0 0 0 LX * ?", "day-of-month 'LX'" },
  { "0 0 0 L- * ?", "needs an offset within 0-30" },
  { "0 0 0 1,? * ?", "day-of-month '?'" },
  { "0 0 0 ? * 6#", "needs a number within 1-5" },
  { "0 0 0 ? * 6LX", "day-of-week '6LX'" },
  { "0 0 0 ? * MONDAY", "day-of-week 'MONDAY' cannot be read", "three letters: MON" },
  { "0 0 0 ? * MO", "day-of-week 'MO' cannot be read" },
  { "0 0 0 ? JANUARY *", "month 'JANUARY'" },
  { "0 0/0 0 * * ?", "minute '0/0' has a step that is not within 1-59" },
  { "0 0/ 0 * * ?", "minute '0/' has a step" },
  { "0 1,,2 0 * * ?", "minute '' is empty" },
  { "0 1, 0 * * ?", "minute '' is empty" },
  { "0 1- 0 * * ?", "minute '1-' cannot be read" },
  { "0 -5 0 * * ?", "minute '-5' cannot be read" },
  { "0 5x 0 * * ?", "minute '5x' cannot be read" },
  { "0 5/10/2 0 * * ?", "minute '5/10/2' cannot be read" },
  { "0 99999999999999999999 0 * * ?", "is not within 0-59" },
  { "0 0 2 * * *", "gives both day-of-month and day-of-week", "use ? in one" },
  { "0 0 2 15 * 2", "gives both", "use ? in one of the day fields" },
  { "0 0 0 * * ? * *", "has 8 fields", nil },
  { "* * * *", "has 4 fields" },
  { "5/15 * * * *", "minute '5/15' has a step but no range", "write 5-59/15" },
  { "* * ? * *", "is not for an expression of five fields", "six fields" },
  { "0 0 L * *", "is not for an expression of five fields" },
  { "0 0 15W * *", "is not for an expression of five fields" },
  { "0 0 * * 5#2", "is not for an expression of five fields" },
  { "0 0 * * 5L", "is not for an expression of five fields" },
  { "0 0 * * 8", "day-of-week '8' is not within 0-7" },
  { "*/60 * * * *", "minute '*/60' has a step" },
  { "@reboot", "is not a known nickname", "@hourly" },
  { "@every 5m", "has 2 fields" },
  { ("1,"):rep(600) .. "1 * * * * ?", "has more than 1000 characters" },
}

function TestRefused.test_messages_name_field_text_and_range()
  for _, r in ipairs(refusals) do
    local err = raised(cron.parse, r[1])
    lu.assertStrContains(err.message, r[2], false, r[1])
    if r[3] then lu.assertStrContains(err.hint or "", r[3], false, r[1]) end
    lu.assertNotStrContains(err.message, "\n")
  end
end

function TestRefused.test_unknown_zone_rule_and_option_are_named()
  local err = raised(cron.parse, "0 0 0 * * ?", { timezone = "Mars/Olympus" })
  lu.assertStrContains(err.message, "unknown time zone 'Mars/Olympus'")
  err = raised(cron.parse, "0 0 0 * * ?", { dst = "twice" })
  lu.assertStrContains(err.message, "unknown dst rule 'twice'")
  lu.assertErrorMsgContains("unknown option 'zone'", cron.parse, "0 0 0 * * ?", { zone = "UTC" })
  lu.assertErrorMsgContains("number expected", function() cron.parse("0 0 0 * * ?"):next() end)
end

TestQuartz = {}

--- The fire times after `from` as local text without seconds, joined by blanks.
local function after(expr, from, n, options)
  options = options or {}
  local zone = options.timezone or "UTC"
  local out = {}
  for i, t in ipairs(cron.parse(expr, options):next(time.parse(from, zone), n)) do
    out[i] = time.format(t, options.format or "MM-dd'T'HH:mm", zone)
  end
  return table.concat(out, " ")
end

function TestQuartz.test_the_tutorial_fires_each_full_hour()
  lu.assertEquals(after("00 00 00-23/1 * * ?", "2026-01-01 22:30", 3, { timezone = "Asia/Shanghai" }),
    "01-01T23:00 01-02T00:00 01-02T01:00")
end

function TestQuartz.test_a_leading_slash_and_steps_of_lists()
  lu.assertEquals(after("0 /20 0 1 1 ?", "2026-01-01 00:00", 2), "01-01T00:20 01-01T00:40")
  lu.assertEquals(after("0 0 1-5/2,20 * * ?", "2026-01-01", 4),
    "01-01T01:00 01-01T03:00 01-01T05:00 01-01T20:00")
end

function TestQuartz.test_days_counted_from_the_end()
  lu.assertEquals(after("0 0 0 L-30 * ?", "2026-01-02", 2), "03-01T00:00 05-01T00:00")
  lu.assertEquals(after("0 0 0 L-2W * ?", "2026-01-01", 3), "01-29T00:00 02-26T00:00 03-30T00:00")
  lu.assertEquals(after("0 0 0 LW,1 * ?", "2026-01-15", 3), "01-30T00:00 02-01T00:00 02-27T00:00")
end

function TestQuartz.test_named_last_weekday_and_two_nth_weekdays()
  lu.assertEquals(after("0 0 0 ? * FRIL", "2026-01-01", 2), "01-30T00:00 02-27T00:00")
  lu.assertEquals(after("0 0 0 ? * 6#1,6#3", "2026-01-01", 3), "01-02T00:00 01-16T00:00 02-06T00:00")
end

function TestQuartz.test_days_wrap_over_the_month()
  lu.assertEquals(after("0 0 0 30-2 * ?", "2026-01-29", 4),
    "01-30T00:00 01-31T00:00 02-01T00:00 02-02T00:00")
end

TestCrontab = {}

function TestCrontab.test_either_day_field_is_enough()
  lu.assertEquals(after("0 0 13 * 5", "2026-01-01", 4), "01-02T00:00 01-09T00:00 01-13T00:00 01-16T00:00")
end

function TestCrontab.test_a_star_in_one_day_field_leaves_the_other()
  lu.assertEquals(after("0 0 13 * *", "2026-01-01", 2), "01-13T00:00 02-13T00:00")
  lu.assertEquals(after("0 0 * * 5", "2026-01-01", 2), "01-02T00:00 01-09T00:00")
  lu.assertEquals(after("0 0 */10 * 4", "2026-01-01 12:00", 2), "05-21T00:00 06-11T00:00") -- both
end

function TestCrontab.test_sunday_is_0_and_7()
  for _, sunday in ipairs { "0", "7", "SUN", "7-7", "0-0" } do
    lu.assertEquals(after("30 4 * * " .. sunday, "2026-01-01", 2), "01-04T04:30 01-11T04:30", sunday)
  end
  for _, range in ipairs { "6-7", "SAT-SUN", "6-0", "6,0" } do
    lu.assertEquals(after("0 0 * * " .. range, "2026-01-01", 3), "01-03T00:00 01-04T00:00 01-10T00:00", range)
  end
  lu.assertEquals(after("0 0 * * 0-7", "2026-01-01", 2), "01-02T00:00 01-03T00:00")
  lu.assertEquals(after("0 0 * * 7-1", "2026-01-01", 2), "01-04T00:00 01-05T00:00")
end

function TestCrontab.test_nicknames()
  local same = {
    ["@hourly"] = "0 * * * *", ["@daily"] = "0 0 * * *", ["@midnight"] = "0 0 * * *",
    ["@weekly"] = "0 0 * * 0", ["@monthly"] = "0 0 1 * *", ["@yearly"] = "0 0 1 1 *",
    ["@annually"] = "0 0 1 1 *",
  }
  for name, expr in pairs(same) do
    lu.assertEquals(after(name, "2026-05-05 05:05", 3), after(expr, "2026-05-05 05:05", 3), name)
  end
end

function TestCrontab.test_fixed_times_are_made_up_for_and_frequent_ones_are_not()
  local berlin = { timezone = "Europe/Berlin" }
  lu.assertEquals(after("30 2 * * *", "2024-03-30 12:00", 2, berlin), "03-31T03:00 04-01T02:30")
  lu.assertEquals(after("*/30 2 * * *", "2024-03-30 12:00", 2, berlin), "04-01T02:00 04-01T02:30")
end

TestProperties = {}

local zones = { "UTC", "America/New_York", "Europe/Berlin", "Australia/Lord_Howe", "America/Santiago",
  "Asia/Shanghai", "Africa/Cairo", "Pacific/Apia", "+05:30" }
local expressions = { "0 0 2 * * ?", "0 30 1,2,3 * * ?", "0 */7 * * * ?", "0 15 0 ? * SUN", "59 59 23 L * ?",
  "0 0 0 15W * ?", "*/17 * 1-3 * * ?", "0 0 0 29 2 ?", "0 0 12 ? * 6#5", "30 2 13 * 5", "@hourly",
  "0 0 0 1 1 ? 2020-2040/3", "0-59 0-59 1 * * ?" }

--- An own generator: the same numbers in each run.
local function random(seed)
  return function(low, high)
    seed = (seed * 6364136223846793005 + 1442695040888963407)
    return low + (seed >> 33) % (high - low + 1)
  end
end

local function each_schedule(f)
  for _, zone in ipairs(zones) do
    for _, expr in ipairs(expressions) do
      for _, rule in ipairs { "once", "quartz", "each" } do
        f(cron.parse(expr, { timezone = zone, dst = rule }))
      end
    end
  end
end

function TestProperties.test_previous_leads_back_to_next()
  local pick = random(7)
  each_schedule(function(s)
    for _ = 1, 30 do
      local t = pick(946684800, 4102444800) -- 2000 to 2100
      local n = s:next(t)
      if n then
        lu.assertTrue(n > t)
        lu.assertEquals(s:previous(n + 1), n, tostring(s))
        lu.assertTrue((s:previous(n) or t) <= t or s:dst() == "quartz", tostring(s))
      end
      local p = s:previous(t)
      if p then
        lu.assertTrue(p < t)
        if s:dst() ~= "quartz" then -- whose next() forgets the first pass
          lu.assertEquals(s:next(p - 1), p, tostring(s))
        end
      end
    end
  end)
end

function TestProperties.test_around_clock_changes_a_walk_forth_and_back_meet()
  each_schedule(function(s)
    if s:dst() == "quartz" then return end
    for _, day in ipairs { "2024-03-31", "2024-10-27", "2024-11-03", "2024-04-06", "2024-09-07",
      "2011-12-30" } do
      local from = time.parse(day) - 86400
      local forth, t = {}, from
      for i = 1, 40 do
        t = s:next(t)
        if not t then break end
        forth[i] = t
      end
      t = #forth > 0 and forth[#forth] + 1
      for i = #forth, 1, -1 do
        t = s:previous(t)
        lu.assertEquals(t, forth[i], ("%s from %s"):format(s, day))
      end
    end
  end)
end

--- Tries every second: slow, but plainly right for rule "each".
function TestProperties.test_next_equals_a_search_second_by_second()
  local function brute(t, zone)
    repeat
      t = t + 1
      local c = time.civil(t, zone)
    until c.min % 20 == 7 and c.sec == 30 and (c.hour == 1 or c.hour == 2)
    return t
  end
  for zone, day in pairs { ["Europe/Berlin"] = "2024-10-27", ["America/New_York"] = "2024-03-10",
    ["Australia/Lord_Howe"] = "2024-04-07" } do
    local s = cron.parse("30 7/20 1,2 * * ?", { timezone = zone, dst = "each" })
    local t = time.parse(day, zone)
    for _ = 1, 8 do
      lu.assertEquals(s:next(t), brute(t, zone), zone)
      t = s:next(t)
    end
  end
end

function TestProperties.test_rules_hold_after_the_tables_end()
  local s = cron.parse("0 30 2 * * ?", { timezone = "America/New_York" })
  local function date(text) return time.parse(text, "America/New_York") end
  lu.assertEquals(time.iso(s:next(date "2060-03-13 12:00"), "America/New_York"), "2060-03-14T03:00:00-04:00")
  lu.assertEquals(time.iso(s:next(date "2999-07-01 12:00"), "America/New_York"), "2999-07-02T02:30:00-04:00")
  lu.assertEquals(time.iso(s:next(date "9000-07-01 12:00"), "America/New_York"), "9000-07-02T02:30:00-04:00")
end

function TestProperties.test_the_ends_of_time()
  local s = cron.parse "0 0 0 1 1 ?"
  lu.assertNil(s:next(time.parse "9999-06-01"))
  lu.assertEquals(time.iso(s:previous(math.maxinteger)), "9999-01-01T00:00:00Z")
  lu.assertEquals(time.iso(s:next(math.mininteger)), "0001-01-01T00:00:00Z")
  lu.assertNil(s:previous(math.mininteger))
  lu.assertNil(s:previous(time.parse "0001-01-01"))
  lu.assertNil(s:next(math.maxinteger))
end

function TestProperties.test_fractions_of_seconds()
  local s = cron.parse "* * * * * ?"
  lu.assertEquals(s:next(100.25), 101)
  lu.assertEquals(s:previous(100.25), 100)
  lu.assertEquals(s:previous(100), 99)
end

TestSpeed = {}

local slow = os.getenv "TM_SANITIZER" or ""
local patience = slow ~= "" and 20 or 4 -- CPU time, of a machine that may be slower

local function elapsed(f)
  local start = os.clock()
  f()
  return os.clock() - start
end

function TestSpeed.test_a_year_of_every_five_minutes_takes_less_than_half_a_second()
  for _, zone in ipairs { "UTC", "America/New_York" } do
    local s = cron.parse("0 */5 * * * ?", { timezone = zone })
    local n = 0
    local took = elapsed(function()
      local t, stop = time.parse("2025-01-01", zone), time.parse("2026-01-01", zone)
      repeat
        t, n = s:next(t), n + 1
      until t >= stop
    end)
    lu.assertEquals(n, 105120)
    lu.assertTrue(took < 0.5 * patience, took)
  end
end

function TestSpeed.test_never_is_known_within_milliseconds()
  for _, expr in ipairs { "0 0 0 30 2 ?", "0 0 0 31 4,6,9,11 ?", "0 0 0 30W 2 ?", "0 30 2 ? 3 SUN#2" } do
    for _, rule in ipairs { "once", "quartz", "each" } do
      local s = cron.parse(expr, { timezone = "America/New_York", dst = rule })
      local took = elapsed(function() s:next(1700000000) s:previous(1700000000) end)
      lu.assertTrue(took < 0.02 * patience, expr .. " " .. took)
    end
  end
  lu.assertNil(cron.parse("0 0 0 30 2 ?"):next(0))
  lu.assertNil(cron.parse("0 0 0 30 2 ?"):previous(1e10))
  -- in New York the second Sunday of March has no 02:30 since 2007
  local gone = cron.parse("0 30 2 ? 3 SUN#2", { timezone = "America/New_York", dst = "each" })
  lu.assertNil(gone:next(1700000000))
  lu.assertEquals(time.iso(gone:previous(1700000000), "America/New_York"), "2006-03-12T02:30:00-05:00")
end

TestWords = {}

function TestWords.test_descriptions()
  for expr, text in pairs {
    ["0 30 2 * * ?"] = "at 02:30 every day",
    ["15 30 2 * * ?"] = "at 02:30:15 every day",
    ["0 30 2,14 * * ?"] = "at 02:30 and 14:30 every day",
    ["00 00 00-23/1 * * ?"] = "every hour",
    ["0 0 1/2 * * ?"] = "every 2 hours from hour 1",
    ["* * * * * ?"] = "every second",
    ["*/10 * * * * ?"] = "every 10 seconds",
    ["0 * * * * ?"] = "every minute",
    ["0 5/10 * * * ?"] = "every 10 minutes from minute 5",
    ["0 0/15 8-18 ? * MON-FRI"] = "every 15 minutes, in hours 8 to 18, on Monday to Friday",
    ["0 1,2 * * * ?"] = "at minute 1 and 2",
    ["0 0 12 L * ?"] = "at 12:00 on the last day of every month",
    ["0 0 12 LW * ?"] = "at 12:00 on the last working day of every month",
    ["0 0 12 15W * ?"] = "at 12:00 on the working day nearest to day 15 of every month",
    ["0 0 12 L-3 * ?"] = "at 12:00 on the day 3 before the last of every month",
    ["0 0 12 ? * 6#3"] = "at 12:00 on the third Friday of every month",
    ["0 0 12 ? * 6L"] = "at 12:00 on the last Friday of every month",
    ["0 0 12 ? * SAT,SUN"] = "at 12:00 on Saturday and Sunday",
    ["0 0 12 1,15 JAN,JUL ?"] = "at 12:00 on days 1 and 15 in January and July",
    ["0 0 12 1 1 ? 2024-2030"] = "at 12:00 on day 1 in January, in 2024 to 2030",
    ["0 0 13 * 5"] = "at 00:00 on day 13 or Friday of every month",
    ["@daily"] = "at 00:00 every day",
  } do
    lu.assertEquals(cron.parse(expr):describe(), text, expr)
  end
end

function TestWords.test_a_schedule_names_itself()
  local s = cron.parse("0 0 2 * * ?", { timezone = "Asia/Shanghai", dst = "each" })
  lu.assertEquals(tostring(s), "cron '0 0 2 * * ?' in Asia/Shanghai, dst each")
  lu.assertEquals({ s:expression(), s:timezone(), s:dst() }, { "0 0 2 * * ?", "Asia/Shanghai", "each" })
end

os.exit(lu.LuaUnit.run())
