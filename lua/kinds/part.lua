--- The fields of a table inside a field: known ones are checked and get defaults, others refused.

local suggest = require "tidemill.suggest"
local types = require "tidemill.kinds.types"

---@param what string   for messages: "output 'a'"
---@param given table
---@param declared table<string, table>
---@param report fun(field: string?, message: string, hint: string?)
---@param name string   the field it stands in
---@return table
return function(what, given, declared, report, name)
  local values = {}
  for _, key in ipairs(suggest.keys(given)) do
    local field = declared[key]
    if not field then
      report(name, ("%s has no field '%s'"):format(what, key), suggest.hint(key, suggest.keys(declared), "fields"))
    else
      local good, wants, near = types[field.type](given[key], field, report, name)
      if good == nil then
        report(name, ("%s: '%s' wants %s, got %s"):format(what, key, wants, types.given(given[key])),
          near and ("did you mean '%s'?"):format(near))
      end
      values[key] = good
    end
  end
  for _, key in ipairs(suggest.keys(declared)) do
    if given[key] == nil then
      if declared[key].required then report(name, ("%s needs '%s'"):format(what, key)) end
      values[key] = declared[key].default
    end
  end
  return values
end
