--- why: what runs, nodes and firing times wait for, from rows of the store.

local lu = require "luaunit"
local state = require "tidemill.state"
local why = require "tidemill.why"

local START, HOUR, DAY = 1767225600000, 3600000, 86400000 -- 2026-01-01 00:00 UTC
local NODES = {
  { name = "a", kind = "sql", after = {}, pool = "rds" },
  { name = "b", kind = "lua", after = { "a" } },
  { name = "c", kind = "lua", after = { "a", "b" } },
}

TestWhy = {}

function TestWhy:setUp()
  self.now = START
  self.store = state.open("sqlite::memory:", { clock = function() return self.now end })
  self.store:publish { flow = "f", hash = "h", by = "me@here", scheduled = true, sources = { text = "", stored = {} },
    document = { flow = "f", file = "/f.lua", timezone = "Asia/Shanghai", concurrency = "skip",
      missed = { policy = "latest" }, nodes = NODES,
      schedule = { kind = "cron", cron = "0 0 2 * * ?", timezone = "Asia/Shanghai", dst = "once" } } }
end

function TestWhy:tearDown() self.store:close() end

function TestWhy:serve() return self.store:register_runner { kind = "serve", lease_ms = 99 * DAY } end

function TestWhy:run(changes)
  local run = { flow = "f", file = "/f.lua", version = "h", version_no = 1, cause = "schedule", scheduled = START,
    business = START - DAY, timezone = "Asia/Shanghai", concurrency = "skip", nodes = NODES }
  for key, value in pairs(changes or {}) do run[key] = value end
  return self.store:create_run(run)
end

function TestWhy:claimed(changes)
  local id, runner = self:run(changes), self:serve()
  self.store:claim_runs { runner = runner, limit = 1, root = id }
  return id
end

function TestWhy:waits(id, limits) return why.waits(self.store, self.store:run(id), limits) end

function TestWhy:test_a_load_that_takes_objects_while_its_extract_runs()
  local nodes = { { name = "x", kind = "extract", after = {} },
    { name = "l", kind = "load", after = { "x" }, pipeline = "x" } }
  self.store:save_source("p", { flow = "p", nodes = nodes }, {})
  local id = self:claimed { flow = "p", version = "p", nodes = nodes }
  self.store:begin_attempt(id, "x", 1)
  lu.assertEquals(self:waits(id), { "node 'l' waits for 'x' (running); it takes the objects of 'x' meanwhile if a place"
    .. " is free" })
  self.store:begin_attempt(id, "l", 1)
  lu.assertEquals(self:waits(id), { "node 'l' takes the objects of 'x' while that runs" })
  self.store:end_attempt(id, "x", 1, { state = "success", node_state = "success" })
  lu.assertEquals(self:waits(id), {})
end

function TestWhy:test_a_queued_run_without_a_serve()
  lu.assertEquals(self:waits(self:run()), { "a live 'tidemill serve': none is on this store" })
end

function TestWhy:test_a_queued_run_that_nothing_keeps()
  self:serve()
  lu.assertEquals(self:waits(self:run()), { "a runner to claim it, within a second or so" })
end

function TestWhy:test_a_queued_run_behind_others_of_its_flow()
  local first = self:claimed()
  local second = self:run { scheduled = START + DAY }
  local third = self:run { scheduled = START + 2 * DAY }
  lu.assertEquals(self:waits(second), { ('run %s (schedule, scheduled 2026-01-01 08:00:00 +08:00) is running; '
    .. 'concurrency is "skip"'):format(first) })
  lu.assertEquals(#self:waits(third), 2)
  lu.assertStrContains(self:waits(third)[2], second .. " (schedule, scheduled 2026-01-02 08:00:00 +08:00) goes first")
  lu.assertEquals(self:waits(self:run { concurrency = "parallel" }), { "a runner to claim it, within a second or so" })
end

function TestWhy:test_a_scheduled_run_of_a_paused_flow()
  self:serve()
  local id, by_hand = self:run { concurrency = "parallel" }, self:run { cause = "trigger", concurrency = "parallel" }
  self.store:pause_flow("f", "you@there", "busy day")
  lu.assertEquals(self:waits(id),
    { "flow 'f' is paused, since 2026-01-01 08:00:00 +08:00 by you@there: busy day" })
  lu.assertEquals(self:waits(by_hand), { "a runner to claim it, within a second or so" })
end

function TestWhy:test_a_run_that_is_kept_for_a_terminal()
  local terminal = self.store:register_runner { kind = "run", lease_ms = DAY }
  local id = self:run { runner = terminal }
  lu.assertStrContains(self:waits(id)[1], "it is kept for the terminal that made it (pid ")
end

function TestWhy:test_nodes_wait_for_upstream_pools_and_places()
  local id = self:claimed()
  local lines = self:waits(id, { rds = 1 })
  lu.assertStrContains(lines[1], "node 'a' ready, waits for a place")
  lu.assertEquals(lines[2], "node 'b' waits for 'a' (waiting)")
  local other = self:run { flow = "g", cause = "manual" }
  self.store:claim_runs { runner = self:serve(), limit = 1, root = other }
  self.store:begin_attempt(other, "a", 1, { pool = "rds", limit = 1 })
  lu.assertEquals(self:waits(id, { rds = 1 })[1], "node 'a' ready, waits for pool 'rds': 1 of 1 places are taken")
  self.store:begin_attempt(id, "a", 1)
  lu.assertEquals(self:waits(id), { "node 'b' waits for 'a' (running)", "node 'c' waits for 'a' (running), 'b' (waiting)" })
end

function TestWhy:test_nodes_wait_for_a_retry_or_for_what_they_poll()
  local id = self:claimed()
  self.store:begin_attempt(id, "a", 1)
  self.store:end_attempt(id, "a", 1, { state = "failed", node_state = "retrying", message = "no route",
    next_at = START + HOUR })
  lu.assertEquals(self:waits(id)[1], "node 'a' retrying: no route, again at 2026-01-01 09:00:00 +08:00")
  self.store:begin_attempt(id, "a", 2)
  self.store:set_waiting(id, "a", { kind = "probe", every = 60 }, START + 60000, "no rows yet")
  lu.assertEquals(self:waits(id)[1], "node 'a' polling: no rows yet, again at 2026-01-01 08:01:00 +08:00")
end

function TestWhy:test_what_is_ready_waits_for_the_end_of_a_pause()
  local id = self:claimed()
  self.store:request(id, "pause", "by me@here: month end")
  local lines = self:waits(id)
  lu.assertEquals(lines[1], "it is asked to pause")
  lu.assertEquals(lines[2], "node 'a' ready, starts when the run goes on")
  lu.assertEquals(lines[3], "node 'b' waits for 'a' (waiting)")
  lu.assertEquals(self.store:decisions(id)[1].reason, "asked of its runner by me@here: month end")
end

function TestWhy:test_requests_and_ends()
  local id = self:claimed()
  self.store:request(id, "stop")
  lu.assertEquals(self:waits(id)[1], "it is asked to stop")
  self.store:end_run(id, { state = "canceled" })
  lu.assertEquals(self:waits(id), {})
end

function TestWhy:test_how_a_run_came_about()
  local id = self:run { slot = START, schedule = "main" }
  local function story(run) return table.concat(why.story(self.store, self.store:run(run)), "\n") end
  lu.assertStrContains(story(id), "started by the schedule, firing time 2026-01-01 08:00:00 +08:00")
  self.now = START + 5000
  lu.assertStrContains(story(self:run { slot = START, schedule = "main" }), "made 2026-01-01 08:00:05 +08:00, 5.0 s after its time")
  lu.assertStrContains(story(self:run { cause = "rerun", of_run = id }), "a rerun of run " .. id)
  lu.assertStrContains(story(self:run { cause = "subflow", parent_run = id, parent_node = "c" }),
    ("started by node 'c' of run %s"):format(id))
end

function TestWhy:test_firing_times()
  local flow = self.store:flow "f"
  local function reason(at) return why.slot(self.store, self.store:flow "f", at).reason end
  lu.assertEquals(reason(START + 18 * HOUR), "it is still to come")
  lu.assertStrContains(reason(START + HOUR), "that is no firing time of the live version; the next one after it is 2026-01-02 02:00:00")
  lu.assertStrContains(reason(START - 6 * HOUR), "it lay before the schedule was enabled")
  self.now = START + 2 * DAY
  lu.assertStrContains(reason(START + 18 * HOUR), "it is due, and no live 'tidemill serve' is there")
  lu.assertEquals(why.flow(self.store, flow), { "no live 'tidemill serve' on this store",
    '2 firing times are due since 2026-01-02 02:00:00 +08:00; for missed ones the policy is "latest"' })
  self:serve()
  lu.assertEquals(reason(START + 18 * HOUR), "it is due and about to be fired")
  self.store:settle_slots("f", "missed", "nobody came", self.now)
  local slot = why.slot(self.store, self.store:flow "f", START + 18 * HOUR)
  lu.assertEquals({ slot.state, slot.reason }, { "missed", "nobody came" })
  self.store.db:exec "DELETE FROM slots"
  lu.assertEquals(reason(START + 18 * HOUR), "its row is gone: 'tidemill gc' forgets those of long ago")
  lu.assertEquals(why.flow(self.store, self.store:flow "f"), {})
  self.store:unpublish("f", "me")
  lu.assertEquals(reason(self.now + DAY), "the flow is not published")
  lu.assertEquals(why.flow(self.store, self.store:flow "f"), { "it is not published" })
end

os.exit(lu.LuaUnit.run())
