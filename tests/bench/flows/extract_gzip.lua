--- One extract of the table `mixed`, as COPY text, with gzip.

local flow = require "flow"

return flow "bench extract gzip" {
  flow.extract "out" { from = "rds", table = "mixed", to = "lake:gzip/", format = "text", compress = "gzip" },
}
