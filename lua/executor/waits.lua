--- Nodes that wait without a process: they poll.
---
--- A node's attempt may end by asking to wait (lua/node.lua). The node is then `polling`: it
--- has no worker and no place in a pool, and what it waits for is in the store, so that a
--- successor of this runner goes on waiting. Three kinds:
---
---     probe   the node's process looks itself: the same attempt is started again after `every`
---     flow    a run of a flow, or its node, must have succeeded, or all in a span; the store is asked here
---     run     a subflow: its run is created with the wait in one transaction, so there is one
---             only, and the node ends as that run ends; its outputs are those of the run's nodes
---
--- Past its deadline a wait fails the node, kind timeout, without a retry.

local ends = require "tidemill.executor.ends"
local errors = require "tidemill.errors"
local logs = require "tidemill.executor.logs"

local waits = {}

local EVERY_S, LEAST_S = 10, 0.1
local RUN_LOOK_MS = 1000
local MOST_DEPTH = 10

local function every_ms(wait)
  local every = tonumber(wait.every) or EVERY_S
  return math.ceil(math.max(every, LEAST_S) * 1000)
end

-- The rest of a wait's life: when to look again and when to give up, on our clock.
local function set_timers(ex, record)
  local wait = record.waiting
  record.wait_until = wait.deadline_ms and ex.clock() + math.ceil(wait.deadline_ms - ex.wall()) or nil
end

--- Sets the timers of a wait that an earlier runner began.
function waits.resume(ex, record)
  if record.state == "polling" and record.waiting then set_timers(ex, record) end
end

-- What becomes of a node that begins to wait, once the store knows.
local function is_polling(ex, record, wait, reason)
  local first = record.polled ~= record.attempt
  ends.detach(ex, record)
  record.state, record.waiting, record.ended, record.polled = "polling", wait, nil, record.attempt
  record.next_at = ex.clock() + (wait.kind == "probe" and every_ms(wait) or 0)
  record.message = reason
  set_timers(ex, record)
  if first then ex:explain(record, "wait", reason) end
  ex:tell_node(record, { message = reason })
end

-- ---- subflows ----

-- The flow to run: one whose file went into the version of the caller, or a published one.
local function callee(ex, wait)
  if not wait.file then return ex.store:published(tostring(wait.flow)) end
  local stored = ex.store:source(ex.run.version).sources.subflows
  local found = stored and stored[wait.file]
  if found then ex.store:save_source(found.hash, found.document, found.sources) end
  return found
end

local function child_run(ex, record, wait, found)
  local run, document = ex.run, found.document
  return { flow = document.flow, file = document.file, version = found.hash, version_no = found.version_no,
    cause = "subflow", scheduled = wait.scheduled_ms or run.scheduled_at, business = run.business_at,
    timezone = document.timezone, settings = { set = wait.set }, priority = run.priority, concurrency = "parallel",
    parent_run = ex.id, parent_node = record.name, nodes = document.nodes, runner = ex.reserve,
    deadline = document.deadline_s and ex.wall() + document.deadline_s * 1000 or nil }
end

local function is_too_deep(ex)
  local depth, run = 0, ex.run
  while run and run.parent_run do
    depth = depth + 1
    if depth >= MOST_DEPTH then return true end
    run = ex.store:run(run.parent_run)
  end
  return false
end

-- Begins a subflow; gives an error if there is nothing to run.
local function begin_run(ex, record, wait)
  local found = callee(ex, wait)
  if not found then
    return errors.new("not_found", ("the flow '%s' is not published"):format(wait.flow or wait.file),
      { hint = "publish it first: tidemill publish FILE" })
  elseif is_too_deep(ex) then
    return errors.new("usage", ("subflows are nested more than %d deep"):format(MOST_DEPTH),
      { hint = "does a flow run itself?" })
  end
  local ok, raised = pcall(require("tidemill.variables").check_set, found.document.params or {},
    found.document.settable or {}, wait.set or {})
  if not ok then return errors.from(raised) end
  local flow = found.document.flow
  local kept = ex.store:begin_subrun(ex.id, record.name, child_run(ex, record, wait, found),
    { kind = "run", flow = flow, deadline_ms = wait.deadline_ms })
  is_polling(ex, record, kept, ("run %s of flow '%s'"):format(kept.run, flow))
  ex:tell { event = "subrun", node = record.name, subrun = kept.run }
end

-- ---- beginnings ----

local REASONS = {
  probe = function(wait) return wait.reason or "not yet" end,
  flow = function(wait)
    return ("waiting for %s%s"):format(wait.previous and "the run before this one"
      or ("%sflow '%s'"):format(wait.all and "all runs of " or "", wait.flow),
      wait.node and (", node '%s'"):format(wait.node) or "")
  end,
}

--- The attempt's process has ended and wants its node to wait.
function waits.begin(ex, record, status)
  logs.flush(ex, record)
  local wait = record.result.wait
  local err
  if wait.kind == "run" then
    err = begin_run(ex, record, wait)
    if not err then return end
  elseif not REASONS[wait.kind] then
    err = errors.new("usage", ("the node asks to wait for '%s'"):format(tostring(wait.kind)))
  end
  if err then return ends.fail(ex, record, err, status, true) end
  local reason = tostring(REASONS[wait.kind](wait))
  local pause = wait.kind == "probe" and every_ms(wait) or 0
  ex.store:set_waiting(ex.id, record.name, wait, ex.wall() + pause, reason)
  is_polling(ex, record, wait, reason)
end

-- ---- looks ----

local look = {}

function look.probe() return true end

-- The outputs of all nodes of a run; of two with one name, the later node's. And its id.
local function outputs_of(ex, run)
  local all, outputs = ex.store:outputs(run), {}
  for _, node in ipairs(ex.store:nodes(run)) do
    for name, value in pairs(all[node.node] or {}) do outputs[name] = value end
  end
  outputs.run_id = run
  return outputs
end

function look.flow(ex, record, now)
  local wait = record.waiting
  local state, run = ex.store:awaited(ex.run, wait)
  if state == "success" then
    record.outputs = run and outputs_of(ex, run) or { run_id = "" } -- of the very first there is none before
    ends.succeed(ex, record, {})
  elseif state == "failed" and wait.fail_fast then
    ends.fail(ex, record, errors.new("conflict", ("run %s of flow '%s' has failed"):format(run, wait.flow
      or ex.run.flow), { hint = "restore it first: tidemill restore " .. run }), {}, true)
  else
    if run then record.message = ("run %s of flow '%s' has not succeeded"):format(run, wait.flow or ex.run.flow) end
    record.next_at = now + every_ms(wait)
  end
end

function look.run(ex, record, now)
  local id = record.waiting.run
  local child = ex.store:run(id)
  if child and not child.ended_at then
    record.next_at = now + RUN_LOOK_MS
  elseif record.cancel then
    ends.fail(ex, record, errors.new("canceled", record.cancel_reason), {}, true)
  elseif child and child.state == "success" then
    record.outputs = outputs_of(ex, id)
    ends.succeed(ex, record, {})
  else
    local what = child and child.state or "gone"
    ends.fail(ex, record, errors.new(child and child.error and child.error.kind or "conflict",
      ("run %s of flow '%s' is %s"):format(id, record.waiting.flow, what),
      { cause = child and child.error, hint = "look at it: tidemill show " .. id }), {},
      what == "canceled")
  end
end

-- Asks for the end of a subflow's run; it may be over already.
local function stop_run(ex, run)
  local ok, raised = pcall(ex.store.request, ex.store, run, "stop")
  local err = not ok and errors.from(raised)
  if err and err.kind ~= "conflict" and err.kind ~= "not_found" then error(raised, 0) end
end

--- Looks at a polling node. True when an attempt is to be started.
---@param now integer
function waits.look(ex, record, now)
  if record.wait_until and record.wait_until <= now and not record.cancel then
    local wait = record.waiting
    if wait.kind == "run" then stop_run(ex, wait.run) end
    return ends.fail(ex, record, errors.new("timeout", ("waited in vain: %s"):format(record.message or "no end")),
      {}, true)
  end
  if not record.next_at or record.next_at > now then return false end
  return look[record.waiting.kind](ex, record, now)
end

--- The run is to end: so does the wait; a subflow's run is stopped, and waited for.
function waits.cancel(ex, record, reason)
  if record.cancel then return end
  if record.waiting.kind == "run" then
    stop_run(ex, record.waiting.run)
    record.cancel, record.cancel_reason, record.next_at = "stop", reason, ex.clock()
    return
  end
  ends.fail(ex, record, errors.new("canceled", reason), {}, true)
end

return waits
