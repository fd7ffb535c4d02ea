--- `tidemill repl`: a Lua prompt with every module loaded.

local errors = require "tidemill.errors"
local project = require "tidemill.project"
local repl = require "tidemill.repl"
local suggest = require "tidemill.suggest"
local tty = require "tidemill.tty"

-- The lines of texts.
local function lines_of(texts)
  local all = {}
  for _, text in ipairs(texts) do
    for line in (text:gsub("\n$", "") .. "\n"):gmatch "([^\n]*)\n" do all[#all + 1] = line end
  end
  local i = 0
  return function()
    i = i + 1
    return all[i]
  end
end

-- The lines of standard input; waiting for one ends with the process's interrupt.
local function lines_of_input()
  local input = require "tidemill.wire".open(0)
  return function()
    local line = input:line()
    if line then return line end
    local rest = input:rest()
    return rest ~= "" and rest or nil
  end
end

local function greet(session)
  local names = suggest.keys(session.project.connections)
  local where = session.project.file and ("%s: %s"):format(session.project.file,
    #names > 0 and table.concat(names, ", ") or "no connections") or "no tidemill.lua here or above"
  print(("tidemill %s, %s; %s\n.help tells what there is, Ctrl-D leaves"):format(
    require("tidemill.embedded").version, _VERSION, where))
end

-- A session at a terminal starts even if tidemill.lua is faulty, to find out why.
local function open_project(interactive)
  local ok, opened = pcall(project.open)
  if ok then return opened end
  if not interactive then error(opened, 0) end
  errors.print(errors.from(opened))
  return project.none()
end

local function run(opts)
  local interactive = not opts.eval and tty.is(0) and tty.is(1)
  local source = not opts.eval and not interactive and "stdin" or "repl"
  local session <close> = repl.new { project = open_project(interactive), interactive = interactive, source = source }
  if opts.eval then return repl.script(session, lines_of(opts.eval)) end
  if not interactive then return repl.script(session, lines_of_input()) end
  greet(session)
  return repl.converse(session)
end

return {
  name = "repl",
  summary = "Lua prompt with every module loaded",
  usage = "",
  about = [[
At a terminal: a prompt with history and completion, see .help there. Expressions show their
value, db.NAME is a connection of tidemill.lua, .sql NAME opens an SQL prompt, .flow FILE
shows a flow. Ctrl-C cancels a query or a loop, never the session.

Otherwise standard input is run line by line, without a prompt, and so is CODE of -e; the
first error ends it.

Exit code 0: success, 1: an error ended it, 3: a connection could not be made, 130: interrupted.]],
  options = {
    { name = "eval", short = "e", value = "CODE", many = true,
      help = "run CODE instead, show its values; may be repeated" },
  },
  run = run,
}
