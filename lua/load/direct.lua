--- A load straight into its table: rows are there when their transaction commits.
---
--- One job: one transaction, which removes what is replaced, takes all objects, and ends with the ledger's
--- rows of the node and of its objects. All or nothing.
---
--- Several jobs, which only append: each object is a piece, committed with a ledger row of its own; the node's row is
--- completed when all are there. Readers see the table fill. A load that failed goes on where it stopped,
--- in the next attempt or after `tidemill restore`.
---
--- While the extract still runs nothing is committed: each worker keeps its transaction open over its
--- objects, until the manifest says that they count. (A worker that waits for a row of another, because of a unique
--- index or a trigger, waits until then.)

local apply = require "tidemill.load.apply"
local crash = require "tidemill.crash"
local crew = require "tidemill.load.crew"
local object = require "tidemill.load.object"
local once = require "tidemill.once"
local publish = require "tidemill.load.publish"
local pull = require "tidemill.load.pull"

local direct = {}

local function commit_pieces(work, worker)
  crash.point "load.piece.before"
  once.commit_pieces(worker.conn, worker.tx, work.claim, worker.pieces, work.src.manifest.id)
  crash.point "load.piece.after"
  worker.tx, worker.pieces = nil, {}
end

-- Loads objects until there are no more.
local function fill(work, worker, whole)
  for one in work.src.next, work.src do
    worker.tx = worker.tx or worker.conn:transaction { isolation = "read committed" }
    local rows = object.copy(work, worker.conn, work.sql, one)
    if not whole then
      table.insert(worker.pieces, { key = work.src.prefix .. one.key, etag = one.etag, rows = rows })
      if work.src.manifest then commit_pieces(work, worker) end
    end
  end
  if #worker.pieces > 0 then commit_pieces(work, worker) end
end

local function close_all(workers)
  for _, worker in ipairs(workers) do worker.conn:close() end
end

local function in_pieces(work, conn)
  work.sql = object.sql(work.target.into, work.target.list, work.src.head.format)
  local workers <close> = setmetatable({}, { __close = close_all })
  for i = 1, work.spec.jobs do
    workers[i] = { conn = work.ctx:postgres(work.spec.on, { session = "load" }), pieces = {} }
  end
  crew.run(#workers, function(i) fill(work, workers[i], false) end, work.tick)
  local tx <close> = conn:transaction { isolation = "read committed" }
  apply.commit(work, conn, tx, false)
end

-- COPY may freeze rows of a table that this transaction has emptied, and see to the predicate itself.
local function in_one(work, conn)
  local spec = work.spec
  work.sql = object.sql(work.target.into, work.target.list, work.src.head.format, {
    freeze = spec.mode == "replace" and not spec.delete and not spec.reject and work.target:freezable(),
    where = spec.where, headless = spec.reject ~= nil })
  local tx <close> = conn:transaction { isolation = "read committed" }
  apply.run(work, conn, publish.clear(apply.publication(work)))
  if spec.via then
    pull.run(work, conn, work.target.into)
  else
    crew.run(1, function() fill(work, { conn = conn, tx = tx, pieces = {} }, true) end, work.tick)
  end
  work.counts.inserted = work.rows
  apply.verify(work, conn)
  apply.commit(work, conn, tx, true)
end

--- Loads all objects and commits.
---@param work load.Work
---@param conn pg.Conn  that holds the claim
function direct.run(work, conn)
  work.share, work.ahead = object.share(work.ctx, work.src.head.format, work.spec.jobs, work.reject ~= nil)
  if work.spec.jobs > 1 then in_pieces(work, conn) else in_one(work, conn) end
end

return direct
