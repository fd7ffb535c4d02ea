--- Transfers that tests wreck: a flow for each mode, and what must hold once it has come to its end.
---
---     local rig = require "tests.support.rig"
---     local r <close> = rig.new { name = "matrix" }
---     r:prepare(rig.modes.merge)                    -- source, target, flow; nothing of before
---     r:command({ "run", "f.lua" }, { TIDEMILL_CRASH = "load.commit.before" })
---     r:settle()                                    -- restores until the run is a success
---     r:check()                                     -- raises what is wrong
---
--- Source and target hold rows (id, day, n, note). Of the target's own rows, "kept" are of another
--- day and have negative ids, "stale" have ids and the day of the source but other values; which of
--- them a mode leaves alone says its field `keeps`.

local lab = require "tests.support.lab"
local manifest = require "tidemill.manifest"
local pg = require "pg"
local proc = require "proc"
local signal = require "tidemill.signal"
local state = require "tidemill.state"
local sweep = require "tidemill.sweep"

local rig = {}

rig.SLOW = (os.getenv "TM_SANITIZER" or "") ~= "" and 4 or 1

local BIN = assert(os.getenv "TM_BUILD") .. "/crash/tidemill"
local DEADLINE = 90 * rig.SLOW -- seconds for any command; past it something hangs
local KEPT, STALE = 40, 200

---@class rig.Mode
---@field name string
---@field extract string   fields of the flow's extract
---@field load string      fields of its load
---@field own string[]     rows of the target before it: "kept", "stale"
---@field keeps string[]   of these, the rows that are still there afterwards
---@field create? boolean  the target is not there
---@field lacks? string     a column that the target does not have
---@field refuses? string  the rows of the source that the target's check constraint does not take
---@field twice? boolean   what is tested is the second run, an increment

local BOTH, FIRST = { "kept", "stale" }, { "kept" }

-- ctid ranges small enough that two jobs share the work; two objects or more of each job.
local TWO = "jobs = 2, range_pages = 25"

---@type table<string, rig.Mode>
rig.modes = {}
---@type rig.Mode[]
rig.list = {}

local function mode(name, extract, load, own, keeps, more)
  for _, edge in ipairs(more and more.edges or { "", " apart" }) do
    local one = { name = name .. edge, extract = extract, load = load .. (edge == "" and "" or " pipeline = false,"),
      own = own, keeps = keeps }
    for key, value in pairs(more or {}) do one[key] = value end
    rig.modes[one.name] = one
    rig.list[#rig.list + 1] = one
  end
end

mode("append", "jobs = 1", "", FIRST, FIRST)
mode("append 2", TWO, "jobs = 2,", FIRST, FIRST)
mode("replace", TWO, "mode = 'replace', jobs = 2,", BOTH, {})
mode("where", "jobs = 1", [[mode = 'replace_where', where = "day = '2026-03-01'",]], BOTH, FIRST)
mode("merge", TWO, "mode = 'merge', keys = { 'id' }, jobs = 2,", BOTH, FIRST)
mode("create", "jobs = 1", "mode = 'create',", {}, {}, { create = true })
mode("resume", "jobs = 2, split_by = 'id', ranges = 6, resume = true", "", FIRST, FIRST)
mode("reject", "jobs = 1", "reject = { max = 1000, to = 'lake:refused/${run_id}/' },", FIRST, FIRST, { refuses = "(id % 3000 = 999)" })
mode("drift", "jobs = 1", "on_drift = 'add',", {}, {}, { lacks = "note" })
mode("pull", "jobs = 1", "via = 'oss_fdw',", FIRST, FIRST, { edges = { " apart" } })
mode("increment", "jobs = 1, watermark = { column = 'id' }", "", FIRST, FIRST, { twice = true })

local FLOW = [[
local flow = require "flow"
return flow "rig" {
  flow.extract "out" { from = "rds", table = "src", to = "lake:rig/${run_id}/", object_size = "%s", %s, retries = %d,
    retry_delay = 0.2, backoff = 1 },
  flow.load "in" { after = "out", from = "lake:rig/${run_id}/", on = "adbpg", into = "dst", %s retries = %d,
    retry_delay = 0.2, backoff = 1 },
}
]]

local COLUMNS = "(id bigint, day date, n int, note text)"
local ROWS = {
  kept = ("SELECT -i, date '2026-02-28', -i, 'kept ' || i FROM generate_series(1, %d) i"):format(KEPT),
  stale = ("SELECT i, date '2026-03-01', -1, 'stale' FROM generate_series(1, %d) i"):format(STALE),
}

---@class rig.Rig
---@field rds pg.Conn      to the source, past any relay
---@field adbpg pg.Conn    to the target
---@field lake oss.Store   to the store
local Rig = {}
Rig.__index = Rig

---@class rig.Options
---@field name string
---@field rows? integer       of the source (default 6000)
---@field width? integer      bytes of a note (default 100)
---@field object_size? string (default "128KiB")
---@field retries? integer    that the runner makes by itself (default 0)
---@field source? string      URI of the source's server (default TM_PG)
---@field target? string      (default TM_FDW: PostgreSQL with oss_fdw)
---@field store? fdw.Store    (default the one of TM_OSSD)
---@field seen? table<"rds"|"adbpg", string>  URIs of relays before those servers, for the flows

--- Makes source and target, of which the flows see the connections "rds", "adbpg" and "lake".
---@param options rig.Options
---@return rig.Rig
function rig.new(options)
  local self = setmetatable({ rows = 6000, width = 100, object_size = "128KiB", retries = 0 }, Rig)
  for key, value in pairs(options) do self[key] = value end
  self.lab = lab.new("rig-" .. options.name)
  self.rds, self.rds_url = self.lab:database("rds", options.source or os.getenv "TM_PG")
  self.adbpg, self.adbpg_url = self.lab:database("adbpg", options.target or os.getenv "TM_FDW")
  self.adbpg:exec "CREATE EXTENSION oss_fdw"
  for name, uri in pairs(self.seen or {}) do
    local key = "LAB_" .. name:upper()
    self.lab.env[key] = self.lab.env[key]:gsub("([/@][%d.]+):%d+", "%1:" .. uri:match ":(%d+)[/?]?[^:@]*$")
  end
  if options.store then self:use_store(options.store) else self.lake = self.lab:lake("lake", "rig-" .. options.name) end
  self.rds:exec("CREATE TABLE src " .. COLUMNS)
  self:add_rows(self.rows)
  self.rds:exec "ANALYZE src"
  return self
end

--- Appends to the source; returns how many rows it has.
function Rig:add_rows(count)
  self.rds:query([[INSERT INTO src SELECT m + i, date '2026-03-01', (m + i) % 1000,
    left(repeat(md5((m + i)::text), $2::int / 32 + 1), $2::int)
    FROM generate_series(1, $1::int) i, (SELECT coalesce(max(id), 0) AS m FROM src) s]], count, self.width)
end

--- Lets the flows use a store of the test's own, perhaps behind a relay.
---@param store fdw.Store
---@param url? string  of the relay
function Rig:use_store(store, url)
  self.lake = store:objects()
  self.lab.env.OSS_ACCESS_KEY_ID, self.lab.env.OSS_ACCESS_KEY_SECRET = store.id, store.secret
  self.lab.connections.lake = ('{ oss = "oss://%s", endpoint = env "RIG_STORE", region = "cn-test", addressing = "path" }')
    :format(store.bucket)
  self.lab.env.RIG_STORE = url or store.url
end

-- Count and sum of the hashes of a table's rows, which do not depend on their order.
local function hash(conn, from)
  local row = conn:one(("SELECT count(*) AS n, coalesce(sum(hashtextextended(t::text, 0)::numeric), 0)::text AS sum "
    .. "FROM %s t"):format(from))
  return { n = row.n, sum = row.sum }
end

-- Two hashes as one: sums of bigint fit a numeric, so let a server add them.
local function plus(conn, a, b)
  return { n = a.n + b.n, sum = conn:value("SELECT ($1::numeric + $2::numeric)::text", a.sum, b.sum) }
end

--- Everything as before the first run of a mode; of one that runs twice, as before the second.
---@param which rig.Mode
function Rig:prepare(which)
  self.mode, self.kept = which, { n = 0, sum = "0" }
  self.adbpg:exec "DROP TABLE IF EXISTS dst; DROP SCHEMA IF EXISTS tidemill CASCADE"
  if not which.create then self.adbpg:exec("CREATE TABLE dst " .. COLUMNS) end
  if which.lacks then self.adbpg:exec("ALTER TABLE dst DROP COLUMN " .. which.lacks) end
  if which.refuses then self.adbpg:exec(("ALTER TABLE dst ADD CHECK (NOT %s)"):format(which.refuses)) end
  for _, rows in ipairs(which.own) do self.adbpg:exec(("INSERT INTO dst %s"):format(ROWS[rows])) end
  for _, rows in ipairs(which.keeps) do
    self.kept = plus(self.adbpg, self.kept, hash(self.adbpg, ("(%s)"):format(ROWS[rows])))
  end
  self.rds:exec(("DELETE FROM src WHERE id > %d"):format(self.rows))
  lab.empty(self.lake)
  assert(os.execute(("cd '%s' && rm -rf .tidemill once before log"):format(self.lab.dir)))
  self.lab:project()
  self.lab:write("f.lua", FLOW:format(self.object_size, which.extract, self.retries, which.load, self.retries))
  self.wanted_runs = 1
  if which.twice then
    self:command { "run", "f.lua" }
    self:settle()
    self:check()
    self:add_rows(self.rows // 4)
    self.wanted_runs = 2
  end
end

-- ---- commands ----

--- Starts `tidemill ...`, of the crash build, in the folder of the flow.
---@param words string[]
---@param env? table<string, string>
function Rig:start(words, env)
  local merged = { TIDEMILL_CRASH_ONCE = self.lab.dir .. "/once" }
  for key, value in pairs(self.lab.env) do merged[key] = value end
  for key, value in pairs(env or {}) do merged[key] = value end
  return proc.spawn { cmd = { "sh", "-c", 'echo "== $*" >>log; exec "$@" >>log 2>&1', "sh", BIN, table.unpack(words) },
    cwd = self.lab.dir, env = merged, group = false }
end

--- Waits for the end of a command; raises when it takes too long.
function Rig:finish(child)
  local status = child:wait(DEADLINE)
  local left = status or os.execute(("kill -ABRT %d"):format(child:pid()))
  child:close()
  if not status then error(("a command hangs, %s\n%s"):format(left, self:log()), 0) end
  return status
end

--- Runs a command to its end: its status.
function Rig:command(words, env) return self:finish(self:start(words, env)) end

--- What the commands have printed.
function Rig:log()
  local f <close> = io.open(self.lab.dir .. "/log")
  return f and f:read "a" or ""
end

--- Whether a process was killed at a point since `prepare`.
function Rig:was_killed()
  local f <close> = io.open(self.lab.dir .. "/once")
  return f ~= nil
end

--- The state store of the flow's folder.
function Rig:state() return state.open("sqlite:.tidemill/state.db", { directory = self.lab.dir }) end

-- The run under test; nil while it is not there.
local function last_run(self)
  local store <close> = self:state()
  local count = store.db:row("SELECT count(*) AS n FROM runs").n
  return count >= self.wanted_runs and store:find_run "last" or nil
end

--- Waits until a serve is through with the run, well or not.
function Rig:await_end()
  local deadline = signal.mono() + DEADLINE * 1000
  while true do
    local run = last_run(self)
    if run and run.ended_at then return end
    if signal.mono() > deadline then error("the run does not end\n" .. self:log(), 0) end
    proc.poll({}, 0.05)
  end
end

--- Brings the run to its end: restores it until it is a success, or starts it when it was killed
--- before it was there. Raises when three times do not do.
---@return integer tries  how many it took
function Rig:settle()
  for try = 0, 3 do
    if self.server and last_run(self) then self:await_end() end
    local run = last_run(self)
    if run and run.state == "success" then return try end
    if try == 3 then
      error(("the run is %s after three restores\n%s"):format(run and run.state or "not there", self:log()), 0)
    end
    self:command(run and { "restore", run.id } or self.server and { "trigger", "rig" } or { "run", "f.lua" })
  end
end

--- Starts a `tidemill serve`, which is there until `unserve`.
function Rig:serve() self.server = self:start { "serve", "--listen", "none", "--lease", "5s" } end

--- Ends it.
function Rig:unserve()
  local server = self.server
  self.server = nil
  server:kill "TERM"
  self:finish(server)
end

-- ---- what must hold ----

local function same(self, what, seen, wanted)
  if seen == wanted then return end
  error(("%s: %s, wanted %s\n%s"):format(what, seen, wanted, self:log()), 0)
end

local function check_rows(self)
  local seen, wanted = hash(self.adbpg, "dst"), plus(self.adbpg, self.kept,
    hash(self.rds, ("(SELECT * FROM src WHERE NOT %s)"):format(self.mode.refuses or "false")))
  same(self, "rows of the target", ("%d rows, hash %s"):format(seen.n, seen.sum),
    ("%d rows, hash %s"):format(wanted.n, wanted.sum))
end

-- A load is done once, and its objects have the rows that it has, and those it refused.
local function check_ledger(self, run)
  local refused = self.rds:value(("SELECT count(*) FROM src WHERE %s"):format(self.mode.refuses or "false"))
  local row = self.adbpg:one([[SELECT count(*) FILTER (WHERE object = '') AS nodes,
    count(*) FILTER (WHERE object = '' AND done_epoch IS NOT NULL) AS done,
    coalesce(sum(row_count) FILTER (WHERE object = ''), -1) AS rows,
    coalesce(sum(row_count) FILTER (WHERE object <> ''), 0) AS of_objects
    FROM tidemill.load_ledger WHERE run_id = $1 AND node = 'in']], run.id)
  same(self, "loads in the ledger", ("%d, %d done"):format(row.nodes, row.done), "1, 1 done")
  same(self, "rows of objects in the ledger", ("%d"):format(row.of_objects), ("%d"):format(row.rows + refused))
end

-- What is under the prefix is what its manifests list, all of it.
local function check_store(self)
  sweep.place(self.lake, { path = "", older_ms = 0, now_ms = signal.wall() + 2000, tell = function() end,
    over = function() return true end })
  local keys, folders = {}, {}
  for entry in self.lake:list {} do
    local folder, id = entry.key:match "^(.*)_manifest/([^/]*)%.json$"
    if folder then table.insert(folders, { folder, id }) else keys[entry.key] = true end
  end
  for _, place in ipairs(folders) do
    local m = manifest.look(self.lake, place[1], place[2])
    for object in m and m:objects() or function() end do
      local key = place[1] .. object.key
      same(self, "object " .. key, keys[key] ~= nil and "is there" or "is not there", "is there")
      keys[key] = false -- more than one manifest may list it: those of attempts that resumed
    end
  end
  for key, unlisted in pairs(keys) do same(self, "objects left", unlisted and key or "none", "none") end
  local uploads = self.lake:list_multiparts ""
  same(self, "uploads left", #uploads, 0)
end

local function check_servers(self)
  local staged = self.adbpg:value [[SELECT coalesce(string_agg(c.oid::regclass::text, ' '), 'none') FROM pg_class c
    JOIN pg_namespace n ON n.oid = c.relnamespace WHERE nspname = 'tidemill' AND relkind = 'r'
    AND relname <> 'load_ledger']]
  same(self, "staging tables", staged, "none")
  for name, conn in pairs { rds = self.rds, adbpg = self.adbpg } do
    local deadline = signal.mono() + 15000
    local left
    repeat
      left = conn:value [[SELECT coalesce(string_agg(application_name, ', '), 'none') FROM pg_stat_activity
        WHERE datname = current_database() AND application_name LIKE 'tidemill %']]
    until left == "none" or signal.mono() > deadline or not proc.poll({}, 0.05)
    same(self, "sessions left on " .. name, left, "none")
  end
end

--- Raises what is not as it must be after the last run's success. Removes what a sweep does.
function Rig:check()
  local run = last_run(self)
  check_rows(self)
  check_ledger(self, run)
  check_store(self)
  check_servers(self)
end

function Rig:close()
  lab.empty(self.lake)
  self.lake:close()
  self.lab:close()
end
Rig.__close = Rig.close

--- Connects anew: the target's server was restarted.
function Rig:reconnect()
  self.adbpg = pg.connect(self.adbpg_url)
  table.insert(self.lab.opened, self.adbpg)
end

return rig
