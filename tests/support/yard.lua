--- A folder with a flow, for tests of the commands on published flows and runs.
---
---     local y <close> = yard.new("ops", "sqlite:.tidemill/state.db")
---     y:flow { settings = "...", nodes = "..." }       -- f.lua
---     y:ok("publish", "f.lua")                          -- must exit with 0
---     local store <close> = y:store()

local desk = require "tests.support.desk"
local json = require "json"
local lu = require "luaunit"
local patience = require "tests.support.patience"
local proc = require "proc"
local state = require "tidemill.state"

local yard = setmetatable({}, { __index = desk })
yard.__index = yard

--- Makes the folder with a tidemill.lua.
---@param name string
---@param url? string  of the state store (default: SQLite in the folder)
function yard.new(name, url)
  local self = setmetatable(desk.new(name), yard)
  self.url = url or ("sqlite:%s/.tidemill/state.db"):format(self.dir)
  self.env.YARD_STATE = self.url
  self:write("tidemill.lua", 'return { state = env "YARD_STATE", timezone = "Asia/Shanghai" }\n')
  return self
end

--- Writes a flow, "yard" in f.lua unless said otherwise.
---@param made {name: string?, file: string?, settings: string?, nodes: string}
function yard:flow(made)
  return self:write(made.file or "f.lua", ('local flow = require "flow"\nreturn flow %q {\n%s\n%s\n}\n'):format(
    made.name or "yard", made.settings or "", made.nodes))
end

--- Runs a command that must succeed; what it wrote.
function yard:ok(...)
  local r = self:run(...)
  lu.assertEquals(r.code, 0, r.all)
  return r.out, r
end

--- Runs a command that must fail with this code and say this; what it wrote.
function yard:fails(code, text, ...)
  local r = self:run(...)
  lu.assertEquals(r.code, code, r.all)
  lu.assertStrContains(r.all, text)
  return r.all
end

--- The decoded JSON that a command prints.
function yard:json(...) return json.decode((self:ok(...))) end

--- Starts a command that goes on beside the test.
function yard:spawn(...)
  return proc.spawn { cmd = { assert(os.getenv "TM_BIN"), ... }, cwd = self.dir, env = self.env, stdout = "pipe",
    stderr = "pipe" }
end

--- Opens the state store.
function yard:store() return state.open(self.url, { directory = self.dir }) end

--- Waits until check() is true.
function yard.eventually(check, what)
  for _ = 1, 100 * patience do
    if check() then return end
    proc.poll({}, 0.1)
  end
  lu.fail("never: " .. what)
end

--- The states of a run's nodes by name.
function yard:states(run)
  local store <close> = self:store()
  local states = {}
  for _, node in ipairs(store:nodes(store:find_run(run or "last").id)) do states[node.node] = node.state end
  return states
end

yard.__close = desk.__close

return yard
