--- The body of a flow.wait_for node: one look.
---
--- For objects or what a database says this process looks, and asks to be started again later;
--- between two looks the node holds no worker. For another flow, or the cycle before this one, the
--- runner itself looks into its store; this only says which runs will do. Either way the waiting
--- ends at its timeout, counted from the first look.

local errors = require "tidemill.errors"
local locations = require "tidemill.locations"
local manifest = require "tidemill.manifest"
local pg = require "pg"
local signal = require "tidemill.signal"
local time = require "time"

-- The end of the waiting, in epoch milliseconds: fixed by the first look.
local function deadline_of(ctx, spec)
  local before = ctx.waiting and ctx.waiting.deadline_ms
  return before or signal.wall() + math.ceil(spec.timeout * 1000)
end

-- ---- runs of a flow ----

local DAY_OF = { hour = false, day = "yyyy-MM-dd", week = "yyyy-MM-dd", month = "yyyy-MM-01" }
local LENGTH = { day = "+1d", week = "+1w", month = "+1M" }

-- The scheduled times that will do, first and last, in epoch seconds.
local function period(ctx, spec)
  local zone, scheduled = ctx.timezone, ctx.scheduled
  if spec.from then return time.add(scheduled, spec.from, zone), time.add(scheduled, spec.to, zone) end
  local base = spec.offset and time.add(scheduled, spec.offset, zone) or scheduled
  if spec.at == "same" then return base, base end
  local civil = time.civil(base, zone)
  if spec.at == "hour" then
    local start = math.floor(base) - civil.min * 60 - civil.sec
    return start, start + 3600 - 0.001
  end
  local start = time.parse(time.format(base, DAY_OF[spec.at], zone), zone)
  if spec.at == "week" then
    start = time.parse(time.format(time.add(start, ("-%dd"):format(civil.weekday - 1), zone), "yyyy-MM-dd", zone), zone)
  end
  return start, time.add(start, LENGTH[spec.at], zone) - 0.001
end

local function ms(seconds) return math.floor(seconds * 1000 + 0.5) end

local function wait_for_flow(ctx, spec)
  local wait = { kind = "flow", flow = spec.flow, node = spec.node, previous = spec.previous, every = spec.every,
    deadline_ms = deadline_of(ctx, spec), fail_fast = spec.fail_fast, all = spec.all }
  if spec.previous then
    wait.flow = ctx.flow
  else
    local from, to = period(ctx, spec)
    wait.from_ms, wait.to_ms = ms(from), ms(to)
    ctx:log("info", "%s of '%s' scheduled from %s to %s %s awaited", spec.all and "all runs" or "a run", spec.flow,
      time.iso(from, ctx.timezone), time.iso(to, ctx.timezone), spec.all and "are" or "is")
  end
  return { wait = wait }
end

-- ---- looks of our own: each returns nil or the outputs, and what is missing ----

local look = {}

function look.object(ctx, spec)
  local connection, path = locations.split(spec.object)
  if not connection then errors.usage(("'%s': %s"):format(spec.object, path)) end
  local store <close> = ctx:store(connection)
  if not path:find "/$" then
    local info = store:head(path)
    return info and { size = info.size, etag = info.etag }, ("no object %s yet"):format(spec.object)
  end
  local entry = store:list { prefix = path, page_size = 1 }()
  if entry then return { size = entry.size, etag = entry.etag } end
  return nil, ("no object below %s yet"):format(spec.object)
end

function look.extracted(ctx, spec)
  local store <close>, prefix = ctx:location(spec.extracted)
  local id = manifest.newest(store, prefix)
  local m = id and manifest.open(store, prefix, spec.extracted, id)
  return m and { manifest = m.id, rows = m.rows }, ("nothing has been extracted to %s yet"):format(spec.extracted)
end

-- Whether the value of a query means true.
local function is_true(value)
  if value == nil or value == pg.null then return false end
  if type(value) == "boolean" then return value end
  if tonumber(value) then return tonumber(value) ~= 0 end
  errors.usage(("the query's value '%s' is neither true or false nor a number"):format(tostring(value):sub(1, 60)),
    "let it be a condition or a count: SELECT count(*) FROM ...")
end

local function text_of(value)
  if value == nil or value == pg.null then return "NULL" end
  return tostring(value)
end

function look.query(ctx, spec)
  local conn <close> = ctx:postgres(spec.on, { read_only = true })
  local value = conn:value(spec.query)
  return is_true(value) and { value = text_of(value) } or nil,
    ("the query says %s"):format(value == nil and "nothing: it returns no row" or text_of(value))
end

function look.table(ctx, spec)
  local conn <close> = ctx:postgres(spec.on, { read_only = true, timezone = ctx.timezone })
  local found = conn:value(("SELECT EXISTS (SELECT 1 FROM %s WHERE %s > %s)"):format(spec.table,
    pg.quote_ident(spec.column), pg.quote_literal(spec.newer_than)))
  return found and {} or nil, ("no row of %s has a %s after %s yet"):format(spec.table, spec.column, spec.newer_than)
end

---@param ctx tidemill.Context
---@param spec table  the node's fields, variables filled in
return function(ctx, spec)
  if not look[spec.what] then return wait_for_flow(ctx, spec) end
  local deadline = deadline_of(ctx, spec)
  local outputs, missing = look[spec.what](ctx, spec)
  if not outputs then
    return { wait = { kind = "probe", every = spec.every, deadline_ms = deadline, reason = missing } }
  end
  for name, value in pairs(outputs) do ctx:output(name, value) end
end
