--- One snapshot of the source, in which every row of an extract is read.
---
--- The holder is a session in a read-only transaction of isolation level repeatable read. A table
--- is locked (ACCESS SHARE: against TRUNCATE, DROP and what rewrites it, not against writers) before the snapshot
--- is taken, since those do not heed snapshots. Further sessions take the same snapshot from it. All
--- transactions stay open until the last row is read, and end in `finish`: a session that a successor has ended
--- cannot, and then nothing of this attempt may count.

local crash = require "tidemill.crash"
local errors = require "tidemill.errors"
local pg = require "pg"
local relation = require "tidemill.extract.relation"
local signal = require "tidemill.signal"
local units = require "tidemill.units"

local snapshot = {}

---@class extract.Snapshot
---@field conn pg.Conn               the holder; also the first session that reads
---@field sessions pg.Conn[]         all that read, the holder first
---@field text string                txid_current_snapshot()
---@field relation? extract.Relation the table, if it is one
local Snapshot = {}
Snapshot.__index = Snapshot

-- Behind a pooler in transaction mode, settings and sessions belong to whoever comes next. It shows when the
-- transaction runs in another session than the one that was set up; which is not always so.
local function check_pid(conn, pid, whose)
  if pid == conn:pid() then return end
  errors.usage(("connection '%s' goes through a pooler in transaction mode"):format(whose),
    "an extract needs sessions of its own: connect to the server itself, or to a pool in session mode")
end

local function begin(self, conn, id)
  local tx = conn:transaction { isolation = "repeatable read", read_only = true }
  table.insert(self.sessions, conn)
  table.insert(self.transactions, tx)
  if id then conn:exec("SET TRANSACTION SNAPSHOT " .. pg.quote_literal(id)) end
end

-- Waits for whoever has the table to himself. Children that may not be read alone stay as they are.
local function lock(conn, one)
  if not one.readable or one.kind ~= "r" and one.kind ~= "p" then return end
  local sql = ("LOCK TABLE %s IN ACCESS SHARE MODE"):format(relation.quoted(one))
  if not one.has_children then return conn:exec(sql) end
  local inner <close> = conn:transaction()
  local ok, raised = pcall(conn.exec, conn, sql)
  if ok then return inner:commit() end
  if raised.code ~= "42501" then error(raised, 0) end
end

--- Connects and takes the snapshot.
---@param ctx tidemill.Context
---@param spec table  the node's fields
---@return extract.Snapshot
function snapshot.open(ctx, spec)
  local conn = ctx:postgres(spec.from, { session = "extract" })
  local self = setmetatable({ ctx = ctx, spec = spec, conn = conn, sessions = {}, transactions = {} }, Snapshot)
  if conn:pooled() then
    ctx:log("info", "connection '%s' goes through a pooler, which must be in session mode", spec.from)
  end
  local ok, raised = pcall(function()
    if spec.table then self.relation = relation.look(conn, spec.table) end
    self.opened = signal.mono()
    begin(self, conn)
    if self.relation then lock(conn, self.relation) end
    local facts = conn:one "SELECT txid_current_snapshot()::text AS text, pg_backend_pid() AS pid"
    check_pid(conn, facts.pid, spec.from)
    self.text = facts.text
  end)
  if ok then return self end
  conn:close()
  error(raised, 0)
end

--- Why no other session can take this snapshot; nil if they can.
---@return string?
function Snapshot:unshared()
  if self.conn:flavor() ~= "postgresql" then return "a server of the Greenplum family shares no snapshot" end
end

local FOREIGN = { ["22023"] = true, ["42704"] = true, ["58P01"] = true } -- no such snapshot here

--- Opens further sessions under the snapshot, until there are so many in all.
---@param count integer
function Snapshot:grow(count)
  if #self.sessions >= count then return end
  crash.point "extract.snapshot.before"
  local id = self.conn:value "SELECT pg_export_snapshot()"
  crash.point "extract.snapshot.after"
  while #self.sessions < count do
    local conn = self.ctx:postgres(self.spec.from, { session = "extract" })
    local ok, raised = pcall(begin, self, conn, id)
    if not ok then
      if self.sessions[#self.sessions] ~= conn then conn:close() end
      if not FOREIGN[raised.code] then error(raised, 0) end
      errors.raise("usage", ("sessions of connection '%s' do not share a snapshot: %s"):format(self.spec.from,
        raised.message), "several servers or a pooler answer there; set jobs = 1, or connect to one server itself",
        raised)
    end
    check_pid(conn, conn:value "SELECT pg_backend_pid()", self.spec.from)
  end
end

--- Milliseconds since the transaction began.
---@return integer
function Snapshot:age_ms() return (self.ended or signal.mono()) - self.opened end

--- Raises kind "timeout" when the snapshot is older than the flow allows.
function Snapshot:check_age()
  local most = self.spec.max_snapshot_age
  if not most or self:age_ms() <= most * 1000 then return end
  errors.raise("timeout", ("the snapshot is older than max_snapshot_age = %s"):format(units.show_duration(most)),
    "the source has to keep dead rows as long; more jobs, a narrower query or resume = true shorten it")
end

-- A reader's COMMIT changes nothing, so that its answer is lost leaves no doubt: another attempt may read again.
local function commit(tx)
  local ok, raised = pcall(tx.commit, tx)
  if ok then return end
  if not errors.is(raised) or raised.kind ~= "in_doubt" then error(raised, 0) end
  errors.raise("io", "a session that held the snapshot was lost", "the next attempt takes another snapshot", raised)
end

--- Ends the transactions. Raises if one of the sessions is gone.
function Snapshot:finish()
  crash.point "extract.commit.before"
  for i = #self.transactions, 1, -1 do commit(self.transactions[i]) end
  self.ended = signal.mono()
  crash.point "extract.commit.after"
end

--- What the extract has cost the source, after `finish`: how long its longest transaction was open, and
--- how many transactions began meanwhile whose dead rows could not be removed.
---@return {seconds: number, xmin_age: integer, sessions: integer}
function Snapshot:harm()
  local age = self.conn:value([[SELECT txid_snapshot_xmax(txid_current_snapshot())
    - txid_snapshot_xmin($1::txid_snapshot)]], self.text)
  return { seconds = self:age_ms() / 1000, xmin_age = age, sessions = #self.sessions }
end

function Snapshot:close()
  for _, conn in ipairs(self.sessions) do conn:close() end
  self.conn:close()
end
Snapshot.__close = Snapshot.close

return snapshot
