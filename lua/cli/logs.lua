--- `tidemill logs RUN [NODE]`: what the nodes of a run wrote, also while they write.

local errors = require "tidemill.errors"
local operate = require "tidemill.operate"
local suggest = require "tidemill.suggest"
local time = require "time"
local tty = require "tidemill.tty"

local FOLLOW_S = 0.3

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

-- Prints lines, and what is missing between them. `last` has the seq printed last, by attempt.
local function print_lines(lines, last, what)
  local out = {}
  for _, row in ipairs(lines) do
    local key = row.node .. "\0" .. row.attempt
    if what.json then
      out[#out + 1] = require("json").encode { run = what.run.id, node = row.node, attempt = row.attempt, seq = row.seq,
        at = row.at, stream = row.stream, level = row.level, line = row.line } .. "\n"
    else
      local before = last[key] or not what.tail and 0
      if before and row.seq > before + 1 then
        out[#out + 1] = ("... %d lines dropped ...\n"):format(row.seq - before - 1)
      end
      if what.node and last[key] == nil and row.attempt > 1 then
        out[#out + 1] = ("--- attempt %d ---\n"):format(row.attempt)
      end
      local at = time.format(row.at // 1000, "HH:mm:ss", what.run.timezone)
      local level = row.level ~= "info" and row.level .. ": " or ""
      out[#out + 1] = ("%s.%03d %s%s%s\n"):format(at, row.at % 1000, what.node and "" or row.node .. ": ", level,
        shown(row.line))
    end
    last[key] = row.seq
  end
  io.stdout:write(table.concat(out))
  io.stdout:flush()
end

local function print_errors(store, what)
  if what.json then return end
  for _, attempt in ipairs(store:attempts(what.run.id, what.node)) do
    if attempt.error and (not what.attempt or what.attempt == attempt.attempt) then
      local who = what.node and "" or ("node '%s', "):format(attempt.node)
      io.stdout:write(("%sattempt %d: "):format(who, attempt.attempt),
        table.concat(errors.lines(attempt.error), "\n"), "\n")
    end
  end
end

-- Prints what comes until the run, or the node or attempt asked for, has ended.
local function follow(store, what, last, seen)
  while true do
    local run = store:run(what.run.id)
    local over = run == nil or run.ended_at ~= nil -- read before the lines, so that none is missed
    print_lines(store:logs_after(what.run.id, what.node, what.attempt, seen), last, what)
    if over then return true end
    local ok, raised = pcall(require("proc").poll, {}, FOLLOW_S)
    if not ok then
      if errors.from(raised).kind == "canceled" then return false end
      error(raised, 0)
    end
  end
end

local function run(opts, args)
  local store <close> = operate.open()
  local what = { run = store:find_run(args[1]), node = args[2], attempt = opts.attempt, json = opts.json,
    tail = opts.tail }
  local id, last, seen = what.run.id, {}, {}
  if what.node then check_node(store, id, what.node) end
  if opts.tail then
    seen = store:logs_seen(id) -- first: what comes in between is then printed below
    print_lines(opts.tail > 0 and store:logs_tail(id, what.node, opts.attempt, opts.tail) or {}, last, what)
    for key, seq in pairs(last) do seen[key] = math.max(seq, seen[key] or 0) end
  elseif not opts.follow then
    print_lines(store:logs(id, what.node, opts.attempt), last, what)
  end
  if opts.follow then operate.note_queued(store, what.run, opts) end
  if opts.follow and not follow(store, what, last, seen) then return 130 end
  print_errors(store, what)
  return 0
end

return {
  name = "logs",
  summary = "what the nodes of a run wrote; -f goes on while they write",
  usage = "RUN [NODE]",
  args = { 1, 2 },
  about = [[
RUN is an id, its beginning, its last six digits, or "last". Of each attempt the first and
the last 2,000 lines are kept. Times are in the flow's zone.]],
  options = {
    { name = "follow", short = "f", help = "print lines as they come, until the run ends" },
    { name = "tail", value = "N", type = "integer", min = 0, max = 1000000, help = "begin with the last N lines" },
    { name = "attempt", value = "N", type = "integer", min = 1, help = "of this attempt only" },
    { name = "json", help = "print a JSON object a line; times are milliseconds since 1970" },
  },
  run = run,
}
