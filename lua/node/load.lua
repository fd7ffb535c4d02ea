--- The body of a flow.load node: the objects of a manifest become rows of a table.
---
---   claim -> objects -> [decompress] -> COPY table (columns) FROM STDIN -> ledger, COMMIT
---
--- The pieces, each a module in lua/load: `source` gives the objects, of a manifest or of an extract
--- that still runs; `create` makes the table, `target` knows it; `object` loads one; `crew` runs several side by
--- side; `direct` fills the table itself, `staged` a staging table (`stage`) from which one transaction publishes
--- by the SQL of `publish`.
---
--- Whatever commits rows also writes the target's ledger, in the same transaction: a repeated attempt
--- loads nothing that was committed, and one that was taken over commits nothing. A missing,
--- shortened or altered object, a wrong row count or a bad row fails the load.

local create = require "tidemill.load.create"
local direct = require "tidemill.load.direct"
local drift = require "tidemill.load.drift"
local errors = require "tidemill.errors"
local guarded = require "tidemill.guarded"
local increment = require "tidemill.load.increment"
local object = require "tidemill.load.object"
local once = require "tidemill.once"
local reject = require "tidemill.load.reject"
local source = require "tidemill.load.source"
local stage = require "tidemill.load.stage"
local staged = require "tidemill.load.staged"
local target = require "tidemill.load.target"
local text = require "tidemill.text"
local verify = require "tidemill.load.verify"

---@class load.Work
---@field ctx tidemill.Context
---@field spec table         the node's fields
---@field claim ledger.Claim
---@field src load.Source
---@field target load.Target
---@field share tidemill.Budget    what each stream may use of memory
---@field ahead boolean     the next object is fetched while others are loaded
---@field running table<manifest.Object, stream.Job>  the COPYs under way
---@field reject? load.Reject  what sets bad rows aside
---@field verify? load.Verify  what compares the rows with the source
---@field rows integer       loaded by this attempt so far; so `bytes` (before compression) and `objects`
---@field bytes integer
---@field objects integer
---@field counts table<string, integer>  rows "inserted", "updated", "deleted" in the target; "replaced" by later ones
---of their key, in a merge
---@field missing? boolean  an object was not there
---@field tick fun()         called some times a second while streams move

-- A restored run may go on with another version of the flow. What takes all objects must not find some of them
-- committed already.
local function refuse_pieces(begun, takes_all)
  if not takes_all or begun.count == 0 then return end
  errors.raise("conflict", ("%s of this load, as it was when it began, %s appended and committed"):format(
    text.count(begun.count, "object"), begun.count == 1 and "is" or "are"),
    "rerun, or restore with the version it began with")
end

-- Whether the rows may have been committed all the same.
local function in_doubt(raised)
  while errors.is(raised) do
    if raised.kind == "in_doubt" then return true end
    raised = raised.cause
  end
  return false
end

local function perform(ctx, spec, conn, claim)
  local begun = claim:begun(conn)
  refuse_pieces(begun, spec.mode ~= "append" or spec.via)
  local src <close> = source.open(ctx, spec, begun)
  local work = { ctx = ctx, spec = spec, claim = claim, src = src, running = {}, counts = {}, rows = 0, bytes = 0,
    objects = 0 }
  function work.tick()
    src:listen()
    object.progress(work)
  end
  create.ensure(ctx, conn, spec, src.head, begun)
  work.verify = verify.open(spec, src.head)
  work.target = target.open(conn, spec, src.head)
  if spec.verify then verify.check(work.target, spec) end
  local line, report = drift.told(work.target)
  if line then
    ctx:log("warn", "%s", line)
    ctx:report("drift", report)
  end
  work.reject = reject.open(ctx, spec)
  local by = staged.wanted(work) and staged or direct
  refuse_pieces(begun, by == staged or work.verify)
  if by == direct then stage.clear(ctx, conn) end -- an attempt before this one, which was pipelined, may have staged
  local ok, raised = guarded.call(by.run, work, conn)
  if ok then return work end
  if work.reject and not in_doubt(raised) then work.reject:abandon() end
  error(raised ~= source.GONE and src:is_gone(work.missing) and source.GONE or raised, 0)
end

-- What became of the rows, unless they are all new ones.
local function told(counts)
  local parts = {}
  for _, what in ipairs { "inserted", "updated", "deleted", "replaced" } do
    if (counts[what] or 0) > 0 then parts[#parts + 1] = ("%d %s"):format(counts[what], what) end
  end
  if #parts == 0 or not (counts.updated or counts.deleted or counts.replaced) then return "" end
  return ": " .. table.concat(parts, ", ")
end

local function tell_rejected(ctx, work)
  ctx:output("rejected", work.reject.count)
  if work.reject.count == 0 then return end
  ctx:output("rejects", work.reject:report().manifest)
  ctx:log("warn", "%s rejected, under %s", text.count(work.reject.count, "row"), work.spec.reject.to)
  ctx:report("rejected", work.reject:report())
end

-- All is committed.
local function tell(ctx, work, fed)
  local m, counts = work.src.manifest, work.counts
  local rows = m.rows - (work.reject and work.reject.count or 0)
  ctx:progress { rows = rows, bytes = m.raw_bytes, done = true }
  local what = ("%s of %s into %s%s"):format(text.count(work.rows, "row"), text.count(work.objects, "object"),
    work.spec.into, told(counts))
  ctx:log("info", "%s", what)
  ctx:output("rows", rows)
  ctx:report("transfer", { text = what, rows = work.rows, bytes = work.bytes, objects = work.objects, manifest = m.id,
    jobs = work.spec.jobs, pipelined = fed, inserted = counts.inserted, updated = counts.updated,
    deleted = counts.deleted, replaced = counts.replaced })
  if work.verify then ctx:report("verify", work.verify.report) end
  if work.reject then tell_rejected(ctx, work) end
end

---@param ctx tidemill.Context
---@param spec table  the node's fields, variables filled in
return function(ctx, spec)
  local conn <close> = ctx:postgres(spec.on, { session = "load" })
  local claim = once.claim(ctx, conn)
  if claim.done then
    increment.check_done(ctx, spec, claim.done)
    ctx:progress { rows = claim.done.row_count, done = true }
    ctx:output("rows", claim.done.row_count or 0)
    if spec.reject then
      local rejected, id = reject.recall(ctx, spec, claim.done.attempt)
      ctx:output("rejected", rejected)
      if id then ctx:output("rejects", id) end
    end
    return
  end
  local ok, work = pcall(perform, ctx, spec, conn, claim)
  if not ok and work == source.GONE then return { wait = { kind = "upstream" } } end
  if not ok then error(work, 0) end
  tell(ctx, work, ctx.feed ~= nil)
end
