--- Runners: the processes that run things, their leases, and what becomes of their runs.
---
--- One lease a runner, renewed every few seconds by a thread of its own. A runner is gone when its
--- lease ran out, or at once when it was a process of this host that is no more. Whoever
--- finds it so says so, and gives its runs back, in one transaction: the first finder wins,
--- and a runner that was declared gone stays gone (it takes a new id if it still lives).

local common = require "tidemill.state.common"
local signal = require "tidemill.signal"

local runners = {}

--- Records this process as a runner.
---@param options {kind: "serve"|"run", lease_ms: integer, jobs: integer?, name: string?}
---@return string id  "host-pid-xxxxxx"; `name` stands for the host, if there is one
function runners:register_runner(options)
  local here, at = common.this_process(), self:now()
  local id = ("%s-%d-%s"):format(options.name or here.host, here.pid, signal.random(6))
  self.db:exec([[INSERT INTO runners (id, kind, host, boot, pid, process_start, state, jobs, lease_ms, started_at,
    lease_until) VALUES (?, ?, ?, ?, ?, ?, 'alive', ?, ?, ?, ?)]], id, options.kind, here.host, here.boot, here.pid,
    here.start, options.jobs, options.lease_ms, at, at + options.lease_ms)
  return id
end

--- The runner still lives: its lease starts anew.
---@param runner string
---@return boolean alive  false: it was declared gone, for ever
function runners:renew(runner)
  return self.db:exec("UPDATE runners SET lease_until = ? + lease_ms WHERE id = ? AND state = 'alive'",
    self:now(), runner) > 0
end

-- Gives back what a runner had, in the transaction under way. Its attempts under way are lost;
-- their nodes wait for the next one.
local function hand_back(self, runner, reason)
  local ids, at = {}, self:now()
  for i, row in ipairs(self.db:query([[SELECT id FROM runs WHERE runner = ? AND state IN ('queued', 'running', 'paused')
    ORDER BY id]] .. self.db:lock "wait", runner)) do
    ids[i] = row.id
    for _, node in ipairs(self.db:query("SELECT node, attempts FROM nodes WHERE run_id = ? AND state = 'running'",
      row.id)) do
      self.db:exec([[UPDATE attempts SET state = 'lost', ended_at = ? WHERE run_id = ? AND node = ? AND attempt = ?
        AND state = 'running']], at, row.id, node.node, node.attempts)
      self.db:exec([[UPDATE nodes SET state = 'waiting', lost = lost + 1, lost_row = lost_row + 1, message = ?
        WHERE run_id = ? AND node = ?]], reason, row.id, node.node)
      self:decide_in(row.id, node.node, "lost", ("attempt %d: %s"):format(node.attempts, reason))
    end
    self:decide_in(row.id, nil, "takeover", reason)
  end
  self.db:exec(common.TAKE_BACK .. [[WHERE runner = ? AND state IN ('queued', 'running', 'paused')]], runner)
  return ids
end

--- The runner ends: its unfinished runs are given back, for any other to claim.
---@param runner string
---@return string[] runs
function runners:leave(runner)
  for id, claim in pairs(self.claims) do
    if claim.runner == runner then self.claims[id] = nil end
  end
  return self.db:transaction(function()
    if self.db:exec("UPDATE runners SET state = 'gone', ended_at = ? WHERE id = ? AND state = 'alive'",
      self:now(), runner) == 0 then return {} end
    return hand_back(self, runner, "its runner has left")
  end)
end

local function take_over(self, row, reason)
  return self.db:transaction(function()
    if self.db:exec([[UPDATE runners SET state = 'gone', ended_at = ? WHERE id = ? AND state = 'alive'
      AND lease_until = ?]], self:now(), row.id, row.lease_until) == 0 then
      return nil -- it was renewed, or another was first
    end
    return hand_back(self, row.id, reason)
  end)
end

-- Runs that a runner took as it was declared gone: it was stopped in the middle of that, say. None looks
-- for them with the living.
local function orphans(self)
  local found = self.db:query [[SELECT DISTINCT runs.runner, kind, host FROM runs
    LEFT JOIN runners ON runners.id = runs.runner
    WHERE runs.runner IS NOT NULL AND runs.state IN ('queued', 'running', 'paused')
    AND (runners.state IS NULL OR runners.state <> 'alive')]]
  local gone = {}
  for _, row in ipairs(found) do
    local runs = self.db:transaction(function()
      return hand_back(self, row.runner, ("its runner %s is gone"):format(row.runner))
    end)
    if #runs > 0 then
      gone[#gone + 1] = { runner = row.runner, kind = row.kind or "serve", host = row.host or "", runs = runs }
    end
  end
  return gone
end

--- Declares runners gone that are, and gives their runs back.
---@param me? string  the runner that asks, which is not judged
---@return {runner: string, kind: string, host: string, runs: string[]}[]
function runners:reap(me)
  local here, gone, now = common.this_process(), orphans(self), self:now()
  for _, row in ipairs(self.db:query [[SELECT id, kind, host, boot, pid, process_start, lease_until FROM runners
    WHERE state = 'alive' ORDER BY id]]) do
    local dead = common.is_gone(row, here)
    if row.id ~= me and (dead or row.lease_until < now) then
      local runs = take_over(self, row, ("its runner %s %s"):format(row.id,
        dead and "is gone" or "has not renewed its lease"))
      if runs then gone[#gone + 1] = { runner = row.id, kind = row.kind, host = row.host, runs = runs } end
    end
  end
  return gone
end

--- Runners that live, or all that the store knows, newest last.
---@param all? boolean
---@return table[]  rows of `runners`
function runners:runners(all)
  return self.db:query([[SELECT id, kind, host, pid, state, jobs, lease_ms, started_at, lease_until, ended_at
    FROM runners]] .. (all and "" or " WHERE state = 'alive'") .. " ORDER BY started_at, id")
end

return runners
