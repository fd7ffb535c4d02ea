--- One extract of the table `mixed`, as COPY text, uncompressed.

local flow = require "flow"

return flow "bench extract" {
  flow.extract "out" { from = "rds", table = "mixed", to = "lake:plain/", format = "text", compress = "none" },
}
