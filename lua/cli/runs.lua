--- `tidemill runs`: the runs that the state store knows, newest first.

local calendar = require "tidemill.calendar"
local errors = require "tidemill.errors"
local operate = require "tidemill.operate"
local progress = require "tidemill.progress"
local time = require "time"
local units = require "tidemill.units"

local HEADING = { { "RUN" }, { "FLOW" }, { "STATE" }, { "CAUSE" }, { "SCHEDULED" }, { "STARTED" }, { "TIME", true },
  { "MESSAGE" } }
local DAY_MS = 86400000
local MOST = 100000

-- The instant of --since and --until: so long ago, or a time in the project's zone.
local function instant(store, option, text, zone)
  local ago = units.duration(text)
  if ago then return store:now() - math.floor(ago * 1000) end
  return operate.instant("runs", option, text, zone)
end

-- The name of the flow that a word means: a published one, or one that has been run.
local function flow_name(store, word)
  local ok, found = pcall(store.find_flow, store, word, operate.path(word))
  if ok then return found.flow end
  if #store:runs { flow = word, limit = 1 } > 0 then return word end
  if found.kind == "not_found" then
    found.message = ("there is no run of a flow '%s', and no published flow of that name"):format(word)
  end
  error(found, 0)
end

local function backfill_id(store, word)
  local found = store:find_backfill(word)
  return found and found.id or errors.raise("not_found", ("there is no backfill '%s'"):format(word))
end

-- Every zone's date lies within 14 hours before and 12 behind that of UTC.
local function filter_of(store, project, opts)
  local filter = { state = opts.state, cause = opts.cause, limit = opts.limit, active = opts.active,
    backfill = opts.backfill and backfill_id(store, opts.backfill) }
  if opts.flow then filter.flow = flow_name(store, opts.flow) end
  if opts.since then filter.since = instant(store, "--since", opts.since, project.timezone) end
  if opts["until"] then filter.before = instant(store, "--until", opts["until"], project.timezone) end
  if opts.business_date then
    local ok, midnight = pcall(time.parse, opts.business_date)
    if not ok or not opts.business_date:match "^%d+%-%d+%-%d+$" then
      errors.usage(("runs: --business-date does not understand '%s'"):format(opts.business_date),
        "write it like 2026-01-31")
    end
    filter.business_from, filter.business_to = midnight * 1000 - DAY_MS, midnight * 1000 + 2 * DAY_MS
    filter.limit = MOST
  end
  return filter
end

local function list_of(store, project, opts)
  local list = store:runs(filter_of(store, project, opts))
  if not opts.business_date then return list end
  local kept = {}
  for _, run in ipairs(list) do
    if #kept < opts.limit and time.format(run.business_at / 1000, "yyyy-MM-dd", run.timezone) == opts.business_date then
      kept[#kept + 1] = run
    end
  end
  return kept
end

local function row_of(run, now)
  return { run.id, run.flow, run.late_at and run.state .. " (late)" or run.state, run.cause,
    calendar.show(run.scheduled_at, run.timezone), run.started_at and calendar.show(run.started_at, run.timezone) or "",
    run.started_at and units.show_elapsed((run.ended_at or now) - run.started_at) or "", run.message or "" }
end

local STATES = { "success", "failed", "canceled", "skipped", "running", "paused", "queued" }
local SUMMARY = { { "FLOW" }, { "RUNS", true }, { "SUCCESS", true }, { "FAILED", true }, { "CANCELED", true },
  { "SKIPPED", true }, { "UNDER WAY", true }, { "QUEUED", true }, { "SHORTEST", true }, { "MEDIAN", true },
  { "LONGEST", true } }

-- Outcomes by flow, and how long its successes took.
local function summary_of(list)
  local by_flow, flows = {}, {}
  for _, run in ipairs(list) do
    local one = by_flow[run.flow]
    if not one then
      one = { flow = run.flow, runs = 0, times = {} }
      for _, state in ipairs(STATES) do one[state] = 0 end
      by_flow[run.flow], flows[#flows + 1] = one, one
    end
    one.runs, one[run.state] = one.runs + 1, one[run.state] + 1
    if run.state == "success" and run.started_at then one.times[#one.times + 1] = run.ended_at - run.started_at end
  end
  table.sort(flows, function(a, b) return a.flow < b.flow end)
  for _, one in ipairs(flows) do
    table.sort(one.times)
    one.shortest_ms, one.longest_ms = one.times[1], one.times[#one.times]
    one.median_ms, one.times = one.times[(#one.times + 1) // 2], nil
  end
  return flows
end

local function print_summary(flows, opts)
  local rows = {}
  for i, one in ipairs(flows) do
    if opts.json then operate.print_json(one) end
    local function time_of(ms) return ms and units.show_elapsed(ms) or "" end
    rows[i] = { one.flow, tostring(one.runs), tostring(one.success), tostring(one.failed), tostring(one.canceled),
      tostring(one.skipped), tostring(one.running + one.paused), tostring(one.queued), time_of(one.shortest_ms),
      time_of(one.median_ms), time_of(one.longest_ms) }
  end
  if opts.json then return end
  if #rows == 0 then io.stderr:write("no runs\n") else operate.print_lines(progress.table(SUMMARY, rows)) end
end

local function run(opts)
  local store <close>, project = operate.open()
  if opts.summary then opts.limit = math.max(opts.limit, MOST) end
  local list = list_of(store, project, opts)
  if opts.summary then
    print_summary(summary_of(list), opts)
    return 0
  end
  if opts.json then
    for _, one in ipairs(list) do operate.print_json(one) end
    return 0
  end
  local rows, now = {}, store:now()
  for i, one in ipairs(list) do rows[i] = row_of(one, now) end
  if #rows == 0 then
    io.stderr:write("no runs\n")
  else
    operate.print_lines(progress.table(HEADING, rows))
  end
  return 0
end

return {
  name = "runs",
  summary = "list the runs of flows, newest first",
  about = [[
Times are in each flow's zone, with its UTC offset. The state store is that of the project in the
working directory or above it.]],
  options = {
    { name = "flow", value = "FLOW", help = "runs of this flow only" },
    { name = "state", value = "STATE", choices = { "queued", "running", "paused", "success", "failed", "canceled",
      "skipped" }, help = "runs in this state only" },
    { name = "cause", value = "CAUSE", choices = { "manual", "schedule", "event", "trigger", "backfill", "rerun",
      "subflow" }, help = "runs started by this only" },
    { name = "active", help = "runs that have not ended" },
    { name = "since", value = "TIME",
      help = "made at this time or later, \"2026-01-02 03:04\" in the project's zone, or so long ago: 2h, 7d" },
    { name = "until", value = "TIME", help = "made before this time" },
    { name = "business-date", value = "DATE", help = "of this business date, 2026-01-31, in the zone of each flow" },
    { name = "backfill", value = "ID", help = "of this backfill" },
    { name = "summary", help = "count outcomes by flow, and show how long successes took" },
    { name = "limit", short = "n", value = "N", type = "integer", min = 1, max = MOST, default = 20,
      help = "at most N runs" },
    { name = "json", help = "print one JSON object a line; times are milliseconds since 1970" },
  },
  run = run,
}
