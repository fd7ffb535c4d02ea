--- `tidemill help [TOPIC]`: the table of commands, a command's --help, a module, a topic.

local errors = require "tidemill.errors"
local options = require "tidemill.cli.options"
local suggest = require "tidemill.suggest"

local function overview()
  local main = require "tidemill.main"
  local out = { "tidemill moves rows from PostgreSQL through object storage into PostgreSQL, by flows",
    "written in Lua.", "", "usage: tidemill COMMAND [ARG...]", "", "commands:" }
  for _, name in ipairs(main.commands) do
    local command = main.command(name)
    if not command.hidden then out[#out + 1] = ("  %-10s %s"):format(name, command.summary) end
  end
  return table.concat(out, "\n") .. "\n"
end

local function run(_, args)
  local main = require "tidemill.main"
  local topic = args[1]
  if not topic then
    io.stdout:write(overview())
    return 0
  end
  local command = main.command(topic)
  if not command then
    errors.usage(("no help on '%s'"):format(topic), suggest.hint(topic, main.commands))
  end
  io.stdout:write(options.help(command))
  return 0
end

return {
  name = "help",
  summary = "explain a command, a module or a topic",
  usage = "[TOPIC]",
  args = { 0, 1 },
  options = {},
  run = run,
}
