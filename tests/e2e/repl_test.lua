-- needs: pg
--- repl: typed at a real pseudo-terminal, and given on standard input and by -e.

local lab = require "tests.support.lab"
local lu = require "luaunit"
local pgtest = require "tests.support.pgtest"
local proc = require "proc"
local terminal = require "tests.support.terminal"

local PROMPT = "tidemill> "
local BIN = os.getenv "TM_BIN"

-- ThreadSanitizer holds signals back until the program calls something of the C library.
local BUSY = os.getenv "TM_SANITIZER" == "tsan" and "local t = {}" or ""
local LOOP = ("while true do %s end"):format(BUSY)

local l, conn

TestRepl = {}

function TestRepl.setUp()
  l = lab.new "repl"
  l.env.HOME = l.dir
end

function TestRepl.tearDown() l:close() end

-- A project with the database `rds` and the folder `lake`.
local function project()
  conn = l:database("rds", os.getenv "TM_PG")
  l.connections.lake = '{ file = "lake" }'
  l:project()
end

-- A session that is at its prompt.
local function session(size)
  local t = terminal.start { cmd = { BIN, "repl" }, env = l.env, cwd = l.dir, size = size }
  t:expect(PROMPT)
  return t
end

-- Types an input; what is shown until the next prompt.
local function enter(t, line)
  t:type(line .. "\n")
  t:expect "\n"
  return (t:expect("\n" .. PROMPT):gsub("\n" .. PROMPT .. "$", ""))
end

-- Keys typed before the prompt is there reach a terminal that takes Ctrl-D for itself; Ctrl-C is
-- never lost.
local function leave(t)
  t:type "\3"
  t:expect "^C"
  t:expect(PROMPT)
  t:type "\4"
  lu.assertEquals(t:finish(), 0)
end

local function read_file(name)
  local f <close> = io.open(l.dir .. "/" .. name)
  return f and f:read "a"
end

-- What was typed is under way: nothing shows it, so it takes longer the more the machine has to do.
local function moment()
  local f <close> = assert(io.open "/proc/loadavg")
  proc.poll({}, 0.3 * math.min(math.max(f:read "n", 1), 8))
end

local function sleeps()
  return conn:value [[SELECT count(*) FROM pg_stat_activity WHERE query LIKE '%pg_sleep(60)%' AND state = 'active'
    AND datname = current_database() AND pid <> pg_backend_pid()]] == 1
end

-- ---- at a terminal ----

function TestRepl.test_values_are_shown_and_globals_stay()
  local t <close> = session()
  lu.assertEquals(enter(t, "1 + 1, 'a\\n', nil"), '2\n"a\\n"\nnil')
  t:type "x = { b = 2, 1, nested = { 3 } }\n"
  t:expect(PROMPT)
  lu.assertEquals(enter(t, "x"), "{ 1, b = 2, nested = { 3 } }")
  t:type "local conn <const>, y = 7, 8\n"
  t:expect(PROMPT)
  lu.assertEquals(enter(t, "conn + y"), "15")
  lu.assertEquals(enter(t, "_ * 2"), "30")
  lu.assertEquals(enter(t, "cron.parse('0 0 1 * * ?', { timezone = 'UTC' }):next(0)"), "3600")
  leave(t)
end

function TestRepl.test_an_input_goes_on_until_it_is_complete()
  local t <close> = session()
  t:type "function double(x)\n"
  t:expect "       >> "
  t:type "return 2 * x\n"
  t:expect "       >> "
  t:type "end\n"
  t:expect(PROMPT)
  lu.assertEquals(enter(t, "double(21)"), "42")
  leave(t)
end

function TestRepl.test_an_error_has_place_and_hint_and_the_session_goes_on()
  l:write("broken.lua", "local broken = {}\n\nfunction broken.run() error({ message = 'it broke', hint = 'mend it' }) end"
    .. "\nreturn broken\n")
  local t <close> = session()
  lu.assertEquals(enter(t, "pgg.connect()"), "error: repl:1: attempt to index a nil value (global 'pgg')\n"
    .. "hint: did you mean 'pg'?")
  lu.assertEquals(enter(t, "require 'broken'.run()"), "error: it broke\n  at ./broken.lua:3\nhint: mend it")
  lu.assertEquals(enter(t, "x = = 1"), "error: repl:1: unexpected symbol near '='")
  lu.assertEquals(enter(t, "pg.quote_ident ''"), "error: cannot quote: an identifier is never empty")
  lu.assertEquals(enter(t, ".flw"), "error: no command '.flw'\nhint: did you mean '.flow'?")
  lu.assertEquals(enter(t, "2"), "2")
  leave(t)
end

function TestRepl.test_tab_completes_globals_fields_methods_and_commands()
  project()
  local t <close> = session()
  t:type "pg.quote_l\t" -- a field of a module
  t:expect "pg.quote_literal"
  t:type "(1)\n"
  t:expect(PROMPT)
  t:type "stre\t.pum\t" -- a module that was not used before
  t:expect "stream.pump"
  t:type "\3"
  t:expect(PROMPT)
  t:type "my_own_thing = { alpha = { beta = 5 } }\n"
  t:expect(PROMPT)
  t:type "my_o\t.al\t.b\t\n"
  t:expect "my_own_thing.alpha.beta"
  t:expect "\n5\n"
  t:expect(PROMPT)
  t:type "db.r\t:server_v\t" -- a connection's name; methods by the documentation, it is not open
  t:expect "db.rds:server_version"
  t:type "\3"
  t:expect(PROMPT)
  lu.assertStrContains(enter(t, "db"), "db.rds                  postgres   not open")
  t:type "c = db.rds\n"
  t:expect(PROMPT)
  t:type "c:ro\t" -- methods of an object
  t:expect "c:rows"
  t:type "\3"
  t:expect(PROMPT)
  t:type ".li\t7\n"
  t:expect ".limit 7"
  t:expect(PROMPT)
  t:type "require 'js\t"
  t:expect "require 'json"
  leave(t)
end

function TestRepl.test_tab_shows_the_choices_when_there_are_several()
  l:write("a_flow.lua", "")
  l:write("a_flaw.lua", "")
  local t <close> = session()
  t:type "pg.quote\t\t"
  t:expect "quote_ident    quote_literal\n"
  t:expect(PROMPT .. "pg.quote_")
  t:type "ident 'a'\n"
  t:expect [["\"a\""]]
  t:expect(PROMPT)
  t:type ".flow a_\t\t"
  t:expect ".flow a_fl"
  t:expect "a_flaw.lua  a_flow.lua\n"
  leave(t)
end

function TestRepl.test_history_lasts_and_keeps_no_secret()
  local t <close> = session()
  enter(t, "'kept ' .. 1")
  enter(t, " 'starts with a space'")
  enter(t, "'postgres://u:swordfish@h/d'")
  t:type "PASSWORD = 'swordfish'\n"
  t:expect(PROMPT)
  t:type "\27[A\n" -- one up: the lines between were not kept
  t:expect "'kept ' .. 1\n"
  t:expect(PROMPT)
  leave(t)
  lu.assertEquals(read_file ".tidemill_history", "'kept ' .. 1\n")
  lu.assertEquals(proc.run { cmd = { "stat", "-c", "%a", l.dir .. "/.tidemill_history" } }.stdout, "600\n")
  local again <close> = session()
  again:type "\18kep" -- Ctrl-R looks for it
  again:expect "'kept ' .. 1"
  again:type "\n"
  again:expect '"kept 1"'
  again:expect(PROMPT)
  leave(again)
end

function TestRepl.test_a_history_others_can_read_is_closed_to_them_and_a_long_one_is_cut()
  local lines = {}
  for i = 1, 2500 do lines[i] = ("x%d = 1"):format(i) end
  lines[2499] = "\xff\xfe not UTF-8"
  l:write(".tidemill_history", table.concat(lines, "\n") .. "\n")
  os.execute(("chmod 644 '%s/.tidemill_history'"):format(l.dir))
  local t <close> = session()
  leave(t)
  local kept = read_file ".tidemill_history"
  lu.assertEquals({ select(2, kept:gsub("\n", "")), kept:match "^[^\n]*" }, { 1000, "x1500 = 1" })
  lu.assertEquals(proc.run { cmd = { "stat", "-c", "%a", l.dir .. "/.tidemill_history" } }.stdout, "600\n")
  local again <close> = session()
  again:type "\27[A\27[A\n" -- the line that is not UTF-8 is passed over
  again:expect(PROMPT)
  lu.assertEquals(enter(again, "x2498"), "1")
  leave(again)
end

function TestRepl.test_ctrl_c_cancels_a_query_at_the_server_and_not_the_session()
  project()
  local t <close> = session()
  enter(t, "db.rds:value 'SELECT 1'")
  t:type "db.rds:query 'SELECT pg_sleep(60)'\n"
  lu.assertTrue(pgtest.eventually(20, sleeps))
  t:type "\3"
  t:expect("error: ", 5)
  t:expect(PROMPT)
  lu.assertEquals(enter(t, "db.rds:value 'SELECT 41 + 1'"), "42")
  lu.assertFalse(sleeps())
  leave(t)
end

function TestRepl.test_ctrl_c_ends_an_endless_loop_even_one_that_catches_errors()
  local t <close> = session()
  for _, code in ipairs { LOOP, "repeat until pcall(error) == 'never'",
    ("coroutine.wrap(function() %s end)()"):format(LOOP), ("('a'):rep(9):gsub('.', function() %s end)"):format(LOOP) } do
    t:type(code .. "\n")
    for _ = 1, 4 do
      moment()
      t:type "\3"
    end
    t:expect("error: cancelled\n", 5)
    t:expect(PROMPT)
    t:type "'still ' .. 'here'\n"
    t:expect '"still here"'
    t:expect(PROMPT)
  end
  leave(t)
end

function TestRepl.test_ctrl_c_at_the_prompt_drops_what_was_typed()
  local t <close> = session()
  t:type "error 'not this'"
  t:expect "error 'not this'"
  t:type "\3"
  lu.assertEquals(t:expect "^C\n", "^C\n") -- and the line is not drawn again
  t:expect(PROMPT)
  t:type "y = {\n"
  t:expect ">> "
  t:type "1,\3"
  t:expect "^C\n"
  t:expect(PROMPT)
  lu.assertEquals(enter(t, "y == nil"), "true")
  leave(t)
end

function TestRepl.test_a_resized_window_cuts_tables_to_its_width()
  project()
  local t <close> = session "120x24"
  local query = "db.rds:query [[SELECT 1 AS id, repeat('x', 60) AS long]]"
  lu.assertStrContains(enter(t, query), ("x"):rep(60))
  t:resize "40x24"
  moment()
  t:type "\3"
  t:expect(PROMPT)
  t:type(query:sub(1, 20)) -- also in the middle of a line
  t:resize "42x24"
  moment()
  t:type(query:sub(21) .. "\n")
  t:expect "xxx…\n"
  t:expect(PROMPT)
  t:type "require 'tidemill.tty'.size(1)\n"
  t:expect "\n42\n24\n"
  leave(t)
end

function TestRepl.test_results_are_tables_of_limited_length()
  project()
  local t <close> = session()
  lu.assertEquals(enter(t, "db.rds:query 'SELECT i AS n, i * 0.5 AS half FROM generate_series(9, 10) i'"),
    "  n | half\n----+------\n  9 |  4.5\n 10 |  5.0\n(2 rows)")
  t:type ".limit 3\n"
  t:expect(PROMPT)
  lu.assertEquals(enter(t, "db.rds:query 'SELECT * FROM generate_series(1, 1000) AS n'"),
    " n\n---\n 1\n 2\n 3\n(3 of 1000 rows; .limit N shows more)")
  lu.assertEquals(enter(t, "db.rds:exec 'CREATE TABLE t (a int)'"), "CREATE TABLE")
  leave(t)
end

function TestRepl.test_sql_has_a_prompt_of_its_own()
  project()
  local t <close> = session()
  t:type ".sql rds\n"
  t:expect "\nrds> "
  t:type "SELECT 'a;b' AS text,\n"
  t:expect "\nrds-> "
  t:type "  2 AS two; SELECT 3 AS three;\n"
  t:expect " text | two\n------+-----\n a;b  |   2\n(1 row)\n three\n-------\n     3\n(1 row)\n"
  t:expect "rds> "
  t:type "BEGIN;\n"
  t:expect "BEGIN\nrds*> "
  t:type "SELECT nothing FROM nowhere;\n"
  t:expect 'error: relation "nowhere" does not exist'
  t:expect "SELECT nothing FROM nowhere\n"
  t:expect "^\n"
  t:expect "rds!> "
  t:type "rollback;\n"
  t:expect "ROLLBACK\nrds> "
  t:type "SELECT pg_sleep(60);\n"
  lu.assertTrue(pgtest.eventually(20, sleeps))
  t:type "\3"
  t:expect("error: ", 5)
  t:expect "rds> "
  t:type "SEL\t 5 AS five;\n"
  t:expect " five\n"
  t:expect "rds> "
  t:type "\4"
  t:expect(PROMPT)
  lu.assertEquals(enter(t, "db.rds:state()"), '"idle"')
  leave(t)
end

local FLOW = [[
  flow.lua "first" { run = function(ctx) ctx:log("info", "first was here") end },
  flow.sql "second" { after = "first", on = "rds", vars = { day = flow.time "yyyyMMdd" },
    sql = "SELECT '${day}'" },
]]

function TestRepl.test_a_flow_is_loaded_shown_and_one_node_of_it_run()
  project()
  l:flow("f.lua", FLOW)
  l:flow("bad.lua", 'flow.sql "a" { on = "rsd", sql = "SELECT 1" },')
  local t <close> = session "200x50"
  t:type ".run first\n"
  t:expect "error: no flow is loaded\nhint: load one with .flow FILE\n"
  t:expect(PROMPT)
  t:type ".flow bad.lua\n"
  t:expect "unknown connection 'rsd'"
  t:expect "did you mean 'rds'?"
  t:expect(PROMPT)
  t:type ".flow f.lua 2026-03-01 00:00:00\n"
  t:expect "second (sql on rds)"
  t:expect "SELECT '20260228'"
  t:expect(PROMPT)
  t:type ".run fi\t\n"
  t:expect "success"
  t:expect(PROMPT)
  t:type ".run third\n"
  t:expect "error: the flow has no node 'third'\nhint: nodes: first, second\n"
  t:expect(PROMPT)
  lu.assertEquals(enter(t, "1"), "1")
  leave(t)
end

function TestRepl.test_secrets_are_never_shown()
  conn = l:database("rds", os.getenv "TM_PG")
  l.env.LAB_RDS = l.env.LAB_RDS:gsub("^(postgres%w*://[^:/@]*)[^@]*@", "%1:swordfish@")
  l.connections.rds = l.connections.rds
  l:project()
  local t <close> = session()
  lu.assertEquals(enter(t, "os.getenv 'LAB_RDS'"), '"***"') -- also before it is used
  enter(t, "db.rds:value 'SELECT 1'")
  t:type "'sword' .. 'fish', { a = 'sword' .. 'fish' }\n"
  t:expect '"***"\n{ a = "***" }\n'
  t:expect(PROMPT)
  t:type "print('sword' .. 'fish')\n"
  t:expect "\n***\n"
  t:expect(PROMPT)
  t:type "error('sword' .. 'fish')\n"
  t:expect "repl:1: ***\n"
  t:expect(PROMPT)
  leave(t)
end

function TestRepl.test_ctrl_c_ends_the_run_of_a_node_and_not_the_session()
  l:project()
  l:flow("f.lua", 'flow.lua "slow" { run = function() require "proc".run { cmd = "sleep 60" } end },')
  local t <close> = session "200x50"
  for _ = 1, 2 do -- signals of the first do not count for the second
    t:type("io.write('go', 'ing\\n') io.flush() " .. LOOP .. "\n")
    t:expect "going\n"
    t:type "\3"
    t:expect "error: cancelled"
    t:expect(PROMPT)
    t:type ".flow f.lua\n"
    t:expect "slow (lua)"
    t:expect(PROMPT)
    t:type ".run slow\n"
    t:expect "running"
    t:type "\3"
    t:expect("canceled", 10)
    t:expect "error: cancelled"
    t:expect(PROMPT)
  end
  lu.assertEquals(enter(t, "1"), "1")
  leave(t)
end

function TestRepl.test_after_a_suspension_the_line_can_be_edited_as_before()
  local t <close> = session()
  t:type "pid, pts = require 'tidemill.signal'.pid(), require 'proc'.run { cmd = 'tty', stdin = 'inherit' }.stdout\n"
  t:expect(PROMPT)
  local pid, pts = enter(t, "pid"), enter(t, "pts"):match "/dev/[%w/]+"
  t:type "return 'edited', 1"
  t:expect "'edited', 1"
  assert(os.execute(("kill -STOP %s; stty -F %s sane; kill -CONT %s"):format(pid, pts, pid)))
  t:expect(PROMPT .. "return 'edited', 1") -- drawn again, on a terminal that is set up again
  t:type "\1\4\4\4\4\4\4\4\n" -- Ctrl-A, and "return " goes
  t:expect '"edited"\n1\n'
  t:expect(PROMPT)
  leave(t)
end

function TestRepl.test_a_history_that_cannot_be_read_is_told_once()
  l.env.TIDEMILL_HISTORY = l.dir
  local t <close> = terminal.start { cmd = { BIN, "repl" }, env = l.env, cwd = l.dir }
  t:expect "the history is not kept: cannot read"
  t:expect(PROMPT)
  lu.assertEquals(enter(t, "1"), "1")
  leave(t)
  l.env.TIDEMILL_HISTORY = ""
  local none <close> = session()
  enter(none, "2")
  leave(none)
  lu.assertNil(read_file ".tidemill_history")
end

function TestRepl.test_time_is_told_and_quit_leaves()
  local t <close> = session()
  enter(t, ".time on")
  lu.assertStrMatches(enter(t, "1"), "1\nTime: %d+%.%d%d%d s")
  t:type ".quit\n"
  lu.assertEquals(t:finish(), 0)
end

function TestRepl.test_a_signal_that_ends_ends_it()
  local t <close> = session()
  lu.assertStrMatches(enter(t, "require 'tidemill.signal'.pid()"), "%d+")
  t:type "os.execute('kill -TERM ' .. _)\n"
  lu.assertEquals(t:finish(), 143)
  local hung <close> = session()
  hung:type "os.execute('kill -HUP ' .. require 'tidemill.signal'.pid())\n"
  lu.assertEquals(hung:finish(), 129)
end

-- ---- without one ----

local function script(text, ...)
  local r = proc.run { cmd = { BIN, "repl", ... }, input = text, env = l.env, cwd = l.dir, timeout = 60 }
  return { r.code, r.stdout, r.stderr }
end

function TestRepl.test_standard_input_runs_line_by_line_without_a_prompt()
  lu.assertEquals(script "x = 20\nlocal y = 1\nfor i = 1, 2 do\n  print(i)\nend\nx * 2 + y\n-- a comment\n\n'last'",
    { 0, '1\n2\n41\n"last"\n', "" })
  lu.assertNil(read_file ".tidemill_history")
end

function TestRepl.test_the_first_error_of_a_script_ends_it()
  lu.assertEquals(script "print 'one'\n\nnil_thing.x = 1\nprint 'never'\n",
    { 1, "one\n", "error: stdin:3: attempt to index a nil value (global 'nil_thing')\n" })
  lu.assertEquals(script "x = {\n1,\n", { 1, "", "error: the input ends in the middle\n" })
  lu.assertEquals(script ".limit none\nprint 'never'\n", { 1, "", "error: stdin:1: usage: .limit N\n" })
end

function TestRepl.test_a_script_that_cannot_connect_exits_with_3()
  l.connections.gone = '{ postgres = "host=127.0.0.1 port=1 dbname=x" }'
  l:project()
  local code, out, err = table.unpack(script "db.gone:value 'SELECT 1'\n")
  lu.assertEquals({ code, out }, { 3, "" })
  lu.assertStrContains(err, "connection 'gone'")
end

function TestRepl.test_sql_comes_from_standard_input_too()
  project()
  lu.assertEquals(script ".sql rds\nCREATE TABLE t AS SELECT 1 AS a;\nTABLE t;\n.lua\n#db.rds:query 'TABLE t'\n",
    { 0, "SELECT 1\n a\n---\n 1\n(1 row)\n1\n", "" })
  lu.assertEquals(script ".sql rds\nSELECT 1\n", { 1, "", "error: the last statement has no ';'\n" })
end

function TestRepl.test_code_of_the_command_line_is_run()
  lu.assertEquals(script(nil, "-e", "a = 4", "-e", "a + 1", "--eval", "print(a)\nprint(2 * a)"), { 0, "5\n4\n8\n", "" })
  lu.assertEquals(script(nil, "-e", "error 'no'", "-e", "print 'never'")[1], 1)
end

function TestRepl.test_an_interrupt_ends_a_script()
  local child <close> = proc.spawn { cmd = { BIN, "repl", "-e", "print 'on'", "-e", LOOP },
    env = l.env, cwd = l.dir, stdout = "pipe", stderr = "null" }
  lu.assertEquals(child:read(1, 60), "on\n")
  child:kill "INT"
  lu.assertEquals(child:wait(60).code, 130)
  local waiting <close> = proc.spawn { cmd = { BIN, "repl" }, env = l.env, cwd = l.dir, stdin = "pipe",
    stdout = "pipe", stderr = "null" }
  waiting:write "print 'on'\n"
  lu.assertEquals(waiting:read(1, 60), "on\n")
  waiting:kill "INT"
  lu.assertEquals(waiting:wait(60).code, 130)
  local ended <close> = proc.spawn { cmd = { BIN, "repl" }, env = l.env, cwd = l.dir, stdin = "pipe",
    stdout = "pipe", stderr = "null" }
  ended:write "print 'on'\n"
  lu.assertEquals(ended:read(1, 60), "on\n")
  ended:kill "TERM"
  lu.assertEquals(ended:wait(60).code, 143)
end

function TestRepl.test_what_is_no_terminal_gets_no_escapes()
  project()
  local r = script "db.rds:query [[SELECT repeat('x', 500) AS long]]\npg\n"
  lu.assertStrContains(r[2], ("x"):rep(500))
  lu.assertNil(r[2]:find "[\27\7]")
end

os.exit(lu.LuaUnit.run())
