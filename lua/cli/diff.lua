--- `tidemill diff FLOW [A] [B|FILE]`: what differs between two versions, or a version and a file.

local changes = require "tidemill.changes"
local document = require "tidemill.document"
local errors = require "tidemill.errors"
local launch = require "tidemill.launch"
local operate = require "tidemill.operate"
local suggest = require "tidemill.suggest"
local textdiff = require "tidemill.textdiff"

local function of_version(store, flow, number)
  local version = store:version(flow.flow, number)
  return { document = version.document, sources = version.sources, label = ("version %d"):format(version.number) }
end

local function of_file(path)
  local model = launch.load(operate.path(path) or path)
  return { document = document.of(model), sources = document.sources(model), model = model, label = path }
end

local function side(store, flow, word)
  local number = word:match "^v?(%d+)$"
  if number then return of_version(store, flow, math.tointeger(number)) end
  if not operate.path(word) then
    errors.usage(("diff: '%s' is neither a version nor a file"):format(word),
      ("see 'tidemill versions %s'"):format(operate.quoted(flow.flow)))
  end
  return of_file(word)
end

-- The two sides: the live version to the file, A to the live version, or A to B.
local function sides(store, flow, args)
  local live = flow.version_no or store:version(flow.flow).number
  if args[3] then return side(store, flow, args[2]), side(store, flow, args[3]) end
  if args[2] and tonumber(args[2]) and math.tointeger(tonumber(args[2])) ~= live then
    return side(store, flow, args[2]), of_version(store, flow, live)
  end
  local file = args[2] and not tonumber(args[2]) and args[2] or flow.file
  return of_version(store, flow, live), side(store, flow, file)
end

-- The unified diffs of all files, the flow's own first.
local function diff_of(a, b)
  local text_a, stored_a = changes.texts(a.sources)
  local text_b, stored_b = changes.texts(b.sources)
  local out, modules = {}, {}
  local function add(old, new, path)
    out[#out + 1] = textdiff.unified(old or "", new or "", old and ("%s (%s)"):format(path, a.label) or "/dev/null",
      new and ("%s (%s)"):format(path, b.label) or "/dev/null")
  end
  add(text_a, text_b, b.document.file:match "[^/]*$")
  for module in pairs(stored_a) do modules[module] = true end
  for module in pairs(stored_b) do modules[module] = true end
  for _, module in ipairs(suggest.keys(modules)) do
    local old, new = stored_a[module], stored_b[module]
    add(old and old.text, new and new.text, module:gsub("%.", "/") .. ".lua")
  end
  return table.concat(out)
end

local function run(opts, args)
  local store <close> = operate.open(args[1])
  local flow = operate.flow(store, args[1])
  local a, b = sides(store, flow, args)
  local found, diff = changes.between(a, b), diff_of(a, b)
  if opts.json then
    operate.print_json { flow = flow.flow, from = a.label, to = b.label, changes = changes.json(found),
      diff = require("tidemill.text").clean(diff) }
  elseif diff == "" and changes.none(found) then
    io.stdout:write(("flow '%s': %s and %s are the same\n"):format(flow.flow, a.label, b.label))
  else
    io.stdout:write(("flow '%s': %s -> %s\n"):format(flow.flow, a.label, b.label),
      table.concat(changes.lines(found), "\n"), "\n")
    if not opts.brief and diff ~= "" then io.stdout:write("\n", diff) end
  end
  return 0
end

return {
  name = "diff",
  summary = "what differs between two versions of a flow, or a version and a file",
  usage = "FLOW [A] [B|FILE]",
  args = { 1, 3 },
  about = [[
Node by node, then line by line. Without A and B: the live version against the flow's file; with
A alone: version A against the live one; FILE alone: the live version against it.
FLOW is a flow's name, the start of one, or the path of its file.]],
  options = {
    { name = "brief", short = "q", help = "node by node only" },
    { name = "json", help = "print JSON" },
  },
  run = run,
}
