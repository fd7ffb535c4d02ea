-- needs: pg pg2 ossd
-- timeout: 2400
--- Many mixed rows through extract, store and load: nothing lost, nothing doubled, in
--- constant memory. 200,000 rows; TM_SCALE=full makes it five million.

local json = require "json"
local lab = require "tests.support.lab"
local lu = require "luaunit"

local ROWS = os.getenv "TM_SCALE" == "full" and 5000000 or os.getenv "TM_SANITIZER" == "" and 200000 or 20000
local PEAK = 96 << 20 -- bytes, of every process of tidemill

local FLOW = [[
  flow.extract "out" { from = "rds", table = "mixed", to = "lake:mixed/", format = "%s", compress = "%s" },
  flow.load "in" { after = "out", from = "lake:mixed/", on = "adbpg", into = "mixed" },
]]

local function mixed_sql()
  local f <close> = assert(io.open "tests/support/mixed.sql")
  return f:read "a"
end

local function hash(conn) return conn:value "SELECT count || ' rows, hash ' || hash FROM mixed_hash('mixed')" end

local l, rds, adbpg, expected

TestTransfer = {}

-- Once for all: filling the source takes longer than a small transfer.
local function set_up()
  l = lab.new "mixed"
  rds = l:database("rds", os.getenv "TM_PG")
  adbpg = l:database("adbpg", os.getenv "TM_PG2")
  l:lake("lake", "lab-mixed")
  l:project()
  rds:exec(mixed_sql())
  adbpg:exec(mixed_sql())
  lu.assertEquals(rds:value("SELECT mixed_fill($1)", ROWS), ROWS)
  expected = hash(rds)
end

-- Peak memory of the runner's children, as the run's record has it.
local function peaks()
  local shown = l:run("show", "last", "--json")
  lu.assertEquals(shown.code, 0, shown.all)
  local out = {}
  for i, attempt in ipairs(json.decode(shown.out).attempts) do out[i] = attempt.max_rss_bytes end
  return out
end

local function transfer(format, compress)
  adbpg:exec "TRUNCATE mixed"
  l:flow("mixed.lua", FLOW:format(format, compress))
  local r = l:run("run", "mixed.lua", "--at", "2026-03-02 04:05:06")
  lu.assertEquals(r.code, 0, r.all)
  lu.assertEquals(hash(adbpg), expected)
  local seen = peaks()
  lu.assertEquals(#seen, 2)
  if os.getenv "TM_SANITIZER" ~= "" then return end -- its shadow counts as memory
  for _, bytes in ipairs(seen) do lu.assertTrue(bytes < PEAK, ("peak of %d bytes"):format(bytes)) end
end

for _, format in ipairs { "csv", "text" } do
  for _, compress in ipairs { "none", "gzip", "zstd" } do
    TestTransfer[("test_%s_with_%s_keeps_every_row"):format(format, compress)] = function()
      if not l then set_up() end
      transfer(format, compress)
    end
  end
end

local code = lu.LuaUnit.run()
if l then l:close() end
os.exit(code)
