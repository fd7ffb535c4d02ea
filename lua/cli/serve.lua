--- `tidemill serve`: the scheduled runner.

local errors = require "tidemill.errors"

local LISTEN = "127.0.0.1:9187"

local function duration(name, text, least_s)
  local seconds = require("tidemill.units").duration(text)
  if not seconds or seconds < least_s then
    errors.usage(("serve: --%s wants a time such as \"30s\"%s, got '%s'"):format(name,
      least_s > 0 and (" of at least %d s"):format(least_s) or "", text))
  end
  return math.floor(seconds * 1000)
end

local function address(text)
  if text == "none" then return nil end
  local word = text or LISTEN
  local host, port = word:match "^%[?([^%[%]]+)%]?:(%d+)$"
  port = math.tointeger(port)
  if not port or port > 65535 then
    errors.usage(("serve: --listen wants HOST:PORT or none, got '%s'"):format(text))
  end
  return { host = host, port = port, optional = text == nil }
end

local function open_project()
  local project = require "tidemill.project"
  if not project.find() then
    errors.usage("serve: there is no tidemill.lua in this folder or above it",
      "serve runs the flows of one project: change to its folder, or write a tidemill.lua there")
  end
  return project.open()
end

local function run(opts)
  local lease_ms, drain_ms = duration("lease", opts.lease, 2), duration("drain", opts.drain, 0)
  local grace_ms = opts.grace and duration("grace", opts.grace, 0)
  local listen = address(opts.listen)
  local project = open_project()
  local launch = require "tidemill.launch"
  local kind, where = project:state()
  local store <close> = launch.store(project, true)
  require("tidemill.serve").run { project = project, store = store, jobs = opts.jobs or launch.default_jobs(),
    memory = opts.memory,
    lease_ms = lease_ms, drain_ms = drain_ms, grace_ms = grace_ms, listen = listen, name = opts.name,
    plain = opts.plain, store_name = kind == "sqlite" and where or "postgres" }
  return 0
end

return {
  name = "serve",
  summary = "the scheduled runner: fires schedules, runs what is due",
  about = [[
Fires the schedules of published flows, starts their nodes, retries, catches up by policy after
being down, and takes over what another serve left. It runs until SIGTERM or SIGINT. Several may
share one state store, on one host or on many.

The state store is that of the project (tidemill.lua) in the working directory or above it. Flow files
are not read: what runs is what was published.

On the first signal nothing more starts; nodes that run may finish within --drain, then they are
cancelled, and unfinished runs are handed back to go on in another serve or the next one. A
second signal, half a second later or more, kills the nodes. What happens is written to standard
error, a JSON object a line.]],
  options = {
    { name = "jobs", short = "j", value = "N", type = "integer", min = 1, max = 1000,
      help = "at most N nodes at once (default: the number of cores, at least 2)" },
    { name = "memory", value = "SIZE", type = "size",
      help = "what each node's process may use to move rows (default 96M)" },
    { name = "drain", value = "TIME", default = "30s", help = "how long nodes may go on after a signal" },
    { name = "lease", value = "TIME", default = "15s",
      help = "another serve takes over when this one has given no sign of life for so long" },
    { name = "grace", value = "TIME", help = "how late a firing may be and still be in time (default 60s); later ones "
      .. "are missed, and the flow's policy says what becomes of them" },
    { name = "listen", value = "ADDRESS",
      help = "HOST:PORT of /metrics and /healthz, or none (default " .. LISTEN .. ", without it if that is taken)" },
    { name = "name", value = "NAME", help = "the runner's name in the records (default: the host's)" },
    { name = "plain", help = "write lines for people instead of JSON" },
  },
  run = run,
}
