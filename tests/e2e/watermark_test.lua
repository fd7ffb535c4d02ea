-- needs: pg ossd
-- takes: 32
--- Increments: whatever writes to the source and whatever breaks, every row comes, and comes once.

local json = require "json"
local lab = require "tests.support.lab"
local lu = require "luaunit"
local pg = require "pg"
local pgtest = require "tests.support.pgtest"
local proc = require "proc"
local state = require "tidemill.state"

local l <close> = lab.new "watermark"
local source, source_url = l:database("rds", os.getenv "TM_PG")
local target, target_url = l:database("adbpg", os.getenv "TM_PG")
l:lake("lake", "lab-watermark")
l:project()
source:exec(("ALTER DATABASE %s SET synchronous_commit = on"):format(source:value "SELECT current_database()"))
source:exec "SET synchronous_commit = on"

local FLOW = [[
  flow.extract "x" { from = "rds", table = "t", to = "lake:%s/", watermark = %s, %s },
  flow.load "l" { after = "x", from = "lake:%s/", on = "adbpg", into = "t", %s },
]]

local places = 0

-- A flow of one extract and one load, in a place of its own.
local function write_flow(watermark, extract, load)
  places = places + 1
  local place = "p" .. places
  l:flow("f.lua", FLOW:format(place, watermark, extract or "", place, load or ""))
end

-- Both tables and the state store anew.
local function fresh(columns, watermark, extract, load)
  for _, conn in ipairs { source, target } do
    conn:exec("DROP TABLE IF EXISTS t CASCADE; CREATE TABLE t (" .. columns .. ")")
  end
  target:exec "DROP SCHEMA IF EXISTS tidemill CASCADE"
  os.execute(("rm -rf '%s/.tidemill'"):format(l.dir))
  write_flow(watermark or "'at'", extract, load)
end

local EVENTS = "id bigint PRIMARY KEY, v text, at timestamptz DEFAULT now()"

local function run(...)
  local r = l:run("run", "f.lua", ...)
  lu.assertEquals(r.code, 0, r.all)
  return r
end

local function fails(...)
  local r = l:run(...)
  lu.assertNotEquals(r.code, 0, r.all)
  return r.all
end

local function ids() return target:value "SELECT coalesce(string_agg(id::text, ' ' ORDER BY id), '') FROM t" end

local HASH = "SELECT count(*) || ' ' || coalesce(md5(string_agg(t::text, ',' ORDER BY t::text)), '') FROM t"

local function assert_same() lu.assertEquals(target:value(HASH), source:value(HASH)) end

-- The state store; the fact of the extract as it is kept.
local function with_store(f)
  local store <close> = state.open(("sqlite:%s/.tidemill/state.db"):format(l.dir))
  return f(store)
end

local function kept()
  return with_store(function(store)
    local fact = store:fact("lab", "x", "watermark")
    return fact and fact.value
  end)
end

local function last_run()
  return with_store(function(store) return store:find_run("last").id end)
end

local function writer()
  local conn = pg.connect(source_url)
  return conn, conn:transaction()
end

TestLate = {}

function TestLate.test_what_commits_late_comes_with_the_next_increment_once()
  fresh(EVENTS)
  source:exec "INSERT INTO t SELECT i, 'early' FROM generate_series(1, 5) i"
  local a <close>, tx_a = writer() -- one that is open before any extract
  a:exec "INSERT INTO t VALUES (10, 'late')"
  local b <close>, tx_b = writer() -- one with subtransactions, released and not
  b:exec "SAVEPOINT s; INSERT INTO t VALUES (20, 'sub'); RELEASE s; SAVEPOINT s; INSERT INTO t VALUES (21, 'sub')"
  local c <close>, tx_c = writer() -- one that is prepared
  c:exec "SAVEPOINT s; INSERT INTO t VALUES (30, 'two'); RELEASE s; INSERT INTO t VALUES (31, 'two')"
  c:exec "PREPARE TRANSACTION 'watermark test'"
  pcall(tx_c.rollback, tx_c)
  local d <close>, tx_d = writer() -- one that rolls a part back
  d:exec "INSERT INTO t VALUES (40, 'x'); SAVEPOINT s; INSERT INTO t VALUES (41, 'no'); ROLLBACK TO s"
  source:exec "INSERT INTO t VALUES (6, 'after them')"
  run()
  lu.assertEquals(ids(), "1 2 3 4 5 6")
  b:exec "INSERT INTO t VALUES (22, 'top')"
  d:exec "INSERT INTO t VALUES (42, 'x')"
  tx_b:commit()
  run()
  lu.assertEquals(ids(), "1 2 3 4 5 6 20 21 22")
  tx_a:commit()
  source:exec "COMMIT PREPARED 'watermark test'"
  source:exec "INSERT INTO t VALUES (7, 'last')"
  run()
  tx_d:commit()
  run()
  run()
  lu.assertEquals(ids(), "1 2 3 4 5 6 7 10 20 21 22 30 31 40 42")
  assert_same()
end

function TestLate.test_values_that_go_backwards_and_none_are_no_matter()
  fresh("id bigint PRIMARY KEY, at timestamptz, n numeric", "{ column = 'n' }", "where = 'id <> 5'")
  source:exec [[INSERT INTO t VALUES (1, '2026-01-01', 100), (2, 'infinity', 1e30), (3, NULL, NULL), (4, NULL, 'NaN')]]
  run()
  source:exec [[INSERT INTO t VALUES (5, now(), 3), (6, '1999-01-01', -5), (7, NULL, NULL), (8, '-infinity', 'NaN')]]
  run()
  source:exec "DELETE FROM t WHERE id = 5"
  assert_same()
end

function TestLate.test_an_increment_without_rows_changes_nothing()
  fresh(EVENTS)
  run()
  lu.assertIsNil(kept())
  source:exec "INSERT INTO t VALUES (1, 'a')"
  run()
  local before = kept()
  lu.assertEquals(json.decode(before).low, source:value "SELECT at::text FROM t")
  source:exec "CREATE TABLE IF NOT EXISTS other (i int); INSERT INTO other VALUES (1)"
  run()
  lu.assertEquals(kept(), before)
  assert_same()
end

function TestLate.test_an_extract_without_a_load_moves_by_itself()
  fresh(EVENTS)
  l:flow("f.lua", [[flow.extract "x" { from = "rds", table = "t", to = "lake:alone/", watermark = "at", since = "2026-01-01" }]])
  source:exec "INSERT INTO t VALUES (1, 'a', now()), (2, 'before since', '2025-12-31'), (3, 'none', NULL)"
  lu.assertStrContains(run().all, "2 rows")
  source:exec "INSERT INTO t VALUES (4, 'b')"
  lu.assertStrContains(run().all, "1 row ")
  lu.assertStrContains(run().all, "0 rows")
  lu.assertStrContains(l:run("show", "last").out, "increment")
end

function TestLate.test_rows_below_the_bound_stay_behind_and_only_they()
  fresh("id bigint PRIMARY KEY, at timestamp", "{ column = 'at', overlap = '2 hours' }")
  source:exec "INSERT INTO t VALUES (1, '2026-01-01 12:00')"
  run()
  source:exec "INSERT INTO t VALUES (2, '2026-01-01 10:00'), (3, '2026-01-01 09:59:59.999999'), (4, NULL)"
  run()
  lu.assertEquals(ids(), "1 2 4")
end

-- ---- types ----

function TestLate.test_columns_of_any_type()
  local types = { int = "%d", bigint = "9007199254740%d", numeric = "1234567890123456789.%d", date = "'2026-01-%d'",
    timestamp = "'2026-01-%d 01:02:03.123456'", timestamptz = "'2026-01-%d 01:02:03.123456+08'", text = "'v%d'",
    uuid = "'018f4c1e-0000-7000-8000-0000000000%d'", float8 = "0.1%d", smallint = "%d" }
  local nodes = {}
  for name, form in pairs(types) do
    for _, conn in ipairs { source, target } do
      conn:exec(("DROP TABLE IF EXISTS k_%s; CREATE TABLE k_%s (id int, k %s)"):format(name, name, name))
    end
    source:exec(("INSERT INTO k_%s VALUES (1, %s)"):format(name, form:format(11)))
    local overlap = (name == "text" or name == "uuid") and "" or (name == "date" or name:find "^time")
      and ", overlap = '2 days'" or ", overlap = 5"
    nodes[#nodes + 1] = ([[flow.extract "x %s" { from = "rds", table = "k_%s", to = "lake:k/%s/",
        watermark = { column = "k"%s } },
      flow.load "l %s" { after = "x %s", from = "lake:k/%s/", on = "adbpg", into = "k_%s" },]]):format(name, name, name,
      overlap, name, name, name, name)
  end
  l:flow("f.lua", table.concat(nodes, "\n"))
  run "--jobs=4"
  for name, form in pairs(types) do source:exec(("INSERT INTO k_%s VALUES (2, %s)"):format(name, form:format(10))) end
  run "--jobs=4"
  run "--jobs=4"
  for name in pairs(types) do
    lu.assertEquals(target:value(("SELECT string_agg(id::text, ' ' ORDER BY id) FROM k_%s"):format(name)), "1 2", name)
    for _, conn in ipairs { source, target } do conn:exec("DROP TABLE k_" .. name) end
  end
end

-- ---- writers ----

TestWriters = {}

-- Writers that insert, some of them late, until they are told to end.
local WRITER = [[
  local pg = require "pg"
  local conn = pg.connect(arg[1])
  local seed, changes = tonumber(arg[2]), arg[3] == "changes"
  math.randomseed(seed)
  local n = 0
  while conn:value "SELECT count(*) FROM ends" == 0 do
    local tx <close> = conn:transaction()
    for part = 1, math.random(1, 4) do
      local inner <close> = math.random() < 0.5 and conn:transaction() or nil
      n = n + 1
      conn:query("INSERT INTO t VALUES ($1, $2)", seed * 1000000 + n, ("w%d"):format(part))
      if changes then
        conn:query("UPDATE t SET v = v || '.', at = clock_timestamp() WHERE id = $1",
          seed * 1000000 + math.random(1, n))
      end
      if inner and math.random() < 0.8 then inner:commit() end
      if math.random() < 0.1 then require "proc".poll({}, math.random() * 0.5) end
    end
    if math.random() < 0.9 then tx:commit() end
  end
]]

local function with_writers(changes, body)
  source:exec "DROP TABLE IF EXISTS ends; CREATE TABLE ends (i int)"
  l:write("writer.lua", WRITER)
  local writers <close> = setmetatable({}, { __close = function(list)
    for _, one in ipairs(list) do one:close() end
  end })
  for seed = 1, 4 do
    writers[seed] = proc.spawn { cmd = { os.getenv "TM_BIN", "exec", l.dir .. "/writer.lua", source_url, tostring(seed),
      changes and "changes" or "inserts" } }
  end
  body()
  source:exec "INSERT INTO ends VALUES (1)"
  for _, one in ipairs(writers) do lu.assertEquals(one:wait(60).code, 0) end
end

function TestWriters.test_increments_beside_writers_add_up_to_the_source()
  fresh(EVENTS, "'at'", "verify = 'hash'", "verify = 'hash'")
  with_writers(false, function()
    for _ = 1, 5 do run() end
  end)
  run()
  assert_same()
  lu.assertTrue(target:value "SELECT count(*) FROM t" > 50)
end

function TestWriters.test_merged_increments_beside_writers_that_update_are_the_source()
  fresh(EVENTS, "{ column = 'at', overlap = '1 hour' }", "", "mode = 'merge', keys = { 'id' }")
  with_writers(true, function()
    for _ = 1, 4 do run() end
  end)
  run()
  assert_same()
end

function TestWriters.test_ranges_of_several_sessions_hold_the_same_increment()
  fresh(EVENTS, "'at'", "jobs = 2, range_pages = 1, split_by = 'ctid'", "jobs = 2")
  source:exec "INSERT INTO t SELECT i, repeat('x', 200) FROM generate_series(1, 400) i"
  with_writers(false, function()
    for _ = 1, 2 do run() end
  end)
  run()
  assert_same()
end

-- Runs the flow so that each attempt of the extract is killed at a crash point.
local function run_crashing(point)
  l.env.TIDEMILL_CRASH = point
  local r = proc.run { cmd = { os.getenv "TM_BUILD" .. "/crash/tidemill", "run", "f.lua" }, cwd = l.dir, env = l.env,
    timeout = 60 }
  l.env.TIDEMILL_CRASH = nil
  return r
end

function TestWriters.test_attempts_that_go_on_with_each_other_make_one_increment()
  fresh(EVENTS, "'at'", "resume = true, ranges = 6, retries = 9, retry_delay = '100ms'", "mode = 'merge', keys = 'id'")
  source:exec "INSERT INTO t SELECT i * 1000, repeat('x', 50) FROM generate_series(1, 4000) i; ANALYZE t"
  with_writers(true, function()
    local r = run_crashing "extract.range.after:3"
    lu.assertEquals(r.code, 0, r.stderr)
    lu.assertStrContains(r.stderr, "were finished by an earlier attempt")
    run()
  end)
  run()
  assert_same()
end

-- ---- tables that change ----

TestTables = {}

function TestTables.test_partitions_come_and_go()
  fresh "id bigint, v text, at timestamptz DEFAULT now()"
  source:exec [[DROP TABLE t; CREATE TABLE t (id bigint, v text, at timestamptz DEFAULT now()) PARTITION BY RANGE (id);
    CREATE TABLE t1 PARTITION OF t FOR VALUES FROM (0) TO (100); INSERT INTO t VALUES (1, 'a');
    CREATE TABLE IF NOT EXISTS old (id bigint, v text, at timestamptz DEFAULT now()); TRUNCATE old;
    INSERT INTO old VALUES (201, 'was there before')]]
  run()
  source:exec [[CREATE TABLE t2 PARTITION OF t FOR VALUES FROM (100) TO (200); INSERT INTO t VALUES (2, 'b'), (102, 'c');
    ALTER TABLE t ATTACH PARTITION old FOR VALUES FROM (200) TO (300)]]
  run()
  source:exec "VACUUM FULL t1"
  source:exec "ALTER TABLE t DETACH PARTITION old"
  run()
  source:exec "ALTER TABLE t ATTACH PARTITION old FOR VALUES FROM (200) TO (300); INSERT INTO t VALUES (202, 'd')"
  run()
  lu.assertEquals(ids(), "1 2 102 201 202")
  assert_same()
end

function TestTables.test_a_partition_attached_while_an_increment_is_read_comes_with_the_next()
  fresh("id bigint, v text, at timestamptz DEFAULT now()", "'at'", "split_by = 'id', ranges = 4, max_rate = '6MB'")
  source:exec [[DROP TABLE t; CREATE TABLE t (id bigint, v text, at timestamptz DEFAULT now()) PARTITION BY RANGE (id);
    CREATE TABLE t1 PARTITION OF t FOR VALUES FROM (0) TO (10000); ANALYZE;
    INSERT INTO t SELECT g, repeat('x', 3000) FROM generate_series(1, 4000) g; ANALYZE t;
    CREATE TABLE late (LIKE t INCLUDING ALL); INSERT INTO late SELECT g, 'y' FROM generate_series(10001, 10100) g]]
  local slow <close> = proc.spawn { cmd = { os.getenv "TM_BIN", "run", "f.lua" }, cwd = l.dir, env = l.env, stdout = "null",
    stderr = "null" }
  local READS = "SELECT count(*) FROM pg_stat_activity WHERE xact_start IS NOT NULL AND query LIKE 'COPY (%' " ..
    "AND datname = current_database()"
  lu.assertTrue(pgtest.eventually(20, function() return source:value(READS) > 0 end))
  source:exec "ALTER TABLE t ATTACH PARTITION late FOR VALUES FROM (10000) TO (20000)"
  lu.assertEquals(slow:wait(60).code, 0)
  run()
  lu.assertEquals(target:value "SELECT count(*) || ' ' || count(DISTINCT id) FROM t", "4100 4100")
end

function TestTables.test_a_table_that_was_written_anew_is_not_appended_once_more()
  fresh(EVENTS)
  source:exec "INSERT INTO t VALUES (1, 'a'), (2, 'b')"
  run()
  source:exec "ALTER TABLE t ALTER v TYPE varchar(10) USING v || ''; INSERT INTO t VALUES (3, 'c')"
  write_flow("'at'", "on_drift = 'ignore'")
  local said = fails("run", "f.lua")
  lu.assertStrContains(said, "'public.t' was written anew")
  lu.assertStrContains(said, "tidemill watermark")
  lu.assertEquals(ids(), "1 2")
  source:exec "DROP TABLE t; CREATE TABLE t (id bigint PRIMARY KEY, v text, at timestamptz DEFAULT now())"
  lu.assertStrContains(fails("run", "f.lua"), "was dropped and made anew")
end

function TestTables.test_merges_take_all_of_a_table_that_was_written_anew()
  fresh(EVENTS, "'at'", "", "mode = 'merge', keys = { 'id' }")
  source:exec "INSERT INTO t VALUES (1, 'a'), (2, 'b')"
  run()
  source:exec "CREATE TABLE copy AS SELECT * FROM t; TRUNCATE t; INSERT INTO t SELECT * FROM copy; DROP TABLE copy"
  source:exec "UPDATE t SET v = 'c' WHERE id = 1"
  local r = run()
  lu.assertStrContains(r.all, "all its rows are taken")
  assert_same()
end

-- ---- what cannot tell transactions ----

TestValues = {}

function TestValues.test_a_query_waits_for_open_transactions()
  fresh("id bigint PRIMARY KEY, v text, at timestamptz DEFAULT now()", "'at'")
  l:flow("f.lua", FLOW:gsub('table = "t"', 'query = "SELECT id, v, at FROM t WHERE v <> \'no\';"')
    :format("q", "'at'", "", "q", ""))
  source:exec "INSERT INTO t VALUES (1, 'a', now() - interval '1 minute'), (9, 'no', now() - interval '1 hour')"
  local late <close>, tx = writer()
  late:exec "SELECT now()"
  source:exec "SELECT pg_sleep(0.01)"
  source:exec "INSERT INTO t VALUES (2, 'b')"
  run()
  lu.assertEquals(ids(), "1")
  late:exec "INSERT INTO t VALUES (3, 'late')"
  tx:commit()
  source:exec "UPDATE t SET at = at - interval '1 minute' WHERE id IN (2, 3)" -- so that nobody waits for the clock
  source:exec "UPDATE t SET at = (SELECT at FROM t WHERE id = 1) + id * interval '1 ms' WHERE id IN (2, 3)"
  run()
  run()
  lu.assertEquals(ids(), "1 2 3")
end

function TestValues.test_a_role_that_does_not_see_the_sessions_of_others_takes_nothing_for_granted()
  fresh("id bigint PRIMARY KEY, v text, at timestamptz DEFAULT now()", "'at'")
  l:flow("f.lua", FLOW:gsub('table = "t"', 'query = "SELECT id, v, at FROM t"'):format("q", "'at'", "", "q", ""))
  source:exec [[DROP ROLE IF EXISTS lab_plain; CREATE ROLE lab_plain LOGIN PASSWORD 'plain'; GRANT SELECT ON t TO lab_plain;
    INSERT INTO t VALUES (1, 'a', now() - interval '1 minute')]]
  local all = l.env.LAB_RDS
  l.env.LAB_RDS = all:gsub("://[^@]*@", "://lab_plain:plain@")
  local late <close>, tx = writer()
  late:exec "INSERT INTO t VALUES (2, 'late', now() - interval '30 seconds')"
  local told = fails("run", "f.lua")
  source:exec "GRANT pg_read_all_stats TO lab_plain"
  run()
  tx:commit()
  l.env.LAB_RDS = all
  source:exec "DROP OWNED BY lab_plain; DROP ROLE lab_plain"
  lu.assertStrContains(told, "the start of the oldest open transaction cannot be told")
  lu.assertEquals(ids(), "1")
end

function TestValues.test_a_view_with_an_overlap_is_merged()
  fresh("id bigint PRIMARY KEY, v text, n int", "{ column = 'n', overlap = 10 }", "", "mode = 'merge', keys = { 'id' }")
  source:exec "ALTER TABLE t RENAME TO base; CREATE VIEW t AS SELECT * FROM base; INSERT INTO base VALUES (1, 'a', 100)"
  run()
  source:exec "INSERT INTO base VALUES (2, 'b', 95), (3, 'c', 80)"
  local r = run()
  lu.assertStrContains(r.all, "2 rows") -- one of them once more
  lu.assertEquals(ids(), "1 2")
  source:exec "INSERT INTO base VALUES (4, 'd', NULL)"
  lu.assertStrContains(fails("run", "f.lua"), "rows without a value in the watermark's column")
  source:exec "DROP TABLE base CASCADE"
end

function TestValues.test_an_increment_that_an_index_finds_is_read_by_one_session_into_one_object()
  fresh("id bigint PRIMARY KEY, v text", "{ column = 'id', overlap = 10 }", "jobs = 2")
  source:exec "INSERT INTO t SELECT g, repeat('x', 500) FROM generate_series(1, 30000) g"
  source:exec "ANALYZE t"
  lu.assertStrMatches(run().all, ".*30000 rows in [2-9] objects.*")
  source:exec "INSERT INTO t VALUES (30001, 'new')"
  lu.assertStrContains(run().all, "1 row in 1 object")
  lu.assertStrContains(run().all, "0 rows in 0 objects")
  assert_same()
end

function TestValues.test_a_start_that_is_no_value_of_the_column_is_refused_by_name()
  fresh("id bigint PRIMARY KEY, v text", "'id'", "since = 'abc'")
  lu.assertStrContains(fails("run", "f.lua"), "'since' is 'abc', which is no bigint, as 'id' is")
  lu.assertEquals(l:run("watermark", "f.lua", "x", "--set", "xyz").code, 0)
  local all = fails("run", "f.lua")
  lu.assertStrContains(all, "the watermark that was set is 'xyz', which is no bigint")
  lu.assertStrContains(all, "hint: tidemill watermark lab x --set VALUE")
end

function TestValues.test_a_column_that_is_not_there_is_refused_with_its_neighbour()
  fresh("id bigint PRIMARY KEY, stamp timestamptz", "'stmp'")
  local all = fails("run", "f.lua")
  lu.assertStrContains(all, "the watermark's column 'stmp' is not in public.t")
  lu.assertStrContains(all, "did you mean 'stamp'?")
end

function TestValues.test_an_overlap_that_would_be_appended_twice_is_refused()
  fresh(EVENTS)
  local nodes = FLOW:gsub('table = "t"', 'query = "SELECT * FROM t"')
    :format("q", "{ column = 'id', overlap = 10 }", "", "q", "")
  l:flow("f.lua", nodes)
  local r = l:run("check", "f.lua")
  lu.assertEquals(r.code, 2)
  lu.assertStrContains(r.all, "would append its rows twice")
  l:flow("f.lua", (nodes:gsub(", overlap = 10", "")))
  lu.assertStrContains(fails("run", "f.lua"), "needs an overlap")
end

-- ---- failures ----

TestFailures = {}

-- A target that refuses rows, until it is mended.
local function break_target() target:exec "ALTER TABLE t ADD CONSTRAINT broken CHECK (id < 10) NOT VALID" end
local function mend_target() target:exec "ALTER TABLE t DROP CONSTRAINT broken" end

local function failed_load()
  fresh(EVENTS)
  source:exec "INSERT INTO t VALUES (1, 'a')"
  run()
  local before = kept()
  break_target()
  source:exec "INSERT INTO t VALUES (11, 'b')"
  fails("run", "f.lua")
  lu.assertEquals(kept(), before)
  mend_target()
  source:exec "INSERT INTO t VALUES (12, 'c')"
  return last_run()
end

function TestFailures.test_a_failed_load_that_is_restored_delivers_its_increment()
  local id = failed_load()
  local r = l:run("restore", id)
  lu.assertEquals(r.code, 0, r.all)
  lu.assertEquals(ids(), "1 11")
  run()
  run()
  lu.assertEquals(ids(), "1 11 12")
end

function TestFailures.test_the_run_after_a_failed_load_brings_its_rows_and_a_restore_does_not_bring_them_again()
  local id = failed_load()
  lu.assertStrContains(run().all, "was not delivered")
  lu.assertEquals(ids(), "1 11 12")
  source:exec "INSERT INTO t VALUES (13, 'd')"
  lu.assertEquals(l:run("restore", id).code, 0)
  lu.assertEquals(ids(), "1 11 12 13")
  run()
  lu.assertEquals(ids(), "1 11 12 13")
end

function TestFailures.test_a_load_of_another_run_does_not_append_an_increment()
  failed_load()
  local said = fails("run", "f.lua", "--only", "l")
  lu.assertStrContains(said, "is an increment that run")
  lu.assertStrContains(said, "tidemill restore")
  run("--only", "x")
  run()
  lu.assertEquals(ids(), "1 11 12")
end

function TestFailures.test_a_load_that_has_committed_a_part_must_be_restored_first()
  fresh(EVENTS, "'at'", "object_size = 2000, range_pages = 1, split_by = 'ctid'", "jobs = 2, pipeline = false")
  source:exec "INSERT INTO t SELECT i, repeat('x', 100) FROM generate_series(-1000, 0) i"
  run()
  source:exec "INSERT INTO t SELECT -2000 + i, repeat('x', 100) FROM generate_series(1, 900) i"
  source:exec "INSERT INTO t VALUES (11, 'b')"
  break_target()
  fails("run", "f.lua")
  mend_target()
  local id, loaded = last_run(), target:value "SELECT count(*) FROM t"
  if loaded > 1001 then
    lu.assertStrContains(fails("run", "f.lua"), "has committed a part of its increment")
  end
  lu.assertEquals(l:run("restore", id).code, 0)
  run()
  assert_same()
end

-- Kills a process at a crash point: the runner, and so the rest, or a node's.
local function crash(point)
  l.env.TIDEMILL_CRASH = point
  local r = proc.run { cmd = { os.getenv "TM_BUILD" .. "/crash/tidemill", "run", "f.lua" }, cwd = l.dir, env = l.env,
    timeout = 60 }
  l.env.TIDEMILL_CRASH = nil
  lu.assertNotEquals(r.code, 0, point .. " was not passed: " .. r.stdout .. r.stderr)
end

function TestFailures.test_kills_around_the_delivery_lose_nothing_and_double_nothing()
  fresh(EVENTS)
  local n = 0
  local function insert(count)
    source:exec(("INSERT INTO t SELECT i, 'v' FROM generate_series(%d, %d) i"):format(n + 1, n + count))
    n = n + count
  end
  insert(3)
  for _, point in ipairs { "node.keep.before", "runner.keep.after", "manifest.put.after", "load.commit.after",
    "runner.deliver.before", "runner.deliver.after", "runner.end.after:2" } do
    insert(2)
    crash(point)
    insert(1)
    run() -- as if nobody had seen that the other failed
    lu.assertEquals(target:value(HASH), source:value(HASH), point)
  end
  for _, point in ipairs { "runner.keep.before", "load.commit.after", "runner.deliver.after" } do
    insert(2)
    crash(point)
    l:run("restore", "last")
    run()
    lu.assertEquals(target:value(HASH), source:value(HASH), point)
  end
end

-- ---- by hand ----

TestCommand = {}

local function ask(...)
  local r = l:run("watermark", ...)
  lu.assertEquals(r.code, 0, r.all)
  return r.all
end

function TestCommand.test_a_watermark_is_shown_set_and_reset()
  fresh("id bigint PRIMARY KEY, v text", "'id'")
  lu.assertStrContains(ask "f.lua", "nothing is kept")
  source:exec "INSERT INTO t SELECT i, 'a' FROM generate_series(1, 5) i"
  run()
  local shown = ask "f.lua"
  lu.assertStrContains(shown, "id up to 5, transactions below ")
  lu.assertStrContains(shown, last_run())
  lu.assertStrContains(ask("lab", "x"), "2 columns")
  local facts = json.decode(ask("lab", "--json")).facts
  lu.assertEquals({ facts[2].name, facts[2].value.low }, { "watermark", "5" })
  target:exec "DELETE FROM t WHERE id > 3"
  lu.assertStrContains(ask("lab", "x", "--set", "3"), "takes the rows above 3")
  lu.assertStrContains(ask "lab", "above 3, set by hand")
  run()
  lu.assertEquals(ids(), "1 2 3 4 5")
  source:exec "INSERT INTO t VALUES (6, 'b')"
  run()
  assert_same()
  target:exec "TRUNCATE t"
  lu.assertStrContains(ask("lab", "x", "--reset", "watermark"), "removed")
  lu.assertStrContains(ask("lab", "x", "--reset", "watermark"), "there was nothing")
  run()
  assert_same()
  lu.assertStrContains(ask("lab", "x", "--reset", "columns"), "removed")
end

function TestCommand.test_what_is_not_there_is_named()
  fresh(EVENTS)
  lu.assertStrContains(fails("watermark", "f.lua", "y"), "has no extract 'y'")
  lu.assertStrContains(fails("watermark", "f.lua", "--set", "3"), "which node?")
  lu.assertStrContains(fails("watermark", "nobody"), "nobody")
  lu.assertStrContains(fails("watermark", "f.lua", "x", "--reset", "all"), "does not know 'all'")
end

function TestCommand.test_a_failed_run_that_left_its_window_is_told_and_given_up()
  local id = failed_load()
  lu.assertStrContains(ask "f.lua", "tidemill restore " .. id)
  ask("f.lua", "x", "--set", "2026-01-01")
  lu.assertNotStrContains(ask "f.lua", id .. " failed")
  target:exec "TRUNCATE t"
  run()
  lu.assertEquals(ids(), "1 11 12")
end

-- ---- several runs ----

TestRuns = {}

function TestRuns.test_a_second_run_waits_for_the_window_of_the_first()
  fresh(EVENTS, "'at'", "", "pipeline = false")
  source:exec "INSERT INTO t VALUES (1, 'a'), (2, 'b')"
  local holder <close> = pg.connect(target_url)
  local tx = holder:transaction()
  holder:exec "LOCK TABLE t IN ACCESS EXCLUSIVE MODE"
  local function start()
    return proc.spawn { cmd = { os.getenv "TM_BIN", "run", "f.lua" }, cwd = l.dir, env = l.env, stdout = "null",
      stderr = "null" }
  end
  local first <close> = start()
  while target:value([[SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND application_name LIKE $1
    AND datname = current_database()]], "tidemill lab/%/l") == 0 do proc.poll({}, 0.05) end
  source:exec "INSERT INTO t VALUES (3, 'c')"
  local second <close> = start()
  local waits
  repeat
    proc.poll({}, 0.05)
    waits = with_store(function(store)
      for _, row in ipairs(store:nodes(store:find_run("last").id)) do
        if row.node == "x" and row.state == "polling" then return row.message end
      end
    end)
  until waits
  lu.assertStrContains(waits, "has the window of its increment")
  tx:commit()
  lu.assertEquals(first:wait(60).code, 0)
  lu.assertEquals(second:wait(60).code, 0)
  assert_same()
  lu.assertEquals(ids(), "1 2 3")
end

function TestRuns.test_a_backfill_takes_one_increment_after_the_other()
  fresh(EVENTS)
  source:exec "INSERT INTO t VALUES (1, 'a'), (2, 'b')"
  local r = l:run("publish", "f.lua")
  lu.assertEquals(r.code, 0, r.all)
  r = l:run("backfill", "lab", "--from", "2026-01-01", "--to", "2026-01-03", "--here")
  lu.assertEquals(r.code, 0, r.all)
  assert_same()
end

-- ---- the source ----

TestSource = {}

function TestSource.test_a_source_that_crashes_gives_numbers_anew_and_nothing_is_taken_for_seen()
  local dir = l.dir .. "/pg"
  local server = "tests/servers/pg"
  lu.assertTrue(os.execute(("%s start '%s' >/dev/null"):format(server, dir)))
  local env = io.open(dir .. "/env"):read "a"
  local url, pid = env:match "TM_PG=([^\n]+)", env:match "TM_PG_PID=(%d+)"
  url = url:gsub("'", "")
  local before = l.env.LAB_RDS
  l.env.LAB_RDS = url
  local ok, raised = pcall(function()
    fresh(EVENTS)
    local conn = pg.connect(url)
    conn:exec("CREATE TABLE t (" .. EVENTS .. "); INSERT INTO t VALUES (1, 'a')")
    conn:exec "BEGIN; SELECT txid_current(); ROLLBACK"
    run()
    conn:exec "BEGIN; SELECT txid_current(); ROLLBACK"
    conn:close()
    os.execute(("kill -9 %s; %s start '%s' >/dev/null"):format(pid, server, dir))
    conn = pg.connect(url)
    conn:exec "INSERT INTO t VALUES (2, 'b')"
    conn:exec "INSERT INTO t VALUES (3, 'c')"
    run()
    lu.assertEquals(ids(), "1 2 3")
    conn:close()
  end)
  l.env.LAB_RDS = before
  os.execute(("%s stop '%s'"):format(server, dir))
  if not ok then error(raised, 0) end
end

os.exit(lu.LuaUnit.run())
