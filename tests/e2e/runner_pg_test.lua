-- needs: pg
--- runner: as unit/runner_random_test.lua, on a PostgreSQL store.

local chaos = require "tests.support.chaos"
local lab = require "tests.support.lab"
local lu = require "luaunit"

TestRandomPg = {}

local SEEDS = 25

function TestRandomPg.test_whatever_happens_every_run_ends_and_nothing_commits_side_by_side()
  local l <close> = lab.new "runner_pg"
  local conn, url = l:database("state", os.getenv "TM_PG")
  local only = math.tointeger(os.getenv "TM_SEED")
  for seed = only or 1001, only or 1000 + SEEDS do
    chaos.play(seed, { url = url })
    conn:exec "DROP SCHEMA tidemill CASCADE"
  end
end

os.exit(lu.LuaUnit.run())
