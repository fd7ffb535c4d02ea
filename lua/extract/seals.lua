--- The objects that an attempt has completed, each told to the runner before anybody relies on it.

local manifest = require "tidemill.manifest"

local seals = {}

---@class extract.Seals
---@field objects tidemill.Sealed[]  in the order of completion; keys are relative to the prefix
local Seals = {}
Seals.__index = Seals

---@param ctx tidemill.Context
---@param prefix string  below which the objects lie
---@return extract.Seals
function seals.new(ctx, prefix)
  return setmetatable({ ctx = ctx, prefix = prefix, objects = {} }, Seals)
end

local function tell(self, list)
  table.move(list, 1, #list, #self.objects + 1, self.objects)
  self.ctx:sealed_many(list)
end

--- Tells of completed objects, as a sink gives them; returns when the runner has recorded them. Raises
--- kind "conflict" when the attempt is no more the node's.
---@param completed {key: string, rows: integer, bytes: integer, raw_bytes: integer, crc64: string, etag: string}[]
---@param span? extract.Span  of the range whose rows they hold
function Seals:add(completed, span)
  local list = {}
  for i, object in ipairs(completed) do
    list[i] = manifest.object(object, self.prefix)
    list[i].span = span
  end
  if #list > 0 then tell(self, list) end
end

--- Tells of objects of earlier attempts; their keys are relative already.
---@param list tidemill.Sealed[]
function Seals:take_over(list)
  if #list > 0 then tell(self, list) end
end

--- The objects as a manifest lists them.
---@return manifest.Object[]
function Seals:listed()
  local list = {}
  for i, object in ipairs(self.objects) do list[i] = manifest.object(object) end
  return list
end

return seals
