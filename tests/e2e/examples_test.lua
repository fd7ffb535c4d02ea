-- needs: pg ossd
--- The example at the head of every module's page runs as it is printed.

local docs = require "tidemill.docs"
local embedded = require "tidemill.embedded"
local lab = require "tests.support.lab"
local lu = require "luaunit"
local proc = require "proc"

local l, conn

TestExamples = {}

function TestExamples.setUp()
  l = lab.new "examples"
  conn, l.env.RDS_URL = l:database("rds", os.getenv "TM_PG")
end

function TestExamples.tearDown() l:close() end

-- The last indented part of a page's head that requires something.
local function example_of(name)
  local found
  local text = table.concat(docs.parse(embedded.source("stdlib/" .. name .. ".lua")).lines, "\n") .. "\n\n"
  local part = {}
  for line in text:gmatch "([^\n]*)\n" do
    if line:find "^    " or line == "" and #part > 0 then
      part[#part + 1] = line:sub(5)
    else
      local code = table.concat(part, "\n")
      if code:find "require" then found = code end
      part = {}
    end
  end
  local code = table.concat(part, "\n")
  if code:find "require" then found = code end
  return lu.assertNotNil(found, name .. " has no example that requires it") or found
end

local function run(code)
  return proc.run { cmd = { os.getenv "TM_BIN", "exec", "-" }, input = code, env = l.env, timeout = 60 }
end

local function squeezed(text) return (text:gsub("\\n", "\n"):gsub("%s+", " ")) end

-- Runs the example; what its comments say behind --> is in what it prints.
local function runs(name, code)
  local r = run(code)
  lu.assertEquals(r.code, 0, name .. ": " .. r.stderr)
  local rest = squeezed(r.stdout)
  for promised in code:gmatch "%-%->%s*([^\n]+)" do
    local from, to = rest:find(squeezed(promised), 1, true)
    lu.assertNotNil(from, ("%s promises '%s': %s"):format(name, promised, r.stdout))
    rest = rest:sub(to + 1)
  end
  return r.stdout, r.stderr
end

-- Modules whose example needs something of the world; the others run in the test of the rest.
local special = { flow = true, oss = true, pg = true }

function TestExamples.test_examples_run_and_print_what_they_promise()
  local count = 0
  for _, path in ipairs(embedded.names()) do
    local name = path:match "^stdlib/([%w_]+)%.lua$"
    if name and not special[name] then
      local out, err = runs(name, example_of(name))
      lu.assertTrue(#out + #err > 0 or name == "zip", name .. " shows nothing")
      count = count + 1
    end
  end
  lu.assertTrue(count >= 8, count)
end

function TestExamples.test_the_example_of_pg_changes_and_reads_a_table()
  conn:exec [[
    CREATE TABLE t (id int, name text, a int, seen timestamptz);
    INSERT INTO t VALUES (42, 'ann', 11), (43, 'bob', 10) ]]
  lu.assertEquals(runs("pg", example_of "pg"), "42\tann\n")
  lu.assertTrue(conn:value "SELECT seen IS NOT NULL FROM t WHERE id = 42")
end

function TestExamples.test_the_example_of_oss_writes_reads_and_lists()
  local lake <close> = l:lake("lake", "my-bucket")
  lake:put("lake/orders/2026/a.csv", "1\n")
  lake:put("lake/orders/b.csv", "12345\n")
  local code, changed = example_of "oss":gsub('endpoint = "[^"]*"', ('endpoint = "%s", region = "cn-test"')
    :format(os.getenv "TM_OSSD"))
  lu.assertEquals(changed, 1)
  lu.assertEquals(runs("oss", code), "hello\norders/2026/\tnil\norders/b.csv\t6\n")
  lab.empty(lake)
end

function TestExamples.test_the_example_of_flow_is_valid_and_runs()
  conn:exec "CREATE TABLE orders (id int, created_at date)"
  conn:exec "INSERT INTO orders SELECT i, date '2026-01-01' + i % 2 FROM generate_series(1, 100) i"
  local target = l:database("adbpg", os.getenv "TM_PG")
  target:exec "CREATE TABLE orders (id int, created_at date)"
  local lake <close> = l:lake("lake", "lab-examples")
  l:project()
  l:write("f.lua", example_of "flow")
  local r = l:run("check", "f.lua")
  lu.assertEquals(r.code, 0, r.all)
  r = l:run("run", "f.lua", "--at", "2026-01-02 02:00:00")
  lu.assertEquals(r.code, 0, r.all)
  lu.assertEquals(target:value "SELECT count(*) FROM orders WHERE created_at = '2026-01-01'", 50)
  lab.empty(lake)
end

-- The indented text that a section of the README begins with.
local function code_of(section)
  local f <close> = assert(io.open "README.md")
  return (f:read "a":match("\n## " .. section .. "\n+(    .-)\n\n%S"):gsub("%f[^\n\0]    ", ""))
end

function TestExamples.test_the_flows_of_the_readme_are_valid()
  l:database("adbpg", os.getenv "TM_PG")
  l:lake("lake", "lab-examples")
  l:project()
  for _, code in ipairs { code_of "A flow",
      ('local flow = require "flow"\nreturn flow "f" {\n%s\n}'):format(code_of "Transfers") } do
    l:write("f.lua", code)
    local r = l:run("check", "f.lua")
    lu.assertEquals(r.code, 0, r.all)
    lu.assertStrContains(r.out, "is valid: 2 nodes")
  end
end

os.exit(lu.LuaUnit.run())
