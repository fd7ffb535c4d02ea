--- `tidemill stop RUN`: ends a run.

local operate = require "tidemill.operate"

local function run(opts, args)
  local store <close> = operate.open()
  local found = store:find_run(args[1])
  local done = store:request(found.id, "stop")
  local code = 0
  if opts.wait and not done then code = operate.follow(store, found.id, { quiet = true }) and 0 or 1 end
  local now = store:run(found.id)
  if opts.json then
    operate.print_json { run = found.id, done = done, state = now.state }
  elseif done or now.ended_at then
    print(("run %s is %s"):format(found.id, now.state))
  else
    print(("run %s is to stop: its runner cancels what is running"):format(found.id))
  end
  return code
end

return {
  name = "stop",
  summary = "end a run: what is running is cancelled, nothing new starts",
  usage = "RUN",
  args = { 1, 1 },
  about = [[
Queries are cancelled at their servers, uploads aborted; a node that does not end within ten
seconds is killed. The run ends as canceled; `tidemill restore RUN` goes on with it later.
RUN is an id, its beginning, its last six digits, or "last".]],
  options = {
    { name = "wait", help = "return when the run has ended" },
    { name = "json", help = "print JSON" },
  },
  run = run,
}
