--- The body of a flow.shell node: a command in a process group of its own.
---
--- What it prints is the node's log. If the last line of its standard output is a JSON object,
--- the texts, numbers and booleans in it are outputs. It finds run, flow, node and attempt in its
--- environment (TIDEMILL_RUN_ID, TIDEMILL_FLOW, TIDEMILL_NODE, TIDEMILL_ATTEMPT). When the attempt is
--- cancelled the group gets SIGTERM, and SIGKILL some seconds later.

local errors = require "tidemill.errors"
local json = require "json"
local proc = require "proc"
local signal = require "tidemill.signal"

local GRACE_MS = 5000
local LAST_BYTES = 1 << 20 -- of the last line, the longest that may hold outputs

local function environment(ctx, spec)
  local env = { TIDEMILL_RUN_ID = ctx.run_id, TIDEMILL_FLOW = ctx.flow, TIDEMILL_NODE = ctx.node,
    TIDEMILL_ATTEMPT = tostring(ctx.attempt) }
  for name, value in pairs(spec.env or {}) do env[name] = value end
  return env
end

-- What was printed last, up to LAST_BYTES; a line's end at its end does not count.
local Tail = {}
Tail.__index = Tail

function Tail:add(bytes)
  local kept = self.text .. bytes
  local from = kept:sub(1, -2):match "^.*()\n"
  if from then kept = kept:sub(from + 1) end
  self.text = #kept > LAST_BYTES and kept:sub(-LAST_BYTES - 1) or kept
end

-- Hands on what is there; false at the end of the output, or when there is no more for now.
local function forward(child, tail)
  if tail.ended then return false end
  local bytes = child:read(1, 0)
  if not bytes then
    tail.ended = true
    child:close_fd(1)
    return false
  end
  io.stdout:write(bytes)
  io.stdout:flush() -- somebody may be looking
  tail:add(bytes)
  return bytes ~= ""
end

-- Until the child has ended or the time is over; its status if it has ended.
local function watch(child, tail, until_ms)
  while true do
    local left = until_ms and math.max(until_ms - signal.mono(), 0) / 1000
    local events = proc.poll({ child }, left)
    if #events == 0 then return nil end
    for _, event in ipairs(events) do
      if event.ended then
        local status = child:wait() -- which also ends what it left in its group
        repeat until not forward(child, tail)
        return status
      end
      forward(child, tail)
    end
  end
end

local function run(ctx, spec, tail)
  io.stdout:setvbuf "full" -- or long lines are sent in small pieces
  local child <close> = proc.spawn { cmd = spec.command, cwd = spec.cwd, env = environment(ctx, spec),
    stdout = "pipe", stderr = "inherit" }
  local ok, status = signal.guard(watch, child, tail)
  if ok then return status end
  child:kill "TERM"
  signal.take() -- else every wait would end at once
  pcall(watch, child, tail, signal.mono() + GRACE_MS)
  error(status, 0)
end

-- The outputs in the last line; nil if it is no JSON object.
local function outputs_of(line)
  if #line > LAST_BYTES or not line:find "^%s*{" then return nil end
  local ok, values = pcall(json.decode, line)
  return ok and values or nil
end

local PLAIN = { string = true, number = true, boolean = true }

local function give_outputs(ctx, spec, values)
  for name, value in pairs(values or {}) do
    if name:match "^[%w_.]+$" and PLAIN[type(value)] then
      ctx:output(name, value)
    else
      ctx:log("warn", "'%s' of the last line is no output: a name, and a text, number or boolean wanted", name)
    end
  end
  for _, name in ipairs(spec.outputs or {}) do
    if not values or not PLAIN[type(values[name])] then
      errors.usage(("node '%s' declares the output '%s', and its command did not give it"):format(ctx.node, name),
        ("let the last line that it prints be JSON: {\"%s\": \"value\"}"):format(name))
    end
  end
end

---@param ctx tidemill.Context
---@param spec table  the node's fields, variables filled in
return function(ctx, spec)
  local tail = setmetatable({ text = "" }, Tail)
  local status = run(ctx, spec, tail)
  io.stdout:flush()
  if status.signal then
    errors.raise("script", ("the command was ended by %s"):format(status.signal))
  elseif status.code ~= 0 then
    errors.raise("script", ("the command ended with exit code %d"):format(status.code),
      status.code == 127 and "the shell knows no such command; its PATH is that of tidemill" or nil)
  end
  ctx:output("exit_code", 0)
  give_outputs(ctx, spec, outputs_of((tail.text:gsub("\n$", ""))))
end
