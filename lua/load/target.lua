--- The table that a load fills: which of its columns the objects' columns go to, and what it is.
---
--- Columns go by name, or as the node's `columns` say; the table may be wider and in another order.

local errors = require "tidemill.errors"
local pg = require "pg"
local suggest = require "tidemill.suggest"

local target = {}

---@class load.Column
---@field source string  its name in the objects
---@field name string    its name in the table
---@field quoted string  the same for SQL

---@class load.Target
---@field into string   as the flow names it
---@field columns load.Column[]  in the order of the objects
---@field list string   the same, quoted and with commas between
---@field kind string   relkind: "r", "p", "f", "v" ...
---@field flavor string
---@field version integer
---@field oid integer
local Target = {}
Target.__index = Target

local function fail(kind, message, hint)
  error(errors.new(kind, message, { hint = hint }), 0)
end

-- What the table is, and its columns by name and in order.
local function look(conn, into)
  local ok, relation = pcall(conn.one, conn,
    "SELECT oid::bigint AS oid, relkind::text AS kind FROM pg_class WHERE oid = $1::regclass", into)
  if not ok then
    if errors.is(relation) and (relation.code == "42P01" or relation.code == "3F000") then
      relation.detail, relation.hint = nil, ("a load creates nothing: create table %s first"):format(into)
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

local function missing(spec, source, name, names)
  local near = suggest.nearest(name, names)
  fail("data", ("table %s has no column '%s' for column '%s' of the objects"):format(spec.into, name, source),
    near and ("did you mean '%s'? map it: columns = { [%q] = %q }"):format(near, source, near)
      or "the table has: " .. table.concat(names, ", "))
end

--- Reads what the table is, and pairs its columns with those of the objects. Raises not_found,
--- and data or usage for columns that do not fit.
---@param conn pg.Conn
---@param spec table   the node's fields
---@param head table   with the objects' columns: a manifest, or what the feed announced
---@return load.Target
function target.open(conn, spec, head)
  local relation, by_name, names = look(conn, spec.into)
  check_mapping(spec, head)
  local mapping, columns, quoted, taken = spec.columns or {}, {}, {}, {}
  for i, column in ipairs(head.columns) do
    local name = mapping[column.name] or mapping[i] or column.name
    if not by_name[name] then
      missing(spec, column.name, name, names)
    elseif by_name[name].generated then
      fail("data", ("column '%s' of table %s is generated and cannot be loaded"):format(name, spec.into),
        "leave it out of what the extract reads")
    elseif taken[name] then
      fail("usage", ("columns '%s' and '%s' would both go into '%s'"):format(taken[name], column.name, name))
    end
    taken[name] = column.name
    quoted[i] = pg.quote_ident(name)
    columns[i] = { source = column.name, name = name, quoted = quoted[i] }
  end
  return setmetatable({ into = spec.into, oid = relation.oid, kind = relation.kind, columns = columns,
    list = table.concat(quoted, ", "), flavor = conn:flavor(), version = conn:server_version() }, Target)
end

return target
