--- `tidemill unpublish FLOW`: takes a flow off its schedule.

local operate = require "tidemill.operate"

local function unpublish(store, flow, opts)
  local changed = store:unpublish(flow.flow, operate.by(), opts.reason)
  if opts.json then
    operate.print_json { flow = flow.flow, changed = changed, before = flow.version_no }
  elseif changed then
    print(("flow '%s' is unpublished: nothing of it is scheduled; its versions and runs stay"):format(flow.flow))
  else
    print(("flow '%s' is not published"):format(flow.flow))
  end
end

local function run(opts, args)
  local store <close> = operate.open(args[1])
  local flows = {}
  for i, word in ipairs(args) do flows[i] = operate.flow(store, word) end
  for _, flow in ipairs(flows) do unpublish(store, flow, opts) end
  return 0
end

return {
  name = "unpublish",
  summary = "take a flow off its schedule; its versions and runs stay",
  usage = "FLOW...",
  args = { 1, nil },
  about = [[
Runs that are queued or running go on. `tidemill publish` or `tidemill rollback FLOW N` bring the
flow back.]],
  options = {
    { name = "reason", value = "TEXT", help = "kept in the flow's history" },
    { name = "json", help = "print JSON" },
  },
  run = run,
}
