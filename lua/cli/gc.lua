--- `tidemill gc`: forgets runs, logs and ledger rows of long ago.

local errors = require "tidemill.errors"
local operate = require "tidemill.operate"
local suggest = require "tidemill.suggest"
local text = require "tidemill.text"
local units = require "tidemill.units"

local NAMES = { { "runs", "run" }, { "slots", "slot" }, { "events", "event" }, { "runners", "runner" },
  { "versions", "version" }, { "sources", "source" } }

local function run(opts)
  local keep = units.duration(opts.keep)
  if not keep then
    errors.usage(("gc: --keep does not understand '%s'"):format(opts.keep), "write it like 90d or 12h")
  end
  local store <close> = operate.open()
  local counts = store:gc { keep_ms = math.floor(keep * 1000), dry_run = opts.dry_run }
  if opts.json then
    counts.dry_run = opts.dry_run or false
    operate.print_json(counts)
    return 0
  end
  local parts = {}
  for _, one in ipairs(NAMES) do
    if (counts[one[1]] or 0) > 0 then parts[#parts + 1] = text.count(counts[one[1]], one[2]) end
    counts[one[1]] = nil
  end
  for _, name in ipairs(suggest.keys(counts)) do
    if counts[name] ~= 0 then parts[#parts + 1] = ("%s %s"):format(counts[name], name) end
  end
  print(("%s: %s"):format(opts.dry_run and "would remove" or "removed", #parts > 0 and table.concat(parts, ", ")
    or "nothing"))
  return 0
end

return {
  name = "gc",
  summary = "forget runs, logs and ledger rows of long ago",
  about = [[
Removes what ended before now minus --keep: runs with their nodes, attempts, outputs, logs and
decisions, slots, events, runners, then old versions and sources that nothing refers to. Of each
flow the live version and the five newest stay. Runs that are queued or running are never removed.]],
  options = {
    { name = "keep", value = "TIME", default = "90d", help = "how much history stays" },
    { name = "dry-run", short = "n", help = "count only" },
    { name = "json", help = "print JSON" },
  },
  run = run,
}
