--- The command line: finds the command, runs it, prints its error, gives the exit code.
---
--- Exit codes: 0 success, 1 a run failed, 2 usage or invalid flow, 3 cannot connect,
--- 130 interrupted. A command is a file lua/cli/NAME.lua; lua/cli/options.lua tells what is
--- in it. Only the command that is asked for is loaded.

local errors = require "tidemill.errors"
local options = require "tidemill.cli.options"
local suggest = require "tidemill.suggest"

local main = {}

--- Every command, grouped and in the order of `tidemill help`; hidden ones are in the last group.
main.groups = {
  { "a flow file", "run", "check", "plan", "test" },
  { "published flows", "serve", "publish", "flows", "versions", "diff", "rollback", "unpublish", "pause", "resume",
    "trigger", "backfill" },
  { "runs", "runs", "show", "logs", "why", "stop", "restore", "rerun", "mark", "watermark", "gc",
    "sweep" },
  { "tools", "repl", "exec", "ossd", "completion", "help", "version", "node", "hook", "complete" },
}

--- The names of all commands, in the same order.
main.commands = {}
for _, group in ipairs(main.groups) do
  table.move(group, 2, #group, #main.commands + 1, main.commands)
end

--- Loads a command by name; nil if there is none.
---@param name string
---@return tidemill.Command?
function main.command(name)
  for _, known in ipairs(main.commands) do
    if known == name then return require("tidemill.cli." .. name) end
  end
end

--- The names of the commands that are for people, in the same order.
---@return string[]
function main.shown()
  local names = {}
  for _, name in ipairs(main.commands) do
    if not main.command(name).hidden then names[#names + 1] = name end
  end
  return names
end

local ALIAS = { ["--help"] = "help", ["-h"] = "help", ["--version"] = "version", ["-V"] = "version" }

local function dispatch(argv)
  local name = ALIAS[argv[1]] or argv[1] or "help"
  local command = main.command(name)
  if not command then
    local shown = main.shown()
    errors.usage(("no command '%s'"):format(name),
      suggest.nearest(name, shown) and suggest.hint(name, shown) or "see 'tidemill help'")
  end
  local opts, args = options.parse(command, table.move(argv, 2, #argv, 1, {}))
  if opts.help then
    io.stdout:write(options.help(command))
    return 0
  end
  return command.run(opts, args) or 0
end

local function on_error(raised)
  local err = errors.from(raised)
  if err.kind == "script" and os.getenv "TIDEMILL_TRACEBACK" then
    err = errors.new(err.kind, err.message, { detail = debug.traceback("", 2) })
  end
  return err
end

--- Returns the exit code of the process.
---@param argv string[]  argv[0] is the program
---@return integer
function main.run(argv)
  local ok, result = xpcall(dispatch, on_error, argv)
  if ok then return result end
  io.stdout:flush()
  errors.print(result)
  return errors.exit_code(result)
end

return setmetatable(main, { __call = function(_, argv) return main.run(argv) end })
