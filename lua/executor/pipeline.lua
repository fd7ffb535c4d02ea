--- The pipelined edge: a load takes the objects of an extract while that runs.
---
--- Invariant. A load that is fed hears of one attempt of its extract, `fed.attempt`, and of no
--- other: of each object that this attempt has sealed, once and in order, after the store has it;
--- and of the manifest only when the store says that this attempt is the extract's success. It hears
--- of nothing else, so what it publishes, which it does behind the manifest, is what an
--- ordinary load of that manifest would have published. As soon as that attempt has come to
--- anything but success, the load is told, undoes what it did, and waits for the next one.
---
--- Nobody waits for a load that is fed. It starts behind every other node that may start, so it never
--- takes a place (of --jobs, of a pool) that such a node could have; and it leaves one free for those
--- to come: of a pool always, of --jobs where there are more than two. If it finds none before the
--- extract is through, the edge is an ordinary one, as it always is with --jobs 1. It starts once
--- the extract has announced what its objects are and all other nodes before it allow it. What it is
--- given comes out of the store, in lots that it asks for, so a slow load costs the runner no memory.
---
--- An attempt that is withdrawn is no failure and uses up no retry, and it is not fed from that
--- attempt of the extract again. A load may also withdraw by itself: if what it took is not what the manifest
--- lists. An attempt of a load that fails by itself is a failure as ever; the extract goes on. The
--- load's timeout counts from the extract's success. Runner and processes die together: the next runner finds both
--- attempts lost, begins with the extract, and feeds the load from that attempt on.

local crash = require "tidemill.crash"
local ends = require "tidemill.executor.ends"
local json = require "json"
local logs = require "tidemill.executor.logs"
local triggers = require "tidemill.executor.triggers"

local pipeline = {}

local POOL_MS = 500 -- until a full pool is tried again
local LOT = 32 -- objects told of at once: some 16 KiB
local MOST_HEAD = 1 << 20

--- Finds the edges of a run: `source` of a load is the extract that it may take objects from.
---@param ex table  an executor
function pipeline.link(ex)
  for _, record in ipairs(ex.nodes) do
    if record.kind == "extract" then ex.seals = true end
    for _, up in ipairs(record.node.pipeline and record.ups or {}) do
      if up.name == record.node.pipeline then
        record.source, record.others, up.followed = up, {}, true
        ex.loads = ex.loads or {}
        table.insert(ex.loads, record)
      end
    end
  end
  for _, record in ipairs(ex.loads or {}) do
    for _, up in ipairs(record.ups) do
      if up ~= record.source then table.insert(record.others, up) end
    end
  end
end

--- Whether a node may start ahead of its turn, while its extract runs.
---@param ex table
---@param record table
---@return boolean
function pipeline.may_start(ex, record)
  local source = record.source
  if not source or source.state ~= "running" or not source.head or source.cancel then return false end
  if record.spurned == source.attempt or record.state == "waiting" and ex.draining then return false end
  if record.not_before and ex.clock() < record.not_before then return false end -- its pool was full
  return triggers.verdict(record.node.trigger, record.others) == "start"
end

--- There is no place for a load ahead of its turn: other nodes go on.
function pipeline.put_off(ex, record) record.offered, record.not_before = nil, ex.clock() + POOL_MS end

--- What a node that starts now is fed from; nil if nothing.
---@param record table
---@return tidemill.GivenFeed?
function pipeline.feed_of(record)
  local source = record.source
  if not source or source.state ~= "running" then return nil end
  return { node = source.name, attempt = source.attempt, head = source.head.head, location = source.head.location }
end

--- Why a node starts ahead of its turn, to be recorded.
---@param fed tidemill.GivenFeed?
---@return {what: string, reason: string}?
function pipeline.decision(fed)
  return fed and { what = "pipeline", reason = ("it takes the objects of '%s' (attempt %d) while that runs"):format(
    fed.node, fed.attempt) }
end

--- An attempt of a node has begun.
---@param fed tidemill.GivenFeed?
function pipeline.begin(record, fed)
  record.head, record.sealed, record.question, record.fed = nil, 0, nil, fed
end

-- ---- what an extract reports ----

--- It says what its objects are.
---@return boolean  whether the message is as it should be
function pipeline.announced(_, record, m)
  if record.kind ~= "extract" or type(m.head) ~= "table" or type(m.location) ~= "string"
    or #json.encode(m.head) > MOST_HEAD then return false end
  record.head = { head = m.head, location = m.location }
  return true
end

local function is_count(value) return math.type(value) == "integer" and value >= 0 end
local function is_text(value) return type(value) == "string" end

local function is_sealed(one, n)
  return type(one) == "table" and one.n == n and is_text(one.key) and is_count(one.rows) and is_count(one.bytes)
    and is_count(one.raw_bytes) and is_text(one.crc64) and is_text(one.etag)
    and (one.span == nil or type(one.span) == "table")
end

--- It has completed objects.
---@return boolean
function pipeline.sealed(ex, record, m)
  if record.kind ~= "extract" or type(m.objects) ~= "table" then return false end
  for i, one in ipairs(m.objects) do
    if not is_sealed(one, record.sealed + i) then return false end
  end
  crash.point "runner.sealed.before"
  ex.store:add_objects(ex.id, record.name, record.attempt, m.objects)
  crash.point "runner.sealed.after"
  record.sealed = record.sealed + #m.objects
  return true
end

-- ---- what a load is told ----

--- It asks for what comes behind an object; it is answered when there is something (`step`).
---@return boolean
function pipeline.asked(record, m)
  if not record.fed or not is_count(m.after) or m.ack == nil then return false end
  record.question = { ack = m.ack, after = m.after }
  return true
end

local AGAIN = { retrying = true, waiting = true, polling = true }

-- What has become of the attempt that a load is fed from; nil while it runs.
local function fate_of(record)
  local source = record.source
  if source.attempt ~= record.fed.attempt then return "retry" end
  if source.state == "running" then return nil end
  if source.state == "success" then return source.outputs.manifest and "success" or "failed" end
  if source.state == "lost" then return "lost" end
  return AGAIN[source.state] and "retry" or "failed"
end

-- What there is to tell a load; nil if nothing.
local function news(ex, record, fate)
  local source, after = record.source, record.question.after
  if fate and fate ~= "success" then return { upstream = fate } end
  if source.sealed > after then
    return { objects = ex.store:objects_after(ex.id, source.name, source.attempt, after, LOT) }
  end
  if fate then return { manifest = source.outputs.manifest, outputs = source.outputs } end
end

--- Answers the loads that have asked, as far as there is something to tell, and starts the timeouts
--- of those whose extract is through.
function pipeline.step(ex)
  for _, record in ipairs(ex.loads or {}) do
    if record.fed and record.state == "running" then
      local fate = fate_of(record)
      if fate == "success" and record.node.timeout and not record.timeout_at then
        record.timeout_at = ex.clock() + math.ceil(record.node.timeout * 1000)
      end
      local answer = record.question and record.child and news(ex, record, fate)
      if answer then
        answer.ack = record.question.ack
        crash.point "runner.feed.before"
        record.child:reply(json.encode(answer))
        crash.point "runner.feed.after"
        record.question = nil
      end
    end
  end
end

-- ---- a load that goes back ----

local WHY = { retry = "is to run again", failed = "has not succeeded", lost = "was lost",
  success = "made other objects than those that were taken", running = "is no longer wanted" }

--- Whether the end that a load reported is that of one which undid what it took.
---@return boolean
function pipeline.withdraws(record) return record.fed ~= nil and record.result.wait.kind == "upstream" end

--- Its node waits again.
---@param status table  of its process
function pipeline.withdraw(ex, record, status)
  logs.flush(ex, record)
  local fed, fate = record.fed, fate_of(record) or "running"
  ends.withdraw(ex, record, status, ("nothing was published: attempt %d of '%s' %s"):format(fed.attempt, fed.node,
    WHY[fate]))
  record.spurned = fed.attempt
end

return pipeline
