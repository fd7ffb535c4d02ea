--- What nodes keep from run to run, and the objects they have sealed, on SQLite.

local facts_suite = require "tests.support.facts_suite"
local lu = require "luaunit"
local sealed_suite = require "tests.support.sealed_suite"
local state = require "tidemill.state"

local function make()
  return function(options) return state.open("sqlite::memory:", options) end, function() end
end

facts_suite.define("TestFacts", make)
sealed_suite.define("TestSealed", make)

os.exit(lu.LuaUnit.run())
