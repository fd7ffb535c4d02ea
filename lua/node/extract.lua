--- The body of a flow.extract node: rows of a table or query become objects and a manifest.
---
---   snapshot -> ranges -> COPY of each -> [map] -> [compress] -> objects of about object_size -> manifest
---
--- The server formats the rows; nothing here looks at them unless the flow has a map, and
--- then the server sends COPY text, which is the cheapest to take apart. All sessions read under
--- one snapshot. Objects carry the run, node and attempt in their names, so no other attempt can touch
--- them; each is told to the runner when it is complete, and a load of the same run may take it
--- then. The manifest is put last and is the commit. On any failure the objects are removed again; where
--- the answer to that put is lost, what lies there tells whether it was done, and if nobody can tell they
--- stay, for a manifest may name them.

local budget = require "tidemill.budget"
local commit = require "tidemill.extract.commit"
local cores = require "tidemill.cores"
local deal = require "tidemill.extract.deal"
local drift = require "tidemill.extract.drift"
local ranges = require "tidemill.extract.ranges"
local seals = require "tidemill.extract.seals"
local selection = require "tidemill.extract.selection"
local shape = require "tidemill.extract.shape"
local snapshot = require "tidemill.extract.snapshot"
local stream = require "stream"
local text = require "tidemill.text"
local window = require "tidemill.extract.window"
local workers = require "tidemill.extract.workers"

-- What there is to do: the snapshot taken, the rows divided, no byte moved.
local function prepare(ctx, spec, place, snap, win)
  local key = ranges.key(snap.conn, spec)
  local selected = selection.open(snap, spec, key)
  if win then selected.predicate = win:open(snap, spec.query and selected:sql(selected.whole)) end
  local columns = drift.against(ctx, spec, selected)
  local shaped = shape.new(spec, selected.columns)
  local split = ranges.divide(ctx, snap, selected, spec, key)
  snap:grow(split.jobs)
  return {
    ctx = ctx, spec = spec, place = place, snap = snap, selection = selected, columns = columns, shape = shaped,
    split = split, seals = seals.new(ctx, place.prefix), pace = spec.max_rate and stream.rate(spec.max_rate),
    share = deal.share(spec, function()
      return budget.divide(ctx.memory, { writers = deal.writers(spec, split.jobs, place.store), cores = cores.count(),
        zips = spec.compress ~= "none" and split.jobs or 0 })
    end),
  }
end

-- Compares what was read with the source, if the flow wants that.
local function verify(work, read, head)
  local checks = work.shape.hash
  if not checks then return end
  local report
  head.hash, report = checks:compare(work, read)
  work.snap:check_age()
  if work.ctx.report then work.ctx:report("verify", report) end
end

-- Moves the rows and ends the transactions; on failure, nothing is left.
local function move(work, head)
  local ok, raised = pcall(function()
    local read = workers.run(work)
    verify(work, read, head)
    work.snap:finish() -- fails if a successor has ended the session: its manifest is the one that counts
    return read
  end)
  if ok then return raised end
  commit.remove(work.place, work.seals.objects)
  error(raised, 0)
end

---@param ctx table   the attempt (lua/node.lua)
---@param spec table  the node's fields, variables filled in
return function(ctx, spec)
  local store, prefix = ctx:location(spec.to)
  local who = { node = ctx.node, run = ctx.run_id, attempt = ctx.attempt, business = ctx.business }
  local place = { store = store, prefix = prefix, who = who }
  local win = window.before(ctx, spec)
  if win and win.wait then return { wait = win.wait } end
  commit.end_older(ctx, place)
  local snap <close> = snapshot.open(ctx, spec)
  local work = prepare(ctx, spec, place, snap, win)
  local head = commit.head(ctx, work)
  if win then win:mark(head) end
  if ctx.announce then ctx:announce(head) end
  move(work, head)
  local objects = work.seals:listed()
  commit.put(ctx, place, head, objects)
  work.columns:keep(work.selection)
  if win then win:keep(snap, head.rows) end
  ctx:progress { rows = head.rows, bytes = head.raw_bytes, done = true }
  ctx:log("info", "%s in %s (%s) under %s", text.count(head.rows, "row"), text.count(#objects, "object"),
    text.count(head.bytes, "byte"), spec.to)
  ctx:output("manifest", head.id)
  ctx:output("rows", head.rows)
  ctx:output("objects", #objects)
  ctx:output("bytes", head.bytes)
end
