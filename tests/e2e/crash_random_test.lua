-- needs: pg node
-- timeout: 5400
-- takes: 40
--- Transfers that meet a disaster at a random moment: after a restore the rows are there once.
---
--- kill -9 of a node's process, of the runner, of both; cuts of the network to source, store and
--- target after a random number of bytes; a store that answers 503 for a while, that cuts its
--- replies short, that says an error under a 200, whose disk is full; a target that is restarted
--- while it copies. The run goes by `tidemill run` and then `restore`, or by a `serve` that is
--- started again. Afterwards source and target are equal by count and hash, the ledger says so, and
--- nothing is left in store or target (tests/support/rig.lua). No command may take too long.
---
--- 300 kills and 20 of each other kind in `make crash`, a few of each in `make test`. A failure names
--- the seed, which draws mode, disaster and moment: TM_SEED=N TM_MOMENTS=1 TM_KIND="disk full"
--- repeats it.

local fdw = require "tests.support.fdw"
local lu = require "luaunit"
local proc = require "proc"
local rig = require "tests.support.rig"

local FULL = os.getenv "TM_SCALE" == "full"
local MOMENTS = tonumber(os.getenv "TM_MOMENTS")
local ROWS = tonumber(os.getenv "TM_ROWS") or FULL and 300000 or rig.SLOW > 1 and 20000 or 150000

-- What may happen, and how often in a full run. Patience with a store that says nothing ends after half a
-- minute: not in a short run.
local KINDS = {
  { "kill node", 100 }, { "kill runner", 100 }, { "kill both", 100 },
  { "cut source", 20 }, { "cut store", 20 }, { "cut target", 20 },
  { "503", 20 }, { "short replies", 20 }, { "error in 200", 20 }, { "restart target", 20 }, { "disk full", 20 },
  { "stalled store", 4 },
}

local target, store, full, relays, r

local function read_all(path)
  local f <close> = io.open(path)
  return f and f:read "a" or ""
end

-- The node processes of a run. (One under a sanitizer has another child at its end, which it waits for blindly.)
local function children(pid)
  local found = {}
  for child in read_all(("/proc/%d/task/%d/children"):format(pid, pid)):gmatch "%d+" do
    if read_all(("/proc/%s/cmdline"):format(child)):find "^[^\0]*\0node\0" then found[#found + 1] = child end
  end
  return found
end

local function kill(pids) if #pids > 0 then os.execute(("kill -KILL %s 2>/dev/null"):format(table.concat(pids, " "))) end end

local ERROR = '<?xml version="1.0"?><Error><Code>InternalError</Code><Message>try again</Message></Error>'

local function fdw_server(...)
  proc.run { cmd = { "tests/servers/fdw", ... }, check = true, timeout = 120 }
end

-- Starts the target's server, or starts it again on its data and port.
local function start_target()
  local dir = fdw.TMP .. "/target"
  fdw_server("start", dir, "--as", "TM_TARGET", "--set", "synchronous_commit=on")
  local f <close> = assert(io.open(dir .. "/env"))
  local env = f:read "a"
  target = { dir = dir, uri = env:match "TM_TARGET=(%S+)", pid = tonumber(env:match "TM_TARGET_PID=(%d+)") }
end

-- What each kind does to the command that runs, and what makes it good; `before` comes before its start.
local DISASTERS = {
  ["kill node"] = { strike = function(command)
    local nodes = children(command:pid())
    kill { nodes[math.random(math.max(#nodes, 1))] }
  end },
  ["kill runner"] = { ends_runner = true, strike = function(command) kill { command:pid() } end },
  ["kill both"] = { ends_runner = true, strike = function(command)
    local all = children(command:pid())
    table.insert(all, math.random(#all + 1), command:pid())
    kill(all)
  end },
  ["restart target"] = { strike = function()
    os.execute("kill -QUIT " .. target.pid)
    start_target()
  end, after = function() r:reconnect() end },
  ["disk full"] = { before = function()
    full = fdw.ossd { name = "full", disk = r.bytes * 6 }
    r:use_store(full)
  end, after = function() full:make_room() end, last = function()
    r.lake:close()
    full:close()
    r:use_store(store, relays.store.url)
  end },
  ["503"] = { strike = function()
    for _, method in ipairs { "GET", "PUT", "POST", "HEAD", "DELETE" } do
      relays.store:answer(math.random() < 0.5 and 0 or 3, 503, method, ".", "")
    end
    proc.poll({}, math.random() * 3)
    relays.store:tell "forget"
  end },
  ["error in 200"] = { before = function()
    relays.store:answer(math.random() < 0.3 and 0 or math.random(4), 200, "POST", "uploadId=", ERROR)
  end, after = function() relays.store:tell "forget" end },
}

-- After a random number of bytes one way or the other; what was cut comes back, or new connections work.
local function cut(name, how)
  local function before()
    relays[name]:tell("%s %d %s", math.random() < 0.5 and "up" or "down", math.floor(r.bytes ^ math.random()),
      how or math.random() < 0.5 and "cut" or "reset")
  end
  return { before = before, after = function() relays[name]:tell "pass" end }
end
DISASTERS["cut source"] = cut "rds"
DISASTERS["cut store"] = cut "store"
DISASTERS["cut target"] = cut "adbpg"
DISASTERS["stalled store"] = cut("store", "stall")
DISASTERS["stalled store"].strike = function()
  proc.poll({}, 20 + math.random() * 20)
  relays.store:tell "pass"
end
DISASTERS["short replies"] = { before = function()
  relays.store:tell("down %d reset", math.random(r.bytes))
end, after = function() relays.store:tell "pass" end }

local function set_up()
  start_target()
  store = fdw.ossd { name = "random" }
  relays = { store = fdw.relay(store), rds = fdw.relay { uri = os.getenv "TM_PG" }, adbpg = fdw.relay { uri = target.uri } }
  r = rig.new { name = "random", rows = ROWS, width = 60, object_size = "9MiB", target = target.uri, store = store,
    seen = { rds = relays.rds.uri, adbpg = relays.adbpg.uri } }
  r:use_store(store, relays.store.url)
  r.bytes = ROWS * 80
end

local takes = {} -- by mode: milliseconds of a transfer that nothing happens to

local function time_of(mode)
  if not takes[mode.name] then
    r:prepare(mode)
    local started = fdw.now()
    r:command { "run", "f.lua" }
    takes[mode.name] = fdw.now() - started
    r:settle()
    r:check()
  end
  return takes[mode.name]
end

-- The run is handed to a serve, which goes on when this returns.
local function hand_over()
  assert(r:command({ "publish", "f.lua" }).code == 0, r:log())
  r:serve()
  fdw.eventually(20, function()
    local state <close> = r:state()
    return #state:servers() > 0
  end, "the serve is there") -- else the run would be the trigger's own
  assert(r:command({ "trigger", "rig" }).code == 0, r:log())
  return r.server
end

-- One transfer and its disaster; whether it took a restore.
local function play(disaster, mode, by_serve)
  local command = by_serve and hand_over() or r:start { "run", "f.lua" }
  if disaster.strike then
    fdw.sleep(math.random() * takes[mode.name] / 1000)
    disaster.strike(command)
  end
  if not by_serve or disaster.ends_runner then r:finish(command) end
  if by_serve and disaster.ends_runner then r:serve() end
  if by_serve then r:await_end() end
  if disaster.after then disaster.after() end
  local tries = r:settle()
  if by_serve then r:unserve() end
  r:check()
  return tries > 0
end

local function moment(kind, mode, by_serve)
  local disaster = DISASTERS[kind]
  time_of(mode)
  r.retries = math.random() < 0.3 and 2 or 0
  r:prepare(mode)
  if disaster.before then disaster.before() end
  local ok, result = pcall(play, disaster, mode, by_serve)
  if disaster.last then disaster.last() end
  if not ok then error(result, 0) end
  return result
end

local function moments()
  local list = {}
  for _, kind in ipairs(KINDS) do
    local count = FULL and kind[2] or kind[1]:find "^kill" and 2 or kind[1]:find "^stall" and 0 or 1
    for _ = 1, count do list[#list + 1] = kind[1] end
  end
  return list
end

TestRandom = {}

function TestRandom.test_disasters_at_random_moments()
  set_up()
  local first = tonumber(os.getenv "TM_SEED") or FULL and 1 or os.time() % 100000
  local kinds, counts, restored = moments(), {}, 0
  for seed = first, first + (MOMENTS or #kinds) - 1 do
    math.randomseed(seed)
    local kind = os.getenv "TM_KIND" or kinds[seed % #kinds + 1]
    local mode = rig.list[math.random(#rig.list)]
    local by_serve = math.random() < 0.3
    local say = ("seed %d: %s, mode %s, %s"):format(seed, kind, mode.name, by_serve and "serve" or "run")
    local started = fdw.now()
    local ok, raised = pcall(moment, kind, mode, by_serve)
    if os.getenv "TM_VERBOSE" or not ok then print(("%s: %s ms"):format(say, fdw.now() - started), ok, raised) end
    lu.assertTrue(ok, say .. ": " .. tostring(raised))
    restored = restored + (raised and 1 or 0)
    counts[kind] = (counts[kind] or 0) + 1
  end
  local lines = {}
  for _, kind in ipairs(KINDS) do lines[#lines + 1] = ("%4d  %s"):format(counts[kind[1]] or 0, kind[1]) end
  lines[#lines + 1] = ("\nDisasters at random moments; %d took a restore, the others none."):format(restored)
  local said = table.concat(lines, "\n")
  print(said)
  if FULL then
    local f <close> = assert(io.open(os.getenv "TM_BUILD" .. "/crash-2.part", "w"))
    f:write(said, "\n")
  end
  lu.assertTrue(MOMENTS ~= nil or restored * 10 >= #kinds, restored .. " disasters struck")
end

local code = lu.LuaUnit.run()
if r then pcall(r.close, r) end
for _, relay in pairs(relays or {}) do relay:close() end
if store then store:close() end
if target then fdw_server("stop", target.dir) end
os.exit(code)
