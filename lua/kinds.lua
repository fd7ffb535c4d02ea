--- The fields of flows and of each kind of node: types, defaults, and what they refuse.
---
--- A field is declared once, as data; `read` checks a table of fields against the
--- declarations and returns it with defaults and units settled (seconds, bytes). Texts that
--- may hold `${name}` are looked at again by `settle`, after variables are filled in: there
--- connections, locations and table names are checked.

local flow = require "flow"
local suggest = require "tidemill.suggest"
local units = require "tidemill.units"

local kinds = {}

local MAX_NAME = 200 -- bytes of a node's name: part of object keys and process titles

-- Each type: function(value, declaration) -> value as the engine wants it, or nil and what it wants.
local types = {}

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
  return seconds
end

function types.size(value)
  local bytes = units.size(value)
  if not bytes then return nil, "a size such as \"64MB\"" end
  return bytes
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

local function is_list(value)
  if type(value) ~= "table" or getmetatable(value) then return false end
  local count = 0
  for _ in pairs(value) do count = count + 1 end
  return count == #value
end

--- A string, or a list of strings that is not empty.
function types.texts(value)
  if type(value) == "string" and value:find "%S" then return value end
  if not is_list(value) or #value == 0 then return nil, "text, or a list of texts" end
  for _, text in ipairs(value) do
    if type(text) ~= "string" or not text:find "%S" then return nil, "text, or a list of texts that are not empty" end
  end
  return table.move(value, 1, #value, 1, {})
end

function types.strings(value)
  if not is_list(value) then return nil, "a list of texts" end
  for _, text in ipairs(value) do
    if type(text) ~= "string" or text == "" then return nil, "a list of texts" end
  end
  return table.move(value, 1, #value, 1, {})
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

function types.vars(value, field)
  if type(value) ~= "table" or getmetatable(value) then return nil, "a table of names and values" end
  local vars = {}
  for name, content in pairs(value) do
    if type(name) ~= "string" or not name:match "^[%w_.]+$" then
      return nil, ("names of letters, digits, '_' and '.', not '%s'"):format(tostring(name))
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

local SCHEDULE -- below

function types.schedule(value, _, report)
  if type(value) == "string" then value = { cron = value } end
  if type(value) ~= "table" or getmetatable(value) then return nil, "a table with cron, timezone, ..." end
  return kinds.read("schedule", value, SCHEDULE, report)
end

function types.missed(value, field)
  local rule, window = value, "1d"
  if type(value) == "table" then rule, window = value[1], value.window or window end
  local policy, wants, near = types.choice(rule, field)
  if not policy then return nil, wants, near end
  local seconds = units.duration(window)
  if not seconds then return nil, "window as a duration such as \"6h\"" end
  return { policy = policy, window = seconds }
end

SCHEDULE = {
  cron = { type = "string" },
  timezone = { type = "string" },
  dst = { type = "choice", choices = { "once", "quartz", "each" }, default = "once" },
  from = { type = "string" },
  to = { type = "string" },
}

--- What a flow may say of itself.
kinds.flow = {
  schedule = { type = "schedule" },
  on_error = { type = "choice", choices = { "complete_running", "stop", "continue" }, default = "complete_running" },
  concurrency = { type = "choice", choices = { "skip", "queue", "parallel" }, default = "skip" },
  missed = { type = "missed", choices = { "skip", "latest", "all" }, default = "skip" },
  vars = { type = "vars" },
  constants = { type = "vars", constant = true },
  description = { type = "string" },
  owner = { type = "string" },
  tags = { type = "strings" },
}

--- What every node may say.
kinds.common = {
  after = { type = "nodes" },
  vars = { type = "vars" },
  retries = { type = "integer", min = 0, max = 1000, default = 0 },
  retry_delay = { type = "duration", default = 10 },
  backoff = { type = "number", min = 1, max = 100, default = 2 },
  timeout = { type = "duration", positive = true },
  description = { type = "string" },
}

--- The fields of each kind of node, beside the common ones.
kinds.nodes = {
  sql = {
    on = { type = "connection", wants = "postgres", required = true },
    sql = { type = "texts", required = true },
  },
  extract = {
    from = { type = "connection", wants = "postgres", required = true },
    query = { type = "string" },
    table = { type = "relation" },
    to = { type = "location", required = true },
    format = { type = "choice", choices = { "csv", "text" }, default = "csv" },
    delimiter = { type = "byte" },
    quote = { type = "byte" },
    escape = { type = "byte" },
    null = { type = "string", empty = true },
    header = { type = "boolean", default = false },
    encoding = { type = "string", default = "UTF8" },
    compress = { type = "choice", choices = { "none", "gzip", "zstd" }, default = "none" },
    level = { type = "integer", min = 0, max = 22 },
    object_size = { type = "size", default = 256 << 20 },
    map = { type = "function" },
    columns = { type = "strings" },
  },
  load = {
    from = { type = "location", required = true },
    on = { type = "connection", wants = "postgres", required = true },
    into = { type = "relation", required = true },
    columns = { type = "columns" },
    mode = { type = "choice", choices = { "append" }, default = "append" },
  },
  lua = {
    run = { type = "function", required = true },
    outputs = { type = "strings" },
  },
}

-- Rules of COPY that tie several fields of an extract together.
local function finish_extract(spec, report)
  if (spec.query == nil) == (spec.table == nil) then
    report(spec.query and "query" or nil, spec.query and "has both query and table" or "needs a query or a table",
      "give one of query and table")
  end
  if spec.columns and not spec.map then
    report("columns", "has columns but no map", "columns names what a map returns; without one, name them in the query")
  end
  local text = spec.format == "text"
  if text then
    for _, name in ipairs { "quote", "escape" } do
      if spec[name] then report(name, ("has '%s', which only format csv knows"):format(name)) end
    end
    if spec.header then report("header", "has 'header', which only format csv knows") end
  end
  spec.delimiter = spec.delimiter or (text and "\t" or ",")
  spec.null = spec.null or (text and "\\N" or "")
  if not text then
    spec.quote = spec.quote or '"'
    spec.escape = spec.escape or spec.quote
    if spec.quote == spec.delimiter then report("quote", "has the same quote and delimiter") end
  elseif spec.delimiter:find "[%l%d\\.]" then
    report("delimiter", ("has delimiter '%s', which COPY text does not take"):format(spec.delimiter))
  end
  if spec.null:find("[\r\n]") or spec.null:find(spec.delimiter, 1, true)
    or spec.quote and spec.null:find(spec.quote, 1, true) then
    report("null", "has a null text with a line end, the delimiter or the quote in it")
  end
  local most = ({ none = 0, gzip = 9, zstd = 22 })[spec.compress]
  if spec.level and most and spec.level > most then
    report("level", spec.compress == "none" and "has a level but no compression"
      or ("has level %d; %s goes to %d"):format(spec.level, spec.compress, most))
  end
  if not spec.encoding:match "^[%w_-]+$" then report("encoding", ("has encoding '%s'"):format(spec.encoding)) end
end

kinds.finish = { extract = finish_extract }

--- Checks `fields` against declarations. `report(field, message, hint)` is called for each
--- fault; the faulty field is then as if absent. Returns the values with defaults.
---@param what string      for messages: "node 'a'", "flow"
---@param fields table
---@param declared table<string, table>
---@param report fun(field: string?, message: string, hint: string?)
---@return table
function kinds.read(what, fields, declared, report)
  local values = {}
  if #fields > 0 then report(nil, ("%s has a value without a field name"):format(what)) end
  for _, name in ipairs(suggest.keys(fields)) do
    local value, field = fields[name], declared[name]
    if field then
      local good, wants, near = types[field.type](value, field, report)
      if good == nil then
        local got = type(value) == "string" and ("'%s'"):format(value) or type(value) == "table" and "a table"
          or tostring(value)
        report(name, ("%s: '%s' wants %s, got %s"):format(what, name, wants, got),
          near and ("did you mean '%s'?"):format(near))
      end
      values[name] = good
    else
      report(name, ("%s has no field '%s'"):format(what, name), suggest.hint(name, suggest.keys(declared), "fields"))
    end
  end
  for _, name in ipairs(suggest.keys(declared)) do
    local field = declared[name]
    if fields[name] == nil and field.required then report(nil, ("%s needs '%s'"):format(what, name)) end
    if values[name] == nil and field.default ~= nil then
      values[name] = types[field.type](field.default, field, report)
    end
  end
  return values
end

--- Whether `name` will do for a flow or node; nil or what is wrong with it.
---@param name string
---@return string?
function kinds.bad_name(name)
  if not name:find "%S" then return "an empty name" end
  if #name > MAX_NAME then return ("a name of more than %d bytes"):format(MAX_NAME) end
  if name:find "%c" then return "a name with a control character" end
end

--- Splits "connection:path/"; nil and what is wrong with it.
---@param text string
---@return string? connection, string path_or_reason
function kinds.split_location(text)
  local connection, path = text:match "^([%w_-]+):(.*)$"
  if not connection then return nil, "a location is \"connection:path/\"" end
  if path:find "^/" then return nil, "the path of a location does not start with '/'" end
  if path == "" then return nil, "a location needs a path behind the colon" end
  if path:find "%c" then return nil, "the path of a location has a control character" end
  for part in path:gmatch "[^/]+" do
    if part == "." or part == ".." then return nil, ("the path of a location has a part '%s'"):format(part) end
  end
  return connection, path
end

local function is_relation(text)
  local rest, parts = text, 0
  while true do
    local tail = rest:match '^"[^"]+"(.*)$' or rest:match "^[%a_\x80-\xff][%w_$\x80-\xff]*(.*)$"
    if not tail then return false end
    parts, rest = parts + 1, tail
    if rest == "" then return parts <= 2 end
    if rest:sub(1, 1) ~= "." then return false end
    rest = rest:sub(2)
  end
end

--- Checks the texts of a spec after variables are filled in.
---@param kind string
---@param spec table
---@param known fun(connection: string, wants: string): string?, string?  what is wrong with it and a hint
---@param report fun(field: string, message: string, hint: string?)
function kinds.settle(kind, spec, known, report)
  for _, name in ipairs(suggest.keys(kinds.nodes[kind])) do
    local field, value = kinds.nodes[kind][name], spec[name]
    if value ~= nil and field.type == "connection" then
      local fault, hint = known(value, field.wants)
      if fault then report(name, fault, hint) end
    elseif value ~= nil and field.type == "location" then
      local connection, reason = kinds.split_location(value)
      local fault, hint = reason, nil
      if connection then fault, hint = known(connection, "store") end
      if fault then report(name, connection and fault or ("'%s': %s"):format(value, fault), hint) end
    elseif value ~= nil and field.type == "relation" and not is_relation(value) then
      report(name, ("'%s' does not name a table"):format(value), "write table, schema.table or \"Quoted\".\"Name\"")
    end
  end
end

return kinds
