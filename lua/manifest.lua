--- The manifest: what an extract committed, and all that a load may read.
---
--- Each attempt of an extract has one place for it, PREFIX_manifest/ID.json (names:
--- lua/manifest/names.lua), and whoever puts something there first decides what became of the
--- attempt: its own manifest is the commit; a mark that it is closed, put by its successor or a
--- sweep, means that it will never commit, so that what it left may be removed. Both puts only
--- create. (A store that knows no such put, or an OSS bucket that keeps versions, where it does
--- not hold, lets a late manifest through; a load by name, and the check of its objects, remain.)
---
--- A load of the same run takes the very manifest that the extract names; any other takes the
--- newest of the prefix. Objects that no manifest lists do not exist. Keys in it are relative to
--- the prefix, so a folder can be copied as a whole. CRC64 values are decimal strings, since
--- they pass 2^53.
---
--- The text is one JSON value, and in lines: the head, then a line for each object in ascending
--- order of the keys, then "]}". So it is written and read with a memory that does not depend on
--- how many objects there are. It comes from a store and is therefore hostile: `open` has looked
--- at all of it before it returns, and what is read again is pinned to the same ETag.

local crash = require "tidemill.crash"
local errors = require "tidemill.errors"
local form = require "tidemill.manifest.form"
local json = require "json"
local names = require "tidemill.manifest.names"

local manifest = {}

local WHOLE = 1 << 20 -- bytes up to which the text is kept
local LIMIT = 1 << 30 -- some five million objects
local LINE = 8 << 20 -- of the head, which has the query; an object's is far shorter
local MARK = 4096 -- bytes of a mark that a place is closed, at most
local NEWEST = 100 -- names that one listing keeps
local TYPE = { content_type = "application/json", create_only = true }

---@class manifest.Column
---@field name string
---@field type string  as PostgreSQL's format_type writes it

---@class manifest.Object
---@field key string        relative to the prefix
---@field rows integer
---@field bytes integer     as stored
---@field raw_bytes integer before compression
---@field crc64 string      CRC-64/XZ of the stored bytes, decimal
---@field etag string

---@class manifest.Manifest
---@field tidemill_manifest integer  version of this form
---@field id string                  its name
---@field columns manifest.Column[]
---@field format table               options of the format module, plus compress
---@field object_count integer
---@field rows integer
---@field bytes integer
---@field raw_bytes integer
local Manifest = {}
Manifest.__index = Manifest

-- Fields of ours, which a head cannot set.
local OURS = { store = true, prefix = true, where = true, size = true, etag = true, modified_ms = true, text = true,
  first_key = true, last_key = true }

-- ---- writing ----

--- What a manifest says of an object.
---@param object table     as a sink gives it, or tidemill.Sealed
---@param prefix? string   that its key begins with, if that is not relative yet
---@return manifest.Object
function manifest.object(object, prefix)
  return { key = object.key:sub(#(prefix or "") + 1), rows = object.rows, bytes = object.bytes,
    raw_bytes = object.raw_bytes, crc64 = object.crc64, etag = object.etag }
end

local function by_key(a, b) return a.key < b.key end

--- Puts a manifest: the commit of an extract. Counts objects, rows and bytes, and sorts
--- `objects`. Raises kind "exists" when the place is taken, and what the store raises.
---@param store oss.Store
---@param prefix string
---@param head table  id, columns, format and whatever else is worth keeping
---@param objects manifest.Object[]
function manifest.write(store, prefix, head, objects)
  table.sort(objects, by_key)
  head.tidemill_manifest, head.object_count = form.VERSION, #objects
  head.rows, head.bytes, head.raw_bytes = 0, 0, 0
  for _, object in ipairs(objects) do
    head.rows, head.bytes = head.rows + object.rows, head.bytes + object.bytes
    head.raw_bytes = head.raw_bytes + object.raw_bytes
  end
  json.array(head.columns)
  local sink <close> = store:writer(names.key(prefix, head.id), TYPE)
  sink:write(json.encode(head):sub(1, -2) .. ',"objects":[\n')
  for i, object in ipairs(objects) do sink:write(json.encode(object) .. (i < #objects and ",\n" or "\n")) end
  sink:write "]}\n"
  crash.point "manifest.put.before"
  sink:finish()
  crash.point "manifest.put.after"
end

-- ---- what became of an attempt ----

local function is_missing(raised)
  return errors.is(raised) and raised.kind == "not_found" and raised.code ~= "NoSuchBucket"
end

-- Who closed the place in which this text lies.
local function closed_by(text)
  if #text > MARK then return nil end
  local ok, mark = pcall(json.decode, text)
  local by = ok and type(mark) == "table" and mark.tidemill_manifest == form.VERSION and mark.closed_by
  return type(by) == "string" and by or nil
end

--- What lies in the place of an attempt: "committed", "closed" and by whom, or nil. Raises what
--- the store raises.
---@param store oss.Store
---@param prefix string
---@param id string
---@return "committed"|"closed"|nil state, string? by
function manifest.state(store, prefix, id)
  local key = names.key(prefix, id)
  local info = store:head(key)
  if not info then return nil end
  if info.size > MARK then return "committed" end
  local ok, text = pcall(store.get, store, key, { limit = MARK })
  if not ok then
    if is_missing(text) then return nil end
    error(text, 0)
  end
  local by = closed_by(text)
  return by and "closed" or "committed", by
end

--- Sees to it that an attempt never commits, unless it has. Returns what `state` then says.
---@param store oss.Store
---@param prefix string
---@param id string
---@param by string  who says so: "attempt 2" of the node, or "sweep"
---@return "committed"|"closed" state, string by
function manifest.close(store, prefix, id, by)
  local state, whose = manifest.state(store, prefix, id)
  if state then return state, whose end
  crash.point "manifest.close.before"
  local ok, raised = pcall(store.put, store, names.key(prefix, id),
    json.encode { tidemill_manifest = form.VERSION, id = id, closed_by = by } .. "\n", TYPE)
  crash.point "manifest.close.after"
  if ok then return "closed", by end
  if not errors.is(raised) or raised.kind ~= "exists" then error(raised, 0) end
  state, whose = manifest.state(store, prefix, id)
  if not state then error(raised, 0) end
  return state, whose
end

-- ---- finding ----

local function newer(a, b) return names.less(b, a) end

--- The ids of the newest manifests of a prefix, the newest first; closed places may be among
--- them. At most 100. Names that are not ours are passed over.
---@param store oss.Store
---@param prefix string
---@param before? string  only older ones than this id
---@return string[]
function manifest.list(store, prefix, before)
  local folder, found = prefix .. names.FOLDER, {}
  local limit = before and names.parse_id(before)
  for entry in store:list { prefix = folder } do
    local id = entry.key:sub(1, #folder) == folder and entry.key:match("^(.*)%.json$", #folder + 1)
    local name = id and names.parse_id(id)
    if name and (not limit or names.less(name, limit)) then
      name.id = id
      found[#found + 1] = name
      if #found == 2 * NEWEST then
        table.sort(found, newer)
        for i = NEWEST + 1, #found do found[i] = nil end
      end
    end
  end
  table.sort(found, newer)
  local ids = {}
  for i = 1, math.min(#found, NEWEST) do ids[i] = found[i].id end
  return ids
end

--- The id of the newest manifest of a prefix; nil if there is none.
---@param store oss.Store
---@param prefix string
---@return string?
function manifest.newest(store, prefix)
  local before
  repeat
    local ids = manifest.list(store, prefix, before)
    for _, id in ipairs(ids) do
      if manifest.state(store, prefix, id) == "committed" then return id end
    end
    before = ids[#ids]
  until #ids < NEWEST
  return nil
end

-- ---- reading ----

-- The text in pieces, and what to close after the last.
local function pieces_of(self)
  if self.text then
    local text = self.text
    return function()
      local piece = text
      text = nil
      return piece
    end
  end
  local reader = self.store:reader(self.where,
    { size = self.size, etag = self.etag, range_bytes = WHOLE, parallel = 2 })
  return function() return (reader:read()) end, reader
end

-- Lines, without their ends; a last one without an end is none.
local function lines_of(where, pieces)
  local rest, at = "", 1
  return function()
    while true do
      local stop = rest:find("\n", at, true)
      if stop then
        local line = rest:sub(at, stop - 1)
        at = stop + 1
        return line
      end
      local piece = pieces()
      if not piece then form.refuse(where, "it ends in the middle") end
      rest, at = rest:sub(at) .. piece, 1
      if #rest > LINE + WHOLE then form.refuse(where, "a line is too long") end
    end
  end
end

local function start(self)
  local pieces, reader = pieces_of(self)
  local next_line = lines_of(self.where, pieces)
  return next_line, pieces, reader
end

--- Iterates over the objects in ascending order of the keys; they have been checked. Reads
--- the text once more unless it is short.
---@return fun(): manifest.Object?
function Manifest:objects()
  local next_line, pieces, reader = start(self)
  local skipped, last
  return function()
    if not skipped then
      next_line()
      skipped = true
    end
    local line = next_line()
    if line == "]}" then
      pieces() -- to the end, where the reader knows whether all was right
      return nil
    end
    local object = form.object(self.where, line:gsub(",$", ""), last)
    last = object.key
    return object
  end, nil, nil, reader
end

-- The head; goes through all objects for it.
local function check_all(self, id)
  local where = self.where
  local next_line, pieces, _ <close> = start(self)
  local line = next_line()
  local begun = line:match '^(.*),"objects":%[$'
  local head = form.decode(where, begun and begun .. "}" or line)
  form.check_head(where, head, id)
  if not begun then form.refuse(where, "its objects are not in lines") end
  local sums, last = { object_count = 0, rows = 0, bytes = 0, raw_bytes = 0 }, nil
  line = next_line()
  while line ~= "]}" do
    local object = form.object(where, line:gsub(",$", ""), last)
    last = object.key
    self.first_key, self.last_key = self.first_key or last, last
    sums.object_count = sums.object_count + 1
    for _, name in ipairs { "rows", "bytes", "raw_bytes" } do
      sums[name] = sums[name] + object[name]
      if sums[name] < object[name] then form.refuse(where, ("its objects have too many %s"):format(name)) end
    end
    line = next_line()
  end
  if pieces() then form.refuse(where, "there is more behind its end") end
  form.check_sums(where, head, sums)
  return head
end

--- Looks at the place of an attempt: its manifest, checked; or nil, and who closed the place if it is not
--- free. Raises kind "integrity" when what lies there cannot be relied on, and what the store raises.
---@param store oss.Store  must stay open as long as the manifest is used
---@param prefix string
---@param id string
---@return manifest.Manifest? m, string? closed_by
function manifest.look(store, prefix, id)
  local where = names.key(prefix, id)
  local info = store:head(where)
  if not info then return nil end
  if info.size > LIMIT then form.refuse(where, ("it has %d bytes, the most is %d"):format(info.size, LIMIT)) end
  local self = { store = store, prefix = prefix, where = where, size = info.size, etag = info.etag,
    modified_ms = info.modified_ms }
  if info.size <= WHOLE then
    self.text = store:get(where, { limit = WHOLE, if_match = info.etag })
    local by = closed_by(self.text)
    if by then return nil, by end
  end
  local head = check_all(self, id)
  for name, value in pairs(head) do
    if not OURS[name] and Manifest[name] == nil then self[name] = value end
  end
  return setmetatable(self, Manifest)
end

--- Reads and checks a manifest: the one of this id, or the newest.
---
--- Raises kind "not_found" when there is none, "integrity" when it cannot be relied on,
--- and what the store raises.
---@param store oss.Store  must stay open as long as the manifest is used
---@param prefix string
---@param place string  how the flow names the place ("lake:orders/20260101/"), for messages
---@param id? string
---@return manifest.Manifest
function manifest.open(store, prefix, place, id)
  id = id or manifest.newest(store, prefix)
  local m, by
  if id then m, by = manifest.look(store, prefix, id) end
  if m then return m end
  if by then
    form.refuse(names.key(prefix, id), ("its attempt was closed by %s and has committed nothing"):format(by))
  end
  errors.raise("not_found", id and ("there is no manifest '%s'"):format(names.key(prefix, id))
    or ("there is no manifest in %s%s"):format(place, names.FOLDER),
    ("nothing was extracted to %s; run the extract first"):format(place))
end

return manifest
