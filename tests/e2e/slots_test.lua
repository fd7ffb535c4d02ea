-- needs: pg
-- takes: 28
--- The ledger under strain: a year of cron in seconds, three processes on one store that are
--- killed at random, a clock that stands, jumps and goes back. Then the ledger is compared with
--- firing times found by looking at each minute of the year.
---
--- TM_SCALE=full has 100,000 slots on each store, else there are 20,000.

local lu = require "luaunit"
local patience = require "tests.support.patience"
local proc = require "proc"
local sched = require "tests.support.sched"
local signal = require "tidemill.signal"
local state = require "tidemill.state"
local time = require "time"

local FULL = os.getenv "TM_SCALE" == "full"
local MINUTE, HOUR, DAY = 60000, 3600000, 86400000
local FROM, TO = sched.ms "2024-02-15", sched.ms(FULL and "2025-01-10" or "2024-04-15")
local WORKERS = 3

--- Each flow: what it is to a scheduler, and to one who looks at a clock on the wall. With
--- `gap_hour`, the time is made up for after the hour that a clock change skips, and
--- counts once where it comes twice.
local flows = {
  quarter = { cron = "0 */15 * * * ?", zone = "Europe/Berlin", dst = "each", concurrency = "parallel",
    missed = { policy = "all" }, fires = function(c) return c.min % 15 == 0 end },
  ten = { cron = "0 0/10 * * * ?", zone = "America/New_York", dst = "once", concurrency = "parallel",
    missed = { policy = "all" }, fires = function(c) return c.min % 10 == 0 end },
  hourly = { cron = "0 0 * * * ?", zone = "Australia/Lord_Howe", dst = "each", concurrency = "skip",
    missed = { policy = "skip" }, fires = function(c) return c.min == 0 end },
  half = { cron = "0 5,35 * * * ?", zone = "Asia/Kathmandu", dst = "once", concurrency = "skip",
    missed = { policy = "latest" }, fires = function(c) return c.min % 30 == 5 end },
  berlin = { cron = "0 30 2 * * ?", zone = "Europe/Berlin", dst = "once", concurrency = "queue",
    missed = { policy = "all", window_s = 86400 }, fires = function(c) return c.hour == 2 and c.min == 30 end, made_up = 3 },
  new_york = { cron = "0 30 1 * * ?", zone = "America/New_York", dst = "once", concurrency = "skip",
    missed = { policy = "latest" }, fires = function(c) return c.hour == 1 and c.min == 30 end },
  month_end = { cron = "0 0 23 L * ?", zone = "Asia/Shanghai", dst = "once", concurrency = "skip",
    missed = { policy = "all" }, fires = function(c, next_day) return c.hour == 23 and c.min == 0 and next_day == 1 end },
  leap = { cron = "0 0 0 29 2 ?", zone = "Asia/Shanghai", dst = "once", concurrency = "skip",
    missed = { policy = "all" }, fires = function(c) return c.month == 2 and c.day == 29 and c.hour == 0 and c.min == 0 end },
  every = { every_s = 37 * 60, concurrency = "parallel", missed = { policy = "all" } },
}

-- One who looks at the clock each minute.
local function looked_up(flow)
  local times, last_day, seen = {}, nil, nil
  if flow.every_s then
    local step = flow.every_s * 1000
    for t = (FROM // step + 1) * step, TO, step do times[#times + 1] = t end
    return times
  end
  local before = time.civil(FROM // 1000, flow.zone)
  for t = FROM + MINUTE, TO, MINUTE do
    local c = time.civil(t // 1000, flow.zone)
    local next_day = c.hour == 23 and time.civil(t // 1000 + 86400, flow.zone).day or nil
    local skipped = flow.made_up and c.hour == flow.made_up and before.hour < flow.made_up - 1 and c.min == 0
    if flow.fires(c, next_day) or skipped then
      local day = ("%d-%d"):format(c.month, c.day)
      local again = flow.dst == "once" and not flow.cron:find "[*/]%S* %* %* %?" and last_day == day and seen == c.hour
      if not again then times[#times + 1] = t end
      last_day, seen = day, c.hour
    end
    before = c
  end
  return times
end

local function schedule_of(flow)
  if flow.every_s then return { kind = "every", every_s = flow.every_s, anchor_ms = 0 } end
  return { kind = "cron", cron = flow.cron, timezone = flow.zone, dst = flow.dst }
end

-- ---- the strain ----

local function write_clock(file, now)
  local f <close> = assert(io.open(file .. ".new", "w"))
  f:write(now)
  f:close()
  assert(os.rename(file .. ".new", file))
end

local random = math.random
math.randomseed(20240229)

local function start(url, clock)
  return proc.spawn { cmd = { os.getenv "TM_BIN", "exec", "tests/support/slot_worker.lua", url, clock },
    stderr = "pipe" }
end

-- Kills one every second or so, and at each twelfth of the year if that is sooner. One that ended by itself
-- has failed.
local function look_after(workers, url, clock, kills, now)
  for i, worker in ipairs(workers) do
    local status = worker:wait(0)
    if status then lu.assertEquals(status.signal, "SIGKILL", worker:read(2, 0) or "") end
    if status then workers[i] = start(url, clock) end
  end
  if signal.mono() >= kills.at or now >= kills.from then
    workers[random(WORKERS)]:kill "KILL"
    kills.count, kills.at, kills.from = kills.count + 1, signal.mono() + random(100, 2000), now + (TO - FROM) // 12
  end
end

local function settled(store, now)
  local row = store.db:row [[SELECT (SELECT min(next_at) FROM flows) AS at,
    (SELECT count(*) FROM runs WHERE state = 'queued') AS queued]]
  return (not row.at or row.at > now) and row.queued < 300
end

local function at_rest(store)
  return store.db:row("SELECT count(*) AS n FROM runs WHERE state IN ('queued', 'running', 'paused')").n == 0
end

-- Takes the clock through the year: mostly on, by steps of any length, at times back, and at
-- times without waiting for the schedulers.
local function drive(store, url, clock)
  local workers, kills, now = {}, { count = 0, at = signal.mono() + 200, from = FROM }, FROM
  for i = 1, WORKERS do workers[i] = start(url, clock) end
  while now < TO do
    local step = random(20) == 1 and random(2 * DAY) or random(4) == 1 and random(2 * MINUTE) or random(6 * HOUR)
    now = math.min(now + step, TO)
    write_clock(clock, now)
    if random(50) == 1 then write_clock(clock, math.max(now - random(3 * DAY), FROM)) end
    if random(10) > 1 then
      repeat
        look_after(workers, url, clock, kills, now)
        time.sleep(0.004)
      until settled(store, now) or random(200) == 1
    end
    write_clock(clock, now)
  end
  local ends = signal.mono() + 60000 * patience
  while not (settled(store, now) and at_rest(store)) do
    look_after(workers, url, clock, kills, now)
    lu.assertTrue(signal.mono() < ends, "runs do not end")
    time.sleep(0.02)
  end
  os.remove(clock)
  for _, worker in ipairs(workers) do
    worker:wait(60)
    worker:close()
  end
  return kills.count
end

-- ---- the comparison ----

-- The ledger of a flow, rows that stand for many slots written out.
local function written_out(store, name, expected)
  local times, i = {}, 1
  for _, row in ipairs(store.db:query("SELECT slot_at, first_at, slot_count FROM slots WHERE flow = ? ORDER BY slot_at",
    name)) do
    if row.slot_count == 1 then
      times[#times + 1] = row.slot_at
    else
      while expected[i] and expected[i] < row.first_at do i = i + 1 end
      lu.assertEquals({ expected[i], expected[i + row.slot_count - 1] }, { row.first_at, row.slot_at })
      table.move(expected, i, i + row.slot_count - 1, #times + 1, times)
    end
  end
  return times
end

local function count(store, sql) return store.db:row("SELECT count(*) AS n FROM " .. sql).n end

local function check_runs(store)
  lu.assertEquals(count(store, "(SELECT run_id FROM slots WHERE run_id IS NOT NULL GROUP BY run_id HAVING count(*) > 1) x"), 0)
  lu.assertEquals(count(store, "runs WHERE id NOT IN (SELECT run_id FROM slots WHERE run_id IS NOT NULL)"), 0)
  lu.assertEquals(count(store, [[slots s WHERE state = 'run' AND NOT EXISTS (SELECT 1 FROM runs r
    WHERE r.id = s.run_id AND r.slot_at = s.slot_at AND r.flow = s.flow AND r.state = 'success')]]), 0)
  lu.assertEquals(count(store, [[slots s WHERE state = 'skipped' AND NOT EXISTS (SELECT 1 FROM runs r
    WHERE r.id = s.run_id AND r.slot_at = s.slot_at AND r.flow = s.flow AND r.state = 'skipped')]]), 0)
  lu.assertEquals(count(store, "slots WHERE state NOT IN ('run', 'skipped') AND run_id IS NOT NULL"), 0)
  -- no two runs of one flow at once, where the flow forbids it
  lu.assertEquals(count(store, [[runs a JOIN runs b ON a.flow = b.flow AND a.id <> b.id AND a.state = 'success'
    AND b.state = 'success' AND a.concurrency <> 'parallel' AND a.claimed_at < b.claimed_at
    AND b.claimed_at < a.ended_at WHERE a.flow IN ('hourly', 'berlin', 'half')]]), 0)
end

local function strain(kind)
  local url, remove = sched.fresh(kind)
  local cleaner <close> = setmetatable({}, { __close = remove }) -- luacheck: ignore 211
  local now = FROM
  local store <close> = state.open(url, { clock = function() return now end })
  for name, flow in pairs(flows) do
    sched.publish(store, name, schedule_of(flow), { concurrency = flow.concurrency, missed = flow.missed,
      timezone = flow.zone })
  end
  local clock = ("%s/clock-%s"):format(os.getenv "TM_TMP", kind)
  write_clock(clock, now)
  local began = signal.mono()
  local kills = drive(store, url, clock)
  local total, by_state = 0, {}
  for name, flow in pairs(flows) do
    local expected = looked_up(flow)
    lu.assertEquals(written_out(store, name, expected), expected, name)
    total = total + #expected
  end
  for _, row in ipairs(store.db:query "SELECT state, CAST(sum(slot_count) AS BIGINT) AS n FROM slots GROUP BY state") do
    by_state[#by_state + 1] = row.state .. " " .. row.n
  end
  table.sort(by_state)
  check_runs(store)
  lu.assertEquals(count(store, "runs WHERE state NOT IN ('success', 'skipped')"), 0)
  print(("%s: %d slots (%s), %d schedulers killed, %.1f s"):format(kind, total, table.concat(by_state, ", "), kills,
    (signal.mono() - began) / 1000))
  lu.assertTrue(total > (FULL and 100000 or 18000), total)
  lu.assertTrue(kills > 5, kills)
end

TestSlots = {}

function TestSlots.test_none_is_lost_and_none_doubled_on_sqlite() strain "sqlite" end

function TestSlots.test_none_is_lost_and_none_doubled_on_postgresql() strain "postgres" end

os.exit(lu.LuaUnit.run())
