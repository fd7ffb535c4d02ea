--- Tests of rds_to_adbpg_fdw.lua: `tidemill test scripts`.

local t = require "flowtest"

local flow = t.flow "rds_to_adbpg_fdw.lua"

t.test("it fires at each full hour in Shanghai", function()
  t.equal(flow:firings(3, "2026-02-28 22:30:00"),
    { "2026-02-28 23:00:00", "2026-03-01 00:00:00", "2026-03-01 01:00:00" })
end)

t.test("both nodes know the day before the scheduled time", function()
  local hour = flow:at "2026-03-01 00:00:00"
  t.equal(hour:vars("Extract data from RDS").mydate, "20260228")
  t.equal(hour:vars("Load data to ADBPG").mydate, "20260228")
end)

t.test("rows since that day are written to its folder", function()
  t.equal(flow:at "2024-03-01 12:00:00":sql "Extract data from RDS",
    "DROP FOREIGN TABLE IF EXISTS oss_20240229; CREATE FOREIGN TABLE IF NOT EXISTS oss_20240229 (a int, b int, "
      .. "c date) SERVER ossserver OPTIONS ( dir 'rds/t3/20240229/', DELIMITER '|' , format 'csv', encoding "
      .. "'utf8'); INSERT INTO oss_20240229 SELECT * FROM t_src WHERE c >= '20240229';")
end)

t.test("the load reads the folder of the same day", function()
  t.equal(flow:at "2024-03-01 12:00:00":sql "Load data to ADBPG",
    "CREATE FOREIGN TABLE IF NOT EXISTS oss_20240229( a int , b int , c date ) SERVER oss_serv OPTIONS ( dir "
      .. "'rds/t3/20240229/', format 'csv', delimiter '|', encoding 'utf8'); "
      .. "INSERT INTO t_target SELECT * FROM oss_20240229;")
end)

t.test("nothing is loaded when the extract fails", function()
  local run = flow:run { outcomes = { ["Extract data from RDS"] = "fail" } }
  t.equal(run.state, "failed")
  t.equal(run.states, { ["Extract data from RDS"] = "failed", ["Load data to ADBPG"] = "skipped" })
end)
