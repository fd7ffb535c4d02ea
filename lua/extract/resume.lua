--- Going on where an earlier attempt of an extract has failed.
---
--- An extract that may be resumed ends each range of its key on an object, and tells with each object of
--- which range it is; with the last one, how many there are. So a range whose objects are all known
--- is finished. The next attempt takes those over, tells of them as of its own, and reads what lies
--- between them, under a snapshot of its own: rows that changed meanwhile are seen as they were in the one or in the
--- other. What was asked for must be the same to the letter, columns and format too.

local manifest = require "tidemill.manifest"
local present = require "tidemill.manifest.present"
local sign = require "tidemill.sign"

local resume = {}

local PRINT_BYTES = 16

---@class extract.Span
---@field print string   of what was asked for
---@field number integer the place of the range among all
---@field lo? string
---@field hi? string
---@field null? boolean
---@field count? integer with the last object of the range: how many hold its rows

--- The span of the last of `count` objects of a range.
---@param span extract.Span
---@param count integer
---@return extract.Span
function resume.closing(span, count)
  local closing = { count = count }
  for name, value in pairs(span) do closing[name] = value end
  return closing
end

--- A digest of what decides which bytes a range becomes. The condition of an increment is written
--- anew in each snapshot; what it means is its window.
---@param selection extract.Selection
---@param shape extract.Shape
---@return string
function resume.print(selection, shape)
  local bare = setmetatable({ predicate = false }, { __index = selection })
  local text = { bare:sql(selection.whole), selection.window or "", shape.options, tostring(shape.format.compress),
    tostring(shape.format.header), selection.whole.key.type, selection.whole.key.expression }
  for _, column in ipairs(shape.columns) do text[#text + 1] = column.name .. " " .. column.type end
  return sign.sha256(table.concat(text, "\0")):sub(1, PRINT_BYTES)
end

local function by_number(a, b) return a.number < b.number end

--- The ranges whose objects are all among these, which one attempt has sealed, in order.
---@param sealed tidemill.Sealed[]
---@return {number: integer, span: extract.Span, objects: tidemill.Sealed[]}[]
function resume.finished(sealed)
  local found, list = {}, {}
  for _, object in ipairs(sealed) do
    local span = object.span
    if span then
      local range = found[span.number] or { number = span.number, objects = {} }
      found[span.number] = range
      table.insert(range.objects, object)
      if span.count then range.span = span end
    end
  end
  for _, range in pairs(found) do
    if range.span and range.span.count == #range.objects then list[#list + 1] = range end
  end
  table.sort(list, by_number)
  return list
end

--- What may be taken over: the finished ranges of the newest attempt that has sealed anything. An attempt
--- tells first of what it has taken over itself, all at once, so there is nothing more to be found before it.
---@param ctx tidemill.Context
---@param spec table  the node's fields
---@return {number: integer, span: extract.Span, objects: tidemill.Sealed[]}[]? finished, table<string, true>? keys
function resume.find(ctx, spec)
  if not spec.resume then return nil end
  local newest = {}
  for _, object in ipairs(ctx.attempt > 1 and ctx:earlier() or {}) do
    if newest[1] and object.attempt ~= newest[1].attempt then break end
    newest[#newest + 1] = object
  end
  local finished, keep = resume.finished(newest), {}
  for _, range in ipairs(finished) do
    for _, object in ipairs(range.objects) do keep[object.key] = true end
  end
  return finished, keep
end

-- As a manifest has them; a list of its own, since it is sorted.
local function listed(objects) return table.move(objects, 1, #objects, 1, {}) end

-- Those that nobody will take over any more.
local function remove(place, objects)
  local keys = {}
  for i, object in ipairs(objects) do keys[i] = place.prefix .. object.key end
  if #keys > 0 then pcall(place.store.delete_many, place.store, keys) end
end

--- Those of the finished ranges that will do: of the same print, with all objects there as they were. The
--- objects of others are removed.
---@param work {ctx: tidemill.Context, place: extract.Place, key: extract.Key, print: string}
---@param finished {number: integer, span: extract.Span, objects: tidemill.Sealed[]}[]
---@return extract.Range[]
function resume.usable(work, finished)
  local ranges, useless, other, gone = {}, {}, 0, 0
  for _, one in ipairs(finished) do
    local same = one.span.print == work.print
    if same and pcall(present.check_list, work.place.store, work.place.prefix, listed(one.objects)) then
      ranges[#ranges + 1] = { key = work.key, lo = one.span.lo, hi = one.span.hi, null = one.span.null,
        objects = one.objects }
    else
      other, gone = other + (same and 0 or 1), gone + (same and 1 or 0)
      table.move(one.objects, 1, #one.objects, #useless + 1, useless)
    end
  end
  if other > 0 then work.ctx:log("warn", "not resumed: what is asked for, or its columns, have changed") end
  if gone > 0 then work.ctx:log("warn", "objects of %d finished ranges are gone; they are read again", gone) end
  remove(work.place, useless)
  return ranges
end

--- Numbers the ranges of a split and gives each the span that is told with its objects.
---@param list extract.Range[]
---@param print string
function resume.number(list, print)
  for i, range in ipairs(list) do
    range.number = i
    range.span = { print = print, number = i, lo = range.lo, hi = range.hi, null = range.null }
  end
end

--- Tells of the objects that are taken over, all at once. Returns how many ranges and rows they are.
---@param seals extract.Seals
---@param list extract.Range[]  numbered
---@return integer ranges, integer rows
function resume.tell(seals, list)
  local count, rows, all = 0, 0, {}
  for _, range in ipairs(list) do
    if range.objects then
      count = count + 1
      for i, object in ipairs(range.objects) do
        rows = rows + object.rows
        local mine = manifest.object(object)
        mine.span = i < #range.objects and range.span or resume.closing(range.span, #range.objects)
        all[#all + 1] = mine
      end
    end
  end
  seals:take_over(all)
  return count, rows
end

--- Raises kind "integrity" when an object that was taken over is not there any more.
---@param place extract.Place
---@param list extract.Range[]
function resume.check(place, list)
  local objects = {}
  for _, range in ipairs(list) do
    table.move(range.objects or {}, 1, #(range.objects or {}), #objects + 1, objects)
  end
  present.check_list(place.store, place.prefix, objects)
end

return resume
