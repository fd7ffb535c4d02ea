--- `tidemill rerun RUN`: the same once more, as a run of its own.

local errors = require "tidemill.errors"
local operate = require "tidemill.operate"
local options = require "tidemill.cli.options"

local function check_ended(found)
  if found.ended_at then return end
  errors.raise("conflict", ("run %s has not ended: %s"):format(found.id, found.state),
    "tidemill stop " .. found.id)
end

-- Nodes that count as done: those that succeeded before and are not behind `from`.
local function done_of(store, found, nodes, from)
  if not from then return nil end
  local again, done, outputs = operate.behind(nodes, { from }), {}, store:outputs(found.id)
  for _, node in ipairs(store:nodes(found.id)) do
    if node.state == "success" and not again[node.node] then
      done[node.node] = { outputs = outputs[node.node] }
    end
  end
  return done
end

local function run(opts, args)
  local store <close>, project = operate.open(nil, true)
  local found = store:find_run(args[1])
  check_ended(found)
  local version = operate.version_of_run(store, found, opts.version, "rerun")
  local before, set = found.settings or {}, {}
  for name, value in pairs(before.set or {}) do set[name] = value end
  for name, value in pairs(options.settings("rerun", opts.set)) do set[name] = value end
  local cause = version.number and "rerun" or "manual" -- what repeats a trial is one
  local new = operate.new_run(store, version, cause, found.scheduled_at, set, before.only)
  new.business, new.timezone, new.of_run = found.business_at, found.timezone, found.id
  new.settings.hooks = before.hooks
  new.done = done_of(store, found, new.nodes, opts.from)
  return operate.go(store, project, opts, function(runner)
    new.runner = runner
    return store:create_run(new)
  end)
end

return {
  name = "rerun",
  summary = "run a run again as a new one, from the start or from a node",
  usage = "RUN",
  args = { 1, 1 },
  about = [[
The new run keeps version, scheduled time, business time and settings of the old one. With --from
the node named, what is behind it, and whatever did not succeed run; all other nodes are taken
over as done, with their outputs. A live `tidemill serve` on the state store takes the run;
without one it runs in this terminal.
RUN is an id, its beginning, its last six digits, or "last".]],
  options = operate.with_go {
    { name = "from", value = "NODE", help = "from this node on" },
    { name = "version", value = "N|latest", help = "with another published version" },
    { name = "set", value = "NAME=VALUE", many = true, help = "another value for a variable; may be repeated" },
  },
  run = run,
}
