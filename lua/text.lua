--- Texts: made UTF-8, because they travel as JSON, from bytes that may not be; small words.

local text = {}

--- The text itself if it is UTF-8; else with every byte beyond ASCII replaced by a question mark.
---@param bytes string
---@return string
function text.clean(bytes)
  if utf8.len(bytes) then return bytes end
  return (bytes:gsub("[\x80-\xff]", "?"))
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
