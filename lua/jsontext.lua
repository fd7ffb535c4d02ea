--- JSON as a text with a fixed order of keys and real empty lists, for --json output.

local json = require "json"

local jsontext = {}

local LIST = {}

--- Marks a table as a list, so that an empty one is [].
---@param t table
---@return table
function jsontext.list(t)
  return setmetatable(t, LIST)
end

local function is_list(value)
  return getmetatable(value) == LIST or #value > 0
end

local function write(value, out, indent)
  if type(value) ~= "table" then
    out[#out + 1] = json.encode(value)
    return
  end
  local list, keys, inner = is_list(value), {}, indent .. "  "
  for key in pairs(value) do
    if not list then keys[#keys + 1] = key end
  end
  table.sort(keys)
  local count = list and #value or #keys
  if count == 0 then
    out[#out + 1] = list and "[]" or "{}"
    return
  end
  out[#out + 1] = list and "[" or "{"
  for i = 1, count do
    out[#out + 1] = "\n" .. inner
    if not list then out[#out + 1] = json.encode(keys[i]) .. ": " end
    write(value[list and i or keys[i]], out, inner)
    if i < count then out[#out + 1] = "," end
  end
  out[#out + 1] = "\n" .. indent .. (list and "]" or "}")
end

--- Encodes tables, texts, numbers and booleans; keys are sorted.
---@param value any
---@return string
function jsontext.encode(value)
  local out = {}
  write(value, out, "")
  return table.concat(out)
end

return jsontext
