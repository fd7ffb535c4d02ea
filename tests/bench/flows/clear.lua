--- Deletes every object below a prefix of the lake. Run by `tidemill exec`.

local oss = require "oss"

local lake <close> = oss.open(os.getenv "LAKE_URL", { endpoint = os.getenv "LAKE_ENDPOINT", region = "cn-test" })
local keys = {}
for entry in lake:list(arg[1]) do keys[#keys + 1] = entry.key end
lake:delete_many(keys)
