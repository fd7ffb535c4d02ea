--- runner: whatever happens, every run ends (tests/support/chaos.lua). TM_SEED replays one seed.

local chaos = require "tests.support.chaos"
local lu = require "luaunit"

TestRandom = {}

local SEEDS = 150

function TestRandom.test_whatever_happens_every_run_ends_and_nothing_commits_side_by_side()
  local only = math.tointeger(os.getenv "TM_SEED")
  for seed = only or 1, only or SEEDS do chaos.play(seed, { on_file = true }) end
end

os.exit(lu.LuaUnit.run())
