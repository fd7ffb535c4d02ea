--- Texts that must be UTF-8, because they travel as JSON, made from bytes that may not be.

local text = {}

--- The text itself if it is UTF-8; else with every byte beyond ASCII replaced by a question mark.
---@param bytes string
---@return string
function text.clean(bytes)
  if utf8.len(bytes) then return bytes end
  return (bytes:gsub("[\x80-\xff]", "?"))
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
