--- The ledger in a target database: what was committed there, by which run, node and attempt.
---
--- Schema `tidemill`, table `load_ledger`, made on first use. A node of a run has one row with an
--- empty `object`; its `epoch` is the newest attempt that may commit. An attempt first claims:
--- it puts its number there, and learns whether an attempt before it has committed. The
--- transaction that carries its data then ends with `complete`, which marks that row, and does
--- so only while the epoch is still its own. So of two attempts that live side by side, however
--- long one of them slept, at most one commits:
---
---     older completes, newer claims     the claim waits for the row, then sees what was done
---     newer claims, older completes     the older finds another epoch: conflict, all rolled back
---
--- Objects that were loaded get rows of their own in the same transaction (key, etag, rows). Work
--- that commits piece by piece gets a row for each piece, which a later attempt then leaves out.
--- A run that is restored keeps its id, so what it has done stays done; a rerun has a new one.
---
--- Where the server takes no primary key on such a table (tables of the Greenplum family that are
--- append-only or distributed at random), it is made without, and each claim and completion locks
--- the table for its short time.

local crash = require "tidemill.crash"
local errors = require "tidemill.errors"

local ledger = {}

local NAME = "tidemill.load_ledger"
local WAIT_SECONDS = 120 -- for a row or lock that another attempt holds
local COLUMNS = [[
  run_id text NOT NULL,
  node text NOT NULL,
  object text NOT NULL,
  epoch bigint NOT NULL,
  flow text,
  manifest text,
  etag text,
  row_count bigint,
  done_epoch bigint,
  claimed_at timestamptz NOT NULL DEFAULT now(),
  recorded_at timestamptz]]
local DISTRIBUTED = { greenplum = " DISTRIBUTED BY (run_id)" }

---@class ledger.Who
---@field run string
---@field node string
---@field attempt integer  its epoch
---@field flow string

---@class ledger.Done
---@field row_count? integer
---@field manifest? string
---@field attempt integer   that committed

---@class ledger.Claim
---@field who ledger.Who
---@field done? ledger.Done  what an earlier attempt has committed
local Claim = {}
Claim.__index = Claim

local function code_of(raised)
  return type(raised) == "table" and raised.code or nil
end

-- ---- the table ----

local function exists(conn)
  return conn:value [[SELECT count(*) FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
    WHERE n.nspname = 'tidemill' AND c.relname = 'load_ledger']] > 0
end

local function has_key(conn)
  return conn:value [[SELECT count(*) FROM pg_index i JOIN pg_class c ON c.oid = i.indrelid
    JOIN pg_namespace n ON n.oid = c.relnamespace
    WHERE n.nspname = 'tidemill' AND c.relname = 'load_ledger' AND i.indisunique]] > 0
end

-- Somebody else was faster at making the schema or the table.
local RACES = { ["42P06"] = true, ["42P07"] = true, ["42710"] = true, ["23505"] = true, XX000 = true, ["40001"] = true,
  ["40P01"] = true }
-- What a server answers that takes no primary key: not supported, or not on such a table.
local NO_KEY = { ["0A000"] = true, ["42P16"] = true }

local function create(conn)
  local has_schema = conn:value "SELECT count(*) FROM pg_namespace WHERE nspname = 'tidemill'" > 0
  if not has_schema then conn:exec "CREATE SCHEMA tidemill" end
  local form = ("CREATE TABLE %s (%s%%s)%s"):format(NAME, COLUMNS, DISTRIBUTED[conn:flavor()] or "")
  local ok, raised = pcall(conn.exec, conn, form:format ", PRIMARY KEY (run_id, node, object)")
  if not ok and NO_KEY[code_of(raised)] then
    conn:exec(form:format "")
  elseif not ok then
    error(raised, 0)
  end
end

local function refused(raised, what)
  if code_of(raised) ~= "42501" then return raised end
  return errors.new("auth", ("%s: %s"):format(what, raised.message), { code = raised.code,
    hint = ("let an administrator run: CREATE SCHEMA IF NOT EXISTS tidemill AUTHORIZATION the_role; where it is "
      .. "there already: GRANT USAGE ON SCHEMA tidemill and SELECT, INSERT, UPDATE ON %s"):format(NAME) })
end

-- Makes the table unless it is there. Several may try at once.
local function prepare(conn)
  for try = 1, 20 do
    if exists(conn) then return end
    local ok, raised = pcall(create, conn)
    if not ok and (not RACES[code_of(raised)] or try == 20) then
      error(refused(raised, ("cannot make the ledger %s"):format(NAME)), 0)
    end
    if not ok then require "proc".poll({}, 0.02 * try) end
  end
end

-- ---- claiming ----

-- The row as it was if the epoch was put there; else the epoch that is in the way, or nothing
-- when the row came to be meanwhile.
local function try_claim(conn, who)
  local row = conn:one(([[UPDATE %s SET epoch = $3, claimed_at = now()
    WHERE run_id = $1 AND node = $2 AND object = '' AND epoch <= $3
    RETURNING row_count, manifest, done_epoch]]):format(NAME), who.run, who.node, who.attempt)
  if row then return row end
  local found = conn:one(("SELECT epoch FROM %s WHERE run_id = $1 AND node = $2 AND object = ''"):format(NAME),
    who.run, who.node)
  if found then return nil, found.epoch > who.attempt and found.epoch or nil end
  conn:query(("INSERT INTO %s (run_id, node, object, epoch, flow) VALUES ($1, $2, '', $3, $4)"):format(NAME),
    who.run, who.node, who.attempt, who.flow)
  return {}
end

local function conflict(who, newer)
  return errors.new("conflict", ("attempt %d of node '%s' was taken over by attempt %s"):format(who.attempt, who.node,
    tostring(newer or "another one")), { hint = "nothing of this attempt was committed; the newer one does the work" })
end

-- Where no key keeps two rows apart: alone in the table.
local function locked_claim(conn, who)
  local tx <close> = conn:transaction { isolation = "read committed" }
  conn:exec(("LOCK TABLE %s IN SHARE ROW EXCLUSIVE MODE"):format(NAME))
  local row, newer = try_claim(conn, who)
  local ok, raised = pcall(tx.commit, tx)
  if ok then return row, newer end
  if errors.is(raised) and raised.kind == "in_doubt" then raised.kind = "io" end -- the next attempt claims anew
  error(raised, 0)
end

-- Else again whenever another attempt's row came in between.
local function keyed_claim(conn, who)
  for _ = 1, 20 do
    local ok, row, newer = pcall(try_claim, conn, who)
    if ok and (row or newer) then return row, newer end
    if not ok and code_of(row) ~= "23505" and code_of(row) ~= "40001" then error(row, 0) end
  end
  errors.raise("conflict", ("the ledger row of node '%s' is in dispute"):format(who.node))
end

-- Runs `body` with a limit on each wait, since another attempt may hold what it wants.
local function with_limit(conn, body, ...)
  conn:timeout(WAIT_SECONDS)
  local results = table.pack(pcall(body, ...))
  if conn:state() ~= "closed" then conn:timeout(0) end
  if results[1] then return table.unpack(results, 2, results.n) end
  local raised = results[2]
  if errors.is(raised) and raised.kind == "timeout" then
    raised.hint = "another attempt of this node holds its row of the ledger; see pg_stat_activity"
  end
  error(refused(raised, ("cannot use the ledger %s"):format(NAME)), 0)
end

local function done_of(row)
  local null = require "pg".null
  if not row or not row.done_epoch or row.done_epoch == null then return nil end
  return { attempt = row.done_epoch, row_count = row.row_count ~= null and row.row_count or nil,
    manifest = row.manifest ~= null and row.manifest or nil }
end

--- What a node of a run has committed here; nil if nothing.
---@param conn pg.Conn
---@param who ledger.Who
---@return ledger.Done?
function ledger.done(conn, who)
  return done_of(conn:one(([[SELECT row_count, manifest, done_epoch FROM %s
    WHERE run_id = $1 AND node = $2 AND object = '' AND done_epoch IS NOT NULL]]):format(NAME), who.run, who.node))
end

--- Claims a node of a run for an attempt, before its work starts; commits that by itself, so no
--- transaction may be open. Raises conflict if a newer attempt holds the node.
---@param conn pg.Conn
---@param who ledger.Who
---@return ledger.Claim
function ledger.claim(conn, who)
  return with_limit(conn, function()
    prepare(conn)
    crash.point "ledger.claim.before"
    local keyed = has_key(conn)
    local row, newer = (keyed and keyed_claim or locked_claim)(conn, who)
    crash.point "ledger.claim.after"
    if not row then error(conflict(who, newer), 0) end
    return setmetatable({ who = who, keyed = keyed, done = done_of(row) }, Claim)
  end)
end

-- ---- completing ----

---@class ledger.Object
---@field key string
---@field etag? string
---@field rows integer

---@class ledger.Work
---@field row_count? integer
---@field manifest? string
---@field objects? fun(): fun(): ledger.Object?  makes an iterator

local BATCH = 1000 -- objects of one INSERT

local function record_batch(conn, who, work, keys, etags, counts)
  conn:query(([[INSERT INTO %s (run_id, node, object, epoch, flow, manifest, etag, row_count, done_epoch, recorded_at)
    SELECT $1, $2, o.key, $3, $4, $5, o.etag, o.rows, $3, now()
    FROM (SELECT unnest($6::text[]) AS key, unnest($7::text[]) AS etag, unnest($8::bigint[]) AS rows) AS o]])
    :format(NAME), who.run, who.node, who.attempt, who.flow, work.manifest, keys, etags, counts)
end

local function record_objects(conn, who, work)
  local keys, etags, counts = {}, {}, {}
  for object in work.objects() do
    if #keys == BATCH then
      record_batch(conn, who, work, keys, etags, counts)
      keys, etags, counts = {}, {}, {}
    end
    keys[#keys + 1], etags[#etags + 1], counts[#counts + 1] = object.key, object.etag or "", object.rows
  end
  if #keys > 0 then record_batch(conn, who, work, keys, etags, counts) end
end

-- The node's row changes only while its epoch is ours. That holds it until the transaction ends.
local function hold(self, conn, change, ...)
  local who = self.who
  if not self.keyed then conn:exec(("LOCK TABLE %s IN SHARE ROW EXCLUSIVE MODE"):format(NAME)) end
  local ok, result = pcall(conn.query, conn, ([[UPDATE %s SET %s WHERE run_id = $1 AND node = $2 AND object = ''
    AND epoch = $3 AND done_epoch IS NULL]]):format(NAME, change), who.run, who.node, who.attempt, ...)
  if not ok and code_of(result) == "40001" then error(conflict(who), 0) end
  if not ok then error(result, 0) end
  if result.affected == 1 then return end
  error(conflict(who, conn:value(("SELECT max(epoch) FROM %s WHERE run_id = $1 AND node = $2 AND object = ''")
    :format(NAME), who.run, who.node)), 0)
end

--- Marks the node as done, inside the transaction that carries its data and as the last thing in
--- it; the caller commits. Raises conflict if a newer attempt has claimed the node.
---@param conn pg.Conn  in a transaction
---@param work ledger.Work
function Claim:complete(conn, work)
  with_limit(conn, function()
    crash.point "ledger.complete.before"
    hold(self, conn, "done_epoch = $3, row_count = $4, manifest = $5, recorded_at = now()", work.row_count,
      work.manifest)
    if work.objects then record_objects(conn, self.who, work) end
    crash.point "ledger.complete.after"
  end)
end

--- Records pieces of the node's work, inside the transaction that carries them; the node is not
--- done by that. Raises conflict if a newer attempt has claimed the node.
---@param conn pg.Conn  in a transaction
---@param pieces ledger.Object[]
---@param manifest? string  that they are of
function Claim:record(conn, pieces, manifest)
  with_limit(conn, function()
    crash.point "ledger.record.before"
    hold(self, conn, "claimed_at = claimed_at")
    record_objects(conn, self.who, { manifest = manifest, objects = function()
      local i = 0
      return function()
        i = i + 1
        return pieces[i]
      end
    end })
    crash.point "ledger.record.after"
  end)
end

---@class ledger.Begun
---@field objects table<string, ledger.Object>  by key
---@field count integer
---@field rows integer
---@field manifest? string  that they are of

--- The pieces that were recorded, by any attempt.
---@param conn pg.Conn
---@return ledger.Begun
function Claim:begun(conn)
  local begun = { objects = {}, count = 0, rows = 0 }
  for row in conn:rows(("SELECT object, etag, row_count, coalesce(manifest, '') AS manifest FROM %s " ..
    "WHERE run_id = $1 AND node = $2 AND object <> ''"):format(NAME), self.who.run, self.who.node) do
    begun.objects[row.object] = { key = row.object, etag = row.etag, rows = row.row_count }
    begun.count, begun.rows = begun.count + 1, begun.rows + row.row_count
    begun.manifest = row.manifest ~= "" and row.manifest or begun.manifest
  end
  return begun
end

return ledger
