--- The staging table of an attempt: tidemill.stage_<flow and node>_<run>_<attempt>, unlogged.
---
--- It has the target's columns that are loaded, with their NOT NULL and CHECK constraints, so that a row that will
--- not do fails where its object and line are known. No attempt trusts another's: each makes its own,
--- under a name that no other has, so what a slow one still writes goes nowhere. A crash of the server empties
--- it, which the count of its rows would show; but then the attempt has failed with its sessions.
---
--- Its owner holds an advisory lock on it, for as long as its session lives. Whoever loads for the same
--- node of the flow next, in this run or another, drops those whose owners are gone.

local crash = require "tidemill.crash"
local errors = require "tidemill.errors"
local identifiers = require "tidemill.identifiers"
local once = require "tidemill.once"
local pg = require "pg"
local publish = require "tidemill.load.publish"
local sign = require "tidemill.sign"

local stage = {}

local CLASS = 0x74696465 -- of our advisory locks; beside it, the table's oid

---@class load.Stage
---@field name string    without the schema
---@field quoted string  for SQL
local Stage = {}
Stage.__index = Stage

-- What all staging tables of a node of a flow begin with.
local function stem(ctx) return ("stage_%s_"):format(sign.sha256(ctx.flow .. "\0" .. ctx.node):sub(1, 12)) end

local function name_of(ctx) return ("%s%s_%d"):format(stem(ctx), sign.sha256(ctx.run_id):sub(1, 8), ctx.attempt) end

-- Drops one unless its owner lives.
local function drop_left(ctx, conn, row)
  local key = CLASS << 32 | row.oid
  if not conn:value("SELECT pg_try_advisory_lock($1)", key) then return end
  local ok, raised = pcall(conn.exec, conn, "DROP TABLE IF EXISTS tidemill." .. pg.quote_ident(row.name))
  conn:query("SELECT pg_advisory_unlock($1)", key)
  if ok then
    ctx:log("info", "dropped %s, which an attempt before left", row.name)
  else
    ctx:log("warn", "%s, which an attempt before left, stays: %s", row.name, errors.from(raised).message)
  end
end

--- Drops what attempts before have left, as `open` does.
---@param ctx tidemill.Context
---@param conn pg.Conn
function stage.clear(ctx, conn)
  for _, row in ipairs(conn:query([[SELECT c.oid::bigint AS oid, c.relname::text AS name FROM pg_class c
    JOIN pg_namespace n ON n.oid = c.relnamespace WHERE n.nspname = 'tidemill' AND c.relkind = 'r'
    AND left(c.relname::text, length($1)) = $1]], stem(ctx))) do
    drop_left(ctx, conn, row)
  end
end

-- On Greenplum rows of one key must lie on one segment.
local function storage(work)
  if work.target.flavor ~= "greenplum" then return "" end
  local keys = identifiers.quoted(work.spec.keys)
  return " WITH (appendonly=false) " .. (#keys > 0 and ("DISTRIBUTED BY (%s)"):format(table.concat(keys, ", "))
    or "DISTRIBUTED RANDOMLY")
end

-- What makes the columns of a copy of the target those that are loaded.
local function alterations(work, names)
  local target, list, loaded, is_key = work.target, {}, {}, {}
  for _, column in ipairs(target.columns) do
    loaded[column.name] = true
    if column.extra then list[#list + 1] = ("ADD COLUMN %s %s"):format(column.quoted, column.extra) end
  end
  for _, key in ipairs(work.spec.keys or {}) do is_key[key] = true end
  for _, name in ipairs(names) do
    if not loaded[name] then
      list[#list + 1] = ("DROP COLUMN %s CASCADE"):format(pg.quote_ident(name))
    elseif work.spec.delete_when and not is_key[name] then -- a row that says "delete" has perhaps no more than its key
      list[#list + 1] = ("ALTER COLUMN %s DROP NOT NULL"):format(pg.quote_ident(name))
    end
  end
  return list
end

-- Columns that tell in which order rows came; DEFAULTs fill them during COPY.
local function number_rows(conn, self)
  conn:exec(([[CREATE SEQUENCE tidemill.%s CACHE 1000;
    ALTER TABLE %s ADD COLUMN %s int, ADD COLUMN %s bigint;
    ALTER TABLE %s ALTER COLUMN %s SET DEFAULT current_setting('tidemill.object')::int,
      ALTER COLUMN %s SET DEFAULT nextval('tidemill.%s');
    ALTER SEQUENCE tidemill.%s OWNED BY %s.%s]]):format(self.name .. "_line", self.quoted, publish.OBJECT, publish.LINE,
    self.quoted, publish.OBJECT, publish.LINE, self.name .. "_line", self.name .. "_line", self.quoted, publish.LINE))
end

local function create(work, conn, self)
  local target, ctx = work.target, work.ctx
  local tx <close> = conn:transaction { isolation = "read committed" }
  conn:exec(("CREATE UNLOGGED TABLE %s (LIKE %s%s)%s"):format(self.quoted, target.into,
    work.spec.delete_when and "" or " INCLUDING CONSTRAINTS", storage(work)))
  local names = {}
  for i, row in ipairs(conn:query("SELECT attname::text AS name FROM pg_attribute WHERE attrelid = $1::regclass " ..
    "AND attnum > 0 AND NOT attisdropped ORDER BY attnum", self.quoted)) do
    names[i] = row.name
  end
  local list = alterations(work, names)
  if #list > 0 then conn:exec(("ALTER TABLE %s %s"):format(self.quoted, table.concat(list, ", "))) end
  if self.numbered then number_rows(conn, self) end
  conn:exec(("COMMENT ON TABLE %s IS %s"):format(self.quoted, pg.quote_literal(
    ("staging of flow '%s', node '%s', run %s, attempt %d"):format(ctx.flow, ctx.node, ctx.run_id, ctx.attempt))))
  conn:query("SELECT pg_advisory_lock($1::bigint << 32 | $2::regclass::oid::bigint)", CLASS, self.quoted)
  once.commit_aside(tx)
end

local function refused(raised)
  if not errors.is(raised) or raised.code ~= "42501" then return raised end
  return errors.new("auth", ("cannot make a staging table: %s"):format(raised.message), { code = raised.code,
    hint = "let an administrator run: GRANT CREATE, USAGE ON SCHEMA tidemill TO the_role" })
end

--- Makes it, empty. Closing it drops it, unless `drop` has.
---@param work load.Work
---@param conn pg.Conn  that holds the claim; keeps it
---@return load.Stage
function stage.open(work, conn)
  local name = name_of(work.ctx)
  local self = setmetatable({ conn = conn, ctx = work.ctx, name = name, quoted = "tidemill." .. name,
    numbered = work.spec.mode == "merge" and work.target.flavor == "postgresql" and not work.spec.via }, Stage)
  crash.point "load.stage.before"
  local ok, raised = pcall(function()
    stage.clear(work.ctx, conn)
    create(work, conn, self)
  end)
  if not ok then error(refused(raised), 0) end
  crash.point "load.stage.after"
  return self
end

--- Drops it in the open transaction.
function Stage:drop()
  crash.point "load.drop.before"
  self.conn:exec("DROP TABLE " .. self.quoted)
  crash.point "load.drop.after"
end

function Stage:close()
  if self.conn:state() ~= "idle" then return end
  pcall(function()
    local there = self.conn:value("SELECT count(*) FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace " ..
      "WHERE n.nspname = 'tidemill' AND c.relname = $1", self.name) > 0
    if there then self.conn:exec("DROP TABLE " .. self.quoted) end
  end)
end
Stage.__close = Stage.close

return stage
