--- Questions to a server where its refusal is an answer too: can it cast, does it know a type.

local errors = require "tidemill.errors"

--- Asks in a savepoint, or in a transaction of its own, which is rolled back: what stands around it goes on,
--- whatever the server says. Raises what is no answer of the server: the connection broke, or the question was
--- cancelled.
---@param conn pg.Conn
---@param ask function  conn.value, conn.describe ...: called with `conn` and what follows here
---@return boolean ok, any answer_or_error
return function(conn, ask, ...)
  local _ <close> = conn:transaction()
  local ok, answer = pcall(ask, conn, ...)
  if not ok and (not errors.is(answer) or answer.kind == "canceled" or conn:state() == "broken") then
    error(answer, 0)
  end
  return ok, answer
end
