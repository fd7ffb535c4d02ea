-- needs: pg ossd
-- takes: 26
--- Extracts by several sessions and in ranges: every row once, in one snapshot, whatever the table is like.

local explain = require "tidemill.extract.explain"
local json = require "json"
local lab = require "tests.support.lab"
local lu = require "luaunit"
local manifest = require "tidemill.manifest"
local names = require "tidemill.manifest.names"
local pgtest = require "tests.support.pgtest"
local proc = require "proc"
local stream = require "stream"
local zip = require "zip"

local l, db, lake, url
local HASH = "SELECT count(*)::text || '/' || coalesce(sum(hashtextextended(t::text, 0)::numeric), 0)::text FROM %s t"

local Base = {}

function Base.setUp()
  l = lab.new "parallel"
  db, url = l:database("rds", os.getenv "TM_PG")
  lake = lab.empty(l:lake("lake", "lab-parallel"))
  l:project()
end

function Base.tearDown() l:close() end

local function group() return { setUp = Base.setUp, tearDown = Base.tearDown } end

local FLOW = 'flow.extract "out%d" { from = "rds", to = "lake:%s", compress = "gzip", object_size = "100kB", %s },'

-- Each extract is another node, whose columns are not compared with those of the one before, and has a
-- place of its own, for names tell the age of a manifest to the second.
local place, places = "d/", 0

local function flow_of(fields)
  places = places + 1
  place = ("d/%d/"):format(places)
  l:flow("t.lua", FLOW:format(places, place, fields))
end

local function newest() return manifest.open(lake, place, "lake:" .. place) end

-- Runs an extract of these fields; the manifest, and what the run printed.
local function extract(fields)
  flow_of(fields)
  local r = l:run("run", "t.lua")
  if r.code ~= 0 then return nil, r end
  return newest(), r
end

-- What runs an extract of a table, of these fields, by another role; its result.
local function extracts_of(table_, role, password)
  l.env.LAB_ROLE = url:gsub("://[^@/]*@", "://"):gsub("://", ("://%s:%s@"):format(role, password))
  l.connections.role = '{ postgres = env "LAB_ROLE" }'
  l:project()
  return function(fields)
    flow_of(('table = "%s", %s'):format(table_, fields))
    l:write("t.lua", (io.open(l.dir .. "/t.lua"):read "a":gsub('from = "rds"', 'from = "role"')))
    return l:run("run", "t.lua")
  end
end

-- Loads what a manifest lists into a table `got` like another.
local function load(m, like)
  db:exec(("DROP TABLE IF EXISTS got; CREATE TABLE got (LIKE %s)"):format(like))
  for object in m:objects() do
    local sink <close> = db:copy_in "COPY got FROM STDIN (FORMAT csv)"
    stream.pump(lake:reader(m.prefix .. object.key, { size = object.bytes, crc64 = object.crc64 }), zip.gunzip(), sink)
    lu.assertEquals(sink:rows(), object.rows)
  end
end

-- Every row of `want` (a table, view or query in parentheses), each once.
local function assert_whole(want, like, fields)
  local m, r = extract(fields)
  lu.assertNotNil(m, r.all)
  load(m, like or want)
  lu.assertEquals(db:value(HASH:format "got"), db:value(HASH:format(want)), fields)
  return m, r
end

local function assert_refused(fields, ...)
  local m, r = extract(fields)
  lu.assertNil(m, fields)
  for _, text in ipairs { ... } do lu.assertStrContains(r.all, text) end
end

local function keys_left()
  local keys = {}
  for entry in lake:list { prefix = place } do
    if not entry.key:find("_manifest/", 1, true) then keys[#keys + 1] = entry.key end
  end
  return keys
end

local PAGES = 'jobs = 3, split_by = "ctid", range_pages = 7'

-- ---- pages ----

TestPages = group()

function TestPages.test_a_table_of_ordinary_pages_is_read_by_several_sessions()
  db:exec "CREATE TABLE t AS SELECT g AS id, md5(g::text) AS v FROM generate_series(1, 20000) g"
  local m = assert_whole("t", nil, 'table = "t", ' .. PAGES)
  lu.assertEquals(m.split.kind, "ctid")
  lu.assertEquals(m.split.jobs, 3)
  local jobs = {}
  for object in m:objects() do jobs[object.key:match "%-(%d)%-%d+%.csv"] = true end
  lu.assertEquals(jobs, { ["1"] = true, ["2"] = true, ["3"] = true })
end

function TestPages.test_sizes_that_the_statistics_do_not_know_are_read_all_the_same()
  db:exec [[CREATE TABLE t (id int, v text) WITH (autovacuum_enabled = off); ANALYZE t;
    INSERT INTO t SELECT g, md5(g::text) FROM generate_series(1, 20000) g]]
  lu.assertEquals(db:value "SELECT relpages FROM pg_class WHERE relname = 't'", 0)
  assert_whole("t", nil, 'table = "t", ' .. PAGES)
end

function TestPages.test_partitions_are_read_leaf_by_leaf_by_the_names_of_their_columns()
  db:exec [[
    CREATE TABLE p (id int, gone int, v text, day date) PARTITION BY RANGE (id);
    CREATE TABLE p1 PARTITION OF p FOR VALUES FROM (0) TO (5000);
    CREATE TABLE p2 (day date, v text, dropped int, id int, gone int);
    ALTER TABLE p2 DROP COLUMN dropped;
    ALTER TABLE p ATTACH PARTITION p2 FOR VALUES FROM (5000) TO (10000);
    CREATE TABLE p3 PARTITION OF p FOR VALUES FROM (10000) TO (20000) PARTITION BY HASH (id);
    CREATE TABLE p31 PARTITION OF p3 FOR VALUES WITH (MODULUS 2, REMAINDER 0);
    CREATE TABLE p32 PARTITION OF p3 FOR VALUES WITH (MODULUS 2, REMAINDER 1);
    CREATE TABLE p4 PARTITION OF p DEFAULT;
    INSERT INTO p SELECT g, g, md5(g::text), '2026-01-01'::date + g % 100 FROM generate_series(1, 22000) g;
    ALTER TABLE p DROP COLUMN gone]]
  local m = assert_whole("p", nil, 'table = "p", ' .. PAGES)
  lu.assertEquals(m.split.kind, "ctid")
  assert_whole("(SELECT * FROM p WHERE p.id % 3 = 0)", "p", 'table = "p", where = "p.id % 3 = 0 -- some", ' .. PAGES)
  assert_refused('table = "p", where = "public.p.id > 3", ' .. PAGES, "its condition names it by more than its own name")
  local some = 'where = "id < 3000 OR id BETWEEN 21000 AND 21500", '
  assert_whole("(SELECT * FROM p WHERE id < 3000 OR id BETWEEN 21000 AND 21500)", "p", 'table = "p", ' .. some .. PAGES)
  local plan = explain.of(db, "SELECT * FROM p WHERE id < 3000 OR id BETWEEN 21000 AND 21500")
  lu.assertEquals(plan.tables, { ['"public"."p1"'] = true, ['"public"."p4"'] = true })
  assert_whole("(SELECT * FROM p WHERE false)", "p", 'table = "p", where = "id < 0 AND id > 1", ' .. PAGES)
end

function TestPages.test_heirs_are_read_with_the_columns_of_their_parent()
  db:exec [[
    CREATE TABLE a (id int, v text);
    CREATE TABLE b (extra int) INHERITS (a);
    CREATE TABLE c (more text) INHERITS (b);
    INSERT INTO a SELECT g, 'a' FROM generate_series(1, 5000) g;
    INSERT INTO b SELECT g, 'b', 1 FROM generate_series(1, 5000) g;
    INSERT INTO c SELECT g, 'c', 2, 'x' FROM generate_series(1, 5000) g]]
  assert_whole("a", nil, 'table = "a", ' .. PAGES)
  assert_whole("b", nil, 'table = "public.b", ' .. PAGES)
end

function TestPages.test_a_materialized_view_and_wide_values_have_pages_too()
  db:exec [[
    CREATE TABLE w (id int, v text);
    ALTER TABLE w ALTER v SET STORAGE EXTERNAL;
    INSERT INTO w SELECT g, repeat(md5(g::text), 200) FROM generate_series(1, 500) g;
    CREATE MATERIALIZED VIEW m AS SELECT id, left(v, 100) AS v FROM w]]
  assert_whole("w", nil, 'table = "w", ' .. PAGES)
  assert_whole("m", nil, 'table = "m", ' .. PAGES)
end

function TestPages.test_an_empty_table_is_a_result()
  db:exec "CREATE TABLE e (id int)"
  local m = assert_whole("e", nil, 'table = "e", ' .. PAGES)
  lu.assertEquals(m.rows, 0)
  db:exec "CREATE TABLE ep (id int) PARTITION BY LIST (id)"
  lu.assertEquals(assert_whole("ep", nil, 'table = "ep", ' .. PAGES).rows, 0)
end

function TestPages.test_what_has_no_pages_is_refused_by_name_and_read_in_one_by_default()
  db:exec [[
    CREATE TABLE t AS SELECT g AS id FROM generate_series(1, 1000) g;
    CREATE VIEW v AS SELECT * FROM t;
    CREATE FOREIGN DATA WRAPPER nobody;
    CREATE SERVER s FOREIGN DATA WRAPPER nobody;
    CREATE TABLE p (id int) PARTITION BY RANGE (id);
    CREATE TABLE p1 PARTITION OF p FOR VALUES FROM (0) TO (10);
    CREATE FOREIGN TABLE p2 PARTITION OF p FOR VALUES FROM (10) TO (20) SERVER s]]
  assert_refused('table = "v", split_by = "ctid"', "table 'v' cannot be split by ctid: 'public.v' is a view")
  assert_refused('table = "v", jobs = 2', "table 'v' has no primary key to divide it by, and 'public.v' is a view",
    "name a column in 'split_by', or set jobs = 1")
  assert_refused('table = "p", jobs = 2', "'public.p2' is a foreign table")
  assert_whole("v", nil, 'table = "v"')
  assert_whole("v", nil, 'table = "v", jobs = 2, split_by = "id"')
end

function TestPages.test_rows_that_the_role_may_not_see_alone_are_not_read_around_the_rules()
  db:exec [[
    DROP ROLE IF EXISTS parallel_reader; CREATE ROLE parallel_reader LOGIN PASSWORD 'reader';
    CREATE TABLE p (id int PRIMARY KEY, v text) PARTITION BY RANGE (id);
    CREATE TABLE p1 PARTITION OF p FOR VALUES FROM (0) TO (5000);
    CREATE TABLE p2 PARTITION OF p FOR VALUES FROM (5000) TO (20000);
    INSERT INTO p SELECT g, md5(g::text) FROM generate_series(1, 10000) g;
    GRANT SELECT ON p, p1 TO parallel_reader]]
  local run = extracts_of("p", "parallel_reader", "reader")
  local r = run 'split_by = "ctid"'
  lu.assertStrContains(r.all, "SELECT on 'public.p2' is not granted")
  r = run "jobs = 2" -- by its primary key
  lu.assertEquals(r.code, 0, r.all)
  load(newest(), "p")
  lu.assertEquals(db:value(HASH:format "got"), db:value(HASH:format "p"))
  db:exec "GRANT SELECT ON p2 TO parallel_reader; ALTER TABLE p2 ENABLE ROW LEVEL SECURITY"
  lu.assertStrContains(run('split_by = "ctid"').all, "'public.p2' has row-level security")
  db:exec "ALTER TABLE p ENABLE ROW LEVEL SECURITY"
  lu.assertStrContains(run("jobs = 2").all, "row-level security")
  db:exec "DROP OWNED BY parallel_reader; DROP ROLE parallel_reader"
end

function TestPages.test_one_session_does_where_two_were_only_the_default()
  db:exec [[DROP ROLE IF EXISTS parallel_alone; CREATE ROLE parallel_alone LOGIN PASSWORD 'alone' CONNECTION LIMIT 1;
    CREATE TABLE t AS SELECT g AS id, repeat('x', 6000) AS v FROM generate_series(1, 9500) g;
    ALTER TABLE t ALTER v SET STORAGE PLAIN; UPDATE t SET v = v || 'y';
    GRANT SELECT ON t TO parallel_alone]]
  lu.assertTrue(db:value "SELECT pg_table_size('t')" > 64 << 20)
  local run = extracts_of("t", "parallel_alone", "alone")
  local r = run ""
  lu.assertEquals(r.code, 0, r.all)
  if require("tidemill.cores").count() > 1 then lu.assertStrContains(r.all, "1 session instead of 2") end
  local m = newest()
  lu.assertEquals(m.rows, 9500)
  lu.assertStrContains(run("jobs = 2").all, "too many connections")
  db:exec "DROP OWNED BY parallel_alone; DROP ROLE parallel_alone"
end

function TestPages.test_all_sessions_see_one_moment()
  db:exec [[CREATE TABLE t (id int PRIMARY KEY, amount int, pad text) WITH (fillfactor = 50);
    INSERT INTO t SELECT g, 100, repeat('x', 200) FROM generate_series(1, 20000) g]]
  l:write("writer.lua", [[
    local conn <close> = require "pg".connect(arg[1])
    for moved = 1, math.huge do -- what one row loses another gets; rows go from where they were to the end
      local a = math.random(2, 20000)
      conn:exec(("WITH gone AS (DELETE FROM t WHERE id IN (%d, %d) RETURNING *) INSERT INTO t " ..
        "SELECT id, amount + CASE WHEN id = %d THEN 7 ELSE -7 END, 'y' FROM gone"):format(a, math.random(a - 1), a))
      if moved == 20 then
        print "moving"
        io.stdout:flush()
      end
    end]])
  local writer <close> = proc.spawn { cmd = { os.getenv "TM_BIN", "exec", "writer.lua", url }, cwd = l.dir, stdout = "pipe" }
  lu.assertStrContains(writer:read(1, 60), "moving")
  for _, by in ipairs { PAGES, 'jobs = 3, split_by = "id"' } do
    local m, r = extract('table = "t", max_rate = "4MB", ' .. by)
    lu.assertNotNil(m, r.all)
    load(m, "t")
    lu.assertEquals(db:one "SELECT count(*) AS n, count(DISTINCT id) AS ids, sum(amount) AS amounts FROM got",
      { n = 20000, ids = 20000, amounts = 2000000 })
  end
  writer:kill "KILL"
end

-- ---- keys ----

TestKeys = group()

local KEY = 'jobs = 3, ranges = 8, split_by = "%s"'

function TestKeys.test_any_type_that_sorts_divides_a_table()
  db:exec [[
    CREATE TYPE mood AS ENUM ('sad', 'plain', 'glad');
    CREATE DOMAIN price AS numeric(12,3);
    CREATE TABLE t AS SELECT g AS i, (g * 1.5)::float8 AS f, (g / 7.0)::price AS n, md5(g::text) AS v, g % 3 = 0 AS b,
      '2026-01-01'::timestamptz + g * interval '61 s' AS at, '2026-01-01'::date + g AS d, md5(g::text)::uuid AS u,
      (enum_range(NULL::mood))[1 + g % 3] AS m, ARRAY[g % 10, g] AS a, g * interval '1 h' AS t, ''''||chr(65 + g % 50) AS c,
      decode(md5(g::text), 'hex') AS x, 'NaN'::float8 AS nan, left(md5(g::text), 2)::char(4) AS ch
    FROM generate_series(1, 6000) g;
    UPDATE t SET f = CASE i % 4 WHEN 0 THEN 'NaN' WHEN 1 THEN 'Infinity' ELSE f END WHERE i > 5000;
    ALTER TABLE t ADD nothing int; ANALYZE t]]
  for _, column in ipairs { "i", "f", "n", "v", "b", "at", "d", "u", "m", "a", "t", "c", "x", "nan", "ch", "nothing" } do
    local m = assert_whole("t", nil, 'table = "t", ' .. KEY:format(column))
    lu.assertEquals(m.split.kind, "key")
    if column:match "^[ivdu]$" then lu.assertTrue(m.split.ranges >= 8, column) end
  end
  db:exec [[ALTER TABLE t ADD j json; CREATE TYPE pair AS (a int, b int); ALTER TABLE t ADD p pair;
    UPDATE t SET p = CASE i % 3 WHEN 0 THEN ROW(NULL, NULL)::pair WHEN 1 THEN ROW(i, NULL)::pair END; ANALYZE t]]
  assert_whole("t", nil, 'table = "t", ' .. KEY:format "p")
  assert_refused('table = "t", ' .. KEY:format "j", "could not identify an ordering operator for type json")
  assert_refused('table = "t", ' .. KEY:format "att", "split_by: t has no column 'att'", "did you mean 'at'?")
end

function TestKeys.test_rows_without_a_key_and_keys_in_lumps_are_read_once()
  db:exec [[CREATE TABLE t (k bigint, v text);
    INSERT INTO t SELECT NULL, 'null ' || g FROM generate_series(1, 3000) g;
    INSERT INTO t SELECT 7, 'seven ' || g FROM generate_series(1, 5000) g;
    INSERT INTO t SELECT g * 1000000000000, 'far ' || g FROM generate_series(1, 1000) g;
    INSERT INTO t SELECT -g, 'near ' || g FROM generate_series(1, 1000) g]]
  assert_whole("t", nil, 'table = "t", ' .. KEY:format "k") -- no statistics yet
  db:exec [[ANALYZE t; INSERT INTO t SELECT g, 'late' FROM generate_series(100000, 101000) g;
    INSERT INTO t VALUES (-9223372036854775808, 'first'), (9223372036854775807, 'last')]]
  assert_whole("t", nil, 'table = "t", ' .. KEY:format "k")
  db:exec "DELETE FROM t WHERE k IS NOT NULL"
  assert_whole("t", nil, 'table = "t", ' .. KEY:format "k")
end

function TestKeys.test_texts_are_compared_as_their_collation_says()
  db:exec [[
    CREATE COLLATION blind (provider = icu, locale = 'und-u-ks-level2', deterministic = false);
    CREATE TABLE t (a text COLLATE "C", b text COLLATE blind, c text COLLATE "und-x-icu", "Odd ""Key" text);
    INSERT INTO t SELECT w, w, w, w FROM (SELECT (ARRAY['a','A','b','B','ä','Z','z','_', '-', ' ', '~', 'é', 'E', '漢'])[1 + g % 14]
      || (ARRAY['x','X','','''','\',',','0','-1'])[1 + g % 7] || (g % 11) AS w FROM generate_series(1, 7000) g) s;
    ANALYZE t]]
  for _, column in ipairs { "a", "b", "c" } do assert_whole("t", nil, 'table = "t", ' .. KEY:format(column)) end
  db:exec [[ALTER TABLE t RENAME "Odd ""Key" TO "Odd Key"]]
  assert_whole("t", nil, 'table = "t", ' .. KEY:format '\\"Odd Key\\"')
end

function TestKeys.test_a_type_whose_operators_are_not_at_hand_is_refused()
  db:exec [[CREATE SCHEMA aside; CREATE EXTENSION citext SCHEMA aside;
    CREATE TABLE t AS SELECT (chr(g % 26 + CASE g % 2 WHEN 0 THEN 65 ELSE 97 END) || g % 7)::aside.citext AS k
      FROM generate_series(1, 5000) g; ANALYZE t]]
  assert_refused('table = "t", ' .. KEY:format "k", "the type aside.citext sorts in another order than it compares")
  db:exec(("ALTER DATABASE %s SET search_path = public, aside"):format(db:value "SELECT current_database()"))
  assert_whole("t", nil, 'table = "t", ' .. KEY:format "k")
end

function TestKeys.test_a_condition_has_its_own_cuts()
  db:exec [[CREATE TABLE t AS SELECT g AS id, g % 100 AS part, repeat('x', 50) AS v FROM generate_series(1, 20000) g; ANALYZE t]]
  local m = assert_whole("(SELECT * FROM t WHERE id > 19000)", "t", 'table = "t", where = "id > 19000", ' .. KEY:format "id")
  local some, sizes = false, {}
  for object in m:objects() do sizes[#sizes + 1] = object.rows end
  for _, rows in ipairs(sizes) do some = some or rows < 900 end
  lu.assertTrue(some, "one range held nearly all: " .. json.encode(sizes))
end

function TestKeys.test_a_query_says_where_its_ranges_go()
  db:exec [[
    CREATE TABLE shops (id int PRIMARY KEY, name text);
    CREATE TABLE orders (id int PRIMARY KEY, shop int, amount int);
    INSERT INTO shops SELECT g, 'shop ' || g FROM generate_series(1, 10) g;
    INSERT INTO orders SELECT g, g % 13, g % 1000 FROM generate_series(1, 10000) g;
    ANALYZE; CREATE TABLE want (id int, name text, amount int);
    INSERT INTO want SELECT o.id, s.name, o.amount FROM orders o LEFT JOIN shops s ON s.id = o.shop WHERE o.amount > 10]]
  local query = 'query = "SELECT o.id, s.name, o.amount FROM orders o LEFT JOIN shops s ON s.id = o.shop WHERE o.amount > 10 AND '
  local m = assert_whole("want", nil, query .. 'o.id >= ${lo} AND o.id < ${hi} -- \\n;", ranges = 5, jobs = 2, split_by = "orders.id"')
  lu.assertEquals(m.split.ranges, 5)
  assert_whole("want", nil, query:gsub("orders o", "orders"):gsub("o%.", "orders.") .. '${range}", jobs = 2, split_by = "orders.id"')
  assert_whole("want", nil, query .. 'o.id >= ${lo} AND o.id < ${hi}", ranges = 1, split_by = "public.orders.id"')
  lu.assertStrContains(m.source.query, "o.id >= ALL ('{}'::integer[])")
  db:exec "INSERT INTO orders VALUES (10001, NULL, 50)"
  assert_refused('query = "SELECT * FROM orders WHERE shop >= ${lo} AND shop < ${hi}", jobs = 2, split_by = "orders.shop"',
    "'orders.shop' has NULLs, and no range from ${lo} to ${hi} holds them", "write ${range}")
  assert_whole("orders", nil, 'query = "SELECT * FROM orders WHERE ${range}", jobs = 2, split_by = "orders.shop"')
end

function TestKeys.test_rows_that_an_outer_join_leaves_without_a_key_are_read()
  db:exec [[
    CREATE TABLE a AS SELECT g AS id FROM generate_series(1, 3000) g;
    CREATE TABLE b (id int PRIMARY KEY, v int) PARTITION BY RANGE (id);
    CREATE TABLE b1 PARTITION OF b FOR VALUES FROM (0) TO (1000); CREATE TABLE b2 PARTITION OF b DEFAULT;
    INSERT INTO b SELECT g, g FROM generate_series(1, 2000) g; ANALYZE;
    CREATE TABLE want AS SELECT a.id, b.v FROM a LEFT JOIN b USING (id)]]
  for _, join in ipairs { "a LEFT JOIN b", "b RIGHT JOIN a", "a FULL JOIN b" } do
    local query = ('query = "SELECT a.id, b.v FROM %s ON a.id = b.id WHERE %%s", split_by = "b.id", ranges = %%d'):format(join)
    assert_whole("want", nil, query:format("${range}", 1))
    assert_whole("want", nil, query:format("${range}", 4))
    assert_refused(query:format("b.id >= ${lo} AND b.id < ${hi}", 4), "an outer join gives no 'b.id'", "write ${range}")
  end
end

-- ---- failures ----

TestFailures = group()

local function sessions()
  return db:value "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND application_name LIKE 'tidemill lab/%'"
end

local function nothing_left()
  for _ = 1, 100 do
    if sessions() == 0 then break end
    proc.poll({}, 0.05)
  end
  lu.assertEquals(sessions(), 0)
  lu.assertEquals(keys_left(), {})
  lu.assertEquals(lake:list_multiparts(place), {})
  lu.assertNil(manifest.newest(lake, place))
end

function TestFailures.test_one_failing_job_ends_all_and_leaves_nothing()
  db:exec [[CREATE TABLE t AS SELECT g AS id, md5(g::text) AS v FROM generate_series(1, 60000) g]]
  for _, by in ipairs { PAGES, KEY:format "id" } do
    assert_refused('table = "t", where = "1 / (id - 43210) < 2", ' .. by, "division by zero", "22012")
    nothing_left()
  end
end

function TestFailures.test_a_session_that_is_lost_ends_the_attempt()
  db:exec [[CREATE TABLE t AS SELECT g AS id, md5(g::text) AS v FROM generate_series(1, 60000) g;
    CREATE FUNCTION kill_one() RETURNS boolean LANGUAGE sql AS $$
      SELECT pg_terminate_backend(max(pid)) FROM pg_stat_activity WHERE datname = current_database()
        AND application_name LIKE 'tidemill lab/%'
        AND pid <> pg_backend_pid() $$]]
  local m, r = extract('table = "t", where = "id <> 3000 OR kill_one() IS NOT NULL", ' .. PAGES)
  lu.assertNil(m)
  -- The server's last words are lost where it hangs up on a question.
  lu.assertTrue((r.all:find "57P01" or r.all:find "server closed the connection") ~= nil, r.all)
  lu.assertStrContains(r.all, "the snapshot goes with its sessions")
  nothing_left()
end

function TestFailures.test_a_snapshot_that_grows_too_old_ends_the_attempt()
  db:exec [[CREATE TABLE t AS SELECT g AS id FROM generate_series(1, 3000) g]]
  local slow = 'table = "t", where = "id % 100 <> 0 OR pg_sleep(0.3) IS NOT NULL", max_snapshot_age = "1s", jobs = '
  for jobs = 1, 2 do
    assert_refused(slow .. jobs .. ', split_by = "ctid", range_pages = 2', "the snapshot is older than max_snapshot_age = 1s")
    nothing_left()
  end
end

function TestFailures.test_a_signal_cancels_all_sessions_at_once()
  db:exec [[CREATE TABLE t AS SELECT g AS id, md5(g::text) AS v FROM generate_series(1, 400000) g]]
  for _, at in ipairs { 1, 6 } do
    flow_of('table = "t", where = "id % 20000 <> 0 OR pg_sleep(0.3) IS NOT NULL", ' .. PAGES)
    local run <close> = proc.spawn { cmd = { os.getenv "TM_BIN", "run", "t.lua" }, cwd = l.dir, env = l.env,
      stdout = "null", stderr = "null", group = false }
    lu.assertTrue(pgtest.eventually(10, function() return #keys_left() >= at end))
    if at == 1 then lu.assertEquals(sessions(), 3) end
    run:kill "TERM"
    local ended = run:wait(60)
    lu.assertEquals(ended and ended.code, 130)
    nothing_left()
  end
end

function TestFailures.test_the_rate_is_that_of_all_jobs_together()
  db:exec [[CREATE TABLE t AS SELECT g AS id, repeat('x', 93) AS v FROM generate_series(1, 30000) g]] -- 3 MB
  local signal = require "tidemill.signal"
  local began = signal.mono()
  local m, r = extract('table = "t", max_rate = "1500kB/s", ' .. PAGES)
  lu.assertNotNil(m, r.all)
  local seconds = (signal.mono() - began) / 1000
  lu.assertTrue(seconds > 1.4, ("took %.2f s"):format(seconds))
end

-- ---- what is told ----

function TestFailures.test_the_report_says_what_it_cost_the_source()
  db:exec [[CREATE TABLE t AS SELECT g AS id FROM generate_series(1, 3000) g]]
  local _, r = extract('table = "t", ' .. PAGES)
  lu.assertEquals(r.code, 0, r.all)
  r = l:run("show", "last")
  lu.assertStrMatches(r.out, ".*out%d+, source: [%d.]+ m?s in one snapshot, 3 sessions; meanwhile %d+ transactions? began.*")
  lu.assertStrMatches(r.out, ".*out%d+, transfer: 3000 rows, .* read .*, .* stored in 3 objects.*")
  lu.assertNotStrContains(r.out, ".report =")
end

-- ---- resume ----

TestResume = group()

local function child_of(pid)
  local f <close> = io.open(("/proc/%d/task/%d/children"):format(pid, pid))
  return (f and f:read "a" or ""):match "%d+"
end

-- Kills the process of an attempt whenever there are so many objects.
local function run_and_kill(fields, ...)
  flow_of(fields .. ', retries = 3, retry_delay = 0.1, backoff = 1')
  local run <close> = proc.spawn { cmd = { os.getenv "TM_BIN", "run", "t.lua" }, cwd = l.dir, env = l.env,
    stdout = "pipe" }
  for _, objects in ipairs { ... } do
    lu.assertTrue(pgtest.eventually(10, function() return #keys_left() >= objects end))
    os.execute("kill -KILL " .. assert(child_of(run:pid())))
  end
  local out = ""
  repeat
    local bytes = run:read(1, 60)
    out = out .. (bytes or "")
  until not bytes
  local ended = run:wait(60)
  return ended.code, out
end

function TestResume.test_attempts_go_on_behind_the_ranges_that_were_finished()
  db:exec [[CREATE TABLE t (id int PRIMARY KEY, v text);
    INSERT INTO t SELECT g, md5(g::text) FROM generate_series(1, 20000) g; ANALYZE t]]
  local code, out = run_and_kill('table = "t", resume = true, jobs = 2, ranges = 20, ' ..
    'where = "id % 500 <> 0 OR pg_sleep(0.2) IS NOT NULL"', 5, 11)
  lu.assertEquals(code, 0, out)
  local m = newest()
  lu.assertEquals(m.attempt, 3)
  lu.assertTrue(m.split.taken_over >= 7, json.encode(m.split))
  local attempts = {}
  for object in m:objects() do
    local attempt = names.parse_object(object.key).attempt
    attempts[attempt] = (attempts[attempt] or 0) + 1
  end
  for attempt = 1, 3 do lu.assertTrue((attempts[attempt] or 0) >= 2, json.encode(attempts)) end
  lu.assertEquals(#keys_left(), m.object_count)
  load(m, "t")
  lu.assertEquals(db:value(HASH:format "got"), db:value(HASH:format "t"))
end

-- A run that has failed at a row in the last third; what makes it fail is then mended.
local function fail_and_mend()
  db:exec [[CREATE TABLE t (id int PRIMARY KEY, v text);
    INSERT INTO t SELECT g, md5(g::text) FROM generate_series(1, 20000) g;
    CREATE TABLE bad AS SELECT 15000 AS id;
    CREATE VIEW s AS SELECT *, 1 / (CASE WHEN id IN (TABLE bad) THEN 0 ELSE 1 END) AS one FROM t]]
  assert_refused('table = "s", split_by = "id", resume = true, ranges = 10', "division by zero")
  db:exec "TRUNCATE bad"
  lu.assertEquals(#keys_left(), 7)
end

local function restore()
  local r = l:run("restore", "last")
  lu.assertEquals(r.code, 0, r.all)
  local m = newest()
  load(m, "s")
  lu.assertEquals(db:value(HASH:format "got"), db:value(HASH:format "s"))
  return m, r.all
end

function TestResume.test_a_failed_run_that_is_restored_goes_on_too()
  fail_and_mend()
  lu.assertEquals(restore().split.taken_over, 7)
end

function TestResume.test_what_has_changed_since_is_read_again()
  fail_and_mend()
  db:exec "CREATE OR REPLACE VIEW s AS SELECT *, 1 AS one, 2 AS two FROM t"
  local m, out = restore()
  lu.assertStrContains(out, "not resumed: what is asked for, or its columns, have changed")
  lu.assertNil(m.split.taken_over)
  lu.assertEquals(#keys_left(), m.object_count)
end

function TestResume.test_objects_that_are_gone_are_read_again()
  fail_and_mend()
  local keys = keys_left()
  lake:delete(keys[1])
  lake:put(keys[3], "something else")
  local m, out = restore()
  lu.assertStrContains(out, "objects of 2 finished ranges are gone")
  lu.assertEquals(m.split.taken_over, 5)
end

os.exit(lu.LuaUnit.run())
