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

local commit = require "tidemill.extract.commit"
local deal = require "tidemill.extract.deal"
local drift = require "tidemill.extract.drift"
local errors = require "tidemill.errors"
local guarded = require "tidemill.guarded"
local ranges = require "tidemill.extract.ranges"
local resume = require "tidemill.extract.resume"
local seals = require "tidemill.extract.seals"
local selection = require "tidemill.extract.selection"
local shape = require "tidemill.extract.shape"
local snapshot = require "tidemill.extract.snapshot"
local stream = require "stream"
local text = require "tidemill.text"
local units = require "tidemill.units"
local window = require "tidemill.extract.window"
local workers = require "tidemill.extract.workers"

-- What is to be read, divided; of an extract that may be resumed, around what was read already.
local function divide(ctx, spec, place, snap, selected, shaped, key, finished)
  if not spec.resume then return ranges.divide(ctx, snap, selected, spec, place.store, key) end
  local print = resume.print(selected, shaped)
  local done = resume.usable({ ctx = ctx, place = place, key = key, print = print }, finished)
  local split = ranges.divide(ctx, snap, selected, spec, place.store, key, done)
  resume.number(split.list, print)
  return split
end

-- Opens the sessions. Where nobody asked for several, one will do.
local function grow(ctx, spec, snap, split)
  local ok, raised = guarded.call(snap.grow, snap, split.jobs)
  if ok then return end
  if spec.jobs or errors.from(raised).kind == "canceled" then error(raised, 0) end
  ctx:log("warn", "%s instead of %d: %s", text.count(#snap.sessions, "session"), split.jobs, tostring(raised))
  split.jobs = #snap.sessions
end

-- What there is to do: the snapshot taken, the rows divided, no byte moved.
local function prepare(ctx, spec, place, snap, win, finished)
  local key = ranges.key(snap.conn, spec)
  local selected = selection.open(snap, spec, key)
  if win then
    selected.predicate, selected.window = win:open(snap, spec.query and selected:sql(selected.whole))
  end
  local columns = drift.against(ctx, spec, selected)
  local shaped = shape.new(spec, selected.columns, ctx.followed)
  local split = divide(ctx, spec, place, snap, selected, shaped, key, finished)
  grow(ctx, spec, snap, split)
  return {
    ctx = ctx, spec = spec, place = place, snap = snap, selection = selected, columns = columns, shape = shaped,
    split = split, seals = seals.new(ctx, place.prefix), pace = spec.max_rate and stream.rate(spec.max_rate),
    share = deal.share(ctx, spec, place.store, split.jobs),
  }
end

-- Compares what was read with the source, if the flow wants that.
local function verify(work, read, head)
  local checks = work.shape.hash
  if not checks then return end
  local report
  head.hash, report = checks:compare(work, read)
  work.snap:check_age()
  work.ctx:report("verify", report)
end

-- Says what comes, and what is there already.
local function announce(ctx, work, head)
  ctx:announce(head)
  if not work.spec.resume then return end
  local count, rows = resume.tell(work.seals, work.split.list)
  if count == 0 then return end
  head.split.taken_over = count
  ctx:log("info", "%d of %d ranges (%s) were finished by an earlier attempt", count, #work.split.list,
    text.count(rows, "row"))
end

-- Moves the rows and ends the transactions; on failure, nothing is left.
local function move(work, head)
  local ok, raised = guarded.call(function()
    local read = workers.run(work)
    verify(work, read, head)
    work.snap:finish() -- fails if a successor has ended the session: its manifest is the one that counts
    return read
  end)
  if ok then return raised end
  workers.take_back(work)
  commit.remove(work.place, work.seals.objects)
  error(raised, 0)
end

-- What it was and what it has cost. The manifest is there, so nothing may fail any more.
local function report(ctx, work, head, read)
  local known, harm = pcall(work.snap.harm, work.snap)
  if not known then return ctx:log("warn", "no report: %s", tostring(harm)) end
  harm.text = ("%s in one snapshot, %s; meanwhile %s began"):format(units.show_elapsed(harm.seconds * 1000),
    text.count(harm.sessions, "session"), text.count(harm.xmin_age, "transaction"))
  ctx:report("source", harm)
  local seconds = math.max(harm.seconds, 0.001)
  ctx:report("transfer", { rows = head.rows, read_bytes = read.bytes, stored_bytes = head.bytes,
    objects = head.object_count, split = head.split.kind,
    text = ("%s, %s read (%s/s), %s stored in %s"):format(text.count(head.rows, "row"), units.show_size(read.bytes),
      units.show_size(read.bytes // seconds), units.show_size(head.bytes), text.count(head.object_count, "object")) })
end

---@param ctx table   the attempt (lua/node.lua)
---@param spec table  the node's fields, variables filled in
return function(ctx, spec)
  local store, prefix = ctx:location(spec.to)
  local who = { node = ctx.node, run = ctx.run_id, attempt = ctx.attempt, business = ctx.business }
  local place = { store = store, prefix = prefix, who = who, resumable = spec.resume }
  local win = window.before(ctx, spec)
  if win and win.wait then return { wait = win.wait } end
  local finished, keep = resume.find(ctx, spec)
  commit.end_older(ctx, place, keep)
  local snap <close> = snapshot.open(ctx, spec)
  local work = prepare(ctx, spec, place, snap, win, finished)
  local head = commit.head(ctx, work)
  if win then win:mark(head) end
  announce(ctx, work, head)
  local read = move(work, head)
  if spec.resume then resume.check(place, work.split.list) end
  commit.put(ctx, place, head, work.seals:listed())
  work.columns:keep(work.selection)
  if win then win:keep(snap, head.rows) end
  ctx:progress { rows = head.rows, bytes = head.raw_bytes, done = true }
  ctx:log("info", "%s in %s (%s) under %s", text.count(head.rows, "row"), text.count(head.object_count, "object"),
    text.count(head.bytes, "byte"), spec.to)
  ctx:output("manifest", head.id)
  ctx:output("rows", head.rows)
  ctx:output("objects", head.object_count)
  ctx:output("bytes", head.bytes)
  report(ctx, work, head, read)
end
