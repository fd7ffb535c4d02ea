--- A laboratory for end-to-end tests: a folder with flows, databases of its own, a bucket.
---
---     local lab = require "tests.support.lab"
---     local l <close> = lab.new "transfer"
---     l:database("rds", os.getenv "TM_PG")        -- a fresh database, a connection named rds
---     l:lake("lake", "bucket-name")               -- a bucket on ossd
---     l:flow("a.lua", [[ ... ]])
---     local r = l:run("run", "a.lua")             -- r.code, r.out, r.err
---
--- Secrets reach the flows as a user's would: through the environment.

local patience = require "tests.support.patience"
local pg = require "pg"
local proc = require "proc"

local lab = {}
lab.__index = lab

local function quote(s) return "'" .. s:gsub("'", "'\\''") .. "'" end

--- Makes the folder. Everything goes with close.
function lab.new(name)
  local dir = ("%s/%s-lab"):format(os.getenv "TM_TMP" or (os.getenv "TM_BUILD" or "build") .. "/tmp", name)
  assert(os.execute("rm -rf " .. quote(dir) .. " && mkdir -p " .. quote(dir)))
  return setmetatable({
    name = name, dir = dir, env = {}, connections = {}, databases = {}, opened = {},
  }, lab)
end

function lab:write(file, text)
  local f <close> = assert(io.open(self.dir .. "/" .. file, "w"))
  f:write(text)
end

local function with_database(uri, database)
  local base, query = uri:match "^(.-)(%?.*)$"
  base = base or uri
  return (base:gsub("^(postgres%w*://[^/]*)/?[^/]*$", "%1") .. "/" .. database .. (query or ""))
end

--- A fresh database on the server at `uri`; the flows see it as connection `name`.
function lab:database(name, uri)
  local database = ("lab_%s_%s"):format(self.name, name):gsub("[^%w]", "_"):lower()
  local admin <close> = pg.connect(uri)
  admin:exec(("DROP DATABASE IF EXISTS %s"):format(database))
  admin:exec(("CREATE DATABASE %s"):format(database))
  table.insert(self.databases, { uri = uri, name = database })
  local url = with_database(uri, database)
  local variable = "LAB_" .. name:upper()
  self.env[variable] = url
  self.connections[name] = ("{ postgres = env %q }"):format(variable)
  local conn = pg.connect(url)
  table.insert(self.opened, conn)
  return conn, url
end

--- Deletes all objects and uploads of a store; returns it.
function lab.empty(store)
  local keys = {}
  for entry in store:list {} do keys[#keys + 1] = entry.key end
  store:delete_many(keys)
  for _, upload in ipairs(store:list_multiparts "") do store:abort_multipart(upload.key, upload.upload_id) end
  return store
end

--- A bucket on ossd; the flows see it as connection `name`. `extra` goes into the
--- connection as it stands. Returns an open store.
function lab:lake(name, bucket, extra)
  local endpoint = assert(os.getenv "TM_OSSD", "TM_OSSD is not set")
  self.env.OSS_ACCESS_KEY_ID = os.getenv "TM_OSSD_ID"
  self.env.OSS_ACCESS_KEY_SECRET = os.getenv "TM_OSSD_SECRET"
  self.connections[name] = ("{ oss = %q, endpoint = %q, region = \"cn-test\", addressing = \"path\" %s }")
    :format("oss://" .. bucket, endpoint, extra or "")
  local store = require("oss").open {
    url = "oss://" .. bucket, endpoint = endpoint, region = "cn-test", addressing = "path",
    access_key_id = os.getenv "TM_OSSD_ID", access_key_secret = os.getenv "TM_OSSD_SECRET",
  }
  store:create_bucket()
  return store
end

--- Writes tidemill.lua from the connections made so far.
function lab:project(more)
  local lines = { "return { connections = {" }
  for name, text in pairs(self.connections) do lines[#lines + 1] = ("  %s = %s,"):format(name, text) end
  lines[#lines + 1] = "}, " .. (more or "") .. " }"
  self:write("tidemill.lua", table.concat(lines, "\n"))
end

--- Writes a flow of these nodes.
function lab:flow(file, nodes)
  self:write(file, ('local flow = require "flow"\nreturn flow "lab" {\n%s\n}\n'):format(nodes))
end

--- Runs `tidemill ...` in the folder: { code, out, err }.
function lab:run(...)
  local r = proc.run {
    cmd = { assert(os.getenv "TM_BIN"), ... }, cwd = self.dir, env = self.env, timeout = 240,
  }
  return { code = r.code, signal = r.signal, out = r.stdout, err = r.stderr, all = r.stdout .. r.stderr }
end

-- Sessions of processes that were killed end when the server sees it, for which it waits 5 s by itself.
local function drop(database)
  local admin <close> = pg.connect(database.uri)
  for i = 1, patience do
    local ok, raised = pcall(admin.exec, admin, "DROP DATABASE IF EXISTS " .. database.name)
    if ok then return end
    if raised.code ~= "55006" or i == patience then error(raised, 0) end
  end
end

function lab:close()
  for _, conn in ipairs(self.opened) do conn:close() end
  for _, database in ipairs(self.databases) do drop(database) end
  self.opened, self.databases = {}, {}
  os.execute("rm -rf " .. quote(self.dir))
end
lab.__close = lab.close

return lab
