--- A program on a pseudo-terminal, driven by a test (tests/support/pty.c).
---
---     local t <close> = terminal.start { cmd = { bin, "repl" }, env = env, cwd = dir, size = "80x24" }
---     t:expect "> "            -- waits until that is shown, after what was expected before
---     t:type "1 + 1\n"
---     t:expect "2"
---     t:resize "40x10"
---     lu.assertEquals(t:finish(), 0)

local patience = require "tests.support.patience"
local proc = require "proc"

local terminal = {}
local Terminal = {}
Terminal.__index = Terminal

local SECONDS = 12 * patience

--- Starts the program.
---@param options {cmd: string[], env: table?, cwd: string?, size: string?}
function terminal.start(options)
  local cmd = { os.getenv "TM_BUILD" .. "/pty", options.size or "80x24" }
  local env = { TERM = "xterm" }
  for name, value in pairs(options.env or {}) do env[name] = value end
  return setmetatable({ shown = "", at = 1, child = proc.spawn {
    cmd = table.move(options.cmd, 1, #options.cmd, #cmd + 1, cmd), env = env, cwd = options.cwd, stdin = "pipe",
    stdout = "pipe", fds = { [3] = "feed" } } }, Terminal)
end

--- Types bytes.
function Terminal:type(text) self.child:write(text, 10) end

--- What is shown, without the escapes that move the cursor or change colours; nor one that has
--- not come whole yet.
function Terminal:text()
  return (self.shown:gsub("\27[%[()]?[%d;?]*$", ""):gsub("\27%[[%d;?]*[%a@]", ""):gsub("\27[()].", ""):gsub("\27[=>]", ""):gsub("\r", ""))
end

-- Reads what there is within `seconds`; false at the end.
local function read(self, seconds)
  local bytes = self.child:read(1, seconds)
  if not bytes then return false end
  self.shown = self.shown .. bytes
  return true
end

--- Waits until `part` is shown, behind what was expected before; returns what came until then.
---@param part string  as it is
---@param seconds? number
function Terminal:expect(part, seconds)
  local deadline = os.time() + (seconds and seconds * patience or SECONDS)
  while true do
    local text = self:text()
    local first, last = text:find(part, self.at, true)
    if first then
      local before = text:sub(self.at, last)
      self.at = last + 1
      return before
    end
    if os.time() > deadline or not read(self, 1) then
      error(("'%s' was not shown, but: %s"):format(part, text:sub(self.at)), 2)
    end
  end
end

--- Changes the window's size.
---@param size string  "COLUMNSxROWS"
function Terminal:resize(size) self.child:write(size .. "\n", 10, 3) end

--- Waits for the end of the program; returns its exit code.
function Terminal:finish()
  local deadline = os.time() + SECONDS
  while read(self, 1) do
    if os.time() > deadline then error("no end, but: " .. self:text():sub(self.at), 2) end
  end
  return self.child:wait(SECONDS).code
end

function Terminal:close() self.child:close() end
Terminal.__close = Terminal.close

return terminal
