--- progress: lines, the choice of nodes, the report.

local errors = require "tidemill.errors"
local lu = require "luaunit"
local progress = require "tidemill.progress"
local tty = require "tidemill.tty"

TestProgress = {}

function TestProgress.test_widths_are_columns_not_bytes()
  lu.assertEquals(tty.width "abc", 3)
  lu.assertEquals(tty.width "žluť", 4)
  lu.assertEquals(tty.width "汉字", 4)
  lu.assertEquals({ tty.cut("汉字", 3) }, { "汉", 2 })
  lu.assertEquals({ tty.cut("a\27[31mb\xff", 80) }, { "a?[31mb?", 8 })
  lu.assertEquals({ tty.cut("abc", 0) }, { "", 0 })
end

local NODE = { name = "orders to the lake", state = "running", rows = 1234567, bytes = 98765432, started = 0,
  detail = "statement 3 of 7" }

function TestProgress.test_a_line_has_state_rows_bytes_rate_and_time()
  local line = progress.line(NODE, 12345, 100, false)
  for _, text in ipairs { "orders to the lake", "running", "1,234,567 rows", "98.8 MB", "8.00 MB/s", "12.3 s" } do
    lu.assertStrContains(line, text)
  end
end

function TestProgress.test_a_line_never_passes_its_width()
  local wide = { name = "从源库抽取订单数据到对象存储", state = "success", rows = 10^15 // 1 | 0, bytes = 10^17 // 1 | 0, started = 0,
    ended = 10^9 // 1 | 0, detail = "数" }
  for width = 1, 140 do
    for _, node in ipairs { NODE, wide, { name = "x", state = "waiting" } } do
      lu.assertTrue(tty.width(progress.line(node, 1000, width, false, 40)) <= width)
    end
  end
end

function TestProgress.test_narrow_lines_keep_name_and_state_longest()
  lu.assertStrContains(progress.line(NODE, 12345, 40, false), "running")
  lu.assertNotStrContains(progress.line(NODE, 12345, 40, false), "MB/s")
  lu.assertStrContains(progress.line(NODE, 12345, 18, false), "orders")
end

function TestProgress.test_colours_only_when_asked()
  lu.assertStrContains(progress.line(NODE, 1, 80, true), "\27[36mrunning")
  lu.assertNotStrContains(progress.line(NODE, 1, 80, false), "\27")
end

function TestProgress.test_many_nodes_show_what_runs_and_failed_and_count_the_rest()
  local nodes = {}
  for i = 1, 50 do nodes[i] = { name = "n" .. i, state = i <= 20 and "success" or "waiting" } end
  nodes[7].state, nodes[30].state, nodes[40].state = "failed", "running", "retrying"
  local shown, rest = progress.choose(nodes, 5)
  local names = {}
  for i, node in ipairs(shown) do names[i] = node.name end
  lu.assertEquals(names, { "n7", "n30", "n40" })
  lu.assertEquals(rest, "and 19 success, 28 waiting")
  shown, rest = progress.choose(nodes, 2)
  lu.assertEquals({ #shown, shown[1].name }, { 1, "n30" })
  lu.assertStrContains(rest, "1 retrying, 1 failed")
  lu.assertEquals({ progress.choose(nodes, 50) }, { nodes })
end

function TestProgress.test_the_report_tells_each_failure_and_where_to_look()
  local text = progress.report({
    { name = "a b", state = "failed", rows = 5, started = 0, ended = 1500, cpu_ms = 20, max_rss_bytes = 10 << 20,
      error = errors.new("sql", "no such table", { detail = "SQL: x", hint = "make it", code = "42P01" }) },
    { name = "c", state = "skipped" },
  }, { state = "failed" }, { flow = "f", run = "R", elapsed_ms = 2000 })
  for _, part in ipairs { "NODE", "a b   failed", "1.5 s", "10 MiB", "run R of flow 'f': failed in 2.0 s, 5 rows",
    "error: no such table", "42P01", "SQL: x", "hint: make it", "tidemill logs R 'a b'" } do
    lu.assertStrContains(text, part)
  end
end

-- A display that writes to a file; what it wrote.
local function display(manner, events, env)
  local now, out = 0, assert(io.tmpfile())
  local d = progress.new { flow = "f", run = "R", nodes = { { name = "a" }, { name = "b" } }, manner = manner,
    out = out, clock = function() return now end, wall = function() return 0 end }
  d.colour = env and env.colour or false
  for _, event in ipairs(events) do
    now = now + 1000
    d:event(event)
    d:draw()
  end
  d:draw(true)
  out:seek "set"
  return out:read "a"
end

local EVENTS = {
  { event = "node", node = "a", state = "running", attempt = 1, started = 0 },
  { event = "log", node = "a", level = "info", stream = "stdout", line = "evil \27[2J\tline" },
  { event = "progress", node = "a", rows = 7 },
  { event = "node", node = "a", state = "retrying", attempt = 1, started = 0, error = { message = "broke" },
    retry_in = 1.5 },
  { event = "node", node = "a", state = "success", attempt = 2, started = 0, ended = 5000, rows = 9 },
}

function TestProgress.test_a_load_that_takes_objects_says_so_while_the_extract_runs()
  for _, prefix in ipairs { "", "sub / " } do
    local a, b = prefix .. "a", prefix .. "b"
    local events = { { event = "node", node = a, state = "running", attempt = 1, started = 0 },
      { event = "node", node = b, state = "running", attempt = 1, started = 0, feeds_on = "a" } }
    local d = progress.new { flow = "f", run = "R", nodes = { { name = a }, { name = b } }, manner = "quiet",
      clock = function() return 0 end, wall = function() return 0 end }
    for _, event in ipairs(events) do d:event(event) end
    lu.assertEquals(d.by_name[b].detail, "takes objects while 'a' runs")
    d:event { event = "progress", node = b, rows = 5 }
    lu.assertEquals(d.by_name[b].detail, "takes objects while 'a' runs")
    d:event { event = "node", node = a, state = "success", attempt = 1, started = 0, ended = 9 }
    lu.assertNil(d.by_name[b].detail)
  end
  lu.assertStrContains(display("plain", { { event = "node", node = "b", state = "running", attempt = 2, started = 0,
    feeds_on = "a" } }), "b: running, attempt 2, takes objects while 'a' runs\n")
end

function TestProgress.test_nodes_of_a_subflow_stand_below_their_parent()
  local d = progress.new { flow = "f", run = "R", nodes = { { name = "a" }, { name = "b" } }, manner = "quiet",
    clock = function() return 0 end, wall = function() return 0 end }
  for _, name in ipairs { "a / x", "b / y", "a / z", "a / z / deep", "alone / q" } do
    d:event { event = "node", node = name, state = "running", attempt = 1, started = 0 }
  end
  d:event { event = "subrun" }
  local names = {}
  for i, node in ipairs(d.nodes) do names[i] = node.name end
  lu.assertEquals(names, { "a", "a / x", "a / z", "a / z / deep", "b", "b / y", "alone / q" })
end

function TestProgress.test_plain_writes_a_line_an_event()
  local text = display("plain", EVENTS)
  lu.assertStrContains(text, "00:00:00 a: running\n")
  lu.assertStrContains(text, "00:00:00 a: evil ?[2J  line\n")
  lu.assertStrContains(text, "a: attempt 1 failed: broke; next in 1.5 s\n")
  lu.assertStrContains(text, "a: success (9 rows, 5.0 s)\n")
  lu.assertNotStrContains(text, "\27")
end

function TestProgress.test_a_terminal_block_is_erased_before_it_is_redrawn()
  local text = display("terminal", EVENTS)
  local ups = select(2, text:gsub("\27%[2A\r\27%[J", ""))
  lu.assertEquals(ups, 5) -- five draws of two lines, the last one erased at the end
  lu.assertStrContains(text, "evil ?[2J  line\n")
  lu.assertStrContains(text, "9 rows")
end

function TestProgress.test_json_is_one_object_a_line()
  local json, count = require "json", 0
  for line in display("json", EVENTS):gmatch "[^\n]+" do
    local event = json.decode(line)
    lu.assertEquals(event.run, "R")
    count = count + 1
  end
  lu.assertEquals(count, 5)
end

os.exit(lu.LuaUnit.run())
