--- The body of a flow.assign node: cells, rows or columns of a query's result become outputs.
---
--- The result is read as COPY sends it, row by row and no further than the last row that is asked
--- for, in a read-only transaction. A value is the server's text of it, but booleans are true and
--- false. A row that is not there and a NULL are errors unless the output has a default; of a whole
--- row or column that is joined, NULLs are empty, or the default, and no row at all is the default.

local csv = require "csv"
local errors = require "tidemill.errors"
local script = require "tidemill.script"

local MOST_BYTES = 1 << 20 -- of one output
local BOOLEAN = { t = "true", f = "false" }

local function fail(message, hint) errors.raise("data", message, hint) end

-- The position of the column that an output wants; nil for all.
local function position(name, pick, columns)
  if pick.column == "all" then return nil end
  if type(pick.column) == "number" then
    if pick.column > #columns then
      errors.usage(("output '%s' wants column %d of %d"):format(name, pick.column, #columns))
    end
    return pick.column
  end
  local found, names = nil, {}
  for i, column in ipairs(columns) do
    names[i] = column.name
    if column.name == pick.column then
      if found then
        errors.usage(("output '%s' wants column '%s', which stands twice"):format(name, pick.column),
          "give its number, or name the columns apart: SELECT expression AS name")
      end
      found = i
    end
  end
  if found then return found end
  errors.usage(("output '%s' wants column '%s', which the query does not have"):format(name, pick.column),
    require("tidemill.suggest").hint(pick.column, names, "columns"))
end

local Output = {}
Output.__index = Output

local function new_output(name, pick, columns)
  local all = pick.row == "all"
  local at = position(name, pick, columns)
  return setmetatable({ name = name, pick = pick, columns = columns, first = at or 1, last = at or #columns,
    from = all and 1 or pick.row, to = all and math.huge or pick.row, joined = all or not at, parts = {}, bytes = 0 },
    Output)
end

-- What stands for a NULL.
function Output:null(number)
  if self.pick.default ~= nil then return self.pick.default end
  if self.joined then return "" end
  fail(("output '%s': the value in row %d is NULL"):format(self.name, number),
    "give it a default, or use coalesce in the query")
end

function Output:add(number, value, column)
  if value == csv.null then
    value = self:null(number)
  elseif column.type == "boolean" then
    value = BOOLEAN[value] or value
  end
  self.bytes = self.bytes + #value + #self.pick.separator
  if self.bytes > MOST_BYTES then
    fail(("output '%s' is larger than %d bytes"):format(self.name, MOST_BYTES),
      "a variable is for few and small values; keep many in a table")
  end
  self.parts[#self.parts + 1] = value
end

function Output:take(number, row)
  if number < self.from or number > self.to then return end
  for i = self.first, self.last do self:add(number, row[i], self.columns[i]) end
end

function Output:value(rows)
  if #self.parts > 0 then return table.concat(self.parts, self.pick.separator) end
  if self.pick.default ~= nil then return self.pick.default end
  if rows == 0 then
    fail(("output '%s': the query returns no row"):format(self.name), "give it a default if that may be")
  end
  fail(("output '%s' wants row %d, the query returns %d"):format(self.name, self.from, rows),
    "give it a default if that may be")
end

local function only_statement(ctx, spec, conn)
  local list = script.statements(ctx, "sql", spec.sql, conn)
  if #list ~= 1 then
    errors.usage(("an assign has one query, here are %d statements"):format(#list),
      "use a flow.sql node for the others")
  end
  return list[1]
end

local function read(conn, statement, outputs, last)
  local rows = 0
  local source <close> = conn:copy_out(("COPY (%s\n) TO STDOUT"):format(statement.text))
  for row in csv.parse(source, { format = "text" }) do
    rows = rows + 1
    for _, output in ipairs(outputs) do output:take(rows, row) end
    if rows >= last then break end
  end
  return rows
end

---@param ctx tidemill.Context
---@param spec table  the node's fields, variables filled in
return function(ctx, spec)
  local conn <close> = ctx:postgres(spec.on, { read_only = true })
  local statement = only_statement(ctx, spec, conn)
  local ok, columns = pcall(conn.describe, conn, statement.text)
  if not ok then script.fail(statement, columns) end
  if #columns == 0 then
    script.fail(statement, errors.new("usage", "an assign reads what a query returns, and this one returns nothing",
      { hint = "use a flow.sql node to change data" }))
  end
  local outputs, last = {}, 0
  for _, name in ipairs(require("tidemill.suggest").keys(spec.outputs)) do
    local output = new_output(name, spec.outputs[name], columns)
    outputs[#outputs + 1], last = output, math.max(last, output.to)
  end
  local read_ok, rows = pcall(read, conn, statement, outputs, last)
  if not read_ok then script.fail(statement, rows) end
  for _, output in ipairs(outputs) do
    local value = output:value(rows)
    ctx:log("info", "%s = %s", output.name, #value > 200 and value:sub(1, utf8.offset(value, 0, 198) - 1) .. "..."
      or value)
    ctx:output(output.name, value)
  end
end
