-- needs: radosgw
--- s3:// against a store of others that verifies signatures.

local lu = require "luaunit"
local oss = require "oss"
local suite = require "tests.support.oss_suite"

local function options(over)
  local o = {
    url = "s3://tm-oss-s3/a prefix+%", endpoint = os.getenv "TM_S3",
    access_key_id = os.getenv "TM_S3_ID", access_key_secret = os.getenv "TM_S3_SECRET",
  }
  for k, v in pairs(over or {}) do o[k] = v end
  return o
end

local function open()
  local store = oss.open(options())
  store:create_bucket()
  return store
end

TestS3 = {}
suite.add(TestS3, { open = open, any_key = true, metadata = true, min_part = 5 << 20 })

TestS3Only = {}

function TestS3Only:setUp() self.store = open() end

function TestS3Only:tearDown() suite.empty(self.store) end

function TestS3Only:test_2500_keys_are_listed_and_deleted()
  local keys = {}
  for i = 1, 2500 do
    keys[i] = ("many/%05d"):format(i)
    self.store:put(keys[i], "")
  end
  local n = 0
  for entry in self.store:list "many/" do
    n = n + 1
    lu.assertEquals(entry.key, keys[n])
  end
  lu.assertEquals(n, 2500)
  lu.assertEquals(self.store:delete_many(keys), {})
  lu.assertNil(self.store:list()())
end

function TestS3Only:test_a_wrong_secret_is_an_auth_error_without_the_secret()
  local s = oss.open(options { access_key_secret = "wr0ng-s3cret" })
  local e = suite.raises("auth", s.put, s, "k", "x")
  lu.assertEquals(e.code, "SignatureDoesNotMatch")
  lu.assertEquals(e.status, 403)
  lu.assertNotNil(e.request_id)
  lu.assertStrContains(e.message, "s3://tm-oss-s3/a prefix+%/k")
  lu.assertStrContains(e.hint, "secret")
  for _, text in pairs(e) do lu.assertNotStrContains(tostring(text), "wr0ng") end
  lu.assertNotStrContains(tostring(s), "wr0ng")
end

function TestS3Only:test_a_missing_bucket_is_named()
  local s = oss.open(options { url = "s3://tm-no-such-bucket" })
  local e = suite.raises("not_found", s.get, s, "k")
  lu.assertEquals(e.code, "NoSuchBucket")
  lu.assertStrContains(e.hint, "tm-no-such-bucket")
  suite.raises("not_found", s.put, s, "k", "x")
end

function TestS3Only:test_an_unknown_key_id_is_an_auth_error()
  local s = oss.open(options { access_key_id = "NOBODY" })
  suite.raises("auth", s.put, s, "k", "x")
end

function TestS3Only:test_presigned_urls_work_without_keys()
  self.store:put("signed + file", "by url")
  local url = self.store:presign("GET", "signed + file", { expires = 60 })
  local p = assert(io.popen("curl -sf '" .. url .. "'"))
  lu.assertEquals(p:read "a", "by url")
  p:close()
  local up = self.store:presign("PUT", "uploaded", { content_type = "text/plain" })
  lu.assertTrue(os.execute("curl -sf -X PUT -H 'Content-Type: text/plain' -d sent '" .. up .. "' >/dev/null"))
  lu.assertEquals((self.store:get "uploaded"), "sent")
end

function TestS3Only:test_an_unreachable_endpoint_is_a_connect_error()
  local s = oss.open(options { endpoint = "http://127.0.0.1:1", attempts = 2 })
  local e = suite.raises("connect", s.get, s, "k")
  lu.assertStrContains(e.hint, "127.0.0.1:1")
end

os.exit(lu.LuaUnit.run())
