--- The text of /metrics: OpenMetrics 1.0.
---
--- Gauges of runs come from the store, so every `serve` on it shows the same; counters and the
--- histogram are of this process since its start: sum them over the processes.

local metrics = {}
local Metrics = { __name = "tidemill.serve.metrics" }
Metrics.__index = Metrics

metrics.CONTENT_TYPE = "application/openmetrics-text; version=1.0.0; charset=utf-8"

local BUCKETS = { 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 300, 3600 }
local SLOT_STATES = { "run", "skipped", "missed", "superseded" }
local RUN_ENDS = { "success", "failed", "canceled" }
local RUN_STATES = { "queued", "running", "paused" }

--- Makes counters that are all zero.
---@param about {version: string, started_ms: integer}
function metrics.new(about)
  local self = { about = about, slots = {}, ends = {}, attempts = 0, buckets = {}, started = 0, started_s = 0.0 }
  for _, state in ipairs(SLOT_STATES) do self.slots[state] = 0 end
  for _, state in ipairs(RUN_ENDS) do self.ends[state] = 0 end
  for i = 1, #BUCKETS do self.buckets[i] = 0 end
  return setmetatable(self, Metrics)
end

--- Slots decided.
function Metrics:slot(state, count) self.slots[state] = (self.slots[state] or 0) + count end

--- A run ended.
function Metrics:run_ended(state) self.ends[state] = (self.ends[state] or 0) + 1 end

--- An attempt started.
function Metrics:attempt_started() self.attempts = self.attempts + 1 end

--- A scheduled run was claimed so long after its slot.
function Metrics:run_started(late_ms)
  local seconds = math.max(late_ms, 0) / 1000
  self.started, self.started_s = self.started + 1, self.started_s + seconds
  for i, bound in ipairs(BUCKETS) do
    if seconds <= bound then self.buckets[i] = self.buckets[i] + 1 end
  end
end

--- Memory and CPU of this process; nil where /proc has nothing.
---@return integer? rss_bytes, number? cpu_s
function metrics.process()
  local rss, cpu
  for line in io.lines "/proc/self/status" do
    rss = rss or tonumber(line:match "^VmRSS:%s*(%d+) kB")
  end
  local f <close> = io.open "/proc/self/stat"
  local fields = f and f:read("a"):match "^.*%) (.*)$"
  if fields then -- utime and stime, in ticks of 10 ms
    local user, system = fields:match("^" .. ("%S+ "):rep(11) .. "(%d+) (%d+)")
    cpu = user and (tonumber(user) + tonumber(system)) / 100
  end
  return rss and math.tointeger(rss) * 1024, cpu
end

local function number(value)
  return math.type(value) == "integer" and ("%d"):format(value) or ("%.14g"):format(value)
end

-- The bound of a bucket, as OpenMetrics wants it: "1.0", not "1".
local function bound_text(bound)
  local text = number(bound)
  return text:find "[.e]" and text or text .. ".0"
end

local function family(out, name, kind, unit, help)
  out[#out + 1] = ("# TYPE %s %s"):format(name, kind)
  if unit then out[#out + 1] = ("# UNIT %s %s"):format(name, unit) end
  out[#out + 1] = ("# HELP %s %s"):format(name, help)
end

local function sample(out, name, value, label, content)
  out[#out + 1] = label and ('%s{%s="%s"} %s'):format(name, label, content, number(value))
    or ("%s %s"):format(name, number(value))
end

local function gauge(out, name, unit, help, value)
  if not value then return end
  family(out, name, "gauge", unit, help)
  sample(out, name, value)
end

local function by_state(out, name, kind, help, states, values)
  family(out, name, kind, nil, help)
  for _, state in ipairs(states) do
    sample(out, kind == "counter" and name .. "_total" or name, values[state] or 0, "state", state)
  end
end

local function histogram(self, out)
  local name = "tidemill_slot_to_start_seconds"
  family(out, name, "histogram", "seconds", "Time from the slot of a scheduled run to its start, by this process.")
  for i, bound in ipairs(BUCKETS) do sample(out, name .. "_bucket", self.buckets[i], "le", bound_text(bound)) end
  sample(out, name .. "_bucket", self.started, "le", "+Inf")
  sample(out, name .. "_count", self.started)
  sample(out, name .. "_sum", self.started_s)
end

---@class tidemill.MetricsNow
---@field runs table<string, integer>  by state: queued, running, paused; of the whole store
---@field oldest_ms? integer           how long the oldest queued run has waited
---@field flows integer                with a schedule
---@field paused_flows integer
---@field attempts integer             running in this process
---@field jobs integer
---@field lease_age_ms integer
---@field healthy boolean

--- The text.
---@param now tidemill.MetricsNow
---@return string
function Metrics:text(now)
  local out = {}
  family(out, "tidemill_build", "info", nil, "Version of this process.")
  sample(out, "tidemill_build_info", 1, "version", self.about.version)
  by_state(out, "tidemill_runs", "gauge", "Runs that have not ended, in the whole store.", RUN_STATES, now.runs)
  gauge(out, "tidemill_queue_oldest_seconds", "seconds", "Age of the oldest queued run.", (now.oldest_ms or 0) / 1000)
  gauge(out, "tidemill_flows_scheduled", nil, "Published flows with a schedule.", now.flows)
  gauge(out, "tidemill_flows_paused", nil, "Of those, paused ones.", now.paused_flows)
  gauge(out, "tidemill_attempts_running", nil, "Node attempts that run in this process.", now.attempts)
  gauge(out, "tidemill_jobs", nil, "Most attempts at once in this process.", now.jobs)
  family(out, "tidemill_attempts_started", "counter", nil, "Node attempts started by this process.")
  sample(out, "tidemill_attempts_started_total", self.attempts)
  by_state(out, "tidemill_runs_ended", "counter", "Runs that ended in this process.", RUN_ENDS, self.ends)
  by_state(out, "tidemill_slots", "counter", "Firing times decided by this process.", SLOT_STATES, self.slots)
  histogram(self, out)
  gauge(out, "tidemill_lease_age_seconds", "seconds", "Time since the lease was renewed.", now.lease_age_ms / 1000)
  gauge(out, "tidemill_up", nil, "1 while the lease is held and the process takes new runs.", now.healthy and 1 or 0)
  local rss, cpu = metrics.process()
  gauge(out, "process_resident_memory_bytes", "bytes", "Resident memory.", rss)
  if cpu then
    family(out, "process_cpu_seconds", "counter", "seconds", "CPU time of this process, without its children.")
    sample(out, "process_cpu_seconds_total", cpu)
  end
  gauge(out, "process_start_time_seconds", "seconds", "When this process started, since 1970.",
    self.about.started_ms / 1000)
  out[#out + 1] = "# EOF\n"
  return table.concat(out, "\n")
end

return metrics
