--- Fields of a load that say how its table is made (`create`) and who reads the objects (`via`).
---
--- Settled, `create` is { distributed_by, with, columns, primary_key, unlogged, partition_by } with
--- options as texts, and `via` is { extension, server, endpoint }. `mode = "create"` becomes an append with
--- `fresh`: into a table that this load makes, or that is empty.

local read_part = require "tidemill.kinds.part"
local types = require "tidemill.kinds.types"

local target = {}

-- Storage options: names of letters and dots (toast.autovacuum_enabled), values as texts.
function types.storage(value)
  if not types.is_plain(value) or #value > 0 then return nil, "a table of storage options" end
  local options = {}
  for name, one in pairs(value) do
    local kind = type(one)
    if type(name) ~= "string" or not name:match "^[%a_][%w_.]*$" then
      return nil, ("names of storage options, not '%s'"):format(tostring(name))
    elseif kind ~= "string" and kind ~= "number" and kind ~= "boolean" then
      return nil, ("a text, a number or a boolean for '%s'"):format(name)
    end
    options[name:lower()] = tostring(one)
  end
  return options
end

--- Names of columns and the types they get.
function types.column_types(value)
  if not types.is_plain(value) or #value > 0 then return nil, "a table of columns and their types" end
  local found = {}
  for name, one in pairs(value) do
    if type(name) ~= "string" or type(one) ~= "string" or not one:find "%S" then
      return nil, "a table of columns and their types"
    end
    found[name] = one
  end
  return found
end

--- Columns, "randomly" or "replicated".
function types.distribution(value)
  if type(value) == "string" then
    local word = value:lower()
    if word == "randomly" or word == "replicated" then return word end
    return nil, "columns such as { \"id\" }, \"randomly\" or \"replicated\""
  end
  local columns = types.strings(value, { filled = true })
  if not columns then return nil, "columns such as { \"id\" }, \"randomly\" or \"replicated\"" end
  return columns
end

--- Columns of a key; false is none.
function types.primary_key(value)
  if value == false then return false end
  return types.strings(value, { single = true, filled = true })
end

local CREATE = {
  distributed_by = { type = "distribution" },
  with = { type = "storage" },
  columns = { type = "column_types" },
  primary_key = { type = "primary_key" },
  unlogged = { type = "boolean" },
  partition_by = { type = "string" },
}

--- How a table is made: true, or a table of particulars; false is none.
function types.create(value, _, report, name)
  if value == false then return false end
  if value == true then return {} end
  if not types.is_plain(value) or #value > 0 then
    return nil, "true, or a table such as { distributed_by = { \"id\" } }"
  end
  return read_part("'create'", value, CREATE, report, name)
end

local EXTENSIONS = { "oss_fdw" }
local VIA = { server = { type = "string" }, endpoint = { type = "string" } }

--- The extension by which the target reads the objects itself: a name, or { name, server =, endpoint = }.
function types.via(value, _, report, name)
  local given = types.is_plain(value) and value or { value }
  local extension = given[1]
  local good, _, near = types.choice(extension, { choices = EXTENSIONS })
  if not good then
    return nil, "\"oss_fdw\", or { \"oss_fdw\", server = \"name\" }", near
  end
  local rest = {}
  for key, one in pairs(given) do
    if key ~= 1 then rest[key] = one end
  end
  local via = read_part("'via'", rest, VIA, report, name)
  via.extension = extension
  if via.server and via.endpoint then
    report(name, "'via' has both a server and an endpoint", "the server has an endpoint of its own")
  end
  return via
end

local function check_key(create, report)
  local key, by = create.primary_key, create.distributed_by
  if not key or type(by) ~= "table" then return end
  local has = {}
  for _, column in ipairs(key) do has[column] = true end
  for _, column in ipairs(by) do
    if not has[column] then
      report("create", ("'create' distributes by '%s', which is not in the primary key"):format(column),
        "Greenplum keeps a key unique only where it has the distribution's columns in it")
    end
  end
end

--- What `create` and `via` do not go with.
---@param spec table
---@param report fun(field: string?, message: string, hint: string?)
function target.finish(spec, report)
  spec.create = spec.create or nil
  if spec.mode == "create" then
    spec.mode, spec.fresh, spec.create = "append", true, spec.create or {}
  end
  if spec.create then check_key(spec.create, report) end
  if not spec.via then return end
  for _, name in ipairs { "jobs", "reject" } do
    if spec[name] and spec[name] ~= 1 then
      report(name, ("has '%s' beside 'via'"):format(name), name == "jobs"
        and "with via = \"oss_fdw\" the target reads the objects, on all its segments at once"
        or "with via = \"oss_fdw\" the target parses the rows; load without it to set bad rows aside")
    end
  end
  if spec.pipeline then
    report("pipeline", "is pipelined beside 'via'",
      "the target reads the objects of a manifest, so it must be there first")
  end
  spec.pipeline = false
end

return target
