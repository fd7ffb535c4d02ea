--- `tidemill backfill FLOW --from DATE --to DATE`: runs of business dates that are past.

local backfill = require "tidemill.backfill"
local calendar = require "tidemill.calendar"
local errors = require "tidemill.errors"
local operate = require "tidemill.operate"
local options = require "tidemill.cli.options"
local text = require "tidemill.text"

local SHOWN = 40 -- moments listed before a run; all with --dry-run

-- The moments to run, and those that --only-missing leaves out.
local function moments_of(store, flow, document, opts)
  local list = backfill.moments { from = opts.from, to = opts.to, timezone = document.timezone,
    schedule = document.schedule, every = opts.every, order = opts.order }
  if not opts.only_missing then return list, 0 end
  local covered, missing = store:covered(flow.flow, list), {}
  for _, at in ipairs(list) do
    if not covered[at] then missing[#missing + 1] = at end
  end
  return missing, #list - #missing
end

local function print_list(list, left_out, document, opts, version)
  local zone = document.timezone
  print(("%s of flow '%s' version %d, business dates %s to %s (%s)%s"):format(text.count(#list, "run"), document.flow,
    version.number, opts.from, opts.to, zone, left_out > 0 and (", %d already done"):format(left_out) or ""))
  local most = opts.dry_run and #list or SHOWN
  for i, at in ipairs(list) do
    if i > most then
      print(("  ... and %d more"):format(#list - most))
      break
    end
    print(("%5d  business %s  scheduled %s"):format(i, calendar.show(backfill.business(at, zone), zone),
      calendar.show(at, zone)))
  end
end

local function new_runs(store, list, version, set, opts)
  local runs, only = {}, operate.some(version.document.nodes, opts)
  for i, at in ipairs(list) do
    local run = operate.new_run(store, version, "backfill", at, set, only)
    run.priority = 1 -- what is scheduled goes first
    if opts.jobs > 1 then run.concurrency = "parallel" end
    run.deadline = nil -- a promise of the schedule
    runs[i] = run
  end
  return runs
end

local function show_queued(store, id, ids, opts)
  if opts.json then return operate.print_json { backfill = id, runs = require("json").array(ids), state = "queued" } end
  local one = store:servers()[1]
  print(("backfill %s: %s queued for serve on %s (pid %d)\n  look at it: tidemill runs --backfill %s"):format(id,
    text.count(#ids, "run"), one.host, one.pid, id))
end

-- Follows all runs of a queued backfill; the worst exit code.
local function wait_for(store, ids, opts)
  local code = 0
  for _, id in ipairs(ids) do
    local own = operate.follow(store, id, { json = opts.json })
    if own == 130 and not store:run(id).ended_at then return 130 end
    code = math.max(code, own)
  end
  return code
end

local function run(opts, args)
  if not opts.from or not opts.to then
    errors.usage("backfill: --from and --to are needed",
      "business dates, both included: --from 2026-01-01 --to 2026-01-31")
  end
  local store <close>, project = operate.open(args[1], true)
  local flow = operate.live_flow(store, args[1])
  local version = operate.version(store, flow, opts.version, "backfill")
  local document = version.document
  local list, left_out = moments_of(store, flow, document, opts)
  local set = options.settings("backfill", opts.set)
  local runs = new_runs(store, list, version, set, opts)
  if opts.json and opts.dry_run then
    local json, all = require "json", {}
    for i, one in ipairs(runs) do all[i] = { business_at = one.business, scheduled_at = one.scheduled } end
    operate.print_json { flow = flow.flow, version = version.number, timezone = document.timezone,
      runs = json.array(all), left_out = left_out }
  elseif not opts.json then
    print_list(list, left_out, document, opts, version)
  end
  if opts.dry_run or #runs == 0 then return 0 end
  local first, last = runs[1].business, runs[#runs].business
  local what = { flow = flow.flow, from = math.min(first, last), to = math.max(first, last), order = opts.order,
    jobs = opts.jobs, settings = { every = opts.every, only_missing = opts.only_missing, set = set },
    by = operate.by(), total = #runs }
  if #store:servers() > 0 and not opts.here then
    local id, ids = store:queue_backfill(what, runs)
    if opts.wait then return wait_for(store, ids, opts) end
    show_queued(store, id, ids, opts)
    return 0
  end
  if opts.jobs > 1 and not opts.json then
    io.stderr:write("note: in a terminal the runs go one after the other; --jobs is for a serve\n")
  end
  local code = operate.here(store, project, { json = opts.json }, function(runner)
    for _, one in ipairs(runs) do one.runner = runner end
    return (select(2, store:queue_backfill(what, runs)))
  end)
  if code == 130 and not opts.json then
    io.stderr:write("tidemill: what has not begun is stopped; --only-missing goes on with it\n")
  end
  return code
end

return {
  name = "backfill",
  summary = "run a published flow for business dates that are past",
  usage = "FLOW --from DATE --to DATE",
  args = { 1, 1 },
  about = [[
Both dates are business dates in the flow's zone, and both are included. The schedule's own
firing times of these dates run, whatever its effective period; without a cron or `every` schedule one
run a date. Each run has the business time that it would have had then. The list is printed first.

A live `tidemill serve` on the state store takes the runs, behind what is scheduled, --jobs at
once; without one they run in this terminal, one after the other. A failure does not stop the rest.
FLOW is a flow's name, the start of one, or the path of its file.]],
  options = {
    { name = "from", value = "DATE", help = "first business date, 2026-01-31" },
    { name = "to", value = "DATE", help = "last business date" },
    { name = "every", value = "TIME", help = "this far apart instead of the schedule's times: 1d, 6h, 30m" },
    { name = "order", value = "ORDER", choices = { "asc", "desc" }, default = "asc", help = "oldest or newest first" },
    { name = "only-missing", help = "leave out times that have a success, or a run under way" },
    { name = "jobs", short = "j", value = "N", type = "integer", min = 1, max = 1000, default = 1,
      help = "runs at once, by a serve" },
    { name = "version", value = "N|latest", help = "another published version" },
    { name = "set", value = "NAME=VALUE", many = true, help = "a value for a param or variable; may be repeated" },
    operate.SOME[1], operate.SOME[2], operate.SOME[3],
    { name = "dry-run", short = "n", help = "print the list only" },
    { name = "wait", short = "w", help = "when a serve runs them: show them until all have ended" },
    { name = "here", help = "run them in this terminal even if a serve could" },
    { name = "json", help = "print JSON; times are milliseconds since 1970" },
  },
  run = run,
}
