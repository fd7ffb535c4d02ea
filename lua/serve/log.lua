--- What `tidemill serve` writes on standard error: one line for each thing that happens.
---
--- As JSON: {"at": "2026-01-02T03:04:05.678Z", "level": "info", "event": "slot", "flow": ...},
--- `at` and `level` and `event` first, then what applies, always in one order:
---
---     event     start | next | ready | slot | set aside | clock | run | node | reaped | lease | note | drain | stop
---     flow run cause scheduled version node attempt state reason error ...
---
--- Plain, for people: time, level, event, the subject, then the rest as key=value. What nodes print
--- and how far they are is in the store (`tidemill logs`), not here.

local json = require "json"
local text = require "tidemill.text"
local time = require "time"

local log = {}
local Log = { __name = "tidemill.serve.log" }
Log.__index = Log

local KEYS = { "flow", "run", "node", "attempt", "cause", "state", "slot", "scheduled", "version_no", "count", "reason",
  "message", "error", "hint", "runner", "host", "pid", "jobs", "store", "listen", "lease_ms", "drain_ms", "published",
  "next", "schedule", "rows", "bytes", "elapsed_ms", "late_ms", "runs", "behind_ms", "version" }

--- Makes a log.
---@param options {plain: boolean?, wall: fun(): integer, write: fun(line: string)}
function log.new(options)
  return setmetatable({ plain = options.plain, wall = options.wall, write = options.write }, Log)
end

--- An instant: "2026-01-02T03:04:05.678Z".
---@param ms integer
---@return string
function log.stamp(ms)
  return time.format(ms / 1000, "yyyy-MM-dd'T'HH:mm:ss.SSS") .. "Z"
end

local function as_json(at, level, event, fields)
  local out = { ('{"at":"%s","level":"%s","event":%s'):format(at, level, json.encode(event)) }
  for _, key in ipairs(KEYS) do
    if fields[key] ~= nil then out[#out + 1] = (",%q:%s"):format(key, json.encode(text.clean_all(fields[key]))) end
  end
  return table.concat(out) .. "}\n"
end

local function word(value)
  if type(value) == "table" then return json.encode(text.clean_all(value)) end
  value = text.clean(tostring(value)):gsub("%c", " ")
  return value:find "[%s\"=]" and ("%q"):format(value) or value
end

local function as_text(at, level, event, fields)
  local out = { ("%s %-5s %s"):format(at, level, event) }
  for _, key in ipairs(KEYS) do
    if fields[key] ~= nil then out[#out + 1] = key .. "=" .. word(fields[key]) end
  end
  return table.concat(out, " ") .. "\n"
end

--- Writes a line.
---@param level "info"|"warn"|"error"
---@param event string
---@param fields? table  of KEYS; others are left out
function Log:line(level, event, fields)
  self.write((self.plain and as_text or as_json)(log.stamp(self.wall()), level, event, fields or {}))
end

--- An error in fields: message, and what advises.
---@param err table
---@param fields? table
---@return table
function log.error_fields(err, fields)
  fields = fields or {}
  fields.error, fields.hint = tostring(err.message or err), err.hint
  return fields
end

return log
