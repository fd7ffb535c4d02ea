--- Loads a flow file (or a project file) so that nothing happens in the world.
---
--- While the file declares, it sees copies of Lua's pure functions and `require`, which
--- gives "flow", pure Lua files beside the flow, and for every other module of tidemill a
--- stand-in that refuses to be used yet. There is no io, no os, no clock, no print. When
--- the flow runs, `loaded:start()` opens the same environment to the full library: the
--- functions in nodes then find every global, and the stand-ins forward to the modules.
---
--- A file that computes for more than ten seconds or 1e9 instructions is stopped. Reading
--- an undefined global is an error that names the nearest one. Every Lua file read is
--- remembered with its text (`loaded.files`), also those that functions require later by a
--- literal name, so that publishing can store them.

local errors = require "tidemill.errors"
local suggest = require "tidemill.suggest"

local sandbox = {}

local STEP = 1000000 -- instructions between two looks at the limit
local LIMIT = { steps = 1000, seconds = 10 }
local MAX_TEXT = 4 << 20 -- bytes of one file

local PURE = { "assert", "error", "ipairs", "next", "pairs", "pcall", "rawequal", "rawget", "rawlen",
  "rawset", "select", "tonumber", "tostring", "type", "_VERSION" }
local LIBRARIES = {
  string = { dump = true }, -- what is left out of each
  table = {},
  math = { random = true, randomseed = true },
  utf8 = {},
}

---@class tidemill.Loaded
---@field value any           what the file returned
---@field file string         its path, as given
---@field text string
---@field files {module: string?, path: string, text: string}[]  every Lua file read, the flow first
---@field running boolean
local Loaded = {}
Loaded.__index = Loaded

--- Lets the functions of the file use the full standard library from now on.
function Loaded:start()
  self.running = true
end

--- Reads a whole file: its text, or nil and the reason.
---@param path string
---@return string?, string?
function sandbox.read_file(path)
  local file, message = io.open(path, "rb")
  if not file then return nil, message end
  local text, read_error = file:read(MAX_TEXT + 1)
  file:close()
  if read_error then return nil, ("%s: %s"):format(path, read_error) end
  text = text or ""
  if #text > MAX_TEXT then return nil, ("%s: larger than %d bytes"):format(path, MAX_TEXT) end
  return text
end

-- Lua shortens a long chunk name in its messages ("...nd/of/path.lua:3:"); gives it back.
local function whole_path(message, files)
  local tail, rest = message:match "^%.%.%.(.-)(:%d+:.*)$"
  if not tail then return message end
  for _, file in ipairs(files) do
    if file.path:sub(-#tail) == tail then return file.path .. rest end
  end
  return message
end

local function invalid(loaded, message, hint)
  message = whole_path(message, loaded.files)
  local placed = message:match "^[^\n]-:%d+: " or message:sub(1, #loaded.file + 2) == loaded.file .. ": "
  if not placed then message = loaded.file .. ": " .. message end
  return errors.new("usage", (message:gsub("%s*\n%s*", " ")), { hint = hint })
end

local function compile(loaded, text, path, env)
  local chunk, message = load(text:gsub("^#[^\n]*", "", 1), "@" .. path, "t", env)
  if not chunk then error(invalid(loaded, message), 0) end
  return chunk
end

local function module_names()
  local names = {}
  for _, file in ipairs(require("tidemill.embedded").names()) do
    names[#names + 1] = file:match "^stdlib/([%w_]+)%.lua$"
  end
  table.sort(names)
  return names
end

local function is_module(name)
  if package.preload[name] and not name:find "^tidemill" then return true end
  for _, known in ipairs(module_names()) do
    if known == name then return true end
  end
  return false
end

-- A module that may be named while declaring but used only while running.
local function stand_in(loaded, name)
  local function real(what)
    if not loaded.running then
      error(("%s of module '%s' is not available while a flow is declared; use it in a function"
        .. " that runs in a node"):format(what, name), 3)
    end
    return require(name)
  end
  return setmetatable({}, {
    __index = function(_, key) return real(("'%s'"):format(tostring(key)))[key] end,
    __newindex = function(_, key, value) real("changing")[key] = value end,
    __call = function(_, ...) return real("a call")(...) end,
    __pairs = function() return pairs(real("listing")) end,
  })
end

local function read_only(module)
  return setmetatable({}, {
    __index = function(_, key)
      local value = module[key]
      if value == nil then
        local near = suggest.nearest(tostring(key), suggest.keys(module))
        error(("flow.%s does not exist%s"):format(tostring(key),
          near and ("; did you mean flow.%s?"):format(near) or ""), 2)
      end
      return value
    end,
    __newindex = function() error("module 'flow' cannot be changed", 2) end,
    __call = function(_, ...) return module(...) end,
  })
end

local function directory_of(path)
  return path:match "^(.*/)[^/]*$" or ""
end

-- Remembers a file, and the files beside it that its functions will require by a literal name.
local function remember(loaded, module, path, text)
  table.insert(loaded.files, { module = module, path = path, text = text })
  for name in text:gmatch "require%s*%(?%s*[\"']([%w_.]+)[\"']" do
    loaded.later[#loaded.later + 1] = name
  end
end

local function find_beside(loaded, name)
  if loaded.stored then
    local stored = loaded.stored[name]
    if stored then return stored.path, stored.text end
    return nil
  end
  local path = directory_of(loaded.file) .. name:gsub("%.", "/") .. ".lua"
  local text = sandbox.read_file(path)
  if text then return path, text end
end

-- Lua's own require; a module that is not found is the mistake of the line that wants it.
local function require_here(name)
  local ok, value, more = pcall(require, name)
  if ok then return value, more end
  if type(value) == "string" and value:find "^module '" then error(value, 2) end -- it is tail-called
  error(value, 0)
end

local function make_require(loaded, env)
  local done = { flow = read_only(require "flow") }
  return function(name)
    if type(name) ~= "string" then error("require wants the name of a module", 2) end
    if done[name] ~= nil then return done[name] end
    local path, text = find_beside(loaded, name)
    if path then
      remember(loaded, name, path, text)
      done[name] = true -- as Lua's own, against endless recursion
      local value = compile(loaded, text, path, env)(name, path)
      if value ~= nil then done[name] = value end
    elseif loaded.running then
      return require_here(name)
    elseif is_module(name) then
      done[name] = stand_in(loaded, name)
    else
      local hint = suggest.nearest(name, module_names())
      error(("no module '%s': neither a file beside the flow nor a module of tidemill%s"):format(name,
        hint and ("; did you mean '%s'?"):format(hint) or ""), 2)
    end
    return done[name]
  end
end

local function undefined_global(loaded, env, key)
  if loaded.running then
    local value = _G[key]
    if value ~= nil then return value end
  elseif _G[key] ~= nil then
    error(("'%s' is not available while a flow is declared; use it in a function that runs in a node")
      :format(tostring(key)), 2)
  end
  local names = suggest.keys(env)
  local near = type(key) == "string" and suggest.nearest(key, names)
  error(("undefined variable '%s'%s"):format(tostring(key),
    near and ("; did you mean '%s'?"):format(near) or ""), 2)
end

local function make_environment(loaded, extra)
  local env = {}
  for _, name in ipairs(PURE) do env[name] = _G[name] end
  for library, left_out in pairs(LIBRARIES) do
    env[library] = {}
    for name, value in pairs(_G[library]) do
      if not left_out[name] then env[library][name] = value end
    end
    setmetatable(env[library], { __index = function(_, key)
      if loaded.running then return _G[library][key] end
    end })
  end
  env.getmetatable = function(value)
    if type(value) == "table" or loaded.running then return getmetatable(value) end
    return nil -- the metatable of strings is shared by the whole process
  end
  -- Hooks do not run in finalizers and in message handlers of errors that a hook raised, so
  -- neither may hold code of the file while it declares.
  env.setmetatable = function(value, meta)
    if type(meta) == "table" and rawget(meta, "__gc") ~= nil and not loaded.running then
      error("__gc is not available while a flow is declared", 2)
    end
    return setmetatable(value, meta)
  end
  env.xpcall = function(f, handler, ...)
    if loaded.running then return xpcall(f, handler, ...) end
    local results = table.pack(pcall(f, ...))
    if results[1] then return table.unpack(results, 1, results.n) end
    return false, handler(results[2])
  end
  env.load = function(chunk, name, _, given) return load(chunk, name, "t", given or env) end
  env._G = env
  env.require = make_require(loaded, env)
  for name, value in pairs(extra or {}) do env[name] = value end
  return setmetatable(env, { __index = function(_, key) return undefined_global(loaded, env, key) end })
end

-- Runs `body`; past the limit the hook raises at every instruction until control is back
-- here, so that a pcall in the file cannot go on.
local function with_limit(loaded, limit, body)
  local here = debug.getinfo(1, "S").source
  local steps, start, over = 0, os.clock(), false
  local function hook()
    steps = steps + 1
    over = over or steps >= limit.steps or os.clock() - start > limit.seconds
    if not over then return end
    debug.sethook(debug.gethook(), "", 1)
    local info = debug.getinfo(2, "Sl")
    if info.source == here then return end
    error(("%s:%d: computes for too long while being declared (more than %d s or %d million steps)")
      :format((info.source:gsub("^@", "")), info.currentline, limit.seconds, limit.steps * STEP // 1000000), 0)
  end
  debug.sethook(hook, "", STEP)
  local ok, result = xpcall(body, function(raised)
    if type(raised) == "string" or type(raised) == "table" and type(rawget(raised, "message")) == "string" then
      return raised
    end
    return ("%s: raised a %s instead of a message"):format(loaded.file, type(raised))
  end)
  debug.sethook()
  return ok, result
end

---@class tidemill.LoadOptions
---@field text? string     the text, instead of reading `path` (a published version)
---@field stored? table<string, {path: string, text: string}>  with `text`: what require finds, by module name
---@field globals? table   further globals (`env` of the project file)
---@field limit? {steps: integer, seconds: number}  millions of instructions, CPU time

--- Loads one file. Raises a usage error with file and line if it cannot be read, has a
--- syntax error, or fails while it declares.
---@param path string
---@param opts? tidemill.LoadOptions
---@return tidemill.Loaded
function sandbox.load(path, opts)
  opts = opts or {}
  local text, message = opts.text, nil
  if not text then text, message = sandbox.read_file(path) end
  if not text then errors.usage(("cannot read %s"):format(message)) end
  local loaded = setmetatable({ file = path, text = text, files = {}, later = {}, running = false,
    stored = opts.stored }, Loaded)
  remember(loaded, nil, path, text)
  local env = make_environment(loaded, opts.globals)
  local chunk = compile(loaded, text, path, env)
  local ok, result = with_limit(loaded, opts.limit or LIMIT, function() return chunk(path) end)
  if not ok then
    if type(result) == "table" then error(result, 0) end
    error(invalid(loaded, result), 0)
  end
  loaded.value = result
  local i = 1
  while i <= #loaded.later do -- grows as files are added
    local name, known = loaded.later[i], false
    for _, file in ipairs(loaded.files) do known = known or file.module == name end
    local found, found_text = find_beside(loaded, name)
    if not known and name ~= "flow" and found then remember(loaded, name, found, found_text) end
    i = i + 1
  end
  return loaded
end

return sandbox
