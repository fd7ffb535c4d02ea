--- `tidemill publish FLOW.lua`: freezes a version; the schedule runs that version.

local calendar = require "tidemill.calendar"
local changes = require "tidemill.changes"
local document = require "tidemill.document"
local launch = require "tidemill.launch"
local operate = require "tidemill.operate"
local options = require "tidemill.cli.options"

local function side_of(store, row)
  if not row or not row.hash then return nil end
  local source = store:source(row.hash)
  return { document = source.document, sources = source.sources }
end

local function report(store, doc, result, found, scheduled)
  local schedule = scheduled and doc.schedule or nil
  local before = result.before
  local out = {}
  if not result.changed then
    out[1] = ("flow '%s': nothing changed, version %d is live"):format(doc.flow, result.number)
  else
    out[1] = ("published flow '%s' as version %d"):format(doc.flow, result.number)
  end
  if found then
    out[#out + 1] = ("changes from version %d:"):format(before.version_no)
    table.move(changes.lines(found), 1, #changes.lines(found), #out + 1, out)
  end
  out[#out + 1] = ("schedule: %s%s"):format(calendar.describe(doc.schedule, doc.timezone),
    doc.schedule and not scheduled and ", not enabled" or "")
  local lines = operate.firings(schedule, doc.timezone, store:now())
  if #lines > 0 then out[#out + 1] = ("next firings (%s):"):format(schedule.timezone or doc.timezone) end
  table.move(lines, 1, #lines, #out + 1, out)
  if before and before.paused_at then
    out[#out + 1] = ("the flow is paused (by %s, since %s): tidemill resume %s"):format(before.paused_by,
      calendar.show(before.paused_at, doc.timezone), operate.quoted(doc.flow))
  end
  if before and before.version_no and before.file ~= doc.file then
    out[#out + 1] = ("it was published from %s before"):format(before.file)
  end
  operate.print_lines(out)
  if schedule then operate.warn_unserved(store) end
end

local function publish(opts, word)
  local path = operate.path(word) or word
  local model = launch.load(path)
  for _, warning in ipairs(model.warnings) do
    io.stderr:write(("%s:%d: warning: %s\n"):format(warning.file, warning.line, warning.message))
  end
  local store <close> = launch.store(model.project)
  local doc, sources = document.of(model), document.sources(model)
  local scheduled = not opts.no_schedule
  local hash = document.hash(doc, sources)
  local result = store:publish { flow = model.name, hash = hash, document = doc, sources = sources, by = operate.by(),
    comment = opts.comment, scheduled = scheduled }
  local before = result.changed and side_of(store, result.before)
  local found = before and changes.between(before, { document = doc, sources = sources, model = model }) or nil
  if opts.json then
    local json = require "json"
    local _, times = operate.firings(scheduled and doc.schedule or nil, doc.timezone, store:now())
    operate.print_json { flow = model.name, version = result.number, changed = result.changed,
      hash = hash, before = result.before and result.before.version_no,
      paused = result.before ~= nil and result.before.paused_at ~= nil, timezone = doc.timezone,
      changes = found and changes.json(found), next = json.array(times) }
  else
    report(store, doc, result, found, scheduled)
  end
end

-- Of several files those that are good are published.
local function run(opts, args)
  return options.each(args, function(word, i)
    if i > 1 and not opts.json then print() end
    publish(opts, word)
  end)
end

return {
  name = "publish",
  summary = "check a flow, freeze it as a version, enable its schedule",
  usage = "FLOW.lua...",
  args = { 1, nil },
  about = [[
The file is stored with every Lua file that it requires; scheduled runs use what was published
last, whatever becomes of the files. Prints what changed from the live version, node by node,
and the next five firing times. A flow that is live as it stands is left alone.

What the schedule missed while no runner served it stays due under the new version if the
schedule is the same; if it is another one, the old one's open times are recorded as superseded.]],
  options = {
    { name = "comment", short = "m", value = "TEXT", help = "what this version is for" },
    { name = "no-schedule", help = "publish without enabling the schedule" },
    { name = "json", help = "print JSON; times are milliseconds since 1970" },
  },
  run = run,
}
