-- needs: fdw
--- The library preloaded: keys of a server go into a user mapping, and are struck out of what the
--- server keeps of statements.

local fdw = require "tests.support.fdw"
local lu = require "luaunit"
local pg = require "pg"
local pgtest = require "tests.support.pgtest"
local proc = require "proc"

local ID, KEY = "tm-id-preload", fdw.secret()
local SERVER = "CREATE SERVER %s FOREIGN DATA WRAPPER oss_fdw OPTIONS (host 'oss-cn-test.aliyuncs.com', bucket 'bucket'%s)"
local KEYS = (", id '%s', key '%s'"):format(ID, KEY)

local server, conn

local function value(sql, ...) return conn:value(sql, ...) end

local function options(name, on)
  on = on or conn
  local row = on:one([[SELECT array_to_string(srvoptions, ' ') AS server, array_to_string(umoptions, ' ') AS mapping
    FROM pg_foreign_server s LEFT JOIN pg_user_mapping u ON u.umserver = s.oid AND umuser = 0 WHERE srvname = $1]], name)
  return row.server, row.mapping
end

local function check_moved(name, on)
  local own, mapping = options(name, on)
  lu.assertItemsEquals({ own:match "^(%S+) (%S+)$" }, { "host=oss-cn-test.aliyuncs.com", "bucket=bucket" })
  lu.assertEquals(mapping, ("id=%s key=%s"):format(ID, KEY))
end

TestPreload = {}

function TestPreload:setUp()
  if not server then
    server = fdw.server("preload", "--set", "shared_preload_libraries='pg_stat_statements,oss_fdw'",
      "--set", "pg_stat_statements.track=all")
  end
  conn = pg.connect(pgtest.database("preload", server.uri))
  conn:exec "CREATE EXTENSION oss_fdw; CREATE EXTENSION pg_stat_statements"
end

function TestPreload:tearDown() conn:close() end

function TestPreload:test_keys_go_into_the_mapping()
  conn:exec(SERVER:format("s", KEYS))
  check_moved "s"
end

function TestPreload:test_neither_the_log_nor_statistics_nor_activity_have_a_key()
  conn:exec(SERVER:format("s", KEYS))
  conn:query(SERVER:format("extended", KEYS)) -- the other protocol
  local other <close> = pg.connect(server.uri)
  local shown = other:value("SELECT query FROM pg_stat_activity WHERE pid = $1",
    value "SELECT pg_backend_pid()")
  fdw.no_secret(shown, "pg_stat_activity")
  conn:exec(("CREATE USER MAPPING FOR CURRENT_USER SERVER s OPTIONS (id '%s', key '%s')"):format(ID, KEY))
  conn:exec(("ALTER USER MAPPING FOR CURRENT_USER SERVER s OPTIONS (SET key '%s')"):format(KEY))
  shown = other:value("SELECT string_agg(query, ' ') FROM pg_stat_activity")
  lu.assertStrContains(shown, "ALTER USER MAPPING FOR CURRENT_USER SERVER s OPTIONS (SET key *****")
  fdw.no_secret(shown, "pg_stat_activity")
  local both = SERVER:format("first", KEYS) .. "; " .. SERVER:format("second", KEYS)
  conn:exec(both)
  shown = other:value("SELECT string_agg(query, ' ') FROM pg_stat_activity")
  lu.assertStrContains(shown, "SERVER second")
  fdw.no_secret(shown, "pg_stat_activity")
  for _, bad in ipairs { both, "CREATE SERVER s FOREIGN DATA WRAPPER oss_fdw OPTIONS (host 'h.example'" .. KEYS .. ")",
    "ALTER SERVER s OPTIONS (SET key '" .. KEY .. "', ADD nosuch '1')",
    "CREATE USER MAPPING FOR PUBLIC SERVER s OPTIONS (id 'x', key '" .. KEY .. "')" } do
    local ok, err = pcall(conn.exec, conn, bad)
    lu.assertFalse(ok, bad)
    fdw.no_secret(tostring(err) .. (err.detail or ""):gsub("SQL: .*", ""), "an error")
  end
  local log = fdw.log(server.pid)
  lu.assertStrContains(log, "STATEMENT:  ALTER SERVER s OPTIONS (SET key *****")
  fdw.no_secret(log, "the server's log")
  local kept = value "SELECT string_agg(query, ' ') FROM pg_stat_statements"
  lu.assertStrContains(kept, "CREATE SERVER")
  fdw.no_secret(kept, "pg_stat_statements")
end

function TestPreload:test_a_script_of_an_extension_may_make_a_server()
  local config = proc.run { cmd = { os.getenv "PG_CONFIG" or "pg_config", "--sharedir" }, check = true }.stdout
  local root = proc.run { cmd = { "readlink", "-f", server.dir .. "/root" }, check = true }.stdout:gsub("\n", "")
  local base = root .. config:gsub("\n", "") .. "/extension/tm_probe"
  for ending, text in pairs { [".control"] = "default_version = '1'\n", ["--1.sql"] = SERVER:format("probed", KEYS) .. ";\n" } do
    local f <close> = assert(io.open(base .. ending, "w"))
    f:write(text)
  end
  conn:exec "CREATE EXTENSION tm_probe"
  check_moved "probed"
  conn:exec "DROP EXTENSION tm_probe CASCADE"
  lu.assertEquals(value "SELECT count(*) FROM pg_user_mapping", 0)
end

function TestPreload:test_a_dump_is_restored()
  conn:exec(SERVER:format("s", KEYS))
  conn:exec "CREATE FOREIGN TABLE t (a int, b text OPTIONS (force_null 'true')) SERVER s OPTIONS (dir 'd/', format 'csv')"
  local bin = proc.run { cmd = { os.getenv "PG_CONFIG" or "pg_config", "--bindir" }, check = true }.stdout:gsub("\n", "")
  local uri = server.uri:gsub("/[^/]*$", "/preload")
  local dump = proc.run { cmd = { bin .. "/pg_dump", "--no-owner", "--no-publications", "-T", "pg_stat*", uri }, check = true }.stdout
  lu.assertStrContains(dump, "CREATE USER MAPPING FOR")
  -- psql's own words aside, the dump is SQL
  dump = dump:gsub("\n\\[^\n]*", "")
  local second <close> = pg.connect(pgtest.database("preload_restored", server.uri))
  second:exec(dump)
  check_moved("s", second)
  lu.assertEquals(second:value "SELECT ftoptions::text FROM pg_foreign_table", "{dir=d/,format=csv}")
  -- a dump of before: the server has the keys
  local third <close> = pg.connect(pgtest.database("preload_older", server.uri))
  third:exec "CREATE EXTENSION oss_fdw"
  third:exec(SERVER:format("s", KEYS) .. "; ALTER SERVER s OWNER TO tm")
  check_moved("s", third)
end

local code = lu.LuaUnit.run()
if server then server:close() end
os.exit(code)
