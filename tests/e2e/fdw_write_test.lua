-- needs: fdw
--- Writing: the bytes are those of COPY TO, whatever ends a statement releases all it held, and memory
--- does not grow with the table.

local fdw = require "tests.support.fdw"
local lu = require "luaunit"
local zip = require "zip"

local o, f

local TYPES = [[
CREATE TYPE mood AS ENUM ('sad', 'o,k', 'ha"ppy');
CREATE TYPE pair AS (a int, b text, c timestamptz);
CREATE DOMAIN posint AS int CHECK (value > 0);
CREATE TABLE types (gone int, b bool, i2 int2, i4 int4, i8 int8, f4 float4, f8 float8, n numeric, t text, vc varchar(40),
  ch char(7), nm name, c "char", by bytea, d date, tm time, tz timetz, ts timestamp, at timestamptz, iv interval, u uuid,
  j json, jb jsonb, ip inet, m money, pt point, r int4range, tr tstzrange, vb varbit, ia int[], ta text[], tsa timestamptz[],
  fa float8[], md mood, p pair, dm posint, rc regclass, ivs interval[], bys bytea[], twice bigint GENERATED ALWAYS AS
  (i4::bigint * 2) STORED, last text);
INSERT INTO types (gone) VALUES (1);
ALTER TABLE types DROP COLUMN gone;
INSERT INTO types (b, i2, i4, i8, f4, f8, n, t, vc, ch, nm, c, by, d, tm, tz, ts, at, iv, u, j, jb, ip, m, pt, r, tr, vb, ia, ta,
  tsa, fa, md, p, dm, rc, ivs, bys, last) VALUES
  (true, -32768, -2147483648, -9223372036854775808, 1.1, 'NaN', 'NaN', E'tab\there', E'nl\nx', 'ch', 'a_name', 'q',
   '\x00ff5c22', '-infinity', '12:34:56.789', '12:34:56+05:30', 'infinity', '-infinity', '1 year 2 mons -3 days 04:05:06.7',
   '00112233-4455-6677-8899-aabbccddeeff', '{"a": "b,c"}', '{"a": [1, 2, "x\ny"]}', '10.0.0.1/8', -12.50, '(1.5,-2)', '[1,5)',
   '[2020-01-01,infinity)', '1', '{1,NULL,3}', ARRAY['a,b', 'c"d', E'e\\f', NULL, 'NULL', ''], '{2020-01-01 00:00+00}',
   '{0.1,1e300,-Infinity}', 'o,k', ROW(1, E'x"y\\z', '2020-02-29 12:00:00.5+02'), 5, 'pg_class', '{1 day,-1 mon}',
   ARRAY['\x01'::bytea], '\.'),
  (false, 32767, 2147483647, 9223372036854775807, '-Infinity', 0.1::float8 + 0.2, 123456789012345678901234567890.0100, '',
   ' sp ', ' ', '', '\', '', '0044-03-15 BC', '24:00', '00:00-12', '4713-01-01 BC', '294276-12-31 23:59:59.999999+00',
   '-00:00:00.000001', NULL, 'null', 'null', '::1', 0, '(0,0)', 'empty', 'empty', '', '{}', '{}', '{}', '{}', 'ha"ppy',
   ROW(NULL, '', NULL), 99, NULL, '{}', '{}', NULL);
INSERT INTO types (i4, t) VALUES (NULL, 'NULL'), (0, 'N'), (1, '\N'), (2, '\.'), (3, '\'), (4, '"'), (5, ''''), (6, E'\r'),
  (7, E'\b\f\n\r\t\v\x01\x7f'), (8, 'a|b;c,d'), (9, 'žluťoučký kůň'), (10, 't'), (11, 'f'), (12, '1'), (13, 'NaN');
INSERT INTO types (d, ts, at, f4, f8) SELECT date '1900-01-01' + g * 397, timestamp '1883-11-17 00:00:00.5' + g * interval
  '100 days 3.123456 s', timestamptz '1880-01-01 00:00+00' + g * interval '123 days 7 hours 0.000001 s', g / 7.0, g * 1e15
  FROM generate_series(0, 400) g;
CREATE TABLE single (t text);
INSERT INTO single VALUES ('\.'), (NULL), (''), ('\N'), ('x'), ('a\.b'), ('\..'), ('NULL');
CREATE TABLE odd ("co,l" int, "q""uote" text, "tab	" text, "\." text, "new
line" int);
INSERT INTO odd VALUES (1, 'a', 'b', 'c', 2);
CREATE TABLE japanese (a text, b text);
INSERT INTO japanese VALUES ('表 ソ 能', '表示\n"ソ"'), ('ソ', '表'), (E'表\n', E'能\t|');
INSERT INTO japanese SELECT c, c || '\' || c FROM regexp_split_to_table('ァア十予表構ポミ欺圭禄噂浬申曾箪貼能', '') c;
]]

TestWrite = {}

function TestWrite:setUp()
  if f then return end
  o = fdw.ossd { name = "write" }
  f = fdw.open("write", { store = o })
  f.conn:exec(TYPES)
end

-- The columns of a table, as CREATE FOREIGN TABLE takes them, and those with a value of their own.
local function columns(of)
  local defs, own = {}, {}
  for row in f.conn:rows([[SELECT quote_ident(attname) AS name, format_type(atttypid, atttypmod) AS type,
      CASE attgenerated WHEN 's' THEN ' GENERATED ALWAYS AS (' || pg_get_expr(adbin, adrelid) || ') STORED' ELSE '' END AS made
    FROM pg_attribute a LEFT JOIN pg_attrdef ON adrelid = attrelid AND adnum = attnum
    WHERE attrelid = $1::regclass AND attnum > 0 AND NOT attisdropped ORDER BY attnum]], of) do
    defs[#defs + 1] = row.name .. " " .. row.type .. row.made
    if row.made == "" then own[#own + 1] = row.name end
  end
  return table.concat(defs, ", "), table.concat(own, ", ")
end

local function copied(sql)
  local parts, source <close> = {}, f.conn:copy_out(sql)
  for bytes in function() return (source:read()) end do parts[#parts + 1] = bytes end
  return table.concat(parts)
end

-- The bytes that all objects under a prefix hold, decompressed, and how many objects there are.
local function stored(prefix, codec)
  local parts = {}
  for i, key in ipairs(f:keys(prefix)) do
    local bytes = f.objects:get(key)
    parts[i] = codec and zip.decompress(bytes, codec) or bytes
  end
  return table.concat(parts), #parts
end

local function write_like(of, list, dialect)
  local defs, own = columns(of)
  local t = f:foreign(dialect or "adbpg", defs, list)
  f.conn:exec(("INSERT INTO %s (%s) SELECT %s FROM %s"):format(t, own, own, of))
  return t
end

local function check_bytes(of, format, copy)
  local words, list = { "FORMAT " .. format }, { format = format, dir = ("b%d/"):format(f.made) }
  for name, value in pairs(copy) do
    if name == "force_quote_all" then
      words[#words + 1] = "FORCE_QUOTE *"
    else
      words[#words + 1] = ("%s %s"):format(name, name == "header" and value or fdw.quote(value))
    end
    list[name == "null" and '"null"' or name] = value
  end
  write_like(of, list)
  local want = copied(("COPY %s TO STDOUT (%s)"):format(of, table.concat(words, ", ")))
  local got = stored(list.dir)
  if got ~= want then
    lu.fail(("%s as %s with %s: not COPY's bytes"):format(of, format, lu.prettystr(copy)))
  end
end

local CSV = {
  {}, { header = "true" }, { delimiter = "|" }, { delimiter = "1" }, { delimiter = "-" }, { delimiter = " " }, { delimiter = ":" },
  { delimiter = "\t", null = "\\N" }, { null = "NULL" }, { null = "1" }, { null = "NaN" }, { null = "t" }, { null = "-infinity" },
  { quote = "'" }, { quote = "1" }, { quote = "+", escape = "-" }, { escape = "\\" }, { force_quote_all = "true" },
  { force_quote_all = "true", escape = "\\", header = "true" }, { force_quote_all = "true", quote = "e", null = "x" },
  { delimiter = "\1", quote = "\2", escape = "\3" },
}
local TEXT = {
  {}, { delimiter = "|" }, { delimiter = "," }, { delimiter = "-" }, { delimiter = " " }, { delimiter = "\b" }, { delimiter = "\1" },
  { null = "NULL" }, { null = "" }, { null = "1" }, { delimiter = ":", null = "nan" },
}

function TestWrite:test_bytes_are_those_of_copy()
  for _, of in ipairs { "types", "single", "odd" } do
    for _, copy in ipairs(CSV) do check_bytes(of, "csv", copy) end
    for _, copy in ipairs(TEXT) do check_bytes(of, "text", copy) end
  end
end

function TestWrite:test_bytes_in_other_encodings_are_those_of_copy()
  for _, encoding in ipairs { "SJIS", "SHIFT_JIS_2004", "EUC_JP", "GB18030", "BIG5", "UTF8", "SQL_ASCII" } do
    local words = encoding == "BIG5" and "odd" or "japanese"
    check_bytes(words, "csv", { encoding = encoding })
    check_bytes(words, "csv", { encoding = encoding, delimiter = "\\", force_quote_all = "true" })
    check_bytes(words, "csv", { encoding = encoding, delimiter = "|", escape = "\\" })
    check_bytes(words, "text", { encoding = encoding, delimiter = "|" })
  end
  check_bytes("single", "text", { encoding = "LATIN1" })
end

function TestWrite:test_a_session_s_settings_do_not_reach_the_bytes()
  local want = copied "COPY types TO STDOUT (FORMAT csv)"
  f.conn:exec "SET datestyle = 'German'; SET intervalstyle = iso_8601; SET extra_float_digits = -10; SET bytea_output = escape"
  write_like("types", { dir = "settings/", format = "csv" })
  lu.assertEquals(f.conn:value "SELECT date '2020-02-29' || ' ' || interval '1 day' || ' ' || '\\x00'::bytea", "29.02.2020 P1D \\000")
  f.conn:exec "RESET ALL"
  lu.assertTrue(stored "settings/" == want)
end

function TestWrite:test_compressed_objects_hold_the_same_bytes()
  local want = copied "COPY types TO STDOUT (FORMAT csv, HEADER)"
  write_like("types", { dir = "gzip/", format = "csv", header = "true", filetype = "gzip" })
  write_like("types", { dir = "zstd/", format = "csv", header = "true", compressiontype = "zstd" }, "rds")
  lu.assertTrue(stored("gzip/", "gzip") == want)
  lu.assertTrue(stored("zstd/", "zstd") == want)
end

function TestWrite:test_objects_roll_on_row_bounds_each_with_its_header()
  f.conn:exec "CREATE TABLE long AS SELECT g AS n, md5(g::text) || repeat(md5((g * 7)::text), g % 5) AS t FROM generate_series(1, 100000) g"
  for codec, list in pairs { none = {}, gzip = { filetype = "gzip" }, zstd = { filetype = "zstd" } } do
    list.dir, list.format, list.header, list.fragment_size = "roll-" .. codec .. "/", "csv", "true", "1"
    local rest = write_like("long", list)
    lu.assertEquals(f:hash(rest), f:hash "long")
    local _, count = stored(list.dir)
    lu.assertTrue(count >= 2, codec .. ": " .. count)
    for _, key in ipairs(f:keys(list.dir)) do
      local bytes = f.objects:get(key)
      if codec ~= "none" then bytes = zip.decompress(bytes, codec) end
      lu.assertEquals(bytes:sub(1, 4), "n,t\n")
      lu.assertEquals(bytes:sub(-1), "\n")
    end
  end
end

-- ---- what ends a statement ----

local dir -- of the foreign table made last

local function make_sink(store)
  dir = ("ends-%d/"):format(f.made)
  return f:foreign(f:server("adbpg", nil, store), "n bigint, t text", { dir = dir, format = "csv" })
end

-- More rows than any of these tests waits for, but an end, should one fail.
local LONG = "INSERT INTO %s SELECT g, repeat(md5(g::text), 30) FROM (SELECT generate_series(1, 20000000) AS g) x" -- 19 GB

-- What a failed statement must not leave behind: threads, descriptors, uploads, objects.
local function at_rest(pid, fds)
  fdw.eventually(20, function() return (fdw.status(pid, "Threads") or 1) == 1 end, "one thread")
  -- Connections are kept; how many there were at once differs from run to run.
  if fds then lu.assertTrue(fdw.entries(pid, "fd") <= fds + 8, "descriptors are left") end
  lu.assertEquals(f:keys(dir), {})
  lu.assertEquals(f:uploads(dir), {})
end

function TestWrite:test_an_error_in_the_middle_releases_everything()
  local t = make_sink()
  local sql = "INSERT INTO " .. t .. " SELECT g, repeat(md5(g::text), 30) || 1 / (g - 30000) FROM generate_series(1, 40000) g"
  f:fails("22012", sql)
  local fds = fdw.entries(f.conn:pid(), "fd")
  for _ = 1, 12 do f:fails("22012", sql) end
  at_rest(f.conn:pid(), fds)
end

function TestWrite:test_errors_caught_in_plpgsql_release_everything()
  local t = make_sink()
  f.conn:exec(([[DO $$ BEGIN FOR i IN 1..60 LOOP
    BEGIN
      INSERT INTO %s SELECT g, repeat(md5(g::text), 30) || 1 / (g - 2000) FROM generate_series(1, 4000) g;
    EXCEPTION WHEN division_by_zero THEN NULL;
    END;
  END LOOP; END $$]]):format(t))
  at_rest(f.conn:pid())
end

function TestWrite:test_a_cancelled_statement_ends_at_once_and_leaves_nothing()
  local t = make_sink()
  local s <close> = f:session { LONG:format(t) }
  s:reach(1)
  fdw.eventually(20, function() return #f:uploads(dir) > 0 end, "an upload")
  f.conn:exec("SELECT pg_cancel_backend(" .. s.pid .. ")")
  local before = fdw.now()
  lu.assertEquals(s:result(10).code, "57014")
  fdw.soon(before, 3)
  at_rest(s.pid)
end

function TestWrite:test_a_terminated_backend_leaves_nothing()
  local t = make_sink()
  local s <close> = f:session { LONG:format(t) }
  s:reach(1)
  fdw.eventually(20, function() return #f:uploads(dir) > 0 end, "an upload")
  f.conn:exec("SELECT pg_terminate_backend(" .. s.pid .. ")")
  lu.assertEquals(s:result(10).code, "57P01")
  fdw.eventually(10, function() return fdw.status(s.pid, "Threads") == nil end, "the backend's end")
  lu.assertEquals(f:uploads(dir), {})
  lu.assertEquals(f:keys(dir), {})
end

function TestWrite:test_a_statement_timeout_ends_a_write_to_a_store_that_says_nothing()
  local relay <close> = fdw.relay(o)
  local t = make_sink(o:behind(relay.url))
  relay:tell "up 20000000 stall"
  local s <close> = f:session { "SET statement_timeout = 1000", LONG:format(t) }
  local before = fdw.now()
  lu.assertEquals(s:result(60).code, "57014")
  fdw.soon(before, 10)
  fdw.eventually(20, function() return fdw.status(s.pid, "Threads") == nil end, "the session's end")
  relay:tell "pass"
  f.conn:exec("INSERT INTO " .. t .. " VALUES (1, 'sweeps')")
  lu.assertEquals(f:uploads(dir), {})
end

function TestWrite:test_many_writers_stop_together()
  local relay <close> = fdw.relay(o)
  local server = f:server("adbpg", nil, o:behind(relay.url))
  f.conn:exec "CREATE TABLE many (n bigint, t text) PARTITION BY LIST ((n % 8))"
  for i = 0, 7 do
    f.conn:exec(("CREATE FOREIGN TABLE many_%d PARTITION OF many FOR VALUES IN (%d) SERVER %s OPTIONS (dir 'many/%d/', format 'csv')")
      :format(i, i, server, i))
  end
  relay:tell "up 20000000 stall"
  local s <close> = f:session { "SET statement_timeout = 2000", LONG:format "many" }
  local before = fdw.now()
  lu.assertEquals(s:result(120).code, "57014")
  fdw.soon(before, 13)
end

function TestWrite:test_a_caught_error_stops_no_statement_around_it()
  local inner = make_sink()
  local outer = f:foreign("adbpg", "n bigint, t text", { dir = "outer/", format = "csv" })
  f.conn:exec(([[CREATE FUNCTION caught(n bigint) RETURNS bigint LANGUAGE plpgsql AS $$ BEGIN
      INSERT INTO %s SELECT g, repeat(md5(g::text), 30) || 1 / (g - 2000) FROM generate_series(1, 4000) g;
    EXCEPTION WHEN division_by_zero THEN
      RETURN n;
    END $$]]):format(inner))
  f.conn:exec(("INSERT INTO %s SELECT caught(g), repeat(md5(g::text), 2000) FROM generate_series(1, 100) g"):format(outer))
  lu.assertEquals(f.conn:value("SELECT sum(n) || ' ' || sum(length(t)) FROM " .. outer), "5050 6400000")
  at_rest(f.conn:pid())
end

function TestWrite:test_an_error_of_the_store_comes_before_the_end_of_the_rows()
  local relay <close> = fdw.relay(o)
  local t = make_sink(o:behind(relay.url))
  relay:answer(0, 403, "PUT", "partNumber", "<Error><Code>AccessDenied</Code><Message>no parts for you</Message></Error>")
  local before = fdw.now()
  local err = f:fails("28000", LONG:format(t))
  lu.assertStrContains(err.detail, "ErrorCode=AccessDenied")
  fdw.soon(before, 20)
  relay:tell "forget"
  at_rest(f.conn:pid())
end

-- ---- memory ----

function TestWrite:test_memory_does_not_grow_with_the_table()
  local list = { gzip = { filetype = "gzip" }, zstd = { filetype = "zstd" }, plain = {} }
  local steps = { "SELECT 1" }
  for name, options in pairs(list) do
    options.dir, options.format, options.fragment_size = "memory-" .. name .. "/", "csv", "64"
    local t = f:foreign("adbpg", "n bigint, t text", options)
    for _ = 1, 2 do
      steps[#steps + 1] = "INSERT INTO " .. t .. " SELECT g, repeat(md5(g::text), 30) FROM generate_series(1, 80000) g"
    end
  end
  local s <close> = f:session(steps)
  s:reach(1)
  local before, most = fdw.status(s.pid, "RssAnon"), 0
  while not s.done do
    s:result(0.05)
    most = math.max(most, fdw.status(s.pid, "RssAnon") or 0)
  end
  lu.assertTrue(s.done.ok, s.done.message)
  if fdw.SLOW == 1 then lu.assertTrue(most - before < 64 * 1024, most - before .. " kB more") end
end

function TestWrite:test_a_wide_row_is_written_and_one_beyond_a_gigabyte_refused()
  local t = f:foreign("adbpg", "n int, t text", { dir = "wide/", format = "csv" })
  local big = f:foreign("adbpg", "n int, t text", { dir = "big/", format = "csv" })
  f.conn:exec("INSERT INTO " .. t .. " SELECT g, repeat(repeat('w', 1000), 20000 + g) FROM generate_series(1, 2) g")
  lu.assertEquals(f.conn:value("SELECT sum(length(t)) FROM " .. t), 40003000)
  if fdw.SLOW > 1 then return end
  local err = f:fails("54000", "INSERT INTO " .. big .. " SELECT g, repeat(repeat('\"', 1000), 540000 + g) FROM generate_series(1, 1) g")
  lu.assertStrContains(err.message, "too long")
  lu.assertEquals(f:keys "big/", {})
end

local failed = lu.LuaUnit.run()
if f then f:close() end
if o then o:close() end
os.exit(failed)
