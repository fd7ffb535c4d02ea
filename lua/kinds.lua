--- The fields of flows and of nodes: types, defaults, and what they refuse.
---
--- A field is declared once, as data: those of nodes in lua/kinds/nodes.lua, their types in
--- lua/kinds/types.lua. `read` checks a table of fields against the declarations and returns it
--- with defaults and units settled (seconds, bytes). Texts that may hold `${name}` are looked
--- at again by `settle`, after variables are filled in: there connections, locations and table
--- names are checked.

local identifiers = require "tidemill.identifiers"
local locations = require "tidemill.locations"
local nodes = require "tidemill.kinds.nodes"
local suggest = require "tidemill.suggest"
local types = require "tidemill.kinds.types"
local units = require "tidemill.units"

local kinds = { common = nodes.common, nodes = nodes.fields, finish = nodes.finish, outputs = nodes.outputs,
  own_variables = nodes.own_variables }

local MAX_NAME = 200 -- bytes of a node's name: part of object keys and process titles

-- ---- the fields of a flow ----

--- Names of flows, or of nodes in them: "flow", "flow/node", { flow =, node = }.
function types.events(value)
  if type(value) == "string" or types.is_plain(value) and value.flow then value = { value } end
  if not types.is_list(value) or #value == 0 then return nil, "names of flows, or \"flow/node\"" end
  local events = {}
  for i, one in ipairs(value) do
    if type(one) == "string" and one:find "%S" then
      local flow_name, node = one:match "^([^/]+)/(.+)$"
      events[i] = { flow = flow_name or one, node = node }
    elseif types.is_plain(one) and type(one.flow) == "string" and (one.node == nil or type(one.node) == "string") then
      events[i] = { flow = one.flow, node = one.node }
    else
      return nil, "names of flows, or \"flow/node\"", nil, one
    end
  end
  return events
end

local SCHEDULE = {
  cron = { type = "string" },
  every = { type = "duration", min = 1 },
  at = { type = "string" },
  after = { type = "events" },
  timezone = { type = "string" },
  dst = { type = "choice", choices = { "once", "quartz", "each" } },
  from = { type = "string" },
  to = { type = "string" },
  timeout = { type = "duration", positive = true },
  trial = { type = "boolean" },
}
-- The kind of a schedule, by the field that makes it one, and what else goes with it.
local SCHEDULES = {
  { "cron", "cron", { dst = true, from = true, to = true } },
  { "every", "every", { from = true, to = true } },
  { "at", "once", {} },
  { "after", "event", { timeout = true, trial = true } },
}

function types.schedule(value, _, report)
  if type(value) == "string" then value = { cron = value } end
  if not types.is_plain(value) then return nil, "a table with cron, timezone, ..." end
  local schedule = kinds.read("schedule", value, SCHEDULE, report)
  local found
  for _, one in ipairs(SCHEDULES) do
    if value[one[1]] ~= nil and found then
      report(one[1], ("schedule has both '%s' and '%s'"):format(found[1], one[1]), "a flow has one schedule")
    end
    if value[one[1]] ~= nil then found = found or one end
  end
  for _, name in ipairs(suggest.keys(schedule)) do
    local alone = name == "timezone" or found and (name == found[1] or found[3][name])
    for _, one in ipairs(SCHEDULES) do alone = alone or name == one[1] end
    if not alone then
      report(name, ("schedule has '%s', which %s"):format(name, found and ("does not go with '%s'"):format(found[1])
        or "says nothing without cron, every, at or after"))
    end
  end
  schedule.kind = found and schedule[found[1]] ~= nil and found[2] or nil -- none if what makes it one is bad
  if schedule.kind == "cron" then schedule.dst = schedule.dst or "once" end
  if schedule.kind == "event" and schedule.trial == nil then schedule.trial = true end
  return schedule
end

function types.missed(value, field, report, name)
  local rule, window = value, "1d"
  if type(value) == "table" then rule, window = value[1], value.window or window end
  local policy, wants, near = types.choice(rule, field)
  if not policy then return nil, wants, near, rule end
  for key in pairs(value ~= rule and value or {}) do
    if key ~= 1 and key ~= "window" then
      report(name, ("'%s' has no field '%s'"):format(name, key), suggest.hint(tostring(key), { "window" }, "fields"))
    end
  end
  local seconds = units.duration(window)
  if not seconds then return nil, "window as a duration such as \"6h\"", nil, window end
  return { policy = policy, window = seconds }
end

local HOOKS = { "webhook", "shell", "email" }

local function read_hook(one, report, name)
  local found
  for _, kind in ipairs(HOOKS) do
    if one[kind] ~= nil then
      if found then return report(name, ("%s has a hook with both '%s' and '%s'"):format(name, found, kind)) end
      found = kind
    end
  end
  for _, key in ipairs(suggest.keys(one)) do
    if key ~= found and not (key == "subject" and found == "email") then
      local known = { "webhook", "shell", "email", "subject" }
      report(name, ("%s has a hook with '%s'"):format(name, key), suggest.hint(key, known, "fields"))
    end
  end
  if not found then return report(name, ("%s has a hook without webhook, shell or email"):format(name)) end
  local value = one[found]
  if found == "email" then
    local list = types.strings(value, { single = true, filled = true })
    for _, address in ipairs(list or { "" }) do
      if not address:match "^[^%s@,<>\"]+@[^%s@,<>\"]+$" then
        return report(name, ("%s: '%s' is no e-mail address"):format(name, address))
      end
    end
    if one.subject ~= nil and (type(one.subject) ~= "string" or one.subject:find "%c") then
      report(name, ("%s: 'subject' wants text on one line"):format(name))
    end
    return { email = list, subject = one.subject }
  elseif type(value) ~= "string" or not value:find "%S" then
    return report(name, ("%s: '%s' wants text"):format(name, found))
  end
  return { [found] = value }
end

--- What is told at the end of a run: one hook, or a list of them.
function types.hooks(value, _, report, name)
  if types.is_plain(value) and not types.is_list(value) then value = { value } end
  if not types.is_list(value) then
    return nil, "{ webhook = \"connection\" }, { shell = \"command\" }, { email = \"a@b\" }, or a list of these"
  end
  local hooks = {}
  for _, one in ipairs(value) do
    if not types.is_plain(one) then return nil, "a list of { webhook = }, { shell = } and { email = }" end
    hooks[#hooks + 1] = read_hook(one, report, name)
  end
  return hooks
end

--- What a flow may say of itself.
kinds.flow = {
  schedule = { type = "schedule" },
  on_error = { type = "choice", choices = { "complete_running", "stop", "continue" }, default = "complete_running" },
  concurrency = { type = "choice", choices = { "skip", "queue", "parallel" }, default = "skip" },
  missed = { type = "missed", choices = { "skip", "latest", "all" }, default = "skip" },
  locale = { type = "choice", choices = { "en", "zh" }, default = "en" },
  priority = { type = "integer", min = 1, max = 10, default = 5 },
  deadline = { type = "duration", positive = true },
  params = { type = "params" },
  vars = { type = "vars" },
  constants = { type = "vars", constant = true },
  on_success = { type = "hooks" },
  on_failure = { type = "hooks" },
  on_late = { type = "hooks" },
  description = { type = "string" },
  owner = { type = "string" },
  tags = { type = "strings" },
}

--- Checks `fields` against declarations. `report(field, message, hint)` is called for each
--- fault; the faulty field is then as if absent. Returns the values with defaults.
---@param what string      for messages: "node 'a'", "flow"
---@param fields table
---@param declared table<string, table>
---@param report fun(field: string?, message: string, hint: string?)
---@return table
function kinds.read(what, fields, declared, report)
  local values = {}
  if #fields > 0 then report(nil, ("%s has a value without a field name"):format(what)) end
  for _, name in ipairs(suggest.keys(fields)) do
    local value, field = fields[name], declared[name]
    if field then
      local good, wants, near, got = types[field.type](value, field, report, name)
      if good == nil then
        report(name, ("%s: '%s' wants %s, got %s"):format(what, name, wants, types.given(got == nil and value or got)),
          near and ("did you mean '%s'?"):format(near))
      end
      values[name] = good
    else
      report(name, ("%s has no field '%s'"):format(what, name), suggest.hint(name, suggest.keys(declared), "fields"))
    end
  end
  for _, name in ipairs(suggest.keys(declared)) do
    local field = declared[name]
    if fields[name] == nil and field.required then report(nil, ("%s needs '%s'"):format(what, name)) end
    if values[name] == nil and field.default ~= nil then
      values[name] = types[field.type](field.default, field, report, name)
    end
  end
  return values
end

--- Whether `name` will do for a flow or node; nil or what is wrong with it.
---@param name string
---@return string?
function kinds.bad_name(name)
  if not name:find "%S" then return "an empty name" end
  if #name > MAX_NAME then return ("a name of more than %d bytes"):format(MAX_NAME) end
  if name:find "%c" then return "a name with a control character" end
end

local function is_relation(text)
  local parts = identifiers.parts(text)
  return parts ~= nil and #parts <= 2
end

-- What is wrong with a settled text, and a hint; nil if nothing is.
local settle = {}

function settle.connection(value, field, known) return known(value, field.wants) end

function settle.location(value, _, known)
  local connection, reason = locations.split(value)
  if not connection then return ("'%s': %s"):format(value, reason) end
  return known(connection, "store")
end

function settle.reject(value, field, known)
  if not value.to or value.to:find("${", 1, true) then return nil end
  return settle.location(value.to, field, known)
end

function settle.relation(value)
  if is_relation(value) then return nil end
  return ("'%s' does not name a table"):format(value), "write table, schema.table or \"Quoted\".\"Name\""
end

function settle.integer(value, field)
  if type(value) ~= "string" then return nil end
  local number = math.tointeger(tonumber(value))
  if number and number >= (field.min or number) and number <= (field.max or number) then return nil end
  return ("'%s' is not an integer%s"):format(value,
    field.min and field.max and (" from %d to %d"):format(field.min, field.max) or "")
end

function settle.rules(rules)
  for _, rule in ipairs(rules) do
    local other = rule.kind == "references" and rule.table
    if other and not other:find("${", 1, true) then
      local fault, hint = settle.relation(other)
      if fault then return fault, hint end
    end
  end
end

--- Checks the texts of a spec after variables are filled in. One that still holds an output,
--- which nobody knows yet, is passed over.
---@param kind string
---@param spec table
---@param known fun(connection: string, wants: string): string?, string?  what is wrong with it and a hint
---@param report fun(field: string, message: string, hint: string?)
function kinds.settle(kind, spec, known, report)
  for _, name in ipairs(suggest.keys(kinds.nodes[kind])) do
    local field, value = kinds.nodes[kind][name], spec[name]
    local look = settle[field.type]
    if look and value ~= nil and not (type(value) == "string" and value:find("${", 1, true)) then
      local fault, hint = look(value, field, known)
      if fault then report(name, fault, hint) end
    end
  end
end

return kinds
