--- The dot commands of the prompt: `.help`, `.sql NAME`, `.flow FILE` ...

local errors = require "tidemill.errors"
local suggest = require "tidemill.suggest"

local commands = {}

local HELP = [[
Type a Lua expression to see its value, or statements; an input goes on over several lines
until it is complete. Globals stay until you leave. Every module is there: %s.
db.NAME is the connection NAME of tidemill.lua, opened when it is first used; _ is the last
value. Tab completes, the arrow keys bring back what was typed, Ctrl-R looks for it, Ctrl-C
cancels a query or a loop, Ctrl-D leaves.

%s
A line that starts with a space, or that looks as if it held a password or a key, is not kept in the
history (~/.tidemill_history, or TIDEMILL_HISTORY).]]

---@class tidemill.DotCommand
---@field name string
---@field usage string
---@field help string
---@field run fun(session: table, argument: string): any  raises; "quit" ends the session
---@field argument? "files"|fun(session: table): string[]  for completion

local function usage(command, hint)
  errors.usage(("usage: %s %s"):format(command.name, command.usage), hint)
end

local function module_names(session)
  local names = table.move(require("tidemill.main").commands, 1, #require("tidemill.main").commands, 1, {})
  return table.move(session.env and require("tidemill.repl").modules or {}, 1, 100, #names + 1, names)
end

local list

local function show_help(session, argument)
  if argument ~= "" then return require("tidemill.main").command("help").run({}, { argument }) and nil end
  local lines = {}
  for _, command in ipairs(list) do
    lines[#lines + 1] = ("  %-20s %s"):format(command.name .. " " .. command.usage, command.help)
  end
  session:write(HELP:format(table.concat(require("tidemill.repl").modules, ", "), table.concat(lines, "\n") .. "\n"))
end

list = {
  { name = ".help", usage = "[TOPIC]", help = "this text, or 'tidemill help TOPIC'", run = show_help,
    argument = module_names },
  { name = ".connections", usage = "", help = "the connections of tidemill.lua",
    run = function(session) session:write(session:connection_list()) end },
  { name = ".sql", usage = "NAME", help = "an SQL prompt on a connection; .lua or Ctrl-D goes back",
    run = function(session, argument)
      if argument == "" then errors.usage("usage: .sql NAME", suggest.hint("", session:connection_names "postgres",
        "connections")) end
      session.sql = require("tidemill.repl.sql").open(session, argument)
    end, argument = function(session) return session:connection_names "postgres" end },
  { name = ".lua", usage = "", help = "back from the SQL prompt", run = function(session) session.sql = nil end },
  { name = ".flow", usage = "FILE [TIME]", help = "load a flow; show its graph, and its plan at a scheduled time",
    run = function(session, argument) return require("tidemill.repl.flow").load(session, argument) end,
    argument = "files" },
  { name = ".run", usage = "NODE", help = "run one node of the flow that was loaded",
    run = function(session, argument) return require("tidemill.repl.flow").run(session, argument) end,
    argument = function(session) return session.flow and suggest.keys(session.flow.model.by_name) or {} end },
  { name = ".limit", usage = "N", help = "show at most N rows of a result (50)",
    run = function(session, argument, command)
      local count = argument:match "^%d+$" and math.tointeger(argument)
      if not count or count < 1 then usage(command) end
      session.limit = count
    end, argument = function() return {} end },
  { name = ".time", usage = "on|off", help = "show how long each input took",
    run = function(session, argument, command)
      if argument ~= "on" and argument ~= "off" then usage(command) end
      session.timing = argument == "on"
    end, argument = function() return { "on", "off" } end },
  { name = ".quit", usage = "", help = "leave", run = function() return "quit" end },
}

--- The names of all commands.
---@return string[]
function commands.names()
  local names = {}
  for i, command in ipairs(list) do names[i] = command.name end
  return names
end

--- What completes the argument of each command.
---@param session table
---@return table<string, "files"|fun(): string[]>
function commands.arguments(session)
  local arguments = {}
  for _, command in ipairs(list) do
    local argument = command.argument
    if type(argument) == "function" then
      arguments[command.name] = function() return argument(session) end
    else
      arguments[command.name] = argument
    end
  end
  return arguments
end

--- Runs the command of a line; returns as Session:feed does.
---@param session table
---@param line string
---@return "ok"|"quit"|"error", table?
function commands.run(session, line)
  local name, argument = line:match "^%s*(%.%a+)%s*(.-)%s*$"
  for _, command in ipairs(list) do
    if command.name == name then
      local quit
      local err = session:call(function()
        quit = command.run(session, argument, command) == "quit"
      end)
      if err then return "error", err end
      return quit and "quit" or "ok"
    end
  end
  return "error", errors.new("usage", ("no command '%s'"):format(name or line), {
    hint = suggest.nearest(name or "", commands.names()) and suggest.hint(name, commands.names()) or "see .help" })
end

return commands
