--- Sealed objects: what attempts of extracts have completed in a store, before any manifest lists it.
---
--- A row is there before anyone relies on its object: a load that takes objects while the extract
--- runs, a later attempt of the extract that takes them over, whoever sweeps. Rows of an attempt are
--- numbered from 1 in the order in which they were written, so "those behind n" misses none. They go with
--- their run, and, since nothing asks for them any more, when it ends in success.

local common = require "tidemill.state.common"
local json = require "json"

local objects = {}

---@class tidemill.Sealed
---@field n? integer        its place in the order of completion (in and out of the store)
---@field key string        below the extract's location
---@field rows integer
---@field bytes integer     as it lies in the store
---@field raw_bytes integer before compression
---@field crc64 string      of its bytes, decimal
---@field etag string
---@field span? table       the range of keys whose rows it holds, as the extract describes it
---@field attempt? integer  out of the store

local COLUMNS = "n, key, row_count AS rows, bytes, raw_bytes, crc64, etag, span"

local function as_sealed(rows)
  for _, row in ipairs(rows) do row.span = common.decode(row.span) end
  return rows
end

--- Records objects of an attempt, all or none. To say so twice is harmless. Fenced, as the writes of
--- lua/state/attempts.lua.
---@param run string
---@param node string
---@param attempt integer
---@param list tidemill.Sealed[]
function objects:add_objects(run, node, attempt, list)
  local rows, at = {}, self:now()
  for i, one in ipairs(list) do
    rows[i] = { run, node, attempt, one.n, one.key, one.rows, one.bytes, one.raw_bytes, one.crc64, one.etag,
      one.span and json.encode(one.span), at }
  end
  self.db:transaction(function()
    self:check_claim(run)
    common.insert(self.db, [[INSERT INTO node_objects (run_id, node, attempt, n, key, row_count, bytes, raw_bytes,
      crc64, etag, span, at) VALUES]], 12, rows, "ON CONFLICT (run_id, node, attempt, n) DO NOTHING")
  end, "relaxed")
end

--- Objects of one attempt in order, those behind number `after`.
---@param after integer  0: from the first
---@param limit integer
---@return tidemill.Sealed[]
function objects:objects_after(run, node, attempt, after, limit)
  return as_sealed(self.db:query("SELECT " .. COLUMNS .. [[ FROM node_objects
    WHERE run_id = ? AND node = ? AND attempt = ? AND n > ? ORDER BY n LIMIT ?]], run, node, attempt, after, limit))
end

--- Objects of the attempts before one, the newest attempt first, each in order. A page goes on behind
--- the last object of the page before.
---@param before integer    an attempt
---@param last? tidemill.Sealed  of the page before
---@param limit integer
---@return tidemill.Sealed[]
function objects:earlier_objects(run, node, before, last, limit)
  return as_sealed(self.db:query("SELECT attempt, " .. COLUMNS .. [[ FROM node_objects
    WHERE run_id = ? AND node = ? AND attempt < ? AND (attempt < ? OR attempt = ? AND n > ?)
    ORDER BY attempt DESC, n LIMIT ?]], run, node, before, last and last.attempt or before,
    last and last.attempt or -1, last and last.n or 0, limit))
end

--- Forgets the objects of a run, in the transaction under way.
function objects:forget_objects_in(run)
  self.db:exec("DELETE FROM node_objects WHERE run_id = ?", run)
end

return objects
