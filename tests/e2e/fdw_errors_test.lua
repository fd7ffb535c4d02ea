-- needs: fdw
-- takes: 40
--- What goes wrong with keys, objects, networks and stores, and how oss_fdw says it.
---
--- Each message names the thing, has the SQLSTATE of its kind, and no secret; at the end the
--- server's log is searched for them as well.

local fdw = require "tests.support.fdw"
local lu = require "luaunit"
local pg = require "pg"
local zip = require "zip"

local o = fdw.ossd { name = "errors" }
local f = fdw.open("errors", { store = o })
local log_start = #fdw.log(os.getenv "TM_FDW_PID")
local TEXT = "a int, b text"

-- A table on its own directory, `list` besides; name and directory. The dialects differ in the
-- name of the option for compression only.
local count = 0
local function place(dialect, list, columns, server)
  count = count + 1
  local dir = ("t%d/"):format(count)
  local all = { dir = dir, format = "csv" }
  for k, v in pairs(list or {}) do all[k] = v end
  if all.codec then all[dialect == "rds" and "compressiontype" or "filetype"], all.codec = all.codec, nil end
  return f:foreign(server or dialect, columns or TEXT, all), dir
end

local function rows(t)
  local list = {}
  for i, row in ipairs(f.conn:query("SELECT t::text AS r FROM " .. t .. " t ORDER BY 1")) do list[i] = row.r end
  return list
end

local function both(test)
  for _, dialect in ipairs { "rds", "adbpg" } do test(dialect) end
end

-- Whatever is read from `bytes` in one object fails so; the error names the object.
local function broken(code, bytes, list, columns)
  local made
  both(function(dialect)
    local t, dir = place(dialect, list, columns)
    f.objects:put(dir .. "bad.csv", bytes)
    made = f:fails(code, "SELECT * FROM " .. t)
    lu.assertStrContains(made.message .. made.detail, dir .. "bad.csv")
    f.objects:delete(dir .. "bad.csv")
  end)
  return made
end

-- Before each test: nothing of the one before is left in the session.
local function fresh() f.conn:exec "ROLLBACK; RESET ALL" end

local function within(seconds, run, ...)
  local started = fdw.now()
  local result = run(...)
  fdw.soon(started, seconds)
  return result
end

-- ---- keys, buckets, endpoints ----

TestAccess = { setUp = fresh }

function TestAccess.test_a_wrong_secret()
  both(function(dialect)
    local t = place(dialect, nil, nil, f:server(dialect, { key = fdw.secret() }))
    for _, sql in ipairs { "SELECT * FROM " .. t, ("INSERT INTO %s VALUES (1, 'x')"):format(t) } do
      local e = f:fails("28000", sql)
      lu.assertStrContains(e.detail, "StatusCode=403, ErrorCode=SignatureDoesNotMatch, ErrorMessage=\"")
      lu.assertStrMatches(e.detail:match "RequestId=[^\n]*", "RequestId=%x+")
      lu.assertStrContains(e.hint, "secret")
      lu.assertNotStrContains(e.detail, "StringToSign")
    end
  end)
end

function TestAccess.test_an_unknown_key_id()
  both(function(dialect)
    local t = place(dialect, nil, nil, f:server(dialect, { id = "nobody" }))
    local e = f:fails("28000", "SELECT * FROM " .. t)
    lu.assertStrContains(e.detail, "ErrorCode=InvalidAccessKeyId")
  end)
end

function TestAccess.test_a_missing_bucket_is_named()
  both(function(dialect)
    local t = place(dialect, nil, nil, f:server(dialect, { bucket = "no-such-bucket" }))
    for _, sql in ipairs { "SELECT * FROM " .. t, ("INSERT INTO %s VALUES (1, 'x')"):format(t) } do
      local e = f:fails("58P01", sql)
      lu.assertStrContains(e.detail, "StatusCode=404, ErrorCode=NoSuchBucket")
      lu.assertStrContains(e.message .. (e.hint or ""), "no-such-bucket")
    end
  end)
end

-- Only those who may read the server's files may use what lies in its environment.
function TestAccess.test_a_table_without_keys_says_where_to_put_them()
  local keyless = ("CREATE SERVER %%s FOREIGN DATA WRAPPER oss_fdw OPTIONS (endpoint '%s', bucket 'bbb', region 'x')"):format(o.url)
  f.conn:exec(keyless:format "keyless")
  local e = f:fails("28000", "SELECT * FROM " .. place("adbpg", nil, nil, "keyless"))
  lu.assertStrContains(e.hint, "CREATE USER MAPPING")
  f.conn:exec [[CREATE ROLE fdw_errors_owner; GRANT USAGE ON FOREIGN DATA WRAPPER oss_fdw TO fdw_errors_owner;
    GRANT ALL ON SCHEMA public TO fdw_errors_owner; SET ROLE fdw_errors_owner]]
  f.conn:exec(keyless:format "keyless_too")
  e = f:fails("28000", "SELECT * FROM " .. place("adbpg", nil, nil, "keyless_too"))
  lu.assertStrContains(e.hint, "USER MAPPING")
  f.conn:exec "RESET ROLE; DROP OWNED BY fdw_errors_owner CASCADE; DROP ROLE fdw_errors_owner"
end

function TestAccess.test_nobody_listens()
  both(function(dialect)
    local t = place(dialect, nil, nil, f:server(dialect, nil, o:behind "http://127.0.0.1:1"))
    local e = within(30, f.fails, f, "HV00N", "SELECT * FROM " .. t)
    lu.assertStrContains(e.message .. (e.hint or ""), "127.0.0.1:1")
  end)
end

-- A port whose queue of connections is full: nothing answers, nothing refuses.
local function full_port()
  local proc = require "proc"
  local child = proc.spawn { stdout = "pipe", cmd = { "node", "-e", [[
const net = require('net');
const s = net.createServer().listen({ port: 0, host: '127.0.0.1', backlog: 1 }, () => {
  console.log(s.address().port);
  const port = s.address().port;
  require('child_process').spawn('bash', ['-c', 'sleep 0.2; for i in 3 4; do eval "exec $i<>/dev/tcp/127.0.0.1/' + port +
    '"; done; echo full; for i in 5 6 7; do eval "exec $i<>/dev/tcp/127.0.0.1/' + port + '" & done; sleep 600'],
    { stdio: ['ignore', 'inherit', 'ignore'] });
  process.kill(process.pid, 'SIGSTOP');
});]] } }
  local said = ""
  while not said:find "full" do said = said .. assert(child:read(1, 60)) end
  local port = said:match "%d+"
  return child, "http://127.0.0.1:" .. port
end

-- Those that take long run beside all other tests: a session each, begun before the first test.
local slow = {}

function TestAccess.test_the_connect_timeout_is_honoured()
  local t = place("adbpg", nil, nil, f:server("adbpg", { connect_timeout = "30" }, o:behind(slow.port_url)))
  f.conn:exec "SET statement_timeout = '300ms'"
  within(2.3, f.fails, f, "57014", "SELECT * FROM " .. t)
  local e = slow.connect:result(60)
  lu.assertEquals(e.code, "08006", e.message)
  lu.assertStrContains(e.message .. (e.hint or "") .. e.detail, slow.port_url:match "[%d.]+:%d+")
end

-- ---- which objects ----

TestObjects = { setUp = fresh }

function TestObjects.test_an_empty_directory_is_a_warning_and_no_rows()
  both(function(dialect)
    local t, dir = place(dialect)
    f:quiet()
    lu.assertEquals(rows(t), {})
    local notice = f:noticed "no object matches"
    lu.assertEquals(notice and notice.severity, "WARNING")
    lu.assertStrContains(notice.detail, dir)
  end)
end

function TestObjects.test_a_missing_object_is_a_warning_and_no_rows()
  both(function(dialect)
    local t = f:foreign(dialect, TEXT, { filepath = "no/such.csv", format = "csv" })
    f:quiet()
    lu.assertEquals(rows(t), {})
    local notice = f:noticed "no object matches"
    lu.assertEquals(notice and notice.severity, "WARNING")
    lu.assertStrContains(notice.detail, "no/such.csv")
  end)
end

function TestObjects.test_folder_markers_empty_objects_and_folders_are_passed_over()
  both(function(dialect)
    local t, dir = place(dialect)
    f.objects:put(dir, "")
    f.objects:put(dir .. "sub/", "")
    f.objects:put(dir .. "sub/deep.csv", "9,deep\n")
    f.objects:put(dir .. "empty.csv", "")
    f.objects:put(dir .. "one.csv", "1,one\n")
    f:quiet()
    lu.assertEquals(rows(t), { "(1,one)" })
    lu.assertEquals(f.notices, {})
    local p = f:foreign(dialect, TEXT, { prefix = dir, format = "csv" })
    lu.assertEquals(rows(p), { "(1,one)", "(9,deep)" })
  end)
end

function TestObjects.test_a_compressed_object_of_no_bytes_has_no_rows()
  for _, codec in ipairs { "gzip", "zstd" } do
    both(function(dialect)
      local t, dir = place(dialect, { codec = codec })
      f.objects:put(dir .. "a", zip.compress("", codec))
      f.objects:put(dir .. "b", zip.compress("1,x\n", codec))
      lu.assertEquals(rows(t), { "(1,x)" })
    end)
  end
end

local ODD = { "space in name", "plus+plus", "percent%20%", "ünïcödé/你好", "a&b<c>\"d'", "tilde~star*", "q?x=1#f",
  "back\\slash", "comma,semi;colon:", "x=y&z", "🌊", "100%", "%2F", "a  b" }

function TestObjects.test_odd_keys_are_read_by_each_locator()
  both(function(dialect)
    for i, key in ipairs(ODD) do
      local dir = ("odd %s/%d+%%/%s/"):format(dialect, i, key)
      f.objects:put(dir .. key, "1,here\n")
      local base = dir .. key:gsub("/.*", "/")
      for _, list in ipairs { { dir = key:find "/" and base or dir }, { prefix = dir .. key:match(utf8.charpattern) },
        { filepath = dir .. key } } do
        list.format = "csv"
        lu.assertEquals(rows(f:foreign(dialect, TEXT, list)), { "(1,here)" }, key)
      end
    end
  end)
end

function TestObjects.test_odd_names_are_written_and_read_again()
  both(function(dialect)
    for _, key in ipairs(ODD) do
      local dir = "written " .. dialect .. "/" .. key .. "/"
      local t = pg.quote_ident(key .. " " .. dialect)
      f:foreign(dialect, TEXT, { dir = dir, format = "csv" }, t)
      f.conn:exec(("INSERT INTO %s VALUES (1, 'x')"):format(t))
      lu.assertEquals(rows(t), { "(1,x)" }, key)
      lu.assertEquals(#f:keys(dir), 1, key)
    end
  end)
end

function TestObjects.test_a_listing_of_many_pages_is_read_to_its_end()
  local short <close> = fdw.ossd { name = "pages", faults = { "page=3" } }
  local s <close> = short:objects()
  for i = 1, 20 do s:put(("p/%02d"):format(i), i .. ",x\n") end
  both(function(dialect)
    local t = f:foreign(f:server(dialect, nil, short), TEXT, { dir = "p/", format = "csv" })
    lu.assertEquals(#rows(t), 20)
  end)
end

-- The statement lists, then its GET is held while `change` happens.
local function meanwhile(dialect, change)
  local relay <close> = fdw.relay(o)
  local t, dir = place(dialect, nil, nil, f:server(dialect, nil, o:behind(relay.url)))
  f.objects:put(dir .. "k.csv", ("1,one\n"):rep(100))
  relay:tell "hold GET k\\.csv"
  local s <close> = f:session { "SELECT count(*) FROM " .. t }
  relay:held()
  change(dir .. "k.csv")
  relay:tell "release"
  local r = s:result()
  lu.assertFalse(r.ok)
  lu.assertStrContains(r.message, dir .. "k.csv")
  return r
end

function TestObjects.test_an_object_replaced_after_the_listing()
  both(function(dialect)
    local r = meanwhile(dialect, function(key) f.objects:put(key, ("2,two\n"):rep(100)) end)
    lu.assertEquals(r.code, "XX001")
    lu.assertStrContains(r.message .. (r.hint or ""), "replaced")
  end)
end

function TestObjects.test_an_object_deleted_after_the_listing()
  both(function(dialect)
    local r = meanwhile(dialect, function(key) f.objects:delete(key) end)
    lu.assertEquals(r.code, "58P01")
  end)
end

-- ---- bytes that are not what they should be ----

TestBytes = { setUp = fresh }

local function damaged(bytes)
  local at = #bytes // 2
  return bytes:sub(1, at) .. string.char(bytes:byte(at + 1) ~ 0x55) .. bytes:sub(at + 2)
end

local function lines(n)
  local list = {}
  for i = 1, n do list[i] = ("%d,text %x"):format(i, i * 7919 * 104729) end
  return table.concat(list, "\n") .. "\n"
end

function TestBytes.test_a_damaged_compressed_object()
  for _, codec in ipairs { "gzip", "zstd" } do
    local e = broken("22P04", damaged(zip.compress(lines(20000), codec)), { codec = codec, format = "text" }, "line text")
    lu.assertStrContains(e.message, codec)
  end
end

function TestBytes.test_a_compressed_object_that_ends_early()
  for _, codec in ipairs { "gzip", "zstd" } do
    local whole = zip.compress(lines(20000), codec)
    for _, n in ipairs { 5, #whole // 2, #whole - 1 } do broken("22P04", whole:sub(1, n), { codec = codec }) end
  end
end

function TestBytes.test_a_compressed_object_in_a_plain_table()
  for _, codec in ipairs { "gzip", "zstd" } do
    local e = broken("22P04", zip.compress(lines(100), codec))
    lu.assertStrContains(e.hint, codec)
  end
end

function TestBytes.test_a_plain_object_in_a_compressed_table()
  for _, codec in ipairs { "gzip", "zstd" } do
    local e = broken("22P04", lines(100), { codec = codec })
    lu.assertStrContains(e.message, codec)
  end
end

function TestBytes.test_wrong_numbers_of_columns()
  for _, format in ipairs { "csv", "text" } do
    local list = { format = format, delimiter = "|" }
    local e = broken("22P04", "1|one\n2|two|three\n", list)
    lu.assertStrContains(e.message, "extra data after last expected column")
    lu.assertStrContains(e.detail, "line 2")
    e = broken("22P04", "1|one\n2|two\n3\n", list)
    lu.assertStrContains(e.message, "missing data for column \"b\"")
    lu.assertStrContains(e.detail, "line 3")
  end
end

function TestBytes.test_a_value_of_a_wrong_type()
  local e = broken("22P02", "1,one\nx2,two\n")
  lu.assertStrContains(e.detail, "line 2, column a")
end

function TestBytes.test_a_line_number_counts_from_the_start_of_its_object()
  both(function(dialect)
    local t, dir = place(dialect)
    f.objects:put(dir .. "1.csv", lines(1000))
    f.objects:put(dir .. "2.csv", "1,one\n2,two\nx,three\n")
    lu.assertStrContains(f:fails("22P02", "SELECT * FROM " .. t).detail, dir .. "2.csv\", line 3")
  end)
end

function TestBytes.test_bad_encodings()
  broken("22021", "1,one\n2,\xff\xfe\n")
  broken("22021", "1,\xe4\xbd\n")
  broken("22P05", "1,\xb0\xff\n", { encoding = "gbk" })
  both(function(dialect)
    local t, dir = place(dialect, { encoding = "gbk" })
    f.objects:put(dir .. "a", "1,\xc4\xe3\xba\xc3\n")
    lu.assertEquals(rows(t), { "(1,你好)" })
    t, dir = place(dialect, { encoding = "latin1" })
    f.objects:put(dir .. "a", "1,\xe9\n")
    lu.assertEquals(rows(t), { "(1,é)" })
  end)
end

function TestBytes.test_zero_bytes()
  broken("22021", "1,a\0b\n")
  broken("22021", "1,a\n" .. ("\0"):rep(1000))
end

function TestBytes.test_a_quote_that_is_never_closed()
  local e = broken("22P04", '1,one\n2,"two\n' .. lines(50000))
  lu.assertStrContains(e.message, "unterminated CSV quoted field")
end

-- Members of a gzip file may be repeated: 2 GiB of text in 2 MB of object.
local function vast(before, after)
  local member = zip.compress(("a"):rep(16 << 20))
  return zip.compress(before) .. member:rep(128) .. zip.compress(after)
end

function TestBytes.test_a_field_of_2_gigabytes()
  local t, dir = place("adbpg", { codec = "gzip" })
  f.objects:put(dir .. "vast.csv", vast("1,", "\n"))
  local pid = f.conn:pid()
  local before = fdw.status(pid, "RssAnon")
  local e = f:fails("54000", "SELECT a FROM " .. t)
  lu.assertStrContains(e.message .. e.detail, dir .. "vast.csv")
  lu.assertStrContains(e.detail, "line 1")
  lu.assertTrue(fdw.status(pid, "RssAnon") - before < 64 << 10, "memory is given back")
  f.objects:delete(dir .. "vast.csv")
end

function TestBytes.test_the_end_marker_is_what_it_is_to_copy()
  both(function(dialect)
    local t, dir = place(dialect, { format = "text", delimiter = "|" })
    f.objects:put(dir .. "1", "1|one\n\\.\n")
    f.objects:put(dir .. "2", "2|two\n")
    lu.assertEquals(rows(t), { "(1,one)", "(2,two)" })
  end)
end

function TestBytes.test_line_ends_of_other_systems()
  both(function(dialect)
    local t, dir = place(dialect)
    f.objects:put(dir .. "1", "1,one\r\n2,two\r\n")
    f.objects:put(dir .. "2", "3,three\r4,four\r")
    f.objects:put(dir .. "3", "5,five\n6,six")
    lu.assertEquals(rows(t), { "(1,one)", "(2,two)", "(3,three)", "(4,four)", "(5,five)", "(6,six)" })
  end)
  lu.assertStrContains(broken("22P04", "1,one\n2,two\r\n").message, "carriage return")
end

function TestBytes.test_each_object_has_its_header()
  both(function(dialect)
    local t, dir = place(dialect, { header = "true" })
    f.objects:put(dir .. "1", "a,b\n1,one\n")
    f.objects:put(dir .. "2", "a,b\n2,two\n")
    f.objects:put(dir .. "3", "a,b\n")
    lu.assertEquals(rows(t), { "(1,one)", "(2,two)" })
  end)
end

-- ---- networks and stores that fail ----

TestFaults = { setUp = fresh }

function TestFaults.test_a_storm_of_503_that_heals_is_not_seen()
  local ill <close> = fdw.ossd { name = "storm", faults = { "503=4" } }
  both(function(dialect)
    local t = f:foreign(f:server(dialect, nil, ill), TEXT, { dir = "s" .. dialect .. "/", format = "csv" })
    f.conn:exec(("INSERT INTO %s SELECT i, 'x' FROM generate_series(1, 1000) i"):format(t))
    lu.assertEquals(f.conn:value("SELECT sum(a) FROM " .. t), 500500)
  end)
end

function TestFaults.test_a_storm_of_503_that_does_not_heal_ends_in_an_error()
  local ill <close> = fdw.ossd { name = "hurricane" }
  local t = f:foreign(f:server("rds", nil, ill), TEXT, { dir = "s/", format = "csv" })
  f.conn:exec(("INSERT INTO %s VALUES (1, 'x')"):format(t))
  ill:restart { "503=1" }
  local e = within(60, f.fails, f, "58000", "SELECT * FROM " .. t)
  lu.assertStrContains(e.detail, "StatusCode=503")
  within(60, f.fails, f, "58000", ("INSERT INTO %s VALUES (2, 'y')"):format(t))
  ill:restart {}
  lu.assertEquals(rows(t), { "(1,x)" })
end

function TestFaults.test_replies_cut_short_are_resumed()
  local ill <close> = fdw.ossd { name = "cut", faults = { "cut=2", "cut-put=70" } }
  both(function(dialect)
    local t = f:foreign(f:server(dialect, nil, ill), TEXT, { dir = "c" .. dialect .. "/", format = "csv",
      oss_flush_block_size = "1" })
    f.conn:exec(("INSERT INTO %s SELECT i, repeat('x', 100) FROM generate_series(1, 30000) i"):format(t))
    lu.assertEquals(f:hash(t), f:hash "(SELECT i AS a, repeat('x', 100) AS b FROM generate_series(1, 30000) i)")
  end)
end

function TestFaults.test_a_reply_that_always_breaks_is_an_error()
  local relay <close> = fdw.relay(o)
  local t, dir = place("adbpg", nil, nil, f:server("adbpg", nil, o:behind(relay.url)))
  f.objects:put(dir .. "k", lines(100000))
  relay:tell "down 200000 cut"
  local s <close> = f:session { "SET statement_timeout = '60s'", "SELECT count(*) FROM " .. t }
  local r = s:result()
  lu.assertFalse(r.ok)
  lu.assertTrue(r.code == "08006" or r.code == "HV00N", r.code)
  lu.assertStrContains(r.message, dir .. "k")
  relay:tell "pass"
  lu.assertEquals(f.conn:value("SELECT count(*) FROM " .. t), 100000)
end

function TestFaults.test_a_byte_that_changed_on_the_way_is_found()
  local ill <close> = fdw.ossd { name = "corrupt", faults = { "corrupt=1" } }
  local s <close> = ill:objects()
  s:put("x/k", ("some text\n"):rep(10000))
  both(function(dialect)
    local t = f:foreign(f:server(dialect, nil, ill), "line text", { dir = "x/", format = "text" })
    local e = f:fails("XX001", "SELECT count(*) FROM " .. t)
    lu.assertStrContains(e.message, "x/k")
  end)
end

function TestFaults.test_a_200_with_an_error_inside_is_an_error()
  local relay <close> = fdw.relay(o)
  for i, body in ipairs {
    "<?xml version=\"1.0\"?><Error><Code>InternalError</Code><Message>a trap</Message><RequestId>7</RequestId></Error>",
    "<html><body>Welcome! Please log in.</body></html>", "", "{}",
  } do
    relay:answer(0, 200, "GET", "\\?.*list-type|\\?.*prefix", body)
    local t = place("adbpg", nil, nil, f:server("adbpg", { speed_time = tostring(60 + i) }, o:behind(relay.url)))
    local e = within(30, f.fails, f, i == 1 and "58000" or "08P01", "SELECT * FROM " .. t)
    lu.assertStrContains(e.message, "cannot list")
    relay:tell "forget"
  end
end

function TestFaults.test_a_completion_that_fails_leaves_nothing()
  local ill <close> = fdw.ossd { name = "complete", faults = { "complete-error=1" } }
  local s <close> = ill:objects()
  both(function(dialect)
    local t = f:foreign(f:server(dialect, nil, ill), TEXT, { dir = "n" .. dialect .. "/", format = "csv",
      oss_flush_block_size = "1" })
    local e = f:fails("58000", ("INSERT INTO %s SELECT i, repeat('x', 100) FROM generate_series(1, 30000) i"):format(t))
    lu.assertStrContains(e.detail, "StatusCode=200")
    lu.assertNil(s:list()())
    lu.assertEquals(s:list_multiparts(), {})
  end)
end

function TestFaults.test_a_completion_without_an_answer_is_done_once()
  local ill <close> = fdw.ossd { name = "dropped", faults = { "complete-drop=1", "drop-put=2" } }
  local s <close> = ill:objects()
  both(function(dialect)
    local t = f:foreign(f:server(dialect, nil, ill), TEXT, { dir = "d" .. dialect .. "/", format = "csv",
      oss_flush_block_size = "1" })
    f.conn:exec(("INSERT INTO %s SELECT i, repeat('x', 100) FROM generate_series(1, 30000) i"):format(t))
    lu.assertEquals(f.conn:value("SELECT count(*) FROM " .. t), 30000)
    lu.assertEquals(s:list_multiparts(), {})
  end)
end

-- ---- stores that stall ----

TestStall = { setUp = fresh }

-- A relay before the store, a server behind it, a table there with an object of some size.
local function stalled(options)
  local relay = fdw.relay(o)
  local server = f:server("rds", options, o:behind(relay.url))
  local t, dir = place("rds", { oss_flush_block_size = "1" }, nil, server)
  f.objects:put(dir .. "k", lines(100000))
  return relay, t, dir, server
end

function TestStall.test_the_slowest_rate_is_honoured()
  local e = slow.read:result(60)
  lu.assertEquals(e.code, "08006", e.message)
  lu.assertStrContains(e.message, "too slow")
  slow.relay:tell "pass"
  lu.assertEquals(f.conn:value("SELECT count(*) FROM " .. slow.table), 100000)
end

local function begin_slow()
  slow.relay, slow.table = stalled { oss_speed_limit = "1000", oss_speed_time = "1" }
  slow.relay:tell "down 300000 stall"
  slow.read = f:session { "SET statement_timeout = '50s'; SELECT count(*) FROM " .. slow.table }
  slow.port, slow.port_url = full_port()
  local t = place("rds", nil, nil, f:server("rds", { oss_connect_timeout = "1" }, o:behind(slow.port_url)))
  slow.connect = f:session { "SET statement_timeout = '50s'; SELECT * FROM " .. t }
end

-- Every place where a statement may wait for the store; each must end soon when asked to. A
-- writer first tries for three seconds to take its upload away.
local LONGEST = { writing = 3 }
local WAITS = {
  listing = function(relay) relay:tell "stall" return "SELECT count(*) FROM %s" end,
  explain = function(relay) relay:tell "stall" return "EXPLAIN SELECT count(*) FROM %s" end,
  reading = function(relay) relay:tell "down 300000 stall" return "SELECT count(*) FROM %s" end,
  analyze = function(relay) relay:tell "down 300000 stall" return "ANALYZE %s" end,
  writing = function(relay)
    relay:tell "up 300000 stall"
    return "INSERT INTO %s SELECT i, repeat('x', 100) FROM generate_series(1, 1000000) i"
  end,
  function_list = function(relay) relay:tell "stall" return "SELECT * FROM oss_fdw_list_file('%s')" end,
}

-- Of two sessions that wait one ends by its statement_timeout and one by a cancel.
for name, prepare in pairs(WAITS) do
  TestStall["test_a_timeout_and_a_cancel_end_" .. name] = function()
    local relay <close>, t, dir, server = stalled()
    local other = f:foreign(server, TEXT, { dir = dir, format = "csv", oss_flush_block_size = "1" })
    local sql = prepare(relay)
    local started = fdw.now()
    local timed <close> = f:session { "SET statement_timeout = '400ms'", sql:format(t) }
    local canceled <close> = f:session { sql:format(other) }
    timed:reach(2)
    canceled:runs(1, f.conn)
    fdw.sleep(0.3)
    local asked = fdw.now()
    f.conn:query("SELECT pg_cancel_backend($1)", canceled.pid)
    local r = canceled:result(10)
    fdw.soon(asked, 2 + (LONGEST[name] or 0))
    lu.assertEquals(r.code, "57014", r.message)
    lu.assertStrContains(r.message, "user request")
    r = timed:result(10)
    fdw.soon(started, 3 + (LONGEST[name] or 0))
    lu.assertEquals(r.code, "57014", r.message)
    lu.assertStrContains(r.message, "statement timeout")
  end
end

function TestStall.test_a_cancel_ends_a_commit()
  local relay <close>, t, dir = stalled()
  f.conn:query "SELECT pg_advisory_lock(1)"
  local s <close> = f:session { "BEGIN", ("INSERT INTO %s SELECT i, repeat('x', 100) FROM generate_series(1, 50000) i"):format(t),
    "SELECT pg_advisory_xact_lock(1)", "COMMIT" }
  s:reach(3)
  relay:tell "stall"
  f.conn:query "SELECT pg_advisory_unlock(1)"
  s:runs(4, f.conn)
  fdw.sleep(0.3)
  f.conn:query("SELECT pg_cancel_backend($1)", s.pid)
  fdw.sleep(0.1)
  relay:tell "pass" -- the abort has to tidy up
  local r = within(5, s.result, s, 20)
  lu.assertEquals(r.code, "57014")
  lu.assertEquals(f:keys(dir), { dir .. "k" })
  lu.assertEquals(f:uploads(dir), {})
end

-- ---- writes that are refused ----

TestWrites = { setUp = fresh }

function TestWrites.test_what_no_object_store_can_do_is_refused()
  both(function(dialect)
    local t = place(dialect)
    f.conn:exec(("INSERT INTO %s VALUES (1, 'x')"):format(t))
    for _, sql in ipairs { "UPDATE %s SET a = 2", "DELETE FROM %s", "TRUNCATE %s",
      "INSERT INTO %s VALUES (1, 'x') ON CONFLICT (a) DO UPDATE SET b = ''", "SELECT * FROM %s FOR UPDATE; UPDATE %s SET a = 1" } do
      local ok, e = pcall(f.conn.exec, f.conn, (sql:gsub("%%s", t)))
      lu.assertFalse(ok, sql)
      lu.assertTrue(e.code == "0A000" or e.code == "55000" or e.code == "42809" or e.code == "42P10", tostring(e) .. e.code)
    end
    lu.assertEquals(rows(t), { "(1,x)" })
  end)
end

function TestWrites.test_a_filepath_is_for_reading_only()
  both(function(dialect)
    local t = f:foreign(dialect, TEXT, { filepath = "x/y", format = "csv" })
    local e = f:fails("0A000", ("INSERT INTO %s VALUES (1, 'x')"):format(t))
    lu.assertStrContains(e.message .. (e.hint or ""), "dir")
  end)
end

function TestWrites.test_prepare_transaction_is_refused_and_leaves_nothing()
  both(function(dialect)
    local t, dir = place(dialect)
    f.conn:exec("BEGIN; INSERT INTO " .. t .. " VALUES (1, 'x')")
    local e = f:fails("0A000", "PREPARE TRANSACTION 'gone'")
    lu.assertStrContains(e.message, "PREPARE")
    f.conn:exec "ROLLBACK"
    lu.assertEquals(f:keys(dir), {})
  end)
end

function TestWrites.test_a_row_that_fails_leaves_nothing()
  both(function(dialect)
    for _, codec in ipairs { "none", "gzip" } do
      local list = codec == "gzip" and { codec = codec } or {}
      list.oss_flush_block_size = "1"
      local t, dir = place(dialect, list)
      f:fails("22012", ("INSERT INTO %s SELECT 1 / (i - 50000), repeat(md5(i::text), 4) FROM generate_series(1, 60000) i")
        :format(t))
      lu.assertEquals(f:keys(dir), {})
      lu.assertEquals(f:uploads(dir), {})
    end
  end)
end

function TestWrites.test_a_store_that_is_gone_at_commit_leaves_nothing()
  local relay <close> = fdw.relay(o)
  both(function(dialect)
    local t, dir = place(dialect, { oss_flush_block_size = "1" }, nil, f:server(dialect, nil, o:behind(relay.url)))
    local n = dialect == "rds" and 10 or 30000 -- one object in memory, one of several parts
    f.conn:exec("BEGIN; INSERT INTO " .. t .. (" SELECT i, repeat('x', 100) FROM generate_series(1, %d) i"):format(n))
    relay:tell "cut"
    local ok, e = pcall(f.conn.exec, f.conn, "COMMIT")
    relay:tell "pass"
    lu.assertFalse(ok)
    lu.assertTrue(e.code == "08006" or e.code == "HV00N", e.code)
    lu.assertEquals(f:keys(dir), {})
    lu.assertEquals(f.conn:state(), "idle")
    f.conn:exec(("INSERT INTO %s VALUES (1, 'again')"):format(t))
    lu.assertEquals(rows(t), { "(1,again)" })
    lu.assertEquals(f:uploads(dir), {})
  end)
end

-- ---- last: nothing was given away ----

TestZLog = {}

function TestZLog.test_no_secret_is_in_the_log()
  local log = fdw.log(os.getenv "TM_FDW_PID", log_start)
  lu.assertStrContains(log, "SignatureDoesNotMatch") -- so it is the right log
  fdw.no_secret(log, "the server's log")
  lu.assertNil(log:find "Authorization:", "a header in the log")
  lu.assertNil(log:find "TRAP:")
end

begin_slow()
local code = lu.LuaUnit.run()
for _, name in ipairs { "read", "connect", "relay", "port" } do slow[name]:close() end
f:close()
o:close()
os.exit(code)
