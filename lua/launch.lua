--- From a checked flow to a finished run: the record, the executor, the loop around it.
---
--- `launch.run` is what `tidemill run` does, and what a schedule does with a published
--- version. The sources of the flow are read once; every attempt of the run works on them.
--- Attempts use `launch.load` too, so what only a runner needs is loaded late.

local check = require "tidemill.check"
local errors = require "tidemill.errors"
local plan = require "tidemill.plan"
local signal = require "tidemill.signal"

local launch = {}

local LEASE_MS = 15000

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

-- The flow's text, and those of the files it requires by module name; in base64, since they
-- may be in any encoding.
local function sources(model)
  local base64, stored = require("tidemill.sign").base64, {}
  for _, file in ipairs(model.loaded.files) do
    if file.module then stored[file.module] = { path = file.path, text = base64(file.text) } end
  end
  return base64(model.loaded.text), stored
end

--- A hash that changes with any source of the flow.
---@param model tidemill.Model
---@return string
function launch.version(model)
  local parts = {}
  for _, file in ipairs(model.loaded.files) do
    parts[#parts + 1] = ("%s\0%d\0%s"):format(file.module or "", #file.text, file.text)
  end
  table.sort(parts)
  return require("tidemill.sign").sha256(table.concat(parts))
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

--- Opens the state store of a project.
---@param project tidemill.Project
function launch.store(project)
  local kind, where = project:state()
  return require("tidemill.state").open(kind == "sqlite" and "sqlite:" .. where or where)
end

-- The planned nodes with what the executor wants of the model; `only` leaves some out.
local function chosen_nodes(model, made, only)
  local wanted
  for _, name in ipairs(only or {}) do
    if not made.by_name[name] then
      local suggest, names = require "tidemill.suggest", {}
      for _, node in ipairs(made.nodes) do names[#names + 1] = node.name end
      errors.usage(("the flow has no node '%s'"):format(name), suggest.hint(name, names, "nodes"))
    end
    wanted = wanted or {}
    wanted[name] = true
  end
  local nodes = {}
  for _, planned in ipairs(made.nodes) do
    local node, after = model.by_name[planned.name], {}
    for _, name in ipairs(planned.after) do
      if not wanted or wanted[name] then after[#after + 1] = name end
    end
    if not wanted or wanted[planned.name] then
      nodes[#nodes + 1] = { name = planned.name, kind = planned.kind, after = after, retries = node.retries,
        retry_delay = node.retry_delay, backoff = node.backoff, timeout = node.timeout }
    end
  end
  return nodes
end

-- Steps until the run is over. Signals are counted: the first cancels, the next kills.
local function drive(ex, children, display)
  local events, seen = {}, 0
  while true do
    local at = ex:step(events)
    display:draw()
    if not at then return ex.result end
    events = children:poll(math.min(at - signal.mono(), display:interval()))
    local count = signal.take()
    for _ = seen + 1, count do ex:interrupt() end
    seen = count
  end
end

---@class tidemill.Launch
---@field model tidemill.Model
---@field store table            lua/state.lua
---@field scheduled number       epoch seconds
---@field cause string           "manual", "schedule" ...
---@field jobs? integer          (default: launch.default_jobs())
---@field only? string[]         these nodes alone
---@field set? table<string, string>  as given to launch.load
---@field display fun(run: string, nodes: table[]): table  makes the display (lua/progress.lua)

--- Runs a flow to its end.
---@param options tidemill.Launch
---@return {state: string, message: string?, error: table?} result, string run, table executor
function launch.run(options)
  local model = options.model
  local made = plan.make(model, { scheduled = options.scheduled })
  local nodes = chosen_nodes(model, made, options.only)
  local text, stored = sources(model)
  local children <close> = require("tidemill.spawner").new { file = model.loaded.file, text = text,
    stored = stored, scheduled = made.scheduled, set = options.set }
  children:prepare(#nodes)
  signal.defer(true) -- from here on a signal ends the run, not just the process
  local ended <close> = setmetatable({}, { __close = function() signal.defer(false) end }) -- luacheck: ignore 211
  local store, version = options.store, launch.version(model)
  local runner = store:register_runner { kind = "run", lease_ms = LEASE_MS, jobs = options.jobs }
  local left <close> = setmetatable({}, { __close = function() store:leave(runner) end }) -- luacheck: ignore 211
  store:save_source(version, { flow = model.name, file = model.loaded.file, nodes = nodes },
    { text = text, stored = stored })
  local run = store:create_run { flow = model.name, file = model.loaded.file, version = version,
    cause = options.cause, scheduled = math.floor(made.scheduled * 1000), business = math.floor(made.business * 1000),
    timezone = made.timezone, nodes = nodes, runner = runner }
  store:claim_runs { runner = runner, limit = 1, root = run }
  local display = options.display(run, nodes)
  local ex = require("tidemill.executor").new { plan = { nodes = nodes, on_error = model.on_error },
    run = run, store = store, spawner = children, clock = signal.mono,
    heartbeat = function() store:renew(runner) end,
    jobs = options.jobs or launch.default_jobs(), emit = function(event) display:event(event) end }
  local ok, result = pcall(drive, ex, children, display)
  if not ok then
    pcall(store.end_run, store, run, { state = "failed", message = "the runner failed",
      error = errors.from(result) })
    error(result, 0)
  end
  display:finish(result, signal.mono() - ex.started)
  return result, run, ex
end

--- The exit code of a run: 3 when every failure was one of connecting.
---@return integer
function launch.exit_code(result, ex)
  if result.state == "success" then return 0 end
  if result.state == "canceled" then return 130 end
  local code
  for _, node in ipairs(ex.nodes) do
    if node.state == "failed" then
      local own = errors.exit_code(node.error)
      code = (code == nil or code == own) and own or 1
    end
  end
  return code == 3 and 3 or 1
end

return launch
