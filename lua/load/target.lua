--- The table that a load fills: which of its columns the objects' columns go to, and what it is.
---
--- Columns go by name, or as the node's `columns` say; the table may be wider and in another order.

local drift = require "tidemill.load.drift"
local errors = require "tidemill.errors"
local pg = require "pg"
local suggest = require "tidemill.suggest"

local target = {}

---@class load.Column
---@field source string  its name in the objects
---@field name string    its name in the table
---@field quoted string  the same for SQL
---@field extra? string  its type, if the table lacks it: only a staging table has it, for what a merge goes by, or
---because of `on_drift`
---@field add? boolean    the table gets it when the rows are published

---@class load.Target
---@field into string   as the flow names it
---@field columns load.Column[]  in the order of the objects
---@field list string      the same, quoted and with commas between
---@field filled string[]  those that the table has, or gets, quoted
---@field kind string      relkind: "r", "p", "f", "v" ...
---@field name string      its own name, quoted
---@field flavor string    "postgresql" or "greenplum"
---@field version integer  of the server
---@field oid integer
local Target = {}
Target.__index = Target

-- What the table is, and its columns by name and in order.
local function look(conn, into)
  local ok, relation = pcall(conn.one, conn,
    "SELECT oid::bigint AS oid, relkind::text AS kind, relname::text AS name FROM pg_class WHERE oid = $1::regclass",
    into)
  if not ok then
    if errors.is(relation) and (relation.code == "42P01" or relation.code == "3F000") then
      relation.detail, relation.hint = nil, ("create table %s first, or let the load do it: create = true"):format(into)
    end
    error(relation, 0)
  end
  local generated = conn:server_version() >= 120000 and "attgenerated <> ''" or "false"
  local by_name, names = {}, {}
  for i, row in ipairs(conn:query(("SELECT attname::text AS name, %s AS generated FROM pg_attribute " ..
    "WHERE attrelid = $1::oid AND attnum > 0 AND NOT attisdropped ORDER BY attnum"):format(generated),
    relation.oid)) do
    by_name[row.name] = row
    names[i] = row.name
  end
  return relation, by_name, names
end

-- A list of columns has one for each of the objects' columns; a map names only such.
local function check_mapping(spec, head)
  local mapping, names = spec.columns or {}, {}
  for i, column in ipairs(head.columns) do names[i] = column.name end
  if #mapping > 0 and #mapping ~= #names then
    errors.usage(("'columns' lists %d names, the objects have %d columns"):format(#mapping, #names),
      "in the objects: " .. table.concat(names, ", "))
  end
  local known = {}
  for _, name in ipairs(names) do known[name] = true end
  for name in pairs(#mapping == 0 and mapping or {}) do
    if not known[name] then
      errors.usage(("'columns' maps '%s', which the objects do not have"):format(name),
        suggest.hint(name, names, "in the objects"))
    end
  end
end

local function missing(spec, source, name, names)
  local near = suggest.nearest(name, names)
  errors.raise("data", ("table %s has no column '%s' for column '%s' of the objects"):format(spec.into, name, source),
    near and ("did you mean '%s'? map it: columns = { [%q] = %q }"):format(near, source, near)
      or ("the table has: %s; on_drift = \"add\" adds the column, \"ignore\" leaves it out"):format(
        table.concat(names, ", ")))
end

-- Whether a merge wants a column only to decide by it.
local function decides(spec, name)
  for _, column in ipairs(spec.order_by or {}) do
    if column == name then return true end
  end
  local plain = name:gsub("%W", "%%%0")
  return spec.delete_when ~= nil and (spec.delete_when:find('"' .. name:gsub('"', '""') .. '"', 1, true)
    or spec.delete_when:lower():find("%f[%w_]" .. plain .. "%f[^%w_]")) ~= nil
end

local function pair(self, spec, column, name, by_name, names)
  local one = { source = column.name, name = name, quoted = pg.quote_ident(name) }
  if not by_name[name] and (decides(spec, name) or spec.on_drift == "ignore" or spec.on_drift == "add") then
    drift.place(self, spec, one, column, decides(spec, name))
  elseif not by_name[name] then
    missing(spec, column.name, name, names)
  elseif by_name[name].generated then
    errors.raise("data", ("column '%s' of table %s is generated and cannot be loaded"):format(name, spec.into),
      "leave it out of what the extract reads")
  else
    table.insert(self.filled, one.quoted)
  end
  table.insert(self.columns, one)
end

-- What a merge goes by must be loaded.
local function check_names(self, spec)
  for _, field in ipairs { "keys", "order_by" } do
    for _, name in ipairs(spec[field] or {}) do
      local found, known = nil, {}
      for i, column in ipairs(self.columns) do
        known[i] = column.name
        if column.name == name then found = field ~= "keys" or not column.extra end
      end
      if not found then
        errors.usage(("'%s' names '%s', which is no column of table %s that the objects have")
          :format(field, name, spec.into), suggest.hint(name, known, "loaded"))
      end
    end
  end
end

--- Reads what the table is, and pairs its columns with those of the objects. Raises not_found,
--- and data or usage for columns that do not fit.
---@param conn pg.Conn
---@param spec table   the node's fields
---@param head table   with the objects' columns: a manifest, or what the feed announced
---@return load.Target
function target.open(conn, spec, head)
  local relation, by_name, names = look(conn, spec.into)
  local self = setmetatable({ into = spec.into, oid = relation.oid, kind = relation.kind, columns = {}, filled = {},
    name = pg.quote_ident(relation.name), flavor = conn:flavor(), version = conn:server_version() }, Target)
  check_mapping(spec, head)
  local mapping, taken, quoted = spec.columns or {}, {}, {}
  for i, column in ipairs(head.columns) do
    local name = mapping[column.name] or mapping[i] or column.name
    if taken[name] then
      errors.usage(("columns '%s' and '%s' would both go into '%s'"):format(taken[name], column.name, name))
    end
    taken[name] = column.name
    pair(self, spec, column, name, by_name, names)
    quoted[i] = self.columns[i].quoted
  end
  drift.types(conn, self)
  check_names(self, spec)
  self.list, self.whole = table.concat(quoted, ", "), #self.filled == #names
  return self
end

--- Whether LOCK TABLE takes it.
---@return boolean
function Target:lockable() return self.kind == "r" or self.kind == "p" end

--- Whether COPY may freeze rows, once it is truncated in the same transaction.
---@return boolean
function Target:freezable() return self.kind == "r" and self.flavor == "postgresql" end

--- Whether a unique index keeps rows apart by these columns, or fewer.
---@param conn pg.Conn
---@param keys string[]
---@return boolean
function Target:is_unique(conn, keys)
  local in_key = self.version >= 110000 and "(i.indkey::int2[])[0:i.indnkeyatts - 1]" or "i.indkey"
  return conn:value(([[SELECT count(*) FROM pg_index i WHERE i.indrelid = $1::oid AND i.indisunique
    AND i.indpred IS NULL AND i.indexprs IS NULL AND NOT EXISTS (SELECT 1 FROM pg_attribute a
      WHERE a.attrelid = i.indrelid AND a.attnum = ANY (%s) AND NOT a.attname::text = ANY ($2::text[]))]])
    :format(in_key), self.oid, keys) > 0
end

return target
