--- `tidemill versions FLOW`: every published version, which one is live, and who changed that.

local calendar = require "tidemill.calendar"
local operate = require "tidemill.operate"
local progress = require "tidemill.progress"

local HEADING = { { "VERSION", true }, { "LIVE" }, { "PUBLISHED" }, { "BY" }, { "HASH" }, { "COMMENT" } }

local function line_of(one, zone)
  return ("  %s  %s%s, by %s%s"):format(calendar.show(one.at, zone), one.what,
    one.version_no and (" of version %d"):format(one.version_no) or "", one.by_user,
    one.reason and ": " .. one.reason or "")
end

local function run(opts, args)
  local store <close> = operate.open(args[1])
  local flow = operate.flow(store, args[1])
  local list, log = store:versions(flow.flow), store:flow_log(flow.flow)
  if opts.json then
    local json = require "json"
    operate.print_json { flow = flow.flow, versions = json.array(list), history = json.array(log) }
    return 0
  end
  local rows = {}
  for i, v in ipairs(list) do
    rows[i] = { tostring(v.number), v.live and "live" or "", calendar.show(v.published_at, flow.timezone),
      v.published_by, v.hash:sub(1, 12), v.comment or "" }
  end
  local out = progress.table(HEADING, rows)
  out[#out + 1] = ""
  out[#out + 1] = "history"
  for _, one in ipairs(log) do out[#out + 1] = line_of(one, flow.timezone) end
  operate.print_lines(out)
  return 0
end

return {
  name = "versions",
  summary = "the published versions of a flow, and who published, rolled back, paused",
  usage = "FLOW",
  args = { 1, 1 },
  about = "FLOW is a flow's name, the start of one, or the path of its file.",
  options = { { name = "json", help = "print JSON; times are milliseconds since 1970" } },
  run = run,
}
