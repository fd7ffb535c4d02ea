--- Forgetting: what ended long ago leaves the store, in small transactions.


local gc = {}

local BATCH = 200
local KEPT_VERSIONS = 5 -- of each flow, however old, to roll back to

-- Removes rows whose key a query gives, a batch at a time; how many.
local function remove(self, delete, select, ...)
  local count, values = 0, table.pack(...)
  values[values.n + 1] = BATCH
  repeat
    local n = self.db:transaction(function()
      return self.db:exec(delete .. " (" .. select .. " LIMIT ?)", table.unpack(values, 1, values.n + 1))
    end)
    count = count + n
  until n < BATCH
  return count
end

local DRY = {} -- raised to roll back

--- Removes what ended before now minus `keep_ms`: runs with all that belongs to them (but one with an
--- increment of which nobody knows whether it was delivered), slots,
--- events, runners; then versions that are neither live nor among the newest of their flow, and
--- sources, that nothing refers to any more.
---@param options {keep_ms: integer, dry_run: boolean?}  dry_run: everything is put back
---@return {runs: integer, slots: integer, events: integer, runners: integer, versions: integer, sources: integer}
function gc:gc(options)
  if options.dry_run then
    local counts
    local ok, raised = pcall(self.db.transaction, self.db, function()
      counts = self:gc { keep_ms = options.keep_ms }
      error(DRY, 0)
    end)
    if ok or raised ~= DRY then error(raised, 0) end
    return counts
  end
  local before = self:now() - options.keep_ms
  local counts = { slots = 0 }
  counts.runs = remove(self, "DELETE FROM runs WHERE id IN", [[SELECT id FROM runs WHERE created_at < ?
    AND state IN ('success', 'failed', 'canceled', 'skipped') AND ended_at < ?
    AND NOT EXISTS (SELECT 1 FROM runs c WHERE c.parent_run = runs.id
      AND c.state IN ('queued', 'running', 'paused'))
    AND NOT EXISTS (SELECT 1 FROM runs p WHERE p.id = runs.parent_run
      AND p.state IN ('queued', 'running', 'paused'))
    AND NOT EXISTS (SELECT 1 FROM pending_facts f WHERE f.run_id = runs.id AND f.value IS NOT NULL)
    ORDER BY created_at]], before, before)
  for _, row in ipairs(self.db:query "SELECT flow, cursor_at FROM flows") do -- behind the cursor only
    counts.slots = counts.slots + remove(self, "DELETE FROM slots WHERE (flow, schedule, slot_at) IN",
      "SELECT flow, schedule, slot_at FROM slots WHERE flow = ? AND slot_at < ? AND created_at < ?",
      row.flow, math.min(before, row.cursor_at or before), before)
  end
  counts.events = remove(self, "DELETE FROM events WHERE seq IN", [[SELECT seq FROM events WHERE at < ?
    AND seq < (SELECT max(seq) FROM events) ORDER BY seq]], before) -- the last one carries the count on
  remove(self, "DELETE FROM event_uses WHERE (flow, event_seq) IN", [[SELECT flow, event_seq FROM event_uses
    WHERE slot_at < ? AND NOT EXISTS (SELECT 1 FROM events e WHERE e.seq = event_seq)]], before)
  counts.runners = remove(self, "DELETE FROM runners WHERE id IN",
    "SELECT id FROM runners WHERE state = 'gone' AND ended_at < ?", before)
  remove(self, "DELETE FROM backfills WHERE id IN", [[SELECT id FROM backfills WHERE open = 0 AND created_at < ?
    AND NOT EXISTS (SELECT 1 FROM runs r WHERE r.backfill = backfills.id)]], before)
  counts.versions = remove(self, "DELETE FROM versions WHERE (flow, number) IN", [[SELECT v.flow, v.number
    FROM versions v JOIN flows f ON f.flow = v.flow WHERE v.published_at < ?
    AND (f.version_no IS NULL OR f.version_no <> v.number)
    AND v.number <= (SELECT max(number) FROM versions m WHERE m.flow = v.flow) - ]] .. KEPT_VERSIONS .. [[
    AND NOT EXISTS (SELECT 1 FROM runs r WHERE r.version = v.hash AND r.version_no = v.number)]], before)
  counts.sources = remove(self, "DELETE FROM sources WHERE hash IN", [[SELECT s.hash FROM sources s
    WHERE s.created_at < ? AND NOT EXISTS (SELECT 1 FROM runs r WHERE r.version = s.hash)
    AND NOT EXISTS (SELECT 1 FROM versions v WHERE v.hash = s.hash)
    AND NOT EXISTS (SELECT 1 FROM flows f WHERE f.hash = s.hash)]], before)
  return counts
end

return gc
