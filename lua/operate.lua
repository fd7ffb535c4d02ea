--- What the commands on flows and runs share: the store, names, times, who does it.

local calendar = require "tidemill.calendar"
local documents = require "tidemill.document"
local errors = require "tidemill.errors"
local graph = require "tidemill.graph"
local launch = require "tidemill.launch"
local progress = require "tidemill.progress"
local project = require "tidemill.project"
local sandbox = require "tidemill.sandbox"
local signal = require "tidemill.signal"
local tty = require "tidemill.tty"

local operate = {}

--- The path of a file that a word of the command line names, absolute; nil when it names none.
---@param word string
---@return string?
function operate.path(word)
  if not (word:find "/" or word:find "%.lua$") or not sandbox.read_file(word) then return nil end
  return require("proc").run { cmd = { "realpath", "--", word }, check = true }.stdout:gsub("\n$", "")
end

-- Without a project file runs are kept where they were made; elsewhere there is nothing to look at.
local function check_place(found)
  if found.file then return end
  local _, where = found:state()
  local f <close> = io.open(where)
  if f then return end
  errors.usage("there is no tidemill.lua in this folder or above it, and no flow has been run here",
    "change to the folder of the project")
end

--- Opens the project and its store: that of the flow file `word` names, else of the working directory.
--- Raises usage where there is none.
---@param word? string
---@param as_runner? boolean  for commands that may run something here
---@return table store, tidemill.Project project
function operate.open(word, as_runner)
  local path = word and operate.path(word)
  local found = project.open(path and word or nil)
  check_place(found)
  return launch.store(found, as_runner), found
end

--- Who gives the command: "user@host".
---@return string
function operate.by()
  local r = require("proc").run { cmd = { "id", "-un" }, stdout = "pipe", stderr = "null" }
  local f <close> = io.open "/proc/sys/kernel/hostname"
  return ("%s@%s"):format(r.code == 0 and r.stdout:match "%S+" or "unknown", f and f:read "l" or "localhost")
end

--- Who gives the command and why, for the decisions of a run: "by user@host: reason".
---@param reason? string
function operate.by_whom(reason) return ("by %s%s"):format(operate.by(), reason and ": " .. reason or "") end

--- The published flow that a word means, by name, start of the name, or path.
---@param store table
---@param word string
function operate.flow(store, word)
  local path = operate.path(word)
  local ok, found = pcall(store.find_flow, store, word, path)
  if ok then return found end
  if path and found.kind == "not_found" then
    found.message, found.hint = ("the flow of %s is not published"):format(word), ("tidemill publish %s"):format(word)
  end
  error(found, 0)
end

--- The published flow that a word means; raises usage when it is not published (any more).
function operate.live_flow(store, word)
  local row = operate.flow(store, word)
  if row.version_no then return row end
  errors.usage(("flow '%s' is not published"):format(row.flow), ("tidemill publish %s"):format(row.file))
end

local function run_like(word)
  return word == "last" or word:find "^%d%d%d%d%d%d%d%d%-%d%d%d%d%d%d%-%x+$"
end

--- The flow or the run that a word means: "flow" or "run", and its row. A flow's exact name or
--- path goes before a run, a run before the start of a flow's name.
---@param store table
---@param word string
---@return "flow"|"run" what, table row
function operate.flow_or_run(store, word)
  local path = operate.path(word)
  if run_like(word) then return "run", store:find_run(word) end
  local exact = store:flow(word)
  if exact then return "flow", exact end
  if not path then
    local ok, row = pcall(store.find_run, store, word)
    if ok then return "run", row end
    if row.kind ~= "not_found" then error(row, 0) end
  end
  local ok, row = pcall(store.find_flow, store, word, path)
  if ok then return "flow", row end
  if row.kind == "not_found" then row.message = ("there is no flow or run '%s'"):format(word) end
  error(row, 0)
end

--- The flows and runs that the words of pause and resume mean, or every flow that is to change.
---@param command "pause"|"resume"
---@param words string[]
---@param all? boolean
---@return {what: "flow"|"run", row: table}[]
function operate.flows_or_runs(command, store, words, all)
  local list = {}
  if not all and #words == 0 or all and #words > 0 then
    errors.usage(("%s: name flows or runs, or give --all"):format(command))
  end
  for i, word in ipairs(words) do -- all of them before anything is changed
    local what, row = operate.flow_or_run(store, word)
    list[i] = { what = what, row = row }
  end
  for _, row in ipairs(all and store:flows() or {}) do
    local is_meant = row.paused_at ~= nil -- unpublished ones too: their queued runs wait
    if command == "pause" then is_meant = row.version_no ~= nil and not row.paused_at end
    if is_meant then
      list[#list + 1] = { what = "flow", row = row }
    end
  end
  return list
end

--- Text for standard output: on a terminal, nothing in it moves the cursor.
---@param out string[]  lines
function operate.print_lines(out)
  if tty.is(1) then
    local lines = {}
    for line in table.concat(out, "\n"):gmatch "[^\n]*" do
      lines[#lines + 1] = (tty.cut(line:gsub("\t", "  "), 10000))
    end
    out = lines
  end
  io.stdout:write(table.concat(out, "\n"), "\n")
end

--- An instant written in a flow's zone, in milliseconds.
---@param command string  for the error
---@param option string   "--at", say
function operate.instant(command, option, text, timezone)
  local ok, instant = pcall(require("time").parse, text, timezone)
  if not ok then
    errors.usage(("%s: %s does not understand '%s'"):format(command, option, text),
      "write it like \"2026-01-02 03:04:05\"")
  end
  return math.floor(instant * 1000)
end

--- Prints a value as one line of JSON.
function operate.print_json(value)
  io.stdout:write(require("json").encode(value), "\n")
end

--- A name as a word of a shell's command.
---@param name string
---@return string
function operate.quoted(name)
  local word = name:match "^[%w_./-]+$" and name or "'" .. name:gsub("'", "'\\''") .. "'"
  return name:find "^%-" and "-- " .. word or word
end

--- The lines of the next firing times of a schedule, in its zone.
---@param schedule? table
---@param timezone string
---@param after integer   ms
---@return string[] lines, integer[] times
function operate.firings(schedule, timezone, after)
  local zone = schedule and schedule.timezone or timezone
  local times, lines = calendar.next(schedule, after, 5), {}
  for i, at in ipairs(times) do lines[i] = ("  %s"):format(calendar.show(at, zone)) end
  return lines, times
end

--- Says on standard error that nothing will fire when no runner serves the store.
function operate.warn_unserved(store)
  if #store:servers() == 0 then
    io.stderr:write("note: no live 'tidemill serve' on this store; schedules fire while one runs\n")
  end
end

--- A version of a flow: the live one, "latest", or a number. Raises usage or not_found.
---@param word? string
---@return table  as Store:version
function operate.version(store, flow, word, command)
  if not word then return store:version(flow.flow, flow.version_no) end
  if word == "latest" then return store:version(flow.flow) end
  local number = word:match "^v?(%d+)$"
  if not number then
    errors.usage(("%s: --version wants a number or 'latest', got '%s'"):format(command, word),
      ("see 'tidemill versions %s'"):format(operate.quoted(flow.flow)))
  end
  return store:version(flow.flow, math.tointeger(number))
end

--- The version to repeat a run with: its own unless a word says otherwise.
---@param run table   a row
---@param word? string
function operate.version_of_run(store, run, word, command)
  if word then return operate.version(store, operate.flow(store, run.flow), word, command) end
  local source = store:source(run.version)
  return { document = source.document, hash = run.version, number = run.version_no }
end

-- ---- some of the nodes ----

--- The options by which a run has some of its flow's nodes only.
operate.SOME = {
  { name = "only", value = "NODE", many = true, help = "run this node alone; may be repeated" },
  { name = "from-node", value = "NODE", many = true, help = "run this node and all behind it; may be repeated" },
  { name = "without", value = "NODE", many = true, help = "leave this node out; may be repeated" },
}

--- Nodes named and all behind them, near and far, as a set. Raises usage for one that there is not.
---@param nodes table[]
---@param names string[]
---@return table<string, boolean>
function operate.behind(nodes, names)
  documents.check_names(nodes, names)
  local found = {}
  for _, name in ipairs(names) do
    found[name] = true
    for behind in pairs(graph.downstream(nodes, name)) do found[behind] = true end
  end
  return found
end

--- The names that the options of operate.SOME choose, in order; nil means all.
---@param nodes table[]  of a document
---@param opts {only: string[]?, from_node: string[]?, without: string[]?}
---@return string[]?
function operate.some(nodes, opts)
  if not (opts.only or opts.from_node or opts.without) then return nil end
  documents.check_names(nodes, opts.only)
  documents.check_names(nodes, opts.without)
  local wanted, left_out, list = operate.behind(nodes, opts.from_node or {}), {}, {}
  for _, name in ipairs(opts.only or {}) do wanted[name] = true end
  for _, name in ipairs(opts.without or {}) do left_out[name] = true end
  local all = not (opts.only or opts.from_node)
  for _, node in ipairs(nodes) do
    if (all or wanted[node.name]) and not left_out[node.name] then list[#list + 1] = node.name end
  end
  if #list == 0 then errors.usage "no node of the flow is left to run" end
  return list
end

--- The fields of a new run (see Store:create_run) that a version of a flow gives.
---@param store table
---@param version {document: table, hash: string, number: integer?}
---@param scheduled integer  ms
---@param set? table<string, string>
---@param only? string[]     these nodes alone
function operate.new_run(store, version, cause, scheduled, set, only)
  local document = version.document
  local checked = documents.check_set(document, set or {})
  local business = require("time").business(scheduled / 1000, document.timezone)
  return { flow = document.flow, file = document.file, version = version.hash, version_no = version.number,
    cause = cause, scheduled = scheduled, business = math.floor(business * 1000 + 0.5), timezone = document.timezone,
    priority = document.priority, concurrency = document.concurrency, settings = { set = checked, only = only },
    deadline = document.deadline_s and store:now() + math.floor(document.deadline_s * 1000) or nil,
    nodes = documents.only(document, only) }
end

-- ---- running ----

-- The exit code of a run that ended elsewhere: 3 when every failure was one of connecting.
local function exit_code(store, run)
  if run.state == "success" then return 0 end
  if run.state == "canceled" then return 130 end
  local last, code = {}, nil
  for _, attempt in ipairs(store:attempts(run.id)) do last[attempt.node] = attempt end
  for _, node in ipairs(store:nodes(run.id)) do
    local err = node.state == "failed" and node.tolerated == 0 and last[node.node] and last[node.node].error
    if err then
      local own = errors.exit_code(err)
      code = (code == nil or code == own) and own or 1
    end
  end
  return code == 3 and 3 or 1
end

local function new_display(store, run, opts, clock)
  local nodes, list = store:nodes(run.id), {}
  for i, node in ipairs(nodes) do list[i] = { name = node.node } end
  local display = progress.new { flow = run.flow, run = run.id, nodes = list, json = opts.json, clock = clock,
    wall = signal.wall, timezone = run.timezone, manner = opts.quiet and "quiet" or nil }
  for i, node in ipairs(nodes) do -- of a run that goes on: what is done already
    if node.state == "success" then display.nodes[i].state = "success" end
  end
  return display
end

-- Tells the display what the store has of a node that it did not have before.
local function tell(display, node, attempt)
  local event = { event = "node", node = node.node, state = node.state, attempt = node.attempts,
    rows = node.row_count, bytes = node.bytes, started = node.started_at, ended = node.ended_at,
    message = node.message, error = attempt and attempt.error, cpu_ms = attempt and attempt.cpu_ms,
    max_rss_bytes = attempt and attempt.max_rss_bytes }
  if node.state == "retrying" then
    event.retry_in = math.max(0, (node.next_at or signal.wall()) - signal.wall()) / 1000
    event.error = event.error or errors.new("unknown", node.message or "failed")
  end
  display:event(event)
end

--- Says on standard error what a queued run that is followed waits for.
---@param run table  a row
---@param opts {json: boolean?, quiet: boolean?}
function operate.note_queued(store, run, opts)
  if run.state ~= "queued" or opts.json or opts.quiet then return end
  local waits = require("tidemill.why").waits(store, run)
  io.stderr:write(("run %s is queued, waits for %s\n"):format(run.id, waits[1]))
end

local FOLLOW_S = 0.3

--- Shows a run that another process runs until it ends. Ctrl-C ends the showing only.
---@param store table
---@param id string
---@param opts {json: boolean?, quiet: boolean?}
---@return integer code  as `tidemill run` gives it
function operate.follow(store, id, opts)
  local run, seen = store:run(id), {}
  operate.note_queued(store, run, opts)
  local display = new_display(store, run, opts, function() return store:now() end)
  while true do
    run = store:run(id)
    local last = {}
    for _, attempt in ipairs(store:attempts(id)) do last[attempt.node] = attempt end
    for _, node in ipairs(store:nodes(id)) do
      local state = node.state .. node.attempts
      if seen[node.node] ~= state and not (node.state == "waiting" and not seen[node.node]) then
        tell(display, node, last[node.node])
      end
      seen[node.node] = state
    end
    display:draw()
    if run.ended_at then break end
    local ok, raised = pcall(require("proc").poll, {}, FOLLOW_S)
    if not ok then
      display:draw(true)
      if errors.from(raised).kind ~= "canceled" then error(raised, 0) end
      io.stderr:write(("the run goes on: tidemill show %s, tidemill stop %s\n"):format(id, id))
      return 130
    end
  end
  display:finish({ state = run.state, message = run.message, error = run.error },
    run.ended_at - (run.started_at or run.ended_at))
  return exit_code(store, run)
end

--- Has a run go: queued for a live `serve` of the store if there is one, else here.
---@param store table
---@param of tidemill.Project
---@param opts {here: boolean?, wait: boolean?, json: boolean?, jobs: integer?}
---@param begin fun(runner?: string): string  makes the run, or has it wait again; for that runner alone
---@return integer code
function operate.go(store, of, opts, begin)
  local servers = store:servers()
  if #servers > 0 and not opts.here then
    local id = begin(nil)
    if opts.wait then return operate.follow(store, id, opts) end
    if opts.json then
      operate.print_json { run = id, state = "queued" }
    else
      local one = #servers == 1 and ("serve on %s (pid %d)"):format(servers[1].host, servers[1].pid)
        or ("%d serve processes"):format(#servers)
      print(("run %s is queued for %s\n  follow it: tidemill logs %s -f\n  look at it: tidemill show %s"):format(id,
        one, id, id))
    end
    return 0
  end
  return operate.here(store, of, opts, function(runner) return { begin(runner) } end)
end

--- Runs runs in this terminal, one after the other, to their end. When one is interrupted those that have not
--- begun are stopped.
---@param store table
---@param of tidemill.Project
---@param opts {json: boolean?, jobs: integer?}
---@param runs fun(runner: string): string[]  makes them, for that runner alone
---@return integer code  the worst of theirs; 130 when interrupted
function operate.here(store, of, opts, runs)
  local ids, code
  local results = launch.execute { store = store, jobs = opts.jobs, pools = of.pools, project = of.file,
    runs = function(runner)
      ids = runs(runner)
      return ids
    end,
    display = function(id) return new_display(store, store:run(id), opts, signal.mono) end }
  for _, id in ipairs(ids) do
    local one = results[id]
    if not one then
      pcall(store.request, store, id, "stop")
      code = 130
    else
      code = math.max(code or 0, launch.exit_code(one.result, one.executor))
    end
  end
  return code
end

--- The options of commands that have a run go.
operate.GO = {
  { name = "wait", short = "w", help = "when a serve runs it: show it until it ends, and exit with its code" },
  { name = "here", help = "run it in this terminal even if a serve could" },
  { name = "jobs", short = "j", value = "N", type = "integer", min = 1, max = 1000,
    help = "in this terminal: at most N nodes at once" },
  { name = "json", help = "print JSON; times are milliseconds since 1970" },
}

--- Options of a command followed by those of operate.GO.
function operate.with_go(list)
  return table.move(operate.GO, 1, #operate.GO, #list + 1, list)
end

return operate
