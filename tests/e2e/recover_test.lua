-- needs: pg
--- What becomes of the runs of `tidemill run` when its process is killed or stopped.

local lab = require "tests.support.lab"
local lu = require "luaunit"
local patience = require "tests.support.patience"
local proc = require "proc"
local serving = require "tests.support.serving"
local state = require "tidemill.state"

local BIN = assert(os.getenv "TM_BIN")
local l, db

TestRecover = {}

-- The first attempt of the node sleeps at the server, in a session of its own; later ones end at once.
local FLOW = [[
local flow = require "flow"
return flow "lab" {
  flow.lua "first" { outputs = { "x" }, run = function() return { x = 5 } end },
  flow.lua "long" { after = "first", run = function(ctx)
    local conn <close> = ctx:postgres "db"
    conn:exec("INSERT INTO marks SELECT " .. ctx.attempt .. ", count(*) FROM pg_stat_activity " ..
      "WHERE query LIKE 'SELECT pg_sleep%' AND datname = current_database()")
    if ctx.attempt == 1 then conn:exec "SELECT pg_sleep(300)" end
  end },
  flow.lua "last" { after = "long", run = function(ctx) print("x=" .. ctx.upstream.first.x) end },
}
]]

function TestRecover.setUp()
  l = lab.new "recover"
  db = l:database("db", os.getenv "TM_PG")
  db:exec "CREATE TABLE marks (attempt int, others bigint)"
  l:project()
  l:write("f.lua", FLOW)
end

function TestRecover.tearDown() l:close() end

local function eventually(seconds, check, what)
  for _ = 1, seconds * 10 * patience do
    if check() then return end
    proc.poll({}, 0.1)
  end
  lu.fail("never: " .. what)
end

local function look(run)
  local store <close> = state.open("sqlite:.tidemill/state.db", { directory = l.dir })
  local found = store:find_run(run or "last")
  local states = {}
  for _, node in ipairs(store:nodes(found.id)) do states[node.node] = node.state end
  return found, states, store:attempts(found.id, "long")
end

local function sleeping()
  return db:value [[SELECT count(*) FROM pg_stat_activity WHERE query LIKE 'SELECT pg_sleep%' AND state = 'active'
    AND datname = current_database()]]
end

local function start(...)
  local child = proc.spawn { cmd = { BIN, "run", "f.lua", ... }, cwd = l.dir, env = l.env, stdout = "pipe",
    stderr = "pipe" }
  eventually(20, function() return sleeping() == 1 end, "the query runs")
  return child, (look())
end

local function marks()
  return db:value "SELECT string_agg(attempt || ':' || others, ',' ORDER BY attempt) FROM marks"
end

function TestRecover.test_a_killed_run_is_marked_failed_by_the_next_and_restored()
  local child <close>, run = start()
  child:kill "KILL"
  child:wait(60)
  eventually(10, function() return sleeping() == 0 end, "its children end")
  lu.assertEquals(look().state, "running")
  l:write("other.lua", 'local flow = require "flow"\nreturn flow "other" { flow.lua "n" { run = function() end } }')
  local r = l:run("run", "other.lua")
  lu.assertEquals(r.code, 0, r.all)
  lu.assertStrContains(r.err, ("the runner of run %s died"):format(run.id))
  local found, states = look(run.id)
  lu.assertEquals({ found.state, found.message, states },
    { "failed", "runner died", { first = "success", long = "failed", last = "skipped" } })
  r = l:run("restore", run.id)
  lu.assertEquals(r.code, 0, r.all)
  local after, now, attempts = look(run.id)
  lu.assertEquals({ after.state, now }, { "success", { first = "success", long = "success", last = "success" } })
  lu.assertEquals({ #attempts, attempts[1].state, attempts[2].state }, { 2, "lost", "success" })
  lu.assertEquals(marks(), "1:0,2:0")
  lu.assertStrContains(l:run("logs", run.id, "last").out, "x=5")
end

function TestRecover.test_a_killed_run_is_restored_by_the_next_command()
  local child <close>, run = start()
  child:kill "KILL"
  child:wait(60)
  local r = l:run("restore", run.id)
  lu.assertEquals(r.code, 0, r.all)
  local found, _, attempts = look(run.id)
  lu.assertEquals({ found.state, attempts[1].state, attempts[2].state }, { "success", "lost", "success" })
  lu.assertEquals(marks(), "1:0,2:0")
end

function TestRecover.test_a_serve_goes_on_with_a_killed_run()
  local child <close>, run = start()
  child:kill "KILL"
  child:wait(60)
  local s <close> = serving.start(l, { "--lease", "3s" })
  eventually(15, function() return look(run.id).state == "success" end, "the run ends")
  local _, _, attempts = look(run.id)
  lu.assertEquals({ attempts[1].state, attempts[2].state }, { "lost", "success" })
  lu.assertEquals(s:stop(), 0)
end

function TestRecover.test_a_run_stopped_past_its_lease_goes_on_elsewhere_and_its_own_attempt_is_ended()
  local child <close>, run = start()
  local s <close> = serving.start(l, { "--lease", "3s" })
  child:kill "STOP"
  eventually(40, function() return look(run.id).state == "success" end, "the run ends")
  lu.assertEquals(marks(), "1:0,2:0") -- the first session was ended before the second attempt acted
  child:kill "CONT"
  local out, err = "", ""
  for _ = 1, 100 * patience do
    local more, less = child:read(1, 0.1), child:read(2, 0)
    out, err = out .. (more or ""), err .. (less or "")
    if not more and not less then break end
  end
  local status = child:wait(60)
  lu.assertEquals(status.code, 0, err)
  lu.assertStrContains(out, "flow 'lab': success")
  local _, _, attempts = look(run.id)
  lu.assertEquals(#attempts, 2)
  lu.assertEquals(s:stop(), 0)
end

os.exit(lu.LuaUnit.run())
