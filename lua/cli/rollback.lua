--- `tidemill rollback FLOW [N]`: makes an earlier version the live one again.

local calendar = require "tidemill.calendar"
local changes = require "tidemill.changes"
local errors = require "tidemill.errors"
local operate = require "tidemill.operate"

local function run(opts, args)
  local number = args[2] and math.tointeger(tonumber(args[2]:match "^v?(%d+)$"))
  if args[2] and not number then
    errors.usage(("rollback: '%s' is not the number of a version"):format(args[2]),
      ("see 'tidemill versions %s'"):format(operate.quoted(args[1])))
  end
  local store <close> = operate.open(args[1])
  local flow = operate.flow(store, args[1])
  local result = store:rollback(flow.flow, number, operate.by(), opts.reason)
  local doc = result.version.document
  local schedule = store:flow(flow.flow).schedule
  local lines, times = operate.firings(schedule, doc.timezone, store:now())
  local found
  if result.changed and flow.hash then
    local before = store:source(flow.hash)
    found = changes.between({ document = before.document, sources = before.sources },
      { document = doc, sources = result.version.sources })
  end
  if opts.json then
    operate.print_json { flow = flow.flow, version = result.number, changed = result.changed,
      before = flow.version_no, timezone = doc.timezone, next = require("json").array(times),
      changes = found and changes.json(found) }
    return 0
  end
  if not result.changed then
    print(("flow '%s': version %d is live already"):format(flow.flow, result.number))
    return 0
  end
  local out = { ("flow '%s': version %d is live"):format(flow.flow, result.number) }
  if found then
    out[#out + 1] = ("changes from version %d:"):format(flow.version_no)
    table.move(changes.lines(found), 1, #changes.lines(found), #out + 1, out)
  end
  out[#out + 1] = ("schedule: %s%s"):format(calendar.describe(doc.schedule, doc.timezone),
    doc.schedule and not schedule and ", not enabled" or "")
  table.move(lines, 1, #lines, #out + 1, out)
  operate.print_lines(out)
  return 0
end

return {
  name = "rollback",
  summary = "make an earlier version of a flow the live one",
  usage = "FLOW [N]",
  args = { 1, 2 },
  about = [[
N is a version's number; without it, the version that was live before the present one. The
schedule, too, is that of the version. Runs that have begun keep theirs.]],
  options = {
    { name = "reason", value = "TEXT", help = "kept in the flow's history" },
    { name = "json", help = "print JSON; times are milliseconds since 1970" },
  },
  run = run,
}
