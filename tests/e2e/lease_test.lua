-- needs: pg
-- takes: 30
--- A runner's lease: kept whatever Lua does, lost when it was taken over or not renewed.

local lu = require "luaunit"
local patience = require "tests.support.patience"
local lease = require "tidemill.lease"
local pg = require "pg"
local pgtest = require "tests.support.pgtest"
local proc = require "proc"
local signal = require "tidemill.signal"
local sqlite = require "tidemill.sqlite"

local TMP = os.getenv "TM_TMP" or "/tmp"
local NAME = "lease_test"
local eventually, fails = pgtest.eventually, pgtest.fails

-- Both kinds of store with one runner "me" in them: where, and a function that gets or sets.
local function on_sqlite()
  local path = TMP .. "/lease.db"
  os.remove(path)
  local db = sqlite.open(path)
  db:script [[CREATE TABLE runners (id TEXT PRIMARY KEY, state TEXT NOT NULL, lease_until BIGINT NOT NULL);
    INSERT INTO runners VALUES ('me', 'alive', 0), ('other', 'alive', 0)]]
  return { kind = "sqlite", where = path, db = db, exec = function(sql) db:exec(sql) end,
    left = function() return db:row("SELECT lease_until FROM runners WHERE id = 'me'").lease_until - signal.wall() end,
    other = function() return db:row("SELECT lease_until FROM runners WHERE id = 'other'").lease_until end }
end

local PG_TABLE = [[CREATE SCHEMA tidemill;
  CREATE TABLE tidemill.runners (id TEXT PRIMARY KEY, state TEXT NOT NULL, lease_until BIGINT NOT NULL);
  INSERT INTO tidemill.runners VALUES ('me', 'alive', 0), ('other', 'alive', 0)]]

local function on_postgres(uri)
  uri = uri or pgtest.database(NAME)
  local db = pg.connect(uri)
  db:exec(PG_TABLE)
  return { kind = "postgres", where = uri, db = db,
    exec = function(sql) db:exec((sql:gsub(" runners", " tidemill.runners"))) end,
    left = function()
      return db:value [[SELECT lease_until - (extract(epoch FROM clock_timestamp()) * 1000)::bigint
        FROM tidemill.runners WHERE id = 'me']]
    end,
    other = function() return db:value "SELECT lease_until FROM tidemill.runners WHERE id = 'other'" end }
end

local function start(on, lease_ms, every_ms, more)
  local options = { kind = on.kind, where = on.where, runner = "me", lease_ms = lease_ms, every_ms = every_ms }
  for key, value in pairs(more or {}) do options[key] = value end
  return lease.start(options)
end

local function busy(ms)
  local until_ms = signal.mono() + ms
  local n = 0
  while signal.mono() < until_ms do n = n + 1 end
  return n
end

local function each(body)
  for _, make in ipairs { on_sqlite, on_postgres } do
    local on <const> = make()
    local ok, err = xpcall(body, function(raised)
      print("with " .. on.kind)
      return raised
    end, on)
    on.db:close()
    if on.kind == "postgres" then pgtest.drop(NAME) end
    if not ok then error(err, 0) end
  end
end

TestLease = {}

function TestLease.test_it_is_kept_while_lua_is_busy()
  each(function(on)
    local l <close> = start(on, 3500, 200)
    busy(4000)
    lu.assertTrue(l:held(), on.kind)
    lu.assertTrue(l:age() < 3500, on.kind)
    local left = on.left()
    lu.assertTrue(left > 0 and left <= 3500, ("%s: %s ms left"):format(on.kind, left))
    lu.assertEquals(on.other(), 0, "the row of another runner was written")
  end)
end

function TestLease.test_one_that_was_taken_over_is_lost_for_ever()
  each(function(on)
    local l <close> = start(on, 2000, 200)
    lu.assertTrue(eventually(5, function() return on.left() > 0 end))
    on.exec "UPDATE runners SET state = 'gone' WHERE id = 'me'"
    lu.assertTrue(eventually(5, function() return not l:held() end), on.kind)
    local held, err = l:held()
    lu.assertFalse(held)
    lu.assertEquals(err.kind, "conflict")
    on.exec "UPDATE runners SET state = 'alive' WHERE id = 'me'"
    busy(700)
    lu.assertFalse((l:held()), on.kind)
  end)
end

function TestLease.test_one_that_is_not_renewed_in_time_is_not_held()
  each(function(on)
    local l <close> = start(on, 1000, 200)
    lu.assertTrue(eventually(5, function() return on.left() > 0 end))
    -- the row is locked for longer than the lease
    local before = signal.mono()
    on.exec "BEGIN"
    on.exec "UPDATE runners SET lease_until = lease_until WHERE id = 'me'"
    lu.assertTrue(eventually(10, function() return not l:held() end), on.kind)
    local took = signal.mono() - before
    lu.assertTrue(took < 2500 * patience, ("%s: noticed after %d ms"):format(on.kind, took))
    local _, err = l:held()
    lu.assertEquals(err.kind, "timeout")
    lu.assertTrue(l:age() >= 1000)
    on.exec "COMMIT"
    lu.assertTrue(eventually(5, function() return (l:held()) end), on.kind .. ": nobody took over, it counts again")
  end)
end

function TestLease.test_age_counts_from_when_the_row_was_written()
  local function started(lease_ms)
    return lease.start { kind = "sqlite", where = TMP .. "/no/such/folder.db", runner = "me", lease_ms = lease_ms,
      every_ms = 300, age_ms = 700 }
  end
  local long <close> = started(60000)
  lu.assertTrue(long:held())
  lu.assertTrue(long:age() >= 700)
  local l <close> = started(1000)
  lu.assertTrue(eventually(5, function() return not l:held() and select(2, l:held()).detail ~= nil end))
  local held, err = l:held()
  lu.assertFalse(held)
  lu.assertEquals(err.kind, "timeout")
  lu.assertStrContains(err.detail, "folder.db")
end

function TestLease.test_no_secret_is_in_a_message()
  local l <close> = lease.start { kind = "postgres", where = "postgresql://tm:hunter2hunter2@127.0.0.1:1/x", runner = "me",
    lease_ms = 400, every_ms = 100 }
  lu.assertTrue(eventually(5, function() return not l:held() and select(2, l:held()).detail ~= nil end))
  local _, err = l:held()
  lu.assertEquals(err.kind, "timeout")
  lu.assertStrContains(err.detail, "127.0.0.1")
  for _, text in pairs(err) do lu.assertNotStrContains(tostring(text), "hunter2") end
end

function TestLease.test_closing_is_quick_and_leaves_the_row()
  each(function(on)
    local l = start(on, 150000, 50000)
    lu.assertTrue(eventually(5, function() return on.left() > 0 end))
    local before = signal.mono()
    l:close()
    l:close()
    lu.assertTrue(signal.mono() - before < 1000 * patience) -- not the 50 s to the next time
    lu.assertTrue(on.left() > 100000)
    fails("script", function()
      local ok, err = pcall(l.held, l)
      if not ok then error { kind = "script", message = err } end
    end)
  end)
end

function TestLease.test_closing_waits_for_nobody_who_hangs()
  local silent = assert(proc.spawn { cmd = { "node", "-e", [[
    const s = require("net").createServer(() => {}); s.listen(0, "127.0.0.1", () => console.log(s.address().port))]] },
    stdout = "pipe" })
  local port = silent:read(1, 60):match "%d+"
  local l = lease.start { kind = "postgres", where = "postgresql://tm@127.0.0.1:" .. port .. "/x", runner = "me",
    lease_ms = 1000000, every_ms = 10000 }
  busy(300)
  local before = signal.mono()
  l:close()
  lu.assertTrue(signal.mono() - before < 2500 * patience) -- not the 200 s for which it waits for a connection
  silent:close()
end

function TestLease.test_times_that_make_no_sense_are_refused()
  local function refused(lease_ms, every_ms)
    fails("usage", lease.start, { kind = "sqlite", where = "x", runner = "me", lease_ms = lease_ms, every_ms = every_ms })
  end
  refused(1000, 1000)
  refused(1000, 0)
  refused(math.maxinteger, 1000)
  lu.assertErrorMsgContains("mysql", lease.start, { where = "x", runner = "me", kind = "mysql" })
  lu.assertErrorMsgContains("where", lease.start, { kind = "sqlite", runner = "me" })
end

-- ---- processes ----

TestProcess = {}

-- A process that holds a lease and prints what becomes of it; `body` runs with l and on.
local function holder(on, lease_ms, every_ms, body)
  local path = TMP .. "/holder.lua"
  local f <close> = assert(io.open(path, "w"))
  f:write(([[
    local lease, signal = require "tidemill.lease", require "tidemill.signal"
    local function busy(ms) local t = signal.mono() + ms while signal.mono() < t do end end
    local l <close> = lease.start { kind = %q, where = os.getenv "WHERE", runner = "me", lease_ms = %d, every_ms = %d }
    io.stdout:setvbuf "line"
  ]]):format(on.kind, lease_ms, every_ms), body)
  f:close()
  return proc.spawn { cmd = { os.getenv "TM_BIN", "exec", path }, env = { WHERE = on.where }, stdout = "pipe",
    group = false }
end

local function words(child, seconds)
  local text, deadline = "", signal.mono() + seconds * 1000
  while signal.mono() < deadline do
    local bytes = child:read(1, 0.2)
    if bytes == nil then break end
    text = text .. bytes
  end
  return text
end

function TestProcess.test_a_signal_does_not_stop_it()
  each(function(on)
    local child <close> = holder(on, 2500, 200, [[
      signal.defer(true)
      print "ready"
      busy(3500) -- SIGTERM comes meanwhile, and nobody takes it
      print(l:held(), l:age() < 2500)]])
    lu.assertStrContains(child:read(1, 60), "ready")
    child:kill "TERM"
    lu.assertStrContains(words(child, 10), "true\ttrue")
  end)
end

function TestProcess.test_a_stopped_process_that_was_taken_over_knows_it_when_it_goes_on()
  each(function(on)
    -- The first look at the lease after SIGCONT must already say that it is not held.
    local child <close> = holder(on, 2500, 200, [[
      busy(500)
      local last, seen = signal.mono(), nil
      print("ready", l:held())
      while not seen do
        local now = signal.mono()
        if now - last > 2200 then seen = tostring((l:held())) end
        last = now
      end
      print("woke", seen)
      busy(1000)
      print("later", l:held())]])
    lu.assertStrContains(child:read(1, 60), "ready\ttrue")
    child:kill "STOP"
    busy(3000)
    on.exec "UPDATE runners SET state = 'gone' WHERE id = 'me'"
    child:kill "CONT"
    local said = words(child, 10)
    lu.assertStrContains(said, "woke\tfalse")
    lu.assertStrContains(said, "later\tfalse")
  end)
end

-- ---- a server that restarts ----

TestRestart = {}

local function server(...)
  proc.run { cmd = { "tests/servers/pg", ... }, check = true, timeout = 120 }
end

function TestRestart.test_it_is_kept_over_a_restart_of_the_server()
  local dir = TMP .. "/server"
  server("start", dir, "--as", "TM_LEASE")
  local stopped <close> = setmetatable({}, { __close = function() server("stop", dir) end }) -- luacheck: ignore 211
  local f <close> = assert(io.open(dir .. "/env"))
  local uri = f:read "a":match "TM_LEASE=(%S+)"
  local on = on_postgres(uri)
  local l <close> = start(on, 60000, 300)
  lu.assertTrue(eventually(5, function() return on.left() > 0 end))
  on.db:close()
  proc.run { cmd = { "sh", "-c", "kill -QUIT $(sed -n 's/^TM_LEASE_PID=//p' " .. dir .. "/env)" }, check = true }
  local before = l:age()
  lu.assertTrue(eventually(10, function() return l:age() > before + 800 end), "it is not renewed meanwhile")
  lu.assertTrue((l:held()))
  server("start", dir)
  lu.assertTrue(eventually(20, function() return l:age() < 300 end), "it is renewed again")
  lu.assertTrue((l:held()))
end

os.exit(lu.LuaUnit.run())
