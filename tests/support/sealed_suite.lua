--- The suite of sealed objects, the same for each database.
---
---     sealed_suite.define("TestSealed", make)      -- make: see tests/support/state_suite.lua

local lu = require "luaunit"
local suite = require "tests.support.state_suite"

local sealed_suite = {}

local claimed, fails = suite.claimed, suite.fails

local function sealed(n, more)
  local one = { n = n, key = ("o-%06d"):format(n), rows = 10 * n, bytes = 100, raw_bytes = 1 << 40, etag = '"e"',
    crc64 = "18446744073709551615" }
  for key, value in pairs(more or {}) do one[key] = value end
  return one
end

--- Registers the tests as the global class `name`.
function sealed_suite.define(name, make)
  local T = {}
  _G[name] = T

  function T:setUp()
    self.open, self.clean = make()
    self.store = self.open()
  end

  function T:tearDown()
    self.store:close()
    self.clean()
  end

  function T:test_sealed_objects_are_read_from_any_number_on()
    local id = claimed(self.store)
    self.store:begin_attempt(id, "a", 1)
    self.store:add_objects(id, "a", 1, { sealed(1), sealed(2, { span = { lo = "5", hi = "9", list = { 1 } } }) })
    self.store:add_objects(id, "a", 1, { sealed(2), sealed(3) }) -- number 2 again, for want of an answer
    local all = self.store:objects_after(id, "a", 1, 0, 10)
    lu.assertEquals(all[1], sealed(1))
    lu.assertEquals(all[2], sealed(2, { span = { lo = "5", hi = "9", list = { 1 } } }))
    lu.assertEquals({ #all, all[3].n, math.type(all[3].raw_bytes) }, { 3, 3, "integer" })
    local some = self.store:objects_after(id, "a", 1, 1, 1)
    lu.assertEquals({ #some, some[1].n }, { 1, 2 })
    lu.assertEquals(self.store:objects_after(id, "a", 1, 3, 10), {})
    lu.assertEquals(self.store:objects_after(id, "b", 1, 0, 10), {})
  end

  function T:test_a_thousand_sealed_objects_go_in_at_once()
    local id, list = claimed(self.store), {}
    for n = 1, 1000 do list[n] = sealed(n) end
    self.store:add_objects(id, "a", 1, list)
    lu.assertEquals(#self.store:objects_after(id, "a", 1, 0, 2000), 1000)
  end

  function T:test_sealed_objects_of_earlier_attempts_come_newest_attempt_first_page_by_page()
    local id = claimed(self.store)
    for attempt = 1, 4 do
      self.store:add_objects(id, "a", attempt, { sealed(1), sealed(2) })
    end
    local seen, last = {}, nil
    repeat
      local page = self.store:earlier_objects(id, "a", 4, last, 3)
      for _, one in ipairs(page) do seen[#seen + 1] = ("%d/%d"):format(one.attempt, one.n) end
      last = page[#page]
    until not last
    lu.assertEquals(seen, { "3/1", "3/2", "2/1", "2/2", "1/1", "1/2" })
    lu.assertEquals(self.store:earlier_objects(id, "a", 1, nil, 3), {})
  end

  function T:test_objects_of_a_run_that_has_gone_to_another_runner_are_refused()
    local id, runner = claimed(self.store)
    self.store:leave(runner)
    fails("conflict", "LOST", self.store.add_objects, self.store, id, "a", 1, { sealed(1) })
    lu.assertEquals(self.store:objects_after(id, "a", 1, 0, 10), {})
  end

  function T:test_sealed_objects_go_with_a_success_and_stay_with_a_failure()
    for state, kept in pairs { success = 0, failed = 1, canceled = 1 } do
      local id = claimed(self.store)
      self.store:add_objects(id, "a", 1, { sealed(1) })
      self.store:end_run(id, { state = state, sealed = true })
      lu.assertEquals(#self.store:objects_after(id, "a", 1, 0, 10), kept, state)
    end
    self.store.clock = function() return 1 << 45 end
    self.store:gc { keep_ms = 0 }
    lu.assertEquals(self.store.db:row "SELECT count(*) AS n FROM node_objects", { n = 0 })
  end
end

return sealed_suite
