--- Fields of a load that say what becomes of the rows that are there: `mode` and what goes with it.

local modes = {}

-- Which fields belong to which mode alone, and which it cannot do without.
local OWN = {
  { field = "where", mode = "replace_where", needed = true },
  { field = "keys", mode = "merge", needed = true },
  { field = "order_by", mode = "merge" },
  { field = "delete_when", mode = "merge" },
  { field = "delete", mode = "replace" },
}
local NEEDS = {
  where = "'where' says which rows are replaced, such as \"day = '${bizdate}'\"",
  keys = "'keys' names the columns that tell which row is which",
}

local function check_twice(spec, field, report)
  local seen = {}
  for _, name in ipairs(spec[field] or {}) do
    if seen[name] then report(field, ("names '%s' twice in '%s'"):format(name, field)) end
    seen[name] = true
  end
end

--- What does not go together.
---@param spec table
---@param report fun(field: string?, message: string, hint: string?)
function modes.finish(spec, report)
  for _, own in ipairs(OWN) do
    local given = spec[own.field]
    if own.needed and spec.mode == own.mode and given == nil then
      report("mode", ("has mode '%s' without '%s'"):format(own.mode, own.field), NEEDS[own.field])
    elseif given and spec.mode ~= own.mode then
      report(own.field, ("has '%s', which only mode '%s' knows"):format(own.field, own.mode))
    end
  end
  check_twice(spec, "keys", report)
  check_twice(spec, "order_by", report)
end

return modes
