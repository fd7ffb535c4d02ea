--- `tidemill pause FLOW|RUN`: nothing of a flow's schedule fires; nothing new of a run starts.

local operate = require "tidemill.operate"

local function pause_flow(store, flow, opts)
  local changed = store:pause_flow(flow.flow, operate.by(), opts.reason)
  if opts.json then return operate.print_json { flow = flow.flow, changed = changed } end
  if not changed then
    print(("flow '%s' is paused already, by %s"):format(flow.flow, flow.paused_by))
  else
    print(("flow '%s' is paused: firing times are recorded as skipped until it is resumed (tidemill resume %s)"):format(
      flow.flow, operate.quoted(flow.flow)))
  end
end

local function pause_run(store, run, opts)
  local done = run.state == "paused" or store:request(run.id, "pause", operate.by_whom(opts.reason))
  if opts.json then return operate.print_json { run = run.id, done = done } end
  print(("run %s %s"):format(run.id, done and "is paused"
    or "is to pause: what runs goes on to its end, nothing new starts"))
end

local function run(opts, args)
  local store <close> = operate.open(args[1])
  for _, found in ipairs(operate.flows_or_runs("pause", store, args, opts.all)) do
    (found.what == "flow" and pause_flow or pause_run)(store, found.row, opts)
  end
  return 0
end

return {
  name = "pause",
  summary = "pause a flow's schedule, or a run",
  usage = "FLOW|RUN...",
  args = { 0, nil },
  about = [[
A paused flow fires nothing, and its queued scheduled runs wait; firing times that pass are
recorded as skipped. Runs that have begun go on; trials, triggers and backfills are not held up.
Of a paused run the nodes that are running finish; the others wait for `tidemill resume RUN`.]],
  options = {
    { name = "all", help = "every published flow" },
    { name = "reason", value = "TEXT", help = "kept in the flow's history or the run's, shown by why" },
    { name = "json", help = "print JSON" },
  },
  run = run,
}
