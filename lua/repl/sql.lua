--- The SQL prompt of the repl: statements on one connection, each ended by ';'.
---
--- Statements run one by one, as in psql, so each is a transaction of its own until BEGIN.
--- The prompt shows what the session is in: `rds>` nothing, `rds*>` a transaction, `rds!>` one
--- that has failed and can only roll back, `rds->` the middle of a statement.

local errors = require "tidemill.errors"
local show = require "tidemill.repl.print"
local statements = require "tidemill.statements"

local sql = {}
local Prompt = {}
Prompt.__index = Prompt

-- Completed in either case.
Prompt.words = {}
for word in ([[ALL ALTER ANALYZE AND AS ASC BEGIN BETWEEN BY CASE CAST COALESCE COMMIT COPY COUNT CREATE
  CROSS CURRENT_DATE CURRENT_TIMESTAMP DATE DEFAULT DELETE DESC DISTINCT DROP ELSE END EXCEPT EXISTS
  EXPLAIN FALSE FROM FULL FUNCTION GRANT GROUP HAVING ILIKE IN INDEX INNER INSERT INTERSECT INTERVAL INTO
  IS JOIN LATERAL LEFT LIKE LIMIT MATERIALIZED NOT NULL OFFSET ON OR ORDER OUTER OVER PARTITION PRIMARY
  REFERENCES RETURNING REVOKE RIGHT ROLLBACK SCHEMA SELECT SET SHOW TABLE TEMPORARY THEN TIMESTAMP TRUE
  TRUNCATE UNION UNIQUE UPDATE USING VACUUM VALUES VIEW WHEN WHERE WITH]]):gmatch "%S+" do
  table.insert(Prompt.words, word)
end

--- Opens the prompt. Raises when the connection cannot be made.
---@param session table
---@param name string  a PostgreSQL connection of the project
function sql.open(session, name)
  local fault, hint = session.project:fault(name, "postgres")
  if fault then errors.usage(fault, hint) end
  session:connection(name)
  return setmetatable({ session = session, name = name, text = "" }, Prompt)
end

function Prompt:pending() return self.text:find "%S" ~= nil end

function Prompt:drop() self.text = "" end

local MARK = { transaction = "*", busy = "*", failed = "!" }

function Prompt:prompt()
  if self:pending() then return self.name .. "-> " end
  local ok, state = pcall(function() return self.session.open[self.name]:state() end)
  return ("%s%s> "):format(self.name, ok and MARK[state] or "")
end

local function run(self, text)
  local conn = self.session:connection(self.name)
  local done = conn:exec(text, { results = true })
  local shown = show.done(done, self.session:look())
  if shown ~= "" then self.session:write(shown) end
end

-- The statements that are complete, and what is begun after them; or nil and what is wrong.
-- Nothing more can be told of a text that ends inside quotes or a comment.
local function take(text)
  local found, fault = statements.split(text)
  if not found then
    if fault.message:find "^unterminated" then return {}, text end
    return nil, errors.new("sql", fault.message, { hint = fault.hint })
  end
  if #statements.split(text .. "\nx") > #found then return found, "" end
  local last = table.remove(found)
  return found, last and last.text or ""
end

--- Takes one line; runs the statements that it completes.
function Prompt:feed(line)
  local text = self.text == "" and line or self.text .. "\n" .. line
  local complete, rest = take(text)
  self.text = complete and rest or ""
  if not complete then return "error", rest end
  for _, one in ipairs(complete) do
    local err = self.session:call(run, self, one.text)
    if err then
      self.text = ""
      return "error", err
    end
  end
  return self:pending() and "more" or "ok"
end

return sql
