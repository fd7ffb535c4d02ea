--- The executor: one run becomes node attempts, in dependency order, under the flow's policies.
---
--- It is a step function over a clock, the state store and a spawner, so that a test drives it
--- with fakes. It starts nothing by itself: nodes that may start are offered, and the runner,
--- which has the runs of many flows to weigh, calls `start`. It works on the run's document and
--- on the states in the store, so a run begins, goes on after `restore`, and is taken over from
--- a lost runner in the same way.
---
--- The store comes first. Each change is written before it is made in memory, and what follows
--- from a change (policies, skips, the end) is worked out anew from the states at every step.
--- So a step that the store interrupts, because it is out of reach, is simply made again.
---
--- Policies. After a node failed for good: `complete_running` lets running nodes finish, those
--- between two attempts or two looks included, and starts no other but those whose trigger is
--- there for failures; `stop` cancels them; `continue` leaves all to the triggers
--- (lua/executor/triggers.lua). Nodes that never start are skipped. A failure that a node
--- allows changes nothing for the others.
---
--- Requests. `stop` cancels what runs and ends the run as canceled. `pause` lets running nodes
--- finish and starts none; the run is paused once nothing runs, and goes on by `resume`.
---
--- Timeouts. An attempt past its timeout is cancelled (SIGTERM: the child cancels its queries
--- and aborts its uploads) and, if it is still there 10 s later, killed. An attempt that is
--- through before the cancel reaches it counts as a success: its work is done. Time spent
--- waiting between two looks does not count, nor does the time in which a load takes the objects of
--- an extract that still runs. A node that waits longer for a place than its
--- max_wait fails without a retry. That wait is not in the store: it begins anew with another
--- runner, after a pause, and when the store was out of reach.
---
--- A node that has not ended so long after the run's start as its deadline says is late. That is
--- recorded once, with the notices, and has no other effect.

local ends = require "tidemill.executor.ends"
local errors = require "tidemill.errors"
local logs = require "tidemill.executor.logs"
local messages = require "tidemill.executor.messages"
local pipeline = require "tidemill.executor.pipeline"
local triggers = require "tidemill.executor.triggers"
local waits = require "tidemill.executor.waits"

local executor = {}
local Executor = { __name = "tidemill.executor" }
Executor.__index = Executor

local GRACE_MS = 10000
local MOST_LOST = 5
local OVER = { success = true, failed = true, skipped = true, canceled = true }

---@class tidemill.ExecutorOptions
---@field run table         as the store's claim_runs gives it, with document and nodes
---@field store table       lua/state.lua, or what looks like it
---@field spawner table     lua/spawner.lua, or what looks like it
---@field clock fun(): integer  milliseconds that never jump
---@field wall fun(): integer   milliseconds since 1970, of the store's clock
---@field random? fun(): number  0 to 1, for the jitter
---@field emit? fun(event: table)  sees everything that happens
---@field offer fun(executor: table, record: table)  a node may start
---@field reserve? string   the one runner that may claim its subflows
---@field pool_limit? fun(pool: string): integer?

-- A node of the run: what the document says, and how far it is.
local function record_of(self, row, node)
  local now, wall = self.clock(), self.wall()
  local record = { name = row.node, kind = row.kind, node = node, position = row.position, state = row.state,
    attempt = row.attempts, failures = row.attempts - row.before - row.lost, lost = row.lost_row,
    outputs = row.outputs or {}, rows = row.row_count, bytes = row.bytes, message = row.message,
    waiting = row.waiting, tolerated = row.tolerated == 1 }
  if record.kind == "branch" and record.state == "success" and record.outputs.result == "false" then
    record.closed = row.message or "its condition is false"
  end
  if record.state == "waiting" and record.lost > 0 then record.state = "retrying" end
  if record.state == "polling" then record.failures = record.failures - 1 end -- its attempt goes on
  if record.state == "retrying" or record.state == "polling" then
    record.next_at = now + math.max((row.next_at or wall) - wall, 0)
  end
  waits.resume(self, record)
  record.started = row.started_at and now - math.max(wall - row.started_at, 0)
  record.ended = row.ended_at and now - math.max(wall - row.ended_at, 0)
  if node.deadline and not row.late_at then
    record.deadline_at = (self.run.started_at or wall) + math.ceil(node.deadline * 1000)
    record.late_at = now + record.deadline_at - wall
  end
  return record
end

--- Makes the executor of a claimed run.
---@param options tidemill.ExecutorOptions
function executor.new(options)
  local run = options.run
  local self = setmetatable({ run = run, id = run.id, document = options.document or run.document,
    store = options.store, spawner = options.spawner, clock = options.clock, wall = options.wall,
    random = options.random or math.random, listener = options.emit, offer = options.offer,
    reserve = options.reserve, pool_limit = options.pool_limit, nodes = {}, by_name = {}, running = 0,
    interrupted = 0, paused = run.state == "paused" and "paused" or nil }, Executor)
  local by_name = {}
  for _, node in ipairs(self.document.nodes) do by_name[node.name] = node end
  for i, row in ipairs(run.nodes) do
    local record = record_of(self, row, by_name[row.node] or { name = row.node })
    self.nodes[i], self.by_name[row.node] = record, record
  end
  for i, row in ipairs(run.nodes) do
    local ups = {}
    for _, name in ipairs(row.upstream or {}) do ups[#ups + 1] = self.by_name[name] end
    self.nodes[i].ups = ups
  end
  pipeline.link(self)
  self.late_at = run.deadline_at and not run.late_at
    and self.clock() + run.deadline_at - self.wall() or nil
  self.started = self.clock()
  return self
end

--- Tells the listener; every event names its run.
---@param event table
function Executor:tell(event)
  if not self.listener then return end
  event.run = self.id
  self.listener(event)
end

function Executor:tell_node(record, more)
  local event = { event = "node", node = record.name, state = record.state, attempt = record.attempt,
    rows = record.rows, bytes = record.bytes, started = record.started, ended = record.ended }
  for key, value in pairs(more or {}) do event[key] = value end
  self:tell(event)
end

--- Records why something is as it is; the same reason for the same node once in a row.
function Executor:explain(record, what, reason)
  if record.told == reason then return end
  self.store:decide(self.id, record.name, what, reason)
  record.told = reason
end

-- ---- nodes that end without an attempt ----

-- Ends nodes that will not run (again).
local function end_nodes(self, records, node_state, reason)
  if #records == 0 then return end
  local names = {}
  for i, record in ipairs(records) do names[i] = record.name end
  self.store:end_nodes(self.id, names, node_state, reason)
  for _, record in ipairs(records) do
    record.state, record.message, record.next_at = node_state, reason, nil
    record.ended = record.started and self.clock() or nil
    self:tell_node(record, { message = reason })
  end
end

local function with_state(self, wanted)
  local found = {}
  for _, record in ipairs(self.nodes) do
    if record.state == wanted then found[#found + 1] = record end
  end
  return found
end

-- ---- policies and requests ----

-- Asks a running attempt to end; the first reason stays.
local function cancel(self, record, reason, why)
  if record.cancel then return end
  self.store:decide(self.id, record.name, why == "timeout" and "timeout" or "cancel", reason)
  record.cancel, record.cancel_reason = why, reason
  record.kill_at = self.clock() + GRACE_MS
  if record.child then record.child:cancel() end
end

-- The failure that the run's policy answers to: the first in the order of the plan.
local function failure(self)
  if self.failed then return self.failed end
  for _, record in ipairs(self.nodes) do
    if record.state == "failed" and not record.tolerated then return record end
  end
end

-- What the states, the policy and requests come to: nothing new starts (draining), what runs is
-- cancelled (stopping).
local function apply_policy(self)
  self.failed = failure(self)
  local policy = self.document.on_error or "complete_running"
  if self.failed and policy ~= "continue" and not self.draining then
    self.draining = ("node '%s' failed and on_error is %s"):format(self.failed.name, policy)
    self.handlers = policy == "complete_running"
    if policy == "stop" then self.stopping, self.why = self.draining, "stop" end
  end
  if not self.stopping then return end
  end_nodes(self, with_state(self, "retrying"), "canceled", self.stopping)
  for _, record in ipairs(with_state(self, "polling")) do waits.cancel(self, record, self.stopping) end
  for _, record in ipairs(with_state(self, "running")) do cancel(self, record, self.stopping, self.why) end
end

--- Ends the run: what runs is cancelled, nothing more starts. To be followed by a step.
---@param message string  of the run, such as "stopped"
function Executor:stop(message)
  if self.stopped then return end
  self.stopped = message
  self.stopping, self.draining, self.handlers, self.why = message, "the run was " .. message, false, "interrupt"
  self.paused = nil
end

--- The user wants the run to end: the first time its attempts are cancelled, the second time
--- killed. To be followed by a step.
function Executor:interrupt()
  self.interrupted = self.interrupted + 1
  if self.interrupted == 1 then return self:stop "interrupted" end
  self:kill()
end

--- Kills what runs.
function Executor:kill()
  for _, record in ipairs(self.nodes) do
    if record.child then record.child:kill() end
  end
end

--- Lets running nodes finish and starts none, until `resume`.
function Executor:pause()
  if not self.stopping and not self.paused then self.paused = "wanted" end
end

--- Goes on after `pause`, whether it has come to a rest or not.
function Executor:resume()
  self.store:resume_run(self.id)
  if not self.paused then return end
  self.paused = nil
  self:wait_afresh()
  self:tell { event = "run", state = "running" }
end

--- Nodes that wait for a place have waited for something else until now.
function Executor:wait_afresh()
  for _, record in ipairs(self.nodes) do
    if record.ready_at then record.ready_at = self.clock() end
  end
end

-- ---- starts ----

-- Of all nodes upstream, near and far: their outputs, and what became of them.
local function upstream_of(record, outputs, status)
  outputs, status = outputs or {}, status or {}
  for _, up in ipairs(record.ups) do
    if not status[up.name] then
      outputs[up.name] = up.outputs
      status[up.name] = { state = up.state, error = up.error and up.error.message
        or up.state == "failed" and up.message or nil }
      upstream_of(up, outputs, status)
    end
  end
  return outputs, status
end

local function job_of(self, record, sessions)
  local run = self.run
  local outputs, status = upstream_of(record)
  if record.fed then outputs[record.source.name] = {} end -- it has none before it succeeds
  local settings = run.settings or {}
  return { run_id = self.id, flow = run.flow, node = record.name, attempt = record.attempt, ack = true,
    file = run.file, version = run.version, scheduled = run.scheduled_at / 1000, business = run.business_at / 1000,
    timezone = run.timezone, cause = run.cause, set = settings.set, upstream = outputs, status = status,
    waiting = record.waiting, sessions = sessions, feed = record.fed,
    followed = record.followed }
end

--- Whether an offered node still wants to start.
---@param record table
---@param how? string  as it was offered: "now", or "ahead" of its turn (default: either)
function Executor:wants(record, how)
  if how and record.offered ~= how then return false end
  if record.offered == "ahead" and not pipeline.may_start(self, record) then return false end
  if self.paused or self.result or self.dropped then return false end
  if record.state == "waiting" then return record.offered end
  if self.stopping then return false end
  return (record.state == "retrying" or record.state == "polling") and record.offered
end

--- Starts an attempt of an offered node, or the next look of one that polls. False when its pool
--- is full: it stays offered. (One that is ahead of its turn does not; it is offered again later.)
---@return boolean started
function Executor:start(record)
  local attempt = record.state == "polling" and record.attempt or record.attempt + 1
  local pool = record.node.pool
  local limit = pool and self.pool_limit and self.pool_limit(pool)
  local sessions = attempt > 1 and self.store:sessions(self.id, record.name) or nil
  local fed = pipeline.feed_of(record)
  local begun = self.store:begin_attempt(self.id, record.name, attempt,
    limit and { pool = pool, limit = fed and limit - 1 or limit } or nil, pipeline.decision(fed))
  if not begun and fed then
    pipeline.put_off(self, record)
    return true
  elseif not begun then
    self:explain(record, "wait", ("pool '%s' is full (%d at once)"):format(pool, limit))
    return false
  end
  local now = self.clock()
  if attempt > record.attempt then record.spent = 0 end
  record.attempt, record.state, record.offered, record.next_at = attempt, "running", nil, nil
  record.ready_at = nil
  record.cancel, record.kill_at, record.result, record.told = nil, nil, nil, nil
  record.outputs, record.rows, record.bytes, record.detail = {}, nil, nil, nil
  pipeline.begin(record, fed)
  record.started, record.attempt_started = record.started or now, now
  self.running = self.running + 1
  self:tell_node(record, fed and { feeds_on = fed.node } or nil)
  local ok, child = pcall(self.spawner.start, self.spawner, self.run, job_of(self, record, sessions))
  if not ok then
    record.spawn_error = child
    return true
  end
  record.child = child
  if record.node.timeout and not record.fed then
    record.timeout_at = now + math.max(math.ceil(record.node.timeout * 1000) - (record.spent or 0), 0)
  end
  return true
end

-- ---- a step ----

-- When a node has waited too long for a place; nil if it does not wait, or may wait for ever.
local function most_wait_at(self, record)
  local most = record.node.max_wait
  if not most or not record.ready_at or self.paused or self.leaving then return nil end
  return record.ready_at + math.ceil(most * 1000)
end

-- What a node waits for that may start.
local function place_of(self, record)
  local pool = record.node.pool
  local limit = pool and self.pool_limit and self.pool_limit(pool)
  if limit and self.store:pool_taken(pool) >= limit then
    return ("a place in pool '%s' (%d at once)"):format(pool, limit)
  end
  return "a free place, of those that --jobs gives"
end

-- Offers a node, or fails it if it has been on offer too long.
local function offer(self, record)
  local now = self.clock()
  record.ready_at = record.ready_at or now
  local until_time = most_wait_at(self, record)
  if until_time and until_time <= now then
    ends.refuse(self, record, errors.new("timeout", ("waited %s for %s"):format(ends.seconds((now - record.ready_at)
      / 1000), place_of(self, record)), { hint = "let max_wait, the pool or --jobs be larger" }))
    return
  end
  if record.offered == "now" then return end
  record.offered = "now"
  self.offer(self, record)
end

local function give_up_lost(self, record)
  ends.give_up(self, record, errors.new("system",
    ("%d attempts in a row were lost with their runners"):format(record.lost),
    { hint = "see what ends its runners, then: tidemill restore " .. self.id }))
end

-- What is to become of a node that waits for its upstream: "start", "skip", "ahead", or nil: wait on.
local function verdict_of(self, record)
  local verdict, reason = triggers.verdict(record.node.trigger, record.ups)
  if not verdict and pipeline.may_start(self, record) then return "ahead" end
  if verdict == "start" and record.state == "waiting" and self.draining
    and not (self.handlers and triggers.handles_failure[record.node.trigger] and #record.ups > 0) then
    return "skip", self.draining
  end
  return verdict, reason
end

local function follow(self, record, verdict, reason)
  if verdict == "skip" then
    end_nodes(self, { record }, "skipped", reason)
  elseif verdict == "start" and not self.paused then
    offer(self, record)
  elseif verdict == "ahead" and not self.paused and not record.offered then
    record.offered = "ahead"
    self.offer(self, record)
  end
end

-- Looks at every node that does not run: skips it, offers it, or lets it wait. True when one failed
-- by that, to which the policy has not answered yet.
local function settle(self)
  local now, known = self.clock(), self.failed
  for _, record in ipairs(self.nodes) do -- in order: upstream comes first
    if record.state == "waiting" then
      follow(self, record, verdict_of(self, record))
    elseif record.state == "retrying" and record.lost >= MOST_LOST then
      give_up_lost(self, record)
    elseif record.state == "retrying" and record.source then -- it may have been ahead of its turn
      local verdict, reason = verdict_of(self, record)
      record.held = verdict == nil
      if verdict == "skip" or record.next_at <= now then follow(self, record, verdict, reason) end
    elseif record.state == "retrying" and record.next_at <= now and not self.paused then
      offer(self, record)
    elseif record.state == "polling" and not self.paused then
      if waits.look(self, record, now) then offer(self, record) end
    end
  end
  return failure(self) ~= known
end

local function look_at_timers(self)
  local now = self.clock()
  for _, record in ipairs(self.nodes) do
    if record.spawn_error then ends.on_exit(self, record, { code = 1 }) end
    if record.timeout_at and record.timeout_at <= now and not record.cancel then
      cancel(self, record, ("no end after %s"):format(ends.seconds(record.node.timeout)), "timeout")
    end
    if record.kill_at and record.kill_at <= now then
      self.store:decide(self.id, record.name, "kill", "it did not end when it was cancelled")
      record.kill_at = nil
      if record.child then record.child:kill() end
    end
  end
  if self.flush_at and self.flush_at <= now then logs.flush_all(self) end
  for _, record in ipairs(self.nodes) do
    if record.late_at and record.late_at <= now and not OVER[record.state] then
      self.store:late_node(self.id, record.name, record.deadline_at)
      record.late_at = nil
      self:tell { event = "late", node = record.name }
    end
  end
  if self.late_at and self.late_at <= now then
    self.store:late(self.id)
    self.late_at = nil
    self:tell { event = "late" }
  end
end

local function next_time(self)
  local at = math.huge
  local function sooner(time)
    if time and time < at then at = time end
  end
  sooner(self.flush_at)
  sooner(self.late_at)
  for _, record in ipairs(self.nodes) do
    if not OVER[record.state] then
      sooner(record.late_at)
      sooner(most_wait_at(self, record))
    end
    if record.state == "running" then
      sooner(not record.cancel and record.timeout_at or nil)
      sooner(record.kill_at)
      if record.spawn_error then sooner(self.clock()) end
    elseif not self.paused and not record.offered and not record.held then
      sooner(record.next_at)
      sooner(record.not_before and record.not_before > self.clock() and record.not_before or nil)
      if record.state == "polling" then sooner(record.wait_until) end
    end
  end
  return at
end

-- What a person reads first.
local function outcome(self)
  local count = { success = 0, failed = 0, skipped = 0, canceled = 0, tolerated = 0 }
  for _, record in ipairs(self.nodes) do
    local key = record.state == "failed" and record.tolerated and "tolerated" or record.state
    count[key] = count[key] + 1
  end
  if self.stopped and count.skipped + count.canceled + count.failed > 0 then
    return { state = "canceled", message = self.stopped }
  elseif self.failed then
    local message = ("node '%s' failed"):format(self.failed.name)
    if count.failed > 1 then message = ("%s, and %d more"):format(message, count.failed - 1) end
    return { state = "failed", message = message, error = ends.error_of_node(self, self.failed) }
  end
  return { state = "success", message = count.tolerated > 0
    and ("%d failed, which the flow allows"):format(count.tolerated) or nil }
end

local function finish_if_over(self)
  if self.running > 0 then return end
  for _, record in ipairs(self.nodes) do
    if not OVER[record.state] then return end
  end
  logs.flush_all(self)
  local result = outcome(self)
  result.sealed = self.seals
  self.store:end_run(self.id, result)
  self.result = result
end

--- One step, after the reports of children went to `take`: what the states, timers and policies
--- ask for. The run is over when `result` is set.
---@return number at  when to call again at the latest, on the clock; math.huge: when something happens
function Executor:step()
  look_at_timers(self)
  pipeline.step(self)
  repeat apply_policy(self) until not settle(self)
  finish_if_over(self)
  if self.result then return math.huge end
  if self.paused == "wanted" and self.running == 0 then
    self.store:pause_run(self.id)
    self.paused = "paused"
    self:tell { event = "run", state = "paused" }
  end
  return next_time(self)
end

--- Ends the run as failed by a fault of the runner, with whatever of it is open.
---@param err table
function Executor:fail(err)
  local message, open = "the runner failed", {}
  for _, record in ipairs(self.nodes) do
    if record.state == "running" then
      self.store:end_attempt(self.id, record.name, record.attempt,
        { state = "canceled", node_state = "canceled", message = message })
    elseif not OVER[record.state] then
      open[#open + 1] = record.name
    end
  end
  self.store:end_nodes(self.id, open, "canceled", message)
  local result = { state = "failed", message = message, error = err }
  self.store:end_run(self.id, result)
  self.result = result
end

--- Whether it only waits, for a user or for what its nodes look at, and needs no place.
function Executor:is_idle()
  if self.paused == "paused" then return true end
  local polls = false
  for _, record in ipairs(self.nodes) do
    if record.state == "running" or record.offered then return false end
    polls = polls or record.state == "polling"
  end
  return polls
end

--- How many attempts may yet start, as far as one can tell; counts no further than `most`.
---@param most integer
function Executor:to_come(most)
  local count = 0
  if self.draining or self.paused or self.result then return 0 end
  for _, record in ipairs(self.nodes) do
    if record.state == "waiting" or record.state == "retrying" then
      count = count + 1
      if count >= most then break end
    end
  end
  return count
end

--- The process of a node is gone, and its work with it: whoever claims the run next repeats it.
function Executor:forsake(record)
  logs.flush(self, record)
  ends.detach(self, record)
  record.state = "lost"
end

--- Takes what the child of a node reported (lua/spawner.lua).
---@param record table
---@param event table  type = "message"|"line"|"started"|"exit"
function Executor:take(record, event)
  if event.child ~= record.child then return end
  messages.take(self, record, event)
end

return executor
