-- needs: pg pg2 ossd
--- flow.load { create = ... }: the table is made from what the manifest says, and nothing else is.

local json = require "json"
local lab = require "tests.support.lab"
local lu = require "luaunit"
local manifest = require "tidemill.manifest"
local pg = require "pg"

local l, rds, dw, lake

TestCreate = {}

function TestCreate.setUp()
  l = lab.new "create"
  rds = l:database("rds", os.getenv "TM_PG")
  dw = l:database("dw", os.getenv "TM_PG2")
  lake = lab.empty(l:lake("lake", "lab-create"))
  l:project()
  rds:exec [[
    CREATE TYPE mood AS ENUM ('sad', 'happy');
    CREATE DOMAIN price AS numeric(10,2) CHECK (value > 0);
    CREATE TABLE src (id bigint GENERATED ALWAYS AS IDENTITY, code varchar(12), amount numeric(12,3), rate real,
      at timestamp(3) with time zone, day date, flags bit(5), tags text[], doc jsonb, feel mood, cost price,
      span int4range, "Odd ""name""" "char", dots point, raw bytea, big numeric, ago interval day to second(3));
    INSERT INTO src (code, amount, rate, at, day, flags, tags, doc, feel, cost, span, "Odd ""name""", dots, raw, big, ago)
      SELECT 'c' || i, i / 7.0, i / 3.0, now() + i * interval '1.2345s', current_date + i, (i % 32)::bit(5),
        ARRAY['a', NULL, 'b"' || i], jsonb_build_object('i', i), 'happy', i, int4range(i, i + 3), 'x', point(i, 1),
        decode(md5(i::text), 'hex'), 10::numeric ^ 40 + i, i * interval '1.5s' FROM generate_series(1, 100) i]]
end

function TestCreate.tearDown() l:close() end

local EXTRACT = [[flow.extract "out" { from = "rds", table = "src", to = "lake:d/" },]]
local LOAD = [[flow.load "in" { after = "out", from = "lake:d/", on = "dw", into = "%s", %s },]]

local function run(into, load)
  l:flow("t.lua", EXTRACT .. "\n" .. LOAD:format(into, load or "create = true"))
  return l:run("run", "t.lua")
end

local function columns(into)
  local list = {}
  for i, row in ipairs(dw:query([[SELECT attname || ' ' || format_type(atttypid, atttypmod) AS c FROM pg_attribute
    WHERE attrelid = $1::regclass AND attnum > 0 ORDER BY attnum]], into)) do
    list[i] = row.c
  end
  return list
end

local function text(conn, from)
  return conn:value(("SELECT string_agg(t::text, '|' ORDER BY id) FROM (SELECT * FROM %s) t"):format(from))
end

function TestCreate.test_every_column_has_the_sources_type_and_every_row_is_the_same()
  local r = run "dst"
  lu.assertEquals(r.code, 0, r.all)
  lu.assertEquals(columns "dst", { "id bigint", "code character varying(12)", "amount numeric(12,3)", "rate real",
    "at timestamp(3) with time zone", "day date", "flags bit(5)", "tags text[]", "doc jsonb", "feel text",
    "cost numeric(10,2)", "span int4range", 'Odd "name" "char"', "dots point", "raw bytea", "big numeric",
    "ago interval day to second(3)" })
  lu.assertEquals(text(dw, "dst"), text(rds, "src"))
  lu.assertStrContains(r.all, "column 'feel' is mood at the source, which 'dw' does not have: it becomes text")
  lu.assertStrContains(r.all, "made table dst with 17 columns")
end

function TestCreate.test_types_that_are_there_are_kept_and_a_row_type_of_the_same_name_is_none()
  dw:exec "CREATE TYPE mood AS ENUM ('happy')"
  lu.assertEquals(run "dst".code, 0)
  lu.assertStrContains(table.concat(columns "dst", ","), "feel mood,cost numeric(10,2)")
  dw:exec "DROP TABLE dst; DROP TYPE mood; CREATE TABLE mood (a int)"
  lu.assertEquals(run "dst".code, 0)
  lu.assertStrContains(table.concat(columns "dst", ","), "feel text")
end

function TestCreate.test_a_schema_is_made_too_and_names_are_as_the_flow_writes_them()
  lu.assertEquals(run "Mart.Orders".code, 0)
  lu.assertEquals(dw:value "SELECT count(*) FROM mart.orders", 100)
  lu.assertEquals(run '\\"Big Mart\\".\\"Orders\\"'.code, 0)
  lu.assertEquals(dw:value 'SELECT count(*) FROM "Big Mart"."Orders"', 100)
end

function TestCreate.test_the_keys_of_a_merge_are_the_primary_key_of_the_table_unless_it_shall_have_none()
  local merge, told = "mode = 'merge', keys = { 'id', 'code' }, create = %s", "no unique index"
  local function key_of(into)
    return dw:value("SELECT string_agg(pg_get_constraintdef(oid), ',') FROM pg_constraint WHERE conrelid = $1::regclass",
      into)
  end
  for _ = 1, 2 do
    local r = run("dst", merge:format "true")
    lu.assertEquals(r.code, 0, r.all)
    lu.assertNotStrContains(r.all, told)
  end
  lu.assertEquals(key_of "dst", "PRIMARY KEY (id, code)")
  lu.assertStrContains(run("bare", merge:format "{ primary_key = false }").all, told)
  lu.assertEquals(key_of "bare", pg.null)
end

function TestCreate.test_a_key_that_the_table_would_not_have_makes_no_table()
  local r = run("dst", "mode = 'merge', keys = 'ID', create = true")
  lu.assertStrContains(r.all, "'keys' names column 'ID', which the table would not have")
  lu.assertEquals(dw:value "SELECT to_regclass('dst') IS NULL", true)
end

function TestCreate.test_a_table_that_is_there_is_left_as_it_is()
  dw:exec "CREATE TABLE dst (id text, code text, extra int DEFAULT 7)"
  l:flow("t.lua", [[flow.extract "out" { from = "rds", query = "SELECT id, code FROM src", to = "lake:d/" },]]
    .. LOAD:format("dst", "create = { columns = { id = 'bigint' } }"))
  lu.assertEquals(l:run("run", "t.lua").code, 0)
  lu.assertEquals(columns "dst", { "id text", "code text", "extra integer" })
  lu.assertEquals(dw:value "SELECT count(*) FROM dst WHERE extra = 7", 100)
end

function TestCreate.test_the_flow_names_columns_types_and_a_key()
  local r = run("dst", [[columns = { id = "key", feel = "how" }, create = { primary_key = "key", unlogged = true,
    columns = { how = "varchar(9) NOT NULL", cost = "numeric(10,2)" }, with = { fillfactor = 70 } } ]])
  lu.assertEquals(r.code, 0, r.all)
  local found = table.concat(columns "dst", ",")
  lu.assertStrContains(found, "key bigint,")
  lu.assertStrContains(found, "how character varying(9),cost numeric(10,2)")
  lu.assertNotStrContains(r.all, "does not have")
  lu.assertEquals(dw:one [[SELECT relpersistence::text AS p, reloptions::text AS o,
    (SELECT count(*) FROM pg_index WHERE indrelid = c.oid AND indisprimary) AS k FROM pg_class c WHERE relname = 'dst']],
    { p = "u", o = "{fillfactor=70}", k = 1 })
end

function TestCreate.test_what_only_greenplum_has_is_left_out_and_told()
  local r = run("dst", [[create = { distributed_by = { "id" }, partition_by = "RANGE (day) (START ('2026-01-01') EVERY (1))",
    with = { appendonly = true, orientation = "column" } } ]])
  lu.assertEquals(r.code, 0, r.all)
  lu.assertStrContains(r.all,
    "'dw' is no Greenplum: appendonly, orientation, distributed_by, partition_by have no meaning there and are left out")
end

function TestCreate.test_mode_create_fills_a_table_that_is_new_or_empty_and_no_other()
  lu.assertEquals(run("dst", "mode = 'create'").code, 0)
  lu.assertEquals(dw:value "SELECT count(*) FROM dst", 100)
  local r = run("dst", "mode = 'create'")
  lu.assertEquals(r.code, 1)
  lu.assertStrContains(r.all, "table dst is there and has rows")
  dw:exec "TRUNCATE dst"
  r = run("dst", "mode = 'create', jobs = 2")
  lu.assertEquals(r.code, 0, r.all)
  lu.assertEquals(dw:value "SELECT count(*) FROM dst", 100)
end

function TestCreate.test_columns_that_there_are_not_are_refused_and_nothing_is_made()
  for field, wrong in pairs { columns = "{ cst = 'int' }", primary_key = "'idd'", distributed_by = "{ 'idd' }" } do
    local r = run("dst", ("create = { %s = %s }"):format(field, wrong))
    lu.assertEquals(r.code, 1, r.all)
    lu.assertStrContains(r.all, ("'create': '%s' names column"):format(field))
    lu.assertStrContains(r.all, field == "columns" and "did you mean 'cost'?" or "did you mean 'id'?")
  end
  lu.assertIsTrue(dw:value "SELECT to_regclass('dst') IS NULL")
end

-- A manifest is what a store gave.
function TestCreate.test_a_type_that_is_more_than_a_type_is_not_believed()
  lu.assertEquals(run "dst".code, 0)
  dw:exec "DROP TABLE dst; CREATE FUNCTION boom() RETURNS int LANGUAGE plpgsql AS 'BEGIN RAISE ''boom''; END'"
  local key = ("d/_manifest/%s.json"):format(manifest.newest(lake, "d/"))
  local whole = lake:get(key)
  l:flow("l.lua", (LOAD:format("dst", "create = true"):gsub('after = "out",', "")))
  for _, type in ipairs { "bigint DEFAULT boom", "bigint UNIQUE", "bigint COLLATE x", "SETOF bigint", "src", "void" } do
    dw:exec "DROP TABLE IF EXISTS dst"
    lake:put(key, (whole:gsub('"type":"bigint"', ('"type":%s'):format(json.encode(type)), 1)))
    local r = l:run("run", "l.lua")
    lu.assertEquals(r.code, 0, r.all)
    lu.assertEquals(columns "dst"[1], "id text", type)
  end
  for _, type in ipairs { "bigint); DROP TABLE x; --", "bigint, extra int", "bigint/**/", "numeric(select 1)" } do
    dw:exec "DROP TABLE IF EXISTS dst"
    lake:put(key, (whole:gsub('"type":"bigint"', ('"type":%s'):format(json.encode(type)), 1)))
    local r = l:run("run", "l.lua")
    lu.assertIsTrue(r.code == 1 or columns "dst"[1] == "id text", type .. r.all)
  end
end

function TestCreate.test_a_role_that_may_not_create_is_told_what_to_grant()
  dw:exec [[DROP ROLE IF EXISTS lab_create_loader; CREATE ROLE lab_create_loader LOGIN PASSWORD 'lab';
    CREATE SCHEMA tidemill AUTHORIZATION lab_create_loader]]
  l.env.LAB_DW = l.env.LAB_DW:gsub("//[^@]*@", "//lab_create_loader:lab@")
  local r = run "mart.dst"
  lu.assertEquals(r.code, 1)
  lu.assertStrContains(r.all, "cannot make table mart.dst: permission denied")
  lu.assertStrContains(r.all, "hint: grant CREATE on the schema")
  dw:exec "DROP OWNED BY lab_create_loader CASCADE; DROP ROLE lab_create_loader"
end

os.exit(lu.LuaUnit.run())
