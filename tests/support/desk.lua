--- A folder of files for tests of flows that need no server.
---
---     local desk = require "tests.support.desk"
---     local d <close> = desk.new "check"
---     d:write("a.lua", "...")
---     local r = d:run("check", "a.lua")      -- r.code, r.out, r.err

local proc = require "proc"

local desk = {}
desk.__index = desk

--- Makes an empty folder; close removes it.
function desk.new(name)
  local dir = ("%s/%s-desk"):format(os.getenv "TM_TMP" or (os.getenv "TM_BUILD" or "build") .. "/tmp", name)
  proc.run { cmd = { "rm", "-rf", dir }, check = true }
  proc.run { cmd = { "mkdir", "-p", dir }, check = true }
  return setmetatable({ dir = dir, env = {} }, desk)
end

--- Writes a file, and the folders on the way to it; returns its path.
function desk:write(file, text)
  local path = self.dir .. "/" .. file
  if file:find "/" then proc.run { cmd = { "mkdir", "-p", path:match "^(.*)/" }, check = true } end
  local f <close> = assert(io.open(path, "w"))
  f:write(text)
  return path
end

--- A project file with the connections rds, adbpg (PostgreSQL), lake (OSS) and alerts (a
--- webhook), and the pool heavy.
function desk:project()
  return self:write("tidemill.lua", [[
return { connections = {
  rds = { postgres = env "DESK_RDS" }, adbpg = { postgres = env "DESK_ADBPG" },
  lake = { oss = "oss://bucket", endpoint = "http://127.0.0.1:1" },
  alerts = { webhook = env "DESK_ALERTS", secret = env "DESK_SECRET" },
}, pools = { heavy = 1 } }
]])
end

--- Writes a flow file around these nodes and settings, which start on its line 3.
function desk:flow(file, body)
  return self:write(file, 'local flow = require "flow"\nreturn flow "f" {\n' .. body .. "\n}\n")
end

--- Runs `tidemill ...` in the folder.
function desk:run(...)
  local r = proc.run { cmd = { assert(os.getenv "TM_BIN", "TM_BIN is not set"), ... }, cwd = self.dir,
    env = self.env, timeout = 120 }
  return { code = r.code, out = r.stdout, err = r.stderr, all = r.stdout .. r.stderr }
end

function desk:close() proc.run { cmd = { "rm", "-rf", self.dir } } end
desk.__close = desk.close

return desk
