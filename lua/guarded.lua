--- Calls after whose failure something must still be done.

local guarded = {}

-- What Lua does after a wait was interrupted, until it is stopped in its turn.
local function once(fn, ...) return pcall(fn, ...) end

--- pcall, after which a signal raises nothing any more: it raises twice, in what waits and again in the first
--- Lua code that goes on, which without this would be the clean-up.
---@param fn function
---@return boolean ok, any result_or_error
function guarded.call(fn, ...)
  local ran, ok, result = pcall(once, fn, ...)
  if not ran then return false, ok end
  return ok, result
end

return guarded
