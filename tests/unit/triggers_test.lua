--- executor: triggers, allowed failures, skipped nodes and closed branches.

local errors = require "tidemill.errors"
local lu = require "luaunit"
local triggers = require "tidemill.executor.triggers"
local world = require "tests.support.world"

TestTriggers = {}

local function fails() return { error = errors.new("io", "broken") } end

-- A run of these nodes to its end: states, world.
local function play(nodes, script, on_error)
  local w = world.new()
  w.script = script or {}
  w.run = w:create { nodes = nodes, on_error = on_error or "continue" }
  w.host = w:runner { root = w.run, kind = "run" }
  w:go()
  return w:states(w.run), w
end

-- What becomes of a node with that trigger behind nodes of these outcomes; nil: it waits.
local function verdict(trigger, ...)
  local records = {}
  for i, word in ipairs { ... } do
    records[i] = { name = "n" .. i, state = word }
    if word == "tolerated" then records[i].state, records[i].tolerated = "failed", true end
    if word == "closed" then records[i].state, records[i].closed = "success", "x = 1 is false" end
  end
  return (triggers.verdict(trigger, records))
end

function TestTriggers.test_each_trigger_by_what_is_before_it()
  local cases = { -- trigger, outcomes, what is done
    { "all_success", { "success", "success" }, "start" }, { "all_success", { "success", "running" }, nil },
    { "all_success", { "failed", "running" }, "skip" }, { "all_success", { "success", "skipped" }, "skip" },
    { "all_success", { "success", "closed" }, "skip" }, { "all_success", { "tolerated" }, "start" },
    { "all_success", { "canceled" }, "skip" },
    { "all_done", { "failed", "skipped", "canceled", "closed" }, "start" }, { "all_done", { "failed", "polling" }, nil },
    { "one_success", { "running", "success" }, "start" }, { "one_success", { "failed", "running" }, nil },
    { "one_success", { "failed", "closed" }, "skip" }, { "one_success", { "tolerated" }, "start" },
    { "one_failed", { "running", "failed" }, "start" }, { "one_failed", { "success", "retrying" }, nil },
    { "one_failed", { "success", "skipped" }, "skip" }, { "one_failed", { "tolerated" }, "skip" },
    { "all_failed", { "failed", "failed" }, "start" }, { "all_failed", { "failed", "running" }, nil },
    { "all_failed", { "success", "running" }, "skip" }, { "all_failed", { "failed", "skipped" }, "skip" },
    { "none_failed", { "success", "skipped", "closed" }, "start" }, { "none_failed", { "success", "running" }, nil },
    { "none_failed", { "failed", "running" }, "skip" }, { "none_failed", { "canceled" }, "skip" },
    { "one_failed", {}, "start" }, { nil, { "success" }, "start" }, { nil, { "failed" }, "skip" },
  }
  for _, case in ipairs(cases) do
    lu.assertEquals(verdict(case[1], table.unpack(case[2])), case[3],
      ("%s behind %s"):format(case[1], table.concat(case[2], ", ")))
  end
end

function TestTriggers.test_a_handler_runs_after_a_failure_and_is_skipped_after_success()
  local nodes = { { name = "a" }, { name = "b", after = { "a" } },
    { name = "alarm", after = { "a" }, trigger = "one_failed" }, { name = "tidy", after = { "b" }, trigger = "all_done" } }
  for _, policy in ipairs { "continue", "complete_running" } do
    lu.assertEquals(play(nodes, { a = fails }, policy), { a = "failed", b = "skipped", alarm = "success", tidy = "success" })
  end
  lu.assertEquals(play(nodes, { a = fails }, "stop"), { a = "failed", b = "skipped", alarm = "skipped", tidy = "skipped" })
  local states, w = play(nodes)
  lu.assertEquals(states, { a = "success", b = "success", alarm = "skipped", tidy = "success" })
  lu.assertStrContains(w:decisions(w.run), "skip: no upstream node failed")
  lu.assertEquals(w.host.runner.result.state, "success")
end

function TestTriggers.test_one_success_does_not_wait_for_the_others()
  local _, w = play({ { name = "quick" }, { name = "slow" },
    { name = "next", after = { "quick", "slow" }, trigger = "one_success" } },
    { slow = function() return { ok = true, after = 500 } end })
  lu.assertEquals(w.log, { "0 start quick", "0 start slow", "10 end quick", "10 start next", "20 end next",
    "500 end slow" })
end

function TestTriggers.test_an_allowed_failure_changes_nothing_for_the_others()
  for _, policy in ipairs { "continue", "complete_running", "stop" } do
    local states, w = play({ { name = "a", allow_failure = true }, { name = "b", after = { "a" } },
      { name = "alarm", after = { "a" }, trigger = "one_failed" } }, { a = fails }, policy)
    lu.assertEquals(states, { a = "failed", b = "success", alarm = "skipped" })
    local a = w.store:nodes(w.run)[1]
    lu.assertEquals({ a.tolerated, a.message }, { 1, "tolerated: broken" })
    lu.assertEquals(w.host.runner.result, { state = "success", message = "1 failed, which the flow allows" })
    lu.assertStrContains(w:decisions(w.run), "tolerate: the flow allows this node to fail: broken")
  end
end

function TestTriggers.test_an_allowed_failure_has_its_retries_first()
  local _, w = play({ { name = "a", allow_failure = true, retries = 2, retry_delay = 1 } }, { a = fails })
  lu.assertEquals(#w.store:attempts(w.run), 3)
end

function TestTriggers.test_a_node_whose_when_is_false_is_skipped_with_what_needs_it()
  local states, w = play({ { name = "a" }, { name = "b", after = { "a" } },
    { name = "c", after = { "a" }, trigger = "none_failed" } },
    { a = function() return { ok = true, skip = "it is not Monday" } end })
  lu.assertEquals(states, { a = "skipped", b = "skipped", c = "success" })
  lu.assertEquals(w.store:nodes(w.run)[1].message, "it is not Monday")
  lu.assertStrContains(w:decisions(w.run), "skip: it is not Monday")
  lu.assertEquals(w.host.runner.result.state, "success")
end

function TestTriggers.test_a_closed_branch_is_a_success_whose_dependants_are_skipped()
  local nodes = { { name = "gate", kind = "branch" }, { name = "behind", after = { "gate" } },
    { name = "join", after = { "behind" }, trigger = "none_failed" } }
  local closed = function()
    return { ok = true, closed = "rows > 0 is false", messages = { { t = "output", name = "result", value = "false" } } }
  end
  local states, w = play(nodes, { gate = closed })
  lu.assertEquals(states, { gate = "success", behind = "skipped", join = "success" })
  lu.assertStrContains(w:decisions(w.run), "skip: branch 'gate' is closed: rows > 0 is false")
  lu.assertEquals(w.store:outputs(w.run), { gate = { result = "false" } })
end

function TestTriggers.test_states_and_errors_of_upstream_nodes_reach_the_job()
  local seen
  play({ { name = "a" }, { name = "b", after = { "a" } }, { name = "c", after = { "b" }, trigger = "all_done" } },
    { a = fails, c = function(job)
      seen = job.status
      return { ok = true }
    end })
  lu.assertEquals(seen, { a = { state = "failed", error = "broken" }, b = { state = "skipped" } })
end

os.exit(lu.LuaUnit.run())
