--- What the head and the objects of a manifest must be.
---
--- A manifest comes from a store and is hostile: names, types and options in it end up in COPY
--- and in DDL. So what a load relies on is checked here, and types and options are let through only in
--- the forms that PostgreSQL itself writes.

local errors = require "tidemill.errors"
local json = require "json"

local form = {}

--- The version of this form.
form.VERSION = 2

local FORMATS = { csv = true, text = true }
local COMPRESSIONS = { none = true, gzip = true, zstd = true }
local COUNTS = { "object_count", "rows", "bytes", "raw_bytes" }
local CRC_DIGITS = 20

--- Raises kind "integrity".
---@param where string  the manifest's key
---@param why string
function form.refuse(where, why)
  errors.raise("integrity", ("manifest '%s' is not usable: %s"):format(where, why),
    "it must be as a tidemill extract put it; extract again to get another")
end

local refuse = form.refuse

local function check(where, holder, name, kind)
  local value = holder[name]
  local ok = kind == "integer" and math.type(value) == "integer" and value >= 0
    or kind ~= "integer" and type(value) == kind
  local expected = kind == "integer" and "a count" or "a " .. kind
  if not ok then refuse(where, ("'%s' is not %s"):format(name, expected)) end
  return value
end

--- The table that a line holds.
---@param where string
---@param line string
---@return table
function form.decode(where, line)
  local ok, value = pcall(json.decode, line)
  if not ok then refuse(where, value.message) end
  if type(value) ~= "table" then refuse(where, "not a JSON object") end
  return value
end

-- Modifiers in parentheses: "(12,-3)", "(Point,4326)".
local function are_modifiers(text)
  for one in (text:sub(2, -2) .. ","):gmatch "([^,]*)," do
    if not one:find "^ *%-?[%w_.]+ *$" then return false end
  end
  return true
end

-- Whether a text has the form of a type as format_type writes it: words, of which some may be
-- quoted, with modifiers in parentheses, and brackets: 'numeric(12,3)', 'timestamp(3) with time zone[]'.
local function is_type(text)
  local rest = text:gsub('"[^"%z]*"', "q"):gsub("%b()", function(one) return are_modifiers(one) and " " or "!" end)
  return rest:find "^[%w_.$ \x80-\xff]+[%[%]]*$" ~= nil and rest:find "%S" ~= nil
end

local function check_columns(where, m)
  if #check(where, m, "columns", "table") == 0 then refuse(where, "no columns") end
  local seen = {}
  for i, column in ipairs(m.columns) do
    if type(column) ~= "table" then refuse(where, "a column is not a table") end
    local name = check(where, column, "name", "string")
    if name == "" or name:find "%z" then refuse(where, ("column %d has no usable name"):format(i)) end
    if seen[name] then refuse(where, ("column '%s' stands twice"):format(name)) end
    seen[name] = true
    if not is_type(check(where, column, "type", "string")) then
      refuse(where, ("column '%s' has the type %q"):format(name, column.type))
    end
  end
end

local function check_format(where, m)
  local format = check(where, m, "format", "table")
  if not COMPRESSIONS[format.compress] then
    refuse(where, "unknown compression " .. tostring(format.compress))
  end
  if not FORMATS[format.format] then refuse(where, "unknown format " .. tostring(format.format)) end
  for _, name in ipairs { "delimiter", "null", "quote", "escape", "encoding" } do
    if format[name] ~= nil and check(where, format, name, "string"):find "%z" then
      refuse(where, ("'%s' has a zero byte"):format(name))
    end
  end
  if format.header ~= nil then check(where, format, "header", "boolean") end
end

--- Checks a head.
---@param where string
---@param m table
---@param id string  what it must call itself
function form.check_head(where, m, id)
  if m.tidemill_manifest ~= form.VERSION then
    refuse(where, ("version %s, this program reads %d"):format(tostring(m.tidemill_manifest), form.VERSION))
  end
  if check(where, m, "id", "string") ~= id then refuse(where, ("it calls itself %q"):format(m.id)) end
  check_columns(where, m)
  check_format(where, m)
  for _, name in ipairs(COUNTS) do check(where, m, name, "integer") end
end

--- The object of a line, checked.
---@param where string
---@param line string
---@param last? string  the key before it
---@return manifest.Object
function form.object(where, line, last)
  local object = form.decode(where, line)
  local key = check(where, object, "key", "string")
  if key == "" or key:find "%z" or last and key <= last then refuse(where, "object key " .. ("%q"):format(key)) end
  check(where, object, "rows", "integer")
  check(where, object, "bytes", "integer")
  check(where, object, "raw_bytes", "integer")
  check(where, object, "etag", "string")
  local crc64 = check(where, object, "crc64", "string")
  if not crc64:find "^%d+$" or #crc64 > CRC_DIGITS then refuse(where, "'crc64' of " .. key) end
  return object
end

--- Checks that the sums over all objects are those of the head.
---@param where string
---@param m table
---@param sums table<string, integer>
function form.check_sums(where, m, sums)
  for _, name in ipairs(COUNTS) do
    if m[name] ~= sums[name] then
      refuse(where, ("'%s' is %d, its objects have %d"):format(name, m[name], sums[name]))
    end
  end
end

return form
