--- What attempts print and log, gathered for the store: by attempt, in batches.
---
--- Lines wait at most FLUSH_MS, or until there are FLUSH_LINES of them. While the store is out
--- of reach no more than MOST are held for an attempt; the store keeps its head and tail only,
--- and so does this.

local logs = {}

local FLUSH_MS, FLUSH_LINES = 250, 500
local MOST, HEAD = 40000, 2000

--- Writes the lines of a node's attempt.
---@param ex table      an executor
---@param record table  one of its nodes
function logs.flush(ex, record)
  local lines = record.lines
  if not lines then return end
  ex.store:add_logs(ex.id, record.name, record.attempt, lines)
  record.lines = nil
end

--- Writes all there is.
function logs.flush_all(ex)
  for _, record in ipairs(ex.nodes) do logs.flush(ex, record) end
  ex.flush_at = nil
end

-- Drops the middle: the head stays, and of the rest the later half.
local function thin_out(lines)
  local from = HEAD + (#lines - HEAD) // 2
  local kept = table.move(lines, 1, HEAD, 1, {})
  return table.move(lines, from, #lines, HEAD + 1, kept)
end

--- Adds a line to the log of a node's attempt.
---@param stream "stdout"|"stderr"|"log"
function logs.add(ex, record, stream, level, line)
  local lines = record.lines or {}
  if #lines >= MOST then lines = thin_out(lines) end
  record.lines = lines
  lines[#lines + 1] = { at = ex.wall(), stream = stream, level = level, line = line }
  ex:tell { event = "log", node = record.name, attempt = record.attempt, stream = stream, level = level,
    line = line }
  ex.flush_at = ex.flush_at or ex.clock() + (#lines >= FLUSH_LINES and 0 or FLUSH_MS)
  if #lines >= FLUSH_LINES then ex.flush_at = ex.clock() end
end

return logs
