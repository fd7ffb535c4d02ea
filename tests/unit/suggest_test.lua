--- tidemill.suggest and tidemill.units: nearest names, durations and sizes.

local lu = require "luaunit"
local suggest = require "tidemill.suggest"
local units = require "tidemill.units"

TestSuggest = {}

function TestSuggest.test_an_edit_of_any_sort_costs_one_and_case_little()
  for _, case in ipairs { { "", "", 0 }, { "abc", "abc", 0 }, { "abc", "ab", 1 }, { "ab", "abc", 1 },
    { "abc", "axc", 1 }, { "abc", "acb", 1 }, { "ABC", "aBC", 0.1 }, { "kitten", "sitting", 3 }, { "", "abc", 3 } } do
    lu.assertEquals(suggest.distance(case[1], case[2]), case[3], case[1] .. " " .. case[2])
  end
end

function TestSuggest.test_only_near_names_are_suggested()
  local names = { "check", "plan", "runs", "run", "publish" }
  for given, wanted in pairs { chekc = "check", plann = "plan", rum = "run", pubish = "publish", CHECK = "check" } do
    lu.assertEquals(suggest.nearest(given, names), wanted)
  end
  for _, far in ipairs { "xyz", "completely_else", "" } do lu.assertNil(suggest.nearest(far, names)) end
end

function TestSuggest.test_without_a_near_name_the_hint_lists_what_there_is()
  lu.assertEquals(suggest.hint("zzz", { "a1", "b1" }, "nodes"), "nodes: a1, b1")
  lu.assertEquals(suggest.hint("nod", { "node" }), "did you mean 'node'?")
  lu.assertNil(suggest.hint("x", {}))
  local many = {}
  for i = 1, 20 do many[i] = "name" .. i end
  lu.assertStrContains(suggest.hint("zzz", many), "and 8 more")
end

TestUnits = {}

function TestUnits.test_durations_are_seconds()
  for text, seconds in pairs { ["90s"] = 90, ["5m"] = 300, ["1h30m"] = 5400, ["2d"] = 172800, ["1w"] = 604800,
    ["500ms"] = 0.5, ["1.5h"] = 5400, ["1h 30m"] = 5400, ["45"] = 45, ["0s"] = 0 } do
    lu.assertEquals(units.duration(text), seconds, text)
  end
  lu.assertEquals(units.duration(10), 10)
  for _, bad in ipairs { "", "soon", "-5s", "5 parsecs", "h", "1h30", "5mm", -1, 1 / 0, true, {} } do
    lu.assertNil(units.duration(bad), tostring(bad))
  end
end

function TestUnits.test_sizes_are_bytes()
  for text, bytes in pairs { ["256MB"] = 256 << 20, ["64MiB"] = 64 << 20, ["1G"] = 1 << 30, ["4096"] = 4096,
    ["100kB"] = 102400, ["1.5 KB"] = 1536, ["2TB"] = 2 << 40, ["7B"] = 7 } do
    lu.assertEquals(units.size(text), bytes, text)
  end
  lu.assertEquals(units.size(12), 12)
  for _, bad in ipairs { "", "0", "-1", "big", "5XB", 0, -5, 1.5, false } do lu.assertNil(units.size(bad), tostring(bad)) end
end

function TestUnits.test_sizes_of_settings_are_shown_as_they_are_read()
  for text, bytes in pairs { ["40MB"] = 40 << 20, ["3GB"] = 3 << 30, ["1025KB"] = 1025 << 10, ["1000"] = 1000 } do
    lu.assertEquals(units.show_setting(bytes), text)
    lu.assertEquals(units.size(text), bytes)
  end
end

function TestUnits.test_durations_are_shown_for_people()
  for seconds, text in pairs { [0.25] = "0.25s", [12.7] = "12s", [65] = "1m 05s", [3700] = "1h 01m", [90000] = "1d 01h" } do
    lu.assertEquals(units.show_duration(seconds), text)
  end
end

function TestUnits.test_counts_have_commas()
  for n, text in pairs { [0] = "0", [999] = "999", [1000] = "1,000", [1234567] = "1,234,567", [123456] = "123,456" } do
    lu.assertEquals(units.show_count(n), text)
  end
end

function TestUnits.test_bytes_have_three_figures()
  for n, text in pairs { [0] = "0 B", [999] = "999 B", [1000] = "1.00 kB", [12345] = "12.3 kB", [999499] = "999 kB",
    [999500] = "1.00 MB", [5 * 10^9 // 1 | 0] = "5.00 GB", [10^12 // 1 | 0] = "1.00 TB" } do
    lu.assertEquals(units.show_size(n), text)
  end
end

function TestUnits.test_times_taken_are_said_as_people_do()
  for ms, text in pairs { [0] = "0 ms", [12] = "12 ms", [1234] = "1.2 s", [59940] = "59.9 s", [59950] = "1m00s",
    [75000] = "1m15s", [3600000] = "1h00m", [5430000] = "1h30m" } do
    lu.assertEquals(units.show_elapsed(ms), text)
  end
end

os.exit(lu.LuaUnit.run())
