--- What distinguishes two versions of a flow, node by node.
---
--- Settings of the flow are compared in the documents, nodes in the models that the stored
--- sources give (loading them has no effects), so that a changed SQL text or function is named by
--- its field. A function has changed when its code has (lua/fingerprint.lua); where the models cannot
--- be had, only what the documents hold is told. Required files are compared by their text.

local calendar = require "tidemill.calendar"
local fingerprint = require "tidemill.fingerprint"
local flow = require "flow"
local suggest = require "tidemill.suggest"
local text = require "tidemill.text"
local units = require "tidemill.units"

local changes = {}

---@class tidemill.Change
---@field field string
---@field old? string  short values only
---@field new? string

---@class tidemill.NodeChange
---@field node string
---@field kind string
---@field what "added"|"removed"|"changed"
---@field fields? tidemill.Change[]

---@class tidemill.Changes
---@field flow tidemill.Change[]
---@field nodes tidemill.NodeChange[]
---@field files {file: string, what: "added"|"removed"|"changed"}[]  beside the flow's own

---@class tidemill.VersionSide
---@field document table
---@field sources {text: string, stored: table<string, {path: string, text: string}>}  in base64
---@field model? tidemill.Model  when it is at hand

-- ---- values ----

-- A value without what is not its author's: where conditions stand apart, times as patterns.
local function plain(value)
  if type(value) ~= "table" then return value end
  if flow.is(value) == "time" then return value.pattern end
  local copy = {}
  for key, one in pairs(value) do
    if key ~= "tree" then copy[key] = plain(one) end -- of a condition, beside its text
  end
  return copy
end

local function same(a, b)
  if a == b then return true end
  return type(a) == type(b) and fingerprint.text(plain(a)) == fingerprint.text(plain(b))
end

local SECONDS = { retry_delay = true, timeout = true, deadline_s = true, window_s = true, every_s = true, pause = true,
  deadline = true, max_wait = true, every = true }

-- A value in a word or two, or nil when it takes more.
local function short(field, value)
  if value == nil then return "none" end
  if type(value) == "number" and SECONDS[field] then return units.show_duration(value) end
  if type(value) == "table" and #value > 0 and type(value[1]) == "string" then value = table.concat(value, ", ") end
  if type(value) == "table" and (next(value) == nil) then return "none" end
  if type(value) == "table" then
    local condition = value.items and #value.items == 1 and value.items[1].text
    value = flow.is(value) == "time" and value.pattern or condition or value.time or value
  end
  if type(value) == "table" or type(value) == "function" then return nil end
  local shown = tostring(value)
  return #shown <= 60 and not shown:find "\n" and text.clean(shown) or nil
end

local function add(list, field, old, new)
  local change = { field = field }
  local shown_old, shown_new = short(field, old), short(field, new)
  if shown_old and shown_new then change.old, change.new = shown_old, shown_new end
  list[#list + 1] = change
end

-- ---- the flow ----

local FLOW_FIELDS = { "timezone", "locale", "on_error", "concurrency", "priority", "deadline_s",
  "owner", "description", "tags" }
local FLOW_MAPS = { params = "param", vars = "variable", constants = "constant", hooks = "hook" }

local function map_changes(list, word, a, b)
  local names = {}
  for key in pairs(a or {}) do names[key] = true end
  for key in pairs(b or {}) do names[key] = true end
  for _, key in ipairs(suggest.keys(names)) do
    local old, new = (a or {})[key], (b or {})[key]
    if not same(old, new) then add(list, ("%s '%s'"):format(word, key), old, new) end
  end
end

local function flow_changes(a, b)
  local list = {}
  if not same(a.schedule, b.schedule) then
    add(list, "schedule", calendar.describe(a.schedule, a.timezone), calendar.describe(b.schedule, b.timezone))
    local last = list[#list]
    if last.old and last.old == last.new then last.old, last.new = nil, nil end -- its zone, say
  end
  for _, field in ipairs(FLOW_FIELDS) do
    if not same(a[field], b[field]) then add(list, (field:gsub("_s$", "")), a[field], b[field]) end
  end
  for _, field in ipairs(suggest.keys(FLOW_MAPS)) do map_changes(list, FLOW_MAPS[field], a[field], b[field]) end
  local missed_a, missed_b = a.missed or {}, b.missed or {}
  if missed_a.policy ~= missed_b.policy then add(list, "missed", missed_a.policy, missed_b.policy) end
  if missed_a.window_s ~= missed_b.window_s then
    add(list, "missed window", short("window_s", missed_a.window_s), short("window_s", missed_b.window_s))
  end
  return list
end

-- ---- nodes ----

local PLACE = { name = true, file = true, line = true, spec = true, hash = true, vars = true, pending = true }

-- Every field of a node in one table.
local function fields_of(node)
  local all = {}
  for _, source in ipairs { node, node.spec or {} } do
    for key, value in pairs(source) do
      if not PLACE[key] or source == node.spec then all[key] = value end
    end
  end
  return all
end

local function node_fields(a, b)
  local of_a, of_b, names, list = fields_of(a), fields_of(b), {}, {}
  for key in pairs(of_a) do names[key] = true end
  for key in pairs(of_b) do names[key] = true end
  for _, key in ipairs(suggest.keys(names)) do
    if not same(of_a[key], of_b[key]) then add(list, key, of_a[key], of_b[key]) end
  end
  map_changes(list, "variable", a.vars, b.vars)
  return list
end

local function by_name(nodes)
  local found = {}
  for _, node in ipairs(nodes) do found[node.name] = node end
  return found
end

local function node_changes(a, b)
  local old, new, list = by_name(a.document.nodes), by_name(b.document.nodes), {}
  local old_model, new_model = changes.model(a), changes.model(b)
  for _, node in ipairs(b.document.nodes) do
    local before = old[node.name]
    if not before then
      list[#list + 1] = { node = node.name, kind = node.kind, what = "added" }
    else
      local fields
      if old_model and new_model then
        fields = node_fields(old_model.by_name[node.name], new_model.by_name[node.name])
      else
        fields = node_fields(before, node)
        if #fields == 0 and before.hash ~= node.hash then fields = { { field = "definition" } } end
      end
      if #fields > 0 then
        list[#list + 1] = { node = node.name, kind = node.kind, what = "changed", fields = fields }
      end
    end
  end
  for _, node in ipairs(a.document.nodes) do
    if not new[node.name] then list[#list + 1] = { node = node.name, kind = node.kind, what = "removed" } end
  end
  return list
end

-- ---- files ----

local function file_changes(a, b)
  local list = {}
  for _, module in ipairs(suggest.keys(b.sources.stored)) do
    local old, new = a.sources.stored[module], b.sources.stored[module]
    if not old then
      list[#list + 1] = { file = module, what = "added" }
    elseif old.text ~= new.text then
      list[#list + 1] = { file = module, what = "changed" }
    end
  end
  for _, file in ipairs(suggest.keys(b.sources.subflows or {})) do
    local old = (a.sources.subflows or {})[file]
    if old and old.hash ~= b.sources.subflows[file].hash then
      list[#list + 1] = { file = file, what = "changed" }
    end
  end
  for _, module in ipairs(suggest.keys(a.sources.stored)) do
    if not b.sources.stored[module] then list[#list + 1] = { file = module, what = "removed" } end
  end
  return list
end

--- The texts of stored sources, out of base64.
---@param sources table
---@return string text, table<string, {path: string, text: string}> stored
function changes.texts(sources)
  local unbase64, stored = require("tidemill.sign").unbase64, {}
  for module, file in pairs(sources.stored) do stored[module] = { path = file.path, text = unbase64(file.text) } end
  return unbase64(sources.text), stored
end

--- The model of one side; nil when its sources no longer load.
---@param side tidemill.VersionSide
---@return tidemill.Model?
function changes.model(side)
  if side.model then return side.model end
  local source, stored = changes.texts(side.sources)
  local ok, model = pcall(require("tidemill.check").flow, side.document.file, { text = source, stored = stored,
    trusted = true, project = { timezone = side.document.timezone } })
  return ok and model or nil
end

--- What differs from `a` to `b`.
---@param a tidemill.VersionSide
---@param b tidemill.VersionSide
---@return tidemill.Changes
function changes.between(a, b)
  return { flow = flow_changes(a.document, b.document), nodes = node_changes(a, b), files = file_changes(a, b) }
end

--- Whether nothing differs that a run would notice.
---@param found tidemill.Changes
---@return boolean
function changes.none(found)
  return #found.flow + #found.nodes + #found.files == 0
end

--- The changes for JSON.
function changes.json(found)
  local array, nodes = require("json").array, {}
  for i, change in ipairs(found.nodes) do
    nodes[i] = { node = change.node, kind = change.kind, what = change.what,
      fields = change.fields and array(change.fields) }
  end
  return { flow = array(found.flow), nodes = array(nodes), files = array(found.files) }
end

local MARKS = { added = "+", removed = "-", changed = "~" }

local function words(list)
  local out = {}
  for i, change in ipairs(list) do
    out[i] = change.field .. (change.old and (" %s -> %s"):format(change.old, change.new) or "")
  end
  return table.concat(out, "; ")
end

--- The lines that show the changes to a person.
---@param found tidemill.Changes
---@return string[]
function changes.lines(found)
  local out = {}
  for _, change in ipairs(found.flow) do
    out[#out + 1] = ("  ~ %s%s"):format(change.field,
      change.old and (": %s -> %s"):format(change.old, change.new) or "")
  end
  for _, change in ipairs(found.nodes) do
    out[#out + 1] = ("  %s node '%s' (%s)%s"):format(MARKS[change.what], change.node, change.kind,
      change.fields and ": " .. words(change.fields) or "")
  end
  for _, change in ipairs(found.files) do
    out[#out + 1] = ("  %s file '%s'"):format(MARKS[change.what], change.file)
  end
  if #out == 0 then out[1] = "  nothing that a run would notice" end
  return out
end

return changes
