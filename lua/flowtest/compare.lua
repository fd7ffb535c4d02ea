--- How two values differ, for the message of a test that failed.

local show = require "tidemill.repl.print"

local compare = {}

local MOST = 10 -- differences told
local LOOK = { width = 70, depth = 4, items = 20, text = 300 }

local function text_of(value) return show.value(value, LOOK) end

local function plain_table(value)
  return type(value) == "table" and debug.getmetatable(value) == nil
end

local function path_of(path, key)
  if type(key) == "string" and key:find "^[%a_][%w_]*$" then return path == "" and key or path .. "." .. key end
  return ("%s[%s]"):format(path, text_of(key))
end

-- The keys of both tables in an order that is the same each time.
local function keys_of(a, b)
  local keys, seen = {}, {}
  for _, one in ipairs { a, b } do
    for key in next, one do
      if not seen[key] then
        seen[key] = true
        keys[#keys + 1] = key
      end
    end
  end
  table.sort(keys, function(x, y)
    if type(x) ~= type(y) then return type(x) < type(y) end
    if type(x) == "number" or type(x) == "string" then return x < y end
    return tostring(x) < tostring(y)
  end)
  return keys
end

-- The first line in which two texts of several lines differ.
local function line_difference(got, want)
  local function lines(text)
    local list = {}
    for line in (text .. "\n"):gmatch "([^\n]*)\n" do list[#list + 1] = line end
    return list
  end
  local a, b = lines(got), lines(want)
  for i = 1, math.max(#a, #b) do
    if a[i] ~= b[i] then
      return ("line %d\n    got:  %s\n    want: %s"):format(i, a[i] and text_of(a[i]) or "no such line",
        b[i] and text_of(b[i]) or "no such line")
    end
  end
end

local function walk(got, want, path, found, depth)
  if #found > MOST then return end
  if got == want or got ~= got and want ~= want then return end
  if plain_table(got) and plain_table(want) and depth < 20 then
    for _, key in ipairs(keys_of(got, want)) do
      walk(rawget(got, key), rawget(want, key), path_of(path, key), found, depth + 1)
    end
    return
  end
  local where = path ~= "" and path .. ": " or ""
  if type(got) == "string" and type(want) == "string" and (got:find "\n" or want:find "\n") then
    found[#found + 1] = where .. line_difference(got, want)
  else
    found[#found + 1] = ("%sgot %s, want %s"):format(where, text_of(got), text_of(want))
  end
end

--- Nil if the values are equal (tables by what they hold), else what differs, on lines.
---@param got any
---@param want any
---@return string?
function compare.difference(got, want)
  local found = {}
  walk(got, want, "", found, 0)
  if #found == 0 then return nil end
  if #found > MOST then
    found = table.move(found, 1, MOST, 1, {})
    found[#found + 1] = "and more"
  end
  return table.concat(found, "\n")
end

return compare
