--- How an extract divides what it reads: ranges of pages, cuts of a key, what is left to resume; and the SQL
--- of a range.

local keys = require "tidemill.extract.keys"
local lu = require "luaunit"
local ranges = require "tidemill.extract.ranges"
local references = require "tidemill.references"
local resume = require "tidemill.extract.resume"
local selection = require "tidemill.extract.selection"
local shape = require "tidemill.extract.shape"
local snapshot = require "tidemill.extract.snapshot"

local PAGE = 8192

TestPages = {}

local function pages_of(leaves, step)
  local list = {}
  for range in ranges.of_pages(leaves, step) do
    list[#list + 1] = ("%s %d-%s"):format(range.leaf.name, range.from, range.to or "")
  end
  return list
end

local function leaf(name, pages, whole) return { name = name, bytes = pages * PAGE, whole_bytes = (whole or pages) * PAGE } end

function TestPages.test_ranges_meet_and_the_last_of_each_table_is_open()
  lu.assertEquals(pages_of({ leaf("a", 25), leaf("b", 10), leaf("c", 0), leaf("d", 11) }, 10),
    { "a 0-10", "a 10-20", "a 20-", "b 0-", "c 0-", "d 0-10", "d 10-" })
  lu.assertEquals(pages_of({}, 10), {})
end

function TestPages.test_a_table_with_much_outside_of_its_pages_has_shorter_ranges()
  lu.assertEquals(pages_of({ leaf("a", 25, 250) }, 100), { "a 0-10", "a 10-20", "a 20-" })
  lu.assertEquals(#pages_of({ leaf("a", 5, 1 << 30) }, 1000), 5)
end

TestCuts = {}

local function points(text)
  local list = {}
  for k, share in text:gmatch "(%w+)=([%d.]+)" do list[#list + 1] = { k = k, share = tonumber(share) } end
  return list
end

function TestCuts.test_even_points_give_even_cuts()
  lu.assertEquals(keys.cuts(points "a=1 b=1 c=1 d=1 e=1 f=1 g=1 h=1", 4), { "c", "e", "g" })
  lu.assertEquals(keys.cuts(points "a=0.1 b=0.1 c=0.1", 3), { "b", "c" })
end

function TestCuts.test_a_lump_stands_alone_and_is_never_cut()
  lu.assertEquals(keys.cuts(points "a=1 b=1 c=96 d=1 e=1", 4), { "d" })
  lu.assertEquals(keys.cuts(points "a=1 b=1 c=40 d=40 e=10 f=8", 4), { "d", "e" })
end

function TestCuts.test_few_points_give_few_cuts()
  lu.assertEquals(keys.cuts(points "a=1", 4), {})
  lu.assertEquals(keys.cuts({}, 4), {})
  lu.assertEquals(keys.cuts(points "a=1 b=1", 9), { "b" })
end

TestRanges = {}

local KEY = { expression = "o.id", type = "integer", name = "id", is_null = " IS NULL", not_null = " IS NOT NULL" }

local function shown(list)
  local out = {}
  for i, range in ipairs(list) do out[i] = ("%s..%s"):format(range.lo or "", range.hi or "") end
  return out
end

function TestRanges.test_the_first_and_the_last_are_open()
  lu.assertEquals(shown(ranges.of_bounds(KEY, { "1", "5" })), { "..1", "1..5", "5.." })
  lu.assertEquals(shown(ranges.of_bounds(KEY, {})), { ".." })
  lu.assertEquals(shown(ranges.of_bounds(KEY, { "7" }, "5", "9")), { "5..7", "7..9" })
end

function TestRanges.test_gaps_are_what_lies_between_the_finished()
  local function gaps(...) return shown(ranges.gaps { ... }) end
  lu.assertEquals(gaps(), { ".." })
  lu.assertEquals(gaps({ hi = "1" }), { "1.." })
  lu.assertEquals(gaps({ lo = "9" }), { "..9" })
  lu.assertEquals(gaps({ hi = "1" }, { lo = "1", hi = "2" }, { lo = "5", hi = "6" }, { lo = "9" }), { "2..5", "6..9" })
  lu.assertEquals(gaps({}), {})
  lu.assertEquals(gaps({ hi = "1" }, { lo = "1" }, { null = true }), {})
  lu.assertEquals(gaps({ null = true }), { ".." })
end

TestResume = {}

function TestResume.test_a_range_is_finished_when_all_its_objects_are_known()
  local function object(number, count) return { key = "k", span = { number = number, count = count } } end
  local finished = resume.finished { object(3), object(1, 1), object(3), object(2), object(4, 2), object(3, 3), { key = "x" } }
  lu.assertEquals({ #finished, finished[1].number, finished[2].number, #finished[2].objects }, { 2, 1, 3, 3 })
end

local function answering(list) return { attempt = 4, earlier = function() return list end } end

function TestResume.test_the_newest_attempt_that_sealed_anything_tells()
  local list = {
    { key = "b2", attempt = 3, span = { number = 1, count = 1 } }, { key = "b3", attempt = 3, span = { number = 2 } },
    { key = "a1", attempt = 1, span = { number = 2, count = 1 } },
  }
  local finished, keep = resume.find(answering(list), { resume = true })
  lu.assertEquals({ #finished, keep }, { 1, { b2 = true } })
  lu.assertNil(resume.find(answering(list), {}))
end

TestSql = {}

local function query(text, more)
  local self = { spec = { query = text, template = { references.template(text) } } }
  for name, value in pairs(more or {}) do self[name] = value end
  return setmetatable(self, selection.Selection)
end

function TestSql.test_a_query_has_its_range_filled_in()
  local q = query "SELECT * FROM o WHERE o.id >= ${lo} AND o.id < ${hi} AND ${range}; "
  lu.assertEquals(q:sql { key = KEY, lo = "1", hi = "o'k" },
    "SELECT * FROM o WHERE o.id >= '1'::integer AND o.id < 'o''k'::integer AND "
    .. "(o.id >= '1'::integer AND o.id < 'o''k'::integer)")
  lu.assertEquals(q:sql { key = KEY }, "SELECT * FROM o WHERE o.id >= ALL ('{}'::integer[]) AND o.id < " ..
    "ALL ('{}'::integer[]) AND (TRUE)")
  lu.assertStrContains(q:sql { key = KEY, null = true }, "AND (o.id IS NULL)")
  lu.assertStrContains(q:sql { key = KEY, filled = true }, "AND (o.id IS NOT NULL)")
end

function TestSql.test_what_is_not_the_ranges_stays_as_it_is_written()
  lu.assertEquals(query("SELECT '$${lo}'"):sql { key = KEY }, "SELECT '${lo}'")
  local q = query("SELECT 1 -- all", { picked = true, columns = { { name = "a" }, { name = 'b"' } }, predicate = "a > 1" })
  lu.assertEquals(q:sql { key = KEY }, 'SELECT "a", "b""" FROM (SELECT 1 -- all\n) AS q WHERE a > 1')
end

function TestSql.test_a_table_is_read_by_name_or_by_the_pages_of_a_leaf()
  local t = setmetatable({ spec = { table = "public.t", where = "a > 1 -- some" }, relation = { name = "t" },
    columns = { { name = "a" } } }, selection.Selection)
  lu.assertEquals(t:sql {}, "SELECT * FROM public.t WHERE (a > 1 -- some\n)")
  lu.assertEquals(t:sql { leaf = { schema = "s", name = "T 1" }, from = 5, to = 9 },
    [[SELECT "a" FROM ONLY "s"."T 1" AS "t" WHERE ctid >= '(5,0)' AND ctid < '(9,0)' AND (a > 1 -- some]] .. "\n)")
  lu.assertStrContains(t:sql { leaf = { itself = true }, from = 0 }, "FROM ONLY public.t WHERE ctid >= '(0,0)' AND")
  t.predicate = "b"
  lu.assertEquals(t:sql { key = KEY, hi = "3" },
    "SELECT * FROM public.t WHERE o.id < '3'::integer AND (b) AND (a > 1 -- some\n)")
end

TestSnapshot = {}

-- A connection of which the transaction runs in the session `pid`.
local function connection(pid)
  local conn = { closed = 0 }
  function conn.pid() return 7 end
  function conn.pooled() return true end
  function conn.transaction() return {} end
  function conn.one() return { text = "1:1:", pid = pid } end
  function conn.close() conn.closed = conn.closed + 1 end
  return conn
end

function TestSnapshot.test_a_pooler_that_lends_its_sessions_is_noticed()
  local conn, log = connection(8), {}
  local ctx = { postgres = function() return conn end, log = function(_, _, text) log[#log + 1] = text end }
  local ok, raised = pcall(snapshot.open, ctx, { from = "rds" })
  lu.assertFalse(ok)
  lu.assertEquals(raised.message, "connection 'rds' goes through a pooler in transaction mode")
  lu.assertEquals({ conn.closed, #log }, { 1, 1 })
  conn = connection(7)
  lu.assertEquals(snapshot.open(ctx, { from = "rds" }).text, "1:1:")
  lu.assertEquals(conn.closed, 0)
end

TestShape = {}

function TestShape.test_there_are_several_objects_as_soon_as_it_is_worth_it()
  local function size(bytes, jobs, compress, fixed)
    local self = setmetatable({ spec = { object_size = fixed }, format = { compress = compress } }, shape.Shape)
    return self:object_bytes { bytes = bytes, jobs = jobs } >> 20
  end
  lu.assertEquals(size(nil, 1, "none"), 32)
  lu.assertEquals(size(1 << 20, 1, "none"), 8)
  lu.assertEquals(size(1 << 30, 2, "none"), 32)
  lu.assertEquals(size(1 << 30, 2, "gzip"), 9)
  lu.assertEquals(size(1 << 40, 2, "gzip"), 64)
  lu.assertEquals(size(1 << 40, 2, "gzip", 100 << 20), 100)
end

function TestShape.test_only_the_first_objects_for_which_a_load_waits_are_small()
  local place = { prefix = "p/", who = { node = "x", run = "r", attempt = 1, business = 0 } }
  local function small(job, followed, fixed)
    local self = setmetatable({ spec = { object_size = fixed }, format = { compress = "none" }, suffix = ".csv",
      followed = followed }, shape.Shape)
    return self:sink(place, job, { jobs = 2 }).first_bytes ~= nil
  end
  lu.assertEquals({ small(1, true), small(2, true) }, { true, true })
  lu.assertFalse(small(3, true)) -- a later range of an extract that may be resumed
  lu.assertFalse(small(1, nil))
  lu.assertFalse(small(1, true, 64 << 20))
end

os.exit(lu.LuaUnit.run())
