--- The state store on SQLite: the face that the store's parts see.
---
--- One writer at a time: a transaction is BEGIN IMMEDIATE, so what it reads stays true until
--- it commits, and locks on rows or names are not needed. Readers never wait (WAL). A process
--- that is stopped (SIGSTOP) inside a transaction holds up the other writers until it goes on
--- or dies; transactions take a millisecond, so that is rare.
---
--- Durability. In WAL mode every commit survives the death of the process. For the death of
--- the machine the log must be synced, which costs a commit some milliseconds. It is, for
--- whatever must not be forgotten (synchronous = FULL): runs, slots, claims, sessions, ends.
--- A "relaxed" transaction leaves it to the next such commit, which syncs all before it: starts of
--- attempts, log lines, decisions.

local sqlite = require "tidemill.sqlite"

local sqlite_face = {}
local Face = { __name = "tidemill.state.sqlite", dialect = "sqlite" }
Face.__index = Face

local BUSY_MS = 60000

--- Opens the file, made on first use.
---@param path string  ":memory:" keeps nothing
function sqlite_face.open(path)
  return setmetatable({ raw = sqlite.open(path, BUSY_MS), level = "NORMAL" }, Face)
end

--- Runs a statement; rows changed.
---@return integer
function Face:exec(sql, ...) return self.raw:exec(sql, ...) end

--- All rows of a statement, each a table by column; NULL is absent.
---@return table[]
function Face:query(sql, ...) return self.raw:query(sql, ...) end

--- The first row, or nil.
---@return table?
function Face:row(sql, ...) return self.raw:row(sql, ...) end

--- Several statements without parameters.
function Face:script(sql) self.raw:script(sql) end

--- Runs f() as one transaction: all or, when it raises, nothing. Inside another one it is a
--- part of that.
---@param f function        may run again after it was rolled back: it changes the database only
---@param how? "relaxed"    see the head of this file
---@return any  what f returns
function Face:transaction(f, how)
  if self.inside then return f() end
  local level = how == "relaxed" and "NORMAL" or "FULL"
  if level ~= self.level then
    self.raw:script("PRAGMA synchronous = " .. level)
    self.level = level
  end
  self.inside = true
  local results = table.pack(pcall(self.raw.transaction, self.raw, f))
  self.inside = false
  if not results[1] then error(results[2], 0) end
  return table.unpack(results, 2, results.n)
end

--- What to append to a SELECT that locks its rows: nothing here.
---@param how "skip"|"wait"|"share"
function Face.lock() return "" end

--- What to put behind a table that is to be read through this index and no other. SQLite knows
--- nothing of how rows are spread, and takes a large index for a small one.
---@param index string
function Face.by(_, index) return " INDEXED BY " .. index end

--- Holds a lock of this name until the transaction ends: here the transaction is one.
function Face.mutex() end

--- Whether there is such a table.
function Face:has_table(name)
  return self:row("SELECT 1 AS one FROM sqlite_master WHERE type = 'table' AND name = ?", name) ~= nil
end

function Face:close() self.raw:close() end

return sqlite_face
