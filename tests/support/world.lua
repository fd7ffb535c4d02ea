--- A world under virtual time: a state store, runners, and processes that exist in name only.
---
---     local world = require "tests.support.world"
---     local w = world.new()
---     local run = w:create { nodes = { { name = "a" }, { name = "b", after = { "a" } } } }
---     w:runner { root = run }
---     w:go()                          -- until nothing is left to happen
---     w:states(run)                   -- { a = "success", b = "success" }
---
--- `w.script[node]` is called for each attempt with its job and returns how it goes:
--- { after = ms, ok = true | error = table | signal =, code =, never =, ignores_cancel =, messages =,
--- wait =, skip =, closed =, spawn_fails =, session = true, says =, hears = }. With `session` the child has
--- a database session, which it reports and does nothing before that is acknowledged; its end is its commit.
--- `says` is a list of { ms after its start, message }; `hears(child, answer)` is called for each answer, and
--- may say more: child:say(ms from now, message), or end: child:finish(ms from now).
--- `w.log` has what happened, "TIME start NODE" and the like.

local errors = require "tidemill.errors"
local json = require "json"
local runner = require "tidemill.runner"
local state = require "tidemill.state"

local world = {}
local World = {}
World.__index = World

local EPOCH = 1700000000000 -- what the clock shows at virtual time 0

local files = 0

--- Makes a world; closing it removes its file.
---@param options? {on_file: boolean?, url: string?}  the store is a file, as several runners need it, or
---an empty database
function world.new(options)
  local path
  if options and options.on_file then
    files = files + 1
    path = ("%s/tidemill-world-%d-%d.db"):format(io.open "/dev/shm" and "/dev/shm" or os.getenv "TM_TMP",
      require("tidemill.signal").pid(), files)
  end
  local w = setmetatable({ now = 0, script = {}, log = {}, events = {}, hosts = {}, processes = {}, commits = {},
    faults = {}, said = {}, path = path,
    url = options and options.url, pids = 0 }, World)
  w.store = w:open()
  return w
end

--- A connection to the store.
function World:open()
  if not self.path and not self.url and self.store then return self.store end
  return state.open(self.url or "sqlite:" .. (self.path or ":memory:"), { patience_ms = 1000,
    clock = function() return EPOCH + self.now end })
end

--- A run of a flow made of these nodes; returns its id.
---@param options {nodes: table[], flow: string?, on_error: string?, priority: integer?, deadline: integer?,
---  scheduled: integer?, cause: string?, concurrency: string?, subflows: table?, hooks: table?}
function World:create(options)
  local document, hash = self:document(options)
  return self.store:create_run { flow = document.flow, file = "/f.lua", version = hash, cause = options.cause or "manual",
    scheduled = EPOCH + (options.scheduled or 0), business = EPOCH - 86400000, timezone = "UTC",
    priority = options.priority, concurrency = options.concurrency, nodes = document.nodes,
    deadline = options.deadline and EPOCH + options.deadline, runner = options.runner, settings = options.settings }
end

--- The document of such a flow, saved; and its hash.
function World:document(options)
  local nodes = {}
  for i, node in ipairs(options.nodes) do
    nodes[i] = { kind = "lua", after = {} }
    for key, value in pairs(node) do nodes[i][key] = value end
  end
  local document = { flow = options.flow or "f", file = "/f.lua", timezone = "UTC", on_error = options.on_error,
    hooks = options.hooks, nodes = nodes }
  self.hashes = (self.hashes or 0) + 1
  local hash = "hash" .. self.hashes
  self.store:save_source(hash, document, { text = "", stored = {}, subflows = options.subflows })
  return document, hash
end

-- ---- hosts: a runner and its processes ----

local Host = {}
Host.__index = Host

--- Adds a runner; options as of runner.new.
function World:runner(options)
  options = options or {}
  local host = setmetatable({ world = self, children = {}, name = "h" .. #self.hosts + 1, store = self:open() }, Host)
  local settings = { store = host.store, spawner = host, clock = function() return self.now end, kind = "serve",
    jobs = 10, random = function() return 0 end,
    emit = function(event) table.insert(self.events, event) end,
    log = function(level, message) table.insert(self.said, level .. ": " .. message) end }
  for key, value in pairs(options) do settings[key] = value end
  host.runner = runner.new(settings)
  table.insert(self.hosts, host)
  return host
end

function Host:note(what, child)
  table.insert(self.world.log, ("%d %s %s"):format(self.world.now, what, child.node))
end

function Host:prepare(wanted) self.prepared = wanted end

-- Its server sessions are gone: it cannot commit.
local function end_sessions(w, job)
  for _, session in ipairs(job.sessions or {}) do
    local process = w.processes[session.backend_pid]
    if process then process.blocked = true end
  end
end

function Host:start(run, job)
  local w = self.world
  local play = (w.script[job.node] or function() return { ok = true } end)(job, run)
  if play.spawn_fails then error(errors.new("system", "no more processes"), 0) end
  end_sessions(w, job)
  w.pids = w.pids + 1
  local child = { node = job.node, run = run.id, attempt = job.attempt, play = play, host = self, pid = w.pids,
    sent = 0, job = job }
  self.world.processes[child.pid] = child
  child.ends = play.session and math.huge or w.now + (play.after or 10)
  if play.never then child.ends = math.huge end
  self:note("start", child)
  function child.cancel()
    self:note("cancel", child)
    if play.ignores_cancel or child.ended then return end
    child.ends, play.ok, play.error, play.wait = w.now + 5, false, errors.new("canceled", "cancelled"), nil
    child.canceled = true
  end
  function child.kill()
    if child.ended then return end
    self:note("kill", child)
    child.ends, play.signal, play.ok, play.error, child.canceled = w.now, "SIGKILL", nil, nil, true
  end
  child.words = {} -- what it is to say: { at, message }
  function child.say(_, ms, message) table.insert(child.words, { w.now + ms, message }) end
  function child.finish(_, ms) child.ends = w.now + ms end
  for _, one in ipairs(play.says or {}) do child:say(one[1], one[2]) end
  function child.reply(_, line)
    if child.ended then return end
    child.replies = (child.replies or 0) + 1
    child.line = line
    if play.hears then play.hears(child, json.decode(line)) end
    if play.session and child.ends == math.huge and not play.never then child.ends = w.now + (play.after or 10) end
    child.acked = true
  end
  table.insert(self.children, child)
  return child
end

-- The work of an attempt is done in its target, unless its session is gone.
local function commit(w, child)
  if not child.play.session or child.canceled or not child.play.ok or child.play.wait then return end
  if child.blocked then
    child.play.ok, child.play.error = false, errors.new("io", "the session was ended")
    return
  end
  for _, other in pairs(w.processes) do
    if other ~= child and other.run == child.run and other.node == child.node and not other.ended and other.acked
      and not other.blocked and not other.canceled then
      table.insert(w.faults, ("%s %s: attempts %d and %d could both commit"):format(child.run, child.node,
        child.attempt, other.attempt))
    end
  end
  local fault = child.play.commits and child.play.commits()
  if fault then table.insert(w.faults, ("%s %s: %s"):format(child.run, child.node, fault)) end
  local key = child.run .. " " .. child.node
  w.commits[key] = (w.commits[key] or 0) + 1
end

-- What it has to say by now, in order; and the time of what it says next.
local function words_of(child, now)
  local due, left, next_at = {}, {}, math.huge
  for _, word in ipairs(child.words) do
    table.insert(word[1] <= now and due or left, word)
    if word[1] > now then next_at = math.min(next_at, word[1]) end
  end
  child.words = left
  return due, next_at
end

local function result_of(play)
  return { t = "result", ok = play.ok or false, error = play.error, wait = play.wait, skip = play.skip,
    closed = play.closed }
end

-- Processes end, whether or not their runner looks.
function World:pass()
  for _, host in ipairs(self.hosts) do
    for _, child in ipairs(host.children) do
      if not child.ended and child.ends <= self.now then
        commit(self, child)
        child.ended = true
        self.processes[child.pid] = nil
      end
    end
  end
end

--- What its children reported until now.
function Host:take()
  local events, left = {}, {}
  for _, child in ipairs(self.children) do
    local play = child.play
    local function send(message) table.insert(events, { child = child, type = "message", message = message }) end
    if child.sent == 0 then
      table.insert(events, { child = child, type = "started", pid = child.pid })
      if play.session then
        send { t = "session", connection = "db", backend_pid = child.pid, backend_start = "t", ack = 1 }
      end
    end
    child.sent = 1
    for _, word in ipairs((words_of(child, self.world.now))) do send(word[2]) end
    if child.ended then
      for _, message in ipairs(play.messages or {}) do send(message) end
      if play.ok ~= nil or play.error then send(result_of(play)) end
      table.insert(events, { child = child, type = "exit", status = { code = not play.signal
        and (play.code or (play.ok and 0 or 1)) or nil, signal = play.signal, utime = 0.5, stime = 0.25,
        maxrss_bytes = 64 << 20 } })
      self:note("end", child)
    else
      table.insert(left, child)
    end
  end
  self.children = left
  return events
end

-- Its processes end without another word.
local function bury(self)
  for _, child in ipairs(self.children) do
    child.canceled, child.ended = true, true
    self.world.processes[child.pid] = nil
  end
  self.children = {}
end

--- SIGKILL to the runner, and so to its processes.
function Host:die()
  self.dead = true
  bury(self)
end

--- SIGSTOP to the runner alone; SIGCONT.
function Host:stop() self.stopped = true end
function Host:continue() self.stopped = false end

--- Cuts the runner off its store for so long. What is asked of it fails, or, of writes, is done
--- and the answer lost, with that probability.
---@param ms integer
---@param in_doubt? number  0 to 1 (default 0)
function Host:cut(ms, in_doubt)
  local w, raw = self.world, self.raw_db or self.store.db
  local cut_until, inside = w.now + ms, false
  self.raw_db = raw
  local function through(key, ...)
    local before = inside
    inside = inside or key == "transaction"
    local results = table.pack(pcall(raw[key], raw, ...))
    inside = before
    if not results[1] then error(results[2], 0) end
    return table.unpack(results, 2, results.n)
  end
  local function call(key, ...)
    if inside or w.now >= cut_until then return through(key, ...) end
    if key ~= "query" and key ~= "row" and math.random() < (in_doubt or 0) then
      through(key, ...)
      error(errors.new("in_doubt", "the state store did not answer"), 0)
    end
    error(errors.new("connect", "no route to the state store"), 0)
  end
  local calls = { exec = true, query = true, row = true, transaction = true }
  self.store.db = setmetatable({}, { __index = function(_, key)
    if calls[key] then return function(_, ...) return call(key, ...) end end
    return raw[key]
  end })
end

-- ---- time ----

--- One step of every runner that is awake. When something happens next.
function World:step()
  self:pass()
  local next_at = math.huge
  for _, host in ipairs(self.hosts) do
    if not host.dead and not host.stopped and not host.over then
      local at = host.runner:step(host:take())
      if at then
        next_at = math.min(next_at, at)
      else
        host.over = true
        bury(host)
      end
    end
  end
  self:pass()
  for _, host in ipairs(self.hosts) do
    for _, child in ipairs(not host.dead and not host.stopped and host.children or {}) do
      if child.ended or child.sent == 0 then return self.now end -- something to read
      for _, word in ipairs(child.words) do next_at = math.min(next_at, math.max(word[1], self.now)) end
    end
  end
  for _, process in pairs(self.processes) do next_at = math.min(next_at, process.ends) end
  return next_at
end

-- ---- extracts and loads ----

--- What an attempt of an extract seals: object n of `count`.
function world.object(job, n)
  return { n = n, key = ("%s-%d-%06d"):format(job.node, job.attempt, n), rows = n, bytes = 10 * n, raw_bytes = 20 * n,
    crc64 = "1", etag = "e" .. n }
end

--- How an extract goes that seals an object every so many ms and then ends as `how` says (default: well).
---@param how? {objects: integer?, every: integer?, announces: boolean?}  and fields of a script's answer
function world.extracts(how)
  how = how or {}
  return function(job)
    local play, every = { ok = true, session = true }, how.every or 100
    for key, value in pairs(type(how.play) == "function" and how.play(job) or how.play or {}) do play[key] = value end
    local count = how.objects or 3
    play.says = { { 1, { t = "announce", ack = 100, head = { columns = {}, format = {} }, location = "lake:o/" } } }
    if how.announces == false then play.says = {} end
    for n = 1, count do
      table.insert(play.says, { n * every, { t = "sealed", ack = 100 + n, objects = { world.object(job, n) } } })
    end
    play.messages = { { t = "output", name = "manifest", value = ("m%d/%d"):format(job.attempt, count) } }
    play.after = play.after or (count + 1) * every
    return play
  end
end

--- How a load goes that takes what it is fed, if it is, and commits behind the manifest. `w.taken` by run
--- and node has what the last commit took: { manifest =, objects = {keys}, fed = boolean }.
---@param w table
---@param how? {pace: integer?}  ms that an object takes; and fields of a script's answer, for each attempt
function world.loads(w, how)
  how = how or {}
  w.taken = w.taken or {}
  return function(job)
    local play, pace = { ok = true, session = true, after = 50 }, how.pace or 5
    for key, value in pairs(type(how.play) == "function" and how.play(job) or how.play or {}) do play[key] = value end
    local taken = { fed = job.feed ~= nil, objects = {}, attempt = job.attempt }
    w.taken[job.run_id .. " " .. job.node] = taken
    if not job.feed then return play end
    local ends, asked, after = play.after, 0, 0
    play.never = true
    function play.commits() -- what it took must be what the manifest lists
      local attempt, count = (taken.manifest or ""):match "^m(%d+)/(%d+)$"
      if tonumber(attempt) ~= job.feed.attempt or tonumber(count) ~= #taken.objects then
        return ("%d objects of attempt %d are committed for manifest %s"):format(#taken.objects, job.feed.attempt,
          tostring(taken.manifest))
      end
      for n, key in ipairs(taken.objects) do
        if key ~= world.object({ node = job.feed.node, attempt = job.feed.attempt }, n).key then return "other objects" end
      end
    end
    local function ask(child, ms)
      asked = asked + 1
      child:say(ms, { t = "feed", ack = asked, after = after })
    end
    function play.hears(child, answer)
      if not taken.begun then -- its session is known
        taken.begun = true
        if play.fails_after then child:finish(play.fails_after) end
        return ask(child, 0)
      end
      for _, object in ipairs(answer.objects or {}) do
        table.insert(taken.objects, object.key)
        after = object.n
      end
      if answer.manifest then
        taken.manifest, taken.attempt = answer.manifest, job.feed.attempt
        child:finish(ends)
      elseif answer.upstream then
        taken.upstream, play.wait = answer.upstream, { kind = "upstream" }
        child:finish(1)
      else
        ask(child, pace * #answer.objects)
      end
    end
    return play
  end
end

local function all_over(self)
  for _, host in ipairs(self.hosts) do
    if not host.over and not host.dead then return false end
  end
  return true
end

--- Goes on until every runner is over, or `stop` (ms), or `done()`.
---@return boolean over
function World:go(stop, done)
  for _ = 1, 200000 do
    local at = self:step()
    if all_over(self) then return true end
    if done and done() then return true end
    if stop and at > stop then
      self.now = math.max(self.now, stop)
      return false
    end
    assert(at < math.huge, "nothing happens any more")
    self.now = math.max(self.now, math.ceil(at))
  end
  error "the world does not end"
end

--- The states of a run's nodes.
function World:states(run)
  local states = {}
  for _, node in ipairs(self.store:nodes(run)) do states[node.node] = node.state end
  return states
end

--- "what: reason" of each decision, on lines.
function World:decisions(run)
  local list = {}
  for _, d in ipairs(self.store:decisions(run)) do list[#list + 1] = d.what .. ": " .. d.reason end
  return table.concat(list, "\n")
end

function World:close()
  local stores = { [self.store] = true }
  for _, host in ipairs(self.hosts) do stores[host.store] = true end
  for store in pairs(stores) do store:close() end
  for _, suffix in ipairs { "", "-wal", "-shm" } do os.remove((self.path or "none") .. suffix) end
end
World.__close = World.close

return world
