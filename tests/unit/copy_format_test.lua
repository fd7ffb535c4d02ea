-- needs: pg
-- The formats csv and text against a real PostgreSQL: what COPY TO writes we read, what we write
-- COPY FROM reads, and the bytes are the same in both directions.
local lu = require "luaunit"
local csv = require "csv"
local pg = require "pg"
local stream = require "stream"

local null = csv.null

local nasty = {
  "plain", "", null, " ", " lead", "trail ", ",", "|", ";", "\t", '"', '""', "'", "''", "\\", "\\\\",
  "\\.", "\\N", "NULL", "null", '"quoted"', 'a"b', "a'b", "a,b", "a|b", "a\tb", "a\nb", "\n", "\r",
  "\r\n", "a\r\nb", "\\n", "\\\n", "a\\", "\\,", '\\"', "é", "中文", "🌙", "\b\f\v\1\127", "x\\x41",
  "\\101", "ends with quote\"", "-", "~", "\u{feff}bom", "\\.\n\\.",
}

local options = {
  {}, { delimiter = "|" }, { delimiter = ";", null = "NULL" }, { delimiter = "\t" },
  { quote = "'" }, { escape = "\\" }, { quote = "'", escape = "\\", delimiter = "|" },
  { null = "\\N" }, { null = "-" }, { force_quote = true }, { header = true },
  { quote = "~", null = "null", header = true }, { escape = "'" },
  { format = "text" }, { format = "text", delimiter = "|" }, { format = "text", null = "@nil@" },
  { format = "text", delimiter = ",", null = "@" },
}

local columns = { "id", "v", "w" }

local function copy_options(o)
  local list = { "FORMAT " .. (o.format or "csv") }
  for _, name in ipairs { "delimiter", "quote", "escape", "null" } do
    if o[name] then
      list[#list + 1] = ("%s %s"):format(name, pg.quote_literal(o[name]))
    end
  end
  if o.header then list[#list + 1] = "HEADER" end
  if o.force_quote then list[#list + 1] = "FORCE_QUOTE *" end
  return "(" .. table.concat(list, ", ") .. ")"
end

local conn

TestCopy = {}

function TestCopy:setUp()
  conn = pg.connect(assert(os.getenv "TM_PG"))
  conn:exec "CREATE TEMP TABLE nasty (id int, v text, w text)"
  for i, value in ipairs(nasty) do
    conn:query("INSERT INTO nasty VALUES ($1, $2, $3)", i, value, nasty[#nasty + 1 - i])
  end
  self.rows = {}
  for i, value in ipairs(nasty) do
    self.rows[i] = { id = tostring(i), v = value, w = nasty[#nasty + 1 - i] }
  end
end

function TestCopy.tearDown()
  conn:close()
end

local function copied(sql)
  local source <close> = conn:copy_out(sql)
  local sink <close> = stream.collect()
  stream.pump(source, sink)
  return stream.collected(sink)
end

local function with_columns(o)
  local opts = { columns = columns }
  for name, value in pairs(o) do
    opts[name] = value
  end
  return opts
end

function TestCopy:test_what_copy_writes_is_read()
  for _, o in ipairs(options) do
    local bytes = copied("COPY (SELECT * FROM nasty ORDER BY id) TO STDOUT " .. copy_options(o))
    local rows = {}
    for row in csv.parse(bytes, with_columns(o)) do
      rows[#rows + 1] = row
    end
    lu.assertEquals(rows, self.rows, copy_options(o))
  end
end

function TestCopy:test_we_write_the_same_bytes()
  for _, o in ipairs(options) do
    local theirs = copied("COPY (SELECT * FROM nasty ORDER BY id) TO STDOUT " .. copy_options(o))
    local opts = with_columns(o)
    lu.assertEquals(csv.format(self.rows, opts), theirs, copy_options(o))
  end
end

function TestCopy.test_a_single_column_is_written_the_same()
  for _, o in ipairs(options) do
    local theirs = copied("COPY (SELECT v FROM nasty ORDER BY id) TO STDOUT " .. copy_options(o))
    local opts = with_columns(o)
    opts.columns = { "v" }
    local rows = {}
    for i, value in ipairs(nasty) do
      rows[i] = { v = value }
    end
    lu.assertEquals(csv.format(rows, opts), theirs, copy_options(o))
    local back = {}
    for row in csv.parse(theirs, opts) do
      back[#back + 1] = row
    end
    lu.assertEquals(back, rows, copy_options(o))
  end
end

function TestCopy:test_what_we_write_copy_reads()
  conn:exec "CREATE TEMP TABLE back (id int, v text, w text)"
  for _, o in ipairs(options) do
    conn:exec "TRUNCATE back"
    local bytes = csv.format(self.rows, with_columns(o))
    local sink <close> = conn:copy_in("COPY back FROM STDIN " .. copy_options(o):gsub(", FORCE_QUOTE %*", ""))
    stream.pump(stream.bytes(bytes), sink)
    lu.assertEquals(conn:value [[SELECT count(*) FROM nasty n JOIN back b USING (id)
      WHERE n.v IS NOT DISTINCT FROM b.v AND n.w IS NOT DISTINCT FROM b.w]], #nasty, copy_options(o))
  end
end

function TestCopy:test_a_map_from_copy_to_copy()
  conn:exec "CREATE TEMP TABLE mapped (id int, v text, w text)"
  local other <close> = pg.connect(os.getenv "TM_PG")
  other:exec "CREATE TEMP TABLE source (id int, v text, w text)"
  local fill <close> = other:copy_in "COPY source FROM STDIN (FORMAT csv)"
  stream.pump(stream.bytes(csv.format(self.rows, { columns = columns })), fill)
  local source <close> = other:copy_out "COPY source TO STDOUT (FORMAT csv)"
  local sink <close> = conn:copy_in "COPY mapped FROM STDIN"
  stream.pump(source, stream.map(function(row)
    row.id = row.id + 1000
    return row
  end, { columns = columns, input = { format = "csv" }, output = { format = "text" } }), sink)
  lu.assertEquals(conn:value [[SELECT count(*) FROM nasty n JOIN mapped b ON b.id = n.id + 1000
    WHERE n.v IS NOT DISTINCT FROM b.v AND n.w IS NOT DISTINCT FROM b.w]], #nasty)
end

os.exit(lu.LuaUnit.run())
