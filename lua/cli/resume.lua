--- `tidemill resume FLOW|RUN`: ends a pause.

local calendar = require "tidemill.calendar"
local operate = require "tidemill.operate"

-- Whether it has a schedule that fires again.
local function resume_flow(store, flow, opts)
  local changed = store:resume_flow(flow.flow, operate.by(), opts.reason)
  local lines, times = operate.firings(flow.schedule, flow.timezone, store:now())
  if opts.json then
    return operate.print_json { flow = flow.flow, changed = changed, next = require("json").array(times) }
  end
  if not changed then return print(("flow '%s' is not paused"):format(flow.flow)) end
  print(("flow '%s' goes on%s"):format(flow.flow,
    flow.schedule and ": " .. calendar.describe(flow.schedule, flow.timezone) or "; it has no schedule"))
  if #lines > 0 then print(table.concat(lines, "\n")) end
  return flow.schedule ~= nil
end

local function resume_run(store, run, opts)
  local done = store:request(run.id, "resume", operate.by_whom(opts.reason))
  if opts.json then return operate.print_json { run = run.id, done = done } end
  print(("run %s %s"):format(run.id, done and "goes on" or "is to go on"))
end

local function run(opts, args)
  local store <close> = operate.open(args[1])
  local fires = false
  for _, found in ipairs(operate.flows_or_runs("resume", store, args, opts.all)) do
    fires = (found.what == "flow" and resume_flow or resume_run)(store, found.row, opts) or fires
  end
  if fires then operate.warn_unserved(store) end
  return 0
end

return {
  name = "resume",
  summary = "end the pause of a flow or a run",
  usage = "FLOW|RUN...",
  args = { 0, nil },
  about = [[
The firing times that fell into a flow's pause are recorded as skipped; `tidemill backfill` makes
up for them.]],
  options = {
    { name = "all", help = "every flow that is paused" },
    { name = "reason", value = "TEXT", help = "kept in the flow's history or the run's, shown by why" },
    { name = "json", help = "print JSON; times are milliseconds since 1970" },
  },
  run = run,
}
