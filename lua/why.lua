--- Why a run is as it is, and what it waits for now: from what the store has, and nothing else.
---
--- `why.run` looks at one run: what keeps it from being claimed if it is queued; of one that is
--- running, what each node that is not waits for. `why.flow` looks at a flow and, with a time, at
--- that time's row in the slot ledger.

local calendar = require "tidemill.calendar"
local text = require "tidemill.text"
local units = require "tidemill.units"

local why = {}

-- ---- a queued run ----

local function paused_text(flow, zone)
  return ("flow '%s' is paused, since %s by %s%s"):format(flow.flow, calendar.show(flow.paused_at, zone),
    flow.paused_by, flow.pause_reason and ": " .. flow.pause_reason or "")
end

local function queue_text(run, others, zone)
  local out = {}
  for i, other in ipairs(others) do
    local verb = other.state == "queued" and "goes first" or ("is %s"):format(other.state)
    out[i] = ("run %s (%s, scheduled %s) %s; concurrency is \"%s\""):format(other.id, other.cause,
      calendar.show(other.scheduled_at, zone), verb, run.concurrency)
  end
  return out
end

local function backfill_text(store, run)
  local b = store:backfill(run.backfill, run.backfill_position)
  if not b or b.running < b.jobs and b.ahead < b.jobs then return nil end
  return ("%s of backfill %s go first; it runs at most %d at once, %d of %d have ended"):format(
    text.count(b.ahead, "run"), b.id, b.jobs, b.ended, b.total)
end

local function runner_text(store, run)
  if not run.runner then
    return #store:servers() == 0 and "a live 'tidemill serve': none is on this store" or nil
  end
  for _, one in ipairs(store:runners()) do
    if one.id == run.runner then
      return ("it is kept for the terminal that made it (pid %d on %s)"):format(one.pid, one.host)
    end
  end
  return ("it is kept for runner %s, which is gone"):format(run.runner)
end

local function waits_of_queued(store, run)
  local out = {}
  local flow = store:flow(run.flow)
  if flow and flow.paused_at and (run.cause == "schedule" or run.cause == "event") then
    out[#out + 1] = paused_text(flow, run.timezone)
  end
  for _, line in ipairs(queue_text(run, store:in_the_way(run), run.timezone)) do out[#out + 1] = line end
  if run.backfill then out[#out + 1] = backfill_text(store, run) end
  out[#out + 1] = runner_text(store, run)
  if #out == 0 then out[1] = "a runner to claim it, within a second or so" end
  return out
end

-- ---- nodes ----

local UNDONE = { waiting = true, running = true, retrying = true, polling = true }

local function upstream_text(node, by_name)
  local names = {}
  for _, name in ipairs(node.upstream) do
    local up = by_name[name]
    if up and UNDONE[up.state] then names[#names + 1] = ("'%s' (%s)"):format(name, up.state) end
  end
  return #names > 0 and "waits for " .. table.concat(names, ", ") or nil
end

-- The extract whose objects a load takes while that runs, if it runs.
local function source_of(by_name, declared)
  local source = declared and declared.pipeline and by_name[declared.pipeline]
  return source and source.state == "running" and source.node or nil
end

local function place_text(store, node, declared, limits)
  local pool = declared and declared.pool
  local limit = pool and limits and limits[pool]
  if limit then
    local taken = store:pool_taken(pool)
    if taken >= limit then
      return ("ready, waits for pool '%s': %d of %d places are taken"):format(pool, taken, limit)
    end
  end
  return ("ready, waits for a place: at most --jobs nodes run at once%s"):format(
    node.message and " (" .. node.message .. ")" or "")
end

local function node_text(store, run, node, by_name, declared, limits)
  if node.state == "polling" or node.state == "retrying" then
    return ("%s: %s%s"):format(node.state, node.message or node.waiting and node.waiting.reason or "waits",
      node.next_at and ", again at " .. calendar.show(node.next_at, run.timezone) or "")
  end
  local source = source_of(by_name, declared)
  if node.state == "running" then
    return source and ("takes the objects of '%s' while that runs"):format(source) or nil
  elseif node.state == "waiting" then
    local upstream = upstream_text(node, by_name)
    if upstream and source then
      return ("%s; it takes the objects of '%s' meanwhile if a place is free"):format(upstream, source)
    end
    if not upstream and (run.state == "paused" or run.request == "pause") then
      return "ready, starts when the run goes on"
    elseif not upstream and not run.runner then
      return "ready, starts when a runner has the run"
    end
    return upstream or place_text(store, node, declared, limits)
  end
end

local function waits_of_nodes(store, run, limits)
  local by_name, declared, out = {}, {}, {}
  local document = store:document(run.version)
  for _, node in ipairs(document and document.nodes or {}) do declared[node.name] = node end
  local nodes = store:nodes(run.id)
  for _, node in ipairs(nodes) do by_name[node.node] = node end
  for _, node in ipairs(nodes) do
    local line = node_text(store, run, node, by_name, declared[node.node], limits)
    if line then out[#out + 1] = ("node '%s' %s"):format(node.node, line) end
  end
  return out
end

--- What a run waits for now; empty when it waits for nothing, or has ended.
---@param store table
---@param run table  a row
---@param limits? table<string, integer>  places of the project's pools
---@return string[]
function why.waits(store, run, limits)
  if run.ended_at then return {} end
  if run.state == "queued" then return waits_of_queued(store, run) end
  local out = waits_of_nodes(store, run, limits)
  if run.request then table.insert(out, 1, ("it is asked to %s"):format(run.request)) end
  if run.state == "paused" then
    table.insert(out, 1, ("it is paused: tidemill resume %s"):format(run.id))
  elseif not run.runner then
    table.insert(out, 1, "its runner is gone; another takes it over" ..
      (#store:servers() == 0 and ", but no 'tidemill serve' is live: tidemill restore " .. run.id or " soon"))
  end
  return out
end

-- ---- how it came about ----

local CAUSES = { manual = "a trial by hand", schedule = "the schedule", event = "other flows' success",
  trigger = "a trigger by hand", backfill = "a backfill", rerun = "a rerun", subflow = "another run" }

--- How a run came about, and its course, one fact a line.
---@param store table
---@param run table
---@return string[]
function why.story(store, run)
  local function at(ms) return calendar.show(ms, run.timezone) end
  local cause = CAUSES[run.cause] or run.cause
  if run.of_run then cause = ("a rerun of %s %s"):format(run.cause == "manual" and "trial run" or "run", run.of_run) end
  if run.parent_run then cause = ("node '%s' of run %s"):format(run.parent_node, run.parent_run) end
  if run.backfill then cause = ("%s %s, position %d"):format(cause, run.backfill, run.backfill_position) end
  local delay = run.slot_at and run.created_at - run.scheduled_at or 0
  local out = { ("started by %s%s"):format(cause, run.slot_at and ", firing time " .. at(run.slot_at) or ""),
    ("made %s%s"):format(at(run.created_at),
      delay > 1000 and (", %s after its time"):format(units.show_elapsed(delay)) or "") }
  if run.claimed_at then
    out[#out + 1] = ("claimed %s%s"):format(at(run.claimed_at),
      run.runner and not run.ended_at and " by runner " .. run.runner or "")
  end
  if run.late_at then
    out[#out + 1] = ("late since %s: its deadline was %s"):format(at(run.late_at), at(run.deadline_at))
  end
  for _, node in ipairs(store:nodes(run.id)) do
    if node.late_at then out[#out + 1] = ("node '%s' is late since %s"):format(node.node, at(node.late_at)) end
  end
  local b = run.backfill and store:backfill(run.backfill)
  if b then out[#out + 1] = ("backfill by %s: %s"):format(b.created_by, text.count(b.total, "run")) end
  return out
end

-- ---- a flow ----

--- What the ledger says of a firing time: {at, state, reason, run, first, last, count}, or what is to be
--- said of a time that has no row.
---@param store table
---@param flow table  a row of flows
---@param at integer
---@return table
function why.slot(store, flow, at)
  local row = store:slot(flow.flow, at)
  if row then
    return { at = at, state = row.state, reason = row.reason, run = row.run_id, count = row.slot_count,
      first = row.first_at or row.slot_at, last = row.slot_at, schedule = row.schedule, version = row.version_no }
  end
  local zone, schedule = flow.timezone, flow.schedule
  local function none(reason, ...) return { at = at, state = "none", reason = reason:format(...) } end
  if not flow.version_no then return none "the flow is not published" end
  if not schedule then return none "its schedule is not enabled" end
  if schedule.kind == "event" then return none "it runs after other flows, at no fixed time" end
  local next_at = calendar.next(schedule, at - 1)[1]
  if next_at ~= at then
    return none("that is no firing time of the live version; the next one after it is %s",
      next_at and calendar.show(next_at, schedule.timezone or zone) or "none")
  elseif at > store:now() then
    return none "it is still to come"
  elseif at <= (flow.cursor_at or 0) and at > (flow.published_at or 0) then
    return none "its row is gone: 'tidemill gc' forgets those of long ago"
  elseif at <= (flow.cursor_at or 0) then
    return none("it lay before the schedule was enabled (published %s)", calendar.show(flow.published_at, zone))
  elseif flow.paused_at then
    return none("%s", paused_text(flow, zone))
  end
  return none(#store:servers() == 0 and "it is due, and no live 'tidemill serve' is there to fire it"
    or "it is due and about to be fired")
end

local LATE_MS, COUNTED = 60000, 1000

-- Firing times that nobody has dealt with yet, and what will become of them.
local function due_text(store, flow)
  if flow.paused_at or not flow.cursor_at then return nil end
  local now = store:now()
  local times, more = calendar.between(flow.schedule, flow.cursor_at + 1, now, COUNTED)
  if #times == 0 or now - times[1] < LATE_MS then return nil end
  return ("%s%s due since %s; for missed ones the policy is \"%s\""):format(more and "more than " or "",
    #times == 1 and "a firing time is" or #times .. " firing times are",
    calendar.show(times[1], flow.schedule.timezone or flow.timezone), (flow.policy.missed or {}).policy or "skip")
end

--- What keeps a flow from firing, one reason a line; empty when nothing does.
---@param store table
---@param flow table
---@return string[]
function why.flow(store, flow)
  local out = {}
  if not flow.version_no then
    out[1] = "it is not published"
    return out
  end
  if not flow.schedule then out[#out + 1] = "its schedule is none, or not enabled" end
  if flow.paused_at then out[#out + 1] = paused_text(flow, flow.timezone) end
  if flow.schedule and flow.schedule.kind ~= "event" and #calendar.next(flow.schedule, store:now()) == 0 then
    out[#out + 1] = "its schedule has ended: no firing time is left"
  end
  if flow.schedule and #store:servers() == 0 then out[#out + 1] = "no live 'tidemill serve' on this store" end
  if flow.schedule then out[#out + 1] = due_text(store, flow) end
  return out
end

return why
