--- How fast runs are made, claimed and ended on a state store.
---
---     tidemill exec tests/bench/claim_bench.lua STORE [RUNS] [HISTORY]
---
--- STORE is "sqlite:PATH" or a PostgreSQL URI, empty. One process; RUNS (2000) runs of two
--- nodes each, beside HISTORY (0) runs that have ended. A line for each figure: name, a second.
--- "claims of one run" is a transaction for each, as of a queue's worker that takes single jobs.

local signal = require "tidemill.signal"
local state = require "tidemill.state"

local store <close> = state.open(arg[1])
local count, history = tonumber(arg[2] or 2000), tonumber(arg[3] or 0)
local NODES = { { name = "a", kind = "sql", after = {} }, { name = "b", kind = "sql", after = { "a" } } }

local function make(n, changes)
  local run = { flow = "f", file = "/f.lua", version = "abc", cause = "trigger", scheduled = 0, business = 0,
    timezone = "UTC", nodes = NODES }
  for key, value in pairs(changes or {}) do run[key] = value end
  for from = 1, n, 50 do -- as a scheduler does
    store.db:transaction(function()
      for i = from, math.min(from + 49, n) do
        run.scheduled, run.flow = i, "f" .. i % 100
        store:create_run_in(run)
      end
    end)
  end
end

local function measure(name, n, f)
  local started = signal.mono()
  f()
  print(("%-28s %8.0f"):format(name, n * 1000 / math.max(signal.mono() - started, 1)))
end

local runner = store:register_runner { kind = "serve", lease_ms = 60000 }
store:save_source("abc", { format = 1, nodes = NODES }, {})

local function claim(limit)
  local taken = {}
  repeat
    local list = store:claim_runs { runner = runner, limit = limit }
    table.move(list, 1, #list, #taken + 1, taken)
  until #list == 0
  assert(#taken == count, #taken)
  return taken
end

local function finish(taken)
  for _, run in ipairs(taken) do store:end_run(run.id, { state = "success" }) end
end

if history > 0 then
  make(history, { state = "success" })
  if store.db.dialect == "postgres" then store.db:exec "ANALYZE runs" end
end
measure("runs made", count, function() make(count) end)
local taken
measure("claims of one run", count, function() taken = claim(1) end)
measure("runs ended", count, function() finish(taken) end)
make(count)
measure("claims of 10 runs", count, function() taken = claim(10) end)
finish(taken)
make(count)
measure("claims of 100 runs", count, function() taken = claim(100) end)
measure("attempts begun and ended", count, function()
  for _, run in ipairs(taken) do
    store:begin_attempt(run.id, "a", 1)
    store:attempt_pid(run.id, "a", 1, 4242)
    store:end_attempt(run.id, "a", 1, { state = "success", node_state = "success", rows = 1 })
  end
end)
measure("claims of nothing", 2000, function()
  for _ = 1, 2000 do store:claim_runs { runner = "nobody", limit = 10 } end
end)
