--- tidemill.graph: order, levels, cycles and the drawing.

local graph = require "tidemill.graph"
local lu = require "luaunit"

-- "a; b<a; c<a,b" to nodes
local function nodes_of(text)
  local nodes = {}
  for part in text:gmatch "[^;]+" do
    local name, needs = part:match "^%s*(%w+)%s*<?%s*(.-)%s*$"
    local node = { name = name, after = {} }
    for one in needs:gmatch "%w+" do table.insert(node.after, one) end
    nodes[#nodes + 1] = node
  end
  return nodes
end

local function names(list)
  local out = {}
  for i, node in ipairs(list) do out[i] = node.name end
  return table.concat(out, " ")
end

TestGraph = {}

function TestGraph.test_order_keeps_what_is_written_where_it_may()
  for text, wanted in pairs {
    ["a"] = "a",
    ["a; b; c"] = "a b c",
    ["c<a; b; a"] = "b a c",
    ["d<b,c; b<a; c<a; a"] = "a b c d",
    ["z; y<z; x<z; w<y"] = "z y x w",
  } do
    lu.assertEquals(names((graph.order(nodes_of(text)))), wanted, text)
  end
end

function TestGraph.test_a_level_is_the_longest_way_from_a_root()
  local _, levels = graph.order(nodes_of "a; b<a; c<b; d<a,c; e")
  lu.assertEquals(levels, { a = 1, b = 2, c = 3, d = 4, e = 1 })
end

function TestGraph.test_cycles_are_shown_in_running_order_from_the_first_written()
  for text, wanted in pairs {
    ["a<b; b<a"] = "a b a",
    ["a<a"] = "a a",
    ["x; a<c; b<a; c<b"] = "a b c a",
    ["b<a; a<c; c<b"] = "b c a b",
  } do
    local cycles = graph.cycles(nodes_of(text))
    lu.assertEquals(#cycles, 1, text)
    lu.assertEquals(table.concat(cycles[1], " "), wanted)
  end
  lu.assertEquals(graph.cycles(nodes_of "a; b<a; c<a,b"), {})
  lu.assertEquals(#graph.cycles(nodes_of "a<b; b<a; c<d; d<c"), 2)
end

function TestGraph.test_upstream_and_downstream_reach_all_the_way()
  local nodes = nodes_of "a; b<a; c<b; d<a; e"
  lu.assertEquals(graph.upstream(nodes, "c"), { a = true, b = true })
  lu.assertEquals(graph.downstream(nodes, "a"), { b = true, c = true, d = true })
  lu.assertEquals(graph.downstream(nodes, "e"), {})
end

function TestGraph.test_a_long_chain_is_no_trouble()
  local nodes = {}
  for i = 1, 5000 do nodes[i] = { name = "n" .. i, after = i < 5000 and { "n" .. i + 1 } or {} } end
  lu.assertEquals(graph.cycles(nodes), {})
  local ordered, levels = graph.order(nodes)
  lu.assertEquals(ordered[1].name, "n5000")
  lu.assertEquals(levels.n1, 5000)
end

function TestGraph.test_the_drawing_has_each_node_once()
  local lines = graph.draw(nodes_of "a; b<a; c<a; d<b,c; e", function(node) return node.name end)
  lu.assertEquals(lines, { "a", "├─ b", "└─ c", "   └─ d, also after: b", "e" })
end

os.exit(lu.LuaUnit.run())
