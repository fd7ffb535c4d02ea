--- The command line of one command: declared once, parsed and explained from that.
---
--- A command is a table, the result of lua/cli/NAME.lua:
---
---     return {
---       name    = "runs",
---       summary = "list the runs of flows",            -- one line, for `tidemill help`
---       usage   = "[FLOW]",                            -- the positional arguments
---       args    = { 0, 1 },                            -- least and most of them (default 0, 0)
---       about   = [[Further text for --help.]],        -- optional
---       options = {
---         { name = "json", help = "print JSON" },                           -- a switch
---         { name = "limit", short = "n", value = "N", type = "integer", min = 1, default = 20,
---           help = "at most N runs" },
---         { name = "state", value = "STATE", choices = { "failed", "succeeded" }, help = "..." },
---         { name = "var", value = "NAME=VALUE", many = true, help = "may be repeated" },
---       },
---       run = function(opts, args) return 0 end,       -- opts.json, opts.limit ...; exit code
---     }
---
--- To add a command, write that file and add its name to the list in lua/main.lua. `run`
--- raises error tables (see lua/errors.lua); main prints them and picks the exit code.
--- In `opts` a dash of a name becomes an underscore. An option after "--" is an argument.
--- With `options_first = true` everything after the first argument is an argument too.

local errors = require "tidemill.errors"
local suggest = require "tidemill.suggest"

local options = {}

local HELP = { name = "help", short = "h", help = "show this text" }

---@class tidemill.Option
---@field name string
---@field short? string    one letter
---@field value? string    the word for its value in the help; without one it is a switch
---@field type? "string"|"integer"|"number"|"size"  of the value (default "string"); a size is bytes
---@field min? number
---@field max? number
---@field choices? string[]
---@field default? any
---@field many? boolean    may be given several times; the result is a list
---@field help string

---@class tidemill.Command
---@field name string
---@field summary string
---@field usage? string
---@field args? integer[]
---@field about? string
---@field options? tidemill.Option[]
---@field options_first? boolean
---@field hidden? boolean   not in the table of `tidemill help`
---@field run fun(opts: table, args: string[]): integer?

local function complain(command, message, hint)
  errors.usage(("%s: %s"):format(command.name, message),
    hint or ("see 'tidemill %s --help'"):format(command.name))
end

local function key_of(option)
  return (option.name:gsub("-", "_"))
end

local function index(command)
  local by_word, words = { ["--help"] = HELP, ["-h"] = HELP }, { "--help" }
  for _, option in ipairs(command.options or {}) do
    by_word["--" .. option.name] = option
    words[#words + 1] = "--" .. option.name
    if option.short then by_word["-" .. option.short] = option end
  end
  return by_word, words
end

local function read_value(command, option, text)
  local value = text
  if option.type == "integer" or option.type == "number" then
    value = tonumber(text)
    if option.type == "integer" then value = text:match "^[+-]?%d+$" and math.tointeger(value) end
    local fits = value and (not option.min or value >= option.min) and (not option.max or value <= option.max)
    if not fits then
      local range = ""
      if option.min and option.max then
        range = (" from %s to %s"):format(option.min, option.max)
      elseif option.min then
        range = (" of at least %s"):format(option.min)
      end
      complain(command, ("--%s wants %s%s, got '%s'"):format(option.name,
        option.type == "integer" and "an integer" or "a number", range, text))
    end
  elseif option.type == "size" then
    value = require("tidemill.units").size(text)
    if not value then complain(command, ("--%s wants a size such as \"96M\", got '%s'"):format(option.name, text)) end
  elseif option.choices then
    local known
    for _, choice in ipairs(option.choices) do known = known or choice == text end
    if not known then
      complain(command, ("--%s does not know '%s'"):format(option.name, text),
        suggest.hint(text, option.choices))
    end
  end
  return value
end

local function store(opts, option, value)
  local key = key_of(option)
  if option.many then
    opts[key] = opts[key] or {}
    table.insert(opts[key], value)
  else
    opts[key] = value
  end
end

local function check_count(command, args)
  local least, most = table.unpack(command.args or { 0, 0 })
  if #args < least then
    complain(command, "too few arguments", ("usage: tidemill %s %s"):format(command.name, command.usage or ""))
  elseif most and #args > most then
    complain(command, ("unexpected argument '%s'"):format(args[most + 1]))
  end
end

--- Splits the words behind the command's name. Raises a usage error.
---@param command tidemill.Command
---@param words string[]
---@return table opts   with defaults filled in; opts.help when asked for
---@return string[] args
function options.parse(command, words)
  local by_word, known = index(command)
  local opts, args, i, only_args = {}, {}, 1, false
  while i <= #words do
    local word = words[i]
    if only_args or word == "-" or word:sub(1, 1) ~= "-" then
      args[#args + 1] = word
      only_args = only_args or command.options_first
    elseif word == "--" then
      only_args = true
    else
      local name, value = word:match "^(%-%-[^=]+)=(.*)$"
      name = name or word
      if not by_word[name] and word:match "^%-%w." then -- -n20
        name, value = word:sub(1, 2), word:sub(3)
      end
      local option = by_word[name]
      if not option then
        complain(command, ("no option '%s'"):format(name), suggest.hint(name, known, "options"))
      elseif option.value then
        if not value then
          i = i + 1
          value = words[i] or complain(command, ("%s wants a value: %s"):format(name, option.value))
        end
        store(opts, option, read_value(command, option, value))
      elseif value then
        complain(command, ("%s takes no value"):format(name))
      else
        store(opts, option, true)
      end
    end
    i = i + 1
  end
  if opts.help then return opts, args end
  for _, option in ipairs(command.options or {}) do
    local key = key_of(option)
    if opts[key] == nil then opts[key] = option.default end
  end
  check_count(command, args)
  return opts, args
end

--- The NAME=VALUE words of --set; of one name the last counts. Raises a usage error.
---@param command string  for messages
---@param words? string[]
---@return table<string, string>
function options.settings(command, words)
  local set = {}
  for _, word in ipairs(words or {}) do
    local name, value = word:match "^([%w_.]+)=(.*)$"
    if not name then errors.usage(("%s: --set wants NAME=VALUE, got '%s'"):format(command, word)) end
    set[name] = value
  end
  return set
end

local function left_column(option)
  local short = option.short and ("-%s, "):format(option.short) or "    "
  return ("  %s--%s%s"):format(short, option.name, option.value and " " .. option.value or "")
end

--- Calls `body` for each argument. What it raises ends the command if there is one argument;
--- of several, the error is printed and the others have their turn.
---@param args string[]
---@param body fun(arg: string, i: integer)
---@return integer  the exit code: the highest of all
function options.each(args, body)
  local code = 0
  for i, arg in ipairs(args) do
    local ok, raised = pcall(body, arg, i)
    if not ok and #args == 1 then error(raised, 0) end
    if not ok then
      local err = errors.from(raised)
      io.stdout:flush()
      errors.print(err)
      code = math.max(code, errors.exit_code(err))
    end
  end
  return code
end

--- Breaks `text` into lines of at most `width` letters, each but the first behind `indent`.
---@param text string
---@param width integer
---@param indent string
---@return string
function options.wrap(text, width, indent)
  local lines, line = {}, ""
  for word in text:gmatch "%S+" do
    if line ~= "" and #line + 1 + #word > width then
      lines[#lines + 1], line = line, word
    else
      line = line == "" and word or line .. " " .. word
    end
  end
  lines[#lines + 1] = line
  return table.concat(lines, "\n" .. indent)
end

--- The text of --help.
---@param command tidemill.Command
---@return string
function options.help(command)
  local usage = ("usage: tidemill %s [OPTION...] %s"):format(command.name, command.usage or "")
  local out = { (usage:gsub("%s+$", "")), "", command.summary }
  if command.about then
    out[#out + 1] = ""
    out[#out + 1] = (command.about:gsub("%s+$", ""))
  end
  out[#out + 1] = ""
  out[#out + 1] = "options:"
  local all = table.move(command.options or {}, 1, #(command.options or {}), 1, {})
  all[#all + 1] = HELP
  local width = 0
  for _, option in ipairs(all) do width = math.max(width, #left_column(option)) end
  for _, option in ipairs(all) do
    local text = option.help
    if option.choices then text = text .. ": " .. table.concat(option.choices, ", ") end
    if option.default ~= nil then text = ("%s (default %s)"):format(text, tostring(option.default)) end
    local left = left_column(option)
    out[#out + 1] = left .. (" "):rep(width - #left + 2)
      .. options.wrap(text, math.max(30, 88 - width), (" "):rep(width + 2))
  end
  return table.concat(out, "\n") .. "\n"
end

return options
