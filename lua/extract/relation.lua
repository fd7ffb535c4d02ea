--- What a named table is to an extract: whether it can be locked, and read page by page.

local errors = require "tidemill.errors"
local pg = require "pg"

local relation = {}

local LEAST_VERSION = 140000 -- the first that reads a range of pages without looking at all others

---@class extract.Relation
---@field oid integer
---@field kind string       pg_class.relkind: r table, p partitioned, v view, m materialized view, f foreign
---@field schema string
---@field name string
---@field has_children boolean
---@field readable boolean  SELECT on the whole of it is granted
---@field bytes? integer    of a table without others below it, where that is cheap to know

-- On the Greenplum family every segment would have to be asked for the size.
local LOOK = [[
  SELECT c.oid::bigint AS oid, c.relkind::text AS kind, n.nspname AS schema, c.relname AS name,
    c.relhassubclass AS has_children, has_table_privilege(c.oid, 'SELECT') AS readable,
    CASE WHEN c.relkind IN ('r', 'm') AND NOT c.relhassubclass AND %s THEN pg_table_size(c.oid) END AS bytes
  FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace WHERE c.oid = $1::regclass]]

--- Looks a table up by the name that the flow gives it. Raises SQLSTATE 42P01 if there is none.
---@param conn pg.Conn
---@param name string
---@return extract.Relation
function relation.look(conn, name)
  local ok, found = pcall(conn.one, conn, LOOK:format(conn:flavor() == "postgresql" and "TRUE" or "FALSE"), name)
  if not ok then
    if errors.is(found) and (found.code == "42P01" or found.code == "3F000") then
      found.detail, found.hint = nil, "'table' wants its schema too, unless that is in the role's search_path"
    end
    error(found, 0)
  end
  if found.bytes == pg.null then found.bytes = nil end
  return found
end

-- The table and all below it, with what forbids to read it by pages.
local TREE = [[
  WITH RECURSIVE tree(oid, depth) AS (
    SELECT $1::oid, 0
    UNION SELECT i.inhrelid, tree.depth + 1 FROM pg_inherits i JOIN tree ON i.inhparent = tree.oid)
  SELECT c.oid = $1::oid AS itself, n.nspname AS schema, c.relname AS name, c.relkind::text AS kind,
    coalesce(am.amname, '') AS method,
    c.relpersistence = 't' AS temporary, has_table_privilege(c.oid, 'SELECT') AS readable,
    row_security_active(c.oid) AS secured,
    EXISTS (SELECT FROM pg_inherits d WHERE d.inhrelid = c.oid AND d.inhdetachpending) AS leaving,
    CASE WHEN c.relkind IN ('r', 'm') THEN pg_relation_size(c.oid) ELSE 0 END AS bytes,
    CASE WHEN c.relkind IN ('r', 'm') THEN pg_table_size(c.oid) ELSE 0 END AS whole_bytes
  FROM (SELECT DISTINCT oid FROM tree) t JOIN pg_class c ON c.oid = t.oid JOIN pg_namespace n ON n.oid = c.relnamespace
    LEFT JOIN pg_am am ON am.oid = c.relam
  ORDER BY c.oid]]

local KINDS = { v = "a view", f = "a foreign table", S = "a sequence", c = "a type" }

-- What stands against pages of one table of the tree; nil if nothing does.
local function against(leaf)
  local whose = ("'%s.%s'"):format(leaf.schema, leaf.name)
  if KINDS[leaf.kind] then return ("%s is %s"):format(whose, KINDS[leaf.kind]) end
  if leaf.temporary then return whose .. " is temporary" end
  if leaf.kind ~= "p" and leaf.method ~= "heap" then
    return ("%s is kept by '%s', not as a heap"):format(whose, leaf.method)
  end
  if not leaf.readable then return ("SELECT on %s is not granted"):format(whose) end
  if leaf.secured then return whose .. " has row-level security" end
  if leaf.leaving then return whose .. " is being detached" end
end

---@class extract.Leaf
---@field itself boolean       it is the table that is named
---@field schema string
---@field name string
---@field bytes integer        of its pages
---@field whole_bytes integer  with what is kept outside of them

--- The tables of ordinary pages that together hold the rows of a table; or nil, and why it cannot
--- be read page by page. To be asked under the snapshot: a partition made before it must not be missed.
---@param conn pg.Conn
---@param one extract.Relation
---@return extract.Leaf[]?, string? why
function relation.leaves(conn, one)
  if conn:flavor() ~= "postgresql" then return nil, "the server is of the Greenplum family" end
  if conn:server_version() < LEAST_VERSION then return nil, "the server is older than PostgreSQL 14" end
  local tamed = conn:value [[SELECT string_agg(extname, ', ') FROM pg_extension
    WHERE extname IN ('citus', 'timescaledb')]]
  if tamed ~= pg.null then return nil, ("the extension %s keeps rows in ways of its own"):format(tamed) end
  local leaves = {}
  for _, leaf in ipairs(conn:query(TREE, one.oid)) do
    local why = against(leaf)
    if why then return nil, why end
    if leaf.kind ~= "p" then leaves[#leaves + 1] = leaf end
  end
  return leaves
end

--- The quoted name.
---@param one extract.Relation|extract.Leaf
---@return string
function relation.quoted(one) return pg.quote_ident(one.schema) .. "." .. pg.quote_ident(one.name) end

return relation
