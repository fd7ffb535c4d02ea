--- From a checked flow to a finished run: its sources in the store, the run, the runner, the
--- loop around it.
---
--- `launch.run` is what `tidemill run` does; `launch.execute` runs any runs of the store in this
--- terminal, which is what restore, rerun, backfill and trigger do with --here. Both work on
--- the sources in the store, as `tidemill serve` does, so a run can be repeated, and taken over.
--- Attempts use `launch.load` too, so what only a runner needs is loaded late.

local check = require "tidemill.check"
local errors = require "tidemill.errors"
local signal = require "tidemill.signal"

local launch = {}

--- Loads and checks a flow.
---@param path string
---@param opts? {text: string?, stored: table?, set: table<string, string>?, trusted: boolean?}
---@return tidemill.Model
function launch.load(path, opts)
  opts = opts or {}
  local model = check.flow(path, opts)
  require("tidemill.variables").set(model, opts.set or {})
  return model
end

--- Cores this process may use, at least 2: while one node waits for a server another works.
---@return integer
function launch.default_jobs()
  local f <close> = io.open "/proc/self/status"
  local list = f and f:read("a"):match "Cpus_allowed_list:%s*([%d,-]+)" or ""
  local count = 0
  for first, last in list:gmatch "(%d+)%-?(%d*)" do
    count = count + (last ~= "" and last - first or 0) + 1
  end
  return math.max(2, math.tointeger(count) or 2)
end

local PATIENCE_MS = 1000 -- a runner waits for its store itself: its children go on meanwhile

--- Opens the state store of a project.
---@param project tidemill.Project
---@param as_runner? boolean  a lost server is reported soon, not waited for
function launch.store(project, as_runner)
  local kind, where = project:state()
  local store = require("tidemill.state").open(kind == "sqlite" and "sqlite:" .. where or where,
    { patience_ms = as_runner and PATIENCE_MS or nil })
  store.place = where ~= ":memory:" and { kind = kind, where = where } or nil
  return store
end

--- For runner.new: has a thread keep the lease in the store that `launch.store` opened.
---@param store tidemill.Store
---@return (fun(runner: string, lease_ms: integer, age_ms: integer): table)?
function launch.holder(store)
  local place = store.place
  return place and function(id, lease_ms, age_ms)
    return require("tidemill.lease").start { kind = place.kind, where = place.where, runner = id, lease_ms = lease_ms,
      every_ms = lease_ms // 5, age_ms = age_ms }
  end
end

-- What a run that is not the one shown tells: its nodes stand under the node that it belongs to.
local function shown(event, root)
  if event.run == root then return event end
  if event.event ~= "node" and event.event ~= "progress" and event.event ~= "log" then return nil end
  local copy = {}
  for key, value in pairs(event) do copy[key] = value end
  copy.node = ("%s / %s"):format(event.parent_node or event.flow, event.node)
  return copy
end

-- Runs of terminals that died end with them, as failed, unless a serve is there to go on with
-- them. Returns what the runner calls for each dead runner that it finds.
local function end_orphans(store, say)
  local function finish(runs)
    if #runs == 0 or #store:servers() > 0 then return end
    for _, run in ipairs(runs) do
      if store:mark_orphan(run, "runner died") then
        say(("the runner of run %s died; the run is marked failed: tidemill restore %s goes on with it")
          :format(run, run))
      end
    end
  end
  finish(store:orphans())
  return function(dead)
    if dead.kind == "run" then finish(dead.runs) end
  end
end

---@class tidemill.Execute
---@field store tidemill.Store
---@field runs fun(runner: string): string[]  makes runs, or has them go on, for this runner alone; their ids
---@field display fun(run: string, nodes: table[]): table  makes the display of a run (lua/progress.lua)
---@field jobs? integer          (default: launch.default_jobs())
---@field memory? integer        bytes that a node's process may use (default: lua/budget.lua)
---@field pools? table<string, integer>  of the project
---@field source? fun(version: string): table  (default: that of the store)
---@field prepare? table[]       what the spawner may start ahead
---@field project? string        path of tidemill.lua, for hooks (default: looked for from the working directory)
---@field say? fun(line: string) for what is not of these runs (default: on standard error)

local function default_say(line) io.stderr:write("tidemill: ", line, "\n") end

-- The displays of the runs, one after the other: made when a run begins, finished when it ends.
local function displays(options)
  local current, root, started
  local self = {}
  function self.begin(run)
    local nodes = {}
    for i, row in ipairs(options.store:nodes(run)) do nodes[i] = { name = row.node } end
    current, root, started = options.display(run, nodes), run, signal.mono()
  end
  function self.event(event)
    local one = current and shown(event, root)
    if one then current:event(one) end
  end
  function self.draw() current:draw() end
  function self.interval() return current:interval() end
  function self.finish(result) current:finish(result, signal.mono() - started) end
  return self
end

-- Steps until the runner is over. Signals are counted: the first cancels, the next kills.
local function drive(r, children, display, seen)
  local events, root = {}, r.root
  display.begin(root)
  while true do
    local at = r:step(events)
    display.draw()
    if r.root ~= root then
      display.finish(r.results[root].result)
      root = r.root
      display.begin(root)
    end
    if not at then return display.finish(r.result) end
    events = children:poll(math.min(at - signal.mono(), display.interval()))
    local count = signal.take()
    for _ = seen + 1, count do r:interrupt() end
    seen = count
  end
end

local NOTICES_MS = 10000 -- what the hooks of all runs may take at the end

-- Sends what the hooks of these runs want, for this process ends soon.
local function send_notices(options, runner, runs)
  local deadline = signal.mono() + NOTICES_MS
  for _, run in ipairs(runs) do
    if options.store:open_notices(run) > 0 then
      local sender = require "tidemill.hooks".new { store = options.store, runner = runner, project = options.project }
      local left = sender:flush { root = run, timeout_ms = math.max(deadline - signal.mono(), 0) }
      if left > 0 then
        (options.say or default_say)(("%d of the hooks of run %s could not be sent yet: see 'tidemill why %s'")
          :format(left, run, run))
      end
    end
  end
end

--- Drives runs of the store, and their subflows, to their end in this terminal, one after the
--- other. An interrupt ends the one that runs; the others stay queued, for any runner.
---@param options tidemill.Execute
---@return table<string, {result: {state: string, message: string?, error: table?}, executor: table?}> ended
---by run, those that have ended; executor: nil if it ended elsewhere
function launch.execute(options)
  local store, display, say = options.store, displays(options), options.say or default_say
  local children <close> = require("tidemill.spawner").new {
    source = options.source or function(version) return store:source(version) end, memory = options.memory }
  children:prepare(options.prepare or {})
  local r = require("tidemill.runner").new { store = store, spawner = children, clock = signal.mono, kind = "run",
    jobs = options.jobs or launch.default_jobs(), hold = launch.holder(store), emit = display.event,
    pools = function(name) return options.pools and options.pools[name] end,
    on_reaped = end_orphans(store, say), log = function(level, message)
      if level ~= "info" then say(message) end
    end }
  local seen = signal.take() -- at a prompt: those of before were meant for something else
  signal.defer(true) -- from here on a signal ends the run, not just the process
  local ended <close> = setmetatable({}, { __close = function() signal.defer(false) end }) -- luacheck: ignore 211
  local runs
  local ok, raised = pcall(function()
    runs = options.runs(r:register())
    r:drive(runs)
    drive(r, children, display, seen)
  end)
  if ok then
    local sent, fault = pcall(send_notices, options, r.id, runs)
    if not sent then say("hooks: " .. tostring(errors.from(fault).message)) end
  end
  local left, why = pcall(r.close, r)
  if not ok then
    if r.root then pcall(store.mark_orphan, store, r.root, "the runner failed") end
    error(raised, 0)
  elseif not left then
    error(why, 0)
  end
  return r.results
end

---@class tidemill.Launch
---@field model tidemill.Model
---@field store tidemill.Store
---@field scheduled number       epoch seconds
---@field cause string           "manual" ...
---@field jobs? integer          (default: launch.default_jobs())
---@field memory? integer        as of launch.execute
---@field only? string[]         these nodes alone
---@field set? table<string, string>  as given to launch.load
---@field hooks? boolean         whether a trial run, too, sends the flow's hooks
---@field display fun(run: string, nodes: table[]): table  makes the display (lua/progress.lua)

--- Runs a flow's file to its end.
---@param options tidemill.Launch
---@return {state: string, message: string?, error: table?} result, string run, table? executor
function launch.run(options)
  local model, store, document = options.model, options.store, require "tidemill.document"
  local made, sources = document.of(model), document.sources(model)
  local hash, nodes = document.hash(made, sources), document.only(made, options.only)
  local business = require("time").business(options.scheduled, model.timezone)
  local id
  local results = launch.execute {
    store = store, jobs = options.jobs, memory = options.memory, display = options.display, pools = model.project.pools,
    project = model.project.file,
    source = function(version)
      return version == hash and { document = made, sources = sources } or store:source(version)
    end,
    prepare = { { run = { version = hash, file = made.file }, count = #nodes } },
    runs = function(runner)
      store:save_source(hash, made, sources)
      id = store:create_run { flow = made.flow, file = made.file, version = hash, cause = options.cause,
        scheduled = math.floor(options.scheduled * 1000), business = math.floor(business * 1000),
        timezone = made.timezone, priority = made.priority, settings = { set = options.set, only = options.only,
          hooks = options.hooks },
        deadline = made.deadline_s and store:now() + made.deadline_s * 1000 or nil, runner = runner, nodes = nodes }
      return { id }
    end,
  }
  return results[id].result, id, results[id].executor
end

--- The exit code of a run: 3 when every failure was one of connecting.
---@param ex? table  the executor, if the run ended here
---@return integer
function launch.exit_code(result, ex)
  if result.state == "success" then return 0 end
  if result.state == "canceled" then return 130 end
  local code
  for _, node in ipairs(ex and ex.nodes or {}) do
    if node.state == "failed" and node.error and not node.tolerated then
      local own = errors.exit_code(node.error)
      code = (code == nil or code == own) and own or 1
    end
  end
  return code == 3 and 3 or 1
end

return launch
