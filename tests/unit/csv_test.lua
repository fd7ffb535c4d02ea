-- The module "csv": rows as tables.
local lu = require "luaunit"
local csv = require "csv"
local stream = require "stream"

local null = csv.null

local function parse(input, opts)
  local rows = {}
  for row in csv.parse(input, opts) do
    rows[#rows + 1] = row
  end
  return rows
end

TestParse = {}

function TestParse.test_rows_without_names_are_arrays()
  lu.assertEquals(parse('1,"a ""b""",\n2,"",x\n'), { { "1", 'a "b"', null }, { "2", "", "x" } })
end

function TestParse.test_a_header_names_the_fields()
  lu.assertEquals(parse("id;name\n1;x\n", { header = true, delimiter = ";" }),
    { { id = "1", name = "x" } })
end

function TestParse.test_a_header_with_a_name_twice_is_refused()
  lu.assertErrorMsgContains("header: 'a' stands there twice", parse, "a,a\n1,2\n", { header = true })
end

function TestParse.test_given_names()
  lu.assertEquals(parse("1,x\n", { columns = { "id", "name" } }), { { id = "1", name = "x" } })
end

function TestParse.test_null_is_the_one_of_json_and_pg()
  lu.assertTrue(null == require("json").null)
  lu.assertTrue(null == require("pg").null)
end

function TestParse.test_the_text_format()
  lu.assertEquals(parse("a\\tb\t\\N\n", { format = "text" }), { { "a\tb", null } })
end

function TestParse.test_a_source_is_read_to_its_end()
  local source <close> = stream.bytes(("1,2\n"):rep(1000))
  lu.assertEquals(#parse(source), 1000)
end

function TestParse.test_a_closed_reader_says_so()
  local reader = csv.parse("1\n2\n")
  do
    local closed <close> = reader
    lu.assertEquals(closed(), { "1" })
  end
  reader:close()
  lu.assertErrorMsgContains("the reader is closed", reader)
end

function TestParse.test_a_bad_record_raises_with_its_place()
  local ok, err = pcall(parse, 'a,b\n1,"x"y\n', { header = true })
  lu.assertFalse(ok)
  lu.assertEquals(err.kind, "data")
  lu.assertEquals(err.message, "line 2, column 2 (b), byte 6: a quoted field goes on after its " ..
    'closing quote: "1,"x"y"')
end

function TestParse.test_bad_records_can_be_rejected()
  local bad = {}
  local reader = csv.parse('1,2\n3\n"4\n', {
    columns = { "a", "b" }, reject = function(bytes, err) bad[#bad + 1] = { bytes, err.message } end,
  })
  lu.assertEquals(reader(), { a = "1", b = "2" })
  lu.assertNil(reader())
  lu.assertEquals(reader:rejected(), 2)
  lu.assertEquals(bad, {
    { "3\n", 'line 2, column 2 (b), byte 2: missing data for column "b": "3"' },
    { '"4\n', 'line 3, column 1 (a), byte 1: unterminated CSV quoted field: ""4\\x0a"' },
  })
end

function TestParse.test_encodings()
  lu.assertEquals(parse("\xd6\xd0\n", { encoding = "gbk" }), { { "中" } })
  lu.assertErrorMsgContains('invalid byte sequence for encoding "UTF8": 0xd6', parse, "\xd6\xd0\n")
  lu.assertEquals(parse("\xd6\xd0\n", { encoding = "sql_ascii" }), { { "\xd6\xd0" } })
end

function TestParse.test_options_are_checked()
  lu.assertErrorMsgContains("COPY quote must be a single one-byte character", csv.parse, "",
    { quote = "''" })
  lu.assertErrorMsgContains("no option 'delimeter'", csv.parse, "", { delimeter = ";" })
  lu.assertErrorMsgContains("cannot convert from encoding klingon", csv.parse, "",
    { encoding = "klingon" })
end

TestFormat = {}

function TestFormat.test_rows_by_position_and_by_name()
  lu.assertEquals(csv.format({ { 1, "a,b", null }, { 2, "", true } }), '1,"a,b",\n2,"",t\n')
  lu.assertEquals(csv.format({ { name = "x", id = 1 }, { 2 } },
    { columns = { "id", "name" }, header = true }), "id,name\n1,x\n2,\n")
end

function TestFormat.test_what_is_written_is_read_again()
  local rows = {
    { "plain", "with,comma", 'with "quote"' }, { "line\nbreak", "cr\rhere", "\\." },
    { null, "", " blank " }, { "\\", "é中🌙", "NULL" },
  }
  for _, opts in ipairs {
    {}, { delimiter = "|" }, { null = "NULL" }, { escape = "\\" }, { newline = "crlf" },
    { quote = "'", force_quote = true }, { format = "text" }, { format = "text", null = "-" },
    { encoding = "gb18030" },
  } do
    lu.assertEquals(parse(csv.format(rows, opts), opts), rows)
  end
end

function TestFormat.test_from_a_reader()
  lu.assertEquals(csv.format((csv.parse("1,2\n3,4\n")), { delimiter = "|" }), "1|2\n3|4\n")
end

function TestFormat.test_a_writer_fills_a_sink()
  local sink <close> = stream.collect()
  local writer <close> = csv.writer(sink, { columns = { "a", "b" }, header = true })
  writer:write { a = 1, b = "x" }:write { 2, "y" }
  writer:finish()
  lu.assertEquals(stream.collected(sink), "a,b\n1,x\n2,y\n")
  lu.assertErrorMsgContains("the writer is closed", writer.write, writer, { 1, 2 })
end

function TestFormat.test_bad_rows_are_refused()
  lu.assertErrorMsgContains("no column 'c'", csv.format, { { c = 1 } }, { columns = { "a" } })
  lu.assertErrorMsgContains("table expected", csv.format, { 1 })
  lu.assertErrorMsgContains("a header needs", csv.format, {}, { header = true })
  lu.assertErrorMsgContains("unconvertible character for encoding latin1", csv.format, { { "中" } },
    { encoding = "latin1" })
end

os.exit(lu.LuaUnit.run())
