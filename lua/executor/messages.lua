--- What the process of an attempt reports: progress, logs, outputs, sessions, sealed objects,
--- facts, its result.
---
--- The process runs the flow author's code, so a message may hold anything: what is not as it
--- should be is put in the attempt's log and has no effect. A message that carries `ack` is
--- answered once the store has it: {ack = number}, with what was asked for, or with `refused`.

local crash = require "tidemill.crash"
local ends = require "tidemill.executor.ends"
local json = require "json"
local logs = require "tidemill.executor.logs"
local pipeline = require "tidemill.executor.pipeline"
local waits = require "tidemill.executor.waits"

local messages = {}

local LEVELS = { debug = true, info = true, warn = true, error = true }

local function count_or(value, otherwise)
  return math.type(value) == "integer" and value >= 0 and value or otherwise
end

-- By what is reported: false if it is not as it should be, else true, a table for the answer, or LATER if
-- the answer is given elsewhere.
local on = {}
local LATER = {}

function on.progress(ex, record, m)
  record.rows, record.bytes = count_or(m.rows, record.rows), count_or(m.bytes, record.bytes)
  record.detail = type(m.detail) == "string" and m.detail or record.detail
  ex:tell { event = "progress", node = record.name, rows = record.rows, bytes = record.bytes,
    detail = record.detail }
  return true
end

function on.log(ex, record, m)
  logs.add(ex, record, "log", LEVELS[m.level] and m.level or "info", tostring(m.line))
  return true
end

function on.output(_, record, m)
  local kind = type(m.value)
  if type(m.name) ~= "string" or kind ~= "string" and kind ~= "number" and kind ~= "boolean" then return false end
  record.outputs[m.name] = m.value
  return true
end

function on.session(ex, record, m)
  if type(m.connection) ~= "string" or math.type(m.backend_pid) ~= "integer"
    or type(m.backend_start) ~= "string" then return false end
  ex.store:add_session(ex.id, record.name, record.attempt, m)
  return true
end

function on.result(_, record, m)
  if type(m.ok) ~= "boolean" or m.error ~= nil and type(m.error) ~= "table"
    or m.wait ~= nil and type(m.wait) ~= "table" then return false end
  record.result = m
  return true
end

-- ---- objects ----

function on.announce(ex, record, m) return pipeline.announced(ex, record, m) end
function on.sealed(ex, record, m) return pipeline.sealed(ex, record, m) end
function on.feed(_, record, m) return pipeline.asked(record, m) and LATER end

local MOST_EARLIER = 500

function on.earlier(ex, record, m)
  local last = m.last
  if last ~= nil and (type(last) ~= "table" or not count_or(last.attempt) or not count_or(last.n)) then return false end
  local limit = math.min(math.max(count_or(m.limit, 1), 1), MOST_EARLIER)
  return { objects = json.array(ex.store:earlier_objects(ex.id, record.name, record.attempt, last, limit)) }
end

-- ---- facts ----

local MOST_FACT = 1 << 20
local MOMENTS = { done = true, delivered = true }

local function is_fact_name(name) return type(name) == "string" and name:match "^%l+$" ~= nil and #name < 64 end

function on.fact(ex, record, m)
  if not is_fact_name(m.name) then return false end
  local fact = ex.store:fact(ex.run.flow, record.name, m.name)
  return { value = fact and fact.value }
end

function on.keep(ex, record, m)
  if not is_fact_name(m.name) or not MOMENTS[m.moment] or m.value ~= nil and type(m.value) ~= "string"
    or m.value and #m.value > MOST_FACT then return false end
  crash.point "runner.keep.before"
  ex.store:keep_fact(ex.id, record.name, record.attempt, m.name, m.value, m.moment)
  crash.point "runner.keep.after"
  return true
end

function on.window(ex, record, m)
  if not is_fact_name(m.name) or m.settled ~= nil and type(m.settled) ~= "table" then return false end
  for _, one in ipairs(m.settled or {}) do
    if type(one) ~= "table" or type(one.run) ~= "string" or type(one.node) ~= "string"
      or type(one.delivered) ~= "boolean" then return false end
  end
  return ex.store:take_window(ex.id, record.name, record.attempt, m.name, m.settled)
end

local function message(ex, record, m)
  local answer = on[m.t] and on[m.t](ex, record, m)
  if not answer then
    logs.add(ex, record, "stderr", "warn", ("malformed report '%s'"):format(tostring(m.t)))
  end
  if m.ack == nil or answer == LATER then return end
  local line = type(answer) == "table" and answer or {}
  line.ack, line.refused = m.ack, not answer and "it is malformed" or nil
  record.child:reply(json.encode(line))
end

-- The process is gone: the node waits, or the attempt is over.
local function exit(ex, record, status)
  local result = record.result
  if result and result.ok and result.wait and status.code == 0 and not record.cancel then
    if pipeline.withdraws(record) then return pipeline.withdraw(ex, record, status) end
    return waits.begin(ex, record, status)
  end
  ends.on_exit(ex, record, status)
end

--- Takes one event of a node's child.
---@param ex table      an executor
---@param record table  one of its nodes
---@param event table   (lua/spawner.lua)
function messages.take(ex, record, event)
  if event.type == "exit" then
    exit(ex, record, event.status)
  elseif event.type == "line" then
    logs.add(ex, record, event.stream, event.level or "info", event.line)
  elseif event.type == "started" then
    ex.store:attempt_pid(ex.id, record.name, record.attempt, event.pid)
  elseif event.type == "message" then
    message(ex, record, event.message)
  end
end

return messages
