-- needs: pg
--- state: the suite on PostgreSQL, and what is PostgreSQL's alone.

local lu = require "luaunit"
local pgtest = require "tests.support.pgtest"
local state = require "tidemill.state"
local suite = require "tests.support.state_suite"

suite.define("TestState", function()
  local uri = pgtest.database "tm_state"
  return function(options) return state.open(uri, options) end, function() pgtest.drop "tm_state" end, uri
end)

os.exit(lu.LuaUnit.run())
