--- The suite of the state store, the same for each database.
---
---     state_suite.define("TestState", function() return open, clean, url end)
---
--- The function is called for each test: it gives one that opens the (empty) store, any
--- number of times, one that removes it, and the store's URL.

local errors = require "tidemill.errors"
local lu = require "luaunit"
local patience = require "tests.support.patience"
local proc = require "proc"
local signal = require "tidemill.signal"

local suite = {}

local NODES = { { name = "a", kind = "lua", after = {} }, { name = "b", kind = "sql", after = { "a" } } }

function suite.a_run(changes)
  local run = { flow = "f", file = "/f.lua", version = "abc", cause = "manual", scheduled = 1700000000000,
    business = 1699913600000, timezone = "Asia/Shanghai", nodes = NODES }
  for key, value in pairs(changes or {}) do run[key] = value end
  return run
end
local a_run = suite.a_run

--- Runs f, which must raise an error of this kind, and code if given; returns it.
function suite.fails(kind, code, f, ...)
  local ok, err = pcall(f, ...)
  lu.assertFalse(ok, "nothing was raised")
  lu.assertEquals({ type(err) == "table" and err.kind or tostring(err), code and err.code }, { kind, code })
  return err
end
local fails = suite.fails

--- Registers a runner, makes a run and claims it.
function suite.claimed(store, changes)
  local runner = store:register_runner { kind = "run", lease_ms = 15000 }
  local id = store:create_run(a_run(changes))
  lu.assertEquals(#store:claim_runs { runner = runner, limit = 1, root = id }, 1)
  return id, runner
end
local claimed = suite.claimed

local function ids(list)
  local out = {}
  for i, run in ipairs(list) do out[i] = run.id or run end
  return out
end

--- Defines the global test class `class`.
---@param class string
---@param make_store fun(): fun(options: table?): table, fun(), string
function suite.define(class, make_store)
  local T = {}
  _G[class] = T

  function T:setUp()
    self.open, self.clean, self.url = make_store()
    self.store = self.open()
  end

  function T:tearDown()
    self.store:close()
    self.clean()
  end

  -- ---- runs ----

  function T:test_a_run_starts_queued_with_waiting_nodes()
    local id = self.store:create_run(a_run())
    lu.assertStrMatches(id, "%d%d%d%d%d%d%d%d%-%d%d%d%d%d%d%-%x%x%x%x%x%x")
    local run = self.store:find_run(id)
    lu.assertEquals({ run.flow, run.state, run.scheduled_at, run.business_at, run.timezone, run.version, run.epoch },
      { "f", "queued", 1700000000000, 1699913600000, "Asia/Shanghai", "abc", 0 })
    local nodes = self.store:nodes(id)
    lu.assertEquals({ nodes[1].node, nodes[1].state, nodes[1].upstream }, { "a", "waiting", {} })
    lu.assertEquals({ nodes[2].node, nodes[2].state, nodes[2].upstream }, { "b", "waiting", { "a" } })
  end

  function T:test_an_attempt_keeps_what_it_used_and_gave()
    local id = claimed(self.store)
    lu.assertTrue(self.store:begin_attempt(id, "a", 1))
    self.store:attempt_pid(id, "a", 1, 42)
    lu.assertEquals(self.store:nodes(id)[1].state, "running")
    self.store:end_attempt(id, "a", 1, { state = "failed", node_state = "retrying", code = 1, next_at = 17,
      message = "again in 1 s", error = errors.new("io", "broken", { detail = "d", hint = "h", code = "08006" }),
      decision = { what = "retry", reason = "io: broken" } })
    local node = self.store:nodes(id)[1]
    lu.assertEquals({ node.state, node.next_at, node.ended_at }, { "retrying", 17 })
    self.store:begin_attempt(id, "a", 2)
    self.store:end_attempt(id, "a", 2, { state = "success", node_state = "success", rows = 7, bytes = 70, cpu_ms = 5,
      max_rss_bytes = 1 << 40, code = 0, outputs = { big = math.maxinteger, text = "é", list = { 1, 2 } } })
    local attempts = self.store:attempts(id)
    lu.assertEquals(#attempts, 2)
    lu.assertEquals({ attempts[1].state, attempts[1].pid, attempts[1].error.message, attempts[1].error.hint },
      { "failed", 42, "broken", "h" })
    lu.assertEquals({ attempts[2].state, attempts[2].row_count, attempts[2].cpu_ms, attempts[2].max_rss_bytes },
      { "success", 7, 5, 1 << 40 })
    lu.assertEquals(math.type(attempts[2].max_rss_bytes), "integer")
    lu.assertEquals(self.store:outputs(id), { a = { big = math.maxinteger, text = "é", list = { 1, 2 } } })
    lu.assertEquals(self.store:decisions(id)[1].reason, "io: broken")
    lu.assertEquals(self.store:nodes(id)[1].attempts, 2)
  end

  function T:test_an_attempt_number_is_taken_once()
    local id = claimed(self.store)
    self.store:begin_attempt(id, "a", 1)
    self.store:begin_attempt(id, "a", 1) -- no more than said twice
    self.store:end_attempt(id, "a", 1, { state = "failed", node_state = "retrying" })
    fails("conflict", nil, self.store.begin_attempt, self.store, id, "a", 1)
  end

  function T:test_a_run_ends_once()
    local id = claimed(self.store)
    local claim = self.store.claims[id]
    self.store:end_run(id, { state = "failed", message = "node a failed", error = errors.new("sql", "no") })
    fails("conflict", "LOST", self.store.end_run, self.store, id, { state = "success" })
    self.store.claims[id] = claim -- as if no answer had come
    self.store:end_run(id, { state = "failed", message = "again" })
    self.store.claims[id] = claim
    fails("conflict", "LOST", self.store.end_run, self.store, id, { state = "success" })
    local run = self.store:find_run(id)
    lu.assertEquals({ run.state, run.message, run.error.kind }, { "failed", "node a failed", "sql" })
    lu.assertNotNil(run.ended_at)
  end

  function T:test_runs_are_listed_newest_first_and_filtered()
    local now = 1700000000000
    local store <close> = self.open { clock = function()
      now = now + 1
      return now
    end }
    local first = store:create_run(a_run { flow = "x" })
    local second = claimed(store)
    store:end_run(second, { state = "success" })
    lu.assertEquals(ids(store:runs()), { second, first })
    lu.assertEquals(ids(store:runs { flow = "x" }), { first })
    lu.assertEquals(ids(store:runs { state = "success" }), { second })
    lu.assertEquals(ids(store:runs { limit = 1 }), { second })
  end

  function T:test_a_run_is_found_by_prefix_last_six_and_last()
    local id = self.store:create_run(a_run())
    for _, word in ipairs { id, id:sub(1, -2), id:sub(-6), "last" } do
      lu.assertEquals(self.store:find_run(word).id, id)
    end
    fails("not_found", nil, self.store.find_run, self.store, "nothing")
    self.store:create_run(a_run { cause = "subflow", parent_run = id, parent_node = "a" })
    lu.assertEquals(self.store:find_run("last").id, id)
    lu.assertStrContains(fails("usage", nil, self.store.find_run, self.store, "2").message, "fits several runs")
  end

  -- ---- logs ----

  function T:test_a_log_keeps_head_and_tail()
    local id = claimed(self.store)
    for batch = 0, 9 do
      local lines = {}
      for i = 1, 1000 do
        lines[i] = { at = batch, stream = "stdout", level = "info", line = "line " .. batch * 1000 + i }
      end
      self.store:add_logs(id, "a", 1, lines)
    end
    local logs = self.store:logs(id, "a", 1)
    lu.assertEquals(#logs, 4000)
    lu.assertEquals({ logs[1].line, logs[2000].line, logs[2001].line, logs[4000].line },
      { "line 1", "line 2000", "line 8001", "line 10000" })
    lu.assertEquals({ logs[2000].seq, logs[2001].seq }, { 2000, 8001 })
    local long = ("x"):rep(1 << 20)
    self.store:add_logs(id, "b", 1, { { at = 1, stream = "stderr", level = "info", line = long } })
    lu.assertTrue(#self.store:logs(id, "b")[1].line < 10000)
  end

  function T:test_a_withdrawn_attempt_counts_for_no_retry_and_its_node_waits_again()
    local id = claimed(self.store)
    self.store:begin_attempt(id, "a", 1)
    self.store:end_attempt(id, "a", 1, { state = "canceled", node_state = "waiting", withdrawn = true,
      message = "its upstream is to run again" })
    local node = self.store:nodes(id)[1]
    lu.assertEquals({ node.state, node.attempts, node.lost, node.lost_row, node.ended_at }, { "waiting", 1, 1, 0 })
    lu.assertEquals(self.store:attempts(id)[1].state, "canceled")
    lu.assertTrue(self.store:begin_attempt(id, "a", 2))
  end

  function T:test_sessions_are_kept()
    local id = claimed(self.store)
    local session = { connection = "rds", backend_pid = 5, backend_start = "2026-01-01" }
    self.store:add_session(id, "b", 1, session)
    self.store:add_session(id, "b", 1, session)
    lu.assertEquals(#self.store:sessions(id, "b"), 1)
  end

  function T:test_a_noisy_attempt_keeps_some_megabytes_and_a_noisy_run_some_dozens()
    local id = claimed(self.store)
    local line = ("x"):rep(8000)
    local lines = {}
    for i = 1, 700 do lines[i] = { at = i, stream = "stdout", level = "info", line = i .. line } end
    self.store:add_logs(id, "a", 1, lines)
    self.store:add_logs(id, "a", 1, lines)
    local kept = self.store:logs(id, "a", 1)
    lu.assertAlmostEquals(#kept, 2 * (2 << 20) // 8003, 3)
    lu.assertEquals({ kept[1].seq, kept[#kept].seq }, { 1, 1400 })
    self.store.logs_of[id].bytes = 64 << 20 -- as if other attempts had filled the budget
    self.store:add_logs(id, "b", 1, { table.unpack(lines, 1, 5) })
    self.store:add_logs(id, "b", 1, { table.unpack(lines, 6, 100) })
    lu.assertEquals(#self.store:logs(id, "b", 1), 40)
  end

  function T:test_a_line_is_cut_between_characters()
    local id = claimed(self.store)
    self.store:add_logs(id, "a", 1, { { at = 1, stream = "log", level = "info", line = "x" .. ("é"):rep(5000) } })
    local line = self.store:logs(id, "a")[1].line
    lu.assertNotNil(utf8.len(line))
    lu.assertTrue(#line > 8000 and #line < 8210)
  end

  -- ---- sources ----

  function T:test_sources_are_kept_once()
    self.store:save_source("h1", { format = 1, nodes = {}, big = math.maxinteger }, { text = "x" })
    self.store:save_source("h1", { format = 2 }, {})
    lu.assertEquals(self.store:source "h1", { document = { format = 1, nodes = {}, big = math.maxinteger },
      sources = { text = "x" } })
    fails("not_found", nil, self.store.source, self.store, "h2")
  end

  -- ---- claims ----

  local function serve(store) return store:register_runner { kind = "serve", lease_ms = 15000 } end

  local function claim(store, runner, limit, root)
    return ids(store:claim_runs { runner = runner, limit = limit or 100, root = root })
  end

  function T:test_a_claim_has_all_that_a_runner_needs()
    self.store:save_source("abc", { format = 1, flow = "f" }, {})
    local id = self.store:create_run(a_run { settings = { set = { x = "1" }, only = { "a" } }, cause = "rerun",
      of_run = "earlier", done = { a = { outputs = { rows = 5 } } }, deadline = 99 })
    local run = self.store:claim_runs { runner = serve(self.store), limit = 5 }[1]
    lu.assertEquals({ run.id, run.epoch, run.document.format, run.settings.set.x, run.settings.only, run.deadline_at },
      { id, 0, 1, "1", { "a" }, 99 })
    local a, b = run.nodes[1], run.nodes[2]
    lu.assertEquals({ a.node, a.state, a.outputs, a.message }, { "a", "success", { rows = 5 },
      "taken over from run earlier" })
    lu.assertEquals({ b.node, b.state, b.attempts, b.upstream, b.outputs }, { "b", "waiting", 0, { "a" }, {} })
    lu.assertEquals(self.store:run(id).state, "running")
  end

  function T:test_claims_go_by_priority_then_scheduled_time()
    local function make(priority, scheduled)
      return self.store:create_run(a_run { priority = priority, scheduled = scheduled })
    end
    local late, early, low, high = make(5, 200), make(5, 100), make(1, 50), make(10, 300)
    local me = serve(self.store)
    lu.assertEquals(claim(self.store, me, 2), { high, early })
    lu.assertEquals(claim(self.store, me, 2), { late, low })
    lu.assertEquals(claim(self.store, me, 2), {})
  end

  function T:test_a_reserved_run_is_claimed_by_its_runner_alone_while_that_lives()
    local one, two = serve(self.store), serve(self.store)
    local id = self.store:create_run(a_run { runner = one })
    lu.assertEquals(claim(self.store, two), {})
    lu.assertEquals(claim(self.store, two, 1, id), {})
    local again <close> = self.open()
    again:leave(one)
    lu.assertEquals(claim(self.store, two), { id })
    local mine = self.store:create_run(a_run { runner = two })
    lu.assertEquals(claim(self.store, two, 1), { mine })
  end

  function T:test_a_runner_with_a_root_claims_its_run_and_subflows_alone()
    local me = serve(self.store)
    self.store:create_run(a_run())
    local root = self.store:create_run(a_run())
    local child = self.store:create_run(a_run { cause = "subflow", parent_run = root, parent_node = "a" })
    local grandchild = self.store:create_run(a_run { cause = "subflow", parent_run = child, parent_node = "a" })
    local got = claim(self.store, me, 10, root)
    table.sort(got)
    local wanted = { root, child, grandchild }
    table.sort(wanted)
    lu.assertEquals(got, wanted)
    lu.assertEquals(self.store:run(grandchild).root_run, root)
  end

  function T:test_one_run_of_a_limited_flow_at_a_time_in_order()
    local me = serve(self.store)
    local made = {}
    for i = 1, 3 do
      made[i] = self.store:create_run(a_run { cause = "schedule", concurrency = "queue", scheduled = i })
    end
    local manual = self.store:create_run(a_run { scheduled = 4 })
    local other = self.store:create_run(a_run { flow = "g", cause = "schedule", concurrency = "queue", scheduled = 5 })
    lu.assertEquals(claim(self.store, me), { made[1], manual, other })
    lu.assertEquals(claim(self.store, me), {})
    self.store:pause_run(made[1])
    lu.assertEquals(claim(self.store, me), {}) -- a paused one has not ended
    self.store:end_run(made[1], { state = "success" })
    lu.assertEquals(claim(self.store, me), { made[2] })
    self.store:end_run(made[2], { state = "failed" })
    lu.assertEquals(claim(self.store, me), { made[3] })
  end

  function T:test_parallel_runs_of_a_flow_run_side_by_side()
    local me = serve(self.store)
    for i = 1, 3 do self.store:create_run(a_run { cause = "schedule", scheduled = i }) end
    lu.assertEquals(#claim(self.store, me), 3)
  end

  function T:test_scheduled_runs_of_a_paused_flow_wait_and_hold_up_no_others()
    local me = serve(self.store)
    self.store.db:exec([[INSERT INTO flows (flow, file, paused_at, changed) VALUES ('f', 'f.lua', 1, 1)]])
    local scheduled = self.store:create_run(a_run { cause = "schedule", concurrency = "queue", scheduled = 1 })
    local rerun = self.store:create_run(a_run { cause = "rerun", concurrency = "queue", scheduled = 2 })
    lu.assertEquals(claim(self.store, me), { rerun })
    self.store:end_run(rerun, { state = "success" })
    lu.assertEquals(claim(self.store, me), {})
    self.store.db:exec "UPDATE flows SET paused_at = NULL"
    lu.assertEquals(claim(self.store, me), { scheduled })
  end

  function T:test_a_backfill_runs_so_many_at_once_by_position()
    local me = serve(self.store)
    self.store.db:exec("INSERT INTO backfills (id, flow, jobs) VALUES ('b', 'f', 2)")
    local made = {}
    for i = 1, 5 do -- the newest first
      made[i] = self.store:create_run(a_run { cause = "backfill", backfill = "b", backfill_position = i,
        scheduled = 100 - i })
    end
    local first = claim(self.store, me)
    table.sort(first)
    local wanted = { made[1], made[2] }
    table.sort(wanted)
    lu.assertEquals(first, wanted)
    lu.assertEquals(claim(self.store, me), {})
    self.store:end_run(made[1], { state = "success" })
    lu.assertEquals(claim(self.store, me), { made[3] })
    for _, i in ipairs { 2, 3 } do self.store:end_run(made[i], { state = "success" }) end
    lu.assertEquals(#claim(self.store, me), 2)
    for _, i in ipairs { 4, 5 } do self.store:end_run(made[i], { state = "failed" }) end
    lu.assertEquals(self.store.db:row("SELECT open FROM backfills").open, 1)
    claim(self.store, me)
    lu.assertEquals(self.store.db:row("SELECT open FROM backfills").open, 0)
    self.store:restore_run(made[5])
    lu.assertEquals(claim(self.store, me), { made[5] })
  end

  -- ---- leases, takeover, fences ----

  function T:test_a_lease_that_ran_out_is_taken_over_and_its_writes_are_fenced()
    local now = 1000
    local function clock() return now end
    local first <close> = self.open { clock = clock }
    local second <close> = self.open { clock = clock }
    local one = first:register_runner { kind = "serve", lease_ms = 15000 }
    local id = first:create_run(a_run())
    first:claim_runs { runner = one, limit = 1 }
    first:begin_attempt(id, "a", 1)
    now = now + 10000
    lu.assertTrue(first:renew(one))
    local two = second:register_runner { kind = "serve", lease_ms = 15000 }
    now = now + 14000
    lu.assertTrue(second:renew(two))
    lu.assertEquals(second:reap(two), {})
    now = now + 1001
    local gone = second:reap(two)
    lu.assertEquals({ #gone, gone[1].runner, gone[1].runs }, { 1, one, { id } })
    lu.assertEquals(second:reap(two), {})
    local run, node, attempt = second:run(id), second:nodes(id)[1], second:attempts(id)[1]
    lu.assertEquals({ run.state, run.runner, run.epoch }, { "running", nil, 1 })
    lu.assertEquals({ node.state, node.attempts, node.lost, node.lost_row, attempt.state },
      { "waiting", 1, 1, 1, "lost" })
    lu.assertFalse(first:renew(one))
    -- nothing that the first writes from now on is kept
    local before = second:decisions(id)
    fails("conflict", "LOST", first.end_attempt, first, id, "a", 1, { state = "success", node_state = "success" })
    fails("conflict", "LOST", first.begin_attempt, first, id, "b", 1)
    fails("conflict", "LOST", first.add_logs, first, id, "a", 1,
      { { at = 1, stream = "log", level = "info", line = "x" } })
    fails("conflict", "LOST", first.add_session, first, id, "a", 1,
      { connection = "c", backend_pid = 1, backend_start = "" })
    fails("conflict", "LOST", first.decide, first, id, "a", "x", "y")
    fails("conflict", "LOST", first.end_nodes, first, id, { "b" }, "skipped", "x")
    fails("conflict", "LOST", first.set_waiting, first, id, "a", { kind = "probe" }, 1)
    fails("conflict", "LOST", first.pause_run, first, id)
    fails("conflict", "LOST", first.end_run, first, id, { state = "success" })
    fails("conflict", "LOST", first.check_claim, first, id)
    lu.assertEquals(second:decisions(id), before)
    lu.assertEquals({ #second:logs(id), #second:attempts(id), second:run(id).state }, { 0, 1, "running" })
    -- the second goes on where the first stopped
    local taken = second:claim_runs { runner = two, limit = 1 }
    lu.assertEquals({ taken[1].id, taken[1].epoch, taken[1].nodes[1].attempts }, { id, 1, 1 })
    lu.assertTrue(second:begin_attempt(id, "a", 2))
    fails("conflict", "LOST", first.begin_attempt, first, id, "a", 3)
    second:end_attempt(id, "a", 2, { state = "success", node_state = "success" })
    lu.assertEquals({ second:nodes(id)[1].lost, second:nodes(id)[1].lost_row }, { 1, 0 })
  end

  function T:test_a_dead_process_of_this_host_is_found_at_once()
    local me, dead = serve(self.store), serve(self.store)
    local id = self.store:create_run(a_run())
    claim(self.store, dead)
    self.store.db:exec("UPDATE runners SET pid = 4194305 WHERE id = ?", dead)
    lu.assertEquals(self.store:reap(me)[1].runs, { id })
    lu.assertEquals(claim(self.store, me), { id })
    -- another process with its number is not it
    local reused = serve(self.store)
    self.store.db:exec("UPDATE runners SET process_start = '1' WHERE id = ?", reused)
    lu.assertEquals(#self.store:reap(me), 1)
    -- one of another host, or of a namesake, has its lease
    local far, namesake = serve(self.store), serve(self.store)
    self.store.db:exec("UPDATE runners SET host = 'elsewhere', pid = 4194305 WHERE id = ?", far)
    self.store.db:exec("UPDATE runners SET boot = 'another', pid = 4194305 WHERE id = ?", namesake)
    lu.assertEquals(self.store:reap(me), {})
    lu.assertEquals(#self.store:runners(), 3)
    lu.assertEquals(#self.store:runners(true), 5)
  end

  function T:test_a_runner_that_leaves_gives_its_runs_back()
    local one, two = serve(self.store), serve(self.store)
    local id = self.store:create_run(a_run())
    claim(self.store, one)
    self.store:begin_attempt(id, "a", 1)
    lu.assertEquals(self.store:leave(one), { id })
    lu.assertEquals(self.store:leave(one), {})
    fails("conflict", "LOST", self.store.begin_attempt, self.store, id, "a", 2)
    lu.assertEquals(claim(self.store, two), { id })
    lu.assertEquals(self.store:attempts(id)[1].state, "lost")
  end

  function T:test_a_runner_that_was_declared_gone_claims_nothing()
    local one, two = serve(self.store), serve(self.store)
    local id = self.store:create_run(a_run())
    self.store:leave(one)
    lu.assertEquals(claim(self.store, one), {})
    lu.assertEquals(claim(self.store, two), { id })
  end

  -- As when it was stopped in the middle of its claim, and went on after that.
  function T:test_what_a_runner_took_as_it_was_declared_gone_is_given_back()
    local one, two = serve(self.store), serve(self.store)
    local id = self.store:create_run(a_run())
    claim(self.store, one)
    self.store:begin_attempt(id, "a", 1)
    self.store.db:exec("UPDATE runners SET state = 'gone' WHERE id = ?", one)
    local gone = self.store:reap(two)
    lu.assertEquals({ #gone, gone[1].runner, gone[1].kind, gone[1].runs }, { 1, one, "serve", { id } })
    fails("conflict", "LOST", self.store.begin_attempt, self.store, id, "b", 1)
    lu.assertEquals(self.store:reap(two), {})
    lu.assertEquals(claim(self.store, two), { id })
    lu.assertEquals(self.store:attempts(id)[1].state, "lost")
  end

  function T:test_what_waits_between_attempts_survives_a_takeover()
    local one, two = serve(self.store), serve(self.store)
    local id = self.store:create_run(a_run())
    claim(self.store, one)
    self.store:begin_attempt(id, "a", 1, { pool = "p", limit = 1 })
    self.store:set_waiting(id, "a", { kind = "probe", every = 5 }, 4242, "no rows yet")
    self.store:begin_attempt(id, "b", 1)
    self.store:end_attempt(id, "b", 1, { state = "failed", node_state = "retrying", next_at = 77 })
    self.store:leave(one)
    local nodes = self.store:claim_runs { runner = two, limit = 1 }[1].nodes
    lu.assertEquals({ nodes[1].state, nodes[1].waiting, nodes[1].next_at, nodes[1].lost, nodes[1].message },
      { "polling", { kind = "probe", every = 5 }, 4242, 0, "no rows yet" })
    lu.assertEquals({ nodes[2].state, nodes[2].next_at, nodes[2].lost }, { "retrying", 77, 0 })
    lu.assertTrue(self.store:begin_attempt(id, "a", 1, { pool = "p", limit = 1 }))
    local attempt = self.store:attempts(id, "a")[1]
    lu.assertEquals({ attempt.state, attempt.probes, attempt.runner }, { "running", 1, two })
  end

  -- ---- pools ----

  function T:test_a_pool_is_counted_across_runs_and_free_when_nothing_runs_in_it()
    local first, second = claimed(self.store), claimed(self.store)
    local pool = { pool = "rds", limit = 2 }
    lu.assertTrue(self.store:begin_attempt(first, "a", 1, pool))
    lu.assertTrue(self.store:begin_attempt(second, "a", 1, pool))
    lu.assertEquals({ self.store:begin_attempt(second, "b", 1, pool) }, { false, "pool full" })
    lu.assertEquals(self.store:nodes(second)[2].state, "waiting")
    lu.assertTrue(self.store:begin_attempt(second, "b", 1, { pool = "other", limit = 1 }))
    self.store:set_waiting(first, "a", { kind = "probe" }, 1) -- what waits holds no place
    lu.assertTrue(self.store:begin_attempt(first, "b", 1, pool))
    lu.assertEquals({ self.store:begin_attempt(first, "a", 1, pool) }, { false, "pool full" })
    self.store:end_attempt(second, "a", 1, { state = "failed", node_state = "failed" })
    lu.assertTrue(self.store:begin_attempt(first, "a", 1, pool))
  end

  -- ---- requests ----

  function T:test_requests_reach_the_runner_that_has_the_run()
    local id, me = claimed(self.store)
    local seq = self.store:changes()
    lu.assertEquals(self.store:requests(me), {})
    lu.assertFalse(self.store:request(id, "pause"))
    lu.assertTrue(self.store:changes() > seq)
    lu.assertEquals(self.store:requests(me), { { run = id, request = "pause" } })
    self.store:pause_run(id)
    lu.assertEquals(self.store:requests(me), {})
    lu.assertEquals(self.store:run(id).state, "paused")
    lu.assertTrue(self.store:request(id, "pause"))
    lu.assertFalse(self.store:request(id, "resume"))
    self.store:resume_run(id)
    lu.assertFalse(self.store:request(id, "stop"))
    self.store:pause_run(id) -- a pause of before the stop comes to its end, and does not undo it
    fails("conflict", nil, self.store.request, self.store, id, "pause") -- a stop is for good
    fails("conflict", nil, self.store.request, self.store, id, "resume")
    lu.assertFalse(self.store:request(id, "stop"))
    lu.assertEquals(self.store:requests(me), { { run = id, request = "stop" } })
    self.store:end_run(id, { state = "canceled" })
    lu.assertEquals(self.store:requests(me), {})
    fails("conflict", nil, self.store.request, self.store, id, "stop")
    fails("not_found", nil, self.store.request, self.store, "nothing", "stop")
  end

  function T:test_requests_for_a_run_without_runner_are_done_at_once()
    local me = serve(self.store)
    local stopped, paused = self.store:create_run(a_run()), self.store:create_run(a_run())
    lu.assertTrue(self.store:request(stopped, "stop"))
    lu.assertEquals({ self.store:run(stopped).state, self.store:nodes(stopped)[1].state }, { "canceled", "canceled" })
    lu.assertTrue(self.store:request(paused, "pause"))
    lu.assertEquals(claim(self.store, me), {})
    lu.assertTrue(self.store:request(paused, "resume"))
    lu.assertEquals(claim(self.store, me), { paused })
    -- one that was running: its next runner sees to it
    self.store:begin_attempt(paused, "a", 1)
    self.store:leave(me)
    lu.assertFalse(self.store:request(paused, "stop"))
    local next_one = serve(self.store)
    lu.assertEquals(self.store:claim_runs { runner = next_one, limit = 1 }[1].request, "stop")
  end

  -- ---- after the end ----

  function T:test_what_a_success_skipped_is_not_restored()
    local id = claimed(self.store)
    self.store:begin_attempt(id, "a", 1)
    self.store:end_attempt(id, "a", 1, { state = "success", node_state = "success" })
    self.store:end_nodes(id, { "b" }, "skipped", "branch 'a' is closed")
    self.store:end_run(id, { state = "success" })
    lu.assertEquals(fails("conflict", nil, self.store.restore_run, self.store, id).message,
      ("run %s has nothing to restore"):format(id))
    self.store:mark_run(id, "failed", "by hand")
    lu.assertEquals(self.store:restore_run(id), 1)
  end

  function T:test_a_run_that_died_with_all_its_nodes_done_is_restored_to_be_ended()
    local id = claimed(self.store)
    for _, node in ipairs { "a", "b" } do
      self.store:begin_attempt(id, node, 1)
      self.store:end_attempt(id, node, 1, { state = "success", node_state = "success" })
    end
    self.store:end_run(id, { state = "failed", message = "runner died" })
    lu.assertEquals(self.store:restore_run(id), 0)
    lu.assertEquals(self.store:run(id).state, "queued")
  end

  function T:test_a_restored_run_has_its_failed_nodes_to_do_and_a_new_epoch()
    local id, me = claimed(self.store)
    self.store:begin_attempt(id, "a", 1)
    self.store:end_attempt(id, "a", 1, { state = "success", node_state = "success", outputs = { x = 1 } })
    self.store:begin_attempt(id, "b", 1)
    self.store:end_attempt(id, "b", 1, { state = "failed", node_state = "failed", message = "broken" })
    fails("conflict", nil, self.store.restore_run, self.store, id)
    self.store:end_run(id, { state = "failed", message = "node 'b' failed", error = errors.new("io", "broken") })
    lu.assertEquals(self.store:restore_run(id), 1)
    local run = self.store:run(id)
    lu.assertEquals({ run.state, run.epoch, run.message, run.error, run.ended_at }, { "queued", 1 })
    local taken = self.store:claim_runs { runner = me, limit = 1 }[1]
    lu.assertEquals({ taken.nodes[1].state, taken.nodes[1].outputs }, { "success", { x = 1 } })
    lu.assertEquals({ taken.nodes[2].state, taken.nodes[2].attempts, taken.nodes[2].before }, { "waiting", 1, 1 })
    lu.assertNil(taken.nodes[2].started_at) -- its time is that of what comes now
    self.store:begin_attempt(id, "b", 2)
    self.store:end_attempt(id, "b", 2, { state = "success", node_state = "success" })
    self.store:end_run(id, { state = "success" })
    fails("conflict", nil, self.store.restore_run, self.store, id)
    lu.assertEquals(self.store:restore_run(id, { "a", "b" }), 2)
    lu.assertEquals(self.store:outputs(id), {})
  end

  function T:test_a_marked_run_has_another_end_and_says_why()
    local id = claimed(self.store)
    fails("conflict", nil, self.store.mark_run, self.store, id, "success", "done by hand")
    self.store:end_run(id, { state = "failed", error = errors.new("io", "broken") })
    self.store:mark_run(id, "success", "done by hand")
    local run = self.store:run(id)
    lu.assertEquals({ run.state, run.message, run.error }, { "success", "marked: done by hand" })
    lu.assertStrContains(self.store:decisions(id)[1].reason, "was failed: done by hand")
    fails("conflict", nil, self.store.mark_run, self.store, id, "success", "again")
  end

  -- ---- events, deadlines ----

  function T:test_successes_that_a_flow_waits_for_are_events()
    self.store.db:exec([[INSERT INTO flows (flow, file, version_no, schedule, changed) VALUES
      ('g', 'g.lua', 1, '{"kind":"event","after":[{"flow":"f"},{"flow":"f","node":"a"}]}', 1)]])
    self.store:touch()
    local id = claimed(self.store, { cause = "schedule" })
    for _, node in ipairs { "a", "b" } do
      self.store:begin_attempt(id, node, 1)
      self.store:end_attempt(id, node, 1, { state = "success", node_state = "success" })
    end
    self.store:end_run(id, { state = "success" })
    local other = claimed(self.store, { flow = "h" })
    self.store:end_run(other, { state = "success" })
    local events = self.store.db:query "SELECT seq, flow, node, run_id, cause, scheduled_at FROM events ORDER BY seq"
    lu.assertEquals(events, {
      { seq = 1, flow = "f", node = "a", run_id = id, cause = "schedule", scheduled_at = 1700000000000 },
      { seq = 2, flow = "f", node = "", run_id = id, cause = "schedule", scheduled_at = 1700000000000 } })
  end

  function T:test_a_run_past_its_deadline_is_late_once_queued_or_running()
    local now = 1000
    local store <close> = self.open { clock = function() return now end }
    store:save_source("abc", { hooks = { on_late = { { shell = "echo" } } } }, {})
    local id = store:create_run(a_run { deadline = 2000, cause = "schedule" })
    lu.assertEquals(store:overdue(), {})
    now = 2000
    lu.assertEquals(store:overdue(), { id })
    lu.assertTrue(store:late(id))
    lu.assertFalse(store:late(id))
    lu.assertEquals(store:overdue(), {})
    lu.assertEquals(store.db:query "SELECT what, state FROM notices", { { what = "late", state = "pending" } })
  end

  function T:test_a_node_past_its_deadline_is_late_once()
    self.store:save_source("abc", { hooks = { on_late = { { shell = "a" }, { webhook = "b" } } } }, {})
    local id = claimed(self.store, { cause = "schedule" })
    lu.assertTrue(self.store:late_node(id, "a", 1700000000000))
    lu.assertFalse(self.store:late_node(id, "a", 1700000000000))
    local told = {}
    for i, notice in ipairs(self.store:notices(id)) do told[i] = notice.what .. " " .. notice.node end
    lu.assertEquals(told, { "late a", "late a" })
    local decision = self.store:decisions(id)[1]
    lu.assertEquals({ decision.node, decision.what, decision.reason },
      { "a", "late", "it has not ended by its deadline, 2023-11-14 22:13:20 UTC" })
    self.store:end_run(id, { state = "failed" })
    self.store:restore_run(id)
    lu.assertNotNil(self.store:nodes(id)[1].late_at) -- it is known for the life of the run
  end

  function T:test_an_attempt_may_fail_before_it_began()
    local id = claimed(self.store)
    local err = { kind = "timeout", message = "waited" }
    self.store:end_attempt(id, "a", 1, { state = "failed", node_state = "failed", error = err, message = "waited",
      unbegun = true })
    local attempt, node = self.store:attempts(id)[1], self.store:nodes(id)[1]
    lu.assertEquals({ attempt.attempt, attempt.state, attempt.error.kind, attempt.ended_at }, { 1, "failed", "timeout",
      attempt.started_at })
    lu.assertEquals({ node.state, node.attempts, node.message }, { "failed", 1, "waited" })
  end

  function T:test_the_end_of_a_run_and_its_notices_are_one_step()
    self.store:save_source("abc", { hooks = { on_failure = { { shell = "a" }, { webhook = "b" } } } }, {})
    local id = claimed(self.store, { cause = "schedule" })
    self.store:end_run(id, { state = "failed" })
    lu.assertEquals(#self.store.db:query "SELECT id FROM notices WHERE what = 'failure'", 2)
  end

  function T:test_runs_upstream_are_found_by_scheduled_time()
    local store = self.store
    local function ended(scheduled, state)
      local id = claimed(store, { cause = "schedule", scheduled = scheduled })
      store:begin_attempt(id, "a", 1)
      store:end_attempt(id, "a", 1, { state = "success", node_state = "success" })
      store:end_run(id, { state = state })
      return id
    end
    local one, two = ended(100, "success"), ended(200, "failed")
    lu.assertEquals(store:upstream_run { flow = "f", from_ms = 100, to_ms = 200 }.id, one)
    lu.assertNil(store:upstream_run { flow = "f", from_ms = 101, to_ms = 200 })
    lu.assertEquals(store:upstream_run { flow = "f", node = "a", from_ms = 101, to_ms = 200 }.id, two)
    lu.assertEquals(store:upstream_run { flow = "f", previous = true, before_ms = 300 }.state, "failed")
    lu.assertNil(store:upstream_run { flow = "f", previous = true, before_ms = 100 })
  end

  -- ---- forgetting ----

  function T:test_gc_forgets_what_ended_long_ago_and_nothing_else()
    local now, day = 1700000000000, 86400000
    local store <close> = self.open { clock = function() return now end }
    for _, hash in ipairs { "old", "live", "used" } do store:save_source(hash, { hash = hash }, {}) end
    for number, hash in ipairs { "old", "old", "old", "old", "old", "old", "live" } do
      store.db:exec("INSERT INTO versions (flow, number, hash, published_at, published_by) VALUES ('f', ?, ?, ?, 'me')",
        number, hash, now)
    end
    store.db:exec("INSERT INTO flows (flow, file, version_no, hash, cursor_at, changed) VALUES ('f', 'f', 7, 'live', ?, 1)",
      now + 5)
    local runner = store:register_runner { kind = "serve", lease_ms = 15000 }
    local function make(changes)
      local id = store:create_run(a_run(changes))
      store:claim_runs { runner = runner, limit = 1, root = id }
      store:begin_attempt(id, "a", 1)
      return id
    end
    local old, running = make { version = "old" }, make { version = "old" }
    local child = make { version = "old", parent_run = running, parent_node = "b", cause = "subflow" }
    store:end_run(child, { state = "success" })
    store:add_logs(old, "a", 1, { { at = 1, stream = "log", level = "info", line = "x" } })
    store:end_run(old, { state = "success" })
    for i = 1, 450 do
      store.db:exec("INSERT INTO slots (flow, schedule, slot_at, state, created_at) VALUES ('f', 'main', ?, 'run', ?)",
        now + i, now)
    end
    now = now + 100 * day
    local new = make { version = "used" }
    store:end_run(new, { state = "success" })
    local counts = store:gc { keep_ms = 90 * day }
    lu.assertEquals({ counts.runs, counts.slots, counts.versions, counts.sources }, { 1, 4, 2, 0 })
    lu.assertNotNil(store:run(child)) -- its parent has not looked at it yet
    lu.assertEquals({ store:run(old) ~= nil, store:run(running) ~= nil, store:run(new) ~= nil }, { false, true, true })
    for _, name in ipairs { "nodes", "attempts", "logs" } do
      lu.assertNil(store.db:row(("SELECT run_id FROM %s WHERE run_id = ?"):format(name), old))
    end
    store:end_run(running, { state = "success" })
    now = now + 100 * day
    store.db:exec("UPDATE versions SET hash = 'live'")
    store.db:exec("UPDATE flows SET cursor_at = ?", now)
    counts = store:gc { keep_ms = 90 * day }
    lu.assertEquals({ counts.runs, counts.slots, counts.sources }, { 3, 446, 2 })
    lu.assertEquals(store:source "live".document.hash, "live")
  end

  -- ---- the face ----

  function T:test_values_come_back_as_they_went()
    local db = self.store.db
    db:exec "CREATE TABLE probe (i BIGINT, j INTEGER, t TEXT)"
    db:exec("INSERT INTO probe VALUES (?, ?, ?)", math.mininteger, true, "a'b\\c$1?\n\"é")
    db:exec("INSERT INTO probe VALUES (?, ?, ?)", 5.0, nil, nil)
    db:exec("INSERT INTO probe (i, t) VALUES (7, 'who? -- me' /* ? */ ) -- ?\n")
    local rows = db:query "SELECT i, j, t FROM probe ORDER BY i"
    lu.assertEquals(rows, { { i = math.mininteger, j = 1, t = "a'b\\c$1?\n\"é" }, { i = 5 }, { i = 7, t = "who? -- me" } })
    lu.assertEquals(math.type(rows[2].i), "integer")
    lu.assertEquals(db:row("SELECT count(*) AS n, CAST(sum(i) AS BIGINT) AS total FROM probe WHERE ? IS NULL AND i > 0", nil),
      { n = 2, total = 12 })
    lu.assertEquals(db:exec("UPDATE probe SET j = 2 WHERE i > ?", 0), 2)
    lu.assertNil(db:row "SELECT i FROM probe WHERE i = 1")
    lu.assertEquals(db:query("SELECT t FROM probe WHERE t IN (?, ?)", "who? -- me", "B"), { { t = "who? -- me" } })
  end

  function T:test_a_transaction_is_all_or_nothing_and_nests()
    local db = self.store.db
    db:exec "CREATE TABLE probe (i BIGINT PRIMARY KEY)"
    local a, b = db:transaction(function()
      db:transaction(function() db:exec "INSERT INTO probe VALUES (1)" end)
      return "x", nil
    end)
    lu.assertEquals({ a, b }, { "x" })
    fails("usage", nil, db.transaction, db, function()
      db:exec "INSERT INTO probe VALUES (2)"
      errors.usage "no"
    end)
    fails("conflict", nil, db.transaction, db, function()
      db:exec "INSERT INTO probe VALUES (3)"
      db:exec "INSERT INTO probe VALUES (1)"
    end)
    lu.assertEquals(db:query "SELECT i FROM probe", { { i = 1 } })
  end

  function T:test_text_is_ordered_by_its_bytes()
    local db = self.store.db
    db:exec("INSERT INTO flows (flow, file, changed) VALUES ('b', '', 1), ('B', '', 1), ('-c', '', 1), ('é', '', 1)")
    local order = {}
    for i, row in ipairs(db:query "SELECT flow FROM flows ORDER BY flow") do order[i] = row.flow end
    lu.assertEquals(order, { "-c", "B", "b", "é" })
  end

  -- ---- many processes ----

  -- Starts claimers on the store, waits for their ends; which process had each run.
  local function run_claimers(url, count, limit, places)
    local children, had = {}, {}
    for i = 1, count do
      children[i] = proc.spawn { cmd = { os.getenv "TM_BIN", "exec", "tests/support/state_claimer.lua", url,
        tostring(limit), places and tostring(places) }, stdout = "pipe" }
    end
    for i, child in ipairs(children) do
      local text = ""
      for bytes in function() return child:read(1, 120) end do text = text .. bytes end
      lu.assertEquals(child:wait(10).code, 0)
      for id in text:gmatch "%S+" do
        lu.assertNil(had[id], id)
        had[id] = i
      end
    end
    return had
  end

  local function make_many(store, count, changes)
    store.db:transaction(function()
      for i = 1, count do
        changes.scheduled, changes.flow = i, "f" .. i % 7
        store:create_run_in(a_run(changes))
      end
    end)
  end

  function T:test_many_processes_claim_each_run_once()
    make_many(self.store, 2000, { cause = "trigger" })
    local had, count = run_claimers(self.url, 4, 20), 0
    for _ in pairs(had) do count = count + 1 end
    lu.assertEquals(count, 2000)
    lu.assertEquals(self.store.db:query "SELECT state, count(*) AS n FROM runs GROUP BY state",
      { { state = "success", n = 2000 } })
  end

  function T:test_many_processes_never_run_two_of_a_limited_flow_at_once()
    make_many(self.store, 300, { cause = "schedule", concurrency = "queue" })
    local had, count = run_claimers(self.url, 4, 5), 0 -- which fail if they see it
    for _ in pairs(had) do count = count + 1 end
    lu.assertEquals(count, 300)
  end

  function T:test_killed_processes_leave_nothing_running_and_nothing_done_twice()
    make_many(self.store, 1500, { cause = "trigger" })
    local function start()
      return proc.spawn { cmd = { os.getenv "TM_BIN", "exec", "tests/support/state_claimer.lua", self.url, "7" },
        stdout = "null" }
    end
    local children, killed = { start(), start(), start() }, 0
    local function left() return self.store.db:row("SELECT count(*) AS n FROM runs WHERE state <> 'success'").n end
    local round, ends = 0, signal.mono() + 60000 * patience
    while left() > 0 and signal.mono() < ends do
      proc.poll({}, 0.01 + 0.02 * math.random())
      round = round + 1
      local i = round % 3 + 1
      if children[i]:wait(0) or killed < 30 then
        killed = killed + (children[i]:wait(0) and 0 or 1)
        children[i]:close() -- SIGKILL
        children[i] = start()
      end
      self.store:reap()
    end
    for _, child in ipairs(children) do child:close() end
    lu.assertTrue(killed > 3, killed)
    lu.assertEquals(left(), 0)
    -- each node has one success, the last of its attempts
    lu.assertEquals(self.store.db:row([[SELECT count(*) AS n FROM nodes n WHERE node = 'a' AND 1 <>
      (SELECT count(*) FROM attempts a WHERE a.run_id = n.run_id AND a.node = 'a' AND a.state = 'success')]]).n, 0)
    lu.assertEquals(self.store.db:row([[SELECT count(*) AS n FROM attempts WHERE state <> 'success' AND state <> 'lost']]).n,
      0)
    self.store:reap()
    lu.assertEquals(self.store:runners(), {})
  end

  function T:test_many_processes_keep_to_the_places_of_a_pool()
    make_many(self.store, 300, { cause = "trigger" })
    local had, count = run_claimers(self.url, 4, 5, 2), 0 -- which fail if they see more
    for _ in pairs(had) do count = count + 1 end
    lu.assertEquals(count, 300)
  end

  function T:test_many_processes_open_a_new_store_at_once()
    self.store:close()
    self.clean()
    self.open, self.clean, self.url = make_store()
    lu.assertEquals(run_claimers(self.url, 4, 1), {})
    self.store = self.open()
    lu.assertEquals(#self.store:runners(true), 4)
  end

  -- ---- plans ----

  -- Has the face note each statement that goes through it.
  local function watch(db)
    local seen, list = {}, {}
    for _, method in ipairs { "exec", "query", "row" } do
      local plain = db[method]
      db[method] = function(self, sql, ...)
        if not seen[sql] then
          seen[sql] = true
          list[#list + 1] = { sql, ... }
        end
        return plain(self, sql, ...)
      end
    end
    return list, function() for _, method in ipairs { "exec", "query", "row" } do db[method] = nil end end
  end

  function T:test_thousands_of_runs_that_wait_for_one_are_no_burden()
    local me = serve(self.store)
    self.store.db:transaction(function()
      for i = 1, 5000 do
        self.store:create_run_in(a_run { cause = "schedule", concurrency = "queue", scheduled = i, nodes = {} })
      end
    end)
    local started = signal.mono()
    for _ = 1, 5 do claim(self.store, me) end
    lu.assertTrue(signal.mono() - started < 20000) -- 0.1 s when measured; minutes when each looked at all others
  end

  function T:test_what_every_second_or_attempt_asks_is_found_through_an_index()
    local store = self.store
    store:save_source("abc", { nodes = NODES }, {})
    local list, unwatch = watch(store.db)
    local me = serve(store)
    store.db:exec("INSERT INTO backfills (id, flow, jobs) VALUES ('b', 'g', 1)")
    store:create_run(a_run { flow = "g", cause = "backfill", backfill = "b", backfill_position = 1 })
    local id = store:create_run(a_run { cause = "schedule", concurrency = "queue" })
    store:create_run(a_run { runner = me })
    for _ = 1, 2 do
      store:renew(me)
      store:reap(me)
      store:requests(me)
      store:overdue()
      store:changes()
      store:fire_due(1)
      store:take_notices(me, 10)
      store:claim_runs { runner = me, limit = 10 }
    end
    store:claim_runs { runner = me, limit = 10, root = id }
    store:begin_attempt(id, "a", 1, { pool = "p", limit = 5 })
    store:attempt_pid(id, "a", 1, 42)
    store:add_session(id, "a", 1, { connection = "c", backend_pid = 1, backend_start = "" })
    store:add_logs(id, "a", 1, { { at = 1, stream = "log", level = "info", line = "x" } })
    store:set_waiting(id, "a", { kind = "probe" }, 5)
    store:begin_attempt(id, "a", 1)
    store:end_attempt(id, "a", 1, { state = "success", node_state = "success", outputs = { x = 1 },
      decision = { what = "x", reason = "y" } })
    store:end_nodes(id, { "b" }, "skipped", "x")
    store:orphans()
    store:release_strays(me, { [id] = true })
    store:next_due()
    store:orphans()
    store:upstream_run { flow = "f", from_ms = 1, to_ms = 2 }
    store:upstream_run { flow = "f", node = "a", previous = true, before_ms = 2 }
    store:awaited({ flow = "g" }, { flow = "f", from_ms = 1, to_ms = 2, all = true })
    store:awaited({ flow = "g" }, { flow = "f", node = "a", from_ms = 1, to_ms = 2, all = true })
    store:late(id)
    store:late_node(id, "a", 5)
    store:end_run(id, { state = "success" })
    store:find_run "last"
    store:nodes(id)
    store:outputs(id)
    store:logs(id)
    store:decisions(id)
    unwatch()
    local is_pg = store.db.dialect == "postgres"
    if is_pg then store.db:script "SET enable_seqscan = off" end
    lu.assertTrue(#list > 40)
    for _, one in ipairs(list) do
      local often = not one[1]:find "LIKE '%%\"event" -- but once after each change of flows
      if one[1]:find "^%s*[SUDI]%u+" and not one[1]:find "^%s*INSERT.*VALUES" and often then
        local text = {}
        for i, row in ipairs(store.db:query((is_pg and "EXPLAIN " or "EXPLAIN QUERY PLAN ") .. table.unpack(one))) do
          text[i] = row.detail or row["QUERY PLAN"]
        end
        local plan = table.concat(text, "\n")
        local scan = plan:match "Seq Scan[^\n]*" or (plan .. "\n"):match "SEARCH %g+\n"
          or plan:gsub("SCAN %g+ USING [^\n]*", ""):match "SCAN [^\n]*"
        lu.assertNil(scan, one[1])
      end
    end
  end
end

return suite
