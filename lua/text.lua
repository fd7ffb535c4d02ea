--- Texts: made UTF-8 without zero bytes, because they travel as JSON and PostgreSQL may keep them, from
--- bytes that may not be; small words.

local text = {}

--- The text itself if it is UTF-8; else with every byte beyond ASCII replaced by a question mark.
--- So is a zero byte.
---@param bytes string
---@return string
function text.clean(bytes)
  if not utf8.len(bytes) then return (bytes:gsub("[\0\x80-\xff]", "?")) end
  return bytes:find("\0", 1, true) and bytes:gsub("\0", "?") or bytes
end

--- "1 row", "2 rows": a number and what it counts.
---@param n integer
---@param what string
---@return string
function text.count(n, what)
  return ("%d %s%s"):format(n, what, n == 1 and "" or "s")
end

--- A copy of a table with every text in it cleaned, tables in it likewise.
---@param value any
---@return any
function text.clean_all(value)
  if type(value) == "string" then return text.clean(value) end
  if type(value) ~= "table" then return value end
  local copy = {}
  for key, one in pairs(value) do copy[text.clean_all(key)] = text.clean_all(one) end
  return copy
end

return text
