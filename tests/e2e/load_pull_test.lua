-- needs: pg fdw ossd
--- flow.load { via = "oss_fdw" }: the database reads the objects itself, exactly those of the manifest.

local fdw = require "tests.support.fdw"
local json = require "json"
local lab = require "tests.support.lab"
local lu = require "luaunit"
local manifest = require "tidemill.manifest"
local proc = require "proc"

local l, rds, dw, lake

local TABLE = "(id bigint, n int, amount numeric(12,3), at timestamptz, note text, ok boolean, d date)"
local HASH = "SELECT count(*)::text || '/' || coalesce(sum(hashtextextended(t::text, 0)::numeric), 0)::text FROM %s t"

local function hash(conn, which) return conn:value(HASH:format(which)) end

TestPull = {}

function TestPull.setUp()
  l = lab.new "pull"
  rds = l:database("rds", os.getenv "TM_PG")
  dw = l:database("dw", os.getenv "TM_FDW")
  lake = lab.empty(l:lake("lake", "lab-pull"))
  l:project()
  rds:exec("CREATE TABLE src " .. TABLE)
  rds:exec [[INSERT INTO src SELECT i, i % 7, i / 3.0, '2026-01-01'::timestamptz + i * interval '1 minute',
    CASE i % 8 WHEN 0 THEN NULL WHEN 1 THEN '' WHEN 2 THEN 'a,b|c' WHEN 3 THEN 'say "hi"' WHEN 4 THEN E'two\nlines'
      WHEN 5 THEN E'back\\slash\ttab' WHEN 6 THEN '漢字 😀' ELSE '\N' END,
    i % 3 = 0, '2026-01-01'::date + i FROM generate_series(1, 5000) i]]
  dw:exec("CREATE EXTENSION oss_fdw")
  dw:exec("CREATE TABLE dst " .. TABLE)
end

function TestPull.tearDown() l:close() end

local EXTRACT = [[flow.extract "out" { from = "rds", table = "src", to = "lake:x/data/", object_size = "100kB", %s },]]
local LOAD = [[flow.load "in" { after = "out", from = "lake:x/data/", on = "dw", into = "dst", via = "oss_fdw", %s },]]

local function run(extract, load)
  l:flow("t.lua", EXTRACT:format(extract or "") .. "\n" .. LOAD:format(load or ""))
  return l:run("run", "t.lua")
end

local function assert_same(r)
  lu.assertEquals(r.code, 0, r.all)
  lu.assertEquals(hash(dw, "dst"), hash(rds, "src"))
end

-- Nothing of ours is left in the database.
local function assert_clean()
  for _, catalogue in ipairs { "pg_foreign_server", "pg_user_mapping", "pg_foreign_table" } do
    lu.assertEquals(dw:value("SELECT count(*) FROM " .. catalogue), 0)
  end
end

function TestPull.test_every_format_and_compression_keeps_every_row()
  for _, format in ipairs { "format = 'csv'", "format = 'text'",
    "format = 'csv', delimiter = '|', quote = \"'\", null = 'NULL', header = true" } do
    for _, compress in ipairs { "none", "gzip", "zstd" } do
      dw:exec "TRUNCATE dst"
      assert_same(run(("%s, compress = '%s'"):format(format, compress)))
    end
  end
  assert_clean()
end


function TestPull.test_replace_and_replace_where_take_the_place_of_rows()
  dw:exec "INSERT INTO dst (id, d) SELECT i, '2020-01-01' FROM generate_series(1, 50) i"
  assert_same(run("", "mode = 'replace'"))
  dw:exec "UPDATE dst SET note = 'old'; INSERT INTO dst (id, d) VALUES (-1, '2020-01-01')"
  assert_same(run("", "mode = 'replace_where', where = \"d > '2021-01-01' OR d < '2021-01-01' OR d IS NULL OR d = '2021-01-01'\""))
  assert_clean()
end

function TestPull.test_merge_updates_what_is_there_and_adds_the_rest()
  dw:exec "CREATE UNIQUE INDEX ON dst (id); INSERT INTO dst (id, note) VALUES (1, 'old'), (-7, 'stays')"
  local r = run("", "mode = 'merge', keys = { 'id' }")
  lu.assertEquals(r.code, 0, r.all)
  lu.assertStrContains(r.all, "4999 inserted, 1 updated")
  lu.assertEquals(dw:value "SELECT note FROM dst WHERE id = -7", "stays")
  dw:exec "DELETE FROM dst WHERE id = -7"
  lu.assertEquals(hash(dw, "dst"), hash(rds, "src"))
  assert_clean()
end

function TestPull.test_identity_columns_take_the_objects_values()
  dw:exec "ALTER TABLE dst ALTER id SET NOT NULL, ALTER id ADD GENERATED ALWAYS AS IDENTITY"
  assert_same(run())
end

function TestPull.test_a_column_that_the_table_lacks_may_be_passed_over()
  dw:exec "ALTER TABLE dst DROP note"
  local r = run("", "on_drift = 'ignore'")
  lu.assertEquals(r.code, 0, r.all)
  lu.assertEquals(hash(dw, "dst"), hash(rds, "(SELECT id, n, amount, at, ok, d FROM src)"))
end

function TestPull.test_the_verification_of_a_load_goes_with_it()
  local r = run("verify = 'hash'", "verify = 'hash', create = true")
  assert_same(r)
end

-- An extract by itself, then its newest manifest: its key, and it.
local function extract_only(options)
  l:flow("e.lua", EXTRACT:format(options or ""))
  lu.assertEquals(l:run("run", "e.lua").code, 0)
  l:flow("l.lua", (LOAD:format "":gsub('after = "out",', "")))
  local id = manifest.newest(lake, "x/data/")
  local key = ("x/data/_manifest/%s.json"):format(id)
  return key, json.decode(lake:get(key))
end

local function load_only(...) return l:run("run", "l.lua", ...) end

local function assert_fails(r, ...)
  lu.assertEquals(r.code, 1, r.all)
  for _, text in ipairs { ... } do lu.assertStrContains(r.all, text) end
  lu.assertEquals(dw:value "SELECT count(*) FROM dst", 0)
  assert_clean()
end

function TestPull.test_objects_that_no_manifest_lists_are_not_read()
  local _, m = extract_only()
  local stray = m.objects[1].key:gsub("%d+%.csv$", "999999.csv")
  lake:put("x/data/" .. stray, "1,2,3,2026-01-01,stray,t,2026-01-01\n")
  assert_same(load_only())
  assert_clean()
end

function TestPull.test_a_foreign_table_of_one_prefix_is_all_objects()
  dw:exec "ALTER DATABASE lab_pull_dw SET log_statement = 'all'"
  local from = #fdw.log(os.getenv "TM_FDW_PID")
  local _, m = extract_only "header = true"
  assert_same(load_only())
  local log = fdw.log(os.getenv "TM_FDW_PID", from)
  lu.assertEquals(select(2, log:gsub("LOG:  [^\n]*INSERT INTO dst ", "")), 1)
  lu.assertTrue(#m.objects > 1)
  lu.assertStrContains(log, ("prefix 'x/data/%s'"):format(m.objects[1].key:match "^(.*%-)%d+%-%d+%."))
end

function TestPull.test_another_number_of_rows_than_the_manifests_loads_nothing()
  local key, m = extract_only()
  local text = lake:get(key)
  m.objects[1].rows, m.rows = m.objects[1].rows + 1, m.rows + 1
  lake:put(key, text:gsub(('"rows":%d'):format(m.rows - 1), ('"rows":%d'):format(m.rows), 1)
    :gsub(('"rows":%d'):format(m.objects[1].rows - 1), ('"rows":%d'):format(m.objects[1].rows), 1))
  assert_fails(load_only(), "gave 5000 rows, the manifest says 5001")
end

function TestPull.test_an_object_that_is_missing_or_another_loads_nothing()
  local _, m = extract_only()
  local object = "x/data/" .. m.objects[2].key
  local bytes = lake:get(object)
  lake:put(object, (bytes:gsub("%d", "7", 1)))
  assert_fails(load_only(), "was replaced")
  lake:delete(object)
  assert_fails(load_only(), "is missing")
end

function TestPull.test_a_bad_row_is_named()
  dw:exec "ALTER TABLE dst ALTER note TYPE varchar(3)"
  local r = run()
  assert_fails(r, "22001", "the objects 'x/data/out-", "1-000001.csv")
end

-- ---- keys ----

function TestPull.test_keys_are_in_no_log_whatever_is_logged()
  dw:exec [[ALTER DATABASE lab_pull_dw SET log_statement = 'all';
    ALTER DATABASE lab_pull_dw SET log_min_duration_statement = 0;
    ALTER DATABASE lab_pull_dw SET log_min_messages = 'debug1';
    CREATE TABLE seen (query text);
    CREATE FUNCTION spy() RETURNS event_trigger LANGUAGE plpgsql AS $$ BEGIN
      PERFORM pg_stat_clear_snapshot();
      INSERT INTO seen SELECT query FROM pg_stat_activity WHERE pid = pg_backend_pid(); END $$;
    CREATE EVENT TRIGGER spy ON ddl_command_end EXECUTE FUNCTION spy()]]
  local from = #fdw.log(os.getenv "TM_FDW_PID")
  assert_same(run())
  lu.assertEquals(dw:value "SELECT count(*) FROM seen WHERE query LIKE '%CREATE USER MAPPING FOR CURRENT_USER%'", 1)
  -- and when the statement that has them fails
  dw:exec [[CREATE FUNCTION refuse() RETURNS event_trigger LANGUAGE plpgsql AS $$ BEGIN RAISE 'not here'; END $$;
    CREATE EVENT TRIGGER refuse ON ddl_command_start WHEN TAG IN ('CREATE USER MAPPING') EXECUTE FUNCTION refuse()]]
  dw:exec "TRUNCATE dst"
  local r = run()
  assert_fails(r, "cannot make the user mapping: not here")
  local seen = fdw.log(os.getenv "TM_FDW_PID", from) .. r.all
    .. dw:value "SELECT coalesce(string_agg(query, ''), '') FROM seen"
  lu.assertStrContains(seen, "CREATE USER MAPPING")
  for line in seen:gmatch "[^\n]+" do lu.assertNotStrContains(line, os.getenv "TM_OSSD_SECRET") end
  lu.assertNotStrContains(l:run("logs", "last").all, os.getenv "TM_OSSD_SECRET")
end

function TestPull.test_a_server_that_is_there_has_keys_of_its_own()
  dw:exec(("CREATE SERVER there FOREIGN DATA WRAPPER oss_fdw OPTIONS (endpoint '%s', bucket 'another', region 'cn-test')")
    :format(os.getenv "TM_OSSD"))
  dw:exec(("CREATE USER MAPPING FOR PUBLIC SERVER there OPTIONS (id '%s', key '%s')"):format(os.getenv "TM_OSSD_ID",
    os.getenv "TM_OSSD_SECRET"))
  l:flow("t.lua", EXTRACT:format "" .. (LOAD:format "":gsub('"oss_fdw"', '{ "oss_fdw", server = "there" }')))
  assert_same(l:run("run", "t.lua"))
  lu.assertEquals(dw:value "SELECT count(*) FROM pg_foreign_server", 1)
  lu.assertEquals(dw:value "SELECT count(*) FROM pg_foreign_table", 0)
  l:flow("t.lua", EXTRACT:format "" .. (LOAD:format "":gsub('"oss_fdw"', '{ "oss_fdw", server = "nowhere" }')))
  lu.assertStrContains(l:run("run", "t.lua").all, "there is no foreign server 'nowhere'")
end

-- ---- what cannot be ----

function TestPull.test_a_database_without_the_extension_is_told_what_to_do()
  dw:exec "DROP EXTENSION oss_fdw"
  assert_fails(run(), "'dw' does not have the extension oss_fdw", "hint: CREATE EXTENSION oss_fdw")
end

function TestPull.test_a_role_that_may_make_no_server_is_told_what_to_grant()
  dw:exec [[DROP ROLE IF EXISTS lab_pull_loader; CREATE ROLE lab_pull_loader LOGIN PASSWORD 'lab';
    GRANT CREATE ON DATABASE lab_pull_dw TO lab_pull_loader; GRANT ALL ON dst TO lab_pull_loader]]
  l.env.LAB_DW = l.env.LAB_DW:gsub("//[^@]*@", "//lab_pull_loader:lab@")
  assert_fails(run(), "42501", "hint: GRANT USAGE ON FOREIGN DATA WRAPPER oss_fdw")
  dw:exec "GRANT USAGE ON FOREIGN DATA WRAPPER oss_fdw TO lab_pull_loader"
  assert_same(run())
  assert_clean()
  dw:exec "DROP OWNED BY lab_pull_loader CASCADE; DROP ROLE lab_pull_loader"
end

function TestPull.test_a_directory_is_nothing_that_a_database_can_read()
  l.connections.lake = '{ file = "pond" }'
  l:project()
  assert(os.execute("mkdir " .. l.dir .. "/pond"))
  assert_fails(run(), "is a directory, which nobody else can reach")
end

-- ---- killed ----

-- A program that kills itself at a point, then one that does not.
function TestPull.test_a_load_killed_in_the_middle_is_restored_once()
  l:flow("t.lua", EXTRACT:format "" .. "\n" .. LOAD:format "create = true")
  for _, point in ipairs { "load.create.before", "load.create.after", "load.pull.before", "load.pull.after" } do
    dw:exec "DROP TABLE IF EXISTS dst"
    local env = { TIDEMILL_CRASH = point }
    for name, value in pairs(l.env) do env[name] = value end
    local r = proc.run { cmd = { os.getenv "TM_BUILD" .. "/crash/tidemill", "run", "t.lua" }, cwd = l.dir, env = env,
      timeout = 60 }
    lu.assertEquals(r.code, 1, point .. r.stdout .. r.stderr)
    assert_clean()
    assert_same(l:run("restore", "last"))
    assert_clean()
  end
end

os.exit(lu.LuaUnit.run())
