-- needs: fdw
--- No key is seen where others look: catalogues, plans, statistics, logs, messages.

local fdw = require "tests.support.fdw"
local lu = require "luaunit"
local pg = require "pg"
local proc = require "proc"

local PASSWORD = "reader-password"
local o = fdw.ossd { name = "secrets" }
local f = fdw.open("secrets", { store = o })
local log_start = #fdw.log(os.getenv "TM_FDW_PID")

f.conn:exec(("DROP ROLE IF EXISTS fdw_secrets_reader; CREATE ROLE fdw_secrets_reader LOGIN PASSWORD '%s'"):format(PASSWORD))

local function as_reader()
  return pg.connect((f.uri:gsub("//[^@]*@", ("//fdw_secrets_reader:%s@"):format(PASSWORD))))
end

-- Everything a user of no rights can read of servers and mappings, psql's own commands included.
local function seen_by(uri)
  local psql = proc.run { timeout = 30, cmd = { "psql", "-X", uri, "-c", "\\des+", "-c", "\\deu+", "-c", "\\det+", "-c",
    "SELECT * FROM pg_foreign_server", "-c", "SELECT * FROM pg_user_mappings", "-c",
    "SELECT * FROM information_schema.foreign_server_options", "-c", "SELECT * FROM information_schema.user_mapping_options",
    "-c", "SELECT query FROM pg_stat_activity" } }
  lu.assertStrContains(psql.stdout, "List of foreign servers")
  return psql.stdout .. psql.stderr
end

local function reader_uri() return (f.uri:gsub("//[^@]*@", ("//fdw_secrets_reader:%s@"):format(PASSWORD))) end

TestSecrets = {}

function TestSecrets.test_keys_on_a_server_warn_and_say_what_is_better()
  f:quiet()
  f.conn:exec(("CREATE SERVER plain FOREIGN DATA WRAPPER oss_fdw OPTIONS (host '%s', bucket 'bbb', id 'iii', key '%s')")
    :format(o.url, fdw.secret()))
  local warning = f.notices[1]
  lu.assertEquals(warning.severity, "WARNING")
  lu.assertStrContains(warning.hint, "USER MAPPING")
  for _, notice in ipairs(f.notices) do fdw.no_secret(notice.message .. (notice.hint or ""), "the warning") end
  f.conn:exec "DROP SERVER plain"
end

function TestSecrets.test_a_user_mapping_is_hidden_from_others()
  local t = f:foreign("adbpg", "a int", { dir = "m/", format = "csv" })
  f.conn:exec(("GRANT SELECT, INSERT ON %s TO fdw_secrets_reader"):format(t))
  fdw.no_secret(seen_by(reader_uri()), "what others see")
  local reader <close> = as_reader()
  reader:exec(("INSERT INTO %s VALUES (1)"):format(t))
  lu.assertEquals(reader:value("SELECT a FROM " .. t), 1)
end

-- With the library preloaded, keys given to a server end up in a mapping.
function TestSecrets.test_the_preloaded_library_moves_keys_out_of_the_server()
  local lab <close> = fdw.open("secrets_hook", { store = o })
  lab.conn:exec "ALTER DATABASE fdw_secrets_hook SET session_preload_libraries = 'oss_fdw'"
  lab:connect()
  lab:quiet()
  local t = lab:foreign("rds", "a int, b text", { dir = "h/", format = "csv" })
  lu.assertEquals(lab.notices[1].severity, "NOTICE")
  fdw.no_secret(lab.notices[1].message, "the notice")
  lu.assertNotStrContains(lab.conn:value "SELECT srvoptions::text FROM pg_foreign_server", "key=")
  fdw.no_secret(seen_by((lab.uri:gsub("//[^@]*@", ("//fdw_secrets_reader:%s@"):format(PASSWORD)))), "what others see")
  lab.conn:exec(("INSERT INTO %s VALUES (1, 'x')"):format(t))
  lu.assertEquals(lab.conn:value("SELECT b FROM " .. t), "x")
  local second = fdw.secret()
  lab.conn:exec(("ALTER SERVER rds_1 OPTIONS (ADD key '%s')"):format(second))
  lu.assertNotStrContains(lab.conn:value "SELECT srvoptions::text FROM pg_foreign_server", "key=")
  lab:fails("28000", "SELECT * FROM " .. t)
  lab.conn:exec(("ALTER SERVER rds_1 OPTIONS (ADD key '%s')"):format(o.secret))
  lu.assertEquals(lab.conn:value("SELECT b FROM " .. t), "x")
end

function TestSecrets.test_plans_hold_no_key()
  for _, dialect in ipairs { "rds", "adbpg" } do
    local t = f:foreign(dialect, "a int, b text", { dir = "plan/", format = "csv" })
    f.conn:exec(("INSERT INTO %s VALUES (1, 'x')"):format(t))
    for _, sql in ipairs { "SELECT * FROM %s", "INSERT INTO %s VALUES (1, 'x')" } do
      for _, format in ipairs { "text", "json" } do
        local text = {}
        for _, row in ipairs(f.conn:query(("EXPLAIN (VERBOSE, ANALYZE, FORMAT %s) "):format(format) .. sql:format(t))) do
          text[#text + 1] = tostring(row["QUERY PLAN"])
        end
        text = table.concat(text, "\n")
        fdw.no_secret(text, "a plan")
        lu.assertNotStrContains(text, o.id)
      end
    end
  end
end

-- Errors from the store and from the catalogue, with both dialects; what they leave in the log too.
function TestSecrets.test_messages_and_the_log_hold_no_key()
  for _, dialect in ipairs { "rds", "adbpg" } do
    local t = f:foreign(f:server(dialect, { key = fdw.secret() }), "a int", { dir = "log/", format = "csv" })
    f.conn:exec "SET client_min_messages = debug5; SET log_min_messages = debug5"
    f:quiet()
    f:fails("28000", "SELECT * FROM " .. t)
    f:fails("28000", ("INSERT INTO %s VALUES (1)"):format(t))
    f.conn:exec "RESET client_min_messages; RESET log_min_messages"
    lu.assertTrue(#f.notices > 0)
    for _, notice in ipairs(f.notices) do
      fdw.no_secret(table.concat({ notice.message, notice.detail or "", notice.hint or "", notice.context or "" }, " "), "a message")
    end
  end
  local log = fdw.log(os.getenv "TM_FDW_PID", log_start)
  lu.assertStrContains(log, "SignatureDoesNotMatch")
  fdw.no_secret(log, "the server's log")
end

-- A core dump aside, a secret is also what a process shows of itself.
function TestSecrets.test_the_process_shows_no_key()
  local t = f:foreign("adbpg", "a int", { dir = "proc/", format = "csv" })
  f.conn:exec(("INSERT INTO %s VALUES (1)"):format(t))
  for _, name in ipairs { "cmdline", "environ" } do
    local p <close> = assert(io.open(("/proc/%d/%s"):format(f.conn:pid(), name), "rb"))
    fdw.no_secret(p:read "a", name)
  end
end

local code = lu.LuaUnit.run()
f.conn:exec "DROP OWNED BY fdw_secrets_reader"
f:close()
pg.connect(os.getenv "TM_FDW"):exec "DROP ROLE fdw_secrets_reader"
o:close()
os.exit(code)
