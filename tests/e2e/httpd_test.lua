--- The little HTTP server for texts, and the client that posts.

local lu = require "luaunit"
local http = require "tidemill.http"
local httpd = require "tidemill.httpd"
local patience = require "tests.support.patience"
local proc = require "proc"
local pgtest = require "tests.support.pgtest"
local signal = require "tidemill.signal"

local fails, eventually = pgtest.fails, pgtest.eventually
local TMP = os.getenv "TM_TMP" or "/tmp"

-- Sends bytes as they stand and gives what comes back until the end, or for `seconds`.
local function raw(port, bytes, seconds)
  return proc.run { cmd = { "timeout", tostring(seconds or 3), "bash", "-c",
    'exec 3<>/dev/tcp/127.0.0.1/"$1" 4<&0; cat <&4 >&3 & cat <&3 2>/dev/null', "raw", tostring(port) }, input = bytes }.stdout
end

local function status_of(answer) return tonumber(answer:match "^HTTP/1%.[01] (%d%d%d) ") end

-- One request; the answer without hop-by-hop noise.
local function request(port, line, ...)
  return raw(port, table.concat({ line, "Host: x", "Connection: close", ... }, "\r\n") .. "\r\n\r\n")
end

TestHttpd = {}

function TestHttpd:setUp()
  self.server = httpd.listen { host = "127.0.0.1", port = 0 }
  self.port = self.server:port()
  self.server:set("/metrics", 200, "application/openmetrics-text; version=1.0.0", "a 1\n# EOF\n")
end

function TestHttpd:tearDown() self.server:close() end

function TestHttpd:test_get_gives_the_text()
  local answer = request(self.port, "GET /metrics HTTP/1.1")
  lu.assertEquals(status_of(answer), 200)
  lu.assertStrContains(answer, "Content-Type: application/openmetrics-text; version=1.0.0\r\n")
  lu.assertStrContains(answer, "\r\n\r\na 1\n# EOF\n")
  lu.assertEquals(self.server:hits "/metrics", 1)
end

function TestHttpd:test_head_gives_the_length_only()
  local answer = request(self.port, "HEAD /metrics HTTP/1.1")
  lu.assertEquals(status_of(answer), 200)
  lu.assertStrContains(answer, "Content-Length: 10\r\n")
  lu.assertEquals(answer:match "\r\n\r\n(.*)$", "")
end

function TestHttpd:test_the_query_is_not_looked_at()
  lu.assertEquals(status_of(request(self.port, "GET /metrics?x=1&y HTTP/1.1")), 200)
end

function TestHttpd:test_a_text_can_be_replaced()
  self.server:set("/metrics", 503, "text/plain", "down")
  local answer = request(self.port, "GET /metrics HTTP/1.1")
  lu.assertEquals(status_of(answer), 503)
  lu.assertStrContains(answer, "\r\n\r\ndown")
  self.server:set("/other", 200, "text/plain", ("x"):rep(3 << 20))
  lu.assertEquals(#request(self.port, "GET /other HTTP/1.1"):match "\r\n\r\n(.*)$", 3 << 20)
end

function TestHttpd:test_a_text_that_is_no_longer_refreshed_is_not_given()
  self.server:set("/healthz", 200, "text/plain", "ok\n", 2)
  lu.assertEquals(status_of(request(self.port, "GET /healthz HTTP/1.1")), 200)
  lu.assertTrue(eventually(5, function() return status_of(request(self.port, "GET /healthz HTTP/1.1")) == 503 end))
  self.server:set("/healthz", 200, "text/plain", "ok\n", 2)
  lu.assertEquals(status_of(request(self.port, "GET /healthz HTTP/1.1")), 200)
end

function TestHttpd:test_other_paths_and_methods_are_refused()
  for _, path in ipairs { "/", "/metric", "/metrics/", "/metrics/../metrics", "/%6detrics", "//metrics", "*" } do
    local code = status_of(request(self.port, ("GET %s HTTP/1.1"):format(path)))
    lu.assertTrue(code == 404 or code == 400, path .. " gave " .. tostring(code))
  end
  for _, method in ipairs { "POST", "PUT", "DELETE", "OPTIONS", "TRACE", "CONNECT", "get", "FOO" } do
    local answer = request(self.port, method .. " /metrics HTTP/1.1")
    lu.assertEquals(status_of(answer), 405, method)
    lu.assertStrContains(answer, "Allow: GET, HEAD\r\n")
  end
  lu.assertEquals(self.server:hits "/metrics", 0)
end

function TestHttpd:test_a_body_is_not_waited_for()
  local started = signal.mono()
  local answer = request(self.port, "POST /metrics HTTP/1.1", "Content-Length: 999999999999")
  lu.assertEquals(status_of(answer), 405)
  request(self.port, "GET /metrics HTTP/1.1", "Content-Length: 99999999")
  request(self.port, "GET /metrics HTTP/1.1", "Transfer-Encoding: chunked")
  lu.assertTrue(signal.mono() - started < 8000)
end

local HOSTILE = {
  "\0\0\0\0\r\n\r\n", "GET\r\n\r\n", "GET / HTTP/9.9\r\n\r\n", " / HTTP/1.1\r\n\r\n", "GET /metrics\0x HTTP/1.1\r\n\r\n",
  "GET /metrics HTTP/1.1\r\nHost: x\r\nContent-Length: -1\r\n\r\n",
  "GET /metrics HTTP/1.1\r\nHost: x\r\nContent-Length: 99999999999999999999999999\r\n\r\n",
  "GET /metrics HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\nZZZ\r\n",
  "GET /metrics HTTP/1.1\r\n: no name\r\n\r\n", "GET /metrics HTTP/1.1\r\nA\r\n B\r\n\r\n",
  "GET /" .. ("a"):rep(200000) .. " HTTP/1.1\r\nHost: x\r\n\r\n",
  "GET / HTTP/1.1\r\n" .. ("X: y\r\n"):rep(50000) .. "\r\n",
  "GET / HTTP/1.1\r\nX: " .. ("y"):rep(1000000) .. "\r\n\r\n",
  "\22\3\1\2\0\1\0\1\252\3\3" .. ("\0"):rep(600), -- TLS
  "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
}

function TestHttpd:test_hostile_requests_leave_it_well()
  for i, bytes in ipairs(HOSTILE) do
    local code = status_of(raw(self.port, bytes, 1))
    lu.assertTrue(code == nil or code == 200 or code >= 400, ("request %d was answered with %s"):format(i, code))
  end
  lu.assertEquals(status_of(request(self.port, "GET /metrics HTTP/1.1")), 200)
end

function TestHttpd:test_many_silent_connections_do_not_last()
  local holder <close> = proc.spawn { cmd = { "bash", "-c",
    [[for i in $(seq 100); do exec {fd}<>/dev/tcp/127.0.0.1/$1; printf 'GET / HT' >&$fd; done 2>/dev/null; echo held; sleep 600]],
    "hold", tostring(self.port) }, stdout = "pipe" }
  lu.assertStrContains(holder:read(1, 60), "held")
  -- The idle limit of 10 s frees their places.
  lu.assertTrue(eventually(25, function() return status_of(request(self.port, "GET /metrics HTTP/1.1")) == 200 end))
end

function TestHttpd:test_wrong_arguments_are_refused()
  local server = self.server
  for _, path in ipairs { "", "metrics", "/a b", "/a?b", "/a\r\nb" } do
    fails("usage", server.set, server, path, 200, "text/plain", "")
  end
  fails("usage", server.set, server, "/x", 200, "text/plain\r\nX: y", "")
  lu.assertErrorMsgContains("599", server.set, server, "/x", 99, "text/plain", "")
  fails("usage", httpd.listen, { host = "localhost" })
  fails("connect", httpd.listen, { port = self.port })
  lu.assertErrorMsgContains("65535", httpd.listen, { port = 65536 })
  server:close()
  server:close()
  lu.assertErrorMsgContains("closed", server.port, server)
end

function TestHttpd.test_ipv6_loopback()
  local server <close> = httpd.listen { host = "::1" }
  server:set("/x", 200, "text/plain", "six")
  local r = proc.run { cmd = { "curl", "-s", ("http://[::1]:%d/x"):format(server:port()) } }
  lu.assertEquals(r.stdout, "six")
end

-- ---- the client ----

TestPost = {}

-- A server that does `body` (JavaScript) with each request; returns the process and its URL.
local function javascript(body, options)
  local child = proc.spawn { cmd = { "node", "-e", ([[
    const options = { %s };
    const make = options.key ? require("https").createServer : (o, f) => require("http").createServer(f);
    const s = make(options, (q, r) => { let text = ""; q.on("data", d => text += d); q.on("end", () => { %s }); });
    s.on("tlsClientError", () => {});
    s.listen(0, "127.0.0.1", () => console.log(s.address().port));]]):format(options or "", body) }, stdout = "pipe" }
  local port = child:read(1, 60):match "%d+"
  return child, ("%s://127.0.0.1:%s"):format(options and "https" or "http", port)
end

function TestPost.test_it_sends_body_and_headers_and_gives_the_answer()
  local s <close>, url = javascript [[ r.statusCode = 201; r.end(q.method + q.url + q.headers["x-a"] + text); ]]
  local reply = http.post { url = url .. "/p?q", body = "\0\1body", headers = { ["X-A"] = "b" } }
  lu.assertEquals(reply.status, 201)
  lu.assertEquals(reply.body, "POST/p?qb\0\1body")
  s:close()
end

function TestPost.test_any_status_is_an_answer_and_nothing_is_followed()
  local s <close>, url = javascript [[
    const c = Number(q.url.slice(1)); r.writeHead(c, { location: "/200" }); r.end("s" + c); ]]
  for _, code in ipairs { 200, 204, 301, 302, 307, 404, 429, 500 } do
    local reply = http.post { url = ("%s/%d"):format(url, code), body = "x" }
    lu.assertEquals(reply.status, code)
    lu.assertEquals(reply.body, code == 204 and "" or "s" .. code)
  end
  s:close()
end

function TestPost.test_a_long_answer_is_cut()
  local s <close>, url = javascript [[ r.end("z".repeat(3000000)); ]]
  local reply = http.post { url = url, body = "x" }
  lu.assertEquals(reply.status, 200)
  lu.assertEquals(#reply.body, 64 << 10)
  s:close()
end

function TestPost.test_a_server_that_does_not_end_is_left_in_time()
  local s <close>, url = javascript [[ r.writeHead(200); setInterval(() => r.write("x"), 50); ]]
  local before = signal.mono()
  fails("timeout", http.post, { url = url, body = "x", timeout = 0.7 })
  lu.assertTrue(signal.mono() - before < 3000 * patience)
  s:close()
end

function TestPost.test_what_gets_no_answer_raises()
  fails("connect", http.post, { url = "http://127.0.0.1:1/", body = "x" })
  fails("usage", http.post, { url = "file:///etc/passwd", body = "x" })
  fails("usage", http.post, { url = "http://127.0.0.1:1/", body = "x", headers = { a = "b\r\nc: d" } })
  local s <close>, url = javascript [[ q.socket.destroy(); ]]
  fails("io", http.post, { url = url, body = "x" })
  s:close()
end

function TestPost.test_certificates_are_verified()
  local key, cert = TMP .. "/key.pem", TMP .. "/cert.pem"
  proc.run { cmd = { "openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", "/CN=x", "-addext",
    "subjectAltName=IP:127.0.0.1", "-keyout", key, "-out", cert }, check = true }
  local s <close>, url = javascript([[ r.end("secret"); ]],
    ('key: require("fs").readFileSync("%s"), cert: require("fs").readFileSync("%s")'):format(key, cert))
  local err = fails("connect", http.post, { url = url, body = "x" })
  lu.assertEquals(err.code, "tls")
  lu.assertEquals(http.post { url = url, body = "x", ca_file = cert }.body, "secret")
  s:close()
end

os.exit(lu.LuaUnit.run())
