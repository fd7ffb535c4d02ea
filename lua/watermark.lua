--- The text that is kept of a watermark: JSON. What its fields mean, lua/extract/window.lua says.

local errors = require "tidemill.errors"
local json = require "json"

local watermark = {}

watermark.FACT = "watermark"
local FORM = 1

---@class tidemill.Watermark
---@field kind? "rows"|"values"  nil: a user has set it
---@field column? string
---@field type? string
---@field low? string        the highest value
---@field oldest? string     start of the oldest transaction that was open
---@field at string          when it was made
---@field set? boolean       by a user: rows above `low` come next
---@field seen? extract.Seen
---@field system? string     of the server
---@field timeline? integer
---@field table? integer     oid
---@field leaves? table<string, integer>

---@param kept tidemill.Watermark
---@return string
function watermark.encode(kept)
  kept.form = FORM
  return json.encode(kept)
end

--- Nil for nil. Raises kind "data" for what this version did not write.
---@param text? string
---@return tidemill.Watermark?
function watermark.decode(text)
  if not text then return nil end
  local ok, kept = pcall(json.decode, text)
  if ok and type(kept) == "table" and kept.form == FORM then return kept end
  errors.raise("data", "the watermark that was kept cannot be read",
    "tidemill watermark FLOW NODE --reset watermark, or --set VALUE, puts another in its place")
end

--- The command that shows and sets what a node keeps, for hints.
---@param flow string
---@param node string
---@return string
function watermark.command(flow, node)
  local function word(name) return name:find "^[%w_./-]+$" and name or "'" .. name:gsub("'", [['\'']]) .. "'" end
  return ("tidemill watermark %s %s"):format(word(flow), word(node))
end

--- In words: "at up to 2026-01-02 03:04:05+00".
---@param kept tidemill.Watermark
---@return string
function watermark.describe(kept)
  if kept.set then return ("above %s, set by hand"):format(kept.low) end
  local parts = {}
  if kept.low then parts[1] = ("%s up to %s"):format(kept.column, kept.low) end
  if kept.seen then
    parts[#parts + 1] = ("transactions below %d"):format(kept.seen.below)
    if #kept.seen.open > 0 then parts[#parts] = parts[#parts] .. " but for those that were open" end
  end
  return table.concat(parts, ", ")
end

return watermark
