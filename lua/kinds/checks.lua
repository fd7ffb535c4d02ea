--- Fields of extracts and loads that say what is checked: `verify`, `on_drift`, `reject`.
---
--- Settled, `reject` is { max =, percent =, to = }: more bad rows than either of the two fail the
--- load; without both, any number is set aside.

local locations = require "tidemill.locations"
local read_part = require "tidemill.kinds.part"
local types = require "tidemill.kinds.types"

local checks = {}

checks.verify = { type = "choice", choices = { "count", "hash" } }
checks.on_drift = { type = "choice", choices = { "fail", "ignore", "add" } } -- default: "fail"

local REJECT = {
  max = { type = "integer", min = 0 },
  percent = { type = "number", min = 0, max = 100 },
  to = { type = "location", required = true },
}

--- Where bad rows go, and how many may.
function types.reject(value, _, report, name)
  if not types.is_plain(value) or #value > 0 then
    return nil, "a table such as { max = 100, to = \"lake:rejects/\" }"
  end
  return read_part("'reject'", value, REJECT, report, name)
end

--- What an extract's `verify` does not go with.
---@param spec table
---@param report fun(field: string?, message: string, hint: string?)
function checks.finish_extract(spec, report)
  if spec.verify == "hash" and spec.map then
    report("verify", "has verify = \"hash\" beside a map",
      "a map makes other rows than the source has; its rows can be counted, not compared")
  end
  if spec.verify and spec.resume then
    report("verify", "has both 'verify' and 'resume'",
      "what an earlier attempt read is of another snapshot than the one that it would be compared with")
  end
end

--- What a load's `reject` does not go with.
---@param spec table
---@param report fun(field: string?, message: string, hint: string?)
function checks.finish_load(spec, report)
  local reject = spec.reject
  if not reject then return end
  if locations.same(reject.to, spec.from) then
    report("reject", "sets bad rows aside in the place that it loads from", "give them a place of their own")
  end
end

return checks
