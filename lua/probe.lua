--- Questions to a server where its refusal is an answer too: can it cast, does it know a type.

local errors = require "tidemill.errors"

-- Kinds of errors that the same question may not meet again: of a shutdown, a lack of resources, a standby's
-- conflict, a lock or a statement timeout.
local NO_ANSWER = { canceled = true, timeout = true, server = true }

--- Asks in a savepoint, or in a transaction of its own, which is rolled back: what stands around it goes on,
--- whatever the server says. Raises what is no answer to the question: the connection broke, the question was
--- cancelled, or the server could not look into it now.
---@param conn pg.Conn
---@param ask function  conn.value, conn.describe ...: called with `conn` and what follows here
---@return boolean ok, any answer_or_error
return function(conn, ask, ...)
  local _ <close> = conn:transaction()
  local ok, answer = pcall(ask, conn, ...)
  if not ok and (not errors.is(answer) or NO_ANSWER[answer.kind] or conn:state() == "broken") then
    error(answer, 0)
  end
  return ok, answer
end
