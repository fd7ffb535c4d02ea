-- needs: pg
--- What nodes keep from run to run, on PostgreSQL.

local facts_suite = require "tests.support.facts_suite"
local lu = require "luaunit"
local pgtest = require "tests.support.pgtest"
local state = require "tidemill.state"

facts_suite.define("TestFacts", function()
  local uri = pgtest.database "tm_facts"
  return function(options) return state.open(uri, options) end, function() pgtest.drop "tm_facts" end
end)

os.exit(lu.LuaUnit.run())
