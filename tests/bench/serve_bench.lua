--- Scheduling by `tidemill serve`: what the benchmark of scheduling measures, and one figure a line.
---
---     tidemill exec serve_bench.lua DIR STATE due|idle|rate [FLOWS]
---
--- DIR is emptied; STATE is sqlite or a PostgreSQL URI, whose schema "tidemill" is dropped. One
--- `serve` with default settings does the work, on its own process; this one only publishes and
--- looks.
---
---     due   1,000 flows due at one instant: last_claimed_s, last_ended_s, rss_mib
---     idle  10,000 published flows of which none is due: cpu_percent of a core, rss_mib
---     rate  FLOWS of two nodes, each due every second, spread over it, for 20 s: p50_ms and p99_ms
---           from slot to the start of the first node, p99_end_ms to the end of the run; "inf" when
---           runs are still waiting 2 s after the last of those that count

local document = require "tidemill.document"
local launch = require "tidemill.launch"
local proc = require "proc"
local signal = require "tidemill.signal"
local state = require "tidemill.state"
local time = require "time"

local dir, where, what = arg[1], arg[2], arg[3]
proc.run { cmd = { "rm", "-rf", dir }, check = true }
proc.run { cmd = { "mkdir", "-p", dir }, check = true }
dir = proc.run({ cmd = { "readlink", "-f", dir }, check = true }).stdout:gsub("\n$", "")
local url = where == "sqlite" and "sqlite:" .. dir .. "/state.db" or where
if where ~= "sqlite" then
  local conn <close> = require("pg").connect(where)
  conn:exec "DROP SCHEMA IF EXISTS tidemill CASCADE"
end

local function write(file, text)
  local f <close> = assert(io.open(dir .. "/" .. file, "w"))
  f:write(text)
end

write("tidemill.lua", ("return { state = %q }\n"):format(url))
local store = state.open(url)

local function publish(name, schedule, nodes)
  local file = dir .. "/f.lua"
  write("f.lua", ('local flow = require "flow"\nreturn flow %q { schedule = %s, concurrency = "parallel",\n%s\n}\n')
    :format(name, schedule, nodes))
  local model = launch.load(file)
  local doc, sources = document.of(model), document.sources(model)
  store:publish { flow = model.name, hash = document.hash(doc, sources), document = doc, sources = sources, by = "bench",
    scheduled = true }
end

local ONE = 'flow.lua "a" { run = function() end },'
local TWO = ONE .. '\nflow.lua "b" { after = "a", run = function() end },'

local function serve()
  local child = proc.spawn { cmd = { "/proc/self/exe", "serve", "--listen", "none" }, cwd = dir, stderr = "null" }
  local deadline = signal.mono() + 20000
  while #store:runners() == 0 do
    assert(signal.mono() < deadline and not child:wait(0), "serve does not start")
    time.sleep(0.05)
  end
  return child
end

local function status(pid, field)
  for line in io.lines(("/proc/%d/status"):format(pid)) do
    local n = line:match("^" .. field .. ":%s*(%d+)")
    if n then return tonumber(n) / 1024 end
  end
end

local function cpu_ticks(pid)
  local f <close> = assert(io.open(("/proc/%d/stat"):format(pid)))
  local user, system = f:read("a"):match("%) " .. ("%S+ "):rep(11) .. "(%d+) (%d+)")
  return tonumber(user) + tonumber(system)
end

local function print_figure(name, value)
  print((value >= 1000 and value < math.huge and "%s %.0f" or "%s %.3g"):format(name, value))
end

local function at(seconds)
  return time.format(seconds, "yyyy-MM-dd HH:mm:ss")
end

local figures = {}

function figures.due()
  local due = math.floor(time.now()) + 15
  store.db:transaction(function()
    for i = 1, 1000 do publish("flow " .. i, ('{ at = "%s" }'):format(at(due)), ONE) end
  end)
  assert(time.now() < due - 1, "publishing took too long")
  local child <close> = serve()
  local deadline = signal.mono() + 120000
  repeat
    time.sleep(0.5)
    local ended = store.db:row("SELECT count(*) AS n FROM runs WHERE state = 'success'").n
    assert(signal.mono() < deadline, "runs do not end")
  until ended == 1000
  local row = store.db:row "SELECT count(*) AS n, max(claimed_at) AS claimed, max(ended_at) AS ended FROM runs"
  assert(row.n == 1000)
  print_figure("last_claimed_s", row.claimed / 1000 - due)
  print_figure("last_ended_s", row.ended / 1000 - due)
  print_figure("rss_mib", status(child:pid(), "VmHWM"))
end

function figures.idle()
  store.db:transaction(function()
    for i = 1, 10000 do
      publish("flow " .. i, ('{ cron = "%d %d %d %d %d ?" }'):format(i % 60, i % 59, i % 24, 1 + i % 28, 1 + i % 12), ONE)
    end
  end)
  local now = store:now() -- none of them may be due meanwhile
  store.db:exec("UPDATE flows SET next_at = next_at + 86400000 WHERE next_at < ?", now + 600000)
  local child <close> = serve()
  time.sleep(3)
  local before, began = cpu_ticks(child:pid()), signal.mono()
  time.sleep(30)
  print_figure("cpu_percent", (cpu_ticks(child:pid()) - before) * 10 / (signal.mono() - began) * 100)
  print_figure("rss_mib", status(child:pid(), "VmRSS"))
end

local function percentile(sorted, p)
  return sorted[math.max(1, math.ceil(#sorted * p))]
end

function figures.rate()
  local count = assert(tonumber(arg[4]), "how many flows?")
  for i = 0, count - 1 do -- spread over the second, as what arrives from outside would be
    publish("flow " .. i, ('{ every = "1s", from = "2026-01-01 00:00:00.%03d" }'):format(i * 1000 // count), TWO)
  end
  local child <close> = serve()
  time.sleep(22)
  child:kill "TERM"
  assert(child:wait(40), "serve does not end")
  local starts, ends = {}, {}
  local first = store.db:row("SELECT min(slot_at) AS at FROM slots").at
  for _, row in ipairs(store.db:query([[SELECT r.slot_at, r.ended_at, (SELECT min(started_at) FROM attempts a
    WHERE a.run_id = r.id) AS started FROM runs r WHERE r.slot_at >= ? AND r.slot_at < ?]], first + 2000,
    first + 18000)) do
    starts[#starts + 1] = (row.started or math.huge) - row.slot_at
    ends[#ends + 1] = (row.ended_at or math.huge) - row.slot_at
  end
  table.sort(starts)
  table.sort(ends)
  print_figure("runs_a_minute", #starts / 16 * 60)
  print_figure("p50_ms", percentile(starts, 0.5))
  print_figure("p99_ms", percentile(starts, 0.99))
  print_figure("p99_end_ms", percentile(ends, 0.99))
end

figures[what]()
store:close()
