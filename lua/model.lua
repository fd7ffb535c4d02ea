--- The model of a flow: what its file declares, checked field by field.
---
--- `model.build` turns a loaded file into plain tables with defaults and units settled.
--- Faults are gathered in `model.problems`, each with its place, so that all of them can be
--- shown at once; lua/check.lua adds those that need the whole graph, and raises.

local flow = require "flow"
local errors = require "tidemill.errors"
local kinds = require "tidemill.kinds"

local model = {}

---@class tidemill.Node
---@field name string
---@field kind string          a key of kinds.nodes
---@field after string[]
---@field file string
---@field line integer
---@field vars table<string, string|flow.Time>
---@field when? tidemill.Condition
---@field trigger string
---@field retries integer
---@field retry_delay number   seconds
---@field backoff number
---@field timeout? number      seconds
---@field priority integer     1 to 10, 10 first
---@field pool? string         as written
---@field allow_failure boolean
---@field description? string
---@field spec table           the fields of its kind, with defaults
---@field pipeline? string     of a load: the extract whose objects it takes while that runs; set by
---lua/check.lua, and for another load `no_pipeline`: why not
---@field delivered_by? string[]  of an extract with a watermark: the loads that deliver it; set by lua/check.lua

---@class tidemill.Schedule
---@field kind? "cron"|"every"|"once"|"event"
---@field cron? string
---@field every? number       seconds
---@field at? string
---@field after? {flow: string, node: string?}[]
---@field timezone? string
---@field dst? string
---@field from? string
---@field to? string
---@field timeout? number     seconds
---@field trial? boolean

---@class tidemill.Model
---@field name string
---@field file string
---@field line integer
---@field schedule? tidemill.Schedule
---@field on_error "complete_running"|"stop"|"continue"
---@field concurrency "skip"|"queue"|"parallel"
---@field missed {policy: "skip"|"latest"|"all", window: number}
---@field locale "en"|"zh"   of the names in time variables
---@field priority integer    1 to 10, 10 first
---@field deadline? number    seconds
---@field params table<string, {type: string, default: string?, time: string?, description: string?}>
---@field vars table<string, string|flow.Time>
---@field constants table<string, string>
---@field on_success? table[]
---@field on_failure? table[]
---@field on_late? table[]
---@field description? string
---@field owner? string
---@field tags? string[]
---@field nodes tidemill.Node[]  as written
---@field by_name table<string, tidemill.Node>
---@field loaded tidemill.Loaded
---@field problems tidemill.Problem[]
---@field warnings tidemill.Problem[]

local function text_of_file(built, path)
  for _, file in ipairs(built.loaded.files) do
    if file.path == path then return file.text end
  end
end

-- Byte positions of the lines of a text: where line n starts, or nil.
local function start_of_line(text, line)
  local at = 1
  for _ = 2, line do
    at = text:find("\n", at, true)
    if not at then return nil end
    at = at + 1
  end
  return at
end

local function line_at(text, position)
  local _, count = text:sub(1, position - 1):gsub("\n", "")
  return count + 1
end

-- The text from a declaration's line to the next declaration in the same file. Settings of
-- the flow itself may also stand behind its nodes.
local function span(built, declared, field)
  local text = text_of_file(built, declared.file)
  local start = text and start_of_line(text, declared.line)
  if not start then return nil end
  local stop = #text
  if declared == built and field and not kinds.common[field] then return text, start, stop end
  for _, node in ipairs(built.nodes) do
    if node.file == declared.file and node.line > declared.line then
      stop = math.min(stop, start_of_line(text, node.line) - 1)
    end
  end
  return text, start, stop
end

--- The line of `field = ` in the declaration of a node or flow, or the declaration's own.
---@param built tidemill.Model
---@param declared tidemill.Node|tidemill.Model
---@param field? string
---@param whole? string  the field that stands there if `field` does not
---@return integer
function model.line_of(built, declared, field, whole)
  local text, start, stop = span(built, declared, field)
  local at = text and field and text:find("%f[%w_]" .. field:gsub("%p", "%%%0") .. "%f[^%w_]%s*=[^=]", start)
  if at and at <= stop then return line_at(text, at) end
  return whole and model.line_of(built, declared, whole) or declared.line
end

--- The line of byte `position` of `content`, a text written in a node's declaration.
---@param built tidemill.Model
---@param node tidemill.Node
---@param field string
---@param content string
---@param position integer
---@return integer
function model.line_in(built, node, field, content, position)
  local text, start, stop = span(built, node)
  local at = text and text:find(content, start, true)
  if at and at <= stop then return line_at(text, at + position - 1) end
  return model.line_of(built, node, field)
end

--- Adds a problem at a place.
---@param built tidemill.Model
---@param declared tidemill.Node|tidemill.Model
---@param line integer
---@param message string
---@param hint? string
function model.complain(built, declared, line, message, hint)
  table.insert(built.problems, { file = declared.file, line = line, message = message, hint = hint })
end

-- Fields of `declared` split into those that `wanted` names and the rest.
local function split(fields, wanted)
  local chosen, rest = {}, {}
  for key, value in pairs(fields) do
    if wanted[key] then chosen[key] = value else rest[key] = value end
  end
  return chosen, rest
end

local function declarations_of(kind)
  local all = {}
  for _, source in ipairs { kinds.common, kinds.nodes[kind] } do
    for name, field in pairs(source) do all[name] = field end
  end
  return all
end

local function build_node(built, declared)
  local node = { name = declared.name, kind = declared.kind, file = declared.file, line = declared.line }
  table.insert(built.nodes, node)
  node.pending = function()
    local what = ("node '%s'"):format(node.name)
    local function report(field, message, hint, spot)
      if not message:find(what, 1, true) then
        message = ("%s%s %s"):format(what, message:find "^'" and ":" or "", message)
      end
      local line = spot and model.line_in(built, node, field, spot.text, spot.at) or model.line_of(built, node, field)
      model.complain(built, node, line, message, hint)
    end
    local fault = kinds.bad_name(node.name)
    if fault then report(nil, ("a node has %s"):format(fault)) end
    local values = kinds.read(what, declared.fields, declarations_of(node.kind), report)
    local common, spec = split(values, kinds.common)
    for name, value in pairs(common) do node[name] = value end
    node.after, node.vars, node.spec = node.after or {}, node.vars or {}, spec
    if kinds.finish[node.kind] then kinds.finish[node.kind](spec, report, node, declared.fields) end
  end
end

-- The nodes among a flow's positional values, lists flattened.
local function gather(built, values, depth)
  local positions = {}
  for key in pairs(values) do
    if math.type(key) == "integer" then positions[#positions + 1] = key end
  end
  table.sort(positions)
  for _, position in ipairs(positions) do
    local value = values[position]
    local what = flow.is(value)
    if what == "node" then
      build_node(built, value)
    elseif what == "headless" then
      model.complain(built, value, value.line, ("%s '%s' has no table { ... }"):format(value.word, value.name))
    elseif type(value) == "table" and not getmetatable(value) and depth < 8 then
      gather(built, value, depth + 1)
    else
      model.complain(built, built, built.line, ("value %d of the flow is not a node but %s"):format(position,
        what and ("a " .. what) or ("a " .. type(value))),
        "nodes are made by flow.sql, flow.extract, flow.load, ...; see 'tidemill help flow'")
    end
  end
end

local function index_nodes(built)
  for _, node in ipairs(built.nodes) do
    local first = built.by_name[node.name]
    if first then
      model.complain(built, node, node.line, ("duplicate node '%s', first declared at line %d"):format(node.name,
        first.line))
    else
      built.by_name[node.name] = node
    end
  end
end

local function not_a_flow(loaded)
  local value = loaded.value
  local what = flow.is(value)
  if what == "headless" and not value.kind then
    errors.usage(("%s: flow '%s' has no table { ... }"):format(loaded.file, value.name))
  end
  errors.usage(("%s: the file returns %s, not a flow"):format(loaded.file,
    what and ("a " .. (what == "headless" and "node" or what)) or value == nil and "nothing" or "a " .. type(value)),
    "a flow file ends with: return flow \"Name\" { ... }")
end

--- Builds the model of a loaded flow file. Raises only when the file returns no flow;
--- everything else is in `problems`.
---@param loaded tidemill.Loaded
---@return tidemill.Model
function model.build(loaded)
  local declared = loaded.value
  if flow.is(declared) ~= "flow" then not_a_flow(loaded) end
  local built = { name = declared.name, file = declared.file, line = declared.line, nodes = {}, by_name = {},
    loaded = loaded, problems = {}, warnings = {} }
  gather(built, declared.fields, 0)
  local settings = {}
  for key, value in pairs(declared.fields) do
    if math.type(key) ~= "integer" then settings[key] = value end
  end
  local function report(field, message, hint)
    model.complain(built, built, model.line_of(built, built, field), message, hint)
  end
  local fault = kinds.bad_name(declared.name)
  if fault then report(nil, ("the flow has %s"):format(fault)) end
  for key, value in pairs(kinds.read("the flow", settings, kinds.flow, report)) do built[key] = value end
  built.vars, built.constants, built.params = built.vars or {}, built.constants or {}, built.params or {}
  for _, node in ipairs(built.nodes) do
    node.pending()
    node.pending = nil
  end
  if #built.nodes == 0 and #built.problems == 0 then
    report(nil, ("flow '%s' has no nodes"):format(built.name))
  end
  index_nodes(built)
  return built
end

return model
