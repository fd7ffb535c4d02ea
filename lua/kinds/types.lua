--- The types of fields: what each takes, and the form in which the engine wants it.
---
--- A type is a function(value, declaration, report, name) that returns the settled value, or nil,
--- what it wants, perhaps the nearest good value, and perhaps what in the value is bad.
--- `report(field, message, hint, place)` is for faults inside a value that is otherwise of the
--- right shape; `place` is { text, at }: a text as written, and the byte in it.

local condition = require "tidemill.condition"
local flow = require "flow"
local identifiers = require "tidemill.identifiers"
local suggest = require "tidemill.suggest"
local units = require "tidemill.units"

local types = {}

--- Whether a value is a plain table with keys 1 to n alone.
---@param value any
---@return boolean
local function is_list(value)
  if type(value) ~= "table" or getmetatable(value) then return false end
  local count = 0
  for _ in pairs(value) do count = count + 1 end
  return count == #value
end

local function is_plain(value) return type(value) == "table" and not getmetatable(value) end

types.is_list, types.is_plain = is_list, is_plain

-- ---- single values ----

function types.string(value, field)
  if type(value) ~= "string" then return nil, "text" end
  if value == "" and not field.empty then return nil, "text that is not empty" end
  if value:find "\0" then return nil, "text without a zero byte" end
  return value
end

types.connection, types.location, types.relation = types.string, types.string, types.string

function types.boolean(value)
  if type(value) ~= "boolean" then return nil, "true or false" end
  return value
end

types["function"] = function(value)
  if type(value) ~= "function" then return nil, "a function" end
  return value
end

local function range(value, field, what)
  if not value or value < (field.min or -math.huge) or value > (field.max or math.huge) then
    return nil, ("%s%s"):format(what, field.min and field.max and (" from %s to %s"):format(field.min, field.max)
      or field.min and (" of at least %s"):format(field.min) or "")
  end
  return value
end

function types.integer(value, field)
  if field.varies and type(value) == "string" and value:find "${" then return value end
  return range(math.type(value) and math.tointeger(value), field, "an integer")
end

function types.number(value, field)
  return range(type(value) == "number" and value or nil, field, "a number")
end

function types.duration(value, field)
  local seconds = units.duration(value)
  if not seconds or (field.positive and seconds == 0) then
    return nil, "a duration such as \"90s\", \"5m\" or \"1h30m\""
  end
  if field.max and seconds > field.max then return nil, ("a duration of at most %s seconds"):format(field.max) end
  if field.min and seconds < field.min then return nil, ("a duration of at least %s seconds"):format(field.min) end
  return seconds
end

--- What a field was given, for a message.
---@param value any
---@return string
function types.given(value)
  if type(value) == "string" then return ("'%s'"):format(value) end
  if type(value) ~= "table" then return tostring(value) end
  return next(value) == nil and "an empty table" or #value > 0 and "a list" or "a table of fields"
end

function types.size(value)
  local bytes = units.size(value)
  if not bytes then return nil, "a size such as \"64MB\"" end
  return bytes
end

--- Bytes a second.
function types.rate(value)
  local bytes = units.size(type(value) == "string" and value:gsub("/s$", "") or value)
  if not bytes then return nil, "bytes a second such as \"20MB\"" end
  return bytes
end

--- A column, "table.column" or "schema.table.column", as SQL writes them.
function types.key(value)
  local parts = type(value) == "string" and identifiers.parts(value)
  if not parts or #parts > 3 then return nil, "a column such as \"id\" or, of a query, \"orders.id\"" end
  return value
end

function types.choice(value, field)
  for _, choice in ipairs(field.choices) do
    if choice == value then return value end
  end
  return nil, ("one of %s"):format(table.concat(field.choices, ", ")),
    type(value) == "string" and suggest.nearest(value, field.choices) or nil
end

function types.byte(value)
  if type(value) ~= "string" or #value ~= 1 or value:find "[\r\n%z]" then
    return nil, "one byte that is not a line end"
  end
  return value
end

--- An offset of time such as "-1d" or "-1M+1d", as flow.time takes them.
function types.offset(value)
  if type(value) ~= "string" then return nil, "an offset such as \"-1d\"" end
  local ok, raised = pcall(require("time").add, 0, value)
  if not ok then return nil, ("an offset such as \"-1d\" (%s)"):format(raised.message or raised) end
  return value
end

--- An output of a query's column: by number or name.
function types.column(value)
  if math.type(value) == "integer" and value >= 1 or type(value) == "string" and value ~= "" then return value end
  return nil, "a column: its number from 1, or its name"
end

-- ---- lists ----

--- A string, or a list of strings that is not empty.
function types.texts(value)
  if type(value) == "string" and value:find "%S" then return value end
  if not is_list(value) or #value == 0 then return nil, "text, or a list of texts" end
  for _, text in ipairs(value) do
    if type(text) ~= "string" or not text:find "%S" then return nil, "text, or a list of texts that are not empty" end
  end
  return table.move(value, 1, #value, 1, {})
end

function types.strings(value, field)
  if field and field.single and type(value) == "string" then value = { value } end
  if not is_list(value) or field and field.filled and #value == 0 then return nil, "a list of texts" end
  for _, text in ipairs(value) do
    if type(text) ~= "string" or text == "" then return nil, "a list of texts" end
  end
  return table.move(value, 1, #value, 1, {})
end

--- Names of variables, as a list.
function types.names(value)
  local names, wants = types.strings(value, { single = true })
  if not names then return nil, wants end
  for _, name in ipairs(names) do
    if not name:match "^[%w_.]+$" then return nil, ("names of letters, digits, '_' and '.', not '%s'"):format(name) end
  end
  return names
end

--- Texts, numbers or booleans, made texts.
function types.values(value)
  if not is_list(value) or #value == 0 then return nil, "a list of values" end
  local texts = {}
  for i, one in ipairs(value) do
    local kind = type(one)
    if kind ~= "string" and kind ~= "number" and kind ~= "boolean" then return nil, "a list of values" end
    texts[i] = tostring(one)
  end
  return texts
end

--- A text, number or boolean, made a text.
function types.value(value)
  local kind = type(value)
  if kind ~= "string" and kind ~= "number" and kind ~= "boolean" then return nil, "a text or a number" end
  return tostring(value)
end

--- Names of columns, or a map from source names to target names.
function types.columns(value)
  if type(value) ~= "table" or next(value) == nil then return nil, "a list or a map of column names" end
  if is_list(value) then return types.strings(value) end
  local map = {}
  for source, target in pairs(value) do
    if type(source) ~= "string" or type(target) ~= "string" then
      return nil, "a list or a map of column names"
    end
    map[source] = target
  end
  return map
end

--- One node or several: names, or what flow.sql and its like returned.
function types.nodes(value)
  local names = {}
  for _, one in ipairs(is_list(value) and value or { value }) do
    local name = flow.is(one) == "node" and one.name or one
    if type(name) ~= "string" then return nil, "the name of a node, or a list of names" end
    names[#names + 1] = name
  end
  return names
end

--- A command for /bin/sh -c, or a program with its arguments.
function types.command(value)
  if type(value) == "string" and value:find "%S" and not value:find "\0" then return value end
  local wants = "text for the shell, or a list { program, argument, ... }"
  if not is_list(value) or value[1] == nil or value[1] == "" then return nil, wants end
  for _, word in ipairs(value) do -- an argument may be empty
    if type(word) ~= "string" or word:find "\0" then return nil, wants end
  end
  return table.move(value, 1, #value, 1, {})
end

-- ---- tables of names ----

local NAME = "^[%w_.]+$"

function types.vars(value, field)
  if not is_plain(value) then return nil, "a table of names and values" end
  local vars = {}
  for name, content in pairs(value) do
    if type(name) ~= "string" or not name:match(NAME) then
      return nil, "names of letters, digits, '_' and '.'", nil, name
    end
    local kind = type(content)
    if flow.is(content) == "time" and not field.constant then
      vars[name] = content
    elseif kind == "string" or kind == "boolean" or kind == "number" then
      vars[name] = tostring(content)
    else
      return nil, ("%s for '%s'"):format(field.constant and "text" or "text or flow.time(...)", name)
    end
  end
  return vars
end

--- Variables of the process: names and texts.
function types.environment(value)
  for name in pairs(types.is_plain(value) and value or {}) do
    if not tostring(name):match "^[%a_][%w_]*$" then
      return nil, "names of environment variables", nil, name
    end
  end
  return types.vars(value, { constant = true })
end

local PARAM_TYPES = { "text", "integer", "number", "boolean", "date" }

--- What a value of a parameter is as text, or nil and what its type wants.
---@param kind string  one of text, integer, number, boolean, date
---@param value any
---@return string?, string?
function types.param_value(kind, value)
  local text = tostring(value)
  if kind == "text" then return text end
  if kind == "integer" then
    return text:match "^[+-]?%d+$" and math.tointeger(tonumber(text)) and text or nil, "an integer"
  end
  if kind == "number" then return tonumber(text) and text:match "^[%d.eE+-]+$" and text or nil, "a number" end
  if kind == "boolean" then return (text == "true" or text == "false") and text or nil, "true or false" end
  local ok = text:match "^%d%d%d%d%-%d%d%-%d%d" and pcall(require("time").parse, text, "UTC")
  return ok and text or nil, "a date such as \"2026-01-02\""
end

local INFERRED = { string = "text", boolean = "boolean", integer = "integer", float = "number" }

local function read_param(name, given, report)
  if not is_plain(given) then given = { default = given } end
  for _, key in ipairs(suggest.keys(given)) do
    if key ~= "type" and key ~= "default" and key ~= "description" then
      report("params", ("param '%s' has no field '%s'"):format(name, key),
        suggest.hint(key, { "type", "default", "description" }, "fields"))
    end
  end
  local default = given.default
  local is_time = flow.is(default) == "time"
  local kind = given.type or is_time and "date" or default ~= nil and INFERRED[math.type(default) or type(default)]
    or "text"
  local good, wants, near = types.choice(kind, { choices = PARAM_TYPES })
  if not good then
    report("params", ("param '%s': 'type' wants %s, got '%s'"):format(name, wants, tostring(kind)),
      near and ("did you mean '%s'?"):format(near))
    return nil
  end
  if given.description ~= nil and type(given.description) ~= "string" then
    report("params", ("param '%s': 'description' wants text"):format(name))
  end
  local param = { type = kind, description = given.description }
  if is_time then
    if kind ~= "date" and kind ~= "text" then
      report("params", ("param '%s' of type %s cannot have a time as default"):format(name, kind))
    end
    param.time = default.pattern
  elseif default ~= nil then
    local needs
    param.default, needs = types.param_value(kind, default)
    if not param.default or type(default) == "table" then
      report("params", ("param '%s': 'default' wants %s, got '%s'"):format(name, needs or "a value", tostring(default)))
    end
  end
  return param
end

function types.params(value, _, report)
  if not is_plain(value) then return nil, "a table of names and { type =, default = }" end
  local params = {}
  for _, name in ipairs(suggest.keys(value)) do
    if not name:match(NAME) then
      return nil, "names of letters, digits, '_' and '.'", nil, name
    end
    params[name] = read_param(name, value[name], report)
  end
  if #value > 0 then return nil, "a table of names and { type =, default = }" end
  return params
end

-- ---- conditions ----

function types.condition(value, _, report, name)
  local made = condition.new(value, function(fault, text, at, hint)
    report(name, ("'%s': %s in '%s'"):format(name, fault, (text:gsub("%s+", " "))), hint, { text = text, at = at })
  end)
  if not made then return nil, "a condition such as \"${rows} > 0\", a list of them, or a function" end
  return made
end

return types
