--- Single attempts of nodes, with the test in the runner's place.
---
---     local attempts = attempt.of(l, "f.lua")          -- a flow in a lab
---     local one <close> = attempts:start { run_id = "r1", node = "load", attempt = 1 }
---     one:kill "STOP"
---     local result, status = one:finish()              -- its result message, and how it ended
---
--- Reports are read and acknowledged while one of them is waited for (`finish`, `serve`). `one.answers`
--- may hold a function by what is reported (`t`), that gives the fields of the answer, or nil for none
--- yet; `one:answer(ack, fields)` gives it later.

local json = require "json"
local proc = require "proc"
local signal = require "tidemill.signal"

local attempt = {}
attempt.__index = attempt

--- A flow file of a lab or a desk (tests/support/lab.lua, desk.lua); `common` is added to what
--- all children of a run are given.
function attempt.of(l, file, common)
  local path = l.dir .. "/" .. file
  local f <close> = assert(io.open(path))
  local text = require "tidemill.sign".base64(f:read "a")
  local all = { file = path, text = text, stored = {} }
  for key, value in pairs(common or {}) do all[key] = value end
  return setmetatable({ common = json.encode(all), path = path, lab = l }, attempt)
end

local One = {}
One.__index = One

---@param job table  run_id, node, attempt; sessions, upstream, waiting, scheduled if they matter
function attempt:start(job)
  local handle = proc.spawn { cmd = { assert(os.getenv "TM_BIN"), "node", self.path }, input = self.common,
    env = self.lab.env, cwd = self.lab.dir, stdout = "pipe", stderr = "pipe", fds = { [3] = "pipe", [4] = "feed" } }
  local given = { ack = true, scheduled = 1772424000, upstream = {}, status = {} }
  for key, value in pairs(job) do given[key] = value end
  handle:write(json.encode(given) .. "\n", 10, 4)
  return setmetatable({ handle = handle, text = "", printed = "", outputs = {}, sessions = {}, logs = {}, ended = {}, acks = true,
    answers = {}, number = job.attempt }, One)
end

local function take(self, line)
  local m = json.decode(line)
  if m.t == "output" then self.outputs[m.name] = m.value end
  if m.t == "log" then table.insert(self.logs, m.line) end
  if m.t == "session" then
    table.insert(self.sessions, { connection = m.connection, backend_pid = m.backend_pid,
      backend_start = m.backend_start, attempt = self.number })
  end
  if m.t == "result" then self.result = m end
  if not m.ack or not self.acks then return end
  local answer = self.answers[m.t]
  local fields = {}
  if answer then fields = answer(m) end
  if fields then self:answer(m.ack, fields) end
end

--- Answers a report.
function One:answer(ack, fields)
  local line = { ack = ack }
  for key, value in pairs(fields) do line[key] = value end
  pcall(self.handle.write, self.handle, json.encode(line) .. "\n", 1, 4)
end

-- Takes what there is; false when there is no more for now.
local function read(self, fd)
  if self.ended[fd] then return false end
  local bytes = self.handle:read(fd, 0)
  if bytes == nil then
    self.ended[fd] = true
    self.handle:close_fd(fd)
    return false
  end
  if fd ~= 3 then
    self.printed = self.printed .. bytes
    return bytes ~= ""
  end
  self.text = self.text .. bytes
  while true do
    local line, rest = self.text:match "^([^\n]*)\n(.*)$"
    if not line then return bytes ~= "" end
    self.text = rest
    take(self, line)
  end
end

--- Reads reports for so long, or until the process ends; its status if it has ended.
function One:serve(seconds)
  local until_ms = signal.mono() + seconds * 1000
  while not self.status and signal.mono() < until_ms do
    for _, event in ipairs(proc.poll({ self.handle }, math.max(until_ms - signal.mono(), 0) / 1000)) do
      if event.ended then
        self.status = self.handle:wait(0)
        for fd = 1, 3 do
          repeat until not read(self, fd)
        end
      else
        read(self, event.fd)
      end
    end
  end
  return self.status
end

--- To its end, 60 s at most: the result it reported, nil if none, and its status.
function One:finish()
  assert(self:serve(60), "the attempt does not end")
  return self.result, self.status
end

function One:kill(what) self.handle:kill(what) end
function One:close() self.handle:close() end
One.__close = One.close

return attempt
