--- Tests of events_by_day.lua: `tidemill test scripts`.

local t = require "flowtest"

local flow = t.flow "events_by_day.lua"

local EXTRACT, LOAD = "events of the day", "the day in the warehouse"

t.test("it fires a quarter past midnight", function()
  t.equal(flow:firings(2, "2026-12-31"), { "2026-12-31 00:15:00", "2027-01-01 00:15:00" })
end)

t.test("what is read is what is replaced: one day, from midnight to midnight in Shanghai", function()
  local night = flow:at "2026-03-01 00:15:00"
  t.equal(night:spec(EXTRACT).where, "at >= '2026-02-28 00:00:00+08' AND at < '2026-03-01 00:00:00+08'")
  t.equal(night:spec(LOAD).where, night:spec(EXTRACT).where)
  t.equal(night:spec(LOAD).from, night:spec(EXTRACT).to)
end)

t.test("a broken extract loads nothing and is tried again", function()
  local run = flow:run { outcomes = { [EXTRACT] = { "fail", "success" } } }
  t.equal(run.state, "success")
  t.equal(run.nodes[EXTRACT].attempts, 2)
  run = flow:run { outcomes = { [EXTRACT] = "fail" } }
  t.equal(run.states, { [EXTRACT] = "failed", [LOAD] = "skipped" })
end)
