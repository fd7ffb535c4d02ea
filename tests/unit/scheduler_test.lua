-- needs: pg
--- scheduler: published flows, the ledger, concurrency, events, on both stores.

local lu = require "luaunit"
local sched = require "tests.support.sched"
local time = require "time"

local HOUR = 3600000
local HOURLY = { kind = "every", every_s = 3600, anchor_ms = 0 }

-- Each test runs on both stores.
TestSqlite, TestPostgres = {}, {}
local tests = setmetatable({}, { __newindex = function(_, name, body)
  TestSqlite[name] = function() body(function(...) return sched.new("sqlite", ...) end) end
  TestPostgres[name] = function() body(function(...) return sched.new("postgres", ...) end) end
end })

function tests.test_a_slot_in_time_makes_a_queued_run(new)
  local w <close> = new "2026-03-10 11:30"
  w:publish("f", HOURLY, { timezone = "Asia/Shanghai", priority = 8, deadline_s = 900, concurrency = "queue" },
    { { name = "a", kind = "sql", after = {} }, { name = "b", kind = "sql", after = { "a" } } })
  w:step()
  lu.assertEquals({ w:slots "f", w:runs "f" }, { "", "" })
  w:at "2026-03-10 12:00:01"
  w:step()
  lu.assertEquals({ w:slots "f", w:runs "f" }, { "12:00 run", "12:00 queued" })
  local run = w:row "SELECT * FROM runs"
  lu.assertEquals({ run.cause, run.schedule, run.version_no, run.priority, run.concurrency, run.timezone },
    { "schedule", "main", 1, 8, "queue", "Asia/Shanghai" })
  lu.assertEquals(time.iso(run.business_at // 1000, "Asia/Shanghai"), "2026-03-09T20:00:00+08:00")
  lu.assertEquals({ run.slot_at, run.scheduled_at, run.deadline_at },
    { sched.ms "2026-03-10 12:00", sched.ms "2026-03-10 12:00", sched.ms "2026-03-10 12:15" })
  lu.assertEquals(w:row("SELECT run_id AS id FROM slots").id, run.id)
  lu.assertEquals(#w.store:nodes(run.id), 2)
end

function tests.test_the_flows_row_says_what_comes_next(new)
  local w <close> = new "2026-03-10 11:30"
  w:publish("f", HOURLY)
  w:step()
  local row = w:row "SELECT cursor_at, next_at FROM flows"
  lu.assertEquals({ row.cursor_at, row.next_at }, { sched.ms "2026-03-10 11:30", sched.ms "2026-03-10 12:00" })
  w:at "2026-03-10 12:00"
  w:step()
  row = w:row "SELECT cursor_at, next_at FROM flows"
  lu.assertEquals({ row.cursor_at, row.next_at }, { sched.ms "2026-03-10 12:00", sched.ms "2026-03-10 13:00" })
end

function tests.test_a_step_says_when_to_come_again(new)
  local w <close> = new "2026-03-10 11:59:59.700"
  w:publish("f", HOURLY)
  w:step()
  w.scheduler:poke()
  lu.assertEquals(w.scheduler:step(w.now), sched.ms "2026-03-10 12:00")
  w:at "2026-03-10 12:00"
  local at, count = w.scheduler:step(w.now)
  lu.assertEquals({ at, count }, { w.now + 1000, 1 }) -- others may publish meanwhile
end

function tests.test_publishing_never_fires_the_past(new)
  local w <close> = new "2026-03-10 12:30"
  w:publish("f", { kind = "cron", cron = "0 0 * * * ?", timezone = "UTC", from_ms = sched.ms "2020-01-01" },
    { missed = { policy = "all" } })
  w:publish("g", { kind = "once", at_ms = sched.ms "2026-03-10 12:00" }, { missed = { policy = "all" } })
  w:step()
  lu.assertEquals({ w:slots "f", w:slots "g" }, { "", "" })
end

function tests.test_skip_records_a_skipped_run_that_names_the_one_in_the_way(new)
  local w <close> = new "2026-03-10 11:30"
  w:publish("f", HOURLY, { concurrency = "skip" })
  w:at "2026-03-10 12:00"
  w:step()
  w:at "2026-03-10 13:00"
  w:step()
  lu.assertEquals({ w:slots "f", w:runs "f" }, { "12:00 run, 13:00 skipped", "12:00 queued, 13:00 skipped" })
  local first = w:row "SELECT id FROM runs WHERE state = 'queued'"
  local skipped = w:row [[SELECT r.id, r.message, s.reason, s.run_id FROM runs r JOIN slots s ON s.run_id = r.id
    WHERE r.state = 'skipped']]
  lu.assertStrContains(skipped.reason, first.id)
  lu.assertEquals({ skipped.message, skipped.run_id, #w.store:nodes(skipped.id) }, { skipped.reason, skipped.id, 0 })
  local decision = w.store:decisions(skipped.id)[1]
  lu.assertEquals({ decision.what, decision.reason }, { "skip", skipped.reason })
  w:run_all()
  w:at "2026-03-10 14:00"
  w:step()
  lu.assertEquals(w:slots "f", "12:00 run, 13:00 skipped, 14:00 run")
end

function tests.test_trial_runs_are_in_nobodys_way(new)
  local w <close> = new "2026-03-10 11:30"
  w:publish("f", HOURLY, { concurrency = "skip" })
  local hash = w:row("SELECT hash FROM flows").hash
  w.store:create_run { flow = "f", file = "f.lua", version = hash, cause = "manual", scheduled = w.now, business = w.now,
    timezone = "UTC", nodes = {} }
  w:at "2026-03-10 12:00"
  w:step()
  lu.assertEquals(w:slots "f", "12:00 run")
end

function tests.test_queue_and_parallel_queue_each_slot(new)
  local w <close> = new "2026-03-10 11:30"
  w:publish("q", HOURLY, { concurrency = "queue" })
  w:publish("p", HOURLY, { concurrency = "parallel" })
  for hour = 12, 14 do
    w:at(("2026-03-10 %d:00"):format(hour))
    w:step()
  end
  for _, flow in ipairs { "q", "p" } do
    lu.assertEquals(w:slots(flow), "12:00 run, 13:00 run, 14:00 run")
    lu.assertEquals(w:runs(flow), "12:00 queued, 13:00 queued, 14:00 queued")
  end
  local me = w.store:register_runner { kind = "serve", lease_ms = 15000 }
  local claimed = {}
  for _, run in ipairs(w.store:claim_runs { runner = me, limit = 100 }) do claimed[#claimed + 1] = run.flow end
  table.sort(claimed)
  lu.assertEquals(claimed, { "p", "p", "p", "q" })
end

function tests.test_missed_slots_by_policy_and_window(new)
  local w <close> = new "2026-03-10 08:30"
  w:publish("skip", HOURLY, { missed = { policy = "skip" } })
  w:publish("latest", HOURLY, { missed = { policy = "latest", window_s = 2 * 3600 } })
  w:publish("all", HOURLY, { missed = { policy = "all", window_s = 2 * 3600 } })
  w:step()
  w:at "2026-03-10 12:30"
  w:step()
  lu.assertEquals(w:slots "skip", "09:00 missed, 10:00 missed, 11:00 missed, 12:00 missed")
  lu.assertEquals(w:slots "latest", "09:00 missed, 10:00 missed, 11:00 superseded, 12:00 run")
  lu.assertEquals(w:slots "all", "09:00 missed, 10:00 missed, 11:00 run, 12:00 run")
  lu.assertEquals({ w:runs "skip", w:runs "latest", w:runs "all" },
    { "", "12:00 queued", "11:00 queued, 12:00 queued" })
  local run = w:row "SELECT id FROM runs WHERE flow = 'latest'"
  local decision = w.store:decisions(run.id)[1]
  lu.assertEquals(decision.what, "catch up")
  lu.assertStrContains(decision.reason, "30m 00s late")
end

function tests.test_catching_up_is_not_skipped_by_concurrency_and_takes_the_present_along(new)
  local w <close> = new "2026-03-10 09:30"
  w:publish("f", HOURLY, { concurrency = "skip", missed = { policy = "all" } })
  w:step()
  w:at "2026-03-10 12:00"
  w:step()
  lu.assertEquals(w:slots "f", "10:00 run, 11:00 run, 12:00 run")
  local order = {}
  for i, id in ipairs(w:run_all()) do
    order[i] = w:row("SELECT scheduled_at AS at FROM runs WHERE id = ?", id).at
  end
  lu.assertEquals(order, { sched.ms "2026-03-10 10:00", sched.ms "2026-03-10 11:00", sched.ms "2026-03-10 12:00" })
end

function tests.test_a_paused_flow_skips_its_slots_and_goes_on_after(new)
  local w <close> = new "2026-03-10 10:30"
  w:publish("f", HOURLY, { missed = { policy = "all" } })
  w.store.db:exec("UPDATE flows SET paused_at = ?, paused_by = 'ada', pause_reason = 'busy day'", w.now)
  w:at "2026-03-10 11:00"
  w:step()
  w:at "2026-03-10 12:30"
  lu.assertEquals(w.store:settle_slots("f", "skipped", "the flow was paused by ada", w.now), 1)
  w.store.db:exec "UPDATE flows SET paused_at = NULL"
  w:at "2026-03-10 13:00"
  w:step()
  lu.assertEquals({ w:slots "f", w:runs "f" }, { "11:00 skipped, 12:00 skipped, 13:00 run", "13:00 queued" })
  lu.assertEquals(w:row("SELECT reason FROM slots ORDER BY slot_at").reason, "the flow is paused by ada: busy day")
end

function tests.test_an_unpublished_flow_has_no_slots(new)
  local w <close> = new "2026-03-10 11:30"
  w:publish("f", HOURLY)
  w.store.db:exec "UPDATE flows SET schedule = NULL, next_at = NULL, version_no = NULL"
  w:at "2026-03-10 15:00"
  w:step()
  lu.assertEquals(w:slots "f", "")
end

function tests.test_a_new_version_counts_from_its_publish(new)
  local w <close> = new "2026-03-10 11:30"
  w:publish("f", HOURLY)
  w:at "2026-03-10 12:00"
  w:step()
  w:run_all()
  w:publish("f", HOURLY, { priority = 9 })
  w:at "2026-03-10 13:00"
  w:step()
  lu.assertEquals({ w:row("SELECT version_no AS n FROM slots ORDER BY slot_at").n,
    w:row("SELECT version_no AS n FROM slots ORDER BY slot_at DESC").n }, { 1, 2 })
end

function tests.test_a_clock_that_goes_back_doubles_nothing(new)
  local w <close> = new "2026-03-10 11:30"
  w:publish("f", HOURLY, { missed = { policy = "all" }, concurrency = "parallel" })
  w:at "2026-03-10 13:00"
  w:step()
  w:at "2026-03-10 11:45"
  w:step()
  lu.assertEquals(w.fired[#w.fired].event, "clock")
  w:at "2026-03-10 12:00"
  w:step()
  w:at "2026-03-10 14:00"
  w:step()
  lu.assertEquals(w:slots "f", "12:00 run, 13:00 run, 14:00 run")
  lu.assertEquals(w:runs "f", "12:00 queued, 13:00 queued, 14:00 queued")
end

function tests.test_a_cursor_that_was_set_back_doubles_nothing(new)
  local w <close> = new "2026-03-10 11:30"
  w:publish("f", HOURLY, { missed = { policy = "all" }, concurrency = "parallel" })
  w:at "2026-03-10 13:00"
  w:step()
  w.store.db:exec("UPDATE flows SET cursor_at = ?, next_at = 0", sched.ms "2026-03-10 11:30")
  w:step()
  lu.assertEquals(w:runs "f", "12:00 queued, 13:00 queued")
end

function tests.test_a_long_outage_of_a_fast_schedule_is_few_rows(new)
  local w <close> = new "2026-03-10 00:00"
  w:publish("f", { kind = "cron", cron = "* * * * * ?", timezone = "UTC" }, {})
  w:at "2026-03-14 00:00"
  w:step()
  local sum = w:row [[SELECT count(*) AS row_count, CAST(sum(slot_count) AS BIGINT) AS n FROM slots]]
  lu.assertEquals(sum.n, 4 * 86400)
  lu.assertTrue(sum.row_count < 100, sum.row_count)
  lu.assertEquals(w:row("SELECT count(*) AS n FROM runs").n, 61) -- those within the grace: one, then skipped
end

function tests.test_a_flow_that_makes_no_sense_stops_no_other(new)
  local w <close> = new "2026-03-10 11:30"
  w:publish("cron", { kind = "cron", cron = "nonsense", timezone = "UTC" })
  w:publish("good", HOURLY)
  w:publish("json", HOURLY)
  w:publish("lost", HOURLY)
  w:publish("zone", HOURLY, { timezone = "Mars/Olympus" })
  w:step()
  w.store.db:exec "UPDATE flows SET policy = '{' WHERE flow = 'json'"
  w.store.db:exec "UPDATE flows SET hash = 'none' WHERE flow = 'lost'"
  w.fired = {}
  w:at "2026-03-10 12:00"
  w:step(w:another())
  lu.assertEquals(w:slots "good", "12:00 run")
  local aside = {}
  for _, event in ipairs(w.fired) do
    if event.event == "set aside" then aside[event.flow] = event.error.kind end
  end
  lu.assertEquals(aside, { cron = "usage", json = "data", lost = "not_found", zone = "usage" })
  for _, row in ipairs(w.store.db:query "SELECT next_at, cursor_at FROM flows WHERE flow IN ('json', 'lost', 'zone')") do
    lu.assertEquals({ row.next_at, row.cursor_at }, { w.now + 60000, sched.ms "2026-03-10 11:30" })
  end
end

function tests.test_two_schedulers_decide_a_slot_once(new)
  local w <close> = new "2026-03-10 11:30"
  local store <close> = w:open()
  local other = w:another { store = store }
  for i = 1, 30 do w:publish("f" .. i, HOURLY) end
  for hour = 12, 15 do
    w:at(("2026-03-10 %d:00"):format(hour))
    w:step(hour % 2 == 0 and other or w.scheduler)
    w:step(hour % 2 == 0 and w.scheduler or other)
  end
  local row = w:row "SELECT count(*) AS n, count(DISTINCT run_id) AS runs FROM slots"
  lu.assertEquals({ row.n, row.runs }, { 120, 120 })
end

-- ---- events ----

local function event_flow(more)
  local schedule = { kind = "event", after = { { flow = "up" }, { flow = "other", node = "n" } } }
  for key, value in pairs(more or {}) do schedule[key] = value end
  return schedule
end

-- A success of a flow at a scheduled time, as the end of its run records it.
local function succeed(w, flow, node, scheduled, cause)
  w.store.db:transaction(function()
    w.store:add_event_in({ id = flow .. scheduled .. (cause or ""), flow = flow, cause = cause or "schedule",
      scheduled_at = scheduled }, node)
  end)
end

function tests.test_a_flow_runs_after_all_it_awaits(new)
  local w <close> = new "2026-03-10 01:00"
  w:publish("f", event_flow(), { timezone = "Asia/Shanghai" })
  w:step()
  w:at "2026-03-10 02:00"
  succeed(w, "up", "", sched.ms "2026-03-10 01:30")
  w:step()
  lu.assertEquals(w:slots "f", "")
  w:at "2026-03-10 03:00"
  succeed(w, "other", "n", sched.ms "2026-03-10 02:30")
  w:step()
  lu.assertEquals({ w:slots "f", w:runs "f" }, { "02:30 run", "02:30 queued" })
  local run = w:row "SELECT * FROM runs"
  lu.assertEquals({ run.cause, run.schedule, run.scheduled_at }, { "event", "event", sched.ms "2026-03-10 02:30" })
  lu.assertEquals(time.iso(run.business_at // 1000, "Asia/Shanghai"), "2026-03-09T10:30:00+08:00")
  w:step()
  lu.assertEquals(w:slots "f", "02:30 run")
end

function tests.test_successes_before_the_publish_do_not_count(new)
  local w <close> = new "2026-03-10 01:00"
  w:publish("first", event_flow { after = { { flow = "up" } } })
  succeed(w, "up", "", sched.ms "2026-03-10 00:30")
  w:at "2026-03-10 02:00"
  w:publish("f", event_flow { after = { { flow = "up" } } })
  w:step()
  lu.assertEquals({ w:slots "first", w:slots "f" }, { "", "" }) -- the first was published at that very moment
  w:at "2026-03-10 03:00"
  succeed(w, "up", "", sched.ms "2026-03-10 02:30")
  w:step()
  lu.assertEquals({ w:slots "first", w:slots "f" }, { "02:30 run", "02:30 run" })
end

function tests.test_events_that_wait_too_long_are_a_missed_slot(new)
  local w <close> = new "2026-03-10 01:00"
  w:publish("f", event_flow { timeout_s = 7200 })
  w:step()
  w:at "2026-03-10 02:00"
  succeed(w, "up", "", sched.ms "2026-03-10 01:30")
  w:step()
  lu.assertEquals(w:row("SELECT next_at FROM flows").next_at, sched.ms "2026-03-10 04:00")
  w:at "2026-03-10 04:00"
  w:step()
  lu.assertEquals({ w:slots "f", w:runs "f" }, { "01:30 missed", "" })
  lu.assertEquals(w:row("SELECT reason FROM slots").reason,
    "no success of 'other/n' within 2h 00m of the first event ('up')")
  succeed(w, "other", "n", sched.ms "2026-03-10 01:30")
  w:step()
  lu.assertEquals(w:slots "f", "01:30 missed")
end

function tests.test_a_rerun_of_what_it_awaits_starts_it_again(new)
  local w <close> = new "2026-03-10 01:00"
  w:publish("f", event_flow { after = { { flow = "up" } } }, { concurrency = "queue" })
  w:at "2026-03-10 02:00"
  succeed(w, "up", "", sched.ms "2026-03-10 01:30")
  succeed(w, "up", "", sched.ms "2026-03-10 01:30", "rerun")
  w:step()
  lu.assertEquals(w:slots("f", "HH:mm:ss.SSS"), "01:30:00.000 run, 01:30:00.001 run")
  lu.assertEquals(w:runs("f", "HH:mm:ss.SSS"), "01:30:00.000 queued, 01:30:00.000 queued")
end

function tests.test_events_that_were_used_are_not_looked_at_again(new)
  local w <close> = new "2026-03-10 01:00"
  w:publish("f", event_flow(), { concurrency = "queue" })
  w:at "2026-03-10 02:00"
  local function seen() return w:row("SELECT events_seen FROM flows").events_seen end
  succeed(w, "up", "", sched.ms "2026-03-10 01:30")
  w:step()
  lu.assertEquals(seen(), 0)
  succeed(w, "other", "n", sched.ms "2026-03-11 01:30")
  succeed(w, "other", "n", sched.ms "2026-03-10 01:40")
  w:step()
  lu.assertEquals({ w:slots "f", seen() }, { "01:40 run", 1 })
  succeed(w, "up", "", sched.ms "2026-03-11 01:30")
  w:step()
  lu.assertEquals({ w:slots "f", seen() }, { "01:40 run, 01:30 run", 4 })
end

function tests.test_trial_runs_are_events_unless_told_otherwise(new)
  local w <close> = new "2026-03-10 01:00"
  w:publish("f", event_flow { after = { { flow = "up" } } })
  w:publish("g", event_flow { after = { { flow = "up" } }, trial = false })
  w:at "2026-03-10 02:00"
  succeed(w, "up", "", sched.ms "2026-03-10 01:30", "manual")
  w:step()
  lu.assertEquals({ w:slots "f", w:slots "g" }, { "01:30 run", "" })
end

function tests.test_a_paused_flow_uses_its_events_up(new)
  local w <close> = new "2026-03-10 01:00"
  w:publish("f", event_flow { after = { { flow = "up" } } })
  w.store.db:exec("UPDATE flows SET paused_at = ?, paused_by = 'ada'", w.now)
  w:at "2026-03-10 02:00"
  succeed(w, "up", "", sched.ms "2026-03-10 01:30")
  w:step()
  w.store.db:exec "UPDATE flows SET paused_at = NULL"
  w:step()
  lu.assertEquals(w:slots "f", "01:30 skipped")
end

function tests.test_an_event_goes_by_the_concurrency_of_its_flow(new)
  local w <close> = new "2026-03-10 01:00"
  w:publish("f", event_flow { after = { { flow = "up" } } }, { concurrency = "skip" })
  for hour = 2, 3 do
    w:at(("2026-03-10 0%d:00"):format(hour))
    succeed(w, "up", "", w.now - 60000)
    w:step()
  end
  lu.assertEquals({ w:slots "f", w:runs "f" }, { "01:59 run, 02:59 skipped", "01:59 queued, 02:59 skipped" })
end

function tests.test_a_scheduler_that_starts_sees_what_came_before_it(new)
  local w <close> = new "2026-03-10 01:00"
  w:publish("f", event_flow { after = { { flow = "up" } } })
  w:at "2026-03-10 02:00"
  succeed(w, "up", "", sched.ms "2026-03-10 01:30")
  w:at(w.now + 50 * HOUR)
  w:step(w:another())
  lu.assertEquals(w:slots "f", "01:30 run")
end

os.exit(lu.LuaUnit.run())
