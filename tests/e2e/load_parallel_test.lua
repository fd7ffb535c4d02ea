-- needs: pg ossd
-- takes: 34
--- Loads that are cut short or run beside their extract: every row once, and nothing before its time.

local attempt = require "tests.support.attempt"
local lab = require "tests.support.lab"
local ledger = require "tidemill.ledger"
local lu = require "luaunit"
local manifest = require "tidemill.manifest"
local proc = require "proc"

local ROWS = 4000
local l = lab.new "load_parallel"
local db = l:database("db", os.getenv "TM_PG")
local lake = l:lake("lake", "lab-load-parallel")
l:project()

local function reset()
  lab.empty(lake)
  db:exec(([[DROP SCHEMA IF EXISTS tidemill, public CASCADE; CREATE SCHEMA public; SET client_min_messages = warning;
    CREATE TABLE src AS SELECT i AS id, repeat('x', 1000) AS pad FROM generate_series(1, %d) i;
    CREATE TABLE dst (LIKE src)]]):format(ROWS))
end

-- Rows come slowly into the target.
local function slowly()
  db:exec [[CREATE FUNCTION slow() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN PERFORM pg_sleep(0.1); RETURN NEW; END';
    CREATE TRIGGER slow BEFORE INSERT ON dst FOR EACH ROW WHEN (NEW.id % 100 = 0) EXECUTE FUNCTION slow()]]
end

local function count(where) return db:value("SELECT count(*) FROM dst WHERE " .. (where or "true")) end

local function assert_each_once()
  lu.assertEquals(db:value "SELECT count(*) || '/' || count(DISTINCT id) FROM dst", ("%d/%d"):format(ROWS, ROWS))
  lu.assertEquals(db:value [[SELECT count(*) FROM pg_class c JOIN pg_namespace n ON n.oid = relnamespace
    WHERE nspname = 'tidemill' AND relname LIKE 'stage%']], 0, "a staging table is left")
end

local LOAD = [[flow.load "in" { %s from = "lake:data/", on = "db", into = "dst", %s },]]

local function wait_until(seconds, holds)
  for _ = 1, seconds * 50 do
    if holds() then return true end
    proc.poll({}, 0.02)
  end
  lu.fail "it never came to that"
end

-- ---- killed and restored ----

TestKilled = {}

function TestKilled.setUp()
  reset()
  l:flow("out.lua", [[flow.extract "out" { from = "db", table = "src", to = "lake:data/", object_size = "64kB", jobs = 1 },]])
  lu.assertEquals(l:run("run", "out.lua").code, 0)
  l:flow("f.lua", LOAD:format("", "jobs = 3"))
end

local function pieces() return db:value "SELECT count(*) FROM tidemill.load_ledger WHERE object <> ''" end

-- Runs a command and kills its processes once so many objects more are committed; then their sessions
-- come to an end, of which one may just have been committing.
local function kill_after(more, ...)
  local before = db:value "SELECT count(*) FROM pg_class WHERE relname = 'load_ledger'" > 0 and pieces() or 0
  local run <close> = proc.spawn { cmd = { "sh", "-c", 'exec "$@" >>run.log 2>&1', "sh", os.getenv "TM_BIN", ... },
    cwd = l.dir, env = l.env }
  wait_until(30, function()
    local ok, n = pcall(pieces)
    return ok and n >= before + more
  end)
  run:kill "KILL"
  run:wait(60)
  wait_until(30, function()
    return db:value [[SELECT count(*) FROM pg_stat_activity WHERE application_name LIKE 'tidemill lab/%'
      AND datname = current_database()]] == 0
  end)
end

function TestKilled.test_a_load_of_several_jobs_goes_on_where_it_was_killed()
  slowly()
  kill_after(1, "run", "f.lua")
  kill_after(2, "restore", "last")
  local early = pieces()
  local first = db:value "SELECT max(epoch) FROM tidemill.load_ledger WHERE object = ''"
  local r = l:run("restore", "last")
  lu.assertEquals(r.code, 0, r.all)
  assert_each_once()
  lu.assertTrue(early >= 3, early)
  lu.assertTrue(db:value("SELECT count(*) FROM tidemill.load_ledger WHERE object <> '' AND epoch <= $1", first) >= early)
  lu.assertEquals(db:value [[SELECT sum(row_count) FILTER (WHERE object <> '') || '/' ||
    sum(row_count) FILTER (WHERE object = '') FROM tidemill.load_ledger]], ("%d/%d"):format(ROWS, ROWS))
end

function TestKilled.test_it_goes_on_with_its_manifest_though_there_is_a_newer_one()
  slowly()
  kill_after(2, "run", "f.lua")
  db:exec "UPDATE src SET id = id + 100000"
  lu.assertEquals(l:run("run", "out.lua").code, 0)
  local r = l:run("restore", "last", "--flow", "lab")
  if r.code == 2 then r = l:run("restore", db:value "SELECT run_id FROM tidemill.load_ledger LIMIT 1") end
  lu.assertEquals(r.code, 0, r.all)
  assert_each_once()
  lu.assertEquals(count "id > 100000", 0)
end

function TestKilled.test_pieces_of_other_data_are_a_conflict_that_says_what_to_do()
  slowly()
  kill_after(1, "run", "f.lua")
  local loaded = count()
  db:exec "UPDATE tidemill.load_ledger SET etag = 'another' WHERE object <> ''"
  local r = l:run("restore", "last")
  lu.assertEquals(r.code, 1)
  lu.assertStrContains(r.all, "of other data of lake:data/")
  lu.assertStrContains(r.all, "DELETE FROM tidemill.load_ledger WHERE run_id = ")
  lu.assertEquals(count(), loaded)
end

function TestKilled.test_one_job_goes_on_where_several_were_killed()
  slowly()
  kill_after(1, "run", "f.lua")
  l:flow("f.lua", LOAD:format("", "jobs = 1"))
  local attempts = attempt.of(l, "f.lua")
  local run = db:value "SELECT run_id FROM tidemill.load_ledger LIMIT 1"
  local one <close> = attempts:start { run_id = run, node = "in", attempt = 9 }
  local result = one:finish()
  lu.assertTrue(result.ok, result.error and result.error.message)
  assert_each_once()
  lu.assertEquals(one.outputs.rows, ROWS)
end

function TestKilled.test_pieces_are_not_merged_upon()
  slowly()
  kill_after(1, "run", "f.lua")
  local run, before = db:value "SELECT run_id FROM tidemill.load_ledger LIMIT 1", count()
  for i, fields in ipairs { "mode = 'merge', keys = 'id'", "via = 'oss_fdw'", "jobs = 2, reject = { max = 1, to = 'lake:bad/' }",
    "verify = 'count'" } do
    l:flow("f.lua", LOAD:format("", fields))
    local one <close> = attempt.of(l, "f.lua"):start { run_id = run, node = "in", attempt = 8 + i }
    local result = one:finish()
    lu.assertEquals(result.error and result.error.kind, "conflict", fields)
    lu.assertStrContains(result.error.message, "appended and committed")
    lu.assertEquals(count(), before)
  end
end

-- ---- beside the extract ----

TestPipelined = {}

local WAYS = { "mode = 'append'", "mode = 'append', jobs = 3", "mode = 'replace'", "mode = 'merge', keys = 'id', jobs = 2",
  "mode = 'replace_where', where = 'id > 0'" }

-- Objects and the manifest of an extract, to be told of by the test in the runner's place.
local function extracted()
  reset()
  l:flow("out.lua", [[flow.extract "out" { from = "db", table = "src", to = "lake:data/", object_size = "64kB", jobs = 1 },]])
  lu.assertEquals(l:run("run", "out.lua").code, 0)
  local id = manifest.newest(lake, "data/")
  local m, objects = manifest.open(lake, "data/", "lake:data/", id), {}
  for object in m:objects() do objects[#objects + 1] = object end
  for n, object in ipairs(objects) do object.n = n end
  lu.assertTrue(#objects > 2)
  return m, objects
end

-- An attempt of the load that is fed; `script[n]` is what the n-th question is answered by, or a
-- function that is called instead.
local function fed(fields, m, number, script)
  l:flow("f.lua", LOAD:format("", fields))
  local one = attempt.of(l, "f.lua"):start { run_id = "r", node = "in", attempt = number,
    feed = { node = "out", attempt = number, location = "lake:data/", head = { columns = m.columns, format = m.format } } }
  local asked = 0
  function one.answers.feed(question)
    asked = asked + 1
    one.question, one.asked = question.ack, asked
    return script[asked]
  end
  return one
end

-- Serves it until it has asked its n-th question, which the script does not answer.
local function asks(one, n)
  for _ = 1, 1200 do
    if one.asked == n then return end
    one:serve(0.05)
  end
  lu.fail "it does not ask"
end

local function prepare(fields)
  local m, objects = extracted()
  if fields:find "replace" then db:exec "INSERT INTO dst VALUES (7, 'old'), (8, 'old')" end
  return m, objects, count()
end

function TestPipelined.test_nothing_is_published_before_the_manifest()
  for _, fields in ipairs(WAYS) do
    local m, objects, before = prepare(fields)
    local one <close> = fed(fields, m, 1, { { objects = { objects[2] } },
      { objects = { objects[1], table.unpack(objects, 3, #objects - 1) } } })
    asks(one, 3)
    for _ = 1, 100 do -- until all that was told is there
      one:serve(0.05)
      if db:value [[SELECT count(*) FROM pg_stat_activity WHERE query LIKE 'COPY%' AND state = 'active'
        AND datname = current_database()]] == 0 then break end
    end
    one:serve(0.3)
    lu.assertNil(one.result)
    lu.assertEquals(count(), before, fields)
    one:answer(one.question, { manifest = m.id }) -- the last object is known by the manifest alone
    local result = one:finish()
    lu.assertTrue(result.ok, result.error and result.error.message)
    lu.assertNil(result.wait)
    assert_each_once()
    lu.assertEquals(db:value "SELECT sum(row_count) FROM tidemill.load_ledger WHERE object <> ''", tostring(ROWS), fields)
  end
end

function TestPipelined.test_objects_told_of_together_with_the_manifest_are_loaded_once()
  for _, fields in ipairs(WAYS) do
    local m, objects = prepare(fields)
    db:exec "BEGIN; LOCK TABLE dst" -- every worker is busy while the rest is told
    local one <close> = fed(fields, m, 1, { { objects = { objects[1] } }, { objects = { table.unpack(objects, 2) } },
      { manifest = m.id } })
    one:serve(0.7)
    db:exec "COMMIT"
    local result = one:finish()
    lu.assertTrue(result.ok, result.error and result.error.message)
    assert_each_once()
  end
end

function TestPipelined.test_an_extract_that_goes_away_leaves_nothing_behind()
  for _, fields in ipairs(WAYS) do
    local m, objects, before = prepare(fields)
    local one <close> = fed(fields, m, 1, { { objects = { objects[1], objects[2] } }, { upstream = "retry" } })
    local result = one:finish()
    lu.assertTrue(result.ok, result.error and result.error.message)
    lu.assertEquals(result.wait, { kind = "upstream" })
    lu.assertEquals(count(), before, fields)
    lu.assertEquals(pieces(), 0)
    -- offered again, as an ordinary load
    local two <close> = attempt.of(l, "f.lua"):start { run_id = "r", node = "in", attempt = 2, sessions = one.sessions }
    result = two:finish()
    lu.assertTrue(result.ok, result.error and result.error.message)
    assert_each_once()
  end
end

-- An extract that fails removes its objects before anyone is told of its end.
function TestPipelined.test_an_object_may_be_gone_before_the_news_of_it()
  for _, fields in ipairs { WAYS[1], WAYS[2], WAYS[4] } do
    local m, objects, before = prepare(fields)
    lake:delete("data/" .. objects[2].key)
    local one <close> = fed(fields, m, 1, { { objects = { objects[1], objects[2] } } })
    asks(one, 2)
    one:serve(0.3)
    lu.assertNil(one.result)
    one:answer(one.question, { upstream = "failed" })
    local result = one:finish()
    lu.assertEquals(result.wait, { kind = "upstream" }, result.error and result.error.message)
    lu.assertEquals(count(), before, fields)
  end
end

function TestPipelined.test_it_goes_away_while_all_workers_are_busy()
  for _, fields in ipairs { "mode = 'append'", "mode = 'append', jobs = 2" } do
    local m, objects = extracted()
    db:exec [[CREATE FUNCTION stop() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN PERFORM pg_sleep(60); RETURN NEW; END';
      CREATE TRIGGER stop BEFORE INSERT ON dst FOR EACH ROW EXECUTE FUNCTION stop()]]
    local one <close> = fed(fields, m, 1, { { objects = { objects[1], objects[2] } }, { upstream = "lost" } })
    local result = one:finish()
    lu.assertEquals(result.wait, { kind = "upstream" })
    lu.assertEquals(count(), 0)
  end
end

function TestPipelined.test_what_the_manifest_does_not_have_is_not_published()
  for _, fields in ipairs { WAYS[2], WAYS[4] } do
    local m, objects, before = prepare(fields)
    local other = {}
    for key, value in pairs(objects[1]) do other[key] = value end
    lake:put("data/other", lake:get("data/" .. other.key))
    other.key, other.etag = "other", lake:head "data/other".etag
    local one <close> = fed(fields, m, 1, { { objects = { other, objects[2] } }, { manifest = m.id } })
    local result = one:finish()
    lu.assertEquals(result.wait, { kind = "upstream" }, fields)
    lu.assertStrContains(table.concat(one.logs, "\n"), "other objects than it had told of")
    lu.assertEquals(count(), before)
  end
end

function TestPipelined.test_no_objects_are_a_result_too()
  for _, fields in ipairs { WAYS[2], WAYS[3], WAYS[4] } do
    reset()
    db:exec "TRUNCATE src; INSERT INTO dst VALUES (7, 'old')"
    l:flow("out.lua", [[flow.extract "out" { from = "db", table = "src", to = "lake:data/" },]])
    lu.assertEquals(l:run("run", "out.lua").code, 0)
    local m = manifest.open(lake, "data/", "lake:data/", manifest.newest(lake, "data/"))
    local one <close> = fed(fields, m, 1, { { manifest = m.id } })
    lu.assertTrue(one:finish().ok)
    lu.assertEquals(count(), fields:find "replace" and 0 or 1)
    lu.assertEquals(ledger.claim(db, { run = "r", node = "in", attempt = 2, flow = "lab" }).done.row_count, 0)
  end
end

function TestPipelined.test_rows_that_wait_for_each_other_wait_for_the_manifest()
  local m, objects = extracted()
  db:exec [[CREATE TABLE sums (n int); INSERT INTO sums VALUES (0);
    CREATE FUNCTION sum() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN UPDATE sums SET n = n + 1; RETURN NEW; END';
    CREATE TRIGGER sum BEFORE INSERT ON dst FOR EACH ROW WHEN (NEW.id % 50 = 0) EXECUTE FUNCTION sum()]]
  local one <close> = fed("jobs = 3", m, 1, { { objects = objects } })
  asks(one, 2)
  one:serve(0.3)
  one:answer(one.question, { manifest = m.id })
  local result = one:finish()
  lu.assertTrue(result.ok, result.error and result.error.message)
  assert_each_once()
  lu.assertEquals(db:value "SELECT n FROM sums", ROWS // 50)
end

local code = lu.LuaUnit.run()
l:close()
os.exit(code)
