--- Workers of a load: side by side in one thread, and what becomes of all when one fails.

local crew = require "tidemill.load.crew"
local lu = require "luaunit"
local stream = require "stream"

TestCrew = {}

-- A stream that ends after about so many seconds.
local function slow(seconds)
  return stream.start(stream.bytes(("x"):rep(1000)), stream.throttle { rate = 1000 / seconds, burst = 1 }, stream.discard())
end

function TestCrew.test_workers_go_on_while_others_wait()
  local seen = {}
  crew.run(2, function(i)
    for n = 1, 2 do
      local job <close> = slow(i == 1 and 0.02 or 0.8)
      crew.await(job)
      job:join()
      table.insert(seen, ("%d.%d"):format(i, n))
    end
  end)
  lu.assertEquals(seen, { "1.1", "1.2", "2.1", "2.2" })
end

function TestCrew.test_an_error_cancels_the_others_and_closes_what_they_hold()
  local closed, cancelled = {}, false
  local ok, raised = pcall(crew.run, 3, function(i)
    local _ <close> = setmetatable({}, { __close = function() table.insert(closed, i) end })
    local job <close> = slow(i == 1 and 0.02 or 60)
    crew.await(job)
    job:join()
    cancelled = i > 1
    error("no " .. i, 0)
  end)
  lu.assertFalse(ok)
  lu.assertEquals(raised, "no 1")
  lu.assertFalse(cancelled)
  table.sort(closed)
  lu.assertEquals(closed, { 1, 2, 3 })
end

function TestCrew.test_an_error_before_the_first_wait_starts_no_one_else()
  local started = {}
  lu.assertFalse((pcall(crew.run, 3, function(i)
    table.insert(started, i)
    error "at once"
  end)))
  lu.assertEquals(started, { 1 })
end

function TestCrew.test_an_error_of_the_tick_ends_all()
  local ticks = 0
  local ok, raised = pcall(crew.run, 2, function()
    local job <close> = slow(60)
    crew.await(job)
  end, function()
    ticks = ticks + 1
    if ticks == 2 then error({ gone = true }, 0) end
  end)
  lu.assertFalse(ok)
  lu.assertTrue(raised.gone)
end

function TestCrew.test_who_waits_for_a_descriptor_learns_what_another_took_from_it()
  local quiet <close> = slow(60) -- its descriptor stays silent
  local news
  crew.run(2, function(i)
    if i == 1 then
      local job <close> = slow(0.05)
      crew.await(job)
      news = "all is said"
    else
      while not news do crew.await(quiet.fd) end
    end
  end)
  lu.assertEquals(news, "all is said")
end

os.exit(lu.LuaUnit.run())
