--- The hash of a set of rows, in SQL: the figure that stream.rowhash makes of COPY data.
---
---     SELECT sum(('x' || substr(md5(ROW(a, b)::text), 1, 16))::bit(64)::bigint) FROM t
---
--- modulo 2^64: of each row the text form of ROW(...), of that the first 64 bits of its MD5, and
--- their sum, so the order of rows does not count and several of these can be added up. It needs
--- nothing that PostgreSQL 9.4 and the Greenplum family lack, and scans that run in parallel, or on
--- segments, stay so. Values of real and double precision go as their bits, since servers before
--- PostgreSQL 12 write more digits; those inside arrays and rows go as the server writes them.
---
--- Sums are Lua integers, which wrap as 64 bits do; people and JSON get them as 16 hex digits.

local rowhash = {}

local FLOATS = { ["double precision"] = "float8", real = "float4" }

--- What stream.rowhash wants as `types`: how the values of each column go.
---@param columns {name: string, type: string}[]
---@return string[] names, string[] types
function rowhash.columns(columns)
  local names, kinds = {}, {}
  for i, column in ipairs(columns) do names[i], kinds[i] = column.name, FLOATS[column.type] or "text" end
  return names, kinds
end

--- An expression of this type as it stands in the row.
---@param expression string  SQL that may be evaluated several times
---@param kind string        of `columns`
---@return string
function rowhash.value(expression, kind)
  if kind == "text" then return expression end
  return ("CASE WHEN %s = 'NaN'::%s THEN 'NaN' ELSE encode(%ssend(%s), 'hex') END"):format(expression, kind, kind,
    expression)
end

-- On servers with another encoding the digest is of the text in UTF-8 all the same.
local function sum(values, encoding)
  local row = ("ROW(%s)::text"):format(table.concat(values, ", "))
  if encoding ~= "UTF8" and encoding ~= "SQL_ASCII" then row = ("convert_to(%s, 'UTF8')"):format(row) end
  return ("coalesce(sum(('x' || substr(md5(%s), 1, 16))::bit(64)::bigint), 0)::text"):format(row)
end

--- The query for the figures of some rows, one text: their number, the sum, and with `by_column` a sum
--- for each column. Without values, their number alone.
---@param values string[]    of `value`, in the order of columns
---@param from string        SQL behind FROM
---@param encoding string    of the server
---@param by_column? boolean
---@return string
function rowhash.query(values, from, encoding, by_column)
  local list = { "count(*)::text" }
  if #values > 0 then list[2] = sum(values, encoding) end
  for _, value in ipairs(by_column and values or {}) do list[#list + 1] = sum({ value }, encoding) end
  return ("SELECT array_to_string(ARRAY[%s], ' ') FROM %s"):format(table.concat(list, ", "), from)
end

--- The decimal text of a sum, modulo 2^64.
---@param text string
---@return integer
function rowhash.wrap(text)
  local n = 0
  for digit in text:gmatch "%d" do n = n * 10 + math.tointeger(tonumber(digit)) end
  return text:sub(1, 1) == "-" and -n or n
end

---@class rowhash.Sums
---@field rows integer
---@field sum? integer
---@field columns? integer[]

--- The figures out of the text that `query` gives.
---@param text string
---@return rowhash.Sums
function rowhash.read(text)
  local list = {}
  for number in text:gmatch "%-?%d+" do list[#list + 1] = rowhash.wrap(number) end
  return { rows = list[1], sum = list[2], columns = #list > 2 and table.move(list, 3, #list, 1, {}) or nil }
end

--- Asks for them.
---@param conn pg.Conn
---@param values string[]
---@param from string
---@param by_column? boolean
---@return rowhash.Sums
function rowhash.ask(conn, values, from, by_column)
  return rowhash.read(conn:value(rowhash.query(values, from, conn:parameter "server_encoding", by_column)))
end

--- As people see it, and JSON, whose numbers end at 2^53.
---@param n integer
---@return string
function rowhash.hex(n) return ("%016x"):format(n) end

--- The reverse; nil for anything else.
---@param text any
---@return integer?
function rowhash.unhex(text)
  if type(text) ~= "string" or not text:match "^%x%x%x%x%x%x%x%x%x%x%x%x%x%x%x%x$" then return nil end
  return math.tointeger(tonumber(text:sub(1, 8), 16)) << 32 | math.tointeger(tonumber(text:sub(9), 16))
end

--- The names of the columns whose sums differ.
---@param names string[]
---@param a rowhash.Sums  by column
---@param b rowhash.Sums  by column
---@return string[]
function rowhash.differing(names, a, b)
  local found = {}
  for i, name in ipairs(names) do
    if a.columns[i] ~= b.columns[i] then found[#found + 1] = name end
  end
  return found
end

--- Names for a message: "column 'a'", "columns 'a', 'b' and 3 more".
---@param names string[]
---@return string
function rowhash.say(names)
  local shown = {}
  for i = 1, math.min(#names, 5) do shown[i] = ("'%s'"):format(names[i]) end
  return ("column%s %s%s"):format(#names == 1 and "" or "s", table.concat(shown, ", "),
    #names > #shown and (" and %d more"):format(#names - #shown) or "")
end

return rowhash
