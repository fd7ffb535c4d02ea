--- The start gate: nodes of all runs that may start, best first.
---
--- The order is node priority, run priority (10 before 1), scheduled time, run, position; behind
--- all of them come loads that are ahead of their turn (lua/executor/pipeline.lua). Nodes
--- of a full pool are passed over until a place may be free. An entry may lose its sense while
--- it waits here (its run ended or paused): the executor is asked when it comes out.

local heap = require "tidemill.heap"

local gate = {}
local Gate = { __name = "tidemill.gate" }
Gate.__index = Gate

local DEFAULT = 5

local function before(a, b)
  if a.is_ahead ~= b.is_ahead then return b.is_ahead end
  if a.node_priority ~= b.node_priority then return a.node_priority > b.node_priority end
  if a.run_priority ~= b.run_priority then return a.run_priority > b.run_priority end
  if a.scheduled ~= b.scheduled then return a.scheduled < b.scheduled end
  if a.run ~= b.run then return a.run < b.run end
  return a.position < b.position
end

--- Makes an empty gate.
function gate.new()
  return setmetatable({ pools = {}, count = 0 }, Gate)
end

--- Adds a node that may start.
---@param ex table      its executor
---@param record table
function Gate:offer(ex, record)
  local name = record.node.pool or ""
  local pool = self.pools[name]
  if not pool then
    pool = { name = name, ready = heap.new(before), closed_until = nil }
    self.pools[name] = pool
  end
  pool.ready:push { ex = ex, record = record, node_priority = record.node.priority or DEFAULT,
    run_priority = ex.run.priority or DEFAULT, scheduled = ex.run.scheduled_at or 0, run = ex.id,
    position = record.position, offered = record.offered, is_ahead = record.offered == "ahead" }
  self.count = self.count + 1
end

local function drop_senseless(self, pool)
  local top = pool.ready:top()
  while top and not (top.ex:wants(top.record, top.offered)) do
    pool.ready:pop()
    if top.record.offered == top.offered then top.record.offered = nil end
    self.count = self.count - 1
    top = pool.ready:top()
  end
  return top
end

-- The open pool with the best node. With `in_turn`, loads ahead of their turn do not count.
local function best_pool(self, now, in_turn)
  local best
  for name, pool in pairs(self.pools) do
    if pool.closed_until and pool.closed_until <= now then pool.closed_until = nil end
    local top = drop_senseless(self, pool)
    if not top then
      self.pools[name] = nil
    elseif not pool.closed_until and not (in_turn and top.is_ahead) and (not best or before(top, best.ready:top())) then
      best = pool
    end
  end
  return best
end

--- Takes out the node that is to start next; nil when none may.
---@param now integer
---@param in_turn? boolean  no load that is ahead of its turn: the last place is for others
---@return table? executor, table? record
function Gate:take(now, in_turn)
  local pool = best_pool(self, now, in_turn)
  if not pool then return nil end
  local entry = pool.ready:pop()
  self.count = self.count - 1
  return entry.ex, entry.record
end

--- A pool is full: its nodes wait until that time, or until `open`.
---@param name string
function Gate:close(name, until_time)
  if self.pools[name] then self.pools[name].closed_until = until_time end
end

--- A place of a pool may be free.
function Gate:open(name)
  if self.pools[name] then self.pools[name].closed_until = nil end
end

--- When a closed pool is to be tried again; nil without one.
---@return integer?
function Gate:next_time()
  local at
  for _, pool in pairs(self.pools) do
    if pool.closed_until and (not at or pool.closed_until < at) then at = pool.closed_until end
  end
  return at
end

--- The executors whose nodes stand foremost, one a pool.
---@return table[]
function Gate:foremost()
  local list = {}
  for _, pool in pairs(self.pools) do
    local top = pool.ready:top()
    if top and not pool.closed_until then list[#list + 1] = top.ex end
  end
  return list
end

return gate
