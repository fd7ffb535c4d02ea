--- Columns of the objects that the table lacks: `on_drift` of a load.
---
---     fail (default)   the load fails, naming them
---     ignore           they go into the staging table and no further
---     add              the table gets them, with the objects' types, in the transaction that publishes the rows
---
--- Either of the last two needs a staging table, so the table is locked and changed only at the very end.
--- Types come from a manifest; what becomes SQL has been looked at by lua/load/create.lua. What the server does
--- not have becomes text.

local crash = require "tidemill.crash"
local create = require "tidemill.load.create"

local drift = {}

--- Says what becomes of a column that the table lacks.
---@param target load.Target
---@param spec table
---@param one load.Column
---@param column manifest.Column
---@param decides boolean  a merge goes by it, so it is for the staging table
function drift.place(target, spec, one, column, decides)
  one.extra, one.add = column.type, not decides and spec.on_drift == "add" or nil
  one.manifest = column
  if one.add then table.insert(target.filled, one.quoted) end
  if decides then return end
  target.drift = target.drift or { on_drift = spec.on_drift, columns = {} }
  table.insert(target.drift.columns, one)
end

--- Settles the types of such columns.
---@param conn pg.Conn
---@param target load.Target
function drift.types(conn, target)
  local extras, columns = {}, {}
  for _, one in ipairs(target.columns) do
    if one.extra then
      extras[#extras + 1], columns[#columns + 1] = one, one.manifest
    end
  end
  if #extras == 0 then return end
  for i, type in ipairs((create.types(conn, columns))) do extras[i].extra = type end
end

--- Adds the columns to the table, in the open transaction.
---@param work load.Work
---@param conn pg.Conn
function drift.apply(work, conn)
  local target = work.target
  if not target.drift or target.drift.on_drift ~= "add" then return end
  local list = {}
  for i, one in ipairs(target.drift.columns) do
    list[i] = ("ADD COLUMN %s%s %s"):format(target.version >= 90600 and "IF NOT EXISTS " or "", one.quoted, one.extra)
  end
  crash.point "load.drift.before"
  conn:exec(("ALTER TABLE %s %s"):format(target.into, table.concat(list, ", ")))
  crash.point "load.drift.after"
end

--- What has drifted, for the log and the report; nil if nothing has.
---@param target load.Target
---@return string? line, table? report
function drift.told(target)
  local found = target.drift
  if not found then return nil end
  local names, columns = {}, {}
  for i, one in ipairs(found.columns) do
    names[i] = ("'%s' (%s)"):format(one.name, one.extra)
    columns[i] = { name = one.name, type = one.extra }
  end
  local added = found.on_drift == "add"
  local line = ("table %s %s %s"):format(target.into, added and "gets" or "lacks", table.concat(names, ", "))
  return line, { text = line, on_drift = found.on_drift, [added and "added" or "ignored"] = columns }
end

return drift
