-- needs: pg
--- What nodes keep from run to run, and the objects they have sealed, on PostgreSQL.

local facts_suite = require "tests.support.facts_suite"
local lu = require "luaunit"
local pgtest = require "tests.support.pgtest"
local sealed_suite = require "tests.support.sealed_suite"
local state = require "tidemill.state"

local function make()
  local uri = pgtest.database "tm_facts"
  return function(options) return state.open(uri, options) end, function() pgtest.drop "tm_facts" end
end

facts_suite.define("TestFacts", make)
sealed_suite.define("TestSealed", make)

os.exit(lu.LuaUnit.run())
