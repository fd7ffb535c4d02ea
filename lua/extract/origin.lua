--- What an increment is taken from: whether its rows carry transactions that can be told apart, and
--- whether it is still what the last one was taken from.
---
--- Numbers of transactions say something only on the server that gave them. After a restore or a
--- failover the server has another timeline, and numbers may have been given twice. And rows keep their
--- numbers only as long as nothing writes them anew: ALTER TABLE may, and so does whatever copies a table and
--- puts the copy in its place. VACUUM FULL and CLUSTER keep them.

local errors = require "tidemill.errors"
local probe = require "tidemill.probe"
local relation = require "tidemill.extract.relation"

local origin = {}

local LEAST_VERSION = 100000 -- txid_status

local TREE = [[
  WITH RECURSIVE tree(oid) AS (SELECT $1::oid
    UNION SELECT i.inhrelid FROM pg_inherits i JOIN tree ON i.inhparent = tree.oid)
  SELECT c.oid::bigint AS oid, n.nspname AS schema, c.relname AS name, c.relkind::text AS kind,
    coalesce(am.amname, '') AS method, c.relpersistence::text AS persistence,
    coalesce(pg_relation_filenode(c.oid), 0)::bigint AS file
  FROM tree t JOIN pg_class c ON c.oid = t.oid JOIN pg_namespace n ON n.oid = c.relnamespace
    LEFT JOIN pg_am am ON am.oid = c.relam
  ORDER BY c.oid]]

---@class extract.Origin
---@field table integer               oid
---@field leaves table<string, integer>  the tables that hold its rows, by oid: their files

--- The tables that hold the rows of one, if their transactions can be told; else nil and why not.
---@param conn pg.Conn  in the snapshot
---@param one? extract.Relation
---@return extract.Origin? self, string? why, boolean? foreign  it is kept by another server
function origin.of(conn, one)
  if not one then return nil, "it reads a query" end
  if conn:flavor() ~= "postgresql" then return nil, "the server is of the Greenplum family" end
  if conn:server_version() < LEAST_VERSION then return nil, "the server is older than PostgreSQL 10" end
  local tamed = conn:value [[SELECT coalesce(string_agg(extname, ', '), '') FROM pg_extension
    WHERE extname IN ('citus', 'timescaledb')]]
  if tamed ~= "" then return nil, ("the extension %s keeps rows in ways of its own"):format(tamed) end
  local self = { table = one.oid, leaves = {}, names = {} }
  for _, leaf in ipairs(conn:query(TREE, one.oid)) do
    local plain = leaf.kind == "p" or leaf.kind == "r" and (leaf.method == "heap" or conn:server_version() < 120000)
    if not plain or leaf.persistence == "t" then
      return nil, ("'%s.%s' is no ordinary table"):format(leaf.schema, leaf.name), leaf.kind == "f"
    end
    if leaf.kind == "r" then
      self.leaves[tostring(leaf.oid)] = leaf.file
      self.names[tostring(leaf.oid)] = leaf
    end
  end
  return self
end

--- Identifies the server; fields that it does not tell are nil.
---@param conn pg.Conn  outside of transactions
---@return {system: string?, timeline: integer?}
function origin.server(conn)
  if conn:flavor() ~= "postgresql" then return {} end
  local known, row = probe(conn, conn.one, [[
    SELECT (SELECT system_identifier::text FROM pg_control_system()) AS system,
      CASE WHEN pg_is_in_recovery() THEN (SELECT timeline_id FROM pg_control_checkpoint())
        ELSE ('x' || left(pg_walfile_name(pg_current_wal_insert_lsn()), 8))::bit(32)::integer END AS timeline]])
  return known and row or {}
end

--- Raises conflict: numbers of transactions tell no longer which rows are new.
---@param message string
---@param command string  that sets the watermark
function origin.refuse(message, command)
  errors.raise("conflict", message,
    ("transactions tell no longer which rows are new. See what the target has, then: %s --set VALUE, "
      .. "for the rows above a value, or --reset watermark, for all"):format(command))
end

--- Raises conflict unless the server is the one of the last increment, with the same history.
---@param before table   what was kept: system, timeline, seen
---@param now {system: string?, timeline: integer?}
---@param next_xid integer
---@param command string
function origin.check_server(before, now, next_xid, command)
  if before.system and now.system and before.system ~= now.system then
    origin.refuse("the source is another server than the one of the last increment", command)
  elseif before.timeline and now.timeline and before.timeline ~= now.timeline then
    origin.refuse(("the source was restored, or a standby took over, since the last increment (timeline %d, was %d)")
      :format(now.timeline, before.timeline), command)
  elseif next_xid < before.seen.below then
    origin.refuse("the source is behind the last increment: a standby that lags, or restored from a backup", command)
  end
end

-- Whether a table whose file has changed holds rows, and none that was there before.
local function is_rewritten(conn, leaf, condition)
  local name = relation.quoted(leaf)
  return conn:value(("SELECT EXISTS (SELECT FROM ONLY %s) AND NOT EXISTS (SELECT FROM ONLY %s WHERE %s)"):format(name,
    name, condition))
end

--- Compares the tables with those of the last increment. Gives those that have come in since: all of
--- their rows are new, whatever their numbers; and what makes all rows look new, if something does.
---@param conn pg.Conn   in the snapshot
---@param before table   what was kept: table, leaves
---@param now extract.Origin
---@param was_seen string  the condition that a row's number was seen before
---@return string[] oids, string? trouble
function origin.changes(conn, before, now, was_seen)
  local new, trouble = {}, nil
  if before.table ~= now.table then
    trouble = "the table was dropped and made anew, or another one has its name,"
  else
    for oid, file in pairs(now.leaves) do
      local leaf = now.names[oid]
      if not before.leaves[oid] then
        new[#new + 1] = oid
      elseif before.leaves[oid] ~= file and not trouble and is_rewritten(conn, leaf, was_seen) then
        trouble = ("table '%s.%s' was written anew (by ALTER TABLE, TRUNCATE or a tool)"):format(leaf.schema, leaf.name)
      end
    end
  end
  table.sort(new)
  return new, trouble and trouble .. " since the last increment"
end

return origin
