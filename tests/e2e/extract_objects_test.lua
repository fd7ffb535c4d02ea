-- needs: pg ossd radosgw
--- flow.extract { objects = N }: exactly so many objects of even size, whatever the number of jobs.

local json = require "json"
local lab = require "tests.support.lab"
local lu = require "luaunit"
local manifest = require "tidemill.manifest"

local l, rds, lake
local ROWS = 60000

TestObjects = {}

function TestObjects.setUp()
  l = lab.new "objects"
  rds = l:database("rds", os.getenv "TM_PG")
  lake = lab.empty(l:lake("lake", "lab-objects"))
  l:project()
  rds:exec(("CREATE TABLE src AS SELECT i AS id, repeat(md5(i::text), 3) AS note FROM generate_series(1, %d) i"):format(ROWS))
  rds:exec "CREATE TABLE dst (id int, note text)"
end

function TestObjects.tearDown() l:close() end

-- Two runs of one second are ordered by chance, so there is never another.
local function extract(fields, ...)
  lab.empty(lake)
  l:flow("t.lua", ([[
    flow.extract "out" { from = "rds", table = "src", to = "lake:d/", %s },
    flow.load "in" { after = "out", from = "lake:d/", on = "rds", into = "dst", mode = "replace" },]]):format(fields))
  local r = l:run("run", "t.lua", ...)
  lu.assertEquals(r.code, 0, r.all)
  return json.decode(lake:get(("d/_manifest/%s.json"):format(manifest.newest(lake, "d/"))))
end

local function hash(of)
  return rds:value(("SELECT count(*) || '/' || sum(hashtextextended(t::text, 0)::numeric) FROM %s t"):format(of))
end

function TestObjects.test_there_are_exactly_so_many_and_they_are_even()
  -- a slab of rows is dealt as a whole: up to 256 KiB, compressed up to 1 MiB of them
  for options, count in pairs { ["header = true"] = 8, ["jobs = 2"] = 8, ["jobs = 2, compress = 'gzip'"] = 2,
    ["compress = 'zstd'"] = 2 } do
    local m = extract(("objects = %d, %s"):format(count, options))
    lu.assertEquals(#m.objects, count)
    local least, most = math.huge, 0
    for _, object in ipairs(m.objects) do
      least, most = math.min(least, object.rows), math.max(most, object.rows)
    end
    lu.assertTrue(least > ROWS / count * 0.6 and most < ROWS / count * 1.4, ("%s: %d to %d rows"):format(options, least, most))
    lu.assertEquals(hash "dst", hash "src")
  end
end

function TestObjects.test_few_rows_and_none_make_as_many()
  rds:exec "DELETE FROM src WHERE id > 3"
  lu.assertEquals(#extract "objects = 5".objects, 5)
  lu.assertEquals(hash "dst", hash "src")
  rds:exec "DELETE FROM src"
  lu.assertEquals(#extract "objects = 5, jobs = 2".objects, 5)
  lu.assertEquals(rds:value "SELECT count(*) FROM dst", 0)
end

function TestObjects.test_a_map_goes_with_it()
  local m = extract "objects = 4, map = function(row) if tonumber(row.id) % 2 == 0 then return row end end"
  lu.assertEquals(#m.objects, 4)
  lu.assertEquals(rds:value "SELECT count(*) FROM dst", ROWS // 2)
end

-- The division by zero comes late, in one of two sessions.
function TestObjects.test_an_extract_that_fails_leaves_none_of_them()
  rds:exec "ALTER TABLE src ADD PRIMARY KEY (id); ANALYZE src"
  l:flow("t.lua", [[flow.extract "out" { from = "rds", to = "lake:d/", objects = 4, jobs = 2, split_by = "src.id",
    query = "SELECT 1 / (id - 59000) AS x, note FROM src WHERE ${range} ORDER BY id" },]])
  local r = l:run("run", "t.lua")
  lu.assertEquals(r.code, 1)
  lu.assertStrContains(r.all, "22012")
  lu.assertNil(lake:list {}())
end

function TestObjects.test_more_objects_than_the_memory_takes_are_refused_with_what_would_do()
  l:flow("t.lua", [[flow.extract "out" { from = "rds", table = "src", to = "lake:d/", objects = 256 },]])
  local r = l:run("run", "t.lua", "--memory", "64M")
  lu.assertEquals(r.code, 1)
  lu.assertStrContains(r.all, "the memory is too little for 256 objects at once")
  lu.assertStrContains(r.all, "would do, or fewer objects")
end

function TestObjects.test_what_does_not_go_together_is_refused_by_check()
  for fields, message in pairs { ["object_size = '1MB'"] = "has 'objects' and 'object_size'",
    ["resume = true, split_by = 'id'"] = "has 'objects' and is to resume", ["jobs = 9"] = "has 9 jobs for 8 objects" } do
    l:flow("t.lua", ([[flow.extract "out" { from = "rds", table = "src", to = "lake:d/", objects = 8, %s },]]):format(fields))
    local r = l:run("check", "t.lua")
    lu.assertEquals(r.code, 2)
    lu.assertStrContains(r.all, message)
  end
end

function TestObjects.test_a_store_with_large_parts_takes_them_too()
  local s3 = require "oss".open { url = "s3://lab-objects", endpoint = os.getenv "TM_S3", access_key_id =
    os.getenv "TM_S3_ID", access_key_secret = os.getenv "TM_S3_SECRET", addressing = "path" }
  s3:create_bucket()
  l.connections.lake = ('{ s3 = "s3://lab-objects", endpoint = %q, addressing = "path" }'):format(os.getenv "TM_S3")
  l.env.AWS_ACCESS_KEY_ID, l.env.AWS_SECRET_ACCESS_KEY = os.getenv "TM_S3_ID", os.getenv "TM_S3_SECRET"
  l:project()
  lake = s3
  lu.assertEquals(#extract("objects = 6", "--memory", "96M").objects, 6)
  lu.assertEquals(hash "dst", hash "src")
  for entry in s3:list {} do s3:delete(entry.key) end
end

os.exit(lu.LuaUnit.run())
