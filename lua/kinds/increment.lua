--- Fields of an extract that takes increments: `watermark`, `since`.
---
--- Settled, `watermark` is { column =, overlap = }, and `overlap`, if there is one, { seconds = } of
--- what was written as a time, or { number = }.

local identifiers = require "tidemill.identifiers"
local read_part = require "tidemill.kinds.part"
local types = require "tidemill.kinds.types"
local units = require "tidemill.units"

local increment = {}

-- Units as people and PostgreSQL write them, by their first letters.
local UNITS = { s = "s", sec = "s", second = "s", min = "m", minute = "m", h = "h", hour = "h", d = "d", day = "d",
  w = "w", week = "w", m = "m", ms = "ms" }

local function seconds_of(text)
  local known = true
  local short = text:gsub("(%d%s*)(%a+)", function(number, unit)
    local found = UNITS[unit] or UNITS[unit:lower():gsub("s$", "")]
    known = known and found ~= nil
    return number .. (found or unit)
  end)
  return known and units.duration(short) or nil
end

function types.overlap(value)
  if type(value) == "number" and value > 0 and value < math.huge then
    return { number = math.tointeger(value) or value }
  end
  local seconds = type(value) == "string" and seconds_of(value)
  if not seconds or seconds == 0 then return nil, "a time such as \"1 hour\", or a number" end
  return { seconds = seconds }
end

--- One column, as SQL writes it.
function types.column_name(value)
  local parts = type(value) == "string" and identifiers.parts(value)
  if not parts or #parts ~= 1 then return nil, "the name of a column" end
  return value
end

local WATERMARK = {
  column = { type = "column_name", required = true },
  overlap = { type = "overlap" },
}

--- A column, or a table of it and what goes with it.
function types.watermark(value, _, report, name)
  if type(value) == "string" then value = { column = value } end
  if not types.is_plain(value) or #value > 0 then
    return nil, "a column, or a table such as { column = \"updated_at\", overlap = \"1 hour\" }"
  end
  return read_part("'watermark'", value, WATERMARK, report, name)
end

increment.watermark = { type = "watermark" }
increment.since = { type = "value" }

--- What does not go together.
---@param spec table
---@param report fun(field: string?, message: string, hint: string?)
function increment.finish(spec, report)
  if spec.since and not spec.watermark then
    report("since", "has 'since' without 'watermark'", "it is where the first increment of a watermark begins; " ..
      "for a single extract write a condition in 'where' or the query")
  end
end

return increment
