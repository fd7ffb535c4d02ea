--- Every policy of a flow with every other: on_error x concurrency x missed, and the record each leaves.
---
--- One story for all 27. A flow is due every 10 minutes. Its node "bad" fails after a minute, while
--- "slow" needs 15. The scheduler fires at 10 and 20 minutes, is down until 70:30, and finds 30, 40,
--- 50 and 60 late and 70 in time; the policy's window reaches back to 45. The runner is up all the
--- time.

local errors = require "tidemill.errors"
local lu = require "luaunit"
local sched = require "tests.support.sched"
local scheduler = require "tidemill.scheduler"
local world = require "tests.support.world"

local EPOCH = 1700000000000 -- of tests/support/world.lua
local MINUTE = 60000

local NODES = {
  { name = "bad", kind = "lua", after = {} }, { name = "slow", kind = "lua", after = {} },
  { name = "behind bad", kind = "lua", after = { "bad" } }, { name = "behind slow", kind = "lua", after = { "slow" } },
}

-- What on_error makes of the nodes of a run, and of its length.
local ON_ERROR = {
  complete_running = { nodes = { bad = "failed", slow = "success", ["behind bad"] = "skipped",
    ["behind slow"] = "skipped" }, minutes = 15, says = "on_error is complete_running" },
  stop = { nodes = { bad = "failed", slow = "canceled", ["behind bad"] = "skipped", ["behind slow"] = "skipped" },
    minutes = 1, says = "on_error is stop" },
  continue = { nodes = { bad = "failed", slow = "success", ["behind bad"] = "skipped", ["behind slow"] = "success" },
    minutes = 15, says = "upstream node 'bad' failed" },
}
local CONCURRENCY = { "skip", "queue", "parallel" }
-- What missed makes of 30 to 70.
local MISSED = {
  skip = "30 missed, 40 missed, 50 missed, 60 missed, 70 run",
  latest = "30 missed, 40 missed, 50 superseded, 60 superseded, 70 run",
  all = "30 missed, 40 missed, 50 run, 60 run, 70 run",
}

local function minutes(ms) return (ms - EPOCH) // MINUTE end

-- Rows as "10 run, 20 skipped".
local function shown(rows, key)
  local out = {}
  for i, row in ipairs(rows) do out[i] = ("%d %s"):format(minutes(row[key]), row.state) end
  return table.concat(out, ", ")
end

-- Most runs of the flow at one time.
local function most_at_once(runs)
  local most = 0
  for _, one in ipairs(runs) do
    local n = 0
    for _, other in ipairs(runs) do
      if other.started_at and one.started_at and other.started_at <= one.started_at
        and other.ended_at > one.started_at then n = n + 1 end
    end
    most = math.max(most, n)
  end
  return most
end

local function play(on_error, concurrency, missed)
  local w <close> = world.new()
  w.script = { bad = function() return { after = MINUTE, error = errors.new("sql", "no such table") } end,
    slow = function() return { after = 15 * MINUTE, ok = true } end }
  sched.publish(w.store, "f", { kind = "every", every_s = 600, anchor_ms = EPOCH }, { concurrency = concurrency,
    missed = { policy = missed, window_s = 1530 }, on_error = on_error, timezone = "UTC" }, NODES)
  local one, host = scheduler.new { store = w.store }, w:runner()
  for _, at in ipairs { 10 * MINUTE, 20 * MINUTE, 70 * MINUTE + 30000 } do
    w:go(at)
    one:step(EPOCH + at)
    host.runner:poke()
  end
  w:go(200 * MINUTE)
  local db = w.store.db
  local record = {
    slots = shown(db:query "SELECT * FROM slots ORDER BY slot_at", "slot_at"),
    runs = shown(db:query "SELECT * FROM runs ORDER BY scheduled_at", "scheduled_at"),
    most = most_at_once(db:query "SELECT * FROM runs WHERE state <> 'skipped'"), nodes = {}, decisions = {}, why = {} }
  for i, run in ipairs(db:query "SELECT id, state, message FROM runs WHERE state <> 'skipped' ORDER BY scheduled_at") do
    record.nodes[i] = w:states(run.id)
    lu.assertStrContains(run.message, "node 'bad' failed")
  end
  for _, run in ipairs(db:query "SELECT id FROM runs ORDER BY scheduled_at") do
    record.decisions[#record.decisions + 1] = w:decisions(run.id)
  end
  for _, slot in ipairs(db:query "SELECT state, reason FROM slots ORDER BY slot_at") do
    record.why[#record.why + 1] = slot.reason or ""
  end
  return record
end

local function runs_of(slots)
  local out = {}
  for at, state in slots:gmatch "(%d+) (%a+)" do
    if state == "run" then out[#out + 1] = at .. " failed" end
    if state == "skipped" then out[#out + 1] = at .. " skipped" end
  end
  return table.concat(out, ", ")
end

TestPolicies = {}

local function check(on_error, concurrency, missed)
  local rule = ON_ERROR[on_error]
  local second = concurrency == "skip" and rule.minutes > 10 and "skipped" or "run"
  local slots = ("10 run, 20 %s, %s"):format(second, MISSED[missed])
  local record = play(on_error, concurrency, missed)
  lu.assertEquals(record.slots, slots)
  lu.assertEquals(record.runs, runs_of(slots))
  for _, nodes in ipairs(record.nodes) do lu.assertEquals(nodes, rule.nodes) end
  -- runs overlap where that is allowed and they are long or come together
  local overlap = concurrency == "parallel" and (missed == "all" and 3 or rule.minutes > 10 and 2) or 1
  lu.assertEquals(record.most, overlap)
  -- why
  lu.assertStrContains(record.decisions[1], rule.says)
  if second == "skipped" then
    lu.assertStrContains(record.decisions[2], 'skip: run 2')
    lu.assertStrContains(record.why[2], 'had not ended; concurrency is "skip"')
  end
  lu.assertStrContains(record.why[3], missed == "skip" and 'missed is "skip"' or "the window of missed is 25m 30s")
  if missed == "latest" then lu.assertStrContains(record.why[6], 'missed is "latest"') end
  if missed == "all" then
    lu.assertStrContains(record.why[6], 'missed is "all"')
    lu.assertStrContains(record.decisions[4], 'catch up: the scheduler came')
  end
  lu.assertEquals(record.why[7], "")
end

for on_error in pairs(ON_ERROR) do
  for _, concurrency in ipairs(CONCURRENCY) do
    for missed in pairs(MISSED) do
      TestPolicies[("test_%s_%s_%s"):format(on_error, concurrency, missed)] = function()
        check(on_error, concurrency, missed)
      end
    end
  end
end

os.exit(lu.LuaUnit.run())
