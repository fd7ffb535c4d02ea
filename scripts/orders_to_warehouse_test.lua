--- Tests of orders_to_warehouse.lua: `tidemill test scripts`.

local csv = require "csv"
local t = require "flowtest"

local flow = t.flow "orders_to_warehouse.lua"

local EXTRACT, LOAD = "orders to the lake", "orders into the warehouse"

t.test("it fires every night at half past one", function()
  t.equal(flow:firings(2, "2026-12-31"), { "2026-12-31 01:30:00", "2027-01-01 01:30:00" })
end)

t.test("one day is read, from midnight to midnight in Shanghai", function()
  local sql = flow:at("2026-03-01 01:30:00"):sql(EXTRACT)
  t.contains(sql, "created_at >= '2026-02-28 00:00:00+08'")
  t.contains(sql, "created_at < '2026-03-01 00:00:00+08'")
end)

t.test("the same day is cleared before it is loaded, and summed up after", function()
  local night = flow:at "2026-03-01 01:30:00"
  t.contains(night:sql "prepare warehouse", "DELETE FROM dw.orders")
  t.contains(night:sql "prepare warehouse", "created_at < '2026-03-01 00:00:00+08'")
  t.contains(night:sql "daily revenue", "DELETE FROM dw.revenue WHERE day = '2026-02-28'")
  t.equal(night:spec(LOAD).into, "dw.orders")
end)

t.test("e-mail addresses are masked and test orders dropped", function()
  local rows = flow:map(EXTRACT, {
    { id = 1, customer = "ann", email = "ann.lee@example.com" },
    { id = 2, customer = "test", email = "x@example.com" },
    { id = 3, customer = "bob", email = csv.null },
  })
  t.equal(rows, {
    { id = "1", customer = "ann", email = "a***@example.com" },
    { id = "3", customer = "bob", email = csv.null },
  })
end)

t.test("the load waits for the table and for the objects", function()
  local run = flow:run { takes = { ["prepare warehouse"] = "10m", [EXTRACT] = "3m" } }
  t.equal(run.state, "success")
  t.equal(run.order, { "prepare warehouse", EXTRACT, LOAD, "daily revenue", "report" })
  t.equal(run.starts[3], { node = LOAD, attempt = 1, at = 600 })
end)

t.test("a broken extract is tried three times more, half a minute apart at first", function()
  local run = flow:run { outcomes = { [EXTRACT] = { "fail", "fail", "fail", "success" } } }
  t.equal(run.state, "success")
  t.equal(run.nodes[EXTRACT].attempts, 4)
  local starts = {}
  for _, start in ipairs(run.starts) do
    if start.node == EXTRACT then starts[#starts + 1] = start.at end
  end
  t.equal(starts, { 0, 31, 92, 213 })
end)

t.test("without objects nothing is loaded, and the table is prepared all the same", function()
  local run = flow:run { outcomes = { [EXTRACT] = { state = "fail", kind = "auth", message = "no permission" } } }
  t.equal(run.states, { ["prepare warehouse"] = "success", [EXTRACT] = "failed", [LOAD] = "skipped",
    ["daily revenue"] = "skipped", report = "skipped" })
end)

t.test("a load of more than two hours is given up and tried again", function()
  local run = flow:run { outcomes = { [LOAD] = { "timeout", "success" } } }
  t.equal(run.state, "success")
  t.equal(run.nodes[LOAD].attempts, 2)
end)

t.test("the report tells the newest day", function()
  flow:stub("adbpg", { ["SELECT day::text, orders, amount::text FROM dw.revenue..."] = {
    { day = "2026-02-28", orders = 45000, amount = "281250.00" } } })
  t.equal(flow:call("report").log, { "info: 2026-02-28: 45000 orders, 281250.00 in all" })
end)
