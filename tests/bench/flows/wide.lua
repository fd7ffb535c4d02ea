--- A hundred nodes of SQL with variables, in ten chains, for `tidemill check`.

local flow = require "flow"

local nodes = {}
for i = 1, 100 do
  nodes[i] = flow.sql(("node %d"):format(i)) {
    on = "rds",
    after = i > 10 and ("node %d"):format(i - 10) or nil,
    vars = { day = flow.time "yyyyMMdd" },
    sql = "INSERT INTO days SELECT '${day}'",
  }
end
return flow "bench wide" (nodes)
