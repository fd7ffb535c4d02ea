--- Published flows, backfills and what is read of runs, on SQLite.

local lu = require "luaunit"
local state = require "tidemill.state"
local suite = require "tests.support.versions_suite"

suite.define("TestVersions", function()
  local store = "sqlite::memory:"
  return function(options) return state.open(store, options) end, function() end
end)

os.exit(lu.LuaUnit.run())
