--- Which transactions an extract has seen: sets of numbers, and what a row's xmin stands for.

local lu = require "luaunit"
local xids = require "tidemill.extract.xids"

local WRAP = 1 << 32

TestSets = {}

function TestSets.test_what_is_in_one_set_and_not_in_another()
  local a = { { 1, 10 }, { 20, 30 } }
  lu.assertEquals(xids.without(a, {}), a)
  lu.assertEquals(xids.without(a, { { 3, 4 }, { 6, 6 }, { 9, 22 }, { 30, 40 } }), { { 1, 2 }, { 5, 5 }, { 7, 8 }, { 23, 29 } })
  lu.assertEquals(xids.without(a, { { 0, 100 } }), {})
  lu.assertEquals(xids.without(a, { { 10, 10 }, { 20, 20 } }), { { 1, 9 }, { 21, 30 } })
  lu.assertEquals(xids.without({}, a), {})
end

function TestSets.test_random_sets_agree_with_counting()
  math.randomseed(7)
  local function random()
    local set, at = {}, 0
    for i = 1, math.random(0, 6) do
      local from = at + math.random(1, 5)
      set[i] = { from, from + math.random(0, 6) }
      at = set[i][2] + 1
    end
    return set
  end
  local function members(set)
    local all = {}
    for _, range in ipairs(set) do
      for n = range[1], range[2] do all[n] = true end
    end
    return all
  end
  for _ = 1, 2000 do
    local a, b = random(), random()
    local want, got = members(a), members(xids.without(a, b))
    for n in pairs(members(b)) do want[n] = nil end
    lu.assertEquals(got, want)
  end
end

function TestSets.test_increments_meet()
  local first = { below = 100, open = { { 90, 92 }, { 97, 97 } } }
  local second = { below = 120, open = { { 91, 91 }, { 110, 110 } } }
  lu.assertEquals(xids.news(first), { { 0, 89 }, { 93, 96 }, { 98, 99 } })
  lu.assertEquals(xids.news(second, first), { { 90, 90 }, { 92, 92 }, { 97, 97 }, { 100, 109 }, { 111, 119 } })
  lu.assertEquals(xids.news(second, second), {})
end

TestLook = {}

function TestLook.test_what_is_seen_ends_behind_the_last_that_committed()
  lu.assertEquals(xids.found { lo = 50, hi = 60, committed = 55, open = "51-52 57-57" },
    { below = 56, open = { { 51, 52 } } })
  lu.assertEquals(xids.found { lo = 50, hi = 50, committed = 40 }, { below = 41, open = {} })
  lu.assertEquals(xids.found { lo = 50, hi = 50 }, { below = 50, open = {} }) -- nothing is known: all below is over
end

function TestLook.test_what_was_seen_stays_seen()
  local before = { below = 56, open = { { 51, 52 } } }
  lu.assertEquals(xids.found({ lo = 52, hi = 60, open = "52-52" }, before), { below = 56, open = { { 52, 52 } } })
  lu.assertEquals(xids.found({ lo = 52, hi = 60, committed = 58, open = "52-52" }, before),
    { below = 59, open = { { 52, 52 } } })
  lu.assertEquals(xids.withheld(52, before), { below = 56, open = { { 52, 52 } } })
  lu.assertEquals(xids.withheld(70, before), { below = 70, open = {} })
end

function TestLook.test_too_many_ranges_are_left_for_the_next_time()
  local open = {}
  for i = 1, 1200 do open[i] = { 2 * i, 2 * i } end
  local seen = xids.cut { below = 5000, open = open }
  lu.assertEquals({ seen.below, #seen.open, seen.open[1000] }, { 2002, 1000, { 2000, 2000 } })
  lu.assertEquals(xids.cut({ below = 5000, open = open }, { below = 2100, open = {} }).below, 2100)
end

function TestLook.test_a_commit_that_waits_for_a_standby_is_not_seen()
  local seen = { below = 100, open = { { 80, 81 }, { 95, 95 } } }
  lu.assertEquals(xids.confirm(seen, { 80, 95, 101 }), seen)
  lu.assertEquals(xids.confirm(seen, { 80, 90 }), { below = 90, open = { { 80, 81 } } })
  -- it was open before too: so it stays, with all that came after it and was open before
  local before = { below = 93, open = { { 80, 81 }, { 90, 91 } } }
  lu.assertEquals(xids.confirm({ below = 100, open = { { 80, 81 } } }, { 80, 90 }, before),
    { below = 93, open = { { 80, 81 }, { 90, 91 } } })
end

function TestLook.test_a_snapshot_is_taken_apart()
  lu.assertEquals({ xids.parse "10:20:10,14" }, { 10, 20, { 10, 14 } })
  lu.assertEquals({ xids.parse "10:10:" }, { 10, 10, {} })
end

TestWrap = {}

function TestWrap.test_an_xmin_is_completed_to_the_last_number_that_fits()
  lu.assertEquals(xids.complete(700, 1000), 700)
  lu.assertEquals(xids.complete(WRAP - 5, WRAP + 10), WRAP - 5) -- before the wrap
  lu.assertEquals(xids.complete(5, WRAP + 10), WRAP + 5)
  lu.assertEquals(xids.complete(5, 3 * WRAP + 10), 3 * WRAP + 5)
  lu.assertEquals(xids.complete(2000000000, 3 * WRAP + 10), 2 * WRAP + 2000000000)
  for _, next_xid in ipairs { WRAP, WRAP + 1, WRAP + (1 << 31), 5 * WRAP - 1, (1 << 40) + 77 } do
    for _, back in ipairs { 1, 2, 1000, (1 << 31) - 1, (1 << 31), WRAP - 1 } do
      lu.assertEquals(xids.complete((next_xid - back) & (WRAP - 1), next_xid), next_xid - back)
    end
  end
end

function TestWrap.test_the_condition_names_the_set()
  lu.assertEquals(xids.condition({}, 100, 150000), "FALSE")
  local number = "(100 - ((100 - xmin::text::bigint) & 4294967295))"
  lu.assertEquals(xids.condition({ { 0, 50 } }, 100, 150000),
    ("(age(xmin) > age('51'::xid) OR (xmin::text::bigint < 3 OR %s <= 50))"):format(number))
  lu.assertEquals(xids.condition({ { 50, 60 }, { 70, 70 } }, 100, 150000),
    ("(age(xmin) <= age('50'::xid) AND (%s BETWEEN 50 AND 60 OR %s BETWEEN 70 AND 70))"):format(number, number))
  local many = { { 10, 10 }, { 20, 20 }, { 30, 30 }, { 40, 49 } }
  lu.assertStrContains(xids.condition(many, 100, 150000), ("AND int8multirange '{[10,10],[20,20],[30,30],[40,49]}' @> %s")
    :format(number))
  lu.assertStrContains(xids.condition(many, 100, 130000), "BETWEEN 40 AND 49")
end

function TestWrap.test_ages_are_asked_for_only_where_they_compare()
  local far, edge = WRAP + (1 << 30) + 5, WRAP + 5
  lu.assertNotStrContains(xids.condition({ { 0, 5 } }, (1 << 31) + 9, 150000), "age(")
  lu.assertStrContains(xids.condition({ { far - 10, far - 1 } }, far, 150000), ("age('%d'::xid)"):format((1 << 30) - 5))
  lu.assertNotStrContains(xids.condition({ { 0, WRAP } }, edge, 150000), "age(") -- 1 is no transaction's number
end

function TestWrap.test_numbers_that_no_transaction_has_are_not_new()
  local condition = xids.condition({ { WRAP - 10, WRAP + 10 } }, WRAP + 11, 150000)
  lu.assertStrContains(condition, ("BETWEEN %d AND %d"):format(WRAP - 10, WRAP - 1))
  lu.assertStrContains(condition, ("BETWEEN %d AND %d"):format(WRAP + 3, WRAP + 10))
  lu.assertEquals(xids.condition({ { WRAP, WRAP + 2 } }, WRAP + 11, 150000), "FALSE")
end

os.exit(lu.LuaUnit.run())
