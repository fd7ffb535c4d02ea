-- needs: pg pg2 ossd
--- on_drift: columns that come, go or change at the source are told by name, and done with as the flow says.

local lab = require "tests.support.lab"
local lu = require "luaunit"

local l, rds, adbpg

TestDrift = {}

function TestDrift.setUp()
  l = lab.new "drift"
  rds = l:database("rds", os.getenv "TM_PG")
  adbpg = l:database("adbpg", os.getenv "TM_PG2")
  lab.empty(l:lake("lake", "lab-drift"))
  l:project()
  rds:exec "CREATE TABLE src (id int, note text); INSERT INTO src SELECT i, 'n' || i FROM generate_series(1, 10) i"
  adbpg:exec "CREATE TABLE dst (id int, note text)"
end

function TestDrift.tearDown() l:close() end

local function pair(extract, load)
  l:flow("t.lua", ([[
    flow.extract "out" { from = "rds", to = "lake:data/", table = "src", %s },
    flow.load "in" { after = "out", from = "lake:data/", on = "adbpg", into = "dst", mode = "replace", %s },
  ]]):format(extract or "", load or ""))
  return l:run("run", "t.lua")
end

local function assert_good(r)
  lu.assertEquals(r.code, 0, r.all)
  lu.assertEquals(adbpg:value "SELECT count(*) FROM dst", rds:value "SELECT count(*) FROM src")
end

function TestDrift.test_a_drift_fails_with_all_names_until_it_is_accepted()
  assert_good(pair())
  assert_good(pair())
  rds:exec "ALTER TABLE src ADD COLUMN more numeric(5,1), ADD COLUMN at date, DROP COLUMN note, ALTER id TYPE bigint"
  local r = pair()
  lu.assertEquals(r.code, 1, r.all)
  lu.assertStrContains(r.all, "'more' (numeric(5,1)), 'at' (date) are new; 'note' (text) is gone; 'id' is bigint, was integer")
  lu.assertStrContains(r.all, "on_drift = \"add\"")
  lu.assertEquals(pair().code, 1) -- a failure accepts nothing
  adbpg:exec "ALTER TABLE dst ADD COLUMN more numeric, ADD COLUMN at date"
  local reset = l:run("watermark", "lab", "out", "--reset", "columns")
  lu.assertEquals(reset.code, 0, reset.all)
  assert_good(pair())
end

function TestDrift.test_another_order_is_no_drift()
  assert_good(pair())
  rds:exec "ALTER TABLE src RENAME TO old; CREATE TABLE src AS SELECT note, id FROM old"
  assert_good(pair())
end

function TestDrift.test_what_the_flow_changes_itself_is_no_drift()
  assert_good(pair())
  l:flow("t.lua", [[flow.extract "out" { from = "rds", to = "lake:data/", query = "SELECT id FROM src" }]])
  lu.assertEquals(l:run("run", "t.lua").code, 0)
end

function TestDrift.test_ignore_leaves_new_columns_out_for_good()
  assert_good(pair("on_drift = 'ignore', jobs = 2"))
  rds:exec "ALTER TABLE src ADD COLUMN more int DEFAULT 7, ALTER id TYPE bigint"
  for _ = 1, 2 do
    local r = pair("on_drift = 'ignore', jobs = 2, verify = 'hash'", "verify = 'hash'")
    assert_good(r)
    lu.assertStrContains(r.all, "'more' (integer) is new")
  end
end

function TestDrift.test_add_takes_them_along_into_a_table_that_gets_them()
  assert_good(pair("on_drift = 'add'", "on_drift = 'add'"))
  rds:exec "ALTER TABLE src ADD COLUMN more numeric(5,1) DEFAULT 7, ADD COLUMN \"A b\" text[]"
  local r = pair("on_drift = 'add', verify = 'hash'", "on_drift = 'add', verify = 'hash'")
  assert_good(r)
  lu.assertStrContains(r.all, "table dst gets 'more' (numeric(5,1)), 'A b' (text[])")
  lu.assertEquals(adbpg:value "SELECT sum(more)::text FROM dst", "70.0")
  assert_good(pair("on_drift = 'add'", "on_drift = 'add'"))
end

function TestDrift.test_a_load_can_leave_columns_of_the_objects_out()
  rds:exec "ALTER TABLE src ADD COLUMN more int DEFAULT 7"
  local r = pair()
  lu.assertEquals(r.code, 1)
  lu.assertStrContains(r.all, "table dst has no column 'more'")
  for _, mode in ipairs { "mode = 'replace'", "mode = 'append'", "mode = 'merge', keys = { 'id' }" } do
    adbpg:exec "TRUNCATE dst"
    r = pair("verify = 'hash'", ("verify = 'hash', on_drift = 'ignore', %s"):format(mode))
    assert_good(r)
    lu.assertStrContains(r.all, "table dst lacks 'more' (integer)")
  end
end

os.exit(lu.LuaUnit.run())
