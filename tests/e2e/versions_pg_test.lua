-- needs: pg
--- Published flows, backfills and what is read of runs, on PostgreSQL.

local lu = require "luaunit"
local pgtest = require "tests.support.pgtest"
local state = require "tidemill.state"
local suite = require "tests.support.versions_suite"

suite.define("TestVersions", function()
  local uri = pgtest.database "tm_versions"
  return function(options) return state.open(uri, options) end, function() pgtest.drop "tm_versions" end
end)

os.exit(lu.LuaUnit.run())
