--- Tests of rds_to_adbpg.lua: `tidemill test scripts`.

local t = require "flowtest"

local flow = t.flow "rds_to_adbpg.lua"

t.test("it fires at each full hour in Shanghai", function()
  t.equal(flow:firings(3, "2026-02-28 22:30:00"),
    { "2026-02-28 23:00:00", "2026-03-01 00:00:00", "2026-03-01 01:00:00" })
end)

t.test("rows since the day before the scheduled time are extracted", function()
  local hour = flow:at "2026-03-01 00:00:00"
  t.equal(hour:vars("Extract data from RDS").mydate, "20260228")
  t.equal(hour:sql "Extract data from RDS", "SELECT * FROM t_src WHERE c >= '20260228'")
end)

t.test("the load reads where the extract of the same day writes", function()
  local hour = flow:at "2024-03-01 12:00:00"
  t.equal(hour:spec("Extract data from RDS").to, "lake:rds/t3/20240229/")
  t.equal(hour:spec("Load data to ADBPG").from, hour:spec("Extract data from RDS").to)
end)

t.test("objects are CSV as in the tutorial", function()
  local spec = flow:at("2026-03-01 00:00:00"):spec "Extract data from RDS"
  t.equal({ spec.format, spec.delimiter, spec.header, spec.compress }, { "csv", "|", false, "none" })
end)

t.test("nothing is loaded when the extract fails", function()
  local run = flow:run { outcomes = { ["Extract data from RDS"] = "fail" } }
  t.equal(run.state, "failed")
  t.equal(run.states, { ["Extract data from RDS"] = "failed", ["Load data to ADBPG"] = "skipped" })
end)
