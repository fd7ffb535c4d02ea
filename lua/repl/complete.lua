--- What may stand at the cursor of the prompt: names, fields, methods, commands, files.
---
--- Completion looks but never acts: no connection is opened, no `__index` of a user's is called,
--- no function is run. Methods of a connection that is not open yet come from the stubs of
--- its module (stdlib/NAME.lua).

local docs = require "tidemill.docs"
local embedded = require "tidemill.embedded"
local suggest = require "tidemill.suggest"
local tty = require "tidemill.tty"

local complete = {}

local KEYWORDS = { "and", "break", "do", "else", "elseif", "end", "false", "for", "function", "goto", "if", "in",
  "local", "nil", "not", "or", "repeat", "return", "then", "true", "until", "while" }

---@class tidemill.Completer
---@field env table                 the globals of the session
---@field modules string[]          names that `env` loads when they are used
---@field connections fun(): table<string, "postgres"|"store">
---@field opened fun(name: string): any   the connection `db.NAME`, if it is open
---@field commands fun(): string[]  dot commands
---@field arguments table<string, fun(self: tidemill.Completer): string[]|"files">  of a dot command
---@field sql? string[]             words to complete instead, at an SQL prompt

-- Names that start with `prefix`, each once, sorted.
local function matching(names, prefix)
  local found, seen = {}, {}
  for _, name in ipairs(names) do
    if not seen[name] and name:sub(1, #prefix) == prefix then
      seen[name] = true
      found[#found + 1] = name
    end
  end
  table.sort(found)
  return found
end

-- The methods of a class as its module documents them: "pg.Conn" -> { "close", ... }
local function documented(class)
  local names = {}
  local text = embedded.source(("stdlib/%s.lua"):format(class:match "^[^.]+"))
  for _, item in ipairs(text and docs.parse(text).items or {}) do
    if item.of == class then names[#names + 1] = item.name:match "[.:]([%w_]+)$" end
  end
  return names
end

local CLASS = { postgres = "pg.Conn", store = "oss.Store" }

-- A connection that is not open: only its kind is known.
local Closed = {}

local function is_name(key) return type(key) == "string" and key:match "^[%a_][%w_]*$" ~= nil end

-- Names in a table and in the tables it inherits from.
local function members(value, only_functions)
  local names, depth = {}, 0
  while value ~= nil and depth < 8 do
    if type(value) == "table" and getmetatable(value) ~= Closed then
      for key, one in next, value do
        if is_name(key) and (not only_functions or type(one) == "function") then names[#names + 1] = key end
      end
    end
    local meta = debug.getmetatable(value)
    value = type(meta) == "table" and rawget(meta, "__index") or nil
    depth = depth + 1
  end
  return names
end

-- One field, without calling anything.
local function field(value, key)
  for _ = 1, 8 do
    if type(value) == "table" and rawget(value, key) ~= nil then return rawget(value, key) end
    local meta = debug.getmetatable(value)
    value = type(meta) == "table" and rawget(meta, "__index") or nil
    if type(value) ~= "table" then return nil end
  end
end

local function root(self, name)
  if rawget(self.env, name) ~= nil then return rawget(self.env, name) end
  for _, module in ipairs(self.modules) do
    if module == name then
      local ok, value = pcall(require, name)
      return ok and value or nil
    end
  end
  return rawget(_G, name)
end

-- The value of "a.b.c", as far as it can be known.
local function value_of(self, path)
  local value
  for i, name in ipairs(path) do
    if i == 1 then
      value = root(self, name)
    elseif i == 2 and path[1] == "db" and value == rawget(self.env, "db") then
      local kind = self.connections()[name]
      value = kind and (self.opened(name) or setmetatable({ kind = kind }, Closed))
    else
      value = field(value, name)
    end
    if value == nil then return nil end
  end
  return value
end

local function globals(self)
  local names = { "db", table.unpack(self.modules) }
  for _, place in ipairs { self.env, _G } do
    for key in next, place do
      if is_name(key) then names[#names + 1] = key end
    end
  end
  return table.move(KEYWORDS, 1, #KEYWORDS, #names + 1, names)
end

local function expression(self, text)
  local chain, mark, word = text:match "([%a_][%w_.]*)([.:])([%w_]*)$"
  if not chain or text:find "%.%.[%w_]*$" then
    word = text:match "[%a_][%w_]*$"
    if not word then return {}, "" end
    if text:sub(1, -#word - 1):find "[.:]$" then return {}, word end -- of something that is not a name
    return matching(globals(self), word), word
  end
  local before = text:sub(1, -#chain - #mark - #word - 1)
  if before:find "[%w_.:%])]$" then return {}, word end
  local path = {}
  for name in chain:gmatch "[^.]+" do path[#path + 1] = name end
  local value = value_of(self, path)
  if value == nil then return {}, word end
  if #path == 1 and chain == "db" and value == rawget(self.env, "db") and mark == "." then
    return matching(suggest.keys(self.connections()), word), word
  end
  local names = getmetatable(value) == Closed and documented(CLASS[rawget(value, "kind")])
    or members(value, mark == ":")
  return matching(names, word), word
end

--- Files whose path starts with `prefix`, folders with a "/" behind.
---@param prefix string
---@return string[]
function complete.files(prefix)
  local folder = prefix:match "^.*/" or ""
  local ok, listed = pcall(require("proc").run, { cmd = { "find", folder == "" and "." or folder, "-maxdepth", "1",
    "-mindepth", "1", "-printf", "%y %f\\0" }, stderr = "null", timeout = 2 })
  local names = {}
  for kind, name in (ok and listed.stdout or ""):gmatch "(%a) ([^%z]+)" do
    local wanted = (kind == "d" or name:find "%.lua$") and name:sub(1, 1) ~= "." and not name:find "%c"
      and utf8.len(name)
    if wanted then names[#names + 1] = folder .. name .. (kind == "d" and "/" or "") end
  end
  return matching(names, prefix)
end

-- ".sql rd": the command, or its argument.
local function dot_command(self, text)
  local command, rest = text:match "^%s*(%.%a+)%s+(.*)$"
  if not command then
    local word = text:match "^%s*(%.%a*)$"
    if not word then return {}, "" end
    local names = matching(self.commands(), word)
    if #names == 1 and self.arguments[names[1]] then names[1] = names[1] .. " " end
    return names, word
  end
  local arguments = self.arguments[command]
  if not arguments then return {}, "" end
  if arguments == "files" then return complete.files(rest), rest end
  return matching(arguments(self), rest), rest
end

local function in_words(words, text)
  local word = text:match "[%a_][%w_]*$"
  if not word then return {}, "" end
  local upper = word:find "^%l" == nil
  local names = {}
  for i, one in ipairs(words) do names[i] = upper and one or one:lower() end
  return matching(names, word), word
end

--- What may follow: whole names, and the part of them that stands there already.
---@param self tidemill.Completer
---@param text string  what stands before the cursor
---@return string[] names, string typed
function complete.names(self, text)
  if text:find "^%s*%.%a*$" or text:find "^%s*%.%a+%s" then return dot_command(self, text) end
  if self.sql then return in_words(self.sql, text) end
  local module = text:match "require%s*%(?%s*[\"']([%w_]*)$"
  if module then return matching(self.modules, module), module end
  return expression(self, text)
end

-- What all names share.
local function common_prefix(names)
  local prefix = names[1]
  for _, name in ipairs(names) do
    while name:sub(1, #prefix) ~= prefix do prefix = prefix:sub(1, -2) end
  end
  while #prefix > 0 and not utf8.len(prefix) do prefix = prefix:sub(1, -2) end
  return prefix
end

local MOST = 200 -- names shown

--- Names in columns, sorted down, for a terminal of `width` columns.
---@param names string[]
---@param width integer
---@return string
function complete.columns(names, width)
  local widest, shown = 1, math.min(#names, MOST)
  for i = 1, shown do widest = math.max(widest, tty.width(names[i])) end
  local across = math.max(1, (width + 2) // (widest + 2))
  local down = (shown + across - 1) // across
  local lines = {}
  for row = 1, down do
    local line = {}
    for column = 0, across - 1 do
      local name = names[column * down + row]
      if name and column * down + row <= shown then
        line[#line + 1] = name .. (" "):rep(widest - tty.width(name))
      end
    end
    lines[row] = (table.concat(line, "  "):gsub("%s+$", ""))
  end
  if #names > shown then lines[#lines + 1] = ("... %d more"):format(#names - shown) end
  return table.concat(lines, "\n") .. "\n"
end

--- For the editor: what to insert at the cursor, or else the choices to show.
---@param self tidemill.Completer
---@param text string
---@return string? insert, string? list
function complete.at(self, text)
  local names, typed = complete.names(self, text)
  if #names == 0 then return nil end
  local prefix = common_prefix(names)
  if #prefix > #typed then return prefix:sub(#typed + 1) end
  if #names == 1 then return nil end
  local shown = {}
  for i, name in ipairs(names) do shown[i] = name:match "[^/]+/?$" or name end
  return nil, complete.columns(shown, (tty.size(1)) or 80)
end

return complete
