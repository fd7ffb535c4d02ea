-- needs: pg
--- The commands on published flows and runs, on a PostgreSQL store.

local json = require "json"
local lu = require "luaunit"
local pgtest = require "tests.support.pgtest"
local yard = require "tests.support.yard"

local y

TestOperationsPg = {}

function TestOperationsPg.setUp() y = yard.new("operations-pg", pgtest.database "tm_operations") end

function TestOperationsPg.tearDown()
  y:close()
  pgtest.drop "tm_operations"
end

local function flow(word)
  y:flow { settings = 'schedule = { cron = "0 0 2 * * ?", timezone = "Europe/Berlin" }, params = { table = "orders" },'
    .. 'vars = { day = flow.time "yyyyMMdd" },',
    nodes = ([[
      flow.lua "a" { run = function(ctx) print("day " .. ctx.vars.day .. "") return { x = 1 } end },
      flow.lua "b" { after = "a", run = function()
        if io.open "fail" then error "told to fail" end
        print %q
      end },]]):format(word) }
  return y:ok("publish", "f.lua")
end

function TestOperationsPg.test_publishing_and_what_follows()
  lu.assertStrContains(flow "one", "as version 1")
  lu.assertStrContains(flow "two", "~ node 'b' (lua): run")
  lu.assertStrContains(y:ok("diff", "yard", "1", "2"), "version 1 -> version 2")
  lu.assertStrContains(y:ok("rollback", "yard"), "version 1 is live")
  lu.assertEquals(#y:json("versions", "yard", "--json").history, 3)
  lu.assertStrContains(y:ok("pause", "yard", "--reason", "why not"), "is paused")
  lu.assertStrContains(y:ok("why", "yard"), "why not")
  y:ok("resume", "yard")
  lu.assertEquals(y:json("flows", "--json").version, 1)
  y:ok("unpublish", "yard")
  y:fails(2, "is not published", "backfill", "yard", "--from", "2026-01-01", "--to", "2026-01-01")
end

function TestOperationsPg.test_publishing_side_by_side_gives_each_its_number()
  local children = {}
  for i = 1, 4 do
    y:flow { file = i .. ".lua", nodes = 'flow.lua "n' .. i .. '" { run = function() end },' }
    children[i] = y:spawn("publish", i .. ".lua")
  end
  for _, child in ipairs(children) do
    lu.assertEquals(child:wait(60).code, 0, child:read(2, 0))
    child:close()
  end
  local tree = y:json("versions", "yard", "--json")
  lu.assertEquals({ #tree.versions, tree.versions[1].number, tree.versions[1].live }, { 4, 4, true })
end

function TestOperationsPg.test_running_and_repeating()
  flow "one"
  y:write("fail", "")
  y:fails(1, "told to fail", "trigger", "yard", "--at", "2026-03-29 03:00")
  os.remove(y.dir .. "/fail")
  flow "two"
  y:ok("restore", "last")
  lu.assertEquals(y:states(), { a = "success", b = "success" })
  lu.assertStrContains(y:ok("logs", "last"), "one")
  y:ok("rerun", "last", "--from", "b", "--version", "latest")
  lu.assertStrContains(y:ok("logs", "last", "b"), "two")
  local run = y:json("show", "last", "--json")
  lu.assertEquals({ run.cause, run.version_no, run.nodes[1].attempts, run.outputs.a.x }, { "rerun", 2, 0, 1 })
  lu.assertStrContains(y:ok("show", "last"), "2026-03-29 03:00:00 +02:00 Europe/Berlin")
  lu.assertStrContains(y:ok("why", "last"), "a rerun of run")
  y:ok("mark", "last", "failed")
  y:ok("trigger", "yard", "--dry")
  lu.assertEquals(y:json("gc", "--keep", "0s", "--dry-run", "--json").runs, 3)
  lu.assertEquals(y:json("gc", "--keep", "0s", "--json").runs, 3)
end

function TestOperationsPg.test_backfills_and_filters()
  flow "one"
  y:ok("backfill", "yard", "--from", "2026-03-28", "--to", "2026-03-30")
  local days = {}
  for line in y:ok("runs", "--cause", "backfill", "--json"):gmatch "[^\n]+" do
    table.insert(days, 1, (y:ok("logs", json.decode(line).id, "a"):match "day (%d+)"))
  end
  lu.assertEquals(days, { "20260328", "20260329", "20260330" })
  local left = y:json("backfill", "yard", "--from", "2026-03-27", "--to", "2026-03-30", "--only-missing", "-n", "--json")
  lu.assertEquals({ #left.runs, left.left_out }, { 1, 3 })
  lu.assertEquals(select(2, y:ok("runs", "--business-date", "2026-03-29", "--json"):gsub("\n", "")), 1)
  local store <close> = y:store()
  store:register_runner { kind = "serve", lease_ms = 600000 }
  local tree = y:json("backfill", "yard", "--from", "2026-01-01", "--to", "2026-01-03", "--json")
  lu.assertEquals(#tree.runs, 3)
  lu.assertStrContains(y:ok("why", tree.runs[2]), "1 run of backfill")
  lu.assertStrContains(y:ok("stop", tree.runs[1]), "is canceled")
end

os.exit(lu.LuaUnit.run())
