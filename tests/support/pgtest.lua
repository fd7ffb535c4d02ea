--- What the tests of `pg` share: a database of their own, and failures that must come.

local lu = require "luaunit"
local patience = require "tests.support.patience"
local pg = require "pg"
local proc = require "proc"
local signal = require "tidemill.signal"

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

--- Waits until f() is true, for `seconds` on a quiet machine: whether it became so.
function pgtest.eventually(seconds, f)
  local ends = signal.mono() + seconds * patience * 1000
  while not f() do
    if signal.mono() > ends then return false end
    proc.poll({}, 0.03)
  end
  return true
end

local Server = {}
Server.__index = Server

--- Starts a PostgreSQL server for this test alone: its uri and pid.
function pgtest.server(name)
  local server = setmetatable({ dir = ("%s/%s"):format(os.getenv "TM_TMP", name) }, Server)
  proc.run { cmd = { "tests/servers/pg", "start", server.dir, "--as", "TM_OWN" }, check = true, timeout = 180 }
  local env <close> = assert(io.open(server.dir .. "/env"))
  local text = env:read "a"
  server.uri, server.pid = text:match "TM_OWN=(%S+)", tonumber(text:match "TM_OWN_PID=(%d+)")
  return server
end

function Server:close() proc.run { cmd = { "tests/servers/pg", "stop", self.dir }, check = true, timeout = 120 } end

return pgtest
