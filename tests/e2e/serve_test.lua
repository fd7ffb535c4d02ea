-- needs: pg
-- takes: 50
--- `tidemill serve` as its users have it: schedules that fire, restarts, ends, takeovers.

local desk = require "tests.support.desk"
local lu = require "luaunit"
local patience = require "tests.support.patience"
local pgtest = require "tests.support.pgtest"
local proc = require "proc"
local sched = require "tests.support.sched"
local serving = require "tests.support.serving"
local signal = require "tidemill.signal"
local state = require "tidemill.state"
local time = require "time"

TestServe = {}

-- A folder with a project, whose store is at hand; in `url`, if it is given.
local function new(name, url)
  local d = desk.new(name)
  d:write("tidemill.lua", ('return { state = %q }\n'):format(url or "sqlite:state.db"))
  d.url = url or "sqlite:" .. d.dir .. "/state.db"
  d.env.MARKS = d.dir .. "/marks"
  return d
end

-- Publishes a flow "f"; what its nodes do is in `nodes`.
local function publish(d, settings, nodes)
  d:write("f.lua", ([[
local flow = require "flow"
local function mark(word)
  local f <close> = assert(io.open(os.getenv "MARKS", "a"))
  f:write(word, "\n")
end
return flow "f" {
  %s,
  %s
}
]]):format(settings, nodes))
  local r = d:run("publish", "f.lua")
  lu.assertEquals(r.code, 0, r.all)
end

local QUICK = 'flow.lua "a" { run = function() mark "a" end },'

local function marks(d)
  local f <close> = io.open(d.env.MARKS)
  local text = f and f:read "a" or ""
  return (text:gsub("\n", " "):gsub(" $", ""))
end

local function query(d, sql, ...)
  local store <close> = state.open(d.url)
  return store.db:query(sql, ...)
end

local function one_each_second(rows)
  for i = 2, #rows do
    lu.assertEquals(rows[i].first_at or rows[i].slot_at, rows[i - 1].slot_at + 1000)
  end
end

local function ended(line) return line.event == "run" and line.state ~= "running" end

local function count_of(state_name)
  local n = 0
  return function(times)
    return function(line)
      if line.event == "run" and line.state == state_name then n = n + 1 end
      return n == times
    end
  end
end

function TestServe.test_each_second_is_a_run_until_it_is_told_to_end()
  local d <close> = new "serve-each"
  publish(d, 'schedule = { every = "1s" }, concurrency = "queue"', QUICK)
  local s <close> = serving.start(d)
  local start = s:wait_for(10, function(line) return line.event == "start" end)
  lu.assertEquals({ start.published, start.drain_ms, start.lease_ms, start.listen }, { 1, 30000, 15000, "none" })
  local first = s:wait_for(10, function(line) return line.event == "next" end)
  lu.assertEquals({ first.flow, first.schedule, first.version_no }, { "f", "every 1s", 1 })
  s:wait_for(20, count_of "success"(3))
  lu.assertEquals(s:stop(), 0, s.text)
  local rows = query(d, "SELECT * FROM slots ORDER BY slot_at")
  one_each_second(rows)
  lu.assertTrue(#rows >= 3)
  for _, row in ipairs(rows) do lu.assertEquals(row.state, "run") end
  lu.assertEquals(query(d, "SELECT count(DISTINCT run_id) AS n FROM slots")[1].n, #rows)
  lu.assertEquals(query(d, "SELECT count(*) AS n FROM runners WHERE state = 'alive'")[1].n, 0)
end

function TestServe.test_what_was_published_runs_whatever_became_of_the_file()
  local d <close> = new "serve-file"
  publish(d, 'schedule = { every = "1s" }', QUICK)
  d:write("f.lua", "this is no longer Lua")
  local s <close> = serving.start(d)
  local run = s:wait_for(20, ended)
  lu.assertEquals({ run.state, run.flow }, { "success", "f" }, s.text)
  os.remove(d.dir .. "/f.lua")
  s:wait_for(20, count_of "success"(2))
  lu.assertEquals(s:stop(), 0, s.text)
end

function TestServe.test_a_publish_and_a_pause_are_seen_while_it_runs()
  local d <close> = new "serve-publish"
  publish(d, 'schedule = { cron = "0 0 0 1 1 ? 2099" }', QUICK)
  local s <close> = serving.start(d)
  s:wait_for(10, function(line) return line.event == "next" end)
  publish(d, 'schedule = { every = "1s" }, concurrency = "queue"', 'flow.lua "a" { run = function() mark "second" end },')
  local run = s:wait_for(20, function(line) return line.event == "run" end)
  lu.assertEquals(run.version_no, 2)
  s:wait_for(20, ended)
  lu.assertEquals(d:run("pause", "f", "--reason", "a busy day").code, 0)
  local skipped = s:wait_for(10, function(line) return line.event == "slot" and line.state == "skipped" end)
  lu.assertStrContains(skipped.reason, "a busy day")
  lu.assertEquals(d:run("resume", "f").code, 0)
  s:wait_for_new(20, function(line) return line.event == "slot" and line.state == "run" end)
  lu.assertEquals(s:stop(), 0, s.text)
  one_each_second(query(d, "SELECT * FROM slots ORDER BY slot_at"))
  lu.assertStrContains(marks(d), "second")
end

function TestServe.test_after_being_down_it_catches_up_by_policy()
  local d <close> = new "serve-missed"
  publish(d, 'schedule = { every = "1s" }, concurrency = "queue", missed = "all"', QUICK)
  local s <close> = serving.start(d)
  s:wait_for(20, ended)
  lu.assertEquals(s:stop(), 0, s.text)
  time.sleep(4)
  local again <close> = serving.start(d, { "--grace", "1s" })
  local due = again:wait_for(10, function(line) return line.event == "next" end)
  lu.assertEquals(due.reason, "due")
  local late = again:wait_for(10, function(line) return line.event == "slot" and line.reason end)
  lu.assertStrContains(late.reason, 'missed is "all"')
  again:wait_for(20, count_of "success"(4))
  lu.assertEquals(again:stop(), 0, again.text)
  local rows = query(d, "SELECT * FROM slots ORDER BY slot_at")
  one_each_second(rows)
  for _, row in ipairs(rows) do lu.assertEquals(row.state, "run") end
  lu.assertTrue(query(d, "SELECT count(*) AS n FROM decisions WHERE what = 'catch up'")[1].n >= 2)
end

local SLOW = [[
  flow.lua "a" { run = function() mark "a begins" require "time".sleep(3) mark "a ends" end },
  flow.lua "b" { after = "a", run = function() mark "b" end },
]]

-- The first attempt goes on for as long as it may.
local HANGS_ONCE = [[
  flow.lua "a" { run = function()
    local f = io.open(os.getenv "MARKS")
    mark "a begins"
    if not f then require "time".sleep(120) end
    mark "a ends"
  end },
  flow.lua "b" { after = "a", run = function() mark "b" end },
]]

-- Waits for the node's own first sign.
local function begun(d)
  lu.assertTrue(pgtest.eventually(20, function() return marks(d) ~= "" end))
end

-- A flow that fires once, soon; until then it must have been published.
local function once()
  return ('schedule = { at = "%s" }'):format(time.format(time.now() // 1 + (patience > 5 and 5 or 3), "yyyy-MM-dd HH:mm:ss"))
end

local function node_runs(line) return line.event == "node" and line.state == "running" end

function TestServe.test_a_node_may_finish_and_the_next_serve_goes_on_behind_it()
  local d <close> = new "serve-drain"
  publish(d, once(), SLOW)
  local s <close> = serving.start(d)
  local node = s:wait_for(10, node_runs)
  lu.assertEquals(s:stop(), 0, s.text)
  lu.assertEquals(marks(d), "a begins a ends")
  lu.assertEquals(query(d, "SELECT state, runner FROM runs")[1].state, "running")
  lu.assertNil(query(d, "SELECT runner FROM runs")[1].runner)
  local again <close> = serving.start(d)
  local run = again:wait_for(10, ended)
  lu.assertEquals({ run.run, run.state }, { node.run, "success" })
  lu.assertEquals(again:stop(), 0, again.text)
  lu.assertEquals(marks(d), "a begins a ends b")
  lu.assertEquals(query(d, "SELECT count(*) AS n FROM attempts")[1].n, 2)
end

function TestServe.test_past_the_drain_a_node_is_cancelled_and_repeated_elsewhere()
  local d <close> = new "serve-drain0"
  publish(d, once(), HANGS_ONCE)
  local s <close> = serving.start(d, { "--drain", "0" })
  s:wait_for(10, node_runs)
  begun(d)
  local other <close> = serving.start(d)
  other:wait_for(10, function(line) return line.event == "lease" end)
  local told = signal.mono()
  lu.assertEquals(s:stop(), 0, s.text)
  lu.assertTrue(signal.mono() - told < 3000 * patience)
  local run = other:wait_for(15, ended)
  lu.assertEquals(run.state, "success", other.text)
  lu.assertEquals(other:stop(), 0, other.text)
  local attempts = query(d, "SELECT node, attempt, state FROM attempts ORDER BY node, attempt")
  lu.assertEquals({ attempts[1].state, attempts[2].state, attempts[3].state }, { "lost", "success", "success" })
  lu.assertEquals(marks(d), "a begins a begins a ends b")
end

function TestServe.test_a_second_signal_kills_what_runs()
  local d <close> = new "serve-twice"
  publish(d, once(), 'flow.lua "a" { run = function() mark "a" require "time".sleep(60) end },')
  local s <close> = serving.start(d)
  s:wait_for(10, node_runs)
  s:kill "TERM"
  s:kill "TERM" -- the same signal, sent to the process and to its group
  s:wait_for(5, function(line) return line.event == "drain" end)
  require "time".sleep(0.6)
  lu.assertEquals(query(d, "SELECT state FROM attempts")[1].state, "running")
  local told = signal.mono()
  lu.assertEquals(s:stop(), 0, s.text)
  lu.assertTrue(signal.mono() - told < 5000 * patience)
  lu.assertEquals(query(d, "SELECT state FROM attempts")[1].state, "lost")
end

function TestServe.test_killed_its_runs_go_on_in_another_within_a_lease()
  local d <close> = new "serve-kill"
  publish(d, once(), HANGS_ONCE)
  local s <close> = serving.start(d, { "--lease", "3s", "--name", "first" })
  s:wait_for(10, node_runs)
  begun(d)
  local other <close> = serving.start(d, { "--lease", "3s", "--name", "second" })
  other:wait_for(10, function(line) return line.event == "lease" end)
  s:kill "KILL"
  local killed = signal.mono()
  lu.assertEquals(s:finish(), "SIGKILL")
  local reaped = other:wait_for(10, function(line) return line.event == "reaped" end)
  lu.assertStrContains(reaped.runner, "first-")
  lu.assertTrue(signal.mono() - killed < 4000 * patience, signal.mono() - killed)
  local run = other:wait_for(15, ended)
  lu.assertEquals(run.state, "success", other.text)
  lu.assertEquals(other:stop(), 0, other.text)
  lu.assertEquals(marks(d), "a begins a begins a ends b")
  lu.assertEquals(query(d, "SELECT count(*) AS n FROM slots")[1].n, 1)
  lu.assertEquals(query(d, "SELECT count(*) AS n FROM runs")[1].n, 1)
end

function TestServe.test_two_share_the_work_and_double_none()
  local d <close> = new "serve-two"
  publish(d, 'schedule = { every = "1s" }, concurrency = "parallel"', QUICK)
  local s <close> = serving.start(d)
  local other <close> = serving.start(d)
  s:wait_for(10, function(line) return line.event == "lease" end)
  lu.assertTrue(pgtest.eventually(20, function() return #query(d, "SELECT slot_at FROM slots") >= 5 end))
  lu.assertEquals({ s:stop(), other:stop() }, { 0, 0 })
  local rows = query(d, "SELECT * FROM slots ORDER BY slot_at")
  one_each_second(rows)
  lu.assertTrue(#rows >= 4, #rows)
  lu.assertEquals(query(d, "SELECT count(*) AS n FROM runs")[1].n, #rows)
end

function TestServe.test_a_flow_runs_after_another()
  local d <close> = new "serve-after"
  publish(d, once(), QUICK)
  d:write("g.lua", [[
local flow = require "flow"
return flow "g" { schedule = { after = { "f" } }, flow.lua "x" { run = function() end } }
]])
  lu.assertEquals(d:run("publish", "g.lua").code, 0)
  local s <close> = serving.start(d)
  local run = s:wait_for(15, function(line) return line.event == "run" and line.flow == "g" and line.state == "success" end)
  lu.assertEquals(s:stop(), 0, s.text)
  local rows = query(d, "SELECT flow, schedule, state, run_id, slot_at FROM slots ORDER BY flow")
  lu.assertEquals({ rows[2].schedule, rows[2].state, rows[2].run_id, rows[2].slot_at },
    { "event", "run", run.run, rows[1].slot_at })
end

-- ---- PostgreSQL ----

function TestServe.test_stopped_past_its_lease_another_goes_on_and_it_comes_back_as_a_new_one()
  local url, remove = sched.fresh "postgres"
  local cleaner <close> = setmetatable({}, { __close = remove }) -- luacheck: ignore 211
  local d <close> = new("serve-stopped", url)
  publish(d, once(), HANGS_ONCE)
  local s <close> = serving.start(d, { "--lease", "2s", "--name", "first" })
  s:wait_for(10, node_runs)
  begun(d)
  local other <close> = serving.start(d, { "--lease", "2s", "--name", "second" })
  other:wait_for(10, function(line) return line.event == "lease" end)
  s:kill "STOP"
  local stopped = signal.mono()
  other:wait_for(10, function(line) return line.event == "reaped" end)
  lu.assertTrue(signal.mono() - stopped < 4000 * patience, signal.mono() - stopped) -- a lease, and a look each third of one
  local run = other:wait_for(15, ended)
  lu.assertEquals(run.state, "success", other.text)
  s:kill "CONT"
  s:wait_for(10, function(line) return line.level == "error" and (line.message or ""):find "lease" end)
  s:wait_for(10, function(line) return line.event == "lease" and line.runner ~= s.lines[3].runner end)
  lu.assertEquals({ s:stop(), other:stop() }, { 0, 0 })
  local runs = query(d, "SELECT state, epoch FROM runs")
  lu.assertEquals({ #runs, runs[1].state, runs[1].epoch }, { 1, "success", 1 })
  lu.assertEquals(marks(d), "a begins a begins a ends b")
end

function TestServe.test_it_outlives_a_restart_of_its_database()
  local dir = ("%s/serve-pg"):format(assert(os.getenv "TM_TMP"))
  local function server(verb) return proc.run { cmd = { "tests/servers/pg", verb, dir }, timeout = 60 } end
  local function stop() server "stop" end
  local cleaner <close> = setmetatable({}, { __close = stop }) -- luacheck: ignore 211
  stop()
  proc.run { cmd = { "rm", "-rf", dir }, check = true }
  local started = server "start"
  lu.assertEquals(started.code, 0, started.stderr)
  local env <close> = assert(io.open(dir .. "/env"))
  local text = env:read "a"
  local url, pid = text:match "TM_PG=(%S+)", text:match "TM_PG_PID=(%d+)"
  local d <close> = new("serve-restart", url)
  publish(d, 'schedule = { every = "1s" }, concurrency = "queue", missed = "all"', QUICK)
  local s <close> = serving.start(d)
  s:wait_for(20, count_of "success"(2))
  proc.run { cmd = { "kill", "-INT", pid }, check = true } -- fast shutdown: sessions are ended
  lu.assertTrue(pgtest.eventually(30, function() return proc.run { cmd = { "kill", "-0", pid } }.code ~= 0 end))
  time.sleep(1)
  local again = server "start" -- with the same data and port
  lu.assertEquals(again.code, 0, again.stderr)
  s:wait_for(30, count_of "success"(6))
  lu.assertEquals(s:stop(60), 0, s.text)
  local rows = query(d, "SELECT * FROM slots ORDER BY slot_at")
  one_each_second(rows)
  lu.assertTrue(#rows >= 6, #rows)
end

function TestServe.test_it_ends_well_whenever_it_is_told_to()
  for _, kind in ipairs { "sqlite", "postgres" } do
    local url, remove = sched.fresh(kind)
    local cleaner <close> = setmetatable({}, { __close = remove }) -- luacheck: ignore 211
    local d <close> = new("serve-ends", url)
    publish(d, 'schedule = { every = "1s" }, concurrency = "queue", missed = "all"', QUICK)
    for _ = 1, 12 do
      local s <close> = serving.start(d)
      s:wait_for(20, function(line) return line.event == "start" end)
      time.sleep(math.random() * 0.4)
      lu.assertEquals(s:stop(), 0, s.text)
    end
    lu.assertEquals(query(d, "SELECT count(*) AS n FROM runners WHERE state = 'alive'")[1].n, 0)
  end
end

-- ---- pages ----

local function get(address, path)
  local r = proc.run { cmd = { "curl", "-s", "-m", "5", "-w", "\n%{http_code} %{content_type}", "http://" .. address .. path } }
  local body, code, kind = r.stdout:match "^(.*)\n(%d+) ([^\n]*)$"
  return math.tointeger(code), body, kind
end

function TestServe.test_metrics_and_health()
  local d <close> = new "serve-pages"
  publish(d, 'schedule = { every = "1s" }, concurrency = "queue"', SLOW)
  local s <close> = serving.start(d, { "--listen", "127.0.0.1:0" })
  local address = s:wait_for(10, function(line) return line.event == "start" end).listen
  s:wait_for(20, ended)
  local code, body = get(address, "/healthz")
  lu.assertEquals({ code, body }, { 200, "ok\n" })
  time.sleep(5.5) -- the age that /metrics may have
  local kind
  code, body, kind = get(address, "/metrics")
  lu.assertEquals(code, 200)
  lu.assertStrContains(kind, "application/openmetrics-text")
  lu.assertEquals(body:sub(-6), "# EOF\n")
  local values = {}
  for name, value in body:gmatch "\n([%w_]+[^\n ]*) (%S+)" do values[name] = tonumber(value) end
  lu.assertTrue(values['tidemill_slots_total{state="run"}'] >= 3)
  lu.assertTrue(values['tidemill_runs_ended_total{state="success"}'] >= 1)
  lu.assertTrue(values['tidemill_slot_to_start_seconds_bucket{le="+Inf"}'] >= 1)
  lu.assertTrue(values.process_resident_memory_bytes > 1 << 20)
  lu.assertEquals({ values.tidemill_up, values.tidemill_flows_scheduled, values.tidemill_flows_paused }, { 1, 1, 0 })
  lu.assertTrue(values['tidemill_runs{state="running"}'] + values['tidemill_runs{state="queued"}'] >= 1)
  lu.assertTrue(values.tidemill_lease_age_seconds < 5)
  s:wait_for_new(10, function(line) return node_runs(line) and line.node == "a" end)
  s:kill "TERM"
  s:wait_for(5, function(line) return line.event == "drain" end)
  pgtest.eventually(1, function()
    code, body = get(address, "/healthz")
    return code ~= 200
  end)
  lu.assertEquals({ code, body }, { 503, "draining\n" })
  lu.assertEquals(s:finish(), 0)
end

function TestServe.test_a_port_that_is_taken()
  local d <close> = new "serve-port"
  local taken <close> = require("tidemill.httpd").listen { host = "127.0.0.1", port = 0 }
  local r = d:run("serve", "--listen", "127.0.0.1:" .. taken:port())
  lu.assertEquals(r.code ~= 0, true)
  lu.assertStrContains(r.err, tostring(taken:port()))
end

-- ---- starts that fail ----

function TestServe.test_without_a_project_it_says_what_is_missing()
  local d <close> = desk.new "serve-none"
  local r = d:run "serve"
  lu.assertEquals(r.code, 2)
  lu.assertStrContains(r.err, "there is no tidemill.lua in this folder or above it")
end

function TestServe.test_words_it_does_not_understand()
  local d <close> = new "serve-words"
  for _, case in ipairs { { "--lease", "soon", "--lease wants a time" }, { "--lease", "1s", "of at least 2 s" },
    { "--listen", "9187", "--listen wants HOST:PORT or none" }, { "--drain", "x", "--drain wants a time" } } do
    local r = d:run("serve", case[1], case[2])
    lu.assertEquals(r.code, 2)
    lu.assertStrContains(r.err, case[3])
  end
end

function TestServe.test_plain_lines_are_for_people()
  local d <close> = new "serve-plain"
  local s <close> = serving.start(d, { "--plain" })
  local line = s:wait_for(10, function(l) return (l.text or ""):find " start " end)
  lu.assertStrContains(line.text, "nothing is scheduled: tidemill publish FLOW.lua")
  lu.assertStrMatches(line.text, "%d%d%d%d%-%d%d%-%d%dT%d%d:%d%d:%d%d%.%d%d%dZ info  start .*")
  lu.assertEquals(s:stop(), 0, s.text)
end

os.exit(lu.LuaUnit.run())
