--- One object into one table: a COPY of its own, so that the line in a server's error is a line of
--- that object.
---
---   object ranges -> [decompress] -> COPY ... FROM STDIN

local budget = require "tidemill.budget"
local copy = require "tidemill.copy"
local crash = require "tidemill.crash"
local crew = require "tidemill.load.crew"
local errors = require "tidemill.errors"
local stream = require "stream"
local text = require "tidemill.text"

local object = {}

--- The COPY command for objects of this form.
---@param into string  the table, as SQL names it
---@param list string  its columns, quoted and with commas between
---@param format table  of the manifest
---@param more? {freeze: boolean?, where: string?, headless: boolean?}  rows are frozen; rows outside are left out;
---the header does not come
---@return string
function object.sql(into, list, format, more)
  local header = format.header and not (more and more.headless)
  local sql = ("COPY %s (%s) FROM STDIN %s"):format(into, list, copy.options(format, header))
  if more and more.freeze then sql = sql:sub(1, -2) .. ", FREEZE true)" end
  return more and more.where and ("%s WHERE (%s\n)"):format(sql, more.where) or sql
end

--- Divides the memory over so many objects at once, and one more that is fetched ahead if there is
--- enough for it.
---@param ctx tidemill.Context
---@param format table  of the manifest
---@param jobs integer
---@param rejecting? boolean  rejected rows are written meanwhile
---@return tidemill.Budget share, boolean ahead
function object.share(ctx, format, jobs, rejecting)
  local want = { readers = jobs, ahead = 1, unzips = format.compress ~= "none" and jobs or 0,
    writers = rejecting and 1 or 0 }
  local ok, share = pcall(budget.divide, ctx.memory, want)
  if ok and not rejecting then return share, true end
  want.ahead = 0
  return budget.divide(ctx.memory, want), false
end

local function move(work, conn, sql, one)
  local src = work.src
  local from <close> = src:reader(one, work.share)
  local to <close> = conn:copy_in(sql)
  local tap = work.verify and work.verify:tap()
  local unzip <close> = copy.unzip(src.head.format)
  local parts = { from, unzip }
  parts[#parts + 1] = tap
  parts[#parts + 1] = to
  parts[#parts + 1] = { queue = budget.QUEUE }
  local job <close> = stream.start(table.unpack(parts))
  work.running[one] = job
  if work.ahead then src:look_ahead(work.share) end
  crew.await(job)
  job:join()
  if work.verify then work.verify:add(one, to:rows(), tap) end
  return to:rows()
end

--- Loads an object, waiting for it as a worker of a crew does. In a transaction its rows are part of that.
---
--- Raises what the store and the server raise, with the object's key in front; kind "integrity" when the
--- server took another number of rows than the object has.
---@param work load.Work
---@param conn pg.Conn
---@param sql string  of object.sql
---@param one manifest.Object
---@return integer rows
function object.copy(work, conn, sql, one)
  local key = work.src.prefix .. one.key
  crash.point "load.copy.before"
  local ok, rows, rejected = pcall(work.reject and work.reject.move or move, work, conn, sql, one)
  work.running[one] = nil
  if not ok then
    if errors.is(rows) then
      work.missing = rows.kind == "not_found"
      rows.message = ("object '%s': %s"):format(key, rows.message)
    end
    error(rows, 0)
  end
  crash.point "load.copy.after"
  local taken = rows + (rejected or 0)
  if taken < one.rows and sql:find("WHERE", 1, true) and work.spec.where then
    errors.raise("data", ("object '%s': %s of %d outside of 'where'"):format(key,
      text.count(one.rows - taken, "row"), one.rows), "nothing was loaded")
  elseif taken ~= one.rows then
    errors.raise("integrity", ("object '%s' loaded %d rows%s, its manifest says %d"):format(key, rows,
      rejected and (", of it %d rejected"):format(rejected) or "", one.rows))
  end
  work.rows, work.bytes, work.objects = work.rows + rows, work.bytes + one.raw_bytes, work.objects + 1
  return rows
end

--- Says how far the load is.
---@param work load.Work
function object.progress(work)
  local bytes = work.bytes
  for _, job in pairs(work.running) do bytes = bytes + job:stats().bytes_out end
  work.ctx:progress { rows = work.rows, bytes = bytes }
end

return object
