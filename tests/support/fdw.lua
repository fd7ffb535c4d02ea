--- What the tests of oss_fdw share: stores with keys of their own, a network that fails, a database
--- with servers and tables of both dialects, and sessions that can be watched and killed.
---
---     local fdw = require "tests.support.fdw"
---     local o <close> = fdw.ossd { name = "errors" }             -- a store of this test alone
---     local f <close> = fdw.open("errors", { store = o })        -- a fresh database
---     local t = f:foreign("adbpg", "a int, b text", { dir = "x/", format = "csv" })
---     f.objects:put("x/1.csv", "1,one\n")
---     f.conn:query("SELECT * FROM " .. t)
---
--- No two stores share a secret, so any secret seen anywhere tells which test gave it away.

local json = require "json"
local lu = require "luaunit"
local oss = require "oss"
local patience = require "tests.support.patience"
local pg = require "pg"
local pgtest = require "tests.support.pgtest"
local proc = require "proc"
local signal = require "tidemill.signal"

local fdw = {}

fdw.SLOW = (os.getenv "TM_SANITIZER" or "") ~= "" and 4 or 1
fdw.FULL = os.getenv "TM_SCALE" == "full"
fdw.TMP = os.getenv "TM_TMP" or (os.getenv "TM_BUILD" or "build") .. "/tmp"

local BUCKET = "tm-fdw"

--- Milliseconds of a clock that only goes on.
function fdw.now() return signal.mono() end

function fdw.sleep(seconds) proc.poll({}, seconds) end

--- Fails if it is now later than so many seconds after `started` (fdw.now()), as measured on a quiet
--- machine. What hangs does so for half a minute at least, so ten seconds are given to a busy one.
function fdw.soon(started, seconds)
  local took = (fdw.now() - started) / 1000
  lu.assertTrue(took < seconds * fdw.SLOW + 10, ("took %.1f s"):format(took))
end

--- Waits until check() is true.
function fdw.eventually(seconds, check, what)
  local ends = fdw.now() + seconds * patience * 1000
  while not check() do
    if fdw.now() > ends then lu.fail("never: " .. what) end
    fdw.sleep(0.05)
  end
end

local function read_line(child, seconds)
  local line, ends = "", fdw.now() + seconds * patience * 1000
  while not line:find "\n" do
    local more = fdw.now() < ends and child:read(1, 1)
    if not more then error("no line, only: " .. line, 2) end
    line = line .. more
  end
  return line
end

local function file(path, mode, bytes)
  local f <close> = assert(io.open(path, mode))
  if bytes then f:write(bytes) else return f:read "a" end
end

-- ---- stores ----

---@class fdw.Store
---@field url string  of the endpoint
---@field protocol "oss"|"s3"
local Store = {}
Store.__index = Store

local secrets = {}

--- A secret that no store knows, watched for like those that a store does.
function fdw.secret()
  local random <close> = assert(io.open("/dev/urandom", "rb"))
  local secret = "SeCrEt" .. random:read(16):gsub(".", function(c) return ("%02x"):format(c:byte()) end)
  secrets[#secrets + 1] = secret
  return secret
end

-- A file system of its own, which goes with the process; where that is not allowed, files that
-- cannot grow beyond a small part of it.
local function on_small_disk(cmd, store)
  local may = proc.run { cmd = { "unshare", "-rm", "true" } }.code == 0
  local script = may and 'mount -t tmpfs -o size="$0" tmpfs "$1"; shift; exec "$@"'
    or [[trap "" XFSZ; ulimit -S -f $(($0 / 65536)); shift; exec "$@"]]
  local whole = { "sh", "-c", script, tostring(store.disk), store.root, table.unpack(cmd) }
  return may and { "unshare", "-rm", table.unpack(whole) } or whole
end

local function start_ossd(store)
  local cmd = { assert(os.getenv "TM_BIN"), "ossd", "--root", store.root, "--listen",
    "127.0.0.1:" .. (store.url and store.url:match ":(%d+)$" or 0), "--region", "cn-test", "--bucket", BUCKET, "--no-fsync" }
  for _, fault in ipairs(store.faults) do table.move({ "--fault", fault }, 1, 2, #cmd + 1, cmd) end
  if store.disk then cmd = on_small_disk(cmd, store) end
  store.child = proc.spawn { cmd = cmd, stdout = "pipe", env = { OSSD_KEYS = store.id .. ":" .. store.secret } }
  store.url = read_line(store.child, 20):match "http://%S+"
end

--- Starts an ossd with a key of its own.
---@param made { name: string, faults: string[]?, disk: integer? }  faults as `tidemill ossd --fault`; bytes
---of its file system, of which an object "ballast" leaves a tenth
---@return fdw.Store
function fdw.ossd(made)
  local store = setmetatable({ root = ("%s/ossd-%s"):format(fdw.TMP, made.name), faults = made.faults or {},
    disk = made.disk, id = "tm-id-" .. made.name, secret = fdw.secret(), protocol = "oss", region = "cn-test", bucket = BUCKET }, Store)
  proc.run { cmd = { "rm", "-rf", store.root }, check = true }
  proc.run { cmd = { "mkdir", "-p", store.root }, check = true }
  start_ossd(store)
  if store.disk then store:make_full() end
  return store
end

--- The radosgw of this run.
---@return fdw.Store
function fdw.radosgw(bucket)
  local store = setmetatable({ url = assert(os.getenv "TM_S3", "TM_S3 is not set"), id = os.getenv "TM_S3_ID",
    secret = os.getenv "TM_S3_SECRET", protocol = "s3", bucket = bucket }, Store)
  store:objects():create_bucket()
  return store
end

function Store:make_full() self:objects():put("ballast", ("x"):rep(self.disk // 10 * 9)) end

--- Of a store with a small disk: there is room again.
function Store:make_room()
  self:objects():delete "ballast"
  proc.run { cmd = { "prlimit", "--fsize=unlimited", "--pid", tostring(self.child:pid()) } }
end

--- Kills it, or with "TERM" stops it; on the same data and port it comes back with start, perhaps
--- with other faults.
function Store:kill(name)
  self.child:kill(name or "KILL")
  self.child:wait(20)
end

function Store:start(faults)
  self.faults = faults or self.faults
  start_ossd(self)
end

function Store:restart(faults)
  self:kill()
  self:start(faults)
end

--- An open oss.Store on its bucket.
function Store:objects(over)
  local o = { url = self.protocol .. "://" .. self.bucket, endpoint = self.url, region = self.region,
    access_key_id = self.id, access_key_secret = self.secret, addressing = "path" }
  for k, v in pairs(over or {}) do o[k] = v end
  return oss.open(o)
end

--- The same store behind another endpoint.
function Store:behind(url)
  return setmetatable({ url = url, bucket = self.bucket, protocol = self.protocol, id = self.id, secret = self.secret,
    region = self.region }, Store)
end

function Store:close()
  if self.child then self.child:close() end
end
Store.__close = Store.close

-- ---- a network that fails ----

---@class fdw.Relay
local Relay = {}
Relay.__index = Relay

--- Starts tests/support/relay.mjs before a store, or before a PostgreSQL server.
---@param store fdw.Store|{ uri: string }
---@return fdw.Relay  whose url, or uri, is to be used instead
function fdw.relay(store)
  local relay = setmetatable({ store = store, said = "" }, Relay)
  local host, port = (store.url or store.uri):match "[/@]([%d.]+):(%d+)"
  relay.child = proc.spawn { cmd = { "node", "tests/support/relay.mjs", host, port, not store.url and "raw" or nil },
    stdin = "pipe", stdout = "pipe" }
  local own = read_line(relay.child, 20):match "(%d+)\n"
  relay.url = "http://127.0.0.1:" .. own
  relay.uri = store.uri and store.uri:gsub("([/@][%d.]+):%d+", "%1:" .. own)
  return relay
end

-- The next line it says.
function Relay:line(seconds)
  local ends = fdw.now() + (seconds or 10) * patience * 1000
  while not self.said:find "\n" do
    local more = fdw.now() < ends and self.child:read(1, 1)
    if not more then error("the relay says nothing", 2) end
    self.said = self.said .. more
  end
  local line, rest = self.said:match "^([^\n]*)\n(.*)$"
  self.said = rest
  return line
end

--- Gives it a command; its answer. "held" lines that come between are kept for Relay:held.
function Relay:tell(command, ...)
  self.child:write(command:format(...) .. "\n", 10)
  local line = self:line()
  while line == "held" do
    self.holds = (self.holds or 0) + 1
    line = self:line()
  end
  return line
end

--- Waits until the request that was to be held has come.
function Relay:held(seconds)
  if (self.holds or 0) > 0 then
    self.holds = self.holds - 1
  else
    lu.assertEquals(self:line(seconds), "held")
  end
end

--- The requests since the last call: "GET /bucket/key".
function Relay:requests() return json.decode(self:tell "requests") end

--- Lets it answer the next `count` requests (0: all) by itself.
function Relay:answer(count, status, method, pattern, body)
  local path = ("%s/answer-%d"):format(fdw.TMP, math.random(1 << 40))
  file(path, "wb", body)
  self:tell("answer %d %d %s %s %s", count, status, method, pattern, path)
end

function Relay:close() self.child:close() end
Relay.__close = Relay.close

-- ---- processes ----

--- A number from /proc/PID/status: RssAnon, VmHWM (kB), Threads; nil when the process is gone.
function fdw.status(pid, field)
  local f <close> = io.open(("/proc/%d/status"):format(pid))
  local text = f and f:read "a" -- nil, too, when the process ends just now
  return text and tonumber(text:match("\n" .. field .. ":%s*(%d+)"))
end

--- How many entries /proc/PID/`what` has: fd, task.
function fdw.entries(pid, what)
  local r = proc.run { cmd = { "ls", ("/proc/%d/%s"):format(pid, what) }, check = true }
  return select(2, r.stdout:gsub("\n", ""))
end

--- Runs round(i) until a backend has not had more descriptors for `still` rounds on end, and then waits for
--- its threads to end; fails after `most` rounds. Connections that were used at one time are kept, so how many
--- there are is settled at last, while a leak goes on.
function fdw.settles(pid, still, most, round)
  local highest, last = 0, 0
  for i = 1, most do
    round(i)
    local now = fdw.entries(pid, "fd")
    if now > highest then highest, last = now, i end
    if i - last >= still then
      fdw.eventually(10, function() return fdw.entries(pid, "task") == 1 end, "the threads end")
      return
    end
  end
  lu.fail(("%d descriptors, and more still after %d rounds"):format(highest, last))
end

function fdw.kill(pid, name) proc.run { cmd = { "kill", "-" .. name, tostring(pid) } } end

---@class fdw.Session
---@field pid integer  of the backend
local Session = {}
Session.__index = Session

--- Runs statements in a session of its own beside the test; each is one simple query.
---@param uri string
---@param steps string[]
---@return fdw.Session
function fdw.session(uri, steps)
  local s = setmetatable({ said = "", step = 0, steps = steps }, Session)
  s.child = proc.spawn { cmd = { os.getenv "TM_BIN", "exec", "tests/support/fdw_session.lua" }, stdout = "pipe",
    env = { FDW_URI = uri, FDW_STEPS = json.encode(steps) } }
  s:listen(20, function() return s.pid end)
  return s
end

-- Takes in what the child says until `done()`; false when time is over.
function Session:listen(seconds, done)
  local ends = fdw.now() + seconds * patience * 1000
  while not done() do
    local more = fdw.now() < ends and self.child:read(1, 0.2)
    if not more then
      if fdw.now() < ends then error("the session ended early: " .. self.said, 2) end
      return false
    end
    self.said = self.said .. more
    for line, rest in self.said:gmatch "([^\n]*)\n()" do
      local word, n = line:match "^(%a+) (%d+)$"
      if word then self[word] = tonumber(n) else self.done = json.decode(line) end
      self.rest = rest
    end
    self.said, self.rest = self.said:sub(self.rest or 1), nil
  end
  return true
end

--- Waits until statement `i` has been sent.
function Session:reach(i) assert(self:listen(60, function() return self.step >= i or self.done end), "no such step") end

--- Waits until the server is at statement `i`: only then a cancel is for it.
---@param conn pg.Conn
function Session:runs(i, conn)
  self:reach(i)
  fdw.eventually(20, function()
    return conn:value("SELECT state = 'active' AND query = $2 FROM pg_stat_activity WHERE pid = $1", self.pid,
      self.steps[i]) or self:listen(0.01, function() return self.done end)
  end, "statement " .. i .. " begins")
end

--- How the last statement went: { ok, rows } or { ok = false, kind, code, message, detail, hint }; nil
--- when it still runs.
function Session:result(seconds)
  self:listen(seconds or 60, function() return self.done end)
  return self.done
end

function Session:close() self.child:close() end
Session.__close = Session.close

-- ---- a server of its own ----

---@class fdw.Server
---@field uri string
---@field pid integer
local Server = {}
Server.__index = Server

--- Starts a PostgreSQL server for this test alone, which may then crash it.
---@return fdw.Server
function fdw.server(name, ...)
  local server = setmetatable({ dir = fdw.TMP .. "/" .. name }, Server)
  proc.run { cmd = { "tests/servers/fdw", "start", server.dir, "--as", "TM_OWN", ... }, check = true, timeout = 180 }
  local env = file(server.dir .. "/env", "r")
  server.uri, server.pid = env:match "TM_OWN=(%S+)", tonumber(env:match "TM_OWN_PID=(%d+)")
  return server
end

--- Kills one of its backends as a crash would, and waits until the server takes connections again.
function Server:crash(pid)
  local witness <close> = pg.connect(self.uri) -- one made before the server knows is lost
  fdw.kill(pid, "KILL")
  local tries, ends = 0, fdw.now() + 20000 * patience
  while tries < 25 and fdw.now() < ends and pcall(witness.exec, witness, "SELECT 1") do
    if not fdw.status(pid, "Pid") then tries = tries + 1 end -- reaped: it may have ended by itself before
    fdw.sleep(0.02)
  end
  self:ready()
end

--- Waits until it takes connections.
function Server:ready()
  fdw.eventually(30, function()
    local ok, conn = pcall(pg.connect, self.uri)
    if ok then conn:close() end
    return ok
  end, "the server comes back")
end

function Server:close()
  proc.run { cmd = { "tests/servers/fdw", "stop", self.dir }, timeout = 120 }
end
Server.__close = Server.close

--- The server's log as a string, from byte `from` on (0).
---@param pid integer  of the postmaster
function fdw.log(pid, from)
  local f <close> = assert(io.open(("/proc/%d/fd/2"):format(pid), "rb"))
  f:seek("set", from or 0)
  return f:read "a"
end

--- Fails if a secret of any store made here is in the text.
function fdw.no_secret(text, where)
  for _, secret in ipairs(secrets) do
    lu.assertNil(text:find(secret, 1, true), "a secret in " .. where .. ": " .. text:sub(1, 2000))
  end
end

--- Fails if the server ever crashed but by a SIGKILL, or if its log has a secret; returns the log.
function fdw.sound(pid, uri)
  local log = fdw.log(pid)
  for number in log:gmatch "was terminated by signal (%d+)" do lu.assertEquals(number, "9") end
  lu.assertNotStrContains(log, "PANIC:")
  lu.assertNotStrContains(log, "TRAP:")
  fdw.no_secret(log, "the server's log")
  lu.assertEquals(tonumber(pg.connect(uri):value "SELECT 1"), 1)
  return log
end

-- ---- a database with foreign tables ----

---@class fdw.Lab
---@field conn pg.Conn
---@field uri string
---@field objects oss.Store
---@field notices pg.Notice[]  since the last f:quiet()
local Lab = {}
Lab.__index = Lab

function fdw.quote(value) return "'" .. tostring(value):gsub("'", "''") .. "'" end

local function options(list)
  local names, words = {}, {}
  for name in pairs(list) do names[#names + 1] = name end
  table.sort(names)
  for i, name in ipairs(names) do words[i] = name .. " " .. fdw.quote(list[name]) end
  return "OPTIONS (" .. table.concat(words, ", ") .. ")"
end

--- A fresh database with the extension.
---@param name string
---@param made { store: fdw.Store, uri: string? }  uri of the server (default TM_FDW)
---@return fdw.Lab
function fdw.open(name, made)
  local lab = setmetatable({ name = "fdw_" .. name, store = made.store, notices = {}, made = 0 }, Lab)
  lab.server_uri = made.uri or assert(os.getenv "TM_FDW", "TM_FDW is not set")
  lab.uri = pgtest.database(lab.name, lab.server_uri)
  lab:connect()
  lab.conn:exec "CREATE EXTENSION oss_fdw"
  lab.objects = made.store:objects()
  return lab
end

--- Connects, again if need be.
function Lab:connect()
  if self.conn then self.conn:close() end
  self.conn = pg.connect(self.uri)
  self.conn:notices(function(notice) table.insert(self.notices, notice) end)
  return self.conn
end

--- Forgets the notices so far.
function Lab:quiet() self.notices = {} end

--- The first notice that has this in its message.
function Lab:noticed(text)
  for _, notice in ipairs(self.notices) do
    if notice.message:find(text, 1, true) then return notice end
  end
end

--- The name of a server of this dialect, "rds" or "adbpg", on a store, made if there is none yet.
---@param more? table<string, string>  further options, as the dialect spells them
---@param store? fdw.Store
function Lab:server(dialect, more, store)
  store = store or self.store
  self.servers = self.servers or {}
  local list = { bucket = store.bucket, protocol = store.protocol, region = store.region }
  list[dialect == "rds" and "host" or "endpoint"] = store.url
  for k, v in pairs(more or {}) do list[k] = v end
  local key = { id = list.id or store.id, key = list.key or store.secret }
  list.id, list.key = nil, nil
  if dialect == "rds" then list.id, list.key = key.id, key.key end
  local mark = options(list) .. options(key)
  if self.servers[mark] then return self.servers[mark] end
  self.made = self.made + 1
  local name = ("%s_%d"):format(dialect, self.made)
  self.conn:exec(("CREATE SERVER %s FOREIGN DATA WRAPPER oss_fdw %s"):format(name, options(list)))
  if dialect ~= "rds" then
    self.conn:exec(("CREATE USER MAPPING FOR PUBLIC SERVER %s %s"):format(name, options(key)))
  end
  self.servers[mark] = name
  return name
end

--- Makes a foreign table and returns its name.
---@param server string  a dialect, or a name that Lab:server gave
---@param columns string  as in CREATE TABLE
---@param list table<string, string>  options
function Lab:foreign(server, columns, list, name)
  if server == "rds" or server == "adbpg" then server = self:server(server) end
  self.made = self.made + 1
  name = name or "ft_" .. self.made
  self.conn:exec(("CREATE FOREIGN TABLE %s (%s) SERVER %s %s"):format(name, columns, server, options(list)))
  return name
end

--- Runs a statement that must fail with this SQLSTATE; the error. No secret may be in it.
function Lab:fails(code, sql, ...)
  local ok, err = pcall(self.conn.query, self.conn, sql, ...)
  lu.assertFalse(ok, "nothing was raised by " .. sql)
  local text = table.concat({ tostring(err.message), tostring(err.detail), tostring(err.hint) }, "\n")
  fdw.no_secret(text, "an error")
  lu.assertEquals(err.code, code, text)
  return err
end

--- Count and hash of a table or query in parentheses, whatever the order of its rows.
function Lab:hash(which)
  local row = self.conn:one(("SELECT count(*) || ' ' || coalesce(sum(hashtextextended(t::text, 0)::numeric), 0) AS h " ..
    "FROM %s t"):format(which))
  return row.h
end

--- The keys under a prefix.
function Lab:keys(prefix)
  local keys = {}
  for entry in self.objects:list(prefix or "") do keys[#keys + 1] = entry.key end
  return keys
end

--- The multipart uploads under a prefix.
function Lab:uploads(prefix) return self.objects:list_multiparts(prefix) end

--- Deletes all objects and uploads of the bucket.
function Lab:empty()
  for _, upload in ipairs(self:uploads()) do self.objects:abort_multipart(upload.key, upload.upload_id) end
  lu.assertEquals(self.objects:delete_many(self:keys()), {})
end

--- A session beside the test's own.
function Lab:session(steps) return fdw.session(self.uri, steps) end

function Lab:close()
  self.conn:close()
  pgtest.drop(self.name, self.server_uri)
end
Lab.__close = Lab.close

return fdw
