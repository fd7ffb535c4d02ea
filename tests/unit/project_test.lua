--- tidemill.project: finding and reading tidemill.lua, values of the environment, secrets.

local desk = require "tests.support.desk"
local lu = require "luaunit"
local project = require "tidemill.project"

local d

TestProject = {}

function TestProject.setUp() d = desk.new "project" end
function TestProject.tearDown() d:close() end

local function load_text(text) return project.load(d:write("tidemill.lua", text)) end

local function refused(text)
  local ok, err = pcall(load_text, text)
  lu.assertFalse(ok, text)
  lu.assertEquals(err.kind, "usage")
  return err.message .. "\n" .. (err.hint or "")
end

function TestProject.test_it_is_found_above_the_flow()
  d:project()
  d:write("team/daily/a.lua", "")
  lu.assertEquals(project.find(d.dir .. "/team/daily/a.lua"), d.dir .. "/tidemill.lua")
  d:write("team/tidemill.lua", "return {}")
  lu.assertEquals(project.find(d.dir .. "/team/daily/a.lua"), d.dir .. "/team/tidemill.lua")
  d:write("team/daily/b.lua", 'local flow = require "flow"\nreturn flow "f" { flow.sql "n" { on = "rds", sql = "x" } }')
  os.remove(d.dir .. "/team/tidemill.lua")
  lu.assertEquals(d:run("check", "team/daily/b.lua").code, 0)
end

function TestProject.test_it_is_found_above_the_working_directory()
  d:project()
  d:write("a/b/c.lua", 'local flow = require "flow"\nreturn flow "f" { flow.sql "n" { on = "rds", sql = "x" } }')
  local inner = setmetatable({ dir = d.dir .. "/a/b" }, { __index = d })
  lu.assertEquals(inner:run("check", "c.lua").code, 0)
end

function TestProject.test_kinds_of_connections_are_known()
  local p = load_text [[return { timezone = "Asia/Shanghai", connections = {
    pg1 = { postgres = "service=x" }, a = { oss = "oss://b", endpoint = "e" }, b = { s3 = "s3://b" }, c = { file = "d" } } }]]
  lu.assertEquals(p.timezone, "Asia/Shanghai")
  for name, wants in pairs { pg1 = "postgres", a = "store", b = "store", c = "store" } do
    lu.assertNil((p:fault(name, wants)))
  end
  lu.assertStrContains((p:fault("pg1", "store")), "is a PostgreSQL connection, where an object store is needed")
  local fault, hint = p:fault("pg", "postgres")
  lu.assertEquals(fault, "unknown connection 'pg'")
  lu.assertEquals(hint, "did you mean 'pg1'?")
end

function TestProject.test_mistakes_in_it_are_named()
  for text, wanted in pairs {
    ["return 5"] = "returns a number, not a table",
    ["x ="] = "tidemill.lua:1:",
    ["return { conections = {} }"] = "did you mean 'connections'?",
    ["return { connections = { a = {} } }"] = "connection 'a' needs one of postgres, oss, s3, file",
    ["return { connections = { a = 'x' } }"] = "connection 'a' is not a table",
    ["return { connections = { a = { postgres = 'x', oss = 'y' } } }"] = "has both 'postgres' and 'oss'",
    ["return { connections = { a = { oss = 'x', endpont = 'y' } } }"] = "did you mean 'endpoint'?",
    ["return { connections = { a = { postgres = 'x', endpoint = 'y' } } }"] = "has no field 'endpoint'",
    ["return { connections = { ['a b'] = { postgres = 'x' } } }"] = "not of letters",
    ["return { connections = { a = { postgres = 5 } } }"] = "'postgres' is not text",
    ["return { state = os.getenv 'X' }"] = "'os' is not available",
    ["return { connections = { a = { postgres = env 'X' .. io.read() } } }"] = "'io' is not available",
  } do
    lu.assertStrContains(refused(text), wanted)
  end
end

function TestProject.test_a_missing_variable_is_an_error_of_its_connection_alone()
  local p = load_text [[return { connections = {
    a = { postgres = env "TM_TEST_NOT_SET_1" }, b = { postgres = env("TM_TEST_NOT_SET_2", "host=" .. "x") },
    c = { postgres = "postgres://u:" .. env("TM_TEST_NOT_SET_2", "pw") .. "@h/d" } } }]]
  local ok, err = pcall(p.conninfo, p, "a")
  lu.assertFalse(ok)
  lu.assertEquals(err.kind, "usage")
  lu.assertEquals(err.message, "connection 'a' needs the environment variable TM_TEST_NOT_SET_1, which is not set")
  lu.assertEquals(p:conninfo "b", "host=x")
  lu.assertEquals(p:conninfo "c", "postgres://u:pw@h/d")
end

function TestProject.test_secrets_are_scrubbed_from_every_text()
  for conninfo, secret in pairs {
    ["postgres://app:s3cret@h/d"] = "s3cret",
    ["postgresql://app:p%40ss%2Fword@h/d"] = "p@ss/word",
    ["host=h password=s3cret dbname=d"] = "s3cret",
    ["host=h password='two words' dbname=d"] = "two words",
    ["postgres://h/d?user=u&password=s3cret&x=1"] = "s3cret",
  } do
    local p = load_text(("return { connections = { a = { postgres = %q } } }"):format(conninfo))
    p:conninfo "a"
    local err = p:scrub_error { message = "bad '" .. secret .. "' in " .. conninfo, detail = conninfo,
      cause = { message = secret } }
    for _, text in ipairs { err.message, err.detail, err.cause.message } do
      lu.assertNotStrContains(text, secret)
      lu.assertStrContains(text, "***")
    end
  end
end

function TestProject.test_what_a_server_may_repeat_of_a_webhooks_url_is_scrubbed()
  for url, repeated in pairs {
    ["https://hooks.example/services/T0/B0/XyZsecret99"] = "Cannot POST /services/T0/B0/XyZsecret99",
    ["https://hooks.example/in?token=XyZsecret99"] = "no such token: XyZsecret99",
    ["https://hooks.example/in?token=XyZ%2Fsecret99"] = "no such token: XyZ/secret99",
    ["https://bob:XyZsecret99@hooks.example/"] = "bob, XyZsecret99 is wrong",
  } do
    local p = load_text(("return { connections = { a = { webhook = %q } } }"):format(url))
    p:webhook "a"
    lu.assertNotStrContains(p:scrub(repeated), "secret99")
    lu.assertEquals(p:scrub "hooks.example did not answer", "hooks.example did not answer")
  end
end

function TestProject.test_locations_and_state_are_taken_apart()
  local p = load_text 'return { connections = { a = { file = "store" } } }'
  for _, bad in ipairs { "a", "a:", "a:/x", "a:x/../y", "nobody:x/" } do
    local ok, err = pcall(p.location, p, bad)
    lu.assertFalse(ok, bad)
    lu.assertEquals(err.kind, "usage")
  end
  local dir = d.dir .. "/"
  for text, wanted in pairs { ["return {}"] = dir .. ".tidemill/state.db", ["return { state = 'sqlite:x.db' }"] = dir .. "x.db",
    ["return { state = 'sqlite:/tmp/x.db' }"] = "/tmp/x.db" } do
    local kind, where = load_text(text):state()
    lu.assertEquals({ kind, where }, { "sqlite", wanted })
  end
  local kind, where = load_text("return { state = 'postgres://h/d' }"):state()
  lu.assertEquals({ kind, where }, { "postgres", "postgres://h/d" })
  local bad = load_text "return { state = 'mysql:x' }"
  lu.assertFalse(pcall(bad.state, bad))
end

function TestProject.test_without_a_file_there_are_no_connections()
  local p = project.open "/nowhere/at/all/a.lua"
  lu.assertEquals(p.timezone, "UTC")
  local kind, where = p:state()
  lu.assertEquals({ kind, where }, { "sqlite", ".tidemill/state.db" })
end

os.exit(lu.LuaUnit.run())
