--- `tidemill serve`: a scheduler and a runner in one loop, until somebody asks it to end.
---
--- The loop steps the scheduler (slots become queued runs), then the runner (queued runs are
--- claimed and driven), then waits for children, timers or signals, a second at most. Neither
--- loads a flow file; they work on documents in the store. Any number of these processes share
--- one store, on one host or many; none of them leads. The lease is renewed by a thread with a
--- database connection of its own, so no long step can lose it.
---
--- Ending. The first SIGTERM or SIGINT: nothing more is scheduled, claimed or started, nodes that
--- run may finish within `drain_ms`; what is left then is cancelled, and killed 10 s later; unfinished runs
--- are handed back, to go on where they were in another `serve`, or in this one when it comes
--- back. The second: nodes are killed, runs are handed back at once. Killed itself, its nodes
--- end with it, and another takes over: at once on this host, on others when the lease is over.
---
--- When the store cannot be reached nodes go on, their reports wait, and /healthz says 503.

local errors = require "tidemill.errors"
local hooks = require "tidemill.hooks"
local json = require "json"
local launch = require "tidemill.launch"
local lines = require "tidemill.serve.log"
local metrics = require "tidemill.serve.metrics"
local runner = require "tidemill.runner"
local scheduler = require "tidemill.scheduler"
local signal = require "tidemill.signal"
local spawner = require "tidemill.spawner"

local serve = {}
local Serve = { __name = "tidemill.serve" }
Serve.__index = Serve

local ECHO_MS = 500 -- some senders (timeout, a shell) signal the process and its group: one signal
local STEP_MS = 1000      -- most between two steps
local PAGES_MS = 5000     -- age of /metrics
local HEALTH_S = 15       -- without a step for so long /healthz says 503
local PAUSE_MS, MOST_PAUSE_MS = 500, 5000 -- after a step of the scheduler that failed

---@class tidemill.ServeOptions
---@field project tidemill.Project
---@field store table       lua/state.lua
---@field jobs integer
---@field lease_ms integer
---@field drain_ms integer
---@field listen? {host: string, port: integer, optional: boolean}  optional: without it when the port is taken
---@field name? string      of the runner (default: the host's)
---@field plain? boolean    lines for people instead of JSON
---@field grace_ms? integer see lua/firing.lua

-- ---- what is told ----

local LEVEL = { failed = "warn", lost = "warn" }

local tell = {}

function tell.run(self, event)
  if event.slot_at and (event.cause == "schedule" or event.cause == "event") then
    event.late_ms = self.store:now() - event.scheduled_at
    if (event.epoch or 0) == 0 then self.metrics:run_started(event.late_ms) end
  end
  self.log:line("info", "run", event)
end

tell["end"] = function(self, event)
  self.metrics:run_ended(event.state)
  if event.error then lines.error_fields(event.error, event) end
  self.log:line(LEVEL[event.state] or "info", "run", event)
end

function tell.node(self, event)
  if event.state == "running" then self.metrics:attempt_started() end
  if event.error then lines.error_fields(event.error, event) end
  self.log:line(LEVEL[event.state] or "info", "node", event)
end

function tell.slot(self, event)
  self.metrics:slot(event.state, event.count)
  event.slot = lines.stamp(event.slot_at)
  self.log:line(event.state == "missed" and "warn" or "info", "slot", event)
end

tell["set aside"] = function(self, event)
  self.log:line("error", "set aside", lines.error_fields(event.error, event))
end

function tell.clock(self, event) self.log:line("warn", "clock", event) end

local function on_event(self, event)
  local body = tell[event.event]
  if body then body(self, event) end
end

-- ---- pages ----

local function healthy(self)
  local active = self.runner:active()
  if self.draining then return false, "draining\n" end
  if active.outage_ms or self.pause then return false, "the state store cannot be reached\n" end
  if not self.keeper or not self.keeper:held() then return false, "the lease is not held\n" end
  return true, "ok\n"
end

local function show_pages(self)
  if not self.server then return end
  local now = signal.mono()
  local ok, words = healthy(self)
  self.server:set("/healthz", ok and 200 or 503, "text/plain; charset=utf-8", words, HEALTH_S)
  if now < self.pages_at then return end
  self.pages_at = now + PAGES_MS
  local active, counts = self.runner:active(), self.counts
  if ok then
    local read, activity = pcall(self.store.activity, self.store)
    if read then counts, self.counts = activity, activity end
  end
  if not counts then return end
  self.server:set("/metrics", 200, metrics.CONTENT_TYPE, self.metrics:text {
    runs = counts.runs, oldest_ms = counts.oldest_ms, flows = counts.flows, paused_flows = counts.paused_flows,
    attempts = active.nodes, jobs = active.jobs, healthy = ok,
    lease_age_ms = self.keeper and self.keeper:age() or 0 })
end

local function listen(self, where)
  if not where then return nil end
  local ok, server = pcall(require("tidemill.httpd").listen, where)
  if ok then return server, ("%s:%d"):format(where.host, server:port()) end
  if not where.optional then error(server, 0) end
  self.log:line("warn", "note", lines.error_fields(errors.from(server),
    { message = "no /metrics and no /healthz: --listen names another port, or none" }))
end

-- ---- the start ----

local function announce(self, options, address)
  local flows = self.store:activity().flows
  self.log:line("info", "start", { version = self.version, pid = signal.pid(), jobs = options.jobs,
    store = self.store_name, listen = address or "none", lease_ms = options.lease_ms, drain_ms = options.drain_ms,
    published = flows, message = flows == 0 and "nothing is scheduled: tidemill publish FLOW.lua" or nil })
  local calendar = require "tidemill.calendar"
  for _, flow in ipairs(self.store:upcoming(5)) do
    self.log:line("info", "next", { flow = flow.flow, version_no = flow.version_no,
      slot = lines.stamp(flow.next_at), schedule = calendar.describe(flow.schedule, flow.policy.timezone or "UTC"),
      reason = flow.paused_at and "paused" or flow.next_at <= self.store:now() and "due" or nil })
  end
end

-- Has a thread keep the lease, and the hooks of a runner that has one sent.
local function keep_lease(self, project)
  local hold = launch.holder(self.store)
  return function(id, lease_ms, age_ms)
    if self.hooks then self.hooks:close() end
    self.keeper = hold(id, lease_ms, age_ms)
    self.hooks = hooks.new { store = self.store, runner = id, project = project.file }
    self.log:line("info", "lease", { runner = id, lease_ms = lease_ms })
    return self.keeper
  end
end

---@param options tidemill.ServeOptions
local function new(options, children)
  local self = setmetatable({ store = options.store, drain_ms = options.drain_ms, pages_at = 0, signals = 0,
    version = require("tidemill.embedded").version, store_name = options.store_name }, Serve)
  self.log = lines.new { plain = options.plain, wall = signal.wall,
    write = function(line) io.stderr:write(line) end }
  self.metrics = metrics.new { version = self.version, started_ms = signal.wall() }
  local function emit(event) on_event(self, event) end
  self.scheduler = scheduler.new { store = options.store, emit = emit, grace_ms = options.grace_ms }
  self.runner = runner.new { store = options.store, spawner = children, clock = signal.mono, kind = "serve",
    jobs = options.jobs, lease_ms = options.lease_ms, emit = emit, name = options.name,
    pools = function(name) return options.project.pools[name] end, hold = keep_lease(self, options.project),
    on_reaped = function(dead)
      self.log:line(#dead.runs > 0 and "warn" or "info", "reaped",
        { runner = dead.runner, host = dead.host, runs = json.array(dead.runs) })
    end,
    log = function(level, message) self.log:line(level, "note", { message = message }) end }
  return self
end

-- ---- the loop ----

-- Steps the scheduler; when it is to be called again, on the clock that never jumps.
local function schedule(self)
  local now = signal.mono()
  if self.pause and now < self.pause.until_time then return self.pause.until_time end
  local ok, at, count = pcall(function() return self.scheduler:step(self.store:now()) end)
  if ok then
    self.pause = nil
    if count > 0 then self.runner:poke() end
    return now + math.max(at - self.store:now(), 0)
  end
  local ms = self.pause and math.min(self.pause.ms * 2, MOST_PAUSE_MS) or PAUSE_MS
  self.pause = { ms = ms, until_time = now + ms }
  self.log:line("error", "note", lines.error_fields(errors.from(at), { message = "the scheduler's step failed" }))
  return self.pause.until_time
end

local function drain(self)
  self.signalled = signal.mono()
  self.draining = self.signalled + self.drain_ms
  self.log:line("info", "drain", { drain_ms = self.drain_ms, runs = self.runner:active().runs,
    message = "nothing more is started; what runs may finish" })
  self.runner:drain(self.drain_ms > 0 and "nodes" or "now")
end

local function on_signals(self)
  local count = signal.take()
  if count > self.signals and not self.draining then
    drain(self)
  elseif count > self.signals and signal.mono() - self.signalled >= ECHO_MS then
    self.log:line("warn", "drain", { message = "what runs is killed" })
    self.runner:drain "now"
    self.runner:kill()
  end
  self.signals = count
  if self.draining and not self.hurried and signal.mono() >= self.draining then
    self.hurried = true
    self.runner:drain "now"
  end
end

-- Steps the sender of hooks; when it is to be called again. While the store is out of reach, which
-- is the runner's to tell, it waits.
local function send_hooks(self)
  if not self.hooks or self.hurried or self.runner:active().outage_ms then return math.huge end
  local ok, at = pcall(self.hooks.step, self.hooks)
  if ok then return at end
  self.log:line("error", "note", lines.error_fields(errors.from(at), { message = "hooks cannot be sent now" }))
  return signal.mono() + PAUSE_MS
end

local function loop(self, children)
  local events = {}
  while true do
    local at = self.draining and (not self.hurried and self.draining or math.huge) or schedule(self)
    local run_at = self.runner:step(events)
    if not run_at then return end
    local next_at = math.min(at, run_at, send_hooks(self), signal.mono() + STEP_MS)
    show_pages(self)
    events = children:poll(math.max(next_at - signal.mono(), 0))
    on_signals(self)
  end
end

--- Serves until it is told to end. Raises when it cannot start, or when it fails.
---@param options tidemill.ServeOptions
function serve.run(options)
  local store = options.store
  local children <close> = spawner.new { source = function(version) return store:source(version) end,
    project = options.project.file, memory = options.memory }
  signal.defer(true) -- from here on a signal is told by its count: one that comes now drains too
  local self = new(options, children)
  local server, address = listen(self, options.listen)
  self.server = server
  local closing <close> = setmetatable({}, { __close = function() -- luacheck: ignore 211
    if server then server:close() end
    if self.hooks then self.hooks:close() end
    signal.defer(false)
  end })
  announce(self, options, address)
  local ok, raised = pcall(loop, self, children)
  local left, why = pcall(self.runner.close, self.runner)
  if not ok then error(raised, 0) end
  if not left then error(why, 0) end
  self.log:line("info", "stop", { message = "what did not end was handed back" })
end

return serve
