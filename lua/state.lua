--- The state store: runs, node attempts, outputs, logs and decisions, in a database.
---
--- Each method that writes is one transaction, so a reader, or the next start after a crash,
--- sees whole steps only. Times go in and come out as milliseconds since 1970 UTC. The
--- database is asked only for exec, query, row, script and transaction (bind/lsqlite.c).
---
--- A run names its owner: host, boot, process id and that process's start time. A run that
--- is `running` while its owner is gone is one whose runner died; `recover` ends it.

local errors = require "tidemill.errors"
local json = require "json"
local schema = require "tidemill.state.schema"
local signal = require "tidemill.signal"
local text = require "tidemill.text"

local state = {}
local Store = { __name = "tidemill.state" }
Store.__index = Store

-- Of each attempt the first HEAD and the last TAIL lines are kept.
local HEAD, TAIL, LINE_BYTES = 2000, 2000, 8192

local function read_file(path)
  local f <close> = io.open(path)
  return f and f:read "a"
end

local function first_line(path)
  return (read_file(path) or ""):match "^[^\n]*"
end

--- When a process started, in clock ticks since boot; nil if there is none, or only its remains.
local function start_of(pid)
  local stat = read_file(("/proc/%d/stat"):format(pid))
  local fields = stat and stat:match "^.*%) (.*)$" -- behind the name, which may hold anything
  if not fields or fields:find "^[ZX]" then return nil end
  local n = 2
  for field in fields:gmatch "%S+" do
    n = n + 1
    if n == 22 then return field end
  end
end

local function owner()
  local pid = signal.pid()
  return { host = first_line "/proc/sys/kernel/hostname", boot = first_line "/proc/sys/kernel/random/boot_id",
    pid = pid, start = start_of(pid) or "" }
end

local function make_directory(path)
  local directory = path:match "^(.+)/[^/]*$"
  if not directory or io.open(directory) then return end
  local r = require "proc".run { cmd = { "mkdir", "-p", "--", directory }, stdout = "pipe", stderr = "pipe" }
  if r.code == 0 then return end
  error(errors.new("io", ("cannot make the folder '%s' of the state store: %s"):format(directory,
    r.stderr:match ": ([^:\n]+)\n?$" or "mkdir failed"),
    { hint = "tidemill.lua says where: state = \"sqlite:PATH\"" }), 0)
end

local function migrate(db)
  db:exec "CREATE TABLE IF NOT EXISTS schema_version (version INTEGER NOT NULL)"
  local function version()
    return (db:row "SELECT max(version) AS version FROM schema_version").version or 0
  end
  if version() > #schema then
    errors.usage(("the state store has schema version %d, this tidemill knows %d")
      :format(version(), #schema),
      "a newer tidemill has used it")
  end
  if version() == #schema then return end
  db:transaction(function()
    for n = version() + 1, #schema do
      db:script(schema[n])
      db:exec("INSERT INTO schema_version VALUES (?)", n)
    end
  end)
end

--- Opens the store, made on first use.
---@param url string         "sqlite:PATH"; ":memory:" as PATH keeps nothing
---@param directory? string  what a relative PATH starts from
---@return table
function state.open(url, directory)
  local path = url:match "^sqlite:(.+)$"
  if not path then
    errors.usage(("state: '%s' is not supported"):format(url:match "^[%w+]*:?"),
      "write state = \"sqlite:PATH\"")
  end
  if path ~= ":memory:" and not path:find "^/" and directory then path = directory .. "/" .. path end
  if path ~= ":memory:" then make_directory(path) end
  local store = setmetatable({ db = require "tidemill.sqlite".open(path), path = path, seq = {} }, Store)
  migrate(store.db)
  return store
end

--- Closes the database.
function Store:close() self.db:close() end
Store.__close = Store.close

local function now() return signal.wall() end

local KEPT = { "kind", "message", "code", "status", "request_id", "detail", "hint", "node", "attempt" }

local function encode_error(err)
  if not err then return nil end
  local kept = {}
  for _, key in ipairs(KEPT) do
    if type(err[key]) ~= "table" then kept[key] = err[key] end
  end
  return json.encode(text.clean_all(kept))
end

local function decode_error(row)
  if row and row.error then row.error = errors.from(json.decode(row.error)) end
  return row
end

local function decide(self, run, node, what, reason)
  self.db:exec([[INSERT INTO decisions (run_id, seq, at, node, what, reason)
    VALUES (?, (SELECT coalesce(max(seq), 0) + 1 FROM decisions WHERE run_id = ?), ?, ?, ?, ?)]],
    run, run, now(), node, what, reason)
end

-- ---- a run ----

local function new_id()
  return os.date "!%Y%m%d-%H%M%S-" .. signal.random(6)
end

--- Records a run that starts now, and its nodes as waiting.
---@param run {flow: string, file: string, version: string?, cause: string, scheduled: integer,
---  business: integer, timezone: string, nodes: {name: string, kind: string, after: string[]}[]}
---@return string id  "yyyyMMdd-HHmmss-" (UTC) and six hexadecimal digits
function Store:begin_run(run)
  local id, at, who = new_id(), now(), owner()
  self.db:transaction(function()
    self.db:exec([[INSERT INTO runs (id, flow, file, version, cause, state, scheduled_at, business_at,
      timezone, started_at, owner_host, owner_boot, owner_pid, owner_start, heartbeat_at)
      VALUES (?, ?, ?, ?, ?, 'running', ?, ?, ?, ?, ?, ?, ?, ?, ?)]],
      id, run.flow, run.file, run.version, run.cause, run.scheduled, run.business, run.timezone, at,
      who.host, who.boot, who.pid, who.start, at)
    for i, node in ipairs(run.nodes) do
      self.db:exec([[INSERT INTO nodes (run_id, node, position, kind, upstream, state)
        VALUES (?, ?, ?, ?, ?, 'waiting')]], id, node.name, i, node.kind,
        #node.after > 0 and json.encode(node.after) or "[]")
    end
  end)
  return id
end

--- Records the end of a run.
---@param run string
---@param result {state: string, message: string?, error: table?}
function Store:end_run(run, result)
  self.db:exec([[UPDATE runs SET state = ?, message = ?, error = ?, ended_at = ?
    WHERE id = ? AND state = 'running']],
    result.state, result.message, encode_error(result.error), now(), run)
end

--- The runner still lives.
function Store:heartbeat(run)
  self.db:exec("UPDATE runs SET heartbeat_at = ? WHERE id = ?", now(), run)
end

--- Records why something was done.
---@param node? string
function Store:decide(run, node, what, reason)
  decide(self, run, node, what, reason)
end

-- ---- nodes and attempts ----

--- An attempt starts; its node is running.
function Store:begin_attempt(run, node, attempt)
  local at = now()
  self.db:transaction(function()
    self.db:exec([[INSERT INTO attempts (run_id, node, attempt, state, started_at)
      VALUES (?, ?, ?, 'running', ?)]], run, node, attempt, at)
    self.db:exec([[UPDATE nodes SET state = 'running', attempts = ?, message = NULL,
      started_at = coalesce(started_at, ?) WHERE run_id = ? AND node = ?]], attempt, at, run, node)
  end)
end

--- The process of an attempt, once it has one.
function Store:attempt_pid(run, node, attempt, pid)
  self.db:exec("UPDATE attempts SET pid = ? WHERE run_id = ? AND node = ? AND attempt = ?",
    pid, run, node, attempt)
end

---@class tidemill.Ended
---@field state "success"|"failed"|"canceled"  of the attempt
---@field node_state string   what the node is now
---@field message? string     of the node
---@field rows? integer
---@field bytes? integer
---@field cpu_ms? integer
---@field max_rss_bytes? integer
---@field code? integer
---@field signal? string
---@field error? table
---@field outputs? table<string, any>  kept if the attempt succeeded
---@field decision? {what: string, reason: string}

--- An attempt has ended; what it used and gave, and what becomes of its node, in one step.
---@param ended tidemill.Ended
function Store:end_attempt(run, node, attempt, ended)
  local at = now()
  local over = ended.node_state ~= "retrying" and at or nil
  self.db:transaction(function()
    self.db:exec([[UPDATE attempts SET state = ?, ended_at = ?, row_count = ?, bytes = ?, cpu_ms = ?,
      max_rss_bytes = ?, exit_code = ?, exit_signal = ?, error = ?
      WHERE run_id = ? AND node = ? AND attempt = ?]], ended.state, at, ended.rows, ended.bytes,
      ended.cpu_ms, ended.max_rss_bytes, ended.code, ended.signal, encode_error(ended.error),
      run, node, attempt)
    self.db:exec([[UPDATE nodes SET state = ?, message = ?, ended_at = ?, row_count = ?, bytes = ?
      WHERE run_id = ? AND node = ?]],
      ended.node_state, ended.message, over, ended.rows, ended.bytes, run, node)
    if ended.state == "success" then
      for name, value in pairs(ended.outputs or {}) do
        self.db:exec([[INSERT INTO outputs (run_id, node, name, value) VALUES (?, ?, ?, ?)]],
          run, node, name, json.encode(value))
      end
    end
    if ended.decision then decide(self, run, node, ended.decision.what, ended.decision.reason) end
  end)
end

--- Nodes that will not run (again): skipped or canceled, with the reason.
---@param names string[]
function Store:end_nodes(run, names, node_state, reason)
  self.db:transaction(function()
    for _, node in ipairs(names) do
      self.db:exec([[UPDATE nodes SET state = ?, message = ?, ended_at = ? WHERE run_id = ? AND node = ?]],
        node_state, reason, now(), run, node)
      decide(self, run, node, node_state == "skipped" and "skip" or "cancel", reason)
    end
  end)
end

--- A server session that an attempt has opened.
---@param session {connection: string, backend_pid: integer, backend_start: string}
function Store:add_session(run, node, attempt, session)
  self.db:exec([[INSERT INTO sessions (run_id, node, attempt, connection, backend_pid, backend_start)
    VALUES (?, ?, ?, ?, ?, ?) ON CONFLICT DO NOTHING]],
    run, node, attempt, session.connection, session.backend_pid, session.backend_start)
end

--- Adds lines to the log of an attempt; lines between its head and tail are dropped.
---@param lines {at: integer, stream: string, level: string, line: string}[]
function Store:add_logs(run, node, attempt, lines)
  local key = ("%s\0%s\0%d"):format(run, node, attempt)
  local seq = self.seq[key] or 0
  self.db:transaction(function()
    for i, one in ipairs(lines) do
      local line = one.line
      if #line > LINE_BYTES then line = line:sub(1, LINE_BYTES) .. " ..." end
      self.db:exec([[INSERT INTO logs (run_id, node, attempt, seq, at, stream, level, line)
        VALUES (?, ?, ?, ?, ?, ?, ?, ?)]], run, node, attempt, seq + i, one.at, one.stream, one.level, line)
    end
    if seq + #lines > HEAD + TAIL then
      self.db:exec("DELETE FROM logs WHERE run_id = ? AND node = ? AND attempt = ? AND seq > ? AND seq <= ?",
        run, node, attempt, HEAD, seq + #lines - TAIL)
    end
  end)
  self.seq[key] = seq + #lines
end

-- ---- after a crash ----

local function owner_lives(row, here)
  if row.owner_host ~= here.host then return true end -- not ours to judge
  return row.owner_boot == here.boot and start_of(row.owner_pid) == row.owner_start
end

local function end_dead(self, run)
  local at, reason = now(), "runner died"
  self.db:transaction(function()
    if self.db:exec([[UPDATE runs SET state = 'failed', message = ?, ended_at = ?
      WHERE id = ? AND state = 'running']], reason, at, run) == 0 then return end -- another was first
    local err = encode_error { kind = "system", message = reason }
    self.db:exec([[UPDATE attempts SET state = 'failed', ended_at = ?, error = ?
      WHERE run_id = ? AND state = 'running']], at, err, run)
    self.db:exec([[UPDATE nodes SET state = 'failed', message = ?, ended_at = ?
      WHERE run_id = ? AND state IN ('running', 'retrying')]], reason, at, run)
    self.db:exec([[UPDATE nodes SET state = 'skipped', message = ?, ended_at = ?
      WHERE run_id = ? AND state = 'waiting']], reason, at, run)
    decide(self, run, nil, "recover", "the process that ran it is gone: marked failed")
  end)
end

--- Ends the runs whose runner on this host died. Returns their ids.
---@return string[]
function Store:recover()
  local here, dead = owner(), {}
  for _, row in ipairs(self.db:query [[SELECT id, owner_host, owner_boot, owner_pid, owner_start
    FROM runs WHERE state = 'running' ORDER BY id]]) do
    if not owner_lives(row, here) then
      end_dead(self, row.id)
      dead[#dead + 1] = row.id
    end
  end
  return dead
end

-- ---- looking ----

local RUN_COLUMNS = [[SELECT id, flow, file, version, cause, state, scheduled_at, business_at, timezone,
  started_at, ended_at, message, error, owner_pid FROM runs]]

--- Runs, newest first.
---@param filter? {flow: string?, state: string?, limit: integer?}
---@return table[]
function Store:runs(filter)
  filter = filter or {}
  local rows = self.db:query(RUN_COLUMNS .. [[ WHERE (? IS NULL OR flow = ?) AND (? IS NULL OR state = ?)
    ORDER BY started_at DESC, id DESC LIMIT ?]], filter.flow, filter.flow, filter.state, filter.state,
    filter.limit or 20)
  for _, row in ipairs(rows) do decode_error(row) end
  return rows
end

--- The run that a person means: "last", an id, the start of one, or its last six digits.
--- Raises not_found, or usage when several fit.
---@param word string
---@return table
function Store:find_run(word)
  if word == "last" then
    return self:runs { limit = 1 }[1] or error(errors.new("not_found", "there are no runs yet"), 0)
  end
  local rows = self.db:query(RUN_COLUMNS .. [[ WHERE id = ? OR substr(id, 1, length(?)) = ? OR
    substr(id, -6) = ? ORDER BY id DESC LIMIT 4]], word, word, word, word)
  if #rows == 0 then
    error(errors.new("not_found", ("there is no run '%s'"):format(word), { hint = "see 'tidemill runs'" }), 0)
  end
  if #rows > 1 and rows[1].id ~= word then
    local ids = {}
    for i, row in ipairs(rows) do ids[i] = row.id end
    errors.usage(("'%s' fits several runs: %s"):format(word, table.concat(ids, ", ")))
  end
  return decode_error(rows[1])
end

--- The nodes of a run in the order of its plan; `upstream` is a list.
function Store:nodes(run)
  local rows = self.db:query([[SELECT node, position, kind, upstream, state, attempts, started_at, ended_at,
    row_count, bytes, message FROM nodes WHERE run_id = ? ORDER BY position]], run)
  for _, row in ipairs(rows) do row.upstream = json.decode(row.upstream) end
  return rows
end

--- The attempts of a run, or of one of its nodes, in order.
---@param node? string
function Store:attempts(run, node)
  local rows = self.db:query([[SELECT a.node, a.attempt, a.state, a.pid, a.started_at, a.ended_at,
    a.row_count, a.bytes, a.cpu_ms, a.max_rss_bytes, a.exit_code, a.exit_signal, a.error
    FROM attempts a JOIN nodes n ON n.run_id = a.run_id AND n.node = a.node
    WHERE a.run_id = ? AND (? IS NULL OR a.node = ?) ORDER BY n.position, a.attempt]], run, node, node)
  for _, row in ipairs(rows) do decode_error(row) end
  return rows
end

--- Outputs by node, then by name.
function Store:outputs(run)
  local all = {}
  for _, row in ipairs(self.db:query([[SELECT node, name, value FROM outputs WHERE run_id = ?
    ORDER BY node, name]], run)) do
    all[row.node] = all[row.node] or {}
    all[row.node][row.name] = json.decode(row.value)
  end
  return all
end

--- Sessions of the attempts of a node.
function Store:sessions(run, node)
  return self.db:query([[SELECT attempt, connection, backend_pid, backend_start FROM sessions
    WHERE run_id = ? AND node = ? ORDER BY attempt, connection, backend_pid]], run, node)
end

--- The log of a run in order of time, or of one node, or of one attempt. A gap in `seq`
--- stands for lines that were dropped.
---@param node? string
---@param attempt? integer
function Store:logs(run, node, attempt)
  return self.db:query([[SELECT node, attempt, seq, at, stream, level, line FROM logs
    WHERE run_id = ? AND (? IS NULL OR node = ?) AND (? IS NULL OR attempt = ?)
    ORDER BY CASE WHEN ? IS NULL THEN at ELSE 0 END, node, attempt, seq]],
    run, node, node, attempt, attempt, node)
end

--- Decisions in order.
function Store:decisions(run)
  return self.db:query("SELECT seq, at, node, what, reason FROM decisions WHERE run_id = ? ORDER BY seq", run)
end

return state
