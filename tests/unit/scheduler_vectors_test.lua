--- scheduler: the vectors of cron and of time variables, as slots and runs of a store.

local json = require "json"
local lu = require "luaunit"
local sched = require "tests.support.sched"
local time = require "time"

local file <close> = assert(io.open "tests/vectors/cron-quartz.json")
local cases = json.decode(file:read "a").cases

TestCronVectors = {}

local function instants(list)
  local out = {}
  for i, text in ipairs(list) do out[i] = sched.ms(text) end
  return out
end

local function slots_of(w)
  local out = {}
  for i, row in ipairs(w.store.db:query "SELECT slot_at FROM slots ORDER BY slot_at") do out[i] = row.slot_at end
  return out
end

local function publish(case, rule, policy)
  local w = sched.new("sqlite", sched.ms(case.from))
  w:publish("f", { kind = "cron", cron = case.expr, timezone = case.zone, dst = rule },
    { timezone = case.zone, missed = policy, concurrency = "parallel" })
  return w
end

-- One who comes at each firing time, and just before it.
local function check_on_time(case, rule, expected)
  local w <close> = publish(case, rule)
  for i, at in ipairs(expected) do
    w:at(at - 1)
    w:step()
    lu.assertEquals(#slots_of(w), i - 1, case.id .. " " .. rule)
    w:at(at)
    w:step()
  end
  lu.assertEquals(slots_of(w), expected, case.id .. " " .. rule)
  for _, run in ipairs(w.store.db:query "SELECT scheduled_at, business_at FROM runs") do
    lu.assertEquals(run.business_at, math.floor(time.business(run.scheduled_at / 1000, case.zone) * 1000))
  end
end

-- One who comes when all is over.
local function check_late(case, rule, expected)
  local w <close> = publish(case, rule, { policy = "all" })
  w:at(expected[#expected] or sched.ms(case.from) + 5 * 366 * 86400000)
  w:step()
  lu.assertEquals(slots_of(w), expected, case.id .. " " .. rule)
end

for _, case in ipairs(cases) do
  local by_rule = case.next_by_rule or case.next and { once = case.next } or {}
  for rule, list in pairs(by_rule) do
    TestCronVectors[("test_%s_%s"):format(case.id:gsub("-", "_"), rule)] = function()
      local expected = instants(list)
      if #expected > 0 then check_on_time(case, rule, expected) end
      check_late(case, rule, expected)
    end
  end
end

TestTimeVectors = {}

--- A run scheduled a day after a business moment gives its variables their values.
function TestTimeVectors.test_runs_have_the_business_time_of_the_vectors()
  for _, vector in ipairs(require "tests.support.time_vectors") do
    local id, moment, format, offsets, value, zone = table.unpack(vector, 1, 6)
    zone = zone or "UTC"
    local scheduled = math.floor(time.add(time.parse(moment, zone), "+1d", zone) * 1000)
    local w <close> = sched.new("sqlite", scheduled - 1)
    w:publish("f", { kind = "once", at_ms = scheduled }, { timezone = zone })
    w:at(scheduled + 30000) -- late, and yet
    w:step()
    local run = w:row "SELECT business_at, timezone FROM runs"
    lu.assertEquals(time.variable(run.business_at / 1000, format, offsets, run.timezone), value, id)
  end
end

os.exit(lu.LuaUnit.run())
