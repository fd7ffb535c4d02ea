--- Is a flow valid? Everything that can be known without touching a database or a store.
---
--- `check.flow` loads a file, builds its model and looks at graph, schedule, variables,
--- conditions, connections and the flow files it calls. All problems are raised together as one
--- usage error, sorted by place; what is odd but may be meant goes to `model.warnings`.

local condition = require "tidemill.condition"
local deliveries = require "tidemill.deliveries"
local errors = require "tidemill.errors"
local graph = require "tidemill.graph"
local kinds = require "tidemill.kinds"
local model = require "tidemill.model"
local pipelined = require "tidemill.pipelined"
local project = require "tidemill.project"
local sandbox = require "tidemill.sandbox"
local statements = require "tidemill.statements"
local suggest = require "tidemill.suggest"
local variables = require "tidemill.variables"
local clean = require "tidemill.text".clean

local check = {}

-- Any instant will do to try formats and offsets: 2024-03-15 00:00 UTC.
local SAMPLE = 1710460800
local FAULTS_IN_TEXT = 5
local MANY_NODES = 100 -- in one flow: the limit of DMS, and what a person can still look at

local function names_of(built)
  return suggest.keys(built.by_name)
end

local function warn(built, declared, line, message)
  table.insert(built.warnings, { file = declared.file, line = line, message = message })
end

-- ---- the graph ----

local function check_graph(built)
  for _, node in ipairs(built.nodes) do
    local kept, seen = {}, {}
    for _, name in ipairs(node.after) do
      if not built.by_name[name] then
        model.complain(built, node, model.line_of(built, node, "after"),
          ("node '%s' is after '%s', which does not exist"):format(node.name, name),
          suggest.hint(name, names_of(built), "nodes"))
      elseif not seen[name] then
        kept[#kept + 1] = name
        seen[name] = true
      end
    end
    node.after = kept
  end
  for _, cycle in ipairs(graph.cycles(built.nodes)) do
    local first = built.by_name[cycle[1]]
    model.complain(built, first, first.line, ("cycle: %s"):format(table.concat(cycle, " -> ")),
      "a node cannot wait for itself; remove one 'after' of these")
  end
end

local function check_shape(built)
  local behind = graph.behind(built.nodes)
  for _, node in ipairs(built.nodes) do
    if node.trigger ~= "all_success" and #node.after == 0 then
      model.complain(built, node, model.line_of(built, node, "trigger"),
        ("node '%s' has trigger '%s', but is after no node"):format(node.name, node.trigger),
        "a trigger says what must have become of the nodes in 'after'")
    end
    if node.kind == "branch" and #behind[node.name] == 0 then
      warn(built, node, node.line, ("no node is after branch '%s', so it decides nothing"):format(node.name))
    end
  end
  if #built.nodes > MANY_NODES then
    warn(built, built, built.line, ("flow '%s' has %d nodes; %d are as many as a flow should have"):format(built.name,
      #built.nodes, MANY_NODES))
  end
end

-- ---- the schedule ----

local function message_of(raised)
  return type(raised) == "table" and raised.message or tostring(raised)
end

-- Whether a schedule that can be read ever fires.
local function check_firings(built, complain)
  local made = require("tidemill.document").schedule(built.schedule, built.timezone)
  if made.from_ms and made.to_ms and made.from_ms >= made.to_ms then
    complain("from", { message = ("the schedule's 'from' (%s) is not before its 'to' (%s)"):format(built.schedule.from,
      built.schedule.to) })
  elseif #require("tidemill.calendar").next(made, -1) == 0 then
    complain(made.cron and "cron" or "every", { message = ("the schedule never fires%s"):format(
      (made.from_ms or made.to_ms) and " between 'from' and 'to'" or "") })
  end
end

local function check_events(built, complain)
  for _, event in ipairs(built.schedule.after) do
    if event.flow == built.name then
      complain("schedule", { message = ("flow '%s' is scheduled after itself"):format(built.name),
        hint = "an event schedule names other flows" })
    end
  end
end

-- Params that nobody gives when the schedule fires.
local function check_params(built)
  for _, name in ipairs(suggest.keys(built.params)) do
    local param = built.params[name]
    if built.schedule and built.schedule.kind and param.default == nil and param.time == nil then
      model.complain(built, built, model.line_of(built, built, name),
        ("param '%s' has no default, but the flow has a schedule"):format(name), "a scheduled run sets no params")
    end
  end
end

local function check_schedule(built, zone)
  local schedule, time = built.schedule or {}, require "time"
  local before = #built.problems
  local function complain(field, raised)
    model.complain(built, built, model.line_of(built, built, field, "schedule"), message_of(raised),
      type(raised) == "table" and raised.hint or nil)
  end
  local function try(field, f, ...)
    local ok, raised = pcall(f, ...)
    if not ok then complain(field, raised) end
    return ok
  end
  if not try("timezone", time.zone, zone) then zone = "UTC" end
  built.timezone = zone
  if schedule.cron then
    try("cron", require("cron").parse, schedule.cron, { timezone = zone, dst = schedule.dst })
  end
  for _, field in ipairs { "from", "to", "at" } do
    if schedule[field] then try(field, time.parse, schedule[field], zone) end
  end
  if schedule.kind == "event" then
    check_events(built, complain)
  elseif schedule.kind == "cron" or schedule.kind == "every" then
    if #built.problems == before then check_firings(built, complain) end
  end
  check_params(built)
end

-- ---- hooks, pools, other flows ----

local function check_hooks(built)
  for _, field in ipairs { "on_success", "on_failure", "on_late" } do
    for _, hook in ipairs(built[field] or {}) do
      if hook.webhook then
        local fault, hint = built.project:fault(hook.webhook, "webhook")
        if fault then model.complain(built, built, model.line_of(built, built, field), fault, hint) end
      end
    end
  end
  local has_deadline = built.deadline
  for _, node in ipairs(built.nodes) do has_deadline = has_deadline or node.deadline end
  if built.on_late and not has_deadline then
    warn(built, built, model.line_of(built, built, "on_late"),
      "the flow has on_late but no deadline, so no run is late")
  end
end

local function check_pool(built, node)
  if node.pool and not built.project.pools[node.pool] then
    model.complain(built, node, model.line_of(built, node, "pool"), ("node '%s': unknown pool '%s'"):format(node.name,
      node.pool), suggest.hint(node.pool, suggest.keys(built.project.pools), "pools")
      or "tidemill.lua defines pools = { name = how many at once }")
  end
end

local function check_wait(built, node)
  local spec = node.spec
  if spec.what == "flow" and spec.flow == built.name and not spec.offset and not spec.from then
    model.complain(built, node, model.line_of(built, node, "flow"),
      ("node '%s' waits for the run that it is part of"):format(node.name),
      "previous = true waits for the run before this one")
  elseif spec.what == "previous" and spec.node and not built.by_name[spec.node] then
    model.complain(built, node, model.line_of(built, node, "node"),
      ("node '%s' waits for node '%s', which does not exist"):format(node.name, spec.node),
      suggest.hint(spec.node, names_of(built), "nodes"))
  end
end

-- The path of `file` seen from `folder`, without "." and with as few ".." as can be.
local function joined(folder, file)
  local parts = {}
  for part in (folder .. file):gmatch "[^/]+" do
    if part == ".." and #parts > 0 and parts[#parts] ~= ".." then
      table.remove(parts)
    elseif part ~= "." then
      parts[#parts + 1] = part
    end
  end
  return (folder:find "^/" and "/" or "") .. table.concat(parts, "/")
end

-- The model of a file subflow; its problems become ours.
local function check_child(built, node, opts)
  local path = joined(built.loaded.file:match "^.*/" or "", node.spec.file)
  local line = model.line_of(built, node, "file")
  local trail = table.move(opts.trail or {}, 1, #(opts.trail or {}), 1, {})
  trail[#trail + 1] = joined(built.loaded.file:match "^.*/" or "", built.loaded.file:match "[^/]*$")
  for i, before in ipairs(trail) do
    if before == path then
      local cycle = table.move(trail, i, #trail, 1, {})
      model.complain(built, node, line, ("subflows in a circle: %s -> %s"):format(table.concat(cycle, " -> "), path),
        "a flow cannot be part of itself")
      return nil
    end
  end
  local ok, child = pcall(check.flow, path, { project = built.project, trail = trail })
  if ok then return child end
  if type(child) == "table" and child.problems then
    for _, problem in ipairs(child.problems) do table.insert(built.problems, problem) end
  else
    model.complain(built, node, line, ("node '%s': %s"):format(node.name, message_of(child)),
      type(child) == "table" and child.hint or nil)
  end
end

-- What `set` gives a file subflow; of a value with a variable in it, the type is not known yet.
local function check_set(child, set)
  local params = {}
  for name, param in pairs(child.params) do
    local open = set[name] and set[name]:find("${", 1, true)
    params[name] = open and { type = "text" } or param
  end
  variables.check_set(params, variables.settable(child), set)
end

local function check_subflow(built, node, opts)
  local spec = node.spec
  if spec.flow == built.name then
    model.complain(built, node, model.line_of(built, node, "flow"),
      ("node '%s' runs the flow that it is part of"):format(node.name), "a flow cannot be part of itself")
  elseif spec.file then
    local children = built.subflows
    if children[spec.file] == nil then children[spec.file] = check_child(built, node, opts) or false end
    local child = children[spec.file]
    local ok, raised = true, nil
    if child then ok, raised = pcall(check_set, child, spec.set) end
    if not ok then
      model.complain(built, node, model.line_of(built, node, "set"), ("node '%s': %s"):format(node.name,
        message_of(raised)), raised.hint)
    end
  end
end

local function check_others(built, opts)
  built.subflows = {}
  for _, node in ipairs(built.nodes) do
    check_pool(built, node)
    if node.kind == "wait_for" then check_wait(built, node) end
    if node.kind == "subflow" then check_subflow(built, node, opts) end
  end
  for file, child in pairs(built.subflows) do built.subflows[file] = child or nil end
end

-- ---- variables ----

-- "sql of node 'a', line 2"
local function place_in(declared, field, text, reference)
  local _, lines = text:sub(1, reference.at - 1):gsub("\n", "")
  local whose = declared.kind and (" of node '%s'"):format(declared.name) or " of the flow"
  return field .. whose .. (text:find "\n" and (", line %d"):format(lines + 1) or "")
end

local function unknown_variable(built, declared, scope, field, text, reference)
  local where = place_in(declared, field, text, reference)
  local line = model.line_in(built, declared, field, text, reference.at)
  if reference.fault then
    model.complain(built, declared, line, ("malformed variable '%s' in %s"):format(reference.fault, where),
      "a variable is ${name}; write $${ for a literal ${")
  else
    model.complain(built, declared, line, ("unknown variable '${%s}' in %s"):format(reference.name, where),
      suggest.hint(reference.name, scope.names(field), "variables"))
  end
end

-- Complains of the references in a text that mean nothing: of the first few, enough to mend it.
local function check_references(built, declared, scope, field, text)
  local count = 0
  for _, reference in ipairs(variables.references(text)) do
    if reference.fault or not scope.known(reference.name, declared.kind and field) then
      unknown_variable(built, declared, scope, field, text, reference)
      count = count + 1
      if count == FAULTS_IN_TEXT then return end
    end
  end
end

-- Texts of `vars` and `constants` may refer to variables too.
local function check_definitions(built, declared, scope, field)
  local vars = declared[field]
  for _, name in ipairs(suggest.keys(vars)) do
    local content = vars[name]
    if type(content) == "string" then check_references(built, declared, scope, field, content) end
    scope.value_of(name)
  end
end

local function check_texts(built, node, scope)
  variables.each_text(node.spec, function(text, field) check_references(built, node, scope, field, text) end)
  for field, cond in pairs(variables.conditions(node)) do
    for _, reference in ipairs(condition.references(cond)) do
      if scope.known(reference.name) then
        scope.value_of(reference.name)
      else
        unknown_variable(built, node, scope, field, reference.text, reference)
      end
    end
  end
end

local function check_faults(built, node, scope, tried)
  for _, fault in ipairs(scope.faults) do
    local declared = node.vars[fault.name] and node or built
    if not tried[declared] or not tried[declared][fault.message] then
      tried[declared] = tried[declared] or {}
      tried[declared][fault.message] = true
      model.complain(built, declared, model.line_of(built, declared, fault.name), fault.message)
    end
  end
end

local function check_clashes(built, node, scope, tried)
  for _, clash in ipairs(variables.clashes(built, node, scope)) do
    local key = "clash " .. clash.name .. table.concat(clash.places)
    if not tried[key] then
      tried[key] = true
      warn(built, node, node.line, ("variable '%s' of node '%s' is defined by %s; the first one counts"):format(
        clash.name, node.name, table.concat(clash.places, " and by ")))
    end
  end
end

local function check_variables(built, node, moment, tried)
  local scope = variables.scope(built, node, moment)
  check_texts(built, node, scope)
  check_definitions(built, node, scope, "vars")
  if not tried.flow then -- once, with the first node
    tried.flow = true
    check_definitions(built, built, scope, "constants")
    check_definitions(built, built, scope, "vars")
    for name in pairs(built.params) do scope.value_of(name) end
  end
  local filled = variables.fill(node.spec, scope.value_of)
  check_faults(built, node, scope, tried)
  check_clashes(built, node, scope, tried)
  return filled
end

-- Where line `number` of a text starts.
local function at_line(text, number)
  local at = 1
  for _ = 2, number do at = (text:find("\n", at, true) or #text) + 1 end
  return at
end

local NO_CONTROL = {
  sql = { "a node that is one transaction", "leave BEGIN and COMMIT out, or set transaction = false" },
  loop = { "a loop, whose batches are transactions", "leave BEGIN and COMMIT out" },
  assign = { "an assign", "an assign only reads; use a flow.sql node" },
}

-- What a node would refuse of its SQL when it runs: what only psql knows, quotes without an
-- end, transactions of its own.
local function check_statements(built, node, filled)
  local raw = type(node.spec.sql) == "table" and node.spec.sql or { node.spec.sql }
  for i, text in ipairs(type(filled.sql) == "table" and filled.sql or { filled.sql }) do
    local function complain(line, message, hint)
      model.complain(built, node, model.line_in(built, node, "sql", raw[i], at_line(raw[i], line)),
        ("node '%s': %s"):format(node.name, message), hint)
    end
    local list, fault = statements.split(text)
    if fault then complain(fault.line, fault.message, fault.hint) end
    for _, one in ipairs(list or {}) do
      if one.control and filled.transaction ~= false then
        complain(one.line, ("%s in %s"):format(one.word, NO_CONTROL[node.kind][1]), NO_CONTROL[node.kind][2])
      end
    end
    if list and node.kind == "assign" and #list ~= 1 then
      complain(1, ("an assign has one query, here are %d statements"):format(#list),
        "use a flow.sql node for the others")
    end
  end
end

local function check_nodes(built)
  local moment, tried = variables.moment(SAMPLE, built.timezone), {}
  local function known(name, wants) return built.project:fault(name, wants) end
  for _, node in ipairs(built.nodes) do
    local filled = check_variables(built, node, moment, tried)
    kinds.settle(node.kind, filled, known, function(field, message, hint)
      model.complain(built, node, model.line_of(built, node, field), ("node '%s': %s"):format(node.name, message),
        hint)
    end)
    if NO_CONTROL[node.kind] and filled.sql then check_statements(built, node, filled) end
  end
end

-- An increment that holds rows of the last one again, by its overlap, must not be added to a table.
local function check_overlap(built, node)
  local watermark = node.kind == "extract" and node.spec.query and node.spec.watermark
  if not watermark or not watermark.overlap then return end
  for _, load in ipairs(deliveries.loads(built, node)) do
    if load.spec.mode == "append" then
      model.complain(built, node, model.line_of(built, node, "watermark"),
        ("node '%s' reads a query with an overlap, and load '%s' would append its rows twice"):format(node.name,
          load.name), "let the load say mode = \"merge\", or let the extract name a table")
    end
  end
end

-- A load that compares hashes needs that of its extract, which the manifest then has.
local function check_hash(built, node)
  if node.kind ~= "load" or node.spec.verify ~= "hash" then return end
  local before = graph.upstream(built.nodes, node.name)
  for _, other in ipairs(built.nodes) do
    if before[other.name] and other.kind == "extract" and other.spec.verify ~= "hash"
      and pipelined.same_place(built, other, node) then
      model.complain(built, node, model.line_of(built, node, "verify"),
        ("node '%s' compares hashes of rows, and '%s' makes none"):format(node.name, other.name),
        "give the extract verify = \"hash\", or the load verify = \"count\"")
    end
  end
end

-- What is known of data and their ways: which loads take objects while their extract runs (one that is told
-- to and cannot is a fault), and which deliver an increment.
local function check_ways(built)
  for _, node in ipairs(built.nodes) do
    local reason
    check_overlap(built, node)
    check_hash(built, node)
    node.delivered_by = deliveries.names(built, node)
    node.pipeline, reason = pipelined.source(built, node)
    node.no_pipeline = reason
    if node.kind == "load" and node.spec.pipeline and reason then
      model.complain(built, node, model.line_of(built, node, "pipeline"),
        ("node '%s' cannot take objects while an extract runs, since %s"):format(node.name, reason),
        "leave 'pipeline' out, and it loads when the nodes before it are through")
    end
  end
end

-- ---- texts ----

-- The field in which a text is that the store cannot keep; nil if there is none.
local function bad_text(value, field)
  if type(value) == "string" then
    return (not utf8.len(value) or value:find("\0", 1, true)) and field or nil
  elseif type(value) ~= "table" then
    return nil
  end
  for key, one in pairs(value) do
    local inner = type(key) ~= "string" and field or field and field .. "." .. clean(key) or clean(key)
    local found = bad_text(key, inner) or bad_text(one, inner)
    if found then return found end
  end
end

-- What a flow says of itself is kept as JSON. (Its SQL and commands may be in any encoding.)
local function check_encoding(built)
  local made = require("tidemill.document").of(built)
  local hint = "write it in UTF-8, without zero bytes"
  for _, one in ipairs(made.nodes) do
    local node, field = built.by_name[one.name], bad_text(one)
    if field then
      model.complain(built, node, model.line_of(built, node, field:match "^[^.]*"),
        ("node '%s': %s is not text in UTF-8"):format(clean(node.name), field), hint)
    end
  end
  made.nodes = nil
  local field = bad_text(made)
  if field then
    model.complain(built, built, model.line_of(built, built, field:match "^[^.]*"),
      ("flow '%s': %s is not text in UTF-8"):format(clean(built.name), field == "flow" and "its name" or field), hint)
  end
end

---@class tidemill.CheckOptions
---@field text? string                a stored version instead of the file ...
---@field stored? table               ... with what it requires (see sandbox.load)
---@field trusted? boolean           these sources have been checked before: only build the model
---@field project? tidemill.Project   instead of looking for tidemill.lua
---@field trail? string[]             the flow files that this one is part of

--- Loads a flow file and checks it. Raises one usage error with every problem.
---@param path string
---@param opts? tidemill.CheckOptions
---@return tidemill.Model  with `timezone` (the schedule's, the project's, or "UTC"), `project` and
---`subflows`: the models of file subflows by file as written (of a stored version: none)
function check.flow(path, opts)
  opts = opts or {}
  local built = model.build(sandbox.load(path, { text = opts.text, stored = opts.stored }))
  built.project = opts.project or project.open(path)
  built.timezone = built.schedule and built.schedule.timezone or built.project.timezone
  built.subflows = {}
  if not opts.trusted then check_schedule(built, built.timezone) end
  check_graph(built) -- also settles `after`
  if opts.trusted then return built end
  check_shape(built)
  check_hooks(built)
  if not opts.text then check_others(built, opts) end
  check_nodes(built)
  if #built.problems == 0 then check_ways(built) end
  if #built.problems == 0 then check_encoding(built) end
  if #built.problems > 0 then error(errors.of_problems(built.problems), 0) end
  return built
end

return check
