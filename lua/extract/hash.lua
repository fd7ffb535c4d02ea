--- Compares the rows that an extract has written with those of its source: `verify`.
---
--- The server counts, and for "hash" sums up, the rows of the whole query once more under the same
--- snapshot; what COPY gave is counted and summed on its way to the objects. So a range that was left out or
--- read twice shows, and a query that gives other rows each time it is read. The sum goes into the
--- manifest, for loads to compare with.

local copy = require "tidemill.copy"
local errors = require "tidemill.errors"
local pg = require "pg"
local rowhash = require "tidemill.rowhash"
local stream = require "stream"
local text = require "tidemill.text"

local hash = {}

---@class extract.Hash
---@field kind "count"|"hash"
---@field taps stream.RowHash[]
local Hash = {}
Hash.__index = Hash

--- What compares; nil if the flow does not ask for it.
---@param spec table  the node's fields
---@param format table  of the objects
---@param columns {name: string, type: string}[]  that the server sends
---@return extract.Hash?
function hash.new(spec, format, columns)
  if not spec.verify then return nil end
  local self = setmetatable({ kind = spec.verify, taps = {} }, Hash)
  self.names, self.types = rowhash.columns(columns)
  self.format = copy.codec(format)
  self.format.header = nil -- COPY sends none
  return self
end

local function new_tap(self, by_column)
  local options = { columns = self.names, types = self.types, by_column = by_column }
  for name, value in pairs(self.format) do options[name] = value end
  return stream.rowhash(options)
end

--- A stage for one stream, to stand where the server's bytes are; nil if rows are only counted.
---@return stream.RowHash?
function Hash:tap()
  if self.kind ~= "hash" then return nil end
  local tap = new_tap(self)
  table.insert(self.taps, tap)
  return tap
end

local function values_of(self)
  local values = {}
  for i, name in ipairs(self.names) do values[i] = rowhash.value(pg.quote_ident(name), self.types[i]) end
  return values
end

-- The columns that differ when all is read once more, in the same snapshot.
local function look_closer(self, work, from, sql)
  local conn = work.snap.conn
  local tap <close> = new_tap(self, true)
  local source <close> = conn:copy_out(work.shape:copy(sql))
  local sink <close> = stream.discard()
  stream.pump(source, tap, sink)
  source:close()
  return rowhash.differing(self.names, rowhash.ask(conn, values_of(self), from, true), tap:sums())
end

local VOLATILE = "a query that gives other rows each time it is read, as with random(), clock_timestamp() or "
  .. "LIMIT without ORDER BY, cannot be verified; nor a table to which a partition is attached meanwhile: run it again"

--- Compares, in the snapshot, when all rows are read. Raises kind "integrity".
---@param work extract.Work
---@param read {rows: integer}  rows that COPY gave
---@return table? head  for the manifest: rows, sum (16 hex digits) and the session's time zone; nil for "count"
---@return table report
function Hash:compare(work, read)
  local sql = work.selection:sql(work.selection.whole)
  local from = ("(%s\n) AS q"):format(sql)
  local source = rowhash.ask(work.snap.conn, self.kind == "hash" and values_of(self) or {}, from)
  if source.rows ~= read.rows then
    errors.raise("integrity", ("the source has %s in this snapshot, %d came out of it"):format(
      text.count(source.rows, "row"), read.rows), VOLATILE)
  end
  local report = { kind = self.kind, source = { rows = source.rows }, objects = { rows = read.rows }, equal = true }
  report.text = ("source and objects have the same %s"):format(text.count(source.rows, "row"))
  if self.kind ~= "hash" then return nil, report end
  local sum = 0
  for _, tap in ipairs(self.taps) do sum = sum + tap:sums().sum end
  if sum ~= source.sum then
    local columns = look_closer(self, work, from, sql)
    errors.raise("integrity", #columns > 0 and ("what came out of the source differs from it in %s"):format(
      rowhash.say(columns)) or "what came out of the source differs from it", VOLATILE)
  end
  report.source.sum, report.objects.sum = rowhash.hex(source.sum), rowhash.hex(sum)
  report.text = ("%s, hash %s"):format(report.text, report.source.sum)
  return { rows = source.rows, sum = report.source.sum, timezone = work.snap.conn:parameter "TimeZone" }, report
end

return hash
