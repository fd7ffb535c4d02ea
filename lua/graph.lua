--- The graph of a flow's nodes: order, levels, cycles, who needs whom.
---
--- Nodes are tables with `name` and `after` (names that exist). An edge runs from a node to
--- the one that comes after it. Every answer depends only on the nodes and the order in
--- which they were written, so two plans of one flow are the same.

local graph = {}

---@class graph.Node
---@field name string
---@field after string[]

--- The first position of each name.
---@param nodes graph.Node[]
---@return table<string, integer>
local function positions(nodes)
  local at = {}
  for i, node in ipairs(nodes) do at[node.name] = at[node.name] or i end
  return at
end

-- The part of `path` from `name` on, turned into the order of running, first written first.
local function cycle_of(path, name, at)
  local cycle = {}
  for i = #path, 1, -1 do
    cycle[#cycle + 1] = path[i].name
    if path[i].name == name then break end
  end
  local first = 1
  for i, one in ipairs(cycle) do
    if at[one] < at[cycle[first]] then first = i end
  end
  local turned = {}
  for i = 0, #cycle do turned[#turned + 1] = cycle[(first - 1 + i) % #cycle + 1] end
  return turned
end

--- Every cycle that a walk along the dependencies meets, as names in running order, the
--- first name again at the end: { "a", "b", "a" }. Empty when there is none.
---@param nodes graph.Node[]
---@return string[][]
function graph.cycles(nodes)
  local at, state, path, found = positions(nodes), {}, {}, {}
  local function visit(node)
    state[node.name] = "open"
    path[#path + 1] = node
    for _, name in ipairs(node.after) do
      local before = at[name] and nodes[at[name]]
      if before and state[name] == "open" then
        found[#found + 1] = cycle_of(path, name, at)
      elseif before and not state[name] then
        visit(before)
      end
    end
    path[#path] = nil
    state[node.name] = "done"
  end
  for _, node in ipairs(nodes) do
    if not state[node.name] then visit(node) end
  end
  return found
end

local function insert_sorted(list, value)
  local low, high = 1, #list
  while low <= high do
    local middle = (low + high) // 2
    if list[middle] < value then low = middle + 1 else high = middle - 1 end
  end
  table.insert(list, low, value)
end

--- The nodes in running order: each behind all that it needs, otherwise as written. The
--- second result is each node's level: 1 without dependencies, else one more than the
--- highest of what it needs. Nodes of a cycle are left out.
---@generic T : graph.Node
---@param nodes T[]
---@return T[] ordered
---@return table<string, integer> levels
function graph.order(nodes)
  local at, waiting, behind, ready = positions(nodes), {}, graph.behind(nodes), {}
  for i, node in ipairs(nodes) do
    waiting[node.name] = #node.after
    if #node.after == 0 then ready[#ready + 1] = i end
  end
  local ordered, levels = {}, {}
  while #ready > 0 do
    local node = nodes[table.remove(ready, 1)]
    ordered[#ordered + 1] = node
    local level = 0
    for _, name in ipairs(node.after) do level = math.max(level, levels[name]) end
    levels[node.name] = level + 1
    for _, name in ipairs(behind[node.name]) do
      waiting[name] = waiting[name] - 1
      if waiting[name] == 0 then insert_sorted(ready, at[name]) end
    end
  end
  return ordered, levels
end

--- For each name, the names that come directly after it, in written order.
---@param nodes graph.Node[]
---@return table<string, string[]>
function graph.behind(nodes)
  local behind = {}
  for _, node in ipairs(nodes) do behind[node.name] = {} end
  for _, node in ipairs(nodes) do
    for _, name in ipairs(node.after) do
      if behind[name] then table.insert(behind[name], node.name) end
    end
  end
  return behind
end

local function reach(start, next_of)
  local seen, todo = {}, { start }
  while #todo > 0 do
    for _, name in ipairs(next_of[table.remove(todo)] or {}) do
      if not seen[name] then
        seen[name] = true
        todo[#todo + 1] = name
      end
    end
  end
  return seen
end

--- The set of all nodes that must run before `name`.
---@param nodes graph.Node[]
---@param name string
---@return table<string, true>
function graph.upstream(nodes, name)
  local after = {}
  for _, node in ipairs(nodes) do after[node.name] = node.after end
  return reach(name, after)
end

--- The set of all nodes that need `name`, directly or not.
---@param nodes graph.Node[]
---@param name string
---@return table<string, true>
function graph.downstream(nodes, name)
  return reach(name, graph.behind(nodes))
end

--- The graph as lines of text: a node is drawn below the last of those it needs; the others
--- are named behind it.
---@param nodes graph.Node[]  without cycles
---@param label fun(node: graph.Node): string
---@return string[]
function graph.draw(nodes, label)
  local ordered, levels = graph.order(nodes)
  local rank, children, roots = {}, {}, {}
  for i, node in ipairs(ordered) do rank[node.name], children[node.name] = i, {} end
  for _, node in ipairs(ordered) do
    local parent
    for _, name in ipairs(node.after) do
      if not parent or levels[name] > levels[parent]
        or (levels[name] == levels[parent] and rank[name] > rank[parent]) then
        parent = name
      end
    end
    table.insert(parent and children[parent] or roots, { node = node, parent = parent })
  end
  local lines = {}
  local function draw(entry, lead, branch, trunk)
    local others = {}
    for _, name in ipairs(entry.node.after) do
      if name ~= entry.parent then others[#others + 1] = name end
    end
    local also = #others > 0 and (", also after: " .. table.concat(others, ", ")) or ""
    lines[#lines + 1] = lead .. branch .. label(entry.node) .. also
    local below = children[entry.node.name]
    for i, child in ipairs(below) do
      local last = i == #below
      draw(child, lead .. trunk, last and "└─ " or "├─ ", last and "   " or "│  ")
    end
  end
  for _, root in ipairs(roots) do draw(root, "", "", "") end
  return lines
end

return graph
