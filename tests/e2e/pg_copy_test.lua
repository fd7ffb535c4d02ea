-- needs: pg pg2
--- COPY as streams: whole rows, confirmed ends, early errors, nothing half loaded.

local lu = require "luaunit"
local pg = require "pg"
local pgtest = require "tests.support.pgtest"
local signal = require "tidemill.signal"
local stream = require "stream"

local fails, eventually = pgtest.fails, pgtest.eventually
local NAME = "pg_copy_test"
local URI, URI2
local c, admin

local function fresh()
  c, admin = pg.connect(URI, { session = "data" }), pg.connect(URI)
  c:exec "DROP TABLE IF EXISTS t; CREATE TABLE t (a int, b text)"
end

local function done()
  c:close()
  admin:close()
end

local function count() return admin:value "SELECT count(*) FROM t" end
local function kill() return admin:value("SELECT pg_terminate_backend($1, 5000)", c:pid()) end

-- Enough to be flushed, then silence.
local SLOW = "SELECT repeat('x', 10000) FROM generate_series(1, 100) UNION ALL SELECT pg_sleep(60)::text"

-- The server's last words get lost when its socket is full or has unread data.
local function fails_lost(f)
  local ok, err = pcall(f)
  lu.assertFalse(ok, "nothing was raised")
  lu.assertTrue(err.kind == "io" or err.kind == "server" and err.code == "57P01", tostring(err))
end

local HASH = "SELECT count(*) || '/' || coalesce(sum(hashtextextended(x::text, 0)::numeric), 0) FROM %s x"
local MIXED = [[CREATE TABLE mixed AS SELECT g::int AS id, g::bigint * 7919 AS big, (g % 1000) / 100.0 AS n,
  '2024-01-01'::timestamptz + g * interval '1 second' AS at, g / 7.0::float8 AS f,
  CASE g % 5 WHEN 0 THEN NULL WHEN 1 THEN '' WHEN 2 THEN E'a|b,"c"\n\t\\.' WHEN 3 THEN 'é☃' ELSE md5(g::text) END AS s,
  g % 2 = 0 AS even FROM generate_series(1, 200000) g]]

TestOut = { setUp = fresh, tearDown = done }

function TestOut.test_slabs_hold_whole_rows()
  local src <close> = c:copy_out "COPY (SELECT g, repeat('x', g % 100) FROM generate_series(1, 100000) g) TO STDOUT"
  local rows, slabs = 0, 0
  for bytes, n in src.read, src do
    lu.assertEquals(bytes:sub(-1), "\n")
    lu.assertEquals(select(2, bytes:gsub("\n", "")), n)
    lu.assertTrue(#bytes <= 256 * 1024)
    rows, slabs = rows + n, slabs + 1
  end
  lu.assertEquals({ rows, src:rows() }, { 100000, 100000 })
  lu.assertTrue(slabs < 40)
  lu.assertEquals(c:state(), "idle")
  lu.assertNil((src:read()))
end

-- The socket wakes us for many messages at once while rows come fast, and not for the last ones.
function TestOut.test_bursts_pauses_and_short_tails_are_whole()
  local burst = "COPY (SELECT g, repeat('x', 500), CASE WHEN g %% 5000 = 0 THEN pg_sleep(0.02) END " ..
    "FROM generate_series(1, %d) g) TO STDOUT"
  for _, rows in ipairs { 30000, 29999, 2000, 1999 } do
    local src <close> = c:copy_out(burst:format(rows))
    local last
    for bytes in src.read, src do last = bytes end
    lu.assertEquals(last:match "(%d+)\t[^\n]*\n$", tostring(rows))
    lu.assertEquals(src:rows(), rows)
    lu.assertEquals(c:value "SELECT 1", 1)
  end
end

function TestOut.test_a_fast_copy_that_stalls_can_be_cancelled()
  local src <close> = c:copy_out("COPY (SELECT repeat('x', 1000) FROM generate_series(1, 20000) UNION ALL " ..
    "SELECT pg_sleep(60)::text) TO STDOUT")
  for _ = 1, 60 do src:read() end
  src:close()
  lu.assertEquals(c:value "SELECT 1", 1)
end

function TestOut.test_csv_rows_with_newlines_count_once()
  local src <close> = c:copy_out [[COPY (SELECT E'a\nb' FROM generate_series(1, 3)) TO STDOUT (FORMAT csv)]]
  local bytes, rows = src:read()
  lu.assertEquals({ bytes, rows }, { ('"a\nb"\n'):rep(3), 3 })
end

function TestOut.test_no_rows_is_an_end()
  local src <close> = c:copy_out "COPY t TO STDOUT"
  lu.assertNil((src:read()))
  lu.assertEquals(src:rows(), 0)
end

function TestOut.test_long_rows_between_short_ones_are_whole()
  local src <close> = c:copy_out [[COPY (SELECT
    repeat(chr(96 + g), CASE WHEN g = 3 THEN 100000000 WHEN g = 5 THEN 300000 ELSE 10 END)
    FROM generate_series(1, 6) g) TO STDOUT]]
  local got = {}
  for bytes in src.read, src do
    for run in bytes:gmatch "[^\n]+" do got[#got + 1] = run:sub(1, 1) .. #run end
  end
  lu.assertEquals(got, { "a10", "b10", "c100000000", "d10", "e300000", "f10" })
end

-- A slab has 256 KiB. Rows that fill it to the last byte, rows that are cut there, alike ones and
-- one whose cut ends in a line end, each alone, behind a short row, and before others.
function TestOut.test_rows_that_just_fit_or_just_do_not_are_counted_once()
  local full <const> = 256 * 1024
  local cases = {
    { full - 1 }, { full - 1, full - 1 }, { full - 1, full }, { full }, { full, full }, { full - 1, 10, full + 5 },
    { 100, full - 102 }, { 100, full - 102, full - 102, 7 }, { 100, full - 101, full - 101 }, { 8191 }, { 8192, 8192 },
  }
  for _, lengths in ipairs(cases) do
    local want = {}
    for i, n in ipairs(lengths) do want[i] = ("x"):rep(n) end
    local src <close> = c:copy_out(([[COPY (SELECT repeat('x', n) FROM unnest(ARRAY[%s])
      WITH ORDINALITY u(n, i) ORDER BY i) TO STDOUT]]):format(table.concat(lengths, ",")))
    local got, rows = {}, 0
    for bytes, n in src.read, src do
      got[#got + 1] = bytes
      lu.assertEquals(select(2, bytes:gsub("\n", "")), n)
      rows = rows + n
    end
    lu.assertTrue(table.concat(got) == table.concat(want, "\n") .. "\n", table.concat(lengths, " "))
    lu.assertEquals({ rows, src:rows() }, { #lengths, #lengths })
  end
end

function TestOut.test_a_quoted_line_end_at_the_end_of_a_slab_ends_no_row()
  local sql = [[COPY (SELECT repeat('a', 262142) || E'\n' || 'b' UNION ALL SELECT 'c') TO STDOUT (FORMAT csv)]]
  local src <close> = c:copy_out(sql)
  local got, rows = {}, 0
  for bytes, n in src.read, src do
    got[#got + 1], rows = bytes, rows + n
  end
  lu.assertEquals({ rows, src:rows() }, { 2, 2 })
  lu.assertTrue(table.concat(got) == '"' .. ("a"):rep(262142) .. '\nb"\nc\n')
end

function TestOut.test_a_binary_copy_is_whole()
  c:exec("CREATE TABLE b AS SELECT g, repeat('x', CASE WHEN g % 700 = 0 THEN 262000 + g % 300 ELSE g % 90 END) AS x " ..
    "FROM generate_series(1, 3000) g; CREATE TABLE b2 (LIKE b)")
  stream.pump(c:copy_out "COPY b TO STDOUT (FORMAT binary)", admin:copy_in "COPY b2 FROM STDIN (FORMAT binary)")
  lu.assertEquals(admin:value(HASH:format "b2"), admin:value(HASH:format "b"))
end

function TestOut.test_an_error_in_the_middle_is_not_an_end()
  local src <close> = c:copy_out "COPY (SELECT 1 / (90000 - g) FROM generate_series(1, 100000) g) TO STDOUT"
  local err = fails("data", function() while src:read() do end end)
  lu.assertEquals(err.code, "22012")
  fails("io", src.read, src)
  lu.assertNil(src:rows())
  lu.assertEquals(c:value "SELECT 1", 1)
end

function TestOut.test_closing_early_cancels_and_frees_the_connection()
  local src = c:copy_out "COPY (SELECT generate_series(1, 1000000000)) TO STDOUT"
  lu.assertNotNil(src:read())
  lu.assertStrContains(fails("usage", c.query, c, "SELECT 1").message, "COPY stream is open")
  src:close()
  src:close()
  lu.assertEquals(c:value "SELECT 1", 1)
end

function TestOut.test_a_killed_server_process_is_an_error()
  local src <close> = c:copy_out "COPY (SELECT generate_series(1, 1000000000)) TO STDOUT"
  src:read()
  kill()
  fails_lost(function() while src:read() do end end)
  lu.assertEquals(c:state(), "broken")
end

function TestOut.test_what_is_no_copy_is_refused()
  fails("usage", c.copy_out, c, "SELECT 1")
  fails("usage", c.copy_out, c, "COPY t FROM STDIN")
  fails("usage", c.copy_in, c, "COPY t TO STDOUT")
  fails("not_found", c.copy_out, c, "COPY nope TO STDOUT")
  fails("sql", c.copy_out, c, "COPI t TO STDOUT")
  local src <close> = c:copy_out "COPY (SELECT 1) TO STDOUT; COPY (SELECT 2) TO STDOUT"
  fails("usage", function() while src:read() do end end)
  lu.assertEquals(c:value "SELECT 1", 1)
end

function TestOut.test_closing_the_connection_fails_the_stream()
  local src <close> = c:copy_out "COPY (SELECT generate_series(1, 1000000000)) TO STDOUT"
  src:read()
  c:close()
  lu.assertStrContains(fails("io", function() while src:read() do end end).message, "closed")
end

function TestOut.test_closing_the_connection_of_a_fast_copy_does_not_wait_for_a_batch()
  local src <close> = c:copy_out "COPY (SELECT repeat('x', 1000) FROM generate_series(1, 1000000)) TO STDOUT"
  for _ = 1, 20 do src:read() end
  local begun = signal.mono()
  c:close()
  lu.assertTrue(signal.mono() - begun < 8000)
end

function TestOut.test_a_dropped_stream_is_collected_with_its_connection()
  local pids = {}
  for i = 1, 10 do
    local conn = pg.connect(URI)
    pids[i] = conn:pid()
    local src = conn:copy_out "COPY (SELECT generate_series(1, 1000000000)) TO STDOUT"
    src:read()
    conn, src = nil, nil -- luacheck: ignore
  end
  collectgarbage()
  collectgarbage()
  lu.assertTrue(eventually(5, function()
    return admin:value("SELECT count(*) FROM pg_stat_activity WHERE pid = ANY ($1)", pids) == 0
  end))
end

function TestOut.test_silence_times_out()
  local src <close> = c:copy_out(("COPY (%s) TO STDOUT"):format(SLOW))
  c:timeout(0.3)
  fails("timeout", function() while src:read() do end end)
  c:timeout()
  lu.assertEquals(c:value "SELECT 1", 1)
end

TestIn = { setUp = fresh, tearDown = done }

function TestIn.test_rows_may_be_cut_anywhere()
  local sink <close> = c:copy_in "COPY t FROM STDIN"
  for byte in ("1\tone\n2\ttwo\n3\t\\N\n"):gmatch "." do sink:write(byte) end
  lu.assertEquals(count(), 0)
  sink:finish()
  lu.assertEquals({ sink:rows(), count(), c:state() }, { 3, 3, "idle" })
  fails("usage", sink.write, sink, "4\tfour\n")
end

function TestIn.test_a_refused_row_is_told_before_all_is_sent()
  local sink <close> = c:copy_in "COPY t FROM STDIN"
  sink:write "1\tx\nbad\tx\n"
  local wrote = 0
  local err = fails("data", function()
    for i = 1, 500 do
      wrote = i
      sink:write(("2\tx\n"):rep(1000))
      os.execute "sleep 0.01"
    end
  end)
  lu.assertTrue(wrote < 500)
  lu.assertEquals(err.code, "22P02")
  lu.assertStrContains(err.detail, 'CONTEXT: COPY t, line 2, column a: "bad"')
  lu.assertEquals({ count(), c:state() }, { 0, "idle" })
end

function TestIn.test_notices_before_the_error_do_not_hide_it()
  c:exec [[CREATE FUNCTION loud() RETURNS trigger LANGUAGE plpgsql AS
    $$ BEGIN RAISE WARNING 'row %', NEW.a; RETURN NEW; END $$;
    CREATE TRIGGER loud BEFORE INSERT ON t FOR EACH ROW EXECUTE PROCEDURE loud(); SET client_min_messages TO warning]]
  local sink <close> = c:copy_in "COPY t FROM STDIN"
  sink:write "1\tx\n2\tx\nbad\tx\n"
  fails("data", function()
    for _ = 1, 500 do
      sink:write(("2\tx\n"):rep(10))
      os.execute "sleep 0.01"
    end
  end)
  c:exec "DROP FUNCTION loud CASCADE"
end

function TestIn.test_finish_tells_the_error_too()
  local sink <close> = c:copy_in "COPY t FROM STDIN"
  sink:write "1\tx\tmore\n"
  local err = fails("data", sink.finish, sink)
  lu.assertStrContains(err.message, "extra data after last expected column")
  lu.assertNil(sink:rows())
  lu.assertEquals(count(), 0)
end

function TestIn.test_abort_and_close_load_nothing()
  local sink = c:copy_in "COPY t FROM STDIN"
  sink:write "1\tx\n"
  sink:abort "enough"
  fails("io", sink.finish, sink)
  sink:close()
  do
    local other <close> = c:copy_in "COPY t FROM STDIN"
    other:write "1\tx\n"
  end
  lu.assertEquals({ count(), c:state() }, { 0, "idle" })
end

function TestIn.test_a_copy_in_a_transaction_counts_with_its_commit()
  local tx <close> = c:transaction()
  local sink <close> = c:copy_in "COPY t FROM STDIN"
  sink:write "1\tx\n"
  fails("usage", tx.commit, tx)
  sink:finish()
  lu.assertEquals(count(), 0)
  tx:commit()
  lu.assertEquals(count(), 1)
end

function TestIn.test_a_killed_server_process_loads_nothing()
  local sink <close> = c:copy_in "COPY t FROM STDIN"
  sink:write(("1\tx\n"):rep(1000))
  kill()
  fails_lost(function()
    for _ = 1, 100 do sink:write(("1\tx\n"):rep(1000)) end
    sink:finish()
  end)
  lu.assertEquals({ count(), c:state() }, { 0, "broken" })
end

function TestIn.test_a_load_behind_a_lock_is_not_ended()
  local holder <close> = admin:transaction()
  admin:exec "LOCK TABLE t"
  c:timeout(0.5)
  fails("timeout", c.copy_in, c, "COPY t FROM STDIN")
  holder:rollback()
  c:timeout()
  lu.assertEquals(c:value "SELECT 1", 1)
end

function TestIn.test_a_row_of_100_mb_goes_in()
  local sink <close> = c:copy_in "COPY t FROM STDIN"
  sink:write("1\t" .. ("x"):rep(100000000) .. "\n")
  sink:finish()
  lu.assertEquals(admin:value "SELECT length(b) FROM t", 100000000)
end

TestPump = { setUp = fresh, tearDown = done }

function TestPump.test_two_servers_hold_the_same_rows_afterwards()
  admin:exec(MIXED)
  local there <close> = pg.connect(URI2, { session = "data" })
  for _, how in ipairs { "", "(FORMAT csv)", "(FORMAT binary)" } do
    there:exec [[DROP TABLE IF EXISTS mixed;
      CREATE TABLE mixed (id int, big bigint, n numeric, at timestamptz, f float8, s text, even boolean)]]
    local src <close> = c:copy_out("COPY mixed TO STDOUT " .. how)
    local sink <close> = there:copy_in("COPY mixed FROM STDIN " .. how)
    local stats = stream.pump(src, sink)
    lu.assertTrue(stats.rows_in >= 200000)
    lu.assertEquals({ src:rows(), sink:rows() }, { 200000, 200000 })
    lu.assertEquals(there:value(HASH:format "mixed"), admin:value(HASH:format "mixed"))
  end
end

function TestPump.test_an_error_of_the_source_loads_nothing()
  local src <close> = c:copy_out "COPY (SELECT 1 / (90000 - g), 'x' FROM generate_series(1, 100000) g) TO STDOUT"
  local there <close> = pg.connect(URI)
  local sink <close> = there:copy_in "COPY t FROM STDIN"
  lu.assertEquals(fails("data", stream.pump, src, sink).code, "22012")
  lu.assertEquals({ count(), there:state() }, { 0, "idle" })
end

function TestPump.test_an_error_of_the_sink_stops_the_source()
  local src <close> = c:copy_out "COPY (SELECT 'bad', generate_series(1, 1000000000)) TO STDOUT"
  local there <close> = pg.connect(URI)
  local sink <close> = there:copy_in "COPY t FROM STDIN"
  lu.assertStrContains(fails("data", stream.pump, src, sink).detail, "line 1, column a")
  src:close()
  lu.assertEquals({ c:value "SELECT 1", there:value "SELECT 1" }, { 1, 1 })
end

function TestPump.test_cancel_from_the_other_thread_stops_it()
  local src <close> = c:copy_out(("COPY (%s) TO STDOUT"):format(SLOW))
  local told = false
  fails("canceled", stream.pump, src, stream.discard(), {
    interval = 50,
    progress = function()
      told = true
      c:cancel()
    end,
  })
  lu.assertTrue(told)
  src:close()
  lu.assertEquals(admin:value("SELECT count(*) FROM pg_stat_activity WHERE pid = $1 AND state = 'active'", c:pid()), 0)
  lu.assertEquals(c:value "SELECT 1", 1)
end

function TestPump.test_closing_the_connection_under_a_pump_fails_it()
  local src <close> = c:copy_out "COPY (SELECT generate_series(1, 1000000000)) TO STDOUT"
  lu.assertFalse((pcall(stream.pump, src, stream.discard(), {
    interval = 50, progress = function() c:close() end,
  })))
  lu.assertEquals(c:state(), "closed")
end

function TestPump.test_memory_is_constant()
  local before = pgtest.status "VmHWM"
  local src <close> = c:copy_out "COPY (SELECT g, repeat('x', 200) FROM generate_series(1, 1000000) g) TO STDOUT"
  local there <close> = pg.connect(URI)
  local sink <close> = there:copy_in "COPY t FROM STDIN"
  local stats = stream.pump(src, sink)
  lu.assertEquals(stats.rows_out, 1000000)
  if os.getenv "TM_SANITIZER" == "" then
    lu.assertTrue(pgtest.status "VmHWM" - before < 32768, pgtest.status "VmHWM" - before .. " kB more")
  end
end

URI = pgtest.database(NAME)
URI2 = pgtest.database(NAME, os.getenv "TM_PG2")
local code = lu.LuaUnit.run()
pgtest.drop(NAME)
pgtest.drop(NAME, os.getenv "TM_PG2")
os.exit(code)
