--- Tests of flows: variables, rendered SQL, order and policies, functions, firing times.
---
--- They run without a database, an object store or a network: nothing of the flow is executed
--- but its Lua functions, and these see stubs. Write them in NAME_test.lua beside NAME.lua and run
--- them with `tidemill test NAME.lua` (or a folder).
---
---     local t = require "flowtest"
---
---     local orders = t.flow("orders.lua", [[
---       local flow = require "flow"
---       return flow "Orders" {
---         schedule = { cron = "0 30 1 * * ?", timezone = "Asia/Shanghai" },
---         vars = { day = flow.time "yyyy-MM-dd" },
---         flow.sql "clean" { on = "adbpg", sql = "DELETE FROM t WHERE day = '${day}'" },
---         flow.lua "count" { after = "clean", outputs = { "rows" }, run = function(ctx)
---           local conn <close> = ctx:postgres "adbpg"
---           return { rows = conn:value "SELECT count(*) FROM t" }
---         end },
---       } ]]) -- the text is only for this example: t.flow "orders.lua" reads the file
---
---     t.test("the day before is cleaned", function()
---       local night = orders:at "2026-03-01 01:30:00"
---       t.equal(night:vars("clean").day, "2026-02-28")
---       t.contains(night:sql "clean", "'2026-02-28'")
---     end)
---
---     t.test("rows are counted", function()
---       orders:stub("adbpg", { ["SELECT count(*) FROM t"] = 7 })
---       t.equal(orders:call("count").outputs, { rows = 7 })
---     end)
---
---     t.test("nothing is counted after a failure", function()
---       local run = orders:run { outcomes = { clean = "fail" } }
---       t.equal(run.states, { clean = "failed", count = "skipped" })
---     end)
---
---     t.test("it fires at half past one", function()
---       t.equal(orders:firings(1, "2026-03-01"), { "2026-03-01 01:30:00" })
---     end)
---     --> ok      the day before is cleaned
---     --> ok      it fires at half past one

local attempt = require "tidemill.flowtest.attempt"
local check = require "tidemill.check"
local collect = require "tidemill.flowtest.collect"
local compare = require "tidemill.flowtest.compare"
local errors = require "tidemill.errors"
local project = require "tidemill.project"
local show = require "tidemill.repl.print"
local suggest = require "tidemill.suggest"
local time = require "time"
local variables = require "tidemill.variables"

local flowtest = {}

local FORMAT = "yyyy-MM-dd HH:mm:ss"

--- A flow under test. Its methods return texts and plain tables.
---@class flowtest.Flow
---@field name string
---@field timezone string
local Flow = { __name = "flowtest.Flow" }
Flow.__index = Flow

--- A flow at one scheduled time.
---@class flowtest.Moment
local Moment = { __name = "flowtest.Moment" }
Moment.__index = Moment

---@class flowtest.Given
---@field outputs? table<string, table<string, string|number|boolean>>  outputs of nodes, by node and name
---@field states? table<string, {status: string, error: string?}>  what became of nodes upstream, for
---`${NODE.status}`

---@class flowtest.Outcome
---@field state "success"|"fail"|"skip"|"close"|"timeout"|"crash"|"call"
---`close`: as a branch whose condition is false; `timeout`: it does not end by itself; `crash`: its
---process is killed; `call`: the function of a flow.lua node runs, against the stubs
---@field after? string|number  how long the attempt takes (default "1s")
---@field kind? string     of a failure's error: "io" (default), "sql", "connect", "usage" ...
---@field message? string  of a failure, or the reason of a skip
---@field outputs? table<string, string|number|boolean>

---@class flowtest.RunOptions
---@field at? string       the scheduled time (default: the schedule's next one from now, or now)
---@field outcomes? table<string, string|flowtest.Outcome|(string|flowtest.Outcome)[]|function>
---by node: the word of an outcome, an outcome, a list with one for each attempt (the last one repeats), or
---a function(attempt, outputs_upstream) that returns one. Other nodes succeed
---@field outputs? table<string, table<string, string|number|boolean>>  by node and name
---@field takes? table<string, string|number>  how long an attempt of a node takes (default "1s")
---@field jobs? integer    most attempts at once (default 16)
---@field pools? table<string, integer>  places of pools (default: no limit)

---@class flowtest.Run
---@field state "success"|"failed"|"canceled"
---@field message? string
---@field seconds number             how long it took, in virtual time
---@field order string[]             nodes in the order they started
---@field states table<string, string>  by node: success, failed, skipped, canceled
---@field nodes table<string, {state: string, attempts: integer, message: string?, error: table?, outputs: table}>
---@field starts {node: string, attempt: integer, at: number}[]  each attempt, seconds after the start
---@field decisions string[]         "NODE: what: why", as `tidemill why` tells them
---@field called table<string, flowtest.Called>  by node, where the outcome is "call"

---@class flowtest.Called
---@field outputs table<string, string|number|boolean>
---@field log string[]               "level: line"
---@field statements {connection: string, sql: string, params: table}[]  what stubs were asked, with BEGIN,
---COMMIT and ROLLBACK
---@field rows? integer              of the last progress
---@field bytes? integer
---@field detail? string

-- ---- declaring ----

-- Where the caller of the caller stands.
local function caller(level)
  local info = debug.getinfo(level + 1, "Sl")
  return info and info.source:match "^@(.*)$", info and info.currentline or 0
end

--- Declares a test. `tidemill test` runs it after the whole file was read; in another script it
--- runs at once, and a failure ends the script.
---@param name string  a sentence: what holds
---@param body fun()   raises if it does not
function flowtest.test(name, body)
  if type(name) ~= "string" or type(body) ~= "function" then
    error("test wants a name and a function: t.test(\"what holds\", function() ... end)", 2)
  end
  local _, line = caller(2)
  if collect.add { name = name, body = body, line = line } then return end
  body()
  print("ok      " .. name)
end

-- The project of a flow; without one any connection will do.
local function project_of(path)
  local found = project.open(path)
  if not found.file then found.fault = function() end end
  return found
end

--- Loads a flow and checks it, as `tidemill check` does. Without a tidemill.lua any connection
--- will do.
---@param path string   from the folder of the test's file
---@param text? string  the flow itself, instead of what the file holds
---@return flowtest.Flow
function flowtest.flow(path, text)
  if type(path) ~= "string" then error("flow wants the path of a flow's file", 2) end
  local from = caller(2)
  if path:sub(1, 1) ~= "/" then path = (from and from:match "^(.*/)[^/]*$" or "") .. path end
  local model = check.flow(path, { text = text, project = project_of(path) })
  return setmetatable({ name = model.name, timezone = model.timezone, model = model, given = {},
    stubs = { postgres = {}, store = {} } }, Flow)
end

--- An error for a stub to raise: `stub("rds", { ["SELECT 1"] = t.error("connect", "no route") })`.
---@param kind string   "connect", "io", "sql", "data", "timeout" ...
---@param message string
---@param fields? table  code (the SQLSTATE), hint, detail
---@return table
function flowtest.error(kind, message, fields) return errors.new(kind, message, fields) end

-- ---- the flow ----

--- Gives params, vars and constants other values from here on, as `tidemill run --set`.
---@param values table<string, string|number|boolean>
---@return flowtest.Flow
function Flow:set(values)
  for name, value in pairs(values) do self.given[name] = value end
  variables.set(self.model, self.given)
  return self
end

--- What a database answers to functions of nodes. SQL is compared without regard to white space; one
--- that ends in "..." answers whatever begins like it. An answer is an array of rows, a single value
--- (a number also for the rows affected), `flowtest.error(...)`, or a function(sql, ...) that returns
--- one of these. Anything else raises.
---@param connection string
---@param answers table<string, any>|fun(sql: string, ...): any
---@return flowtest.Flow
function Flow:stub(connection, answers)
  if type(answers) ~= "table" and type(answers) ~= "function" then
    error("stub wants a table of SQL and answers, or a function", 2)
  end
  self.stubs.postgres[connection] = answers
  return self
end

--- What an object store holds for functions of nodes, which may change it.
---@param connection string
---@param objects table<string, string>  bytes by key
---@return flowtest.Flow
function Flow:stub_store(connection, objects)
  self.stubs.store[connection] = objects
  return self
end

--- The names of the nodes in running order.
---@return string[]
function Flow:nodes()
  local names = {}
  for i, node in ipairs((require("tidemill.graph").order(self.model.nodes))) do names[i] = node.name end
  return names
end

local function instant(self, text, level)
  if type(text) == "number" then return text end
  local ok, parsed = pcall(time.parse, text, self.timezone)
  if not ok then error(("'%s' is no time; write it like \"2026-01-02 03:04:05\""):format(tostring(text)), level + 1) end
  return parsed
end

local function schedule_of(self)
  return require("tidemill.document").schedule(self.model.schedule, self.timezone)
end

--- The next times the schedule fires.
---@param n? integer      how many (default 5)
---@param from? string    from this time on, in the flow's zone (default now)
---@return string[]       "yyyy-MM-dd HH:mm:ss" in the flow's zone
function Flow:firings(n, from)
  local after = math.floor((from and instant(self, from, 2) or os.time()) * 1000) - 1
  local times = require("tidemill.calendar").next(schedule_of(self), after, n or 5)
  for i, ms in ipairs(times) do times[i] = time.format(ms / 1000, FORMAT, self.timezone) end
  return times
end

-- A time that is as good as any: the next firing, or now.
local function default_time(self)
  local ms = require("tidemill.calendar").next(schedule_of(self), os.time() * 1000, 1)[1]
  return ms and ms / 1000 or os.time()
end

--- The flow as it is at one scheduled time; the business time is a day earlier.
---@param scheduled string  "2026-03-01 01:30:00" in the flow's zone
---@param given? flowtest.Given
---@return flowtest.Moment
function Flow:at(scheduled, given)
  given = given or {}
  return setmetatable({ model = self.model, scheduled = instant(self, scheduled, 2), outputs = given.outputs or {},
    states = given.states or {}, stubs = self.stubs }, Moment)
end

--- Runs the flow to its end in virtual time, with attempts that end as told. Order, triggers,
--- conditions, policies, retries and timeouts are those of the real engine.
---@param options? flowtest.RunOptions
---@return flowtest.Run
function Flow:run(options)
  options = options or {}
  for key in pairs(options) do
    if not ({ at = 1, outcomes = 1, outputs = 1, takes = 1, jobs = 1, pools = 1 })[key] then
      error(("run has no option '%s'"):format(tostring(key)), 2)
    end
  end
  return require("tidemill.flowtest.trial").run { model = self.model, stubs = self.stubs,
    scheduled = options.at and instant(self, options.at, 2) or default_time(self), outcomes = options.outcomes,
    outputs = options.outputs, takes = options.takes, jobs = options.jobs, pools = options.pools }
end

--- As `Moment:call`, at a time that does not matter.
---@param node string
---@param given? flowtest.Given
---@return flowtest.Called
function Flow:call(node, given) return self:at(default_time(self), given):call(node) end

--- As `Moment:map`, at a time that does not matter.
---@param node string
---@param rows table[]
---@return table[]
function Flow:map(node, rows) return self:at(default_time(self)):map(node, rows) end

-- ---- one moment ----

local function check_node(self, name)
  if not self.model.by_name[name] then
    errors.usage(("the flow has no node '%s'"):format(tostring(name)),
      suggest.hint(tostring(name), suggest.keys(self.model.by_name), "nodes"))
  end
end

--- Every variable of a node; outputs that were not given are absent.
---@param node string
---@return table<string, string>
function Moment:vars(node)
  check_node(self, node)
  local scope = variables.scope(self.model, self.model.by_name[node], variables.moment(self.scheduled,
    self.model.timezone, { outputs = variables.texts(self.outputs), states = self.states }))
  local vars = {}
  for _, name in ipairs(scope.names()) do vars[name] = scope.value_of(name) end
  return vars
end

--- The fields of a node, variables filled in, with defaults.
---@param node string
---@return table
function Moment:spec(node)
  check_node(self, node)
  return attempt.planned(self, node).spec
end

--- The SQL of a node, variables filled in: `sql` or `query`, or what reads its `table`. Several texts
--- stand one behind the other, each ended by a semicolon.
---@param node string
---@return string
function Moment:sql(node)
  local spec = self:spec(node)
  local text = spec.sql or spec.query or spec.table and "SELECT * FROM " .. spec.table
  if text == nil then errors.usage(("node '%s' has no SQL"):format(node)) end
  return type(text) == "table" and table.concat(text, ";\n") .. ";" or text
end

--- Whether a node's `when` holds, or the condition of a flow.branch, and why. True without one.
---@param node string
---@return boolean holds
---@return string why
function Moment:holds(node)
  check_node(self, node)
  local planned = attempt.planned(self, node)
  local holds, why = attempt.holds(planned, planned.when)
  if holds and planned.kind == "branch" then return attempt.holds(planned, planned.spec.condition) end
  return holds, why
end

--- Runs the function of a flow.lua node; connections are the flow's stubs.
---@param node string
---@return flowtest.Called
function Moment:call(node)
  check_node(self, node)
  return attempt.call(self, node)
end

--- Sends rows through the map of a flow.extract. As in a run, the map sees texts and
--- `csv.null`; rows it drops are absent. `columns` in `rows` gives the columns' order.
---@param node string
---@param rows table[]  by column name
---@return table[]      by column name, texts and `csv.null`
function Moment:map(node, rows)
  check_node(self, node)
  return attempt.map(self, node, rows)
end

-- ---- what must hold ----

local function fail(message, about)
  local file, line = caller(3)
  error(errors.new("script", (about and about .. ": " or "") .. message:match "^[^\n]*", {
    detail = message:match "\n(.*)$", file = file, line = line, failure = true }), 0)
end

--- Fails unless both are equal; tables by what they hold. The message tells what differs.
---@param got any
---@param want any
---@param about? string  put before the message
function flowtest.equal(got, want, about)
  local difference = compare.difference(got, want)
  if difference then fail(difference:find "\n" and "not equal\n" .. difference or difference, about) end
end

--- Fails unless a text holds another one, or an array a value.
---@param got string|table
---@param part any
---@param about? string
function flowtest.contains(got, part, about)
  if type(got) == "string" and got:find(part, 1, true) then return end
  for _, one in ipairs(type(got) == "table" and got or {}) do
    if not compare.difference(one, part) then return end
  end
  fail(("%s is not in\n%s"):format(show.value(part), type(got) == "string" and got or show.value(got)), about)
end

--- Fails unless a text matches a Lua pattern.
---@param got string
---@param pattern string
---@param about? string
function flowtest.matches(got, pattern, about)
  if type(got) ~= "string" or not got:find(pattern) then
    fail(("%s does not match '%s'"):format(show.value(got), pattern), about)
  end
end

--- Fails unless a value is true (neither nil nor false).
---@param got any
---@param about? string
function flowtest.ok(got, about)
  if not got then fail(("got %s, want something true"):format(tostring(got)), about) end
end

--- Fails unless the function raises an error whose message holds `part`. Returns the error.
---@param body fun()
---@param part? string
---@return table
function flowtest.raises(body, part)
  local ok, raised = pcall(body)
  if ok then fail "no error was raised" end
  local err = errors.from(raised)
  if part and not err.message:find(part, 1, true) then
    fail(("the error does not hold %s\ngot: %s"):format(show.value(part), err.message))
  end
  return err
end

return flowtest
