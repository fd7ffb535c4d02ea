--- What the tests of `pg` share: a database of their own, and failures that must come.

local lu = require "luaunit"
local pg = require "pg"

local pgtest = {}

--- A fresh database `name` on the server at `uri` (default TM_PG); returns its URI.
function pgtest.database(name, uri)
  uri = uri or assert(os.getenv "TM_PG", "TM_PG is not set")
  local admin <close> = pg.connect(uri)
  admin:exec("DROP DATABASE IF EXISTS " .. name .. " WITH (FORCE)")
  admin:exec("CREATE DATABASE " .. name)
  return (uri:gsub("/[^/]*$", "/" .. name))
end

--- Removes it, whoever is still connected.
function pgtest.drop(name, uri)
  local admin <close> = pg.connect(uri or os.getenv "TM_PG")
  admin:exec("DROP DATABASE IF EXISTS " .. name .. " WITH (FORCE)")
end

--- Runs f(...), which must raise an error table of this kind; returns that table.
function pgtest.fails(kind, f, ...)
  local ok, err = pcall(f, ...)
  lu.assertFalse(ok, "nothing was raised")
  lu.assertEquals(type(err), "table", tostring(err))
  lu.assertEquals(err.kind, kind, tostring(err))
  return err
end

--- A number from /proc/self/status, such as VmHWM in kB.
function pgtest.status(field)
  for line in io.lines "/proc/self/status" do
    local n = line:match("^" .. field .. ":%s*(%d+)")
    if n then return tonumber(n) end
  end
end

--- Waits until f() is true, for at most `seconds`.
function pgtest.eventually(seconds, f)
  for _ = 1, seconds * 20 do
    if f() then return true end
    os.execute "sleep 0.05"
  end
  return f()
end

return pgtest
