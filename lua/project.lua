--- The project file `tidemill.lua`: connections, pools, state, default zone.
---
--- It is found by walking up from the flow, then from the working directory. It is loaded
--- like a flow, without effects; `env "NAME"` is all it may know of the world. A value from
--- the environment is looked up when its connection is used, so a missing variable is an
--- error of that connection alone, and `check` and `plan` need none.
---
--- Secrets (passwords in conninfo and URIs, keys) are handed to the drivers only. `scrub`
--- takes them out of any error that comes back.

local errors = require "tidemill.errors"
local locations = require "tidemill.locations"
local sandbox = require "tidemill.sandbox"
local suggest = require "tidemill.suggest"

local project = {}

local FILE = "tidemill.lua"
local MAX_UP = 40 -- folders above the working directory; ".." of the root is the root

local STORES = { "oss", "s3", "file" }
local STORE_OPTIONS = { "endpoint", "region", "addressing", "signature", "anonymous", "access_key_id",
  "access_key_secret", "security_token", "profile", "role_name", "ca_file", "proxy", "connect_timeout",
  "stall_timeout", "attempts", "retry_time" }
local WEBHOOK_OPTIONS = { "secret", "ca_file", "proxy" }
local SECRETS = { access_key_secret = true, security_token = true, access_key_id = true, proxy = true }

-- A text that may hold values of the environment, looked up by `text_of`.
local Env = { __name = "tidemill.env" }

function Env.__concat(a, b)
  local parts = {}
  for _, side in ipairs { a, b } do
    if getmetatable(side) == Env then
      table.move(side.parts, 1, #side.parts, #parts + 1, parts)
    else
      parts[#parts + 1] = tostring(side)
    end
  end
  return setmetatable({ parts = parts }, Env)
end

local function env(name, default)
  if type(name) ~= "string" then error("env wants the name of an environment variable", 2) end
  return setmetatable({ parts = { { name = name, default = default } } }, Env)
end

-- The text of a value, or nil and the name of the missing variable.
local function text_of(value)
  if getmetatable(value) ~= Env then return value end
  local out = {}
  for _, part in ipairs(value.parts) do
    local text = part
    if type(part) == "table" then
      text = os.getenv(part.name)
      if text == nil or text == "" then text = part.default end
      if text == nil then return nil, part.name end
    end
    out[#out + 1] = text
  end
  return table.concat(out)
end

---@class tidemill.Project
---@field file? string         path of tidemill.lua, nil when there is none
---@field dir string           its folder, "" or ending in "/"
---@field timezone string
---@field connections table<string, table>
---@field pools table<string, integer>  most node attempts at once, by pool
local Project = {}
Project.__index = Project

-- ---- reading the file ----

local function complain(file, message, hint)
  errors.usage(("%s: %s"):format(file, message), hint)
end

local function read_connection(file, name, fields)
  local what = ("connection '%s'"):format(name)
  if type(name) ~= "string" or not name:match "^[%w_-]+$" then
    complain(file, ("%s has a name that is not of letters, digits, '_' and '-'"):format(what))
  end
  if type(fields) ~= "table" or getmetatable(fields) then
    complain(file, what .. " is not a table", "write " .. name .. " = { postgres = ... } or { oss = ... }")
  end
  local kind
  for _, candidate in ipairs { "postgres", "webhook", table.unpack(STORES) } do
    if fields[candidate] ~= nil then
      if kind then complain(file, ("%s has both '%s' and '%s'"):format(what, kind, candidate)) end
      kind = candidate
    end
  end
  local known = { "postgres", "webhook", table.unpack(STORES) }
  local options = kind == "webhook" and WEBHOOK_OPTIONS or kind ~= "postgres" and STORE_OPTIONS or {}
  table.move(options, 1, #options, #known + 1, known)
  for _, key in ipairs(suggest.keys(fields)) do
    local found
    for _, one in ipairs(known) do found = found or one == key end
    if not found then
      complain(file, ("%s has no field '%s'"):format(what, key), suggest.hint(key, known, "fields"))
    end
  end
  if not kind then complain(file, what .. " needs one of postgres, oss, s3, file, webhook") end
  local url = fields[kind]
  if type(url) ~= "string" and getmetatable(url) ~= Env then
    complain(file, ("%s: '%s' is not text"):format(what, kind))
  end
  local wants = (kind == "postgres" or kind == "webhook") and kind or "store"
  return { name = name, kind = kind, wants = wants, fields = fields }
end

local function read_pools(file, pools)
  if pools ~= nil and type(pools) ~= "table" then complain(file, "'pools' is not a table", "pools = { rds = 4 }") end
  for _, name in ipairs(suggest.keys(pools or {})) do
    local limit = pools[name]
    if type(name) ~= "string" or math.type(limit) ~= "integer" or limit < 1 then
      complain(file, ("pool '%s' wants a number of at least 1"):format(tostring(name)), "pools = { rds = 4 }")
    end
  end
  return pools or {}
end

local TOP = { "connections", "pools", "state", "timezone", "sendmail" }

local function read_project(file, value)
  if type(value) ~= "table" then
    complain(file, ("returns %s, not a table"):format(value == nil and "nothing" or "a " .. type(value)),
      "end it with: return { connections = { ... } }")
  end
  for _, key in ipairs(suggest.keys(value)) do
    local found
    for _, one in ipairs(TOP) do found = found or one == key end
    if not found then complain(file, ("no field '%s'"):format(key), suggest.hint(key, TOP, "fields")) end
  end
  local connections = {}
  if value.connections ~= nil and type(value.connections) ~= "table" then
    complain(file, "'connections' is not a table")
  end
  for _, name in ipairs(suggest.keys(value.connections or {})) do
    connections[name] = read_connection(file, name, value.connections[name])
  end
  if value.timezone ~= nil and type(value.timezone) ~= "string" then complain(file, "'timezone' is not text") end
  if value.state ~= nil and type(value.state) ~= "string" and getmetatable(value.state) ~= Env then
    complain(file, "'state' is not text")
  end
  if value.sendmail ~= nil and (type(value.sendmail) ~= "string" or value.sendmail:sub(1, 1) ~= "/") then
    complain(file, "'sendmail' is not the path of a program", "sendmail = \"/usr/sbin/sendmail\"")
  end
  return connections, read_pools(file, value.pools)
end

--- Loads a project file.
---@param file string
---@return tidemill.Project
function project.load(file)
  local loaded = sandbox.load(file, { globals = { env = env } })
  local value = loaded.value
  local connections, pools = read_project(file, value)
  return setmetatable({ file = file, dir = file:match "^(.*/)[^/]*$" or "", timezone = value.timezone or "UTC",
    state_text = value.state, sendmail = value.sendmail, connections = connections, pools = pools, secrets = {} },
    Project)
end

-- ---- finding it ----

local function folders(path)
  local found, seen = {}, {}
  local function add(folder)
    if not seen[folder] then
      seen[folder] = true
      found[#found + 1] = folder
    end
  end
  local folder = path and path:match "^(.*/)[^/]*$" or ""
  while folder ~= "" do
    add(folder)
    if folder:match "^%.?%.?/+$" or folder:match "%.%./+$" then break end
    folder = folder:match "^(.*/)[^/]+/+$" or ""
  end
  add ""
  local up = ""
  for _ = 1, MAX_UP do
    up = up .. "../"
    add(up)
  end
  return found
end

--- The path of the project file for a flow; nil when there is none.
---@param flow_path? string
---@return string?
function project.find(flow_path)
  for _, folder in ipairs(folders(flow_path)) do
    if sandbox.read_file(folder .. FILE) then return folder .. FILE end
  end
end

--- The project where there is no project file.
---@return tidemill.Project
function project.none()
  return setmetatable({ dir = "", timezone = "UTC", connections = {}, pools = {}, secrets = {} }, Project)
end

--- The project of a flow. Without a project file it has no connections, and its state lies
--- in the working directory.
---@param flow_path? string
---@return tidemill.Project
function project.open(flow_path)
  local file = project.find(flow_path)
  if file then return project.load(file) end
  return project.none()
end

-- ---- connections ----

local NEEDED = { postgres = "a PostgreSQL connection", store = "an object store", webhook = "a webhook" }

--- What is wrong with using `name` as a "postgres", "store" or "webhook" connection, and a hint;
--- nil if nothing is. Looks at the project file only.
---@param name string
---@param wants "postgres"|"store"|"webhook"
---@return string? fault, string? hint
function Project:fault(name, wants)
  local connection = self.connections[name]
  if connection and connection.wants == wants then return nil end
  if connection then
    return ("connection '%s' is %s, where %s is needed"):format(name, NEEDED[connection.wants], NEEDED[wants]),
      ("%s defines it with '%s'"):format(self.file, connection.kind)
  end
  if not self.file then
    return ("unknown connection '%s': there is no %s beside the flow or above it"):format(name, FILE),
      "see 'tidemill help connections'"
  end
  return ("unknown connection '%s'"):format(name),
    suggest.hint(name, suggest.keys(self.connections), "connections in " .. self.file)
      or ("define it in %s"):format(self.file)
end

local function get(self, name, wants)
  local fault, hint = self:fault(name, wants)
  if fault then errors.usage(fault, hint) end
  return self.connections[name]
end

local function resolve(connection, key)
  local value, missing = text_of(connection.fields[key])
  if missing then
    errors.usage(("connection '%s' needs the environment variable %s, which is not set"):format(connection.name,
      missing), ("export %s before running tidemill"):format(missing))
  end
  return value
end

local function unescape(text)
  return (text:gsub("%%(%x%x)", function(hex) return string.char(tonumber(hex, 16)) end))
end

local function keep_secret(self, text)
  if text and #text >= 3 then self.secrets[text] = true end
end

-- The passwords in a conninfo or URI: in its userinfo, and in password=... of either form.
local function keep_passwords(self, conninfo)
  local userinfo = conninfo:match "^%a[%w+.-]*://([^/?]*)@"
  if userinfo and userinfo:find(":", 1, true) then
    local password = userinfo:match "^[^:]*:(.*)$"
    keep_secret(self, password)
    keep_secret(self, unescape(password))
  end
  for password in conninfo:gmatch "[pP][aA][sS][sS][wW][oO][rR][dD]%s*=%s*([^%s'&][^%s&]*)" do
    keep_secret(self, password)
    keep_secret(self, unescape(password))
  end
  for password in conninfo:gmatch "password%s*=%s*'([^']*)'" do keep_secret(self, password) end
  if userinfo or conninfo:find "password" then keep_secret(self, conninfo) end
end

local TELLING = 8 -- bytes of a word in a URL that may be a key

-- A webhook's URL is a secret, and so is what of it a server or a proxy may repeat: its password,
-- what is behind the host, and the long words in that.
local function keep_url(self, url)
  if not url then return end
  keep_secret(self, url)
  local authority, behind = url:match "^%a[%w+.-]*://([^/?#]*)(.*)$"
  if not authority then return end
  local password = authority:match "^[^:]*:(.*)@"
  keep_secret(self, password)
  keep_secret(self, password and unescape(password))
  keep_secret(self, behind)
  for word in behind:gmatch "[^/?#&=]+" do
    if #word >= TELLING then
      keep_secret(self, word)
      keep_secret(self, unescape(word))
    end
  end
end

--- A text without any secret that this project has handed out.
---@param text string
---@return string
function Project:scrub(text)
  local all = {}
  for secret in pairs(self.secrets) do all[#all + 1] = secret end
  table.sort(all, function(a, b) return #a > #b end)
  for _, secret in ipairs(all) do
    text = text:gsub(secret:gsub("%p", "%%%0"), "***")
  end
  return text
end

--- Scrubs every text of an error table, in place; returns it.
---@param err any
---@return any
function Project:scrub_error(err)
  if type(err) == "string" then return self:scrub(err) end
  if type(err) ~= "table" then return err end
  for key, value in pairs(err) do
    if type(value) == "string" then err[key] = self:scrub(value) end
    if key == "cause" then err[key] = self:scrub_error(value) end
  end
  return err
end

local function guarded(self, connection, body, ...)
  local results = table.pack(pcall(body, ...))
  if results[1] then return table.unpack(results, 2, results.n) end
  local err = self:scrub_error(results[2])
  if type(err) == "table" and err.message and not err.connection then
    err.connection = connection.name
    err.message = ("connection '%s': %s"):format(connection.name, err.message)
  end
  error(err, 0)
end

local SECRET_VARIABLES = { "PGPASSWORD", "OSS_ACCESS_KEY_SECRET", "OSS_SESSION_TOKEN", "AWS_SECRET_ACCESS_KEY",
  "AWS_SESSION_TOKEN" }

--- Takes note of a secret that was found elsewhere, so that `scrub` knows it.
---@param text? string
function Project:keep(text) keep_secret(self, text) end

--- Takes note of all secrets that can be known without connecting, so that `scrub` knows them
--- before a connection is used.
function Project:keep_secrets()
  for _, name in ipairs(SECRET_VARIABLES) do keep_secret(self, os.getenv(name)) end
  for name, connection in pairs(self.connections) do
    if connection.wants == "postgres" then pcall(self.conninfo, self, name) end
    if connection.wants == "webhook" then pcall(self.webhook, self, name) end
    for key in pairs(connection.wants == "store" and SECRETS or {}) do
      keep_secret(self, (text_of(connection.fields[key])))
    end
  end
  pcall(self.state, self)
end

--- The conninfo or URI of a connection, secrets and all: for a driver, never for a message.
---@param name string
---@return string
function Project:conninfo(name)
  local conninfo = resolve(get(self, name, "postgres"), "postgres")
  keep_passwords(self, conninfo)
  return conninfo
end

--- Connects. The caller closes it.
---@param name string
---@param opts? table  as of pg.connect
---@return pg.Conn
function Project:postgres(name, opts)
  local connection = get(self, name, "postgres")
  return guarded(self, connection, require("pg").connect, self:conninfo(name), opts)
end

-- tidemill.lua may be named by a relative path; a file:// URL has an absolute one.
local function absolute(path)
  if path:sub(1, 1) == "/" then return path end
  local here = require "proc".run { cmd = { "pwd" }, check = true }.stdout:gsub("\n$", "")
  return here .. "/" .. path
end

--- Opens an object store; talks to nobody yet.
---@param name string
---@return oss.Store
function Project:store(name)
  local connection = get(self, name, "store")
  local opts = { url = resolve(connection, connection.kind) }
  for _, key in ipairs(STORE_OPTIONS) do
    if connection.fields[key] ~= nil then
      opts[key] = resolve(connection, key)
      if key == "proxy" then keep_url(self, opts[key]) end
      if SECRETS[key] then keep_secret(self, opts[key]) end
    end
  end
  if connection.kind == "file" and not opts.url:find "^file://" then
    local path = opts.url
    opts.url = "file://" .. (path:sub(1, 1) == "/" and path or absolute(self.dir .. path))
  elseif not opts.url:find "^%w+://" then
    opts.url = connection.kind .. "://" .. opts.url
  elseif not opts.url:find("^" .. connection.kind .. "://") then
    errors.usage(("connection '%s': '%s' wants %s://..., got '%s'"):format(name, connection.kind, connection.kind,
      self:scrub(opts.url)))
  end
  return guarded(self, connection, require("oss").open, opts)
end

--- Where a webhook goes, secrets and all.
---@param name string
---@return {url: string, secret: string?, ca_file: string?, proxy: string?}
function Project:webhook(name)
  local connection = get(self, name, "webhook")
  local found = { url = resolve(connection, "webhook") }
  for _, key in ipairs(WEBHOOK_OPTIONS) do
    if connection.fields[key] ~= nil then found[key] = resolve(connection, key) end
  end
  keep_url(self, found.url)
  keep_secret(self, found.secret)
  keep_url(self, found.proxy)
  if not found.url:lower():find "^https?://" then
    errors.usage(("connection '%s': 'webhook' wants https://... or http://..."):format(name))
  end
  return found
end

--- The program that takes e-mail.
---@return string
function Project:sendmail_program() return self.sendmail or "/usr/sbin/sendmail" end

--- Opens the store of "connection:path/"; the second result is the key prefix in it, which
--- ends in "/".
---@param text string
---@return oss.Store store, string prefix
function Project:location(text)
  local name, prefix = locations.folder(text)
  return self:store(name), prefix
end

--- Where runs are recorded: "sqlite" and a path, or "postgres" and a conninfo.
---@return "sqlite"|"postgres" kind, string where
function Project:state()
  local text, missing = text_of(self.state_text or "sqlite:.tidemill/state.db")
  if missing then
    errors.usage(("%s: 'state' needs the environment variable %s, which is not set"):format(self.file, missing))
  end
  local path = text:match "^sqlite:(.+)$"
  if path then return "sqlite", path:sub(1, 1) == "/" and path or self.dir .. path end
  if text:find "^postgres" or text:find "=" then
    keep_passwords(self, text)
    return "postgres", text
  end
  errors.usage(("%s: 'state' is neither sqlite:PATH nor a PostgreSQL URI"):format(self.file))
end

return project
