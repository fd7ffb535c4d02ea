--- A flow as data: all that runner and scheduler need to know of it, without its Lua code.
---
--- `document.of` makes it from a checked model; it holds texts, numbers, booleans and tables alone,
--- so that it goes through JSON unchanged. `document.sources` holds the Lua files, for the
--- processes that run nodes; those of file subflows are in it with their own documents. The same
--- model gives the same document, and `document.hash` of both names a version.
---
--- A node's `hash` changes with anything that its author wrote about it except where it stands
--- in the file. Times are milliseconds since 1970; `to_ms` is the last instant of the period.

local errors = require "tidemill.errors"
local fingerprint = require "tidemill.fingerprint"
local flow = require "flow"
local graph = require "tidemill.graph"
local json = require "json"
local kinds = require "tidemill.kinds"
local sign = require "tidemill.sign"
local time = require "time"
local variables = require "tidemill.variables"

local document = {}

local FORMAT = 1

-- ---- schedules ----

local function instant(text, zone)
  return math.floor(time.parse(text, zone) * 1000)
end

-- The last millisecond of a period that ends at `text`: a date counts to its end.
local function last_instant(text, zone)
  if text:match "^%d%d%d%d%-%d%d%-%d%d$" then
    return math.floor(time.add(time.parse(text, zone), "+1d", zone) * 1000) - 1
  end
  return instant(text, zone)
end

--- The schedule of a model as data; nil if the flow runs by hand only. Raises if a time in it
--- cannot be read.
---@param schedule? tidemill.Schedule
---@param zone string
---@return table?
function document.schedule(schedule, zone)
  if not schedule or not schedule.kind then return nil end
  local from_ms = schedule.from and instant(schedule.from, zone)
  local to_ms = schedule.to and last_instant(schedule.to, zone)
  if schedule.kind == "cron" then
    return { kind = "cron", cron = schedule.cron, timezone = zone, dst = schedule.dst, from_ms = from_ms,
      to_ms = to_ms }
  elseif schedule.kind == "every" then
    return { kind = "every", every_s = schedule.every, anchor_ms = from_ms or instant("1970-01-01", zone),
      timezone = zone, from_ms = from_ms, to_ms = to_ms }
  elseif schedule.kind == "once" then
    return { kind = "once", at_ms = instant(schedule.at, zone), timezone = zone }
  end
  local after = json.array {}
  for i, one in ipairs(schedule.after) do after[i] = { flow = one.flow, node = one.node } end
  return { kind = "event", after = after, timeout_s = schedule.timeout, trial = schedule.trial, timezone = zone }
end

-- ---- nodes ----

local function list(values)
  return json.array(table.move(values or {}, 1, #(values or {}), 1, {}))
end

-- The connection whose place a node takes, if it is fixed.
local function connection_of(node)
  for _, name in ipairs { "on", "from" } do
    local field, value = kinds.nodes[node.kind][name], node.spec[name]
    if field and field.type == "connection" and value and not value:find("${", 1, true) then return value end
  end
end

local HASHED = { "kind", "after", "vars", "when", "trigger", "retries", "retry_delay", "backoff", "timeout", "max_wait",
  "deadline", "priority", "pool", "allow_failure", "spec" }

-- Functions and time variables as they are hashed: conditions by text, times by pattern.
local function plain(value)
  if type(value) ~= "table" then return value end
  if flow.is(value) == "time" then return { "time", value.pattern } end
  local copy = {}
  for key, one in pairs(value) do
    if key ~= "tree" then copy[key] = plain(one) end -- of a condition, beside its text
  end
  return copy
end

local function node_hash(node)
  local fields = {}
  for _, name in ipairs(HASHED) do fields[name] = plain(node[name]) end
  return fingerprint.of(fields)
end

local function node_of(node)
  return { name = node.name, kind = node.kind, after = list(node.after), line = node.line, retries = node.retries,
    retry_delay = node.retry_delay, backoff = node.backoff, timeout = node.timeout, max_wait = node.max_wait,
    deadline = node.deadline, priority = node.priority,
    pool = node.pool or connection_of(node), allow_failure = node.allow_failure, trigger = node.trigger,
    pipeline = node.pipeline, delivered_by = node.delivered_by and list(node.delivered_by),
    exactly_once = node.kind == "load" or node.spec.exactly_once == true, hash = node_hash(node) }
end

-- ---- variables ----

local function vars_of(vars)
  local copy = {}
  for name, value in pairs(vars) do copy[name] = type(value) == "table" and { time = value.pattern } or value end
  return copy
end

local function params_of(params)
  local copy = {}
  for name, param in pairs(params) do
    copy[name] = { type = param.type, default = param.default, time = param.time, description = param.description }
  end
  return copy
end

-- ---- the document ----

local function hooks_of(model)
  local hooks = {}
  for _, name in ipairs { "on_success", "on_failure", "on_late" } do
    hooks[name] = json.array {}
    for i, hook in ipairs(model[name] or {}) do
      hooks[name][i] = { webhook = hook.webhook, shell = hook.shell, subject = hook.subject,
        email = hook.email and list(hook.email) }
    end
  end
  return hooks
end

--- The document of a checked model (see lua/check.lua). Fields that the flow leaves out are nil.
---@param model tidemill.Model
---@return table
function document.of(model)
  local nodes = json.array {}
  for i, node in ipairs((graph.order(model.nodes))) do nodes[i] = node_of(node) end
  return { format = FORMAT, flow = model.name, file = model.loaded.file, timezone = model.timezone,
    locale = model.locale, description = model.description, owner = model.owner, tags = list(model.tags),
    on_error = model.on_error, concurrency = model.concurrency,
    missed = { policy = model.missed.policy, window_s = model.missed.window }, deadline_s = model.deadline,
    priority = model.priority, schedule = document.schedule(model.schedule, model.timezone),
    params = params_of(model.params), vars = vars_of(model.vars), constants = vars_of(model.constants),
    settable = json.array(variables.settable(model)), hooks = hooks_of(model), nodes = nodes }
end

--- The Lua files of a flow, in base64, since they may be in any encoding; and by `file` as
--- written each file subflow's { document, sources, hash }.
---@param model tidemill.Model
---@return {text: string, stored: table<string, {path: string, text: string}>, subflows: table<string, table>}
function document.sources(model)
  local stored, subflows = {}, {}
  for _, file in ipairs(model.loaded.files) do
    if file.module then stored[file.module] = { path = file.path, text = sign.base64(file.text) } end
  end
  for file, child in pairs(model.subflows or {}) do
    local made, sources = document.of(child), document.sources(child)
    subflows[file] = { document = made, sources = sources, hash = document.hash(made, sources) }
  end
  return { text = sign.base64(model.loaded.text), stored = stored, subflows = subflows }
end

--- The name of a version: 64 hexadecimal digits that change with anything in either. Decoding
--- either from JSON does not change it.
---@param made table
---@param sources table
---@return string
function document.hash(made, sources)
  return fingerprint.of { made, sources }
end

--- Raises usage for a name that no node has.
---@param nodes table[]
---@param names? string[]
function document.check_names(nodes, names)
  local known, all = {}, {}
  for i, node in ipairs(nodes) do known[node.name], all[i] = true, node.name end
  for _, name in ipairs(names or {}) do
    if not known[name] then
      errors.usage(("the flow has no node '%s'"):format(name),
        require("tidemill.suggest").hint(name, all, "nodes"))
    end
  end
end

--- The nodes of a document that a run has: all, or those that `only` names, which then are after
--- each other only. A name that is none of them is an error of kind usage.
---@param made table
---@param only? string[]
---@return table[]
function document.only(made, only)
  if not only then return made.nodes end
  document.check_names(made.nodes, only)
  local wanted, nodes = {}, {}
  for _, name in ipairs(only) do wanted[name] = true end
  for _, node in ipairs(made.nodes) do
    if wanted[node.name] then
      local after = {}
      for _, name in ipairs(node.after) do
        if wanted[name] then after[#after + 1] = name end
      end
      nodes[#nodes + 1] = { name = node.name, kind = node.kind, after = after }
    end
  end
  return nodes
end

--- Checks what `--set` and the like give against a document (see variables.check_set).
---@param made table
---@param set table<string, string|number|boolean>
---@return table<string, string>
function document.check_set(made, set) return variables.check_set(made.params, made.settable, set) end

return document
