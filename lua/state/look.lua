--- Reading: runs, their nodes, attempts, outputs, logs and decisions.

local common = require "tidemill.state.common"
local errors = require "tidemill.errors"
local json = require "json"

local look = {}

local decode_error = common.decode_error

local RUN_COLUMNS = [[SELECT id, flow, file, version, version_no, cause, schedule, slot_at, state, concurrency, priority,
  scheduled_at, business_at, timezone, settings, parent_run, parent_node, root_run, of_run, backfill,
  backfill_position, runner, epoch, request, created_at, claimed_at, started_at, ended_at, deadline_at, late_at,
  message, error FROM runs]]

local function as_run(row)
  row.settings = common.decode(row.settings)
  return decode_error(row)
end

--- Runs, newest first.
---@param filter? {flow: string?, state: string?, limit: integer?}
---@return table[]
function look:runs(filter)
  filter = filter or {}
  local where, values = {}, {}
  for _, key in ipairs { "flow", "state" } do
    if filter[key] then where[#where + 1], values[#values + 1] = key .. " = ?", filter[key] end
  end
  values[#values + 1] = filter.limit or 20
  local rows = self.db:query(RUN_COLUMNS .. (#where > 0 and " WHERE " .. table.concat(where, " AND ") or "")
    .. " ORDER BY created_at DESC, id DESC LIMIT ?", table.unpack(values))
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

--- The run that a person means: "last", an id, the start of one, or its last six digits.
--- Raises not_found, or usage when several fit.
---@param word string
---@return table
function look:find_run(word)
  if word == "last" then
    return self:runs { limit = 1 }[1] or error(errors.new("not_found", "there are no runs yet"), 0)
  end
  local rows = self.db:query(RUN_COLUMNS .. [[ WHERE id >= ? AND id < ? OR short_id = ? ORDER BY id DESC LIMIT 4]],
    word, word .. "g", word) -- "g" is behind all that an id may go on with
  if #rows == 0 then
    error(errors.new("not_found", ("there is no run '%s'"):format(word), { hint = "see 'tidemill runs'" }), 0)
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
    waiting, started_at, ended_at, row_count, bytes, message, tolerated FROM nodes WHERE run_id = ? ORDER BY position]],
    run)
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

--- Decisions in order.
function look:decisions(run)
  return self.db:query("SELECT seq, at, node, what, reason FROM decisions WHERE run_id = ? ORDER BY seq", run)
end

--- The newest success of a flow, or of its node, in a span of scheduled times; nil if there
--- is none. With `previous` it is the flow's run before `before_ms` that counts, if there is any:
--- its state is given, success or not.
---@param wanted {flow: string, node: string?, from_ms: integer?, to_ms: integer?, previous: boolean?, before_ms: integer?}
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
