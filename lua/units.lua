--- Durations and sizes as people write them.

local units = {}

local SECONDS = { ms = 0.001, s = 1, m = 60, h = 3600, d = 86400, w = 604800 }
local BYTES = { [""] = 1, B = 1, K = 1 << 10, M = 1 << 20, G = 1 << 30, T = 1 << 40 }

local function whole(number)
  return math.tointeger(number) or number
end

--- Seconds of "90s", "5m", "1h30m", "500ms", "2d", or of a number; nil if it is none, or negative.
---@param value string|number
---@return number?
function units.duration(value)
  if type(value) == "number" then
    return value >= 0 and value < math.huge and whole(value) or nil
  end
  if type(value) ~= "string" then return nil end
  local rest = value:gsub("%s", "")
  if tonumber(rest) and rest:match "^%d" then return whole(tonumber(rest)) end
  local total = 0
  while rest ~= "" do
    local number, unit, tail = rest:match "^(%d+%.?%d*)(%a+)(.*)$"
    if not number or not SECONDS[unit] then return nil end
    total, rest = total + tonumber(number) * SECONDS[unit], tail
  end
  return value:match "%d" and whole(total) or nil
end

--- "1h 5m", "12s", "0.25s": seconds for people, two units at most.
---@param seconds number
---@return string
function units.show_duration(seconds)
  if seconds < 10 then return ("%.2gs"):format(seconds) end
  if seconds < 60 then return ("%ds"):format(seconds // 1) end
  if seconds < 3600 then return ("%dm %02ds"):format(seconds // 60, seconds % 60 // 1) end
  if seconds < 86400 then return ("%dh %02dm"):format(seconds // 3600, seconds % 3600 // 60) end
  return ("%dd %02dh"):format(seconds // 86400, seconds % 86400 // 3600)
end

--- Bytes of "256MB", "64MiB", "1G", "4096", or of an integer; nil if it is none, or not positive.
--- KB, MB, GB and TB are powers of 1024, as in PostgreSQL's settings.
---@param value string|integer
---@return integer?
function units.size(value)
  if type(value) == "number" then
    local n = math.tointeger(value)
    return n and n > 0 and n or nil
  end
  if type(value) ~= "string" then return nil end
  local number, unit = value:match "^%s*(%d+%.?%d*)%s*(%a*)%s*$"
  if not number then return nil end
  unit = unit:upper():gsub("IB$", ""):gsub("(.)B$", "%1")
  local n = BYTES[unit] and math.tointeger(tonumber(number) * BYTES[unit] // 1)
  return n and n > 0 and n or nil
end

--- A size as `units.size` reads it, exactly: 41943040 -> "40MB".
---@param bytes integer
---@return string
function units.show_setting(bytes)
  for _, unit in ipairs { "G", "M", "K" } do
    if bytes % BYTES[unit] == 0 then return ("%d%sB"):format(bytes // BYTES[unit], unit) end
  end
  return ("%d"):format(bytes)
end

--- Milliseconds that something took: 12 -> "12 ms", 1234 -> "1.2 s", 75000 -> "1m15s".
---@param ms number
---@return string
function units.show_elapsed(ms)
  if ms < 100 then return ("%d ms"):format(ms // 1) end
  if ms < 59950 then return ("%.1f s"):format(ms / 1000) end
  local s = math.floor(ms / 1000 + 0.5)
  if s < 3600 then return ("%dm%02ds"):format(s // 60, s % 60) end
  return ("%dh%02dm"):format(s // 3600, s % 3600 // 60)
end

--- 1234567 -> "1,234,567".
---@param n integer
---@return string
function units.show_count(n)
  local text = ("%d"):format(n)
  return (text:reverse():gsub("(%d%d%d)", "%1,"):reverse():gsub("^,", ""))
end

--- Bytes with three figures: 512 -> "512 B", 1536 -> "1.54 kB".
---@param bytes integer
---@return string
function units.show_size(bytes)
  if bytes < 1000 then return ("%d B"):format(bytes) end
  local names, i = { "kB", "MB", "GB", "TB", "PB" }, 0
  local value = bytes + 0.0
  while value >= 999.5 and i < #names do value, i = value / 1000, i + 1 end
  return (value < 9.995 and "%.2f %s" or value < 99.95 and "%.1f %s" or "%.0f %s"):format(value, names[i])
end

return units
