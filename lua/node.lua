--- A node attempt, inside its own process: the job comes in, reports go out.
---
--- The process loads the flow, then waits for its job (lua/spawner.lua). It is given the
--- sources of the flow as the runner read them, so all attempts of a run see one version of
--- it, and no secret: connections are looked up here, from the project file and the
--- environment. Sessions that a lost attempt left on a server are ended before the body
--- starts, so that no two attempts of a node ever work side by side.
---
--- Descriptor 4 stays open behind the job: there the runner answers (lua/child/talk.lua). A
--- database session is handed out once the state store has it, so every session that ever ran a
--- statement can be found and ended by a successor.

local check = require "tidemill.check"
local condition = require "tidemill.condition"
local crash = require "tidemill.crash"
local errors = require "tidemill.errors"
local json = require "json"
local locations = require "tidemill.locations"
local plan = require "tidemill.plan"
local signal = require "tidemill.signal"
local talk = require "tidemill.child.talk"
local variables = require "tidemill.variables"
local wire = require "tidemill.wire"

local node = {}

local REPORT, JOB = "/proc/self/fd/3", 4
local PROGRESS_MS = 200
local CANCEL_SECONDS = 10 -- from the first signal to the last resort
local FIRST_TO_GO = 500 -- of 1000: where memory ends, the kernel ends a node before its runner, or a server
local MOST_TEXT = 64 << 10 -- bytes of a line of the log, and of a text of an error
local MOST_OUTPUT = 1 << 20

---@class tidemill.Context
---@field run_id string
---@field flow string
---@field node string
---@field attempt integer
---@field scheduled number   epoch seconds
---@field business number    epoch seconds
---@field timezone string
---@field started number     epoch seconds
---@field upstream table<string, table<string, any>>  outputs of the nodes before this one
---@field vars table<string, string>  every variable this node may use
---@field model tidemill.Model
---@field plan tidemill.Plan  of the whole flow
---@field planned tidemill.PlannedNode  this node, variables filled in
---@field memory? integer    bytes this process may use (lua/budget.lua)
---@field waiting? table  the wait that this start follows, if the node polls
---@field followed? boolean  of an extract: a load may take its objects while it runs
---@field feed? tidemill.Feed  of a load that takes objects while its extract runs (lua/child/feed.lua)
local Context = {}

function Context.__index(self, key)
  if key ~= "plan" then return Context[key] end
  local model, options = rawget(self, "model"), rawget(self, "options")
  self.plan = model and plan.make(model, options)
  return rawget(self, "plan")
end

local function report(self, message) self.talk:tell(message) end

--- Reports something that must be in the store before this attempt goes on; for bodies and for the
--- methods below. Gives what the runner answers.
---@param message table  `t` says what it is (lua/executor/messages.lua)
---@return table answer
function Context:call(message) return self.talk:call(message) end

--- Says how far the node is; at most five times a second reach the runner, and the last one.
---@param p {rows: integer?, bytes: integer?, detail: string?, done: boolean?}
function Context:progress(p)
  local now = signal.mono()
  self.last_progress = { t = "progress", rows = p.rows, bytes = p.bytes, detail = p.detail }
  if not p.done and self.progress_at and now - self.progress_at < PROGRESS_MS then return end
  self.progress_at = now
  report(self, self.last_progress)
  self.last_progress = nil
end

-- How much of a text there is room for: whole letters, if it is UTF-8.
local function room_for(bytes, from)
  local last = from + MOST_TEXT - 1
  if last >= #bytes then return #bytes end
  for i = last + 1, last - 2, -1 do
    if bytes:byte(i) & 0xC0 ~= 0x80 then return i - 1 end
  end
  return last
end

--- Adds a line to the log of the attempt; formats like string.format if there is more. What is
--- longer than 64 KiB becomes several.
---@param level "debug"|"info"|"warn"|"error"
---@param format string
function Context:log(level, format, ...)
  local line = select("#", ...) > 0 and format:format(...) or tostring(format)
  if self.model then line = self.model.project:scrub(line) end
  for one in (line .. "\n"):gmatch "([^\n]*)\n" do
    local from = 1
    repeat
      local last = room_for(one, from)
      report(self, { t = "log", level = level, line = one:sub(from, last) })
      from = last + 1
    until from > #one
  end
end

--- Hands a value on to the nodes behind this one: text (UTF-8, at most 1 MiB), a number or a boolean.
---@param name string
---@param value string|number|boolean
function Context:output(name, value)
  if type(name) ~= "string" or not name:match "^[%w_.]+$" then
    errors.usage(("an output is named by letters, digits, '_' and '.', not '%s'"):format(tostring(name)))
  end
  local kind = type(value)
  if kind ~= "string" and kind ~= "number" and kind ~= "boolean" then
    error(("output '%s': text, a number or a boolean wanted, got %s"):format(name, kind), 2)
  end
  if kind == "string" and (not utf8.len(value) or value:find("\0", 1, true)) then
    errors.raise("data", ("output '%s': text in UTF-8 without zero bytes wanted"):format(name))
  end
  if kind == "number" and (value ~= value or math.abs(value) == math.huge) then
    errors.raise("data", ("output '%s' is %s: a finite number wanted"):format(name, value))
  end
  if kind == "string" and #value > MOST_OUTPUT then
    errors.raise("data", ("output '%s' is larger than %d bytes"):format(name, MOST_OUTPUT),
      "a variable is for few and small values; keep many in a table")
  end
  report(self, { t = "output", name = name, value = value })
end

--- Adds a section to the report of the node, which is an output of its own and shown by `tidemill show`.
---@param section string  "source", "transfer", "verify", ...
---@param values table    figures, by names; `text` is what people are shown
function Context:report(section, values)
  self.sections = self.sections or {}
  self.sections[section] = values
  self:output("report", json.encode(self.sections))
end

local NAME_BYTES = 63 -- NAMEDATALEN - 1: PostgreSQL cuts a longer application_name, with a notice

-- "tidemill FLOW/RUN/NODE" for pg_stat_activity; a long flow or node is cut, never the run.
local function session_name(self)
  local room = NAME_BYTES - #"tidemill //" - #self.run_id
  local function cut(name, bytes)
    if #name <= bytes then return name end
    return name:sub(1, utf8.offset(name, 0, bytes + 1) - 1) -- between characters
  end
  local shown = cut(self.node, math.max(room // 2, room - #self.flow))
  return ("tidemill %s/%s/%s"):format(cut(self.flow, room - #shown), self.run_id, shown)
end

-- Sessions are named by what the node does with them; rows are moved on "data" sessions.
local SESSION = { extract = { session = "data", read_only = true }, load = { session = "data" } }

--- Connects to a PostgreSQL connection of the project. The session carries flow, run and
--- node in its application_name, and is recorded, so that it can be ended if this process
--- is lost. Notices go to the log.
---@param name string
---@param opts? table  as of pg.connect; session may also be "extract" or "load"
---@return pg.Conn
function Context:postgres(name, opts)
  local wanted = { application_name = session_name(self) }
  wanted.notice = function(notice)
    local level = notice.severity == "WARNING" and "warn" or "info"
    self:log(level, ("%s: %s"):format((notice.severity or "NOTICE"):lower(), notice.message or ""))
  end
  for key, value in pairs(opts or {}) do wanted[key] = value end
  for key, value in pairs(SESSION[wanted.session] or {}) do wanted[key] = value end
  local conn = self.model.project:postgres(name, wanted)
  local known, raised = pcall(self.call, self, { t = "session", connection = name, backend_pid = conn:pid(),
    backend_start = conn:backend_start() })
  if known then return conn end
  conn:close()
  error(raised, 0)
end

--- Opens an object store of the project.
---@param name string
---@return oss.Store
function Context:store(name) return self.model.project:store(name) end

--- Opens the store of "connection:path/"; also gives the key prefix in it.
---@param text string
---@return oss.Store store, string prefix
function Context:location(text) return self.model.project:location(text) end

-- ---- what an extract tells while it runs ----

--- Says what its objects are, before the first of them is sealed: loads may then begin to take them.
---@param head {columns: table[], format: table}  as they will stand in the manifest
function Context:announce(head)
  self:call { t = "announce", head = head, location = self.planned.spec.to }
end

local SEALED_AT_ONCE, EARLIER_AT_ONCE = 500, 100

--- Tells of objects that are complete in the store; returns once the state store knows. An object is
--- told of once in an attempt: also one that an earlier attempt made, if this one takes it over.
---@param list tidemill.Sealed[]  (lua/state/objects.lua); key below the extract's location; `n` is set here
function Context:sealed_many(list)
  for from = 1, #list, SEALED_AT_ONCE do
    local some = table.move(list, from, math.min(from + SEALED_AT_ONCE - 1, #list), 1, {})
    for _, one in ipairs(some) do
      self.sealed_count = (self.sealed_count or 0) + 1
      one.n = self.sealed_count
    end
    crash.point "node.sealed.before"
    self:call { t = "sealed", objects = some }
    crash.point "node.sealed.after"
  end
end

--- The objects that earlier attempts of this node have sealed in this run, of the newest attempt first,
--- in the order of their completion; each with `attempt` and `span`. They may be gone from the store.
---@return tidemill.Sealed[]
function Context:earlier()
  local list, last = {}, nil
  repeat
    local page = self:call { t = "earlier", last = last, limit = EARLIER_AT_ONCE }.objects or {}
    table.move(page, 1, #page, #list + 1, list)
    last = #page > 0 and { attempt = page[#page].attempt, n = page[#page].n } or nil
  until not last
  return list
end

-- ---- facts: what a node keeps from run to run (lua/state/facts.lua) ----

--- What earlier runs of this node have kept under a name; nil if nothing.
---@param name string  small letters
---@return string?
function Context:fact(name) return self:call { t = "fact", name = name }.value end

--- Keeps a text of at most 1 MiB under a name. It becomes a fact at its moment; if that does not come, it
--- never does. Nil takes it back.
---@param name string  small letters
---@param value? string
---@param opts {when: "done"|"delivered"}  done: with this node's success; delivered: when all loads of what it
---made have succeeded
function Context:keep(name, value, opts)
  crash.point "node.keep.before"
  local answer = self:call { t = "keep", name = name, value = value, moment = opts.when }
  if answer.refused then error(("fact '%s' was refused: %s"):format(name, answer.refused), 2) end
  crash.point "node.keep.after"
end

--- Takes the window of this node's increment (lua/state/facts.lua).
---@param name string
---@param settled? {run: string, node: string, delivered: boolean}[]
---@return {busy: string?, busy_state: string?, left: tidemill.Left[]?, value: string?, own: string?}
function Context:window(name, settled) return self:call { t = "window", name = name, settled = settled } end

local END_SECONDS = 30

--- Ends a session on a server, and waits until it is gone. Sessions of which the server does not
--- tell the start (behind some poolers) are passed over. Raises conflict if it goes on.
---@param conn pg.Conn  another session on that server
---@param session {backend_pid: integer, backend_start: string}
---@param whose string  for messages: "attempt 1"
function Context:end_session(conn, session, whose)
  if session.backend_start == "" then return end
  local alive = "FROM pg_stat_activity WHERE pid = $1 AND backend_start = $2::timestamptz"
  local deadline = signal.mono() + END_SECONDS * 1000
  while conn:value("SELECT count(*) " .. alive, session.backend_pid, session.backend_start) > 0 do
    if signal.mono() > deadline then
      errors.raise("conflict", ("session %d of %s still runs"):format(session.backend_pid, whose),
        "end it with pg_terminate_backend before the next attempt")
    end
    conn:query("SELECT pg_terminate_backend(pid) " .. alive, session.backend_pid, session.backend_start)
    self:log("warn", "ended session %d of %s", session.backend_pid, whose)
    require "proc".poll({}, 0.1)
  end
end

-- Ends the sessions of earlier attempts.
local function end_lost_sessions(self, sessions)
  local by_connection = {}
  for _, session in ipairs(sessions or {}) do
    by_connection[session.connection] = by_connection[session.connection] or {}
    table.insert(by_connection[session.connection], session)
  end
  for name, list in pairs(by_connection) do
    local conn <close> = self:postgres(name)
    for _, session in ipairs(list) do
      self:end_session(conn, session, ("attempt %d on '%s'"):format(session.attempt, name))
    end
  end
end

local function check_pending(planned)
  if #planned.pending > 0 and planned.kind ~= "lua" then
    errors.usage(("no node before '%s' gave the output '%s'"):format(planned.name, planned.pending[1]),
      "with --only, name the node that gives it too")
  end
end

-- An extract's objects are for a load from where it writes, and no other.
local function check_feed(self, planned)
  local place = self.feed and self.feed.location
  if not place or locations.same(place, planned.spec.from) then return end
  errors.usage(("node '%s' writes to %s, and node '%s' reads %s"):format(self.feed.node, place, planned.name,
    planned.spec.from), "let both say the same place, or set pipeline = false")
end

-- Runs the body of the node. What it returns goes into the result: skip, closed or wait.
local function body(self, job)
  local model = self.model
  self.options = { scheduled = self.scheduled, run_id = job.run_id, outputs = variables.texts(job.upstream),
    states = variables.states(job.status), set = self.set }
  local planned = plan.node(model, job.node, self.options)
  self.planned, self.vars = planned, planned.vars or {}
  end_lost_sessions(self, job.sessions)
  model.loaded:start()
  if planned.when then
    local holds, why = condition.eval(planned.when, planned.value_of, planned.vars)
    if not holds then return { skip = ("'when' does not hold: %s"):format(why) } end
  end
  check_pending(planned)
  check_feed(self, planned)
  local more = require("tidemill.node." .. planned.kind)(self, planned.spec)
  if self.last_progress then report(self, self.last_progress) end
  return more
end

local function scrubbed(self, err)
  if self.model then return self.model.project:scrub_error(err) end
  return err
end

-- What of an error crosses to the runner.
local function plain(err, depth)
  local copy = {}
  for key, value in pairs(err) do
    local kind = type(value)
    if kind == "string" then
      local last = room_for(value, 1)
      copy[key] = last == #value and value or ("%s... (%d bytes more)"):format(value:sub(1, last), #value - last)
    elseif kind == "number" or kind == "boolean" then
      copy[key] = value
    end
  end
  if type(err.cause) == "table" and depth < 4 then copy.cause = plain(err.cause, depth + 1) end
  return copy
end

-- The flow, as the runner read it, ready to run; and what bodies will need soon.
local function prepare(self)
  local common = json.decode(io.stdin:read "a")
  local unbase64 = require("tidemill.sign").unbase64 -- the sources may be in any encoding
  for _, file in pairs(common.stored) do file.text = unbase64(file.text) end
  local model = check.flow(common.file, { text = unbase64(common.text), stored = common.stored, trusted = true,
    project = common.project and require("tidemill.project").load(common.project) })
  self.model, self.flow, self.timezone, self.memory = model, model.name, model.timezone, common.memory
  model.project:keep_secrets() -- a log or an error may hold one whose connection is not used here
end

local function attempt(self, prepared, raised, job)
  if not prepared then error(raised, 0) end
  variables.set(self.model, job.set or {})
  self.set = job.set
  self.timezone = job.timezone or self.timezone -- as it was when the run was made
  self.model.timezone = self.timezone
  self.business = require("time").business(self.scheduled, self.timezone)
  return body(self, job)
end

local function offer_memory()
  local path = "/proc/self/oom_score_adj"
  local f <close> = io.open(path)
  if (f and f:read "n" or FIRST_TO_GO) >= FIRST_TO_GO then return end
  local out <close> = io.open(path, "w")
  if out then out:write(FIRST_TO_GO) end
end

--- Runs one attempt: the flow comes on standard input, the job on descriptor 4. Returns the
--- exit code.
function node.run()
  signal.deadline(CANCEL_SECONDS)
  offer_memory()
  io.stdout:setvbuf "line"
  local from_runner = wire.open(JOB)
  local self = setmetatable({ talk = talk.new(assert(io.open(REPORT, "w")), from_runner) }, Context)
  local prepared, fault = pcall(prepare, self)
  local line = from_runner:line()
  if not line then return 0 end -- not needed
  local job = json.decode(line)
  self.talk.answered = job.ack
  self.scheduled = job.scheduled
  self.run_id, self.node, self.attempt, self.upstream = job.run_id, job.node, job.attempt, job.upstream
  self.started = signal.wall() // 1000
  self.waiting, self.followed = job.waiting, job.followed
  if job.feed then self.feed = require("tidemill.child.feed").open(self.talk, job.feed, JOB) end
  local ok, more = signal.guard(attempt, self, prepared, fault, job)
  local result = { t = "result", ok = ok }
  if not ok then
    result.error = plain(scrubbed(self, errors.from(more)), 0)
  elseif type(more) == "table" then
    result.skip, result.closed, result.wait = more.skip, more.closed, more.wait
  end
  io.stdout:flush()
  report(self, result)
  return ok and 0 or errors.exit_code(result.error)
end

-- For tests of what is given a context.
node.Context = Context

return node
