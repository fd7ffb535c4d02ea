--- The state store's server goes away under a run, and comes back.

local lab = require "tests.support.lab"
local lu = require "luaunit"
local patience = require "tests.support.patience"
local proc = require "proc"
local serving = require "tests.support.serving"

local TMP = os.getenv "TM_TMP" or (os.getenv "TM_BUILD" or "build") .. "/tmp"
local dir, l

TestOutage = {}

local function server(...)
  proc.run { cmd = { "tests/servers/pg", ... }, check = true, timeout = 120 }
end

local function crash()
  proc.run { cmd = { "sh", "-c", "kill -QUIT $(sed -n 's/^TM_STATE_PID=//p' " .. dir .. "/env)" }, check = true }
end

function TestOutage.setUp()
  l = lab.new "outage"
  dir = TMP .. "/outage-server"
  server("start", dir, "--as", "TM_STATE", "--durable")
  local f <close> = assert(io.open(dir .. "/env"))
  l.env.STATE_URI, l.env.MARKS = f:read "a":match "TM_STATE=(%S+)", l.dir .. "/marks"
  l:project "state = env \"STATE_URI\""
end

function TestOutage.tearDown()
  server("stop", dir)
  proc.run { cmd = { "rm", "-rf", dir } }
  l:close()
end

local function flow(nodes)
  l:write("f.lua", ([[
local flow = require "flow"
local function work(word, seconds)
  return function(ctx)
    local f <close> = assert(io.open(os.getenv "MARKS", "a"))
    f:write(word, ctx.attempt, "\n")
    f:close()
    require "proc".poll({}, type(seconds) == "table" and seconds[ctx.attempt] or seconds)
    return { done = word }
  end
end
return flow "f" { %s }
]]):format(nodes))
end

local function marks()
  local f <close> = io.open(l.dir .. "/marks")
  return f and (f:read "a":gsub("\n", " ")) or ""
end

local function eventually(check, what)
  for _ = 1, 300 * patience do
    if check() then return end
    proc.poll({}, 0.1)
  end
  lu.fail("never: " .. what)
end

function TestOutage.test_a_run_outlives_a_restart_of_its_state_store()
  flow [[flow.lua "a" { run = work("a", 2), outputs = { "done" } }, flow.lua "b" { after = "a", run = work("b", 0) }]]
  local child <close> = proc.spawn { cmd = { os.getenv "TM_BIN", "run", "f.lua" }, cwd = l.dir, env = l.env,
    stdout = "pipe", stderr = "pipe" }
  eventually(function() return marks() == "a1 " end, "a starts")
  crash()
  proc.poll({}, 3) -- a ends meanwhile
  server("start", dir)
  local out, err = "", ""
  eventually(function()
    local more, less = child:read(1, 0.1), child:read(2, 0)
    out, err = out .. (more or ""), err .. (less or "")
    return not more and not less
  end, "the run ends")
  lu.assertEquals(child:wait(60).code, 0, err)
  lu.assertEquals(marks(), "a1 b1 ")
  lu.assertStrContains(err, "the state store cannot be reached")
  lu.assertStrContains(l:run("show", "last").out, "a.done = a")
end

function TestOutage.test_past_the_lease_a_serve_ends_its_nodes_and_repeats_them()
  flow [[flow.lua "a" { run = work("a", { 120, 0 }) }]]
  lu.assertEquals(l:run("publish", "f.lua").code, 0)
  local s <close> = serving.start(l, { "--lease", "3s" })
  s:wait_for(20, function(line) return line.event ~= nil end)
  local r = l:run("trigger", "f")
  lu.assertEquals(r.code, 0, r.all)
  eventually(function() return marks() == "a1 " end, "a starts")
  crash()
  s:wait_for(20, function(line) return (line.message or ""):find("its nodes are ended", 1, true) end)
  server("start", dir)
  eventually(function() return marks() == "a1 a2 " end, "a is repeated")
  eventually(function() return l:run("runs", "--json").out:find('"state":"success"', 1, true) end, "the run ends")
  lu.assertEquals(s:stop(), 0, s.text)
end

os.exit(lu.LuaUnit.run())
