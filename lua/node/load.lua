--- The body of a flow.load node: the objects of a manifest become rows of a table.
---
---   claim -> objects -> [decompress] -> COPY table (columns) FROM STDIN -> ledger, COMMIT
---
--- The pieces, each a module in lua/load: `source` gives the objects, of a manifest or of an extract
--- that still runs; `create` makes the table, `target` knows it; `object` loads one; `crew` runs several side by side;
--- `direct` fills the table itself.
---
--- Whatever commits rows also writes the target's ledger, in the same transaction: a repeated attempt
--- loads nothing that was committed, and one that was taken over commits nothing. A missing,
--- shortened or altered object, a wrong row count or a bad row fails the load.

local create = require "tidemill.load.create"
local direct = require "tidemill.load.direct"
local object = require "tidemill.load.object"
local once = require "tidemill.once"
local source = require "tidemill.load.source"
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
---@field running table<manifest.Object, stream.Job>  the COPYs under way
---@field verify? load.Verify  what compares the rows with the source
---@field rows integer       loaded by this attempt so far; so `bytes` (before compression) and `objects`
---@field bytes integer
---@field objects integer
---@field tick fun()         called some times a second while streams move

local function perform(ctx, spec, conn, claim)
  local begun = claim:begun(conn)
  local src = source.open(ctx, spec, begun)
  local work = { ctx = ctx, spec = spec, claim = claim, src = src, running = {}, rows = 0, bytes = 0, objects = 0 }
  function work.tick()
    src:listen()
    object.progress(work)
  end
  create.ensure(ctx, conn, spec, src.head, begun)
  work.verify = verify.open(spec, src.head)
  work.target = target.open(conn, spec, src.head)
  direct.run(work, conn)
  return work
end

---@param ctx tidemill.Context
---@param spec table  the node's fields, variables filled in
return function(ctx, spec)
  local conn <close> = ctx:postgres(spec.on, { session = "load" })
  local claim = once.claim(ctx, conn)
  if claim.done then
    ctx:progress { rows = claim.done.row_count, done = true }
    ctx:output("rows", claim.done.row_count or 0)
    return
  end
  local ok, work = pcall(perform, ctx, spec, conn, claim)
  if not ok and work == source.GONE then return { wait = { kind = "upstream" } } end
  if not ok then error(work, 0) end
  local rows = work.src.manifest.rows
  ctx:progress { rows = rows, bytes = work.src.manifest.raw_bytes, done = true }
  ctx:log("info", "%s of %s into %s", text.count(work.rows, "row"), text.count(work.objects, "object"), spec.into)
  ctx:output("rows", rows)
  if work.verify and ctx.report then ctx:report("verify", work.verify.report) end
end
