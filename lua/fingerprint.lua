--- One text for a value, the same whenever the value is: what hashes of flows are made of.
---
--- Tables are written with their keys sorted. A function is its bytecode without line numbers, so
--- that it stays the same when it moves in its file, and the values it closes over; what it
--- reaches through globals or `require` is not part of it.

local sign = require "tidemill.sign"

local fingerprint = {}

local MAX_DEPTH = 30
local HEADER = 31 -- bytes of a Lua 5.4 dump before its first function: lundump.h, ldump.c
local SIGNATURE = "\27Lua\x54\0\x19\x93\r\n\x1a\n\4\8\8"

-- The position behind a variable-length integer of a dump, and the integer.
local function size_at(dump, at)
  local value = 0
  while true do
    local byte = dump:byte(at)
    value, at = value << 7 | byte & 127, at + 1
    if byte >= 128 then return at, value end
  end
end

local function behind_string(dump, at)
  local start, size = size_at(dump, at)
  return start + math.max(size - 1, 0)
end

local CONSTANT = { [3] = 8, [19] = 8 } -- bytes of integers and floats; 4 and 20 are strings

-- Adds a function of a stripped dump to `out`, all but its line numbers; returns what is behind.
local function walk(dump, at, out)
  at = behind_string(dump, at)                  -- source
  at = size_at(dump, size_at(dump, at))         -- first and last line
  local start = at
  local code, count
  at, code = size_at(dump, at + 3)              -- parameters, varargs, stack; instructions
  at, count = size_at(dump, at + code * 4)      -- constants
  for _ = 1, count do
    local kind = dump:byte(at)
    at = at + 1
    if kind == 4 or kind == 20 then at = behind_string(dump, at) else at = at + (CONSTANT[kind] or 0) end
  end
  at, count = size_at(dump, at)                 -- upvalues
  at, count = size_at(dump, at + count * 3)     -- inner functions
  out[#out + 1] = dump:sub(start, at - 1)
  for _ = 1, count do at = walk(dump, at, out) end
  for _ = 1, 4 do at = size_at(dump, at) end    -- no debug information in a stripped dump
  return at
end

local function code_of(f)
  local ok, dump = pcall(string.dump, f, true)
  if not ok then return "native" end
  if dump:sub(1, #SIGNATURE) ~= SIGNATURE then return dump end -- another Lua: lines and all
  local out = {}
  walk(dump, HEADER + 2, out)
  return table.concat(out)
end

local write -- (value, out, seen, depth)

local function write_function(f, out, seen, depth)
  out[#out + 1] = ("f%s"):format(sign.sha256(code_of(f)))
  for i = 1, 255 do
    local name, value = debug.getupvalue(f, i)
    if not name then break end
    if name ~= "_ENV" then write(value, out, seen, depth + 1) end
  end
  out[#out + 1] = "e"
end

local function by_key(a, b)
  local x, y = type(a), type(b)
  if x ~= y then return x < y end
  if x == "number" or x == "string" then return a < b end
  return tostring(a) < tostring(b)
end

local function write_table(t, out, seen, depth)
  local keys = {}
  for key in next, t do
    local kind = type(key)
    if kind == "string" or kind == "number" or kind == "boolean" then keys[#keys + 1] = key end
  end
  table.sort(keys, by_key)
  out[#out + 1] = "{"
  for _, key in ipairs(keys) do
    write(key, out, seen, depth + 1)
    write(rawget(t, key), out, seen, depth + 1)
  end
  out[#out + 1] = "}"
end

local function write_number(value)
  local whole = math.tointeger(value) -- 2.0 is 2: JSON does not tell them apart
  return whole and ("i%d;"):format(whole) or ("d%a;"):format(value)
end

-- A function is written once, then by number; a table each time, but not inside itself.
local function write_reference(value, out, seen, depth)
  local kind = type(value)
  if seen[value] then
    out[#out + 1] = ("@%s;"):format(seen[value])
  elseif depth > MAX_DEPTH or kind == "table" and (getmetatable(value) or {}).__index then
    out[#out + 1] = "?" -- a module or an object
  elseif kind == "table" then
    seen[value] = ""
    write_table(value, out, seen, depth)
    seen[value] = nil
  else
    seen.count = seen.count + 1
    seen[value] = seen.count
    write_function(value, out, seen, depth)
  end
end

function write(value, out, seen, depth)
  local kind = type(value)
  if kind == "string" then
    out[#out + 1] = ("s%d:"):format(#value)
    out[#out + 1] = value
  elseif kind == "number" then
    out[#out + 1] = write_number(value)
  elseif kind == "table" or kind == "function" then
    write_reference(value, out, seen, depth)
  else
    out[#out + 1] = kind == "userdata" and "u" or tostring(value) .. ";"
  end
end

--- The text of a value. Tables that are objects (their metatable has __index) count as one
--- another, whatever is in them.
---@param value any
---@return string
function fingerprint.text(value)
  local out = {}
  write(value, out, { count = 0 }, 0)
  return table.concat(out)
end

--- The SHA-256 of that text, in hexadecimal digits.
---@param value any
---@return string
function fingerprint.of(value) return sign.sha256(fingerprint.text(value)) end

return fingerprint
