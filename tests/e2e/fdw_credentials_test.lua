-- needs: fdw
--- No key in the catalogue: keys from the server's environment, from a profile in a file of its
--- host, from the role of its instance. And without a region, as the tutorial has it.

local fdw = require "tests.support.fdw"
local lu = require "luaunit"
local pg = require "pg"
local pgtest = require "tests.support.pgtest"
local proc = require "proc"

local near, far -- stores with keys of their own: those of the environment, those of the profile
local server, conn

-- The objects of a table without keys on a server with these options.
local function read(store, options)
  conn:exec(("DROP SERVER IF EXISTS s CASCADE; CREATE SERVER s FOREIGN DATA WRAPPER oss_fdw OPTIONS (endpoint '%s', bucket '%s'%s)")
    :format(store.url, store.bucket, options))
  conn:exec "CREATE FOREIGN TABLE t (a int) SERVER s OPTIONS (prefix 'n')"
  return conn:value "SELECT sum(a) FROM t"
end

TestCredentials = {}

function TestCredentials:setUp()
  if not server then
    near, far = fdw.ossd { name = "near" }, fdw.ossd { name = "far" }
    for n, store in ipairs { near, far } do
      local objects <close> = store:objects()
      objects:put("n1", n .. "\n")
    end
    server = fdw.server("credentials", "--env", "OSS_ACCESS_KEY_ID=" .. near.id, "--env", "OSS_ACCESS_KEY_SECRET=" .. near.secret,
      "--env", "OSS_CONFIG_FILE=ossutil.ini", -- of the server's data directory, which it runs in
      "--env", "AWS_EC2_METADATA_DISABLED=false", "--env", "AWS_EC2_METADATA_SERVICE_ENDPOINT=http://127.0.0.1:1")
    local data = proc.run { cmd = { "readlink", "-f", server.dir .. "/data" }, check = true }.stdout:gsub("\n", "")
    local f <close> = assert(io.open(data .. "/ossutil.ini", "w"))
    f:write(("[far]\naccessKeyID=%s\naccessKeySecret=%s\n"):format(far.id, far.secret))
  end
  conn = pg.connect(pgtest.database("credentials", server.uri))
  conn:exec "CREATE EXTENSION oss_fdw"
end

function TestCredentials:tearDown() conn:close() end

function TestCredentials:test_keys_of_the_environment()
  lu.assertEquals(read(near, ", region 'cn-test'"), 1)
  local err = pgtest.fails("auth", read, far, ", region 'cn-test'")
  lu.assertStrContains(err.detail, "ErrorCode=InvalidAccessKeyId")
  fdw.no_secret(tostring(err) .. err.detail, "an error")
end

function TestCredentials:test_keys_of_a_profile()
  lu.assertEquals(read(far, ", region 'cn-test', profile 'far'"), 2)
  local err = pgtest.fails("sql", read, far, ", region 'cn-test', profile 'nobodys'")
  lu.assertStrContains(tostring(err), "there is no profile 'nobodys'")
end

function TestCredentials:test_a_mapping_goes_before_them()
  read(near, ", region 'cn-test'")
  conn:exec "CREATE USER MAPPING FOR PUBLIC SERVER s OPTIONS (id 'nobody', key 'nothing')"
  local err = pgtest.fails("auth", conn.value, conn, "SELECT count(*) FROM t")
  lu.assertStrContains(err.detail, "ErrorCode=InvalidAccessKeyId")
end

function TestCredentials:test_a_role_is_asked_of_the_instance()
  local err = pgtest.fails("auth", read, near, ", protocol 's3', role_name 'reader'")
  lu.assertStrContains(tostring(err), "instance metadata at http://127.0.0.1:1 (no answer)")
end

function TestCredentials:test_an_owner_who_may_not_read_files_has_none_of_them()
  read(near, ", region 'cn-test'")
  conn:exec "DROP ROLE IF EXISTS credentials_owner; CREATE ROLE credentials_owner; ALTER SERVER s OWNER TO credentials_owner"
  local err = pgtest.fails("auth", conn.value, conn, "SELECT count(*) FROM t")
  lu.assertStrContains(tostring(err), "no access key for server")
  conn:exec "GRANT pg_read_server_files TO credentials_owner"
  lu.assertEquals(conn:value "SELECT sum(a) FROM t", 1)
  conn:exec "DROP OWNED BY credentials_owner CASCADE; DROP ROLE credentials_owner"
end

function TestCredentials:test_a_store_whose_region_nobody_knows_is_signed_without()
  lu.assertEquals(read(near, ""), 1)
  lu.assertEquals(read(near, ", signature 'v1'"), 1)
  local err = pgtest.fails("sql", read, near, ", signature 'v4'")
  lu.assertStrContains(tostring(err), "region")
end

local code = lu.LuaUnit.run()
if server then server:close() end
if near then near:close() end
if far then far:close() end
os.exit(code)
