--- child/talk and child/feed: what a node's process hears of its runner, the test in the runner's place.

local attempt = require "tests.support.attempt"
local desk = require "tests.support.desk"
local lu = require "luaunit"

TestChild = {}

local d

function TestChild.setUp() d = desk.new "child" end
function TestChild.tearDown() d:close() end

-- Starts an attempt of a lua node with this body.
local function start(body, job)
  d:flow("f.lua", ('flow.lua "n" { run = function(ctx) %s end },'):format(body))
  local given = { run_id = "r", node = "n", attempt = 1 }
  for key, value in pairs(job or {}) do given[key] = value end
  return attempt.of(d, "f.lua"):start(given)
end

local FEED = { node = "x", attempt = 4, head = { columns = { { name = "a", type = "text" } }, format = {} },
  location = "lake:o/" }

local function objects(from, to)
  local list = {}
  for n = from, to do list[#list + 1] = { n = n, key = "k" .. n, rows = 1, bytes = 2, raw_bytes = 3, crc64 = "4", etag = "5" } end
  return list
end

local TAKE = [[
  local list = {}
  repeat
    local told = ctx.feed:next(20)
    list[#list + 1] = told.object and told.object.key or told.manifest or told.upstream
  until not told.object
  ctx:output("told", table.concat(list, " ")) ]]

-- A fed attempt; a lua node has no place that could differ from that of its feed.
local function fed(body, questions)
  local one = start(body, { feed = { node = FEED.node, attempt = FEED.attempt, head = FEED.head } })
  one.asked = {}
  function one.answers.feed(m)
    one.asked[#one.asked + 1] = m.after
    return questions(m, #one.asked)
  end
  return one
end

function TestChild.test_a_feed_gives_each_object_once_and_then_the_end_for_good()
  local one <close> = fed(TAKE .. 'ctx:output("again", ctx.feed:next(0).manifest)', function(m)
    if m.after < 5 then return { objects = objects(m.after + 1, math.min(m.after + 2, 5)) } end
    return { manifest = "m1", outputs = { rows = 5 } }
  end)
  local result = one:finish()
  lu.assertTrue(result.ok, result.error and result.error.message)
  lu.assertEquals(one.outputs, { told = "k1 k2 k3 k4 k5 m1", again = "m1" })
  lu.assertEquals(one.asked, { 0, 2, 4, 5 })
end

function TestChild.test_a_feed_tells_that_the_extract_came_to_nothing()
  local one <close> = fed(TAKE, function(m)
    return m.after == 0 and { objects = objects(1, 1) } or { upstream = "retry" }
  end)
  one:finish()
  lu.assertEquals(one.outputs.told, "k1 retry")
end

function TestChild.test_a_silent_feed_is_no_error_and_its_descriptor_tells_when_there_is_more()
  local one <close> = fed([[ local stream = require "stream"
    local nothing = ctx.feed:next(0.05)
    ctx:output("nothing", tostring(nothing))
    ctx:output("quiet", #stream.wait({ ctx.feed.fd }, 0.05))
    print "now"
    ctx:output("loud", #stream.wait({ ctx.feed.fd }, 20))
    ctx:output("key", ctx.feed:next(0).object.key) ]], function() return nil end)
  repeat one:serve(0.05) until one.printed:find "now"
  one:answer(1, { objects = objects(1, 1) })
  local result = one:finish()
  lu.assertTrue(result.ok, result.error and result.error.message)
  lu.assertEquals(one.outputs, { nothing = "nil", quiet = 0, loud = 1, key = "k1" })
end

function TestChild.test_answers_come_in_any_order()
  local one <close> = fed([[ ctx:call { t = "other" }
    local told = ctx.feed:next(20)
    ctx:output("key", told.object.key) ]], function() return { objects = objects(1, 1) } end)
  one:finish()
  lu.assertEquals(one.outputs.key, "k1")
  local two <close> = fed([[ ctx:call { t = "other" }
    ctx:output("key", ctx.feed:next(20).object.key) ]], function() return nil end)
  function two.answers.other(m)
    two:answer(m.ack, {})
    two:answer(1, { objects = objects(1, 1) })
  end
  two:finish()
  lu.assertEquals(two.outputs.key, "k1")
end

function TestChild.test_sealed_objects_are_numbered_in_the_order_of_telling_and_told_in_lots()
  local lots = {}
  local one <close> = start [[ local list = {}
    for i = 1, 501 do list[i] = { key = "k" .. i, rows = i, bytes = 1, raw_bytes = 1, crc64 = "1", etag = "e" } end
    ctx:sealed_many { list[1] }
    ctx:sealed_many(table.move(list, 2, 501, 1, {}))
    ctx:sealed_many { { key = "last", rows = 0, bytes = 0, raw_bytes = 0, crc64 = "0", etag = "e",
      span = { lo = 1 } } } ]]
  function one.answers.sealed(m)
    lots[#lots + 1] = m.objects
    return {}
  end
  lu.assertTrue(one:finish().ok)
  lu.assertEquals({ #lots, #lots[1], #lots[2], #lots[3] }, { 3, 1, 500, 1 })
  lu.assertEquals({ lots[2][1].n, lots[2][500].n, lots[3][1].n, lots[3][1].span }, { 2, 501, 502, { lo = 1 } })
end

function TestChild.test_a_refused_report_is_an_error()
  local one <close> = start [[ctx:sealed_many { { key = 5 } }]]
  function one.answers.sealed() return { refused = "it is malformed" } end
  local result = one:finish()
  lu.assertEquals({ result.ok, result.error.message },
    { false, "the runner refuses the report 'sealed': it is malformed" })
end

function TestChild.test_objects_of_earlier_attempts_are_asked_for_page_by_page()
  local asked = {}
  local one <close> = start [[ local list = {}
    for i, one in ipairs(ctx:earlier()) do list[i] = one.attempt .. "/" .. one.n end
    ctx:output("all", table.concat(list, " ")) ]]
  local pages = { { { attempt = 2, n = 1 }, { attempt = 2, n = 2 } }, { { attempt = 1, n = 1 } }, {} }
  function one.answers.earlier(m)
    asked[#asked + 1] = m.last and ("%d/%d"):format(m.last.attempt, m.last.n) or "-"
    return { objects = pages[#asked] }
  end
  one:finish()
  lu.assertEquals({ one.outputs.all, asked }, { "2/1 2/2 1/1", { "-", "2/2", "1/1" } })
end

function TestChild.test_a_load_is_not_fed_from_another_place()
  d:write("tidemill.lua", 'return { connections = { lake = { file = "lake" }, dw = { postgres = "host=/nowhere" } } }')
  d:flow("f.lua", 'flow.load "n" { from = "lake:other/", on = "dw", into = "t" },')
  local one <close> = attempt.of(d, "f.lua"):start { run_id = "r", node = "n", attempt = 1, feed = FEED }
  local result = one:finish()
  lu.assertEquals({ result.error.kind, result.error.message },
    { "usage", "node 'x' writes to lake:o/, and node 'n' reads lake:other/" })
end

os.exit(lu.LuaUnit.run())
