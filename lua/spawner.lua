--- Node attempts as processes: starts them, reads what they report, ends them.
---
--- A child is this same program with the hidden command `node`. It reads the sources of its
--- flow's version from standard input, a file in memory, then its job, a line of JSON, from
--- descriptor 4; nothing of either is in the process list. It reports by lines of JSON on
--- descriptor 3, and whatever it prints is captured. Descriptor 4 stays open for answers (`reply`).
--- It gets SIGTERM when its runner dies.
---
--- Nobody waits for a child to read: what its pipe does not take at once stays here until it does. A
--- pipe takes PIPE_BYTES whole or not at all, so answers go in pieces of that size.
---
--- A process takes some 10 ms to start and read the flow, so some children are started
--- ahead, for the versions of which nodes are about to start; each works on one job and ends.
--- A runner may have a thousand runs: only running attempts and spares have descriptors, and of
--- the sources those of the last few versions are in memory.

local errors = require "tidemill.errors"
local json = require "json"
local proc = require "proc"
local text = require "tidemill.text"

local spawner = {}
local Spawner = { __name = "tidemill.spawner" }
Spawner.__index = Spawner

local REPORT, JOB = 3, 4
local SPARES, VERSIONS = 2, 8
local JOB_SECONDS = 10 -- to take a job that is larger than a pipe
local STREAMS = { [1] = "stdout", [2] = "stderr" }
local MAX_LINE, MAX_REPORT = 64 << 10, 8 << 20
local PIPE_BYTES = 4096 -- PIPE_BUF
local UNREAD_MS = 20    -- until a pipe that was full is tried again

---@class tidemill.SpawnerOptions
---@field source fun(version: string): {document: table, sources: table}  as Store:source
---@field project? string  the tidemill.lua that nodes use (default: they look for it from the flow's file)
---@field memory? integer  bytes that each of their processes may use (default: lua/budget.lua)

--- Makes a spawner.
---@param options tidemill.SpawnerOptions
function spawner.new(options)
  return setmetatable({ source = options.source, project = options.project, memory = options.memory,
    children = {}, spares = {}, common = {}, recent = {} }, Spawner)
end

local Child = {}
Child.__index = Child

--- Asks the attempt to end: its waits are interrupted, its queries cancelled. Nothing happens if it
--- has ended.
function Child:cancel()
  if not self.ended then self.handle:kill "TERM" end
end

--- Ends it.
function Child:kill()
  if not self.ended then self.handle:kill "KILL" end
end

-- Writes what the pipe takes. A child that no longer listens is none of our business.
local function flush(child)
  while child.unread[1] do
    local ok, raised = pcall(child.handle.write, child.handle, child.unread[1], 0, JOB)
    local kind = not ok and errors.from(raised).kind
    if kind == "timeout" or kind == "canceled" then return end
    if not ok then
      child.unread = {}
      return
    end
    table.remove(child.unread, 1)
  end
end

--- Answers a report by a line. A child is told what it asked for and no more, so what waits here
--- is little.
---@param line string
function Child:reply(line)
  if self.ended then return end
  line = line .. "\n"
  for from = 1, #line, PIPE_BYTES do
    self.unread[#self.unread + 1] = line:sub(from, from + PIPE_BYTES - 1)
  end
  flush(self)
end

-- What all children of a version read, as JSON.
local function common_of(self, run)
  local known = self.common[run.version]
  if known then return known end
  local sources = self.source(run.version).sources
  known = json.encode { file = run.file, project = self.project, text = sources.text, stored = sources.stored,
    subflows = sources.subflows, memory = self.memory }
  self.common[run.version] = known
  table.insert(self.recent, run.version)
  if #self.recent > VERSIONS then self.common[table.remove(self.recent, 1)] = nil end
  return known
end

local function launch(self, run)
  return proc.spawn {
    cmd = { "/proc/self/exe", "node", run.file }, input = common_of(self, run),
    stdout = "pipe", stderr = "pipe", fds = { [REPORT] = "pipe", [JOB] = "feed" }, death_signal = "TERM",
  }
end

local function take_spare(self, version)
  for i, spare in ipairs(self.spares) do
    if spare.version == version then return table.remove(self.spares, i).handle end
  end
end

-- A child that has taken the job: a spare one if it still lives, else a new one.
local function employ(self, run, job)
  local line = json.encode(job) .. "\n"
  local spare = take_spare(self, run.version)
  if spare and pcall(spare.write, spare, line, JOB_SECONDS, JOB) then return spare end
  if spare then spare:close() end
  local handle = launch(self, run)
  local ok, raised = pcall(handle.write, handle, line, JOB_SECONDS, JOB)
  if ok then return handle end
  handle:close()
  error(raised, 0)
end

-- Ends spares of versions that nothing is about to start of, if there is no room otherwise.
local function make_room(self, wanted, most)
  for i = #self.spares, 1, -1 do
    if #self.spares < most then return true end
    if not wanted[self.spares[i].version] then table.remove(self.spares, i).handle:close() end
  end
  return #self.spares < most
end

--- Has children ready for attempts to come; without any wanted, ends those that are.
---@param wanted {run: {version: string, file: string}, count: integer}[]  the most urgent first
---@param most? integer  in all (default 2)
function Spawner:prepare(wanted, most)
  local missing = {}
  for _, one in ipairs(wanted) do missing[one.run.version] = one.count end
  if not next(missing) then
    for _, spare in ipairs(self.spares) do spare.handle:close() end
    self.spares = {}
    return
  end
  for _, spare in ipairs(self.spares) do
    missing[spare.version] = missing[spare.version] and missing[spare.version] - 1
  end
  for _, one in ipairs(wanted) do
    for _ = 1, missing[one.run.version] do
      if not make_room(self, missing, most or SPARES) then return end
      local ok, handle = pcall(launch, self, one.run)
      if not ok then return end -- then start will tell
      table.insert(self.spares, { version = one.run.version, handle = handle })
    end
  end
end

--- Starts an attempt.
---@param run {version: string, file: string}
---@param job table  run_id, node, attempt, upstream, sessions ... (lua/executor.lua)
function Spawner:start(run, job)
  local handle = employ(self, run, job)
  local child = setmetatable({ handle = handle, partial = {}, unread = {} }, Child)
  for fd = 1, 3 do child.partial[fd] = { bytes = 0 } end -- pieces of a line without its end yet
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
    line = "malformed report: " .. text.clean(line:sub(1, MAX_LINE)) }
end

-- The line that ends with these bytes; what came of it before is no longer pending.
local function whole(partial, bytes)
  if partial.bytes == 0 then return bytes end
  partial[#partial + 1] = bytes
  local line = table.concat(partial)
  for i = 1, #partial do partial[i] = nil end
  partial.bytes = 0
  return line
end

-- Reads what there is; false at the end. Only what is new is looked at, however long a line gets.
local function read(child, fd, events)
  local bytes = child.handle:read(fd, 0)
  if bytes == nil then return false end
  local partial, from = child.partial[fd], 1
  while true do
    local stop = bytes:find("\n", from, true)
    if not stop then break end
    events[#events + 1] = line_event(child, fd, whole(partial, bytes:sub(from, stop - 1)))
    from = stop + 1
  end
  if from <= #bytes then
    partial[#partial + 1] = bytes:sub(from)
    partial.bytes = partial.bytes + #bytes - from + 1
  end
  if partial.bytes > (STREAMS[fd] and MAX_LINE or MAX_REPORT) then
    events[#events + 1] = line_event(child, fd, whole(partial, ""))
  end
  return bytes ~= ""
end

-- The child has ended: what is left in its pipes, then its status.
local function finish(child, events)
  local status = child.handle:wait(0) -- also ends what it left in its group
  for fd = 1, 3 do
    if not child.closed or not child.closed[fd] then
      while read(child, fd, events) do end
    end
    if child.partial[fd].bytes > 0 then
      events[#events + 1] = line_event(child, fd, whole(child.partial[fd], ""))
    end
  end
  child.handle:close()
  child.ended = true
  events[#events + 1] = { child = child, type = "exit", status = status }
end

--- What the children reported; waits for it at most so long. Comes back early when the
--- process is interrupted.
---@param timeout_ms integer
---@return table[]  events for the runner's step
function Spawner:poll(timeout_ms)
  local handles, by_handle, events = {}, {}, {}
  for i, child in ipairs(self.children) do
    handles[i], by_handle[child.handle] = child.handle, child
    if child.pid then
      events[#events + 1] = { child = child, type = "started", pid = child.pid }
      child.pid = nil
    end
    if child.unread[1] then
      flush(child)
      if child.unread[1] then timeout_ms = math.min(timeout_ms, UNREAD_MS) end
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
  for _, spare in ipairs(self.spares) do spare.handle:close() end
  self.children, self.spares = {}, {}
end
Spawner.__close = Spawner.close

return spawner
