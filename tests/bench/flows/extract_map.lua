--- One extract of the table `mixed` through a Lua map that reads one column and writes
--- another, as COPY text, uncompressed.

local flow = require "flow"

return flow "bench extract map" {
  flow.extract "out" {
    from = "rds", table = "mixed", to = "lake:map/", format = "text", compress = "none",
    map = function(row)
      row.n = row.id
      return row
    end,
  },
}
