--- The suite of facts and windows, the same for each database.
---
---     facts_suite.define("TestFacts", make)      -- make: see tests/support/state_suite.lua

local lu = require "luaunit"
local suite = require "tests.support.state_suite"

local facts_suite = {}

local fails = suite.fails
local NODES = {
  { name = "x", kind = "extract", after = {}, delivered_by = { "l1", "l2" } },
  { name = "alone", kind = "extract", after = {}, delivered_by = {} },
  { name = "l1", kind = "load", after = { "x" } },
  { name = "l2", kind = "load", after = { "x" } },
}

--- Registers the tests as the global class `name`.
function facts_suite.define(name, make)
  local T = {}
  _G[name] = T

  function T:setUp()
    self.open, self.clean = make()
    self.now = 1767225600000
    self.store = self.open { clock = function() return self.now end }
    self.runner = self.store:register_runner { kind = "serve", lease_ms = 1 << 40 }
  end

  function T:tearDown()
    self.store:close()
    self.clean()
  end

  -- A run of the flow that this runner has; `only` names its nodes.
  function T:begin(only)
    local document = { flow = "f", nodes = NODES }
    self.store:save_source("h", document, { text = "" })
    local nodes = {}
    for _, node in ipairs(NODES) do
      if not only or only[node.name] then nodes[#nodes + 1] = node end
    end
    local id = self.store:create_run(suite.a_run { version = "h", nodes = nodes, runner = self.runner })
    self.store:claim_runs { runner = self.runner, limit = 10, root = id }
    return id
  end

  -- A node of a run has one more attempt, which ends so.
  function T:over(run, node, state, attempt)
    self.now = self.now + 10
    self.store:begin_attempt(run, node, attempt or 1)
    self.store:end_attempt(run, node, attempt or 1, { state = state == "skipped" and "success" or state,
      node_state = state, facts = true, outputs = { manifest = "m" .. (attempt or 1) } })
  end

  function T:finish(run, state)
    self.now = self.now + 10
    self.store:end_run(run, { state = state, sealed = true })
  end

  -- Nodes of a run end so, in their order; and then the run, if it does.
  function T:ends(run, states, state)
    for _, node in ipairs(NODES) do
      if states[node.name] then self:over(run, node.name, states[node.name]) end
    end
    if state then self:finish(run, state) end
  end

  -- The window of x, and a value in it.
  function T:take(run, value, settled)
    local got = self.store:take_window(run, "x", 1, "watermark", settled)
    if value then self.store:keep_fact(run, "x", 1, "watermark", value, "delivered") end
    return got
  end

  function T:watermark()
    local fact = self.store:fact("f", "x", "watermark")
    return fact and fact.value
  end

  function T:go_on(run)
    self.store:restore_run(run, nil, nil, self.runner)
    lu.assertEquals(#self.store:claim_runs { runner = self.runner, limit = 10, root = run }, 1)
  end

  -- ---- moments ----

  function T:test_what_is_kept_until_done_is_a_fact_with_the_success_of_the_node()
    local run = self:begin()
    self.store:begin_attempt(run, "x", 1)
    self.store:keep_fact(run, "x", 1, "columns", "[1]", "done")
    lu.assertNil(self.store:fact("f", "x", "columns"))
    self:over(run, "x", "success")
    local fact = self.store:fact("f", "x", "columns")
    lu.assertEquals({ fact.value, fact.run, fact.attempt }, { "[1]", run, 1 })
    lu.assertEquals(self.store:pending_facts "f", {})
  end

  function T:test_what_a_failed_attempt_kept_until_done_is_no_fact()
    local run = self:begin()
    self.store:keep_fact(run, "x", 1, "columns", "[1]", "done")
    self:ends(run, { x = "failed" }, "failed")
    lu.assertNil(self.store:fact("f", "x", "columns"))
  end

  function T:test_a_value_that_is_taken_back_is_no_fact()
    local run = self:begin()
    self.store:keep_fact(run, "x", 1, "columns", "[1]", "done")
    self.store:keep_fact(run, "x", 1, "columns", nil, "done")
    self:take(run, "w1")
    self.store:keep_fact(run, "x", 1, "watermark", nil, "delivered")
    self:over(run, "x", "success")
    lu.assertEquals(self.store:facts("f"), {})
    lu.assertEquals(self.store:pending_facts "f", {}) -- nor is the window taken any more
  end

  function T:test_a_watermark_is_saved_with_the_last_load_that_delivers_it()
    local run = self:begin()
    lu.assertEquals(self:take(run, "w1"), {})
    self:over(run, "x", "success")
    lu.assertNil(self:watermark())
    self:over(run, "l1", "success")
    lu.assertNil(self:watermark())
    self:over(run, "l2", "success")
    lu.assertEquals(self:watermark(), "w1")
    lu.assertEquals(self.store:decisions(run)[1].what, "deliver")
    self:finish(run, "success")
    lu.assertEquals(self.store:fact("f", "x", "watermark").run, run)
  end

  function T:test_a_load_that_ends_before_its_extract_is_recorded_does_not_deliver_alone()
    local run = self:begin()
    self:take(run, "w1")
    self:over(run, "l1", "success") -- as a load does that took the objects of an earlier attempt
    self:ends(run, { x = "success", l2 = "success" })
    lu.assertNil(self:watermark())
  end

  function T:test_an_extract_without_loads_delivers_by_itself()
    local run = self:begin()
    self.store:take_window(run, "alone", 1, "watermark")
    self.store:keep_fact(run, "alone", 1, "watermark", "w", "delivered")
    self:over(run, "alone", "success")
    lu.assertEquals(self.store:fact("f", "alone", "watermark").value, "w")
  end

  function T:test_a_run_without_the_loads_delivers_nothing()
    local run = self:begin { x = true }
    self:take(run, "w1")
    self:ends(run, { x = "success" }, "success")
    lu.assertNil(self:watermark())
    run = self:begin { x = true, l1 = true }
    self:take(run, "w2")
    self:ends(run, { x = "success", l1 = "success" }, "success")
    lu.assertNil(self:watermark())
  end

  function T:test_a_skipped_load_is_no_obstacle_once_the_run_has_succeeded()
    local run = self:begin()
    self:take(run, "w1")
    self:ends(run, { x = "success", l1 = "success", l2 = "skipped" })
    lu.assertNil(self:watermark())
    self:finish(run, "success")
    lu.assertEquals(self:watermark(), "w1")
  end

  function T:test_a_skipped_load_is_an_obstacle_when_the_run_fails_or_no_load_has_loaded()
    local run = self:begin()
    self:take(run, "w1")
    self:ends(run, { x = "success", l1 = "success", l2 = "skipped" }, "failed")
    lu.assertNil(self:watermark())
    run = self:begin()
    self:take(run, "w2", { { run = self.store:pending_facts("f")[1].run, node = "x", delivered = false } })
    self:ends(run, { x = "success", l1 = "skipped", l2 = "skipped" }, "success")
    lu.assertNil(self:watermark())
  end

  function T:test_a_restore_that_makes_the_load_succeed_delivers()
    local run = self:begin()
    self:take(run, "w1")
    self:ends(run, { x = "success", l1 = "success", l2 = "failed" }, "failed")
    lu.assertNil(self:watermark())
    self:go_on(run)
    self:over(run, "l2", "success", 2)
    lu.assertEquals(self:watermark(), "w1")
  end

  function T:test_a_runner_that_lost_its_run_keeps_and_saves_nothing()
    local run = self:begin()
    self:take(run, "w1")
    self.store:leave(self.runner)
    fails("conflict", "LOST", self.store.keep_fact, self.store, run, "x", 1, "watermark", "w2", "delivered")
    fails("conflict", "LOST", self.store.take_window, self.store, run, "x", 1, "watermark")
    lu.assertEquals(self.store:pending_facts("f")[1].value, "w1")
  end

  -- ---- windows ----

  function T:test_windows_of_a_flow_belong_to_one_run_at_a_time()
    local first, second = self:begin(), self:begin()
    lu.assertEquals(self:take(first), {})
    lu.assertEquals(self:take(second), { busy = first, busy_state = "running" })
    lu.assertEquals(self.store:take_window(second, "alone", 1, "watermark").busy, first)
    lu.assertEquals(self.store:take_window(first, "alone", 1, "watermark"), {})
    self.store:keep_fact(first, "x", 1, "watermark", "w1", "delivered")
    self:over(first, "alone", "success")
    self:over(first, "x", "success")
    lu.assertEquals(self:take(second).busy, first)
    self:ends(first, { l1 = "success", l2 = "success" })
    lu.assertEquals(self:take(second), { value = "w1", saved_by = first })
    lu.assertEquals(self:take(second), { value = "w1", saved_by = first }) -- another attempt
  end

  function T:test_another_attempt_sees_what_the_one_before_kept()
    local run = self:begin()
    self:take(run, "w1")
    lu.assertEquals(self:take(run), { own = "w1" })
  end

  function T:test_the_window_of_a_run_that_loaded_nothing_is_taken_over()
    local first = self:begin()
    self:take(first, "w1")
    self:ends(first, { x = "success" }, "failed")
    local second = self:begin()
    lu.assertEquals(self:take(second, "w2"), {})
    lu.assertEquals(self.store:nodes(first)[1].state, "canceled")
    lu.assertStrContains(self.store:nodes(first)[1].message, second)
    self:go_on(first) -- it makes an increment of its own, when the other is through
    lu.assertEquals(self.store:nodes(first)[1].state, "waiting")
    lu.assertEquals(self:take(first).busy, second)
  end

  function T:test_whoever_comes_after_a_load_that_may_have_committed_must_find_out()
    local first = self:begin()
    self:take(first, "w1")
    self:ends(first, { x = "success", l1 = "failed" }, "failed")
    local second = self:begin()
    local got = self:take(second)
    lu.assertEquals(got, { left = { { run = first, node = "x", manifest = "m1", loads = {
      { name = "l1", attempts = 1, state = "failed", done = false },
      { name = "l2", attempts = 0, state = "waiting", done = false } } } } })
    lu.assertEquals(self:take(second, nil, { { run = first, node = "x", delivered = true } }).value, "w1")
    lu.assertEquals(self:watermark(), "w1")
    lu.assertEquals(self.store:nodes(first)[1].state, "success")
  end

  function T:test_what_was_not_delivered_is_void()
    local first = self:begin()
    self:take(first, "w1")
    self:ends(first, { x = "success", l1 = "failed" }, "failed")
    local second = self:begin()
    self:take(second)
    lu.assertEquals(self:take(second, nil, { { run = first, node = "x", delivered = false } }), {})
    lu.assertNil(self:watermark())
    lu.assertEquals(self.store:nodes(first)[1].state, "canceled")
  end

  function T:test_a_run_that_goes_on_meanwhile_keeps_its_window()
    local first = self:begin()
    self:take(first, "w1")
    self:ends(first, { x = "success", l1 = "failed" }, "failed")
    local second = self:begin()
    lu.assertEquals(#self:take(second).left, 1)
    self:go_on(first)
    lu.assertEquals(self:take(second, nil, { { run = first, node = "x", delivered = false } }).busy, first)
    self:over(first, "l1", "success", 2)
    self:over(first, "l2", "success")
    lu.assertEquals(self:take(second).value, "w1")
  end

  function T:test_a_run_of_which_nobody_knows_whether_it_delivered_is_not_forgotten()
    local run, other = self:begin(), self:begin()
    self:take(run, "w1")
    self:ends(run, { x = "success" }, "failed")
    self:finish(other, "failed")
    self.now = self.now + (1 << 40)
    lu.assertEquals(self.store:gc({ keep_ms = 0 }).runs, 1)
    lu.assertEquals(self.store:run(run).id, run)
  end

  -- ---- by hand ----

  function T:test_a_user_sets_and_removes_facts()
    lu.assertTrue(self.store:set_fact("f", "x", "watermark", "w7"))
    lu.assertTrue(self.store:set_fact("f", "x", "columns", "[]"))
    lu.assertEquals(self:watermark(), "w7")
    lu.assertEquals(self.store:fact("f", "x", "watermark").run, "")
    lu.assertEquals(#self.store:facts("f", "x"), 2)
    lu.assertEquals(self.store:flows_with_facts(), { "f" })
    lu.assertTrue(self.store:set_fact("f", "x", "watermark"))
    lu.assertFalse(self.store:set_fact("f", "x", "watermark"))
    lu.assertEquals(#self.store:facts "f", 1)
  end

  function T:test_a_fact_that_a_run_is_about_to_move_cannot_be_set()
    local run = self:begin()
    self:take(run, "w1")
    fails("conflict", nil, self.store.set_fact, self.store, "f", "x", "watermark", "w7")
    self:ends(run, { x = "success", l1 = "failed" }, "failed")
    self.store:set_fact("f", "x", "watermark", "w7")
    lu.assertEquals(self.store:nodes(run)[1].state, "canceled") -- a restore begins at what was set
    lu.assertEquals(self.store:pending_facts "f", {})
  end
end

return facts_suite
