--- The commit of an extract: its manifest, put last; and what becomes of objects without one.

local errors = require "tidemill.errors"
local manifest = require "tidemill.manifest"
local names = require "tidemill.manifest.names"
local sweep = require "tidemill.sweep"
local text = require "tidemill.text"
local time = require "time"

local commit = {}

--- No attempt before this one commits any more; what it left goes.
---@param ctx tidemill.Context
---@param place extract.Place
---@param keep? table<string, boolean>  keys, relative to the prefix, that stay
function commit.end_older(ctx, place, keep)
  if ctx.attempt == 1 then return end
  local ok, raised = pcall(sweep.older, place.store, place.prefix, place.who, keep)
  if not ok then
    ctx:log("warn", "what earlier attempts left under %s stays: %s", place.prefix, tostring(raised))
  elseif raised.objects + raised.uploads > 0 then
    ctx:log("info", "removed what earlier attempts left: %s, %s", text.count(raised.objects, "object"),
      text.count(raised.uploads, "upload"))
  end
end

--- Removes objects that no manifest will list; what cannot be removed now, a sweep removes. Of an
--- extract that may be resumed all stay, for the next attempt.
---@param place extract.Place
---@param objects {key: string}[]  keys relative to the prefix
function commit.remove(place, objects)
  if place.resumable then return end
  local keys = {}
  for i, object in ipairs(objects) do keys[i] = place.prefix .. object.key end
  if #keys > 0 then pcall(place.store.delete_many, place.store, keys) end
end

-- The manifest's put failed: whether the attempt has committed all the same. If nobody can tell
-- it stays open, and so do the objects.
local function settle(ctx, place, id, objects, raised)
  local known, state, by = pcall(manifest.close, place.store, place.prefix, id, "itself")
  if not known then error(raised, 0) end
  if state == "committed" then
    local m = manifest.look(place.store, place.prefix, id)
    if m and m.node == ctx.node then
      ctx:log("warn", "the answer to the manifest's put was lost; it is there")
      return
    end
    commit.remove(place, objects)
    errors.raise("conflict", ("node '%s' has put the manifest '%s'"):format(m and m.node or "?", id),
      "nodes that extract to one place need names that differ in more than case, blanks, '-' and '_'", raised)
  end
  commit.remove(place, objects)
  if by == "itself" then error(raised, 0) end
  errors.raise("conflict", ("attempt %d of node '%s' was closed by %s"):format(ctx.attempt, ctx.node, by),
    "nothing of this attempt was committed; a newer one does the work", raised)
end

--- What every object of the attempt has in common: the head of its manifest, and what a load is told
--- that begins before there is one.
---@param ctx tidemill.Context
---@param work extract.Work
---@return table
function commit.head(ctx, work)
  local spec, split, conn = work.spec, work.split, work.snap.conn
  return {
    id = names.id(work.place.who),
    flow = ctx.flow, node = ctx.node, run = ctx.run_id, attempt = ctx.attempt,
    business = time.iso(ctx.business, ctx.timezone), created = time.iso(time.now()),
    source = {
      connection = spec.from, query = work.selection:sql(work.selection.whole),
      server_version = conn:server_version(), snapshot = work.snap.text,
    },
    split = { kind = split.kind, by = split.by, ranges = split.count, jobs = split.jobs,
      taken_over = work.taken_over },
    format = work.shape.format,
    columns = work.shape.columns,
  }
end

--- Puts the manifest. Raises, and then the objects are removed unless the store cannot say
--- whether it lists them.
---@param ctx tidemill.Context
---@param place extract.Place
---@param head table
---@param objects manifest.Object[]
function commit.put(ctx, place, head, objects)
  local ok, raised = pcall(manifest.write, place.store, place.prefix, head, objects)
  if not ok then settle(ctx, place, head.id, objects, raised) end
end

return commit
