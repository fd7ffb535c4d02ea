-- needs: pg pg2 ossd
--- flow.extract and flow.load: rows arrive whole, bad input loads nothing and says where.

local fdw = require "tests.support.fdw"
local json = require "json"
local lab = require "tests.support.lab"
local lu = require "luaunit"

local l, rds, adbpg, lake

local TABLE = [[ (id bigint, n int, amount numeric(12,3), at timestamptz, note text, ok boolean, d date) ]]

-- The key of the newest manifest, and the manifest.
local function newest()
  local store_manifest = require "tidemill.manifest"
  local id = store_manifest.newest(lake, "data/2026-03-01/")
  local key = id and ("data/2026-03-01/_manifest/%s.json"):format(id)
  return key, key and json.decode(lake:get(key))
end

-- Order-independent, and equal only when the multisets of rows are.
local HASH = "SELECT count(*)::text || '/' || " ..
  "coalesce(sum(hashtextextended(t::text, 0)::numeric), 0)::text FROM %s t"

local function hash(conn, table) return conn:value(HASH:format(table)) end

local EXTRACT = [[
  flow.extract "out" { from = "rds", %s, to = "lake:data/${bizdate}/", %s },
]]
local LOAD = [[
  flow.load "in" { after = "out", from = "lake:data/${bizdate}/", on = "adbpg", into = "%s", %s },
]]

TestTransfer = {}

function TestTransfer.setUp()
  l = lab.new "transfer"
  rds = l:database("rds", os.getenv "TM_PG")
  adbpg = l:database("adbpg", os.getenv "TM_PG2")
  lake = lab.empty(l:lake("lake", "lab-transfer"))
  l:project()
  rds:exec("CREATE TABLE src" .. TABLE)
  rds:exec [[
    INSERT INTO src SELECT i, i % 7, i / 3.0, '2026-01-01'::timestamptz + i * interval '1 minute',
      CASE i % 9 WHEN 0 THEN NULL WHEN 1 THEN '' WHEN 2 THEN 'a,b|c' WHEN 3 THEN 'say "hi"'
        WHEN 4 THEN E'two\nlines' WHEN 5 THEN E'back\\slash\ttab' WHEN 6 THEN 'žluťoučký 漢字 😀'
        WHEN 7 THEN '\.' ELSE '\N' END,
      i % 3 = 0, '2026-01-01'::date + i
    FROM generate_series(1, 20000) i ]]
  adbpg:exec("CREATE TABLE dst" .. TABLE)
end

function TestTransfer.tearDown() l:close() end

local function run_pair(extract, into, load)
  l:flow("t.lua", EXTRACT:format("table = 'src'", extract or "") .. LOAD:format(into or "dst", load or ""))
  return l:run("run", "t.lua", "--at", "2026-03-02 04:05:06")
end

local function assert_same(r, into)
  lu.assertEquals(r.code, 0, r.all)
  lu.assertEquals(hash(adbpg, into or "dst"), hash(rds, "src"))
end

function TestTransfer.test_every_format_and_compression_keeps_every_row()
  for _, format in ipairs { "format = 'csv'", "format = 'text'",
    "format = 'csv', delimiter = '|', quote = \"'\", null = 'NULL', header = true",
    "format = 'csv', escape = '\\\\', encoding = 'UTF8'", "format = 'text', delimiter = '|', null = 'NIL'" } do
    for _, compress in ipairs { "none", "gzip", "zstd" } do
      adbpg:exec "TRUNCATE dst"
      assert_same(run_pair(("%s, compress = '%s', object_size = '300kB'"):format(format, compress)))
    end
  end
end

function TestTransfer.test_the_manifest_tells_what_the_objects_are()
  assert_same(run_pair "object_size = '300kB', header = true")
  local key, m = newest()
  lu.assertStrMatches(key, "data/2026%-03%-01/_manifest/20260301T040506Z%-%d+%-%d+%-%x+%-out%-0001%.json")
  lu.assertEquals(m.rows, 20000)
  lu.assertTrue(#m.objects > 2)
  lu.assertEquals(m.columns[3], { name = "amount", type = "numeric(12,3)" })
  for _, object in ipairs(m.objects) do
    local info = lake:head("data/2026-03-01/" .. object.key)
    lu.assertEquals(info.size, object.bytes)
  end
end

function TestTransfer.test_a_wider_table_in_another_order_takes_columns_by_name()
  adbpg:exec [[CREATE TABLE wide (extra text DEFAULT 'x', d date, ok boolean, note text,
    at timestamptz, amount numeric, n int, id bigint)]]
  local r = run_pair("compress = 'gzip'", "wide")
  lu.assertEquals(r.code, 0, r.all)
  adbpg:exec("CREATE TABLE back" .. TABLE)
  adbpg:exec "INSERT INTO back SELECT id, n, amount, at, note, ok, d FROM wide"
  lu.assertEquals(hash(adbpg, "back"), hash(rds, "src"))
  lu.assertEquals(adbpg:value "SELECT count(*) FROM wide WHERE extra = 'x'", 20000)
end

function TestTransfer.test_a_map_changes_and_drops_rows()
  l:flow("t.lua", [[
    flow.extract "out" { from = "rds", query = "SELECT id, n, note FROM src ORDER BY id -- all of it",
      to = "lake:m/", compress = "gzip", map = function(row)
        if row.n == "3" then return nil end
        row.note = "row " .. row.id
        return row
      end },
    flow.load "in" { after = "out", from = "lake:m/", on = "adbpg", into = "mapped" },]])
  adbpg:exec "CREATE TABLE mapped (id bigint, n int, note text)"
  local r = l:run("run", "t.lua")
  lu.assertEquals(r.code, 0, r.all)
  lu.assertEquals(adbpg:value "SELECT count(*) FROM mapped", 20000 - 2857)
  lu.assertEquals(adbpg:value "SELECT count(*) FROM mapped WHERE note <> 'row ' || id", 0)
end

function TestTransfer.test_no_rows_is_a_result_too()
  rds:exec "DELETE FROM src"
  assert_same(run_pair "compress = 'zstd'")
  lu.assertEquals(select(2, newest()).rows, 0)
end

-- ---- bad input: a clear error, the right exit code, nothing half done ----

local function assert_fails(r, code, ...)
  lu.assertEquals(r.code, code, r.all)
  for _, text in ipairs { ... } do lu.assertStrContains(r.all, text) end
  lu.assertEquals(adbpg:value "SELECT count(*) FROM dst", 0)
end

function TestTransfer.test_a_missing_table_is_named()
  l:flow("t.lua", EXTRACT:format("table = 'nowhere'", ""))
  assert_fails(l:run("run", "t.lua"), 1, "nowhere", "42P01")
  lu.assertNil(newest())
  assert_fails(run_pair("", "nowhere"), 1, 'relation "nowhere" does not exist', "hint: create table nowhere first")
end

function TestTransfer.test_two_columns_of_one_name_are_refused_before_anything_is_written()
  l:flow("t.lua", EXTRACT:format("query = 'SELECT id, n, id FROM src'", ""))
  assert_fails(l:run("run", "t.lua"), 1, "columns 1 and 3 of the query are both named 'id'")
  lu.assertNil(lake:list {}())
end

function TestTransfer.test_a_row_that_does_not_fit_names_object_line_and_column()
  adbpg:exec [[CREATE TABLE narrow (id bigint, n int, amount numeric, at timestamptz,
    note varchar(5), ok boolean, d date)]]
  local r = run_pair("object_size = '300kB', header = true", "narrow")
  assert_fails(r, 1, "object 'data/", "000001.csv", "line 4", "column note", "22001")
  lu.assertEquals(adbpg:value "SELECT count(*) FROM narrow", 0)
end

function TestTransfer.test_a_missing_column_suggests_the_nearest()
  adbpg:exec [[CREATE TABLE other (id bigint, n int, amount numeric, at timestamptz,
    notes text, ok boolean, d date)]]
  assert_fails(run_pair("", "other"), 1, "no column 'note'", "notes")
end

function TestTransfer.test_columns_that_the_objects_lack_are_refused()
  assert_fails(run_pair("", "dst", "columns = { 'id', 'n' }"), 1, "lists 2 names, the objects have 7 columns")
  assert_fails(run_pair("", "dst", "columns = { nte = 'note' }"), 1, "maps 'nte'", "did you mean 'note'?")
  lu.assertEquals(adbpg:value "SELECT count(*) FROM dst", 0)
end

function TestTransfer.test_a_store_may_be_a_folder_beside_the_project_file()
  l.connections.lake = '{ file = "pond" }'
  l:project()
  assert_fails(run_pair(), 1, "pond': No such file or directory")
  assert(os.execute("mkdir " .. l.dir .. "/pond"))
  local r = run_pair()
  lu.assertEquals(r.code, 0, r.all)
  lu.assertStrContains(r.err, "20000 rows of 1 object into dst")
  lu.assertEquals(hash(adbpg, "dst"), hash(rds, "src"))
end

-- Two runs of one second are ordered by chance, so there is never another.
local function extract_only(options)
  for entry in lake:list "data/" do lake:delete(entry.key) end
  l:flow("e.lua", EXTRACT:format("table = 'src'", options))
  local r = l:run("run", "e.lua", "--at", "2026-03-02")
  lu.assertEquals(r.code, 0, r.all)
  l:flow("l.lua", (LOAD:format("dst", ""):gsub('after = "out",', "")))
  return select(2, newest())
end

local function load_only() return l:run("run", "l.lua", "--at", "2026-03-02") end

function TestTransfer.test_an_altered_object_loads_nothing()
  for _, compress in ipairs { "none", "gzip" } do
    local m = extract_only(("compress = '%s', object_size = '300kB'"):format(compress))
    local key = "data/2026-03-01/" .. m.objects[#m.objects].key
    local bytes = lake:get(key)
    local at = #bytes // 2
    lake:put(key, bytes:sub(1, at) .. string.char(bytes:byte(at + 1) ~ 1) .. bytes:sub(at + 2))
    assert_fails(load_only(), 1, key)
    lake:put(key, bytes:sub(1, -2)) -- shortened
    assert_fails(load_only(), 1, key, tostring(#bytes))
    lake:delete(key)
    assert_fails(load_only(), 1, key, "missing")
  end
end

function TestTransfer.test_a_bad_manifest_loads_nothing()
  local m = extract_only "object_size = '300kB'"
  local key = newest()
  local good = lake:get(key)
  local lines = {}
  for line in good:gmatch "[^\n]*\n" do lines[#lines + 1] = line end
  for _, bad in ipairs { "", "{", "[]", "[]\n]}\n", good:sub(1, -3), lines[1] .. "]}\n",
    (good:gsub('"rows":%d+', '"rows":-1')), (good:gsub('"rows":%d+', '"rows":7', 1)),
    (good:gsub('"crc64":"%d+"', '"crc64":"x"')), lines[1] .. lines[3] .. lines[2] .. table.concat(lines, "", 4),
    (good:gsub('"object_count":%d+', '"object_count":1')), (good:gsub('"id":"', '%0x')), json.encode(m) .. "\n",
    (good:gsub('"tidemill_manifest":2', '"tidemill_manifest":99')) } do
    lake:put(key, bad)
    assert_fails(load_only(), 1, key)
  end
  lake:delete(key)
  assert_fails(load_only(), 1, "lake:data/2026-03-01/", "run the extract")
  lu.assertEquals(m.rows, 20000)
end

function TestTransfer.test_a_failed_extract_leaves_no_object()
  l:flow("t.lua", EXTRACT:format("query = 'SELECT id, 1 / (19999 - id) FROM src ORDER BY id'",
    "object_size = '300kB'"))
  assert_fails(l:run("run", "t.lua", "--at", "2026-03-02"), 1, "22012")
  for entry in lake:list { prefix = "data/" } do lu.fail("left behind: " .. entry.key) end
  lu.assertEquals(lake:list_multiparts "data/", {})
end

function TestTransfer.test_an_extract_that_loses_its_session_at_the_end_is_repeated()
  rds:exec "CREATE TABLE t AS SELECT i AS id FROM generate_series(1, 100) i"
  local relay <close> = fdw.relay { uri = l.env.LAB_RDS }
  l.env.LAB_RDS = relay.uri
  relay:tell "word COMMIT"
  l:flow("x.lua", EXTRACT:format('table = "t"', "retries = 1, retry_delay = 0.1"))
  local r = l:run("run", "x.lua", "--at", "2026-03-02")
  lu.assertEquals(r.code, 0, r.all)
  lu.assertStrContains(r.all, "a session that held the snapshot was lost")
  lu.assertEquals(select(2, newest()).rows, 100)
end

function TestTransfer.test_an_output_called_manifest_of_another_node_is_no_extracts()
  l:flow("t.lua", EXTRACT:format("table = 'src'", "")
    .. 'flow.lua "note" { run = function() return { manifest = "mine" } end },'
    .. LOAD:format("dst", "pipeline = false"):gsub('after = "out"', 'after = { "out", "note" }'))
  assert_same(l:run("run", "t.lua", "--at", "2026-03-02 04:05:06"))
end

function TestTransfer.test_connections_that_cannot_be_made_exit_with_3()
  local url = l.env.LAB_RDS
  l.env.LAB_RDS = url:gsub(":[^:@/]+@", ":wrong-secret@")
  local r = run_pair()
  assert_fails(r, 3, "password", "rds")
  lu.assertNotStrContains(r.all, "wrong-secret")
  l.env.LAB_RDS = url

  l.env.OSS_ACCESS_KEY_SECRET = "not-the-secret"
  r = run_pair()
  assert_fails(r, 3, "SignatureDoesNotMatch")
  lu.assertNotStrContains(r.all, "not-the-secret")
  l.env.OSS_ACCESS_KEY_SECRET = os.getenv "TM_OSSD_SECRET"

  l.connections.lake = l.connections.lake:gsub("127%.0%.0%.1:%d+", "127.0.0.1:1")
  l:project()
  assert_fails(run_pair(), 3, "127.0.0.1:1")
end

function TestTransfer.test_memory_that_cannot_do_is_refused_before_anything_moves()
  l:flow("t.lua", EXTRACT:format("table = 'src'", "compress = 'gzip'"))
  local r = l:run("run", "t.lua", "--memory", "10M", "--at", "2026-03-02 04:05:06")
  lu.assertEquals(r.code, 1)
  lu.assertStrContains(r.all, "10M of memory are too little for 1 job at once")
  lu.assertStrContains(r.all, "would do")
  lu.assertIsNil(newest())
  lu.assertEquals(l:run("run", "t.lua", "--memory", "32M", "--at", "2026-03-02 04:05:06").code, 0)
  r = l:run("run", "t.lua", "--memory", "plenty")
  lu.assertEquals(r.code, 2)
  lu.assertStrContains(r.all, "--memory wants a size")
end

function TestTransfer.test_a_missing_bucket_is_named()
  l.connections.lake = l.connections.lake:gsub("lab%-transfer", "no-such-bucket")
  l:project()
  local r = run_pair()
  assert_fails(r, 1, "no-such-bucket", "NoSuchBucket")
  lu.assertNotStrContains(r.all, "cannot delete") -- nothing was made, nothing is there to remove
end

os.exit(lu.LuaUnit.run())
