--- The manifest: what an extract committed, and all that a load may read.
---
--- An extract writes objects under names of its attempt alone and then puts
--- `PREFIX_manifest.json`; that put is the commit. Objects that no manifest lists do not
--- exist. Keys in it are relative to the manifest's own folder, so a folder can be copied
--- as a whole. CRC64 values are decimal strings, since they pass 2^53.
---
--- A manifest comes from a store and is therefore hostile: `read` checks every field that
--- a load relies on.

local errors = require "tidemill.error"
local json = require "json"

local manifest = {}

local VERSION = 1
local LIMIT = 64 << 20 -- bytes of a manifest: some 300,000 objects
local COMPRESSIONS = { none = true, gzip = true, zstd = true }

---@class manifest.Column
---@field name string
---@field type string  as PostgreSQL's format_type writes it

---@class manifest.Object
---@field key string        relative to the manifest's folder
---@field rows integer
---@field bytes integer     as stored
---@field raw_bytes integer before compression
---@field crc64 string      CRC-64/XZ of the stored bytes, decimal
---@field etag string

---@class manifest.Manifest
---@field tidemill_manifest integer  version of this form
---@field id string                  "RUN/NODE/ATTEMPT" of the extract
---@field columns manifest.Column[]
---@field format table               options of the format module, plus compress
---@field objects manifest.Object[]
---@field rows integer
---@field bytes integer
---@field raw_bytes integer

--- The key of the manifest of the data set at `prefix` ("orders/20260101/").
---@param prefix string
---@return string
function manifest.key(prefix)
  return prefix .. "_manifest.json"
end

--- Puts the manifest: the commit of an extract. Raises what the store raises.
---@param store table   an open object store
---@param prefix string
---@param m manifest.Manifest
function manifest.write(store, prefix, m)
  m.tidemill_manifest = VERSION
  json.array(m.objects)
  json.array(m.columns)
  store:put(manifest.key(prefix), json.encode(m), { content_type = "application/json" })
end

local function refuse(where, why)
  error(errors.new { kind = "integrity", message = ("manifest '%s' is not usable: %s"):format(where, why),
    hint = "it must come from a tidemill extract; run the extract again to replace it" }, 0)
end

local function check(where, holder, name, kind)
  local value = holder[name]
  local ok = kind == "integer" and math.type(value) == "integer" and value >= 0
    or kind ~= "integer" and type(value) == kind
  local expected = kind == "integer" and "a count" or "a " .. kind
  if not ok then refuse(where, ("'%s' is not %s"):format(name, expected)) end
  return value
end

local function check_object(where, object, seen)
  if type(object) ~= "table" then refuse(where, "an object is not a table") end
  local key = check(where, object, "key", "string")
  if key == "" or key:find("%z") or seen[key] then refuse(where, "object key " .. ("%q"):format(key)) end
  seen[key] = true
  check(where, object, "rows", "integer")
  check(where, object, "bytes", "integer")
  check(where, object, "raw_bytes", "integer")
  check(where, object, "etag", "string")
  if not check(where, object, "crc64", "string"):find "^%d+$" then refuse(where, "'crc64' of " .. key) end
end

local function check_columns(where, m)
  if #check(where, m, "columns", "table") == 0 then refuse(where, "no columns") end
  local seen = {}
  for _, column in ipairs(m.columns) do
    if type(column) ~= "table" then refuse(where, "a column is not a table") end
    local name = check(where, column, "name", "string")
    if seen[name] then refuse(where, ("column '%s' stands twice"):format(name)) end
    seen[name] = true
    check(where, column, "type", "string")
  end
end

local function check_all(where, m)
  if type(m) ~= "table" then refuse(where, "not a JSON object") end
  if m.tidemill_manifest ~= VERSION then
    refuse(where, ("version %s, this program reads %d"):format(tostring(m.tidemill_manifest), VERSION))
  end
  check(where, m, "id", "string")
  check_columns(where, m)
  local format = check(where, m, "format", "table")
  if not COMPRESSIONS[format.compress] then
    refuse(where, "unknown compression " .. tostring(format.compress))
  end
  local seen, sums = {}, { rows = 0, bytes = 0, raw_bytes = 0 }
  for _, object in ipairs(check(where, m, "objects", "table")) do
    check_object(where, object, seen)
    for name in pairs(sums) do sums[name] = sums[name] + object[name] end
  end
  for name, sum in pairs(sums) do
    if check(where, m, name, "integer") ~= sum then
      refuse(where, ("'%s' is %d, its objects have %d"):format(name, m[name], sum))
    end
  end
end

--- Reads and checks the manifest at `prefix`.
---
--- Raises kind "not_found" when there is none, "integrity" when it cannot be relied on,
--- and what the store raises.
---@param store table
---@param prefix string
---@param place string  how the flow names the place ("lake:orders/20260101/"), for messages
---@return manifest.Manifest
function manifest.read(store, prefix, place)
  local key = manifest.key(prefix)
  local ok, text = pcall(store.get, store, key, { limit = LIMIT })
  if not ok then
    if errors.is(text) and text.kind == "not_found" and text.code ~= "NoSuchBucket" then
      text.hint = ("nothing was extracted to %s; run the extract first"):format(place)
    end
    error(text, 0)
  end
  local decoded, m = pcall(json.decode, text)
  if not decoded then refuse(key, m.message) end
  check_all(key, m)
  return m
end

return manifest
