-- needs: ossd
--- oss:// with both signatures, s3:// too, against ossd; and against one that fails on purpose.

local lu = require "luaunit"
local oss = require "oss"
local proc = require "proc"
local suite = require "tests.support.oss_suite"

local function options(over)
  local o = {
    url = "oss://tm-oss-ossd/pre fix", endpoint = os.getenv "TM_OSSD", region = "cn-test",
    access_key_id = os.getenv "TM_OSSD_ID", access_key_secret = os.getenv "TM_OSSD_SECRET",
  }
  for k, v in pairs(over or {}) do o[k] = v end
  return o
end

local function opener(over)
  return function()
    local store = oss.open(options(over))
    store:create_bucket()
    return store
  end
end

local oss_traits = { any_key = true, metadata = true, min_part = 100 << 10 }
local function traits(over)
  local t = { open = opener(over) }
  for k, v in pairs(oss_traits) do t[k] = v end
  return t
end

TestOssV4 = {}
suite.add(TestOssV4, traits())
TestOssV1 = {}
suite.add(TestOssV1, traits { signature = "v1" })
TestS3OnOssd = {}
suite.add(TestS3OnOssd, { open = opener { url = "s3://tm-oss-ossd/s3" }, any_key = true, metadata = true,
  min_part = 5 << 20 })

TestOssOnly = {}

function TestOssOnly:setUp() self.store = opener()() end

function TestOssOnly:tearDown() suite.empty(self.store) end

function TestOssOnly:test_the_store_tells_the_crc()
  self.store:put("k", "hello")
  lu.assertEquals(self.store:head("k").crc64, "11177612005948864433")
end

function TestOssOnly:test_temporary_keys_carry_their_token()
  local key = { access_key_id = os.getenv "TM_OSSD_STS_ID", access_key_secret = os.getenv "TM_OSSD_STS_SECRET" }
  for _, signature in ipairs { "v4", "v1" } do
    key.signature, key.security_token = signature, os.getenv "TM_OSSD_STS_TOKEN"
    local s <close> = oss.open(options(key))
    s:put("k", signature)
    lu.assertEquals((s:get "k"), signature)
    key.security_token = "another"
    local bad <close> = oss.open(options(key))
    local e = suite.raises("auth", bad.get, bad, "k")
    lu.assertNotStrContains(tostring(e) .. (e.hint or "") .. (e.detail or ""), "another")
  end
end

function TestOssOnly:test_keys_come_from_the_environment()
  local script = [[
    local s = require "oss".open("oss://tm-oss-ossd", { region = "cn-test" })
    s:put("env", "x") s:delete "env" io.write(tostring(s))]]
  local file = (os.getenv "TM_TMP" or "build/tmp") .. "/env.lua"
  local f = assert(io.open(file, "w"))
  f:write(script):close()
  local r = proc.run {
    cmd = { os.getenv "TM_BIN" or "build/tidemill", "exec", file }, timeout = 30,
    env = { OSS_ACCESS_KEY_ID = os.getenv "TM_OSSD_ID", OSS_ACCESS_KEY_SECRET = os.getenv "TM_OSSD_SECRET",
      OSS_ENDPOINT = os.getenv "TM_OSSD" },
  }
  lu.assertEquals(r.stderr, "")
  lu.assertEquals(r.stdout, "oss.Store (oss://tm-oss-ossd/)")
end

function TestOssOnly:test_a_wrong_secret_and_a_missing_bucket_are_told_apart()
  local wrong <close> = oss.open(options { access_key_secret = "wr0ng" })
  lu.assertEquals(suite.raises("auth", wrong.head, wrong, "k").code, "SignatureDoesNotMatch")
  local missing <close> = oss.open(options { url = "oss://tm-no-such" })
  lu.assertEquals(suite.raises("not_found", missing.head, missing, "k").code, "NoSuchBucket")
end

function TestOssOnly:test_options_are_checked_before_anything_is_sent()
  for _, over in ipairs {
    { url = "ftp://x" }, { url = "oss://" }, { url = "oss://a b" }, { region = "" , endpoint = "http://127.0.0.1:1" },
    { addressing = "sideways" }, { signature = "v9" }, { endpoint = "http://h/p" }, { endpoint = "u@h" },
    { access_key_secret = "" }, { addressing = "virtual" }, { colour = "red" },
  } do
    suite.raises("usage", oss.open, options(over))
  end
end

-- ---- one that fails on purpose ----

local function with_faults(faults, f)
  local dir = (os.getenv "TM_TMP" or "build/tmp") .. "/faulty"
  assert(os.execute("rm -rf '" .. dir .. "'"))
  local cmd = { os.getenv "TM_BIN" or "build/tidemill", "ossd", "--root", dir, "--listen", "127.0.0.1:0",
    "--region", "cn-test", "--bucket", "tm-faulty" }
  for _, fault in ipairs(faults) do
    cmd[#cmd + 1] = "--fault"
    cmd[#cmd + 1] = fault
  end
  local child <close> = proc.spawn { cmd = cmd, stdout = "pipe", stderr = "null", env = { OSSD_KEYS = "ID:SECRET" } }
  local line = ""
  while not line:find "\n" do line = line .. child:read(1, 60) end
  local store <close> = oss.open {
    url = "oss://tm-faulty", endpoint = line:match "http://%S+", region = "cn-test",
    access_key_id = "ID", access_key_secret = "SECRET", attempts = 8,
  }
  f(store)
end

-- Several objects up and down through streams; everything must be right in the end.
local function work(store)
  local rows = ("0123456789abcdef"):rep(4096)
  local sink <close> = store:objects { prefix = "w/", object_bytes = 1 << 20, part_bytes = 200 << 10 }
  for _ = 1, 40 do sink:write(rows, 1) end
  sink:finish()
  lu.assertEquals(#sink:objects(), 3)
  for _, o in ipairs(sink:objects()) do
    local source <close> = store:reader(o.key, { etag = o.etag, size = o.bytes, crc64 = o.crc64,
      range_bytes = 300 << 10 })
    local n = 0
    while true do
      local bytes = source:read()
      if not bytes then break end
      n = n + #bytes
    end
    lu.assertEquals(n, o.bytes)
  end
  lu.assertEquals(store:list_multiparts(), {})
end

TestFaults = {}

for name, faults in pairs {
  ["503"] = { "503=4" }, cut_bodies = { "cut=3" }, cut_uploads = { "cut-put=4" }, lost_answers = { "drop-put=4" },
  wrong_crcs = { "crc=4" }, errors_inside_200 = { "complete-error=2" }, lost_completions = { "complete-drop=2" },
  short_pages = { "page=1" }, a_fast_clock = { "skew=4000" }, everything = { "503=7", "cut=5", "drop-put=6", "page=2" },
} do
  TestFaults["test_work_succeeds_in_spite_of_" .. name] = function() with_faults(faults, work) end
end

function TestFaults.test_a_corrupt_body_is_never_taken_for_the_object()
  with_faults({ "corrupt=1" }, function(store)
    store:put("k", ("x"):rep(1000))
    suite.raises("integrity", store.get, store, "k")
    local info = store:head "k"
    for _, known in ipairs { {}, { etag = info.etag, size = info.size } } do -- with both there is no HEAD
      known.range_bytes = 100
      local source <close> = store:reader("k", known)
      suite.raises("integrity", function() while source:read() do end end)
    end
  end)
end

os.exit(lu.LuaUnit.run())
