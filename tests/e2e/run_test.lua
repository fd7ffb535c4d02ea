-- needs: pg
-- takes: 34
--- tidemill run, runs, show, logs: real flows, real processes, a real server.

local json = require "json"
local lab = require "tests.support.lab"
local lu = require "luaunit"
local patience = require "tests.support.patience"
local pg = require "pg"
local proc = require "proc"
local state = require "tidemill.state"

local BIN = assert(os.getenv "TM_BIN")
-- ThreadSanitizer delivers a signal only when the program next makes a call that it intercepts.
local ENDLESS = os.getenv "TM_SANITIZER" == "tsan" and "while true do os.time() end" or "while true do end"
local l

TestRun = {}

function TestRun.setUp() l = lab.new "run" end
function TestRun.tearDown() l:close() end

local function flow(nodes, settings)
  nodes = nodes:gsub("while true do end", ENDLESS)
  l:write("f.lua", ('local flow = require "flow"\nreturn flow "lab" {\n%s\n%s\n}\n'):format(settings or "", nodes))
end

local function run(...) return l:run("run", "f.lua", ...) end

local function open_state() return state.open("sqlite:.tidemill/state.db", { directory = l.dir }) end

-- The last run as the store has it: states by node, and the run.
local function recorded()
  local store <close> = open_state()
  local found = store:find_run "last"
  local states = {}
  for _, node in ipairs(store:nodes(found.id)) do states[node.node] = node.state end
  return states, found, store:attempts(found.id), store:decisions(found.id)
end

--- Starts a run that goes on beside the test.
local function start(...)
  return proc.spawn { cmd = { BIN, "run", "f.lua", ... }, cwd = l.dir, env = l.env, stdout = "pipe", stderr = "pipe" }
end

--- Reads until the pattern has appeared on standard error; all of it.
local function read_until(child, pattern)
  local text = ""
  for _ = 1, 200 * patience do
    if text:find(pattern) then return text end
    local more = child:read(2, 0.1)
    if not more then break end
    text = text .. more
  end
  lu.fail(("no '%s' in: %s"):format(pattern, text))
end

local function runs(pid)
  local stat <close> = io.open(("/proc/%d/stat"):format(pid))
  local text = stat and stat:read "a"
  return text ~= nil and not text:find "%) [ZX]"
end

local function eventually(check, what)
  for _ = 1, 100 * patience do
    if check() then return end
    proc.poll({}, 0.1)
  end
  lu.fail("never: " .. what)
end

local function sessions(conn)
  return conn:value [[SELECT count(*) FROM pg_stat_activity WHERE datname = current_database()
    AND application_name LIKE 'tidemill lab/%' AND pid <> pg_backend_pid()]]
end

-- ---- order and outputs ----

function TestRun.test_nodes_run_in_order_and_hand_on_outputs()
  flow [[
    flow.lua "b" { after = "a", outputs = { "y" }, run = function(ctx)
      return { y = ctx.upstream.a.x + 1 }
    end },
    flow.lua "a" { outputs = { "x" }, run = function(ctx) ctx:output("x", 41) end },
    flow.lua "c" { after = "b", run = function(ctx)
      print(ctx.vars.x .. " " .. ctx.vars.y .. " " .. ctx.upstream.b.y)
    end },
  ]]
  local r = run()
  lu.assertEquals(r.code, 0, r.all)
  lu.assertStrContains(r.out, "flow 'lab': success")
  lu.assertStrContains(l:run("logs", "last", "c").out, "41 42 42")
end

function TestRun.test_independent_nodes_run_side_by_side()
  local node = [[flow.lua "%s" { run = function()
    require "proc".poll({}, 1)
  end },]]
  flow(node:format "a" .. node:format "b")
  local function overlap()
    local _, _, attempts = recorded()
    local a, b = attempts[1], attempts[2]
    return a.started_at < b.ended_at and b.started_at < a.ended_at
  end
  lu.assertEquals(run("--jobs", "2").code, 0)
  lu.assertTrue(overlap())
  lu.assertEquals(run("--jobs", "1").code, 0)
  lu.assertFalse(overlap())
end

function TestRun.test_a_node_sees_its_context()
  flow([[flow.lua "n" { run = function(ctx)
    local time = require "time"
    print(ctx.flow, ctx.node, ctx.attempt, time.iso(ctx.scheduled, ctx.timezone), time.iso(ctx.business, ctx.timezone))
    print(#ctx.run_id, ctx.model.name, ctx.plan.by_name.n.kind, ctx.vars.day)
  end },]], [[schedule = { timezone = "Asia/Shanghai" }, vars = { day = flow.time "yyyyMMdd" }, ]])
  local r = run("--at", "2026-03-02 04:05:06")
  lu.assertEquals(r.code, 0, r.all)
  local log = l:run("logs", "last", "n").out
  lu.assertStrContains(log, "lab\tn\t1\t2026-03-02T04:05:06+08:00\t2026-03-01T04:05:06+08:00")
  lu.assertStrContains(log, "22\tlab\tlua\t20260301")
end

function TestRun.test_set_and_only()
  flow([[flow.lua "a" { run = function(ctx) print("who=" .. ctx.vars.who) end },
    flow.lua "b" { after = "a", run = function() error "not this one" end },]], [[vars = { who = "world" },]])
  local r = run("--set", "who=moon", "--only", "a")
  lu.assertEquals(r.code, 0, r.all)
  lu.assertStrContains(l:run("logs", "last", "a").out, "who=moon")
  lu.assertEquals(run("--set", "whom=x").code, 2)
  lu.assertEquals(run("--only", "aa").code, 2)
end

function TestRun.test_all_attempts_see_the_file_as_it_was_when_the_run_started()
  l:write("helper.lua", "return { word = 'first' }")
  flow [[
    flow.lua "a" { run = function()
      for name, text in pairs { ["f.lua"] = "this is no Lua", ["helper.lua"] = "return { word = 'second' }" } do
        local f = assert(io.open(name, "w"))
        f:write(text)
        f:close()
      end
    end },
    flow.lua "b" { after = "a", run = function() print(require "helper".word) end },
    flow.lua "c" { after = "b", run = function() print(require "helper".word) end },
    flow.lua "d" { after = "c", run = function() print(require "helper".word) end },
  ]]
  local r = run()
  lu.assertEquals(r.code, 0, r.all)
  for _, node in ipairs { "b", "c", "d" } do lu.assertStrContains(l:run("logs", "last", node).out, "first") end
end

function TestRun.test_bytes_that_are_not_utf8_break_nothing()
  flow('flow.lua "n" { run = function(ctx) print "caf\xe9" ' .. -- Latin-1
    'ctx:log("info", "\xff\0 zero") error "br\xe9ak" end }, -- \xe9')
  local r = run "--json"
  lu.assertEquals(r.code, 1, r.all)
  lu.assertStrContains(l:run("logs", "last").out, "caf?")
  lu.assertStrContains(l:run("show", "last").out, "br?ak")
end

-- ---- failures ----

function TestRun.test_policies_decide_what_else_runs()
  local nodes = [[
    flow.lua "bad" { run = function()
      error { message = "it broke", kind = "data", detail = "here", hint = "mend it" }
    end },
    flow.lua "long" { run = function() require "proc".poll({}, 1) end },
    flow.lua "behind bad" { after = "bad", run = function() end },
    flow.lua "behind long" { after = "long", run = function() end },
  ]]
  local expected = {
    complete_running = { bad = "failed", long = "success", ["behind bad"] = "skipped", ["behind long"] = "skipped" },
    stop = { bad = "failed", long = "canceled", ["behind bad"] = "skipped", ["behind long"] = "skipped" },
    continue = { bad = "failed", long = "success", ["behind bad"] = "skipped", ["behind long"] = "success" },
  }
  for policy, states in pairs(expected) do
    flow(nodes, ("on_error = %q,"):format(policy))
    local r = run("--jobs", "2")
    lu.assertEquals(r.code, 1, r.all)
    lu.assertEquals(recorded(), states, policy)
    for _, text in ipairs { "it broke", "here", "hint: mend it", "tidemill logs 2" } do
      lu.assertStrContains(r.out, text)
    end
  end
end

function TestRun.test_a_failed_attempt_is_retried()
  flow [[flow.lua "n" { retries = 2, retry_delay = 0.1, run = function(ctx)
    if ctx.attempt < 3 then error("attempt " .. ctx.attempt) end
  end },]]
  lu.assertEquals(run().code, 0)
  local states, _, attempts, decisions = recorded()
  lu.assertEquals(states, { n = "success" })
  lu.assertEquals(#attempts, 3)
  lu.assertStrContains(attempts[2].error.message, "attempt 2")
  lu.assertEquals(#decisions, 2)
end

function TestRun.test_a_crash_touches_nothing_else()
  flow([[
    flow.lua "killed" { run = function() os.execute "kill -KILL $PPID" end },
    flow.lua "exits" { run = function() os.exit(7) end },
    flow.lua "fine" { run = function() end },
  ]], 'on_error = "continue",')
  local r = run()
  lu.assertEquals(r.code, 1)
  lu.assertStrContains(r.out, "ended by SIGKILL (peak memory ")
  lu.assertStrContains(r.out, "exit code 7 and no result")
  local states, _, attempts = recorded()
  lu.assertEquals(states, { killed = "failed", exits = "failed", fine = "success" })
  for _, attempt in ipairs(attempts) do
    lu.assertTrue(attempt.max_rss_bytes > 1 << 20 and attempt.cpu_ms >= 0)
  end
end

function TestRun.test_memory_and_cpu_are_those_of_the_attempt()
  flow [[
    flow.lua "big" { run = function()
      local s = ("x"):rep(64 << 20)
      local t = os.clock() + 0.3
      while os.clock() < t do end
      print(#s)
    end },
    flow.lua "small" { after = "big", run = function() end },
  ]]
  lu.assertEquals(run().code, 0)
  local _, _, attempts = recorded()
  lu.assertTrue(attempts[1].max_rss_bytes > 64 << 20)
  lu.assertTrue(attempts[1].cpu_ms >= 300)
  lu.assertTrue(attempts[2].max_rss_bytes < attempts[1].max_rss_bytes - (32 << 20))
end

function TestRun.test_where_memory_ends_nodes_go_before_their_runner()
  flow [[
    flow.shell "n" { command = "cat /proc/self/oom_score_adj" },
    flow.shell "runner" { command = "cat /proc/$(awk '/^PPid/ {print $2}' /proc/$PPID/status)/oom_score_adj" },
  ]]
  local r = run()
  lu.assertEquals(r.code, 0)
  local node, runner = tonumber(r.err:match " n: (%d+)\n"), tonumber(r.err:match " runner: (%-?%d+)\n")
  lu.assertEquals(node, math.max(runner, 500), r.err) -- in some containers all processes have 1000
end

function TestRun.test_an_endless_loop_times_out()
  flow [[flow.lua "n" { timeout = 1, run = function() while true do end end },]]
  local r = run()
  lu.assertEquals(r.code, 1)
  lu.assertStrContains(r.out, "no end after 1 s")
  local _, found, attempts = recorded()
  lu.assertTrue(found.ended_at - found.started_at < 9000 * patience)
  lu.assertNil(attempts[1].exit_signal) -- it ended by itself when asked
end

function TestRun.test_a_loop_that_swallows_errors_is_killed_after_the_grace()
  flow [[flow.lua "n" { timeout = 1, run = function()
    while true do pcall(function() while true do end end) end
  end },]]
  local r = run()
  lu.assertEquals(r.code, 1)
  local _, found, attempts = recorded()
  lu.assertNotNil(attempts[1].exit_signal)
  local elapsed = found.ended_at - found.started_at
  lu.assertTrue(elapsed >= 10900 and elapsed < 20000 * patience, elapsed)
end

function TestRun.test_an_invalid_flow_exits_with_2_and_leaves_no_run()
  flow [[flow.lua "n" { after = "nobody", run = function() end },]]
  lu.assertEquals(run().code, 2)
  lu.assertEquals(l:run("run", "missing.lua").code, 2)
  flow [[flow.lua "n" { run = function() end },]]
  lu.assertEquals(run("--at", "yesterday").code, 2)
  lu.assertStrContains(l:run("runs").all, "no flow has been run here")
end

-- ---- SQL nodes ----

function TestRun.test_sql_runs_in_order_with_variables_and_counts_rows()
  local conn = l:database("db", os.getenv "TM_PG")
  l:project()
  flow([[flow.sql "n" { on = "db", transaction = false, sql = {
    "CREATE TABLE t (d text); INSERT INTO t SELECT '${bizdate}' FROM generate_series(1, 10)",
    "INSERT INTO t VALUES ('x'); DO $${ body", } },]])
  lu.assertEquals(run("--at", "2026-03-02").code, 1)
  lu.assertEquals(conn:value "SELECT count(*) FROM t WHERE d = '2026-03-01'", 10)
  flow [[flow.sql "n" { on = "db", sql = "DO 'BEGIN RAISE NOTICE ''hear me''; END'; DELETE FROM t" },]]
  local r = run()
  lu.assertEquals(r.code, 0, r.all)
  lu.assertStrContains(l:run("logs", "last").out, "notice: hear me")
  local store <close> = open_state()
  lu.assertEquals(store:outputs(store:find_run "last".id), { n = { rows = 11 } })
  lu.assertEquals(#store:sessions(store:find_run "last".id, "n"), 1)
end

function TestRun.test_an_error_of_the_server_is_shown_whole()
  l:database("db", os.getenv "TM_PG")
  l:project()
  flow [[flow.sql "n" { on = "db", sql = "SELECT nothing FROM nowhere" },]]
  local r = run()
  lu.assertEquals(r.code, 1)
  lu.assertStrContains(r.out, 'relation "nowhere" does not exist')
  lu.assertStrContains(r.out, "42P01")
  lu.assertStrContains(l:run("logs", "last", "n").out, "nowhere")
end

function TestRun.test_a_transaction_left_open_is_an_error()
  local db = l:database("db", os.getenv "TM_PG")
  l:project()
  flow [[flow.sql "n" { on = "db", transaction = false, sql = { "BEGIN", "CREATE TABLE t ()" } },]]
  local r = run()
  lu.assertEquals(r.code, 1)
  lu.assertStrContains(r.out, "leave a transaction open")
  lu.assertTrue(db:value "SELECT to_regclass('t') IS NULL")
  flow [[flow.sql "n" { on = "db", transaction = false, sql = { "BEGIN", "CREATE TABLE t ()", "COMMIT" } },]]
  lu.assertEquals(run().code, 0)
  lu.assertTrue(db:value "SELECT to_regclass('t') IS NOT NULL")
end

function TestRun.test_a_bad_name_of_an_output_is_shown()
  flow [[flow.lua "n" { run = function() return { ["a b"] = 1 } end },]]
  lu.assertStrContains(run().out, "error: an output is named by letters, digits, '_' and '.', not 'a b'")
end

function TestRun.test_the_command_that_shows_a_log_works_as_printed()
  flow [[flow.lua "-it's $x" { run = function() error "no" end },]]
  local printed = run().out:match "log: (tidemill logs [^\n]*)"
  local r = proc.run { cmd = "exec " .. printed:gsub("tidemill", BIN, 1), cwd = l.dir, env = l.env }
  lu.assertEquals(r.code, 0, r.stderr)
  lu.assertStrContains(r.stdout, "f.lua:4: no")
end

function TestRun.test_a_timeout_cancels_the_query_at_the_server()
  local conn = l:database("db", os.getenv "TM_PG")
  l:project()
  flow [[flow.sql "n" { on = "db", timeout = 1, sql = "SELECT pg_sleep(300)" },]]
  local r = run()
  lu.assertEquals(r.code, 1, r.all)
  lu.assertStrContains(r.out, "no end after 1 s")
  local _, found = recorded()
  lu.assertTrue(found.ended_at - found.started_at < 9000 * patience)
  eventually(function() return sessions(conn) == 0 end, "the session ends")
end

function TestRun.test_a_lost_session_is_ended_before_the_next_attempt()
  -- the first attempt dies by SIGKILL in the middle of a query; its backend would sleep on
  local conn = l:database("db", os.getenv "TM_PG")
  l:project()
  conn:exec "CREATE TABLE marks (attempt int, others bigint)"
  flow [[flow.lua "n" { retries = 1, retry_delay = 0, run = function(ctx)
    local conn <close> = ctx:postgres "db"
    if ctx.attempt == 1 then
      local killer = require "proc".spawn { cmd = "sleep 1; kill -KILL $PPID" }
      conn:exec "SELECT pg_sleep(300)"
      killer:close()
    end
    conn:exec("INSERT INTO marks SELECT " .. ctx.attempt .. ", count(*) FROM pg_stat_activity " ..
      "WHERE query LIKE 'SELECT pg_sleep%' AND datname = current_database()")
  end },]]
  local r = run()
  lu.assertEquals(r.code, 0, r.all)
  lu.assertEquals(conn:value "SELECT string_agg(attempt || ':' || others, ',') FROM marks", "2:0")
  lu.assertStrContains(l:run("logs", "last", "n").out, "ended session")
end

function TestRun.test_failures_to_connect_exit_with_3()
  l.connections.db = '{ postgres = "postgresql://tm:wrong-secret@127.0.0.1:1/x" }'
  l:project()
  flow [[flow.sql "n" { on = "db", sql = "SELECT 1" },]]
  local r = run()
  lu.assertEquals(r.code, 3, r.all)
  lu.assertNotStrContains(r.all, "wrong-secret")
end

function TestRun.test_secrets_are_nowhere_to_be_seen()
  local secret = "s3cret-xyzzy-41"
  local admin <close> = pg.connect(os.getenv "TM_PG")
  admin:exec("DROP ROLE IF EXISTS lab_secret; CREATE ROLE lab_secret LOGIN PASSWORD '" .. secret .. "'")
  local _, url = l:database("db", os.getenv "TM_PG")
  l.env.LAB_DB = url:gsub("//[^@]*@", "//lab_secret:" .. secret .. "@")
  l:project()
  flow [[
    flow.sql "works" { on = "db", sql = "SELECT 1" },
    flow.lua "looks" { run = function(ctx)
      local conn <close> = ctx:postgres "db"
      local f = assert(io.open "/proc/self/cmdline")
      print("argv " .. f:read "a")
      f:close()
      ctx:log("info", "%s", require("tidemill.project").open("f.lua"):conninfo "db")
      error(os.getenv "LAB_DB")
    end },
  ]]
  local r = run("--json")
  lu.assertEquals(r.code, 1, r.all)
  admin:exec "DROP ROLE lab_secret"
  lu.assertStrContains(r.out, "argv ")
  lu.assertNotStrContains(r.all, secret)
  for _, file in ipairs { "state.db", "state.db-wal" } do
    local f <close> = io.open(l.dir .. "/.tidemill/" .. file, "rb")
    if f then lu.assertNotStrContains(f:read "a", secret) end
  end
  lu.assertNotStrContains(l:run("logs", "last").all .. l:run("show", "last").all, secret)
end

-- ---- interrupts and deaths ----

local LONG = [[
  flow.sql "query" { on = "db", sql = "SELECT pg_sleep(300)" },
  flow.lua "loop" { run = function() while true do end end },
  flow.lua "behind" { after = "loop", run = function() end },
]]

local function children_of(pid)
  local r = proc.run { cmd = { "pgrep", "-P", tostring(pid) } }
  local pids = {}
  for word in r.stdout:gmatch "%d+" do pids[#pids + 1] = tonumber(word) end
  return pids
end

local function start_long()
  local conn = l:database("db", os.getenv "TM_PG")
  l:project()
  flow(LONG)
  local child = start("--jobs", "2")
  eventually(function() return sessions(conn) == 1 and #children_of(child:pid()) >= 2 end, "both nodes run")
  return child, conn, children_of(child:pid())
end

local function assert_gone(pids, conn)
  lu.assertTrue(#pids >= 2)
  for _, pid in ipairs(pids) do
    eventually(function() return not runs(pid) end, "process " .. pid .. " ends")
  end
  eventually(function() return sessions(conn) == 0 end, "the query ends")
end

function TestRun.test_ctrl_c_cancels_everything_and_exits_with_130()
  for _, signal in ipairs { "INT", "TERM" } do
    local child <close>, conn, pids = start_long()
    os.execute(("kill -%s %d"):format(signal, child:pid()))
    local status = child:wait(30 * patience)
    lu.assertEquals(status.code, 130)
    assert_gone(pids, conn)
    local states, found = recorded()
    lu.assertEquals(states, { query = "canceled", loop = "canceled", behind = "skipped" })
    lu.assertEquals({ found.state, found.message }, { "canceled", "interrupted" })
    l:close()
    l = lab.new "run"
  end
end

function TestRun.test_a_second_ctrl_c_kills()
  flow [[flow.lua "n" { run = function()
    while true do pcall(function() print "here" while true do end end) end
  end },]]
  local child <close> = start()
  read_until(child, "here")
  os.execute(("kill -INT %d"):format(child:pid()))
  lu.assertNil(child:wait(1))
  os.execute(("kill -INT %d"):format(child:pid()))
  lu.assertEquals(child:wait(8).code, 130) -- the first alone kills too, after 11 s
  local _, _, attempts = recorded()
  lu.assertEquals(attempts[1].exit_signal, "SIGKILL")
end

function TestRun.test_children_die_with_a_killed_runner_and_the_next_start_records_it()
  local child <close>, conn, pids = start_long()
  child:kill "KILL"
  lu.assertEquals(child:wait(60).signal, "SIGKILL")
  assert_gone(pids, conn)
  local _, found = recorded()
  lu.assertEquals(found.state, "running")
  flow [[flow.lua "n" { run = function() end },]]
  local r = run()
  lu.assertEquals(r.code, 0, r.all)
  lu.assertStrContains(r.err, ("the runner of run %s died"):format(found.id))
  lu.assertStrContains(l:run("show", found.id).out, "attempt 1: its runner")
end

function TestRun.test_what_a_node_leaves_behind_dies_with_its_attempt()
  flow [[flow.lua "n" { run = function() os.execute "sleep 4321 >/dev/null 2>&1 & echo $! >left" end },]]
  lu.assertEquals(run().code, 0)
  local f <close> = assert(io.open(l.dir .. "/left"))
  local pid = f:read "n"
  eventually(function() return not runs(pid) end, "the sleep ends")
end

-- ---- what people see ----

function TestRun.test_what_a_command_prints_is_seen_at_once()
  flow [[
    flow.shell "a" { command = "echo first; for i in $(seq 300); do test -e seen && exit; sleep 0.1; done; exit 1" },]]
  local child <close> = start()
  read_until(child, "a: first\n")
  l:write("seen", "")
  lu.assertEquals(child:wait().code, 0)
end

function TestRun.test_json_has_every_event_on_a_line()
  flow [[flow.lua "n" { run = function(ctx)
    print "said"
    ctx:progress { rows = 3, bytes = 300, detail = "half" }
    ctx:log("warn", "noted")
  end },]]
  local r = run "--json"
  lu.assertEquals(r.code, 0, r.all)
  local seen = {}
  for line in r.out:gmatch "[^\n]+" do
    local event = json.decode(line)
    lu.assertNotNil(event.at)
    local kind = event.event .. (event.state and " " .. event.state or "")
    seen[kind] = seen[kind] or event
  end
  lu.assertEquals({ seen["progress"].rows, seen["progress"].detail }, { 3, "half" })
  lu.assertEquals(seen["node success"].rows, 3)
  lu.assertEquals(seen["end success"].run, seen["node running"].run)
  lu.assertNotNil(seen.log)
end

function TestRun.test_runs_show_and_logs_tell_what_happened()
  flow [[
    flow.lua "good" { run = function(ctx)
      ctx:progress { rows = 1234567, bytes = 5000000 }
      return { answer = 42 }
    end },
    flow.lua "bad" { after = "good", retries = 1, retry_delay = 0, run = function()
      print "last words"
      error "no"
    end },
  ]]
  lu.assertEquals(run().code, 1)
  local id = l:run("runs").out:match "\n(%S+)"
  lu.assertStrContains(l:run("runs", "--flow", "lab").out, id)
  lu.assertNotStrContains(l:run("runs", "--flow", "other").out, id)
  lu.assertEquals(json.decode(l:run("runs", "--json").out).id, id)
  local shown = l:run("show", id:sub(-6)).out
  for _, text in ipairs { "1,234,567", "5.00 MB", "good.answer = 42", "bad, attempt 2: failed", "retries are used" } do
    lu.assertStrContains(shown, text)
  end
  local tree = json.decode(l:run("show", "last", "--json").out)
  lu.assertEquals({ #tree.nodes, #tree.attempts, tree.outputs.good.answer }, { 2, 3, 42 })
  local logs = l:run("logs", id, "bad", "--attempt", "2").out
  lu.assertStrContains(logs, "last words")
  lu.assertNotStrContains(logs, "attempt 1")
  lu.assertEquals(l:run("logs", id, "god").code, 2)
  lu.assertEquals(l:run("show", "nothing").code, 1)
end

function TestRun.test_output_that_does_not_arrive_is_an_error_unless_nobody_reads()
  local function shell(text)
    return proc.run { cmd = { "sh", "-c", text, "sh", BIN }, stdout = "pipe", stderr = "pipe" }.stderr
  end
  lu.assertEquals(shell '"$1" help exit-codes >/dev/full; echo $? >&2',
    "tidemill: error: cannot write to standard output: No space left on device\n1\n")
  lu.assertEquals(shell '"$1" --version >/dev/full; echo $? >&2',
    "tidemill: error: cannot write to standard output: No space left on device\n1\n")
  lu.assertEquals(shell '"$1" --version >&-; echo $? >&2', "0\n")
  lu.assertEquals(shell '"$1" help flow >/dev/full; echo $? >&2', -- more than is kept back till the end
    "tidemill: error: cannot write to standard output\n1\n")
  lu.assertEquals(shell '"$1" help exit-codes >&-; echo $? >&2', "0\n")
  lu.assertEquals(shell '{ "$1" help flow; echo $? >&2; } | head -c 1', "0\n")
end

function TestRun.test_output_that_does_not_arrive_costs_no_file_of_a_script()
  l:write("s.lua", 'local f = io.open("kept", "w") f:write "all of it" print "said" os.exit(0)')
  local r = proc.run { cmd = { "sh", "-c", '"$1" exec s.lua >/dev/full', "sh", BIN }, cwd = l.dir, stderr = "pipe" }
  lu.assertEquals(r.code, 1)
  local kept <close> = assert(io.open(l.dir .. "/kept"))
  lu.assertEquals(kept:read "a", "all of it")
end

function TestRun.test_messages_are_one_line_and_name_the_line_of_the_flow()
  flow [[
    flow.lua "needs" { run = function() require "nosuch" end },
    flow.lua "table" { run = function() error { status = 5 } end },
    flow.lua "long" { run = function() error("first\nsecond", 0) end },
  ]]
  local r = l:run("run", "f.lua", "--only", "needs")
  lu.assertStrMatches(r.err, ".* needs: failed %([^)]*%): f.lua:4: module 'nosuch' not found:\n")
  lu.assertStrContains(r.out, "error: f.lua:4: module 'nosuch' not found:\n")
  lu.assertStrContains(r.out, "no embedded file 'stdlib/nosuch.lua'")
  lu.assertStrContains(l:run("run", "f.lua", "--only", "table").out, "without a message: { status = 5 }")
  r = l:run("run", "f.lua", "--only", "long")
  lu.assertNotStrContains(r.err, "second")
  lu.assertStrContains(r.out, "error: first\n    node 'long', attempt 1\n    second\n")
end

function TestRun.test_lines_of_log_have_one_time_and_their_level()
  flow [[
    flow.lua "a" { run = function() require("log").warn("careful: %d", 7) end },
  ]]
  local r = run()
  lu.assertStrMatches(r.err, ".*%d a: warn: careful: 7\n.*")
  lu.assertStrMatches(l:run("logs", "last").out, "[%d:.]+ a: warn: careful: 7\n")
end

function TestRun.test_a_long_log_keeps_head_and_tail()
  flow [[flow.lua "n" { run = function() for i = 1, 20000 do print("line " .. i) end end },]]
  lu.assertEquals(run().code, 0)
  local logs = l:run("logs", "last", "n").out
  lu.assertStrContains(logs, " line 1\n")
  lu.assertStrContains(logs, " line 20000\n")
  lu.assertStrContains(logs, "... 16000 lines dropped ...")
end

--- Runs on a pseudo-terminal of so many columns; everything written to it.
local function on_terminal(columns, rows, env)
  local command = ("stty cols %d rows %d; exec %s run f.lua"):format(columns, rows, BIN)
  local all = { TERM = "xterm", NO_COLOR = false }
  for key, value in pairs(l.env) do all[key] = value end
  for key, value in pairs(env or {}) do all[key] = value end
  return proc.run { cmd = { "script", "-qec", command, "/dev/null" }, cwd = l.dir, env = all, timeout = 60 * patience }
end

local SLOWLY = [[
  flow.lua "first node with a long name" { run = function(ctx)
    print("log line one")
    for i = 1, 5 do
      ctx:progress { rows = i * 1000, bytes = i * 100000 }
      require "proc".poll({}, 0.2)
    end
  end },
  flow.lua "second" { after = "first node with a long name", run = function() end },
]]

function TestRun.test_a_terminal_shows_one_line_a_node_redrawn_in_place()
  flow(SLOWLY)
  local r = on_terminal(100, 24)
  lu.assertEquals(r.code, 0, r.stdout)
  lu.assertStrContains(r.stdout, "\27[2A") -- two lines up: one a node
  lu.assertStrContains(r.stdout, "\27[36mrunning")
  lu.assertStrContains(r.stdout, "\27[2mwaiting")
  lu.assertStrContains(r.stdout, "5,000 rows")
  lu.assertStrContains(r.stdout, "log line one")
  lu.assertStrContains(r.stdout, "flow 'lab': success")
end

function TestRun.test_no_color_and_narrow_terminals()
  flow(SLOWLY)
  local r = on_terminal(30, 24, { NO_COLOR = "1" })
  lu.assertEquals(r.code, 0, r.stdout)
  lu.assertNotStrContains(r.stdout, "\27[36m")
  local blocks = 0
  for block in r.stdout:gmatch "\27%[2A\r\27%[J(.-)\27%[2A" do
    blocks = blocks + 1
    for line in block:gmatch "[^\r\n]+" do
      if not line:find "log line" then lu.assertTrue(#line < 30, line) end
    end
  end
  lu.assertTrue(blocks > 0)
end

function TestRun.test_more_nodes_than_lines_are_summed_up()
  local nodes = { SLOWLY }
  for i = 1, 30 do
    nodes[#nodes + 1] = ('flow.lua "n%d" { after = "second", run = function() end },'):format(i)
  end
  flow(table.concat(nodes, "\n"))
  local r = on_terminal(80, 10)
  lu.assertEquals(r.code, 0, r.stdout)
  lu.assertStrContains(r.stdout, "and 31 waiting")
  for up in r.stdout:gmatch "\27%[(%d+)A" do lu.assertTrue(tonumber(up) <= 8) end
end

function TestRun.test_a_pipe_gets_plain_lines()
  flow(SLOWLY)
  local r = run()
  lu.assertEquals(r.code, 0)
  lu.assertNotStrContains(r.all, "\27")
  lu.assertStrContains(r.err, "first node with a long name: log line one")
  lu.assertStrContains(r.err, "second: success")
end

function TestRun.test_a_chain_of_forty_trivial_nodes_is_cheap()
  flow [[ (function()
    local nodes = {}
    for i = 1, 40 do nodes[i] = flow.lua("n" .. i) { after = i > 1 and "n" .. i - 1 or nil, run = function() end } end
    return nodes
  end)() ]]
  local r = run()
  lu.assertEquals(r.code, 0, r.all)
  local _, _, attempts = recorded()
  local cpu_ms = 0 -- time would be that of the machine's other work too
  for _, attempt in ipairs(attempts) do cpu_ms = cpu_ms + attempt.cpu_ms end
  lu.assertTrue(cpu_ms < 40 * 16 * patience, cpu_ms)
end

os.exit(lu.LuaUnit.run())
