--- An e-mail about a run, as RFC 5322 text for `sendmail -t`.
---
--- No value can add a header: addresses are checked, and every other text in the head is
--- printable ASCII or encoded words (RFC 2047). The body is base64, so no line of it is too long
--- and none ends the message. Lines end in LF, as sendmail wants them.

local errors = require "tidemill.errors"
local sign = require "tidemill.sign"

local mail = {}

local WORD_BYTES = 45 -- 60 letters of base64: an encoded word of 72 of at most 75
local LINE = 76

-- Letters that an address may have without quotes (RFC 5322, dot-atom).
local ATOM = "[%w!#$%%&'*+/=?^_`{|}~-]+"

--- Whether a text is an address of the plain kind, "name@host".
---@param address any
---@return boolean
function mail.is_address(address)
  if type(address) ~= "string" or #address > 254 then return false end
  local name, host = address:match "^([^@]+)@([^@]+)$"
  if not name then return false end
  for _, part in ipairs { name, host } do
    if not (part .. "."):gsub(ATOM .. "%.", ""):find "^$" then return false end
  end
  return host:find "^[%w.-]+$" ~= nil
end

--- A text as the value of a header; folded when it is long.
---@param value string
---@return string
function mail.encoded(value)
  value = value:gsub("%c", " ")
  if value:find "^[ -~]*$" and #value <= LINE - 10 and not value:find("=?", 1, true) then return value end
  local words, from = {}, 1
  while from <= #value do
    local last = math.min(from + WORD_BYTES - 1, #value)
    while last < #value and value:byte(last + 1) & 0xC0 == 0x80 do last = last - 1 end -- whole letters
    words[#words + 1] = ("=?UTF-8?B?%s?="):format(sign.base64(value:sub(from, last)))
    from = last + 1
  end
  return table.concat(words, "\n ")
end

local SAID = { success = "succeeded", failure = "failed", late = "is late" }

-- "orders failed", "node 'a' of orders is late"
local function headline(body)
  return ("%s%s %s"):format(body.node and ("node '%s' of "):format(body.node) or "", body.flow, SAID[body.event])
end

local function body_text(body)
  local lines = { headline(body), "" }
  local function add(title, value)
    if value then lines[#lines + 1] = ("%-10s %s"):format(title, tostring(value)) end
  end
  add("run", body.run)
  add("state", body.state)
  add("message", body.message)
  add("scheduled", body.scheduled)
  add("business", body.business)
  add("started", body.started)
  add("ended", body.ended)
  add("version", body.flow_version)
  add("host", body.host)
  for _, node in ipairs(body.failed_nodes) do
    lines[#lines + 1] = ""
    lines[#lines + 1] = ("node '%s' failed in attempt %d: %s"):format(node.node, node.attempt or 0, node.message or "")
  end
  local more = body.failed_count - #body.failed_nodes
  if more > 0 then lines[#lines + 1] = ("and %d more"):format(more) end
  lines[#lines + 1] = ""
  lines[#lines + 1] = ("tidemill show %s; tidemill logs %s"):format(body.run, body.run)
  return table.concat(lines, "\n") .. "\n"
end

--- The whole message.
---@param target {email: string|string[], subject: string?}
---@param body table  what lua/hooks/send.lua tells
---@param about {id: string, now: integer}
---@return string
function mail.message(target, body, about)
  local to = type(target.email) == "table" and target.email or { target.email }
  if #to == 0 then errors.usage "the e-mail hook has no address" end
  for _, address in ipairs(to) do
    if not mail.is_address(address) then errors.usage(("'%s' is no e-mail address"):format(tostring(address))) end
  end
  local host = body.host:match "^[%w.-]+$" or "localhost"
  local encoded = sign.base64(body_text(body)):gsub(("."):rep(LINE), "%0\n")
  return table.concat({
    "To: " .. table.concat(to, ",\n "),
    "Subject: " .. mail.encoded(target.subject or "[tidemill] " .. headline(body)),
    "Date: " .. os.date("!%a, %d %b %Y %H:%M:%S +0000", about.now),
    ("Message-ID: <%s@%s>"):format(about.id, host),
    "Auto-Submitted: auto-generated",
    "MIME-Version: 1.0",
    "Content-Type: text/plain; charset=utf-8",
    "Content-Transfer-Encoding: base64",
    "", encoded, "",
  }, "\n")
end

return mail
