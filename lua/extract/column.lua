--- The column of a watermark: its type, the highest value, and how far below it an increment looks.
---
--- Values are texts, as the server writes them, and go back to it as literals of their type.

local errors = require "tidemill.errors"
local identifiers = require "tidemill.identifiers"
local pg = require "pg"
local probe = require "tidemill.probe"
local suggest = require "tidemill.suggest"

local column = {}

local DAY = 86400
local SLACK = DAY -- below the start of the oldest transaction, for clocks and time zones of clients

-- How a type counts: as time, as numbers, or not at all.
local KINDS = { ["timestamp with time zone"] = "time", ["timestamp without time zone"] = "time", date = "time",
  smallint = "number", integer = "number", bigint = "number", numeric = "number", real = "number",
  ["double precision"] = "number" }

---@class extract.Column
---@field sql string       as the flow writes it
---@field type string      without what it is limited to: "numeric"
---@field kind "time"|"number"|"other"
---@field nullable boolean
---@field indexed boolean  an index begins with it
local Column = {}
Column.__index = Column

local function make(name, full_type, more)
  local type_name = full_type:gsub("%(.-%)", "")
  local self = setmetatable({ sql = name, type = type_name, kind = KINDS[type_name] or "other" }, Column)
  for key, value in pairs(more) do self[key] = value end
  return self
end

local function unknown(conn, one, name)
  local names = {}
  for i, row in ipairs(conn:query("SELECT attname::text AS name FROM pg_attribute WHERE attrelid = $1::oid AND "
      .. "attnum > 0 AND NOT attisdropped ORDER BY attnum", one.oid)) do
    names[i] = row.name
  end
  errors.usage(("the watermark's column '%s' is not in %s.%s"):format(name, one.schema, one.name),
    suggest.hint(identifiers.meaning(name), names, "columns"))
end

--- The column of a table. Raises usage if it has no such column.
---@param conn pg.Conn
---@param one extract.Relation
---@param name string  as SQL writes it
---@return extract.Column
function column.of_table(conn, one, name)
  local row = conn:one([[
    SELECT format_type(a.atttypid, a.atttypmod) AS type, NOT a.attnotnull AS nullable,
      EXISTS (SELECT FROM pg_index i JOIN pg_class x ON x.oid = i.indexrelid JOIN pg_am m ON m.oid = x.relam
        WHERE i.indrelid = a.attrelid AND i.indkey[0] = a.attnum AND i.indisvalid AND i.indpred IS NULL
          AND m.amname = 'btree') AS indexed
    FROM pg_attribute a WHERE a.attrelid = $1::oid AND a.attname = $2 AND a.attnum > 0 AND NOT a.attisdropped]],
    one.oid, identifiers.meaning(name))
  if not row then unknown(conn, one, name) end
  return make(name, row.type, { nullable = row.nullable, indexed = row.indexed })
end

--- The column of a query.
---@param described {name: string, type: string}[]
---@param name string
---@return extract.Column
function column.of_query(described, name)
  for _, one in ipairs(described) do
    if one.name == identifiers.meaning(name) then return make(name, one.type, { nullable = true, indexed = false }) end
  end
  errors.usage(("the query has no column '%s' for the watermark"):format(name), "select it, or name one of its columns")
end

local WIDE = { smallint = "bigint", integer = "bigint", real = "double precision" }

--- A value as SQL.
---@param value string
---@return string
function Column:literal(value) return ("%s::%s"):format(pg.quote_literal(value), WIDE[self.type] or self.type) end

--- Raises usage for a text that is no value of the type; `from` says where it stands.
---@param conn pg.Conn
---@param value string
---@param from string
---@param hint? string
function Column:check(conn, value, from, hint)
  if probe(conn, conn.value, "SELECT " .. self:literal(value)) then return end
  errors.usage(("%s is '%s', which is no %s, as '%s' is"):format(from, value, self.type, self.sql), hint)
end

--- The highest value of what stands behind FROM; nil if there is none. What is not a number is not counted.
---@param conn pg.Conn
---@param from string  "schema.table", or "(query) AS q WHERE ..."
---@param is_condition? boolean  `from` ends in a condition
---@return string?
function Column:highest(conn, from, is_condition)
  local more = (self.type == "numeric" or self.type == "real" or self.type == "double precision")
    and (" AND %s <> 'NaN'"):format(self.sql) or ""
  local row = conn:one(("SELECT %s::text AS high FROM %s %s %s IS NOT NULL%s ORDER BY %s DESC LIMIT 1"):format(self.sql,
    from, is_condition and "AND" or "WHERE", self.sql, more, self.sql))
  return row and row.high
end

-- Seconds or numbers of an overlap, for this column.
local function amount(self, overlap)
  if not overlap then return self.kind == "time" and SLACK or nil end
  if self.kind == "other" then
    errors.usage(("the watermark has an overlap, and its column '%s' is of type %s"):format(self.sql, self.type),
      "an overlap goes with times and numbers")
  elseif self.kind == "number" and overlap.seconds then
    errors.usage(("the watermark's overlap is a time, and its column '%s' is of type %s"):format(self.sql, self.type),
      "give a number")
  end
  return overlap.seconds or overlap.number
end

-- The start of the oldest transaction, as a value of the type: times without a zone may be of any.
local OLDEST = { ["timestamp with time zone"] = "%s::timestamptz",
  ["timestamp without time zone"] = "(%s::timestamptz AT TIME ZONE 'UTC') - interval '12 hours'",
  date = "((%s::timestamptz AT TIME ZONE 'UTC') - interval '12 hours')::date" }

--- Whether an increment can have a lower bound at all.
---@param overlap? table
---@return boolean
function Column:has_bound(overlap) return amount(self, overlap) ~= nil end

--- The value from which on an increment looks for rows, given the highest one before and, of a time, the
--- start of the oldest transaction that was open then; nil: there is none.
---@param conn pg.Conn
---@param low string
---@param oldest? string
---@param overlap? table
---@return string?
function Column:bound(conn, low, oldest, overlap)
  local back = amount(self, overlap)
  if not back or self.kind == "time" and not oldest then return nil end
  if self.kind == "number" then
    local less = ("%s::numeric - %s"):format(pg.quote_literal(low), back)
    if (WIDE[self.type] or self.type) == "bigint" then
      less = ("greatest(floor(%s), %d)"):format(less, math.mininteger)
    end
    return conn:value(("SELECT (%s)::text"):format(less))
  end
  local start = ("least(%s, %s)"):format(self:literal(low), OLDEST[self.type]:format(pg.quote_literal(oldest)))
  if self.type == "date" then return conn:value(("SELECT (%s - %d)::text"):format(start, math.ceil(back / DAY))) end
  return conn:value(("SELECT (%s - %s * interval '1 second')::text"):format(start, back))
end

--- The value that lies so far below another one, whatever transactions there are.
---@param conn pg.Conn
---@param low string
---@param overlap table
---@return string
function Column:below(conn, low, overlap) return self:bound(conn, low, self.kind == "time" and "infinity", overlap) end

return column
