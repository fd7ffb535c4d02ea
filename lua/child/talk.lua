--- What a node's process and its runner say to each other.
---
--- Reports go out as lines of JSON on one descriptor. Some want an answer: they carry a number,
--- `ack`, and the runner answers with a line {"ack": number, ...} on another, once the state store has
--- what was reported, or once there is something to tell. Several questions may be open; answers
--- come in any order and are kept until they are asked for. The end of that descriptor says that the
--- runner is gone.
---
--- A runner never waits for its children: it has no more than the answers on the way that were asked
--- for, and each is small. A process that asks one thing at a time therefore never misses an answer.

local errors = require "tidemill.errors"
local json = require "json"
local signal = require "tidemill.signal"
local utf = require "tidemill.text"

local talk = {}
local Talk = { __name = "tidemill.talk" }
Talk.__index = Talk

local ANSWER_SECONDS = 60

--- Between this process and its runner.
---@param out file*      to write reports to
---@param wire table     tidemill.wire, to read answers from
---@return tidemill.Talk
function talk.new(out, wire)
  ---@class tidemill.Talk
  ---@field answered boolean  whether there is a runner that answers
  return setmetatable({ out = out, wire = wire, asked = 0, open = {}, answers = {}, answered = false }, Talk)
end

--- Reports something.
---@param message table  `t` says what it is
function Talk:tell(message)
  self.out:write(json.encode(utf.clean_all(message)), "\n")
  self.out:flush()
end

--- Reports something that is to be answered.
---@param message table
---@return integer question  for `answer`
function Talk:ask(message)
  self.asked = self.asked + 1
  message.ack = self.asked
  self.open[self.asked] = true
  self:tell(message)
  return self.asked
end

-- Takes in the next line; false if none came in time.
local function hear(self, seconds)
  local heard, line = pcall(self.wire.line, self.wire, seconds)
  if not heard and errors.from(line).kind == "timeout" then return false end
  if not heard then error(line, 0) end
  if not line then errors.raise("canceled", "the runner of this attempt is gone") end
  local ok, answer = pcall(json.decode, line)
  if ok and type(answer) == "table" and self.open[answer.ack] then
    self.open[answer.ack], self.answers[answer.ack] = nil, answer
  end
  return true
end

--- The answer to a question, each once. Raises `canceled` when the runner is gone, or this process is to
--- end.
---@param question integer
---@param seconds number   to wait for it; 0: look only
---@return table? answer   nil: not yet
function Talk:answer(question, seconds)
  local deadline = signal.mono() + math.ceil(seconds * 1000)
  local heard = true
  while heard and not self.answers[question] do
    heard = hear(self, math.max(deadline - signal.mono(), 0) / 1000)
  end
  local answer = self.answers[question]
  self.answers[question] = nil
  return answer
end

--- Reports something and waits until the runner has dealt with it. Raises `timeout` after a minute, and
--- `usage` if the runner refuses it. Without a runner that answers, the answer is empty.
---@param message table
---@return table answer
function Talk:call(message)
  if not self.answered then
    self:tell(message)
    return {}
  end
  local answer = self:answer(self:ask(message), ANSWER_SECONDS)
  if not answer then
    errors.raise("timeout", ("the runner did not answer within %d s"):format(ANSWER_SECONDS))
  elseif answer.refused then
    errors.usage(("the runner refuses the report '%s': %s"):format(message.t, tostring(answer.refused)))
  end
  return answer
end

return talk
