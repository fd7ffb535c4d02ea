--- Ctrl-C, hanging servers and lost connections: what was running is stopped at both ends. The server
--- is this test's own, for it is stopped as a whole for a moment.

local lu = require "luaunit"
local patience = require "tests.support.patience"
local pg = require "pg"
local proc = require "proc"
local pgtest = require "tests.support.pgtest"

local fails, eventually = pgtest.fails, pgtest.eventually
local TMP = os.getenv "TM_TMP" or "/tmp"
local NAME = "pg_cancel_test"
local server = pgtest.server(NAME)
local URI = pgtest.database(NAME, server.uri)
local admin = pg.connect(URI)

local function active(mark)
  return admin:value("SELECT count(*) FROM pg_stat_activity WHERE datname = $1 AND pid <> pg_backend_pid() " ..
    "AND (state <> 'idle' OR $2 = '') AND query LIKE '%' || $2 || '%'", NAME, mark)
end

-- Runs a script in a tidemill of its own; it may use pg, stream and c, a connection.
local function spawn(body)
  local path = TMP .. "/script.lua"
  local f = assert(io.open(path, "w"))
  f:write("local pg, stream = require 'pg', require 'stream'\nlocal c = pg.connect(os.getenv 'URI')\n", body)
  f:close()
  return proc.spawn { cmd = { os.getenv "TM_BIN", "exec", path }, env = { URI = URI }, stderr = "pipe" }
end

-- Starts the script, waits until `mark` runs at the server, interrupts, and looks. What is interrupted would
-- not end by itself for long.
local function interrupt(mark, body)
  local child <close> = spawn(body)
  lu.assertTrue(eventually(10, function() return active(mark) > 0 end), "the statement did not start")
  child:kill "INT"
  lu.assertEquals(child:wait(60).code, 130)
  lu.assertTrue(eventually(2, function() return active(mark) == 0 end), "the statement still runs")
end

TestInterrupt = {}

function TestInterrupt.test_a_statement()
  interrupt("mark_exec", "c:exec 'SELECT pg_sleep(600) /* mark_exec */'")
end

function TestInterrupt.test_a_statement_with_parameters()
  interrupt("mark_query", "c:query('SELECT pg_sleep($1) /* mark_query */', 600)")
end

-- The request often overtakes the statement, and a server that has not begun it does nothing.
function TestInterrupt.test_a_statement_that_is_cancelled_as_it_is_sent()
  local conn <close> = pg.connect(URI)
  for _ = 1, 150 do
    conn:cancel()
    fails("canceled", conn.query, conn, "SELECT pg_sleep(600) /* mark_sent */")
    lu.assertEquals(conn:state(), "idle")
  end
  lu.assertEquals(active "mark_sent", 0)
end

function TestInterrupt.test_an_iteration()
  interrupt("mark_rows", "for _ in c:rows 'SELECT generate_series(1, 1000000000) /* mark_rows */' do end")
end

function TestInterrupt.test_a_transaction()
  interrupt("mark_tx", [[
    c:exec "CREATE TABLE IF NOT EXISTS leftover (a int)"
    local tx <close> = c:transaction()
    c:exec "INSERT INTO leftover VALUES (1); SELECT pg_sleep(600) /* mark_tx */"]])
  lu.assertEquals(admin:value "SELECT count(*) FROM leftover", 0)
end

function TestInterrupt.test_a_copy_out_that_flows()
  interrupt("mark_out", [[
    stream.pump(c:copy_out "COPY (SELECT generate_series(1, 1000000000) /* mark_out */) TO STDOUT", stream.discard())]])
end

function TestInterrupt.test_a_copy_out_that_is_silent()
  interrupt("mark_silent", [[
    stream.pump(c:copy_out "COPY (SELECT pg_sleep(600) /* mark_silent */) TO STDOUT", stream.discard())]])
end

function TestInterrupt.test_a_copy_in_loads_nothing()
  admin:exec "CREATE TABLE target (a int)"
  interrupt("COPY target", [[
    local sink = c:copy_in "COPY target FROM STDIN"
    while true do sink:write "1\n" end]])
  lu.assertEquals(admin:value "SELECT count(*) FROM target", 0)
end

function TestInterrupt.test_a_copy_in_that_waits_for_a_lock()
  admin:exec "CREATE TABLE locked (a int); CREATE TABLE gate (a int)"
  admin:exec [[CREATE FUNCTION wait() RETURNS trigger LANGUAGE plpgsql AS
    $$ BEGIN LOCK TABLE gate; RETURN NEW; END $$;
    CREATE TRIGGER wait BEFORE INSERT ON locked FOR EACH ROW EXECUTE PROCEDURE wait()]]
  local other <close> = pg.connect(URI)
  local tx <close> = other:transaction()
  other:exec "LOCK TABLE gate"
  interrupt("COPY locked", [[
    local sink = c:copy_in "COPY locked FROM STDIN"
    while true do sink:write(("1\n"):rep(100000)) end]])
  tx:rollback()
  lu.assertEquals(admin:value "SELECT count(*) FROM locked", 0)
end

function TestInterrupt.test_waiting_for_a_notification()
  interrupt("LISTEN", "c:listen 'x' c:exec 'BEGIN; LISTEN y' c:wait_notify(600)")
end

-- The server may have prepared it all the same: the next one has another name.
function TestInterrupt.test_a_statement_can_be_prepared_after_one_that_was_broken_off()
  local child <close> = spawn [[
    local signal = require "tidemill.signal"
    signal.defer(true)
    io.stderr:write "ready\n"
    print(pcall(require "proc".poll, {}, 60)) -- until the signal, which also breaks off what follows
    local ok, err = pcall(c.prepare, c, "SELECT 1")
    io.stderr:write(tostring(ok), " ", err.kind, "\n")
    signal.take()
    io.stderr:write(c:prepare "SELECT 2":value(), "\n")]]
  lu.assertEquals(child:read(2, 60), "ready\n")
  child:kill "INT"
  lu.assertEquals(child:wait(60).code, 0)
  lu.assertEquals(child:read(2, 60), "false canceled\n2\n")
end

-- A COMMIT that is through when the cancel comes says what it did, as any other.
function TestInterrupt.test_a_commit_that_a_signal_meets_tells_what_became_of_it()
  admin:exec "CREATE TABLE met (a int)"
  local child <close> = spawn [[
    local signal = require "tidemill.signal"
    signal.defer(true)
    local function met(sql)
      c:exec "BEGIN; INSERT INTO met VALUES (1)"
      pcall(c.exec, c, sql)
      os.execute("kill -TERM " .. signal.pid())
      local ok, done = pcall(c.exec, c, "COMMIT")
      signal.take()
      if c:state() ~= "idle" then c:exec "ROLLBACK" end
      return ok and done.command or done.kind
    end
    local told = { COMMIT = 0, ROLLBACK = 0, canceled = 0 }
    for _ = 1, 20 do
      local kept, undone = met "SELECT 1", met "SELECT 1 / 0"
      told[kept] = told[kept] + 1
      assert(undone == "ROLLBACK" or undone == "canceled", undone)
    end
    io.stderr:write(told.COMMIT, " ", told.ROLLBACK, "\n")]]
  lu.assertEquals(child:wait(60).code, 0)
  local text = child:read(2, 60)
  local committed = tonumber(text:match "^(%d+) 0\n")
  lu.assertTrue(committed and committed > 0, text)
  lu.assertEquals(admin:value "SELECT count(*) FROM met", committed)
end

TestHang = {}

-- A server process that is stopped, as a host that hangs is.
local function signal(pid, name) os.execute(("kill -%s %d"):format(name, pid)) end

function TestHang.test_a_stopped_server_process_times_out_and_is_dropped()
  local c <close> = pg.connect(URI, { timeout = 0.5 })
  local pid = c:pid()
  signal(pid, "STOP")
  local started = os.time()
  fails("timeout", c.exec, c, "SELECT 1")
  lu.assertTrue(os.time() - started <= 8 * patience)
  lu.assertEquals(c:state(), "broken")
  fails("io", c.exec, c, "SELECT 1")
  signal(pid, "CONT")
end

function TestHang.test_an_interrupt_gets_through_when_all_of_the_server_hangs()
  local child <close> = spawn "io.stderr:write(c:pid(), '\\n') c:exec 'SELECT pg_sleep(600) /* mark_hang */'"
  lu.assertTrue(eventually(10, function() return active "mark_hang" > 0 end))
  local backend = tonumber(child:read(2, 60):match "%d+")
  local postmaster = server.pid
  signal(postmaster, "STOP")
  signal(backend, "STOP")
  child:kill "INT"
  local status = child:wait(60)
  signal(backend, "CONT")
  signal(postmaster, "CONT")
  lu.assertNotNil(status, "it did not end")
  lu.assertEquals(status.code, 130)
  admin:query("SELECT pg_terminate_backend($1)", backend)
end

function TestHang.test_a_stopped_server_does_not_block_the_sink()
  admin:exec "CREATE TABLE slow (a int)"
  local c <close> = pg.connect(URI, { timeout = 0.5 })
  local pid = c:pid()
  local sink <close> = c:copy_in "COPY slow FROM STDIN"
  signal(pid, "STOP")
  fails("timeout", function()
    for _ = 1, 1000 do sink:write(("1\n"):rep(100000)) end
  end)
  lu.assertEquals(c:state(), "broken")
  signal(pid, "CONT")
  lu.assertTrue(eventually(5, function() return active "COPY slow" == 0 end))
  lu.assertEquals(admin:value "SELECT count(*) FROM slow", 0)
end

TestLoss = {}

function TestLoss.test_a_killed_session_is_told()
  local c <close> = pg.connect(URI)
  admin:value("SELECT pg_terminate_backend($1, 5000)", c:pid())
  lu.assertEquals(fails("server", c.exec, c, "SELECT 1").code, "57P01")
  lu.assertStrContains(fails("io", c.exec, c, "SELECT 1").message, "connection is lost")
end

function TestLoss.test_a_loss_outside_a_transaction_is_hinted_at()
  -- kill -9 on a server process would restart the server: shut the socket instead
  local relay <close> = proc.spawn { stdout = "pipe", cmd = { "python3", "-c", [[
import socket, sys, threading
host, port = sys.argv[1], int(sys.argv[2])
s = socket.socket(); s.bind(("127.0.0.1", 0)); s.listen()
print(s.getsockname()[1], flush=True)
a, _ = s.accept(); b = socket.create_connection((host, port))
def pump(x, y):
    while True:
        data = x.recv(65536)
        if b"cut me here" in data:
            a.close(); b.close(); sys.exit()
        if not data: break
        y.sendall(data)
t = threading.Thread(target=pump, args=(b, a), daemon=True); t.start()
pump(a, b)
]], URI:match "@([^:]+):", URI:match ":(%d+)/" } }
  local port = relay:read(1, 60):match "%d+"
  local cut <close> = pg.connect((URI:gsub(":%d+/", ":" .. port .. "/")))
  local err = fails("io", cut.exec, cut, "SELECT 'cut me here'")
  lu.assertStrContains(err.hint, "whether it took effect is not known")
  lu.assertEquals(cut:state(), "broken")
end

local code = lu.LuaUnit.run()
admin:close()
server:close()
os.exit(code)
