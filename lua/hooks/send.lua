--- Sending one notice, inside the process of the hidden command `hook`.
---
--- A webhook is signed as standardwebhooks.com says: headers webhook-id (the same for every
--- try), webhook-timestamp and webhook-signature, "v1," and the base64 of the HMAC-SHA256 of
--- "ID.TIMESTAMP.BODY". The key is what follows "whsec_" in the secret, decoded from base64, or
--- else the secret as it stands. Without a secret nothing is signed.
---
--- A shell hook is run by /bin/sh in the folder of tidemill.lua; it knows the notice from
--- environment variables TIDEMILL_* and has the webhook's body on standard input, so nothing of a
--- flow is ever part of a command. An e-mail goes to `sendmail -t -i`.

local errors = require "tidemill.errors"
local json = require "json"
local mail = require "tidemill.hooks.mail"
local sign = require "tidemill.sign"
local text = require "tidemill.text"

local send = {}

local WEBHOOK_S, SHELL_S, MAIL_S = 30, 60, 60
local SHOWN = 300 -- bytes of an answer or of a command's words that an error shows

---@param ms integer?
---@return string?  "2026-01-02T03:04:05.678Z"
local function instant(ms)
  return ms and os.date("!%Y-%m-%dT%H:%M:%S", ms // 1000) .. (".%03dZ"):format(ms % 1000)
end

local function host_name()
  local f <close> = io.open "/proc/sys/kernel/hostname"
  return f and f:read "l" or "localhost"
end

--- What a receiver is told, as a table for JSON.
---@param job table  see hooks.start
---@return table
function send.body(job)
  local facts, notice = job.facts, job.notice
  local nodes = json.array {}
  for i, node in ipairs(facts.failed or {}) do
    nodes[i] = { node = node.node, attempt = node.attempt, message = node.message, kind = node.kind, code = node.code }
  end
  return text.clean_all { event = notice.what, node = notice.node, flow = facts.flow, run = facts.run,
    flow_version = facts.version, cause = facts.cause, state = facts.state, scheduled = instant(facts.scheduled),
    business = instant(facts.business), started = instant(facts.started), ended = instant(facts.ended),
    timezone = facts.timezone, message = facts.message, failed_nodes = nodes,
    failed_count = facts.failed_count or #nodes,
    version = job.version, host = host_name() }
end

--- The signature of a body.
---@param secret string
---@return string
function send.signature(secret, id, timestamp, body)
  local key = secret:match "^whsec_(.*)$"
  if key then
    local ok, decoded = pcall(sign.unbase64, key)
    if not ok then errors.usage("the webhook's secret is not base64 behind 'whsec_'") end
    key = decoded
  end
  return "v1," .. sign.base64(sign.hmac_sha256(key or secret, ("%s.%d.%s"):format(id, timestamp, body)))
end

-- The beginning of what the other side said, on one line.
local function shown(words)
  local line = text.clean(words:sub(1, SHOWN)):gsub("%c+", " "):match "^%s*(.-)%s*$"
  return line ~= "" and line or nil
end

local senders = {}

function senders.webhook(job, body, project)
  local name, now = job.notice.target.webhook, os.time()
  local target = project:webhook(name)
  local headers = { ["content-type"] = "application/json", ["user-agent"] = "tidemill/" .. job.version,
    ["webhook-id"] = job.notice.id, ["webhook-timestamp"] = tostring(now) }
  if target.secret then headers["webhook-signature"] = send.signature(target.secret, job.notice.id, now, body) end
  local reply = require "tidemill.http".post { url = target.url, body = body, headers = headers,
    timeout = WEBHOOK_S, ca_file = target.ca_file, proxy = target.proxy }
  if reply.status >= 200 and reply.status < 300 then return end
  error(errors.new("server", ("answered with HTTP status %d"):format(reply.status), { status = reply.status,
    detail = shown(reply.body), final = reply.status == 410 }), 0)
end

-- The facts as environment variables: text without zero bytes.
local function environment(body)
  local env, failed = {}, {}
  for _, key in ipairs { "event", "node", "flow", "run", "flow_version", "cause", "state", "scheduled", "business",
    "started", "ended", "timezone", "message", "version", "host" } do
    env["TIDEMILL_" .. key:upper()] = tostring(body[key] == nil and "" or body[key]):gsub("%z", "")
  end
  for i, node in ipairs(body.failed_nodes) do failed[i] = node.node end
  env.TIDEMILL_FAILED_NODES = table.concat(failed, "\n"):gsub("%z", "")
  return env
end
send.environment = environment

-- Runs a command to its end; what is not success raises.
local function run(what, options)
  local ok, r = pcall(require "proc".run, options)
  if not ok then error(errors.from(r), 0) end
  if r.code == 0 then return end
  error(errors.new("system", r.signal and ("%s was ended by %s"):format(what, r.signal)
    or ("%s failed with exit code %d"):format(what, r.code), { detail = shown(r.stderr .. r.stdout) }), 0)
end

function senders.shell(job, body, project)
  local dir = project.dir
  run("the command", { cmd = { "/bin/sh", "-c", job.notice.target.shell }, input = body, group = false,
    cwd = dir and dir ~= "" and dir or nil, env = environment(json.decode(body)), timeout = SHELL_S })
end

function senders.email(job, body, project)
  local program = project:sendmail_program()
  local message = mail.message(job.notice.target, json.decode(body), { id = job.notice.id, now = os.time() })
  run(("'%s'"):format(program), { cmd = { program, "-t", "-i" }, input = message, group = false, timeout = MAIL_S })
end

local function sender_of(target)
  for kind, sender in pairs(senders) do
    if target[kind] then return sender end
  end
  errors.usage("the hook is neither a webhook nor a shell command nor an e-mail")
end

--- Sends one notice; raises nothing.
---@param job table  see hooks.start
---@return {ok: boolean, error: table?, final: boolean?}
function send.run(job)
  local project = require "tidemill.project"
  local opened
  local ok, raised = pcall(function()
    opened = job.project and project.load(job.project) or project.open()
    sender_of(job.notice.target)(job, json.encode(send.body(job)), opened)
  end)
  if ok then return { ok = true } end
  local err = errors.from(opened and opened:scrub_error(raised) or raised)
  local plain = { kind = err.kind, message = err.message, code = err.code, status = err.status, detail = err.detail,
    hint = err.hint }
  return { ok = false, error = text.clean_all(plain), final = err.final or false }
end

return send
