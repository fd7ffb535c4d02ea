--- `tidemill sweep LOCATION`: removes what failed extracts left in a store.

local errors = require "tidemill.errors"
local launch = require "tidemill.launch"
local names = require "tidemill.manifest.names"
local operate = require "tidemill.operate"
local project = require "tidemill.project"
local signal = require "tidemill.signal"
local sweep = require "tidemill.sweep"
local text = require "tidemill.text"
local units = require "tidemill.units"

local ENDED = { success = true, skipped = true }
local MAY_COME_BACK = { failed = true, canceled = true }

-- What the state store knows of an attempt: whether it is over.
local function judge_of(store)
  local runs = {} -- the last one asked for
  return function(name)
    if runs.id ~= name.run then runs.id, runs.row = name.run, store:run(name.run) end
    local run = runs.row
    if not run then return nil end
    if ENDED[run.state] then return true end
    if MAY_COME_BACK[run.state] then return nil, ("its run %s and may be restored"):format(
      run.state == "failed" and "failed" or "was canceled") end
    for _, node in ipairs(store:nodes(run.id)) do
      if names.slug(node.node) == name.slug and node.state == "success" then return true end
    end
    return false, ("its run is %s"):format(run.state)
  end
end

-- "2 objects (3.40 kB)", "1 unfinished upload"
local function counted(of)
  local parts = {}
  if of.objects > 0 then
    parts[1] = ("%s (%s)"):format(text.count(of.objects, "object"), units.show_size(of.bytes))
  end
  if of.uploads > 0 then parts[#parts + 1] = text.count(of.uploads, "unfinished upload") end
  return parts
end

local function line_of(left, dry_run)
  local parts = counted(left)
  if left.replaced then parts[#parts + 1] = "all that it committed" end
  local verb = not left.removed and "kept" or dry_run and "would" or "removed"
  return ("%-7s %s%s, run %s, attempt %d: %s%s"):format(verb, left.folder, left.node, left.run, left.attempt,
    table.concat(parts, ", "), left.reason and ("; %s"):format(left.reason) or "")
end

local function summary(total, dry_run)
  local parts = counted(total)
  return ("%s: %s"):format(dry_run and "would remove" or "removed", #parts > 0 and table.concat(parts, ", ")
    or "nothing")
end

local function milliseconds(option, value)
  local seconds = units.duration(value)
  if not seconds then
    errors.usage(("sweep: --%s does not understand '%s'"):format(option, value), "write it like 1d or 12h")
  end
  return math.floor(seconds * 1000)
end

local function run(opts, args)
  local older_ms = milliseconds("older", opts.older)
  local replaced_ms = opts.replaced and milliseconds("replaced", opts.replaced)
  local connection, path = sweep.location(args[1])
  local found = project.open()
  local store <close> = found:store(connection)
  local state <close> = launch.store(found)
  local total = { objects = 0, bytes = 0, uploads = 0, kept = 0, attempts = {} }
  sweep.place(store, { path = path, older_ms = older_ms, replaced_ms = replaced_ms, now_ms = signal.wall(),
    dry_run = opts.dry_run, over = judge_of(state),
    tell = function(left)
      if left.removed then
        for _, name in ipairs { "objects", "bytes", "uploads" } do total[name] = total[name] + left[name] end
      else
        total.kept = total.kept + 1
      end
      total.unreadable = total.unreadable or left.unreadable
      if opts.json then table.insert(total.attempts, left) else print(line_of(left, opts.dry_run)) end
    end })
  if opts.json then
    require "json".array(total.attempts)
    total.dry_run, total.unreadable = opts.dry_run or false, total.unreadable or false
    operate.print_json(total)
  else
    print(summary(total, opts.dry_run))
  end
  return total.unreadable and 1 or 0
end

return {
  name = "sweep",
  summary = "remove what failed extracts left in an object store",
  usage = "LOCATION",
  args = { 1, 1 },
  about = [[
LOCATION is "connection:path/", or "connection:" for all of a store; folders below it are swept as
well. An extract that is killed leaves objects that no manifest lists, and unfinished uploads. The
next attempt of the node removes them; this command removes what is left where none follows.

Removed is only what carries a name that extracts give, is listed by no manifest of its folder, and is
of an attempt that is over: its run ended well, says the state store of the project, and what it wrote
is older than an hour; or, where the run failed and may be restored, or the store does not know it,
everything that the attempt wrote is older than --older. A mark is put in the place of its manifest
first, so that an attempt that sleeps cannot commit any more. What manifests list stays, older data of
the same place too, and so do all objects of other programs.

--replaced removes data as well, for folders into which extracts put everything anew each time: what is
older than TIME, but never the newest of a folder, nor what a run that still goes on has extracted. If
a run is restored after that, its loads do not find what it had extracted.

The exit code is 1 if something was kept because a manifest is unusable.]],
  options = {
    { name = "older", value = "TIME", default = "1d", help = "how old it must be; one hour if its run ended well" },
    { name = "replaced", value = "TIME", help = "also remove replaced data that is older" },
    { name = "dry-run", short = "n", help = "print what would go" },
    { name = "json", help = "print JSON" },
  },
  run = run,
}
