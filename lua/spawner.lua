--- Node attempts as processes: starts them, reads what they report, ends them.
---
--- A child is this same program with the hidden command `node`. It reads what is common to
--- the run from standard input, a file in memory, then its job, a line of JSON, from
--- descriptor 4; nothing of either is in the process list. It reports by lines of JSON on
--- descriptor 3, and whatever it prints is captured. It gets SIGTERM when its runner dies.
---
--- A process takes some 10 ms to start and read the flow, so while nodes are waiting up to
--- SPARES children are started ahead; each works on one job and ends.

local errors = require "tidemill.errors"
local json = require "json"
local proc = require "proc"
local signal = require "tidemill.signal"
local text = require "tidemill.text"

local spawner = {}
local Spawner = { __name = "tidemill.spawner" }
Spawner.__index = Spawner

local REPORT, JOB = 3, 4
local SPARES = 2
local STREAMS = { [1] = "stdout", [2] = "stderr" }
local MAX_LINE, MAX_REPORT = 64 << 10, 64 << 20

--- Makes a spawner for one run.
---@param common table  what every job has: flow file and sources (base64), scheduled time ...
function spawner.new(common)
  return setmetatable({ common = json.encode(common), file = common.file, children = {}, spares = {} }, Spawner)
end

--- Milliseconds since 1970, for logs.
function Spawner.wall() return signal.wall() end

local Child = {}
Child.__index = Child

--- Asks the attempt to end: its waits are interrupted, its queries cancelled.
function Child:cancel() self.handle:kill "TERM" end

--- Ends it.
function Child:kill() self.handle:kill "KILL" end

local function launch(self)
  return proc.spawn {
    cmd = { "/proc/self/exe", "node", self.file }, input = self.common,
    stdout = "pipe", stderr = "pipe", fds = { [REPORT] = "pipe", [JOB] = "feed" }, death_signal = "TERM",
  }
end

-- A child that has taken the job: a spare one if it still lives, else a new one.
local function employ(self, job)
  local line = json.encode(job) .. "\n"
  local spare = table.remove(self.spares, 1)
  if spare and pcall(spare.write, spare, line, 10, JOB) then return spare end
  if spare then spare:close() end
  local handle = launch(self)
  handle:write(line, 10, JOB)
  return handle
end

--- Has children ready for the attempts to come.
---@param count integer  how many may yet start
function Spawner:prepare(count)
  while #self.spares < math.min(count, SPARES) do
    local ok, handle = pcall(launch, self)
    if not ok then return end -- then start will tell
    table.insert(self.spares, handle)
  end
end

--- Starts an attempt.
---@param job table  run_id, node, attempt, upstream, sessions
function Spawner:start(job)
  local handle = employ(self, job)
  handle:close_fd(JOB)
  local child = setmetatable({ handle = handle, partial = { "", "", "" } }, Child)
  self.children[#self.children + 1] = child
  child.pid = handle:pid()
  return child
end

-- A line of `log` (runtime/base/log.c): the log of the run has time and level of its own.
local function logged(line)
  return line:match "^%d%d%d%d%-%d%d%-%d%dT[%d:.]+Z (%l+) +(.*)$"
end

-- One line from a child as an event.
local function line_event(child, fd, line)
  local level, words = logged(line)
  if fd == 2 and level then
    return { child = child, type = "line", stream = "log", level = level, line = text.clean(words) }
  end
  if STREAMS[fd] then
    return { child = child, type = "line", stream = STREAMS[fd], line = text.clean(line) }
  end
  local ok, message = pcall(json.decode, line)
  if ok and type(message) == "table" then return { child = child, type = "message", message = message } end
  return { child = child, type = "line", stream = "stderr",
    line = "malformed report: " .. text.clean(line) }
end

-- Reads what there is; false at the end.
local function read(child, fd, events)
  local bytes = child.handle:read(fd, 0)
  if bytes == nil then return false end
  local pending, from = child.partial[fd] .. bytes, 1
  for line, next_from in pending:gmatch "([^\n]*)\n()" do
    events[#events + 1] = line_event(child, fd, line)
    from = next_from
  end
  pending = pending:sub(from)
  if #pending > (STREAMS[fd] and MAX_LINE or MAX_REPORT) then
    events[#events + 1] = line_event(child, fd, pending)
    pending = ""
  end
  child.partial[fd] = pending
  return bytes ~= ""
end

-- The child has ended: what is left in its pipes, then its status.
local function finish(child, events)
  local status = child.handle:wait(0) -- also ends what it left in its group
  for fd = 1, 3 do
    if not child.closed or not child.closed[fd] then
      while read(child, fd, events) do end
    end
    if child.partial[fd] ~= "" then events[#events + 1] = line_event(child, fd, child.partial[fd]) end
  end
  child.handle:close()
  events[#events + 1] = { child = child, type = "exit", status = status }
end

--- What the children reported; waits for it at most so long. Comes back early when the
--- process is interrupted.
---@param timeout_ms integer
---@return table[]  events for the executor's step
function Spawner:poll(timeout_ms)
  local handles, by_handle, events = {}, {}, {}
  for i, child in ipairs(self.children) do
    handles[i], by_handle[child.handle] = child.handle, child
    if child.pid then
      events[#events + 1] = { child = child, type = "started", pid = child.pid }
      child.pid = nil
    end
  end
  local ok, ready = pcall(proc.poll, handles, math.max(timeout_ms, 0) / 1000)
  if not ok then
    if errors.from(ready).kind ~= "canceled" then error(ready, 0) end
    return events
  end
  local ended = {}
  for _, event in ipairs(ready) do
    local child = by_handle[event.handle]
    if event.ended then
      ended[child] = true
    elseif not read(child, event.fd, events) then
      child.closed = child.closed or {}
      child.closed[event.fd] = true
      child.handle:close_fd(event.fd)
    end
  end
  for i = #self.children, 1, -1 do
    if ended[self.children[i]] then finish(table.remove(self.children, i), events) end
  end
  return events
end

--- Kills whatever still runs.
function Spawner:close()
  for _, child in ipairs(self.children) do child.handle:close() end
  for _, spare in ipairs(self.spares) do spare:close() end
  self.children, self.spares = {}, {}
end
Spawner.__close = Spawner.close

return spawner
