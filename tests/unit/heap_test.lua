--- heap: items come out in order, whatever the order they went in.

local heap = require "tidemill.heap"
local lu = require "luaunit"

TestHeap = {}

function TestHeap.test_items_come_out_in_order()
  for seed = 1, 50 do
    math.randomseed(seed)
    local h, sorted = heap.new(function(a, b) return a < b end), {}
    for i = 1, math.random(0, 60) do
      sorted[i] = math.random(20)
      h:push(sorted[i])
    end
    table.sort(sorted)
    for _, item in ipairs(sorted) do
      lu.assertEquals(h:top(), item)
      lu.assertEquals(h:pop(), item)
    end
    lu.assertNil(h:pop())
    lu.assertEquals(h.count, 0)
  end
end

function TestHeap.test_pushes_and_pops_may_mix()
  local h = heap.new(function(a, b) return a > b end)
  for _, item in ipairs { 3, 9, 1 } do h:push(item) end
  lu.assertEquals(h:pop(), 9)
  h:push(5)
  h:push(2)
  lu.assertEquals({ h:pop(), h:pop(), h:pop(), h:pop() }, { 5, 3, 2, 1 })
  lu.assertNil(h:top())
end

os.exit(lu.LuaUnit.run())
