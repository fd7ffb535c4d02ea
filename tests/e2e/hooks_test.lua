-- needs: pg
--- Hooks, from a flow to those that are told: webhook, command, e-mail; tries, takeovers, hostile text.

local lu = require "luaunit"
local hooks = require "tidemill.hooks"
local json = require "json"
local lab = require "tests.support.lab"
local patience = require "tests.support.patience"
local proc = require "proc"
local send = require "tidemill.hooks.send"
local signal = require "tidemill.signal"
local state = require "tidemill.state"

local SECRET = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
local NASTY = "line\nX-Injected: yes\r\nBcc: all@x \0 \"quotes\" $(touch pwned) `touch pwned` 中文"

-- A receiver that writes each request as a line of JSON and answers with the codes given, the
-- last one again and again.
local function receiver(file, codes)
  local child = proc.spawn { cmd = { "node", "-e", [[
    const fs = require("fs"), codes = JSON.parse(process.argv[2]);
    const s = require("http").createServer((q, r) => { const parts = []; q.on("data", d => parts.push(d)); q.on("end", () => {
      fs.appendFileSync(process.argv[1], JSON.stringify({ url: q.url, headers: q.headers,
        body: Buffer.concat(parts).toString("utf8") }) + "\n");
      const code = codes.length > 1 ? codes.shift() : codes[0];
      if (code === 0) return; // never answers
      r.statusCode = code; r.end("said " + process.env.ECHO); }); });
    s.listen(0, "127.0.0.1", () => console.log(s.address().port));]], file, json.encode(codes or { 204 }) },
    stdout = "pipe", env = { ECHO = SECRET } }
  return child, ("http://127.0.0.1:%s/hook"):format(child:read(1, 60):match "%d+")
end

local function lines_of(path)
  local out = {}
  local f <close> = io.open(path)
  for line in f and f:lines() or function() end do out[#out + 1] = json.decode(line) end
  return out
end

local function read(path)
  local f <close> = io.open(path, "rb")
  return f and f:read "a"
end

TestHooks = {}
local T = TestHooks

function T:setUp()
  self.lab = lab.new "hooks"
  self.got = self.lab.dir .. "/got"
  self.lab.env.ALERTS_SECRET = SECRET
  self.lab.connections.alerts = '{ webhook = env "ALERTS_URL", secret = env "ALERTS_SECRET" }'
  self.lab:write("sendmail", "#!/bin/sh\ncd \"${0%/*}\" && printf '%s\\n' \"$@\" >args && cat >mail\n")
  os.execute(("chmod +x '%s/sendmail'"):format(self.lab.dir))
  local pwd = proc.run { cmd = { "pwd" } }.stdout:gsub("\n", "")
  local dir = self.lab.dir:find "^/" and self.lab.dir or pwd .. "/" .. self.lab.dir
  self.lab:project(('sendmail = %q'):format(dir .. "/sendmail"))
end

function T:tearDown()
  if self.child then self.child:close() end
  self.child = nil
  self.lab:close()
end

function T:receive(codes)
  local url
  self.child, url = receiver(self.got, codes)
  self.lab.env.ALERTS_URL = url
end

local FAILS = [[flow.lua "breaks" { run = function() error("it broke") end },
  flow.lua "behind" { after = "breaks", run = function() end },]]

local function flow_text(name, hook, nodes)
  return ('local flow = require "flow"\nreturn flow %q { %s, %s }\n'):format(name, hook, nodes)
end

function T:run_flow(name, hook, nodes, ...)
  self.lab:write("f.lua", flow_text(name, hook, nodes or FAILS))
  return self.lab:run("run", "f.lua", ...)
end

function T:store() return state.open("sqlite:" .. self.lab.dir .. "/.tidemill/state.db") end

-- What openssl says the signature of a request must be.
local function judged(request)
  local key = proc.run { cmd = { "sh", "-c", "base64 -d | od -An -v -tx1 | tr -d ' \\n'" }, check = true,
    input = SECRET:gsub("^whsec_", "") }.stdout
  local text = ("%s.%s.%s"):format(request.headers["webhook-id"], request.headers["webhook-timestamp"], request.body)
  local r = proc.run { cmd = { "sh", "-c", "openssl dgst -sha256 -mac HMAC -macopt hexkey:$1 -binary | base64", "sh", key },
    input = text, check = true }
  return "v1," .. r.stdout:gsub("%s", "")
end

function T:test_a_webhook_is_told_of_a_failure_and_signed()
  self:receive()
  local r = self:run_flow("Täglich", 'on_failure = { webhook = "alerts" }, on_success = { webhook = "alerts" }', nil, "--hooks")
  lu.assertEquals(r.code, 1, r.all)
  local got = lines_of(self.got)
  lu.assertEquals(#got, 1)
  local request = got[1]
  lu.assertEquals(request.headers["content-type"], "application/json")
  lu.assertStrMatches(request.headers["webhook-id"], "msg_%x+")
  lu.assertTrue(math.abs(os.time() - tonumber(request.headers["webhook-timestamp"])) < 60)
  lu.assertEquals(request.headers["webhook-signature"], judged(request))
  local body = json.decode(request.body)
  local store <close> = self:store()
  local run = store:find_run "last"
  lu.assertEquals({ body.event, body.flow, body.run, body.state, body.cause, body.message },
    { "failure", "Täglich", run.id, "failed", "manual", "node 'breaks' failed" })
  lu.assertStrMatches(body.scheduled, "%d%d%d%d%-%d%d%-%d%dT%d%d:%d%d:%d%d%.%d%d%dZ")
  lu.assertEquals(#body.failed_nodes, 1)
  lu.assertEquals(body.failed_nodes[1].node, "breaks")
  lu.assertStrContains(body.failed_nodes[1].message, "it broke")
  for _, key in ipairs { "business", "started", "ended", "host", "version", "timezone" } do lu.assertNotNil(body[key], key) end
  lu.assertStrContains(self.lab:run("show", "last").out, "webhook 'alerts' was told of the failure")
end

function T:test_a_success_is_told_to_all_that_want_it()
  self:receive()
  local r = self:run_flow("ok", [[on_success = { { webhook = "alerts" }, { shell = "cat >body; env >env; pwd >pwd" },
    { email = { "a@example.com", "b.c+d@example.org" }, subject = "It is done: Ende gut, alles gut – naïve" } }]],
    'flow.lua "works" { run = function() end }', "--hooks")
  lu.assertEquals(r.code, 0, r.all)
  lu.assertEquals(json.decode(lines_of(self.got)[1].body).event, "success")
  local env, body = read(self.lab.dir .. "/env"), json.decode(read(self.lab.dir .. "/body"))
  lu.assertStrContains(env, "TIDEMILL_EVENT=success\n")
  lu.assertStrContains(env, "TIDEMILL_FLOW=ok\n")
  lu.assertStrContains(env, "TIDEMILL_RUN=" .. body.run .. "\n")
  lu.assertStrContains(env, "TIDEMILL_FAILED_NODES=\n")
  lu.assertEquals(read(self.lab.dir .. "/args"), "-t\n-i\n")
  local mail = read(self.lab.dir .. "/mail")
  lu.assertStrContains(mail, "To: a@example.com,\n b.c+d@example.org\n")
  lu.assertStrContains(mail, "Subject: =?UTF-8?B?")
  local head, text = mail:match "^(.-)\n\n(.*)$"
  for line in (head .. "\n" .. text):gmatch "[^\n]*" do lu.assertTrue(#line <= 78, line) end
  lu.assertNil(head:find "[\x80-\xff]")
  local subject = proc.run { cmd = { "node", "-e", [[
    const head = require("fs").readFileSync(0, "utf8").replace(/\n[ \t]+/g, " ");
    const s = head.match(/^Subject: (.*)$/m)[1].replace(/\?=\s+=\?/g, "?==?");
    console.log(s.replace(/=\?UTF-8\?B\?([^?]*)\?=/g, (_, b) => Buffer.from(b, "base64").toString("utf8")))]] },
    input = head, check = true }.stdout
  lu.assertEquals(subject, "It is done: Ende gut, alles gut – naïve\n")
  local decoded = proc.run { cmd = { "base64", "-d" }, input = text, check = true }.stdout
  lu.assertStrContains(decoded, "ok succeeded")
  lu.assertStrContains(decoded, "tidemill show " .. body.run)
end

function T:test_a_trial_run_is_not_told_of_unless_asked()
  self:receive()
  local r = self:run_flow("quiet", 'on_failure = { webhook = "alerts" }')
  lu.assertEquals(r.code, 1, r.all)
  lu.assertEquals(lines_of(self.got), {})
  lu.assertStrContains(self.lab:run("show", "last").out, "hooks are not sent for a trial run")
end

function T:test_no_secret_is_kept_or_shown()
  self:receive { 500 }
  self:run_flow("f", 'on_failure = { webhook = "alerts" }', nil, "--hooks")
  local r = self.lab:run("show", "last")
  lu.assertStrContains(r.out, "HTTP status 500")
  for _, file in ipairs { "state.db", "state.db-wal" } do
    local bytes = read(self.lab.dir .. "/.tidemill/" .. file) or ""
    lu.assertNil(bytes:find(SECRET, 1, true), file)
    lu.assertNil(bytes:find(self.lab.env.ALERTS_URL, 1, true), file)
  end
end

-- A run in a store of its own with one notice for each of `targets`; nothing of it ran.
local function notices_of(self, targets, what, url)
  local clock = { now = 1700000000000 }
  local store = state.open(url or "sqlite:" .. self.lab.dir .. "/hooks.db", { clock = function() return clock.now end })
  local runner = store:register_runner { kind = "serve", lease_ms = 15000 }
  local name = "flow " .. (url and "x" or NASTY) -- PostgreSQL keeps no zero byte
  local run = store:create_run { flow = name, file = "f.lua", version = "v", version_no = 3, cause = "schedule",
    scheduled = clock.now, business = clock.now - 86400000, timezone = "UTC",
    nodes = { { name = "node of " .. name, kind = "lua", after = {} } } }
  store.db:exec("UPDATE nodes SET state = 'failed', message = ?", url and "x" or NASTY)
  store.db:exec("UPDATE runs SET state = 'failed', message = ?", url and "x" or NASTY)
  store.db:transaction(function()
    store:add_notices_in({ id = run, flow = name, cause = "schedule", root_run = run, version_no = 3 },
      { on_failure = targets }, what or "failure")
  end)
  return store, runner, run, clock
end

-- What the process of a notice does, here with the lab's environment.
local function start_here(self)
  return function(_, job)
    job.project = self.lab.dir .. "/tidemill.lua"
    local handle = proc.spawn { cmd = { os.getenv "TM_BIN", "hook" }, input = json.encode(job), stdout = "pipe",
      env = self.lab.env }
    return { poll = function()
      local status = handle:wait(0)
      return status and json.decode(handle:read(1, 60))
    end, kill = function() end, close = function() handle:close() end }
  end
end

local function until_quiet(h, seconds)
  local deadline = signal.mono() + (seconds or 20) * 1000
  h:poke()
  repeat
    h:step()
    proc.poll({}, 0.02)
  until h:active() == 0 or signal.mono() > deadline
  lu.assertEquals(h:active(), 0)
end

function T:test_hostile_text_adds_no_header_and_runs_nothing()
  self:receive()
  local store <close>, runner = notices_of(self, { { webhook = "alerts" }, { email = "a@b.example" },
    { shell = 'printf "%s" "$TIDEMILL_FLOW" >flow; printf "%s" "$TIDEMILL_FAILED_NODES" >nodes' } })
  local h <close> = hooks.new { store = store, runner = runner, start = start_here(self) }
  until_quiet(h)
  for _, notice in ipairs(store.db:query "SELECT state, error FROM notices") do
    lu.assertEquals({ notice.state, notice.error }, { "sent" })
  end
  lu.assertEquals(json.decode(lines_of(self.got)[1].body).message, (NASTY:gsub("%z", "?")))
  lu.assertEquals(read(self.lab.dir .. "/flow"), (("flow " .. NASTY):gsub("%z", "?")))
  lu.assertNil(read(self.lab.dir .. "/pwned"))
  local head = read(self.lab.dir .. "/mail"):match "^(.-)\n\n"
  lu.assertNil(head:find "\nX%-Injected")
  lu.assertNil(head:find "\nBcc")
  lu.assertNil(head:find "[^\n -~]")
end

function T:test_a_late_node_is_named()
  self:receive()
  local store <close>, runner, run = notices_of(self, {})
  store.db:transaction(function()
    store:add_notices_in({ id = run, flow = "f", cause = "schedule", root_run = run, version_no = 3 }, { on_late = {
      { webhook = "alerts" }, { shell = 'printf "%s %s" "$TIDEMILL_EVENT" "$TIDEMILL_NODE" >node' },
      { email = "a@b.example" } } },
      "late", "orders")
  end)
  local h <close> = hooks.new { store = store, runner = runner, start = start_here(self) }
  until_quiet(h)
  local body = json.decode(lines_of(self.got)[1].body)
  lu.assertEquals({ body.event, body.node, body.run }, { "late", "orders", run })
  lu.assertEquals(read(self.lab.dir .. "/node"), "late orders")
  local text = require("tidemill.sign").unbase64((read(self.lab.dir .. "/mail"):match "\n\n(.*)":gsub("\n", "")))
  lu.assertStrContains(text, "node 'orders' of ")
  lu.assertStrContains(store:decisions(run)[1].reason, "was told of the delay of node 'orders'")
end

function T:test_addresses_that_are_none_are_refused()
  local mail = require "tidemill.hooks.mail"
  for _, good in ipairs { "a@b", "a.b+c@d-e.example", "o'neil@x.org" } do lu.assertTrue(mail.is_address(good), good) end
  for _, bad in ipairs { "", "a", "@b", "a@", "a@b@c", "a b@c", "a@b\nBcc: x@y", "a@b,c@d", "<a@b>", "a@b c", ".a@b", "a..b@c",
    "a@[1.2.3.4]", "ä@b", "-t" } do
    lu.assertFalse(mail.is_address(bad), bad)
  end
  local store <close>, runner = notices_of(self, { { email = "a@b\nBcc: x@y" } })
  local h <close> = hooks.new { store = store, runner = runner, start = start_here(self) }
  until_quiet(h)
  lu.assertNil(read(self.lab.dir .. "/mail"))
  lu.assertStrContains(store.db:row("SELECT error FROM notices").error, "is no e-mail address")
end

function T:test_a_failed_try_is_repeated_with_the_same_id_and_then_given_up()
  self:receive { 500, 302, 429, 503 }
  local store <close>, runner, run, clock = notices_of(self, { { webhook = "alerts" } })
  local h <close> = hooks.new { store = store, runner = runner, start = start_here(self) }
  local waits = {}
  for i = 1, 7 do
    until_quiet(h)
    local row = store.db:row "SELECT state, attempts, next_at, ended_at FROM notices"
    lu.assertEquals(row.attempts, i)
    if i < 7 then
      lu.assertEquals(row.state, "pending")
      waits[i] = (row.next_at - clock.now) // 1000
      until_quiet(h)
      lu.assertEquals(#lines_of(self.got), i, "it was sent before its time")
      clock.now = row.next_at
    else
      lu.assertEquals(row.state, "failed")
      lu.assertEquals(row.ended_at, clock.now)
    end
  end
  for i, least in ipairs { 5, 30, 120, 600, 1200, 1800 } do
    lu.assertTrue(waits[i] >= least and waits[i] <= least * 1.1 + 1, ("wait %d was %d s"):format(i, waits[i]))
  end
  clock.now = clock.now + 86400000
  until_quiet(h)
  local got, ids = lines_of(self.got), {}
  lu.assertEquals(#got, 7)
  for _, request in ipairs(got) do ids[request.headers["webhook-id"]] = true end
  lu.assertEquals(#require "tidemill.suggest".keys(ids), 1)
  local reasons = {}
  for i, d in ipairs(store:decisions(run)) do reasons[i] = d.reason end
  lu.assertStrContains(table.concat(reasons, "\n"), "given up after 7: answered with HTTP status 503")
end

function T:test_gone_means_no_other_try()
  self:receive { 410 }
  local store <close>, runner = notices_of(self, { { webhook = "alerts" } })
  local h <close> = hooks.new { store = store, runner = runner, start = start_here(self) }
  until_quiet(h)
  lu.assertEquals(store.db:row("SELECT state FROM notices").state, "failed")
end

function T:test_what_a_dead_runner_had_taken_is_sent_by_another()
  self:receive()
  local store <close>, runner = notices_of(self, { { webhook = "alerts" } })
  local taken = store:take_notices(runner, 10)
  lu.assertEquals(#taken, 1)
  local other = store:register_runner { kind = "serve", lease_ms = 15000 }
  lu.assertEquals(store:take_notices(other, 10), {}, "its runner is alive")
  store.db:exec("UPDATE runners SET state = 'gone' WHERE id = ?", runner)
  local h <close> = hooks.new { store = store, runner = other, start = start_here(self) }
  until_quiet(h)
  lu.assertEquals(#lines_of(self.got), 1)
  -- the dead one comes back: what it says no longer counts
  store:end_notice(taken[1], { ok = false })
  local row = store.db:row "SELECT state, runner, attempts FROM notices"
  lu.assertEquals({ row.state, row.runner, row.attempts }, { "sent", other, 2 })
end

function T:test_on_postgresql()
  self:receive { 500, 204 }
  local pgtest = require "tests.support.pgtest"
  local url = pgtest.database "hooks_test"
  local dropped <close> = setmetatable({}, { __close = function() pgtest.drop "hooks_test" end }) -- luacheck: ignore 211
  local store <close>, runner, run, clock = notices_of(self, { { webhook = "alerts" }, { shell = "true" } }, nil, url)
  local second <close> = state.open(url, { clock = function() return clock.now end })
  local other = second:register_runner { kind = "serve", lease_ms = 15000 }
  -- what one is just taking, the other one passes by
  store.db:transaction(function()
    lu.assertEquals(#store:take_notices(runner, 1), 1)
    lu.assertEquals(#second:take_notices(other, 10), 1)
    lu.assertEquals(#second:take_notices(other, 10), 0)
  end)
  store.db:exec "UPDATE runners SET state = 'gone'"
  local third = store:register_runner { kind = "serve", lease_ms = 15000 }
  local h <close> = hooks.new { store = store, runner = third, start = start_here(self) }
  until_quiet(h)
  local open, next_at = store:open_notices(run)
  lu.assertEquals(open, 1)
  clock.now = next_at
  until_quiet(h)
  lu.assertEquals(store:open_notices(run), 0)
  local states = store.db:query "SELECT state, attempts FROM notices ORDER BY attempts"
  lu.assertEquals(states, { { state = "sent", attempts = 2 }, { state = "sent", attempts = 3 } })
  lu.assertEquals(#store:decisions(run), 3)
end

function T:test_two_runners_never_take_the_same()
  local targets = {}
  for i = 1, 50 do targets[i] = { shell = "true" } end
  local store <close>, runner = notices_of(self, targets)
  local other = store:register_runner { kind = "serve", lease_ms = 15000 }
  local seen, count = {}, 0
  for _ = 1, 10 do
    for _, who in ipairs { runner, other } do
      for _, notice in ipairs(store:take_notices(who, 3)) do
        lu.assertNil(seen[notice.id])
        seen[notice.id], count = true, count + 1
      end
    end
  end
  lu.assertEquals(count, 50)
end

function T:test_a_hook_that_hangs_holds_up_nobody()
  local store <close>, runner = notices_of(self, { { shell = "exec sleep 100" } })
  local now = 0
  local h <close> = hooks.new { store = store, runner = runner, clock = function() return now end }
  h:step()
  lu.assertEquals(h:active(), 1)
  now = 89000
  h:step()
  lu.assertEquals(h:active(), 1)
  now = 91000
  local before = signal.mono()
  h:step()
  lu.assertTrue(signal.mono() - before < 1000 * patience) -- not the 100 s of the hook
  for _ = 1, 100 do
    now = now + 100
    h:step()
    if h:active() == 0 then break end
    proc.poll({}, 0.05)
  end
  lu.assertEquals(h:active(), 0)
  lu.assertEquals(store.db:row("SELECT state FROM notices").state, "pending")
end

function T:test_nothing_is_forgotten_while_the_store_is_out_of_reach()
  self:receive()
  local store <close>, runner = notices_of(self, { { webhook = "alerts" }, { shell = "true" } })
  local down = {}
  local shaky = setmetatable({}, { __index = function(_, name)
    return function(_, ...)
      if down[name] then error(require "tidemill.errors".new("connect", "the store is away"), 0) end
      return store[name](store, ...)
    end
  end })
  local h <close> = hooks.new { store = shaky, runner = runner, start = start_here(self) }
  down.notice_facts = true
  lu.assertFalse((pcall(h.step, h))) -- both are taken
  lu.assertFalse((pcall(h.step, h)))
  down.notice_facts, down.end_notice = nil, true
  h:step()
  lu.assertEquals(h:active(), 2)
  lu.assertTrue(require "tests.support.pgtest".eventually(10, function() return not pcall(h.step, h) end))
  lu.assertFalse((pcall(h.step, h)))
  down.end_notice = nil
  until_quiet(h)
  lu.assertEquals(store.db:query "SELECT DISTINCT state, attempts FROM notices", { { state = "sent", attempts = 1 } })
  lu.assertEquals(#lines_of(self.got), 1)
end

function T:test_one_whose_outcome_never_came_is_taken_again()
  local store <close>, runner, _, clock = notices_of(self, { { shell = "true" } })
  lu.assertEquals(#store:take_notices(runner, 1), 1)
  clock.now = clock.now + 599000
  lu.assertEquals(#store:take_notices(runner, 1), 0)
  clock.now = clock.now + 2000
  lu.assertEquals(#store:take_notices(runner, 1), 1)
end

function T:test_the_terminal_waits_only_so_long()
  self:receive { 0 }
  self.lab:write("f.lua", flow_text("slow", 'on_failure = { webhook = "alerts" }', FAILS))
  local before = signal.mono()
  local r = self.lab:run("run", "f.lua", "--hooks")
  lu.assertTrue(signal.mono() - before < 25000) -- not the 30 s that a webhook may take
  lu.assertEquals(r.code, 1)
  lu.assertStrContains(r.err, "could not be sent yet")
  local store <close> = self:store()
  lu.assertEquals(store.db:row("SELECT state FROM notices").state, "pending")
end

function T:test_what_is_wrong_with_the_project_is_told()
  self:run_flow("f", 'on_failure = { webhook = "alerts" }', nil, "--hooks") -- ALERTS_URL is not set
  lu.assertStrContains(self.lab:run("show", "last").out, "needs the environment variable ALERTS_URL")
end

TestSignature = {}

-- The example of github.com/standard-webhooks: secret, id, timestamp and body with their signature.
function TestSignature.test_the_standards_own_example()
  lu.assertEquals(send.signature("whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw", "msg_p5jXN8AQM9LWM0D4loKWxJek", 1614265330,
    '{"test": 2432232314}'), "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=")
end

function TestSignature.test_a_secret_without_prefix_is_the_key_itself()
  local sign = require "tidemill.sign"
  lu.assertEquals(send.signature("Jefe", "a", 1, "b"), "v1," .. sign.base64(sign.hmac_sha256("Jefe", "a.1.b")))
  -- RFC 4231, test case 2
  lu.assertEquals((sign.hmac_sha256("Jefe", "what do ya want for nothing?"):gsub(".", function(c)
    return ("%02x"):format(c:byte())
  end)), "5bdcc146bf60754e6a042426089575c75a003f089d2739839dec58b964ec3843")
end

os.exit(lu.LuaUnit.run())
