--- `tidemill mark RUN success|failed`: gives a run another end, without running anything.

local errors = require "tidemill.errors"
local operate = require "tidemill.operate"
local suggest = require "tidemill.suggest"

local STATES = { "success", "failed" }

local function run(opts, args)
  local state = args[2]
  if state ~= "success" and state ~= "failed" then
    errors.usage(("mark: a run is marked success or failed, not '%s'"):format(state), suggest.hint(state, STATES))
  end
  local store <close> = operate.open()
  local found = store:find_run(args[1])
  if found.state ~= state then store:mark_run(found.id, state, operate.by_whom(opts.reason)) end
  if opts.json then
    operate.print_json { run = found.id, state = state, before = found.state }
  elseif found.state == state then
    print(("run %s is %s already"):format(found.id, state))
  else
    print(("run %s: %s, was %s"):format(found.id, state, found.state))
  end
  return 0
end

return {
  name = "mark",
  summary = "call a run a success or a failure, without running anything",
  usage = "RUN success|failed",
  args = { 2, 2 },
  about = [[
For a run that was mended by hand. A success counts for flows that wait for this one. The
states of its nodes stay. A run that a runner has must be stopped first.
RUN is an id, its beginning, its last six digits, or "last".]],
  options = {
    { name = "reason", value = "TEXT", help = "shown by why" },
    { name = "json", help = "print JSON" },
  },
  run = run,
}
