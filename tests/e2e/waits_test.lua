-- needs: pg ossd
-- takes: 22
--- wait_for, check, subflow: what is awaited, what is reported, what is handed on.

local json = require "json"
local lab = require "tests.support.lab"
local lu = require "luaunit"
local patience = require "tests.support.patience"
local proc = require "proc"
local state = require "tidemill.state"

local BIN = assert(os.getenv "TM_BIN")
local l, db, lake

local function prepare(name)
  l = lab.new(name)
  db = l:database("db", os.getenv "TM_PG")
  lake = lab.empty(l:lake("lake", "lab-" .. name))
  l:project()
end

local function write(nodes, file, name)
  l:write(file or "f.lua", ('local flow = require "flow"\nreturn flow "%s" {\n%s\n}\n'):format(name or "lab", nodes))
end

local function run(nodes, ...)
  write(nodes)
  return l:run("run", "f.lua", ...)
end

local function with_store(look)
  local store <close> = state.open("sqlite:.tidemill/state.db", { directory = l.dir })
  return look(store)
end

local function last_outputs()
  return with_store(function(store) return store:outputs(store:find_run "last".id) end)
end

local function outputs(nodes, ...)
  local r = run(nodes, ...)
  lu.assertEquals(r.code, 0, r.all)
  return last_outputs()
end

local function fails(nodes, ...)
  local r = run(nodes)
  lu.assertEquals(r.code, 1, r.all)
  for _, words in ipairs { ... } do lu.assertStrContains(r.all, words) end
  return r.all
end

local function log(node) return l:run("logs", "last", node).out end

-- Starts a run, does something once a node polls, and gives the run's result.
local function run_and(nodes, act)
  write(nodes)
  local child <close> = proc.spawn { cmd = { BIN, "run", "f.lua" }, cwd = l.dir, env = l.env, stdout = "pipe",
    stderr = "pipe" }
  local polls = false
  for _ = 1, 200 * patience do
    local ok, found = pcall(with_store, function(store)
      for _, node in ipairs(store:nodes(store:find_run "last".id)) do
        if node.state == "polling" then return true end
      end
    end)
    polls = ok and found
    if polls then break end
    proc.poll({}, 0.1)
  end
  lu.assertTrue(polls, "no node polls")
  act()
  local text = ""
  repeat
    local more = child:read(1, 60)
    text = text .. (more or "")
  until not more or more == ""
  return child:wait(60).code, text
end

-- ---- wait_for ----

TestWait = {}

function TestWait.setUp() prepare "wait" end
function TestWait.tearDown() l:close() end

function TestWait.test_an_object_that_is_there_is_no_wait()
  lake:put("in/${x}", "1234567")
  lake:put("in/a b.csv", "1234567")
  local given = outputs [[
    flow.wait_for "one" { object = "lake:in/a b.csv" },
    flow.wait_for "any" { object = "lake:in/" },
  ]]
  lu.assertEquals(given.one.size, 7)
  lu.assertEquals(given.one.etag, lake:head "in/a b.csv".etag)
  lu.assertEquals(given.any.size, 7)
end

function TestWait.test_what_was_extracted_is_awaited_by_its_manifest()
  local names = require "tidemill.manifest.names"
  local who = { node = "out", run = "r", attempt = 1, business = 0 }
  lake:put("day/out.csv", "1\n") -- nobody has committed it
  require "tidemill.manifest".close(lake, "day/", names.id(who, 2), "attempt 3")
  fails([[flow.wait_for "w" { extracted = "lake:day/", every = "1s", timeout = "1s" },]],
    "nothing has been extracted to lake:day/ yet")
  require "tidemill.manifest".write(lake, "day/", { id = names.id(who), format = { compress = "none", format = "csv" },
    columns = { { name = "a", type = "text" } } },
    { { key = "out.csv", rows = 1, bytes = 2, raw_bytes = 2, crc64 = "1", etag = "e" } })
  lu.assertEquals(outputs([[flow.wait_for "w" { extracted = "lake:day/" },]]).w, { manifest = names.id(who), rows = 1 })
end

function TestWait.test_an_object_may_come_while_it_is_awaited()
  local code, text = run_and([[flow.wait_for "w" { object = "lake:day=${bizdate}/done", every = "1s", timeout = "60s" },
    flow.shell "after" { after = "w", command = "echo ${w.size}" },]], function()
    for _, offset in ipairs { "-1d", "+0d", "-2d" } do -- whatever the zone
      local time = require "time"
      lake:put("day=" .. time.format(time.add(time.now(), offset), "yyyy-MM-dd") .. "/done", "abc")
    end
  end)
  lu.assertEquals(code, 0, text)
  lu.assertStrContains(log "after", "3")
end

function TestWait.test_a_query_may_turn_true()
  db:exec "CREATE TABLE t (id int, at timestamptz)"
  local code, text = run_and([[flow.wait_for "w" { on = "db", query = "SELECT count(*) FROM t", every = "1s" },
    flow.wait_for "new" { on = "db", table = "public.t", column = "at", newer_than = "2026-01-01 00:00", every = "1s" },]],
    function() db:exec "INSERT INTO t VALUES (1, '2026-01-02'), (2, '2025-01-02')" end)
  lu.assertEquals(code, 0, text)
  lu.assertEquals(last_outputs().w, { value = "2" })
  local attempts = with_store(function(store) return store:attempts(store:find_run "last".id) end)
  lu.assertEquals(#attempts, 2) -- looks are not attempts
end

function TestWait.test_what_counts_as_true()
  for sql, true_ in pairs { ["SELECT true"] = "true", ["SELECT 0.01"] = "0.01", ["SELECT -1"] = "-1" } do
    lu.assertEquals(outputs(([[flow.wait_for "w" { on = "db", query = %q },]]):format(sql)).w.value, true_)
  end
  for _, sql in ipairs { "SELECT false", "SELECT 0.00", "SELECT NULL", "SELECT 1 WHERE false" } do
    fails(([[flow.wait_for "w" { on = "db", query = %q, every = "1s", timeout = "1s" },]]):format(sql), "the query says")
  end
  fails([[flow.wait_for "w" { on = "db", query = "SELECT 'soon'" },]], "'soon' is neither true or false nor a number")
  fails([[flow.wait_for "w" { on = "db", query = "DELETE FROM pg_class" },]], "read-only")
end

function TestWait.test_the_timeout_counts_from_the_first_look()
  local signal = require "tidemill.signal"
  local at = signal.mono()
  fails([[flow.wait_for "w" { object = "lake:never", every = "1s", timeout = "3s" },]], "no object lake:never yet")
  local took = signal.mono() - at
  lu.assertTrue(took >= 2900 and took < 15000, took)
end

function TestWait.test_a_missing_bucket_or_table_is_an_error_at_once()
  fails([[flow.wait_for "w" { on = "db", table = "nowhere", column = "a", newer_than = "1" },]], "nowhere")
end

-- The period that a wait asks for, told by the log.
local function awaited(fields, at)
  local r = run(([[flow.wait_for "w" { flow = "other", timeout = "1s", every = "1s", %s },]]):format(fields), "--at", at)
  lu.assertEquals(r.code, 1, r.all)
  return log "w":match "scheduled from (%S+) to (%S+)"
end

function TestWait.test_periods_are_those_of_the_calendar()
  local cases = {
    { "", "2026-03-04 05:06:07", "2026-03-04T00:00:00Z", "2026-03-04T23:59:59.999Z" },
    { "all = false", "2026-03-04 05:06:07", "2026-03-04T00:00:00Z", "2026-03-04T23:59:59.999Z" },
    { "at = 'same'", "2026-03-04 05:06:07", "2026-03-04T05:06:07Z", "2026-03-04T05:06:07Z" },
    { "at = 'hour', offset = '-1h'", "2026-03-04 00:06:07", "2026-03-03T23:00:00Z", "2026-03-03T23:59:59.999Z" },
    { "at = 'week', offset = '-1w'", "2026-03-04 05:06:07", "2026-02-23T00:00:00Z", "2026-03-01T23:59:59.999Z" },
    { "at = 'month', offset = '-1M'", "2026-03-31 05:06:07", "2026-02-01T00:00:00Z", "2026-02-28T23:59:59.999Z" },
    { "from = '-7d', to = '+0d'", "2026-03-04 05:06:07", "2026-02-25T05:06:07Z", "2026-03-04T05:06:07Z" },
  }
  for _, case in ipairs(cases) do
    local from, to = awaited(case[1], case[2])
    lu.assertEquals({ from, to }, { case[3], case[4] }, case[1])
  end
end

-- ---- check ----

TestCheck = {}

function TestCheck.setUp()
  prepare "check"
  db:exec [[
    CREATE TABLE customers (id int); INSERT INTO customers VALUES (1), (2);
    CREATE TABLE orders (id int, "Customer" int, kind text, amount numeric, day date, at timestamptz);
    INSERT INTO orders VALUES (1, 1, 'web', 10, '2026-01-01', now()), (2, 2, 'shop', 20, '2026-01-01', now()),
      (2, 3, 'phone', -5, '2026-01-01', now() - interval '2 days'), (NULL, NULL, NULL, NULL, '2026-01-02', NULL)]]
end
function TestCheck.tearDown() l:close() end

local function checked(rules, more)
  return ([[flow.check "c" { on = "db", table = "orders", %s rules = { %s } },]]):format(more or "", rules)
end

local function report()
  return json.decode(last_outputs().c.report)
end

-- By name: how many rows break a rule, whatever is allowed.
local function counts(rules, more)
  outputs(checked(rules, more))
  local found = {}
  for _, result in ipairs(report()) do found[result.name] = result.found end
  return found
end

local ALL = [[
  { not_null = "id", severity = "warn" }, { not_null = { "kind", "amount" }, name = "both", severity = "warn" },
  { unique = "id", severity = "warn" }, { unique = { "id", "Customer" }, name = "pair", severity = "warn" },
  { accepted = { column = "kind", values = { "web", "shop" } }, severity = "warn" },
  { range = { column = "amount", min = 0, max = 15 }, severity = "warn" },
  { references = { column = "Customer", table = "customers", to = "id" }, severity = "warn" },
  { sql = "SELECT * FROM orders WHERE amount < 0;", name = "negative", severity = "warn" },
  { rows = { min = 1, max = 100 } }, { fresh = { column = "at", within = "1h" } },
]]

function TestCheck.test_every_kind_counts_its_rows()
  lu.assertEquals(counts(ALL), { ["not_null: id"] = 1, both = 1, ["unique: id"] = 1, pair = 0, ["accepted: kind"] = 1,
    ["range: amount"] = 2, ["references: Customer"] = 1, negative = 1, rows = 4 })
  local c = last_outputs().c
  lu.assertEquals({ c.passed, c.warned, c.failed, c.violations }, { 3, 7, 0, 8 })
  local text = log "c"
  for _, words in ipairs { "bad rows", "range: amount +warn +2", "pair +pass +0", "to see them: SELECT %* FROM orders" } do
    lu.assertTrue(text:find(words) ~= nil, words .. " in " .. text)
  end
end

function TestCheck.test_a_condition_limits_every_rule()
  lu.assertEquals(counts([[{ not_null = "id", severity = "warn" }, { unique = "id", severity = "warn" },
    { references = { column = "Customer", table = "customers", to = "id" } }, { rows = { max = 1 } }]],
    [[where = "day = '2026-01-02' -- one",]]),
    { ["not_null: id"] = 1, ["unique: id"] = 0, ["references: Customer"] = 0, rows = 1 })
end

function TestCheck.test_a_violated_rule_fails_the_node_and_what_is_behind_it()
  local all = fails(checked [[{ not_null = "id" }, { unique = "id" }, { rows = { min = 10 } },
      { range = { column = "amount", max = 100 } }]]
    .. [[flow.shell "behind" { after = "c", command = "true" },]],
    "3 of 4 rules violated", "'not_null: id' (1 row)", "'rows' (4 rows; wanted at least 10)")
  lu.assertStrContains(all, "tidemill logs")
  lu.assertTrue(log "c":find "unique: id +fail +1" ~= nil)
  local states = with_store(function(store)
    local found = {}
    for _, node in ipairs(store:nodes(store:find_run "last".id)) do found[node.node] = node.state end
    return found
  end)
  lu.assertEquals(states, { c = "failed", behind = "skipped" })
end

function TestCheck.test_some_rows_may_be_allowed()
  outputs(checked [[{ not_null = "id", max = 1 }, { range = { column = "amount", min = 0, max = 15 }, max = 2 }]])
  lu.assertEquals(report()[2].result, "pass")
  lu.assertTrue(log "c":find "2 allowed" ~= nil)
  fails(checked [[{ range = { column = "amount", min = 0, max = 15 }, max = 1 }]], "1 of 1 rule violated")
end

function TestCheck.test_old_or_missing_values_are_not_fresh()
  fails(checked([[{ fresh = { column = "at", within = "1h" } }]], [[where = "id = 2 AND kind = 'phone'",]]), "s old")
  fails(checked([[{ fresh = { column = "at", within = "1h" } }]], [[where = "false",]]), "there is no value at all")
  outputs(checked [[{ fresh = { column = "day", within = "20000d" } }]])
end

function TestCheck.test_a_rule_that_the_server_refuses_is_named()
  fails(checked [[{ not_null = "id" }, { range = { column = "amont", min = 0 } }]], "rule 'range: amont'", "does not exist")
  fails(checked [[{ accepted = { column = "id", values = { "x" } } }]], "rule 'accepted: id'")
  fails(checked [[{ sql = "SELECT 1 FROM orders WHERE 1 / (id - id) > 0", name = "odd" }]], "rule 'odd'", "division by zero")
  fails([[flow.check "c" { on = "db", table = "nowhere", rules = { { rows = { min = 1 } } } },]], "nowhere")
end

function TestCheck.test_it_only_reads()
  fails([[flow.check "c" { on = "db", rules = { { sql = "DELETE FROM orders RETURNING *", name = "evil" } } },]], "rule 'evil'")
  lu.assertEquals(db:value "SELECT count(*) FROM orders", 4)
end

-- ---- subflow ----

TestSubflow = {}

function TestSubflow.setUp() prepare "subflow" end
function TestSubflow.tearDown() l:close() end

function TestSubflow.test_its_run_has_this_business_time_and_its_outputs_come_back()
  write([[params = { region = "eu" },
    flow.assign "a" { on = "db", sql = "SELECT '${region}-${bizdate}'", outputs = { label = 1 } },]], "child.lua", "child")
  local r = run([[
    flow.subflow "s" { file = "child.lua", set = { region = "us" } },
    flow.shell "after" { after = "s", command = "echo got ${s.label} of ${s.run_id}" },
  ]], "--at", "2026-03-02")
  lu.assertEquals(r.code, 0, r.all)
  with_store(function(store)
    local children = {}
    for _, one in ipairs(store:runs { limit = 10 }) do
      if one.cause == "subflow" then children[#children + 1] = one end
    end
    lu.assertEquals(#children, 1)
    lu.assertEquals(children[1].flow, "child")
    lu.assertStrContains(l:run("logs", r.all:match "run (%S+) of flow 'lab'", "after").out,
      ("got us-2026-03-01 of %s"):format(children[1].id))
  end)
end

function TestSubflow.test_its_failure_is_the_nodes()
  write([[flow.shell "bad" { command = "exit 4" },]], "child.lua", "child")
  local all = fails([[flow.subflow "s" { file = "child.lua" },]], "of flow 'child' is failed")
  lu.assertStrContains(all, "exit code 4")
end

os.exit(lu.LuaUnit.run())
