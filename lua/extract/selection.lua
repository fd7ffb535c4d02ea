--- What an extract reads, as SQL: all of it, or one range.
---
--- A table is asked for by its name, with `where`; in ranges of pages by the name of each table that
--- holds its rows, under the columns of the one that is named, for others may have more of them or another
--- order. A query stands as it is written, with its ranges filled in.

local pg = require "pg"
local references = require "tidemill.references"
local relation = require "tidemill.extract.relation"

local selection = {}

---@class extract.Range
---@field leaf? extract.Leaf  a range of pages of this table ...
---@field from? integer       ... from this page
---@field to? integer         ... to the one before this; nil: to the end
---@field key? extract.Key    a range of this key ...
---@field lo? string          ... from this value (its text); nil: from the first
---@field hi? string          ... to below this one; nil: to the last
---@field null? boolean       ... or the rows that have none
---@field filled? boolean     ... or all that have one
---@field number? integer     of an extract that may be resumed: its place among all
---@field span? table         the same as it is told with its objects (lua/extract/resume.lua)
---@field objects? tidemill.Sealed[]  it was read by an earlier attempt, and these hold its rows

---@class extract.Selection
---@field columns {name: string, type: string}[]  what is read
---@field whole extract.Range  everything
---@field picked? boolean     `columns` are fewer than there are (lua/extract/drift.lua)
---@field predicate? string   further condition on the rows (lua/extract/window.lua) ...
---@field window? string      ... and what it means, the same in each snapshot
local Selection = {}
Selection.__index = Selection

--- Makes it, and asks the server for the columns.
---@param snap extract.Snapshot
---@param spec table        the node's fields
---@param key? extract.Key  of a query that has ranges in its text
---@return extract.Selection
function selection.open(snap, spec, key)
  local self = setmetatable({ spec = spec, relation = snap.relation, whole = { key = key }, columns = {} }, Selection)
  for i, column in ipairs(snap.conn:describe(self:sql(self.whole))) do
    self.columns[i] = { name = column.name, type = column.type }
  end
  return self
end

local function list_of(columns)
  local names = {}
  for i, column in ipairs(columns) do names[i] = pg.quote_ident(column.name) end
  return table.concat(names, ", ")
end

local function literal(key, value) return ("%s::%s"):format(pg.quote_literal(value), key.type) end

-- The condition of a key range.
local function condition(range)
  local key = range.key
  if not key then return nil end
  if range.null then return key.expression .. key.is_null end
  if range.filled then return key.expression .. key.not_null end
  local parts = {}
  if range.lo then parts[1] = ("%s >= %s"):format(key.expression, literal(key, range.lo)) end
  if range.hi then parts[#parts + 1] = ("%s < %s"):format(key.expression, literal(key, range.hi)) end
  return #parts > 0 and table.concat(parts, " AND ") or nil
end

-- What ${range}, ${lo} and ${hi} become. Comparisons with an open end hold: nothing is to be compared.
local function values_of(range)
  local open = ("ALL ('{}'::%s[])"):format(range.key.type)
  return {
    range = ("(%s)"):format(condition(range) or "TRUE"),
    lo = range.lo and literal(range.key, range.lo) or open,
    hi = range.hi and literal(range.key, range.hi) or open,
  }
end

-- The author's text, without a final semicolon; a comment at its end must not swallow what follows.
local function bare(text) return (text:gsub("[%s;]+$", "")) end

local function query_sql(self, range)
  local text = self.spec.query
  if self.spec.template then
    local values = values_of(range)
    text = references.render(self.spec.template[1], function(name) return values[name] end)
  end
  text = bare(text)
  if not self.picked and not self.predicate then return text end
  return ("SELECT %s FROM (%s\n) AS q%s"):format(self.picked and list_of(self.columns) or "*", text,
    self.predicate and " WHERE " .. self.predicate or "")
end

local function table_sql(self, range)
  local from, parts = self.spec.table, {}
  if range.leaf then
    from = range.leaf.itself and "ONLY " .. from
      or ("ONLY %s AS %s"):format(relation.quoted(range.leaf), pg.quote_ident(self.relation.name))
    parts[1] = ("ctid >= '(%d,0)'"):format(range.from)
    if range.to then parts[2] = ("ctid < '(%d,0)'"):format(range.to) end
  end
  parts[#parts + 1] = condition(range)
  if self.predicate then parts[#parts + 1] = ("(%s)"):format(self.predicate) end
  if self.spec.where then parts[#parts + 1] = ("(%s\n)"):format(self.spec.where) end
  return ("SELECT %s FROM %s%s"):format((self.picked or range.leaf) and list_of(self.columns) or "*", from,
    #parts > 0 and " WHERE " .. table.concat(parts, " AND ") or "")
end

--- The SELECT of a range.
---@param range extract.Range
---@return string
function Selection:sql(range)
  if self.spec.table then return table_sql(self, range) end
  return query_sql(self, range)
end

selection.Selection = Selection -- for tests

return selection
