--- Names in SQL: as authors write them, plain or "quoted", with dots between; and as statements have them.

local pg = require "pg"

local identifiers = {}

--- The parts of a name as they stand, quotes included: { "public", '"My Table"' }; nil if it is none.
---@param text string
---@return string[]?
function identifiers.parts(text)
  local parts, rest = {}, text
  while true do
    local part, tail = rest:match '^("[^"]+")(.*)$'
    if not part then part, tail = rest:match "^([%a_\x80-\xff][%w_$\x80-\xff]*)(.*)$" end
    if not part then return nil end
    parts[#parts + 1] = part
    if tail == "" then return parts end
    if tail:sub(1, 1) ~= "." then return nil end
    rest = tail:sub(2)
  end
end

--- What a part means: quotes taken off, or folded to lower case as PostgreSQL does.
---@param part string
---@return string
function identifiers.meaning(part)
  if part:sub(1, 1) == '"' then return part:sub(2, -2) end
  return (part:gsub("%u", string.lower))
end

--- Names of a database, each quoted.
---@param names? string[]
---@return string[]
function identifiers.quoted(names)
  local list = {}
  for i, name in ipairs(names or {}) do list[i] = pg.quote_ident(name) end
  return list
end

return identifiers
