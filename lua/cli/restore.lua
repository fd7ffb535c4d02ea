--- `tidemill restore RUN`: a run that ended goes on with what it did not finish.

local document = require "tidemill.document"
local operate = require "tidemill.operate"

-- A run whose runner died, even before it began, has ended with it, where no serve is there to take it over.
local function end_abandoned(store, found)
  if found.ended_at then return found end
  store:reap()
  if #store:servers() > 0 or store:run(found.id).runner then return found end
  if not store:mark_orphan(found.id, "runner died") then store:request(found.id, "stop", operate.by_whom()) end
  return store:run(found.id)
end

local function run(opts, args)
  local store <close>, project = operate.open(nil, true)
  local found = end_abandoned(store, store:find_run(args[1]))
  local version = opts.version and operate.version_of_run(store, found, opts.version, "restore")
  local reason = operate.by_whom(opts.reason)
  return operate.go(store, project, opts, function(runner)
    store.db:transaction(function()
      if version and version.hash ~= found.version and found.ended_at then
        store:change_version_in(found, version, document.only(version.document, (found.settings or {}).only))
      end
      store:restore_run(found.id, nil, reason, runner)
    end)
    return found.id
  end)
end

return {
  name = "restore",
  summary = "go on with a run that ended: its failed, cancelled and skipped nodes",
  usage = "RUN",
  args = { 1, 1 },
  about = [[
What succeeded stays done, with its outputs. The run keeps its id and its business time, and,
unless --version says otherwise, its version, whatever has been published since. A live
`tidemill serve` on the state store takes it; without one it runs in this terminal.
RUN is an id, its beginning, its last six digits, or "last".]],
  options = operate.with_go {
    { name = "version", value = "N|latest", help = "go on with another published version" },
    { name = "reason", value = "TEXT", help = "shown by why" },
  },
  run = run,
}
