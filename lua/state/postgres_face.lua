--- The state store on PostgreSQL (11 or later): the face that the store's parts see.
---
--- It gives the same values as the SQLite face: `?` is a parameter, NULL is absent, booleans are
--- 0 and 1. (Sums and averages of BIGINT are numeric, which comes as text: cast them.) The
--- tables lie in the schema "tidemill".
---
--- A lost connection is made again, with growing pauses, for PATIENCE_MS. What was under way
--- is then done again, and exactly once. A statement outside a transaction is a read, or is
--- wrapped into a transaction. A transaction that had not yet been told to commit was rolled back
--- and is run again, as it is after a deadlock. To know about one whose COMMIT got no answer,
--- each transaction writes its number into this process's row of the table "commits". (The
--- server's own txid_status does not tell: after a crash a number may belong to another.)
---
--- So that a stopped process with an open transaction stops nobody else, the server ends a
--- session that does nothing inside one for IDLE; what it was doing runs again when it wakes.

local errors = require "tidemill.errors"
local pg = require "pg"
local proc = require "proc"
local signal = require "tidemill.signal"

local postgres_face = {}
local Face = { __name = "tidemill.state.postgres", dialect = "postgres" }
Face.__index = Face

local PATIENCE_MS = 60000 -- for a server that restarts or fails over
local STATEMENT_S = 60
local IDLE = "10s"
local MAX_AGAIN = 10      -- times one transaction is run again
local MAX_STATEMENTS = 500
local PASSING = { connect = true, io = true, server = true, timeout = true } -- kinds of failure

local SETTINGS = ([[
  SET search_path = tidemill, pg_temp;
  SET idle_in_transaction_session_timeout = '%s';
  SET default_transaction_isolation = 'read committed';
  SET default_transaction_read_only = off]]):format(IDLE)

local COMMITS = [[
  CREATE TABLE IF NOT EXISTS commits (process TEXT PRIMARY KEY, number BIGINT NOT NULL, at TIMESTAMPTZ NOT NULL)
    WITH (fillfactor = 10, autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 1000)]]
local FORGET = "DELETE FROM commits WHERE at < now() - interval '7 days'"

-- ---- texts of statements ----

-- What starts at `i`, if it is a thing in which a question mark means nothing: the place
-- behind it.
local function skip(sql, i)
  local two, c = sql:sub(i, i + 1), sql:sub(i, i)
  if c == "'" or c == '"' then -- a doubled quote just starts another one
    return (sql:find(c, i + 1, true) or #sql) + 1
  elseif two == "--" then
    return (sql:find("\n", i, true) or #sql) + 1
  elseif two == "/*" then
    return (select(2, sql:find("*/", i + 2, true)) or #sql) + 1
  elseif c == "$" then
    local tag = sql:match("^%$[%a_]*%$", i)
    return tag and (select(2, sql:find(tag, i + #tag, true)) or #sql) + 1
  end
end

--- The statement with $1, $2 ... for its question marks, and how many there are. A type that
--- PostgreSQL cannot infer, that of `? IS NULL`, is given.
---@param sql string
---@return string sql, integer count
function postgres_face.translate(sql)
  local out, count, from = {}, 0, 1
  while true do
    local i = sql:find("[?'\"/$-]", from)
    if not i then break end
    local behind = skip(sql, i)
    if behind then
      out[#out + 1] = sql:sub(from, behind - 1)
    else
      out[#out + 1] = sql:sub(from, i - 1)
      behind = i + 1
      if sql:sub(i, i) == "?" then
        count = count + 1
        out[#out + 1] = "$" .. count .. (sql:match("^%s+[iI][sS]%s", behind) and "::text" or "")
      else
        out[#out + 1] = sql:sub(i, i)
      end
    end
    from = behind
  end
  out[#out + 1] = sql:sub(from)
  return table.concat(out), count
end

-- ---- the connection ----

-- What an error of the server is to the store's parts: a broken constraint is a conflict, as on
-- SQLite.
local function told(err)
  if type(err) == "table" and type(err.code) == "string" and err.code:find "^23" then err.kind = "conflict" end
  return err
end

-- Locks that are skipped came with PostgreSQL 9.5, hashtextextended with 11.
local function prepare(conn)
  local version, text = conn:server_version()
  if version < 110000 or conn:flavor() ~= "postgresql" then
    errors.usage(("the state store cannot be kept by %s"):format(text:match "^[^,(]*"),
      "PostgreSQL 11 or later is needed")
  end
  conn:exec(SETTINGS)
end

local function connect(self)
  local conn = pg.connect(self.conninfo, { application_name = "tidemill state", timeout = STATEMENT_S })
  local ok, err = pcall(prepare, conn)
  if ok then return conn end
  conn:close()
  error(err, 0)
end

local function drop(self)
  local conn = self.conn
  self.conn, self.statements, self.count = nil, {}, 0
  if conn then conn:close() end
end

local function is_lost(self)
  local state = self.conn and self.conn:state()
  return state == nil or state == "broken" or state == "closed"
end

-- Whether a signal broke it off that the runner will look at, and that does not end this
-- process. (The count of signals stays; only the wait that was broken off is forgotten.)
local function was_interrupted(err)
  if type(err) ~= "table" or err.kind ~= "canceled" or not signal.deferred() then return false end
  signal.take()
  return true
end

-- Waits; raises if the process is to end.
local function rest(seconds)
  local ok, err = pcall(proc.poll, {}, seconds)
  if not ok and not was_interrupted(err) then error(err, 0) end
end

-- The connection, made again if it was lost.
local function connected(self)
  if not is_lost(self) then return self.conn end
  drop(self)
  local deadline, pause = signal.mono() + self.patience_ms, 0.1
  while true do
    local ok, result = pcall(connect, self)
    if ok then
      self.conn = result
      return result
    end
    local passes = was_interrupted(result) or type(result) == "table" and PASSING[result.kind]
    if not passes or signal.mono() >= deadline then
      if type(result) == "table" and result.message then
        result.message = "the state store: " .. result.message
      end
      self.gave_up = result
      error(result, 0)
    end
    rest(pause)
    pause = math.min(pause * 2, 2)
  end
end

-- ---- statements ----

local function statement(self, conn, sql)
  local one = self.statements[sql]
  if one then return one end
  if self.count >= MAX_STATEMENTS then
    for _, old in pairs(self.statements) do old.stmt:close() end
    self.statements, self.count = {}, 0
  end
  local text, count = postgres_face.translate(sql)
  one = { stmt = conn:prepare(text), count = count }
  self.statements[sql], self.count = one, self.count + 1
  return one
end

-- A parameter that means the same as on SQLite.
local function as_parameter(value)
  if value == true then return 1 end
  if value == false then return 0 end
  return math.type(value) == "float" and math.tointeger(value) or value
end

local function run(self, conn, method, sql, args)
  local one = statement(self, conn, sql)
  while args.n > one.count and args[args.n] == nil do args.n = args.n - 1 end
  if args.n > one.count then
    error(("postgres: %d parameters given, %d wanted"):format(args.n, one.count), 0)
  end
  for i = 1, args.n do args[i] = as_parameter(args[i]) end
  return one.stmt[method](one.stmt, table.unpack(args, 1, one.count))
end

local function same_values(rows)
  rows.affected, rows.columns, rows.command = nil, nil, nil
  for _, row in ipairs(rows) do
    for key, value in pairs(row) do
      if value == pg.null then
        row[key] = nil
      elseif type(value) == "boolean" then
        row[key] = value and 1 or 0
      end
    end
  end
  return rows
end

-- Whether what failed may be done again, nothing of it having been kept.
local function may_repeat(self, err)
  if type(err) ~= "table" or err == self.gave_up then return false end
  if is_lost(self) then return PASSING[err.kind] or err.kind == "in_doubt" or false end
  return err.code == "40001" or err.code == "40P01"
end

local function is_read(sql) return sql:match "^%s*(%a+)":upper() == "SELECT" end

-- Runs one statement, with what that takes outside a transaction.
local function one(self, method, sql, ...)
  local args = table.pack(...)
  if self.inside then return run(self, self.conn, method, sql, args) end
  if not is_read(sql) then
    return self:transaction(function() return run(self, self.conn, method, sql, args) end)
  end
  for again = 0, MAX_AGAIN do
    local ok, result = pcall(function() return run(self, connected(self), method, sql, args) end)
    if ok then return result end
    if again == MAX_AGAIN or not (was_interrupted(result) or may_repeat(self, result)) then
      error(told(result), 0)
    end
  end
end

--- Runs a statement; rows changed.
---@return integer
function Face:exec(sql, ...) return one(self, "exec", sql, ...) or 0 end

--- All rows of a statement, each a table by column; NULL is absent.
---@return table[]
function Face:query(sql, ...) return same_values(one(self, "query", sql, ...)) end

--- The first row, or nil.
---@return table?
function Face:row(sql, ...) return self:query(sql, ...)[1] end

--- Several statements without parameters.
function Face:script(sql)
  if not self.inside then return self:transaction(function() self:script(sql) end) end
  self.conn:exec(sql)
end

-- ---- transactions ----

-- In one message; the first time there is no row yet, nor before there is a table.
local function begin(self, conn)
  if not self.process then return conn:exec "BEGIN" end
  self.number = self.number + 1
  local done = conn:exec(("BEGIN; UPDATE commits SET number = %d, at = now() WHERE process = '%s'")
    :format(self.number, self.process))
  if done.rows == 0 then
    conn:query("INSERT INTO commits VALUES ($1, $2, now())", self.process, self.number)
  end
end

local function commit(conn)
  if conn:exec("COMMIT").command ~= "COMMIT" then
    errors.raise("sql", "the transaction had failed and was rolled back")
  end
end

-- Whether the last transaction was committed. If it is still under way at the server, either
-- statement waits until it has ended.
local function was_committed(self)
  if not self.process then
    errors.raise("in_doubt", "the state store: the connection was lost while the store was made")
  end
  for again = 0, MAX_AGAIN do
    local ok, result = pcall(function()
      local conn = connected(self)
      conn:query("INSERT INTO commits VALUES ($1, 0, now()) ON CONFLICT DO NOTHING", self.process)
      return conn:value("SELECT number FROM commits WHERE process = $1 FOR UPDATE", self.process)
    end)
    if ok then return result == self.number end
    if again == MAX_AGAIN or not (was_interrupted(result) or may_repeat(self, result)) then error(result, 0) end
  end
end

local function roll_back(self)
  if is_lost(self) then return end
  if self.conn:state() ~= "idle" and not pcall(self.conn.exec, self.conn, "ROLLBACK") then drop(self) end
end

-- Once through: true and the results of f, or false and the error.
local function try(self, f)
  local conn = connected(self)
  local results, committing
  self.inside = true
  local ok, err = pcall(function()
    begin(self, conn)
    results = table.pack(f())
    committing = true
    commit(conn)
  end)
  self.inside = false
  if ok then return true, results end
  local interrupted, again = was_interrupted(err), may_repeat(self, err)
  if committing and (interrupted or is_lost(self) and again) then
    if was_committed(self) then return true, results end
  end
  roll_back(self)
  return false, err, interrupted or again
end

--- Runs f() as one transaction: all or, when it raises, nothing. Inside another one it is a
--- part of that.
---@param f function  may run again after it was rolled back: it changes the database only
---@return any  what f returns
function Face:transaction(f)
  if self.inside then return f() end
  for again = 0, MAX_AGAIN do
    local ok, results, repeatable = try(self, f)
    if ok then return table.unpack(results, 1, results.n) end
    if not repeatable or again == MAX_AGAIN then error(told(results), 0) end
    if again > 1 then rest(0.01 * again * math.random()) end
  end
end

local LOCKS = { skip = " FOR UPDATE SKIP LOCKED", wait = " FOR UPDATE", share = " FOR SHARE" }

--- What to append to a SELECT that locks its rows.
---@param how "skip"|"wait"|"share"
function Face.lock(_, how) return LOCKS[how] end

--- What to put behind a table that is to be read through this index: nothing here, for the
--- planner knows.
---@param index string
function Face.by() return "" end

--- Holds a lock of this name, across all processes, until the transaction ends.
---@param name string
function Face:mutex(name) self:query("SELECT pg_advisory_xact_lock(hashtextextended(?, 0))", name) end

--- Whether there is such a table.
function Face:has_table(name)
  return self:row("SELECT 1 AS one FROM pg_tables WHERE schemaname = 'tidemill' AND tablename = ?", name) ~= nil
end

--- The database's clock in milliseconds minus signal.mono() of this process.
---@return integer
function Face:clock_offset()
  local offset, least
  for _ = 1, 3 do -- the quickest answer is the truest
    local before = signal.mono()
    local row = self:row "SELECT CAST(extract(epoch FROM clock_timestamp()) * 1000 AS BIGINT) AS ms"
    local after = signal.mono()
    if not least or after - before < least then offset, least = row.ms - (before + after) // 2, after - before end
  end
  return offset
end

function Face:close() drop(self) end

--- Connects, and makes the schema "tidemill" on first use.
---@param conninfo string  or a URI; raises without any secret of it
---@param opts? {patience_ms: integer?}  for how long a lost server is waited for (default 60 s)
function postgres_face.open(conninfo, opts)
  local self = setmetatable({ conninfo = conninfo, patience_ms = 0, statements = {}, count = 0, number = 0 }, Face)
  connected(self)
  self.patience_ms = opts and opts.patience_ms or PATIENCE_MS
  if not self:has_table "commits" then
    self:transaction(function()
      self:mutex "tidemill schema"
      if not self:row "SELECT 1 AS one FROM pg_namespace WHERE nspname = 'tidemill'" then -- else it needs no right to
        self:script "CREATE SCHEMA tidemill"
      end
      self:script(COMMITS)
    end)
  end
  self.process = signal.random(32)
  self:exec(FORGET)
  return self
end

return postgres_face
