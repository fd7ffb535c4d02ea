--- The body of a flow.load node: the objects of a manifest become rows of a table.
---
---   manifest -> object ranges -> [decompress] -> COPY table (columns) FROM STDIN
---
--- The manifest is the one that an extract of this run made in the same place, else the newest
--- there. Only what it lists is read. All objects go into one transaction, each with a
--- COPY of its own, so that the line in a server's error is a line of that object; a
--- missing, shortened or altered object, a wrong row count or a bad row loads nothing.
--- Columns go by name; the table may be wider and in another order.
---
--- The same transaction records the load and its objects in the target's ledger, so that a
--- repeated attempt loads nothing that was committed, and one that was taken over commits nothing.

local budget = require "tidemill.budget"
local copy = require "tidemill.copy"
local errors = require "tidemill.error"
local manifest = require "tidemill.manifest"
local once = require "tidemill.once"
local pg = require "pg"
local present = require "tidemill.manifest.present"
local stream = require "stream"
local suggest = require "tidemill.suggest"
local text = require "tidemill.text"
local zip = require "zip"

local DECOMPRESS = { gzip = "gunzip", zstd = "unzstd" }

local function fail(kind, message, hint)
  error(errors.new { kind = kind, message = message, hint = hint }, 0)
end

-- The table's columns that can be written, by name, and all names in order.
local function target_columns(conn, into)
  local generated = conn:server_version() >= 120000 and "attgenerated <> ''" or "false"
  local ok, rows = pcall(conn.query, conn, ("SELECT attname::text AS name, %s AS generated FROM pg_attribute " ..
    "WHERE attrelid = $1::regclass AND attnum > 0 AND NOT attisdropped ORDER BY attnum")
    :format(generated), into)
  if not ok then
    if errors.is(rows) and (rows.code == "42P01" or rows.code == "3F000") then
      rows.detail, rows.hint = nil, ("a load creates nothing: create table %s first"):format(into)
    end
    error(rows, 0)
  end
  local by_name, names = {}, {}
  for i, row in ipairs(rows) do
    by_name[row.name] = row
    names[i] = row.name
  end
  return by_name, names
end

-- A list of columns has one for each of the objects' columns; a map names only such.
local function check_mapping(spec, m)
  local mapping, names = spec.columns or {}, {}
  for i, column in ipairs(m.columns) do names[i] = column.name end
  if #mapping > 0 and #mapping ~= #names then
    fail("usage", ("'columns' lists %d names, the objects have %d columns"):format(#mapping, #names),
      "in the objects: " .. table.concat(names, ", "))
  end
  local known = {}
  for _, name in ipairs(names) do known[name] = true end
  for name in pairs(#mapping == 0 and mapping or {}) do
    if not known[name] then
      fail("usage", ("'columns' maps '%s', which the objects do not have"):format(name),
        suggest.hint(name, names, "in the objects"))
    end
  end
end

-- Which column of the table each column of the objects goes to, in the objects' order.
local function column_list(spec, m, conn)
  check_mapping(spec, m)
  local by_name, names = target_columns(conn, spec.into)
  local mapping, list, taken = spec.columns or {}, {}, {}
  for i, column in ipairs(m.columns) do
    local name = mapping[column.name] or mapping[i] or column.name
    if not by_name[name] then
      local near = suggest.nearest(name, names)
      fail("data", ("table %s has no column '%s' for column '%s' of the objects")
        :format(spec.into, name, column.name),
        near and ("did you mean '%s'? map it: columns = { [%q] = %q }"):format(near, column.name, near)
          or "the table has: " .. table.concat(names, ", "))
    elseif by_name[name].generated then
      fail("data", ("column '%s' of table %s is generated and cannot be loaded"):format(name, spec.into),
        "leave it out of what the extract reads")
    elseif taken[name] then
      fail("usage", ("columns '%s' and '%s' would both go into '%s'"):format(taken[name], column.name, name))
    end
    taken[name] = column.name
    list[i] = pg.quote_ident(name)
  end
  return table.concat(list, ", ")
end

-- Where a node before this one has made or found a manifest.
local function place_of(node)
  local place = node.kind == "extract" and node.spec.to or node.kind == "wait_for" and node.spec.extracted
  return place and place:gsub("/$", "")
end

-- The manifest that an extract of this run made here, else that it waited for; nil if none did.
local function manifest_of_run(ctx, spec)
  local found = {} -- by the kind of node
  for name, outputs in pairs(ctx.upstream or {}) do
    local node = outputs.manifest and ctx.plan and ctx.plan.by_name and ctx.plan.by_name[name]
    if node and place_of(node) == spec.from:gsub("/$", "") then
      local other = found[node.kind]
      if other and other.id ~= outputs.manifest then
        fail("conflict", ("nodes '%s' and '%s' before this one name different data in %s"):format(other.name, name,
          spec.from), "give each extract a place of its own")
      end
      found[node.kind] = { name = name, id = outputs.manifest }
    end
  end
  local best = found.extract or found.wait_for
  return best and best.id
end

local function load_object(ctx, conn, store, sql, m, object, key, done)
  local share = budget.divide(ctx.memory, { readers = 1, unzips = m.format.compress ~= "none" and 1 or 0 })
  local source <close> = store:reader(key,
    share:give("reader", { size = object.bytes, crc64 = object.crc64, etag = object.etag }))
  local sink <close> = conn:copy_in(sql)
  local parts = { source }
  if m.format.compress ~= "none" then parts[2] = zip[DECOMPRESS[m.format.compress]]() end
  parts[#parts + 1] = sink
  parts[#parts + 1] = {
    progress = function(stats)
      ctx:progress { rows = done.rows, bytes = done.raw_bytes + stats.bytes_out }
    end,
  }
  stream.pump(table.unpack(parts))
  return sink:rows()
end

-- Loads every object in the open transaction; returns rows and bytes.
local function load_all(ctx, conn, store, spec, m)
  local sql = ("COPY %s (%s) FROM STDIN %s"):format(spec.into, column_list(spec, m, conn),
    copy.options(m.format, m.format.header))
  local done = { rows = 0, raw_bytes = 0 }
  for object in m:objects() do
    local key = m.prefix .. object.key
    local ok, rows = pcall(load_object, ctx, conn, store, sql, m, object, key, done)
    if not ok then
      if errors.is(rows) then rows.message = ("object '%s': %s"):format(key, rows.message) end
      error(rows, 0)
    end
    if rows ~= object.rows then
      fail("integrity", ("object '%s' loaded %d rows, its manifest says %d"):format(key, rows, object.rows))
    end
    done.rows, done.raw_bytes = done.rows + rows, done.raw_bytes + object.raw_bytes
  end
  return done
end

-- What the ledger records of each object: all are loaded as the manifest has them.
local function recorded(m)
  local next_object, _, _, reader = m:objects()
  return function()
    local object = next_object()
    return object and { key = m.prefix .. object.key, etag = object.etag, rows = object.rows }
  end, nil, nil, reader
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
  local store, prefix = ctx:location(spec.from)
  local m = manifest.open(store, prefix, spec.from, manifest_of_run(ctx, spec))
  present.check(m)
  local tx <close> = conn:transaction()
  local done = load_all(ctx, conn, store, spec, m)
  once.commit(ctx, spec.on, conn, tx, claim, { row_count = done.rows, manifest = m.id,
    objects = function() return recorded(m) end })
  ctx:progress { rows = done.rows, bytes = done.raw_bytes, done = true }
  ctx:log("info", "%s of %s into %s", text.count(done.rows, "row"), text.count(m.object_count, "object"), spec.into)
  ctx:output("rows", done.rows)
end
