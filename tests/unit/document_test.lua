--- tidemill.document and tidemill.fingerprint: a flow as data, and what counts as a change.

local check = require "tidemill.check"
local desk = require "tests.support.desk"
local document = require "tidemill.document"
local fingerprint = require "tidemill.fingerprint"
local json = require "json"
local lu = require "luaunit"
local time = require "time"

local d

TestDocument = {}

function TestDocument.setUp()
  d = desk.new "document"
  d:project()
end
function TestDocument.tearDown() d:close() end

local function model_of(body, file) return check.flow(d:flow(file or "m.lua", body)) end

local function hashes(made)
  local by_name = {}
  for _, node in ipairs(made.nodes) do by_name[node.name] = node.hash end
  return by_name
end

local function ms(text, zone) return math.floor(time.parse(text, zone) * 1000) end

local FULL = [[
  schedule = { cron = "0 30 1 * * ?", timezone = "Asia/Shanghai", from = "2026-01-01", to = "2026-06-30" },
  missed = { "all", window = "3d" }, on_error = "stop", concurrency = "queue", priority = 8, deadline = "90m",
  params = { region = "eu", day = { default = flow.time "yyyy-MM-dd" }, limit = { type = "integer", description = "rows" } },
  vars = { v = flow.time("yyyy", "+1d"), w = "x" }, constants = { c = 1.5 },
  on_failure = { { email = { "a@b" }, subject = "s" }, { shell = "true" } },
  flow.sql "second" { on = "rds", sql = "x", after = "first", retries = 2, timeout = 60, max_wait = "5m",
    deadline = 600, exactly_once = true, trigger = "all_done", allow_failure = true, pool = nil, priority = 10 },
  flow.extract "first" { from = "rds", table = "t", to = "lake:a/" },
  flow.load "third" { from = "lake:a/", on = "${c}dw", into = "t", after = { "first", "second" } },]]

function TestDocument.test_it_holds_all_that_runner_and_scheduler_need()
  local body = FULL:gsub('schedule = %b{},', ""):gsub("${c}", "adbp") -- a param without default needs no schedule
    :gsub("adbpdw", "adbpg")
  local made = document.of(model_of(body))
  lu.assertEquals({ made.format, made.flow, made.on_error, made.concurrency, made.priority, made.deadline_s },
    { 1, "f", "stop", "queue", 8, 5400 })
  lu.assertEquals(made.missed, { policy = "all", window_s = 259200 })
  lu.assertEquals(made.params, { region = { type = "text", default = "eu" }, day = { type = "date", time = "yyyy-MM-dd" },
    limit = { type = "integer", description = "rows" } })
  lu.assertEquals(made.vars, { v = { time = "yyyy|+1d" }, w = "x" })
  lu.assertEquals(made.constants, { c = "1.5" })
  lu.assertEquals(made.settable, { "c", "v", "w" })
  lu.assertEquals(made.hooks, { on_success = {}, on_late = {},
    on_failure = { { email = { "a@b" }, subject = "s" }, { shell = "true" } } })
  local names = {}
  for i, node in ipairs(made.nodes) do names[i] = node.name end
  lu.assertEquals(names, { "first", "second", "third" })
  local second = made.nodes[2]
  second.hash = nil
  lu.assertEquals(second, { name = "second", kind = "sql", after = { "first" }, line = 8, retries = 2, retry_delay = 10,
    backoff = 2, timeout = 60, max_wait = 300, deadline = 600, priority = 10, pool = "rds", allow_failure = true, trigger = "all_done",
    exactly_once = true })
  lu.assertEquals({ made.nodes[1].exactly_once, made.nodes[1].pool }, { false, "rds" })
  lu.assertEquals({ made.nodes[3].exactly_once, made.nodes[3].pool }, { true, "adbpg" })
end

function TestDocument.test_it_goes_through_json_unchanged()
  d:flow("sub.lua", 'flow.sql "x" { on = "rds", sql = "x" },')
  local model = model_of [[
    schedule = { every = "90s" }, flow.lua "n" { run = function() end, backoff = 2.0, retry_delay = 0.5 },
    tags = {}, params = { a = 1 }, flow.subflow "s" { file = "sub.lua", after = "n" },]]
  local made, sources = document.of(model), document.sources(model)
  local hash = document.hash(made, sources)
  local again, sources_again = json.decode(json.encode(made)), json.decode(json.encode(sources))
  lu.assertEquals(again, made)
  lu.assertEquals(document.hash(again, sources_again), hash)
  lu.assertEquals(#hash, 64)
  lu.assertEquals(json.encode(again.tags), "[]")
  lu.assertEquals(json.encode(again.nodes[1].after), "[]")
end

function TestDocument.test_schedules_are_instants()
  local function schedule(text) return document.of(model_of(text .. ' flow.sql "a" { on = "rds", sql = "x" },')).schedule end
  lu.assertNil(schedule "")
  lu.assertNil(schedule 'schedule = { timezone = "Asia/Shanghai" },')
  lu.assertEquals(schedule 'schedule = { cron = "0 0 1 * * ?", timezone = "Asia/Shanghai", from = "2026-01-01", to = "2026-01-31" },',
    { kind = "cron", cron = "0 0 1 * * ?", timezone = "Asia/Shanghai", dst = "once",
      from_ms = ms("2026-01-01", "Asia/Shanghai"), to_ms = ms("2026-02-01", "Asia/Shanghai") - 1 })
  lu.assertEquals(schedule 'schedule = { cron = "0 1 * * *", dst = "each", to = "2026-01-31 18:00:00" },',
    { kind = "cron", cron = "0 1 * * *", timezone = "UTC", dst = "each", to_ms = ms "2026-01-31 18:00:00" })
  lu.assertEquals(schedule 'schedule = { every = "15m", timezone = "Asia/Shanghai" },',
    { kind = "every", every_s = 900, anchor_ms = -8 * 3600000, timezone = "Asia/Shanghai" })
  lu.assertEquals(schedule 'schedule = { every = "1d", from = "2026-01-01 02:30" },',
    { kind = "every", every_s = 86400, anchor_ms = ms "2026-01-01 02:30", from_ms = ms "2026-01-01 02:30", timezone = "UTC" })
  lu.assertEquals(schedule 'schedule = { at = "2026-01-02 03:04:05", timezone = "+08:00" },',
    { kind = "once", at_ms = ms("2026-01-02 03:04:05", "+08:00"), timezone = "+08:00" })
  lu.assertEquals(schedule 'schedule = { after = { "A", "B/n 1", { flow = "x/y", node = "z" } }, timeout = "2h", trial = false },',
    { kind = "event", after = { { flow = "A" }, { flow = "B", node = "n 1" }, { flow = "x/y", node = "z" } }, timeout_s = 7200,
      trial = false, timezone = "UTC" })
  lu.assertEquals(schedule 'schedule = { after = "A" },', { kind = "event", after = { { flow = "A" } }, trial = true,
    timezone = "UTC" })
end

function TestDocument.test_only_the_nodes_that_changed_have_another_hash()
  local function body(a, b, settings)
    return ([[%s
      flow.sql "a" { on = "rds", sql = "%s" },
      flow.sql "b" { on = "rds", sql = "x", after = "a", %s },]]):format(settings or "", a, b)
  end
  local first = hashes(document.of(model_of(body("x", ""))))
  lu.assertEquals(hashes(document.of(model_of("\n\n" .. body("x", "")))), first)
  local function changed(text)
    local now, names = hashes(document.of(model_of(text))), {}
    for name, hash in pairs(first) do
      if now[name] ~= hash then names[#names + 1] = name end
    end
    table.sort(names)
    return table.concat(names, " ")
  end
  lu.assertEquals(changed(body("y", "")), "a")
  for _, field in ipairs { "retries = 1", "timeout = 5", "when = '${bizdate} > 1'", "vars = { z = '1' }",
    "vars = { z = flow.time 'yyyy' }", "pool = 'p'", "allow_failure = true", "priority = 6", "trigger = 'all_done'",
    "transaction = false", "exactly_once = true" } do
    d:write("tidemill.lua", 'return { connections = { rds = { postgres = "service=x" } }, pools = { p = 1 } }')
    lu.assertEquals(changed(body("x", field)), "b", field)
  end
  lu.assertEquals(changed(body("x", "description = 'words'")), "")
end

function TestDocument.test_conditions_and_times_are_hashed_by_what_they_say()
  local function hash(field) return document.of(model_of('flow.sql "a" { on = "rds", sql = "x", ' .. field .. " },")).nodes[1].hash end
  lu.assertEquals(hash "when = '${bizdate} > 1'", hash "when = { '${bizdate} > 1' }")
  lu.assertNotEquals(hash "when = '${bizdate} > 1'", hash "when = '${bizdate} > 2'")
  lu.assertEquals(hash "vars = { z = flow.time('yyyy', '+1d') }", hash "vars = { z = flow.time 'yyyy|+1d' }")
  lu.assertNotEquals(hash "vars = { z = flow.time 'yyyy' }", hash "vars = { z = 'yyyy' }")
end

function TestDocument.test_a_version_changes_with_every_file_and_setting()
  local function version(files, settings)
    for name, text in pairs(files or {}) do d:write(name, text) end
    local model = model_of((settings or "") .. [[
      flow.lua "a" { run = function() return require("helper").x end },
      flow.subflow "s" { file = "sub.lua" },]])
    return document.hash(document.of(model), document.sources(model))
  end
  local sub = 'local flow = require "flow"\nreturn flow "sub" { flow.lua "x" { run = function() return %d end } }'
  local first = version { ["helper.lua"] = "return { x = 1 }", ["sub.lua"] = sub:format(1) }
  lu.assertEquals(version(), first)
  lu.assertNotEquals(version { ["helper.lua"] = "return { x = 2 }" }, first)
  lu.assertEquals(version { ["helper.lua"] = "return { x = 1 }" }, first)
  lu.assertNotEquals(version { ["sub.lua"] = sub:format(2) }, first)
  lu.assertNotEquals(version({ ["sub.lua"] = sub:format(1) }, "priority = 6,"), first)
  d:write("tidemill.lua", 'return { timezone = "Asia/Shanghai" }')
  lu.assertNotEquals(version(), first) -- the zone of its time variables
end

function TestDocument.test_sources_hold_the_files_of_file_subflows()
  d:write("part/sub.lua", 'local flow = require "flow"\nreturn flow "sub" { flow.lua "x" { run = require "h" } }')
  d:write("part/h.lua", "return function() end -- \xff")
  local model = model_of [[flow.subflow "a" { file = "part/sub.lua" }, flow.subflow "b" { file = "part/sub.lua", after = "a" },]]
  local sources = document.sources(model)
  local sub = sources.subflows["part/sub.lua"]
  lu.assertEquals(sub.document.flow, "sub")
  lu.assertEquals(sub.hash, document.hash(sub.document, sub.sources))
  local unbase64 = require("tidemill.sign").unbase64
  lu.assertStrContains(unbase64(sub.sources.stored.h.text), "\xff")
  lu.assertEquals(sub.sources.stored.h.path, d.dir .. "/part/h.lua")
  lu.assertStrContains(unbase64(sources.text), "part/sub.lua")
end

function TestDocument.test_what_may_be_set_is_checked()
  local made = document.of(model_of [[
    params = { n = { type = "integer" }, day = { type = "date", default = "2026-01-01" }, on = true, x = 0.5 },
    vars = { v = "1" }, constants = { c = "2" }, flow.sql "a" { on = "rds", sql = "x", vars = { own = "3" } },]])
  lu.assertEquals(document.check_set(made, { n = 5, v = "x", c = true, own = "" }), { n = "5", v = "x", c = "true", own = "" })
  for message, set in pairs {
    ["param 'n' has no default and is not set"] = {},
    ["param 'n' wants an integer, got '1.5'"] = { n = "1.5" },
    ["param 'n' wants an integer, got '99999999999999999999'"] = { n = "99999999999999999999" },
    ["param 'day' wants a date such as \"2026-01-02\", got 'tomorrow'"] = { n = 1, day = "tomorrow" },
    ["param 'day' wants a date such as \"2026-01-02\", got '2026-02-30'"] = { n = 1, day = "2026-02-30" },
    ["param 'on' wants true or false, got 'yes'"] = { n = 1, on = "yes" },
    ["param 'x' wants a number, got 'much'"] = { n = 1, x = "much" },
    ["the flow has no variable 'owm' to set"] = { n = 1, owm = "x" },
  } do
    local ok, err = pcall(document.check_set, made, set)
    lu.assertFalse(ok, message)
    lu.assertEquals(err.message, message)
  end
  local _, err = pcall(document.check_set, made, { n = 1, owm = "x" })
  lu.assertEquals(err.hint, "did you mean 'own'?")
end

TestFingerprint = {}

local function compiled(text) return assert(load(text, "@x", "t"))() end

function TestFingerprint.test_values_that_differ_have_other_texts()
  local seen = {}
  for i, value in ipairs { "", "1", 1, 1.5, true, false, {}, { 1 }, { "1" }, { { 1 } }, { a = 1 }, { [true] = 1 }, { 1, 2 }, { { 1 }, 2 },
    -1, "{", "s1:x", { x = "s1:" }, math.huge } do
    local text = fingerprint.text(value)
    lu.assertNil(seen[text], i)
    seen[text] = i
  end
  lu.assertEquals(fingerprint.text(2.0), fingerprint.text(2))
  lu.assertEquals(fingerprint.of { a = 1, b = { 2 } }, fingerprint.of { b = { 2.0 }, a = 1 })
end

function TestFingerprint.test_a_function_is_what_it_does_wherever_it_stands()
  local function of(text) return fingerprint.of(compiled(text)) end
  local text = "return function(x) local t = { 1, 2.5, 'long %s' } return function() return t, x, true, nil end end"
  text = text:format(("x"):rep(100))
  lu.assertEquals(of("\n\n\n" .. text), of(text))
  lu.assertEquals(of((text:gsub(", ", ",\n"))), of(text))
  lu.assertNotEquals(of((text:gsub("2.5", "2.6"))), of(text))
  lu.assertNotEquals(of((text:gsub("long ", "lonk "))), of(text))
  lu.assertNotEquals(of((text:gsub("true", "false"))), of(text))
  lu.assertNotEquals(of((text:gsub("{ 1", "{ 3"))), of(text))
end

function TestFingerprint.test_a_function_is_also_what_it_closes_over()
  local function of(text) return fingerprint.of(compiled(text)) end
  local text = "local n, t = 1, { a = 1 } local function help() return n end return function() return help(), t end"
  lu.assertEquals(of(text), of("\n" .. text))
  lu.assertNotEquals(of((text:gsub("n, t = 1", "n, t = 2"))), of(text))
  lu.assertNotEquals(of((text:gsub("a = 1", "a = 2"))), of(text))
  lu.assertNotEquals(of((text:gsub("return n", "return -n"))), of(text))
end

function TestFingerprint.test_circles_and_natives_come_to_an_end()
  local t = {}
  t.t = t
  local function recursive(n) return n > 0 and recursive(n - 1) or t end
  lu.assertEquals(#fingerprint.of(recursive), 64)
  lu.assertEquals(fingerprint.of(string.upper), fingerprint.of(string.lower))
  lu.assertEquals(#fingerprint.of(setmetatable({}, { __index = error })), 64)
end

os.exit(lu.LuaUnit.run())
