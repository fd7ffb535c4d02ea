--- `tidemill why RUN|FLOW [TIME]`: why a run went as it did, what it waits for, what became of
--- a firing time.

local calendar = require "tidemill.calendar"
local errors = require "tidemill.errors"
local operate = require "tidemill.operate"
local why = require "tidemill.why"

local SLOTS, RUNS = 10, 10

-- The runs of a flow that have not ended, those under way first, then in the order they are due.
local function active_runs(store, flow)
  local list = store:runs { flow = flow.flow, active = true, limit = 10000 }
  table.sort(list, function(a, b)
    if (a.state == "queued") ~= (b.state == "queued") then return b.state == "queued" end
    if (a.backfill == nil) ~= (b.backfill == nil) then return a.backfill == nil end
    if a.scheduled_at ~= b.scheduled_at then return a.scheduled_at < b.scheduled_at end
    return a.id < b.id
  end)
  return list
end

local function section(out, title, lines)
  if #lines == 0 then return end
  out[#out + 1] = title
  for _, line in ipairs(lines) do out[#out + 1] = "  " .. line end
end

local function why_run(store, run, project, opts)
  local waits, decisions = why.waits(store, run, project.pools), store:decisions(run.id)
  if opts.json then
    local json = require "json"
    return operate.print_json { run = run.id, flow = run.flow, state = run.state, cause = run.cause,
      message = run.message, waits = json.array(waits), decisions = json.array(decisions) }
  end
  local out = { ("run %s of flow '%s': %s%s"):format(run.id, run.flow, run.state,
    run.message and ", " .. run.message or "") }
  for _, line in ipairs(why.story(store, run)) do out[#out + 1] = "  " .. line end
  section(out, "waits for", waits)
  local lines = {}
  for i, d in ipairs(decisions) do
    lines[i] = ("%s  %s%s: %s"):format(calendar.show(d.at, run.timezone, true),
      d.node and ("node '%s' "):format(d.node) or "", d.what, d.reason)
  end
  section(out, "decisions", lines)
  operate.print_lines(out)
end

local function slot_line(slot, zone)
  local span = slot.count and slot.count > 1
    and (" (one of %d from %s to %s)"):format(slot.count, calendar.show(slot.first, zone),
      calendar.show(slot.last, zone))
    or ""
  return ("%s: %s%s%s%s"):format(calendar.show(slot.at, zone), slot.state == "none" and "no row" or slot.state, span,
    slot.run and " as " .. slot.run or "", slot.reason and ", " .. slot.reason or "")
end

local function recent_slots(store, flow)
  local list = {}
  for i, row in ipairs(store:slots { flow = flow.flow, limit = SLOTS }) do
    list[i] = { at = row.slot_at, state = row.state, reason = row.reason, run = row.run_id, count = row.slot_count,
      first = row.first_at or row.slot_at, last = row.slot_at }
  end
  return list
end

local function why_flow(store, flow, opts)
  local zone = flow.schedule and flow.schedule.timezone or flow.timezone
  local reasons, slots = why.flow(store, flow), recent_slots(store, flow)
  local next_at = calendar.next(flow.schedule, store:now())[1]
  local active = active_runs(store, flow)
  if opts.json then
    local json = require "json"
    local runs = {}
    for i, run in ipairs({ table.unpack(active, 1, 100) }) do
      runs[i] = { id = run.id, state = run.state, waits = json.array(why.waits(store, run)) }
    end
    return operate.print_json { flow = flow.flow, version = flow.version_no, next = next_at,
      reasons = json.array(reasons), slots = json.array(slots), active = json.array(runs) }
  end
  local out = { ("flow '%s': %s, schedule %s"):format(flow.flow,
    flow.version_no and "version " .. flow.version_no or "not published",
    calendar.describe(flow.schedule, flow.timezone)) }
  if next_at and not flow.paused_at then out[#out + 1] = "  next firing " .. calendar.show(next_at, zone) end
  section(out, "does not fire because", reasons)
  local lines = {}
  for i, run in ipairs(active) do
    if i > RUNS then
      lines[#lines + 1] = ("and %d more"):format(#active - RUNS)
      break
    end
    lines[#lines + 1] = ("%s %s, scheduled %s"):format(run.id, run.state, calendar.show(run.scheduled_at, run.timezone))
    for _, line in ipairs(why.waits(store, run)) do lines[#lines + 1] = "  " .. line end
  end
  section(out, "runs under way", lines)
  lines = {}
  for i, slot in ipairs(slots) do lines[i] = slot_line(slot, zone) end
  section(out, "firing times, newest first", lines)
  operate.print_lines(out)
end

local function why_slot(store, flow, word, opts)
  local zone = flow.schedule and flow.schedule.timezone or flow.timezone
  local slot = why.slot(store, flow, operate.instant("why", "TIME", word, zone))
  if opts.json then
    slot.flow = flow.flow
    return operate.print_json(slot)
  end
  print(("flow '%s', %s"):format(flow.flow, slot_line(slot, zone)))
  local run = slot.run and store:run(slot.run)
  if run then print(("  tidemill why %s: it is %s"):format(run.id, run.state)) end
end

local function run(opts, args)
  local store <close>, project = operate.open(args[1])
  local what, row = operate.flow_or_run(store, args[1])
  if what == "run" and args[2] then
    errors.usage(("why: '%s' behind a run; a TIME is asked of a flow"):format(args[2]))
  elseif what == "run" then
    why_run(store, row, project, opts)
  elseif args[2] then
    why_slot(store, row, args[2], opts)
  else
    why_flow(store, row, opts)
  end
  return 0
end

return {
  name = "why",
  summary = "why a run went as it did, what it waits for, what became of a firing time",
  usage = "RUN|FLOW [TIME]",
  args = { 1, 2 },
  about = [[
Of a run: how it came about, every decision with its reason, and what it or its nodes wait for now.
Of a flow: what keeps it from firing, its runs under way, its last firing times. Of a flow and a
time ("2026-01-02 03:04:05" in its zone): what became of that firing time.]],
  options = { { name = "json", help = "print JSON; times are milliseconds since 1970" } },
  run = run,
}
