-- needs: pg
-- takes: 20
--- Loads that take objects while their extract runs: early, and only what the extract commits.
---
--- Node processes are killed 20 times at random moments, 200 times with TM_SCALE=full.

local json = require "json"
local lab = require "tests.support.lab"
local lu = require "luaunit"
local proc = require "proc"
local signal = require "tidemill.signal"

local SLOW = (os.getenv "TM_SANITIZER" or "") ~= "" and 3 or 1
local KILLS = os.getenv "TM_SCALE" == "full" and 200 or SLOW > 1 and 8 or 20
local ROWS = 1500

-- 1 KiB a row, some 250 of which come out of the source at once and make an object; it takes its time
-- for each.
local FLOW = [[
  flow.extract "out" { from = "src", to = "lake:p/${run_id}/", object_size = "64KiB", jobs = 1, retries = %d,
    retry_delay = 0.01, backoff = 1,
    query = "SELECT g AS id, repeat('x', 1000) AS v, pg_sleep(%s)::text AS s FROM generate_series(1, %d) g " ..
      "WHERE g < %d OR NOT EXISTS (SELECT 1 FROM broken) OR 1 / (g - %d) = 0" },
  flow.load "in" { after = "out", from = "lake:p/${run_id}/", on = "dw", into = "t", retries = %d, retry_delay = 0.01,
    backoff = 1, %s },
]]

-- The extract stops before its last rows until `release`.
local HELD = "0.0002 + CASE WHEN g = 1400 THEN 0 * (SELECT count(pg_advisory_xact_lock_shared(7))) ELSE 0 END"

-- How a load may put rows into the table; each leaves every row in it once.
local MODES = { "jobs = 1", "jobs = 2", 'mode = "replace"', 'mode = "merge", keys = "id"' }

TestPipeline = {}
local T = TestPipeline

function T:setUp()
  self.lab = lab.new "pipeline"
  self.src = self.lab:database("src", os.getenv "TM_PG")
  self.dw = self.lab:database("dw", os.getenv "TM_PG")
  proc.run { cmd = { "mkdir", self.lab.dir .. "/lake" }, check = true }
  self.lab.connections.lake = ("{ file = %q }"):format(self.lab.dir .. "/lake")
  self.lab:project()
  self.src:exec "CREATE TABLE broken (i int)"
  self.dw:exec "CREATE TABLE t (id int PRIMARY KEY, v text, s text)"
end

function T:tearDown()
  if self.child then self.child:close() end
  self.lab:close()
end

function T:flow(how)
  self.lab:flow("p.lua", FLOW:format(how.retries or 0, how.pace or 0.0004, ROWS, ROWS, ROWS, how.retries or 0,
    how.mode or MODES[1]))
end

-- Starts `tidemill run`; its events come by `each`.
function T:start(...)
  self.child = proc.spawn { cmd = { assert(os.getenv "TM_BIN"), "run", "p.lua", "--json", ... }, cwd = self.lab.dir,
    env = self.lab.env, stdout = "pipe", stderr = "inherit" }
  self.text = ""
end

-- The events of the run until it ends, or for so many seconds.
function T:each(f, seconds)
  local until_ms = signal.mono() + math.ceil((seconds or 60) * 1000)
  while signal.mono() < until_ms do
    local bytes = self.child:read(1, math.max(until_ms - signal.mono(), 1) / 1000)
    if not bytes then return true end
    self.text = self.text .. bytes
    for line in self.text:gmatch "([^\n]*)\n" do f(json.decode(line)) end
    self.text = self.text:match "[^\n]*$"
  end
  return false
end

function T:attempts(node)
  local list = {}
  for _, one in ipairs(json.decode(self.lab:run("show", "last", "--json").out).attempts) do
    if one.node == node then list[#list + 1] = one.state end
  end
  return table.concat(list, " ")
end

function T:hold()
  self.src:query "SELECT pg_advisory_lock(7)"
  self.holds = true
end

function T:release()
  if self.holds then self.src:query "SELECT pg_advisory_unlock(7)" end
  self.holds = false
end

function T:rows() return self.dw:value "SELECT count(*) || ' ' || count(DISTINCT id) FROM t" end

function T:manifests()
  local r = proc.run { cmd = { "find", self.lab.dir .. "/lake", "-path", "*_manifest/*", "-type", "f" }, stdout = "pipe" }
  return select(2, r.stdout:gsub("\n", ""))
end

function T:test_objects_are_loaded_before_the_manifest_is_there_and_seen_after_it()
  self:flow { mode = MODES[3], pace = HELD }
  local early, why, is_through
  self:hold()
  self:start()
  self:each(function(event)
    if event.event == "node" and event.node == "out" then is_through = event.state == "success" end
    if event.event == "progress" and event.node == "in" and event.rows > 0 and not early and not is_through then
      early = { rows = event.rows, seen = self:rows(), manifests = self:manifests() }
      why = self.lab:run("why", "last").out
      self:release()
    end
  end)
  lu.assertEquals(self.child:wait(60).code, 0)
  lu.assertNotNil(early, "nothing was loaded before the extract's end")
  lu.assertTrue(early.rows < ROWS)
  lu.assertEquals({ early.seen, early.manifests }, { "0 0", 0 })
  lu.assertStrContains(why, "node 'in' takes the objects of 'out' while that runs")
  lu.assertEquals(self:rows(), ("%d %d"):format(ROWS, ROWS))
  lu.assertStrContains(self.lab:run("show", "last").out, "in: pipeline: it takes the objects of 'out' (attempt 1)")
end

function T:test_the_first_objects_are_small_where_a_load_waits_for_them()
  local flow = [[
    flow.extract "out" { from = "src", to = "lake:s/${run_id}/", jobs = 1,
      query = "SELECT g AS id, repeat('x', 1000) AS v, '' AS s FROM generate_series(1, 7000) g" },
    flow.load "in" { after = "out", from = "lake:s/${run_id}/", on = "dw", into = "t", mode = "replace", pipeline = %s },
  ]]
  local sizes = {}
  for _, pipeline in ipairs { "false", "true" } do
    self.lab:flow("p.lua", flow:format(pipeline))
    lu.assertEquals(self.lab:run("run", "p.lua").code, 0)
    lu.assertEquals(self:rows(), "7000 7000")
    local run = json.decode(self.lab:run("show", "last", "--json").out).id
    local found = proc.run { cmd = { "find", self.lab.dir .. "/lake/s/" .. run, "-name", "*.csv*", "-printf", "%f %s\n" },
      stdout = "pipe" }
    local list = {}
    for size in found.stdout:gmatch " (%d+)\n" do list[#list + 1] = tonumber(size) end
    table.sort(list)
    sizes[pipeline] = list
  end
  lu.assertEquals(#sizes["false"], 1)
  lu.assertEquals(#sizes["true"], 3) -- 2 MiB, 2 MiB and what is left of 7
  lu.assertTrue(sizes["true"][1] >= 2 << 20 and sizes["true"][2] < 3 << 20)
end

function T:test_an_extract_that_fails_at_its_end_leaves_nothing_published()
  self.src:exec "INSERT INTO broken VALUES (1)"
  self:flow { pace = HELD }
  self:hold()
  self:start()
  self:each(function(event)
    if event.event == "node" and event.node == "in" and event.state == "running" then self:release() end
  end)
  lu.assertEquals(self.child:wait(60).code, 1)
  lu.assertStrContains(self.lab:run("show", "last").out, "division by zero")
  lu.assertEquals({ self:attempts "out", self:attempts "in", self:rows(), self:manifests() },
    { "failed", "canceled", "0 0", 0 })
end

function T:test_a_retried_extract_is_loaded_once()
  self.src:exec "INSERT INTO broken VALUES (1)"
  self:flow { retries = 2, pace = HELD }
  self:hold()
  self:start()
  self:each(function(event)
    if event.event == "node" and event.node == "in" and event.state == "running" then
      self.src:exec "DELETE FROM broken" -- which the extract's first attempt does not see
      self:release()
    end
  end)
  lu.assertEquals(self.child:wait(60).code, 0)
  lu.assertEquals({ self:attempts "out", self:attempts "in", self:rows() },
    { "failed success", "canceled success", ("%d %d"):format(ROWS, ROWS) })
end

function T:test_with_one_place_the_load_comes_behind_the_extract()
  self:flow { pace = 0 }
  lu.assertEquals(self.lab:run("run", "p.lua", "--jobs", "1").code, 0)
  lu.assertEquals(self:rows(), ("%d %d"):format(ROWS, ROWS))
  lu.assertFalse(self.lab:run("show", "last").out:find("pipeline:", 1, true) ~= nil)
end

-- Node processes of the run.
local function children(pid)
  local list = {}
  local f <close> = io.open(("/proc/%d/task/%d/children"):format(pid, pid))
  for child in (f and f:read "a" or ""):gmatch "%d+" do list[#list + 1] = child end
  return list
end

function T:test_rows_are_equal_whichever_process_dies_and_when()
  local kills, runs = 0, 0
  while kills < KILLS do
    runs = runs + 1
    self.dw:exec "TRUNCATE t"
    self:flow { retries = 50, mode = MODES[runs % #MODES + 1], pace = 0.0001 }
    self:start()
    local last = kills + 5
    local over = false
    while not over and kills < last do
      over = self:each(function() end, 0.02 + math.random() * 0.3 * SLOW)
      local pids = children(self.child:pid())
      if not over and #pids > 0 then
        proc.run { cmd = { "kill", "-9", pids[math.random(#pids)] } }
        kills = kills + 1
      end
    end
    if not over then self:each(function() end) end
    local status = self.child:wait(60)
    lu.assertEquals(status.code, 0, self.lab:run("why", "last").out)
    self.child:close()
    lu.assertEquals(self:rows(), ("%d %d"):format(ROWS, ROWS), ("run %d"):format(runs))
  end
end

os.exit(lu.LuaUnit.run())
