--- The runner: a process that runs things. It claims runs, drives one executor each, and lets
--- their nodes compete for `jobs` places and those of the pools.
---
--- `tidemill run` and `tidemill serve` use the same one; the first has a `root`, and then it
--- claims only that run and its subflows, and is over when they are. It is a step function like
--- the executor:
---
---     local r = runner.new { store = store, spawner = children, clock = signal.mono,
---                            wall = signal.wall, kind = "serve", jobs = 4 }
---     local events = {}
---     repeat
---       local at = r:step(events)
---       if at then events = children:poll(at - signal.mono()) end
---     until not at
---
--- Ownership. The runner has a row in the store and a lease on it. What it claims is its own
--- while the lease is kept; every write says whose run it believes it is, and is refused once
--- the run has gone to another (kind conflict, code LOST): then the run's children are killed
--- and the run is forgotten. When the lease itself is lost, so is every run; the runner takes a
--- new id and starts afresh. It looks for dead runners every third of a lease, and gives their
--- runs back to be claimed.
---
--- The store out of reach. Children go on, their reports wait, and the step is tried again with
--- growing pauses; past the lease the children are killed, since another may have taken over.

local errors = require "tidemill.errors"
local executor = require "tidemill.executor"
local gate = require "tidemill.runner.gate"
local heap = require "tidemill.heap"
local lease = require "tidemill.runner.lease"

local runner = {}
local Runner = { __name = "tidemill.runner" }
Runner.__index = Runner

local LOOK_MS = 1000 -- between two looks for claims and requests
local CLAIM_GAP_MS = 50 -- between two claims, however often the runner is poked
local BATCH, MOST_RUNS = 100, 1000
local SPARES = 2
local POOL_MS = 500 -- until a full pool is tried again
local GRACE_MS = 10000
local BACKOFF_MS, MOST_BACKOFF_MS = 200, 5000
-- Errors of the store that pass: it is restarted, or cannot be reached.
local PASSING = { connect = true, io = true, timeout = true, server = true, in_doubt = true, throttled = true }

---@class tidemill.RunnerOptions
---@field store table       lua/state.lua, or what looks like it
---@field spawner table     lua/spawner.lua, or what looks like it
---@field clock fun(): integer  milliseconds that never jump
---@field wall? fun(): integer  milliseconds since 1970 (default: the store's now)
---@field kind "serve"|"run"
---@field jobs integer      most attempts at once
---@field pools? fun(pool: string): integer?  places of a pool; nil: no limit
---@field emit? fun(event: table)  sees everything that happens; event.run, for a subflow also event.flow,
---event.parent_run, event.parent_node
---@field root? string      this run and its subflows only
---@field roots? string[]   these, one after the other
---@field lease_ms? integer (default 15000)
---@field name? string       what its id starts with (default: the host's)
---@field hold? fun(runner: string, lease_ms: integer, age_ms: integer): table  keeps the lease, as
---tidemill.lease does: held(), age(), close() (default: `step` renews it)
---@field on_reaped? fun(dead: {runner: string, kind: string, host: string, runs: string[]})
---@field log? fun(level: string, message: string)
---@field random? fun(): number
---@field most_runs? integer  claimed at once, without those that only wait, perhaps for the others (default 1000)

local function is_sooner(a, b) return a.at < b.at end

--- Makes a runner. It has no row in the store before its first step.
---@param options tidemill.RunnerOptions
function runner.new(options)
  local store = options.store
  local function nothing() end
  return setmetatable({ store = store, spawner = options.spawner, clock = options.clock, kind = options.kind,
    jobs = options.jobs, wall = options.wall or function() return store:now() end, pools = options.pools or nothing,
    emit = options.emit or nothing, log = options.log or nothing, on_reaped = options.on_reaped or nothing,
    root = options.root or options.roots and options.roots[1], roots = options.roots or { options.root },
    lease_ms = options.lease_ms or 15000, hold = options.hold, name = options.name, random = options.random,
    most_runs = options.most_runs or MOST_RUNS, gate = gate.new(), timers = heap.new(is_sooner), runs = {}, count = 0,
    idle = 0, by_child = {}, busy = 0, dirty = {}, results = {}, claim_at = 0, look_at = 0, reap_at = 0 }, Runner)
end

-- ---- errors of the store ----

-- Whether the run has gone to another runner.
local function is_lost(err) return err.kind == "conflict" and err.code == "LOST" end

local function mark_dirty(self, ex)
  if ex.dirty then return end
  ex.dirty = true
  self.dirty[#self.dirty + 1] = ex
end

-- Forgets a run, and its claim unless a newer one `follows`; what is left of its children is killed.
local function drop(self, ex, follows)
  if self.runs[ex.id] ~= ex then return end
  ex:kill()
  for _, record in ipairs(ex.nodes) do
    if record.child then self.by_child[record.child] = nil end
  end
  self.runs[ex.id], self.count = nil, self.count - 1
  if ex.idle then self.idle = self.idle - 1 end
  self.busy, ex.running, ex.dropped = self.busy - ex.running, 0, true
  if not follows then self.store:forget_run(ex.id) end
end

-- A fault of ours: the run cannot go on, but others can.
local function fail_run(self, ex, err)
  self.log("error", ("run %s: %s"):format(ex.id, err.message))
  mark_dirty(self, ex) -- if the store cannot be told now
  local ok, raised = pcall(ex.fail, ex, err)
  if not ok and not is_lost(errors.from(raised)) then error(raised, 0) end
  drop(self, ex)
  if ok then self:over(ex) end
end

-- Calls a method of an executor. An error that passes goes on to the caller, to be tried again.
local function with(self, ex, method, ...)
  local before = ex.running
  local ok, result = pcall(method, ex, ...)
  if ex.dropped then return nil end
  self.busy = self.busy + ex.running - before
  if ok then return result end
  local err = errors.from(result)
  if is_lost(err) then
    self.log("warn", ("run %s has gone to another runner"):format(ex.id))
    drop(self, ex)
  elseif PASSING[err.kind] then
    mark_dirty(self, ex)
    error(result, 0)
  else
    fail_run(self, ex, err)
  end
  return nil
end

-- ---- runs come and go ----

--- A run has ended here.
function Runner:over(ex)
  self.claim_at = math.min(self.claim_at, self.clock() + CLAIM_GAP_MS) -- another of its flow may wait for it
  if ex.id == self.root then self.result, self.executor = ex.result, ex end
  self:tell(ex, { event = "end", run = ex.id, state = ex.result.state, message = ex.result.message,
    error = ex.result.error, elapsed_ms = self.clock() - ex.started })
  local parent = ex.run.parent_run and self.runs[ex.run.parent_run]
  local node = parent and parent.by_name[ex.run.parent_node]
  if node and node.state == "polling" then
    node.next_at = self.clock()
    mark_dirty(self, parent)
  end
end

--- Tells the listener about a run.
function Runner:tell(ex, event)
  event.flow, event.parent_run, event.parent_node = ex.run.flow, ex.run.parent_run, ex.run.parent_node
  self.emit(event)
end

-- A run of which no executor can be made ends; the others go on.
local function refuse(self, run, err)
  local message, open = "the runner failed", {}
  self.log("error", ("run %s: %s"):format(run.id, err.message))
  for _, node in ipairs(run.nodes) do
    if not node.ended_at then open[#open + 1] = node.node end
  end
  self.store:end_nodes(run.id, open, "canceled", message)
  local result = { state = "failed", message = message, error = err }
  self.store:end_run(run.id, result)
  if run.id == self.root then self.result = result end
end

local function adopt(self, run)
  local before = self.runs[run.id]
  if before then
    self.log("warn", ("run %s is given to this runner again: the state store lost its claim"):format(run.id))
    drop(self, before, true)
  end
  if not run.document then
    return refuse(self, run, errors.new("not_found", ("the state store has no sources '%s'"):format(run.version)))
  end
  local ex
  ex = executor.new { run = run, store = self.store, spawner = self.spawner, clock = self.clock, wall = self.wall,
    random = self.random, pool_limit = self.pools, reserve = self.root and self.id,
    emit = function(event)
      if event.event == "subrun" then self:poke() end
      self:tell(ex, event)
    end,
    offer = function(one, record) self.gate:offer(one, record) end }
  ex.inbox = {}
  self.runs[run.id], self.count = ex, self.count + 1
  mark_dirty(self, ex)
  self:tell(ex, { event = "run", run = run.id, state = "running", cause = run.cause, scheduled_at = run.scheduled_at,
    slot_at = run.slot_at, version_no = run.version_no, epoch = run.epoch })
end

-- The root run is not here: it may be over, or with another runner.
local function look_for_root(self)
  if not self.root or self.result or self.runs[self.root] then return end
  local run = self.store:run(self.root)
  if run and not run.ended_at then
    if run.state == "queued" and self.told ~= self.root then
      self.told = self.root
      self.log("warn", ("run %s waits for %s"):format(self.root,
        require("tidemill.why").waits(self.store, run)[1]))
    end
    return
  end
  self.result = run and { state = run.state, message = run.message, error = run.error }
    or { state = "failed", message = "the run is gone from the state store" }
end

local function claim(self)
  local now = self.clock()
  if self.leaving or now < self.claim_at then return end
  self.claim_at = now + LOOK_MS
  local room = math.min(self.most_runs - self.count + self.idle, BATCH)
  if room <= 0 then return end
  local runs = self.store:claim_runs { runner = self.id, limit = room, root = self.root }
  for _, run in ipairs(runs) do adopt(self, run) end
  if #runs == room then self.claim_at = now end
  look_for_root(self)
end

--- There may be something new in the store: look now.
function Runner:poke()
  self.claim_at, self.look_at = self.clock(), self.clock()
end

local function on_requests(self)
  if self.clock() < self.look_at then return end
  for _, one in ipairs(self.count > 0 and self.store:requests(self.id) or {}) do
    local ex = self.runs[one.run]
    if ex and one.request == "stop" then
      with(self, ex, ex.stop, "stopped")
    elseif ex and one.request == "pause" then
      with(self, ex, ex.pause)
    elseif ex and one.request == "resume" then
      with(self, ex, ex.resume)
    end
    if ex and not ex.dropped then mark_dirty(self, ex) end
  end
  self.look_at = self.clock() + LOOK_MS
end

local function reap(self)
  if self.clock() < self.reap_at then return end
  for _, dead in ipairs(self.store:reap(self.id)) do
    self.log("info", ("runner %s on %s is gone; its runs: %s"):format(dead.runner, dead.host,
      #dead.runs > 0 and table.concat(dead.runs, ", ") or "none"))
    self.on_reaped(dead)
    self.claim_at = self.clock()
  end
  if self.kind == "serve" then -- queued runs and those of others too
    for _, id in ipairs(self.store:overdue()) do self.store:late(id) end
  end
  self.reap_at = self.clock() + self.lease_ms // 3
end

-- ---- the lease ----

--- Says which runs are to be driven, one after the other, if `new` did not.
---@param roots string[]
function Runner:drive(roots)
  self.roots, self.root = roots, roots[1]
end

--- Takes an id and a lease, if it has none: a run can then be made for this runner alone.
---@return string id
function Runner:register()
  if self.id then return self.id end
  local since = self.clock()
  self.id = self.store:register_runner { kind = self.kind, lease_ms = self.lease_ms, jobs = self.jobs,
    name = self.name }
  self.held = lease.keep(self, since)
  self.claim_at, self.look_at, self.reap_at = 0, 0, 0
  return self.id
end

-- Whatever it had is no longer its own.
local function lose(self, why)
  self.log("error", ("the lease of runner %s is lost (%s): its nodes are ended"):format(self.id, why))
  self.held:close()
  self.id, self.held = nil, nil
  for _, ex in pairs(self.runs) do drop(self, ex) end
  self.gate = gate.new()
end

-- ---- steps ----

-- Puts what children reported before their runs.
local function sort(self, events)
  for _, event in ipairs(events) do
    local place = self.by_child[event.child]
    if place then
      local inbox = place.ex.inbox
      inbox[#inbox + 1] = event
      event.record = place.record
      mark_dirty(self, place.ex)
    end
  end
end

-- Whether an attempt that ended while the runner leaves has done its work; others are lost.
local function is_through(record) return record.result and record.result.ok end

-- Reports are taken off once they are dealt with.
local function read_inbox(self, ex)
  local inbox, n = ex.inbox, #ex.inbox
  local done = ex.read or 0
  while done < n and not ex.dropped do
    local event = inbox[done + 1]
    if self.leaving == "now" and event.type == "exit" and not is_through(event.record) then
      with(self, ex, ex.forsake, event.record)
    else
      with(self, ex, ex.take, event.record, event)
    end
    done = done + 1
    ex.read = done
    if event.type == "exit" then
      self.by_child[event.child] = nil
      if event.record.node.pool then self.gate:open(event.record.node.pool) end
    end
  end
  ex.inbox, ex.read = {}, nil
end

-- Has the executor stepped again at `at`. Timers that were put forward stay in the heap; it is
-- made anew when most of it is such.
local function set_timer(self, ex, at)
  if at == math.huge then
    ex.timer = nil
  elseif not ex.timer or ex.timer.at ~= at then
    ex.timer = { at = at, ex = ex }
    self.timers:push(ex.timer)
  end
  if self.timers.count <= 2 * self.count + 64 then return end
  self.timers = heap.new(is_sooner)
  for _, one in pairs(self.runs) do
    if one.timer then self.timers:push(one.timer) end
  end
end

local function advance_one(self, ex)
  if ex.dropped then return end
  if #ex.inbox > 0 then read_inbox(self, ex) end
  if ex.dropped or self.leaving == "now" then return end
  local at = with(self, ex, ex.step)
  if ex.dropped then return end
  if ex.result then
    drop(self, ex)
    return self:over(ex)
  end
  set_timer(self, ex, at)
  local idle = ex:is_idle()
  if idle ~= (ex.idle or false) then self.idle, ex.idle = self.idle + (idle and 1 or -1), idle end
end

-- Takes every executor a step further that has reports or whose time has come.
local function advance(self)
  local now = self.clock()
  while self.timers:top() and self.timers:top().at <= now do
    local timer = self.timers:pop()
    if timer.ex.timer == timer and not timer.ex.dropped then
      timer.ex.timer = nil
      mark_dirty(self, timer.ex)
    end
  end
  while #self.dirty > 0 do
    local ex = self.dirty[#self.dirty]
    self.dirty[#self.dirty] = nil
    ex.dirty = nil
    advance_one(self, ex)
  end
end

local function may_start(self)
  return self.busy < self.jobs and (not self.leaving or self.leaving == "runs")
end

-- Starts what the gate lets through.
local function start(self)
  while may_start(self) do
    local ex, record = self.gate:take(self.clock(), self.jobs > 2 and self.busy + 1 >= self.jobs)
    if not ex then return end
    local ok, begun = pcall(with, self, ex, ex.start, record)
    if ok and begun then
      if record.child then self.by_child[record.child] = { ex = ex, record = record } end
      mark_dirty(self, ex)
    elseif not ex.dropped then
      self.gate:offer(ex, record)
      if not ok then error(begun, 0) end
      self.gate:close(record.node.pool, self.clock() + POOL_MS)
    end
  end
end

-- Children started ahead, for nodes that are about to start.
local function prepare(self)
  local wanted, seen = {}, {}
  local function add(ex)
    local version = ex.run.version
    local count = not seen[version] and ex:to_come(SPARES) or 0
    if count > 0 then
      seen[version] = true
      wanted[#wanted + 1] = { run = ex.run, count = count }
    end
  end
  if not self.leaving then
    for _, ex in ipairs(self.gate:foremost()) do add(ex) end
    for _, place in pairs(self.by_child) do add(place.ex) end
  end
  self.spawner:prepare(wanted, math.min(SPARES, self.jobs))
end

-- Children that do not end although the runner leaves.
local function kill_if_late(self)
  if not self.kill_at or self.kill_at > self.clock() then return end
  self.kill_at = nil
  self:kill()
end

-- Gives back the runs that are the runner's in the store and not here.
local function release_strays(self)
  if not self.strays then return end
  self.store:release_strays(self.id, self.runs)
  self.strays = nil
end

-- Whether a run may be given back now. One that left an attempt unfinished goes with the runner:
-- the attempt is then recorded as lost.
local function is_free(self, ex)
  if ex.running > 0 or #ex.inbox > 0 then return false end
  for _, record in ipairs(ex.nodes) do
    if record.state == "lost" or self.leaving == "runs" and record.state ~= "waiting" then return false end
  end
  return true
end

-- A runner that leaves gives its runs back one by one, as soon as nothing of them runs here.
local function give_back(self)
  if not self.leaving then return end
  for _, ex in pairs(self.runs) do
    if is_free(self, ex) then
      drop(self, ex)
      self.strays = true
    end
  end
end

-- Leaves once nothing holds it: what it still has is given back.
local function leave_if_done(self)
  if not self.leaving or self.left then return end
  if self.leaving == "runs" and self.count > 0 or self.busy > 0 then return end
  self.store:leave(self.id)
  for _, ex in pairs(self.runs) do drop(self, ex) end
  self.held:close()
  self.left = true
end

local function work(self)
  self:register()
  self.held:renew()
  release_strays(self)
  reap(self)
  claim(self)
  on_requests(self)
  kill_if_late(self)
  advance(self)
  start(self)
  advance(self) -- timers of what has just started
  give_back(self)
  release_strays(self)
  leave_if_done(self)
end

local function next_time(self)
  local now = self.clock()
  local at = math.min(self.leaving and math.huge or self.claim_at, self.look_at, self.reap_at, self.held:next_time())
  local timer = self.timers:top()
  if timer then at = math.min(at, timer.at) end
  if self.kill_at then at = math.min(at, self.kill_at) end
  if #self.dirty > 0 then at = now end
  local pool_at = self.gate:next_time()
  if pool_at and may_start(self) then at = math.min(at, pool_at) end
  return math.max(at, now)
end

-- The store is out of reach, or this is a fault of ours.
local function on_fault(self, raised)
  local err, now = errors.from(raised), self.clock()
  if not PASSING[err.kind] then error(raised, 0) end
  if not self.outage then self.log("warn", "the state store cannot be reached: " .. err.message) end
  local outage = self.outage or { since = now, pause = BACKOFF_MS }
  outage.until_time = now + outage.pause
  outage.pause = math.min(outage.pause * 2, MOST_BACKOFF_MS)
  self.outage = outage
end

-- The next of its roots, if one has just ended.
local function next_root(self)
  if not self.root or not self.result or self.count > 0 then return end
  self.results[self.root] = { result = self.result, executor = self.executor }
  local done = 0
  for i, root in ipairs(self.roots) do
    if root == self.root then done = i end
  end
  if self.roots[done + 1] and not self.interrupted then
    self.root, self.result, self.executor = self.roots[done + 1], nil, nil
    self:poke()
  end
end

local function is_over(self)
  next_root(self)
  return self.left or self.root ~= nil and self.result ~= nil and self.count == 0
end

--- One step: takes what children reported, then acts.
---@param events table[]  {child=, type="message"|"line"|"started"|"exit", ...} (lua/spawner.lua)
---@return number? at  when to call again at the latest, on the clock; nil once the runner is over
function Runner:step(events)
  sort(self, events)
  if self.id and not self.left then
    local held, why = self.held:held()
    if not held then lose(self, why and why.message or "not renewed in time") end
  end
  if self.outage and self.clock() < self.outage.until_time then
    return math.min(self.outage.until_time, self.held and self.held:ends_at() or math.huge)
  end
  if self.outage then
    for _, ex in pairs(self.runs) do ex:wait_afresh() end
  end
  local ok, raised = pcall(work, self)
  if not ok then
    on_fault(self, raised)
    return self.outage.until_time
  end
  if self.outage then
    self.strays = true -- a claim may have been made without an answer
    self.log("info", ("the state store is back after %.1f s"):format((self.clock() - self.outage.since) / 1000))
    self.outage = nil
  end
  if is_over(self) then return nil end
  prepare(self)
  return next_time(self)
end

-- ---- from outside ----

--- The user wants its runs to end: the first time what runs is cancelled, the second time killed.
function Runner:interrupt()
  self.interrupted = true
  for _, ex in pairs(self.runs) do
    ex:interrupt()
    mark_dirty(self, ex)
  end
  if self.root and not self.runs[self.root] and not self.result then
    self.result = { state = "canceled", message = "interrupted" }
    pcall(self.store.request, self.store, self.root, "stop")
  end
end

--- Claims nothing more and comes to an end; `step` then gives nil.
---
---     "runs"   runs that have begun go on to their end; the others are given back
---     "nodes"  what runs now finishes, nothing more starts; the runs are given back
---     "now"    what runs now is cancelled, killed 10 s later; the runs are given back, and
---              whoever claims them repeats those attempts, which count as lost
---
--- A later call may be more urgent, not less.
---@param how? "runs"|"nodes"|"now"  (default "nodes")
function Runner:drain(how)
  local rank = { runs = 1, nodes = 2, now = 3 }
  how = how or "nodes"
  if self.leaving and rank[self.leaving] >= rank[how] then return end
  self.leaving = how
  for _, ex in pairs(self.runs) do ex.leaving = how ~= "runs" end -- no node of them starts any more
  if how ~= "now" then return end
  self.kill_at = self.clock() + GRACE_MS
  for child in pairs(self.by_child) do child:cancel() end
end

--- What runs now is killed; after `drain "now"`, when there is no more time.
function Runner:kill()
  for child in pairs(self.by_child) do child:kill() end
end

--- Ends at once, when its loop is over or has failed: what it still has is given back.
function Runner:close()
  for _, ex in pairs(self.runs) do drop(self, ex) end
  self.gate = gate.new()
  if not self.id or self.left then return end
  self.left = true
  self.held:close()
  self.store:leave(self.id)
end

--- What it does now.
---@return {runs: integer, nodes: integer, ready: integer, jobs: integer, id: string?, outage_ms: integer?}
function Runner:active()
  return { runs = self.count, nodes = self.busy, ready = self.gate.count, jobs = self.jobs, id = self.id,
    outage_ms = self.outage and self.clock() - self.outage.since }
end

return runner
