-- needs: pg pg2 ossd
--- The flows in scripts/ run as they stand, with their own project file.

local lab = require "tests.support.lab"
local lu = require "luaunit"

local l, rds, adbpg, lake

local function copy_script(name)
  local f <close> = assert(io.open("scripts/" .. name))
  l:write(name, f:read "a")
end

TestScripts = {}

function TestScripts.setUp()
  l = lab.new "scripts"
  local rds_url, adbpg_url
  rds, rds_url = l:database("rds", os.getenv "TM_PG")
  adbpg, adbpg_url = l:database("adbpg", os.getenv "TM_PG2")
  lake = lab.empty(l:lake("lake", "lab-scripts"))
  for name, value in pairs { RDS_URL = rds_url, ADBPG_URL = adbpg_url, LAKE_URL = "oss://lab-scripts",
    LAKE_ENDPOINT = os.getenv "TM_OSSD", LAKE_REGION = "cn-test", LAKE_ADDRESSING = "path" } do
    l.env[name] = value
  end
  copy_script "tidemill.lua"
end

function TestScripts.tearDown() l:close() end

function TestScripts.test_the_tutorials_pipeline_moves_its_thousand_rows()
  copy_script "rds_to_adbpg.lua"
  rds:exec "CREATE TABLE t_src (a int, b int, c date)"
  rds:exec "INSERT INTO t_src SELECT generate_series(1, 1000), 1, now()"
  adbpg:exec "CREATE TABLE t_target (a int, b int, c date)"
  local r = l:run("run", "rds_to_adbpg.lua")
  lu.assertEquals(r.code, 0, r.all)
  local figures = "SELECT count(*) || '/' || sum(a) || '/' || min(c) || '/' || max(c) FROM "
  lu.assertEquals(adbpg:value(figures .. "t_target"), rds:value(figures .. "t_src"))
end

function TestScripts.test_orders_are_masked_cleaned_and_summed_up_and_a_second_run_changes_nothing()
  copy_script "orders_to_warehouse.lua"
  rds:exec [[CREATE TABLE orders (id bigint, customer text, email text, amount numeric(12,2),
    quantity int, note text, created_at timestamptz)]]
  rds:exec [[
    INSERT INTO orders SELECT i, CASE WHEN i % 10 = 0 THEN 'test' ELSE 'c' || i % 100 END,
      CASE WHEN i % 7 = 0 THEN NULL ELSE 'ann' || i || '@example.com' END, i * 0.25, i % 5,
      CASE i % 3 WHEN 0 THEN E'two\nlines, "quoted"' WHEN 1 THEN '' ELSE repeat('漢字', 50) END,
      '2026-01-01 00:00:00+08'::timestamptz + i * interval '1 second'
    FROM generate_series(1, 50000) i ]]
  rds:exec "INSERT INTO orders VALUES (0, 'c', 'x@y', 1, 1, 'the day after', '2026-01-02 00:00:00+08')"
  for _ = 1, 2 do
    local r = l:run("run", "orders_to_warehouse.lua", "--at", "2026-01-02 01:30:00")
    lu.assertEquals(r.code, 0, r.all)
    lu.assertStrContains(r.all, "45000 orders")
    lu.assertEquals(adbpg:value "SELECT count(*) FROM dw.orders", 45000)
    lu.assertEquals(adbpg:value "SELECT count(*) FROM dw.orders WHERE customer = 'test'", 0)
    lu.assertEquals(adbpg:value "SELECT count(*) FROM dw.orders WHERE email LIKE 'a***@example.com'",
      rds:value "SELECT count(email) FROM orders WHERE customer <> 'test' AND id > 0")
    lu.assertEquals(adbpg:value "SELECT sum(amount)::text || md5(string_agg(note, '' ORDER BY id)) FROM dw.orders",
      rds:value [[SELECT sum(amount)::text || md5(string_agg(note, '' ORDER BY id)) FROM orders
        WHERE customer <> 'test' AND id > 0]])
    lu.assertEquals(adbpg:value "SELECT orders FROM dw.revenue", 45000)
  end
  local objects = 0
  for entry in lake:list { prefix = "orders/2026-01-01/" } do
    if entry.key:find "%.gz$" then objects = objects + 1 end
  end
  lu.assertTrue(objects >= 4, objects .. " objects") -- two runs of several objects
end

function TestScripts.test_a_day_of_events_is_read_and_loaded_at_once_and_replaced_by_a_second_run()
  copy_script "events_by_day.lua"
  rds:exec [[CREATE TABLE events (id bigint PRIMARY KEY, kind text, at timestamptz, amount numeric(12,2), payload jsonb);
    INSERT INTO events SELECT i, 'k' || i % 5, '2025-12-31 22:00:00+08'::timestamptz + i * interval '1 second', i / 7.0,
      jsonb_build_object('n', i, 'note', repeat('x', i % 50)) FROM generate_series(1, 100000) i]]
  local day = "SELECT count(*) || '/' || sum(hashtextextended(t::text, 0)::numeric) FROM %s t WHERE " ..
    "at >= '2026-01-01 00:00:00+08' AND at < '2026-01-02 00:00:00+08'"
  for rerun = 1, 2 do
    local r = l:run("run", "events_by_day.lua", "--at", "2026-01-02 00:15:00")
    lu.assertEquals(r.code, 0, r.all)
    lu.assertEquals(adbpg:value(day:format "dw.events"), rds:value(day:format "events"))
    lu.assertEquals(adbpg:value "SELECT count(*) FROM dw.events", 86400)
    rds:exec [[UPDATE events SET kind = 'late' WHERE id % 1000 = 0;
      INSERT INTO events VALUES (-1, 'yesterday', '2025-12-31 23:59:59+08', 1, NULL)
        ON CONFLICT DO NOTHING]]
    if rerun == 1 then adbpg:exec "INSERT INTO dw.events VALUES (-2, 'gone', '2026-01-01 12:00:00+08')" end
  end
  lu.assertEquals(adbpg:value "SELECT count(*) FROM dw.events WHERE kind = 'late'", 86)
end

os.exit(lu.LuaUnit.run())
