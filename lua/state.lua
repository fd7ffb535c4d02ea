--- The state store: flows, versions, slots, runs, node attempts, outputs, logs and decisions,
--- in SQLite or PostgreSQL.
---
--- Each method that writes is one transaction, so a reader, or the next start after a crash,
--- sees whole steps only. Times go in and come out as milliseconds since 1970 UTC. Of the
--- database the parts ask exec, query, row, script, transaction, lock and mutex
--- (lua/state/sqlite_face.lua, postgres_face.lua), in SQL that both read: `?` for a parameter,
--- no `substr` from the end, sums cast to BIGINT, no type that only one of them infers.
---
--- The methods lie in the files named in PARTS, by subject.

local errors = require "tidemill.errors"
local schema = require "tidemill.state.schema"
local signal = require "tidemill.signal"

local state = {}

---@class tidemill.Store
---@field db table  the face
local Store = { __name = "tidemill.state" }
Store.__index = Store

local PARTS = {
  "attempts",  -- what the executor of a run records
  "backfills", -- many runs at once, and successes without one
  "claims",    -- handing runs to runners
  "facts",     -- what nodes keep from run to run
  "gc",        -- forgetting
  "look",      -- reading
  "notices",   -- the outbox of hooks
  "objects",   -- what extracts have completed
  "ownership", -- runs that have come loose
  "runners",   -- processes and their leases
  "runs",      -- making and changing runs
  "slots",     -- the ledger of firing times
  "versions",  -- published flows, their versions, their pauses
  "waits",     -- what nodes wait for
}

for _, part in ipairs(PARTS) do
  for name, method in pairs(require("tidemill.state." .. part)) do
    assert(not Store[name], name)
    Store[name] = method
  end
end

local CLOCK_MS = 60000 -- how long a look at the database's clock is good for

local function make_directory(path)
  local directory = path:match "^(.+)/[^/]*$"
  if not directory or io.open(directory) then return end
  local r = require "proc".run { cmd = { "mkdir", "-p", "--", directory }, stdout = "pipe", stderr = "pipe" }
  if r.code == 0 then return end
  errors.raise("io", ("cannot make the folder '%s' of the state store: %s"):format(directory,
    r.stderr:match ": ([^:\n]+)\n?$" or "mkdir failed"), "tidemill.lua says where: state = \"sqlite:PATH\"")
end

local function version_of(db)
  if not db:has_table "schema_version" then return 0 end
  return db:row("SELECT max(version) AS version FROM schema_version").version or 0
end

-- Texts compare byte by byte, as they do in SQLite.
local function in_dialect(sql, dialect)
  return dialect == "postgres" and sql:gsub("%f[%w]TEXT%f[%W]", 'TEXT COLLATE "C"') or sql
end

local function migrate(db)
  if version_of(db) == #schema then return end
  db:transaction(function()
    db:mutex "tidemill schema"
    local version = version_of(db)
    if version > #schema then
      errors.usage(("the state store has schema version %d, this tidemill knows %d"):format(version, #schema),
        "a newer tidemill has used it")
    end
    if version == 0 then db:script "CREATE TABLE IF NOT EXISTS schema_version (version INTEGER NOT NULL)" end
    for n = version + 1, #schema do
      db:script(in_dialect(schema[n].common, db.dialect))
      if schema[n][db.dialect] then db:script(schema[n][db.dialect]) end
      db:exec("INSERT INTO schema_version VALUES (?)", n)
    end
  end)
end

local function open_face(url, options)
  local path = url:match "^sqlite:(.+)$"
  if path then
    local directory = options.directory
    if path ~= ":memory:" and not path:find "^/" and directory then path = directory .. "/" .. path end
    if path ~= ":memory:" then make_directory(path) end
    return require "tidemill.state.sqlite_face".open(path)
  elseif url:find "^postgres" or url:find "^%s*%w+%s*=" then
    return require "tidemill.state.postgres_face".open(url, options)
  end
  errors.usage(("state: '%s' is not supported"):format(url:match "^[%w+]*:?"),
    "write state = \"sqlite:PATH\" or a PostgreSQL URI")
end

---@class tidemill.StoreOptions
---@field directory? string     what a relative PATH starts from
---@field clock? fun(): integer milliseconds since 1970, in place of the database's clock
---@field patience_ms? integer  for how long a lost PostgreSQL server is waited for (default 60000)

--- Opens the store, made on first use, and brings its tables up to date.
---@param url string  "sqlite:PATH" (":memory:" as PATH keeps nothing), a PostgreSQL URI or conninfo
---@param options? tidemill.StoreOptions
---@return tidemill.Store
function state.open(url, options)
  options = options or {}
  local db = open_face(url, options)
  local ok, err = pcall(migrate, db)
  if not ok then
    db:close()
    error(err, 0)
  end
  return setmetatable({ db = db, clock = options.clock, claims = {}, logs_of = {}, documents = {},
    documents_kept = 0 }, Store)
end

--- Closes the database.
function Store:close() self.db:close() end
Store.__close = Store.close

--- Milliseconds since 1970 by the clock of the database, which all its runners share.
---@return integer
function Store:now()
  if self.clock then return self.clock() end
  if self.db.dialect == "sqlite" then return signal.wall() end
  local mono = signal.mono()
  if not self.offset or mono - self.offset_at > CLOCK_MS then
    self.offset, self.offset_at = self.db:clock_offset(), mono
  end
  return mono + self.offset
end

return state
