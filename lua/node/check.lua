--- The body of a flow.check node: rules on a table, counted, reported and judged.
---
--- All of it is one read-only transaction on one snapshot. Rules that look at single rows, and
--- those about the whole table, are one scan; unique, references and sql are a query each. A rule
--- is violated when more rows break it than it allows; then the node fails, or warns. The report
--- goes to the log as a table, and to the output `report` as JSON, with totals beside it.

local errors = require "tidemill.errors"
local identifiers = require "tidemill.identifiers"
local json = require "json"
local pg = require "pg"
local text = require "tidemill.text"

---@class check.Result
---@field name string
---@field kind string
---@field severity "fail"|"warn"
---@field found? number     rows that break the rule; of `rows` how many there are
---@field allowed? integer
---@field violated boolean
---@field note? string
---@field look? string      a query for the rows

local function literals(values)
  local list = {}
  for i, value in ipairs(values) do list[i] = pg.quote_literal(value) end
  return table.concat(list, ", ")
end

-- ---- rules on single rows: the condition that a bad row meets ----

local bad = {}

function bad.not_null(rule)
  local parts = identifiers.quoted(rule.columns)
  for i, column in ipairs(parts) do parts[i] = column .. " IS NULL" end
  return table.concat(parts, " OR ")
end

function bad.accepted(rule)
  return ("%s NOT IN (%s)"):format(pg.quote_ident(rule.column), literals(rule.values))
end

function bad.range(rule)
  local column, parts = pg.quote_ident(rule.column), {}
  if rule.min then parts[#parts + 1] = ("%s < %s"):format(column, pg.quote_literal(rule.min)) end
  if rule.max then parts[#parts + 1] = ("%s > %s"):format(column, pg.quote_literal(rule.max)) end
  return table.concat(parts, " OR ")
end

-- ---- rules with a query of their own: one that returns the bad rows ----

local rows_of = {}

function rows_of.unique(rule, spec, where)
  local columns = identifiers.quoted(rule.columns)
  local present = {}
  for i, column in ipairs(columns) do present[i] = column .. " IS NOT NULL" end
  local list = table.concat(columns, ", ")
  return ("SELECT %s, count(*) - 1 AS surplus FROM %s WHERE %s AND %s GROUP BY %s HAVING count(*) > 1"):format(list,
    spec.table, where, table.concat(present, " AND "), list), "coalesce(sum(surplus), 0)"
end

-- `where` goes into a subquery of its own, so that its names mean the checked table's columns.
function rows_of.references(rule, spec, where)
  local column, to = pg.quote_ident(rule.column), pg.quote_ident(rule.to)
  return ("SELECT * FROM (SELECT * FROM %s WHERE %s) AS checked WHERE checked.%s IS NOT NULL AND NOT EXISTS "
    .. "(SELECT 1 FROM %s AS known WHERE known.%s = checked.%s)"):format(spec.table, where, column, rule.table, to,
      column)
end

function rows_of.sql(rule)
  return (rule.sql:gsub("[%s;]+$", "")) .. "\n"
end

-- ---- rules on the whole table ----

local function bound(rule, name)
  local value = rule[name]
  if value == nil then return nil end
  local number = math.tointeger(tonumber(value))
  if not number then
    errors.usage(("rule '%s': '%s' wants an integer, got '%s'"):format(rule.name, name, tostring(value)))
  end
  return number
end

local whole = {}

whole.rows = {
  expression = function() return "count(*)" end,
  judge = function(rule, result, count)
    local min, max = bound(rule, "min"), bound(rule, "max")
    result.found, result.violated = count, min and count < min or max and count > max or false
    result.note = ("%s; wanted%s%s"):format(text.count(count, "row"), min and " at least " .. min or "",
      max and (min and "," or "") .. " at most " .. max or "")
  end,
}

whole.fresh = {
  expression = function(rule)
    return ("extract(epoch FROM now() - max(%s))::float8"):format(pg.quote_ident(rule.column))
  end,
  judge = function(rule, result, age)
    if age == pg.null then
      result.violated, result.note = true, "there is no value at all"
      return
    end
    result.violated = age > rule.within
    result.note = ("the latest is %.0f s old; at most %.0f s wanted"):format(age, rule.within)
  end,
}

-- ---- running ----

local function blame(rule, raised)
  local err = errors.from(raised)
  err.message = ("rule '%s': %s"):format(rule.name, err.message)
  error(err, 0)
end

-- Whether the server understands a query, told as an error of the rule.
local function try(conn, rule, sql)
  local ok, raised = pcall(conn.describe, conn, sql)
  if not ok then blame(rule, raised) end
end

-- What one scan counts for a rule; nil if the rule needs a query of its own.
local function expression_of(rule)
  if bad[rule.kind] then return ("count(CASE WHEN %s THEN 1 END)"):format(bad[rule.kind](rule)) end
  return whole[rule.kind] and whole[rule.kind].expression(rule)
end

local function judge(result, rule, value)
  if whole[rule.kind] then return whole[rule.kind].judge(rule, result, value) end
  local count = math.tointeger(tonumber(value))
  result.found, result.allowed, result.violated = count, rule.allowed, count > rule.allowed
end

local function scan(conn, spec, where, rules, results)
  local chosen, list = {}, {}
  for i, rule in ipairs(rules) do
    local expression = expression_of(rule)
    if expression then
      chosen[#chosen + 1] = i
      list[#list + 1] = ("%s AS r%d"):format(expression, i)
      try(conn, rule, ("SELECT %s FROM %s WHERE %s"):format(expression, spec.table, where))
      if bad[rule.kind] then
        results[i].look = ("SELECT * FROM %s WHERE %s AND (%s)"):format(spec.table, where, bad[rule.kind](rule))
      end
    end
  end
  if #chosen == 0 then return end
  local row = conn:one(("SELECT %s FROM %s WHERE %s"):format(table.concat(list, ", "), spec.table, where))
  for _, i in ipairs(chosen) do judge(results[i], rules[i], row["r" .. i]) end
end

local function query(conn, spec, where, rule, result)
  local sql, total = rows_of[rule.kind](rule, spec, where)
  result.look = sql:match "^%s*(.-)%s*$"
  try(conn, rule, sql)
  local ok, count = pcall(conn.value, conn,
    ("SELECT %s::bigint FROM (%s) AS bad_rows"):format(total or "count(*)", sql))
  if not ok then blame(rule, count) end
  judge(result, rule, count)
end

local function run(conn, spec)
  local tx <close> = conn:transaction { isolation = "repeatable read", read_only = true }
  local where, results = spec.where and ("(%s\n)"):format(spec.where) or "true", {}
  for i, rule in ipairs(spec.rules) do
    results[i] = { name = rule.name, kind = rule.kind, severity = rule.severity }
  end
  if spec.table then scan(conn, spec, where, spec.rules, results) end
  for i, rule in ipairs(spec.rules) do
    if rows_of[rule.kind] then query(conn, spec, where, rule, results[i]) end
  end
  tx:commit()
  return results
end

-- ---- telling ----

local function verdict(result)
  return not result.violated and "pass" or result.severity == "warn" and "warn" or "fail"
end

local function line_of(width, name, what, found, note)
  local pad = (" "):rep(math.max(width - (utf8.len(name) or #name), 0))
  return (("%s%s  %-4s  %10s  %s"):format(name, pad, what, found, note):gsub("%s+$", ""))
end

local function log_report(ctx, results)
  local width = 4
  for _, result in ipairs(results) do width = math.max(width, utf8.len(result.name) or #result.name) end
  ctx:log("info", "%s", line_of(width, "rule", "", "bad rows", ""))
  for _, result in ipairs(results) do
    local counted = result.allowed
    local note = result.note or (counted > 0 and ("%d allowed"):format(counted)) or ""
    local what = verdict(result)
    ctx:log(what == "fail" and "error" or what == "warn" and "warn" or "info", "%s",
      line_of(width, result.name, what, counted and tostring(result.found) or "", note))
    if result.violated and result.look then ctx:log("info", "  to see them: %s", result.look:gsub("%s*\n%s*", " ")) end
  end
end

---@param ctx tidemill.Context
---@param spec table  the node's fields, variables filled in
return function(ctx, spec)
  local conn <close> = ctx:postgres(spec.on, { session = "data", read_only = true, timezone = ctx.timezone })
  local results = run(conn, spec)
  local totals, violations, failed = { pass = 0, warn = 0, fail = 0 }, 0, {}
  for _, result in ipairs(results) do
    local what = verdict(result)
    totals[what] = totals[what] + 1
    violations = violations + (result.allowed and result.found or result.violated and 1 or 0)
    result.result = what
    if what == "fail" then
      failed[#failed + 1] = ("'%s' (%s)"):format(result.name, result.note or text.count(result.found, "row"))
    end
  end
  log_report(ctx, results)
  for _, result in ipairs(results) do result.look, result.violated = nil, nil end
  ctx:output("report", json.encode(json.array(results)))
  ctx:output("passed", totals.pass)
  ctx:output("warned", totals.warn)
  ctx:output("failed", totals.fail)
  ctx:output("violations", violations)
  if #failed == 0 then return end
  errors.raise("data", ("%d of %s violated: %s"):format(#failed, text.count(#results, "rule"),
    table.concat(failed, ", ")), "the log has the report, and a query for the rows")
end
