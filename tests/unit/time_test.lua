--- The module time: the vectors of DMS's time variables, zones, and the edges of both.

local lu = require "luaunit"
local time = require "time"

local function raised(f, ...)
  local ok, err = pcall(f, ...)
  lu.assertFalse(ok)
  return err
end

local function variable(business, format, offsets, zone)
  return time.variable(time.parse(business, zone), format, offsets, zone)
end

TestVectors = {}

for _, v in ipairs(require "tests.support.time_vectors") do
  local id, business, format, offsets, value, zone = v[1], v[2], v[3], v[4], v[5], v[6]
  TestVectors["test_" .. id] = function()
    lu.assertEquals(variable(business, format, offsets, zone), value)
    -- the serialized form says the same
    lu.assertEquals(variable(business, format .. "|" .. (offsets or ""), nil, zone), value)
    lu.assertEquals(variable(business, format, { offsets }, zone), value)
  end
end

TestFormat = {}

local function format(text, pattern, zone, locale)
  return time.format(time.parse(text, zone), pattern, zone, locale)
end

function TestFormat.test_quotes_are_literal()
  lu.assertEquals(format("2024-03-15 09:05", "yyyyMMdd'T'HHmm"), "20240315T0905")
  lu.assertEquals(format("2024-03-15 09:05", "HH 'o''clock'"), "09 o'clock")
  lu.assertEquals(format("2024-03-15 09:05", "''yy''"), "'24'")
  lu.assertEquals(format("2024-03-15 09:05", "'yyyy'"), "yyyy")
  lu.assertEquals(format("2024-03-15 09:05", "yyyy年MM月[0]#{}"), "2024年03月[0]#{}")
  lu.assertEquals(format("2024-03-15 09:05", ""), "")
end

function TestFormat.test_bad_formats_name_the_letter_and_the_place()
  local err = raised(time.format, 0, "yyyy-MM-ddTHH")
  lu.assertEquals(err.kind, "usage")
  lu.assertStrContains(err.message, "unknown letter 'T' at position 11")
  lu.assertStrContains(err.hint, "single quotes")
  lu.assertStrContains(raised(time.format, 0, "HH 'open").message, "quote at position 4")
  lu.assertStrContains(raised(time.format, 0, "ddd").message, "'d' stands 3 times at position 1")
  for _, letter in ipairs { "b", "c", "u", "Q", "q", "L", "V", "X", "x", "Z", "O", "n", "N", "A", "p",
    "B" } do
    lu.assertStrContains(raised(time.format, 0, letter).message, "unknown letter '" .. letter .. "'")
  end
end

function TestFormat.test_names()
  lu.assertEquals(format("2024-03-15", "MMM MMMM E EEE EEEE"), "Mar March Fri Fri Friday")
  lu.assertEquals(format("2024-12-15 13:00", "Gyyyy MMM E a", nil, "zh"), "公元2024 十二月 星期日 下午")
  lu.assertEquals(format("2024-03-15", "G yyyy"), "AD 2024")
end

function TestFormat.test_years_and_fractions()
  lu.assertEquals(format("0007-03-15", "y yy yyyy yyyyyy"), "0007 07 0007 000007")
  lu.assertEquals(format("2024-03-15 01:02:03.25", "ss.SSS S"), "03.250 2")
  lu.assertEquals(time.format(0, "SSS"), "000")
end

function TestFormat.test_zone_letter()
  lu.assertEquals(format("2024-03-15", "z", "America/New_York"), "UTC-04:00")
  lu.assertEquals(format("2024-03-15", "z", "UTC"), "UTC")
  lu.assertEquals(format("2024-03-15", "z", "Asia/Kathmandu"), "UTC+05:45")
end

function TestFormat.test_weeks_begin_on_monday()
  lu.assertEquals(format("2012-12-30", "YYYY ww W"), "2012 53 5")
  lu.assertEquals(format("2012-12-31", "YYYY w W"), "2013 1 6")
  lu.assertEquals(format("2024-01-01", "YYYY ww W e"), "2024 01 1 1")
  lu.assertEquals(format("9999-12-31", "YYYY ww"), "10000 01") -- a Friday; Sunday is past the end
end

TestOffsets = {}

function TestOffsets.test_bad_offsets_are_refused_with_their_place()
  for text, at in pairs { ["1d"] = 1, ["+d"] = 2, ["+1"] = 3, ["+1s"] = 3, ["+1D"] = 3, ["+1d,-2h"] = 4,
    ["+-1d"] = 2,
    ["+99999999999d"] = 1, ["+1.5d"] = 3 } do
    local err = raised(time.add, 0, text)
    lu.assertEquals(err.kind, "usage", text)
    lu.assertStrContains(err.message, ("time offset '%s' at position %d"):format(text, at), false, text)
  end
  lu.assertErrorMsgContains("position", time.variable, 0, "yyyy|+1x")
  lu.assertErrorMsgContains("string or array of strings expected", time.add, 0, 5)
  lu.assertErrorMsgContains("array of strings", time.add, 0, { 5 })
end

function TestOffsets.test_results_outside_the_calendar_are_refused()
  for _, text in ipairs { "+9000y", "-3000y", "+999999999M", "-999999999d", "+999999999h", "+99999999d" } do
    lu.assertStrContains(raised(time.add, 0, text).message, "outside the years 1 to 9999", false, text)
  end
end

function TestOffsets.test_lists_blanks_and_repeats_add_up()
  local base = time.parse "2024-03-15"
  lu.assertEquals(time.add(base, { "-1M", "+1d" }), time.parse "2024-02-16")
  lu.assertEquals(time.add(base, "+1d +1d -3d"), time.parse "2024-03-14")
  lu.assertEquals(time.add(base, {}), base)
  lu.assertEquals(time.add(base, ""), base)
end

function TestOffsets.test_a_bar_in_quotes_is_no_offset()
  lu.assertEquals(variable("2024-03-15", "yyyy'|'MM"), "2024|03")
  lu.assertEquals(variable("2024-03-15", "yyyy'|'MM|+1M"), "2024|04")
  lu.assertEquals(variable("2024-03-15", "yyyy|MM", "+1M"), "2024|04")
end

function TestOffsets.test_days_keep_the_time_of_day_hours_are_elapsed()
  local berlin = "Europe/Berlin"
  lu.assertEquals(variable("2024-03-30 12:00", "dd HH", "+1d", berlin), "31 12")
  lu.assertEquals(variable("2024-03-30 12:00", "dd HH", "+24h", berlin), "31 13")
  lu.assertEquals(variable("2024-03-30 02:30", "dd HH:mm", "+1d", berlin), "31 03:30") -- in the gap
  local second = time.parse "2024-10-27T02:30+01:00" -- an overlap keeps the offset it had
  lu.assertEquals(time.add(second, "+0d", berlin), second)
  lu.assertEquals(time.iso(time.add(second, "-1h", berlin), berlin), "2024-10-27T02:30:00+02:00")
end

TestBusiness = {}

local function business(text, zone)
  return time.iso(time.business(time.parse(text, zone), zone), zone)
end

function TestBusiness.test_is_the_same_local_time_a_day_before()
  lu.assertEquals(business("2026-03-01 02:00", "Asia/Shanghai"), "2026-02-28T02:00:00+08:00")
  lu.assertEquals(business("2024-03-31 12:00", "Europe/Berlin"), "2024-03-30T12:00:00+01:00")
  lu.assertEquals(business("2024-04-01 02:30", "Europe/Berlin"), "2024-03-31T03:30:00+02:00")
  lu.assertEquals(business("2024-10-28 02:30", "Europe/Berlin"), "2024-10-27T02:30:00+01:00")
  lu.assertEquals(time.business(86400.5), 0.5)
end

TestParse = {}

function TestParse.test_forms()
  local t = 1767323045 -- 2026-01-02T03:04:05Z
  for _, text in ipairs { "2026-01-02 03:04:05", "2026-01-02T03:04:05", "2026-01-02T03:04:05Z",
    "2026-01-02t03:04:05z",
    "2026-01-02T11:04:05+08:00", "2026-01-02T11:04:05+0800", "2026-01-02 11:04:05 +08",
      "2026-01-01T22:34:05-04:30" } do
    lu.assertEquals(time.parse(text), t, text)
    lu.assertEquals(math.type(time.parse(text)), "integer")
  end
  lu.assertEquals(time.parse("2026-01-02 11:04:05", "Asia/Shanghai"), t)
  lu.assertEquals(time.parse("2026-01-02T03:04:05Z", "Asia/Shanghai"), t)
  lu.assertEquals(time.parse "2026-01-02", t - t % 86400)
  lu.assertEquals(time.parse "2026-01-02 03:04", t - 5)
  lu.assertEquals(time.parse "2026-01-02T03:04:05.25", t + 0.25)
  lu.assertEquals(time.parse "2026-01-02T03:04:05,5Z", t + 0.5)
end

function TestParse.test_what_is_no_time_is_refused()
  for _, text in ipairs { "", "2026", "2026-1-2", "2026-01-02 3:04", "2026-01-02 03",
    "2026-01-02  03:04", "02.01.2026",
    "2026-01-02 03:04:05x", "2026-01-02T03:04:05+", "2026-01-02T03:04:05+8", "2026-01-02T03:04:05+19:00",
    "2026-01-02T03:04:05.", "2026-01-02T03:04:05.1234567890", "now", "2026-01-02\n" } do
    lu.assertStrContains(raised(time.parse, text).message, "cannot read the time")
  end
  for _, text in ipairs { "2026-02-29", "2026-13-01", "2026-00-10", "2026-01-32", "2026-01-02 24:00",
    "0000-01-01",
    "2026-01-02 03:60", "2026-01-02 03:04:60", "2100-02-29" } do
    lu.assertStrContains(raised(time.parse, text).message, "there is no such time")
  end
end

function TestParse.test_local_times_that_a_change_skips_or_repeats()
  lu.assertEquals(time.parse("2024-03-31 02:30", "Europe/Berlin"), time.parse "2024-03-31T03:30+02:00")
  lu.assertEquals(time.parse("2024-10-27 02:30", "Europe/Berlin"), time.parse "2024-10-27T02:30+02:00")
  lu.assertEquals(time.parse("2011-12-30 12:00", "Pacific/Apia"), time.parse "2011-12-31T12:00+14:00")
end

function TestParse.test_iso_leads_back()
  for _, zone in ipairs { "UTC", "Asia/Shanghai", "America/New_York", "-03:30" } do
    for t = -5000000000, 9000000000, 777777777 do
      local text = time.iso(t, zone)
      if #text <= 25 then lu.assertEquals(time.parse(text), t, text) end -- mean times have seconds
    end
  end
  lu.assertEquals(time.iso(0.125, "+08:00"), "1970-01-01T08:00:00.125+08:00")
  lu.assertEquals(time.iso(-0.5), "1969-12-31T23:59:59.500Z")
end

TestZones = {}

function TestZones.test_names_and_offsets()
  for name, offset in pairs { ["+08:00"] = 28800, ["+0800"] = 28800, ["+8"] = 28800,
    ["UTC+08:00"] = 28800, ["GMT-3"] = -10800,
    ["-03:30"] = -12600, ["UTC"] = 0, ["Z"] = 0, ["Etc/GMT+8"] = -28800, ["Asia/Kolkata"] = 19800 } do
    lu.assertEquals(time.civil(0, name).offset, offset, name)
  end
  lu.assertEquals(time.zone "+8", "+08:00")
  lu.assertEquals(time.zone "UTC+0", "UTC")
  lu.assertEquals(time.zone "Asia/Shanghai", "Asia/Shanghai")
end

function TestZones.test_unknown_names_are_refused_by_name()
  for _, name in ipairs { "", "Asia", "Asia/Nowhere", "/etc/passwd", "../../etc/passwd", "asia shanghai",
    "+19:00", "+8:5",
    "+08:60", "+800", "UTC8", "EST5EDT,M3.2.0,M11.1.0", "zone.tab", ("x"):rep(5000) } do
    local err = raised(time.zone, name)
    lu.assertEquals(err.kind, "usage")
    lu.assertStrContains(err.message, "unknown time zone '" .. name:sub(1, 80))
  end
end

function TestZones.test_old_and_future_offsets()
  local function at(text, zone) return time.civil(time.parse(text), zone) end
  lu.assertEquals(at("1880-01-01", "Asia/Shanghai").offset, 29143) -- local mean time
  lu.assertEquals(at("1988-07-01", "Asia/Shanghai").zone, "CDT")
  for _, year in ipairs { 2037, 2038, 2050, 2099, 2100, 2437, 2500, 3001, 9998 } do
    local summer, winter = ("%04d-07-01"):format(year), ("%04d-01-15"):format(year)
    lu.assertEquals({ at(summer, "Europe/Berlin").offset, at(winter, "Europe/Berlin").offset }, { 7200,
      3600 }, year)
    lu.assertEquals({ at(summer, "Europe/Dublin").offset, at(winter, "Europe/Dublin").offset }, { 3600,
      0 }, year)
    lu.assertEquals({ at(summer, "Australia/Lord_Howe").offset, at(winter, "Australia/Lord_Howe").offset },
      { 37800, 39600 }, year)
    lu.assertEquals(at(summer, "Asia/Shanghai").offset, 28800, year)
    lu.assertEquals(at(winter, "America/Sao_Paulo").offset, -10800, year)
  end
end

--- The last Sunday of March and of October at 01:00 UTC, in any year.
function TestZones.test_the_rule_of_europe_holds_on_its_very_seconds()
  for year = 2030, 9990, 61 do
    for month, offsets in pairs { [3] = { 0, 3600 }, [10] = { 3600, 0 } } do
      local t = time.parse(("%04d-%02d-31T01:00:00Z"):format(year, month))
      t = t - time.civil(t).weekday % 7 * 86400
      for _, zone in ipairs { "Europe/London", "Europe/Dublin" } do
        lu.assertEquals({ time.civil(t - 1, zone).offset, time.civil(t, zone).offset }, offsets, year)
      end
    end
  end
end

TestClocks = {}

function TestClocks.test_now_mono_and_sleep()
  lu.assertTrue(math.abs(time.now() - os.time()) < 2)
  local start = time.mono()
  time.sleep(0.02)
  local took = time.mono() - start
  lu.assertTrue(took >= 0.019 and took < 5, took)
  lu.assertErrorMsgContains("seconds are wanted", time.sleep, -1)
end

function TestClocks.test_arguments_are_checked()
  lu.assertErrorMsgContains("number expected", time.iso, "x")
  lu.assertErrorMsgContains("a time in seconds", time.iso, 0 / 0)
  lu.assertErrorMsgContains("a time in seconds", time.iso, math.huge)
  lu.assertStrContains(raised(time.iso, math.maxinteger).message, "outside the years 1 to 9999")
  lu.assertStrContains(raised(time.iso, 253402300799, "+08:00").message, "outside the years 1 to 9999")
  lu.assertErrorMsgContains("invalid option 'fr'", time.format, 0, "MMM", "UTC", "fr")
end

os.exit(lu.LuaUnit.run())
