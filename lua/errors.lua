--- Making, gathering and printing error tables.
---
--- An error table has kind, message, and where they apply code, status, request_id, detail
--- (lines), hint, node, attempt, cause (a further error). The native half is
--- "tidemill.error". `print` is the one place where an error is shown to a person.

local native = require "tidemill.error"

local errors = {}

--- Makes an error table; `fields` may add hint, detail, cause ...
---@param kind string  a word of runtime/base/error.c: "usage", "connect", "not_found" ...
---@param message string  one line, lower case, no full stop
---@param fields? table
---@return table
function errors.new(kind, message, fields)
  local err = { kind = kind, message = message }
  for key, value in pairs(fields or {}) do err[key] = value end
  return native.new(err)
end

--- Whether a value is an error table.
errors.is = native.is

--- Raises an error table.
---@param kind string
---@param message string
---@param hint? string
---@param cause? table  the error behind it
function errors.raise(kind, message, hint, cause)
  error(errors.new(kind, message, { hint = hint, cause = cause }), 0)
end

--- Raises a usage error: wrong options or an invalid flow; exit code 2.
---@param message string
---@param hint? string
function errors.usage(message, hint) errors.raise("usage", message, hint) end

-- A raised table without a message and without a text of its own: its fields, as far as
-- they are plain.
local function fields_of(raised)
  local meta = getmetatable(raised)
  if type(raised) ~= "table" or type(meta) == "table" and meta.__tostring then return tostring(raised) end
  local words = {}
  for key, value in pairs(raised) do
    if type(value) ~= "table" and type(value) ~= "function" then
      words[#words + 1] = ("%s = %s"):format(tostring(key), tostring(value))
    end
  end
  table.sort(words)
  return ("a table was raised, without a message: { %s }"):format(table.concat(words, ", "))
end

--- Turns whatever was raised into an error table. A plain string, which only a script's own
--- `error` or a fault of ours raises, becomes kind "script" (exit code 1); its first line is
--- the message, the others are the detail.
---@param raised any
---@return table
function errors.from(raised)
  if native.is(raised) then return raised end
  if type(raised) == "table" and type(raised.message) == "string" then return native.new(raised) end
  local first, rest = fields_of(raised):match "^%s*([^\n]*)\n?(.*)$"
  return errors.new("script", first, { detail = rest:find "%S" and rest or nil })
end

--- The exit code of a process that ends because of `err`.
---@param err table
---@return integer
function errors.exit_code(err)
  return native.exit_code(err.kind)
end

local function place_line(err)
  local words = {}
  if err.code and err.code ~= "" then
    local sqlstate = #err.code == 5 and err.code:match "^[%dA-Z]+$"
    words[#words + 1] = (sqlstate and "SQLSTATE " or "code ") .. err.code
  end
  if err.status then words[#words + 1] = "HTTP status " .. err.status end
  if err.request_id then words[#words + 1] = "request id " .. err.request_id end
  if err.node then words[#words + 1] = ("node '%s'"):format(err.node) end
  if err.attempt then words[#words + 1] = ("attempt %d"):format(err.attempt) end
  return #words > 0 and table.concat(words, ", ") or nil
end

--- The lines that show `err`: the message, then indented detail, then "hint: ...".
---@param err table
---@return string[]
function errors.lines(err)
  local lines = { "error: " .. tostring(err.message) }
  local place = place_line(err)
  if place then lines[#lines + 1] = "  " .. place end
  for line in ((err.detail or "") .. "\n"):gmatch "([^\n]*)\n" do
    if line ~= "" then lines[#lines + 1] = "  " .. line end
  end
  local cause, depth = err.cause, 0
  while type(cause) == "table" and cause.message and depth < 8 do
    lines[#lines + 1] = "  because: " .. cause.message
    cause, depth = cause.cause, depth + 1
  end
  if err.hint then lines[#lines + 1] = "hint: " .. err.hint end
  return lines
end

--- Shows an error on standard error, the first line behind "tidemill: ".
---@param err table
function errors.print(err)
  io.stderr:write("tidemill: ", table.concat(errors.lines(err), "\n"), "\n")
end

---@class tidemill.Problem
---@field file string
---@field line integer
---@field message string
---@field hint? string

--- One error out of the problems found in a flow, sorted by place.
---@param problems tidemill.Problem[]  at least one
---@return table
function errors.of_problems(problems)
  for i, problem in ipairs(problems) do problem.order = i end
  table.sort(problems, function(a, b)
    if a.file ~= b.file then return a.file < b.file end
    if a.line ~= b.line then return a.line < b.line end
    return a.order < b.order
  end)
  local function text(problem)
    return ("%s:%d: %s"):format(problem.file, problem.line, problem.message)
  end
  if #problems == 1 then
    return errors.new("usage", text(problems[1]), { hint = problems[1].hint, problems = problems })
  end
  local lines = {}
  for _, problem in ipairs(problems) do
    lines[#lines + 1] = text(problem)
    if problem.hint then lines[#lines + 1] = "  hint: " .. problem.hint end
  end
  return errors.new("usage", ("%s: %d problems"):format(problems[1].file, #problems),
    { detail = table.concat(lines, "\n"), problems = problems })
end

return errors
