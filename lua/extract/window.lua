--- The window of an increment: which rows of a table or query an extract takes, so that no row is skipped
--- and none comes twice from one increment to the next.
---
--- What is kept from run to run is the fact "watermark" of the node (lua/state/facts.lua says when it is
--- saved, and why one run at a time has the window). It is one of two kinds.
---
--- "rows": of an ordinary table (partitions and inheritance too) of PostgreSQL 10 or later. The rows carry the
--- transactions that wrote them, and the transactions that were seen are kept (lua/extract/xids.lua). The
--- increment is the rows visible now whose transaction is seen now and was not before. So every row
--- version comes exactly once, whenever its transaction began, whenever it committed, whatever
--- is in the column; savepoints and prepared transactions included. The column has one use: a lower bound,
--- so that an index on it serves. A row below the bound is left out for good. The bound is
---
---     times    least(highest value, start of the oldest transaction that was open) - overlap, a day by default:
---              no row is skipped whose value is not older than that when its transaction begins. None
---              if those starts cannot be told (no right to see other sessions, prepared
---              transactions, a standby): then the table is read from end to end
---     numbers  highest value - overlap. No overlap, no bound
---     others   none
---
--- Rows without a value in the column are never below it. An update makes a row version: it comes
--- again, if it is not below the bound. A load that appends will then hold both; a merge is right.
--- A transaction is in one increment, but for one that commits in the instant of the look: what it wrote
--- under savepoints may come one increment before the rest of it.
---
--- "values": of queries, views, foreign tables and servers of the Greenplum family, where only the values
--- can be compared. Either with an overlap: rows above the highest value before minus overlap. Those in
--- the overlap come again, so loads must merge; a row that turns up further below is skipped. Or, by a
--- column of type timestamptz without one: rows above the highest before and below the start of the
--- oldest transaction that is open (or 5 s ago). That is exact for values that the server's clock gave in
--- the transaction of the row (now(), clock_timestamp()); newer ones wait for the next increment. A row without
--- a value would never come: it fails the extract.
---
--- The first increment takes all rows, or those from `since` on (rows without a value too). An increment
--- without rows changes nothing that is kept, byte for byte; only after 2^28 transactions what was seen is
--- kept anew. The highest value is the text that the server gives, in full.
---
--- A repeated attempt that takes over what others have read (`resume`) goes on with their window: it reads
--- under a later snapshot the rows that theirs chose. A row that has changed meanwhile comes next time.

local column = require "tidemill.extract.column"
local deliveries = require "tidemill.deliveries"
local errors = require "tidemill.errors"
local leavings = require "tidemill.extract.leavings"
local json = require "json"
local origin = require "tidemill.extract.origin"
local proc = require "proc"
local signal = require "tidemill.signal"
local time = require "time"
local watermark = require "tidemill.watermark"
local xids = require "tidemill.extract.xids"

local window = {}

local FACT = watermark.FACT
local WAIT_S = 2         -- between two looks whether another run is through
local OLD = 1 << 28      -- transactions after which what was seen is kept anew

---@class extract.Window
---@field predicate string     what a row must meet
---@field wait? table          another run has the window: how the node is to wait
local Window = {}
Window.__index = Window

-- ---- whose window it is ----

local TRIES = 5

-- What the store says, once it is known what became of what earlier runs left.
local function take(ctx)
  local settled
  for _ = 1, TRIES do
    local got = ctx:window(FACT, settled)
    if not got.left then return got end
    settled = {}
    for i, left in ipairs(got.left) do
      settled[i] = { run = left.run, node = left.node, delivered = leavings.look(ctx, left) }
    end
  end
  errors.raise("conflict", "runs of this flow come and go too fast to tell which of them delivered its increment")
end

-- ---- before the snapshot ----

-- The start of the oldest transaction that may write here, and whether all are known. A session that this role may
-- not look at has no type; those of the server's own have no user.
local SESSIONS = [[
  SELECT least(min(xact_start), clock_timestamp() - interval '5 seconds')::text AS oldest,
    bool_or(backend_type IS NULL OR backend_type = 'client backend' AND coalesce(state, 'disabled') = 'disabled'
      OR backend_type <> 'client backend' AND usename IS DISTINCT FROM current_user AND NOT %s)
    OR EXISTS (SELECT FROM pg_prepared_xacts WHERE database = current_database()) OR pg_is_in_recovery() AS unknown
  FROM pg_stat_activity WHERE datname = current_database()
    AND CASE WHEN backend_type IS NULL THEN usename IS NOT NULL
      ELSE backend_type NOT IN ('autovacuum worker', 'walsender', 'parallel worker') END]]
local SEES_ALL = "pg_has_role(current_user, 'pg_read_all_stats', 'USAGE')"

-- The oldest transaction's start; nil if it cannot be told.
local function oldest_of(conn)
  if conn:flavor() ~= "postgresql" or conn:server_version() < 100000 then return nil end
  conn:exec "SET TimeZone = 'UTC'"
  for try = 1, TRIES do -- of a session that is just connecting nothing is known for a moment
    if try > 1 then proc.poll({}, 0.05) end
    local row = conn:one(SESSIONS:format(SEES_ALL))
    if row.unknown == false then return row.oldest end
  end
end

-- The transactions seen, right before the snapshot; not yet confirmed by it.
local function look(self, conn)
  self.server = origin.server(conn)
  self.oldest = oldest_of(conn)
  if conn:flavor() ~= "postgresql" or conn:server_version() < 100000 then return end
  local standby = conn:value "SELECT pg_is_in_recovery()"
  local base = self.base and self.base.seen
  if standby then
    self.seen = xids.withheld(conn:value "SELECT txid_snapshot_xmin(txid_current_snapshot())", base)
    return
  end
  self.seen = xids.found(conn:one(xids.look_sql(base)), base)
  self.written = conn:value "SELECT pg_current_wal_insert_lsn()::text"
  self.flushed_by = signal.mono() + conn:value [[SELECT 4000 * extract(epoch FROM
    current_setting('wal_writer_delay')::interval)::float8]]
end

--- Takes the window; to be called before the snapshot is taken. Nil if the extract has no watermark. If another run
--- has it, `wait` is set, and there is nothing more to do.
---@param ctx tidemill.Context
---@param spec table  the node's fields
---@return extract.Window?
function window.before(ctx, spec)
  if not spec.watermark then return nil end
  local got = take(ctx)
  local self = setmetatable({ ctx = ctx, spec = spec, overlap = spec.watermark.overlap,
    command = watermark.command(ctx.flow, ctx.node) }, Window)
  if got.busy then
    self.wait = { kind = "probe", every = WAIT_S,
      reason = ("run %s, which is %s, has the window of its increment"):format(got.busy, got.busy_state) }
    return self
  end
  self.base = watermark.decode(got.value)
  self.own = spec.resume and watermark.decode(got.own) or nil
  local conn <close> = ctx:postgres(spec.from, { session = "extract" })
  look(self, conn)
  return self
end

-- ---- in the snapshot ----

local function appends(ctx)
  local loads = deliveries.loads(ctx.model, ctx.model.by_name[ctx.node])
  for _, load in ipairs(loads) do
    if load.spec.mode == "append" then return true end
  end
  return #loads == 0
end

-- Where people have said that increments begin must be a value.
local function check_start(self, conn)
  if self.base and self.base.set then
    self.column:check(conn, self.base.low, "the watermark that was set", self.command .. " --set VALUE")
  elseif not self.base and self.spec.since then
    self.column:check(conn, self.spec.since, "'since'")
  end
end

-- What was kept must be of the same kind; the values of another column say nothing about this one.
local function check_base(self, kind)
  local base = self.base
  if not base or base.set then return end
  if base.kind ~= kind then
    errors.raise("conflict", ("the last increment was taken by %s, and this one can only go by %s"):format(base.kind,
      kind), ("see what the target has, then: %s --set VALUE, or --reset watermark"):format(self.command))
  end
  if base.column ~= self.column.sql or base.type ~= self.column.type then
    if kind == "values" then
      errors.raise("conflict", ("the watermark was kept by column '%s' (%s), and is now '%s' (%s)"):format(base.column,
        base.type, self.column.sql, self.column.type), self.command .. " --set VALUE, or --reset watermark")
    end
    base.low, base.oldest = nil, nil
  end
end

-- The condition on the column; nil if there is none.
local function bound_of(self, conn)
  local base, col = self.base, self.column
  local value, sign
  if not base then
    value, sign = self.spec.since, ">="
  elseif base.set then
    return ("%s > %s"):format(col.sql, col:literal(base.low))
  elseif base.low then
    value, sign = col:bound(conn, base.low, base.oldest, self.overlap), ">="
    if not value and col.kind == "time" then
      self.ctx:log("warn", "no lower bound: which transactions were open at the last increment could not be " ..
        "told (a standby, a prepared transaction, or a role without pg_read_all_stats)")
    end
  end
  if not value then return nil end
  self.above = value
  local sql = ("%s %s %s"):format(col.sql, sign, col:literal(value))
  return col.nullable and ("(%s OR %s IS NULL)"):format(sql, col.sql) or sql
end

-- That rows are of the tables that were looked at: a partition which is attached from now on is read too, though the
-- snapshot is older, and counts as new next time. Nil of a table without any.
local function only(here, relation)
  local oids = {}
  for oid in pairs(here.leaves) do oids[#oids + 1] = oid end
  if relation.kind ~= "p" and #oids < 2 then return nil end
  table.sort(oids)
  return #oids > 0 and ("tableoid IN (%s)"):format(table.concat(oids, ", ")) or "FALSE"
end

local function by_rows(self, snap, here)
  local conn, base = snap.conn, self.base and self.base.seen
  local _, next_xid, running = xids.parse(snap.text)
  local version = conn:server_version()
  if self.own then
    self.seen, self.oldest = self.own.seen, self.own.oldest
  else
    self.seen = xids.confirm(self.seen, running, base)
  end
  check_base(self, "rows")
  local new = {}
  if base then
    origin.check_server(self.base, self.server, next_xid, self.command)
    local trouble
    new, trouble = origin.changes(conn, self.base, here,
      xids.condition(xids.news(self.base.seen), next_xid, version))
    if trouble and appends(self.ctx) then origin.refuse(trouble, self.command) end
    if trouble then
      self.ctx:log("warn", "%s: all its rows are taken", trouble)
      self.base, base, new = nil, nil, {}
    end
  end
  self.news = xids.news(self.seen, base)
  local parts = { xids.condition(self.news, next_xid, version) }
  if #new > 0 then
    parts[1] = ("(%s OR tableoid IN (%s) AND %s)"):format(parts[1], table.concat(new, ", "),
      xids.condition(xids.news(self.seen), next_xid, version))
  end
  if self.own and self.own.leaves then here = { table = here.table, leaves = self.own.leaves } end
  local bound = bound_of(self, conn)
  parts[#parts + 1] = bound
  parts[#parts + 1] = only(here, snap.relation)
  self.predicate = table.concat(parts, " AND ")
  self.next_xid, self.here = next_xid, here
  if self.column.indexed or self.column:has_bound(self.overlap) then
    self.high = self.own and self.own.low or self.column:highest(conn, self.spec.table)
  end
  if base and next_xid >= 1 << 32 and not bound then
    self.ctx:log("warn", "the server has had more than 2^32 transactions: rows as old as that may come again, " ..
      "unless the watermark has an overlap")
  end
end

-- ---- by values ----

local function check_values(self, why, foreign)
  local col = self.column
  if self.overlap then
    if appends(self.ctx) and #deliveries.loads(self.ctx.model, self.ctx.model.by_name[self.ctx.node]) > 0 then
      errors.usage(("with an overlap rows come again, since %s, and a load would append them twice"):format(why),
        "let the load say mode = \"merge\"")
    end
    col:has_bound(self.overlap)
  elseif foreign or col.type ~= "timestamp with time zone" then
    errors.usage(("the watermark by '%s' of type %s needs an overlap, since %s"):format(col.sql, col.type, why),
      "give an overlap, and loads that merge" .. (foreign and ""
        or "; without one a column of type timestamptz would do"))
  elseif not self.oldest then
    errors.raise("auth", ("the start of the oldest open transaction cannot be told, and %s"):format(why),
      "GRANT pg_read_all_stats to the role, or give an overlap, and loads that merge")
  end
end

local function by_values(self, snap, why, foreign)
  local conn, col, spec = snap.conn, self.column, self.spec
  check_base(self, "values")
  check_values(self, why, foreign)
  local base, parts = self.base, {}
  if base and base.low then
    self.above = base.set and base.low or self.overlap and col:below(conn, base.low, self.overlap) or base.low
    parts[1] = ("%s %s %s"):format(col.sql, base.set and ">" or self.overlap and ">=" or ">", col:literal(self.above))
  elseif spec.since then
    self.above = spec.since
    parts[1] = ("%s >= %s"):format(col.sql, col:literal(spec.since))
  end
  if not self.overlap then
    self.oldest = self.own and self.own.oldest or self.oldest
    parts[#parts + 1] = ("%s < %s"):format(col.sql, col:literal(self.oldest))
  end
  if #parts == 0 then parts[1] = ("%s IS NOT NULL"):format(col.sql) end
  self.predicate = table.concat(parts, " AND ")
  local from = spec.table and ("%s%s"):format(spec.table, spec.where and (" WHERE (%s\n)"):format(spec.where) or "")
    or ("(%s\n) AS q"):format(self.query)
  local filtered = spec.table and spec.where
  if conn:value(("SELECT EXISTS (SELECT FROM %s %s %s IS NULL)"):format(from, filtered and "AND" or "WHERE",
    col.sql)) then
    errors.raise("data", ("there are rows without a value in the watermark's column '%s': they would never come")
      :format(col.sql), "give them one in the query (coalesce), or leave them out in its WHERE")
  end
  self.high = col:highest(conn, ("%s %s %s"):format(from, filtered and "AND" or "WHERE", self.predicate), true)
    or base and base.low
end

-- ---- the journey ----

--- Chooses the rows, in the snapshot; gives the condition. `query` is what the extract reads, without ranges,
--- if it is no table.
---@param snap extract.Snapshot
---@param query? string
---@return string predicate, string meaning
function Window:open(snap, query)
  local conn, spec = snap.conn, self.spec
  local here, why, foreign
  if spec.table then
    self.column = column.of_table(conn, snap.relation, spec.watermark.column)
    here, why, foreign = origin.of(conn, snap.relation)
  else
    self.query, why = query, "it reads a query"
    self.column = column.of_query(conn:describe(query), spec.watermark.column)
  end
  self.kind = here and "rows" or "values"
  check_start(self, conn)
  if here then by_rows(self, snap, here) else by_values(self, snap, why, foreign) end
  self.ctx:log("info", "%s%s", self.base and "increment" or "first increment: all rows",
    self.above and (", %s from %s on"):format(self.column.sql, self.above) or "")
  if spec.resume and not self.own then self.ctx:keep(FACT, self:text(), { when = "delivered" }) end
  return self.predicate, json.encode { self.kind, self.news or {}, self.above or "", self.oldest or "" }
end

--- What is kept.
---@return string
function Window:text()
  return watermark.encode { kind = self.kind, column = self.column.sql, type = self.column.type,
    low = self.high, oldest = self.oldest, at = time.iso(time.now()),
    seen = self.kind == "rows" and self.seen or nil, system = self.server.system, timeline = self.server.timeline,
    table = self.here and self.here.table, leaves = self.here and self.here.leaves }
end

--- Writes the window into the head of the manifest.
---@param head table
function Window:mark(head)
  head.increment = true
  head.window = { column = self.column.sql, from = self.above, highest = self.high, kind = self.kind }
end

-- What was seen must not be forgotten by the server in a crash: all commits that were there when it was
-- looked at are on disk, which the server sees to within three times wal_writer_delay.
local function wait_until_flushed(self, conn)
  while self.written and signal.mono() < self.flushed_by
    and not conn:value("SELECT pg_current_wal_flush_lsn() >= $1::pg_lsn", self.written) do proc.poll({}, 0.02) end
end

--- Keeps the watermark, when the manifest is there.
---@param snap extract.Snapshot
---@param rows integer  in the increment
function Window:keep(snap, rows)
  wait_until_flushed(self, snap.conn)
  local base = self.base and self.base.seen
  local is_old = self.kind == "rows" and base and self.next_xid - base.below > OLD
  if rows == 0 and is_old then self.high = self.base.low end
  self.ctx:keep(FACT, (rows > 0 or is_old) and self:text() or nil, { when = "delivered" })
  self.ctx:report("increment", { rows = rows, from = self.above, highest = self.high, kind = self.kind,
    text = ("%s%s%s"):format(self.base and "" or "the first; ",
      self.above and ("%s from %s on"):format(self.column.sql, self.above)
        or self.base and "without a lower bound" or "all rows",
      self.high and (", highest %s"):format(self.high) or "") })
end

return window
