--- A whole run of a flow in a test: the real runner and executor over a store in memory, under
--- a virtual clock, with attempts that end as the test says.
---
--- What the engine decides (order, triggers, policies, retries, timeouts, skips) is what it would
--- decide; what a node does is made up. A `when`, the condition of a branch, and outputs that a text
--- needs are looked at as a node process would. One attempt takes a second unless told otherwise.

local attempt = require "tidemill.flowtest.attempt"
local document = require "tidemill.document"
local errors = require "tidemill.errors"
local runner = require "tidemill.runner"
local state = require "tidemill.state"
local suggest = require "tidemill.suggest"
local time = require "time"
local units = require "tidemill.units"
local variables = require "tidemill.variables"

local trial = {}

local MOST_STEPS = 100000
local TAKES_MS = 1000

-- ---- how an attempt goes ----

local WORDS = { "success", "fail", "skip", "close", "timeout", "crash", "call" }

local function outcome_of(self, job)
  local given = self.outcomes[job.node]
  if type(given) == "function" then given = given(job.attempt, job.upstream) end
  if type(given) == "table" and not given.state then given = given[math.min(job.attempt, #given)] end
  if type(given) ~= "table" then given = { state = given or "success" } end
  for _, word in ipairs(WORDS) do
    if given.state == word then return given end
  end
  errors.usage(("node '%s': no outcome '%s'"):format(job.node, tostring(given.state)),
    suggest.hint(tostring(given.state), WORDS, "outcomes"))
end

local function failed(fields)
  return { ok = false, error = errors.new(fields.kind or "io", fields.message or "failed by the test",
    { code = fields.code, hint = fields.hint }) }
end

local play = {}

function play.success(_, _, outcome) return { ok = true, outputs = outcome.outputs } end
function play.fail(_, _, outcome) return failed(outcome) end
function play.skip(_, _, outcome) return { ok = true, skip = outcome.message or "skipped by the test" } end
function play.close(_, _, outcome) return { ok = true, closed = outcome.message or "closed by the test" } end
function play.crash() return { signal = "SIGKILL" } end

function play.timeout() return { never = true } end

function play.call(self, job)
  local done = attempt.call({ model = self.model, scheduled = self.scheduled, outputs = job.upstream,
    states = {}, stubs = self.stubs }, job.node)
  self.called[job.node] = done
  return { ok = true, outputs = done.outputs, log = done.log }
end

-- What a node process looks at before its body runs.
local function before_body(self, job)
  local planned = attempt.planned({ model = self.model, scheduled = self.scheduled, outputs = job.upstream,
    states = variables.states(job.status) }, job.node)
  local holds, why = attempt.holds(planned, planned.when)
  if not holds then return { ok = true, skip = ("'when' does not hold: %s"):format(why) } end
  if #planned.pending > 0 and planned.kind ~= "lua" then
    errors.usage(("no node before '%s' gave the output '%s'"):format(job.node, planned.pending[1]),
      ("give it: outputs = { [NODE] = { %s = ... } }"):format(planned.pending[1]:match "[^.]*$"))
  end
  if planned.kind ~= "branch" or self.outcomes[job.node] then return nil end
  holds, why = attempt.holds(planned, planned.spec.condition)
  return { ok = true, closed = not holds and why or nil, outputs = { result = tostring(holds) } }
end

-- How an attempt goes and how long it takes. Raises only where the test itself is wrong.
local function played(self, job)
  local outcome = outcome_of(self, job)
  local takes = outcome.after or self.takes[job.node]
  local seconds = takes and (units.duration(takes) or errors.usage(("'%s' is no duration"):format(tostring(takes))))
  if outcome.state == "timeout" and not self.model.by_name[job.node].timeout then
    errors.usage(("node '%s' has no timeout, so it would never end"):format(job.node))
  end
  local ok, how = pcall(function()
    return before_body(self, job) or play[outcome.state](self, job, outcome)
  end)
  if not ok then how = { ok = false, error = errors.from(how) } end
  if how.ok and not how.skip then
    local outputs = {}
    for name, value in pairs(self.outputs[job.node] or {}) do outputs[name] = value end
    for name, value in pairs(how.outputs or {}) do outputs[name] = value end
    how.outputs = outputs
  end
  how.after = seconds and math.ceil(seconds * 1000) or TAKES_MS
  return how
end

-- ---- processes that exist in name only ----

local Processes = {}
Processes.__index = Processes

function Processes.prepare() end

function Processes:start(_, job)
  local trial_run = self.trial
  local ok, how = pcall(played, trial_run, job)
  if not ok then
    trial_run.fault = how -- the runner would take it for a failed attempt
    how = { signal = "SIGKILL", after = 0 }
  end
  local child = { how = how, node = job.node, ends = how.never and math.huge or self.now + how.after }
  table.insert(trial_run.starts, { node = job.node, attempt = job.attempt, at = self.now / 1000 })
  function child.cancel()
    child.ends = math.min(child.ends, self.now + 1)
    child.how = { ok = false, error = errors.new("canceled", "cancelled") }
  end
  function child.kill()
    child.ends, child.how = self.now, { signal = "SIGKILL" }
  end
  function child.reply() end
  table.insert(self.children, child)
  return child
end

-- What has been reported by now.
function Processes:take()
  local events, left = {}, {}
  for _, child in ipairs(self.children) do
    if child.ends <= self.now then
      local function send(message) table.insert(events, { child = child, type = "message", message = message }) end
      local how = child.how
      for _, name in ipairs(suggest.keys(how.outputs or {})) do
        send { t = "output", name = name, value = how.outputs[name] }
      end
      if how.ok ~= nil then
        send { t = "result", ok = how.ok, error = how.error, skip = how.skip, closed = how.closed }
      end
      table.insert(events, { child = child, type = "exit", status = { signal = how.signal,
        code = not how.signal and (how.ok and 0 or 1) or nil, utime = 0, stime = 0, maxrss_bytes = 1 << 20 } })
    else
      left[#left + 1] = child
    end
  end
  self.children = left
  return events
end

-- ---- the run ----

local function check_names(model, given, what)
  for _, name in ipairs(suggest.keys(given)) do
    if not model.by_name[name] then
      errors.usage(("%s: the flow has no node '%s'"):format(what, name),
        suggest.hint(name, suggest.keys(model.by_name), "nodes"))
    end
  end
end

local function create(self, store)
  local made, ms = document.of(self.model), math.floor(self.scheduled * 1000)
  store:save_source("test", made, { text = "", stored = {}, subflows = {} })
  local business = math.floor(time.business(self.scheduled, self.model.timezone) * 1000)
  return store:create_run { flow = made.flow, file = made.file, version = "test", cause = "manual", scheduled = ms,
    business = business, timezone = made.timezone, priority = made.priority, settings = { set = self.model.set },
    deadline = made.deadline_s and ms + math.ceil(made.deadline_s * 1000) or nil, nodes = made.nodes }
end

local function drive(self, r, processes)
  for _ = 1, MOST_STEPS do
    local at = r:step(processes:take())
    if self.fault then error(self.fault, 0) end
    if not at then return end
    for _, child in ipairs(processes.children) do at = math.min(at, child.ends) end
    processes.now = math.max(processes.now, math.ceil(at))
  end
  errors.usage(("flow '%s' does not come to an end"):format(self.model.name))
end

local function report(self, store, run, r, seconds)
  local out = { state = r.result.state, message = r.result.message, error = r.result.error, seconds = seconds,
    starts = self.starts, order = {}, states = {}, nodes = {}, decisions = {}, called = self.called }
  for _, start in ipairs(self.starts) do
    if start.attempt == 1 then table.insert(out.order, start.node) end
  end
  local outputs = store:outputs(run)
  for _, node in ipairs(store:nodes(run)) do
    out.states[node.node] = node.state
    out.nodes[node.node] = { state = node.state, message = node.message, attempts = 0,
      outputs = outputs[node.node] or {} }
  end
  for _, one in ipairs(store:attempts(run)) do -- in order: the last one counts
    out.nodes[one.node].error = one.error
  end
  for _, start in ipairs(self.starts) do
    local node = out.nodes[start.node]
    node.attempts = math.max(node.attempts, start.attempt)
  end
  for _, one in ipairs(store:decisions(run)) do
    table.insert(out.decisions, ("%s%s: %s"):format(one.node and one.node .. ": " or "", one.what, one.reason))
  end
  return out
end

---@class tidemill.TrialOptions
---@field model tidemill.Model
---@field scheduled number
---@field stubs table
---@field outcomes? table
---@field outputs? table
---@field takes? table
---@field jobs? integer
---@field pools? table<string, integer>

--- Runs the flow to its end; returns what flowtest.Run documents.
---@param options tidemill.TrialOptions
function trial.run(options)
  local self = { model = options.model, scheduled = options.scheduled, stubs = options.stubs,
    outcomes = options.outcomes or {}, outputs = options.outputs or {}, takes = options.takes or {}, starts = {},
    called = {} }
  check_names(self.model, self.outcomes, "outcomes")
  check_names(self.model, self.outputs, "outputs")
  check_names(self.model, self.takes, "takes")
  local processes = setmetatable({ trial = self, now = 0, children = {} }, Processes)
  local start_ms = math.floor(self.scheduled * 1000)
  local store <close> = state.open("sqlite::memory:", { clock = function() return start_ms + processes.now end })
  local run = create(self, store)
  local r = runner.new { store = store, spawner = processes, clock = function() return processes.now end, kind = "run",
    root = run, jobs = options.jobs or 16, random = function() return 0 end,
    pools = function(pool) return options.pools and options.pools[pool] end }
  drive(self, r, processes)
  return report(self, store, run, r, processes.now / 1000)
end

return trial
