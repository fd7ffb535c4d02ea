--- The session behind `tidemill repl`: input becomes code, runs, and its values are shown.
---
--- `feed` takes one line at a time, from a terminal or a script, and says whether more is
--- wanted. An input is an expression, whose values are shown, or statements; it goes on over
--- several lines until it is complete. Globals live as long as the session, and so do the names
--- of a `local` that begins an input: on the next line they would be gone otherwise.
---
--- A line that starts with a dot is a command (lua/repl/commands.lua). While an SQL prompt is
--- open (`.sql NAME`), other lines are SQL (lua/repl/sql.lua).
---
--- Ctrl-C ends what runs, never the session: code runs in `signal.guard`, and signals are
--- deferred outside of it. Whatever is shown is scrubbed of the project's secrets.

local edit = require "tidemill.edit"
local errors = require "tidemill.errors"
local show = require "tidemill.repl.print"
local signal = require "tidemill.signal"
local suggest = require "tidemill.suggest"
local tty = require "tidemill.tty"

local repl = {}
local Session = { __name = "tidemill.repl" }
Session.__index = Session

--- Modules that are globals of the session, loaded when they are first used.
repl.modules = { "cron", "csv", "flow", "json", "log", "oss", "pg", "proc", "stream", "time", "zip" }

-- ---- the globals of a session ----

local function find_module(name)
  for _, module in ipairs(repl.modules) do
    if module == name then return require(name) end
  end
end

-- `db.NAME`: the connection NAME of the project, opened when it is first used.
local function connections(self)
  local db = {}
  return setmetatable(db, {
    __name = "db",
    __index = function(_, name) return self:connection(name) end,
    __newindex = function(_, name)
      error(("db.%s: connections are defined in tidemill.lua"):format(tostring(name)), 2)
    end,
    __pairs = function()
      local names, i = self:connection_names(), 0
      return function()
        i = i + 1
        if names[i] then return names[i], self:connection(names[i]) end
      end
    end,
    __tostring = function() return self:connection_list() end,
  })
end

-- Ctrl-C reaches the coroutine that runs, through the library's own functions.
local function track_coroutines()
  local resume = edit.tracked(coroutine.resume)
  local function results(co, ok, ...)
    if ok then return ... end
    coroutine.close(co)
    error(..., 0)
  end
  coroutine.resume = resume -- luacheck: ignore 122
  function coroutine.wrap(body) -- luacheck: ignore 122
    local co = coroutine.create(body)
    return function(...) return results(co, resume(co, ...)) end
  end
end

local function environment(self)
  local env = {}
  env._G, env.db = env, connections(self)
  function env.print(...)
    local words = table.pack(...)
    for i = 1, words.n do words[i] = tostring(words[i]) end
    self:write(table.concat(words, "\t"))
  end
  return setmetatable(env, { __index = function(_, key)
    local module = find_module(key)
    if module == nil then return _G[key] end
    rawset(env, key, module)
    return module
  end })
end

---@class tidemill.SessionOptions
---@field project tidemill.Project
---@field interactive? boolean  a terminal: results are cut to its width
---@field source? string        what messages call the input (default "repl")

--- Makes a session.
---@param options tidemill.SessionOptions
function repl.new(options)
  local self = setmetatable({ project = options.project, interactive = options.interactive,
    source = options.source or "repl", limit = 50, timing = false, open = {}, lines = {}, line_number = 0,
    signals = 0 }, Session)
  self.project:keep_secrets()
  self.env = environment(self)
  self.commands = require "tidemill.repl.commands"
  return self
end

--- Shows text, without the project's secrets.
---@param text string
function Session:write(text)
  io.stdout:write(self.project:scrub(text), "\n")
  io.stdout:flush()
end

--- Shows an error.
---@param err table
function Session:complain(err)
  io.stdout:flush()
  io.stderr:write(self.project:scrub(table.concat(errors.lines(err), "\n")), "\n")
end

--- How values are to be shown now.
---@return tidemill.ShowOptions
function Session:look()
  return { limit = self.limit, width = self.interactive and tty.size(1) or nil, cut = self.interactive }
end

-- ---- connections ----

local function usable(connection, opened)
  if connection.wants ~= "postgres" then return true end
  local state = opened:state()
  return state ~= "closed" and state ~= "broken"
end

--- The names of the databases and object stores of the project, or of those of one kind.
---@param wants? "postgres"|"store"
---@return string[]
function Session:connection_names(wants)
  local names = {}
  for _, name in ipairs(suggest.keys(self.project.connections)) do
    local is = self.project.connections[name].wants
    if is == wants or not wants and (is == "postgres" or is == "store") then names[#names + 1] = name end
  end
  return names
end

--- The connection NAME of the project, opened on first use.
---@param name string
---@return pg.Conn|oss.Store
function Session:connection(name)
  local connection = self.project.connections[name]
  local opened = self.open[name]
  if opened and usable(connection, opened) then return opened end
  if connection and connection.wants == "store" then
    opened = self.project:store(name)
  else -- or raises what is wrong with the name
    opened = self.project:postgres(name, { application_name = "tidemill repl", notice = function(notice)
      io.stdout:flush()
      io.stderr:write(self.project:scrub(("%s:  %s"):format(notice.severity, notice.message)), "\n")
    end })
  end
  self.open[name] = opened
  return opened
end

--- The project's connections, one a line.
---@return string
function Session:connection_list()
  local names, lines = self:connection_names(), {}
  if #names == 0 then
    return self.project.file and ("%s defines no connections"):format(self.project.file)
      or "no connections: there is no tidemill.lua here or above"
  end
  for i, name in ipairs(names) do
    local connection = self.project.connections[name]
    local opened = self.open[name]
    local how = opened and (usable(connection, opened) and "open" or "broken") or "not open"
    lines[i] = ("db.%-20s %-10s %s"):format(name, connection.kind, how)
  end
  return table.concat(lines, "\n")
end

-- ---- running code ----

-- The lines of the user's own that an error came through, innermost first.
local function places(self, raised)
  local found = {}
  for level = 3, 60 do
    local info = debug.getinfo(level, "Sl")
    if not info or #found == 8 then break end
    local own = info.source:sub(1, 1) == "@" and not info.source:find "^@lua/" and not info.source:find "^@stdlib/"
    local place = ("%s:%d"):format(info.short_src, info.currentline)
    if own and info.currentline > 0 and not tostring(raised):find(place, 1, true) then
      found[#found + 1] = "at " .. place
    end
    if info.short_src == self.source then break end
  end
  return #found > 0 and table.concat(found, "\n") or nil
end

-- A name that is nil where something is done with it: the nearest one that is not.
local function hint_for(self, message)
  local name = message:match "%(global '([%w_]+)'%)$"
  if not name then return nil end
  local names = table.move(repl.modules, 1, #repl.modules, 1, suggest.keys(self.env))
  for key in pairs(_G) do names[#names + 1] = key end
  local near = suggest.nearest(name, names)
  return near and ("did you mean '%s'?"):format(near)
end

local function explained(self, raised)
  local err = errors.from(raised)
  local where = places(self, raised)
  if err.kind ~= "script" then
    if where and not err.detail then err.detail = where end
    return err
  end
  return errors.new("script", err.message, { hint = hint_for(self, err.message),
    detail = err.detail or where })
end

-- What an input gives as text, or nil; milliseconds it took.
local function run(self, chunk, ...)
  signal.defer(false) -- from here on a signal ends the chunk; one that came before must not be lost
  if signal.take() > self.signals then error(errors.new("canceled", "cancelled"), 0) end
  local started = signal.mono()
  local results = table.pack(xpcall(chunk, function(raised) return explained(self, raised) end, ...))
  local took = signal.mono() - started
  if not results[1] then error(results[2], 0) end
  if results.n == 1 then return nil, took end
  self.env._ = results[2]
  local texts = {}
  for i = 2, results.n do texts[i - 1] = show.value(results[i], self:look()) end
  return table.concat(texts, "\n"), took
end

--- Calls a function so that Ctrl-C ends it; shows what it returns. Nil, or what went wrong.
---@param chunk function
---@return table? err
function Session:call(chunk, ...)
  local ok, text, took = signal.guard(run, self, chunk, ...)
  local count = signal.take()
  local interrupted = count > self.signals
  self.signals = count
  if not ok then
    local err = errors.from(text)
    if interrupted and err.kind ~= "canceled" then err = errors.new("canceled", "cancelled") end
    return err
  end
  if text then self:write(text) end
  if self.timing then self:write(("Time: %.3f s"):format(took / 1000)) end
  if interrupted and not self.interactive then return errors.new("canceled", "cancelled") end -- it came too late
end

-- `local a <const>, b = 1, 2` at the start of an input becomes `a, b = 1, 2`: names persist.
local function keep_locals(text)
  local rest = text:match "^%s*local%s+function(%s.*)$"
  if rest then return "function" .. rest end
  local at = text:match "^%s*local%s+()"
  if not at then return text end
  local names = {}
  while true do
    local name, after = text:match("^([%a_][%w_]*)%s*()", at)
    if not name then return text end
    names[#names + 1] = name
    at = text:match("^<%s*%a+%s*>%s*()", after) or after
    local next_at = text:match("^,%s*()", at)
    if not next_at then break end
    at = next_at
  end
  if text:find("^==", at) then return text end -- Lua will say so
  local assigns = text:find("^=", at)
  return table.concat(names, ", ") .. " " .. (assigns and "" or "= nil ") .. text:sub(at)
end

-- The function of an input; nil and the message, and whether more lines may complete it.
local function compile(self, text)
  local name, pad = "=" .. self.source, ("\n"):rep(self.first_line - 1)
  text = text:gsub("^%s*=", "return ", 1)
  local chunk = load(pad .. "return " .. text, name, "t", self.env)
  if chunk then return chunk end
  local message
  chunk, message = load(pad .. keep_locals(text), name, "t", self.env)
  return chunk, message, message and message:find "<eof>$" ~= nil
end

local function evaluate(self, text)
  local chunk, message, incomplete = compile(self, text)
  if not chunk and incomplete then return "more" end
  self.lines = {}
  if not chunk then return "error", errors.new("script", message) end
  local err = self:call(chunk)
  if err then return "error", err end
  return "ok"
end

--- Forgets the lines of an input that is not complete.
function Session:drop()
  self.lines = {}
  if self.sql then self.sql:drop() end
end

--- Whether an input is begun and not complete.
---@return boolean
function Session:pending()
  return #self.lines > 0 or self.sql ~= nil and self.sql:pending()
end

--- What stands before the next line.
---@return string
function Session:prompt()
  if self.sql then return self.sql:prompt() end
  return #self.lines > 0 and "       >> " or "tidemill> "
end

--- Takes one line. "ok", "more" (the input goes on), "quit", or "error" and the error, which
--- is not shown yet.
---@param line string
---@return "ok"|"more"|"quit"|"error" what, table? err
function Session:feed(line)
  self.line_number = self.line_number + 1
  if not self:pending() then
    self.first_line = self.source == "repl" and 1 or self.line_number
    if line:find "^%s*$" then return "ok" end
    if line:find "^%s*%.%a" then return self.commands.run(self, line) end
  end
  if self.sql then return self.sql:feed(line) end
  self.lines[#self.lines + 1] = line
  return evaluate(self, table.concat(self.lines, "\n"))
end

--- The error of an input that ends in the middle.
---@return table
function Session:unfinished()
  return errors.new("script", self.sql and "the last statement has no ';'" or "the input ends in the middle")
end

--- Closes what the session opened.
function Session:close()
  for name, opened in pairs(self.open) do
    if self.project.connections[name].wants == "postgres" then pcall(opened.close, opened) end
  end
  self.open = {}
end
Session.__close = Session.close

-- ---- history ----

local SECRETS = {
  "passw%w*[%s=:\"'%]>,]+%S",                                  -- password = '...', PASSWORD 'x', password=x
  "secret[%w_]*[\"']?%]?%s*[=:,]%s*%S", "token[\"']?%]?%s*=%s*[\"']", "access_key[%w_]*[\"']?%]?%s*=%s*%S",
  "%a[%w+.-]*://[^/%s\"']*:[^/%s\"'@]*@",                     -- user:password in a URI
  "^%s*%a[%w_]*%s*=%s*[\"'][%w+/=_-]*ltai", "akia%w%w%w%w%w%w%w%w", "private key",
}

--- Whether a line may be kept in the history: not one that starts with a space, nor one that
--- looks as if it held a secret.
---@param line string
---@param project tidemill.Project
---@return boolean
function repl.keeps(line, project)
  if line == "" or line:find "^%s" then return false end
  local lower = line:lower()
  for _, pattern in ipairs(SECRETS) do
    if lower:find(pattern) then return false end
  end
  return project:scrub(line) == line
end

-- ---- the loops ----

local function history_path()
  local path = os.getenv "TIDEMILL_HISTORY"
  if path == "" then return nil end
  local home = os.getenv "HOME"
  return path or home and home ~= "" and home .. "/.tidemill_history" or nil
end

local function warn(session, what, err)
  session:complain(errors.new("io", ("%s: %s"):format(what, err.message)))
end

local function open_editor(session)
  local complete = require "tidemill.repl.complete"
  local editor = edit.open(function(text) return complete.at(session:completer(), text) end)
  local path = history_path()
  if path then
    local ok, err = editor:history(path)
    if not ok then warn(session, "the history is not kept", err) end
  end
  return editor
end

--- What lua/repl/complete.lua wants to know.
---@return tidemill.Completer
function Session:completer()
  return {
    env = self.env, modules = repl.modules, sql = self.sql and self.sql.words,
    connections = function()
      local kinds = {}
      for _, name in ipairs(self:connection_names()) do kinds[name] = self.project.connections[name].wants end
      return kinds
    end,
    opened = function(name) return self.open[name] end,
    commands = self.commands.names,
    arguments = self.commands.arguments(self),
  }
end

-- Reads lines at a terminal until the user leaves. Returns the exit code.
local function converse(session, editor)
  local history_fails, last
  while true do
    local line = editor:line(session:prompt())
    if edit.ending() then return 128 + edit.ending() end
    session.signals = signal.take() -- a later one is meant for what the line does
    if line == false then -- Ctrl-C: what was typed is dropped
      session:drop()
      io.stdout:write "^C\n"
    elseif line == nil then
      io.stdout:write "\n"
      if session:pending() then
        session:drop()
      elseif session.sql then
        session.sql = nil
      else
        return 0
      end
    else
      if line ~= last and repl.keeps(line, session.project) then
        last = line
        local ok, err = editor:add(line)
        if not ok and not history_fails then
          history_fails = true
          warn(session, "the history is not kept", err)
        end
      end
      local what, err = session:feed(line)
      if what == "quit" then return 0 end
      if err then session:complain(err) end
      if edit.ending() then return 128 + edit.ending() end
    end
  end
end

--- Talks to a person at a terminal. Returns the exit code of the process.
---@param session table
---@return integer
function repl.converse(session)
  signal.defer(true) -- but for code that runs
  edit.prompt(true)
  track_coroutines()
  local editor <close> = open_editor(session)
  return converse(session, editor)
end

-- 3: cannot connect, 130: interrupted, 1: anything else.
local function exit_code(err)
  local code = errors.exit_code(err)
  return (code == 3 or code == 130) and code or 1
end

-- An error of a script tells its line; one out of Lua code does already.
local function placed(session, err)
  if session.source ~= "repl" and err.message:sub(1, #session.source + 1) ~= session.source .. ":" then
    err.message = ("%s:%d: %s"):format(session.source, session.first_line, err.message)
  end
  return err
end

-- The next line; nil at the end, or the error if waiting for it was interrupted.
local function next_line(session, lines)
  local ok, line = pcall(lines)
  if not ok then return nil, errors.from(line) end
  if signal.take() > session.signals then return nil, errors.new("canceled", "cancelled") end
  return line
end

--- Runs lines without a person: stops at the first error. Returns the exit code.
---@param session table
---@param lines fun(): string?
---@return integer
function repl.script(session, lines)
  signal.defer(true) -- but for code that runs
  while true do
    local line, err = next_line(session, lines)
    local what
    if line then
      what, err = session:feed(line)
      if err then placed(session, err) end
    elseif not err and session:pending() then
      err = session:unfinished()
    end
    if edit.ending() then return 128 + edit.ending() end
    if err then
      session:complain(err)
      return exit_code(err)
    end
    if not line or what == "quit" then return 0 end
  end
end

return repl
