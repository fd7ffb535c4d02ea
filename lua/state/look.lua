--- Reading: runs, their nodes, attempts, outputs, logs and decisions.

local common = require "tidemill.state.common"
local errors = require "tidemill.errors"
local json = require "json"
local suggest = require "tidemill.suggest"

local look = {}

local decode_error = common.decode_error

local RUN_COLUMNS = [[SELECT id, flow, file, version, version_no, cause, schedule, slot_at, state, concurrency,
  priority, scheduled_at, business_at, timezone, settings, parent_run, parent_node, root_run, of_run, backfill,
  backfill_position, runner, epoch, request, created_at, claimed_at, started_at, ended_at, deadline_at, late_at,
  message, error FROM runs]]

local function as_run(row)
  row.settings = common.decode(row.settings)
  return decode_error(row)
end

---@class tidemill.RunFilter
---@field flow? string
---@field state? string
---@field cause? string
---@field backfill? string
---@field parent? string       subflows of this run
---@field active? boolean      queued, running or paused
---@field top? boolean         not those of subflows
---@field since? integer       created at this time or later, ms
---@field before? integer      created before, ms
---@field business_from? integer  business time at or after, ms
---@field business_to? integer    business time at or before, ms
---@field scheduled? integer   of this scheduled time
---@field limit? integer       (default 20)

-- Each filter as a condition.
local CONDITIONS = { flow = "flow = ?", state = "state = ?", cause = "cause = ?", backfill = "backfill = ?",
  parent = "parent_run = ?", since = "created_at >= ?", before = "created_at < ?", business_from = "business_at >= ?",
  business_to = "business_at <= ?", scheduled = "scheduled_at = ?" }

--- Runs, newest first.
---@param filter? tidemill.RunFilter
---@return table[]
function look:runs(filter)
  filter = filter or {}
  local where, values = {}, {}
  for _, key in ipairs(suggest.keys(CONDITIONS)) do
    if filter[key] then where[#where + 1], values[#values + 1] = CONDITIONS[key], filter[key] end
  end
  if filter.top then where[#where + 1] = "cause <> 'subflow'" end
  if filter.active then where[#where + 1] = "state IN ('queued', 'running', 'paused')" end
  values[#values + 1] = filter.limit or 20
  local rows = self.db:query(RUN_COLUMNS .. (#where > 0 and " WHERE " .. table.concat(where, " AND ") or "")
    .. " ORDER BY created_at DESC, coalesce(backfill_position, 0) DESC, id DESC LIMIT ?", table.unpack(values))
  for _, row in ipairs(rows) do as_run(row) end
  return rows
end

--- The run of an id; nil if there is none.
---@param id string
---@return table?
function look:run(id)
  local row = self.db:row(RUN_COLUMNS .. " WHERE id = ?", id)
  return row and as_run(row)
end

--- The run that a person means: "last" (the newest, but no subflow's), an id, the start of one, or its last six digits.
--- Raises not_found, or usage when several fit.
---@param word string
---@return table
function look:find_run(word)
  if word == "last" then
    return self:runs { limit = 1, top = true }[1] or errors.raise("not_found", "there are no runs yet")
  end
  local rows = self.db:query(RUN_COLUMNS .. [[ WHERE id >= ? AND id < ? OR short_id = ? ORDER BY id DESC LIMIT 4]],
    word, word .. "g", word) -- "g" is behind all that an id may go on with
  if #rows == 0 then
    errors.raise("not_found", ("there is no run '%s'"):format(word), "see 'tidemill runs'")
  end
  for _, row in ipairs(rows) do
    if row.id == word then return as_run(row) end
  end
  if #rows > 1 then
    local ids = {}
    for i, row in ipairs(rows) do ids[i] = row.id end
    errors.usage(("'%s' fits several runs: %s"):format(word, table.concat(ids, ", ")))
  end
  return as_run(rows[1])
end

--- The nodes of a run in the order of its plan; `upstream` is a list, `waiting` decoded.
---@param run string
---@return table[]
function look:nodes(run)
  local rows = self.db:query([[SELECT node, position, kind, upstream, state, attempts, before, lost, lost_row, next_at,
    waiting, started_at, ended_at, row_count, bytes, message, tolerated, late_at FROM nodes WHERE run_id = ?
    ORDER BY position]], run)
  for _, row in ipairs(rows) do
    row.upstream, row.waiting = json.decode(row.upstream), common.decode(row.waiting)
  end
  return rows
end

--- The attempts of a run, or of one of its nodes, in order.
---@param node? string
function look:attempts(run, node)
  local rows = self.db:query([[SELECT a.node, a.attempt, a.state, a.runner, a.pool, a.probes, a.pid, a.started_at,
    a.ended_at, a.row_count, a.bytes, a.cpu_ms, a.max_rss_bytes, a.exit_code, a.exit_signal, a.error
    FROM attempts a JOIN nodes n ON n.run_id = a.run_id AND n.node = a.node WHERE a.run_id = ?]]
    .. (node and " AND a.node = ?" or "") .. " ORDER BY n.position, a.attempt", run, node)
  for _, row in ipairs(rows) do decode_error(row) end
  return rows
end

--- Outputs by node, then by name.
function look:outputs(run)
  local all = {}
  for _, row in ipairs(self.db:query("SELECT node, name, value FROM outputs WHERE run_id = ? ORDER BY node, name",
    run)) do
    all[row.node] = all[row.node] or {}
    all[row.node][row.name] = json.decode(row.value)
  end
  return all
end

--- The log of a run in order of time, or of one node, or of one attempt. A gap in `seq`
--- stands for lines that were dropped.
---@param node? string
---@param attempt? integer
function look:logs(run, node, attempt)
  local where, values = "run_id = ?", { run }
  if node then where, values[#values + 1] = where .. " AND node = ?", node end
  if attempt then where, values[#values + 1] = where .. " AND attempt = ?", attempt end
  return self.db:query("SELECT node, attempt, seq, at, stream, level, line FROM logs WHERE " .. where
    .. (node and " ORDER BY attempt, seq" or " ORDER BY at, node, attempt, seq"), table.unpack(values))
end

--- The lines that follow those of `seen`, which is brought up to date, in order of time.
---@param run string
---@param node? string
---@param attempt? integer
---@param seen table<string, integer>  by node and attempt, the last `seq`
---@param limit? integer               most of one attempt (default 5000)
---@return table[]
function look:logs_after(run, node, attempt, seen, limit)
  local list = {}
  for _, one in ipairs(self:attempts(run, node)) do
    if not attempt or one.attempt == attempt then
      local key = one.node .. "\0" .. one.attempt
      local rows = self.db:query([[SELECT node, attempt, seq, at, stream, level, line FROM logs
        WHERE run_id = ? AND node = ? AND attempt = ? AND seq > ? ORDER BY seq LIMIT ?]], run, one.node, one.attempt,
        seen[key] or 0, limit or 5000)
      if #rows > 0 then seen[key] = rows[#rows].seq end
      for i, row in ipairs(rows) do list[#list + 1], row.order = row, i end
    end
  end
  table.sort(list, function(a, b)
    if a.at ~= b.at then return a.at < b.at end
    if a.node ~= b.node then return a.node < b.node end
    if a.attempt ~= b.attempt then return a.attempt < b.attempt end
    return a.order < b.order
  end)
  return list
end

--- The last line of each attempt so far, as logs_after takes it.
---@return table<string, integer>
function look:logs_seen(run)
  local seen = {}
  for _, row in ipairs(self.db:query([[SELECT node, attempt, max(seq) AS seq FROM logs WHERE run_id = ?
    GROUP BY node, attempt]], run)) do
    seen[row.node .. "\0" .. row.attempt] = row.seq
  end
  return seen
end

--- The last `limit` lines of a run, a node or an attempt, in order.
function look:logs_tail(run, node, attempt, limit)
  local where, values = "run_id = ?", { run }
  if node then where, values[#values + 1] = where .. " AND node = ?", node end
  if attempt then where, values[#values + 1] = where .. " AND attempt = ?", attempt end
  values[#values + 1] = limit
  local rows = self.db:query("SELECT node, attempt, seq, at, stream, level, line FROM logs WHERE " .. where
    .. (node and " ORDER BY attempt DESC, seq DESC" or " ORDER BY at DESC, node DESC, attempt DESC, seq DESC")
    .. " LIMIT ?", table.unpack(values))
  local list = {}
  for i = #rows, 1, -1 do list[#list + 1] = rows[i] end
  return list
end

--- Live `serve` processes: alive, their lease not run out.
---@return table[]  rows of `runners`
function look:servers()
  local live = {}
  for _, row in ipairs(self:runners()) do
    if row.kind == "serve" and row.lease_until >= self:now() then live[#live + 1] = row end
  end
  return live
end

--- The notices of a run: {id, what, target, state, attempts, next_at, error, created_at, ended_at}.
function look:notices(run)
  local rows = self.db:query([[SELECT id, what, node, target, state, attempts, next_at, error, created_at, ended_at
    FROM notices WHERE run_id = ? ORDER BY created_at, id]], run)
  for _, row in ipairs(rows) do
    row.target = json.decode(row.target)
    decode_error(row)
  end
  return rows
end

--- The ledger row that a firing time falls into; nil if there is none.
---@param flow string
---@param at integer
---@return table?
function look:slot(flow, at)
  return self.db:row([[SELECT schedule, slot_at, first_at, slot_count, state, run_id, reason, version_no, created_at
    FROM slots WHERE flow = ? AND slot_at >= ? AND coalesce(first_at, slot_at) <= ?
    ORDER BY slot_at, schedule LIMIT 1]], flow, at, at)
end

--- What keeps a queued run of a flow that does not run in parallel: those running, and those
--- queued that go first.
---@param run table  a row
---@return table[] rows  id, state, cause, scheduled_at
function look:in_the_way(run)
  if run.concurrency == "parallel" or run.cause == "manual" then return {} end
  return self.db:query([[SELECT id, state, cause, scheduled_at FROM runs q WHERE q.flow = ? AND q.cause <> 'manual'
    AND q.id <> ? AND (q.state IN ('running', 'paused') OR q.state = 'queued' AND q.backfill IS NULL
    AND (q.priority > ? OR q.priority = ? AND (q.scheduled_at < ? OR q.scheduled_at = ? AND q.id < ?))
    AND (q.cause NOT IN ('schedule', 'event') OR NOT EXISTS (SELECT 1 FROM flows f WHERE f.flow = q.flow
    AND f.paused_at IS NOT NULL))) ORDER BY q.state DESC, q.scheduled_at, q.id LIMIT 5]], run.flow, run.id,
    run.priority, run.priority, run.scheduled_at, run.scheduled_at, run.id)
end

--- A backfill and how far it is: its row, with `running`, `waiting` and `ended` counted; and `ahead`,
--- those before a position that have not ended.
---@param id string
---@param position? integer
---@return table?
function look:backfill(id, position)
  local row = self.db:row([[SELECT id, flow, from_at, to_at, ordering, jobs, created_at, created_by, total
    FROM backfills WHERE id = ?]], id)
  if not row then return nil end
  row.running, row.waiting, row.ended = 0, 0, 0
  for _, one in ipairs(self.db:query([[SELECT state, count(*) AS n FROM runs WHERE backfill = ?
    GROUP BY state]], id)) do
    local what = (one.state == "running" or one.state == "paused") and "running"
      or one.state == "queued" and "waiting" or "ended"
    row[what] = row[what] + one.n
  end
  row.ahead = self.db:row([[SELECT count(*) AS n FROM runs WHERE backfill = ? AND backfill_position < ?
    AND state IN ('queued', 'running', 'paused')]], id, position or 0).n
  return row
end

--- The backfill of an id, or of its last six digits; nil if there is none.
---@param word string
---@return table?
function look:find_backfill(word)
  local rows = self.db:query([[SELECT id FROM backfills WHERE id = ? OR substr(id, length(id) - 5) = ?
    ORDER BY id DESC LIMIT 1]], word, word)
  return rows[1] and self:backfill(rows[1].id)
end

--- How many attempts are in a pool now.
---@param pool string
---@return integer
function look:pool_taken(pool)
  return self.db:row("SELECT count(*) AS n FROM attempts WHERE pool = ? AND state = 'running'", pool).n
end

--- Decisions in order.
function look:decisions(run)
  return self.db:query("SELECT seq, at, node, what, reason FROM decisions WHERE run_id = ? ORDER BY seq", run)
end

--- The newest success of a flow, or of its node, in a span of scheduled times; nil if there
--- is none. With `previous` it is the flow's run before `before_ms` that counts, if there is any:
--- its state is given, success or not.
---@param wanted {flow: string, node: string?, from_ms: integer?, to_ms: integer?, previous: boolean?,
---  before_ms: integer?}
---@return {id: string, state: string, scheduled_at: integer}?  state: of the node, with `node`
function look:upstream_run(wanted)
  local what = wanted.node and "n.state" or "r.state"
  local from = wanted.node and " FROM runs r JOIN nodes n ON n.run_id = r.id AND n.node = ?" or " FROM runs r"
  local values = wanted.node and { wanted.node, wanted.flow } or { wanted.flow }
  local where = " WHERE r.flow = ? AND r.cause <> 'manual' AND r.state <> 'skipped'"
  local function add(condition, value)
    where, values[#values + 1] = where .. condition, value
  end
  if wanted.previous then
    add(" AND r.scheduled_at < ?", wanted.before_ms)
  else
    add(" AND r.scheduled_at >= ?", wanted.from_ms)
    add(" AND r.scheduled_at <= ?", wanted.to_ms)
    where = where .. " AND " .. what .. " = 'success'"
  end
  return self.db:row("SELECT r.id, " .. what .. " AS state, r.scheduled_at" .. from .. where
    .. " ORDER BY r.scheduled_at DESC, r.id DESC LIMIT 1", table.unpack(values))
end

return look
