-- needs: fdw
-- A tolerant table reads what a strict one does, and goes on where that one ends.

local fdw = require "tests.support.fdw"
local lu = require "luaunit"

TestFdwReject = {}

-- Text and error of a table's rows up to the first error.
local UP_TO_ERROR = [[CREATE FUNCTION up_to_error(ft regclass, OUT rows text[], OUT error text) LANGUAGE plpgsql AS $$
DECLARE r text;
BEGIN
  rows := '{}';
  FOR r IN EXECUTE format('SELECT t::text FROM %s t', ft) LOOP rows := rows || r; END LOOP;
EXCEPTION WHEN data_exception THEN error := SQLERRM;
END $$]]

local DIALECTS = {
  { format = "csv" },
  { format = "csv", quote = "'", escape = "\\", delimiter = "|" },
  { format = "csv", header = "true", ["null"] = "-" },
  { format = "text" },
  { format = "text", delimiter = "|", ["null"] = "-" },
}
local WORDS = { "a", "b c", "-", "", "\\.", "\\", "\\\\", "é", "\"", "'", "\"\"", ",", "|", "\t", "\n", "\r", "\r\n", "\\n", "\\N" }

local function pick(list) return list[math.random(#list)] end

local function field(d)
  local words = {}
  for i = 1, math.random(0, 3) do words[i] = math.random(4) == 1 and pick(WORDS) or pick { "a", "bc", "é" } end
  local text = table.concat(words)
  if d.format == "text" then
    return (text:gsub("[\\\n\r\t|]", math.random(20) == 1 and "%0" or "\\%0"))
  elseif math.random(3) > 1 then
    local quote, escape = d.quote or "\"", d.escape or d.quote or "\""
    return quote .. text:gsub("[" .. quote .. "\\" .. escape .. "]", function(c)
      return (c == quote or c == escape) and escape .. c or c
    end) .. quote
  end
  return math.random(30) == 1 and text or (text:gsub("[\"'\n\r,|\\]", ""))
end

-- Mostly right, so that errors come late; sometimes a field too many, another line end, any word.
local function object(d)
  local ending, between = pick { "\n", "\n", "\r\n", "\r" }, d.delimiter or (d.format == "csv" and "," or "\t")
  local lines = {}
  for i = 1, math.random(0, 30) do
    local fields = {}
    for k = 1, math.random(25) == 1 and math.random(4) or 3 do fields[k] = field(d) end
    lines[i] = table.concat(fields, between) .. (math.random(60) == 1 and pick(WORDS) or "") ..
      (math.random(50) == 1 and pick { "\n", "\r", "\r\n" } or ending)
  end
  -- COPY ends a line of text at a "\." behind data, too; before it knows that lines end in CRLF it leaves the LF,
  -- and takes that for a line of its own.
  if d.format == "text" and lines[1] and lines[1]:find "\\%.\r\n$" then return "" end
  local text = table.concat(lines)
  return math.random(3) == 1 and text:sub(1, -2) or text
end

-- A strict and a tolerant table of each dialect on reject/.
local function tables(f)
  local strict, tolerant = {}, {}
  for i, d in ipairs(DIALECTS) do
    local list = { dir = "reject/", encoding = "utf8" }
    for k, v in pairs(d) do list[k] = v end
    strict[i] = f:foreign("rds", "a text, b text, c text", list)
    list.parse_errors = "1000"
    tolerant[i] = f:foreign("rds", "a text, b text, c text", list)
  end
  return strict, tolerant
end

local function seed()
  local n = tonumber(os.getenv "TM_SEED") or os.time()
  math.randomseed(n)
  return n
end

function TestFdwReject:test_records_longer_than_what_is_fetched_at_once_are_whole()
  local store <close> = fdw.ossd { name = "reject-long" }
  local f <close> = fdw.open("reject_long", { store = store })
  local where = "seed " .. seed()
  local strict, tolerant = tables(f)
  for i, d in ipairs(DIALECTS) do
    for _, ending in ipairs { "\n", "\r\n", "\r" } do
      local text, between = {}, d.delimiter or (d.format == "csv" and "," or "\t")
      for k = 1, 400 do
        local word = ("x"):rep(math.random(100)) .. (d.format == "csv" and ending or "y") .. "é"
        local long = word:rep(math.random(k % 50 == 0 and 3000 or 50))
        local quote = d.format == "csv" and (d.quote or "\"") or ""
        text[k] = k .. between .. quote .. long .. quote .. between .. "end" .. ending
      end
      f.objects:put("reject/1", table.concat(text))
      f:quiet()
      local read = f:hash(tolerant[i])
      lu.assertEquals(read, f:hash(strict[i]), where)
      lu.assertEquals(read:match "^%d+", d.header and "399" or "400", where)
      lu.assertNil(f:noticed "rejected", where)
    end
  end
end

function TestFdwReject:test_it_agrees_with_copy_up_to_the_first_error()
  local store <close> = fdw.ossd { name = "reject" }
  local f <close> = fdw.open("reject", { store = store })
  local from = seed()
  f.conn:exec(UP_TO_ERROR)
  local strict, tolerant = tables(f)
  local failed = 0
  for round = 1, fdw.FULL and 5000 or 300 do
    local i = math.random(#DIALECTS)
    local bytes = object(DIALECTS[i])
    if bytes ~= "" then
      f.objects:put("reject/1", bytes)
      f:quiet()
      local s = f.conn:one("SELECT rows, error, array_length(rows, 1) AS n FROM up_to_error($1::regclass)", strict[i])
      local t = f.conn:one(("SELECT rows[1:coalesce(array_length($1::text[], 1), 0)] AS rows, error, array_length(rows, 1) AS n " ..
        "FROM up_to_error('%s')"):format(tolerant[i]), s.rows)
      local where = ("seed %d, round %d, dialect %d, %s: %q"):format(from, round, i, tostring(s.error), bytes)
      lu.assertNotEquals(type(t.error), "string", where .. tostring(t.error))
      lu.assertEquals(t.rows, s.rows, where)
      local rejected = f:noticed "rejected related input data"
      if type(s.error) == "string" then
        failed = failed + 1
        lu.assertNotNil(rejected, where)
      else
        lu.assertEquals(t.n, s.n, where)
        lu.assertNil(rejected, where)
      end
    end
  end

  lu.assertTrue(failed > 30, "objects with errors were among them")
end

-- A bad row is met ahead of its turn; what COPY was left in must not reach the next pass.
function TestFdwReject:test_a_rescan_before_a_bad_row_has_its_turn_loses_nothing()
  local store <close> = fdw.ossd { name = "rescan" }
  local f <close> = fdw.open("rescan", { store = store })
  local t = f:foreign("adbpg", "a int, b text", { dir = "rescan/", format = "csv", encoding = "utf8",
    segment_reject_limit = "10" })
  f.objects:put("rescan/1.csv", "1,a\n2,\xff\xfe" .. ("x"):rep(100) .. "\n3,c\n")
  local rows = f.conn:query("SELECT (SELECT b FROM " .. t .. " WHERE a >= i - i LIMIT 1) AS b FROM generate_series(1, 4) i")
  for i = 1, 4 do lu.assertEquals(rows[i].b, "a") end
end

os.exit(lu.LuaUnit.run())
