--- Facts: what a node keeps from run to run, such as the watermark of an incremental extract.
---
--- An attempt keeps a value; it is pending, and a fact only from its moment on, in the very transaction
--- that makes the moment true, so that no kill in between can part the two:
---
---     done        the node succeeds
---     delivered   all loads that read what the node made have succeeded (`delivered_by` in the document); it
---                 has none in its flow: the node succeeds. A load that was skipped does not stand in the way
---                 once the run has ended in success, if another one has loaded.
---
--- Windows. A node with a fact of moment "delivered" makes an increment: what came since the fact's value.
--- Two runs with increments that begin at the same value would deliver rows twice. So the windows of a
--- flow belong to one run at a time: `take_window` gives them to a run, unless another one that has
--- not ended has any of them. A run that failed leaves its windows behind, and the state store does
--- not know whether a load of it has committed, only the ledgers in the targets do. Whoever comes next has
--- to find out and says so (`settled`): what was delivered becomes the fact; what was not is void,
--- and the node that made it counts as canceled: if that run is restored it makes its increment anew.

local crash = require "tidemill.crash"
local errors = require "tidemill.errors"
local json = require "json"

local facts = {}

-- ---- reading ----

local FACT = "SELECT flow, node, name, value, run_id AS run, attempt, saved_at FROM node_facts WHERE flow = ?"
local PENDING = [[SELECT p.run_id AS run, p.node, p.name, p.moment, p.value, p.attempt, r.state AS run_state
  FROM pending_facts p JOIN runs r ON r.id = p.run_id WHERE r.flow = ?]]

---@class tidemill.Fact
---@field flow string
---@field node string
---@field name string
---@field value string
---@field run string        whose value it is; "" if a user has set it
---@field attempt integer
---@field saved_at integer

--- A fact; nil if there is none.
---@param flow string
---@param node string
---@param name string
---@return tidemill.Fact?
function facts:fact(flow, node, name) return self.db:row(FACT .. " AND node = ? AND name = ?", flow, node, name) end

--- The facts of a flow, or of one of its nodes.
---@param flow string
---@param node? string
---@return tidemill.Fact[]
function facts:facts(flow, node)
  if node then return self.db:query(FACT .. " AND node = ? ORDER BY name", flow, node) end
  return self.db:query(FACT .. " ORDER BY node, name", flow)
end

--- What runs of a flow have kept that is no fact yet; without a value: the window is taken.
---@param flow string
---@return {run: string, run_state: string, node: string, name: string, moment: string, value: string?,
---  attempt: integer}[]
function facts:pending_facts(flow) return self.db:query(PENDING .. " ORDER BY p.run_id, p.node, p.name", flow) end

--- The flows that have facts.
---@return string[]
function facts:flows_with_facts()
  local flows = {}
  for i, row in ipairs(self.db:query "SELECT DISTINCT flow FROM node_facts ORDER BY flow") do flows[i] = row.flow end
  return flows
end

-- ---- keeping ----

--- Keeps a value until its moment; nil takes it back. Fenced, as the writes of lua/state/attempts.lua.
---@param run string
---@param node string
---@param attempt integer
---@param name string
---@param value? string
---@param moment "done"|"delivered"
function facts:keep_fact(run, node, attempt, name, value, moment)
  self.db:transaction(function()
    self:check_claim(run)
    if not value and moment == "done" then
      self.db:exec("DELETE FROM pending_facts WHERE run_id = ? AND node = ? AND name = ?", run, node, name)
      return
    end
    self.db:exec([[INSERT INTO pending_facts (run_id, node, name, moment, value, attempt) VALUES (?, ?, ?, ?, ?, ?)
      ON CONFLICT (run_id, node, name) DO UPDATE SET moment = excluded.moment, value = excluded.value,
      attempt = excluded.attempt]], run, node, name, moment, value, attempt)
  end)
end

-- ---- saving ----

local function save(self, flow, one)
  crash.point "runner.deliver.before"
  self.db:exec([[INSERT INTO node_facts (flow, node, name, value, run_id, attempt, saved_at)
    VALUES (?, ?, ?, ?, ?, ?, ?) ON CONFLICT (flow, node, name) DO UPDATE SET value = excluded.value,
    run_id = excluded.run_id, attempt = excluded.attempt, saved_at = excluded.saved_at]],
    flow, one.node, one.name, one.value, one.run, one.attempt, self:now())
  self.db:exec("DELETE FROM pending_facts WHERE run_id = ? AND node = ? AND name = ?", one.run, one.node, one.name)
  if one.moment == "delivered" then
    self:decide_in(one.run, one.node, "deliver", ("its %s is saved"):format(one.name))
  end
  crash.point "runner.deliver.after"
end

-- The loads that deliver what a node of a run has made, and the node. A load that succeeded before the
-- node did has loaded something else.
local function loads_of(self, run, version, name)
  local by_name, loads = {}, {}
  for _, row in ipairs(self.db:query("SELECT node, state, attempts, ended_at FROM nodes WHERE run_id = ?", run)) do
    by_name[row.node] = row
  end
  local maker = by_name[name]
  local document = self:document(version)
  for _, node in ipairs(document and document.nodes or {}) do
    for _, load in ipairs(node.name == name and node.delivered_by or {}) do
      local row = by_name[load]
      loads[#loads + 1] = { name = load, attempts = row and row.attempts or 0, state = row and row.state or "absent",
        done = row ~= nil and maker ~= nil and row.state == "success" and maker.state == "success"
          and row.ended_at >= maker.ended_at }
    end
  end
  return loads, maker
end

local function is_delivered(self, run, version, name, at_end)
  local loads, maker = loads_of(self, run, version, name)
  if not maker or maker.state ~= "success" then return false end
  local count = 0
  for _, load in ipairs(loads) do
    if load.done then count = count + 1
    elseif not (at_end and load.state == "skipped") then return false end
  end
  return count > 0 or #loads == 0
end

--- Saves what the success of a node, or of the whole run, makes a fact; in the transaction under way, when
--- the store has that success.
---@param run string
---@param node? string  nil: the run has ended
function facts:deliver_in(run, node)
  local rows = self.db:query([[SELECT p.run_id AS run, p.node, p.name, p.moment, p.value, p.attempt, r.flow, r.version
    FROM pending_facts p JOIN runs r ON r.id = p.run_id WHERE p.run_id = ?]], run)
  for _, one in ipairs(rows) do
    if not one.value then
      if not node or one.node == node then -- nothing came: the window is free again
        self.db:exec("DELETE FROM pending_facts WHERE run_id = ? AND node = ? AND name = ?", run, one.node, one.name)
      end
    elseif one.moment == "done" and one.node == node
      or one.moment == "delivered" and is_delivered(self, run, one.version, one.node, not node) then
      save(self, one.flow, one)
    end
  end
end

-- ---- windows ----

local ACTIVE = { queued = true, running = true, paused = true }

-- What other runs of the flow have of its windows, with their states, which stay as they are until the
-- transaction ends.
local function windows_of_others(self, flow, run)
  local list = self.db:query(PENDING .. " AND p.moment = 'delivered' AND p.run_id <> ? ORDER BY p.run_id, p.node", flow,
    run)
  local states = {}
  for _, one in ipairs(list) do
    local row = states[one.run] or self.db:row("SELECT state, version FROM runs WHERE id = ?" .. self.db:lock "wait",
      one.run)
    states[one.run] = row
    one.run_state, one.version = row.state, row.version
  end
  return list
end

local function void(self, one, by)
  self.db:exec("DELETE FROM pending_facts WHERE run_id = ? AND node = ? AND name = ?", one.run, one.node, one.name)
  if not one.value then return end
  local reason = ("its increment was not delivered; run %s has taken it over"):format(by)
  if self.db:exec([[UPDATE nodes SET state = 'canceled', message = ? WHERE run_id = ? AND node = ?
    AND state = 'success']], reason, one.run, one.node) == 1 then
    self:decide_in(one.run, one.node, "cancel", reason)
  end
end

---@class tidemill.Left
---@field run string       that ended, and did not come to the delivery of an increment
---@field node string      that made it
---@field manifest? string its output
---@field loads {name: string, attempts: integer, state: string, done: boolean}[]

-- What has to be found out about a window that was left behind; nil if nothing was begun with it.
local function left_of(self, one)
  local begun = false
  local loads = loads_of(self, one.run, one.version, one.node)
  for _, load in ipairs(loads) do begun = begun or load.attempts > 0 end
  if not one.value or not begun then return nil end
  local output = self.db:row("SELECT value FROM outputs WHERE run_id = ? AND node = ? AND name = 'manifest'", one.run,
    one.node)
  return { run = one.run, node = one.node, manifest = output and json.decode(output.value), loads = loads }
end

local function key_of(one) return one.run .. "\0" .. one.node end

--- Gives the window of a node to a run, with the others of its flow: until the run has delivered them or has
--- ended, no other run gets any. Gives `busy`, the run that has them; or `left`, windows of runs that
--- ended of which the caller is to find out whether they were delivered, and then to ask again; or neither:
--- then the window is the run's, `value` is the fact that it begins at, and `own` what an earlier
--- attempt of this node has kept. Fenced.
---@param run string
---@param node string
---@param attempt integer
---@param name string
---@param settled? {run: string, node: string, delivered: boolean}[]
---@return {busy: string?, busy_state: string?, left: tidemill.Left[]?, value: string?, saved_by: string?, own: string?}
function facts:take_window(run, node, attempt, name, settled)
  return self.db:transaction(function()
    local flow = self.db:row("SELECT flow FROM runs WHERE id = ?", run).flow
    self.db:mutex("tidemill windows " .. flow) -- before any row: who waits for it must hold none that we want
    self:check_claim(run)
    local others, known, left = windows_of_others(self, flow, run), {}, {}
    for _, one in ipairs(settled or {}) do known[key_of(one)] = one end
    for _, one in ipairs(others) do
      if ACTIVE[one.run_state] then return { busy = one.run, busy_state = one.run_state } end
      one.left = left_of(self, one)
      if one.left and not known[key_of(one)] then left[#left + 1] = one.left end
    end
    if #left > 0 then return { left = left } end
    for _, one in ipairs(others) do
      if one.left and known[key_of(one)].delivered then save(self, flow, one) else void(self, one, run) end
    end
    local own = self.db:row("SELECT value FROM pending_facts WHERE run_id = ? AND node = ? AND name = ?", run, node,
      name)
    self.db:exec([[INSERT INTO pending_facts (run_id, node, name, moment, value, attempt)
      VALUES (?, ?, ?, 'delivered', NULL, ?) ON CONFLICT (run_id, node, name) DO NOTHING]], run, node, name, attempt)
    local fact = self:fact(flow, node, name)
    return { value = fact and fact.value, saved_by = fact and fact.run, own = own and own.value }
  end)
end

-- ---- by hand ----

--- Sets a fact, or removes it (`value` nil). Windows that ended runs left behind are void, whatever
--- their loads did. Raises conflict while a run that has not ended has the window.
---@param flow string
---@param node string
---@param name string
---@param value? string
---@return boolean changed
function facts:set_fact(flow, node, name, value)
  return self.db:transaction(function()
    self.db:mutex("tidemill windows " .. flow)
    for _, one in ipairs(windows_of_others(self, flow, "")) do
      if one.node == node and one.name == name then
        if ACTIVE[one.run_state] then
          errors.raise("conflict", ("run %s is about to move the %s of node '%s'"):format(one.run, name, node),
            ("wait for its end, or: tidemill stop %s"):format(one.run))
        end
        void(self, one, "a user")
      end
    end
    if not value then
      return self.db:exec("DELETE FROM node_facts WHERE flow = ? AND node = ? AND name = ?", flow, node, name) > 0
    end
    save(self, flow, { run = "", node = node, name = name, value = value, attempt = 0 })
    return true
  end)
end

return facts
