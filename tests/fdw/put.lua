--- put.lua KEY [gzip|zstd] [BYTES]: what stands on stdin becomes an object of the bucket of the
--- regression tests, compressed, cut after so many bytes.

local oss = require "oss"
local zip = require "zip"

local key, codec, bytes = arg[1], arg[2] or "none", math.tointeger(arg[3])
local text = io.read "a"
if codec ~= "none" then text = zip.compress(text, codec) end
local store <close> = oss.open {
  url = "oss://fdw-regress", endpoint = os.getenv "TM_OSSD", region = "cn-test", addressing = "path",
  access_key_id = os.getenv "TM_OSSD_ID", access_key_secret = os.getenv "TM_OSSD_SECRET",
}
store:put(key, text:sub(1, bytes or -1))
