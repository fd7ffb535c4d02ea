--- Moves the rows: sessions that take ranges from one queue, each into objects of its own.
---
---     queue of ranges -> COPY of a session -> [pace] -> [compress] -> objects of that job
---
--- Streams run in threads; this loop gives a range to each that is hungry, tells the runner of completed
--- objects, and watches the age of the snapshot. An extract that may be resumed begins a stream for each
--- range, so that an object never holds rows of two. A map runs Lua, so its rows come in one stream, which has
--- the thread of this loop. When one stream fails all are cancelled before any is waited for.

local budget = require "tidemill.budget"
local crash = require "tidemill.crash"
local deal = require "tidemill.extract.deal"
local errors = require "tidemill.errors"
local guarded = require "tidemill.guarded"
local resume = require "tidemill.extract.resume"
local signal = require "tidemill.signal"
local stream = require "stream"

local workers = {}

local TICK = 0.2 -- seconds between two looks at the objects
local PING_MS = 10000 -- an idle session is asked so often whether it is still there

---@class extract.Place
---@field store oss.Store
---@field prefix string
---@field who manifest.Who
---@field resumable? boolean  what a failed attempt has finished stays for the next

---@class extract.Work
---@field ctx tidemill.Context
---@field spec table
---@field snap extract.Snapshot
---@field selection extract.Selection
---@field columns extract.Columns  compared with those of the last manifest
---@field split extract.Split
---@field shape extract.Shape
---@field place extract.Place
---@field share tidemill.Budget
---@field seals extract.Seals
---@field pace? stream.Rate
---@field dealt? oss.Objects[]  sinks of the jobs, when the flow says how many objects there are to be
---@field crew? extract.Crew

---@class extract.Crew
---@field [integer] table  its workers: number, conn, sink, stages, job, chain, range, told, busy
---@field rows integer     read so far, of streams that have ended
---@field bytes integer    the same, as the server sent them

local Crew = {}
Crew.__index = Crew

local function source_of(work, worker, range)
  return worker.conn:copy_out(work.shape:copy(work.selection:sql(range)), { wait = false })
end

local function sink_of(work, job)
  if work.dealt then return work.dealt[job] end
  return work.place.store:objects(work.share:give("writer", work.shape:sink(work.place, job, work.split)))
end

-- ---- what is waited for ----

local function forget(self, one)
  for i, waited in ipairs(self.waited) do
    if waited == one then return table.remove(self.waited, i) end
  end
end

local function watch(self, worker, one)
  self.owner[one] = worker
  table.insert(self.waited, one)
end

-- ---- streams ----

local function start(self, worker, source, job)
  local work = self.work
  worker.sink, worker.told = sink_of(work, job), 0
  worker.stages = work.shape:stages(work.share, work.pace)
  local parts = { source, table.unpack(worker.stages) }
  parts[#parts + 1] = worker.sink
  parts[#parts + 1] = { queue = budget.QUEUE }
  worker.source, worker.job = source, stream.start(table.unpack(parts))
  watch(self, worker, worker.job)
  worker.fd = work.ctx.followed and worker.sink:fd() or nil
  if worker.fd then watch(self, worker, worker.fd) end -- a load waits for each object
end

-- A stream for one range, or one that takes many.
local function start_range(self, worker)
  local range = self.work.split.next()
  worker.range, worker.busy = range, range ~= nil
  if not range then return end
  crash.point "extract.range.before"
  start(self, worker, source_of(self.work, worker, range), range.number)
end

local function start_chain(self, worker)
  worker.chain = stream.chain()
  start(self, worker, worker.chain:source(), worker.number)
  watch(self, worker, worker.chain)
end

-- No range is left. Streams end all together, so that until then each can still take back all it wrote.
local function rest(self, worker)
  forget(self, worker.chain)
  self.resting = self.resting + 1
  if self.resting < #self then return end
  for _, one in ipairs(self) do one.chain:finish() end
end

local function feed(self, worker)
  if worker.busy then crash.point "extract.range.after" end
  local range = self.work.split.next()
  worker.busy = range ~= nil
  if not range then return rest(self, worker) end
  crash.point "extract.range.before"
  worker.chain:give(source_of(self.work, worker, range)) -- where it has failed, its job says why
end

-- Tells of what a stream has completed. Of a range, the last object is told when it is known to be.
local function tell(self, worker, ended)
  local seals, span = self.work.seals, worker.range and worker.range.span
  local completed = worker.sink:objects(worker.told)
  local last = span and table.remove(completed)
  worker.told = worker.told + #completed
  seals:add(completed, span)
  if ended and last then seals:add({ last }, resume.closing(span, worker.told + 1)) end
end

-- A stream that has ended; raises what went wrong.
local function finish(self, worker)
  forget(self, worker.job)
  forget(self, worker.fd)
  local stats = worker.job:join()
  self.rows, self.bytes = self.rows + stats.rows_in, self.bytes + stats.bytes_in
  worker.job:close()
  worker.job = nil
  worker.source:close()
  tell(self, worker, true)
  if self.work.spec.resume then
    worker.sink:close() -- else `take_back` may want it
    for _, stage in ipairs(worker.stages) do stage:close() end
  end
  if worker.chain then return worker.chain:close() end
  crash.point "extract.range.after"
  start_range(self, worker)
end

-- ---- the loop ----

local function progress(self)
  local rows, bytes = self.rows, self.bytes
  for _, worker in ipairs(self) do
    if worker.job then
      local stats = worker.job:stats()
      rows, bytes = rows + stats.rows_in, bytes + stats.bytes_in
    end
  end
  self.work.ctx:progress { rows = rows, bytes = bytes }
end

-- A session that has nothing left to do holds its transaction open until all are through.
local function ping(self)
  if signal.mono() < self.ping_at then return end
  self.ping_at = signal.mono() + PING_MS
  for _, worker in ipairs(self) do
    if not worker.busy then worker.conn:value "SELECT 1" end
  end
end

local function loop(self)
  while #self.waited > 0 do
    for _, ready in ipairs(stream.wait(self.waited, TICK)) do
      local worker = self.owner[ready]
      if ready == worker.job then finish(self, worker) elseif ready == worker.chain then feed(self, worker) end
    end
    for _, worker in ipairs(self) do
      if worker.job then tell(self, worker, false) end
    end
    progress(self)
    ping(self)
    self.work.snap:check_age()
  end
end

local function close(self)
  for _, worker in ipairs(self) do
    if worker.job then worker.job:cancel() end
  end
  for _, worker in ipairs(self) do
    if worker.job then
      worker.job:close()
      worker.source:close() -- one that `finish` has joined gave its streams back; no COPY may outlive this
      worker.sink = nil     -- it was aborted
    end
    if worker.chain then worker.chain:close() end
  end
end

-- One stream in this thread.
local function pump(self)
  local work, worker = self.work, { number = 1, conn = self.work.snap.conn, told = 0 }
  local source <close> = source_of(work, worker, work.split.next())
  local sink = sink_of(work, 1)
  self[1], worker.sink = worker, sink
  local parts = { source, table.unpack(work.shape:stages(work.share, work.pace)) }
  parts[#parts + 1] = sink
  parts[#parts + 1] = { queue = budget.QUEUE, progress = function(stats)
    tell(self, worker, false)
    work.snap:check_age()
    work.ctx:progress { rows = stats.rows_out, bytes = stats.bytes_in }
  end }
  local stats = stream.pump(table.unpack(parts))
  self.rows, self.bytes = stats.rows_in, stats.bytes_in
  tell(self, worker, true)
end

local function run(self)
  for i = 1, self.work.split.jobs do self[i] = { number = i, conn = self.work.snap.sessions[i] } end
  for _, worker in ipairs(self) do
    if self.work.spec.resume then start_range(self, worker) else start_chain(self, worker) end
  end
  loop(self)
end

-- A session that breaks takes the snapshot with it.
local function explained(self, raised)
  for _, conn in ipairs(errors.is(raised) and self.work.snap.sessions or {}) do
    if conn:state() == "broken" then
      raised.hint = (raised.hint and raised.hint .. "; " or "")
        .. "the snapshot goes with its sessions: the next attempt takes another"
      break
    end
  end
  return raised
end

--- Takes back what was written, but for the finished ranges of an extract that may be resumed. An
--- interrupt does not keep it from that.
---@param work extract.Work  after `run`
function workers.take_back(work)
  for _, worker in ipairs(work.crew) do
    if worker.sink and not work.spec.resume then worker.sink:remove() end
  end
end

--- Moves all ranges of the split into objects, and tells of them. Returns what was read. Raises the first
--- failure; then no stream runs any more.
---@param work extract.Work
---@return {rows: integer, bytes: integer}
function workers.run(work)
  work.dealt = deal.sinks(work)
  local self = setmetatable({ work = work, waited = {}, owner = {}, rows = 0, bytes = 0, resting = 0,
    ping_at = signal.mono() + PING_MS }, Crew)
  work.crew = self
  local ok, raised = guarded.call(work.spec.map and pump or run, self)
  close(self)
  if not ok then error(explained(self, raised), 0) end
  return { rows = self.rows, bytes = self.bytes }
end

return workers
