-- needs: pg
-- takes: 36
--- state: the suite on PostgreSQL, and what is PostgreSQL's alone: lost connections, restarts.

local lu = require "luaunit"
local patience = require "tests.support.patience"
local pg = require "pg"
local pgtest = require "tests.support.pgtest"
local proc = require "proc"
local state = require "tidemill.state"
local suite = require "tests.support.state_suite"

local TMP = os.getenv "TM_TMP" or os.getenv "TM_BUILD" .. "/tmp"

suite.define("TestState", function()
  local uri = pgtest.database "tm_state"
  return function(options) return state.open(uri, options) end, function() pgtest.drop "tm_state" end, uri
end)

-- ---- a connection that is lost ----

TestLost = {}

function TestLost:setUp()
  self.uri = pgtest.database "tm_lost"
  self.store = state.open(self.uri, { patience_ms = 5000 })
  self.db = self.store.db
  self.db:exec "CREATE TABLE probe (i BIGINT)"
  self.admin = pg.connect(self.uri)
end

function TestLost:tearDown()
  self.admin:close()
  self.store:close()
  pgtest.drop "tm_lost"
end

function TestLost:count() return self.admin:value "SELECT count(*) FROM tidemill.probe" end

-- Ends the store's session, and waits until it is gone.
function TestLost:terminate(pid)
  pid = pid or self.db.conn:pid()
  self.admin:query("SELECT pg_terminate_backend($1)", pid)
  lu.assertTrue(pgtest.eventually(5, function()
    return self.admin:value("SELECT count(*) FROM pg_stat_activity WHERE pid = $1", pid) == 0
  end))
end

function TestLost:test_a_read_and_a_write_go_on_after_it()
  self:terminate()
  lu.assertEquals(self.db:row "SELECT count(*) AS n FROM probe", { n = 0 })
  self:terminate()
  lu.assertEquals(self.db:exec "INSERT INTO probe VALUES (1)", 1)
  lu.assertEquals(self:count(), 1)
end

function TestLost:test_a_transaction_under_way_runs_again()
  local times = 0
  local result = self.db:transaction(function()
    times = times + 1
    self.db:exec("INSERT INTO probe VALUES (?)", times)
    if times < 3 then self:terminate() end
    self.db:exec("INSERT INTO probe VALUES (?)", times)
    return times
  end)
  lu.assertEquals({ result, times, self:count() }, { 3, 3, 2 })
end

-- The face with a connection that calls `commit` in place of COMMIT, once.
function TestLost:with_commit(commit)
  local conn, broken = self.db.conn, false
  self.db.conn = setmetatable({}, { __index = function(_, name)
    return function(_, ...)
      if name == "exec" and ... == "COMMIT" then
        broken = true
        return commit(conn)
      end
      if name == "state" and broken then return "broken" end
      return conn[name](conn, ...)
    end
  end })
end

function TestLost:test_a_commit_without_an_answer_that_was_done_is_not_done_again()
  self:with_commit(function(conn)
    conn:exec "COMMIT"
    error({ kind = "io", message = "the connection was lost" }, 0)
  end)
  local times = 0
  lu.assertEquals(self.db:transaction(function()
    times = times + 1
    self.db:exec "INSERT INTO probe VALUES (1)"
    return "kept"
  end), "kept")
  lu.assertEquals({ times, self:count() }, { 1, 1 })
end

function TestLost:test_a_commit_without_an_answer_that_was_not_done_is_done_again()
  self:with_commit(function(conn)
    self:terminate(conn:pid())
    error({ kind = "io", message = "the connection was lost" }, 0)
  end)
  local times = 0
  self.db:transaction(function()
    times = times + 1
    self.db:exec "INSERT INTO probe VALUES (1)"
  end)
  lu.assertEquals({ times, self:count() }, { 2, 1 })
end

function TestLost:test_a_lost_race_runs_again()
  for _, code in ipairs { "40001", "40P01" } do
    local times = 0
    self.db:transaction(function()
      times = times + 1
      self.db:exec "INSERT INTO probe VALUES (1)"
      if times == 1 then
        self.db:script(("DO $$ BEGIN RAISE EXCEPTION 'race' USING ERRCODE = '%s'; END $$"):format(code))
      end
    end)
    lu.assertEquals(times, 2)
  end
  lu.assertEquals(self:count(), 2)
end

function TestLost:test_one_that_never_goes_through_ends_with_its_error()
  local times = 0
  local err = pgtest.fails("server", self.db.transaction, self.db, function()
    times = times + 1
    self.db:script "DO $$ BEGIN RAISE EXCEPTION 'race' USING ERRCODE = '40001'; END $$"
  end)
  lu.assertEquals({ times, err.code }, { 11, "40001" })
end

function TestLost:test_a_process_that_stops_inside_a_transaction_holds_up_nobody_for_long()
  self.db.conn:exec "SET idle_in_transaction_session_timeout = '200ms'"
  local times = 0
  self.db:transaction(function()
    times = times + 1
    self.db:mutex "everybody"
    if times == 1 then
      local other <close> = state.open(self.uri)
      other.db:transaction(function() other.db:mutex "everybody" end)
    end
    self.db:exec "INSERT INTO probe VALUES (1)"
  end)
  lu.assertEquals({ times, self:count() }, { 2, 1 })
end

function TestLost:test_a_server_that_does_not_come_back_is_an_error_without_secrets()
  local uri = self.uri:gsub(":tm%-secret@127.0.0.1:%d+", ":tm-secret@127.0.0.1:1")
  local err = pgtest.fails("connect", state.open, uri)
  lu.assertStrContains(err.message, "the state store: ")
  self.db.conninfo, self.db.patience_ms = uri, 500
  self:terminate()
  err = pgtest.fails("connect", self.db.exec, self.db, "INSERT INTO probe VALUES (1)")
  lu.assertNotStrContains(require "json".encode(err), "tm-secret")
  pgtest.fails("auth", state.open, (self.uri:gsub("tm%-secret", "tm-wrong")))
end

-- A process that runs a script, once that has said so.
function TestLost:ready(text)
  local script = TMP .. "/signal.lua"
  local f <close> = assert(io.open(script, "w"))
  f:write(text)
  f:close()
  local child = proc.spawn { cmd = { os.getenv "TM_BIN", "exec", script, self.uri }, stdout = "pipe" }
  lu.assertStrContains(child:read(1, 60), "ready")
  return child
end

function TestLost:test_a_signal_that_the_runner_will_look_at_breaks_nothing()
  local child <close> = self:ready [[
    local signal = require "tidemill.signal"
    local store <close> = require "tidemill.state".open(arg[1])
    signal.defer(true)
    print "ready"
    store.db:transaction(function()
      store.db:exec "INSERT INTO probe VALUES (1)"
      store.db:query "SELECT 1 AS one FROM pg_sleep(3)"
    end)
    print(signal.take())]]
  proc.poll({}, 0.3)
  child:kill "INT"
  lu.assertEquals(child:read(1, 60), "1\n")
  lu.assertEquals({ child:wait(60).code, self:count() }, { 0, 1 })
end

function TestLost:test_nor_does_it_break_off_the_wait_for_a_server()
  local child <close> = self:ready [[
    local signal = require "tidemill.signal"
    local store <close> = require "tidemill.state".open(arg[1])
    store.db.conn:close()
    store.db.conninfo, store.db.patience_ms = arg[1]:gsub("@127.0.0.1:%d+", "@127.0.0.1:1"), 2000
    signal.defer(true)
    print "ready"
    local began = signal.mono()
    local _, raised = pcall(store.db.exec, store.db, "INSERT INTO probe VALUES (1)")
    print(raised.kind, signal.mono() - began >= 2000, signal.take())]]
  proc.poll({}, 0.5)
  child:kill "TERM"
  lu.assertEquals(child:read(1, 60), "connect\ttrue\t1\n")
  lu.assertEquals(child:wait(60).code, 0)
end

-- ---- a server that restarts ----

TestRestart = {}

local function server(...) proc.run { cmd = { "tests/servers/pg", ... }, check = true, timeout = 120 } end

function TestRestart.test_runs_are_claimed_and_ended_once_over_crashes_of_the_server()
  local dir = TMP .. "/server"
  server("start", dir, "--durable", "--as", "TM_CRASH")
  local stopped <close> = setmetatable({}, { __close = function() server("stop", dir) end }) -- luacheck: ignore 211
  local f <close> = assert(io.open(dir .. "/env"))
  local uri = f:read "a":match "TM_CRASH=(%S+)"
  local store <close> = state.open(uri)
  local COUNT = 1500
  store.db:transaction(function()
    for i = 1, COUNT do
      store:create_run_in(suite.a_run { cause = "schedule", scheduled = i, flow = "f" .. i % 20,
        concurrency = i % 2 == 0 and "queue" or "parallel" })
    end
  end)
  local children, out = {}, {}
  for i = 1, 3 do
    children[i] = proc.spawn { cmd = { os.getenv "TM_BIN", "exec", "tests/support/state_claimer.lua", uri, "3" },
      stdout = "pipe" }
    out[i] = ""
  end
  local function read_all(seconds)
    for i, child in ipairs(children) do
      local bytes = child:read(1, seconds)
      out[i] = out[i] .. (bytes or "")
    end
  end
  local function ended()
    local n = 0
    for _, text in ipairs(out) do n = n + select(2, text:gsub("\n", "")) end
    return n
  end
  local crashes = 0
  for _ = 1, 1200 * patience do
    read_all(0.05)
    if ended() >= COUNT then break end
    if ended() > (crashes + 1) * COUNT / 5 and crashes < 3 then
      crashes = crashes + 1
      proc.run { cmd = { "sh", "-c", "kill -QUIT $(sed -n 's/^TM_CRASH_PID=//p' " .. dir .. "/env)" }, check = true }
      proc.poll({}, 0.5)
      server("start", dir)
    end
  end
  local had = {}
  for i, child in ipairs(children) do
    for bytes in function() return child:read(1, 60) end do out[i] = out[i] .. bytes end
    lu.assertEquals(child:wait(60).code, 0)
    for id in out[i]:gmatch "%S+" do
      lu.assertNil(had[id], id)
      had[id] = true
    end
  end
  lu.assertEquals({ crashes, ended() }, { 3, COUNT })
  lu.assertEquals(store.db:query "SELECT state, count(*) AS n FROM runs GROUP BY state", { { state = "success", n = COUNT } })
  lu.assertEquals(store.db:row "SELECT count(*) AS n FROM attempts", { n = COUNT })
end

os.exit(lu.LuaUnit.run())
