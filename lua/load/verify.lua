--- Compares the rows of a load with those of its source: `verify`.
---
---     source (manifest)  =  objects (what was read of them)  =  table (in the transaction, before COMMIT)
---
--- by number, and for "hash" by the sum of lua/rowhash.lua as well. The sum of the objects is made on
--- their way to the server; what did not come that way (the database read it itself, or an attempt
--- before this one loaded it) is read once more for it. In the table it is asked for the rows of this
--- load: all of the table, those of a predicate, those with the keys that were merged, or those that this
--- transaction has made (by xmin). So what a trigger, a rule or a lossy type has changed shows.
---
--- A column of another type than the source's is compared in the source's type where that
--- loses nothing: where a value that is put into the source's type, written and read back is itself.
---
--- When sums differ, a second pass sums each column and the error names those that differ.

local copy = require "tidemill.copy"
local create = require "tidemill.load.create"
local errors = require "tidemill.errors"
local probe = require "tidemill.probe"
local rowhash = require "tidemill.rowhash"
local stream = require "stream"
local text = require "tidemill.text"

local verify = {}

---@class load.Verify
---@field kind "count"|"hash"
---@field rows integer    of the objects that were read
---@field sum integer
---@field seen table<string, boolean>  their keys
---@field aside {rows: integer, sum: integer, unread: integer}  rows that were rejected
---@field source? table    once the objects are compared with it
---@field report? table    once the table is compared
local Verify = {}
Verify.__index = Verify

--- What compares; nil if the flow does not ask for it.
---@param spec table  the node's fields
---@param head table  columns and format of the objects
---@return load.Verify?
function verify.open(spec, head)
  if not spec.verify then return nil end
  local self = setmetatable({ kind = spec.verify, head = head, rows = 0, sum = 0, seen = {},
    aside = { rows = 0, sum = 0, unread = 0 } }, Verify)
  self.names, self.types = rowhash.columns(head.columns)
  return self
end

--- Raises kind "usage" for a load whose rows nobody could tell from others.
---@param target load.Target
---@param spec table  the node's fields
function verify.check(target, spec)
  if spec.mode ~= "append" or target:lockable() then return end
  errors.usage(("verify cannot tell which rows of '%s' are this load's: it is no table"):format(spec.into),
    "load into the table itself, or leave 'verify' out")
end

-- ---- the objects ----

local function new_tap(self, by_column, headless)
  local options = { columns = self.names, types = self.types, by_column = by_column }
  for name, value in pairs(copy.codec(self.head.format)) do options[name] = value end
  if headless then options.header = nil end
  return stream.rowhash(options)
end

--- A stage for the stream of one object, to stand before COPY; nil if rows are only counted.
---@param headless? boolean  the stream has no header line, as a piece of an object
---@return stream.RowHash?
function Verify:tap(headless)
  return self.kind == "hash" and new_tap(self, false, headless) or nil
end

--- Takes an object that was loaded, or a piece of one.
---@param one manifest.Object
---@param rows integer
---@param tap? stream.RowHash  that its rows went through
function Verify:add(one, rows, tap)
  self.seen[one.key] = true
  self.rows = self.rows + rows
  if tap then self.sum = self.sum + tap:sums().sum end
end

--- Takes rows of an object that were set aside.
---@param rows integer
---@param tap? stream.RowHash  that they went through
function Verify:set_aside(rows, tap)
  local aside = self.aside
  aside.rows = aside.rows + rows
  if not tap then return end
  local sums = tap:sums()
  aside.sum, aside.unread = aside.sum + sums.sum, aside.unread + sums.unread
end

local function read_through(work, one, tap)
  local from <close> = work.src:reader(one, work.share)
  local to <close> = stream.discard()
  local unzip <close> = copy.unzip(work.src.head.format)
  if unzip then return stream.pump(from, unzip, tap, to) end
  stream.pump(from, tap, to)
end

-- Objects that did not go through a tap of this attempt.
local function read_others(self, work)
  for one in work.src.manifest:objects() do
    if not self.seen[one.key] then
      local tap <close> = self:tap()
      if tap then read_through(work, one, tap) end
      self:add(one, tap and tap:sums().rows or one.rows, tap)
    end
  end
end

-- ---- the objects against the source ----

local function source_sum(self, m)
  if self.kind == "count" then return nil end
  local sum = type(m.hash) == "table" and rowhash.unhex(m.hash.sum)
  if not sum or type(m.hash.timezone) ~= "string" then
    errors.usage(("manifest '%s' has no hash of its rows"):format(m.id),
      "give the extract verify = \"hash\", or the load verify = \"count\"")
  end
  return sum
end

-- What was read of the objects, good and bad, against the manifest. Rows that nobody can read have no hash.
local function check_objects(self, work)
  if self.source then return end
  local m = work.src.manifest
  local sum, aside = source_sum(self, m), self.aside
  read_others(self, work)
  if self.rows + aside.rows ~= m.rows then
    errors.raise("integrity", ("the objects hold %s, the manifest says %d"):format(
      text.count(self.rows + aside.rows, "row"), m.rows))
  end
  if sum and aside.unread == 0 and self.sum + aside.sum ~= sum then
    errors.raise("integrity", "the objects hold other rows than the source had when they were made",
      "they were altered, or their manifest was; run the extract again")
  end
  self.source = { rows = m.rows, sum = sum and rowhash.hex(sum) }
  self.timezone = sum and m.hash.timezone
end

-- ---- the table ----

local STRINGS = { text = true, ["character varying"] = true }
local INTEGERS = { smallint = true, integer = true, bigint = true }

-- Whether each value of one type is written as the same value of the other is.
local function alike(a, b)
  if a == b then return true end
  local string_a, string_b = a:gsub("%(.*%)$", ""), b:gsub("%(.*%)$", "")
  return STRINGS[string_a] and STRINGS[string_b] or INTEGERS[a] and INTEGERS[b] or false
end

-- A column's value as it was at the source: written in that type if the way there and back, by the
-- text that COPY carried, leaves it as it is.
local function value_of(column)
  local quoted, source, kind = column.quoted, column.source_type, column.kind
  if alike(column.type, source) then return rowhash.value(quoted, kind) end
  if not column.castable then return quoted end
  local cast = ("CAST(%s AS %s)"):format(quoted, source)
  return ("CASE WHEN %s IS NULL THEN NULL WHEN concat(CAST(concat(%s) AS %s)) = concat(%s) THEN %s ELSE concat(%s) END")
    :format(quoted, cast, column.type, quoted, kind == "text" and ("concat(%s)"):format(cast)
      or rowhash.value(cast, kind), quoted)
end

-- Whether the server can cast there and back.
local function can_cast(conn, own, source)
  return (probe(conn, conn.describe,
    ("SELECT CAST(CAST(NULL AS %s) AS %s), CAST('' AS text)::%s"):format(own, source, own)))
end

-- The columns of a relation that the objects' columns went to, and what is to be summed of them.
local function look(self, conn, relation, columns)
  local at, found, wanted, list = {}, {}, {}, {}
  for i, name in ipairs(self.names) do at[name] = i end
  for i, column in ipairs(columns) do
    local number = at[column.source]
    wanted[i], list[i] = self.head.columns[number], column.quoted
    found[i] = { source = column.source, quoted = column.quoted, number = number, kind = self.types[number],
      source_type = wanted[i].type }
  end
  local known = create.types(conn, wanted) -- what becomes SQL has been looked at
  local own = conn:describe(("SELECT %s FROM %s"):format(table.concat(list, ", "), relation))
  for i, column in ipairs(found) do
    column.type = own[i].type
    column.castable = known[i] == column.source_type and not alike(column.type, column.source_type)
      and can_cast(conn, column.type, column.source_type)
    found[i].value = value_of(column)
  end
  return found
end

local function values_of(columns)
  local values = {}
  for i, column in ipairs(columns) do values[i] = column.value end
  return values
end

---@class load.Scope
---@field kind "all"|"where"|"keys"|"new"  all rows; those of a predicate; those with the keys of `winners`;
---those that this transaction has made, outside of savepoints
---@field relation string  as SQL names it
---@field where? string
---@field keys? string[]   quoted
---@field winners? string  the query for the rows that should be there, in the table's columns

-- SQL behind FROM for the rows of this load.
local function rows_of(conn, scope)
  local relation = scope.relation
  if scope.kind == "all" then return relation end
  if scope.kind == "where" then return ("%s WHERE (%s\n)"):format(relation, scope.where) end
  if scope.kind == "keys" then
    local on = {}
    for i, key in ipairs(scope.keys) do on[i] = ("t.%s = w.%s"):format(key, key) end
    return ("%s AS t WHERE EXISTS (SELECT 1 FROM (%s\n) AS w WHERE %s)"):format(relation, scope.winners,
      table.concat(on, " AND "))
  end
  local xid = conn:value "SELECT (txid_current() % 4294967296)::text"
  return ("%s WHERE xmin = '%s'::xid"):format(relation, xid)
end

-- Sums by column of what should be there, in the order of `columns`.
local function expected_by_column(self, work, conn, columns, scope)
  if scope.winners then return rowhash.ask(conn, values_of(columns), ("(%s\n) AS w"):format(scope.winners), true) end
  local tap <close> = new_tap(self, true)
  for one in work.src.manifest:objects() do read_through(work, one, tap) end
  local all, sums = tap:sums(), {}
  for i, column in ipairs(columns) do sums[i] = all.columns[column.number] end
  return { columns = sums }
end

-- Names the columns that differ, with their types where these differ too.
local function explain(self, work, conn, columns, scope)
  local names, by_name, notes = {}, {}, {}
  for i, column in ipairs(columns) do names[i], by_name[column.source] = column.source, column end
  local differing = self.aside.rows == 0 and rowhash.differing(names,
    expected_by_column(self, work, conn, columns, scope),
    rowhash.ask(conn, values_of(columns), rows_of(conn, scope), true)) or {}
  for _, name in ipairs(differing) do
    local one = by_name[name]
    if one.type ~= one.source_type and #notes < 5 then
      notes[#notes + 1] = ("'%s' is %s at the source and %s in the table"):format(name, one.source_type, one.type)
    end
  end
  errors.raise("integrity", #differing > 0 and ("%s holds other values than the objects in %s"):format(scope.relation,
    rowhash.say(differing)) or ("%s holds other rows than the objects"):format(scope.relation),
    #notes > 0 and table.concat(notes, "; ")
      or "a trigger or a rule changes values, or somebody else writes to these rows")
end

-- Timestamps with time zone are written as the source's session did.
local function in_timezone(conn, timezone, body)
  if not timezone then return body() end
  local own = conn:parameter "TimeZone"
  conn:query("SELECT set_config('TimeZone', $1, true)", timezone)
  local result = body()
  conn:query("SELECT set_config('TimeZone', $1, true)", own)
  return result
end

-- The figures of the relation. A value may be none of the source's type any more.
local function ask(conn, values, from, relation)
  local ok, sums = pcall(rowhash.ask, conn, values, from)
  if ok then return sums end
  if errors.is(sums) and (sums.code or ""):find "^22" then
    sums.message = ("%s holds a value that the source's type does not take: %s"):format(relation, sums.message)
  end
  error(sums, 0)
end

-- The proof in a line.
local function told(report)
  local sum = report.table.sum
  local line = ("source, objects and table have the same %s%s"):format(text.count(report.table.rows, "row"),
    sum and ", hash " .. sum or "")
  return report.rejected and ("%s, and %d were rejected"):format(line, report.rejected) or line
end

--- Compares a relation with the objects, and these with the source, inside the transaction that has
--- filled it and when the manifest is known. Raises kind "integrity", naming columns that differ.
---@param work load.Work
---@param conn pg.Conn
---@param columns {source: string, quoted: string}[]  of the relation
---@param scope load.Scope
function Verify:target(work, conn, columns, scope)
  check_objects(self, work)
  local hashed = self.kind == "hash" and (#columns == #self.names or scope.winners ~= nil)
  local found = hashed and look(self, conn, scope.relation, columns) or {}
  in_timezone(conn, hashed and self.timezone, function()
    local values = values_of(found)
    local expected = scope.winners and rowhash.ask(conn, values, ("(%s\n) AS w"):format(scope.winners)) or self
    local actual = ask(conn, values, rows_of(conn, scope), scope.relation)
    if actual.rows ~= expected.rows then
      errors.raise("integrity", ("%s holds %s of this load, %d were loaded"):format(scope.relation,
        text.count(actual.rows, "row"), expected.rows),
        "a trigger or a rule adds or drops rows, or somebody else writes to these rows")
    end
    if hashed and actual.sum ~= expected.sum then explain(self, work, conn, found, scope) end
    self.report = { kind = self.kind, source = self.source, equal = true,
      objects = { rows = self.rows, sum = self.kind == "hash" and rowhash.hex(self.sum) or nil },
      table = { rows = actual.rows, sum = hashed and rowhash.hex(actual.sum) or nil },
      rejected = self.aside.rows > 0 and self.aside.rows or nil }
    self.report.text = told(self.report)
  end)
end

return verify
