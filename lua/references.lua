--- `${name}` in a text: where references stand, and what the text becomes with values for them.
---
--- A name is letters, digits, '_' and '.', and may start with a digit; an output or the state of
--- a node is named behind the node's own name, which may hold blanks: `${orders to the lake.rows}`.
--- `$${` stands for a literal `${`. Replacement is textual and happens once: a value is never
--- looked into.

local references = {}

local MOST_BYTES = 500 -- of a reference: a node's name has 200 at most
local MOST_FAULTS = 100
local NAME, OF_NODE = "^[%w_.]+$", "^[^{}$%c]*[^{}$%c.]%.[%w_]+$"

---@class tidemill.Reference
---@field name? string
---@field fault? string  instead of name, where "${" begins none
---@field at integer     byte position

--- Every reference in a text; behind a hundred faults it looks no further, for such a text is
--- refused anyway.
---@param text string
---@return tidemill.Reference[]
function references.find(text)
  local found, at, faults = {}, 1, 0
  while true do
    local start = text:find("${", at, true)
    if not start then return found end
    if text:sub(start - 1, start - 1) == "$" then -- $${
      at = start + 2
    else
      local inside = text:sub(start + 2, start + MOST_BYTES):match "^([^}\n]*)}"
      if inside and (inside:match(NAME) or inside:match(OF_NODE)) then
        found[#found + 1] = { name = inside, at = start }
        at = start + #inside + 3
      else
        found[#found + 1] = { fault = text:sub(start, start + 19):match "^[^\n]*", at = start }
        at, faults = start + 2, faults + 1
        if faults == MOST_FAULTS then return found end
      end
    end
  end
end

--- The names that a text refers to, as a set.
---@param text string
---@return table<string, true>
function references.uses(text)
  local uses = {}
  for _, reference in ipairs(references.find(text)) do
    if reference.name then uses[reference.name] = true end
  end
  return uses
end

local function literal(text)
  return (text:gsub("%$%${", "${"))
end

--- A text taken apart: literal texts, and { name = ... } for each reference. `value_of(name)`
--- replaces a reference at once; where it gives nil the reference stays.
---@param text string
---@param value_of? fun(name: string): string?
---@return (string|{name: string})[]
function references.template(text, value_of)
  local pieces, at = {}, 1
  for _, reference in ipairs(references.find(text)) do
    if reference.name then
      pieces[#pieces + 1] = literal(text:sub(at, reference.at - 1))
      pieces[#pieces + 1] = value_of and value_of(reference.name) or { name = reference.name }
      at = reference.at + #reference.name + 3
    end
  end
  pieces[#pieces + 1] = literal(text:sub(at))
  return pieces
end

--- The text of a template; a reference without a value is written as `${name}`.
---@param template (string|{name: string})[]
---@param value_of? fun(name: string): string?
---@return string
function references.render(template, value_of)
  local out = {}
  for i, piece in ipairs(template) do
    if type(piece) == "table" then piece = value_of and value_of(piece.name) or ("${%s}"):format(piece.name) end
    out[i] = piece
  end
  return table.concat(out)
end

--- Replaces every reference by what `value_of(name)` gives; where that is nil it stays.
---@param text string
---@param value_of fun(name: string): string?
---@return string
function references.expand(text, value_of)
  if not text:find("${", 1, true) then return text end
  return references.render(references.template(text, value_of))
end

return references
