--- The command line: finds the command and runs it.

local commands = {}

--- `tidemill exec SCRIPT.lua [ARG...]`: any Lua script, with every module at hand.
function commands.exec(args)
  local script = args[1] or error("exec: which script?", 0)
  local chunk, message = loadfile(script)
  if not chunk then error(message, 0) end
  arg = table.move(args, 1, #args, 0, {}) -- luacheck: ignore 111 (as the lua program does)
  chunk(table.unpack(args, 2))
  return 0
end

--- Returns the exit code of the process.
---@param argv string[]  argv[0] is the program
---@return integer
local function main(argv)
  local command = commands[argv[1] or "help"]
  if not command then
    io.stderr:write("tidemill: no command '", tostring(argv[1]), "'\n")
    return 2
  end
  return command(table.move(argv, 2, #argv, 1, {}))
end

return main
