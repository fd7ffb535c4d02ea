--- spawner: children started ahead, by version and bounded; jobs, reports and answers.
--- The processes are fakes that remember what was done to them.

local errors = require "tidemill.errors"
local json = require "json"
local lu = require "luaunit"

local launched

local fake = {}

local function handle(options)
  local h = { options = options, written = {} }
  function h.write(_, bytes, _, fd)
    if h.gone then error "closed" end
    if h.full then error(errors.new("timeout", "the pipe is full"), 0) end
    h.written[#h.written + 1] = { fd = fd, line = bytes }
  end
  function h.close() h.closed = true end
  function h.pid() return 100 + #launched end
  function h.kill(_, name) h.killed = name end
  function h.read(_, fd)
    local bytes = h.says and h.says[fd]
    if not bytes then return nil end
    h.says[fd] = nil
    return bytes
  end
  function h.wait() return { code = 0 } end
  function h.close_fd() end
  launched[#launched + 1] = h
  return h
end

function fake.spawn(options) return handle(options) end

function fake.poll(handles)
  local events = {}
  for _, h in ipairs(handles) do
    for fd = 1, 3 do
      if h.says and h.says[fd] then events[#events + 1] = { handle = h, fd = fd } end
    end
    if h.ended then events[#events + 1] = { handle = h, ended = true } end
  end
  return events
end

local real = package.loaded.proc
package.loaded.proc = fake
local spawner = require "tidemill.spawner"
package.loaded.proc = real

TestSpawner = {}

local function run(version) return { version = version, file = "/" .. version .. ".lua" } end

local asked
local function new()
  launched, asked = {}, {}
  return spawner.new { source = function(version)
    asked[#asked + 1] = version
    return { document = {}, sources = { text = version, stored = {}, subflows = { x = 1 } } }
  end }
end

local function open_spares()
  local list = {}
  for _, h in ipairs(launched) do
    if not h.closed and #h.written == 0 then list[#list + 1] = h.options.cmd[3] end
  end
  return table.concat(list, " ")
end

function TestSpawner.test_children_are_told_how_much_memory_they_may_use()
  launched = {}
  local s = spawner.new { memory = 12345678, source = function() return { sources = { text = "", stored = {} } } end }
  s:start(run "a", {})
  lu.assertEquals(json.decode(launched[1].options.input).memory, 12345678)
end

function TestSpawner.test_children_are_started_ahead_no_more_than_wanted_or_allowed()
  local s = new()
  s:prepare({ { run = run "a", count = 1 } }, 2)
  lu.assertEquals(open_spares(), "/a.lua")
  s:prepare({ { run = run "a", count = 2 } }, 1)
  lu.assertEquals(open_spares(), "/a.lua")
  s:prepare({ { run = run "a", count = 2 }, { run = run "b", count = 2 } }, 2)
  lu.assertEquals(open_spares(), "/a.lua /a.lua")
end

function TestSpawner.test_spares_of_versions_that_nothing_wants_make_room_or_end()
  local s = new()
  s:prepare({ { run = run "a", count = 2 } }, 2)
  s:prepare({ { run = run "b", count = 1 } }, 2)
  lu.assertEquals(open_spares(), "/a.lua /b.lua")
  s:prepare({}, 2)
  lu.assertEquals(open_spares(), "")
end

function TestSpawner.test_a_job_goes_to_a_spare_of_its_version_else_to_a_new_child()
  local s = new()
  s:prepare({ { run = run "a", count = 1 } }, 2)
  s:start(run "b", { node = "x" })
  lu.assertEquals({ #launched, launched[2].written[1].line }, { 2, '{"node":"x"}\n' })
  s:start(run "a", { node = "y" })
  lu.assertEquals({ #launched, launched[1].written[1].fd }, { 2, 4 })
end

function TestSpawner.test_a_spare_that_died_is_replaced()
  local s = new()
  s:prepare({ { run = run "a", count = 1 } }, 2)
  launched[1].gone = true
  s:start(run "a", { node = "y" })
  lu.assertEquals({ #launched, launched[1].closed, #launched[2].written }, { 2, true, 1 })
end

function TestSpawner.test_the_sources_of_a_few_versions_are_kept()
  local s = new()
  for _ = 1, 3 do s:start(run "a", {}) end
  lu.assertEquals(asked, { "a" })
  lu.assertEquals(json.decode(launched[1].options.input), { file = "/a.lua", text = "a", stored = {}, subflows = { x = 1 } })
  for i = 1, 20 do s:start(run("v" .. i), {}) end
  s:start(run "a", {})
  lu.assertEquals({ #asked, asked[#asked] }, { 22, "a" })
end

function TestSpawner.test_reports_come_as_events_and_the_end_comes_last()
  local s = new()
  local child = s:start(run "a", {})
  local h = launched[1]
  h.says = { [1] = "printed\nhalf", [3] = '{"t":"result","ok":true}\n{"broken\n' }
  h.ended = true
  local seen = {}
  for _, event in ipairs(s:poll(0)) do
    lu.assertIs(event.child, child)
    seen[#seen + 1] = event.type .. " " .. (event.line or event.message and event.message.t or event.pid or "")
  end
  lu.assertEquals(seen, { "started 101", "line printed", "message result", 'line malformed report: {"broken', "line half",
    "exit " })
  lu.assertTrue(h.closed)
  child:kill()
  lu.assertNil(h.killed) -- it has ended
end

function TestSpawner.test_a_line_may_come_in_pieces_and_a_long_one_is_broken_up()
  local s = new()
  s:start(run "a", {})
  local h, lines = launched[1], {}
  local function say(fd, bytes, ended)
    h.says, h.ended = { [fd] = bytes }, ended
    for _, event in ipairs(s:poll(0)) do
      if event.type == "line" then lines[#lines + 1] = event.line end
    end
  end
  say(1, "on")
  say(1, "e\ntw")
  say(1, "")
  say(1, "o")
  say(1, "\n\nthree\n")
  lu.assertEquals(lines, { "one", "two", "", "three" })
  lines = {}
  for _ = 1, 9 do say(3, ("x"):rep(1 << 20)) end -- no report is that long
  lu.assertEquals({ #lines, #lines[1] }, { 1, #"malformed report: " + (64 << 10) })
  say(2, "last", true)
  lu.assertEquals(lines[2], "last")
end

function TestSpawner.test_an_answer_is_a_line_and_never_raises()
  local s = new()
  local child = s:start(run "a", {})
  child:reply '{"ack":1}'
  lu.assertEquals(launched[1].written[2], { fd = 4, line = '{"ack":1}\n' })
  launched[1].gone = true
  child:reply '{"ack":2}'
end

function TestSpawner.test_answers_wait_for_a_full_pipe_and_come_whole_and_in_order()
  local s = new()
  local child = s:start(run "a", { n = 1 })
  local h, long = launched[1], ("x"):rep(10000)
  h.full = true
  child:reply "one"
  child:reply(long)
  s:poll(0)
  lu.assertEquals(#h.written, 1) -- the job
  h.full = false
  s:poll(0)
  local bytes = {}
  for i = 2, #h.written do
    bytes[#bytes + 1] = h.written[i].line
    lu.assertTrue(#h.written[i].line <= 4096)
  end
  lu.assertEquals(table.concat(bytes), "one\n" .. long .. "\n")
  lu.assertEquals({ #child.unread, h.written[2].fd }, { 0, 4 })
end

function TestSpawner.test_a_child_that_no_longer_reads_gets_nothing_more()
  local s = new()
  local child = s:start(run "a", {})
  launched[1].gone = true
  child:reply "one"
  child:reply "two"
  lu.assertEquals({ #launched[1].written, #child.unread }, { 1, 0 })
end

os.exit(lu.LuaUnit.run())
