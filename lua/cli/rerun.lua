--- `tidemill rerun RUN`: the same once more, as a run of its own.

local errors = require "tidemill.errors"
local operate = require "tidemill.operate"
local options = require "tidemill.cli.options"
local suggest = require "tidemill.suggest"

local function check_ended(found)
  if found.ended_at then return end
  error(errors.new("conflict", ("run %s has not ended: %s"):format(found.id, found.state),
    { hint = ("tidemill stop %s"):format(found.id) }), 0)
end

-- The version to run: the original's unless --version says otherwise.
local function version_of(store, found, word)
  if not word then
    local source = store:source(found.version)
    return { document = source.document, hash = found.version, number = found.version_no }
  end
  return operate.version(store, operate.flow(store, found.flow), word, "rerun")
end

-- The node named and all behind it, near and far.
local function behind(nodes, name)
  local names, wanted = {}, { [name] = true }
  for i, node in ipairs(nodes) do names[i] = node.name end
  for i, node in ipairs(nodes) do -- upstream comes first
    for _, up in ipairs(node.after) do
      if wanted[up] then wanted[node.name] = true end
    end
    names[i] = node.name
  end
  for _, known in ipairs(names) do
    if known == name then return wanted end
  end
  errors.usage(("rerun: the flow has no node '%s'"):format(name), suggest.hint(name, names, "nodes"))
end

-- Nodes that count as done: those that succeeded before and are not behind `from`.
local function done_of(store, found, nodes, from)
  if not from then return nil end
  local again, done, outputs = behind(nodes, from), {}, store:outputs(found.id)
  for _, node in ipairs(store:nodes(found.id)) do
    if node.state == "success" and not again[node.node] then
      done[node.node] = { outputs = outputs[node.node] }
    end
  end
  return done
end

local function run(opts, args)
  local store <close>, project = operate.open()
  local found = store:find_run(args[1])
  check_ended(found)
  local version = version_of(store, found, opts.version)
  local before, set = found.settings or {}, {}
  for name, value in pairs(before.set or {}) do set[name] = value end
  for name, value in pairs(options.settings("rerun", opts.set)) do set[name] = value end
  local new = operate.new_run(store, version, "rerun", found.scheduled_at, set)
  new.business, new.timezone, new.of_run = found.business_at, found.timezone, found.id
  new.settings.only, new.settings.hooks = before.only, before.hooks
  new.nodes = operate.nodes(version.document, before.only)
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
