--- What the parts of the state store share: ids, processes, errors as JSON, rows in bulk.

local errors = require "tidemill.errors"
local json = require "json"
local signal = require "tidemill.signal"
local text = require "tidemill.text"

local common = {}

-- ---- processes ----

local function read_file(path)
  local f <close> = io.open(path)
  return f and f:read "a"
end

local function first_line(path)
  return (read_file(path) or ""):match "^[^\n]*"
end

--- When a process started, in clock ticks since boot; nil if there is none, or only its remains.
---@param pid integer
---@return string?
function common.start_of(pid)
  local stat = read_file(("/proc/%d/stat"):format(pid))
  local fields = stat and stat:match "^.*%) (.*)$" -- behind the name, which may hold anything
  if not fields or fields:find "^[ZX]" then return nil end
  local n = 2
  for field in fields:gmatch "%S+" do
    n = n + 1
    if n == 22 then return field end
  end
end

--- This process, in words that no other process ever has. `boot` also has the start of
--- process 1, which tells containers of one host, and their process ids, apart.
---@return {host: string, boot: string, pid: integer, start: string}
function common.this_process()
  local pid = signal.pid()
  return { host = first_line "/proc/sys/kernel/hostname", pid = pid, start = common.start_of(pid) or "",
    boot = first_line "/proc/sys/kernel/random/boot_id" .. ":" .. (common.start_of(1) or "") }
end

--- Whether the process of a row of `runners` is known to be gone. One of another host, or of
--- this one before it was started again (if it is not another of the same name), is not ours
--- to judge.
---@param row {host: string, boot: string, pid: integer, process_start: string}
function common.is_gone(row, here)
  return row.host == here.host and row.boot == here.boot and common.start_of(row.pid) ~= row.process_start
end

--- An id that sorts by time: "yyyyMMdd-HHmmss-" (UTC) and random hexadecimal digits.
---@param now_ms integer
---@param digits? integer  (default 6)
---@return string
function common.new_id(now_ms, digits)
  return os.date("!%Y%m%d-%H%M%S-", now_ms // 1000) .. signal.random(digits or 6)
end

-- ---- values ----

local KEPT = { "kind", "message", "code", "status", "request_id", "detail", "hint", "node", "attempt" }

--- An error table as the JSON of an `error` column.
---@return string?
function common.encode_error(err)
  if not err then return nil end
  local kept = {}
  for _, key in ipairs(KEPT) do
    if type(err[key]) ~= "table" then kept[key] = err[key] end
  end
  return json.encode(text.clean_all(kept))
end

--- Turns the `error` column of a row, if there is one, into an error table, in place.
function common.decode_error(row)
  if row and row.error then row.error = errors.from(json.decode(row.error)) end
  return row
end

--- JSON of a value; nil stays nil.
function common.encode(value) return value ~= nil and json.encode(value) or nil end

--- The value of JSON; nil stays nil.
function common.decode(value) return value ~= nil and json.decode(value) or nil end

--- JSON of a list of texts, empty or not.
function common.encode_list(list) return json.encode(json.array(table.move(list, 1, #list, 1, {}))) end

-- ---- SQL ----

--- What takes runs from their runner. A paused one that was asked to go on, or to end, is for the next
--- runner: the one before did not come to it.
common.TAKE_BACK = [[UPDATE runs SET runner = NULL, epoch = epoch + 1,
  state = CASE WHEN state = 'paused' AND request IN ('resume', 'stop') THEN 'running' ELSE state END ]]

-- Statements are kept prepared by their text, so lists come in few lengths.
local CHUNKS = { 64, 16, 4, 1 }

--- Runs "INSERT INTO ... VALUES (?, ...), (?, ...)" for any number of rows.
---@param db table
---@param head string      up to and with VALUES
---@param width integer    columns
---@param rows table[]     each a list of `width` values, with holes for NULL
---@param tail? string     such as ON CONFLICT DO NOTHING
function common.insert(db, head, width, rows, tail)
  local one = "(?" .. (", ?"):rep(width - 1) .. ")"
  local from = 1
  for _, size in ipairs(CHUNKS) do
    local sql = ("%s %s%s %s"):format(head, one, (", " .. one):rep(size - 1), tail or "")
    while #rows - from + 1 >= size do
      local values = {}
      for i = 0, size - 1 do table.move(rows[from + i], 1, width, i * width + 1, values) end
      db:exec(sql, table.unpack(values, 1, size * width))
      from = from + size
    end
  end
end

--- Calls f(marks, ...) with "?, ?, ..." and as many of `values`, until all had their turn.
---@param values any[]
---@param f fun(marks: string, ...)
function common.in_lists(values, f)
  local from = 1
  while from <= #values do
    local left, size = #values - from + 1, 1
    for _, n in ipairs(CHUNKS) do
      if n >= left then size = n end
    end
    if left > CHUNKS[1] then size = CHUNKS[1] end
    local list = {}
    for i = 1, size do list[i] = values[math.min(from + i - 1, #values)] end -- the last one again
    f("?" .. (", ?"):rep(size - 1), table.unpack(list))
    from = from + size
  end
end

return common
