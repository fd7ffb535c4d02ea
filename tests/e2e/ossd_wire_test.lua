-- What ossd does on the wire, request by request: signed here, sent by curl.

local lu = require "luaunit"
local proc = require "proc"
local sign = require "tidemill.sign"
local time = require "time"

local tmp = assert(os.getenv "TM_TMP")
local bin = assert(os.getenv "TM_BIN")

local function sh(command)
  local pipe = assert(io.popen(command))
  local text = pipe:read "a"
  pipe:close()
  return text
end

local function quote(text)
  return "'" .. text:gsub("'", "'\\''") .. "'"
end

local function write(name, bytes)
  local file = assert(io.open(name, "wb"))
  file:write(bytes)
  file:close()
  return name
end

local function read(name)
  local file = assert(io.open(name, "rb"))
  local bytes = file:read "a"
  file:close()
  return bytes
end

-- A server of this test's own. stop(signal) ends it; the directory stays.
local servers = 0
local function start(options, root)
  servers = servers + 1
  root = root or ("%s/server%d.data"):format(tmp, servers)
  local cmd = { bin, "ossd", "--root", root, "--listen", "127.0.0.1:0", "--key", "ID:SECRET", "--bucket", "buck" }
  for word in (options or ""):gmatch "%S+" do
    cmd[#cmd + 1] = word
  end
  local child = proc.spawn { cmd = cmd, stdout = "pipe" }
  local said = ""
  while not said:find "\n" do
    local more = child:read(1, 60)
    assert(more and more ~= "", "ossd did not start")
    said = said .. more
  end
  local function stop(signal)
    child:kill(signal or "TERM")
    assert(child:wait(60), "ossd does not end")
    child:close()
  end
  return { host = said:match "ossd listening on http://(%S+)\n", root = root, stop = stop }
end

-- Sends and returns {status, headers, body}; status 0 when the connection broke.
local function send(server, r)
  local args = { "curl -s --path-as-is --max-time 20 -D " .. tmp .. "/head -o " .. tmp .. "/body" }
  os.remove(tmp .. "/head")
  write(tmp .. "/body", "")
  if r.method == "HEAD" then
    args[#args + 1] = "-I"
  else
    args[#args + 1] = "-X " .. r.method
  end
  for _, h in ipairs(r.headers) do
    args[#args + 1] = "-H " .. quote(h[1] .. (h[2] == "" and ";" or ": " .. h[2]))
  end
  if r.body then
    args[#args + 1] = "--data-binary @" .. write(tmp .. "/request", r.body)
    args[#args + 1] = "-H Expect:"
    if not r.has_type then
      args[#args + 1] = "-H Content-Type:"
    end
  end
  args[#args + 1] = quote("http://" .. server.host .. r.path .. (r.query_string and
    "?" .. r.query_string or ""))
  local code = select(3, os.execute(table.concat(args, " ")))
  local body = r.method == "HEAD" and "" or read(tmp .. "/body") -- curl -I: the head again
  local reply = { headers = {}, body = body, curl = code, status = 0 }
  local head = io.open(tmp .. "/head")
  if head then
    for line in head:lines() do
      local status = line:match "^HTTP/%S+ (%d+)"
      local name, value = line:match "^([^:]+): (.-)\r?$"
      if status then
        reply.status = tonumber(status)
      elseif name then
        reply.headers[name:lower()] = value
      end
    end
    head:close()
  end
  reply.code = reply.body:match "<Code>(.-)</Code>"
  return reply
end

-- Signs and sends. `r`: scheme ("oss-v1", "oss-v4", "s3-v4"), method, key, query, headers,
-- body; `break_it(r)` may change what is sent after the signature is made.
local function call(server, r)
  r.scheme = r.scheme or "oss-v4"
  r.method = r.method or "GET"
  r.headers = { table.unpack(r.headers or {}) }
  local key = r.key or ""
  r.path = r.virtual and "/" .. sign.encode_path(key)
    or "/buck" .. (key ~= "" and "/" .. sign.encode_path(key) or "/")
  local at = os.time() + (r.shift or 0)
  r.at = at
  local host = r.virtual or server.host
  table.insert(r.headers, { "Host", host })
  if r.scheme == "oss-v1" then
    table.insert(r.headers, { "x-oss-date", sign.date_rfc1123(at) })
  elseif r.scheme == "oss-v4" then
    table.insert(r.headers, { "x-oss-date", sign.date_iso_basic(at) })
    table.insert(r.headers, { "x-oss-content-sha256", "UNSIGNED-PAYLOAD" })
  else
    r.hash = r.hash or sign.sha256(r.body or "")
    table.insert(r.headers, { "x-amz-date", sign.date_iso_basic(at) })
    table.insert(r.headers, { "x-amz-content-sha256", r.hash })
  end
  local query = {}
  for _, p in ipairs(r.query or {}) do
    query[#query + 1] = sign.encode(p[1]) .. (p[2] and "=" .. sign.encode(p[2]) or "")
  end
  r.query_string = #query > 0 and table.concat(query, "&") or nil
  local made = sign.sign {
    scheme = r.scheme, method = r.method, bucket = "buck", key = key, path = r.path,
    region = "r", query = r.query or {}, headers = r.headers, payload_hash = r.hash,
    time = at, access_key_id = "ID", access_key_secret = r.secret or "SECRET",
  }
  table.insert(r.headers, { "Authorization", made.authorization })
  r.made = made
  if r.break_it then
    r.break_it(r)
  end
  return send(server, r)
end

local function md5_base64(text)
  return sign.base64((sign.md5(text):gsub("%x%x", function(h)
    return string.char(tonumber(h, 16))
  end)))
end

local function put(server, key, body, more)
  local r = { method = "PUT", key = key, body = body }
  for name, value in pairs(more or {}) do
    r[name] = value
  end
  return call(server, r)
end

local schemes = { "oss-v1", "oss-v4", "s3-v4" }

TestWire = {}

function TestWire:setUp()
  self.server = start()
end

function TestWire:tearDown()
  self.server.stop()
end

function TestWire:test_a_changed_request_is_refused_with_the_string_to_sign()
  for _, scheme in ipairs(schemes) do
    local vendor = scheme == "s3-v4" and "x-amz-" or "x-oss-"
    local changes = {
      method = function(r) r.method = "DELETE" end,
      path = function(r) r.path = r.path .. "2" end,
      header = function(r) r.headers[1][2] = "other" end,
      secret = false,
    }
    for what, break_it in pairs(changes) do
      local got = call(self.server, { scheme = scheme, key = "k",
        headers = { { vendor .. "meta-a", "one" } }, break_it = break_it or nil,
        secret = what == "secret" and "wrong" or nil })
      lu.assertEquals({ got.status, got.code }, { 403, "SignatureDoesNotMatch" }, scheme .. what)
      lu.assertStrContains(got.body, "<StringToSign>")
      lu.assertNotStrContains(got.body, "SECRET")
    end
  end
end

function TestWire:test_a_stale_date_is_refused()
  for _, scheme in ipairs(schemes) do
    for _, shift in ipairs { -1000, 1000 } do
      local got = call(self.server, { scheme = scheme, shift = shift })
      lu.assertEquals({ got.status, got.code }, { 403, "RequestTimeTooSkewed" })
      lu.assertStrContains(got.body, "<MaxAllowedSkewMilliseconds>900000<")
    end
    lu.assertEquals(call(self.server, { scheme = scheme, shift = -800 }).status, 200)
  end
end

function TestWire:test_a_body_that_differs_from_its_digest_is_not_stored()
  local wrong = { { "Content-MD5", md5_base64 "other" } }
  for scheme, code in pairs { ["oss-v1"] = "InvalidDigest", ["oss-v4"] = "InvalidDigest",
                              ["s3-v4"] = "BadDigest" } do
    local got = put(self.server, "k", "body", { scheme = scheme, headers = wrong })
    lu.assertEquals({ got.status, got.code }, { 400, code })
  end
  local got = put(self.server, "k", "body", { scheme = "s3-v4", hash = sign.sha256 "other" })
  lu.assertEquals({ got.status, got.code }, { 400, "XAmzContentSHA256Mismatch" })
  lu.assertEquals(call(self.server, { key = "k" }).status, 404)
  local right = { { "Content-MD5", md5_base64 "body" } }
  lu.assertEquals(put(self.server, "k", "body", { headers = right }).status, 200)
end

-- The body of a signed aws-chunked request; `tamper` may change a chunk's data.
local function chunked(pieces, signature, at, tamper)
  local body, previous = {}, signature
  for i, piece in ipairs(pieces) do
    local made = sign.chunk { secret = "SECRET", time = at, region = "r",
      previous = previous, data_sha256 = sign.sha256(piece) }
    if tamper then
      piece = tamper(i, piece)
    end
    body[#body + 1] = ("%x;chunk-signature=%s\r\n%s\r\n"):format(#piece, made, piece)
    previous = made
  end
  return table.concat(body)
end

function TestWire:test_signed_chunks_are_verified_and_decoded()
  local pieces = { ("a"):rep(9000), ("b"):rep(70000), "" }
  local function send_chunks(tamper, cut)
    return call(self.server, {
      scheme = "s3-v4", method = "PUT", key = "chunks",
      hash = "STREAMING-AWS4-HMAC-SHA256-PAYLOAD", body = "",
      headers = { { "x-amz-decoded-content-length", "79000" },
                  { "Content-Encoding", "aws-chunked,gzip" } },
      break_it = function(r)
        r.body = chunked(pieces, r.made.signature, r.at, tamper)
        r.body = r.body:sub(1, cut or -1)
      end })
  end
  local got = send_chunks(function(i, piece)
    return i == 2 and "c" .. piece:sub(2) or piece
  end)
  lu.assertEquals({ got.status, got.code }, { 403, "SignatureDoesNotMatch" })
  got = send_chunks(nil, 50000)
  lu.assertEquals({ got.status, got.code }, { 400, "IncompleteBody" })
  lu.assertEquals(call(self.server, { key = "chunks" }).status, 404)
  lu.assertEquals(send_chunks().status, 200)
  got = call(self.server, { key = "chunks" })
  lu.assertEquals(got.body, table.concat(pieces))
  lu.assertEquals(got.headers["content-encoding"], "gzip")
end

function TestWire:test_an_out_of_bounds_range_is_whole_on_oss_unless_standard()
  put(self.server, "r", "0123456789")
  local function range(text, scheme, standard)
    local headers = { { "Range", text } }
    if standard then
      table.insert(headers, { "x-oss-range-behavior", "standard" })
    end
    local got = call(self.server, { key = "r", scheme = scheme, headers = headers })
    return { got.status, got.status < 300 and got.body or got.code }
  end
  lu.assertEquals(range("bytes=2-4", "oss-v4"), { 206, "234" })
  lu.assertEquals(range("bytes=8-20", "oss-v4"), { 200, "0123456789" })
  lu.assertEquals(range("bytes=10-", "oss-v1"), { 200, "0123456789" })
  lu.assertEquals(range("bytes=8-20", "oss-v4", true), { 206, "89" })
  lu.assertEquals(range("bytes=10-", "oss-v4", true), { 416, "InvalidRange" })
  lu.assertEquals(range("bytes=8-20", "s3-v4"), { 206, "89" })
  lu.assertEquals(range("bytes=10-", "s3-v4"), { 416, "InvalidRange" })
  lu.assertEquals(range("bytes=x", "s3-v4"), { 200, "0123456789" })
  put(self.server, "r", "")
  lu.assertEquals(range("bytes=0-0", "s3-v4"), { 416, "InvalidRange" })
  lu.assertEquals(range("bytes=0-0", "oss-v4"), { 200, "" })
end

function TestWire:test_every_byte_may_be_in_a_key_and_no_key_leaves_the_root()
  local all = {}
  for i = 1, 255 do
    all[#all + 1] = string.char(i)
  end
  local keys = { table.concat(all), "..", ".", "../../escaped", "a/../../../../etc/x", "a/",
                 "a", "A", "x//y", ("k"):rep(1023), "bucket", "objects/00", "\xff\xfe" }
  for _, key in ipairs(keys) do
    lu.assertEquals(put(self.server, key, "<" .. key .. ">").status, 200, key)
  end
  for _, key in ipairs(keys) do
    lu.assertEquals(call(self.server, { key = key }).body, "<" .. key .. ">", key)
  end
  local listed = {}
  local body = call(self.server, { query = { { "list-type", "2" }, { "encoding-type", "url" } } }).body
  for key in body:gmatch "<Key>(.-)</Key>" do
    listed[#listed + 1] = sign.decode(key)
  end
  table.sort(keys)
  table.sort(listed)
  lu.assertEquals(listed, keys)
  local files = sh("cd " .. self.server.root .. " && find . -type f")
  for file in files:gmatch "[^\n]+" do
    lu.assertTrue(file == "./buck/bucket" or file:match "^%./buck/objects/%x%x/%x+$" ~= nil, file)
  end
  lu.assertEquals(put(self.server, "/lead", "x").code, "InvalidObjectName")
  lu.assertEquals(put(self.server, ("k"):rep(1024), "x").code, "InvalidObjectName")
end

function TestWire:test_crc_and_etag_are_those_of_the_bytes()
  local got = put(self.server, "k", "123456789")
  lu.assertEquals(got.headers["x-oss-hash-crc64ecma"], "11051210869376104954")
  lu.assertEquals(got.headers.etag, '"25F9E794323B453885F5181F1B624D0B"')
  got = call(self.server, { method = "HEAD", key = "k", scheme = "s3-v4" })
  lu.assertEquals(got.headers.etag, '"25f9e794323b453885f5181f1b624d0b"')
  lu.assertNil(got.headers["x-oss-hash-crc64ecma"])
  lu.assertNotNil(got.headers["x-amz-request-id"])
end

function TestWire:test_head_of_a_missing_key_has_its_error_in_a_header()
  local got = call(self.server, { method = "HEAD", key = "none" })
  lu.assertEquals({ got.status, got.curl, got.headers["content-length"] }, { 404, 0, "0" })
  lu.assertStrContains(sign.unbase64(got.headers["x-oss-err"]), "<Code>NoSuchKey</Code>")
end

function TestWire:test_an_unknown_sub_resource_is_not_taken_for_a_plain_put()
  put(self.server, "k", "kept")
  local got = put(self.server, "k", "<Tagging/>", { query = { { "tagging" } } })
  lu.assertEquals({ got.status, got.code }, { 501, "NotImplemented" })
  lu.assertEquals(call(self.server, { key = "k" }).body, "kept")
end

function TestWire:test_conditions_answer_304_and_412()
  local etag = put(self.server, "k", "x").headers.etag
  local function get(name, value)
    return call(self.server, { key = "k", headers = { { name, value } } }).status
  end
  lu.assertEquals(get("If-Match", etag:lower()), 200)
  lu.assertEquals(get("If-Match", '"00"'), 412)
  lu.assertEquals(get("If-None-Match", etag), 304)
  lu.assertEquals(get("If-Modified-Since", sign.date_rfc1123(os.time() + 60)), 304)
  lu.assertEquals(get("If-Unmodified-Since", sign.date_rfc1123(os.time() - 3600)), 412)
end

function TestWire:test_delete_many_wants_a_digest_and_sound_xml()
  local function delete(xml, headers)
    return call(self.server, { method = "POST", query = { { "delete" } }, body = xml,
      headers = headers or { { "Content-MD5", md5_base64(xml) } } })
  end
  put(self.server, "a&b", "x")
  local xml = "<Delete><Object><Key>a&amp;b</Key></Object><Object><Key>no</Key></Object></Delete>"
  lu.assertEquals(delete(xml, {}).code, "MissingArgument")
  local got = delete(xml)
  lu.assertStrContains(got.body, "<Key>a&amp;b</Key>")
  lu.assertStrContains(got.body, "<Key>no</Key>")
  lu.assertEquals(call(self.server, { key = "a&b" }).status, 404)
  for _, bad in ipairs { "<Delete>", "<Delete/>", "<Other/>", "",
      '<!DOCTYPE d [<!ENTITY e "x">]><Delete><Object><Key>&e;</Key></Object></Delete>' } do
    got = delete(bad)
    lu.assertEquals({ got.status, got.code }, { 400, "MalformedXML" }, bad)
  end
  got = delete("<Delete>" .. (" "):rep(2 << 20) .. "</Delete>")
  lu.assertEquals({ got.status, got.code }, { 400, "EntityTooLarge" })
end

function TestWire:test_buckets_are_made_found_and_deleted_when_empty()
  put(self.server, "k", "x")
  lu.assertEquals(call(self.server, { method = "DELETE" }).code, "BucketNotEmpty")
  call(self.server, { method = "DELETE", key = "k" })
  lu.assertEquals(call(self.server, { method = "DELETE" }).status, 204)
  lu.assertEquals(call(self.server, {}).code, "NoSuchBucket")
  lu.assertEquals(put(self.server, "k", "x").code, "NoSuchBucket")
  lu.assertEquals(call(self.server, { method = "PUT" }).status, 200)
  lu.assertEquals(call(self.server, { method = "HEAD" }).status, 200)
end

function TestWire:test_the_bucket_may_be_in_the_host_name()
  for _, host in ipairs { "buck.localhost:1234", "buck.oss-cn-x.aliyuncs.com" } do
    lu.assertEquals(put(self.server, "v", host, { virtual = host }).status, 200)
    lu.assertEquals(call(self.server, { key = "v" }).body, host)
  end
  local got = put(self.server, "v", "s3", { virtual = "buck.s3.r.amazonaws.com", scheme = "s3-v4" })
  lu.assertEquals(got.status, 200)
end

function TestWire:test_restart_and_kill_keep_what_was_answered()
  put(self.server, "k", "old", { headers = { { "x-oss-meta-a", "1" } } })
  local id = call(self.server, { method = "POST", key = "m", query = { { "uploads" } } })
    .body:match "<UploadId>(.-)<"
  local part = { { "partNumber", "1" }, { "uploadId", id } }
  lu.assertEquals(put(self.server, "m", "part one", { query = part }).status, 200)
  write(self.server.root .. "/buck/tmp/left-over", "half an object")
  self.server.stop "KILL"
  self.server = start("", self.server.root)
  local got = call(self.server, { key = "k" })
  lu.assertEquals({ got.body, got.headers["x-oss-meta-a"] }, { "old", "1" })
  lu.assertEquals(sh("ls " .. self.server.root .. "/buck/tmp"), "")
  got = call(self.server, { method = "POST", key = "m", query = { { "uploadId", id } }, body = "",
    headers = { { "x-oss-complete-all", "yes" } } })
  lu.assertEquals(got.status, 200, got.body)
  self.server.stop()
  self.server = start("", self.server.root)
  got = call(self.server, { key = "m" })
  lu.assertEquals(got.body, "part one")
  lu.assertEquals(got.headers["x-oss-hash-crc64ecma"], sign.crc64 "part one")
  lu.assertEquals(put(self.server, "m", "new").status, 200)
  lu.assertEquals(sh("ls " .. self.server.root .. "/buck/uploads"), "")
end

function TestWire:test_garbage_gets_an_answer_and_the_server_lives()
  local host, port = self.server.host:match "(.-):(%d+)"
  for _, text in ipairs { "GET /buck/%zz HTTP/1.1\\r\\nHost: x\\r\\n\\r\\n",
                          "GET /buck/a%00b HTTP/1.1\\r\\nHost: x\\r\\n\\r\\n",
                          "GET /buck HTTP/1.1\\r\\nHost: x\\r\\nAuthorization: OSS\\r\\n\\r\\n",
                          "GET /a%2fb/../c HTTP/1.1\\r\\nHost: x\\r\\n\\r\\n",
                          "BREW /buck/k HTTP/1.1\\r\\nHost: x\\r\\n\\r\\n" } do
    local reply = sh(([[bash -c 'exec 3<>/dev/tcp/%s/%s; printf "%s" >&3; timeout 5 head -n1 <&3']])
      :format(host, port, text:gsub("%%", "%%%%")))
    lu.assertEquals(reply:sub(1, 10), "HTTP/1.1 4", text)
  end
  lu.assertEquals(call(self.server, {}).status, 200)
end

TestFaults = {}

local function with(options, test)
  local server = start(options)
  local ok, err = pcall(test, server)
  server.stop()
  if not ok then
    error(err, 0)
  end
end

function TestFaults:test_503_comes_every_nth_time()
  with("--fault 503=3", function(server)
    local seen = {}
    for i = 1, 6 do
      seen[i] = call(server, {}).status
    end
    lu.assertEquals(seen, { 200, 200, 503, 200, 200, 503 })
  end)
end

function TestFaults:test_bodies_are_cut_corrupted_or_slow()
  with("--fault cut=2 --fault crc=3", function(server)
    local body = ("x"):rep(100000)
    put(server, "k", body)
    lu.assertEquals(call(server, { key = "k" }).body, body)
    local cut = call(server, { key = "k" })
    lu.assertEquals({ cut.curl, #cut.body }, { 18, 50000 })
    lu.assertNotEquals(cut.headers["x-oss-hash-crc64ecma"], sign.crc64(body))
  end)
  with("--fault corrupt=1 --fault slow=1", function(server)
    put(server, "k", "hello")
    lu.assertEquals(call(server, { key = "k" }).body, "heLlo")
  end)
end

function TestFaults:test_uploads_are_cut_or_stored_without_an_answer()
  with("--fault cut-put=2 --fault drop-put=2", function(server)
    lu.assertEquals(put(server, "a", "1").status, 200)
    lu.assertEquals(put(server, "b", "2").status, 0)
    lu.assertEquals(call(server, { key = "b" }).status, 404)
    lu.assertEquals(put(server, "c", "3").status, 0)
    lu.assertEquals(call(server, { key = "c" }).body, "3")
  end)
end

function TestFaults:test_complete_answers_an_error_or_nothing()
  with("--fault complete-error=2 --fault complete-drop=1", function(server)
    local function complete(key)
      local id = call(server, { method = "POST", key = key, query = { { "uploads" } } })
        .body:match "<UploadId>(.-)<"
      local q = { { "uploadId", id } }
      put(server, key, "p", { query = { { "partNumber", "1" }, q[1] } })
      return call(server, { method = "POST", key = key, query = q, body = "",
        headers = { { "x-oss-complete-all", "yes" } } })
    end
    lu.assertEquals(complete("a").status, 0)
    lu.assertEquals(call(server, { key = "a" }).body, "p")
    local got = complete "b"
    lu.assertEquals({ got.status, got.code }, { 200, "InternalError" })
    lu.assertEquals(call(server, { key = "b" }).status, 404)
  end)
end

function TestFaults:test_puts_are_begun_or_answered_late()
  with("--fault stall=2 --fault late=3", function(server)
    local seconds = {}
    for n = 1, 3 do
      local before = time.mono()
      lu.assertEquals(put(server, "k" .. n, "x").status, 200)
      seconds[n] = time.mono() - before >= 3
    end
    lu.assertEquals(seconds, { false, true, true })
  end)
end

function TestFaults:test_short_pages_skewed_clock_and_expired_token()
  with("--fault page=1", function(server)
    put(server, "a", "1")
    put(server, "b", "2")
    local page = call(server, { query = { { "list-type", "2" } } }).body
    lu.assertStrContains(page, "<IsTruncated>true<")
    lu.assertStrContains(page, "<Key>a<")
    lu.assertNotStrContains(page, "<Key>b<")
  end)
  with("--fault skew=2000", function(server)
    lu.assertEquals(call(server, {}).code, "RequestTimeTooSkewed")
    lu.assertEquals(call(server, { shift = 2000 }).status, 200)
  end)
  with("--fault expired-token=1", function(server)
    lu.assertEquals(call(server, {}).code, "SecurityTokenExpired")
    lu.assertEquals(call(server, { scheme = "s3-v4" }).code, "ExpiredToken")
  end)
end

function TestFaults:test_bad_options_are_usage_errors()
  local bad = { "", "--root", "--root /nonexistent/x/y", "--root d --listen 1:2:x", "--root d extra",
                "--root d --fault no=1", "--root d --key nocolon", "--root d --bucket UP" }
  for i, options in ipairs(bad) do
    local code = select(3, os.execute(("cd %s && %s ossd %s >out 2>err"):format(tmp, bin, options)))
    lu.assertEquals(code, i == 3 and 1 or 2, options)
    lu.assertStrContains(read(tmp .. "/err"), "tidemill ossd: ")
  end
  lu.assertStrContains(sh(bin .. " ossd --help"), "not for production")
end

function TestFaults:test_a_port_is_not_shared_with_another_server()
  local server = start()
  local said = sh(("timeout 10 %s ossd --root %s --listen %s 2>&1 </dev/null"):format(bin, tmp .. "/other", server.host))
  server.stop()
  lu.assertStrContains(said, "cannot listen on " .. server.host .. ": Address already in use")
end

os.exit(lu.LuaUnit.run())
