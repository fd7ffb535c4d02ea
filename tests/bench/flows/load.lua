--- One load of what extract.lua left.

local flow = require "flow"

return flow "bench load" {
  flow.load "in" { from = "lake:plain/", on = "adbpg", into = "mixed" },
}
