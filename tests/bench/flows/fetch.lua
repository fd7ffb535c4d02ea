--- Joins the objects below a prefix of the lake to one file. Run by `tidemill exec`.

local oss = require "oss"

local lake <close> = oss.open(os.getenv "LAKE_URL", { endpoint = os.getenv "LAKE_ENDPOINT", region = "cn-test" })
local out <close> = assert(io.open(arg[2], "wb"))
for entry in lake:list(arg[1]) do
  local from <close> = lake:reader(entry.key)
  for bytes in from.read, from do assert(out:write(bytes)) end
end
