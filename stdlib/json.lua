---@meta json

--- JSON text to Lua values and back (jansson underneath).
---
--- Integers keep all 64 bits in both directions; other readers in the world may not, so
--- write those beyond 2^53 as strings where others read them. JSON null is `json.null`,
--- the same value as `pg.null`. Text is UTF-8.
---
--- Example:
---
---     local json = require "json"
---     print(json.encode { rows = 1000, name = "orders" })
---     print(json.decode('{"rows": 1000}').rows + 1)      --> 1001

local json = {}

--- The value that stands for JSON null and SQL NULL; equal to itself and `pg.null`.
json.null = nil

--- Encodes a value on one line, object keys sorted.
---
--- A table with keys 1..n is an array, any other one an object; an empty table is `{}`
--- unless `json.array` marked it or `json.decode` made it from `[]`.
--- Raises kind "data" for functions, NaN, infinities, strings that are not UTF-8, and
--- tables nested over 200 deep.
---@param value any
---@return string
function json.encode(value) end

--- Decodes one JSON text.
---
--- Raises kind "data" with line and column for anything that is not one JSON value, for a
--- key that stands twice in an object, and for nesting over 2048 deep.
---@param text string
---@return any
function json.decode(text) end

--- Marks a table as an array, so that it is encoded as one even when empty.
---@param table? table  default: a new one
---@return table        the same table
function json.array(table) end

return json
