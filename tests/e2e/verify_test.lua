-- needs: pg pg2 ossd
--- verify: source, objects and table are compared, and what differs is named.

local json = require "json"
local lab = require "tests.support.lab"
local lu = require "luaunit"

local l, rds, adbpg, lake

local COLUMNS = "id bigint, n int, amount numeric(12,3), at timestamptz, note text, ok boolean, code char(5), f float8, "
  .. "r real, tags text[], i interval, doc jsonb, b bytea"

TestVerify = {}

function TestVerify.setUp()
  l = lab.new "verify"
  rds = l:database("rds", os.getenv "TM_PG")
  adbpg = l:database("adbpg", os.getenv "TM_PG2")
  lake = lab.empty(l:lake("lake", "lab-verify"))
  l:project()
  rds:exec("CREATE TABLE src (" .. COLUMNS .. ")")
  rds:exec [[
    INSERT INTO src SELECT i, nullif(i % 7, 3), i / 3.0, '2026-01-01'::timestamptz + i * interval '1 minute',
      CASE i % 9 WHEN 0 THEN NULL WHEN 1 THEN '' WHEN 2 THEN 'a,b|c' WHEN 3 THEN 'say "hi"'
        WHEN 4 THEN E'two\nlines' WHEN 5 THEN E'back\\slash\ttab' WHEN 6 THEN 'žluťoučký 漢字 😀'
        WHEN 7 THEN '\.' ELSE '(x)' END,
      i % 3 = 0, 'c' || i % 10, CASE i % 11 WHEN 0 THEN 'NaN' WHEN 1 THEN '-Infinity' ELSE i / 7.0 END,
      (i / 7.0)::real, ARRAY['a', NULL, i::text], i * interval '1 hour', jsonb_build_object('a', i), decode(md5(i::text), 'hex')
    FROM generate_series(1, 3000) i ]]
end

function TestVerify.tearDown() l:close() end

local function pair(extract, load)
  l:flow("t.lua", ([[
    flow.extract "out" { from = "rds", to = "lake:data/", %s },
    flow.load "in" { after = "out", from = "lake:data/", on = "adbpg", into = "dst", %s },
  ]]):format(extract, load))
  return l:run("run", "t.lua", "--at", "2026-03-02 04:05:06")
end

local function assert_fails(r, message)
  lu.assertEquals(r.code, 1, r.all)
  lu.assertStrContains(r.all, message)
  lu.assertEquals(adbpg:value "SELECT count(*) FROM dst", 0)
end

function TestVerify.test_source_objects_and_table_are_equal_in_every_format()
  adbpg:exec("CREATE TABLE dst (extra int DEFAULT 7, " .. COLUMNS .. ")")
  for _, format in ipairs { "format = 'csv', header = true, compress = 'gzip'", "format = 'text', compress = 'zstd'",
    "format = 'csv', delimiter = '|', null = 'NULL'" } do
    local r = pair(("table = 'src', verify = 'hash', object_size = '60kB', jobs = 2, %s"):format(format), "verify = 'hash'")
    lu.assertEquals(r.code, 0, r.all)
    lu.assertEquals(adbpg:value "SELECT count(*) FROM dst", 3000)
    adbpg:exec "DELETE FROM dst WHERE extra = 7"
  end
end

function TestVerify.test_rows_that_were_there_before_do_not_count()
  adbpg:exec("CREATE TABLE dst (" .. COLUMNS .. ")")
  adbpg:exec "INSERT INTO dst (id) VALUES (-1)"
  local r = pair("table = 'src', verify = 'hash'", "verify = 'hash'")
  lu.assertEquals(r.code, 0, r.all)
end

function TestVerify.test_a_trigger_that_changes_a_value_is_found_and_the_column_named()
  adbpg:exec("CREATE TABLE dst (" .. COLUMNS .. ")")
  adbpg:exec [[CREATE FUNCTION change() RETURNS trigger LANGUAGE plpgsql AS
    'BEGIN IF NEW.id = 2999 THEN NEW.note = NEW.note || ''!''; END IF; RETURN NEW; END']]
  adbpg:exec "CREATE TRIGGER t BEFORE INSERT ON dst FOR EACH ROW EXECUTE FUNCTION change()"
  assert_fails(pair("table = 'src', verify = 'hash'", "verify = 'hash'"),
    "dst holds other values than the objects in column 'note'")
  local r = pair("table = 'src'", "verify = 'count'")
  lu.assertEquals(r.code, 0, r.all)
end

function TestVerify.test_a_trigger_that_drops_rows_afterwards_is_found_by_counting()
  adbpg:exec("CREATE TABLE dst (" .. COLUMNS .. ")")
  adbpg:exec [[CREATE FUNCTION change() RETURNS trigger LANGUAGE plpgsql AS
    'BEGIN DELETE FROM dst WHERE id = 5; RETURN NULL; END']]
  adbpg:exec "CREATE TRIGGER t AFTER INSERT ON dst FOR EACH STATEMENT EXECUTE FUNCTION change()"
  assert_fails(pair("table = 'src'", "verify = 'count'"), "dst holds 2999 rows of this load, 3000 were loaded")
end

function TestVerify.test_other_types_that_lose_nothing_are_equal()
  adbpg:exec [[CREATE TABLE dst (id numeric, n text, amount numeric, at timestamptz(6), note varchar(100), ok text,
    code text, f numeric, r float8, tags text, i text, doc json, b text)]]
  local r = pair("query = 'SELECT * FROM src WHERE f > 0 AND f < 400', verify = 'hash'", "verify = 'hash'")
  lu.assertEquals(r.code, 0, r.all)
end

function TestVerify.test_types_that_lose_something_are_named()
  adbpg:exec("CREATE TABLE dst (" .. COLUMNS:gsub("12,3", "12,2") .. ")")
  local r = pair("table = 'src', verify = 'hash'", "verify = 'hash'")
  assert_fails(r, "in column 'amount'")
  lu.assertStrContains(r.all, "'amount' is numeric(12,3) at the source and numeric(12,2) in the table")
end

function TestVerify.test_objects_that_were_altered_with_their_manifest_are_found()
  adbpg:exec "CREATE TABLE dst (a int, b int)"
  l:flow("x.lua", [[flow.extract "out" { from = "rds", to = "lake:data/", query = "SELECT 12 AS a, 34 AS b", verify = "hash" }]])
  lu.assertEquals(l:run("run", "x.lua").code, 0)
  local manifest = require "tidemill.manifest"
  local id = manifest.newest(lake, "data/")
  local place = ("data/_manifest/%s.json"):format(id)
  local text = lake:get(place)
  local m = json.decode(text)
  local put = lake:put("data/" .. m.objects[1].key, "12,35\n")
  local info = lake:head("data/" .. m.objects[1].key)
  lake:delete(place)
  lake:put(place, (text:gsub('"crc64":"%d+"', '"crc64":"' .. require("tidemill.sign").crc64("12,35\n") .. '"')
    :gsub('"etag":"[^"]*"', '"etag":' .. json.encode(info.etag))))
  l:flow("y.lua", [[flow.load "in" { from = "lake:data/", on = "adbpg", into = "dst", verify = "hash" }]])
  assert_fails(l:run("run", "y.lua"), "the objects hold other rows than the source had")
  lu.assertNotNil(put)
end

function TestVerify.test_a_query_that_is_never_the_same_cannot_be_verified()
  l:flow("x.lua", [[flow.extract "out" { from = "rds", to = "lake:data/", verify = "hash",
    query = "SELECT 1 AS a, random() AS b, 2 AS c" }]])
  local r = l:run("run", "x.lua")
  lu.assertEquals(r.code, 1)
  lu.assertStrContains(r.all, "differs from it in column 'b'")
  lu.assertNil(require "tidemill.manifest".newest(lake, "data/"))
end

function TestVerify.test_check_says_that_the_extract_makes_no_hash()
  local r = pair("table = 'src'", "verify = 'hash'")
  lu.assertEquals(r.code, 2)
  lu.assertStrContains(r.all, "node 'in' compares hashes of rows, and 'out' makes none")
end

function TestVerify.test_every_mode_and_several_jobs_and_other_encodings()
  for _, load in ipairs { "jobs = 2", "mode = 'replace'", "mode = 'replace', jobs = 2", "mode = 'replace_where', where = 'id > 0'",
    "mode = 'merge', keys = { 'id' }", "mode = 'merge', keys = { 'id' }, delete_when = 'ok', jobs = 2" } do
    adbpg:exec("DROP TABLE IF EXISTS dst; CREATE TABLE dst (" .. COLUMNS .. ")")
    adbpg:exec "INSERT INTO dst (id, ok) VALUES (-1, true), (3, true), (4, false)"
    if load:find "append" or load == "jobs = 2" then adbpg:exec "DELETE FROM dst WHERE id > 0" end
    local r = pair("table = 'src', verify = 'hash', object_size = '60kB', encoding = 'GB18030'", "verify = 'hash', " .. load)
    lu.assertEquals(r.code, 0, load .. "\n" .. r.all)
    lu.assertEquals(adbpg:value "SELECT count(*) FROM dst WHERE id > 0", load:find "delete_when" and 2000 or 3000)
  end
end

function TestVerify.test_a_value_that_is_none_of_the_sources_type_is_found()
  adbpg:exec "CREATE TABLE dst (a text)"
  adbpg:exec [[CREATE FUNCTION change() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN NEW.a = ''x''; RETURN NEW; END']]
  adbpg:exec "CREATE TRIGGER t BEFORE INSERT ON dst FOR EACH ROW EXECUTE FUNCTION change()"
  assert_fails(pair("query = 'SELECT 1.5 AS a', verify = 'hash'", "verify = 'hash'"),
    "dst holds a value that the source's type does not take")
end

function TestVerify.test_rows_of_a_view_cannot_be_told()
  adbpg:exec "CREATE TABLE dst (a int); CREATE VIEW v AS SELECT * FROM dst"
  l:flow("t.lua", [[
    flow.extract "out" { from = "rds", to = "lake:data/", query = "SELECT 1 AS a" },
    flow.load "in" { after = "out", from = "lake:data/", on = "adbpg", into = "v", verify = "count" },
  ]])
  assert_fails(l:run("run", "t.lua"), "verify cannot tell which rows of 'v' are this load's")
end

function TestVerify.test_the_report_has_the_proof()
  adbpg:exec("CREATE TABLE dst (" .. COLUMNS .. ")")
  local r = pair("table = 'src', verify = 'hash'", "verify = 'hash'")
  lu.assertEquals(r.code, 0, r.all)
  local shown = l:run("show", r.all:match "run (%S+) of flow")
  local hash = shown.all:match "out, verify: source and objects have the same 3000 rows, hash (%x+)"
  lu.assertStrContains(shown.all, "in, verify: source, objects and table have the same 3000 rows, hash " .. tostring(hash))
end

function TestVerify.test_a_load_by_hash_wants_an_extract_with_one()
  adbpg:exec "CREATE TABLE dst (a int)"
  l:flow("x.lua", [[flow.extract "out" { from = "rds", to = "lake:data/", query = "SELECT 1 AS a" }]])
  lu.assertEquals(l:run("run", "x.lua").code, 0)
  l:flow("y.lua", [[flow.load "in" { from = "lake:data/", on = "adbpg", into = "dst", verify = "hash" }]])
  assert_fails(l:run("run", "y.lua"), "has no hash of its rows")
end

os.exit(lu.LuaUnit.run())
