--- The suite of published flows and of what is read of runs, the same for each database.
---
---     versions_suite.define("TestVersions", make)      -- make: see tests/support/state_suite.lua

local lu = require "luaunit"
local suite = require "tests.support.state_suite"

local versions_suite = {}

local fails = suite.fails
local DAILY = { kind = "cron", cron = "0 0 2 * * ?", timezone = "Asia/Shanghai", dst = "once" }
local HOURLY = { kind = "cron", cron = "0 0 * * * ?", timezone = "Asia/Shanghai", dst = "once" }
local START = 1767225600000 -- 2026-01-01 00:00 UTC
local HOUR, DAY = 3600000, 86400000

local function document(changes)
  local made = { format = 1, flow = "f", file = "/f.lua", timezone = "Asia/Shanghai", concurrency = "skip",
    missed = { policy = "skip", window_s = 60 }, schedule = DAILY, params = {}, vars = {}, constants = {}, settable = {},
    hooks = {}, nodes = { { name = "a", kind = "lua", after = {}, hash = "1" } } }
  for key, value in pairs(changes or {}) do made[key] = value end
  if changes and changes.schedule == false then made.schedule = nil end
  return made
end

local function a_publishing(hash, changes)
  local made = document(changes)
  return { flow = made.flow, hash = hash, document = made, sources = { text = "eA==", stored = {} }, by = "me@here",
    scheduled = true }
end

--- Registers the tests as the global class `name`.
function versions_suite.define(name, make)
  local T = {}
  _G[name] = T

  function T:setUp()
    self.open, self.clean = make()
    self.clock = START
    self.store = self.open { clock = function() return self.clock end }
  end

  function T:tearDown()
    self.store:close()
    self.clean()
  end

  function T:publish(hash, changes, more)
    local p = a_publishing(hash, changes)
    for key, value in pairs(more or {}) do p[key] = value end
    return self.store:publish(p)
  end

  -- ---- versions ----

  function T:test_publishing_makes_versions_and_the_newest_is_live()
    lu.assertEquals(self:publish("h1").number, 1)
    local result = self:publish("h2", nil, { comment = "better" })
    lu.assertEquals({ result.number, result.changed, result.before.version_no }, { 2, true, 1 })
    local list = self.store:versions "f"
    lu.assertEquals({ #list, list[1].number, list[1].live, list[1].comment, list[1].published_by, list[2].live },
      { 2, 2, true, "better", "me@here", false })
    local flow = self.store:flow "f"
    lu.assertEquals({ flow.version_no, flow.hash, flow.file, flow.timezone, flow.policy.concurrency, flow.schedule.cron },
      { 2, "h2", "/f.lua", "Asia/Shanghai", "skip", DAILY.cron })
    lu.assertEquals({ flow.cursor_at, flow.next_at }, { START, START + 18 * HOUR })
    lu.assertEquals(self.store:version("f", 1).document, document())
    lu.assertEquals(self.store:version("f").number, 2)
    fails("not_found", nil, self.store.version, self.store, "f", 3)
  end

  function T:test_two_who_publish_the_same_at_once_make_one_version()
    for _, more in ipairs { {}, { scheduled = false } } do
      local save = self.store.save_source
      self.store.save_source = function(store, ...)
        store.save_source = nil
        self:publish("h1", nil, more) -- the other one, between the look and the transaction
        return save(store, ...)
      end
      local result = self:publish("h1", nil, more)
      lu.assertEquals({ result.number, result.changed, #self.store:versions "f" }, { 1, false, 1 })
      lu.assertEquals(self.store:flow("f").schedule ~= nil, more.scheduled == nil)
    end
  end

  function T:test_publishing_what_is_live_changes_nothing()
    self:publish "h1"
    local seq = self.store:changes()
    lu.assertEquals(self:publish("h1").changed, false)
    lu.assertEquals(self.store:changes(), seq)
    lu.assertEquals(#self.store:flow_log "f", 1)
  end

  function T:test_a_schedule_may_be_left_off_and_put_on()
    self:publish("h1", nil, { scheduled = false })
    lu.assertNil(self.store:flow "f".schedule)
    lu.assertNil(self.store:flow "f".next_at)
    local result = self:publish "h1"
    lu.assertEquals({ result.changed, result.number, #self.store:versions "f" }, { true, 1, 1 })
    lu.assertEquals(self.store:flow "f".next_at, START + 18 * HOUR)
  end

  function T:test_changes_move_a_number_that_runners_watch()
    local seq = self.store:changes()
    for _, act in ipairs {
      function() self:publish "h1" end,
      function() self.store:pause_flow("f", "me", "why") end,
      function() self.store:resume_flow("f", "me") end,
      function() self.store:unpublish("f", "me") end,
    } do
      act()
      lu.assertTrue(self.store:changes() > seq)
      seq = self.store:changes()
    end
  end

  function T:test_open_slots_of_a_schedule_that_goes_on_stay_due()
    self:publish "h1"
    self.clock = START + 3 * DAY
    self:publish "h2"
    lu.assertEquals(self.store:flow "f".cursor_at, START)
    lu.assertEquals(#self.store:slots(), 0)
  end

  function T:test_open_slots_of_a_schedule_that_changes_are_superseded()
    self:publish "h1"
    self.clock = START + 3 * DAY
    self:publish("h2", { schedule = HOURLY })
    local slots = self.store:slots()
    lu.assertEquals(#slots, 3)
    lu.assertEquals({ slots[1].state, slots[1].slot_at }, { "superseded", START + 2 * DAY + 18 * HOUR })
    lu.assertEquals(self.store:flow "f".cursor_at, self.clock)
    lu.assertEquals(self.store:slot("f", START + 18 * HOUR).state, "superseded")
    lu.assertNil(self.store:slot("f", START + 17 * HOUR))
  end

  function T:test_nothing_of_a_new_schedule_is_due_when_it_is_published()
    self:publish("h1", { schedule = { kind = "cron", cron = "0 0 0 31 12 ?", timezone = "UTC", dst = "once" } })
    self.clock = START + 20 * DAY
    self:publish "h2"
    local flow = self.store:flow "f"
    lu.assertEquals({ flow.cursor_at, flow.next_at }, { self.clock, self.clock + 18 * HOUR })
    lu.assertEquals(#self.store:slots(), 0)
    self.store:rollback("f", 1, "me")
    self.clock = START + 40 * DAY
    self.store:rollback("f", 2, "me")
    lu.assertEquals(self.store:flow "f".cursor_at, self.clock)
  end

  function T:test_unpublishing_settles_the_schedule_and_keeps_versions()
    self:publish "h1"
    self.clock = START + DAY
    lu.assertTrue(self.store:unpublish("f", "me", "done"))
    lu.assertFalse(self.store:unpublish("f", "me"))
    lu.assertEquals(#self.store:slots(), 1)
    local flow = self.store:flow "f"
    lu.assertEquals({ flow.version_no, flow.schedule, flow.next_at }, {})
    self.clock = START + 5 * DAY
    lu.assertEquals(self:publish("h1").number, 2)
    lu.assertEquals(self.store:flow "f".cursor_at, self.clock)
    lu.assertEquals(#self.store:slots(), 1)
  end

  function T:test_an_event_schedule_starts_with_what_comes_after_it()
    self:publish "h1"
    self.clock = START + 10 * DAY
    self:publish("h2", { schedule = { kind = "event", after = { { flow = "g" } }, timezone = "UTC" } })
    lu.assertEquals(self.store:flow "f".cursor_at, self.clock)
    lu.assertEquals(#self.store:slots { limit = 99 }, 10)
    self.clock = START + 20 * DAY
    self:publish "h3"
    lu.assertEquals(self.store:flow "f".cursor_at, self.clock)
    lu.assertEquals(#self.store:slots { limit = 99 }, 10)
  end

  function T:test_rolling_back_makes_the_version_before_live()
    self:publish "h1"
    self:publish("h2", { schedule = HOURLY })
    self:publish "h3"
    local result = self.store:rollback("f", nil, "me", "h3 is bad")
    lu.assertEquals({ result.number, result.version.hash }, { 2, "h2" })
    lu.assertEquals(self.store:flow "f".schedule.cron, HOURLY.cron)
    lu.assertEquals(self.store:rollback("f", 1, "me").number, 1)
    lu.assertFalse(self.store:rollback("f", 1, "me").changed)
    lu.assertEquals(#self.store:versions "f", 3)
    local log = self.store:flow_log "f"
    lu.assertEquals({ log[4].what, log[4].version_no, log[4].reason, log[5].version_no },
      { "rollback", 2, "h3 is bad", 1 })
    lu.assertEquals(self:publish("h4").number, 4)
    fails("not_found", nil, self.store.rollback, self.store, "f", 9, "me")
  end

  function T:test_rolling_back_leaves_a_schedule_off()
    self:publish "h1"
    self:publish("h2", nil, { scheduled = false })
    self.store:rollback("f", 1, "me")
    lu.assertNil(self.store:flow "f".schedule)
    self.store:unpublish("f", "me")
    self.store:rollback("f", 2, "me")
    lu.assertEquals(self.store:flow "f".schedule.cron, DAILY.cron)
  end

  function T:test_there_must_be_a_version_to_roll_back_to()
    self:publish "h1"
    fails("usage", nil, self.store.rollback, self.store, "f", nil, "me")
  end

  -- ---- pauses ----

  function T:test_a_pause_names_who_and_why_and_its_slots_are_skipped()
    self:publish "h1"
    lu.assertTrue(self.store:pause_flow("f", "me@here", "a busy day"))
    lu.assertFalse(self.store:pause_flow("f", "you", "again"))
    local flow = self.store:flow "f"
    lu.assertEquals({ flow.paused_at, flow.paused_by, flow.pause_reason }, { START, "me@here", "a busy day" })
    self.clock = START + 2 * DAY
    lu.assertTrue(self.store:resume_flow("f", "me@here"))
    lu.assertFalse(self.store:resume_flow("f", "me@here"))
    local slots = self.store:slots()
    lu.assertEquals({ #slots, slots[1].state }, { 2, "skipped" })
    lu.assertStrContains(slots[1].reason, "me@here")
    lu.assertStrContains(slots[1].reason, "a busy day")
    lu.assertNil(self.store:flow "f".paused_at)
  end

  function T:test_a_pause_outlives_a_new_version()
    self:publish "h1"
    self.store:pause_flow("f", "me", "x")
    self:publish "h2"
    lu.assertEquals(self.store:flow "f".paused_by, "me")
  end

  function T:test_a_run_that_ended_may_go_on_with_another_version()
    self:publish "h1"
    local runner = self.store:register_runner { kind = "run", lease_ms = 15000 }
    local id = self.store:create_run(suite.a_run { version = "h1", version_no = 1, settings = {} })
    self.store:claim_runs { runner = runner, limit = 1, root = id }
    for _, node in ipairs { "a", "b" } do
      self.store:begin_attempt(id, node, 1)
      self.store:add_logs(id, node, 1, { { at = 1, stream = "log", level = "info", line = node } })
      self.store:end_attempt(id, node, 1, { state = "success", node_state = node == "a" and "success" or "failed",
        outputs = { y = 1 } })
    end
    self.store:end_run(id, { state = "failed" })
    local new = { hash = "h2", number = 2, document = { file = "/new.lua" } }
    self.store.db:transaction(function()
      self.store:change_version_in(self.store:run(id), new, { { name = "c", kind = "sql", after = {} },
        { name = "a", kind = "lua", after = { "c" } } })
      lu.assertEquals(self.store:restore_run(id), 1)
    end)
    local run, nodes = self.store:run(id), self.store:nodes(id)
    lu.assertEquals({ run.state, run.version, run.version_no, run.file }, { "queued", "h2", 2, "/new.lua" })
    lu.assertEquals({ #nodes, nodes[1].node, nodes[1].state, nodes[2].node, nodes[2].state, nodes[2].upstream[1] },
      { 2, "c", "waiting", "a", "success", "c" })
    lu.assertEquals(self.store:outputs(id), { a = { y = 1 } })
    lu.assertEquals(#self.store:logs(id), 1)
    lu.assertStrContains(self.store:decisions(id)[1].reason, "version 2 instead of 1, without 'b'")
  end

  -- ---- names ----

  function T:test_a_flow_is_found_by_name_by_its_start_and_by_path()
    for _, one in ipairs { "Import orders", "Import prices", "export" } do
      self:publish(one, { flow = one, file = "/flows/" .. one .. ".lua" }, { flow = one })
    end
    lu.assertEquals(self.store:find_flow("Import orders").flow, "Import orders")
    lu.assertEquals(self.store:find_flow("exp").flow, "export")
    lu.assertEquals(self.store:find_flow("import p").flow, "Import prices")
    lu.assertEquals(self.store:find_flow("x.lua", "/flows/export.lua").flow, "export")
    lu.assertStrContains(fails("usage", nil, self.store.find_flow, self.store, "Import").message, "'Import orders'")
    lu.assertStrContains(fails("not_found", nil, self.store.find_flow, self.store, "expotr").hint, "'export'")
  end

  -- ---- runs ----

  function T:run(changes) return self.store:create_run(suite.a_run(changes)) end

  function T:test_runs_are_filtered()
    local a = self:run { flow = "one", cause = "manual", scheduled = START, business = START - DAY }
    self.clock = START + HOUR
    local b = self:run { flow = "two", cause = "schedule", scheduled = START + DAY, business = START }
    self.clock = START + 2 * HOUR
    local c = self:run { flow = "two", cause = "rerun", scheduled = START + DAY, business = START, of_run = b }
    local function found(filter)
      local ids = {}
      for i, run in ipairs(self.store:runs(filter)) do ids[i] = run.id end
      return ids
    end
    lu.assertEquals(found(), { c, b, a })
    lu.assertEquals(found { flow = "two" }, { c, b })
    lu.assertEquals(found { flow = "two", cause = "schedule" }, { b })
    lu.assertEquals(found { since = START + HOUR }, { c, b })
    lu.assertEquals(found { since = START + HOUR, before = START + 2 * HOUR }, { b })
    lu.assertEquals(found { business_from = START - DAY, business_to = START - DAY }, { a })
    lu.assertEquals(found { state = "queued", limit = 1 }, { c })
    self.store:request(a, "stop")
    lu.assertEquals(found { active = true }, { c, b })
    lu.assertEquals(found { scheduled = START }, { a })
  end

  function T:test_log_lines_come_once_each_and_the_tail_alone()
    local runner = self.store:register_runner { kind = "run", lease_ms = 15000 }
    local id = self:run()
    self.store:claim_runs { runner = runner, limit = 1, root = id }
    self.store:begin_attempt(id, "a", 1)
    local function line(at, text) return { at = at, stream = "stdout", level = "info", line = text } end
    self.store:add_logs(id, "a", 1, { line(1, "one"), line(2, "two") })
    local seen = {}
    lu.assertEquals(#self.store:logs_after(id, nil, nil, seen), 2)
    lu.assertEquals(#self.store:logs_after(id, nil, nil, seen), 0)
    self.store:add_logs(id, "a", 1, { line(3, "three") })
    lu.assertEquals(self.store:logs_after(id, "a", 1, seen)[1].line, "three")
    local tail = self.store:logs_tail(id, nil, nil, 2)
    lu.assertEquals({ tail[1].line, tail[2].line }, { "two", "three" })
    lu.assertEquals(self.store:logs_tail(id, "a", 1, 1)[1].line, "three")
    lu.assertEquals(#self.store:logs_tail(id, "a", 2, 1), 0)
  end

  function T:test_only_serves_with_a_lease_are_there()
    self.store:register_runner { kind = "run", lease_ms = 15000 }
    lu.assertEquals(#self.store:servers(), 0)
    local serve = self.store:register_runner { kind = "serve", lease_ms = 15000 }
    lu.assertEquals(self.store:servers()[1].id, serve)
    self.clock = START + 15001
    lu.assertEquals(#self.store:servers(), 0)
  end

  function T:test_what_is_in_the_way_of_a_queued_run()
    local function queued(changes)
      changes.cause, changes.concurrency = changes.cause or "schedule", changes.concurrency or "queue"
      return self:run(changes)
    end
    local first = queued { scheduled = START }
    local second = queued { scheduled = START + DAY }
    lu.assertEquals(#self.store:in_the_way(self.store:run(first)), 0)
    lu.assertEquals(self.store:in_the_way(self.store:run(second))[1].id, first)
    lu.assertEquals(#self.store:in_the_way(self.store:run(queued { concurrency = "parallel" })), 0)
    lu.assertEquals(#self.store:in_the_way(self.store:run(queued { cause = "manual" })), 0)
  end

  -- ---- backfills ----

  local function moments(n)
    local runs = {}
    for i = 1, n do
      runs[i] = suite.a_run { cause = "backfill", scheduled = START + i * DAY, business = START + (i - 1) * DAY }
    end
    return runs
  end

  local WHAT = { flow = "f", from = START, to = START + 2 * DAY, order = "asc", jobs = 1, settings = {}, by = "me",
    total = 3 }

  function T:test_a_backfill_runs_in_order_one_at_a_time()
    local id, ids = self.store:queue_backfill(WHAT, moments(3))
    local runner = self.store:register_runner { kind = "serve", lease_ms = 15000 }
    for i = 1, 3 do
      local claimed = self.store:claim_runs { runner = runner, limit = 10 }
      lu.assertEquals({ #claimed, claimed[1] and claimed[1].id }, { 1, ids[i] })
      local b = self.store:backfill(id)
      lu.assertEquals({ b.running, b.waiting, b.ended, b.total, b.created_by }, { 1, 3 - i, i - 1, 3, "me" })
      self.store:end_run(ids[i], { state = i == 1 and "failed" or "success" })
    end
    lu.assertEquals(#self.store:claim_runs { runner = runner, limit = 10 }, 0)
    lu.assertNil(self.store:backfill "none")
  end

  function T:test_what_is_scheduled_is_not_skipped_for_a_backfill_and_goes_before_its_next_run()
    self:publish "h1"
    local runs = moments(3)
    for _, run in ipairs(runs) do run.priority, run.concurrency, run.version = 1, "skip", "h1" end
    local _, ids = self.store:queue_backfill(WHAT, runs)
    local runner = self.store:register_runner { kind = "serve", lease_ms = 30 * DAY }
    lu.assertEquals(self.store:claim_runs { runner = runner, limit = 10 }[1].id, ids[1])
    self.clock = START + 18 * HOUR
    local fired = self.store:fire_due(self.clock, 60000).slots
    lu.assertEquals({ #fired, fired[1].state }, { 1, "run" })
    lu.assertEquals(#self.store:claim_runs { runner = runner, limit = 10 }, 0)
    self.store:end_run(ids[1], { state = "success" })
    local claimed = self.store:claim_runs { runner = runner, limit = 10 }
    lu.assertEquals({ #claimed, claimed[1].cause }, { 1, "schedule" })
    self.store:end_run(claimed[1].id, { state = "success" })
    lu.assertEquals(self.store:claim_runs { runner = runner, limit = 10 }[1].id, ids[2])
  end

  function T:test_what_is_done_or_under_way_is_not_missing()
    local runs = moments(4)
    self.store:create_run(runs[1])
    self.store:record_success(runs[2], "dry")
    self.store:mark_run(self.store:create_run(runs[3]), "failed", "x")
    runs[4].cause = "manual"
    self.store:create_run(runs[4])
    local times = {}
    for i, run in ipairs(runs) do times[i] = run.scheduled end
    lu.assertEquals(self.store:covered("f", times), { [times[1]] = true, [times[2]] = true })
    lu.assertEquals(self.store:covered("f", { times[2], times[1] }), { [times[1]] = true, [times[2]] = true })
    lu.assertEquals(self.store:covered("f", {}), {})
  end

  function T:test_a_recorded_success_counts_for_who_waits_for_it()
    self:publish("h9", { flow = "g", schedule = { kind = "event", after = { { flow = "f" }, { flow = "f", node = "b" } } } },
      { flow = "g" })
    local id = self.store:record_success(suite.a_run { cause = "trigger", scheduled = START }, "dry run by me")
    local run = self.store:run(id)
    lu.assertEquals({ run.state, run.message, run.ended_at }, { "success", "dry run by me", START })
    for _, node in ipairs(self.store:nodes(id)) do lu.assertEquals(node.state, "success") end
    lu.assertEquals(#self.store:events_after(0), 2)
    lu.assertEquals(self.store:upstream_run { flow = "f", from_ms = START, to_ms = START }.id, id)
    lu.assertEquals(self.store:upstream_run { flow = "f", node = "b", from_ms = START, to_ms = START }.id, id)
  end

  function T:test_a_dry_gc_counts_and_keeps()
    local id = self:run()
    self.store:request(id, "stop")
    self.clock = START + 100 * DAY
    lu.assertEquals(self.store:gc { keep_ms = DAY, dry_run = true }.runs, 1)
    lu.assertNotNil(self.store:run(id))
    lu.assertEquals(self.store:gc { keep_ms = DAY }.runs, 1)
    lu.assertNil(self.store:run(id))
  end
end

return versions_suite
