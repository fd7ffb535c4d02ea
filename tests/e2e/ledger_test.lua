-- needs: pg ossd
-- takes: 50
--- The ledger in the target: of all attempts of a node in a run, whatever becomes of them, one commits.

local attempt = require "tests.support.attempt"
local errors = require "tidemill.errors"
local lab = require "tests.support.lab"
local ledger = require "tidemill.ledger"
local lu = require "luaunit"
local once = require "tidemill.once"
local pg = require "pg"
local proc = require "proc"
local state = require "tidemill.state"

local BIN = assert(os.getenv "TM_BIN")
local l, db, url

local function who(n, run) return { run = run or "r", node = "n", attempt = n, flow = "lab" } end

local function prepare(name)
  l = lab.new(name)
  db, url = l:database("db", os.getenv "TM_PG")
end

-- A ledger as it is where the server takes no primary key.
local function without_key()
  ledger.claim(db, who(1, "first"))
  db:exec "ALTER TABLE tidemill.load_ledger DROP CONSTRAINT load_ledger_pkey"
end

-- What makes an iterator over a list.
local function each(list)
  return function()
    local i = 0
    return function()
      i = i + 1
      return list[i]
    end
  end
end

local function kind_of(f, ...)
  local ok, raised = pcall(f, ...)
  return not ok and errors.from(raised).kind or nil, raised
end

local function complete(conn, claim, rows)
  local tx <close> = conn:transaction()
  conn:exec "INSERT INTO work VALUES (1)"
  claim:complete(conn, { row_count = rows })
  tx:commit()
end

local function work() return db:value "SELECT count(*) FROM work" end

-- ---- the ledger itself ----

TestLedger = {}

function TestLedger.setUp()
  prepare "ledger"
  db:exec "CREATE TABLE work (i int)"
end
function TestLedger.tearDown() l:close() end

local function in_both_forms(body)
  body()
  db:exec "DROP SCHEMA tidemill CASCADE; TRUNCATE work"
  without_key()
  body()
end

function TestLedger.test_what_is_done_is_seen_by_every_later_attempt()
  in_both_forms(function()
    local first = ledger.claim(db, who(1))
    lu.assertNil(first.done)
    lu.assertNil(ledger.done(db, who(1)))
    complete(db, first, 7)
    lu.assertEquals(ledger.claim(db, who(2)).done, { attempt = 1, row_count = 7 })
    lu.assertEquals(ledger.claim(db, who(2)).done, { attempt = 1, row_count = 7 }) -- the same once more
    lu.assertNil(ledger.claim(db, who(1, "another run")).done)
    lu.assertEquals(kind_of(ledger.claim, db, who(1)), "conflict")
  end)
end

function TestLedger.test_an_attempt_that_was_taken_over_commits_nothing()
  in_both_forms(function()
    local old, new = ledger.claim(db, who(1)), ledger.claim(db, who(2))
    local kind, raised = kind_of(complete, db, old, 1)
    lu.assertEquals(kind, "conflict")
    lu.assertStrContains(raised.message, "attempt 1 of node 'n' was taken over by attempt 2")
    lu.assertEquals(work(), 0)
    complete(db, new, 1)
    lu.assertEquals(kind_of(complete, db, old, 1), "conflict")
    lu.assertEquals(kind_of(complete, db, new, 1), "conflict") -- nor twice
    lu.assertEquals(work(), 1)
  end)
end

function TestLedger.test_a_rolled_back_completion_leaves_nothing()
  local claim = ledger.claim(db, who(1))
  do
    local tx <close> = db:transaction()
    claim:complete(db, { row_count = 1, objects = each { { key = "a", etag = "e", rows = 1 } } })
    tx:rollback()
  end
  lu.assertNil(ledger.done(db, who(1)))
  lu.assertEquals(db:value "SELECT count(*) FROM tidemill.load_ledger", 1)
end

function TestLedger.test_objects_stand_beside_their_node()
  local claim = ledger.claim(db, who(3))
  local tx <close> = db:transaction()
  claim:complete(db, { row_count = 5, manifest = "m", objects = each { { key = "k'1", etag = "e,1", rows = 2 },
    { key = "k{2}", rows = 3 } } })
  tx:commit()
  lu.assertEquals(db:query [[SELECT object, epoch, manifest, etag, row_count FROM tidemill.load_ledger
    WHERE object <> '' ORDER BY object]][1],
    { object = "k'1", epoch = 3, manifest = "m", etag = "e,1", row_count = 2 })
  lu.assertEquals(db:value "SELECT sum(row_count) FROM tidemill.load_ledger WHERE object <> ''", "5")
end

function TestLedger.test_isolation_of_the_server_does_not_matter()
  for _, level in ipairs { "repeatable read", "serializable" } do
    db:exec(("SET default_transaction_isolation = '%s'"):format(level))
    local other <close> = pg.connect(url)
    local old = ledger.claim(db, who(1, level))
    local tx = db:transaction()
    db:exec "INSERT INTO work VALUES (1)" -- takes the snapshot
    ledger.claim(other, who(2, level))
    lu.assertEquals(kind_of(old.complete, old, db, { row_count = 1 }), "conflict", level)
    tx:rollback()
  end
end

function TestLedger.test_a_role_without_rights_is_told_what_to_ask_for()
  db:exec [[DROP ROLE IF EXISTS lab_ledger_weak; CREATE ROLE lab_ledger_weak;
    REVOKE CREATE ON SCHEMA public FROM PUBLIC; SET ROLE lab_ledger_weak]]
  local kind, raised = kind_of(ledger.claim, db, who(1))
  lu.assertEquals(kind, "auth")
  lu.assertStrContains(raised.hint, "CREATE SCHEMA IF NOT EXISTS tidemill AUTHORIZATION")
  db:exec "RESET ROLE"
  ledger.claim(db, who(1))
  db:exec "GRANT USAGE ON SCHEMA tidemill TO lab_ledger_weak; SET ROLE lab_ledger_weak"
  kind, raised = kind_of(ledger.claim, db, who(2))
  lu.assertEquals(kind, "auth")
  lu.assertStrContains(raised.hint, "GRANT")
  db:exec "RESET ROLE; GRANT SELECT, INSERT, UPDATE ON tidemill.load_ledger TO lab_ledger_weak; SET ROLE lab_ledger_weak"
  lu.assertNil(ledger.claim(db, who(2)).done)
  db:exec "RESET ROLE; DROP OWNED BY lab_ledger_weak; DROP ROLE lab_ledger_weak"
end

-- Runs a script in `count` processes at once; what each printed.
local function together(count, script)
  l:write("together.lua", script)
  local children, said = {}, {}
  for i = 1, count do
    children[i] = proc.spawn { cmd = { BIN, "exec", l.dir .. "/together.lua", url, tostring(i) }, stdout = "pipe" }
  end
  for i, child in ipairs(children) do
    said[i] = ""
    repeat
      local more = child:read(1, 60)
      said[i] = said[i] .. (more or "")
    until not more or more == ""
    child:close()
  end
  return said
end

function TestLedger.test_many_may_make_the_table_at_once()
  for _ = 1, 5 do
    local said = together(8, [[
      local url, i = ...
      local conn <close> = require "pg".connect(url)
      local ok, err = pcall(require "tidemill.ledger".claim, conn, { run = "r", node = "n" .. i, attempt = 1, flow = "f" })
      print(ok and "claimed" or err.message)]])
    for _, text in ipairs(said) do lu.assertEquals(text, "claimed\n") end
    lu.assertEquals(db:value "SELECT count(*) FROM tidemill.load_ledger", 8)
    db:exec "DROP SCHEMA tidemill CASCADE"
  end
end

function TestLedger.test_of_racing_attempts_exactly_one_commits()
  in_both_forms(function()
    local said = together(4, [[
      local url, i = ...
      local ledger, pg, proc = require "tidemill.ledger", require "pg", require "proc"
      local conn <close> = pg.connect(url)
      math.randomseed(os.time(), tonumber(i))
      local committed = 0
      for round = 1, 60 do
        local ok, claim = pcall(ledger.claim, conn, { run = "race" .. round, node = "n", attempt = tonumber(i), flow = "f" })
        if ok and not claim.done then
          proc.poll({}, math.random() * 0.004)
          local fine, err = pcall(function()
            local tx <close> = conn:transaction()
            conn:query("INSERT INTO work VALUES ($1)", round)
            claim:complete(conn, { row_count = 1 })
            tx:commit()
          end)
          if fine then committed = committed + 1 elseif err.kind ~= "conflict" then print(err) end
        elseif not ok and claim.kind ~= "conflict" then
          print(claim)
        end
      end
      print("committed", committed)]])
    local total = 0
    for _, text in ipairs(said) do
      local n = text:match "^committed\t(%d+)\n$"
      lu.assertNotNil(n, text)
      total = total + n
    end
    lu.assertEquals(total, 60)
    lu.assertEquals(db:value "SELECT count(DISTINCT i) || '/' || count(*) FROM work", "60/60")
  end)
end

-- A context for lua/once.lua alone.
local function context()
  return { run_id = "r", node = "n", attempt = 1, flow = "lab", log = function() end,
    end_session = require "tidemill.node".Context.end_session,
    postgres = function() return pg.connect(url) end }
end

function TestLedger.test_a_commit_whose_answer_is_lost_is_looked_up()
  local function in_doubt() error(errors.new("in_doubt", "the connection broke"), 0) end
  for _, committed in ipairs { true, false } do
    local ctx = context()
    ctx.run_id = tostring(committed)
    local conn = pg.connect(url)
    local claim = once.claim(ctx, conn)
    local tx = conn:transaction()
    conn:exec "INSERT INTO work VALUES (1)"
    local kind = kind_of(once.commit, ctx, "db", conn, { commit = function()
      if committed then tx:commit() end
      in_doubt()
    end }, claim, { row_count = 1 })
    lu.assertEquals(kind, not committed and "io" or nil)
  end
  lu.assertEquals(work(), 1)
end

-- ---- attempts of nodes ----

TestAttempts = {}

local ROWS = 4000

function TestAttempts.setUp()
  prepare "attempts"
  lab.empty(l:lake("lake", "lab-attempts"))
  l:project()
  db:exec(([[CREATE TABLE src AS SELECT i, repeat('x', 50) AS note FROM generate_series(1, %d) i;
    CREATE TABLE dst (i int, note text); CREATE TABLE ran (run text)]]):format(ROWS))
  l:flow("f.lua", [[
    flow.extract "out" { from = "db", table = "src", to = "lake:d/", object_size = "60kB" },
    flow.load "in" { from = "lake:d/", on = "db", into = "dst" },
    flow.wait_for "seen" { extracted = "lake:d" },
    flow.sql "sql" { on = "db", exactly_once = true, sql = "INSERT INTO ran VALUES ('${run_id}'); SELECT pg_sleep(0.02)" },
    flow.loop "loop" { on = "db", exactly_once = true, count = 12, batch = 2,
      sql = "INSERT INTO ran VALUES ('${run_id}/${loop.index}')" },
    flow.sql "slow" { on = "db", sql = "INSERT INTO ran VALUES ('slow'); SELECT pg_sleep(60)" },
  ]])
  local r = l:run("run", "f.lua", "--only", "out")
  lu.assertEquals(r.code, 0, r.all)
end
function TestAttempts.tearDown() l:close() end

local function count(table, run)
  return db:value(("SELECT count(*) FROM %s%s"):format(table, run and (" WHERE run = '%s'"):format(run) or ""))
end

-- An extract whose manifest's put fails, after or without having been done: what it raises, its
-- outputs, and the keys that are there then.
local function extract_with(put, before)
  local manifest = require "tidemill.manifest"
  local write, store, outputs, keys = manifest.write, l:lake("late", "lab-late"), {}, {}
  local ctx = { flow = "f", node = "out", run_id = "r", attempt = 1, business = 0, timezone = "UTC",
    model = { by_name = { out = { spec = { table = "src" } } } } }
  function ctx.location() return store, "d/" end
  function ctx.postgres() return pg.connect(url) end
  function ctx.progress() end
  function ctx.log() end
  function ctx.report() end
  function ctx.announce() end
  function ctx.sealed_many() end
  function ctx.fact() end
  function ctx.keep() end
  function ctx.output(_, name, value) outputs[name] = value end
  if before then before(store) end
  manifest.write = function(...)
    put(write, ...)
    error(errors.new("io", "no answer"), 0)
  end
  local ok, raised = pcall(require "tidemill.node.extract", ctx, { from = "db", table = "src", to = "late:d/", format = "csv",
    delimiter = ",", quote = '"', escape = '"', null = "", header = false, encoding = "UTF8", compress = "none",
    object_size = 1 << 28 })
  manifest.write = write
  for entry in store:list {} do
    keys[#keys + 1] = entry.key
    store:delete(entry.key)
  end
  return ok or errors.from(raised).message, outputs, table.concat(keys, " ")
end

function TestAttempts.test_a_manifest_whose_put_got_no_answer_is_looked_up()
  local said, outputs, keys = extract_with(function(write, ...) write(...) end)
  lu.assertEquals({ said, outputs.rows, outputs.manifest }, { true, ROWS, "19700101T000000Z-r-out-0001" })
  lu.assertEquals(keys, "d/_manifest/19700101T000000Z-r-out-0001.json d/out-19700101T000000Z-r-1-1-000001.csv")
end

function TestAttempts.test_a_place_that_another_node_has_taken_is_no_success()
  local place = "d/_manifest/19700101T000000Z-r-out-0001.json"
  for text, message in pairs { ['{"tidemill_manifest":1}'] = "is not usable",
    [ [[{"bytes":0,"columns":[{"name":"a","type":"text"}],"format":{"compress":"none","format":"csv"},"id":"19700101T000000Z-r-out-0001",]]
      .. [["node":"Out","object_count":0,"raw_bytes":0,"rows":0,"tidemill_manifest":2,"objects":[]] .. "\n]}\n" ]
      = "node 'Out' has put the manifest" } do
    local said, outputs, keys = extract_with(function() end, function(store) store:put(place, text) end)
    lu.assertStrContains(said, message)
    lu.assertEquals(outputs, {})
    lu.assertStrContains(keys, place)
  end
end

function TestAttempts.test_a_manifest_that_was_not_put_leaves_no_objects_and_can_never_come()
  local said, outputs, keys = extract_with(function() end)
  lu.assertEquals({ said, outputs, keys }, { "no answer", {}, "d/_manifest/19700101T000000Z-r-out-0001.json" })
end

-- COMMIT takes a while, so that what happens at random happens in it too.
local function slow_commit(table, seconds)
  db:exec(([[CREATE OR REPLACE FUNCTION linger() RETURNS trigger LANGUAGE plpgsql AS $$
      BEGIN IF pg_trigger_depth() = 1 AND random() < 0.001 * %d THEN PERFORM pg_sleep(%s); END IF; RETURN NULL; END $$;
    CREATE CONSTRAINT TRIGGER linger AFTER INSERT ON %s DEFERRABLE INITIALLY DEFERRED
      FOR EACH ROW EXECUTE FUNCTION linger()]]):format(table == "dst" and 1 or 1000, seconds, table))
end

local function assert_ledger(run, node)
  local row = db:one("SELECT done_epoch, row_count FROM tidemill.load_ledger WHERE run_id = $1 AND node = $2 AND object = ''",
    run, node)
  lu.assertNotEquals(row.done_epoch, pg.null)
  return row
end

function TestAttempts.test_a_repeated_load_does_nothing_and_says_what_was_done()
  local attempts = attempt.of(l, "f.lua")
  local one <close> = attempts:start { run_id = "r1", node = "in", attempt = 1 }
  lu.assertTrue(one:finish().ok)
  local two <close> = attempts:start { run_id = "r1", node = "in", attempt = 2, sessions = one.sessions }
  lu.assertTrue(two:finish().ok)
  lu.assertEquals(two.outputs.rows, ROWS)
  lu.assertStrContains(table.concat(two.logs, "\n"), "attempt 1 has committed this already")
  lu.assertEquals(count "dst", ROWS)
  local late <close> = attempts:start { run_id = "r1", node = "in", attempt = 1 }
  lu.assertEquals(late:finish().error.kind, "conflict")
  local rerun <close> = attempts:start { run_id = "r2", node = "in", attempt = 1 }
  lu.assertTrue(rerun:finish().ok)
  lu.assertEquals(count "dst", 2 * ROWS) -- a rerun is another run
end

-- The keys below d/ that hold this text.
local function keys_of(text)
  local found = {}
  for entry in l:lake("lake", "lab-attempts"):list "d/" do
    if entry.key:find(text, 1, true) then found[#found + 1] = entry.key end
  end
  return found
end

local function load_as(run, upstream)
  local load <close> = attempt.of(l, "f.lua"):start { run_id = run, node = "in", attempt = 1, upstream = upstream }
  return load:finish(), load
end

function TestAttempts.test_a_frozen_extract_cannot_commit_beside_its_successor()
  db:exec "INSERT INTO src SELECT i, repeat('y', 3000) FROM generate_series(1, 6000) i"
  local rows = count "src"
  local attempts = attempt.of(l, "f.lua")
  local frozen = 0
  for i = 1, 10 do
    local run = "freeze" .. i
    local one <close> = attempts:start { run_id = run, node = "out", attempt = 1 }
    one:serve(0.03 * i)
    one:kill "STOP"
    local two <close> = attempts:start { run_id = run, node = "out", attempt = 2 } -- nobody told it of the session
    lu.assertTrue(two:finish().ok)
    one:kill "CONT"
    local first = one:finish()
    lu.assertEquals(#keys_of(("Z-%s-1-"):format(run)) > 0, first.ok) -- what it left is gone, unless it was through
    if not first.ok then
      frozen = frozen + 1
      if first.error.kind ~= "canceled" then
        lu.assertEquals(first.error.kind, "conflict", first.error.message)
        lu.assertStrContains(first.error.message, "attempt 1 of node 'out' was closed by attempt 2")
      end
    end
    local result, load = load_as(run, { out = two.outputs })
    lu.assertTrue(result.ok, result.error and result.error.message)
    lu.assertEquals(load.outputs.rows, rows)
  end
  lu.assertTrue(frozen > 0, "no attempt was stopped in time")
end

function TestAttempts.test_a_killed_extract_leaves_nothing_once_another_has_begun()
  db:exec "INSERT INTO src SELECT i, repeat('y', 3000) FROM generate_series(1, 6000) i"
  local attempts, manifest, killed = attempt.of(l, "f.lua"), require "tidemill.manifest", 0
  for i = 1, 8 do
    local run = "kill" .. i
    local one <close> = attempts:start { run_id = run, node = "out", attempt = 1 }
    one:serve(0.04 * i)
    one:kill "KILL"
    if not one:finish() then killed = killed + 1 end
    proc.poll({}, 0.3) -- what it was putting is there or is not
    local two <close> = attempts:start { run_id = run, node = "out", attempt = 2, sessions = one.sessions }
    lu.assertTrue(two:finish().ok)
    local store = l:lake("lake", "lab-attempts")
    local wanted, found = {}, {}
    for _, id in ipairs(manifest.list(store, "d/")) do -- one at least; two if the first was killed after its commit
      local m = id:find(("-%s-"):format(run), 1, true) and manifest.look(store, "d/", id)
      for object in (m and m:objects() or function() end) do wanted[#wanted + 1] = "d/" .. object.key end
    end
    table.sort(wanted)
    lu.assertTrue(#wanted > 0)
    for _, key in ipairs(keys_of(("Z-%s-"):format(run))) do
      if key:find "%.csv$" then found[#found + 1] = key end
    end
    lu.assertEquals(found, wanted)
    lu.assertEquals(store:list_multiparts "d/", {})
  end
  lu.assertTrue(killed > 0)
end

function TestAttempts.test_a_manifest_that_came_late_changes_no_load()
  local attempts, lake = attempt.of(l, "f.lua"), l:lake("lake", "lab-attempts")
  lab.empty(lake) -- of setUp's run, which is newer
  local one <close> = attempts:start { run_id = "r1", node = "out", attempt = 2 }
  lu.assertTrue(one:finish().ok)
  local id = one.outputs.manifest
  local text = lake:get(("d/_manifest/%s.json"):format(id))
  for _, other in ipairs { (id:gsub("2$", "1")), (id:gsub("%-r1%-", "-r0-")), (id:gsub("2$", "3")) } do
    lake:put(("d/_manifest/%s.json"):format(other), (text:gsub(id:gsub("%-", "%%-"), other):gsub('"etag":"', '%0no')))
  end
  lu.assertTrue(load_as("r1", { out = { manifest = id } }).ok) -- the very one
  lu.assertTrue(load_as("r5", { seen = { manifest = id } }).ok)
  lu.assertStrContains(load_as("r6", { seen = { manifest = id }, out = { manifest = id .. "0" } }).error.message,
    "there is no manifest 'd/") -- an extract's goes before what was waited for
  lu.assertStrContains(load_as("r2", {}).error.message, "was replaced") -- the newest of all
  lake:delete(("d/_manifest/%s.json"):format((id:gsub("2$", "3"))))
  lu.assertTrue(load_as("r3", {}).ok)
  lu.assertEquals(count "dst", 3 * ROWS)
  lu.assertStrContains(load_as("r4", { out = { manifest = (id:gsub("2$", "9")) } }).error.message, "there is no manifest 'd/")
end

-- Stops attempt 1 after `moment` seconds, lets attempt 2 do the work, and wakes attempt 1 again.
local function stop_and_take_over(node, run, moment, known)
  local attempts = attempt.of(l, "f.lua")
  local one <close> = attempts:start { run_id = run, node = node, attempt = 1 }
  one:serve(moment)
  one:kill "STOP"
  proc.poll({}, 0.02)
  local two <close> = attempts:start { run_id = run, node = node, attempt = 2, sessions = known and one.sessions or nil }
  two:serve(2) -- it may have to wait for a row that the sleeper holds, if nobody ended its session
  one:kill "CONT"
  return one:finish(), two:finish(), one, two
end

function TestAttempts.test_a_sleeper_cannot_commit_beside_its_successor()
  slow_commit("dst", 0.05)
  local slept = 0
  for i = 1, 24 do
    local run = "sleep" .. i
    local first, second, one, two = stop_and_take_over("in", run, 0.25 * (i - math.random()) / 24, i % 2 == 0)
    lu.assertTrue(second.ok, second.error and second.error.message)
    lu.assertEquals(two.outputs.rows, ROWS)
    lu.assertEquals(count "dst", ROWS * i, run)
    local row = assert_ledger(run, "in")
    lu.assertEquals(row.row_count, ROWS)
    if first.ok then
      lu.assertEquals(one.outputs.rows, ROWS)
      lu.assertEquals(row.done_epoch, 1)
    else
      slept = slept + 1
      lu.assertEquals(row.done_epoch, 2)
    end
  end
  lu.assertTrue(slept > 0, "no attempt was stopped in time")
end

function TestAttempts.test_a_sleeping_exactly_once_node_runs_once()
  slow_commit("ran", 0.05)
  local slept = 0
  for i = 1, 16 do
    local run = "sleep" .. i
    local first, second = stop_and_take_over("sql", run, 0.2 * (i - math.random()) / 16, i % 2 == 0)
    lu.assertTrue(second.ok, second.error and second.error.message)
    lu.assertEquals(count("ran", run), 1)
    assert_ledger(run, "sql")
    slept = slept + (first.ok and 0 or 1)
  end
  lu.assertTrue(slept > 0, "no attempt was stopped in time")
end

-- Attempts that are killed at random moments, until one is left alone.
local function kill_until_done(node, run, longest)
  local attempts = attempt.of(l, "f.lua")
  local sessions, number, killed = {}, 0, 0
  while true do
    number = number + 1
    local one <close> = attempts:start { run_id = run, node = node, attempt = number,
      sessions = number > 1 and sessions or nil }
    if number <= 2 then
      one:serve(math.random() * longest)
      if not one.status then killed = killed + 1 end
      one:kill "KILL"
    end
    local result = one:finish()
    for _, session in ipairs(one.sessions) do sessions[#sessions + 1] = session end
    if result then
      lu.assertTrue(result.ok, result.error and result.error.message)
      return number, killed
    end
  end
end

function TestAttempts.test_kills_at_random_moments_lose_and_double_nothing()
  slow_commit("dst", 0.03)
  local killed = 0
  for i = 1, 50 do
    local run = "kill" .. i
    killed = killed + select(2, kill_until_done("in", run, 0.2))
    lu.assertEquals(count "dst", ROWS * i, run)
    lu.assertEquals(assert_ledger(run, "in").row_count, ROWS)
    lu.assertEquals(db:value("SELECT sum(row_count) FROM tidemill.load_ledger WHERE run_id = $1 AND object <> ''", run),
      tostring(ROWS))
  end
  lu.assertTrue(killed >= 20, killed)
end

function TestAttempts.test_kills_of_an_exactly_once_node_run_it_once()
  slow_commit("ran", 0.03)
  for i = 1, 30 do
    kill_until_done("sql", "kill" .. i, 0.15)
    lu.assertEquals(count("ran", "kill" .. i), 1)
  end
end

function TestAttempts.test_turns_that_were_committed_stay_done_when_batches_change()
  local function flow_of(batch, breaks_at)
    return ([[local flow = require "flow"
      return flow "batches" { flow.loop "loop" { on = "db", exactly_once = true, count = 6, batch = %d,
        sql = "INSERT INTO ran VALUES ('${run_id}/${loop.index}/' || 1 / (${loop.index} - %d))" } }]]):format(batch, breaks_at)
  end
  local function run_attempt(number, text)
    l:write("batches.lua", text)
    local one <close> = attempt.of(l, "batches.lua"):start { run_id = "batches", node = "loop", attempt = number }
    return one:finish(), one.outputs
  end
  lu.assertStrContains(run_attempt(1, flow_of(2, 5)).error.detail, "turns 1 to 4 are committed")
  local result, outputs = run_attempt(2, flow_of(3, 100))
  lu.assertTrue(result.ok)
  lu.assertEquals({ outputs.rows, outputs.iterations }, { 6, 6 })
  lu.assertEquals(db:value "SELECT count(*) FROM ran WHERE run LIKE 'batches/%'", 6)
end

function TestAttempts.test_kills_of_an_exactly_once_loop_run_each_turn_once()
  slow_commit("ran", 0.01)
  for i = 1, 20 do
    local run = "kill" .. i
    kill_until_done("loop", run, 0.25)
    lu.assertEquals(db:value("SELECT count(DISTINCT run) || '/' || count(*) FROM ran WHERE run LIKE $1", run .. "/%"), "12/12")
    lu.assertEquals(assert_ledger(run, "loop").row_count, 12)
  end
end

function TestAttempts.test_a_session_that_dies_in_its_commit_is_repeated_and_commits_once()
  slow_commit("ran", 5)
  local attempts = attempt.of(l, "f.lua")
  local one <close> = attempts:start { run_id = "r", node = "sql", attempt = 1 }
  for _ = 1, 100 do
    one:serve(0.1)
    if db:value [[SELECT count(*) FROM pg_stat_activity WHERE query ~* '^COMMIT' AND state = 'active'
      AND datname = current_database()]] > 0 then break end
  end
  db:query [[SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE query ~* '^COMMIT' AND state = 'active'
    AND datname = current_database()]]
  local result = one:finish()
  lu.assertFalse(result.ok)
  lu.assertEquals(result.error.kind, "io", result.error.message)
  lu.assertStrContains(result.error.message, "nothing was committed")
  db:exec "DROP TRIGGER linger ON ran"
  local two <close> = attempts:start { run_id = "r", node = "sql", attempt = 2, sessions = one.sessions }
  lu.assertTrue(two:finish().ok)
  lu.assertEquals(count("ran", "r"), 1)
end

function TestAttempts.test_a_lost_attempts_session_is_ended_before_anything_runs()
  local attempts = attempt.of(l, "f.lua")
  local one <close> = attempts:start { run_id = "r", node = "slow", attempt = 1 }
  for _ = 1, 100 do
    one:serve(0.1)
    local sleeping = db:value [[SELECT count(*) FROM pg_stat_activity
      WHERE query LIKE '%pg_sleep(60)%' AND state = 'active' AND pid <> pg_backend_pid() AND datname = current_database()]]
    if #one.sessions > 0 and sleeping > 0 then break end
  end
  one:kill "STOP"
  local two <close> = attempts:start { run_id = "r", node = "sql", attempt = 2, sessions = one.sessions }
  lu.assertTrue(two:finish().ok)
  lu.assertStrContains(table.concat(two.logs, "\n"), "ended session")
  lu.assertEquals(db:value("SELECT count(*) FROM pg_stat_activity WHERE pid = $1", one.sessions[1].backend_pid), 0)
  one:kill "CONT"
  lu.assertFalse(one:finish().ok)
  lu.assertEquals(count("ran", "slow"), 0)
end

function TestAttempts.test_no_statement_runs_before_its_session_is_acknowledged()
  local attempts = attempt.of(l, "f.lua")
  local one <close> = attempts:start { run_id = "r", node = "sql", attempt = 1 }
  one.acks = false
  for _ = 1, 300 do
    one:serve(0.1)
    if #one.sessions > 0 then break end
  end
  one:serve(0.5)
  lu.assertEquals(#one.sessions, 1)
  lu.assertNil(one.result)
  lu.assertEquals(count("ran", "r"), 0)
  one.handle:close_fd(4) -- the runner is gone
  local result = one:finish()
  lu.assertEquals(result.error.kind, "canceled")
  lu.assertEquals(count("ran", "r"), 0)
end

function TestAttempts.test_a_restored_run_does_not_redo_what_was_committed()
  l:flow("g.lua", [[
    flow.extract "out" { from = "db", table = "src", to = "lake:g/", object_size = "60kB" },
    flow.load "in" { after = "out", from = "lake:g/", on = "db", into = "dst" },
    flow.sql "behind" { after = "in", on = "db", sql = "SELECT 1 / (SELECT count(*) FROM ran)" },
  ]])
  lu.assertEquals(l:run("run", "g.lua").code, 1)
  lu.assertEquals(count "dst", ROWS)
  local run
  do
    local store <close> = state.open("sqlite:.tidemill/state.db", { directory = l.dir })
    run = store:find_run "last".id
    store.db:exec("UPDATE nodes SET state = 'failed' WHERE run_id = ? AND node = 'in'", run) -- as if its end was lost
  end
  db:exec "INSERT INTO ran VALUES ('x')"
  local r = l:run("restore", run)
  lu.assertEquals(r.code, 0, r.all)
  lu.assertEquals(count "dst", ROWS)
  r = l:run("rerun", run)
  lu.assertEquals(r.code, 0, r.all)
  lu.assertEquals(count "dst", 2 * ROWS)
end

os.exit(lu.LuaUnit.run())
