--- A binary heap: the least item first, by an order given at birth.
---
--- Items are any values. Nothing is ever searched for or removed from the middle: who holds
--- items that may lose their sense checks them as they come out.

local heap = {}
local Heap = { __name = "tidemill.heap" }
Heap.__index = Heap

--- Makes an empty heap.
---@param before fun(a: any, b: any): boolean  whether a comes out before b; a strict order
function heap.new(before)
  return setmetatable({ before = before, count = 0 }, Heap)
end

--- Adds an item.
function Heap:push(item)
  local at, before = self.count + 1, self.before
  self.count = at
  while at > 1 do
    local parent = at // 2
    if not before(item, self[parent]) then break end
    self[at], at = self[parent], parent
  end
  self[at] = item
end

--- The item that comes out next; nil when there is none.
function Heap:top() return self[1] end

--- Takes out the least item; nil when there is none.
function Heap:pop()
  local top = self[1]
  if top == nil then return nil end
  local last, count, before = self[self.count], self.count - 1, self.before
  self[self.count], self.count = nil, count
  if count == 0 then return top end
  local at = 1
  while true do
    local child = at * 2
    if child > count then break end
    if child < count and before(self[child + 1], self[child]) then child = child + 1 end
    if not before(self[child], last) then break end
    self[at], at = self[child], child
  end
  self[at] = last
  return top
end

return heap
