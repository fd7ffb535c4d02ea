--- `tidemill exec SCRIPT.lua [ARG...]`: any Lua script, with every module at hand.

local errors = require "tidemill.errors"

--- Runs the script as the `lua` program would: `arg` and `...` hold its arguments, "-" is
--- standard input, a first line starting with # is skipped. An integer that it returns is
--- the exit code.
local function run(_, args)
  local script = args[1]
  local chunk, message = loadfile(script ~= "-" and script or nil)
  if not chunk then
    errors.usage((message:gsub("^cannot open ", "cannot open ", 1)))
  end
  arg = table.move(args, 1, #args, 0, {}) -- luacheck: ignore 111 (as the lua program does)
  local code = chunk(table.unpack(args, 2))
  return math.type(code) == "integer" and code or 0
end

return {
  name = "exec",
  summary = "run any Lua script, with every module at hand",
  usage = "SCRIPT.lua [ARG...]",
  args = { 1, nil },
  about = [[
The script sees the modules of tidemill (see 'tidemill help') through require, its
arguments in `arg` and `...`, and the whole standard library of Lua 5.4. '-' reads the
script from standard input. An integer that the script returns is the exit code.]],
  options = {},
  options_first = true,
  run = run,
}
