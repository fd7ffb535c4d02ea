--- A load's table, made from the columns of a manifest.
---
---     create.ensure(ctx, conn, spec, head, begun)      -- before the target's columns are read
---
--- What is there already is left as it is. The table is made once the node is claimed and before its rows, in a
--- transaction of its own: a load that fails leaves it empty.
---
--- Types come from a manifest and are hostile until the server has looked: each is given to
--- to_regtype as a parameter, whose parser takes one type's name and nothing else; only a text that passed
--- there as a whole, and names a type that a column may have, becomes part of a statement. What the
--- server does not have (enums, types of extensions) becomes text, and the log says so by name. (Of a
--- domain the source told the type below it.)

local crash = require "tidemill.crash"
local errors = require "tidemill.errors"
local identifiers = require "tidemill.identifiers"
local once = require "tidemill.once"
local pg = require "pg"
local probe = require "tidemill.probe"
local suggest = require "tidemill.suggest"
local text = require "tidemill.text"

local create = {}

-- ---- types ----

-- What stands in for a type that the server lacks, if it has that.
local INSTEAD = { jsonb = "json" }
-- Names of things of a database: another one need not have them.
local OF_ITS_DATABASE = { regclass = true, regcollation = true, regconfig = true, regdictionary = true,
  regnamespace = true, regoper = true, regoperator = true, regproc = true, regprocedure = true, regrole = true,
  regtype = true }

--- The names to ask a server for in turn, the best first.
---
--- Before 15 the scale of a numeric lies between 0 and its precision; without one any value fits.
---@param column manifest.Column
---@param version integer  of the server
---@return string[]
function create.candidates(column, version)
  local found = {}
  local function add(name)
    local element = name:gsub("%[%]$", "")
    local precision, scale = element:match "^numeric%((%d+), *(%-?%d+)%)$"
    if precision and version < 150000 and (tonumber(scale) < 0 or tonumber(scale) > tonumber(precision)) then
      name = "numeric" .. name:sub(#element + 1)
    end
    if OF_ITS_DATABASE[element] then return end
    found[#found + 1] = name
    if INSTEAD[element] then found[#found + 1] = INSTEAD[element] .. name:sub(#element + 1) end
  end
  add(column.type)
  return found
end

-- Columns may have base types, domains, enums and ranges that are whole; no rows of tables, which
-- may have the name of a type at the source.
local KNOWN = [[SELECT n.name FROM (SELECT unnest($1::text[]) AS name) n
  JOIN pg_type t ON t.oid = to_regtype(%s)
  LEFT JOIN pg_type e ON e.oid = t.typelem AND t.typcategory = 'A'
  WHERE t.typisdefined AND coalesce(e.typtype, t.typtype) IN ('b', 'd', 'e', 'r', 'm')]]

-- A text that is no name is an error for servers before 16. Returns nil then.
local function ask(conn, names)
  local ok, rows = probe(conn, conn.query,
    KNOWN:format(conn:server_version() < 90600 and "n.name::cstring" or "n.name"), names)
  return ok and rows or nil
end

-- Which of these names the server knows as types for columns.
local function known(conn, names)
  local found = {}
  local rows = ask(conn, names)
  for _, row in ipairs(rows or {}) do found[row.name] = true end
  for _, name in ipairs(rows and {} or names) do
    for _, row in ipairs(ask(conn, { name }) or {}) do found[row.name] = true end
  end
  return found
end

---@class create.Change
---@field number integer  of the column
---@field column string
---@field from string
---@field to string

--- The types that columns get on this server, and which are not those of the manifest.
---@param conn pg.Conn
---@param columns manifest.Column[]
---@return string[] types, create.Change[] changes
function create.types(conn, columns)
  local version, wanted, seen, names = conn:server_version(), {}, {}, {}
  for i, column in ipairs(columns) do
    wanted[i] = create.candidates(column, version)
    for _, name in ipairs(wanted[i]) do
      if not seen[name] then names[#names + 1] = name end
      seen[name] = true
    end
  end
  local has = #names > 0 and known(conn, names) or {}
  local types, changes = {}, {}
  for i, column in ipairs(columns) do
    for _, name in ipairs(wanted[i]) do types[i] = types[i] or has[name] and name or nil end
    types[i] = types[i] or column.type:find "%[%]$" and "text[]" or "text"
    if types[i] ~= column.type then
      changes[#changes + 1] = { number = i, column = column.name, from = column.type, to = types[i] }
    end
  end
  return types, changes
end

-- ---- names ----

--- The table's column for each of the objects': as the load's `columns` says, else of the same name.
---@param spec table
---@param columns manifest.Column[]
---@return string[]
function create.names(spec, columns)
  local mapping, names = spec.columns or {}, {}
  for i, column in ipairs(columns) do names[i] = mapping[column.name] or mapping[i] or column.name end
  return names
end

local function check_names(options, names, keys)
  local has = {}
  for _, name in ipairs(names) do has[name] = true end
  local function check(field, list)
    for _, name in ipairs(list or {}) do
      if not has[name] then
        errors.usage(("%s names column '%s', which the table would not have"):format(field, name),
          suggest.hint(name, names, "columns"))
      end
    end
  end
  check("'create': 'columns'", suggest.keys(options.columns or {}))
  check("'keys'", keys)
  check("'create': 'primary_key'", options.primary_key or nil)
  check("'create': 'distributed_by'", type(options.distributed_by) == "table" and options.distributed_by or nil)
end

local function quoted(names) return table.concat(identifiers.quoted(names), ", ") end

-- ---- the statement ----

-- Storage options that only the Greenplum family knows.
local OF_GREENPLUM = { appendonly = true, appendoptimized = true, orientation = true, compresstype = true,
  compresslevel = true, blocksize = true, checksum = true }

-- Options that this server has, sorted; and the names of those that it has not.
local function storage(with, greenplum)
  local words, left_out = {}, {}
  for _, name in ipairs(suggest.keys(with or {})) do
    if greenplum or not OF_GREENPLUM[name] then
      words[#words + 1] = ("%s = %s"):format(name, pg.quote_literal(with[name]))
    else
      left_out[#left_out + 1] = name
    end
  end
  return words, left_out
end

local function are_among(list, others)
  local has = {}
  for _, name in ipairs(others) do has[name] = true end
  for _, name in ipairs(list) do
    if not has[name] then return false end
  end
  return true
end

-- By what rows are spread over segments, unless the flow says it: by the keys of a merge, which then
-- stays on its segment, if a primary key allows that.
local function distribution(options, keys)
  local key = options.primary_key or nil
  if key and keys and not are_among(keys, key) then keys = nil end
  local by = options.distributed_by or keys or key or "randomly"
  if type(by) == "table" then return ("DISTRIBUTED BY (%s)"):format(quoted(by)) end
  return "DISTRIBUTED " .. by:upper()
end

-- Whether Greenplum keeps these columns unique: only in a heap, and where its segments share no key.
local function keeps_unique(options, keys)
  local with, by = options.with or {}, options.distributed_by or keys
  if with.appendonly == "true" or with.appendoptimized == "true" or options.partition_by then return false end
  return by == "replicated" or type(by) == "table" and are_among(by, keys)
end

-- The columns of the primary key: those that the flow says, else the keys of a merge.
local function primary_key(options, keys, greenplum)
  if options.primary_key ~= nil or not keys then return options.primary_key or nil end
  for _, kind in pairs(options.columns or {}) do
    if kind:lower():find "primary%s+key" then return nil end
  end
  if greenplum and not keeps_unique(options, keys) then return nil end
  return keys
end

---@class create.Table
---@field into string      as the flow names it
---@field names string[]   of columns
---@field types string[]   of columns, as the server takes them
---@field keys? string[]   of a merge

--- The statement that makes a table, and the names of the options that this kind of server does
--- not have and which are left out.
---@param options table    the load's `create`
---@param wanted create.Table
---@param flavor "postgresql"|"greenplum"
---@return string sql, string[] left_out
function create.statement(options, wanted, flavor)
  local greenplum, lines = flavor == "greenplum", {}
  for i, name in ipairs(wanted.names) do
    lines[i] = ("  %s %s"):format(pg.quote_ident(name), (options.columns or {})[name] or wanted.types[i])
  end
  local key = primary_key(options, wanted.keys, greenplum)
  if key then lines[#lines + 1] = ("  PRIMARY KEY (%s)"):format(quoted(key)) end
  local words, left_out = storage(options.with, greenplum)
  local sql = { ("CREATE %sTABLE %s (\n%s\n)"):format(options.unlogged and "UNLOGGED " or "", wanted.into,
    table.concat(lines, ",\n")) }
  if #words > 0 then sql[#sql + 1] = ("WITH (%s)"):format(table.concat(words, ", ")) end
  if greenplum then
    sql[#sql + 1] = distribution(options, wanted.keys)
    if options.partition_by then sql[#sql + 1] = "PARTITION BY " .. options.partition_by end
  else
    for _, name in ipairs { "distributed_by", "partition_by" } do
      if options[name] then left_out[#left_out + 1] = name end
    end
  end
  return table.concat(sql, "\n"), left_out
end

-- ---- making it ----

local function exists(conn, into) return conn:value("SELECT to_regclass($1) IS NOT NULL", into) end

-- Somebody else was faster: the schema, the table or its row type is there.
local RACES = { ["42P06"] = true, ["42P07"] = true, ["42710"] = true, ["23505"] = true }

local function explain(raised, into)
  if not errors.is(raised) then return raised end
  raised.message = ("cannot make table %s: %s"):format(into, raised.message)
  if raised.code == "42501" then
    raised.hint = "grant CREATE on the schema (for a new schema: on the database) to the connection's role"
  elseif raised.code == "0A000" and not raised.hint then
    raised.hint = "this server does not have what 'create' asks for; leave it out (a primary key: primary_key = false)"
  end
  return raised
end

-- Whether it was us; in a savepoint, so that a race does not break the transaction around it.
local function make(conn, into, sql)
  local tx <close> = conn:transaction()
  local ok, raised = pcall(function()
    local schema, name = table.unpack(identifiers.parts(into))
    if name and conn:value("SELECT count(*) FROM pg_namespace WHERE nspname = $1",
      identifiers.meaning(schema)) == 0 then
      conn:exec("CREATE SCHEMA " .. schema)
    end
    conn:exec(sql)
  end)
  if ok then
    once.commit_aside(tx)
    return true
  end
  if conn:state() ~= "broken" and errors.is(raised) and RACES[raised.code] then
    tx:rollback()
    if exists(conn, into) then return false end
  end
  error(explain(raised, into), 0)
end

local function tell(ctx, changes, left_out, spec)
  for _, change in ipairs(changes) do
    ctx:log("warn", "column '%s' is %s at the source, which '%s' does not have: it becomes %s", change.column,
      change.from, spec.on, change.to)
  end
  if #left_out > 0 then
    ctx:log("info", "'%s' is no Greenplum: %s %s no meaning there and %s left out", spec.on,
      table.concat(left_out, ", "), #left_out == 1 and "has" or "have", #left_out == 1 and "is" or "are")
  end
end

-- With mode "create" the rows go into a table of their own.
local function check_fresh(conn, spec, begun)
  if begun.count > 0 then return end -- an attempt before this one has put rows there
  if not conn:one(("SELECT 1 AS one FROM %s LIMIT 1"):format(spec.into)) then return end
  errors.raise("exists", ("table %s is there and has rows"):format(spec.into),
    "mode = \"create\" fills a table that is new or empty; mode = \"append\" with create = true adds to one")
end

--- Sees to it that the load's table is there, if the flow asks for that. Returns whether it was made. Raises
--- kind "usage" for columns that there are not, "exists" for a table with rows in mode "create", and what the
--- server says.
---@param ctx tidemill.Context
---@param conn pg.Conn
---@param spec table  of the load
---@param head { columns: manifest.Column[] }  a manifest, or what the feed announced
---@param begun ledger.Begun  what attempts before have committed piece by piece
---@return boolean
function create.ensure(ctx, conn, spec, head, begun)
  if not spec.create then return false end
  if exists(conn, spec.into) then
    if spec.fresh then check_fresh(conn, spec, begun) end
    return false
  end
  local names = create.names(spec, head.columns)
  check_names(spec.create, names, spec.keys)
  local types, changes = create.types(conn, head.columns)
  local shown, given = {}, spec.create.columns or {}
  for _, change in ipairs(changes) do
    if not given[names[change.number]] then shown[#shown + 1] = change end
  end
  local sql, left_out = create.statement(spec.create, { into = spec.into, names = names, types = types,
    keys = spec.keys }, conn:flavor())
  crash.point "load.create.before"
  local made = make(conn, spec.into, sql)
  crash.point "load.create.after"
  if made then
    tell(ctx, shown, left_out, spec)
    ctx:log("info", "made table %s with %s", spec.into, text.count(#names, "column"))
  end
  return made
end

return create
