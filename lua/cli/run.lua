--- `tidemill run FLOW.lua`: one trial run now.

local errors = require "tidemill.errors"
local launch = require "tidemill.launch"
local options = require "tidemill.cli.options"
local progress = require "tidemill.progress"
local signal = require "tidemill.signal"

--- The scheduled time that --at names, or now.
local function scheduled_time(text, timezone)
  if not text then return os.time() end
  local ok, instant = pcall(require("time").parse, text, timezone)
  if not ok then
    errors.usage(("run: --at does not understand '%s'"):format(text), "write it like \"2026-01-02 03:04:05\"")
  end
  return instant
end

-- The nodes that --only, --from-node and --without choose; nil: all.
local function some(model, opts)
  if not opts.from_node and not opts.without then return opts.only end
  return require("tidemill.operate").some(require("tidemill.document").of(model).nodes, opts)
end

local function run(opts, args)
  local set = options.settings("run", opts.set)
  local model = launch.load(args[1], { set = set })
  for _, warning in ipairs(model.warnings) do
    io.stderr:write(("%s:%d: warning: %s\n"):format(warning.file, warning.line, warning.message))
  end
  local scheduled = scheduled_time(opts.at, model.timezone)
  local store <close> = launch.store(model.project, true)
  local result, _, ex = launch.run {
    model = model, store = store, scheduled = scheduled, cause = "manual", jobs = opts.jobs, memory = opts.memory,
    only = some(model, opts), set = set, hooks = opts.hooks,
    display = function(id, nodes)
      return progress.new { flow = model.name, run = id, nodes = nodes, json = opts.json, clock = signal.mono,
        wall = signal.wall, timezone = model.timezone }
    end,
  }
  return launch.exit_code(result, ex)
end

return {
  name = "run",
  summary = "one trial run now, with live progress",
  usage = "FLOW.lua",
  args = { 1, 1 },
  about = [[
Runs the file as it stands. Nodes run in dependency order, each attempt in a process of its
own, independent ones at the same time. Time variables are computed from the business time:
--at, or now, minus one day in the flow's time zone.

Ctrl-C cancels what runs (queries are cancelled, uploads aborted); a second one kills it.
Exit code 0: success, 1: the run failed, 2: the flow is invalid, 3: it failed because no
connection could be made, 130: interrupted.]],
  options = {
    { name = "jobs", short = "j", value = "N", type = "integer", min = 1, max = 1000,
      help = "at most N nodes at once (default: the number of cores, at least 2)" },
    { name = "memory", value = "SIZE", type = "size",
      help = "what each node's process may use to move rows (default 96M)" },
    { name = "at", value = "TIME", help = "the scheduled time, \"2026-01-02 03:04:05\" in the flow's zone" },
    { name = "only", value = "NODE", many = true, help = "run this node alone; may be repeated" },
    { name = "from-node", value = "NODE", many = true, help = "run this node and all behind it; may be repeated" },
    { name = "without", value = "NODE", many = true, help = "leave this node out; may be repeated" },
    { name = "set", value = "NAME=VALUE", many = true, help = "another value for a variable; may be repeated" },
    { name = "hooks", help = "send the flow's hooks, as a scheduled run would" },
    { name = "json", help = "print every event as a JSON object on a line" },
  },
  run = run,
}
