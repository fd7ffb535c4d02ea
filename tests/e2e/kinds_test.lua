-- needs: pg
--- shell, assign, loop, branch: what each gives, keeps and refuses, as `tidemill run` does it.

local lab = require "tests.support.lab"
local lu = require "luaunit"
local pgtest = require "tests.support.pgtest"
local proc = require "proc"
local state = require "tidemill.state"

local BIN = assert(os.getenv "TM_BIN")
local l, db

local function prepare(name, with_database)
  l = lab.new(name)
  if with_database then
    db = l:database("db", os.getenv "TM_PG")
    l:project()
  end
end

local function run(nodes, ...)
  l:write("f.lua", ('local flow = require "flow"\nreturn flow "lab" {\n%s\n}\n'):format(nodes))
  return l:run("run", "f.lua", ...)
end

-- Runs nodes, which must succeed; their outputs by node and name.
local function outputs(nodes, ...)
  local r = run(nodes, ...)
  lu.assertEquals(r.code, 0, r.all)
  local store <close> = state.open("sqlite:.tidemill/state.db", { directory = l.dir })
  return store:outputs(store:find_run "last".id)
end

local function states()
  local store <close> = state.open("sqlite:.tidemill/state.db", { directory = l.dir })
  local found = {}
  for _, node in ipairs(store:nodes(store:find_run "last".id)) do found[node.node] = node.state end
  return found
end

-- Runs nodes, which must fail with these words; the output of the run.
local function fails(nodes, ...)
  local r = run(nodes)
  lu.assertEquals(r.code, 1, r.all)
  for _, words in ipairs { ... } do lu.assertStrContains(r.all, words) end
  return r.all
end

-- Nodes that are refused before a run begins, with these words.
local function refused(nodes, ...)
  local r = run(nodes)
  lu.assertEquals(r.code, 2, r.all)
  for _, words in ipairs { ... } do lu.assertStrContains(r.all, words) end
end

-- Nodes whose sql is known only as they run: `${text}` is this text.
local function later(text, nodes)
  return ([==[flow.lua "before" { outputs = "text", run = function() return { text = [[%s]] } end },]==]):format(text) .. nodes
end

local function log(node) return l:run("logs", "last", node).out end

-- ---- shell ----

TestShell = {}

function TestShell.setUp() prepare "shell" end
function TestShell.tearDown() l:close() end

function TestShell.test_the_last_line_gives_outputs()
  local given = outputs [[
    flow.shell "a" { outputs = { "word", "n" }, command = "echo one; echo '{\"word\": \"moon\", \"n\": 7, \"ok\": true}'" },
    flow.shell "b" { after = "a", command = "echo got ${word} ${a.n}" },
  ]]
  lu.assertEquals(given.a, { word = "moon", n = 7, ok = true, exit_code = 0 })
  lu.assertEquals(given.b, { exit_code = 0 })
  lu.assertStrContains(log "b", "got moon 7")
  lu.assertStrContains(log "a", "one")
end

function TestShell.test_a_last_line_that_is_no_object_gives_none()
  for _, line in ipairs { "[1]", "7", "{broken", " ", "{} and more" } do
    local given = outputs(([[flow.shell "a" { command = { "printf", "%%s\n", %q } },]]):format(line))
    lu.assertEquals(given.a, { exit_code = 0 }, line)
  end
  fails([[flow.shell "a" { outputs = "x", command = "echo '{\"y\": \"1\"}'; echo done" },]], "declares the output 'x'")
end

function TestShell.test_a_list_is_run_without_a_shell_and_variables_are_text()
  run([[flow.shell "a" { vars = { v = "a  b; $HOME" }, command = { "printf", "<%s>", "${v}", "", "x y" } },
    flow.shell "b" { vars = { v = "c  d" }, command = "printf '<%s>' ${v}" },]])
  lu.assertStrContains(log "a", "<a  b; $HOME><><x y>")
  lu.assertStrContains(log "b", "<c><d>")
end

function TestShell.test_environment_and_directory()
  l:write("sub.txt", "")
  os.execute(("mkdir -p '%s/sub'"):format(l.dir))
  local r = run [[flow.shell "a b" { cwd = "sub", env = { COLOR = "${bizdate}" },
    command = 'pwd; echo "$COLOR $TIDEMILL_FLOW/$TIDEMILL_NODE/$TIDEMILL_ATTEMPT ${#TIDEMILL_RUN_ID}"' },]]
  lu.assertEquals(r.code, 2) -- ${#...} is no variable
  r = run([[flow.shell "a b" { cwd = "sub", env = { COLOR = "${bizdate}" },
    command = 'pwd; echo "$COLOR $TIDEMILL_FLOW/$TIDEMILL_NODE/$TIDEMILL_ATTEMPT $TIDEMILL_RUN_ID"' },]],
    "--at", "2026-03-02")
  lu.assertEquals(r.code, 0, r.all)
  lu.assertStrContains(log "a b", "/sub")
  lu.assertStrContains(log "a b", "2026-03-01 lab/a b/1 20")
end

function TestShell.test_exit_codes_and_signals_are_failures()
  fails([[flow.shell "a" { command = "echo why >&2; exit 3" },]], "ended with exit code 3", "code 3")
  lu.assertStrContains(log "a", "why")
  fails([[flow.shell "a" { command = "kill -SEGV $$" },]], "ended by SIGSEGV")
  fails([[flow.shell "a" { command = "no-such-command-here" },]], "exit code 127", "PATH")
  fails([[flow.shell "a" { command = { "no-such-program" } },]], "no-such-program")
end

function TestShell.test_a_timeout_ends_the_whole_group()
  local at = os.time()
  fails([[flow.shell "a" { timeout = 1, command = "sleep 300 & echo pid=$!; sleep 300" },]], "no end after 1 s")
  lu.assertTrue(os.time() - at < 20)
  local pid = log "a":match "pid=(%d+)"
  lu.assertTrue(pgtest.eventually(10, function()
    local stat <close> = io.open(("/proc/%s/stat"):format(pid))
    local text = stat and stat:read "a"
    return not text or text:find "%) [ZX]" ~= nil
  end))
end

function TestShell.test_a_command_may_clean_up_when_it_is_cancelled()
  fails([[flow.shell "a" { timeout = 1, command = [=[trap 'echo cleaned; exit 1' TERM; while :; do sleep 0.1; done]=] },]],
    "no end after 1 s")
  lu.assertStrContains(log "a", "cleaned")
end

function TestShell.test_a_stubborn_command_is_killed()
  local at = os.time()
  fails([[flow.shell "a" { timeout = 1, command = "trap '' TERM; while :; do sleep 0.1; done" },]], "no end after 1 s")
  lu.assertTrue(os.time() - at < 25)
end

function TestShell.test_much_output_and_a_long_last_line()
  local given = outputs [[flow.shell "a" { outputs = "x",
    command = [=[i=0; while [ $i -lt 3000 ]; do echo "line $i of many that are printed"; i=$((i+1)); done
      printf '{"x": "'; head -c 100000 /dev/zero | tr '\0' y; echo '"}']=] },]]
  lu.assertEquals(#given.a.x, 100000)
end

function TestShell.test_what_is_left_behind_does_not_hold_the_node()
  local at = os.time()
  outputs [[flow.shell "a" { command = "sleep 60 & echo '{}'" },]]
  lu.assertTrue(os.time() - at < 20)
end

-- ---- assign ----

TestAssign = {}

function TestAssign.setUp()
  prepare("assign", true)
  db:exec [[CREATE TABLE t (id int, name text, ok boolean, x float8, n numeric(6,2));
    INSERT INTO t VALUES (1, 'a', true, 0.1, 1.50), (2, NULL, false, NULL, 2), (3, E'tab\there\nline \\', NULL, 1e300, 3)]]
end
function TestAssign.tearDown() l:close() end

local function assigned(fields)
  return outputs(('flow.assign "a" { on = "db", %s },'):format(fields)).a
end

local function assign_fails(fields, ...)
  return fails(('flow.assign "a" { on = "db", %s },'):format(fields), ...)
end

function TestAssign.test_cells_rows_and_columns()
  lu.assertEquals(assigned [[sql = "SELECT * FROM t ORDER BY id -- all", outputs = { first = 1, name = "name",
    flag = "ok", x = { column = "x" }, n = { row = 2, column = "n" }, odd = { row = 3, column = 2 },
    line = { row = 1, column = "all" }, bar = { row = 2, column = "all", separator = "|" },
    ids = { row = "all", column = 1 }, names = { row = "all", column = "name", separator = "", default = "none" } }]],
    { first = "1", name = "a", flag = "true", x = "0.1", n = "2.00", odd = "tab\there\nline \\", line = "1,a,true,0.1,1.50",
      bar = "2||false||2.00", ids = "1,2,3", names = "anonetab\there\nline \\" })
end

function TestAssign.test_values_reach_the_nodes_behind()
  outputs [[
    flow.assign "a" { on = "db", sql = "SELECT 'o''clock' AS w, 5 AS n;", outputs = { w = "w", n = 2 } },
    flow.sql "b" { after = "a", on = "db", sql = "INSERT INTO t (id, name) VALUES (${n}, $q$ ${w}$q$)" },
  ]]
  lu.assertEquals(db:value "SELECT name FROM t WHERE id = 5", " o'clock")
end

function TestAssign.test_what_is_not_there_is_an_error_or_the_default()
  assign_fails([[sql = "SELECT 1 WHERE false", outputs = { v = 1 }]], "output 'v': the query returns no row", "default")
  assign_fails([[sql = "SELECT name FROM t ORDER BY id", outputs = { v = { row = 2 } }]], "row 2 is NULL", "coalesce")
  assign_fails([[sql = "SELECT id FROM t", outputs = { v = { row = 9 } }]], "wants row 9, the query returns 3")
  lu.assertEquals(assigned [[sql = "SELECT name FROM t ORDER BY id", outputs = { past = { row = 9, default = 0 },
    null = { row = 2, default = "" } }]], { past = "0", null = "" })
  lu.assertEquals(assigned [[sql = "SELECT id FROM t WHERE false", outputs = { v = { row = "all", default = "" } }]],
    { v = "" })
end

function TestAssign.test_columns_that_cannot_be_told()
  assign_fails([[sql = "SELECT 1 AS id", outputs = { v = "ids" }]], "column 'ids', which the query does not have", "id")
  assign_fails([[sql = "SELECT 1", outputs = { v = 2 }]], "wants column 2 of 1")
  assign_fails([[sql = "SELECT count(*), count(id) FROM t", outputs = { v = "count" }]], "stands twice")
  lu.assertEquals(assigned [[sql = "SELECT count(*), count(name) FROM t", outputs = { a = 1, b = 2 }]], { a = "3", b = "2" })
end

function TestAssign.test_it_only_reads_and_only_one_query()
  refused([[flow.assign "a" { on = "db", sql = "SELECT 1; SELECT 2", outputs = { v = 1 } },]], "2 statements")
  fails(later("SELECT 1; SELECT 2", [[flow.assign "a" { after = "before", on = "db", sql = "${text}", outputs = { v = 1 } },]]),
    "2 statements")
  assign_fails([[sql = "DELETE FROM t", outputs = { v = 1 }]], "returns nothing")
  assign_fails([[sql = "WITH d AS (DELETE FROM t RETURNING id) SELECT * FROM d", outputs = { v = 1 }]], "read-only")
  lu.assertEquals(db:value "SELECT count(*) FROM t", 3)
  assign_fails("sql = [[\n\nSELECT\n  nope\nFROM t]], outputs = { v = 1 }", 'column "nope" does not exist', "at f.lua:5")
end

function TestAssign.test_no_more_is_read_than_is_asked_for()
  lu.assertEquals(assigned [[sql = "SELECT i, 1 / (1000000 - i) FROM generate_series(1, 10000000) i",
    outputs = { v = { row = 2 } }]], { v = "2" })
  assign_fails([[sql = "SELECT repeat('x', 1000) FROM generate_series(1, 100000) i", outputs = { v = { row = "all" } }]],
    "larger than 1048576 bytes")
end

-- ---- loop ----

TestLoop = {}

function TestLoop.setUp()
  prepare("loop", true)
  db:exec "CREATE TABLE t (id serial, v text, i int, tx text DEFAULT txid_current()::text)"
end
function TestLoop.tearDown() l:close() end

local INSERT = [[sql = "INSERT INTO t (v, i) VALUES ('${loop.item}', ${loop.index})"]]

local function looped(fields)
  return outputs(('flow.loop "n" { on = "db", %s },'):format(fields)).n
end

local function loop_fails(fields, ...)
  return fails(('flow.loop "n" { on = "db", %s },'):format(fields), ...)
end

local function values()
  return db:value "SELECT coalesce(string_agg(v || i, ' ' ORDER BY id), '') FROM t"
end

function TestLoop.test_a_list_is_walked_in_order()
  lu.assertEquals(looped(INSERT .. [[, list = "cat,dog,,duck"]]), { rows = 4, iterations = 4 })
  lu.assertEquals(values(), "cat1 dog2 3 duck4")
  lu.assertEquals(db:value "SELECT count(DISTINCT tx) FROM t", 4)
end

function TestLoop.test_lists_of_texts_separators_and_patterns()
  looped(INSERT .. [[, list = { "a,b", "c" }]])
  looped(INSERT .. [[, list = "1||2", separator = "||"]])
  looped(INSERT .. [[, list = "x;  y,z", pattern = "[,;]%s*"]])
  looped(INSERT .. [[, list = "p.q", separator = "."]])
  lu.assertEquals(values(), "a,b1 c2 11 22 x1 y2 z3 p1 q2")
end

function TestLoop.test_an_upstream_value_is_a_list_and_may_be_empty()
  local nodes = [[
    flow.assign "a" { on = "db", sql = "SELECT g FROM generate_series(1, %d) g", outputs = { ids = { row = "all", default = "" } } },
    flow.loop "n" { after = "a", on = "db", list = "${ids}", ]] .. INSERT .. [[ },]]
  lu.assertEquals(outputs(nodes:format(3)).n, { rows = 3, iterations = 3 })
  lu.assertEquals(outputs(nodes:format(0)).n, { rows = 0, iterations = 0 })
  lu.assertEquals(values(), "11 22 33")
  lu.assertStrContains(log "n", "the list is empty")
end

function TestLoop.test_several_lists_go_in_step()
  looped [[sql = "INSERT INTO t (v, i) VALUES ('${loop.item}${b}${loop.item2}', ${loop.index})",
    lists = { { list = "x,y" }, { list = "1;2", name = "b", separator = ";" }, { list = { "p", "q" } } }]]
  lu.assertEquals(values(), "x1p1 y2q2")
  loop_fails([[sql = "SELECT 1", lists = { { list = "a,b" }, { list = "c", name = "other" } }]],
    "lists of unequal length: 'loop.item' has 2 items, 'other' has 1")
end

function TestLoop.test_a_count_goes_from_one()
  looped [[sql = "INSERT INTO t (v, i) VALUES ('n', ${loop.index})", count = 3]]
  lu.assertEquals(values(), "n1 n2 n3")
  local nodes = [[flow.assign "a" { on = "db", sql = "SELECT %s", outputs = { n = 1 } },
    flow.loop "n" { on = "db", after = "a", count = "${n}", sql = "INSERT INTO t (v, i) VALUES ('m', ${loop.index})" },]]
  outputs(nodes:format "2")
  lu.assertEquals(values(), "n1 n2 n3 m1 m2")
  fails(nodes:format "101", "'count' wants an integer from 1 to 100, got '101'")
  fails(nodes:format "'some'", "got 'some'")
end

function TestLoop.test_a_batch_is_a_transaction_and_pauses_stand_between()
  local at = require "tidemill.signal".mono()
  looped(INSERT .. [[, list = "1,2,3,4,5,6,7", batch = 2, pause = 0.4]])
  lu.assertTrue(require "tidemill.signal".mono() - at >= 1200) -- four batches, three pauses
  lu.assertEquals(db:value "SELECT string_agg(c::text, ' ' ORDER BY m) FROM (SELECT count(*) c, min(id) m FROM t GROUP BY tx) x",
    "2 2 2 1")
end

function TestLoop.test_a_failed_batch_stops_the_rest_and_names_its_item()
  local all = loop_fails([[list = "4,3,2,1,0,5,6", batch = 2,
    sql = "INSERT INTO t (v, i) VALUES ('x', 12 / ${loop.item});\nINSERT INTO t (v, i) VALUES ('y', ${loop.index})"]],
    "turn 5 (loop.item = '0')", "statement 1 (line 1)", "division by zero", "turns 1 to 4 are committed")
  lu.assertNil(all:find("turn 6", 1, true))
  lu.assertEquals(values(), "x3 y1 x4 y2 x6 y3 x12 y4")
end

function TestLoop.test_values_are_never_looked_into()
  db:exec "CREATE TABLE src AS SELECT '${loop.index} ${bizdate} $${x'::text AS v"
  outputs [[
    flow.assign "a" { on = "db", sql = "SELECT v FROM src", outputs = { v = 1 } },
    flow.loop "n" { after = "a", on = "db", list = { "${v}" }, sql = "INSERT INTO t (v, i) VALUES ($q$ ${loop.item}|${v}$q$, 0)" },]]
  lu.assertEquals(values(), " ${loop.index} ${bizdate} $${x|${loop.index} ${bizdate} $${x0")
end

function TestLoop.test_a_transaction_of_its_own_is_refused()
  refused([[flow.loop "n" { on = "db", count = 1, sql = "BEGIN; SELECT 1; COMMIT" },]], "BEGIN in a loop", "COMMIT in a loop")
  fails(later("INSERT INTO t (v) VALUES ('x'); COMMIT", [[flow.loop "n" { after = "before", on = "db", count = 1, sql = "${text}" },]]),
    "turn 1: statement 2 (line 1): COMMIT in a loop")
  lu.assertEquals(values(), "")
end

function TestLoop.test_an_exactly_once_loop_records_its_batches()
  local given = looped(INSERT .. [[, list = "a,b,c", batch = 2, exactly_once = true]])
  lu.assertEquals(given, { rows = 3, iterations = 3 })
  lu.assertEquals(db:value [[SELECT string_agg(object || '=' || row_count, ' ' ORDER BY object) FROM tidemill.load_ledger]],
    "=3 turns 1 to 2=2 turns 3 to 3=1")
end

function TestLoop.test_a_repeated_exactly_once_loop_goes_on_where_it_failed()
  db:exec "CREATE TABLE gate (open boolean)"
  local nodes = [[flow.loop "n" { on = "db", list = "3,2,1,0", exactly_once = true, %s
    sql = "INSERT INTO t (v, i) VALUES ('x', 6 / (${loop.item} + (SELECT count(*) FROM gate))::int)" },]]
  fails(nodes:format "", "turn 4 (loop.item = '0')", "division by zero")
  lu.assertEquals(values(), "x2 x3 x6")
  db:exec "INSERT INTO gate VALUES (true)"
  local r = l:run("restore", "last")
  lu.assertEquals(r.code, 0, r.all)
  lu.assertEquals(values(), "x2 x3 x6 x6") -- turn 4 alone, with the gate open
  lu.assertStrContains(log "n", "turns 1 to 3 were committed by an earlier attempt")
end

-- ---- branch, when ----

TestBranch = {}

function TestBranch.setUp() prepare("branch", true) end
function TestBranch.tearDown() l:close() end

local BRANCH = [[
  flow.assign "a" { on = "db", sql = "SELECT %d AS n", outputs = { n = 1 } },
  flow.branch "many" { after = "a", condition = "${n} >= 10" },
  flow.branch "few" { after = "a", condition = function(vars) return tonumber(vars.n) < 10 end },
  flow.sql "on many" { after = "many", on = "db", sql = "SELECT 1" },
  flow.sql "on few" { after = "few", on = "db", sql = "SELECT 1" },
  flow.shell "say" { after = { "many", "few" }, command = "echo ${many.result} ${few.result}" },
]]

function TestBranch.test_two_gates_are_a_fork()
  lu.assertEquals(outputs(BRANCH:format(9)).many, { result = "false" })
  lu.assertEquals(states(), { a = "success", many = "success", few = "success", ["on many"] = "skipped",
    ["on few"] = "success", say = "skipped" })
  lu.assertEquals(outputs(BRANCH:format(10)).few, { result = "false" })
  lu.assertEquals(states()["on few"], "skipped")
  lu.assertEquals(states()["on many"], "success")
  lu.assertStrContains(log "many", "10 >= 10 is true")
end

function TestBranch.test_when_is_looked_at_before_the_body()
  outputs [[
    flow.assign "a" { on = "db", sql = "SELECT 0 AS n", outputs = { n = 1 } },
    flow.shell "b" { after = "a", when = "${n} > 0", command = "echo ran; exit 1" },
    flow.shell "c" { after = "b", command = "exit 1" },
    flow.shell "d" { after = "a", when = { "${n} = 0", "${a.status} = success" }, command = "echo d ran" },
  ]]
  lu.assertEquals(states(), { a = "success", b = "skipped", c = "skipped", d = "success" })
  lu.assertStrContains(l:run("show", "last").out, "0 > 0 is false")
  lu.assertStrContains(log "d", "d ran")
end

function TestBranch.test_a_condition_that_cannot_be_told_is_a_failure()
  fails([[flow.assign "a" { on = "db", sql = "SELECT 'maybe' AS v", outputs = { v = 1 } },
    flow.branch "b" { after = "a", condition = "${v}" },]], "'maybe' is neither true nor false")
end

-- ---- sql ----

TestSql = {}

function TestSql.setUp() prepare("sqlnode", true) end
function TestSql.tearDown() l:close() end

function TestSql.test_all_texts_are_one_transaction()
  fails([[flow.sql "n" { on = "db", sql = { "CREATE TABLE t (id int); INSERT INTO t VALUES (1)", "SELECT 1 / 0" } },]],
    "text 2, statement 1 (line 1): division by zero")
  lu.assertTrue(db:value "SELECT to_regclass('t') IS NULL")
  local given = outputs [[flow.sql "n" { on = "db", sql = { "CREATE TABLE t (id int); INSERT INTO t VALUES (1), (2)",
    "INSERT INTO t SELECT txid_current(); INSERT INTO t SELECT txid_current()" } },]]
  lu.assertEquals(given.n.rows, 4)
  lu.assertEquals(db:value "SELECT count(DISTINCT id) FROM t WHERE id > 2", 1)
end

function TestSql.test_without_a_transaction_each_statement_stays()
  db:exec "CREATE TABLE t (id int)"
  fails([[flow.sql "n" { on = "db", transaction = false,
    sql = "INSERT INTO t VALUES (1);\nVACUUM t;\nSELECT 1 / 0;\nINSERT INTO t VALUES (2)" },]],
    "statement 3 (line 3): division by zero")
  lu.assertEquals(db:value "SELECT sum(id) FROM t", 1)
  fails([[flow.sql "n" { on = "db", sql = "VACUUM t" },]], "transaction block", "set transaction = false")
end

function TestSql.test_an_error_tells_the_line_of_the_flow_file()
  fails('flow.sql "n" {\n on = "db",\n sql = [[\n SELECT 1;\n\n SELECT ${bizdate};\n SELECT *\n FROM nowhere]] },',
    "statement 3 (line 4)", "at f.lua:9", 'relation "nowhere" does not exist')
end

function TestSql.test_what_only_psql_knows_is_refused_before_anything_runs()
  db:exec "CREATE TABLE t (id int)"
  local texts = { ["INSERT INTO t VALUES (1);\n\\copy t from x\n"] = "line 2: '\\copy' is a command of psql",
    ["INSERT INTO t VALUES (1);\nCOPY t FROM STDIN;"] = "line 2: COPY FROM STDIN", ["SELECT 'a"] = "unterminated" }
  for text, words in pairs(texts) do
    refused(('flow.sql "n" { on = "db", transaction = false, sql = [[%s]] },'):format(text), (words:gsub("^line 2: ", "")))
    fails(later(text, [[flow.sql "n" { after = "before", on = "db", transaction = false, sql = "${text}" },]]), words)
  end
  lu.assertEquals(db:value "SELECT count(*) FROM t", 0)
end

function TestSql.test_a_transaction_of_its_own_is_refused_before_anything_runs()
  db:exec "CREATE TABLE t (id int)"
  refused([[flow.sql "n" { on = "db", sql = "INSERT INTO t VALUES (1); COMMIT" },]],
    "COMMIT in a node that is one transaction", "transaction = false")
  fails(later("INSERT INTO t VALUES (1); COMMIT", [[flow.sql "n" { after = "before", on = "db", sql = "${text}" },]]),
    "statement 2 (line 1): COMMIT in a node that is one transaction", "transaction = false")
  lu.assertEquals(db:value "SELECT count(*) FROM t", 0)
end

function TestSql.test_functions_with_bodies_are_one_statement()
  outputs([=[flow.sql "n" { on = "db", sql = [[
    CREATE FUNCTION f(x int) RETURNS int LANGUAGE plpgsql AS $$ BEGIN RETURN x; END $$;
    CREATE FUNCTION g(x int) RETURNS int BEGIN ATOMIC SELECT 1; SELECT x; END;
    DO $$ BEGIN PERFORM f(1); PERFORM g(2); END $$;
  ]] },]=])
  lu.assertEquals(db:value "SELECT f(3) + g(4)", 7)
end

function TestSql.test_an_exactly_once_node_is_in_the_ledger()
  outputs [[flow.sql "n" { on = "db", exactly_once = true, sql = "CREATE TABLE t (id int); INSERT INTO t VALUES (1), (2)" },]]
  local row = db:one "SELECT node, object, epoch, done_epoch, row_count, flow FROM tidemill.load_ledger"
  lu.assertEquals(row, { node = "n", object = "", epoch = 1, done_epoch = 1, row_count = 2, flow = "lab" })
  fails([[flow.sql "n" { on = "db", exactly_once = true, sql = "INSERT INTO t VALUES (3); SELECT 1 / 0" },]], "division by zero")
  lu.assertEquals(db:value "SELECT count(*) FROM t", 2)
  lu.assertEquals(db:value "SELECT count(*) FROM tidemill.load_ledger WHERE done_epoch IS NULL", 1)
end

function TestSql.test_a_cancelled_node_leaves_no_statement_behind()
  l:write("f.lua", [[local flow = require "flow"
    return flow "lab" { flow.sql "n" { on = "db", sql = "SELECT pg_sleep(300)" } }]])
  local child <close> = proc.spawn { cmd = { BIN, "run", "f.lua" }, cwd = l.dir, env = l.env, stdout = "null", stderr = "null" }
  local function sleeping()
    return db:value [[SELECT count(*) FROM pg_stat_activity WHERE datname = current_database()
      AND query LIKE '%pg_sleep(300)%' AND state = 'active' AND pid <> pg_backend_pid()]]
  end
  lu.assertTrue(pgtest.eventually(10, function() return sleeping() == 1 end))
  child:kill "INT"
  lu.assertEquals(child:wait(60).code, 130)
  lu.assertEquals(sleeping(), 0)
end

os.exit(lu.LuaUnit.run())
