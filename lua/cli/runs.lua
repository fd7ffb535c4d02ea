--- `tidemill runs`: the runs that the state store knows, newest first.

local launch = require "tidemill.launch"
local progress = require "tidemill.progress"
local project = require "tidemill.project"
local signal = require "tidemill.signal"

local HEADING = { { "RUN" }, { "FLOW" }, { "STATE" }, { "STARTED" }, { "TIME", true }, { "MESSAGE" } }

local function run(opts)
  local store <close> = launch.store(project.open())
  local filter = { flow = opts.flow, state = opts.state, limit = opts.limit }
  local list = store:runs(filter)
  if opts.json then
    local json = require "json"
    for _, row in ipairs(list) do io.stdout:write(json.encode(row), "\n") end
    return 0
  end
  local rows = {}
  for i, row in ipairs(list) do
    local started = row.started_at or row.created_at
    rows[i] = { row.id, row.flow, row.state, os.date("%Y-%m-%d %H:%M:%S", started // 1000),
      progress.duration((row.ended_at or signal.wall()) - started), row.message or "" }
  end
  if #rows == 0 then
    io.stderr:write("no runs\n")
  else
    io.stdout:write(table.concat(progress.table(HEADING, rows), "\n"), "\n")
  end
  return 0
end

return {
  name = "runs",
  summary = "list the runs of flows, newest first",
  about = "The state store is that of the project in the working directory or above it.",
  options = {
    { name = "flow", value = "NAME", help = "runs of this flow only" },
    { name = "state", value = "STATE", choices = { "running", "success", "failed", "canceled" },
      help = "runs in this state only" },
    { name = "limit", short = "n", value = "N", type = "integer", min = 1, max = 100000, default = 20,
      help = "at most N runs" },
    { name = "json", help = "print one JSON object a line; times are milliseconds since 1970" },
  },
  run = run,
}
