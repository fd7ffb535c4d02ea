-- needs: fdw ossd
--- PostgreSQL's own regression driver on tests/fdw/sql: a test for each file.

local lu = require "luaunit"
local proc = require "proc"

TestRegress = {}

local found = proc.run { cmd = { "find", "tests/fdw/sql", "-name", "*.sql", "-printf", "%f\n" } }
for name in found.stdout:gmatch "([^\n]+)%.sql" do
  TestRegress["test_" .. name] = function()
    local r = proc.run { cmd = { "tests/fdw/run", os.getenv "TM_TMP", name }, timeout = 240 }
    lu.assertEquals(r.code, 0, r.stdout .. r.stderr)
  end
end

os.exit(lu.LuaUnit.run())
