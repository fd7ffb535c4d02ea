-- needs: pg ossd
--- The modes of flow.load: what each leaves in the table, with one job and several, and what readers see.

local lab = require "tests.support.lab"
local lu = require "luaunit"
local pg = require "pg"
local proc = require "proc"

local l = lab.new "modes"
local db = l:database("db", os.getenv "TM_PG")
l:lake("lake", "lab-modes")
l:project()

TestModes = {}

local function fill()
  db:exec [[TRUNCATE dst;
    INSERT INTO dst SELECT i, '2026-01-01'::date + i % 5, 'old ' || i, 1 FROM generate_series(1, 5000) i]]
end

function TestModes.setUp()
  db:exec [[DROP SCHEMA IF EXISTS tidemill, public CASCADE; CREATE SCHEMA public; SET client_min_messages = warning;
    CREATE TABLE src (id bigint, day date, v text);
    INSERT INTO src SELECT i, '2026-01-01'::date + i % 3, 'new ' || i FROM generate_series(1, 3000) i;
    CREATE TABLE dst (id bigint, day date, v text, extra int DEFAULT 7, pad text)]]
  fill()
end

-- Extracts `query` in several objects and loads it; `fields` are those of the load.
local function transfer(query, fields)
  query = "SELECT *, repeat('x', 400) AS pad FROM (" .. query:gsub("SELECT %*", "SELECT id, day, v") .. ") AS q"
  l:flow("f.lua", ([[
    flow.extract "out" { from = "db", query = %q, to = "lake:${run_id}/", object_size = "8kB", format = "text" },
    flow.load "in" { after = "out", from = "lake:${run_id}/", on = "db", into = "dst", %s },]]):format(query, fields))
  return l:run("run", "f.lua")
end

local function assert_ok(r) lu.assertEquals(r.code, 0, r.all) end

local function count(where) return db:value("SELECT count(*) FROM dst WHERE " .. (where or "true")) end

-- Runs `body` with the fields of one job and of several, with and without the extract still running.
local function each_way(body)
  for _, way in ipairs { "jobs = 1, pipeline = false", "jobs = 3, pipeline = false", "jobs = 1", "jobs = 3" } do
    fill()
    body(", " .. way)
    lu.assertEquals(db:value [[SELECT count(*) FROM pg_class c JOIN pg_namespace n ON n.oid = relnamespace
      WHERE nspname = 'tidemill' AND relname LIKE 'stage%']], 0, "a staging table is left")
    lu.assertEquals(db:value [[SELECT count(*) FROM (SELECT run_id, node FROM tidemill.load_ledger GROUP BY 1, 2
      HAVING max(CASE WHEN object = '' THEN row_count END) <> sum(CASE WHEN object <> '' THEN row_count END)) AS wrong]], 0)
  end
end

function TestModes.test_append_adds_rows()
  each_way(function(jobs)
    assert_ok(transfer("SELECT * FROM src", "mode = 'append'" .. jobs))
    lu.assertEquals(count(), 8000)
    lu.assertEquals(count "extra = 7", 3000)
  end)
end

function TestModes.test_replace_leaves_the_new_rows_alone()
  for _, delete in ipairs { "", ", delete = true" } do
    each_way(function(jobs)
      assert_ok(transfer("SELECT * FROM src", "mode = 'replace'" .. jobs .. delete))
      lu.assertEquals(count(), 3000)
      lu.assertEquals(count "v LIKE 'new%' AND extra = 7", 3000)
    end)
  end
end

function TestModes.test_replace_by_no_rows_empties_the_table()
  each_way(function(jobs)
    assert_ok(transfer("SELECT * FROM src WHERE false", "mode = 'replace'" .. jobs))
    lu.assertEquals(count(), 0)
  end)
end

function TestModes.test_replace_freezes_what_it_loads()
  assert_ok(transfer("SELECT * FROM src", "mode = 'replace', pipeline = false"))
  db:exec "CREATE EXTENSION pg_visibility"
  lu.assertEquals(db:value "SELECT count(*) FROM pg_visibility('dst') WHERE NOT all_frozen", 0)
  db:exec "DROP EXTENSION pg_visibility"
end

function TestModes.test_readers_go_on_while_rows_are_deleted_and_replaced()
  for _, jobs in ipairs { 1, 2 } do
    local reader <close> = pg.connect(l.env.LAB_DB)
    local tx <close> = reader:transaction { isolation = "repeatable read", read_only = true }
    local before = reader:value "SELECT count(*) FROM dst" -- and a lock till the end
    assert_ok(transfer("SELECT * FROM src", ("mode = 'replace', delete = true, jobs = %d"):format(jobs)))
    lu.assertEquals(reader:value "SELECT count(*) FROM dst", before)
    tx:commit()
    lu.assertEquals(count(), 3000)
  end
end

function TestModes.test_a_referenced_table_needs_delete_and_says_so()
  db:exec "ALTER TABLE dst ADD PRIMARY KEY (id); CREATE TABLE child (id bigint REFERENCES dst)"
  local r = transfer("SELECT * FROM src", "mode = 'replace'")
  lu.assertEquals(r.code, 1)
  lu.assertStrContains(r.all, "hint: delete = true")
  lu.assertEquals(count(), 5000)
  assert_ok(transfer("SELECT * FROM src", "mode = 'replace', delete = true"))
  lu.assertEquals(count(), 3000)
end

local DAY = "mode = 'replace_where', where = \"day = '2026-01-02' -- that day\""

function TestModes.test_replace_where_replaces_the_rows_of_the_predicate()
  each_way(function(jobs)
    assert_ok(transfer("SELECT * FROM src WHERE day = '2026-01-02'", DAY .. jobs))
    lu.assertEquals(count "day = '2026-01-02'", 1000)
    lu.assertEquals(count "day = '2026-01-02' AND v LIKE 'new%'", 1000)
    lu.assertEquals(count "day <> '2026-01-02' AND v LIKE 'old%'", 4000)
  end)
end

function TestModes.test_rows_outside_of_the_predicate_load_nothing()
  each_way(function(jobs)
    local r = transfer("SELECT * FROM src WHERE day = '2026-01-02' OR id = 6 OR (id = 9 AND day IS NULL)", DAY .. jobs)
    lu.assertEquals(r.code, 1)
    lu.assertStrContains(r.all, "1 row")
    lu.assertStrContains(r.all, "outside of 'where'")
    lu.assertEquals(count(), 5000)
    lu.assertEquals(count "v LIKE 'new%'", 0)
    db:exec "DELETE FROM tidemill.load_ledger"
  end)
end

function TestModes.test_a_predicate_with_a_subquery_is_staged()
  db:exec "CREATE TABLE days AS SELECT '2026-01-02'::date AS day"
  assert_ok(transfer("SELECT * FROM src WHERE day = '2026-01-02'",
    "mode = 'replace_where', where = 'dst.day IN (SELECT d.day FROM days d)'"))
  lu.assertEquals(count "day = '2026-01-02'", 1000)
end

function TestModes.test_two_loads_of_one_predicate_take_turns()
  db:exec "CREATE VIEW slowly AS SELECT src.* FROM src WHERE day = '2026-01-02'"
  l:flow("f.lua", ([[
    flow.extract "out" { from = "db", query = "SELECT * FROM slowly", to = "lake:both/" },
    flow.load "a" { after = "out", from = "lake:both/", on = "db", into = "dst", %s },
    flow.load "b" { after = "out", from = "lake:both/", on = "db", into = "dst", jobs = 2, %s },]]):format(DAY, DAY))
  assert_ok(l:run("run", "f.lua"))
  lu.assertEquals(count "day = '2026-01-02'", 1000)
end

-- ---- merge ----

function TestModes.test_merge_updates_and_inserts_by_key()
  db:exec "DELETE FROM dst WHERE id % 2 = 0; CREATE UNIQUE INDEX ON dst (id, day) INCLUDE (v)"
  for _, jobs in ipairs { 1, 2 } do
    local r = transfer("SELECT * FROM src", ("mode = 'merge', keys = { 'day', 'id' }, jobs = %d"):format(jobs))
    assert_ok(r)
    lu.assertNotStrContains(r.all, "no unique index")
    lu.assertEquals(count "id <= 3000 AND v LIKE 'new%'", 3000)
    lu.assertEquals(count "id <= 3000 AND v LIKE 'old%' AND day < '2026-01-04'", 600) -- of other days
  end
end

function TestModes.test_merge_counts_what_it_did()
  each_way(function(jobs)
    local r = transfer([[SELECT id + 4000 AS id, day, v FROM src WHERE id <= 2000
      UNION ALL SELECT 4001, '2026-06-01', 'last']], "mode = 'merge', keys = 'id', order_by = 'day'" .. jobs)
    assert_ok(r)
    lu.assertStrContains(r.all, "2001 rows of")
    lu.assertStrContains(r.all, "1000 inserted, 1000 updated, 1 replaced")
    lu.assertStrContains(r.all, "no unique index of dst is on id")
    lu.assertEquals(count "v LIKE 'new%' OR v = 'last'", 2000)
    lu.assertEquals(count "extra = 1 AND v LIKE 'new%'", 999) -- an update leaves other columns
    lu.assertEquals(count(), 6000)
    lu.assertEquals(db:value "SELECT v FROM dst WHERE id = 4001", "last")
  end)
end

function TestModes.test_the_last_of_a_key_wins_by_its_order()
  each_way(function(jobs)
    assert_ok(transfer([[SELECT i % 100 + 1 AS id, '2026-01-01'::date + (i * 7919 % 2003)::int AS day, i::text AS v
      FROM generate_series(1, 2003) i ORDER BY hashint4(i)]], "mode = 'merge', keys = 'id', order_by = { 'day' }" .. jobs))
    lu.assertEquals(db:value [[SELECT count(*) FROM dst JOIN (SELECT DISTINCT ON (i % 100 + 1) i % 100 + 1 AS id, i::text AS v
      FROM generate_series(1, 2003) i ORDER BY i % 100 + 1, i * 7919 % 2003 DESC) AS want USING (id, v)]], 100)
  end)
end

function TestModes.test_of_rows_of_equal_order_the_one_written_last_wins()
  each_way(function(jobs)
    assert_ok(transfer([[SELECT 1 AS id, '2026-01-01'::date AS day, lpad(i::text, 4 + i % 200, '0') AS v
      FROM generate_series(1, 3000) i]], "mode = 'merge', keys = 'id', order_by = 'day'" .. jobs))
    lu.assertEquals(db:value "SELECT v::int FROM dst WHERE id = 1", 3000)
  end)
end

function TestModes.test_rows_that_say_delete_are_deleted()
  db:exec "ALTER TABLE dst ALTER COLUMN day SET NOT NULL"
  each_way(function(jobs)
    -- a column that only delete_when names need not be in the table; what is deleted may have no more than its key
    local r = transfer([[SELECT id, CASE WHEN id % 3 > 0 THEN day END AS day, v, CASE WHEN id % 3 = 0 THEN 'D' END AS op
      FROM (SELECT id + 3000 AS id, day, v FROM src) AS s]], "mode = 'merge', keys = 'id', delete_when = \"op = 'D'\"" .. jobs)
    assert_ok(r)
    lu.assertStrContains(r.all, "666 inserted, 1334 updated, 666 deleted")
    lu.assertEquals(count "id > 3000 AND id % 3 = 0", 0)
    lu.assertEquals(count(), 5000)
  end)
end

function TestModes.test_merge_refuses_null_in_a_key()
  local r = transfer("SELECT nullif(id, 17) AS id, day, v FROM src", "mode = 'merge', keys = 'id'")
  lu.assertEquals(r.code, 1)
  lu.assertStrContains(r.all, "1 row of the objects")
  lu.assertStrContains(r.all, "NULL in a column of 'keys'")
  lu.assertEquals(count "v LIKE 'new%'", 0)
end

function TestModes.test_merge_names_columns_that_are_not_there()
  local r = transfer("SELECT * FROM src", "mode = 'merge', keys = 'idd'")
  lu.assertStrContains(r.all, "'keys' names 'idd'")
  lu.assertStrContains(r.all, "did you mean 'id'?")
  r = transfer("SELECT * FROM src", "mode = 'merge', keys = 'id', order_by = 'extra'")
  lu.assertStrContains(r.all, "'order_by' names 'extra'")
end

function TestModes.test_a_row_that_does_not_fit_is_named_by_object_and_line_and_changes_nothing()
  db:exec "ALTER TABLE dst ADD CHECK (v <> 'new 2500'), ALTER COLUMN id SET NOT NULL"
  for _, fields in ipairs { "mode = 'merge', keys = 'id'", "mode = 'replace', jobs = 2", "mode = 'replace'" } do
    local r = transfer("SELECT * FROM src", fields)
    lu.assertEquals(r.code, 1)
    lu.assertStrContains(r.all, "object '")
    lu.assertStrContains(r.all, "line ")
    lu.assertStrContains(r.all, "23514")
    lu.assertEquals(count "v LIKE 'old%'", 5000)
    lu.assertEquals(count(), 5000)
  end
end

function TestModes.test_names_with_blanks_and_quotes_are_no_obstacle()
  db:exec [[CREATE SCHEMA "a b"; CREATE TABLE "a b"."T ""x""" ("the id" bigint PRIMARY KEY, "d a y" date, "v'" text, pad text)]]
  local fields = [[mode = 'merge', keys = 'the id', order_by = 'd a y', into = '"a b"."T ""x"""',
    columns = { id = 'the id', day = 'd a y', v = "v'" }, delete_when = '"v\'" = \'x\'']]
  l:flow("f.lua", ([[
    flow.extract "out" { from = "db", table = "src", to = "lake:${run_id}/" },
    flow.load "it's \"in\"" { after = "out", from = "lake:${run_id}/", on = "db", %s },]]):format(fields))
  -- a relation's quoted name has no quotes inside: as the check says
  local r = l:run("run", "f.lua")
  if r.code == 2 then
    db:exec [[ALTER TABLE "a b"."T ""x""" RENAME TO "T x"]]
    l:flow("f.lua", ([[
      flow.extract "out" { from = "db", table = "src", to = "lake:${run_id}/" },
      flow.load "it's \"in\"" { after = "out", from = "lake:${run_id}/", on = "db", %s },]])
      :format((fields:gsub('"T ""x"""', '"T x"'))))
    r = l:run("run", "f.lua")
  end
  assert_ok(r)
  lu.assertEquals(db:value [[SELECT count(*) FROM "a b"."T x"]], 3000)
end

function TestModes.test_a_role_that_cannot_make_a_staging_table_is_told_what_to_ask_for()
  db:exec [[DROP ROLE IF EXISTS lab_modes_weak; CREATE ROLE lab_modes_weak LOGIN PASSWORD 'weak';
    GRANT USAGE ON SCHEMA public TO lab_modes_weak; GRANT ALL ON src, dst TO lab_modes_weak]]
  assert_ok(transfer("SELECT * FROM src", "mode = 'append'")) -- makes the ledger
  db:exec "GRANT USAGE ON SCHEMA tidemill TO lab_modes_weak; GRANT ALL ON tidemill.load_ledger TO lab_modes_weak"
  local url = l.env.LAB_DB
  l.env.LAB_DB = url:gsub("//[^@]*@", "//lab_modes_weak:weak@")
  local r = transfer("SELECT * FROM src", "mode = 'merge', keys = 'id'")
  l.env.LAB_DB = url
  db:exec "DROP OWNED BY lab_modes_weak; DROP ROLE lab_modes_weak"
  lu.assertStrContains(r.all, "cannot make a staging table")
  lu.assertStrContains(r.all, "GRANT CREATE, USAGE ON SCHEMA tidemill")
end

function TestModes.test_staging_tables_of_the_dead_are_dropped_and_of_the_living_kept()
  assert_ok(transfer("SELECT * FROM src", "mode = 'merge', keys = 'id'"))
  local sign = require "tidemill.sign"
  local stem = "stage_" .. sign.sha256("lab\0in"):sub(1, 12)
  db:exec(("CREATE TABLE tidemill.%s_dead_1 (); CREATE TABLE tidemill.%s_alive_1 (); CREATE TABLE tidemill.stage_other ()")
    :format(stem, stem))
  local owner <close> = pg.connect(l.env.LAB_DB)
  owner:query(("SELECT pg_advisory_lock(%d::bigint << 32 | 'tidemill.%s_alive_1'::regclass::oid::bigint)")
    :format(0x74696465, stem))
  local r = transfer("SELECT * FROM src", "mode = 'merge', keys = 'id'")
  assert_ok(r)
  lu.assertStrContains(r.all, stem .. "_dead_1")
  lu.assertEquals(db:value [[SELECT string_agg(relname::text, ' ' ORDER BY relname) FROM pg_class
    WHERE relname LIKE 'stage%' AND relkind = 'r']], stem .. "_alive_1 stage_other")
end

-- Every session of the server ends, as when it restarts.
local function end_sessions()
  db:query [[SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = current_database()
    AND pid <> pg_backend_pid()]]
end

function TestModes.test_a_server_that_restarts_in_mid_load_loads_each_row_once()
  db:exec [[CREATE FUNCTION slow() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN PERFORM pg_sleep(0.02); RETURN NEW; END';
    CREATE TABLE slow_dst (LIKE dst); CREATE TRIGGER t BEFORE INSERT ON slow_dst FOR EACH ROW WHEN (NEW.id % 50 = 0)
    EXECUTE FUNCTION slow()]]
  for _, fields in ipairs { "jobs = 2", "mode = 'merge', keys = 'id', jobs = 2", "mode = 'replace', pipeline = false" } do
    db:exec "TRUNCATE slow_dst"
    l:flow("f.lua", ([[
      flow.extract "out" { from = "db", table = "src", to = "lake:${run_id}/", object_size = "8kB", retries = 5,
        retry_delay = 0.1 },
      flow.load "in" { after = "out", from = "lake:${run_id}/", on = "db", into = "slow_dst", retries = 5,
        retry_delay = 0.1, %s },]]):format(fields))
    local run <close> = proc.spawn { cmd = { "sh", "-c", 'exec "$@" >run.log 2>&1', "sh", os.getenv "TM_BIN", "run",
      "f.lua" }, cwd = l.dir, env = l.env }
    for _ = 1, 3 do
      proc.poll({}, 0.25)
      end_sessions()
    end
    local code = run:wait(60).code
    local log <close> = assert(io.open(l.dir .. "/run.log"))
    lu.assertEquals(code, 0, log:read "a")
    lu.assertEquals(db:value "SELECT count(*) || '/' || count(DISTINCT id) FROM slow_dst", "3000/3000", fields)
  end
end

local code = lu.LuaUnit.run()
l:close()
os.exit(code)
