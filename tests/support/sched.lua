--- Published flows in a store under a clock of our own, for tests of scheduling.
---
---     local w <close> = sched.new("sqlite", "2026-03-10 12:00")    -- or "postgres": needs pg
---     w:publish("hourly", { kind = "every", every_s = 3600, anchor_ms = 0 }, { concurrency = "skip" })
---     w:step()                          -- one step of a scheduler, at w.now
---     w:slots "hourly"                  -- "12:00 run, 13:00 skipped"

local json = require "json"
local pg = require "pg"
local scheduler = require "tidemill.scheduler"
local state = require "tidemill.state"
local time = require "time"

local sched = {}
local World = {}
World.__index = World

local serial = 0

function sched.ms(text, zone) return math.floor(time.parse(text, zone) * 1000) end

--- A fresh store of a kind: its URL, and what removes it.
function sched.fresh(kind)
  serial = serial + 1
  local name = ("sched_%s_%d"):format(tostring(require("tidemill.signal").pid()), serial)
  if kind == "sqlite" then
    local path = ("%s/%s.db"):format(os.getenv "TM_TMP" or "build/tmp", name)
    return "sqlite:" .. path, function()
      for _, tail in ipairs { "", "-wal", "-shm" } do os.remove(path .. tail) end
    end
  end
  local server = assert(os.getenv "TM_PG", "TM_PG is not set")
  local admin <close> = pg.connect(server)
  admin:exec("DROP DATABASE IF EXISTS " .. name .. " WITH (FORCE)")
  admin:exec("CREATE DATABASE " .. name)
  local function remove()
    local again <close> = pg.connect(server)
    again:exec("DROP DATABASE IF EXISTS " .. name .. " WITH (FORCE)")
  end
  return (server:gsub("/[^/]*$", "/" .. name)), remove
end

--- Makes a world; close removes its store.
function sched.new(kind, now, options)
  local world = setmetatable({ now = type(now) == "string" and sched.ms(now) or now, kind = kind, fired = {} }, World)
  world.url, world.remove = sched.fresh(kind)
  world.store = world:open()
  world.scheduler = world:another(options)
  return world
end

--- Another connection to its store.
function World:open()
  return state.open(self.url, { clock = function() return self.now end })
end

--- Another scheduler, on the same connection or on another store.
function World:another(options)
  options = options or {}
  return scheduler.new { store = options.store or self.store, grace_ms = options.grace_ms,
    emit = function(event) self.fired[#self.fired + 1] = event end }
end

function World:close()
  self.store:close()
  self.remove()
end
World.__close = World.close

--- Publishes a version of a flow as `tidemill publish` does, as far as scheduling goes.
function World:publish(flow, schedule, policy, nodes)
  return sched.publish(self.store, flow, schedule, policy, nodes)
end

function sched.publish(store, flow, schedule, policy, nodes)
  nodes = nodes or { { name = "a", kind = "lua", after = {} } }
  local document = { format = 1, flow = flow, file = flow .. ".lua", timezone = (policy or {}).timezone or "UTC",
    on_error = (policy or {}).on_error, schedule = schedule, nodes = nodes, hooks = {}, params = {} }
  local hash = require("tidemill.sign").sha256(json.encode(document))
  local now = store:now()
  store.db:transaction(function()
    store:save_source(hash, document, {})
    local row = store.db:row("SELECT max(number) AS n FROM versions WHERE flow = ?", flow)
    local number = (row.n or 0) + 1
    store.db:exec([[INSERT INTO versions (flow, number, hash, published_at, published_by) VALUES (?, ?, ?, ?, 'test')]],
      flow, number, hash, now)
    store.db:exec("DELETE FROM flows WHERE flow = ?", flow)
    store.db:exec([[INSERT INTO flows (flow, file, version_no, hash, schedule, policy, published_at, cursor_at, next_at,
      changed) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, 0)]], flow, flow .. ".lua", number, hash, json.encode(schedule),
      json.encode(policy or {}), now, now, schedule.kind ~= "event" and now or nil)
    store:touch()
  end)
end

--- Sets the clock.
function World:at(text)
  self.now = type(text) == "string" and sched.ms(text) or text
end

--- Steps until nothing is due.
function World:step(one)
  one = one or self.scheduler
  repeat
    one:poke()
    local at = one:step(self.now)
  until at > self.now
end

--- Claims and ends what may run: each run a success, in the order of claims. Returns their ids.
function World:run_all(result)
  local store, done = self.store, {}
  local me = store:register_runner { kind = "serve", lease_ms = 15000 }
  while true do
    local runs = store:claim_runs { runner = me, limit = 100 }
    if #runs == 0 then break end
    for _, run in ipairs(runs) do
      store:end_run(run.id, result or { state = "success" })
      done[#done + 1] = run.id
    end
  end
  store:leave(me)
  return done
end

--- The ledger of a flow, oldest first: "12:00 run, 13:00 skipped x5".
function World:slots(flow, format)
  local out = {}
  for i, row in ipairs(self.store.db:query("SELECT * FROM slots WHERE flow = ? ORDER BY slot_at", flow)) do
    out[i] = ("%s %s%s"):format(time.format(row.slot_at / 1000, format or "HH:mm"), row.state,
      row.slot_count > 1 and " x" .. row.slot_count or "")
  end
  return table.concat(out, ", ")
end

--- The runs of a flow by scheduled time: "12:00 queued".
function World:runs(flow, format)
  local out = {}
  for i, row in ipairs(self.store.db:query("SELECT * FROM runs WHERE flow = ? ORDER BY scheduled_at, id", flow)) do
    out[i] = ("%s %s"):format(time.format(row.scheduled_at / 1000, format or "HH:mm"), row.state)
  end
  return table.concat(out, ", ")
end

--- One row.
function World:row(sql, ...) return self.store.db:row(sql, ...) end

return sched
