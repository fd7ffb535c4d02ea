--- The statements of a node's SQL texts: found, run one by one, and named when one fails.
---
--- An error of a statement tells its number and the line of the node's text it starts on; its
--- detail has the place in the flow file where that can be told.

local errors = require "tidemill.errors"
local model = require "tidemill.model"
local statements = require "tidemill.statements"

local script = {}

---@class tidemill.ScriptStatement : statements.Statement
---@field label string   "statement 2 (line 7)", "" when it is all there is
---@field place? string  "flow.lua:23"

-- "flow.lua:23" for the first line of a text as the flow has it; nil where it is not written as one
-- piece, or where variables brought further lines.
local function first_line(ctx, field, i, filled)
  local built = ctx.model
  local node = built and built.by_name[ctx.node]
  local raw = node and node.spec[field]
  if type(raw) == "table" then raw = raw[i] end
  if type(raw) ~= "string" or select(2, raw:gsub("\n", "")) ~= select(2, filled:gsub("\n", "")) then return nil end
  local line = model.line_in(built, node, field, raw, 1)
  local last = model.line_in(built, node, field, raw, #raw)
  if last - line ~= select(2, raw:sub(1, -2):gsub("\n", "")) then return nil end
  return node.file, line
end

local function place_of(file, first, line)
  return file and ("%s:%d"):format(file, first + line - 1) or nil
end

--- Raises an error of a statement, with its number and place.
---@param statement tidemill.ScriptStatement
---@param raised any
function script.fail(statement, raised)
  local err = errors.from(raised)
  if statement.label ~= "" then err.message = ("%s: %s"):format(statement.label, err.message) end
  if statement.place then
    err.detail = ("at %s%s"):format(statement.place, err.detail and err.detail ~= "" and "\n" .. err.detail or "")
  end
  error(err, 0)
end

--- The statements of the texts of a field, in order. Raises a usage error for text that cannot be
--- taken apart, and for what only psql understands.
---@param ctx tidemill.Context
---@param field string         where the flow has them, for places
---@param texts string|string[]
---@param conn pg.Conn
---@return tidemill.ScriptStatement[]
function script.statements(ctx, field, texts, conn)
  texts = type(texts) == "table" and texts or { texts }
  local escapes, all = conn:parameter "standard_conforming_strings" == "off", {}
  for i, text in ipairs(texts) do
    local file, first = first_line(ctx, field, i, text)
    local whose = #texts > 1 and ("text %d, "):format(i) or ""
    local list, fault = statements.split(text, { escapes = escapes })
    if not list then
      script.fail({ label = ("%sline %d"):format(whose, fault.line), place = place_of(file, first, fault.line) },
        errors.new("usage", fault.message, { hint = fault.hint }))
    end
    for number, one in ipairs(list) do
      one.place = place_of(file, first, one.line)
      one.label = (#list > 1 or #texts > 1) and ("%sstatement %d (line %d)"):format(whose, number, one.line) or ""
      all[#all + 1] = one
    end
  end
  return all
end

--- Refuses statements that would end the transaction behind the node's back.
---@param list tidemill.ScriptStatement[]
---@param where string
---@param hint? string
function script.refuse_control(list, where, hint)
  for _, one in ipairs(list) do
    if one.control then
      script.fail(one, errors.new("usage", ("%s in %s"):format(one.word, where), { hint = hint }))
    end
  end
end

--- Runs statements, and logs what each did. Returns the rows that they affected or returned, nil
--- if none told.
---@param ctx tidemill.Context
---@param conn pg.Conn
---@param list tidemill.ScriptStatement[]
---@return integer?
function script.run(ctx, conn, list)
  local rows
  for i, one in ipairs(list) do
    if #list > 1 then ctx:progress { rows = rows, detail = ("statement %d of %d"):format(i, #list) } end
    local ok, done = pcall(conn.exec, conn, one.text)
    if not ok then
      if errors.is(done) and done.code == "25001" and not done.hint then
        done.hint = "set transaction = false: the statements then run each by itself"
      end
      script.fail(one, done)
    end
    if done.rows then rows = (rows or 0) + done.rows end
    if done.command ~= "" then
      ctx:log("info", "%s%s", one.label ~= "" and one.label .. ": " or "", done.command)
    end
  end
  return rows
end

return script
