-- needs: pg fdw ossd
-- timeout: 300
--- flow.load { via = "oss_fdw" }: the database reads the objects itself, exactly those of the manifest.

local fdw = require "tests.support.fdw"
local lab = require "tests.support.lab"
local lu = require "luaunit"

local l, rds, dw, lake

local TABLE = "(id bigint, n int, amount numeric(12,3), at timestamptz, note text, ok boolean, d date)"
local HASH = "SELECT count(*)::text || '/' || coalesce(sum(hashtextextended(t::text, 0)::numeric), 0)::text FROM %s t"

local function hash(conn, which) return conn:value(HASH:format(which)) end

TestPull = {}

function TestPull.setUp()
  l = lab.new "pull"
  rds = l:database("rds", os.getenv "TM_PG")
  dw = l:database("dw", os.getenv "TM_FDW")
  lake = l:lake("lake", "lab-pull")
  for entry in lake:list {} do lake:delete(entry.key) end
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

os.exit(lu.LuaUnit.run())
