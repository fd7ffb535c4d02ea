-- needs: pg pg2 ossd
-- timeout: 2400
--- A transfer's memory does not depend on how much is moved. With TM_SCALE=full: the same, within a
--- tenth, for a million rows and for fifty million.

local json = require "json"
local lab = require "tests.support.lab"
local lu = require "luaunit"

local FULL = os.getenv "TM_SCALE" == "full"
-- Even a million fill what the nodes may use; fewer do not always, for it depends on how many parts
-- are on their way at one time. Then only the bound is looked at.
local FEW, MANY, MEMORY, BOUND = 200000, 800000, "48M", 64 << 20
if FULL then FEW, MANY, MEMORY, BOUND = 1000000, 50000000, "96M", 96 << 20 end

local EXTRACT = 'flow.extract "out" { from = "rds", table = "many", to = "lake:many/", format = "text", jobs = %d, ' ..
  'compress = "%s", object_size = "16MB" },'
local LOAD = 'flow.load "in" { from = "lake:many/", on = "adbpg", into = "many", jobs = %d, %s },'

local l, rds, adbpg

TestMemory = {}

function TestMemory.setUp()
  l = lab.new "memory"
  rds = l:database("rds", os.getenv "TM_PG")
  adbpg = l:database("adbpg", os.getenv "TM_PG2")
  l:lake("lake", "lab-memory")
  l:project()
  for _, conn in ipairs { rds, adbpg } do
    conn:exec "CREATE UNLOGGED TABLE many (id bigint, n integer, note text)"
  end
end

function TestMemory.tearDown() l:close() end

local function fill(rows)
  rds:exec(("TRUNCATE many; INSERT INTO many SELECT i, i %% 1000, " ..
    "md5(i::text) || md5((-i)::text) || md5((i + 0.5)::text) FROM generate_series(1, %d) i; ANALYZE many")
    :format(rows))
end

-- The most that each node had resident, by name, and the rows that arrived.
local function run(nodes)
  adbpg:exec "TRUNCATE many"
  l:flow("many.lua", nodes)
  local r = l:run("run", "many.lua", "--memory", MEMORY)
  lu.assertEquals(r.code, 0, r.all)
  local shown = l:run("show", "last", "--json")
  lu.assertEquals(shown.code, 0, shown.all)
  local peaks = {}
  for _, attempt in ipairs(json.decode(shown.out).attempts) do
    peaks[attempt.node] = math.max(peaks[attempt.node] or 0, attempt.max_rss_bytes)
  end
  return peaks
end

local WAYS = {
  { name = "alone, one job", EXTRACT:format(1, "none"), LOAD:format(1, "pipeline = false, after = 'out'") },
  { name = "gzip, two jobs", EXTRACT:format(2, "gzip"), LOAD:format(2, "pipeline = false, after = 'out'") },
  { name = "pipelined, two jobs", EXTRACT:format(2, "none"), LOAD:format(2, "after = 'out'") },
}

function TestMemory.test_many_rows_need_no_more_than_few()
  local seen = {}
  for _, rows in ipairs { FEW, MANY } do
    fill(rows)
    for i, way in ipairs(WAYS) do
      seen[i] = seen[i] or {}
      seen[i][rows] = run(table.concat(way, "\n"))
      lu.assertEquals(adbpg:value "SELECT count(*) FROM many", rows, way.name)
    end
  end
  if os.getenv "TM_SANITIZER" ~= "" then return end -- its shadow counts as memory
  for i, way in ipairs(WAYS) do
    for node, few in pairs(seen[i][FEW]) do
      local many = seen[i][MANY][node]
      local text = ("%s, %s: %.1f MiB for %d rows, %.1f for %d"):format(way.name, node, few / 2 ^ 20, FEW, many / 2 ^ 20,
        MANY)
      print(text)
      lu.assertTrue(many <= 1.1 * few or not FULL, text)
      lu.assertTrue(many <= BOUND, text)
    end
  end
end

os.exit(lu.LuaUnit.run())
