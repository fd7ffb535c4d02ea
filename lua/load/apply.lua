--- What runs the SQL of lua/load/publish.lua, and the COMMIT of a load.

local crash = require "tidemill.crash"
local errors = require "tidemill.errors"
local identifiers = require "tidemill.identifiers"
local once = require "tidemill.once"
local publish = require "tidemill.load.publish"

local apply = {}

--- What publish.lua is told of a load; without a staging table, enough for `clear`.
---@param work load.Work
---@param table_? load.Stage
---@param object_order? string  an expression for a row's place among the objects, of a table that numbers them
---@return load.Publication
function apply.publication(work, table_, object_order)
  local spec, target = work.spec, work.target
  local p = { mode = spec.mode, into = target.into, name = target.name, stage = table_ and table_.quoted,
    columns = target.filled, where = spec.where, delete = spec.delete, keys = identifiers.quoted(spec.keys),
    order_by = identifiers.quoted(spec.order_by), delete_when = spec.delete_when, flavor = target.flavor,
    -- Segments cannot change a column by which rows are distributed, and column stores change rows at a cost.
    anew = target.flavor == "greenplum" and target.whole,
    lockable = target:lockable(), overriding = target.flavor == "postgresql" and target.version >= 100000 }
  if table_ and table_.numbered then
    p.ties = { object_order, "q." .. publish.LINE }
  elseif table_ and spec.mode == "merge" then
    p.ties = { "CAST(ROW(q.*) AS text)" } -- segments keep no order of lines
  end
  return p
end

--- Runs statements, and adds what they affect to `work.counts`.
---@param work load.Work
---@param conn pg.Conn
---@param list load.Statement[]
function apply.run(work, conn, list)
  for _, statement in ipairs(list) do
    crash.point "load.publish.before"
    local ok, result = pcall(conn.exec, conn, statement.sql)
    if not ok and errors.is(result) and statement.sql:find "^TRUNCATE"
      and (result.code == "0A000" or result.code == "42809") then
      result.hint = "delete = true removes the rows by DELETE instead"
    end
    if not ok then error(result, 0) end
    if statement.counts then
      work.counts[statement.counts] = (work.counts[statement.counts] or 0) + (result.rows or 0)
    end
    crash.point "load.publish.after"
  end
end

-- The rows of the target that are this load's, and how to ask for those that should be there, unless
-- they are just the objects'. Nil where nobody can tell them: on Greenplum a transaction's rows.
local function scope_of(p, lacks)
  local winners = p.stage and lacks and publish.winners(p)
  if p.mode == "merge" then
    return { kind = "keys", relation = p.into, keys = p.keys, winners = publish.winners(p) }
  elseif p.mode == "replace_where" then
    return { kind = "where", relation = p.into, where = p.where, winners = winners }
  elseif p.mode == "append" and p.flavor == "greenplum" then
    return nil
  end
  return { kind = p.mode == "replace" and "all" or "new", relation = p.into, winners = winners }
end

--- Compares what the target has with the source, if the flow asks for that.
---@param work load.Work
---@param conn pg.Conn
---@param p? load.Publication  of a staged load
function apply.verify(work, conn, p)
  if not work.verify then return end
  local columns = {}
  for _, column in ipairs(work.target.columns) do
    if not column.extra or column.add then columns[#columns + 1] = column end
  end
  local scope = scope_of(p or apply.publication(work), #columns < #work.target.columns)
  if scope then work.verify:target(work, conn, columns, scope) end
end

-- What came through all objects is what the manifest has: no object was left out or taken twice.
local function check_rows(work)
  local m, rejected = work.src.manifest, work.reject and work.reject.count or 0
  local rows = work.rows + work.src.piece_rows + rejected
  if rows == m.rows then return end
  errors.raise("integrity", ("%d rows were loaded%s, the manifest says %d"):format(rows,
    rejected > 0 and (", %d of them rejected"):format(rejected) or "", m.rows))
end

--- Writes the ledger and commits.
---@param work load.Work
---@param conn pg.Conn
---@param tx pg.Tx
---@param objects boolean  those of the manifest get their rows now
function apply.commit(work, conn, tx, objects)
  check_rows(work)
  local m = work.src.manifest
  local rejects = work.reject
  if rejects then rejects:commit(work) end
  crash.point "load.commit.before"
  once.commit(work.ctx, work.spec.on, conn, tx, work.claim, { manifest = m.id,
    row_count = m.rows - (rejects and rejects.count or 0),
    objects = objects and function() return work.src:recorded() end or nil })
  crash.point "load.commit.after"
end

return apply
