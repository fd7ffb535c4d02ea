--- What a load makes of increments that are not those of its run; the fields of a watermark.

local increment = require "tidemill.load.increment"
local kinds = require "tidemill.kinds"
local lu = require "luaunit"

local CTX = { flow = "f", run_id = "r2", plan = { by_name = {
  x = { kind = "extract", spec = { to = "lake:a/", watermark = { column = "id" } } },
  y = { kind = "extract", spec = { to = "lake:a" } },
} } }

local function refused(f, ...)
  local ok, raised = pcall(f, ...)
  lu.assertFalse(ok)
  lu.assertEquals(raised.kind, "conflict")
end

TestLoad = {}

function TestLoad.test_an_append_takes_increments_of_its_own_run_only()
  local append, m = { mode = "append" }, { id = "m", increment = true, flow = "f", run = "r1" }
  refused(increment.check, CTX, append, m)
  increment.check(CTX, { mode = "merge" }, m)
  increment.check(CTX, append, { id = "m", increment = true, flow = "f", run = "r2" })
  increment.check(CTX, append, { id = "m", increment = true, flow = "other", run = "r1" })
  increment.check(CTX, append, { id = "m", flow = "f", run = "r1" })
end

function TestLoad.test_what_was_committed_must_be_the_increment_that_there_is()
  local load = { from = "lake:a" }
  local function with(upstream) return setmetatable({ upstream = upstream }, { __index = CTX }) end
  refused(increment.check_done, with { x = { manifest = "m2" } }, load, { manifest = "m1" })
  increment.check_done(with { x = { manifest = "m1" } }, load, { manifest = "m1" })
  increment.check_done(with { y = { manifest = "m2" } }, load, { manifest = "m1" }) -- not an increment
  increment.check_done(with { x = {} }, load, { manifest = "m1" })
  increment.check_done(with {}, load, { manifest = "m1" })
end

TestFields = {}

local function watermark(value)
  local faults = {}
  local values = kinds.read("node 'x'", { watermark = value }, { watermark = kinds.nodes.extract.watermark },
    function(_, message) faults[#faults + 1] = message end)
  return values.watermark, faults[1]
end

function TestFields.test_a_watermark_is_a_column_or_a_table()
  lu.assertEquals(watermark "at", { column = "at" })
  lu.assertEquals(watermark { column = '"At"', overlap = "1 hour" }, { column = '"At"', overlap = { seconds = 3600 } })
  for text, seconds in pairs { ["90s"] = 90, ["2 days"] = 172800, ["1h30m"] = 5400, ["1 hour 30 minutes"] = 5400,
    ["1 Week"] = 604800, ["30 sec"] = 30, ["5 min"] = 300 } do
    lu.assertEquals(watermark { column = "at", overlap = text }.overlap, { seconds = seconds }, text)
  end
  lu.assertEquals(watermark { column = "id", overlap = 1000 }.overlap, { number = 1000 })
end

function TestFields.test_what_is_no_watermark_is_refused()
  for _, value in ipairs { 7, "a.b", "a b", { "at" }, { overlap = 3 }, { column = "at", overlap = "0s" },
    { column = "at", overlap = -1 }, { column = "at", overlap = "1 fortnight" }, { column = "at", lag = 3 } } do
    local _, fault = watermark(value)
    lu.assertIsString(fault)
  end
end

os.exit(lu.LuaUnit.run())
