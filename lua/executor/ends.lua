--- How attempts end: what the store is told of them, and what becomes of their nodes.
---
--- Retries. A failed attempt is repeated while the node has retries left, unless its error says
--- that a repeat cannot help or may do harm: kinds usage, auth, integrity, in_doubt. The delay
--- is retry_delay, times backoff for each further retry, at most an hour, plus up to a quarter.
--- Attempts that were lost with their runner use up no retries.

local errors = require "tidemill.errors"
local logs = require "tidemill.executor.logs"

local ends = {}

local MAX_DELAY_S = 3600
local FINAL = { usage = true, auth = true, integrity = true, in_doubt = true, canceled = true }

--- 1.5 -> "1.5 s"
function ends.seconds(s)
  return (("%.3f"):format(s):gsub("%.?0+$", "")) .. " s"
end

-- What went wrong with an attempt that ended without telling.
local function silent_death(ex, status)
  local peak = status.maxrss_bytes and (" (peak memory %d MiB)"):format(status.maxrss_bytes >> 20) or ""
  if status.signal then
    return errors.new("system", ("the node's process was ended by %s%s"):format(status.signal, peak), {
      hint = status.signal == "SIGKILL"
        and "the kernel kills the largest process when memory runs out; see dmesg" or nil })
  end
  return errors.new("system", ("the node's process ended with exit code %d and no result%s")
    :format(status.code, peak), { hint = ("its last words: tidemill logs %s"):format(ex.id) })
end

local function error_of(ex, record, status)
  local result = record.result
  if record.cancel == "timeout" then
    return errors.new("timeout", ("no end after %s"):format(ends.seconds(record.node.timeout)), {
      cause = result and result.error,
      detail = status.signal and ("ended by %s"):format(status.signal) or nil })
  elseif record.cancel then
    return errors.new("canceled", record.cancel_reason)
  elseif record.spawn_error then
    return errors.from(record.spawn_error)
  elseif result and result.error then
    return errors.from(result.error)
  end
  return silent_death(ex, status)
end

-- Seconds until the next attempt, or nil and why there is none.
local function retry_delay(ex, record, err)
  local node, failures = record.node, record.failures + 1
  if record.cancel and record.cancel ~= "timeout" then return nil, "canceled" end
  if ex.stopping then return nil, "the run is stopping" end
  if (node.retries or 0) == 0 then return nil end
  if FINAL[err.kind] then return nil, ("an error of kind '%s' is not retried"):format(err.kind) end
  if failures > node.retries then return nil, ("all %d retries are used"):format(node.retries) end
  local delay = (node.retry_delay or 10) * (node.backoff or 2) ^ (failures - 1)
  return math.min(delay, MAX_DELAY_S) * (1 + 0.25 * ex.random())
end

local function ended(record, status, attempt_state, node_state)
  return {
    state = attempt_state, node_state = node_state, rows = record.rows, bytes = record.bytes,
    cpu_ms = status.utime and math.floor((status.utime + status.stime) * 1000 + 0.5),
    max_rss_bytes = status.maxrss_bytes, code = status.code, signal = status.signal,
  }
end

--- The store has it: the attempt's process is no more.
function ends.detach(ex, record)
  if record.state == "running" then
    ex.running = ex.running - 1
    record.spent = (record.spent or 0) + ex.clock() - record.attempt_started
  end
  record.child, record.timeout_at, record.kill_at, record.spawn_error = nil, nil, nil, nil
  record.waiting, record.wait_until, record.next_at, record.offered = nil, nil, nil, nil
  record.ready_at, record.fed, record.question = nil, nil, nil
  record.ended = ex.clock()
end

local function tell(ex, record, what, more)
  more.cpu_ms, more.max_rss_bytes = what.cpu_ms, what.max_rss_bytes
  ex:tell_node(record, more)
end

--- The attempt did its work.
---@param status table   of its process; {} if it has none any more
function ends.succeed(ex, record, status)
  local result = record.result or {}
  local what = ended(record, status, "success", "success")
  what.outputs, what.message = record.outputs, result.closed
  what.facts = record.kind == "extract" or record.kind == "load"
  ex.store:end_attempt(ex.id, record.name, record.attempt, what)
  ends.detach(ex, record)
  record.state, record.closed, record.message, record.lost = "success", result.closed, result.closed, 0
  tell(ex, record, what, { message = result.closed })
end

-- The node's `when` was false.
local function skip(ex, record, status)
  local what = ended(record, status, "success", "skipped")
  what.message = record.result.skip
  what.decision = { what = "skip", reason = what.message }
  ex.store:end_attempt(ex.id, record.name, record.attempt, what)
  ends.detach(ex, record)
  record.state, record.message, record.outputs = "skipped", what.message, {}
  tell(ex, record, what, { message = what.message })
end

--- The attempt came to nothing, through no fault of its own: its node waits again, with all its retries.
---@param status table
---@param reason string
function ends.withdraw(ex, record, status, reason)
  record.rows, record.bytes = nil, nil -- they are nowhere
  local what = ended(record, status, "canceled", "waiting")
  what.withdrawn, what.message, what.decision = true, reason, { what = "withdraw", reason = reason }
  ex.store:end_attempt(ex.id, record.name, record.attempt, what)
  ends.detach(ex, record)
  record.state, record.message, record.outputs, record.ended, record.told = "waiting", reason, {}, nil, nil
  tell(ex, record, what, { message = reason })
end

-- What is decided after a failed attempt, and why.
local function decide(ex, record, what, err, delay, reason)
  if delay then
    what.next_at = ex.wall() + math.ceil(delay * 1000)
    what.decision = { what = "retry",
      reason = ("attempt %d failed (%s); attempt %d starts in %s"):format(record.attempt, err.kind,
        record.attempt + 1, ends.seconds(delay)) }
  elseif what.tolerated then
    what.message = "tolerated: " .. err.message
    what.decision = { what = "tolerate", reason = "the flow allows this node to fail: " .. err.message }
  elseif reason and what.state ~= "canceled" then
    what.decision = { what = "no retry", reason = reason }
  end
end

--- The attempt failed, was cancelled, or is to be made again.
---@param err table
---@param status table   of its process; {} if it has none any more
---@param final? boolean  no retry, whatever is left
function ends.fail(ex, record, err, status, final)
  err.node, err.attempt = record.name, record.attempt
  local delay, reason
  if not final then delay, reason = retry_delay(ex, record, err) end
  -- What nobody here cancelled has failed: a query may have been cancelled at the server.
  local canceled = err.kind == "canceled" and (record.cancel or ex.stopping) ~= nil
  local state = delay and "retrying" or canceled and "canceled" or "failed"
  local what = ended(record, status, canceled and "canceled" or "failed", state)
  what.error, what.message = err, err.message
  what.tolerated = state == "failed" and record.node.allow_failure or nil
  decide(ex, record, what, err, delay, reason)
  ex.store:end_attempt(ex.id, record.name, record.attempt, what)
  ends.detach(ex, record)
  record.state, record.error, record.message, record.tolerated = state, err, what.message, what.tolerated
  record.failures, record.lost, record.outputs = record.failures + (canceled and 0 or 1), 0, {}
  if delay then record.next_at, record.ended = ex.clock() + math.ceil(delay * 1000), nil end
  tell(ex, record, what, { error = err, retry_in = delay, tolerated = what.tolerated })
end

-- A node fails without a process that could tell why.
local function fail_node(ex, record, attempt, err, what)
  err.node, err.attempt = record.name, attempt
  what.node_state, what.message, what.error = "failed", err.message, err
  what.tolerated = record.node.allow_failure or nil
  ex.store:end_attempt(ex.id, record.name, attempt, what)
  ends.detach(ex, record)
  record.attempt = attempt
  record.state, record.error, record.message, record.tolerated = "failed", err, err.message, what.tolerated
  ex:tell_node(record, { error = err, tolerated = what.tolerated })
end

--- A node fails whose last attempt was lost, and stays so.
function ends.give_up(ex, record, err)
  fail_node(ex, record, record.attempt, err,
    { state = "lost", decision = { what = "no retry", reason = err.message } })
end

--- A node fails that waited too long for a place: its attempt has failed before it began, or
--- between two looks.
function ends.refuse(ex, record, err)
  local is_polling = record.state == "polling"
  fail_node(ex, record, is_polling and record.attempt or record.attempt + 1, err,
    { state = "failed", unbegun = not is_polling, decision = { what = "timeout", reason = err.message } })
end

--- The process of an attempt is gone, and what it reported has been read.
---@param status table  code or signal, utime, stime, maxrss_bytes
function ends.on_exit(ex, record, status)
  logs.flush(ex, record)
  local result = record.result
  local through = result and result.ok and not result.wait and (status.code == 0 or record.cancel)
  if through and result.skip then
    skip(ex, record, status)
  elseif through then
    ends.succeed(ex, record, status)
  else
    ends.fail(ex, record, error_of(ex, record, status), status)
  end
end

--- Why a failed node failed; from the store if an earlier runner saw it.
function ends.error_of_node(ex, record)
  if record.error then return record.error end
  local attempts = ex.store:attempts(ex.id, record.name)
  for i = #attempts, 1, -1 do
    if attempts[i].error then return attempts[i].error end
  end
  return errors.new("system", record.message or "it failed", { node = record.name, attempt = record.attempt })
end

return ends
