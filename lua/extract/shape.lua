--- What the objects of an extract look like: format, columns, header lines, names.

local copy = require "tidemill.copy"
local errors = require "tidemill.errors"
local hash = require "tidemill.extract.hash"
local names = require "tidemill.manifest.names"
local stream = require "stream"
local zip = require "zip"

local shape = {}

local SUFFIX = { none = "", gzip = ".gz", zstd = ".zst" }
local EXTENSION = { csv = ".csv", text = ".txt" }

-- An object is what a load takes at once and what is repeated after a failure: so there are several as
-- soon as it is worth it, and not more than a store and a ledger like.
local LEAST_OBJECT, MOST_OBJECT, QUERY_OBJECT, OBJECTS_A_JOB = 8 << 20, 64 << 20, 32 << 20, 16
local FIRST_OBJECT = 2 << 20 -- where a load waits for it
local STORED = { none = 1, gzip = 0.3, zstd = 0.3 } -- of the raw bytes, about

---@class extract.Shape
---@field format table     as it stands in the manifest
---@field columns {name: string, type: string}[]  of the objects
---@field read string[]    names of the columns that the server sends
---@field suffix string    of the objects' names
---@field options string   of COPY
---@field preamble? string at the start of each object
---@field preamble_raw? integer
---@field followed? boolean  a load waits for the first objects
---@field hash? extract.Hash  what compares the rows with the source
local Shape = {}
Shape.__index = Shape

-- What the objects hold: the query's columns, or those the flow says its map makes.
local function columns_out(spec, columns)
  if not spec.columns then return columns end
  local types, out = {}, {}
  for _, column in ipairs(columns) do types[column.name] = column.type end
  for i, name in ipairs(spec.columns) do out[i] = { name = name, type = types[name] or "text" } end
  return out
end

-- A load puts columns by name, so every name stands once, and every one is a name.
local function check_names(columns)
  local seen = {}
  for i, column in ipairs(columns) do
    if seen[column.name] then
      errors.raise("sql", ("columns %d and %d of the query are both named '%s'"):format(seen[column.name], i,
        column.name), "name them apart: SELECT expression AS name")
    end
    seen[column.name] = i
  end
end

local function titles_of(columns)
  local titles = {}
  for i, column in ipairs(columns) do titles[i] = column.name end
  return titles
end

-- The header line as it stands at the start of each object, and its size before compression.
local function preamble(format, columns)
  if not format.header then return nil, nil end
  local codec = copy.codec(format)
  codec.header = nil
  local line = require "csv".format({ titles_of(columns) }, codec)
  local bytes = format.compress == "none" and line or zip.compress(line, format.compress)
  return bytes, #line
end

--- Settles it. Raises kind "sql" when two columns have one name.
---@param spec table  the node's fields
---@param columns {name: string, type: string}[]  that the server sends
---@param followed? boolean  a load may take the objects while they are made
---@return extract.Shape
function shape.new(spec, columns, followed)
  local format = copy.format_of(spec)
  local self = setmetatable({ spec = spec, format = format, columns = columns_out(spec, columns),
    read = titles_of(columns), followed = followed,
    suffix = EXTENSION[format.format] .. SUFFIX[format.compress] }, Shape)
  check_names(self.columns)
  self.hash = hash.new(spec, format, columns)
  self.options = copy.options(spec.map and { format = "text" } or format)
  self.preamble, self.preamble_raw = preamble(format, self.columns)
  return self
end

--- The COPY of a SELECT.
---@param sql string
---@return string
function Shape:copy(sql) return ("COPY (%s\n) TO STDOUT %s"):format(sql, self.options) end

--- The stages of one stream, from the server's bytes to those of the objects.
---@param share tidemill.Budget
---@param pace? stream.Rate
---@return stream.Stage[]
function Shape:stages(share, pace)
  local stages, spec = {}, self.spec
  if pace then stages[1] = stream.throttle { rate = pace } end
  if self.hash then stages[#stages + 1] = self.hash:tap() end
  if spec.map then
    local output = copy.codec(self.format)
    output.header = nil -- each object gets its own
    stages[#stages + 1] = stream.map(spec.map, {
      columns = self.read, input = { format = "text" }, output = output, output_columns = spec.columns,
    })
  end
  if self.format.compress ~= "none" then
    stages[#stages + 1] = zip[self.format.compress](share:give("zip", { level = spec.level }))
  end
  return stages
end

--- About how many bytes an object shall have.
---@param split extract.Split
---@return integer
function Shape:object_bytes(split)
  if self.spec.object_size then return self.spec.object_size end
  if not split.bytes then return QUERY_OBJECT end
  local bytes = split.bytes * STORED[self.format.compress] / (OBJECTS_A_JOB * split.jobs)
  return math.max(LEAST_OBJECT, math.min(bytes // 1, MOST_OBJECT)) // 1 | 0
end

--- The options of the sink of a job; of an extract that may be resumed, of a range.
---@param place extract.Place
---@param job integer  or the number of the range
---@param split extract.Split
---@return table
function Shape:sink(place, job, split)
  local early = self.followed and not self.spec.object_size and job <= split.jobs -- of ranges, the first
  return {
    prefix = place.prefix .. names.stem(place.who, place.who.attempt, job), digits = names.DIGITS,
    suffix = self.suffix, object_bytes = self:object_bytes(split),
    first_bytes = early and FIRST_OBJECT or nil,
    preamble = self.preamble, preamble_raw_bytes = self.preamble_raw,
  }
end

shape.Shape = Shape -- for tests

return shape
