--- `tidemill plan`: the vectors of time variables and of cron, as a user meets them; what it shows.

local desk = require "tests.support.desk"
local json = require "json"
local lu = require "luaunit"
local time = require "time"

local d

local Base = {}
function Base.setUp()
  d = desk.new "plan"
  d:project()
end
function Base.tearDown() d:close() end

local function plan(body, at, ...)
  d:flow("p.lua", body)
  local r = d:run("plan", "p.lua", "--json", "--at", at, ...)
  lu.assertEquals(r.code, 0, r.all)
  return json.decode(r.out)
end

TestTimeVectors = { setUp = Base.setUp, tearDown = Base.tearDown }

-- The vectors by business moment and zone: one plan for each of these.
local groups = {}
for _, vector in ipairs(require "tests.support.time_vectors") do
  local key = vector[2] .. " " .. (vector[6] or "UTC")
  groups[key] = groups[key] or {}
  table.insert(groups[key], vector)
end

for key, vectors in pairs(groups) do
  TestTimeVectors["test_" .. key:gsub("%W", "_")] = function()
    local business, zone = vectors[1][2], vectors[1][6] or "UTC"
    local lines = { ("schedule = { timezone = %q },"):format(zone) }
    for i, v in ipairs(vectors) do
      local given = v[4] and ("flow.time(%q, %q)"):format(v[3], v[4]) or ("flow.time %q"):format(v[3])
      lines[#lines + 1] = ('flow.sql "%d" { on = "rds", sql = "${v}", vars = { v = %s } },'):format(i, given)
    end
    local scheduled = time.add(time.parse(business, zone), "+1d", zone)
    local made = plan(table.concat(lines, "\n"), time.iso(scheduled, zone))
    lu.assertEquals(made.business, time.parse(business, zone))
    for i, v in ipairs(vectors) do lu.assertEquals(made.nodes[i].spec.sql, v[5], v[1]) end
  end
end

function TestTimeVectors.test_the_built_in_date_is_the_day_before()
  lu.assertEquals(plan('flow.sql "n" { on = "rds", sql = "${bizdate}" },', "2019-08-15").nodes[1].spec.sql, "2019-08-14")
end

TestCronVectors = { setUp = Base.setUp, tearDown = Base.tearDown }

local file <close> = assert(io.open "tests/vectors/cron-quartz.json")
local cron = json.decode(file:read "a")

-- The first firings after `from`, each asked for by the one before.
local function follow(case, rule, list)
  local body = ('schedule = { cron = %q, timezone = %q, dst = "%s" }, flow.sql "n" { on = "rds", sql = "x" },'):format(
    case.expr, case.zone, rule)
  local at = case.from
  for i = 1, math.min(2, #list) do
    local made = plan(body, at)
    lu.assertEquals(made.next and time.iso(made.next, case.zone), time.iso(time.parse(list[i]), case.zone),
      ("%s %s %s"):format(case.id, case.expr, rule))
    at = list[i]
  end
  if #list == 0 then
    d:flow("p.lua", body)
    local r = d:run("plan", "p.lua", "--at", case.from)
    lu.assertStrContains(r.all, r.code == 0 and "next never" or "the schedule never fires")
  end
end

for _, case in ipairs(cron.cases) do
  TestCronVectors["test_" .. case.id:gsub("%W", "_")] = function()
    if case.next_by_rule then
      for rule, list in pairs(case.next_by_rule) do follow(case, rule, list) end
    else
      follow(case, "once", case.next or case.next_by_reading.plain)
    end
  end
end

function TestCronVectors.test_what_cron_refuses_is_refused_with_its_line()
  for _, case in ipairs(cron.refused) do
    if case.expr ~= "" then
      d:flow("p.lua", ('flow.sql "n" { on = "rds", sql = "x" },\nschedule = { cron = %q },'):format(case.expr))
      local r = d:run("plan", "p.lua")
      lu.assertEquals(r.code, 2, case.expr)
      lu.assertStrContains(r.err, ("p.lua:4: cron expression '%s'"):format(case.expr))
    end
  end
end

TestShown = { setUp = Base.setUp, tearDown = Base.tearDown }

local function shown(body, ...)
  d:flow("p.lua", body)
  local r = d:run("plan", "p.lua", "--at", "2026-01-02 03:04:05", ...)
  lu.assertEquals(r.code, 0, r.all)
  return r.out
end

local function assert_lines(text, lines)
  local at = 1
  for _, line in ipairs(lines) do
    local from, to = text:find(line, at, true)
    lu.assertNotNil(from, ("'%s' is not in, or not in order:\n%s"):format(line, text))
    at = to
  end
end

function TestShown.test_policies_of_flow_and_nodes()
  assert_lines(shown [[
    schedule = { cron = "0 30 1 * * ?", timezone = "Asia/Shanghai" }, priority = 7, deadline = "2h",
    on_failure = { { webhook = "alerts" }, { email = { "a@b", "c@d" } } }, on_late = { shell = "late.sh" },
    flow.sql "a" { on = "rds", sql = "x", retries = 3, timeout = "1h", pool = "heavy",
      max_wait = "10m", deadline = "90m" },
    flow.sql "b" { on = "rds", sql = "x", after = "a", trigger = "all_done", when = { "${a.rows} > 0", "${a.status}" },
      allow_failure = true, priority = 9 },]], {
    "schedule     cron '0 30 1 * * ?' in Asia/Shanghai, next 2026-01-03 01:30:00 Asia/Shanghai",
    "priority     7", "deadline     2h 00m", "on_failure   webhook alerts", "on_failure   email a@b, c@d",
    "on_late      shell late.sh", "1. a (sql)", "retries      3, 10s apart at first", "timeout      1h 00m",
    "max_wait     10m 00s", "deadline     1h 30m",
    "pool         heavy", "2. b (sql)", "after        a", "trigger      all_done",
    "when         ${a.rows} > 0, and ${a.status}", "allow_failure true", "priority     9",
    "${a.rows} = not known yet  (output of 'a')", "${a.status} = not known yet  (state of 'a')" })
end

function TestShown.test_sizes_and_times_of_transfers_are_shown_as_they_are_written()
  assert_lines(shown [[
    flow.extract "out" { from = "rds", table = "t", to = "lake:x/", max_rate = "40MB", max_snapshot_age = "90m",
      object_size = "1500KB" },
    flow.load "in" { after = "out", from = "lake:x/", on = "adbpg", into = "t", create = true },]], {
    "max_rate     40MB/s", "max_snapshot_age 1h 30m", "object_size  1500KB", "pipeline     takes objects while 'out' runs",
    "create       true" })
end

function TestShown.test_schedules_of_every_kind()
  for text, line in pairs { ['{ every = "15m" }'] = "every 15m 00s, next 2026-01-02 03:15:00 UTC",
    ['{ at = "2026-02-01" }'] = "once, at 2026-02-01 00:00:00 +00:00, next 2026-02-01 00:00:00 UTC",
    ['{ at = "2025-02-01" }'] = "next never",
    ['{ after = { "A", "B/n" } }'] = "after 'A' and 'B/n'",
    ['{ cron = "0 0 1 * * ?", to = "2025-12-31" }'] = "next never", ["nil"] = "none: runs by hand" } do
    assert_lines(shown(('schedule = %s, flow.sql "a" { on = "rds", sql = "x" },'):format(text)), { "schedule     ", line })
  end
end

function TestShown.test_nodes_of_every_kind()
  d:write("sub.lua", 'return require "flow" "sub" { params = { p = {} }, require("flow").sql "s" { on = "rds", sql = "${p}" } }')
  assert_lines(shown [[
    params = { region = "eu" },
    flow.wait_for "w" { flow = "B", at = "week", offset = "-1w", every = "2m" },
    flow.wait_for "p" { previous = true },
    flow.wait_for "o" { object = "lake:in/${bizdate}/" },
    flow.assign "s" { on = "rds", sql = "SELECT 1", outputs = { q = "quota" }, after = { "w", "p", "o" } },
    flow.branch "any" { condition = "${q} > 0", after = "s" },
    flow.loop "l" { on = "rds", list = "a;${region}", separator = ";", sql = "S '${loop.item}', '${region}', $${x}", after = "any" },
    flow.check "c" { on = "adbpg", table = "t", rules = { { not_null = "id" }, { rows = { min = 1 } } }, after = "l" },
    flow.shell "h" { command = { "echo", "${region}" }, env = { A = "1" }, outputs = "x", after = "c" },
    flow.subflow "f" { file = "sub.lua", set = { p = "${x}" }, after = "h" },]], {
    "w (wait_for flow B)", "p (wait_for the previous run)", "o (wait_for object lake:in/2026-01-01/)", "s (assign on rds)",
    "any (branch)", "l (loop on rds)", "c (check on adbpg)", "h (shell)", "f (subflow sub.lua)",
    "at           week", "every        2m 00s", "offset       -1w", "outputs      q = { column = quota,",
    "condition    ${q} > 0", "S '${loop.item}', 'eu', ${x}", "lists        list = a;eu, name = loop.item, separator = ;",
    "rules        allowed = 0, columns = { id }, kind = not_null", "command      echo, eu", "env          A = 1",
    "set          p = ${x}" })
end

function TestShown.test_set_gives_variables_other_values()
  local body = [[params = { region = "eu", n = { type = "integer" } }, vars = { day = flow.time "yyyyMMdd" },
    flow.sql "a" { on = "rds", sql = "${region} ${n} ${day}" },]]
  assert_lines(shown(body, "--set", "n=5", "--set", "day=${n}"), { "${region} = eu  (param)", "${n} = 5  (--set)",
    "${day} = ${n}  (--set)", "eu 5 ${n}" })
  local r = d:run("plan", "p.lua")
  lu.assertEquals(r.code, 2)
  lu.assertStrContains(r.err, "param 'n' has no default and is not set\nhint: give it with --set n=VALUE")
  r = d:run("plan", "p.lua", "--set", "n=x")
  lu.assertStrContains(r.err, "param 'n' wants an integer, got 'x'")
  r = d:run("plan", "p.lua", "--set", "n")
  lu.assertStrContains(r.err, "plan: --set wants NAME=VALUE, got 'n'")
end

function TestShown.test_json_holds_the_policies_too()
  local made = plan([[priority = 3, on_late = { shell = "x" }, deadline = 60,
    flow.sql "a" { on = "rds", sql = "x" },
    flow.loop "b" { on = "rds", count = 2, sql = "${loop.index}", after = "a", when = "${a.rows} > 1", trigger = "all_done" },]],
    "2026-01-02")
  lu.assertEquals({ made.priority, made.deadline, made.on_late }, { 3, 60, { { shell = "x" } } })
  local b = made.nodes[2]
  lu.assertEquals({ b.when, b.trigger, b.priority, b.allow_failure, b.pending }, { "${a.rows} > 1", "all_done", 5, false, {} })
  lu.assertEquals(b.spec, { on = "rds", count = 2, sql = "${loop.index}", batch = 1, pause = 0 })
end

os.exit(lu.LuaUnit.run())
