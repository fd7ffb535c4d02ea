--- The SQL of the modes: what clears a table for its new rows, and what takes them from a staging table.
---
--- Pure: texts come out, nothing runs. No statement needs more than Greenplum 6 (PostgreSQL 9.4) knows.
--- Columns of the staging table have the names of the target's; `where` and `delete_when` are the flow's
--- own SQL and stand in parentheses.
---
---   append          INSERT
---   replace         TRUNCATE, or with `delete` DELETE of all rows, which does not wait for readers; INSERT
---   replace_where   DELETE of the rows of the predicate; INSERT of rows that all satisfy it
---   merge           of each key the last row stays in the staging table; then DELETE of those it marks,
---                   UPDATE of those that are there, INSERT of the others
---
--- What replaces or merges lets no other writer in between (SHARE ROW EXCLUSIVE; readers go on), since
--- rows that it cannot see yet would stay beside its own. Loads that replace other predicates of one table
--- go side by side: only two of the same predicate wait for each other, by an advisory lock.

local pg = require "pg"

local publish = {}

--- Columns that a staging table has for `merge`: which object, by number, and which row of it.
publish.OBJECT, publish.LINE = "tidemill_object", "tidemill_line"

---@class load.Publication
---@field mode "append"|"replace"|"replace_where"|"merge"
---@field into string        the target, as SQL names it
---@field name string        the target's own name, quoted, by which `where` and `delete_when` may call it
---@field stage string       the staging table, quoted
---@field columns string[]   of the target that are filled, quoted
---@field where? string
---@field delete? boolean
---@field keys? string[]     quoted; they and the next two of a merge
---@field order_by? string[] quoted
---@field delete_when? string
---@field ties? string[]     expressions that tell which of two rows with equal order came last
---@field flavor string      "postgresql" or "greenplum"
---@field anew? boolean      rows of a merge that are there are taken out and put in anew
---@field lockable boolean   LOCK TABLE takes it
---@field overriding boolean the server knows identity columns, which COPY fills and INSERT only when told so

---@class load.Statement
---@field sql string
---@field counts? "inserted"|"updated"|"deleted"  what the rows it affects are

-- "a.k = b.k AND ..."
local function same_keys(p, a, b)
  local parts = {}
  for i, key in ipairs(p.keys) do parts[i] = ("%s.%s = %s.%s"):format(a, key, b, key) end
  return table.concat(parts, " AND ")
end

-- The staging table under the target's name, which the flow's SQL may use.
local function stage_of(p) return ("%s AS %s"):format(p.stage, p.name) end

-- Those of its rows that `delete_when` marks, or does not mark.
local function marked(p) return ("(SELECT * FROM %s WHERE (%s\n))"):format(stage_of(p), p.delete_when) end
local function unmarked(p)
  if not p.delete_when then return p.stage end
  return ("(SELECT * FROM %s WHERE (%s\n) IS NOT TRUE)"):format(stage_of(p), p.delete_when)
end

local function insert(p, rows)
  local columns = table.concat(p.columns, ", ")
  return { counts = "inserted", sql = ("INSERT INTO %s (%s) %sSELECT %s FROM %s"):format(p.into, columns,
    p.overriding and "OVERRIDING SYSTEM VALUE " or "", columns, rows) }
end

local function lock(p, list)
  if p.lockable then
    list[#list + 1] = { sql = ("LOCK TABLE %s IN SHARE ROW EXCLUSIVE MODE"):format(p.into) }
  end
end

--- What removes the rows that new ones replace; for a load into the table itself, too.
---@param p load.Publication
---@return load.Statement[]
function publish.clear(p)
  local list = {}
  if p.mode == "replace" and not p.delete then
    list[1] = { sql = "TRUNCATE TABLE " .. p.into }
  elseif p.mode == "replace" then
    lock(p, list)
    list[#list + 1] = { sql = "DELETE FROM " .. p.into, counts = "deleted" }
  elseif p.mode == "replace_where" then
    local what = pg.quote_literal(p.into .. " " .. p.where)
    list[1] = { sql = ("SELECT pg_advisory_xact_lock(hashtext('tidemill'), hashtext(%s))"):format(what) }
    list[2] = { sql = ("DELETE FROM %s WHERE (%s\n)"):format(p.into, p.where), counts = "deleted" }
  end
  return list
end

---@class load.Refusal
---@field sql string  gives the number of rows that must not be there
---@field what string  what they are, behind their number

--- What must give no rows in the staging table before anything is published.
---@param p load.Publication
---@return load.Refusal[]
function publish.refusals(p)
  if p.mode == "replace_where" then
    return { { what = "outside of 'where'",
      sql = ("SELECT count(*) FROM %s WHERE (%s\n) IS NOT TRUE"):format(stage_of(p), p.where) } }
  elseif p.mode == "merge" then
    local nulls = {}
    for i, key in ipairs(p.keys) do nulls[i] = key .. " IS NULL" end
    return { { what = "with NULL in a column of 'keys'",
      sql = ("SELECT count(*) FROM %s WHERE %s"):format(p.stage, table.concat(nulls, " OR ")) } }
  end
  return {}
end

--- What leaves the last row of each key in the staging table of a merge; nil in other modes.
---@param p load.Publication
---@return string?
function publish.dedup(p)
  if p.mode ~= "merge" then return nil end
  local order = {}
  for _, column in ipairs(p.order_by or {}) do order[#order + 1] = ("q.%s DESC NULLS LAST"):format(column) end
  for _, tie in ipairs(p.ties or {}) do order[#order + 1] = tie .. " DESC" end
  local id = p.flavor == "greenplum" and { "gp_segment_id", "ctid" } or { "ctid" }
  local picked, same, keys = {}, {}, {}
  for i, name in ipairs(id) do
    picked[i] = ("q.%s AS id%d"):format(name, i)
    same[i] = ("s.%s = d.id%d"):format(name, i)
  end
  for i, key in ipairs(p.keys) do keys[i] = "q." .. key end
  return ("DELETE FROM %s AS s USING (SELECT %s, row_number() OVER (PARTITION BY %s%s) AS place FROM %s AS q) AS d " ..
    "WHERE d.place > 1 AND %s"):format(p.stage, table.concat(picked, ", "), table.concat(keys, ", "),
    #order > 0 and " ORDER BY " .. table.concat(order, ", ") or "", p.stage, table.concat(same, " AND "))
end

-- Columns that are no keys.
local function others(p)
  local is_key, list = {}, {}
  for _, key in ipairs(p.keys) do is_key[key] = true end
  for _, column in ipairs(p.columns) do
    if not is_key[column] then list[#list + 1] = column end
  end
  return list
end

-- Rows that are there: changed in place, or taken out to be put in anew.
local function update(p)
  local rows = unmarked(p) .. " AS s"
  if p.anew then
    return { counts = "updated", sql = ("DELETE FROM %s AS t USING %s WHERE %s"):format(p.into, rows,
      same_keys(p, "t", "s")) }
  end
  local sets = {}
  for i, column in ipairs(others(p)) do sets[i] = ("%s = s.%s"):format(column, column) end
  if #sets == 0 then return nil end
  return { counts = "updated", sql = ("UPDATE %s AS t SET %s FROM %s WHERE %s"):format(p.into,
    table.concat(sets, ", "), rows, same_keys(p, "t", "s")) }
end

local function merge(p)
  local list = {}
  lock(p, list)
  if p.delete_when then
    list[#list + 1] = { counts = "deleted", sql = ("DELETE FROM %s AS t USING %s AS s WHERE %s")
      :format(p.into, marked(p), same_keys(p, "t", "s")) }
  end
  list[#list + 1] = update(p)
  list[#list + 1] = insert(p, ("%s AS s WHERE NOT EXISTS (SELECT 1 FROM %s AS t WHERE %s)"):format(unmarked(p), p.into,
    same_keys(p, "t", "s")))
  return list
end

--- What makes the rows of the staging table those of the target, in one transaction.
---@param p load.Publication
---@return load.Statement[]
function publish.statements(p)
  if p.mode == "merge" then return merge(p) end
  local list = publish.clear(p)
  list[#list + 1] = insert(p, p.stage)
  return list
end

--- The rows of the staging table that are in the target afterwards, for a check of it.
---@param p load.Publication
---@return string
function publish.winners(p)
  return ("SELECT %s FROM %s AS s"):format(table.concat(p.columns, ", "), unmarked(p))
end

return publish
