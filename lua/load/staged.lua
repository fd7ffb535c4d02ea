--- A load by way of a staging table: rows gather there, and one transaction makes them the target's.
---
---   objects -> COPY, several at once -> staging table -> ANALYZE, checks -> publish, ledger, COMMIT
---
--- Until that transaction nothing of the target is locked or changed, so it is also how modes that replace work
--- while their extract still runs.

local apply = require "tidemill.load.apply"
local crew = require "tidemill.load.crew"
local drift = require "tidemill.load.drift"
local errors = require "tidemill.errors"
local object = require "tidemill.load.object"
local once = require "tidemill.once"
local publish = require "tidemill.load.publish"
local pull = require "tidemill.load.pull"
local stage = require "tidemill.load.stage"
local text = require "tidemill.text"

local staged = {}

-- Whether COPY itself can refuse rows outside of `where`: it takes no subqueries.
local function filters(work)
  return not work.spec.via and work.target.version >= 120000 and work.target.flavor == "postgresql"
    and not work.spec.where:lower():find "%f[%w_]select%f[^%w_]"
end

-- Whether rows that are appended must be told from others, and cannot be by their transaction: those under
-- savepoints have others, and segments of Greenplum have their own. Several transactions would each take a
-- look at the whole table.
local function alone(work)
  local spec = work.spec
  return spec.reject ~= nil and spec.jobs > 1
    or work.verify ~= nil and (spec.jobs > 1 or spec.reject ~= nil or work.target.flavor ~= "postgresql")
end

--- Whether a load needs a staging table.
---@param work load.Work
---@return boolean
function staged.wanted(work)
  local spec = work.spec
  if spec.mode == "merge" or work.target.drift then return true end
  if spec.mode == "append" then return alone(work) end
  return spec.jobs > 1 or work.src.manifest == nil or spec.mode == "replace_where" and not filters(work)
end

-- ---- filling ----

-- Loads objects until there are no more. `numbers` gives each its number, in the order they are taken.
local function fill(work, conn, table_, numbers)
  local sql = object.sql(table_.quoted, work.target.list, work.src.head.format,
    { headless = work.reject ~= nil })
  for one in work.src.next, work.src do
    numbers.last = numbers.last + 1
    if table_.numbered then numbers[one.key] = numbers.last end
    local tx <close> = conn:transaction { isolation = "read committed" }
    if table_.numbered then conn:exec(("SET LOCAL tidemill.object = %d"):format(numbers.last)) end
    object.copy(work, conn, sql, one)
    once.commit_aside(tx)
  end
end

local function close_all(conns)
  for _, conn in ipairs(conns) do conn:close() end
end

local function fill_all(work, conn, table_)
  local numbers = { last = 0 }
  local conns <close> = setmetatable({}, { __close = close_all })
  for i = 2, work.spec.jobs do conns[i - 1] = work.ctx:postgres(work.spec.on, { session = "load" }) end
  if work.spec.via then
    local tx <close> = conn:transaction { isolation = "read committed" }
    pull.run(work, conn, table_.quoted)
    once.commit_aside(tx)
    return numbers
  end
  crew.run(work.spec.jobs, function(i) fill(work, conns[i - 1] or conn, table_, numbers) end, work.tick)
  return numbers
end

-- ---- publishing ----

-- An expression for the place of a row's object in the order of keys, which is not the order in which they
-- came while the extract ran.
local function object_order(work, numbers)
  local ranks, sorted, rank = {}, true, 0
  for one in work.src.manifest:objects() do
    rank = rank + 1
    ranks[numbers[one.key]] = rank
    sorted = sorted and numbers[one.key] == rank
  end
  if sorted then return "q." .. publish.OBJECT end
  return ("('{%s}'::int[])[q.%s]"):format(table.concat(ranks, ","), publish.OBJECT)
end

local function refuse(work, conn, p)
  for _, refusal in ipairs(publish.refusals(p)) do
    local ok, count = pcall(conn.value, conn, refusal.sql)
    if not ok and errors.is(count) and count.code == "42703" and p.where then
      count.hint = "'where' of a load can name only columns that the objects have"
    end
    if not ok then error(count, 0) end
    if count > 0 then
      errors.raise("data", ("%s of the objects in %s %s %s"):format(text.count(count, "row"), work.spec.from,
        count == 1 and "is" or "are", refusal.what), "nothing was loaded")
    end
  end
end

-- Rows that the staging table should have.
local function rows_of(work) return work.src.manifest.rows - (work.reject and work.reject.count or 0) end

-- What was inserted, as a count of rows that were not there before.
local function settle_counts(work, p, dropped)
  local counts, rows = work.counts, rows_of(work)
  if work.spec.mode ~= "merge" then
    if counts.inserted ~= rows then
      errors.raise("integrity", ("%d rows were published of %d"):format(counts.inserted, rows))
    end
    return
  end
  if p.anew then counts.inserted = counts.inserted - (counts.updated or 0) end
  counts.replaced = dropped
end

-- Leaves the last row of each key; returns how many went.
local function dedup(work, conn, p)
  local sql = publish.dedup(p)
  if not sql then return 0 end
  local count = conn:value("SELECT count(*) FROM " .. p.stage)
  if count ~= rows_of(work) then
    errors.raise("integrity", ("the staging table has %d rows of %d"):format(count, rows_of(work)))
  end
  return conn:exec(sql).rows
end

--- Loads all objects and commits.
---@param work load.Work
---@param conn pg.Conn  that holds the claim
function staged.run(work, conn)
  if work.spec.mode == "merge" and not work.target:is_unique(conn, work.spec.keys) then
    work.ctx:log("warn", "no unique index of %s is on %s: what others write there may double a key", work.spec.into,
      table.concat(work.spec.keys, ", "))
  end
  work.share, work.ahead = object.share(work.ctx, work.src.head.format, work.spec.jobs, work.reject ~= nil)
  local table_ <close> = stage.open(work, conn)
  local numbers = fill_all(work, conn, table_)
  work.ctx:progress { rows = work.rows, bytes = work.bytes, detail = "publishing" }
  local p = apply.publication(work, table_, table_.numbered and object_order(work, numbers))
  conn:exec("ANALYZE " .. table_.quoted)
  refuse(work, conn, p)
  if work.verify then
    work.verify:target(work, conn, work.target.columns, { kind = "all", relation = table_.quoted })
  end
  local dropped = dedup(work, conn, p)
  local tx <close> = conn:transaction { isolation = "read committed" }
  drift.apply(work, conn)
  apply.run(work, conn, publish.statements(p))
  settle_counts(work, p, dropped)
  apply.verify(work, conn, p)
  table_:drop()
  apply.commit(work, conn, tx, true)
end

return staged
