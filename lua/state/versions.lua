--- Published flows: versions, which one is live, pauses, and the history of these.
---
--- A version is a number of a flow and the hash of stored sources; it never changes. The row in
--- `flows` says which one is live, with what the scheduler needs of it. Publishing keeps the
--- cursor of a schedule that goes on unchanged, so that what was missed is still dealt with by
--- its policy; a schedule that changes or ends first has its open slots written into the
--- ledger (Store:settle_slots). Every change leaves a row in flow_log: who, when, what.

local calendar = require "tidemill.calendar"
local common = require "tidemill.state.common"
local errors = require "tidemill.errors"
local json = require "json"
local suggest = require "tidemill.suggest"
local text = require "tidemill.text"

local versions = {}
-- ---- finding flows ----

local FLOW = [[SELECT flow, file, version_no, hash, schedule, policy, published_at, cursor_at, next_at, paused_at,
  paused_by, pause_reason FROM flows]]

local function decode(row)
  if not row then return nil end
  row.schedule = row.schedule and json.decode(row.schedule)
  row.policy = row.policy and json.decode(row.policy) or {}
  row.timezone = row.policy.timezone or "UTC"
  return row
end

--- Every flow that was ever published, by name.
function versions:flows()
  local rows = self.db:query(FLOW .. " ORDER BY flow")
  for _, row in ipairs(rows) do decode(row) end
  return rows
end

--- A published flow by its name; nil when there is none.
---@param name string
function versions:flow(name)
  return decode(self.db:row(FLOW .. " WHERE flow = ?", name))
end

--- The flow that a person means: its name, the start of one that fits no other, or the path of its
--- file. Raises not_found with the nearest name, or usage when several fit.
---@param word string
---@param path? string  `word` as an absolute path
function versions:find_flow(word, path)
  local rows, fits, names = self:flows(), {}, {}
  for i, row in ipairs(rows) do
    if row.flow == word then return row end
    names[i] = row.flow
    if row.file == path then table.insert(fits, 1, row) end
  end
  if #fits == 1 then return fits[1] end
  for _, row in ipairs(#fits == 0 and rows or {}) do
    if row.flow:sub(1, #word):lower() == word:lower() then fits[#fits + 1] = row end
  end
  if #fits == 1 then return fits[1] end
  if #fits > 1 then
    local which = {}
    for i, row in ipairs(fits) do which[i] = ("'%s'"):format(row.flow) end
    errors.usage(("'%s' fits several flows: %s"):format(word, table.concat(which, ", ")))
  end
  errors.raise("not_found", ("there is no published flow '%s'"):format(word),
    suggest.hint(word, names, "flows") or "tidemill publish FLOW.lua publishes one")
end

-- ---- versions ----

--- The versions of a flow, newest first, with `live`.
---@param name string
function versions:versions(name)
  local rows = self.db:query([[SELECT v.number, v.hash, v.comment, v.published_at, v.published_by,
    CASE WHEN f.version_no = v.number THEN 1 ELSE 0 END AS live
    FROM versions v LEFT JOIN flows f ON f.flow = v.flow WHERE v.flow = ? ORDER BY v.number DESC]], name)
  for _, row in ipairs(rows) do row.live = row.live == 1 end
  return rows
end

--- One version with its document and sources. Raises not_found.
---@param number? integer  default: the newest
function versions:version(name, number)
  local row = self.db:row([[SELECT number, hash, comment, published_at, published_by FROM versions
    WHERE flow = ? AND (number = ? OR ? IS NULL) ORDER BY number DESC LIMIT 1]], name, number, number)
  if not row then
    errors.raise("not_found", ("flow '%s' has no version %s"):format(name, number or "yet"),
      ("see 'tidemill versions %s'"):format(name:find "%s" and "'" .. name .. "'" or name))
  end
  local source = self:source(row.hash)
  row.flow, row.document, row.sources = name, source.document, source.sources
  return row
end

local function log(self, name, by, what, number, reason)
  self.db:exec([[INSERT INTO flow_log (flow, seq, at, by_user, what, version_no, reason)
    VALUES (?, (SELECT coalesce(max(seq), 0) + 1 FROM flow_log WHERE flow = ?), ?, ?, ?, ?, ?)]],
    name, name, self:now(), by, what, number, reason and text.clean(reason))
end

--- The history of a flow: {seq, at, by_user, what, version_no, reason}, oldest first.
function versions:flow_log(name)
  return self.db:query("SELECT seq, at, by_user, what, version_no, reason FROM flow_log WHERE flow = ? ORDER BY seq",
    name)
end

local function policy_of(document)
  return { concurrency = document.concurrency, missed = document.missed, timezone = document.timezone,
    priority = document.priority, deadline_s = document.deadline_s }
end

-- Points the flow at a version, inside a transaction. The cursor is set to an instant, or kept as it is.
local function go_live(self, v, at, scheduled)
  local now, document, keep = self:now(), v.document, at == "keep"
  local schedule = scheduled and document.schedule or nil
  local row = self.db:row("SELECT cursor_at FROM flows WHERE flow = ?" .. self.db:lock "wait", v.flow)
  local cursor = keep and row.cursor_at or not keep and at or now
  local next_at = calendar.next(schedule, cursor)[1]
  if keep and schedule and schedule.kind == "event" then next_at = now end -- to be looked at: it may await events
  self.db:exec([[INSERT INTO flows (flow, file, version_no, hash, schedule, policy, published_at, cursor_at, next_at,
    changed) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)
    ON CONFLICT (flow) DO UPDATE SET file = excluded.file, version_no = excluded.version_no, hash = excluded.hash,
    schedule = excluded.schedule, policy = excluded.policy, published_at = excluded.published_at,
    cursor_at = excluded.cursor_at, next_at = excluded.next_at, changed = excluded.changed]],
    v.flow, document.file, v.number, v.hash, schedule and json.encode(schedule) or nil,
    json.encode(policy_of(document)), now, cursor, next_at, now)
  self:touch()
end

-- Before the live schedule changes or ends: what is open of it goes into the ledger. Returns where the
-- cursor of the new one starts: "keep" if the schedule goes on as it was, else now, before which
-- nothing of it counts.
local function settle(self, row, schedule, reason)
  local now = self:now()
  if not row or not row.version_no or not row.schedule then return now end
  if schedule and json.encode(schedule) == json.encode(row.schedule) then return "keep" end
  self:settle_slots(row.flow, "superseded", reason, now)
  return now
end

-- Whether a flow's row is what a publishing would make of it.
local function stands(row, p, schedule)
  return row and row.version_no and row.hash == p.hash and (row.schedule ~= nil) == (schedule ~= nil)
end

---@class tidemill.Publishing
---@field flow string
---@field hash string
---@field document table
---@field sources table
---@field by string         "user@host"
---@field comment? string
---@field scheduled boolean  whether the schedule is on

--- Makes a version and points the flow at it. A version that is live as it stands stays so.
---@param p tidemill.Publishing
---@return {number: integer, changed: boolean, before: table?}  `before`: the flow's row as it was
function versions:publish(p)
  local before = self:flow(p.flow)
  local schedule = p.scheduled and p.document.schedule or nil
  if stands(before, p, schedule) then return { number = before.version_no, changed = false, before = before } end
  self:save_source(p.hash, p.document, p.sources)
  local cursor = settle(self, before, schedule, "a new version has another schedule")
  local number, already
  self.db:transaction(function()
    self.db:exec("INSERT INTO flows (flow, file, changed) VALUES (?, ?, ?) ON CONFLICT (flow) DO NOTHING",
      p.flow, p.document.file, self:now())
    self.db:row("SELECT flow FROM flows WHERE flow = ?" .. self.db:lock "wait", p.flow) -- one publisher at a time
    local now = self:flow(p.flow)
    already = stands(now, p, schedule) and now -- somebody else has published the same meanwhile
    if already then return end
    local last = self.db:row("SELECT max(number) AS number FROM versions WHERE flow = ?", p.flow).number or 0
    number = now.version_no and now.hash == p.hash and now.version_no or last + 1
    if number > last then
      self.db:exec([[INSERT INTO versions (flow, number, hash, comment, published_at, published_by)
        VALUES (?, ?, ?, ?, ?, ?)]], p.flow, number, p.hash, p.comment and text.clean(p.comment),
          self:now(), p.by)
    end
    go_live(self, { flow = p.flow, number = number, hash = p.hash, document = p.document }, cursor, p.scheduled)
    log(self, p.flow, p.by, "publish", number, p.comment)
  end)
  if already then return { number = already.version_no, changed = false, before = already } end
  return { number = number, changed = true, before = before }
end

-- The version that was live before the one that is.
local function previous(self, row)
  local history = self:flow_log(row.flow)
  for i = #history, 1, -1 do
    local number = history[i].version_no
    if number and (history[i].what == "publish" or history[i].what == "rollback") and number ~= row.version_no then
      return number
    end
  end
  errors.usage(("flow '%s' has no version before %s"):format(row.flow, row.version_no or "this"),
    "name one: tidemill rollback FLOW N")
end

--- Points the flow at an earlier version again, its schedule as that version has it, unless the
--- flow was published with its schedule off.
---@param name string
---@param number? integer  default: the version that was live before
---@return {number: integer, changed: boolean, before: table, version: table}
function versions:rollback(name, number, by, reason)
  local before = self:flow(name)
  local version = self:version(name, number or previous(self, before))
  if before.version_no == version.number then
    return { number = version.number, changed = false, before = before, version = version }
  end
  local document = before.version_no and self:document(before.hash)
  local scheduled = not (document and document.schedule and not before.schedule) -- off stays off
  local cursor = settle(self, before, version.document.schedule, ("rolled back to version %d"):format(version.number))
  self.db:transaction(function()
    go_live(self, version, cursor, scheduled)
    log(self, name, by, "rollback", version.number, reason)
  end)
  return { number = version.number, changed = true, before = before, version = version }
end

--- Takes the flow off its schedule; its versions and runs stay. False when it is unpublished.
function versions:unpublish(name, by, reason)
  local before = self:flow(name)
  if not before.version_no then return false end
  settle(self, before, nil, "unpublished")
  self.db:transaction(function()
    self.db:exec([[UPDATE flows SET version_no = NULL, hash = NULL, schedule = NULL, next_at = NULL, cursor_at = NULL,
      changed = ? WHERE flow = ?]], self:now(), name)
    log(self, name, by, "unpublish", before.version_no, reason)
    self:touch()
  end)
  return true
end

-- ---- another version for a run that ended ----

local function drop_node(self, run, node)
  for _, table_name in ipairs { "logs", "outputs", "sessions", "nodes" } do
    self.db:exec(("DELETE FROM %s WHERE run_id = ? AND node = ?"):format(table_name), run, node)
  end
end

--- Puts a run that ended on another version, before it is restored, in the transaction under way: nodes
--- that succeeded stay so, those that the version does not have are forgotten, new ones wait.
---@param run table      a row
---@param version {hash: string, number: integer?, document: table}
---@param nodes table[]  of the document, those that the run has
function versions:change_version_in(run, version, nodes)
  local known, wanted, gone = {}, {}, {}
  for _, row in ipairs(self:nodes(run.id)) do known[row.node] = true end
  for i, node in ipairs(nodes) do
    wanted[node.name] = true
    local upstream = common.encode_list(node.after)
    if known[node.name] then
      self.db:exec("UPDATE nodes SET position = ?, kind = ?, upstream = ? WHERE run_id = ? AND node = ?", i, node.kind,
        upstream, run.id, node.name)
    else
      self.db:exec([[INSERT INTO nodes (run_id, node, position, kind, upstream, state)
        VALUES (?, ?, ?, ?, ?, 'waiting')]], run.id, node.name, i, node.kind, upstream)
    end
  end
  for _, name in ipairs(suggest.keys(known)) do
    if not wanted[name] then
      gone[#gone + 1] = ("'%s'"):format(name)
      drop_node(self, run.id, name)
    end
  end
  self.db:exec("UPDATE runs SET version = ?, version_no = ?, file = ? WHERE id = ?", version.hash, version.number,
    version.document.file, run.id)
  self:decide_in(run.id, nil, "version", ("it goes on with version %s instead of %s%s"):format(
    version.number or version.hash:sub(1, 12), run.version_no or run.version:sub(1, 12),
    #gone > 0 and ", without " .. table.concat(gone, ", ") or ""))
end

-- ---- pauses ----

--- Nothing of the schedule fires while a flow is paused. False when it is paused already.
function versions:pause_flow(name, by, reason)
  local paused
  self.db:transaction(function()
    paused = self.db:exec([[UPDATE flows SET paused_at = ?, paused_by = ?, pause_reason = ?, changed = ?
      WHERE flow = ? AND paused_at IS NULL]], self:now(), by, reason and text.clean(reason), self:now(),
      name) == 1
    if paused then
      log(self, name, by, "pause", nil, reason)
      self:touch()
    end
  end)
  return paused
end

--- Ends a pause; the slots that fell into it become `skipped` in the ledger. False when it is not paused.
function versions:resume_flow(name, by, reason)
  local row = self:flow(name)
  if not row.paused_at then return false end
  if row.version_no and row.schedule then
    self:settle_slots(name, "skipped", ("paused by %s%s"):format(row.paused_by,
      row.pause_reason and ": " .. row.pause_reason or ""), self:now())
  end
  self.db:transaction(function()
    local now = self:now()
    self.db:exec([[UPDATE flows SET paused_at = NULL, paused_by = NULL, pause_reason = NULL, changed = ?
      WHERE flow = ?]], now, name)
    self.db:exec("UPDATE flows SET next_at = ? WHERE flow = ? AND schedule IS NOT NULL", now, name) -- to be looked at
    log(self, name, by, "resume", nil, reason)
    self:touch()
  end)
  return true
end

return versions
