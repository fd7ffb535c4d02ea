--- rowhash and drift: the pure parts of verify and on_drift.

local drift = require "tidemill.extract.drift"
local lu = require "luaunit"
local rowhash = require "tidemill.rowhash"

TestRowhash = {}

function TestRowhash.test_sums_wrap_at_64_bits()
  lu.assertEquals(rowhash.wrap "0", 0)
  lu.assertEquals(rowhash.wrap "-1", -1)
  lu.assertEquals(rowhash.wrap "18446744073709551615", -1)
  lu.assertEquals(rowhash.wrap "18446744073709551616", 0)
  lu.assertEquals(rowhash.wrap "-9223372036854775808", math.mininteger)
  lu.assertEquals(rowhash.wrap "36893488147419103239", 7)
end

function TestRowhash.test_hex_keeps_every_bit()
  for _, n in ipairs { 0, 1, -1, math.mininteger, math.maxinteger, 0x123456789abcdef } do
    lu.assertEquals(rowhash.unhex(rowhash.hex(n)), n)
  end
  for _, bad in ipairs { "", "12", "g000000000000000", "00000000000000000", 5 } do lu.assertNil(rowhash.unhex(bad)) end
end

function TestRowhash.test_figures_are_read()
  lu.assertEquals(rowhash.read "3 -5 18446744073709551615 2", { rows = 3, sum = -5, columns = { -1, 2 } })
  lu.assertEquals(rowhash.read "7", { rows = 7 })
  lu.assertEquals(rowhash.read "0 0\n", { rows = 0, sum = 0 })
end

function TestRowhash.test_the_query_sums_rows_and_columns()
  local sum = "coalesce(sum(('x' || substr(md5(%s), 1, 16))::bit(64)::bigint), 0)::text"
  lu.assertEquals(rowhash.query({ "a", "b" }, "t", "UTF8", true),
    ("SELECT array_to_string(ARRAY[count(*)::text, %s, %s, %s], ' ') FROM t"):format(sum:format "ROW(a, b)::text",
      sum:format "ROW(a)::text", sum:format "ROW(b)::text"))
  lu.assertEquals(rowhash.query({}, "t", "UTF8"), "SELECT array_to_string(ARRAY[count(*)::text], ' ') FROM t")
  lu.assertStrContains(rowhash.query({ "a" }, "t", "LATIN1"), "md5(convert_to(ROW(a)::text, 'UTF8'))")
end

function TestRowhash.test_columns_of_floats_go_as_their_bits()
  local names, types = rowhash.columns { { name = "a", type = "real" }, { name = "b", type = "numeric(3,1)" } }
  lu.assertEquals({ names, types }, { { "a", "b" }, { "float4", "text" } })
  lu.assertEquals(rowhash.value('"a"', "float4"),
    [[CASE WHEN "a" = 'NaN'::float4 THEN 'NaN' ELSE encode(float4send("a"), 'hex') END]])
  lu.assertEquals(rowhash.value('"b"', "text"), '"b"')
end

function TestRowhash.test_many_names_are_cut_in_messages()
  lu.assertEquals(rowhash.say { "a" }, "column 'a'")
  lu.assertEquals(rowhash.say { "a", "b", "c", "d", "e", "f", "g" }, "columns 'a', 'b', 'c', 'd', 'e' and 2 more")
end

TestDrift = {}

local function columns(text)
  local list = {}
  for name, type in text:gmatch "(%w+) (%w+)" do list[#list + 1] = { name = name, type = type } end
  return list
end

function TestDrift.test_order_is_no_drift()
  lu.assertNil(drift.compare(columns "a int, b text", columns "b text, a int"))
end

function TestDrift.test_what_came_went_and_changed_is_said_by_name()
  local found = drift.compare(columns "a int, b text, c date", columns "c time, a int, d uuid, e bool")
  lu.assertEquals(drift.say(found), "'d' (uuid), 'e' (bool) are new; 'b' (text) is gone; 'c' is time, was date")
end

os.exit(lu.LuaUnit.run())
