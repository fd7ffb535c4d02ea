--- An extract through a Lua map that reads and writes a column of each row.

local flow = require "flow"

return flow "bench map" {
  flow.extract "out" {
    from = "rds", table = "mixed", to = "lake:map/", format = "text", compress = "none",
    map = function(row)
      row.n = row.id
      return row
    end,
  },
}
