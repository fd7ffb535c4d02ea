--- `tidemill stop RUN|BACKFILL`: ends a run, or all of a backfill that has not ended.

local operate = require "tidemill.operate"
local text = require "tidemill.text"

-- Ends a run whose runner died, where no serve is there to take it over.
local function end_abandoned(store, run, opts)
  store:reap()
  return #store:servers() == 0
    and store:mark_orphan(run.id, ("stopped %s; its runner was gone"):format(operate.by_whom(opts.reason)), "canceled")
end

local function stop_run(store, run, opts)
  local done = run.state ~= "queued" and end_abandoned(store, run, opts)
    or store:request(run.id, "stop", operate.by_whom(opts.reason))
  if opts.wait and not done then operate.follow(store, run.id, { quiet = true }) end
  local now = store:run(run.id)
  if opts.json then
    operate.print_json { run = run.id, done = done or now.ended_at ~= nil, state = now.state }
  elseif done or now.ended_at then
    print(("run %s is %s"):format(run.id, now.state))
  else
    print(("run %s is to stop: its runner cancels what is running"):format(run.id))
  end
  return opts.wait and not now.ended_at and 130 or 0
end

-- The last ones first, so that none of them begins meanwhile.
local function stop_backfill(store, backfill, opts)
  local stopped, asked, by = 0, 0, operate.by_whom(opts.reason)
  for _, run in ipairs(store:runs { backfill = backfill.id, active = true, limit = 100000 }) do
    local ok, done = pcall(store.request, store, run.id, "stop", by)
    if ok and done then stopped = stopped + 1 elseif ok then asked = asked + 1 end -- not ok: it has just ended
  end
  if opts.json then
    operate.print_json { backfill = backfill.id, stopped = stopped, asked = asked }
  else
    print(("backfill %s: %s stopped before the start%s"):format(backfill.id, text.count(stopped, "run"),
      asked > 0 and (", %s to be cancelled"):format(text.count(asked, "run")) or ""))
  end
  return 0
end

local function run(opts, args)
  local store <close> = operate.open()
  local ok, found = pcall(store.find_run, store, args[1])
  if ok then return stop_run(store, found, opts) end
  local backfill = store:find_backfill(args[1])
  if backfill then return stop_backfill(store, backfill, opts) end
  error(found, 0)
end

return {
  name = "stop",
  summary = "end a run: what is running is cancelled, nothing new starts",
  usage = "RUN|BACKFILL",
  args = { 1, 1 },
  about = [[
Queries are cancelled at their servers, uploads aborted; a node that does not end within ten
seconds is killed. The run ends as canceled; `tidemill restore RUN` goes on with it later.
RUN is an id, its beginning, its last six digits, or "last". Of a BACKFILL all runs are stopped.]],
  options = {
    { name = "wait", short = "w", help = "return when the run has ended" },
    { name = "reason", value = "TEXT", help = "shown by why" },
    { name = "json", help = "print JSON" },
  },
  run = run,
}
