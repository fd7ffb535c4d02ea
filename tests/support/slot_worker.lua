--- A scheduler and a claimer in one, for tests/e2e/slots_test.lua, which kills it as it pleases.
---
---     tidemill exec slot_worker.lua STORE-URL CLOCK-FILE
---
--- The time is what the file says. What is claimed is a success at once. Ends when the file is gone.

local errors = require "tidemill.errors"
local scheduler = require "tidemill.scheduler"
local state = require "tidemill.state"
local time = require "time"

local url, clock_file = arg[1], arg[2]
local now

local function read_clock()
  local f <close> = io.open(clock_file)
  now = f and math.tointeger(tonumber(f:read "a")) or nil
  return now
end

read_clock()
local store = state.open(url, { clock = function() return now end })
local one = scheduler.new { store = store }
-- Its lease outlasts any jump of the clock: only a dead process is taken over.
local me = store:register_runner { kind = "serve", lease_ms = 1 << 50 }
local rounds = 0

local function work()
  local _, fired = one:step(now)
  local runs = store:claim_runs { runner = me, limit = 200 }
  if #runs > 0 then
    store.db:transaction(function()
      for _, run in ipairs(runs) do store:end_run(run.id, { state = "success" }) end
    end)
  end
  if rounds % 50 == 0 then store:reap(me) end
  rounds = rounds + 1
  return fired + #runs
end

while read_clock() do
  local ok, result = pcall(work)
  if not ok then
    io.stderr:write(tostring(errors.from(result)), "\n")
    os.exit(1)
  end
  if result == 0 then time.sleep(0.004) end
end
