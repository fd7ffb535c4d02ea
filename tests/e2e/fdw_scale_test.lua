-- needs: fdw
-- timeout: 3600
--- Many rows of mixed types out through a foreign table and in again: equal hashes, bounded memory.
---
--- 100,000 rows by default, 5 million with TM_SCALE=full.

local fdw = require "tests.support.fdw"
local lu = require "luaunit"
local pg = require "pg"

local ROWS = tonumber(os.getenv "TM_ROWS") or fdw.FULL and 5000000 or 100000
local GROWTH_KB = 64 << 10

local o = fdw.ossd { name = "scale" }
local f = fdw.open("scale", { store = o })
local columns = "id bigint, n integer, amount numeric(14,4), at timestamptz, note text, ratio double precision, day date"

do
  local sql <close> = assert(io.open "tests/support/mixed.sql")
  f.conn:exec(sql:read "a")
  f.conn:query("SELECT mixed_fill($1)", ROWS)
  f.conn:exec "ANALYZE mixed"
end
local WANT = f.conn:one "SELECT * FROM mixed_hash('mixed')"

-- Runs the statement in a backend of its own: seconds, and by how many kB the memory of its own
-- grew at the most.
local function measured(sql)
  local s <close> = f:session { "SELECT count(*) FROM pg_class", "SELECT pg_sleep(0.1)", sql }
  s:reach(2)
  local before, most, started = fdw.status(s.pid, "RssAnon") or math.huge, 0, fdw.now()
  while not s.done do
    s:listen(0.05 / fdw.SLOW, function() return s.done end)
    most = math.max(most, fdw.status(s.pid, "RssAnon") or 0)
  end
  lu.assertTrue(s.done.ok, s.done.message)
  return (fdw.now() - started) / 1000, most - before
end

TestScale = {}

for _, dialect in ipairs { "rds", "adbpg" } do
  for _, format in ipairs { "csv", "text" } do
    for _, codec in ipairs { "none", "gzip", "zstd" } do
      local name = ("%s_%s_%s"):format(dialect, format, codec)
      TestScale["test_equal_after_" .. name] = function()
        local list = { dir = name .. "/", format = format }
        if dialect == "rds" then
          list.compressiontype, list.oss_file_max_size, list.oss_flush_block_size = codec, fdw.FULL and "100" or "8", "1"
        else
          list.filetype, list.fragment_size = codec == "none" and "plain" or codec, fdw.FULL and "100" or "2"
        end
        local t = f:foreign(dialect, columns, list)
        f.conn:exec("DROP TABLE IF EXISTS back; CREATE UNLOGGED TABLE back (LIKE mixed)")
        local out, out_kb = measured(("INSERT INTO %s SELECT * FROM mixed"):format(t))
        local back, back_kb = measured(("INSERT INTO back SELECT * FROM %s"):format(t))
        lu.assertEquals(f.conn:one "SELECT * FROM mixed_hash('back')", WANT)
        lu.assertEquals(f:uploads(list.dir), {})
        if fdw.FULL or os.getenv "TM_VERBOSE" then
          print(("%-16s out %6.2f s %6d kB, in %6.2f s %6d kB, %d objects"):format(name, out, out_kb, back, back_kb,
            #f:keys(list.dir)))
        end
        if os.getenv "TM_SANITIZER" == "" then
          lu.assertTrue(out_kb < GROWTH_KB, ("%d kB more in writing"):format(out_kb))
          lu.assertTrue(back_kb < GROWTH_KB, ("%d kB more in reading"):format(back_kb))
        end
        f:empty()
      end
    end
  end
end

-- More bytes than a backend may hold, at any size of the other tests.
function TestScale.test_memory_does_not_grow_with_the_table()
  local rows = fdw.FULL and 2000000 or 150000
  for _, codec in ipairs { "plain", "gzip" } do
    local t = f:foreign("adbpg", "a int, b text", { dir = "wide-" .. codec .. "/", format = "csv", filetype = codec })
    local _, out_kb = measured(("INSERT INTO %s SELECT i, repeat(md5(i::text), 32) FROM generate_series(1, %d) i")
      :format(t, rows))
    local _, back_kb = measured("SELECT count(*), sum(length(b)) FROM " .. t)
    lu.assertEquals(f.conn:value("SELECT count(*) FROM " .. t), rows)
    if os.getenv "TM_VERBOSE" then print(codec, out_kb .. " kB out", back_kb .. " kB in") end
    if os.getenv "TM_SANITIZER" == "" then
      lu.assertTrue(out_kb < GROWTH_KB, ("%d kB more in writing"):format(out_kb))
      lu.assertTrue(back_kb < GROWTH_KB, ("%d kB more in reading"):format(back_kb))
    end
  end
  f:empty()
end

function TestScale.test_many_small_objects_are_read_in_bounded_memory()
  local t = f:foreign("adbpg", "a int, b text", { dir = "many/", format = "csv" })
  local n = fdw.FULL and 5000 or 300
  for i = 1, n do f.objects:put(("many/%06d"):format(i), ("%d,x\n"):format(i)) end
  local _, kb = measured("CREATE TABLE many AS SELECT * FROM " .. t)
  lu.assertEquals(f.conn:value "SELECT sum(a) FROM many", n * (n + 1) // 2)
  if os.getenv "TM_SANITIZER" == "" then lu.assertTrue(kb < GROWTH_KB, kb .. " kB") end
end

function TestScale.test_many_statements_of_one_transaction_commit_together()
  local t = f:foreign("adbpg", "a int, b text", { dir = "stmts/", format = "csv" })
  local n = fdw.FULL and 2000 or 200
  f.conn:exec "BEGIN"
  for i = 1, n do f.conn:exec(("INSERT INTO %s VALUES (%d, 'x')"):format(t, i)) end
  lu.assertEquals(f:keys "stmts/", {})
  f.conn:exec "COMMIT"
  lu.assertEquals(f.conn:value("SELECT sum(a) FROM " .. t), n * (n + 1) // 2)
  lu.assertEquals(#f:keys "stmts/", n)
end

function TestScale.test_writers_at_the_same_time_do_not_meet()
  local t = f:foreign("rds", "a int, b text", { dir = "together/", format = "csv", oss_flush_block_size = "1" })
  local sessions = {}
  for i = 1, 6 do
    sessions[i] = f:session { ("INSERT INTO %s SELECT i, repeat('x', 50) FROM generate_series(%d, %d) i"):format(t,
      i * 100000, i * 100000 + 29999) }
  end
  for _, s in ipairs(sessions) do
    lu.assertTrue(s:result(120).ok, s.done.message)
    s:close()
  end
  lu.assertEquals(f:hash(t), f:hash [[(SELECT j * 100000 + i AS a, repeat('x', 50) AS b
    FROM generate_series(1, 6) j, generate_series(0, 29999) i)]])
end

-- What COPY writes is what a foreign table writes, byte for byte, whatever the session has set.
function TestScale.test_the_bytes_are_those_of_copy()
  local conn <close> = pg.connect(f.uri)
  conn:notices(function() end)
  for format, options in pairs { csv = "FORMAT csv, DELIMITER '|', NULL 'nil', FORCE_QUOTE *", text = "FORMAT text, DELIMITER ';'" } do
    local list = { dir = "bytes-" .. format .. "/", format = format, delimiter = format == "csv" and "|" or ";" }
    if format == "csv" then list.null, list.force_quote_all = "nil", "true" end
    local t = f:foreign("adbpg", columns, list)
    conn:exec "SET DateStyle = 'SQL, DMY'; SET IntervalStyle = 'sql_standard'; SET extra_float_digits = 0"
    conn:exec(("INSERT INTO %s SELECT * FROM (SELECT * FROM mixed ORDER BY id LIMIT 5000) x"):format(t))
    conn:exec "RESET ALL"
    local source <close> = f.conn:copy_out(
      ("COPY (SELECT * FROM mixed ORDER BY id LIMIT 5000) TO STDOUT (%s)"):format(options))
    local parts = {}
    for bytes in source.read, source do parts[#parts + 1] = bytes end
    local keys = f:keys(list.dir)
    lu.assertEquals(#keys, 1)
    lu.assertTrue(f.objects:get(keys[1]) == table.concat(parts), format)
  end
end

local code = lu.LuaUnit.run()
f:close()
o:close()
os.exit(code)
