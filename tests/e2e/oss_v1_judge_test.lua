-- needs: radosgw node
--- OSS V1 signatures judged by a server of others.
---
--- Without x-oss headers and with plain keys an OSS V1 string to sign is that of AWS V2, so a
--- proxy that only turns "OSS id:signature" into "AWS id:signature" lets radosgw verify ours.

local lu = require "luaunit"
local oss = require "oss"
local proc = require "proc"
local suite = require "tests.support.oss_suite"

local PROXY = [[
const http = require('http'), to = new URL(process.argv[1]);
http.createServer((q, r) => {
  const headers = { ...q.headers };
  if (headers.authorization) headers.authorization = headers.authorization.replace(/^OSS /, 'AWS ');
  const p = http.request({ host: to.hostname, port: to.port, method: q.method, path: q.url, headers }, (a) => {
    r.writeHead(a.statusCode, a.headers);
    a.pipe(r);
  });
  q.pipe(p);
}).listen(0, '127.0.0.1', function () { console.log(this.address().port) });
]]

local function open(port, secret)
  return oss.open {
    url = "oss://tm-oss-v1", endpoint = "http://127.0.0.1:" .. port, signature = "v1",
    access_key_id = os.getenv "TM_S3_ID", access_key_secret = secret or os.getenv "TM_S3_SECRET",
  }
end

TestV1 = {}

function TestV1:test_radosgw_accepts_our_v1_and_only_with_the_right_secret()
  local child <close> = proc.spawn { cmd = { "node", "-e", PROXY, os.getenv "TM_S3" }, stdout = "pipe" }
  local line = ""
  while not line:find "\n" do line = line .. child:read(1, 60) end
  local port = line:match "%d+"
  local s <close> = open(port)
  s:create_bucket()
  s:put("dir/key.txt", "judged", { content_type = "text/plain" })
  lu.assertEquals((s:get "dir/key.txt"), "judged")
  lu.assertEquals(s:head("dir/key.txt").size, 6)
  local id = s:create_multipart "mp" -- signs the sub-resources uploads, uploadId, partNumber
  local part = s:upload_part("mp", id, 1, "part")
  lu.assertEquals(s:complete_multipart("mp", id, { part }).size, 4)
  lu.assertEquals(s:delete_many { "dir/key.txt", "mp" }, {})
  local wrong <close> = open(port, "wr0ng")
  lu.assertEquals(suite.raises("auth", wrong.put, wrong, "k", "x").code, "SignatureDoesNotMatch")
end

os.exit(lu.LuaUnit.run())
