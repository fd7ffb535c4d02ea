--- `tidemill serve` as a child process whose log is read while it runs.
---
---     local s <close> = serving.start(desk, { "--lease", "3s" })
---     s:wait_for(10, function(line) return line.event == "run" and line.state == "success" end)
---     lu.assertEquals(s:stop(), 0)

local json = require "json"
local patience = require "tests.support.patience"
local proc = require "proc"
local signal = require "tidemill.signal"

local serving = {}
local Serving = {}
Serving.__index = Serving

--- Starts one in the folder of a desk, without pages unless --listen is among the options.
function serving.start(desk, options)
  local cmd, listens = { assert(os.getenv "TM_BIN", "TM_BIN is not set"), "serve" }, false
  for _, word in ipairs(options or {}) do
    cmd[#cmd + 1] = word
    listens = listens or word == "--listen"
  end
  if not listens then table.move({ "--listen", "none" }, 1, 2, #cmd + 1, cmd) end
  return setmetatable({ lines = {}, rest = "", text = "",
    child = proc.spawn { cmd = cmd, cwd = desk.dir, env = desk.env, stderr = "pipe" } }, Serving)
end

-- Reads what there is: how many bytes, or nil at the end.
local function read(self, seconds)
  local bytes = self.child:read(2, seconds)
  if not bytes then return nil end
  self.text, self.rest = self.text .. bytes, self.rest .. bytes
  for line, behind in self.rest:gmatch "([^\n]*)\n()" do
    local ok, value = pcall(json.decode, line)
    self.lines[#self.lines + 1] = ok and value or { text = line }
    self.unread = behind
  end
  if self.unread then self.rest, self.unread = self.rest:sub(self.unread), nil end
  return #bytes
end

--- The first line that fits, waited for; raises with the log when none comes.
---@param from? integer  of the lines from this one on
function Serving:wait_for(seconds, fits, from)
  local ends, i = signal.mono() + seconds * patience * 1000, from or 1
  while true do
    while self.lines[i] do
      if fits(self.lines[i]) then return self.lines[i] end
      i = i + 1
    end
    if signal.mono() >= ends or not read(self, 0.1) then
      error("no such line in the log:\n" .. self.text, 2)
    end
  end
end

--- The first line that fits of those yet to come.
function Serving:wait_for_new(seconds, fits)
  self:all()
  return self:wait_for(seconds, fits, #self.lines + 1)
end

--- Lines of the log so far, of one event if it is named.
function Serving:all(event)
  while (read(self, 0) or 0) > 0 do end -- luacheck: ignore 542
  local found = {}
  for _, line in ipairs(self.lines) do
    if not event or line.event == event then found[#found + 1] = line end
  end
  return found
end

--- Sends a signal.
function Serving:kill(name) self.child:kill(name) end

--- Waits for its end: exit code or signal.
function Serving:finish(seconds)
  local ends = signal.mono() + (seconds or 20) * patience * 1000
  while read(self, 0.1) do
    if signal.mono() > ends then error("serve does not end:\n" .. self.text, 2) end
  end
  local status = self.child:wait(5)
  return status and (status.code or status.signal)
end

--- Asks it to end, and waits: its exit code.
function Serving:stop(seconds)
  self.child:kill "TERM"
  return self:finish(seconds)
end

function Serving:close() self.child:close() end
Serving.__close = Serving.close

return serving
