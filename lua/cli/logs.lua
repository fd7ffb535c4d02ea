--- `tidemill logs RUN [NODE]`: what the nodes of a run wrote.

local errors = require "tidemill.errors"
local launch = require "tidemill.launch"
local project = require "tidemill.project"
local suggest = require "tidemill.suggest"
local tty = require "tidemill.tty"

local function check_node(store, id, name)
  local names = {}
  for _, node in ipairs(store:nodes(id)) do
    names[#names + 1] = node.node
    if node.node == name then return end
  end
  errors.usage(("run %s has no node '%s'"):format(id, name), suggest.hint(name, names, "nodes"))
end

-- On a terminal no text of a node may move the cursor.
local function shown(line)
  return tty.is(1) and tty.cut(line:gsub("\t", "  "), 10000) or line
end

local function run(opts, args)
  local store <close> = launch.store(project.open())
  local id = store:find_run(args[1]).id
  local name = args[2]
  if name then check_node(store, id, name) end
  local last = {}
  for _, row in ipairs(store:logs(id, name, opts.attempt)) do
    local key = row.node .. "\0" .. row.attempt
    if last[key] and row.seq > last[key] + 1 then
      io.stdout:write(("... %d lines dropped ...\n"):format(row.seq - last[key] - 1))
    end
    if name and last[key] == nil and row.attempt > 1 then
      io.stdout:write(("--- attempt %d ---\n"):format(row.attempt))
    end
    last[key] = row.seq
    local at = os.date("%H:%M:%S", row.at // 1000)
    local level = row.level ~= "info" and row.level .. ": " or ""
    io.stdout:write(at, (".%03d "):format(row.at % 1000), name and "" or row.node .. ": ", level,
      shown(row.line), "\n")
  end
  for _, attempt in ipairs(store:attempts(id, name)) do
    if attempt.error and (not opts.attempt or opts.attempt == attempt.attempt) then
      local who = name and "" or ("node '%s', "):format(attempt.node)
      io.stdout:write(("%sattempt %d: "):format(who, attempt.attempt),
        table.concat(errors.lines(attempt.error), "\n"), "\n")
    end
  end
  return 0
end

return {
  name = "logs",
  summary = "what the nodes of a run wrote",
  usage = "RUN [NODE]",
  args = { 1, 2 },
  about = [[
RUN is an id, its beginning, its last six digits, or "last". Of each attempt the first and
the last 2,000 lines are kept.]],
  options = {
    { name = "attempt", value = "N", type = "integer", min = 1, help = "of this attempt only" },
  },
  run = run,
}
