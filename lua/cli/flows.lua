--- `tidemill flows`: the published flows: version, state, next firing, last run.

local calendar = require "tidemill.calendar"
local changes = require "tidemill.changes"
local operate = require "tidemill.operate"
local progress = require "tidemill.progress"
local sandbox = require "tidemill.sandbox"

local HEADING = { { "FLOW" }, { "VERSION" }, { "STATE" }, { "NEXT FIRING" }, { "LAST RUN" }, { "SCHEDULE" } }

-- What has become of the files since: nil, "edited" or "gone". Nothing is loaded for it.
local function edited(store, flow)
  if not flow.hash then return nil end
  local text, stored = changes.texts(store:source(flow.hash).sources)
  local now = sandbox.read_file(flow.file)
  if not now then return "gone" end
  if now ~= text then return "edited" end
  for _, file in pairs(stored) do
    if sandbox.read_file(file.path) ~= file.text then return "edited" end
  end
end

local function state_of(flow)
  if not flow.version_no then return "unpublished" end
  if flow.paused_at then return "paused" end
  return flow.schedule and "scheduled" or "published"
end

local function next_firing(flow, now)
  if not flow.schedule or flow.paused_at then return nil end
  return calendar.next(flow.schedule, math.max(flow.cursor_at or now, now))[1]
end

local function look(store, flow, now)
  return { flow = flow.flow, file = flow.file, version = flow.version_no, state = state_of(flow),
    paused_by = flow.paused_by, pause_reason = flow.pause_reason, paused_at = flow.paused_at,
    schedule = flow.schedule, timezone = flow.timezone, next_at = next_firing(flow, now), files = edited(store, flow),
    last = store:runs { flow = flow.flow, limit = 1 }[1] }
end

local function row_of(one)
  local last = one.last
  local mark = one.files == "edited" and " (edited since)" or one.files == "gone" and " (file gone)" or ""
  return { one.flow, one.version and one.version .. mark or "-", one.state,
    one.next_at and calendar.show(one.next_at, one.schedule.timezone or one.timezone) or "-",
    last and ("%s %s"):format(calendar.show(last.scheduled_at, last.timezone), last.state) or "-",
    calendar.describe(one.schedule, one.timezone) }
end

local function run(opts)
  local store <close> = operate.open()
  local now, list = store:now(), {}
  for _, flow in ipairs(store:flows()) do
    if opts.all or flow.version_no then list[#list + 1] = look(store, flow, now) end
  end
  if opts.json then
    for _, one in ipairs(list) do
      if one.last then one.last = { id = one.last.id, state = one.last.state, scheduled_at = one.last.scheduled_at } end
      operate.print_json(one)
    end
  elseif #list == 0 then
    io.stderr:write("no published flows\n")
  else
    local rows = {}
    for i, one in ipairs(list) do rows[i] = row_of(one) end
    operate.print_lines(progress.table(HEADING, rows))
  end
  return 0
end

return {
  name = "flows",
  summary = "list the published flows: version, next firing, last run",
  about = [[
Firing times are in the zone of each flow's schedule, with its UTC offset. "edited since" marks a
flow whose files differ from what is published. The state store is that of the project in the
working directory or above it.]],
  options = {
    { name = "all", short = "a", help = "unpublished flows, too" },
    { name = "json", help = "print one JSON object a line; times are milliseconds since 1970" },
  },
  run = run,
}
