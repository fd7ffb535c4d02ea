--- A load straight into its table: rows are there when their transaction commits.
---
--- One job: one transaction over all objects, which ends with the ledger's rows of the node and of its
--- objects. All or nothing.
---
--- Several jobs: each object is a piece, committed with a ledger row of its own; the node's row is
--- completed when all are there. Readers see the table fill. A load that failed goes on where it stopped,
--- in the next attempt or after `tidemill restore`.
---
--- While the extract still runs nothing is committed: each worker keeps its transaction open over its
--- objects, until the manifest says that they count.

local crash = require "tidemill.crash"
local crew = require "tidemill.load.crew"
local object = require "tidemill.load.object"
local once = require "tidemill.once"
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
end

-- The COMMIT of all of it.
local function commit(work, conn, tx, more)
  more.row_count, more.manifest = work.src.manifest.rows, work.src.manifest.id
  crash.point "load.commit.before"
  once.commit(work.ctx, work.spec.on, conn, tx, work.claim, more)
  crash.point "load.commit.after"
end

local function close_all(workers)
  for _, worker in ipairs(workers) do worker.conn:close() end
end

local function in_pieces(work, conn)
  local workers <close> = setmetatable({}, { __close = close_all })
  for i = 1, work.spec.jobs do
    workers[i] = { conn = work.ctx:postgres(work.spec.on, { session = "load" }), pieces = {} }
  end
  crew.run(#workers, function(i) fill(work, workers[i], false) end, work.tick)
  for _, worker in ipairs(workers) do
    if worker.tx then commit_pieces(work, worker) end
  end
  local tx <close> = conn:transaction { isolation = "read committed" }
  commit(work, conn, tx, {})
end

local function in_one(work, conn)
  local tx <close> = conn:transaction { isolation = "read committed" }
  if work.spec.via then
    pull.run(work, conn, work.target.into)
  else
    crew.run(1, function() fill(work, { conn = conn, tx = tx }, true) end, work.tick)
  end
  if work.verify then
    work.verify:target(work, conn, work.target.columns, { kind = "new", relation = work.target.into })
  end
  commit(work, conn, tx, { objects = function() return work.src:recorded() end })
end

--- Loads all objects and commits.
---@param work load.Work
---@param conn pg.Conn  that holds the claim
function direct.run(work, conn)
  work.sql = object.sql(work.target.into, work.target.list, work.src.head.format)
  work.share = object.share(work.ctx, work.src.head.format, work.spec.jobs)
  if work.spec.jobs > 1 then in_pieces(work, conn) else in_one(work, conn) end
end

return direct
