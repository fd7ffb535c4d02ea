-- needs: pg pg2 ossd
--- reject: rows that the table does not take are set aside, and all others are loaded.

local lab = require "tests.support.lab"
local lu = require "luaunit"

local l, rds, adbpg, lake

TestReject = {}

function TestReject.setUp()
  l = lab.new "reject"
  rds = l:database("rds", os.getenv "TM_PG")
  adbpg = l:database("adbpg", os.getenv "TM_PG2")
  lake = lab.empty(l:lake("lake", "lab-reject"))
  l:project()
  adbpg:exec "CREATE TABLE dst (id int PRIMARY KEY, v int CHECK (v < 1000000), note text)"
  adbpg:exec "CREATE TABLE bad (object text, line bigint, sqlstate text, message text, column_name text, record text, record_bytes bytea)"
end

function TestReject.tearDown() l:close() end

-- Rows whose v is i, or else what `bad` says; notes with quotes and newlines.
local function source(count, bad)
  rds:exec "DROP TABLE IF EXISTS src"
  rds:exec(([[CREATE TABLE src AS SELECT i AS id, CASE WHEN %s THEN 'no ' || i ELSE i::text END AS v,
    CASE i %% 4 WHEN 0 THEN E'two\nlines' WHEN 1 THEN 'say "hi", you' WHEN 2 THEN repeat(E'back\\slash\ttab ', 70) END AS note
    FROM generate_series(1, %d) i]]):format(bad, count))
end

local function pair(extract, load)
  l:flow("t.lua", ([[
    flow.extract "out" { from = "rds", to = "lake:data/", query = "SELECT * FROM src ORDER BY id", %s },
    flow.load "in" { after = "out", from = "lake:data/", on = "adbpg", into = "dst", %s },
    flow.load "rejected" { after = "in", from = "lake:rejects/", on = "adbpg", into = "bad", when = "${in.rejected} > 0" },
  ]]):format(extract, load))
  return l:run("run", "t.lua", "--at", "2026-03-02 04:05:06")
end

local function rejects()
  local n = 0
  for _ in lake:list { prefix = "rejects/" } do n = n + 1 end
  return n
end

local function assert_loaded(r, good, bad)
  lu.assertEquals(r.code, 0, r.all)
  lu.assertEquals(adbpg:value "SELECT count(*) FROM dst", good)
  lu.assertEquals(adbpg:value "SELECT count(*) FROM bad", bad)
end

function TestReject.test_one_bad_row_of_many_wherever_it_is()
  for _, at in ipairs { 1, 777, 12000 } do
    adbpg:exec "TRUNCATE dst; TRUNCATE bad"
    source(12000, "i = " .. at)
    local r = pair("compress = 'gzip', header = true", "reject = { max = 1, to = 'lake:rejects/' }, verify = 'count'")
    assert_loaded(r, 11999, 1)
    local row = adbpg:one "SELECT * FROM bad"
    lu.assertEquals(row.sqlstate, "22P02")
    lu.assertEquals(row.column_name, "v")
    lu.assertStrContains(row.message, "invalid input syntax for type integer")
    lu.assertEquals(row.record:match "^%d+,no (%d+),", tostring(at))
    -- A header, and a line more for each note with a newline before it.
    lu.assertEquals(row.line, 1 + at + (at - 1) // 4)
    lu.assertNil(r.all:find("more rows are rejected", 1, true))
  end
end

function TestReject.test_without_a_bad_row_nothing_is_written()
  source(100, "false")
  assert_loaded(pair("format = 'text'", "reject = { to = 'lake:rejects/' }"), 100, 0)
  lu.assertEquals(rejects(), 0)
end

function TestReject.test_text_and_csv_and_neighbours_and_constraints()
  for _, format in ipairs { "format = 'text'", "format = 'text', delimiter = '|', null = 'NIL'",
    "delimiter = ';', quote = \"'\", object_size = '30kB'" } do
    adbpg:exec "TRUNCATE dst; TRUNCATE bad"
    source(3000, "i % 10 = 3 OR i BETWEEN 500 AND 520 OR i > 2990")
    rds:exec "UPDATE src SET v = '1000001' WHERE id = 2000; UPDATE src SET id = 17 WHERE id = 18; UPDATE src SET id = NULL WHERE id = 20"
    local r = pair(format, "reject = { percent = 15, to = 'lake:rejects/' }")
    local bad = 300 + 21 + 10 - 2 - 1 + 3
    assert_loaded(r, 3000 - bad, bad)
    lu.assertEquals(adbpg:value [[SELECT string_agg(sqlstate || ' ' || n, ',' ORDER BY sqlstate)
      FROM (SELECT sqlstate, count(*) AS n FROM bad GROUP BY 1) q]], ("22P02 %d,23502 1,23505 1,23514 1"):format(bad - 3))
    lu.assertEquals(adbpg:value "SELECT count(*) FROM dst WHERE id = 17 AND v IN (17, 18)", 1)
  end
end

function TestReject.test_all_rows_bad()
  source(300, "true")
  assert_loaded(pair("", "reject = { to = 'lake:rejects/' }"), 0, 300)
end

function TestReject.test_too_many_bad_rows_load_nothing_and_leave_nothing()
  source(2000, "i % 100 = 0")
  for _, limit in ipairs { "max = 19", "percent = 0.9" } do
    local r = pair("", ("reject = { %s, to = 'lake:rejects/' }"):format(limit))
    lu.assertEquals(r.code, 1, r.all)
    lu.assertStrContains(r.all, limit:match "%a+" == "max" and "20 rows are bad, reject.max is 19"
      or "19 rows are bad, reject.percent is 0.9 of 2000 rows")
    lu.assertEquals(adbpg:value "SELECT count(*) FROM dst", 0)
    lu.assertEquals(rejects(), 0)
  end
end

function TestReject.test_several_jobs_modes_and_verify_by_hash()
  source(12000, "i % 1000 = 7")
  for _, mode in ipairs { "jobs = 2", "mode = 'replace'", "mode = 'merge', keys = { 'id' }, jobs = 2",
    "mode = 'replace_where', where = 'id > 0'" } do
    adbpg:exec "TRUNCATE dst; TRUNCATE bad; INSERT INTO dst VALUES (-1, 1, 'before')"
    local r = pair("object_size = '200kB', verify = 'hash'",
      ("%s, verify = 'hash', reject = { max = 20, to = 'lake:rejects/' }"):format(mode))
    lu.assertEquals(r.code, 0, r.all)
    lu.assertEquals(adbpg:value "SELECT count(*) FROM dst WHERE id > 0", 11988)
    lu.assertEquals(adbpg:value "SELECT count(*) FROM bad", 12)
  end
end

function TestReject.test_bytes_that_are_not_utf8_are_kept_as_bytes()
  source(3, "i = 2")
  rds:exec "UPDATE src SET note = 'café'"
  assert_loaded(pair("encoding = 'LATIN1', format = 'text'", "reject = { to = 'lake:rejects/' }"), 2, 1)
  lu.assertEquals(adbpg:value "SELECT record IS NULL FROM bad", true)
  lu.assertEquals(adbpg:value "SELECT record_bytes FROM bad", "2\tno 2\tcaf\xe9")
  lu.assertEquals(adbpg:value "SELECT count(*) FROM dst WHERE note = 'café'", 2)
end

function TestReject.test_a_foreign_key_fails_the_load()
  source(100, "false")
  adbpg:exec "CREATE TABLE ref (v int PRIMARY KEY); ALTER TABLE dst ADD FOREIGN KEY (v) REFERENCES ref"
  local r = pair("", "reject = { to = 'lake:rejects/' }")
  lu.assertEquals(r.code, 1, r.all)
  lu.assertStrContains(r.all, "23503")
  lu.assertEquals(rejects(), 0)
end

function TestReject.test_a_failing_commit_takes_the_rejected_rows_away_again()
  source(100, "i = 5")
  adbpg:exec "CREATE TABLE ref (v int PRIMARY KEY)"
  adbpg:exec "ALTER TABLE dst ADD FOREIGN KEY (v) REFERENCES ref DEFERRABLE INITIALLY DEFERRED"
  local r = pair("", "reject = { to = 'lake:rejects/' }")
  lu.assertEquals(r.code, 1, r.all)
  lu.assertEquals(rejects(), 0)
end

os.exit(lu.LuaUnit.run())
