--- Extract and load, one after the other, as the seed pipeline does.

local flow = require "flow"

return flow "bench pipeline" {
  flow.extract "out" { from = "rds", table = "mixed", to = "lake:pipe/", format = "text", compress = "none" },
  flow.load "in" { after = "out", from = "lake:pipe/", on = "adbpg", into = "mixed" },
}
