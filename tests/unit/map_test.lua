-- stream.map: a Lua function over the rows of a stream.
local lu = require "luaunit"
local json = require "json"
local stream = require "stream"
local zip = require "zip"

local null = json.null

local function run(fn, opts, bytes, before)
  local sink <close> = stream.collect()
  local source, stage = stream.bytes(bytes), stream.map(fn, opts)
  local stats = before and stream.pump(source, before, stage, sink)
    or stream.pump(source, stage, sink)
  return stream.collected(sink), stats
end

local function same(row)
  return row
end

local abc = { columns = { "a", "b", "c" } }

TestRow = {}

function TestRow.test_fields_by_name_and_position()
  local seen = {}
  run(function(row)
    seen[#seen + 1] = { row.a, row[2], row.c, #row, row[4] }
    return row
  end, abc, '1,"x,y",\n2,"",z\n')
  lu.assertEquals(seen, { { "1", "x,y", null, 3 }, { "2", "", "z", 3 } })
end

function TestRow.test_an_unchanged_row_keeps_its_bytes()
  local bytes = 'a,"b",\n"1",2,"3\n"\n'
  lu.assertEquals(run(same, abc, bytes), bytes)
end

function TestRow.test_a_last_row_without_newline_gets_one()
  lu.assertEquals(run(same, abc, "1,2,3"), "1,2,3\n")
end

function TestRow.test_nil_drops_the_row()
  local out, stats = run(function(row)
    if row.a ~= "2" then return row end
  end, abc, "1,,\n2,,\n3,,\n")
  lu.assertEquals(out, "1,,\n3,,\n")
  lu.assertEquals(stats.rows_out, 2)
end

function TestRow.test_assigned_values()
  local out = run(function(row)
    row.a = row.a + 1
    row[2] = "x,y"
    row.c = true
    return row
  end, abc, "1,b,c\n2,b,\n")
  lu.assertEquals(out, '2,"x,y",t\n3,"x,y",t\n')
end

function TestRow.test_null_and_numbers_are_written_exactly()
  local values = { null, "", 0.1, 1e300, 3.0, math.maxinteger, -0.5, 1 / 3, math.huge }
  local i = 0
  local out = run(function(row)
    i = i + 1
    row.a = values[i]
    return row
  end, { columns = { "a" } }, ("x\n"):rep(#values))
  lu.assertEquals(out, '\n""\n0.1\n1e+300\n3\n9223372036854775807\n-0.5\n' ..
    "0.3333333333333333\nInfinity\n")
end

function TestRow.test_a_table_replaces_the_row()
  local i = 0
  local out = run(function(row)
    i = i + 1
    if i == 1 then return { 1, null, "z" } end
    if i == 2 then return { c = 3, a = false } end
    local copy = row:copy()
    copy.b = "new"
    return copy
  end, abc, "1,2,3\n1,2,3\n1,2,3\n")
  lu.assertEquals(out, "1,,z\nf,,3\n1,new,3\n")
end

function TestRow.test_pairs_go_in_order()
  local seen = {}
  run(function(row)
    for name, value in pairs(row) do
      seen[#seen + 1] = name .. "=" .. tostring(value)
    end
    row.b = 9
    for _, value in ipairs(row) do
      seen[#seen + 1] = value
    end
  end, abc, "1,2,3\n")
  lu.assertEquals(seen, { "a=1", "b=2", "c=3", "1", "9", "3" })
end

function TestRow.test_a_column_that_is_not_there_raises()
  for _, f in ipairs {
    function(row) return row.d end,
    function(row) row.d = 1 end,
    function() return { d = 1 } end,
  } do
    lu.assertErrorMsgContains("no column 'd'", run, f, abc, "1,2,3\n")
  end
  lu.assertErrorMsgContains("a row of 3 columns has no position 4", run, function()
    return { 1, 2, 3, 4 }
  end, abc, "1,2,3\n")
end

function TestRow.test_long_names_are_found()
  local long = ("n"):rep(60)
  lu.assertEquals(run(function(row)
    row[long] = row[long] .. "!"
    return row
  end, { columns = { "a", long } }, "1,2\n"), "1,2!\n")
end

function TestRow.test_a_row_that_outlives_its_call_says_so()
  local kept
  run(function(row) kept = row end, abc, "1,2,3\n")
  lu.assertErrorMsgContains("used after its function returned", function() return kept.a end)
  collectgarbage()
  lu.assertErrorMsgContains("used after its function returned", function() return kept.a end)
end

TestFormats = {}

function TestFormats.test_from_csv_to_text()
  local out = run(same, {
    columns = { "a", "b" }, input = { delimiter = "|", null = "NULL" }, output = { format = "text" },
  }, '"x\ty"|NULL\n|"NULL"\n')
  lu.assertEquals(out, "x\\ty\t\\N\n\tNULL\n")
end

function TestFormats.test_headers_name_the_columns()
  local out = run(function(row)
    row.qty = row.qty * 2
    return row
  end, { input = { header = true }, output = { header = true, delimiter = ";" } },
    "id,qty\n1,10\n2,20\n")
  lu.assertEquals(out, "id;qty\n1;20\n2;40\n")
end

function TestFormats.test_a_header_is_written_without_rows()
  lu.assertEquals(run(same, { columns = { "a", "b" }, output = { header = true } }, ""), "a,b\n")
end

function TestFormats.test_output_columns_are_chosen_by_name()
  local opts = { columns = { "a", "b", "c" }, output_columns = { "c", "new", "a" } }
  lu.assertEquals(run(function(row)
    row.new = row.b .. "!"
    return row
  end, opts, "1,2,3\n4,5,6\n"), "3,2!,1\n6,5!,4\n")
  lu.assertEquals(run(function() return { "x", "y", "z" } end, opts, "1,2,3\n"), "x,y,z\n")
  lu.assertEquals(run(function() return { new = "y" } end, opts, "1,2,3\n"), ",y,\n")
end

function TestFormats.test_crlf_becomes_lf()
  lu.assertEquals(run(same, abc, "1,2,3\r\n4,5,6\r\n"), "1,2,3\n4,5,6\n")
end

function TestFormats.test_rows_split_over_slabs_are_whole()
  local rows = {}
  for i = 1, 50000 do
    rows[i] = ('%d,"row\n%d",%s'):format(i, i, i % 3 == 0 and "" or "x")
  end
  local bytes = table.concat(rows, "\n") .. "\n"
  local n = 0
  local out, stats = run(function(row)
    n = n + 1
    assert(row.a == tostring(n) and row.b == "row\n" .. n)
    return row
  end, abc, zip.compress(bytes, "gzip"), zip.gunzip())
  lu.assertTrue(out == bytes)
  lu.assertEquals(stats.rows_out, 50000)
end

TestErrors = {}

function TestErrors.test_an_error_names_row_and_line()
  local ok, err = pcall(run, function(row)
    row.b = row.b + 1
    return row
  end, abc, "1,2,3\n1,x,3\n")
  lu.assertFalse(ok)
  lu.assertEquals(err.kind, "data")
  lu.assertStrMatches(err.message, "map: row 2: .*map_test.lua:%d+: .*")
end

function TestErrors.test_an_error_table_keeps_its_kind()
  local new = require("tidemill.error").new
  local ok, err = pcall(run, function()
    error(new { kind = "conflict", message = "mine" })
  end, abc, "1,2,3\n")
  lu.assertFalse(ok)
  lu.assertEquals(err.kind, "conflict")
  lu.assertStrMatches(err.message, "map: row 1: .*map_test.lua:%d+: mine")
end

function TestErrors.test_a_bad_record_names_line_and_column()
  local ok, err = pcall(run, same, abc, '1,2,3\n1,"2"x,3\n')
  lu.assertFalse(ok)
  lu.assertEquals(err.kind, "data")
  lu.assertEquals(err.message, "line 2, column 2 (b), byte 6: a quoted field goes on after its " ..
    'closing quote: "1,"2"x,3"')
end

function TestErrors.test_bad_records_go_to_a_function_or_a_sink()
  local bad = {}
  local opts = { columns = { "a", "b", "c" }, reject = function(bytes, err)
    bad[#bad + 1] = { bytes, err.kind }
  end }
  lu.assertEquals(run(same, opts, "1,2,3\n4\n5,6,7\n"), "1,2,3\n5,6,7\n")
  lu.assertEquals(bad, { { "4\n", "data" } })
  local rejects <close> = stream.collect()
  opts.reject = rejects
  lu.assertEquals(run(same, opts, '1,2,3\nx"y\n5,6,7\n'), "1,2,3\n5,6,7\n")
  lu.assertEquals(stream.collected(rejects), 'x"y\n')
end

function TestErrors.test_an_error_of_the_reject_function_stops()
  lu.assertErrorMsgContains("enough", run, same,
    { columns = { "a", "b" }, reject = function() error "enough" end }, "1\n")
end

function TestErrors.test_results_of_other_types_are_refused()
  local a_text = load('\nreturn function()\n  return "x"\nend', "@f.lua")()
  lu.assertErrorMsgContains("row 1: f.lua:2: the map's function returned a string", run, a_text, abc, "1,2,3\n")
  local too_many = load('return function() return { 1, 2, 3, 4 } end', "@f.lua")()
  lu.assertErrorMsgContains("row 1: f.lua:1: a row of 3 columns has no position 4", run, too_many, abc, "1,2,3\n")
  lu.assertErrorMsgContains("a value is a string", run, function(row)
    row.a = print
  end, abc, "1,2,3\n")
  lu.assertErrorMsgContains("not valid UTF-8", run, function(row)
    row.a = "\xff"
  end, abc, "1,2,3\n")
end

function TestErrors.test_options_are_checked()
  lu.assertErrorMsgContains("no option 'colums'", stream.map, same, { colums = {} })
  lu.assertErrorMsgContains("no option 'delim'", stream.map, same, { input = { delim = "|" } })
  lu.assertErrorMsgContains("COPY delimiter must be", stream.map, same,
    { input = { delimiter = "||" } })
  lu.assertErrorMsgContains("'a' stands there twice", stream.map, same, { columns = { "a", "a" } })
end

function TestErrors.test_a_map_is_used_once()
  local stage = stream.map(same, abc)
  local sink <close> = stream.discard()
  stream.pump(stream.bytes("1,2,3\n"), stage, sink)
  lu.assertErrorMsgContains("used before", stream.pump, stream.bytes("1,2,3\n"), stage, sink)
end

os.exit(lu.LuaUnit.run())
