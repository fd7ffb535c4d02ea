-- budget: a node's memory divided over the streams of its body.
local lu = require "luaunit"
local budget = require "tidemill.budget"

local MIB <const> = 1 << 20

local function parts(megabytes, want) return budget.divide(megabytes * MIB, want).parts end

-- What the streams of a division may hold together.
local function held(share, want)
  local p = share.parts
  local zip = (4 * p.zip.workers + 4) * p.zip.chunk
  local ranges = (want.ahead or 0) + (want.readers or 0) * p.reader.parallel
  return (want.writers or 0) * p.writer.budget_bytes + ranges * p.reader.range_bytes
    + (want.zips or 0) * zip + 20 * MIB + math.max(want.writers or 0, want.readers or 0) * 2 * MIB
    + (want.unzips or 0) * 2 * MIB
end

TestBudget = {}

function TestBudget.test_one_stream_gets_all_that_helps_and_no_more()
  lu.assertEquals(parts(96, { writers = 1, zips = 1 }).writer,
    { budget_bytes = 15 * MIB, part_bytes = 5 * MIB, parallel = 2 })
  lu.assertEquals(parts(96, { writers = 1, zips = 1 }).zip, { workers = 2, chunk = MIB // 2 })
  lu.assertEquals(parts(96, { readers = 1 }).reader, { range_bytes = 2 * MIB, parallel = 2 })
  lu.assertEquals(parts(9600, { readers = 1, writers = 1 }), parts(960, { readers = 1, writers = 1 }))
end

function TestBudget.test_nothing_said_is_the_default()
  lu.assertEquals(budget.divide(nil, { writers = 2 }).parts, parts(96, { writers = 2 }))
end

function TestBudget.test_no_division_is_more_than_the_whole()
  for megabytes = 40, 400, 7 do
    for jobs = 1, 16 do
      for _, want in ipairs { { writers = jobs }, { readers = jobs, ahead = 1, unzips = jobs }, { writers = jobs, zips = jobs },
        { readers = jobs, writers = jobs, zips = jobs, unzips = jobs } } do
        local ok, share = pcall(budget.divide, megabytes * MIB, want)
        if ok then
          lu.assertTrue(held(share, want) <= megabytes * MIB, ("%d MiB, %d jobs"):format(megabytes, jobs))
          lu.assertTrue(share.parts.writer.part_bytes <= share.parts.writer.budget_bytes)
        end
      end
    end
  end
end

function TestBudget.test_more_jobs_get_less_each()
  local one, six, eight = parts(96, { writers = 1 }), parts(96, { writers = 6 }), parts(96, { writers = 8 })
  lu.assertTrue(one.writer.budget_bytes > six.writer.budget_bytes)
  lu.assertTrue(six.writer.budget_bytes > eight.writer.budget_bytes)
  lu.assertEquals(eight.writer.part_bytes, 5 * MIB) -- S3 takes no smaller one
  lu.assertTrue(eight.writer.parallel >= 1)
end

function TestBudget.test_the_default_is_enough_for_what_nodes_do_by_default()
  budget.divide(nil, { writers = 2, zips = 2 })
  budget.divide(nil, { readers = 8, unzips = 8 })
  budget.divide(nil, { writers = 6, zips = 6 })
end

function TestBudget.test_too_little_names_what_would_do()
  local ok, raised = pcall(parts, 96, { writers = 16, zips = 16 })
  lu.assertFalse(ok)
  lu.assertEquals(raised.kind, "usage")
  lu.assertEquals(raised.message, "96M of memory are too little for 16 jobs at once")
  local memory, jobs = raised.hint:match "^%-%-memory (%d+)M would do, or jobs = (%d+)$"
  parts(tonumber(memory), { writers = 16, zips = 16 })
  parts(96, { writers = tonumber(jobs), zips = tonumber(jobs) })
  lu.assertFalse((pcall(parts, tonumber(memory) - 1, { writers = 16, zips = 16 })))
  lu.assertFalse((pcall(parts, 96, { writers = jobs + 1, zips = jobs + 1 })))
end

function TestBudget.test_where_not_even_one_fits_only_memory_is_named()
  local _, raised = pcall(parts, 10, { writers = 1 })
  lu.assertEquals(raised.message, "10M of memory are too little for 1 job at once")
  lu.assertEquals(raised.hint, "--memory 27M would do")
end

function TestBudget.test_options_that_are_there_stay()
  local share = budget.divide(nil, { writers = 1 })
  lu.assertEquals(share:give("writer", { part_bytes = 7, prefix = "a" }),
    { part_bytes = 7, prefix = "a", budget_bytes = 15 * MIB, parallel = 2 })
end

os.exit(lu.LuaUnit.run())
