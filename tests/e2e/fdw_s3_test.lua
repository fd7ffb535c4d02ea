-- needs: fdw radosgw
--- oss_fdw on an S3 store of others: the same statements, protocol s3.

local fdw = require "tests.support.fdw"
local lu = require "luaunit"

local o = fdw.radosgw "tm-fdw-s3"
local f = fdw.open("s3", { store = o })

local function both(test)
  for _, dialect in ipairs { "rds", "adbpg" } do test(dialect) end
end

local ROWS = 150000 -- some 11 MB: several parts of the least size that S3 takes, 5 MiB
f.conn:exec(("CREATE TABLE src AS SELECT i AS a, md5(i::text) || md5((i + 7)::text) AS b FROM generate_series(1, %d) i")
  :format(ROWS))
local WANT = f:hash "src"

local function foreign(dialect, dir, list)
  local all = { dir = dir, format = "csv" }
  for k, v in pairs(list or {}) do all[k] = v end
  return f:foreign(dialect, "a int, b text", all)
end

TestS3 = {}

function TestS3:tearDown() f:empty() end

function TestS3:test_rows_out_and_in_again()
  both(function(dialect)
    for _, codec in ipairs { "none", "gzip", "zstd" } do
      local list = { [dialect == "rds" and "compressiontype" or "filetype"] = codec ~= "none" and codec or nil,
        oss_flush_block_size = "5" }
      local dir = dialect .. "/" .. codec .. "/"
      local t = foreign(dialect, dir, list)
      f.conn:exec(("INSERT INTO %s SELECT * FROM src"):format(t))
      lu.assertEquals(f:hash(t), WANT)
      lu.assertEquals(f:uploads(dir), {})
      local listed = f.conn:query(("SELECT * FROM oss_fdw_list_file('%s')"):format(t))
      lu.assertEquals(#listed, #f:keys(dir))
      lu.assertEquals(listed[1].size, f.objects:head(listed[1].name).size)
    end
  end)
end

function TestS3:test_objects_roll_at_a_size()
  local t = foreign("adbpg", "roll/", { fragment_size = "2" })
  f.conn:exec(("INSERT INTO %s SELECT * FROM src"):format(t))
  lu.assertTrue(#f:keys "roll/" >= 4, #f:keys "roll/" .. " objects")
  lu.assertEquals(f:hash(t), WANT)
end

function TestS3:test_a_rollback_leaves_nothing()
  both(function(dialect)
    local dir = dialect .. "-back/"
    local t = foreign(dialect, dir)
    f.conn:exec(("BEGIN; INSERT INTO %s SELECT * FROM src; ROLLBACK"):format(t))
    f:fails("22012", ("INSERT INTO %s SELECT 1 / (a - 140000), b FROM src"):format(t))
    lu.assertEquals(f:keys(dir), {})
    lu.assertEquals(f:uploads(dir), {})
  end)
end

function TestS3:test_savepoints_are_honoured()
  both(function(dialect)
    local dir = dialect .. "-save/"
    local t = foreign(dialect, dir)
    f.conn:exec(("BEGIN; INSERT INTO %s VALUES (1, 'kept'); SAVEPOINT s; INSERT INTO %s SELECT * FROM src; ROLLBACK TO s;" ..
      "INSERT INTO %s VALUES (2, 'kept too'); COMMIT"):format(t, t, t))
    lu.assertEquals(f.conn:value(("SELECT string_agg(b, ',' ORDER BY a) FROM %s"):format(t)), "kept,kept too")
    lu.assertEquals(f:uploads(dir), {})
  end)
end

function TestS3:test_an_empty_directory_is_a_warning()
  both(function(dialect)
    local t = foreign(dialect, "nothing/here/")
    f:quiet()
    lu.assertEquals(f.conn:value("SELECT count(*) FROM " .. t), 0)
    lu.assertEquals((f:noticed "no object matches" or {}).severity, "WARNING")
  end)
end

function TestS3:test_odd_keys()
  both(function(dialect)
    for _, key in ipairs { "space in name", "plus+plus", "percent%20%", "ünïcödé 你好", "a&b<c>\"d'", "q?x=1#f", "100%" } do
      local dir = ("odd %s/%s+%%/"):format(dialect, key)
      f.objects:put(dir .. key, "1,here\n")
      local t = foreign(dialect, dir)
      lu.assertEquals(f:hash(t), f:hash "(SELECT 1 AS a, 'here' AS b)", key)
      f.conn:exec(("INSERT INTO %s VALUES (2, 'there')"):format(t))
      lu.assertEquals(f.conn:value("SELECT sum(a) FROM " .. t), 3, key)
    end
  end)
end

function TestS3:test_a_wrong_secret_and_a_missing_bucket()
  both(function(dialect)
    local t = f:foreign(f:server(dialect, { key = fdw.secret() }), "a int", { dir = "x/", format = "csv" })
    local e = f:fails("28000", "SELECT * FROM " .. t)
    lu.assertStrContains(e.detail, "StatusCode=403, ErrorCode=SignatureDoesNotMatch")
    t = f:foreign(f:server(dialect, { bucket = "no-such-bucket-here" }), "a int", { dir = "x/", format = "csv" })
    e = f:fails("58P01", "SELECT * FROM " .. t)
    lu.assertStrContains(e.detail, "ErrorCode=NoSuchBucket")
    f:fails("58P01", ("INSERT INTO %s VALUES (1)"):format(t))
  end)
end

-- A backend killed hard leaves uploads behind, and the next writer takes them away.
function TestS3:test_the_sweep_aborts_uploads_of_a_killed_backend()
  local server <close> = fdw.server("fdw-s3", "--durable")
  local own <close> = fdw.open("s3_sweep", { store = o, uri = server.uri })
  local t = own:foreign("adbpg", "a int, b text", { dir = "swept/", format = "csv", oss_flush_block_size = "5" })
  do
    local s <close> = own:session { ("INSERT INTO %s SELECT i, CASE WHEN i = 200000 THEN pg_sleep(60)::text ELSE repeat('x', 60) END "
      .. "FROM generate_series(1, 200000) i"):format(t) }
    fdw.eventually(60, function() return #own:uploads "swept/" > 0 end, "an upload begins")
    server:crash(s.pid)
  end
  own:connect()
  lu.assertTrue(#own:uploads "swept/" > 0)
  own.conn:exec(("INSERT INTO %s VALUES (1, 'x')"):format(t))
  lu.assertEquals(own:uploads "swept/", {})
  lu.assertEquals(own.conn:value("SELECT count(*) FROM " .. t), 1)
end

local code = lu.LuaUnit.run()
pcall(f.empty, f)
pcall(o.objects(o).delete_bucket, o:objects())
f:close()
os.exit(code)
