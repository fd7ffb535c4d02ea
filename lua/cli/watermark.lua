--- `tidemill watermark FLOW [NODE]`: how far the increments of a flow have come, and what else its nodes
--- keep from run to run; sets it, resets it.

local calendar = require "tidemill.calendar"
local errors = require "tidemill.errors"
local json = require "json"
local operate = require "tidemill.operate"
local progress = require "tidemill.progress"
local suggest = require "tidemill.suggest"
local time = require "time"
local watermark = require "tidemill.watermark"

local NAMES = { "watermark", "columns" }
local HEADING = { { "NODE" }, { "FACT" }, { "VALUE" }, { "SAVED" }, { "RUN" } }

-- The flow that a word means, published or not; its nodes, if they are known, and its zone.
local function flow_of(store, word)
  if operate.path(word) then
    local model = require("tidemill.launch").load(word)
    return model.name, model.nodes, model.timezone
  end
  local row = store:flow(word)
  if not row then
    for _, name in ipairs(store:flows_with_facts()) do
      if name == word then return word, nil, "UTC" end
    end
    row = operate.flow(store, word)
  end
  local document = row.hash and store:document(row.hash)
  return row.flow, document and document.nodes, row.timezone or "UTC"
end

local function check_node(store, flow, nodes, name)
  local known, all = false, {}
  for _, node in ipairs(nodes or {}) do
    if node.kind == "extract" then all[#all + 1] = node.name end
  end
  for _, fact in ipairs(store:facts(flow)) do
    if all[#all] ~= fact.node then all[#all + 1] = fact.node end -- they come by node
  end
  for _, one in ipairs(all) do known = known or one == name end
  if known then return end
  errors.usage(("flow '%s' has no extract '%s'"):format(flow, name), suggest.hint(name, all, "extracts"))
end

-- ---- showing ----

local function value_of(name, text)
  if name == watermark.FACT then
    local ok, kept = pcall(watermark.decode, text)
    return ok and watermark.describe(kept) or kept.message
  end
  local ok, value = pcall(json.decode, text)
  if ok and type(value) == "table" and type(value.columns) == "table" then
    return require("tidemill.text").count(#value.columns, "column")
  end
  return #text > 60 and text:sub(1, 60) .. "..." or text
end

local function is_wanted(one, node) return not node or one.node == node end

local function print_table(facts, zone)
  local rows = {}
  for i, one in ipairs(facts) do
    rows[i] = { one.node, one.name, value_of(one.name, one.value), calendar.show(one.saved_at, zone),
      one.run ~= "" and one.run or "by hand" }
  end
  if #rows > 0 then operate.print_lines(progress.table(HEADING, rows)) else print "nothing is kept" end
end

local OVER = { failed = "failed", canceled = "was canceled", success = "has ended" }

local function print_pending(pending)
  for _, one in ipairs(pending) do
    local state = OVER[one.run_state]
    if one.moment == "delivered" and not state then
      print(("run %s, which is %s, has the window of '%s'"):format(one.run, one.run_state, one.node))
    elseif one.moment == "delivered" and one.value then
      print(("run %s %s; its increment of '%s' was not delivered, as far as is known: tidemill restore %s, "
        .. "or the next run, brings its rows"):format(one.run, state, one.node, one.run))
    end
  end
end

local function show(opts, store, flow, node, zone)
  local facts, pending = {}, {}
  for _, one in ipairs(store:facts(flow)) do
    if is_wanted(one, node) then facts[#facts + 1] = one end
  end
  for _, one in ipairs(store:pending_facts(flow)) do
    if is_wanted(one, node) then pending[#pending + 1] = one end
  end
  if not opts.json then
    print_table(facts, zone)
    return print_pending(pending)
  end
  for _, list in ipairs { facts, pending } do
    for _, one in ipairs(list) do one.value = one.value and json.decode(one.value) end
  end
  operate.print_json { flow = flow, facts = json.array(facts), pending = json.array(pending) }
end

-- ---- changing ----

local function set(store, flow, node, value)
  store:set_fact(flow, node, watermark.FACT, watermark.encode { set = true, low = value, at = time.iso(time.now()) })
  return ("the watermark of '%s' is set: the next run takes the rows above %s"):format(node, value)
end

local AFTER = {
  watermark = "the next run takes all rows, or those from 'since' on",
  columns = "the next run compares its columns with none before",
}

local function reset(store, flow, node, name)
  local changed = store:set_fact(flow, node, name)
  return ("%s of '%s': %s"):format(name, node, changed and "removed, " .. AFTER[name] or "there was nothing")
end

local function run(opts, args)
  local store <close> = operate.open(args[1])
  local flow, nodes, zone = flow_of(store, args[1])
  local node = args[2]
  if node then check_node(store, flow, nodes, node) end
  if opts.set and opts.reset then errors.usage "watermark: --set and --reset do not go together" end
  if not opts.set and not opts.reset then
    show(opts, store, flow, node, zone)
    return 0
  end
  if not node then errors.usage("watermark: which node?", "tidemill watermark FLOW NODE ...") end
  local said = opts.set and set(store, flow, node, opts.set) or reset(store, flow, node, opts.reset)
  if opts.json then show(opts, store, flow, node, zone) else print(said) end
  return 0
end

return {
  name = "watermark",
  summary = "how far the increments of a flow have come; set it, reset it",
  usage = "FLOW [NODE]",
  args = { 1, 2 },
  about = [[
Shows what the extracts of a flow keep from run to run: the watermark of an incremental extract, and the
columns that its source had. A trial run moves them as a scheduled one does.

--set VALUE has the next run take the rows whose column is above VALUE, whatever was taken before; those
after it go on from there. --reset watermark has it take all rows, as the first run did. What the target
has already comes again with that: merge, or remove it there first. --reset columns accepts what the
source is now. Neither can be while a run has the window of the node; an increment that a failed run left
is given up, and that run, if it is restored, makes another.

FLOW is a flow's name, the start of one, or the path of its file.]],
  options = {
    { name = "set", value = "VALUE", help = "the next run takes the rows above VALUE" },
    { name = "reset", value = "FACT", choices = NAMES, help = "forget the watermark, or the columns" },
    { name = "json", help = "print JSON; times are milliseconds since 1970" },
  },
  run = run,
}
