--- Several workers in one Lua thread, each written as if it was alone.
---
--- A worker is a function that runs in a coroutine. Streams move in threads of their own
--- (stream.start); where a worker waits for one it calls `crew.await`, and the others go on. Between two
--- such calls it is alone: what must not be interleaved, such as a transaction's last statements and its
--- COMMIT, has none. When one fails, the streams of all are cancelled first and closed then, so
--- that their ends do not come one after another.

local guarded = require "tidemill.guarded"
local stream = require "stream"

local crew = {}

local TICK_SECONDS = 0.25

--- Waits, in a worker, for a job to end or a descriptor to be readable, while others go on. For a
--- descriptor it also returns now and then: another worker may have taken what was there, or have learnt of
--- something that concerns all. So each looks, and waits again.
---@param what stream.Job|integer
function crew.await(what) coroutine.yield(what) end

-- What the workers wait for, each once.
local function awaited(waiting)
  local list, seen = {}, {}
  for _, what in pairs(waiting) do
    if not seen[what] then
      seen[what] = true
      list[#list + 1] = what
    end
  end
  return list
end

-- Runs a worker until it waits again or ends.
local function go_on(waiting, thread, ...)
  local ok, what = coroutine.resume(thread, ...)
  if not ok then
    waiting[thread] = nil
    coroutine.close(thread)
    error(what, 0)
  end
  waiting[thread] = coroutine.status(thread) ~= "dead" and what or nil
end

local function go_on_all(waiting, threads, tick)
  while next(waiting) do
    local ready = {}
    for _, what in ipairs(stream.wait(awaited(waiting), TICK_SECONDS)) do ready[what] = true end
    if tick then tick() end
    for _, thread in ipairs(threads) do
      local what = waiting[thread]
      if what ~= nil and (ready[what] or type(what) == "number") then go_on(waiting, thread) end
    end
  end
end

local function give_up(waiting)
  for _, what in pairs(waiting) do
    if type(what) ~= "number" then pcall(what.cancel, what) end
  end
  for thread in pairs(waiting) do coroutine.close(thread) end
end

--- Runs `body(i)` for i from 1 to `count` side by side, until all have returned. Raises the first
--- error of any, when all have ended.
---@param count integer
---@param body fun(i: integer)
---@param tick? fun()  called some times a second meanwhile
function crew.run(count, body, tick)
  local waiting, threads = {}, {}
  local ok, raised = guarded.call(function()
    for i = 1, count do
      threads[i] = coroutine.create(body)
      go_on(waiting, threads[i], i)
    end
    go_on_all(waiting, threads, tick)
  end)
  if ok then return end
  give_up(waiting)
  error(raised, 0)
end

return crew
