--- The body of a flow.extract node: rows of a query become objects and a manifest.
---
---   COPY (query) TO STDOUT -> [map] -> [compress] -> objects of about object_size -> manifest
---
--- The server formats the rows; nothing here looks at them unless the flow has a map, and
--- then the server sends COPY text, which is the cheapest to take apart. Objects carry the
--- run, node and attempt in their names, so no other attempt can touch them; the manifest
--- is put last and is the commit. On any failure the objects are removed again; where the answer
--- to that put is lost, what lies there tells whether it was done, and if nobody can tell
--- they stay, for a manifest may name them.

local budget = require "tidemill.budget"
local copy = require "tidemill.copy"
local errors = require "tidemill.error"
local manifest = require "tidemill.manifest"
local names = require "tidemill.manifest.names"
local stream = require "stream"
local sweep = require "tidemill.sweep"
local text = require "tidemill.text"
local time = require "time"
local zip = require "zip"

local SUFFIX = { none = "", gzip = ".gz", zstd = ".zst" }
local EXTENSION = { csv = ".csv", text = ".txt" }

-- The query without a final semicolon; a comment at its end must not swallow what follows.
local function query_of(spec)
  if spec.query then return (spec.query:gsub("[%s;]+$", "")) end
  return "SELECT * FROM " .. spec.table
end

local function stages_of(spec, format, columns, share)
  local stages, titles = {}, {}
  for i, column in ipairs(columns) do titles[i] = column.name end
  if spec.map then
    local output = copy.codec(format)
    output.header = nil -- each object gets its own
    stages[1] = stream.map(spec.map, {
      columns = titles, input = { format = "text" },
      output = output, output_columns = spec.columns,
    })
  end
  if format.compress ~= "none" then
    stages[#stages + 1] = zip[format.compress](share:give("zip", { level = spec.level }))
  end
  return stages
end

-- What the objects hold: the query's columns, or those the flow says its map makes.
local function columns_out(spec, columns)
  if not spec.columns then return columns end
  local types, out = {}, {}
  for _, column in ipairs(columns) do types[column.name] = column.type end
  for i, name in ipairs(spec.columns) do out[i] = { name = name, type = types[name] or "text" } end
  return out
end

-- A load puts columns by name, so every name stands once, and every one is a name.
local function check_names(columns)
  local seen = {}
  for i, column in ipairs(columns) do
    if seen[column.name] then
      error(errors.new { kind = "sql",
        message = ("columns %d and %d of the query are both named '%s'"):format(seen[column.name], i, column.name),
        hint = "name them apart: SELECT expression AS name" }, 0)
    end
    seen[column.name] = i
  end
end

-- The header line as it stands at the start of each object, and its size before compression.
local function preamble(format, columns)
  if not format.header then return nil, nil end
  local titles = {}
  for i, column in ipairs(columns) do titles[i] = column.name end
  local codec = copy.codec(format)
  codec.header = nil
  local line = require "csv".format({ titles }, codec)
  local bytes = format.compress == "none" and line or zip.compress(line, format.compress)
  return bytes, #line
end

local function remove(store, objects)
  local keys = {}
  for i, object in ipairs(objects) do keys[i] = object.key end
  if #keys > 0 then pcall(store.delete_many, store, keys) end
end

local function source_facts(conn, spec, query)
  return {
    connection = spec.from,
    query = query,
    server_version = conn:server_version(),
    snapshot = conn:value "SELECT txid_current_snapshot()::text",
  }
end

-- Moves the rows; returns the objects written.
local function move(ctx, conn, store, spec, plan)
  local share = budget.divide(ctx.memory, { writers = 1, zips = plan.format.compress ~= "none" and 1 or 0 })
  local source <close> = conn:copy_out(plan.sql)
  local sink <close> = store:objects(share:give("writer", {
    prefix = plan.prefix .. plan.stem,
    digits = names.DIGITS,
    suffix = plan.suffix,
    object_bytes = spec.object_size,
    preamble = plan.preamble,
    preamble_raw_bytes = plan.preamble_raw,
  }))
  local parts = { source, table.unpack(stages_of(spec, plan.format, plan.columns, share)) }
  parts[#parts + 1] = sink
  parts[#parts + 1] = {
    progress = function(stats) ctx:progress { rows = stats.rows_out, bytes = stats.bytes_in } end,
  }
  stream.pump(table.unpack(parts))
  return sink:objects()
end

-- The manifest's put failed: whether the attempt has committed all the same. If nobody can tell
-- it stays open, and so do the objects.
local function settle(ctx, store, prefix, id, objects, raised)
  local known, state, by = pcall(manifest.close, store, prefix, id, "itself")
  if not known then error(raised, 0) end
  if state == "committed" then
    local m = manifest.look(store, prefix, id)
    if m and m.node == ctx.node then
      ctx:log("warn", "the answer to the manifest's put was lost; it is there")
      return
    end
    remove(store, objects)
    error(errors.new { kind = "conflict", cause = raised,
      message = ("node '%s' has put the manifest '%s'"):format(m and m.node or "?", id),
      hint = "nodes that extract to one place need names that differ in more than case, blanks, '-' and '_'" }, 0)
  end
  remove(store, objects)
  if by == "itself" then error(raised, 0) end
  error(errors.new { kind = "conflict", cause = raised,
    message = ("attempt %d of node '%s' was closed by %s"):format(ctx.attempt, ctx.node, by),
    hint = "nothing of this attempt was committed; a newer one does the work" }, 0)
end

local function commit(ctx, store, plan, objects, source)
  local prefix, relative = plan.prefix, {}
  for i, object in ipairs(objects) do
    relative[i] = {
      key = object.key:sub(#prefix + 1), rows = object.rows, bytes = object.bytes,
      raw_bytes = object.raw_bytes, crc64 = object.crc64, etag = object.etag,
    }
  end
  local head = {
    id = names.id(plan.who),
    flow = ctx.flow, node = ctx.node, run = ctx.run_id, attempt = ctx.attempt,
    business = time.iso(ctx.business, ctx.timezone), created = time.iso(time.now()),
    source = source,
    format = plan.format,
    columns = columns_out(plan.spec, plan.columns),
  }
  local ok, raised = pcall(manifest.write, store, prefix, head, relative)
  if not ok then settle(ctx, store, prefix, head.id, objects, raised) end
  return head
end

-- No attempt before this one commits any more; what it left goes.
local function end_older(ctx, store, prefix, who)
  if ctx.attempt == 1 then return end
  local ok, raised = pcall(sweep.older, store, prefix, who)
  if not ok then
    ctx:log("warn", "what earlier attempts left under %s stays: %s", prefix, tostring(raised))
  elseif raised.objects + raised.uploads > 0 then
    ctx:log("info", "removed what earlier attempts left: %s, %s", text.count(raised.objects, "object"),
      text.count(raised.uploads, "upload"))
  end
end

---@param ctx table   the attempt (lua/node.lua)
---@param spec table  the node's fields, variables filled in
return function(ctx, spec)
  local store, prefix = ctx:location(spec.to)
  local who = { node = ctx.node, run = ctx.run_id, attempt = ctx.attempt, business = ctx.business }
  end_older(ctx, store, prefix, who)
  local conn <close> = ctx:postgres(spec.from, { session = "extract" })
  local tx <close> = conn:transaction { isolation = "repeatable read", read_only = true }
  local query = query_of(spec)
  local format = copy.format_of(spec)
  local columns = {}
  for i, column in ipairs(conn:describe(query)) do columns[i] = { name = column.name, type = column.type } end
  check_names(columns_out(spec, columns))
  local wire = spec.map and { format = "text" } or format
  local plan = {
    spec = spec, who = who, prefix = prefix, format = format, columns = columns,
    stem = names.stem(who, ctx.attempt, 1),
    suffix = EXTENSION[format.format] .. SUFFIX[format.compress],
    sql = ("COPY (%s\n) TO STDOUT %s"):format(query, copy.options(wire)),
  }
  plan.preamble, plan.preamble_raw = preamble(format, columns_out(spec, columns))
  local source = source_facts(conn, spec, query)

  local objects = move(ctx, conn, store, spec, plan)
  local ok, raised = pcall(tx.commit, tx)
  if not ok then -- a successor has ended the session: its manifest is the one that counts
    remove(store, objects)
    error(raised, 0)
  end
  local m = commit(ctx, store, plan, objects, source)
  ctx:progress { rows = m.rows, bytes = m.raw_bytes, done = true }
  ctx:log("info", "%s in %s (%s) under %s", text.count(m.rows, "row"), text.count(#objects, "object"),
    text.count(m.bytes, "byte"), spec.to)
  ctx:output("manifest", m.id)
  ctx:output("rows", m.rows)
  ctx:output("objects", #objects)
  ctx:output("bytes", m.bytes)
end
