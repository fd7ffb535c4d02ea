--- What became of the source's columns since the last manifest of this node: `on_drift`.
---
--- The columns that an extract has delivered are kept with the node (the fact "columns") when its manifest is
--- committed. The next one compares: columns that are new, gone, or of another type, by name; their
--- order is nobody's business. A flow whose query or table was changed since has changed its columns
--- itself: nothing is compared then.
---
---     fail (default)   any of it fails the extract, before a row is read
---     ignore           new columns are left out, now and later; what is gone or of another type is logged
---     add              new columns go along; what is gone or of another type is logged
---
--- `tidemill watermark FLOW NODE --reset columns` accepts what there is: the next run compares with nothing.

local errors = require "tidemill.errors"
local json = require "json"
local watermark = require "tidemill.watermark"

local drift = {}

local FACT = "columns"

---@class extract.Drift
---@field added {name: string, type: string}[]
---@field dropped {name: string, type: string}[]
---@field retyped {name: string, was: string, type: string}[]

--- Compares two lists of columns; nil if nothing but the order differs.
---@param before {name: string, type: string}[]
---@param now {name: string, type: string}[]
---@return extract.Drift?
function drift.compare(before, now)
  local was, is, found = {}, {}, { added = {}, dropped = {}, retyped = {} }
  for _, column in ipairs(before) do was[column.name] = column end
  for _, column in ipairs(now) do
    is[column.name] = column
    local old = was[column.name]
    if not old then
      table.insert(found.added, { name = column.name, type = column.type })
    elseif old.type ~= column.type then
      table.insert(found.retyped, { name = column.name, was = old.type, type = column.type })
    end
  end
  for _, column in ipairs(before) do
    if not is[column.name] then table.insert(found.dropped, { name = column.name, type = column.type }) end
  end
  return (#found.added > 0 or #found.dropped > 0 or #found.retyped > 0) and found or nil
end

local function list_of(columns, form)
  local list = {}
  for i, column in ipairs(columns) do list[i] = form(column) end
  return table.concat(list, ", ")
end

--- A drift in words: "'a' (integer) is new; 'b' (text) is gone; 'c' is bigint, was integer".
---@param found extract.Drift
---@return string
function drift.say(found)
  local parts = {}
  local function plain(column) return ("'%s' (%s)"):format(column.name, column.type) end
  local function verb(columns) return #columns == 1 and "is" or "are" end
  if #found.added > 0 then
    parts[1] = ("%s %s new"):format(list_of(found.added, plain), verb(found.added))
  end
  if #found.dropped > 0 then
    parts[#parts + 1] = ("%s %s gone"):format(list_of(found.dropped, plain), verb(found.dropped))
  end
  if #found.retyped > 0 then
    parts[#parts + 1] = list_of(found.retyped, function(column)
      return ("'%s' is %s, was %s"):format(column.name, column.type, column.was)
    end)
  end
  return table.concat(parts, "; ")
end

-- What the flow says it reads, with its variables as they are written.
local function subject(ctx)
  local spec = ctx.model.by_name[ctx.node].spec
  return spec.query or spec.table or ""
end

-- What was kept, of the same query or table; nil if nothing was, or it is unreadable.
local function last(ctx, text)
  local ok, kept = pcall(json.decode, text or "null")
  if not ok or type(kept) ~= "table" or type(kept.columns) ~= "table" then return nil end
  if kept.of ~= subject(ctx) then
    ctx:log("info", "the flow reads something else than before: its columns are taken as they are")
    return nil
  end
  return kept.columns
end

local function without(columns, names)
  local is, list = {}, {}
  for _, column in ipairs(names) do is[column.name] = true end
  for _, column in ipairs(columns) do
    if not is[column.name] then list[#list + 1] = column end
  end
  return list
end

-- What the flow wants done about it.
local function settle(ctx, spec, selected, found)
  local message = ("the source's columns are not those of the last manifest: %s"):format(drift.say(found))
  if not spec.on_drift or spec.on_drift == "fail" then
    errors.raise("data", message,
      ("on_drift = \"add\" takes new columns along, \"ignore\" leaves them out; to accept them once: "
        .. "%s --reset columns"):format(watermark.command(ctx.flow, ctx.node)))
  end
  ctx:log("warn", "%s", message)
  if spec.on_drift == "ignore" and #found.added > 0 then
    selected.columns, selected.picked = without(selected.columns, found.added), true
    if #selected.columns == 0 then
      errors.raise("data", "none of the columns of the last manifest is there any more")
    end
  end
end

---@class extract.Columns
---@field ctx tidemill.Context
---@field kept? string         what was kept before
---@field found? extract.Drift what has changed since
local Columns = {}
Columns.__index = Columns

--- Compares the columns with those of the last manifest, before anything is read. May leave new ones out of the
--- selection. Raises kind "data" when the flow wants a drift to fail.
---@param ctx tidemill.Context
---@param spec table  the node's fields
---@param selected extract.Selection
---@return extract.Columns
function drift.against(ctx, spec, selected)
  local self = setmetatable({ ctx = ctx, spec = spec, kept = ctx:fact(FACT) }, Columns)
  local before = last(ctx, self.kept)
  self.found = before and drift.compare(before, selected.columns)
  if self.found then settle(ctx, spec, selected, self.found) end
  return self
end

--- Keeps the columns that are delivered, for the next run; they count with the success of the node.
---@param selected extract.Selection
function Columns:keep(selected)
  local list = {}
  for i, column in ipairs(selected.columns) do list[i] = { name = column.name, type = column.type } end
  table.sort(list, function(a, b) return a.name < b.name end)
  local text = json.encode { columns = json.array(list), of = subject(self.ctx) }
  if text ~= self.kept then self.ctx:keep(FACT, text, { when = "done" }) end
  local found = self.found
  if found then
    self.ctx:report("drift", { text = drift.say(found), on_drift = self.spec.on_drift, added = found.added,
      dropped = found.dropped, retyped = found.retyped })
  end
end

return drift
