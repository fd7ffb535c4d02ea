--- A process beside others on one store: claims runs until there are none, ends them, prints
--- their ids. Arguments: the store, how many to claim at once, places of the pool that they
--- share (default 100000). Fails if it sees two runs of a flow with limited concurrency running, or
--- more attempts in the pool than there are places.

local state = require "tidemill.state"

local store <close> = state.open(arg[1])
local limit, places = tonumber(arg[2]), tonumber(arg[3] or 100000)
local runner = store:register_runner { kind = "serve", lease_ms = 60000 }
while true do
  local list = store:claim_runs { runner = runner, limit = limit }
  for _, run in ipairs(list) do
    if run.concurrency ~= "parallel" then
      assert(store.db:row("SELECT count(*) AS n FROM runs WHERE flow = ? AND state = 'running'", run.flow).n == 1)
    end
    if run.nodes[1].state ~= "success" then -- else a lost runner did it
      local attempt = run.nodes[1].attempts + 1
      while not store:begin_attempt(run.id, "a", attempt, { pool = "p", limit = places }) do
        require "proc".poll({}, 0.002)
      end
      assert(store.db:row("SELECT count(*) AS n FROM attempts WHERE pool = 'p' AND state = 'running'").n <= places)
      store:end_attempt(run.id, "a", attempt, { state = "success", node_state = "success" })
    end
    store:end_run(run.id, { state = "success" })
    print(run.id)
  end
  if #list == 0 and not store.db:row "SELECT 1 AS one FROM runs WHERE state = 'queued' LIMIT 1" then break end
end
