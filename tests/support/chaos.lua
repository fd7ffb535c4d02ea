--- Random interleavings of two or three runners on one store, under virtual time: kills, stops past
--- the lease, cuts from the store, departures and users' requests. Whatever happens, every run ends,
--- no attempt number is used twice, no two attempts of a node could both commit, and a load that takes
--- objects while its extract runs commits those of the attempt that succeeded, and no others.

local errors = require "tidemill.errors"
local lu = require "luaunit"
local world = require "tests.support.world"

local chaos = {}

local CHAOS_MS, PATIENCE_MS = 90000, 1800000
local OVER = { success = true, failed = true, skipped = true, canceled = true }

local function chance(p) return math.random() < p end

local function pick(list) return list[math.random(#list)] end

-- How an attempt of a random node goes; nearly all work is done in a session of a database.
local function random_play(job)
  local r, session = math.random(), chance(0.9)
  if r < 0.10 then return { error = errors.new("io", "x"), after = math.random(1, 2000), session = session } end
  if r < 0.15 then return { never = true, ignores_cancel = chance(0.5), session = session } end
  if r < 0.18 then return { signal = "SIGSEGV", after = 50, session = session } end
  if r < 0.20 then return { spawn_fails = true } end
  if r < 0.30 and not job.waiting then
    return { ok = true, wait = { kind = "probe", every = math.random(1, 20), deadline_ms = chance(0.2) and job.scheduled
      * 1000 + math.random(100000) or nil } }
  end
  if r < 0.36 then return { ok = true, wait = { kind = "run", file = "inner" } } end
  return { ok = true, after = math.random(1, 6000), session = session,
    messages = { { t = "output", name = "x", value = math.random(100) } } }
end

-- Extracts ("x1") seal objects, loads ("l2") are fed with them if they start in time.
local function random_end(job)
  local r = math.random()
  if r < 0.15 then return { ok = false, error = errors.new("io", "x") } end
  if r < 0.20 then return { never = true, ignores_cancel = chance(0.5) } end
  if r < 0.23 then return { ok = false, signal = "SIGSEGV" } end
  return { spawn_fails = chance(0.02) and job.attempt == 1 or nil }
end

local function script_of(w, name)
  local kind = name:sub(1, 1)
  if kind == "x" then
    return function(job)
      return world.extracts { objects = math.random(0, 70), every = math.random(1, 80), announces = chance(0.9),
        play = random_end }(job)
    end
  elseif kind == "l" then
    return function(job)
      return world.loads(w, { pace = math.random(1, 30), play = function(one)
        local how = random_end(one)
        how.after = math.random(1, 2000)
        how.fails_after = (how.error or how.signal) and math.random(1, 4000) or nil
        return how
      end })(job)
    end
  end
  return random_play
end

local TRIGGERS = { nil, nil, nil, "all_done", "one_success", "one_failed", "none_failed" }

local function random_nodes(most)
  local nodes, extract = {}, nil
  for i = 1, math.random(1, most) do
    local after, kind, r = {}, "lua", math.random()
    for j = 1, i - 1 do
      if chance(0.35) and nodes[j].name ~= extract then after[#after + 1] = nodes[j].name end
    end
    if extract and r < 0.5 then
      kind, after[#after + 1] = "load", extract
    elseif r < 0.3 then
      kind = "extract"
    end
    local name = ({ lua = "n", load = "l", extract = "x" })[kind] .. i
    if kind == "extract" then extract = name end
    nodes[i] = { name = name, kind = kind, pipeline = kind == "load" and extract or nil, after = after,
      retries = math.random(0, 2), retry_delay = math.random(1, 5), timeout = 3 + math.random() * 20,
      trigger = kind == "lua" and TRIGGERS[math.random(7)] or nil, allow_failure = chance(0.2) or nil,
      pool = chance(0.4) and "db" or nil, priority = math.random(1, 10) }
  end
  return nodes
end

local function random_world(options)
  local w = world.new(options)
  w.script = setmetatable({}, { __index = function(_, name) return script_of(w, name) end })
  local inner, hash = w:document { flow = "inner", nodes = { { name = "n1", timeout = 30 } } }
  w.ids = {}
  for i = 1, math.random(1, 6) do
    w.ids[i] = w:create { flow = "f" .. math.random(3), nodes = random_nodes(6),
      on_error = pick { "complete_running", "stop", "continue" }, cause = pick { "manual", "schedule" },
      concurrency = pick { "queue", "parallel" }, priority = math.random(1, 10), deadline = math.random(200000),
      subflows = { inner = { hash = hash, document = inner, sources = {} } } }
  end
  return w
end

local function new_runner(w)
  return w:runner { jobs = math.random(1, 4), pools = function() return 2 end }
end

local function awake(w)
  local list = {}
  for _, host in ipairs(w.hosts) do
    if not host.dead and not host.over then list[#list + 1] = host end
  end
  return list
end

local DISASTERS = {
  function(w, host)
    host:die()
    if chance(0.8) then new_runner(w) end
  end,
  function(_, host) host:stop() end,
  function(_, host) host:cut(math.random(10, 30000), chance(0.5) and 0.5 or 0) end,
  function(w)
    for _, host in ipairs(awake(w)) do host:continue() end
  end,
  function(w, host)
    host.runner:drain(pick { "runs", "nodes", "now" })
    new_runner(w)
  end,
  function(w) pcall(w.store.request, w.store, pick(w.ids), pick { "pause", "resume", "resume" }) end,
  function(w)
    if chance(0.3) then pcall(w.store.request, w.store, pick(w.ids), "stop") end
  end,
}

local function all_ended(w)
  local row = w.store.db:row "SELECT count(*) AS n FROM runs WHERE ended_at IS NULL"
  return row.n == 0
end

local function play(w)
  for _ = 1, math.random(2, 3) do new_runner(w) end
  while w.now < CHAOS_MS do
    w:go(w.now + math.random(10, 6000))
    local hosts = awake(w)
    if #hosts == 0 then new_runner(w) else pick(DISASTERS)(w, pick(hosts)) end
    w.now = w.now + 1
  end
  for _, host in ipairs(w.hosts) do host:continue() end
  new_runner(w)
  local last = w.now + PATIENCE_MS
  repeat -- a pause may still be under way
    for _, run in ipairs(w.ids) do pcall(w.store.request, w.store, run, "resume") end
    w:go(w.now + 30000, function() return all_ended(w) end)
  until all_ended(w) or w.now > last
  w:go(w.now + 20000) -- what was killed ends
end

local function check_run(w, run, say)
  local count = { success = 0, failed = 0, skipped = 0, canceled = 0 }
  lu.assertNotNil(run.ended_at, say .. "no end of " .. run.id .. " " .. run.state)
  for _, node in ipairs(w.store:nodes(run.id)) do
    lu.assertTrue(OVER[node.state], say .. node.node .. " is " .. node.state)
    local state = node.tolerated == 1 and "success" or node.state
    count[state] = count[state] + 1
    local attempts = w.store:attempts(run.id, node.node)
    lu.assertEquals(#attempts, node.attempts, say .. "attempts of " .. node.node)
    local lost = 0
    for i, attempt in ipairs(attempts) do
      lu.assertEquals(attempt.attempt, i, say)
      lu.assertTrue(attempt.state ~= "running" and attempt.state ~= "polling", say .. attempt.state)
      lost = lost + (attempt.state == "lost" and 1 or 0)
    end
    local commits = w.commits[run.id .. " " .. node.node] or 0
    lu.assertTrue(commits <= 1 + lost, say .. ("%d commits of %s, %d lost"):format(commits, node.node, lost))
  end
  if run.state == "success" then
    lu.assertEquals({ count.failed, count.canceled }, { 0, 0 }, say .. "a success with failures")
  end
end

--- Plays one seed, and checks what it left.
---@param seed integer
---@param options table  of world.new
function chaos.play(seed, options)
  math.randomseed(seed)
  local w <close> = random_world(options)
  local say = ("seed %d: "):format(seed)
  local ok, raised = xpcall(play, debug.traceback, w)
  lu.assertTrue(ok, say .. tostring(raised))
  lu.assertEquals(w.faults, {}, say)
  for _, run in ipairs(w.store:runs { limit = 1000 }) do check_run(w, run, say) end
  for _, host in ipairs(awake(w)) do
    lu.assertEquals({ #host.children, host.runner:active().nodes, host.runner:active().runs }, { 0, 0, 0 }, say)
  end
  lu.assertEquals(next(w.processes), nil, say .. "a process is left")
  for _, line in ipairs(w.said) do lu.assertFalse(line:find "^error: run" ~= nil, say .. line) end
end

return chaos
