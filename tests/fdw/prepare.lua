--- What the files of tests/fdw/sql find in the store: the bucket fdw-regress, empty but for the
--- files of tests/fdw/data, each as `data/NAME`.

local oss = require "oss"
local proc = require "proc"

local store <close> = oss.open {
  url = "oss://fdw-regress", endpoint = os.getenv "TM_OSSD", region = "cn-test", addressing = "path",
  access_key_id = os.getenv "TM_OSSD_ID", access_key_secret = os.getenv "TM_OSSD_SECRET",
}
store:create_bucket()
for entry in store:list {} do store:delete(entry.key) end
for _, upload in ipairs(store:list_multiparts()) do store:abort_multipart(upload.key, upload.upload_id) end
local found = proc.run { cmd = { "find", "tests/fdw/data", "-type", "f" } }
for path in found.stdout:gmatch "[^\n]+" do
  local file <close> = assert(io.open(path, "rb"))
  store:put("data/" .. path:match "[^/]+$", file:read "a")
end
