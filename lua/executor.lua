--- The executor: a plan becomes node attempts, in dependency order, under the flow's policies.
---
--- It is a step function over a clock, the state store and a spawner, so that a test drives it
--- with fakes. `step(events)` takes what the children reported, looks at its timers, starts
--- what may start, and says when it wants to be called again. It keeps nothing that decides
--- correctness in memory only: each change is in the store before the next is made.
---
--- Policies. After a node failed for good: `complete_running` lets running nodes finish, those
--- between two attempts included, and starts no other; `stop` cancels them; `continue` goes on
--- with nodes that do not depend on the failure. Nodes that never start are skipped.
---
--- Retries. A failed attempt is repeated while the node has retries left, unless its error says
--- that a repeat cannot help or may do harm: kinds usage, auth, integrity, in_doubt. The wait is
--- retry_delay, times backoff for each further retry, at most an hour, plus up to a quarter.
---
--- Timeouts. An attempt past its timeout is cancelled (SIGTERM: the child cancels its queries
--- and aborts its uploads) and, if it is still there 10 s later, killed. An attempt that is
--- through before the cancel reaches it counts as a success: its work is done.

local errors = require "tidemill.errors"

local executor = {}
local Executor = { __name = "tidemill.executor" }
Executor.__index = Executor

local GRACE_MS, HEARTBEAT_MS, FLUSH_MS, FLUSH_LINES = 10000, 5000, 250, 500
local MAX_DELAY_S = 3600
local FINAL = { usage = true, auth = true, integrity = true, in_doubt = true, canceled = true }
local OVER = { success = true, failed = true, skipped = true, canceled = true }

---@class tidemill.ExecutorOptions
---@field plan table        nodes in order (name, after, retries, retry_delay, backoff, timeout), on_error
---@field run string        the run's id in the store
---@field store table       lua/state.lua, or what looks like it
---@field spawner table     lua/spawner.lua, or what looks like it
---@field clock fun(): integer  milliseconds that never jump
---@field random? fun(): number  0 to 1, for the jitter
---@field jobs integer      most attempts at once
---@field heartbeat? fun()  called every 5 s
---@field emit? fun(event: table)  sees everything that happens
---@field only? table<string, boolean>  nodes to run; the others count as done

--- Makes an executor for a run that the store has just begun.
---@param options tidemill.ExecutorOptions
function executor.new(options)
  local self = setmetatable({ plan = options.plan, run = options.run, store = options.store,
    spawner = options.spawner, clock = options.clock, random = options.random or math.random,
    jobs = options.jobs, heartbeat = options.heartbeat or function() end, emit = options.emit or function() end, nodes = {}, by_name = {}, by_child = {},
    running = 0, logs = {}, draining = nil, interrupted = 0 }, Executor)
  for i, node in ipairs(options.plan.nodes) do
    local record = { name = node.name, kind = node.kind, after = node.after, node = node, state = "waiting",
      attempt = 0, outputs = {}, position = i }
    self.nodes[i], self.by_name[node.name] = record, record
  end
  self.started, self.heartbeat_at = self.clock(), self.clock() + HEARTBEAT_MS
  return self
end

local function node_event(self, record, more)
  local event = { event = "node", node = record.name, state = record.state, attempt = record.attempt,
    rows = record.rows, bytes = record.bytes, started = record.started, ended = record.ended }
  for key, value in pairs(more or {}) do event[key] = value end
  self.emit(event)
end

-- ---- logs ----

local function flush(self, record)
  local lines = self.logs[record.name]
  if not lines then return end
  self.logs[record.name] = nil
  self.store:add_logs(self.run, record.name, record.attempt, lines)
end

local function flush_all(self)
  for _, record in ipairs(self.nodes) do flush(self, record) end
  self.flush_at = nil
end

local function add_line(self, record, stream, level, line)
  local lines = self.logs[record.name] or {}
  self.logs[record.name] = lines
  lines[#lines + 1] = { at = self.spawner:wall(), stream = stream, level = level, line = line }
  self.emit { event = "log", node = record.name, attempt = record.attempt, stream = stream, level = level,
    line = line }
  if #lines >= FLUSH_LINES then flush(self, record) end
  self.flush_at = self.flush_at or self.clock() + FLUSH_MS
end

-- ---- ends ----

-- Ends nodes that will not run (again).
local function end_nodes(self, records, node_state, reason)
  if #records == 0 then return end
  local names = {}
  for i, record in ipairs(records) do
    names[i], record.state, record.message, record.retry_at = record.name, node_state, reason, nil
    record.ended = record.started and self.clock() or nil
  end
  self.store:end_nodes(self.run, names, node_state, reason)
  for _, record in ipairs(records) do node_event(self, record, { message = reason }) end
end

-- Skips the waiting nodes behind `failed`, nearest first.
local function skip_dependants(self, failed)
  for _, record in ipairs(self.nodes) do -- in order: upstream comes first
    for _, name in ipairs(record.after) do
      local up = self.by_name[name]
      if record.state == "waiting" and (up == failed or up.state == "skipped" or up.state == "canceled") then
        end_nodes(self, { record }, "skipped", ("upstream node '%s' %s"):format(name,
          up == failed and failed.state == "failed" and "failed" or up.state == "canceled" and "was cancelled"
            or "did not run"))
      end
    end
  end
end

local function with_state(self, wanted)
  local found = {}
  for _, record in ipairs(self.nodes) do
    if record.state == wanted then found[#found + 1] = record end
  end
  return found
end

-- Asks a running attempt to end; the first reason stays.
local function cancel(self, record, reason, why)
  if record.cancel then return end
  record.cancel, record.cancel_reason = why, reason
  record.kill_at = self.clock() + GRACE_MS
  self.store:decide(self.run, record.name, why == "timeout" and "timeout" or "cancel", reason)
  record.child:cancel()
end

local function cancel_everything(self, reason, why)
  end_nodes(self, with_state(self, "retrying"), "canceled", reason)
  for _, record in ipairs(with_state(self, "running")) do cancel(self, record, reason, why) end
end

local function on_failure(self, record)
  self.failed = self.failed or record
  skip_dependants(self, record)
  local policy = self.plan.on_error or "complete_running"
  if policy ~= "continue" and not self.draining then
    self.draining = ("node '%s' failed and on_error is %s"):format(record.name, policy)
  end
  if policy == "stop" then cancel_everything(self, self.draining, "stop") end
end

local function seconds(s)
  return ("%.3f"):format(s):gsub("%.?0+$", "") .. " s"
end

-- What went wrong with an attempt that ended without telling.
local function silent_death(record, status)
  local peak = status.maxrss_bytes and (" (peak memory %d MiB)"):format(status.maxrss_bytes >> 20) or ""
  if status.signal then
    return errors.new("system", ("the node's process was ended by %s%s"):format(status.signal, peak), {
      hint = status.signal == "SIGKILL"
        and "the kernel kills the largest process when memory runs out; see dmesg" or nil })
  end
  return errors.new("system", ("the node's process ended with exit code %d and no result%s")
    :format(status.code, peak), { hint = ("its last words: tidemill logs %s"):format(record.run) })
end

local function error_of(self, record, status)
  local result = record.result
  if record.cancel == "timeout" then
    return errors.new("timeout", ("no end after %s"):format(seconds(record.node.timeout)), {
      cause = result and result.error,
      detail = status.signal and ("ended by %s"):format(status.signal) or nil })
  elseif record.cancel then
    return errors.new("canceled", record.cancel_reason)
  elseif result and result.error then
    return errors.from(result.error)
  end
  record.run = self.run
  return silent_death(record, status)
end

-- Seconds until the next attempt, or nil and why there is none.
local function retry_delay(self, record, err)
  local node = record.node
  if record.cancel and record.cancel ~= "timeout" then return nil, "canceled" end
  if self.interrupted > 0 then return nil, "the run is interrupted" end
  if self.draining and self.plan.on_error == "stop" then return nil, "the run is stopping" end
  if (node.retries or 0) == 0 then return nil end
  if FINAL[err.kind] then return nil, ("an error of kind '%s' is not retried"):format(err.kind) end
  if record.attempt > node.retries then return nil, ("all %d retries are used"):format(node.retries) end
  local delay = (node.retry_delay or 10) * (node.backoff or 2) ^ (record.attempt - 1)
  return math.min(delay, MAX_DELAY_S) * (1 + 0.25 * self.random())
end

local function ended(record, status, attempt_state, node_state)
  return {
    state = attempt_state, node_state = node_state, rows = record.rows, bytes = record.bytes,
    cpu_ms = status.utime and math.floor((status.utime + status.stime) * 1000 + 0.5),
    max_rss_bytes = status.maxrss_bytes, code = status.code, signal = status.signal,
  }
end

local function on_success(self, record, status)
  local what = ended(record, status, "success", "success")
  what.outputs = record.outputs
  record.state = "success"
  self.store:end_attempt(self.run, record.name, record.attempt, what)
  node_event(self, record, { cpu_ms = what.cpu_ms, max_rss_bytes = what.max_rss_bytes })
end

local function on_failed_attempt(self, record, status)
  local err = error_of(self, record, status)
  err.node, err.attempt = record.name, record.attempt
  local delay, reason = retry_delay(self, record, err)
  local canceled = err.kind == "canceled"
  record.state = delay and "retrying" or canceled and "canceled" or "failed"
  local what = ended(record, status, canceled and "canceled" or "failed", record.state)
  what.error, record.error = err, err
  what.message = err.message
  if delay then
    what.decision = { what = "retry",
      reason = ("attempt %d failed (%s); attempt %d starts in %s"):format(record.attempt, err.kind,
        record.attempt + 1, seconds(delay)) }
    record.retry_at, record.ended = self.clock() + math.ceil(delay * 1000), nil
  elseif reason and not canceled then
    what.decision = { what = "no retry", reason = reason }
  end
  self.store:end_attempt(self.run, record.name, record.attempt, what)
  node_event(self, record, { error = err, retry_in = delay, cpu_ms = what.cpu_ms,
    max_rss_bytes = what.max_rss_bytes })
  if record.state == "failed" then on_failure(self, record) end
  if canceled then skip_dependants(self, record) end
end

local function on_exit(self, record, status)
  flush(self, record)
  if record.child then self.by_child[record.child] = nil end
  record.child, record.timeout_at, record.kill_at = nil, nil, nil
  record.ended = self.clock()
  self.running = self.running - 1
  if record.result and record.result.ok and (status.code == 0 or record.cancel) then
    on_success(self, record, status)
  else
    on_failed_attempt(self, record, status)
  end
end

-- ---- starts ----

local function is_ready(self, record)
  for _, name in ipairs(record.after) do
    if self.by_name[name].state ~= "success" then return false end
  end
  return true
end

-- Outputs of all nodes upstream, near and far.
local function upstream_outputs(self, record, found)
  found = found or {}
  for _, name in ipairs(record.after) do
    if not found[name] then
      found[name] = self.by_name[name].outputs
      upstream_outputs(self, self.by_name[name], found)
    end
  end
  return found
end

local function start(self, record)
  record.attempt = record.attempt + 1
  record.state, record.retry_at, record.cancel, record.result = "running", nil, nil, nil
  record.outputs, record.rows, record.bytes, record.detail = {}, nil, nil, nil
  record.started = record.started or self.clock()
  record.attempt_started = self.clock()
  self.running = self.running + 1
  self.store:begin_attempt(self.run, record.name, record.attempt)
  local ok, child = pcall(self.spawner.start, self.spawner, { run_id = self.run, node = record.name,
    attempt = record.attempt, upstream = upstream_outputs(self, record),
    sessions = record.attempt > 1 and self.store:sessions(self.run, record.name) or nil })
  if not ok then
    record.result = { ok = false, error = errors.from(child) }
    return on_exit(self, record, { code = 1 })
  end
  record.child, self.by_child[child] = child, record
  if record.node.timeout then record.timeout_at = self.clock() + math.ceil(record.node.timeout * 1000) end
  node_event(self, record)
end

local function start_what_may(self)
  for _, record in ipairs(self.nodes) do
    if self.running >= self.jobs then return end
    if record.state == "retrying" and record.retry_at <= self.clock() then
      start(self, record)
    elseif record.state == "waiting" and not self.draining and is_ready(self, record) then
      start(self, record)
    end
  end
end

-- How many attempts may yet start, as far as one can tell.
local function still_to_come(self)
  if self.draining then return 0 end
  return #with_state(self, "waiting") + #with_state(self, "retrying")
end

-- ---- events and timers ----

local on_message = {}

function on_message.progress(self, record, m)
  record.rows, record.bytes = m.rows or record.rows, m.bytes or record.bytes
  record.detail = m.detail or record.detail
  self.emit { event = "progress", node = record.name, rows = record.rows, bytes = record.bytes,
    detail = record.detail }
end

function on_message.log(self, record, m)
  add_line(self, record, "log", m.level or "info", tostring(m.line))
end

function on_message.output(_, record, m) record.outputs[m.name] = m.value end

function on_message.session(self, record, m)
  self.store:add_session(self.run, record.name, record.attempt, m)
end

function on_message.result(_, record, m) record.result = m end

local function on_event(self, event)
  local record = self.by_child[event.child]
  if not record then return end
  if event.type == "exit" then
    on_exit(self, record, event.status)
  elseif event.type == "line" then
    add_line(self, record, event.stream, event.level or "info", event.line)
  elseif event.type == "started" then
    self.store:attempt_pid(self.run, record.name, record.attempt, event.pid)
  elseif on_message[event.message.t] then
    on_message[event.message.t](self, record, event.message)
  end
end

local function look_at_timers(self)
  local now = self.clock()
  for _, record in ipairs(self.nodes) do
    if record.timeout_at and record.timeout_at <= now and not record.cancel then
      cancel(self, record, ("no end after %s"):format(seconds(record.node.timeout)), "timeout")
    end
    if record.kill_at and record.kill_at <= now then
      record.kill_at = nil
      self.store:decide(self.run, record.name, "kill", "it did not end when it was cancelled")
      record.child:kill()
    end
  end
  if self.flush_at and self.flush_at <= now then flush_all(self) end
  if self.heartbeat_at <= now then
    self.heartbeat()
    self.heartbeat_at = now + HEARTBEAT_MS
  end
end

local function next_time(self)
  local at = self.heartbeat_at
  local function sooner(time)
    if time and time < at then at = time end
  end
  sooner(self.flush_at)
  for _, record in ipairs(self.nodes) do
    sooner(not record.cancel and record.timeout_at or nil)
    sooner(record.kill_at)
    if self.running < self.jobs then sooner(record.retry_at) end
  end
  return at
end

-- What a person reads first.
local function outcome(self)
  local count = { success = 0, failed = 0, skipped = 0, canceled = 0 }
  for _, record in ipairs(self.nodes) do count[record.state] = count[record.state] + 1 end
  if self.interrupted > 0 and count.success < #self.nodes then
    return { state = "canceled", message = "interrupted" }
  elseif self.failed then
    local message = ("node '%s' failed"):format(self.failed.name)
    if count.failed > 1 then message = ("%s, and %d more"):format(message, count.failed - 1) end
    return { state = "failed", message = message, error = self.failed.error }
  end
  return { state = "success" }
end

local function finish_if_over(self)
  if self.running > 0 or self.result then return end
  if self.draining then end_nodes(self, with_state(self, "waiting"), "skipped", self.draining) end
  for _, record in ipairs(self.nodes) do
    if not OVER[record.state] then return end
  end
  flush_all(self)
  self.result = outcome(self)
  self.store:end_run(self.run, self.result)
end

--- One step: takes what children reported, then acts.
---@param events table[]  {child=, type="message"|"line"|"started"|"exit", ...} (lua/spawner.lua)
---@return integer? at  when to call again at the latest, on the clock; nil once the run is over
function Executor:step(events)
  for _, event in ipairs(events) do on_event(self, event) end
  look_at_timers(self)
  start_what_may(self)
  finish_if_over(self)
  if self.result then return nil end
  self.spawner:prepare(still_to_come(self))
  return next_time(self)
end

--- The user wants the run to end: the first time its attempts are cancelled, the second time
--- killed. To be followed by a step.
function Executor:interrupt()
  self.interrupted = self.interrupted + 1
  self.draining = "the run was interrupted"
  if self.interrupted == 1 then
    cancel_everything(self, "interrupted", "interrupt")
  else
    for _, record in ipairs(with_state(self, "running")) do record.child:kill() end
  end
end

return executor
