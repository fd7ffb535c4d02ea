--- What a node's process may use of memory, divided over the streams of its body.
---
--- A node has one number of bytes (--memory), whatever it moves: more jobs get less each, never
--- more in all. What nobody can choose comes off first: the process itself, and for each stream
--- the slabs in its queues, and what decompression needs. The rest goes to those who gain by
--- more: a writer holds parts on their way to the store, a reader ranges on their way from it, a
--- compressor chunks. Each gets at least what it cannot work without and at most what helps.

local errors = require "tidemill.errors"
local text = require "tidemill.text"

local budget = {}

local MIB = 1 << 20

--- What a node's process may use unless it is told otherwise.
budget.DEFAULT = 96 * MIB

--- Slabs between two threads of a stream: more of them are held now and then, and gain nothing.
budget.QUEUE = 2

-- Measured on x86-64: program, libraries, Lua and the flow. A stream: the slabs of 256 KiB in
-- each of two queues, those in hand, the buffers of libpq and libcurl.
local PROCESS, STREAM, UNZIP = 20 * MIB, 2 * MIB, 2 * MIB

-- A part may not be smaller on S3. Larger parts and ranges gain nothing, nor do more of them; and what is
-- soon full makes short transfers and long ones alike.
local PART, PARTS_IN_FLIGHT = 5 * MIB, 2
local RANGE_LEAST, RANGE_MOST, RANGES_IN_FLIGHT = 1 * MIB, 2 * MIB, 2
local CHUNK_LEAST, CHUNK_MOST = 256 << 10, 512 << 10

-- Chunks that a compressor with so many workers holds: in and out of each job of its ring
-- (2 * workers + 1), and those in the queue behind it.
local function chunks(workers) return 4 * workers + 2 + budget.QUEUE end

---@class tidemill.Budget
---@field parts table<"writer"|"reader"|"zip", table<string, integer>>  options of the streams
local Budget = {}
Budget.__index = Budget

-- What each kind wants: least and most bytes.
local function wishes(workers)
  return {
    { name = "writers", least = PART, most = (PARTS_IN_FLIGHT + 1) * PART },
    { name = "readers", least = 2 * RANGE_LEAST, most = RANGES_IN_FLIGHT * RANGE_MOST },
    { name = "ahead", least = RANGE_LEAST, most = RANGE_MOST }, -- one range, until it is read from
    { name = "zips", least = chunks(1) * CHUNK_LEAST, most = chunks(workers) * CHUNK_MOST },
  }
end

local function megabytes(bytes) return ("%dM"):format((bytes + MIB - 1) // MIB) end

local function refuse(total, jobs, needed)
  local fit = math.max(total - PROCESS, 0) * jobs // (needed - PROCESS)
  errors.usage(("%s of memory are too little for %s at once"):format(megabytes(total), text.count(jobs, "job")),
    fit >= 1 and ("--memory %s would do, or jobs = %d"):format(megabytes(needed), fit)
      or ("--memory %s would do"):format(megabytes(needed)))
end

local function clamp(value, least, most) return math.max(least, math.min(value, most)) end

local function writer(bytes)
  local others = bytes // PART - 1 -- one fills while others are on their way
  return { budget_bytes = bytes, part_bytes = PART, parallel = clamp(others, 1, PARTS_IN_FLIGHT) }
end

local function reader(bytes, range)
  return { range_bytes = range, parallel = clamp(bytes // range, 2, RANGES_IN_FLIGHT) }
end

local function zip(bytes, workers)
  if chunks(workers) * CHUNK_LEAST > bytes then workers = 1 end
  return { workers = workers, chunk = clamp(bytes // chunks(workers), CHUNK_LEAST, CHUNK_MOST) }
end

---@class tidemill.BudgetWant
---@field writers? integer  streams into a store at once
---@field readers? integer  streams out of a store at once
---@field ahead? integer    further ones that are opened ahead, and read from when one of these has ended
---@field zips? integer     compressors at once
---@field unzips? integer   decompressors at once
---@field cores? integer    that compressors share (default 2)

--- Divides it. Raises usage when so many do not fit, naming what would.
---@param total? integer  bytes; those of --memory (default: budget.DEFAULT)
---@param want tidemill.BudgetWant
---@return tidemill.Budget
function budget.divide(total, want)
  total = total or budget.DEFAULT
  local streams = math.max(want.writers or 0, want.readers or 0, 1)
  local workers = clamp((want.cores or 2) // math.max(want.zips or 1, 1), 1, 2)
  local fixed = PROCESS + streams * STREAM + (want.unzips or 0) * UNZIP
  local kinds, least, most = wishes(workers), 0, 0
  for _, kind in ipairs(kinds) do
    local count = want[kind.name] or 0
    least, most = least + count * kind.least, most + count * kind.most
  end
  if total < fixed + least then refuse(total, streams, fixed + least) end
  local spare, gap = math.min(total - fixed, most) - least, math.max(most - least, 1)
  local each = {}
  for _, kind in ipairs(kinds) do
    each[kind.name] = kind.least + (kind.most - kind.least) * spare // gap
  end
  return setmetatable({ parts = { writer = writer(each.writers), reader = reader(each.readers, each.ahead),
    zip = zip(each.zips, workers) } }, Budget)
end

--- Adds to the options of one stream what it may use; what the options say themselves stays.
---@param kind "writer"|"reader"|"zip"
---@param options table  of store:objects and store:writer, of store:reader, of zip.gzip and zip.zstd
---@return table options
function Budget:give(kind, options)
  for name, value in pairs(self.parts[kind]) do
    if options[name] == nil then options[name] = value end
  end
  return options
end

return budget
