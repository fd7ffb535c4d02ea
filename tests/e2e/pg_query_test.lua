-- needs: pg
--- Statements: values both ways, errors with their place, transactions, iterations, notices.

local json = require "json"
local lu = require "luaunit"
local pg = require "pg"
local pgtest = require "tests.support.pgtest"

local fails = pgtest.fails
local URI
local c

local function fresh()
  c = pg.connect(URI)
  c:exec "CREATE TEMP TABLE t (a int PRIMARY KEY, b text NOT NULL CHECK (b <> 'bad'), n numeric(12,2))"
end

local function done() c:close() end

TestValues = { setUp = fresh, tearDown = done }

function TestValues.test_types_come_as_luas_own()
  local r = c:one [[SELECT 32767::int2 i2, -5 i4, 9223372036854775807 i8, 4294967295::oid o, 0.1::float8 f8,
    1.5::float4 f4, 'NaN'::float8 nan, '-Infinity'::float8 inf, true t, false f, '\x00ff10'::bytea y]]
  lu.assertEquals({ r.i2, r.i4, r.i8, r.o }, { 32767, -5, math.maxinteger, 4294967295 })
  lu.assertEquals(math.type(r.i8), "integer")
  lu.assertEquals(math.type(r.f4), "float")
  lu.assertEquals({ r.f8, r.f4, r.inf }, { 0.1, 1.5, -math.huge })
  lu.assertTrue(r.nan ~= r.nan)
  lu.assertIs(r.t, true)
  lu.assertIs(r.f, false)
  lu.assertEquals(r.y, "\0\255\16")
end

function TestValues.test_other_types_are_exact_text()
  c:exec "SET TimeZone TO 'UTC'"
  local r = c:one [[SELECT 1234567890123456789.0123456789::numeric n, '2024-02-29 23:59:59.123456+00'::timestamptz t,
    '1 day 02:03:04'::interval i, '{1,NULL}'::int[] a, '{"k": 1}'::json j, 'é☃'::text u, ''::text e]]
  lu.assertEquals(r, { n = "1234567890123456789.0123456789", t = "2024-02-29 23:59:59.123456+00",
    i = "1 day 02:03:04", a = "{1,NULL}", j = '{"k": 1}', u = "é☃", e = "" })
end

function TestValues.test_null_is_one_value()
  local r = c:one "SELECT NULL::int a, '' b"
  lu.assertTrue(r.a == pg.null and r.a == json.null and r.b == "")
end

function TestValues.test_bytea_in_escape_form_is_read_too()
  c:exec "SET bytea_output TO escape"
  lu.assertEquals(c:value [[SELECT '\x00415c7fff'::bytea]], "\0A\\\127\255")
end

function TestValues.test_parameters_arrive_as_they_left()
  local r = c:one("SELECT $1::int i, $2::float8 f, $3::bool b, $4::text t, $5::text n, $6::text m, $7::numeric u",
    math.mininteger >> 33, 0.1, true, "it's\n\\é", nil, pg.null, "1.10")
  lu.assertEquals(r, { i = math.mininteger >> 33, f = 0.1, b = true, t = "it's\n\\é", n = pg.null, m = pg.null,
    u = "1.10" })
  lu.assertEquals(c:value("SELECT $1::float8", 1 / 3), 1 / 3)
  lu.assertEquals(c:value("SELECT $1::float8", math.huge), math.huge)
  lu.assertEquals(c:value("SELECT $1::int8", 7.0), 7)
end

function TestValues.test_all_bytes_survive_as_bytea()
  local all = {}
  for i = 0, 255 do all[#all + 1] = string.char(i) end
  local bytes = table.concat(all)
  lu.assertTrue(c:value("SELECT $1::bytea", pg.bytea(bytes)) == bytes)
  lu.assertTrue(c:value("SELECT ($1::bytea[])[2]", { pg.null, pg.bytea(bytes) }) == bytes)
end

function TestValues.test_tables_are_arrays()
  local odd = { "a,b", 'q"', "\\", "NULL", "", " x ", "{}", pg.null }
  local r = c:query("SELECT v, v IS NULL AS isnull FROM unnest($1::text[]) v", odd)
  for i, row in ipairs(r) do
    lu.assertEquals(row.v, odd[i])
    lu.assertEquals(row.isnull, odd[i] == pg.null)
  end
  lu.assertEquals(#r, 8)
  lu.assertEquals(c:value("SELECT $1::int[]", { { 1, 2 }, { 3, 4 } }), "{{1,2},{3,4}}")
  lu.assertEquals(c:value("SELECT cardinality($1::int[])", {}), 0)
  lu.assertEquals(c:value("SELECT $1::bool[]", { true, false }), "{t,f}")
end

function TestValues.test_bad_parameters_are_usage()
  lu.assertStrContains(fails("usage", c.query, c, "SELECT $1", "a\0b").message, "$1: text cannot hold a zero byte")
  lu.assertStrContains(fails("usage", c.query, c, "SELECT $1, $2", 1, { x = 1 }).message, "$2")
  fails("usage", c.query, c, "SELECT $1", print)
  fails("usage", c.query, c, "SELECT $1", { print })
  local self = {}
  self[1] = self
  lu.assertStrContains(fails("usage", c.query, c, "SELECT $1", self).message, "6 dimensions")
  lu.assertEquals(c:value "SELECT 1", 1)
end

function TestValues.test_text_that_is_not_utf8_is_data()
  lu.assertEquals(fails("data", c.query, c, "SELECT $1::text", "\xff").code, "22021")
end

function TestValues.test_quoting_gives_the_value_back()
  for _, s in ipairs { "", "plain", "it's", 'a "b"', "back\\slash", "\\'", "é☃\n\t" } do
    for _, conforming in ipairs { "on", "off" } do
      c:exec("SET escape_string_warning TO off; SET standard_conforming_strings TO " .. conforming)
      lu.assertEquals(c:value("SELECT" .. pg.quote_literal(s) .. "::text"), s)
    end
    if s ~= "" then
      local _, columns = c:one("SELECT 1 AS " .. pg.quote_ident(s))
      lu.assertEquals(columns, { s })
    end
  end
  lu.assertEquals(pg.quote_literal(nil), "NULL")
  lu.assertEquals(pg.quote_literal(pg.null), "NULL")
  fails("usage", pg.quote_ident, "")
  fails("usage", pg.quote_literal, "a\0b")
  fails("usage", pg.quote_literal, "\xc0\x80")
  fails("usage", pg.quote_literal, "\xed\xa0\x80")
end

TestStatements = { setUp = fresh, tearDown = done }

function TestStatements.test_exec_tells_of_each_statement()
  local r = c:exec [[INSERT INTO t SELECT g, 'x' FROM generate_series(1, 5) g;
    UPDATE t SET b = 'y' WHERE a > 3; ANALYZE t]]
  lu.assertEquals(#r, 3)
  lu.assertEquals({ r[1].command, r[1].rows, r[2].rows }, { "INSERT 0 5", 5, 2 })
  lu.assertEquals({ r.command, r.rows }, { "ANALYZE", nil })
end

function TestStatements.test_exec_keeps_rows_when_asked()
  local r = c:exec("SELECT 1 a; SELECT 2 a UNION SELECT 3 ORDER BY 1", { results = true })
  lu.assertEquals(r[1].result[1].a, 1)
  lu.assertEquals({ r.result[1].a, r.result[2].a, r.rows }, { 2, 3, 2 })
  lu.assertNil(c:exec "SELECT 1".result)
  lu.assertEquals(#c:exec "", 1)
end

function TestStatements.test_several_statements_are_one_transaction()
  fails("data", c.exec, c, "INSERT INTO t VALUES (1, 'x'); INSERT INTO t VALUES (1, 'y')")
  lu.assertEquals(c:value "SELECT count(*) FROM t", 0)
end

function TestStatements.test_results_have_columns_and_counts()
  local r = c:query "SELECT 1 AS b, 2 AS a WHERE false"
  lu.assertEquals({ #r, r.columns, r.command, r.affected }, { 0, { "b", "a" }, "SELECT 0", 0 })
  lu.assertEquals(c:query("INSERT INTO t VALUES ($1, $2)", 1, "x").affected, 1)
  lu.assertNil(c:one "SELECT 1 WHERE false")
  lu.assertNil(c:value "SELECT 1 WHERE false")
end

function TestStatements.test_prepared_statements_run_again_and_again()
  local s <close> = c:prepare "INSERT INTO t VALUES ($1, $2) RETURNING a * 2 AS twice"
  lu.assertEquals(s:one(1, "x").twice, 2)
  lu.assertEquals(s:value(2, "y"), 4)
  lu.assertEquals(s:query(3, "z").columns, { "twice" })
  lu.assertEquals(s:exec(4, "z"), 1)
  lu.assertEquals(fails("data", s.exec, s, 4, "again").code, "23505")
  s:close()
  lu.assertErrorMsgContains("statement is closed", s.exec, s, 5, "x")
end

function TestStatements.test_forgotten_statements_are_deallocated()
  for _ = 1, 100 do c:prepare "SELECT 1" end
  collectgarbage()
  collectgarbage()
  local s <close> = c:prepare "SELECT count(*) FROM pg_prepared_statements"
  lu.assertTrue(s:value() < 60)
end

function TestStatements.test_describe_names_types_without_running()
  local d = c:describe "SELECT a, b, n, a + 1 AS e, $1::varchar(7) v, pg_sleep(100) s FROM t"
  local got = {}
  for i, column in ipairs(d) do got[i] = column.name .. " " .. column.type .. " " .. tostring(column.nullable) end
  lu.assertEquals(got, { "a integer false", "b text false", "n numeric(12,2) true", "e integer nil",
    "v character varying(7) nil", "s void nil" })
  lu.assertEquals(d[1].oid, 23)
  lu.assertEquals(c:describe "DELETE FROM t", {})
  lu.assertNil(c:describe "SELECT t.a FROM (SELECT 1) x LEFT JOIN t ON true"[1].nullable)
  lu.assertEquals(fails("not_found", c.describe, c, "SELECT * FROM nope").code, "42P01")
end

TestErrors = { setUp = fresh, tearDown = done }

function TestErrors.test_the_place_in_the_sql_is_shown()
  local e = fails("sql", c.exec, c, "SELECT 1;\nSELECT 'é', nope FROM t")
  lu.assertEquals(e.code, "42703")
  local line, caret = e.detail:match "(LINE 2: [^\n]*)\n( *)%^"
  lu.assertEquals(line, "LINE 2: SELECT 'é', nope FROM t")
  lu.assertEquals(utf8.len(line:sub(1, line:find "nope" - 1)), #caret)
end

function TestErrors.test_detail_hint_and_context_are_kept()
  local e = fails("data", c.exec, c, "INSERT INTO t VALUES (1, 'x'), (1, 'y')")
  lu.assertEquals(e.code, "23505")
  lu.assertStrContains(e.detail, "DETAIL: Key (a)=(1) already exists.")
  lu.assertStrContains(e.detail, "SQL: INSERT INTO t")
  e = fails("sql", c.exec, c, "SELECT lower(1, 2)")
  lu.assertStrContains(e.hint, "No function matches")
  e = fails("data", c.exec, c, "DO $$ BEGIN PERFORM 1/0; END $$")
  lu.assertStrContains(e.detail, "PL/pgSQL function")
  e = fails("sql", c.exec, c, "DO $$ BEGIN RAISE 'm' USING DETAIL = 'd', HINT = 'h', ERRCODE = 'P0009'; END $$")
  lu.assertEquals({ e.message, e.code, e.hint }, { "m", "P0009", "h" })
end

function TestErrors.test_kinds_follow_the_sqlstate()
  local cases = {
    { "data", "SELECT 1/0" }, { "data", "INSERT INTO t VALUES (1, 'bad')" }, { "not_found", "SELECT * FROM nope" },
    { "not_found", "SELECT * FROM nope.t" }, { "exists", "CREATE TEMP TABLE t ()" }, { "sql", "SELEC 1" },
    { "sql", "CREATE ROLE tm_no; SET LOCAL ROLE tm_no; SELECT * FROM t" }, -- refused, though connected
    { "server", "DO $$ BEGIN RAISE 'x' USING ERRCODE = '40001'; END $$" },
    { "server", "DO $$ BEGIN RAISE 'x' USING ERRCODE = '53300'; END $$" },
    { "timeout", "SET statement_timeout TO 50; SELECT pg_sleep(9)" },
  }
  for _, case in ipairs(cases) do fails(case[1], c.exec, c, case[2]) end
  lu.assertEquals(c:value "SELECT 1", 1)
end

function TestErrors.test_passwords_in_sql_are_masked()
  local cases = {
    "CREATE USER u PASSWORD 'hunter2' bogus", "ALTER USER u WITH PASSWORD E'hunter2' 'x' bogus",
    "SELECT bogus, 'password=hunter2'",
    "CREATE SERVER s FOREIGN DATA WRAPPER nope OPTIONS (id 'x', key 'hunter2')",
    "SELECT bogus, 'postgresql://u:hunter2@h/db'", "SELECT bogus WHERE secret = $q$hunter2$q$",
    "DO $x$ BEGIN EXECUTE 'CREATE USER u PASSWORD ''hunter2'' bogus'; END $x$",
  }
  for _, sql in ipairs(cases) do
    local ok, e = pcall(c.exec, c, sql)
    lu.assertFalse(ok)
    lu.assertNil((e.detail .. e.message):find("hunter2", 1, true), e.detail)
  end
end

function TestErrors.test_a_huge_statement_is_cut()
  local e = fails("not_found", c.exec, c, "SELECT " .. ("1, "):rep(100000) .. "1 FROM nope" .. (", t"):rep(1000))
  lu.assertTrue(#e.detail < 2048)
  lu.assertStrContains(e.detail, "nope")
end

function TestErrors.test_copy_in_exec_points_to_streams()
  for _, sql in ipairs { "COPY t TO STDOUT", "COPY t FROM STDIN" } do
    lu.assertStrContains(fails("usage", c.exec, c, sql).hint, "copy_")
    fails("usage", c.query, c, sql)
    fails("usage", function() for _ in c:rows(sql) do lu.fail "a row" end end)
    lu.assertEquals(c:value "SELECT 1", 1)
  end
end

TestTransactions = { setUp = fresh, tearDown = done }

local function insert(a) c:query("INSERT INTO t VALUES ($1, 'x')", a) end
local function count() return c:value "SELECT count(*) FROM t" end

function TestTransactions.test_commit_keeps_and_leaving_rolls_back()
  do
    local tx <close> = c:transaction()
    insert(1)
    tx:commit()
  end
  do
    local _ <close> = c:transaction()
    insert(2)
  end
  pcall(function()
    local _ <close> = c:transaction()
    insert(3)
    error "x"
  end)
  lu.assertEquals(count(), 1)
  lu.assertEquals(c:state(), "idle")
end

function TestTransactions.test_inner_ones_are_savepoints()
  local tx <close> = c:transaction()
  insert(1)
  do
    local _ <close> = c:transaction()
    insert(2)
    fails("data", insert, 2)
    lu.assertEquals(c:state(), "failed")
  end
  lu.assertEquals(c:state(), "transaction")
  do
    local inner <close> = c:transaction()
    insert(3)
    fails("usage", tx.commit, tx)
    inner:commit()
    fails("usage", inner.commit, inner)
  end
  tx:commit()
  lu.assertEquals(count(), 2)
end

function TestTransactions.test_options_reach_the_server()
  local _ <close> = c:transaction { isolation = "repeatable read", read_only = true }
  lu.assertEquals(c:value "SHOW transaction_isolation", "repeatable read")
  lu.assertEquals(c:value "SHOW transaction_read_only", "on")
end

function TestTransactions.test_committing_a_failed_one_raises()
  local tx = c:transaction()
  fails("data", c.exec, c, "SELECT 1/0")
  lu.assertEquals(fails("sql", tx.commit, tx).code, "25P02")
  lu.assertEquals(c:state(), "idle")
  tx:rollback()
end

function TestTransactions.test_a_deferred_constraint_fails_the_commit()
  c:exec "CREATE TEMP TABLE d (a int UNIQUE DEFERRABLE INITIALLY DEFERRED)"
  local tx = c:transaction()
  c:exec "INSERT INTO d VALUES (1), (1)"
  lu.assertEquals(fails("data", tx.commit, tx).code, "23505")
  lu.assertEquals(c:state(), "idle")
  local again <close> = c:transaction()
  again:commit()
end

function TestTransactions.test_a_commit_on_a_lost_connection_is_in_doubt()
  local tx = c:transaction()
  insert(1)
  local admin <close> = pg.connect(URI)
  admin:value("SELECT pg_terminate_backend($1)", c:pid())
  os.execute "sleep 0.2"
  local err = fails("in_doubt", tx.commit, tx)
  lu.assertStrContains(err.hint, "took effect")
  lu.assertEquals(c:state(), "broken")
  tx:rollback()
  fails("io", c.exec, c, "SELECT 1")
end

function TestTransactions.test_closing_the_connection_ends_what_hangs_on_it()
  local tx = c:transaction()
  local stmt = c:prepare "SELECT 1"
  local next_row, rows = c:rows "SELECT generate_series(1, 10)"
  next_row(rows)
  c:close()
  tx:rollback()
  fails("usage", stmt.value, stmt)
  fails("usage", next_row, rows)
  rows:close()
end

TestRows = { setUp = fresh, tearDown = done }

function TestRows.test_rows_come_in_order()
  local sum, n = 0, 0
  for row in c:rows("SELECT g, pg.g * 2 AS twice FROM generate_series(1, $1) pg(g)", 1000) do
    n, sum = n + 1, sum + row.twice - row.g
    lu.assertEquals(row.g, n)
  end
  lu.assertEquals({ n, sum }, { 1000, 500500 })
  for _ in c:rows "SELECT 1 WHERE false" do lu.fail "a row" end
end

function TestRows.test_a_million_rows_take_constant_memory()
  for _ in c:rows "SELECT 1" do end
  local before, n = pgtest.status "VmHWM", 0
  for row in c:rows "SELECT g, repeat('x', 100) AS pad FROM generate_series(1, 1000000) g" do n = n + #row.pad end
  lu.assertEquals(n, 100000000)
  if os.getenv "TM_SANITIZER" == "" then -- a sanitizer keeps freed memory back
    lu.assertTrue(pgtest.status "VmHWM" - before < 8192, pgtest.status "VmHWM" - before .. " kB more")
  end
end

function TestRows.test_breaking_out_frees_the_connection()
  for row in c:rows "SELECT generate_series(1, 100000000) g" do
    if row.g == 3 then break end
  end
  lu.assertEquals(c:state(), "idle")
  lu.assertEquals(c:value "SELECT 1", 1)
end

function TestRows.test_breaking_out_does_not_fail_a_transaction()
  local tx <close> = c:transaction()
  insert(1)
  for _ in c:rows "SELECT generate_series(1, 100000) g" do break end -- luacheck: ignore 512
  lu.assertEquals(c:state(), "transaction")
  tx:commit()
  lu.assertEquals(count(), 1)
end

function TestRows.test_an_error_in_the_middle_is_raised()
  local n = 0
  local err = fails("data", function()
    for _ in c:rows "SELECT 1 / (1000 - g) FROM generate_series(1, 2000) g" do n = n + 1 end
  end)
  lu.assertEquals({ n, err.code }, { 999, "22012" })
  lu.assertEquals(c:state(), "idle")
end

function TestRows.test_the_connection_is_busy_meanwhile()
  for _ in c:rows "SELECT generate_series(1, 3)" do
    lu.assertStrContains(fails("usage", c.query, c, "SELECT 1").message, "connection is busy")
    fails("usage", c.exec, c, "SELECT 1")
    fails("usage", c.prepare, c, "SELECT 1")
    fails("usage", c.copy_out, c, "COPY t TO STDOUT")
    fails("usage", c.rows, c, "SELECT 1")
    fails("usage", c.transaction, c)
  end
end

function TestRows.test_dropped_iterations_and_coroutines_are_collected()
  for i = 1, 30 do
    local conn = pg.connect(URI)
    local step = coroutine.wrap(function()
      for row in conn:rows "SELECT generate_series(1, 1000000) g" do coroutine.yield(row) end
    end)
    lu.assertEquals(step().g, 1)
    if i % 2 == 0 then conn = nil end
    step = nil -- luacheck: ignore 311
    if i % 5 == 0 then collectgarbage() end
  end
  collectgarbage()
  collectgarbage()
  lu.assertTrue(pgtest.eventually(5, function()
    return c:value [[SELECT count(*) FROM pg_stat_activity WHERE query LIKE 'SELECT generate_series(1, 1000000)%'
      AND datname = current_database()]] == 0
  end))
end

TestNotices = { setUp = fresh, tearDown = done }

function TestNotices.test_notices_reach_the_function_while_it_runs()
  local heard = {}
  c:notices(function(n) heard[#heard + 1] = n end)
  c:exec "DO $$ BEGIN RAISE NOTICE 'one %', 1 USING HINT = 'h'; RAISE WARNING 'two'; END $$"
  lu.assertEquals(heard[1].message, "one 1")
  lu.assertEquals({ heard[1].severity, heard[1].hint, heard[2].severity }, { "NOTICE", "h", "WARNING" })
  c:notices(nil)
  c:exec "DO $$ BEGIN RAISE NOTICE 'three'; END $$"
  lu.assertEquals(#heard, 2)
end

function TestNotices.test_the_function_may_fail_but_not_use_the_connection()
  local message
  c:notices(function()
    message = fails("usage", c.query, c, "SELECT 1").message
    lu.assertErrorMsgContains("busy", c.close, c)
    error "oops, as the test wants"
  end)
  c:exec "DO $$ BEGIN RAISE NOTICE 'x'; END $$"
  lu.assertStrContains(message, "notice function")
  lu.assertEquals(c:value "SELECT 1", 1)
end

function TestNotices.test_the_function_may_cancel()
  c:notices(function() c:cancel() end)
  local err = fails("canceled", c.exec, c, "DO $$ BEGIN RAISE NOTICE 'x'; PERFORM pg_sleep(30); END $$")
  lu.assertStrContains(err.detail, "SQL: DO")
  lu.assertEquals(c:value "SELECT 1", 1)
end

function TestNotices.test_notifications_arrive()
  local other <close> = pg.connect(URI)
  c:listen "Odd name"
  lu.assertNil(c:wait_notify(0))
  other:query("SELECT pg_notify('Odd name', $1)", "hello")
  other:query "SELECT pg_notify('Odd name', '')"
  lu.assertEquals(c:wait_notify(5), { channel = "Odd name", payload = "hello", pid = other:pid() })
  lu.assertEquals(c:wait_notify(5).payload, "")
  c:unlisten "Odd name"
  other:query "SELECT pg_notify('Odd name', 'late')"
  lu.assertNil(c:wait_notify(0.1))
end

URI = pgtest.database "pg_query_test"
local code = lu.LuaUnit.run()
pgtest.drop "pg_query_test"
os.exit(code)
