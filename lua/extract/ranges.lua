--- How an extract is divided: one stream, ranges of pages, or ranges of a key; and by how many it is read.
---
--- Ranges are many and small, and go to whoever is free, so that no session works on after the others. The
--- last range of a table's pages, and the first and last of a key, are open-ended: what is not known
--- here, they hold. Every row is in exactly one.

local cores = require "tidemill.cores"
local deal = require "tidemill.extract.deal"
local errors = require "tidemill.errors"
local explain = require "tidemill.extract.explain"
local keys = require "tidemill.extract.keys"
local pg = require "pg"
local probe = require "tidemill.probe"
local relation = require "tidemill.extract.relation"

local ranges = {}

local PAGE = 8192
local RANGE_PAGES = 1000
local LARGE = 64 << 20 -- bytes from which on a second session gains more than it costs
local RANGES_A_JOB, RANGES_TO_RESUME = 4, 16

---@class extract.Split
---@field kind "none"|"ctid"|"key"
---@field by? string        the key
---@field jobs integer
---@field count? integer    ranges, if they are known beforehand
---@field bytes? integer    about how much there is to read, if that is known
---@field list? extract.Range[]  of a key: all ranges in order, those that need not be read among them
---@field next fun(): extract.Range?  each range that is to be read, once

-- Iterates over a list.
local function each(list)
  local i = 0
  return function()
    i = i + 1
    return list[i]
  end
end

-- ---- pages ----

-- Pages of a range of a leaf: fewer when much of its rows lies outside of them.
local function step_of(leaf, range_pages)
  return math.max(1, range_pages * leaf.bytes // math.max(leaf.whole_bytes, leaf.bytes, 1))
end

--- Iterates over the ranges of pages of tables. The size is that of the files, for statistics may be
--- old; and what is behind it is in the last range.
---@param leaves extract.Leaf[]
---@param range_pages integer
---@return fun(): extract.Range?
function ranges.of_pages(leaves, range_pages)
  local i, from = 1, 0
  return function()
    local leaf = leaves[i]
    if not leaf then return nil end
    local to = from + step_of(leaf, range_pages)
    local range = { leaf = leaf, from = from, to = to < leaf.bytes // PAGE and to or nil }
    if range.to then from = to else i, from = i + 1, 0 end
    return range
  end
end

local function sum_of(leaves)
  local bytes = 0
  for _, leaf in ipairs(leaves) do bytes = bytes + leaf.whole_bytes end
  return bytes
end

local function by_pages(leaves, jobs, range_pages)
  return { kind = "ctid", by = "ctid", jobs = jobs, bytes = sum_of(leaves),
    next = ranges.of_pages(leaves, range_pages or RANGE_PAGES) }
end

-- ---- keys ----

--- The ranges of a key between bounds, in order; the rows without one come last.
---@param key extract.Key
---@param bounds string[]  ascending
---@param lo? string       of all together
---@param hi? string
---@return extract.Range[]
function ranges.of_bounds(key, bounds, lo, hi)
  local list, from = {}, lo
  for i = 1, #bounds do
    list[i] = { key = key, lo = from, hi = bounds[i] }
    from = bounds[i]
  end
  list[#list + 1] = { key = key, lo = from, hi = hi }
  return list
end

-- Whether a query joins the key's table so that rows may be without one.
local function is_joined_outer(conn, selection, key)
  local optional = explain.of(conn, selection:sql(selection.whole)).optional
  return optional[relation.quoted { schema = key.schema, name = key.relation }]
    or key.kind == "p" and next(optional) ~= nil
end

-- Whether a query asks for the rows that have no key, too. With bounds alone in its text it cannot.
local function check_no_null(conn, selection, spec, key)
  local uses = {}
  for _, piece in ipairs(spec.template[1]) do
    if type(piece) == "table" then uses[piece.name] = true end
  end
  local is_outer = is_joined_outer(conn, selection, key)
  if uses.range then
    key.nullable = key.nullable or is_outer
    return true
  end
  if is_outer then
    errors.usage(("no range from ${lo} to ${hi} holds rows to which an outer join gives no '%s'"):format(
      key.expression), "split by a column of the other side, or write ${range} in place of the comparisons: for one "
      .. "of the ranges it is IS NULL")
  end
  if key.nullable and conn:value(("SELECT EXISTS (SELECT FROM %s WHERE %s%s)"):format(key.table,
    pg.quote_ident(key.name), key.is_null)) then
    errors.usage(("'%s' has NULLs, and no range from ${lo} to ${hi} holds them"):format(key.expression),
      "write ${range} in place of the comparisons; it is IS NULL for one of the ranges")
  end
  return false
end

--- What lies between ranges of a key that were read already, in order; none where nothing does.
---@param done {lo: string?, hi: string?, null: boolean?}[]  ascending, as one attempt had divided the key
---@return {lo: string?, hi: string?}[]
function ranges.gaps(done)
  local gaps, reached, ended = {}, nil, false
  for _, one in ipairs(done) do
    if not one.null then
      if one.lo ~= reached then gaps[#gaps + 1] = { lo = reached, hi = one.lo, before = one } end
      reached, ended = one.hi, one.hi == nil
    end
  end
  if not ended then gaps[#gaps + 1] = { lo = reached } end
  return gaps
end

-- Ranges of what is not done yet, between those that are, all in order.
local function around(conn, key, count, done, where)
  local list, gaps, next_gap = {}, ranges.gaps(done), 1
  local each_count = math.max(1, (count - #done) // math.max(#gaps, 1))
  local function fill(gap)
    local bounds = keys.bounds(conn, key, each_count, { lo = gap.lo, hi = gap.hi, where = where })
    for _, range in ipairs(ranges.of_bounds(key, bounds, gap.lo, gap.hi)) do list[#list + 1] = range end
  end
  for _, one in ipairs(done) do
    local gap = gaps[next_gap]
    if gap and gap.before == one then
      fill(gap)
      next_gap = next_gap + 1
    end
    if not one.null then list[#list + 1] = one end
  end
  if gaps[next_gap] then fill(gaps[next_gap]) end
  return list
end

local function null_range(key, done)
  for _, one in ipairs(done) do
    if one.null then return one end
  end
  return { key = key, null = true }
end

-- Those of a list that are yet to be read.
local function undone(list)
  local left = {}
  for _, range in ipairs(list) do
    if not range.objects then left[#left + 1] = range end
  end
  return left
end

local function by_key(ctx, conn, selection, spec, key, jobs, done)
  local count = spec.ranges or (spec.resume and RANGES_TO_RESUME or RANGES_A_JOB * jobs)
  local list = around(conn, key, count, done or {}, spec.where)
  if (spec.table or check_no_null(conn, selection, spec, key)) and key.nullable then
    if #list == 1 then list[1].filled = true end
    list[#list + 1] = null_range(key, done or {})
  end
  local left = undone(list)
  if not key.indexed and #left > 2 then
    ctx:log("warn", "no index begins with '%s': each of %d ranges may read all of %s", key.name, #left, key.table)
  end
  return { kind = "key", by = key.expression, jobs = math.min(jobs, math.max(#left, 1)), count = #list,
    list = list, next = each(left) }
end

-- ---- the choice ----

-- The jobs of a large table, unless the flow says how many: two, if there are cores, objects and memory for them.
local function default_jobs(ctx, spec, store, bytes)
  return bytes >= LARGE and cores.count() >= 2 and (spec.objects or 2) >= 2
    and pcall(deal.share, ctx, spec, store, 2) and 2 or 1
end

local function whole(selection, bytes)
  return { kind = "none", jobs = 1, bytes = bytes, next = each { selection.whole } }
end

-- Whether one stream will do without a look at the pages: it is asked for, or the table is small.
local function is_one(spec, one)
  if spec.map or spec.query then return true end
  if spec.split_by then return false end
  return spec.jobs == 1 or not spec.jobs and one.bytes ~= nil and one.bytes < LARGE
end

-- The key of a table that the flow has named none for: that of its rows.
local function primary_key(conn, spec, why)
  local column = keys.primary(conn, spec.table)
  if not column then
    errors.usage(("table '%s' has no primary key to divide it by%s"):format(spec.table, why and ", and " .. why or ""),
      "name a column in 'split_by', or set jobs = 1")
  end
  return keys.look(conn, column, spec.table)
end

--- The key that the flow names; nil for none.
---@param conn pg.Conn
---@param spec table
---@return extract.Key?
function ranges.key(conn, spec)
  if spec.split_by and spec.split_by ~= "ctid" then return keys.look(conn, spec.split_by, spec.table) end
  if spec.resume then return primary_key(conn, spec) end
end

-- Whether the condition, which is written for the table, can be asked of the tables below it: it may call the
-- table by its schema.
local function fits_leaf(conn, selection, leaf)
  return (probe(conn, conn.describe, selection:sql { leaf = leaf, from = 0 }))
end

-- The tables to read by pages, of which a condition may rule out some; or nil and why there are none. And whether
-- an index serves the condition, or nothing can meet it.
local function leaves_of(conn, selection, one)
  local leaves, why = relation.leaves(conn, one)
  if not leaves or not selection.spec.where and not selection.predicate then return leaves, why, false end
  local plan, left = explain.of(conn, selection:sql(selection.whole)), {}
  for _, leaf in ipairs(leaves) do
    if plan.tables[relation.quoted(leaf)] then left[#left + 1] = leaf end
  end
  if left[1] and not left[1].itself and not fits_leaf(conn, selection, left[1]) then
    return nil, "its condition names it by more than its own name"
  end
  return left, nil, plan.indexed or #left == 0
end

--- Divides what is to be read.
---@param ctx tidemill.Context
---@param snap extract.Snapshot
---@param selection extract.Selection
---@param spec table         the node's fields
---@param store oss.Store    that the rows go to
---@param key? extract.Key   as of ranges.key
---@param done? extract.Range[]  ranges of it that need not be read (lua/extract/resume.lua)
---@return extract.Split
function ranges.divide(ctx, snap, selection, spec, store, key, done)
  local conn, jobs = snap.conn, spec.jobs
  local unshared = jobs and jobs > 1 and snap:unshared()
  if unshared then errors.usage(("jobs = %d cannot be: %s"):format(jobs, unshared), "set jobs = 1") end
  if key then return by_key(ctx, conn, selection, spec, key, jobs or 1, done) end
  local condition = spec.where or selection.predicate -- then who knows how many bytes there are
  if is_one(spec, snap.relation) then
    return whole(selection, not spec.query and not condition and snap.relation.bytes or nil)
  end
  local leaves, why, indexed = leaves_of(conn, selection, snap.relation)
  if leaves then
    local bytes = sum_of(leaves)
    local few = indexed and selection.predicate and not spec.split_by -- an increment; `jobs` is for the first one
    jobs = few and 1 or jobs or indexed and 1 or default_jobs(ctx, spec, store, bytes)
    if jobs > 1 or spec.split_by then return by_pages(leaves, jobs, spec.range_pages) end
    return whole(selection, not condition and bytes or nil)
  end
  if spec.split_by then
    errors.usage(("table '%s' cannot be split by ctid: %s"):format(spec.table, why), "name a column in 'split_by'")
  elseif jobs and jobs > 1 then
    return by_key(ctx, conn, selection, spec, primary_key(conn, spec, why), jobs)
  end
  return whole(selection)
end

return ranges
