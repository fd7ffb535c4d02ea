--- `tidemill trigger FLOW`: one run of the published version now.

local calendar = require "tidemill.calendar"
local operate = require "tidemill.operate"
local options = require "tidemill.cli.options"

-- A success without running anything, for what waits for the flow.
local function dry(store, new, opts)
  local id = store:record_success(new, ("dry run by %s: nothing was run"):format(operate.by()))
  if opts.json then
    operate.print_json { run = id, state = "success", scheduled_at = new.scheduled, dry = true }
  else
    print(("run %s of flow '%s', scheduled %s: recorded as a success, nothing was run"):format(id, new.flow,
      calendar.show(new.scheduled, new.timezone)))
  end
  return 0
end

local function run(opts, args)
  local store <close>, project = operate.open(args[1], true)
  local flow = operate.live_flow(store, args[1])
  local version = operate.version(store, flow, opts.version, "trigger")
  local zone = version.document.timezone
  local scheduled = opts.at and operate.instant("trigger", "--at", opts.at, zone) or store:now()
  local new = operate.new_run(store, version, "trigger", scheduled, options.settings("trigger", opts.set),
    operate.some(version.document.nodes, opts))
  if opts.dry then return dry(store, new, opts) end
  return operate.go(store, project, opts, function(runner)
    new.runner = runner
    return store:create_run(new)
  end)
end

return {
  name = "trigger",
  summary = "run the published version of a flow now",
  usage = "FLOW",
  args = { 1, 1 },
  about = [[
Unlike `tidemill run`, which tries the file, this runs what is published, counts for the flow's
concurrency, for flows that wait for it, and sends its hooks. A live `tidemill serve` on the
state store takes the run; without one it runs in this terminal.
FLOW is a flow's name, the start of one, or the path of its file.]],
  options = operate.with_go {
    { name = "at", value = "TIME",
      help = "the scheduled time, \"2026-01-02 03:04:05\" in the flow's zone; default now" },
    { name = "set", value = "NAME=VALUE", many = true, help = "a value for a param or variable; may be repeated" },
    { name = "version", value = "N|latest", help = "another published version" },
    operate.SOME[1], operate.SOME[2], operate.SOME[3],
    { name = "dry", help = "record a success without running anything, so that flows that wait for it go on" },
  },
  run = run,
}
