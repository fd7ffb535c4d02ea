--- Hooks: what a flow wants others to be told, sent by a runner.
---
--- A flow's on_success, on_failure and on_late become notices in the store
--- (lua/state/notices.lua). A runner takes those that are due and starts a child process, the
--- hidden command `hook`, for each: it alone looks up the URL and the secret, and nothing
--- that hangs there holds up the runner. `step` never waits.

local embedded = require "tidemill.embedded"
local errors = require "tidemill.errors"
local json = require "json"
local proc = require "proc"
local signal = require "tidemill.signal"

local hooks = {}
local Hooks = { __name = "tidemill.hooks" }
Hooks.__index = Hooks

local CHILDREN = 4       -- at once
local LOOK_MS = 2000     -- between two looks at the outbox, unless poked
local CHILD_LOOK_MS = 50 -- while children are under way
local TIMEOUT_MS, GRACE_MS = 90000, 5000
local FLUSH_MS = 10000
local RESULT_BYTES = 8192

---@class tidemill.HooksOptions
---@field store table
---@field runner string    the id of the runner that sends
---@field project? string  path of tidemill.lua; without one the child looks for it
---@field start? fun(notice: table, job: table): table  in tests: a child with poll, kill, close
---@field clock? fun(): integer

--- Makes the sender of one runner.
---@param options tidemill.HooksOptions
function hooks.new(options)
  return setmetatable({ store = options.store, runner = options.runner, project = options.project,
    start = options.start or hooks.start, clock = options.clock or signal.mono, children = {}, taken = {},
    look_at = 0 }, Hooks)
end

-- ---- a child ----

local Child = {}
Child.__index = Child

local function gather(self)
  while #self.text < RESULT_BYTES do
    local ok, bytes = pcall(self.handle.read, self.handle, 1, 0)
    if not ok or not bytes or bytes == "" then return end
    self.text = self.text .. bytes
  end
end

--- The outcome once the child has ended, else nil.
function Child:poll()
  gather(self)
  local waited, status = pcall(self.handle.wait, self.handle, 0)
  if not waited or not status then return nil end -- not waited: a signal came, the runner will see
  gather(self)
  local ok, outcome = pcall(json.decode, self.text)
  if ok and type(outcome) == "table" then return outcome end
  return { ok = false, error = errors.new("system", status.signal
    and ("the hook's process was ended by %s"):format(status.signal)
    or ("the hook's process ended with exit code %d and no result"):format(status.code)) }
end

--- Sends it a signal.
function Child:kill(name) pcall(self.handle.kill, self.handle, name) end

--- Kills what is left of it.
function Child:close() self.handle:close() end

--- Starts the process that sends one notice.
---@param _ tidemill.Notice
---@param job table  what it gets on standard input
function hooks.start(_, job)
  return setmetatable({ text = "", handle = proc.spawn { cmd = { "/proc/self/exe", "hook" },
    input = json.encode(job), stdout = "pipe", stderr = "null", death_signal = "TERM" } }, Child)
end

-- ---- steps ----

-- A child stays in the list until its outcome is in the store, which may be out of reach.
local function look_at_children(self, now)
  for i = #self.children, 1, -1 do
    local child = self.children[i]
    child.outcome = child.outcome or child.process:poll()
    if child.outcome then
      self.store:end_notice(child.notice, child.outcome)
      child.process:close()
      table.remove(self.children, i)
    elseif now >= child.kill_at then
      child.process:kill(child.killed and "KILL" or "TERM")
      child.killed, child.kill_at = true, now + GRACE_MS
    end
  end
end

local function send(self, notice, now)
  local facts = self.store:notice_facts(notice.run_id)
  local ok, process = pcall(function()
    if not facts then errors.raise("not_found", "the run is gone") end
    return self.start(notice, { notice = { id = notice.id, what = notice.what, node = notice.node,
      target = notice.target, attempt = notice.attempts }, facts = facts, project = self.project,
      version = embedded.version })
  end)
  if not ok then
    return self.store:end_notice(notice, { ok = false, error = errors.from(process), final = not facts })
  end
  table.insert(self.children, { notice = notice, process = process, kill_at = now + TIMEOUT_MS })
end

local function take(self, now, root)
  local room = CHILDREN - #self.children
  if room <= 0 then return end
  local taken = self.store:take_notices(self.runner, room, root)
  table.move(taken, 1, #taken, 1, self.taken)
  self.look_at = #taken == room and now or now + LOOK_MS
end

local function send_taken(self, now)
  while self.taken[1] do
    send(self, self.taken[1], now)
    table.remove(self.taken, 1)
  end
end

--- Looks after the children and, now and then, at the outbox.
---@return integer at  when to call again at the latest, on the clock
function Hooks:step()
  local now = self.clock()
  look_at_children(self, now)
  send_taken(self, now)
  if now >= self.look_at then
    take(self, now)
    send_taken(self, now)
  end
  if #self.children == 0 then return self.look_at end
  local at = now + CHILD_LOOK_MS
  return #self.children < CHILDREN and math.min(at, self.look_at) or at
end

--- There may be something to send: the next step looks.
function Hooks:poke() self.look_at = 0 end

--- How many notices are being sent.
function Hooks:active() return #self.children end

--- Sends what is pending for a run and its subflows, and waits for it; ends early when the
--- process is interrupted. What fails, or takes too long, is left to whoever runs next.
---@param options {root: string, timeout_ms: integer?}  (default 10000)
---@return integer left  notices not sent
function Hooks:flush(options)
  local deadline = self.clock() + (options.timeout_ms or FLUSH_MS)
  while true do
    local now = self.clock()
    look_at_children(self, now)
    take(self, now, options.root)
    send_taken(self, now)
    if #self.children == 0 or now >= deadline then break end
    if not pcall(proc.poll, {}, 0.02) then break end
  end
  self:close("the runner ended before it was sent")
  return (self.store:open_notices(options.root))
end

--- Ends the children; their notices will be sent again. (If the store is out of reach, that is so once
--- the runner counts as gone.)
---@param reason? string
function Hooks:close(reason)
  local children, taken = self.children, self.taken
  self.children, self.taken = {}, {}
  local ended = { ok = false, error = errors.new("canceled", reason or "the runner stopped") }
  for _, child in ipairs(children) do
    local outcome = child.outcome or child.process:poll() or ended
    child.process:close()
    pcall(self.store.end_notice, self.store, child.notice, outcome)
  end
  for _, notice in ipairs(taken) do pcall(self.store.end_notice, self.store, notice, ended) end
end
Hooks.__close = function(self) self:close() end

return hooks
