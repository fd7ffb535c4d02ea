--- Loads past rows that the table does not take, and sets these aside: `reject`.
---
---     object ranges -> [decompress] -> chunks of whole records -> COPY of each in a savepoint
---
--- When a COPY fails, the line in the server's CONTEXT leads to the record. The records before it are
--- copied again, then it alone: only a row that failed by itself is rejected, so a wrong line costs time and
--- no row. Where the server tells no line the chunk is halved. What is tried at once grows again
--- with each success, so a bad row costs a few COPYs of the rows around it and not of the chunk.
---
--- Bad are rows with SQLSTATE of class 22 (values, COPY's own format) and 23 (constraints), but
--- 23503: a foreign key is looked at when a COPY ends, and its parent may come with a later one, so that
--- fails the load; as does everything that is only looked at when the transaction commits.
---
--- Rejected rows become objects under `to`, in csv with a manifest of their own, so that a load can read them:
---
---     object, line        where it was: key below the prefix, and the line (of text, from 1)
---     sqlstate, message   what the server said
---     column_name         the column, if it said so
---     record              the bytes of the row, without the line end, if they are UTF-8 ...
---     record_bytes        ... else here, as bytea
---
--- They are there before the load commits, and are taken away again if it does not: by itself, or by the
--- next attempt. Where no row is rejected, nothing is written.

local copy = require "tidemill.copy"
local crash = require "tidemill.crash"
local crew = require "tidemill.load.crew"
local csv = require "csv"
local errors = require "tidemill.errors"
local manifest = require "tidemill.manifest"
local names = require "tidemill.manifest.names"
local pg = require "pg"
local stream = require "stream"
local sweep = require "tidemill.sweep"
local text = require "tidemill.text"
local time = require "time"

local reject = {}

local CHUNK_BYTES = 2 << 20 -- half of it costs twice the round trips, twice a bad row's neighbours more
local MOST, FEW = 20000, 64 -- records of one COPY: a chunk's, and those tried after a bad one
local OBJECT_BYTES = 64 << 20
local LOGGED = 10 -- rejected rows that the log shows
local FORMAT = { format = "csv", delimiter = ",", quote = '"', escape = '"', null = "", encoding = "UTF8",
  compress = "none", header = true }
local COLUMNS = {
  { name = "object", type = "text" }, { name = "line", type = "bigint" }, { name = "sqlstate", type = "text" },
  { name = "message", type = "text" }, { name = "column_name", type = "text" }, { name = "record", type = "text" },
  { name = "record_bytes", type = "bytea" },
}

---@class load.Reject
---@field count integer  rows rejected so far
local Reject = {}
Reject.__index = Reject

-- ---- what attempts before left ----

-- The claim is this attempt's, so those before have not committed and never will.
local function remove_older(self)
  for attempt = 1, self.who.attempt - 1 do
    local id = names.id(self.who, attempt)
    local m = manifest.state(self.store, self.prefix, id) == "committed" and manifest.look(self.store, self.prefix, id)
    if m then
      for object in m:objects() do self.store:delete(self.prefix .. object.key) end
      self.store:delete(names.key(self.prefix, id))
    end
  end
  if self.who.attempt > 1 then sweep.older(self.store, self.prefix, self.who) end
end

--- What an attempt before has rejected, which has committed: how many rows, and the manifest's id if there were any.
---@param ctx tidemill.Context
---@param spec table  the node's fields
---@param attempt integer
---@return integer rows, string? id
function reject.recall(ctx, spec, attempt)
  local store, prefix = ctx:location(spec.reject.to)
  local id = names.id({ node = ctx.node, run = ctx.run_id, business = ctx.business }, attempt)
  local m = manifest.look(store, prefix, id)
  return m and m.rows or 0, m and id
end

--- Opens it; nil if the flow does not ask for it.
---@param ctx tidemill.Context
---@param spec table  the node's fields
---@return load.Reject?
function reject.open(ctx, spec)
  if not spec.reject then return nil end
  local store, prefix = ctx:location(spec.reject.to)
  local self = setmetatable({ ctx = ctx, limits = spec.reject, store = store, prefix = prefix, count = 0, window = MOST,
    who = { node = ctx.node, run = ctx.run_id, attempt = ctx.attempt, business = ctx.business } }, Reject)
  local ok, raised = pcall(remove_older, self)
  if not ok then ctx:log("warn", "what earlier attempts left under %s stays: %s", spec.reject.to, tostring(raised)) end
  return self
end

-- ---- rejected rows ----

local HEADER = csv.format { { "object", "line", "sqlstate", "message", "column_name", "record", "record_bytes" } }

local function sink_of(self, work)
  self.sink = self.sink or self.store:objects(work.share:give("writer", {
    prefix = self.prefix .. names.stem(self.who, self.who.attempt, 1), digits = names.DIGITS, suffix = ".csv",
    object_bytes = OBJECT_BYTES, preamble = HEADER, preamble_raw_bytes = #HEADER,
  }))
  return self.sink
end

-- `where` names the object, unless who catches it does.
local function too_many(self, row, limit, where)
  error(errors.new("data", ("%s bad, %s; the last: %sline %d: %s"):format(
    self.count == 1 and "1 row is" or self.count .. " rows are", limit, where or "", row.line, row.message),
    { code = row.sqlstate, detail = row.detail, hint = "nothing was loaded; the log has the first ones" }), 0)
end

-- Whether there are more than the flow allows. The share is known once the manifest is.
local function check_limits(self, work, row, where)
  local max, percent, m = self.limits.max, self.limits.percent, work.src.manifest
  if max and self.count > max then too_many(self, row, ("reject.max is %d"):format(max), where) end
  if percent and m and self.count * 100 > percent * m.rows then
    too_many(self, row, ("reject.percent is %s of %s"):format(percent, text.count(m.rows, "row")), where)
  end
end

local function hex(bytes)
  return "\\x" .. bytes:gsub(".", function(c) return ("%02x"):format(c:byte()) end)
end

local function set_aside(self, work, row)
  self.count, self.last = self.count + 1, row
  if self.count <= LOGGED then
    self.ctx:log("warn", "rejected: object '%s', line %d: %s", row.object, row.line, text.clean(row.message))
  elseif self.count == LOGGED + 1 then
    self.ctx:log("warn", "more rows are rejected")
  end
  check_limits(self, work, row)
  local plain = utf8.len(row.record) and not row.record:find("\0", 1, true)
  sink_of(self, work):write(csv.format { { row.object, row.line, row.sqlstate, text.clean(row.message),
    row.column and text.clean(row.column) or pg.null, plain and row.record or pg.null,
    plain and pg.null or hex(row.record) } }, 1)
end

-- ---- what the server says ----

-- Whether it is the row that is bad.
local function is_of_row(raised)
  local code = errors.is(raised) and raised.code or ""
  return (code:match "^22" or code:match "^23") and code ~= "23503" or false
end

-- The table's bare name, which stands before the line in CONTEXT and may hold digits.
local function bare_name(sql)
  local into = sql:match "^COPY (.-) %("
  return into:match '"([^"]*)"$' or into:match "[^.]*$"
end

-- The line of the COPY, and the column: "COPY t, line 3, column a: ..." in any language.
local function place_of(raised, relation)
  for line in ((raised.detail or "") .. "\n"):gmatch "([^\n]*)\n" do
    local rest = line:match "COPY(.*)"
    if rest and not line:match "^SQL: " then
      if rest:sub(2, #relation + 1) == relation then rest = rest:sub(#relation + 2) end
      local number = math.tointeger(tonumber(rest:match "%d+"))
      if number then return number, rest:match "^[^\"]-%d+, column (.-): " end
    end
  end
  return nil
end

-- ---- copying ----

local function copy_records(load, from, to)
  local work, conn = load.work, load.conn
  local tx <close> = conn:transaction()
  local sink <close> = conn:copy_in(load.sql)
  local records <close> = load.chunks:source(from, to)
  local tap = work.verify and work.verify:tap(true)
  local parts = { records, tap }
  parts[#parts + 1] = sink
  local job <close> = stream.start(table.unpack(parts))
  crew.await(job)
  job:join()
  local rows = sink:rows()
  tx:commit()
  if work.verify then work.verify:add(load.one, rows, tap) end
  load.rows = load.rows + rows
end

-- Copies these records; else returns what is wrong with one of them.
local function try(load, from, to)
  local ok, raised = pcall(copy_records, load, from, to)
  if ok then return nil end
  if not is_of_row(raised) then error(raised, 0) end
  return raised
end

local function drop(self, load, i, raised)
  local bytes, line, fault = load.chunks:record(i)
  local _, column = nil, nil
  if raised then _, column = place_of(raised, load.relation) end
  load.dropped = load.dropped + 1
  if load.work.verify then
    local tap = load.work.verify:tap(true)
    if tap then stream.pump(load.chunks:source(i, i), tap, stream.discard()) end
    load.work.verify:set_aside(1, tap)
  end
  set_aside(self, load.work, {
    object = load.one.key, line = line, sqlstate = raised and raised.code or "22P04", record = bytes, column = column,
    message = raised and raised.message or ("%s %s found in data"):format(load.literal, fault),
    detail = raised and raised.detail,
  })
end

-- Copies a chunk of so many records.
local function copy_chunk(self, load, count)
  local chunks, from, limit, suspect, streak = load.chunks, 1, self.window, nil, false
  while from <= count do
    local fault = chunks:fault(from)
    local to = math.min(count, from + limit - 1, fault and fault - 1 or count)
    if from == suspect then to = from end
    local raised = fault ~= from and try(load, from, to)
    if fault == from or raised and from == to then
      drop(self, load, from, raised or nil)
      from, limit, streak = from + 1, streak and 1 or FEW, true -- bad ones often come together
    elseif raised then
      local line = place_of(raised, load.relation)
      suspect = line and chunks:find(from, line)
      if suspect and suspect > to then suspect = nil end
      limit = suspect and math.max(suspect - from, 1) or (to - from + 1) // 2
    else
      from, limit, streak = to + 1, math.min(2 * math.max(limit, 1), MOST), false
    end
  end
  self.window = limit
end

-- The next chunk's number of records; nil at the end.
local function next_chunk(chunks, job)
  while true do
    local ok, count, state = pcall(chunks.next, chunks)
    if not ok then -- the stream's own error says why it gave the chunks up
      if errors.is(count) and count.kind == "canceled" then crew.await(job) end
      if job:done() then job:join() end
      error(count, 0)
    end
    if count or state == "end" then return count end
    crew.await(chunks.fd)
  end
end

--- Moves an object, as lua/load/object.lua does, in an open transaction. Returns the rows loaded, and those that
--- were rejected. Raises when there are more of these than the flow allows.
---@param work load.Work
---@param conn pg.Conn
---@param sql string  of object.sql, without a header
---@param one manifest.Object
---@return integer rows, integer rejected
function Reject.move(work, conn, sql, one)
  local self, src, format = work.reject, work.src, work.src.head.format
  local options = { bytes = CHUNK_BYTES, rows = MOST }
  for name, value in pairs(copy.codec(format)) do options[name] = value end
  local chunks <close> = stream.chunks(options)
  local from <close> = src:reader(one, work.share)
  local unzip <close> = copy.unzip(format)
  local job <close> = unzip and stream.start(from, unzip, chunks:sink()) or stream.start(from, chunks:sink())
  work.running[one] = job
  local load = { work = work, conn = conn, sql = sql, one = one, chunks = chunks, relation = bare_name(sql), rows = 0,
    dropped = 0, literal = format.format == "csv" and "unquoted" or "literal" }
  for count in function() return next_chunk(chunks, job) end do copy_chunk(self, load, count) end
  job:join()
  return load.rows, load.dropped
end

-- ---- the end ----

--- Makes the rejected rows durable, right before the load commits. Raises when there are too many.
---@param work load.Work
function Reject:commit(work)
  if self.count == 0 then return end
  check_limits(self, work, self.last, ("object '%s', "):format(self.last.object))
  crash.point "load.reject.before"
  self.sink:finish()
  local objects = {}
  for i, object in ipairs(self.sink:objects()) do objects[i] = manifest.object(object, self.prefix) end
  self.objects = objects -- what is to be taken away if the load does not commit, the manifest with it
  local ctx, m = self.ctx, work.src.manifest
  manifest.write(self.store, self.prefix, {
    id = names.id(self.who), flow = ctx.flow, node = ctx.node, run = ctx.run_id, attempt = ctx.attempt,
    business = time.iso(ctx.business, ctx.timezone), created = time.iso(time.now()),
    rejected_of = { place = work.spec.from, manifest = m.id }, format = FORMAT, columns = COLUMNS,
  }, objects)
  crash.point "load.reject.after"
end

--- Takes away what `commit` has written, or what was written till then: the load did not commit.
function Reject:abandon()
  if self.sink then self.sink:close() end
  if not self.objects then return end
  pcall(self.store.delete, self.store, names.key(self.prefix, names.id(self.who)))
  for _, object in ipairs(self.objects) do pcall(self.store.delete, self.store, self.prefix .. object.key) end
end

--- What was rejected, for the report; nil if nothing was.
---@return table?
function Reject:report()
  if self.count == 0 then return nil end
  return { text = ("%s, in %s (manifest %s)"):format(text.count(self.count, "row"), self.limits.to,
    names.id(self.who)), rows = self.count, objects = #self.objects, to = self.limits.to, manifest = names.id(self.who),
    max = self.limits.max, percent = self.limits.percent }
end

return reject
