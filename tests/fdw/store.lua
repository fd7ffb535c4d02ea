--- store.lua count PREFIX | keys PREFIX | upload KEY: what psql cannot see or do in the bucket of the
--- regression tests. `keys` shows digits of names that are new each time as N; `upload` begins a
--- multipart upload and leaves it.

local oss = require "oss"

local store <close> = oss.open {
  url = "oss://fdw-regress", endpoint = os.getenv "TM_OSSD", region = "cn-test", addressing = "path",
  access_key_id = os.getenv "TM_OSSD_ID", access_key_secret = os.getenv "TM_OSSD_SECRET",
}
local command, prefix = arg[1], arg[2]

local function keys()
  local list = {}
  for entry in store:list { prefix = prefix } do list[#list + 1] = entry.key end
  return list
end

if command == "upload" then
  store:upload_part(prefix, store:create_multipart(prefix), 1, "left behind")
elseif command == "count" then
  print(("%d objects, %d uploads"):format(#keys(), #store:list_multiparts(prefix)))
else
  for _, key in ipairs(keys()) do print((key:gsub("%d%d%d%d%d%d%d%d+", "N"))) end
end
