--- What nodes keep from run to run, on SQLite.

local facts_suite = require "tests.support.facts_suite"
local lu = require "luaunit"
local state = require "tidemill.state"

facts_suite.define("TestFacts", function()
  return function(options) return state.open("sqlite::memory:", options) end, function() end
end)

os.exit(lu.LuaUnit.run())
