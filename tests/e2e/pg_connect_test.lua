-- needs: pg
--- pg.connect: ways to name a server, TLS, refusals that say why and never a password.

local lu = require "luaunit"
local patience = require "tests.support.patience"
local pg = require "pg"
local proc = require "proc"
local pgtest = require "tests.support.pgtest"

local fails = pgtest.fails
local URI = os.getenv "TM_PG"
local USER, PASSWORD, HOST, PORT = URI:match "^postgresql://(%w+):([^@]+)@([^:]+):(%d+)/"
local TMP = os.getenv "TM_TMP" or "/tmp"
local SERVERS = io.popen("cd '" .. arg[0]:match "^(.*)/" .. "/../servers' && pwd"):read()

local function params(more)
  local p = { host = HOST, port = PORT, user = USER, password = PASSWORD, dbname = "postgres" }
  for k, v in pairs(more or {}) do p[k] = v or nil end
  return p
end

local function write(name, text)
  local path = TMP .. "/" .. name
  local f <close> = assert(io.open(path, "w"))
  f:write(text)
  return path
end

TestWays = {}

function TestWays.test_a_uri_connects()
  local c <close> = pg.connect(URI)
  lu.assertEquals(c:value "SELECT 1", 1)
  lu.assertEquals(c:state(), "idle")
  lu.assertEquals(c:flavor(), "postgresql")
  lu.assertFalse(c:pooled())
  lu.assertFalse(c:encrypted())
end

function TestWays.test_a_key_value_string_connects()
  local c <close> = pg.connect(("host=%s port=%s user=%s password='%s' dbname=postgres")
    :format(HOST, PORT, USER, PASSWORD))
  lu.assertEquals(c:value "SELECT current_database()", "postgres")
end

function TestWays.test_a_table_connects()
  local c <close> = pg.connect(params { port = tonumber(PORT) })
  lu.assertEquals(c:value "SELECT current_user", USER)
end

function TestWays.test_a_service_file_connects()
  local file = write("service.conf", ("[here]\nhost=%s\nport=%s\nuser=%s\npassword=%s\ndbname=postgres\n")
    :format(HOST, PORT, USER, PASSWORD))
  local script = write("service.lua", [[print(require "pg".connect "service=here":value "SELECT current_user")]])
  local r = proc.run { cmd = { os.getenv "TM_BIN", "exec", script }, env = { PGSERVICEFILE = file } }
  lu.assertEquals(r.stdout, USER .. "\n", r.stderr)
end

function TestWays.test_a_passfile_gives_the_password()
  local file = write("pgpass", ("%s:%s:*:%s:%s\n"):format(HOST, PORT, USER, PASSWORD))
  os.execute("chmod 600 '" .. file .. "'")
  local c <close> = pg.connect(params { password = false, passfile = file })
  lu.assertEquals(c:value "SELECT 1", 1)
end

function TestWays.test_the_second_host_is_tried()
  local c <close> = pg.connect(params { host = HOST .. "," .. HOST, port = "1," .. PORT })
  lu.assertEquals(c:value "SELECT 1", 1)
end

function TestWays.test_the_session_is_set_up()
  local c <close> = pg.connect(URI)
  local function show(name) return c:value("SELECT current_setting($1)", name) end
  lu.assertEquals(show "client_encoding", "UTF8")
  lu.assertStrContains(show "DateStyle", "ISO")
  lu.assertEquals(show "IntervalStyle", "postgres")
  lu.assertEquals(show "extra_float_digits", "3")
  lu.assertEquals(show "bytea_output", "hex")
  lu.assertEquals(show "application_name", "tidemill")
  lu.assertEquals(show "row_security", "on")
end

function TestWays.test_options_reach_the_session()
  local limited = URI .. (URI:find("?", 1, true) and "&" or "?")
    .. "options=-cidle_session_timeout%3D90s%20-cidle_in_transaction_session_timeout%3D90s"
  local c <close> = pg.connect(limited, {
    application_name = "tidemill f/1/n", session = "data", read_only = true, timezone = "Asia/Shanghai",
    statement_timeout = 90,
  })
  local function show(name) return c:value("SELECT current_setting($1)", name) end
  lu.assertEquals(show "application_name", "tidemill f/1/n")
  lu.assertEquals(show "row_security", "off")
  lu.assertEquals(show "idle_in_transaction_session_timeout", "0")
  if c:server_version() >= 140000 then lu.assertEquals(show "idle_session_timeout", "0") end
  lu.assertEquals(show "default_transaction_read_only", "on")
  lu.assertEquals(show "TimeZone", "Asia/Shanghai")
  lu.assertEquals(show "statement_timeout", "90s")
  lu.assertEquals(c:parameter "TimeZone", "Asia/Shanghai")
  lu.assertEquals(fails("sql", c.exec, c, "CREATE TABLE t()").code, "25006")
end

function TestWays.test_pid_and_start_name_the_session()
  local c <close> = pg.connect(URI)
  lu.assertEquals(c:value("SELECT pid FROM pg_stat_activity WHERE pid = $1 AND backend_start = $2",
    c:pid(), c:backend_start()), c:pid())
  local number, text = c:server_version()
  lu.assertTrue(number >= 90400)
  lu.assertStrContains(text, "PostgreSQL")
end

function TestWays.test_a_closed_connection_says_so()
  local c = pg.connect(URI)
  c:close()
  c:close()
  lu.assertEquals(c:state(), "closed")
  lu.assertEquals(fails("usage", c.query, c, "SELECT 1").message, "connection is closed")
end

TestRefusals = {}

local function holds_no_password(err, password)
  for _, value in pairs(err) do
    lu.assertNil(tostring(value):find(password, 1, true), tostring(value))
  end
end

function TestRefusals.test_a_wrong_password_is_auth()
  local err = fails("auth", pg.connect, params { password = "hunter2-wrong" })
  lu.assertEquals(err.code, "28P01")
  lu.assertStrContains(err.message, "password authentication failed")
  holds_no_password(err, "hunter2")
end

function TestRefusals.test_no_password_is_auth()
  local err = fails("auth", pg.connect, params { password = false, passfile = "/nonexistent" })
  lu.assertStrContains(err.message, "no password supplied")
  lu.assertStrContains(err.hint, "PGPASSWORD")
end

function TestRefusals.test_a_missing_database_is_not_found()
  lu.assertEquals(fails("not_found", pg.connect, params { dbname = "no_such_db" }).code, "3D000")
end

function TestRefusals.test_a_closed_port_is_connect()
  local err = fails("connect", pg.connect, params { port = "1" })
  lu.assertStrContains(err.message, "127.0.0.1")
  lu.assertStrContains(err.message, "refused")
end

function TestRefusals.test_an_unknown_host_is_connect()
  fails("connect", pg.connect, params { host = "no-such-host.invalid" })
end

function TestRefusals.test_a_silent_server_times_out()
  -- a listener that accepts (in the kernel) and never answers
  local server <close> = proc.spawn {
    cmd = { "python3", "-c", "import socket,time\ns=socket.socket();s.bind(('127.0.0.1',0));s.listen()\n" ..
      "print(s.getsockname()[1],flush=True)\ntime.sleep(60)" },
    stdout = "pipe",
  }
  local port = server:read(1, 60):match "%d+"
  local started = os.time()
  local err = fails("connect", pg.connect, params { port = port }, { connect_timeout = 0.5 })
  lu.assertStrContains(err.message, "no answer within")
  lu.assertTrue(os.time() - started <= 3 * patience)
  fails("connect", pg.connect, params { port = port, connect_timeout = "1" })
end

function TestRefusals.test_a_slash_in_a_password_connects_nowhere()
  for _, conninfo in ipairs { "postgres://u:12/hunter2@127.0.0.1/d", "postgresql://u:1/hunter2@h:5432/d?sslmode=disable" } do
    local err = fails("usage", pg.connect, conninfo) -- else to host u, port 12
    lu.assertStrContains(err.hint, "%2F")
    holds_no_password(err, "hunter2")
  end
  fails("connect", pg.connect, "postgres://127.0.0.1:1/d?user=me@there") -- that is no password
end

function TestRefusals.test_bad_connection_strings_are_usage_and_hide_their_secrets()
  local cases = {
    "host=x password=my hunter2", "host=x password='hunter2", "postgresql://u:pw@hunter2@h/db",
    "postgresql://u:hunter2%zz@h/db", "postgresql://u:hunter2/x@h/db", "hunter2",
    "postgresql://u:p@h:hunter2/db", "host=127.0.0.1 sslmode=hunter2", "host=127.0.0.1 port=hunter2",
  }
  for _, conninfo in ipairs(cases) do
    holds_no_password(fails("usage", pg.connect, conninfo), "hunter2")
  end
  holds_no_password(fails("usage", pg.connect, params { passwort = "hunter2" }), "hunter2")
  lu.assertStrContains(fails("usage", pg.connect, "host=x bogus=1").message, "bogus")
  lu.assertStrContains(fails("usage", pg.connect, "service=nope").message, "nope")
end

function TestRefusals.test_bad_options_are_named()
  lu.assertErrorMsgContains("unknown option 'sesion'", pg.connect, URI, { sesion = "data" })
  lu.assertErrorMsgContains("bad option 'session'", pg.connect, URI, { session = "date" })
  lu.assertErrorMsgContains("bad option 'timeout'", pg.connect, URI, { timeout = -1 })
end

function TestRefusals.test_a_bad_timezone_is_told()
  lu.assertStrContains(fails("data", pg.connect, URI, { timezone = "Mars/North" }).message, "Mars/North")
end

TestTls = {}

local ssl = TMP .. "/ssl-server"

local function tls_server(command, ...)
  local r = proc.run { cmd = { SERVERS .. "/pg", command, ssl, ... }, timeout = 60 }
  assert(r.code == 0, r.stderr .. r.stdout)
end

local function tls(more)
  local env = assert(io.open(ssl .. "/env")):read "a"
  local p = { host = "127.0.0.1", user = USER, password = PASSWORD, dbname = "postgres",
    port = env:match "TM_TLS_PORT=(%d+)", sslmode = "verify-full", sslrootcert = ssl .. "/ca.crt" }
  for k, v in pairs(more or {}) do p[k] = v or nil end
  return p
end

function TestTls.test_verify_full_works()
  local c <close> = pg.connect(tls())
  lu.assertTrue(c:encrypted())
  lu.assertTrue(c:value "SELECT ssl FROM pg_stat_ssl WHERE pid = pg_backend_pid()")
end

function TestTls.test_a_certificate_of_another_authority_is_refused()
  local made = proc.run { cmd = { "openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "1",
    "-subj", "/CN=other CA", "-keyout", TMP .. "/o.key", "-out", TMP .. "/o.crt" } }
  assert(made.code == 0, made.stderr)
  local err = fails("connect", pg.connect, tls { sslrootcert = TMP .. "/o.crt" })
  lu.assertStrContains(err.message, "certificate verify failed")
  lu.assertStrContains(err.hint, "sslrootcert")
end

function TestTls.test_a_certificate_of_another_host_is_refused()
  fails("connect", pg.connect, tls { host = "other.example", hostaddr = "127.0.0.1" })
end

function TestTls.test_a_server_without_tls_is_refused()
  fails("connect", pg.connect, params { sslmode = "require" })
end

function TestTls.test_cancel_works_over_tls()
  local c <close> = pg.connect(tls())
  c:timeout(0.3)
  fails("timeout", c.exec, c, "SELECT pg_sleep(60)")
  c:timeout()
  lu.assertEquals(c:value "SELECT 1", 1)
end

function TestTls.test_a_refused_row_is_noticed_early()
  local c <close> = pg.connect(tls())
  c:exec "CREATE TEMP TABLE t (a int)"
  local sink <close> = c:copy_in "COPY t FROM STDIN"
  sink:write("1\nbad\n", 2)
  local err = fails("data", function()
    for _ = 1, 200 do
      sink:write(("2\n"):rep(1000), 1000)
      os.execute "sleep 0.01"
    end
  end)
  lu.assertStrContains(err.detail, 'COPY t, line 2, column a: "bad"')
  lu.assertEquals(c:value "SELECT count(*) FROM t", 0)
end

function TestTls.test_copy_moves_rows_both_ways()
  local c <close> = pg.connect(tls())
  c:exec "CREATE TEMP TABLE t AS SELECT g, md5(g::text) m FROM generate_series(1, 50000) g"
  local src <close> = c:copy_out "COPY t TO STDOUT"
  local slabs = {}
  for bytes in src.read, src do slabs[#slabs + 1] = bytes end
  c:exec "CREATE TEMP TABLE u (LIKE t)"
  local sink <close> = c:copy_in "COPY u FROM STDIN"
  for _, bytes in ipairs(slabs) do sink:write(bytes) end
  sink:finish()
  lu.assertEquals(c:value "SELECT count(*) FROM (TABLE t INTERSECT TABLE u) x", 50000)
end

tls_server("start", "--as", "TM_TLS", "--ssl")
local code = lu.LuaUnit.run()
tls_server "stop"
os.exit(code)
