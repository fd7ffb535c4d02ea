--- The fields of each kind of node, the rules that tie several of them together, and what a
--- node hands on.
---
--- A field is data: its type (lua/kinds/types.lua) and what that type needs.
--- `finish[kind](spec, report, node, fields)` looks at a spec whose fields are settled one by one,
--- refuses what does not go together, and brings short forms into the one form that bodies
--- (lua/node/KIND.lua) know; `fields` are as written, faulty ones included.

local modes = require "tidemill.kinds.modes"
local read_part = require "tidemill.kinds.part"
local checks = require "tidemill.kinds.checks"
local increment = require "tidemill.kinds.increment"
local split = require "tidemill.kinds.split"
local suggest = require "tidemill.suggest"
local target = require "tidemill.kinds.target"
local types = require "tidemill.kinds.types"

local nodes = {}

--- What every node may say, beside the fields of its kind.
nodes.common = {
  after = { type = "nodes" },
  vars = { type = "vars" },
  when = { type = "condition" },
  trigger = { type = "choice", default = "all_success",
    choices = { "all_success", "all_done", "one_success", "one_failed", "all_failed", "none_failed" } },
  retries = { type = "integer", min = 0, max = 1000, default = 0 },
  retry_delay = { type = "duration", default = 10 },
  backoff = { type = "number", min = 1, max = 100, default = 2 },
  timeout = { type = "duration", positive = true },
  max_wait = { type = "duration", positive = true },
  deadline = { type = "duration", positive = true },
  priority = { type = "integer", min = 1, max = 10, default = 5 },
  pool = { type = "string" },
  allow_failure = { type = "boolean", default = false },
  description = { type = "string" },
}

local DATABASE = { type = "connection", wants = "postgres", required = true }

nodes.fields = {
  sql = {
    on = DATABASE,
    sql = { type = "texts", required = true },
    transaction = { type = "boolean", default = true },
    exactly_once = { type = "boolean", default = false },
  },
  extract = {
    from = DATABASE,
    query = { type = "string" },
    table = { type = "relation" },
    where = { type = "string" },
    to = { type = "location", required = true },
    jobs = { type = "integer", min = 1, max = 16 },
    split_by = { type = "key" },
    ranges = { type = "integer", min = 1, max = 5000 },
    range_pages = { type = "integer", min = 1, max = 1 << 30 },
    max_rate = { type = "rate" },
    max_snapshot_age = { type = "duration", positive = true },
    resume = { type = "boolean" },
    format = { type = "choice", choices = { "csv", "text" }, default = "csv" },
    delimiter = { type = "byte" },
    quote = { type = "byte" },
    escape = { type = "byte" },
    null = { type = "string", empty = true },
    header = { type = "boolean", default = false },
    encoding = { type = "string", default = "UTF8" },
    compress = { type = "choice", choices = { "none", "gzip", "zstd" }, default = "none" },
    level = { type = "integer", min = 0, max = 22 },
    object_size = { type = "size" },
    objects = { type = "integer", min = 1, max = 256 },
    map = { type = "function" },
    columns = { type = "strings" },
    verify = checks.verify,
    on_drift = checks.on_drift,
    watermark = increment.watermark,
    since = increment.since,
  },
  load = {
    from = { type = "location", required = true },
    on = DATABASE,
    into = { type = "relation", required = true },
    columns = { type = "columns" },
    mode = { type = "choice", default = "append",
      choices = { "append", "create", "replace", "replace_where", "merge" } },
    where = { type = "string" },
    keys = { type = "strings", single = true, filled = true },
    order_by = { type = "strings", single = true, filled = true },
    delete_when = { type = "string" },
    delete = { type = "boolean", default = false },
    jobs = { type = "integer", min = 1, max = 8, default = 1 },
    pipeline = { type = "boolean" },
    create = { type = "create" },
    via = { type = "via" },
    verify = checks.verify,
    reject = { type = "reject" },
    on_drift = checks.on_drift,
  },
  lua = {
    run = { type = "function", required = true },
    outputs = { type = "names" },
  },
  shell = {
    command = { type = "command", required = true },
    cwd = { type = "string" },
    env = { type = "environment" },
    outputs = { type = "names" },
  },
  assign = {
    on = DATABASE,
    sql = { type = "string", required = true },
    outputs = { type = "picks", required = true },
  },
  loop = {
    on = DATABASE,
    sql = { type = "texts", required = true },
    list = { type = "items" },
    lists = { type = "loop_lists" },
    name = { type = "string" },
    separator = { type = "string" },
    pattern = { type = "string" },
    count = { type = "integer", min = 1, max = 100, varies = true },
    batch = { type = "integer", min = 1, max = 200, default = 1 },
    pause = { type = "duration", max = 180, default = 0 },
    exactly_once = { type = "boolean", default = false },
  },
  branch = {
    condition = { type = "condition", required = true },
  },
  wait_for = {
    flow = { type = "string" },
    node = { type = "string" },
    previous = { type = "boolean" },
    at = { type = "choice", choices = { "same", "hour", "day", "week", "month" } },
    offset = { type = "offset" },
    from = { type = "offset" },
    to = { type = "offset" },
    object = { type = "location" },
    extracted = { type = "location" },
    on = { type = "connection", wants = "postgres" },
    query = { type = "string" },
    table = { type = "relation" },
    column = { type = "string" },
    newer_than = { type = "string" },
    every = { type = "duration", min = 1, default = 30 },
    timeout = { type = "duration", positive = true, default = 3600 },
    all = { type = "boolean" },
    fail_fast = { type = "boolean", default = false },
  },
  check = {
    on = DATABASE,
    table = { type = "relation" },
    where = { type = "string" },
    rules = { type = "rules", required = true },
  },
  subflow = {
    flow = { type = "string" },
    file = { type = "string" },
    set = { type = "vars", constant = true },
  },
}

-- ---- types that one kind alone has ----

-- A row's or column's number, or "all".
function types.row(value)
  if value == "all" or math.type(value) == "integer" and value >= 1 then return value end
  return nil, "a row: its number from 1, or \"all\""
end

local PICK = {
  row = { type = "row", default = 1 },
  column = { type = "column", default = 1 },
  separator = { type = "string", empty = true, default = "," },
  default = { type = "value" },
}

--- Outputs of an assign: name = { row =, column =, separator =, default = }, or name = column.
function types.picks(value, _, report, name)
  if not types.is_plain(value) or next(value) == nil or #value > 0 then
    return nil, "a table of names and what of the result they hold"
  end
  local picks = {}
  for _, output in ipairs(suggest.keys(value)) do
    if not output:match "^[%w_.]+$" then
      return nil, ("names of letters, digits, '_' and '.', not '%s'"):format(output)
    end
    local given = value[output]
    if not types.is_plain(given) then given = { column = given } end
    local what = ("output '%s'"):format(output)
    local pick = read_part(what, given, PICK, report, name)
    if pick.row == "all" and pick.column == "all" then
      report(name, what .. " wants all rows and all columns", "a value is a cell, a row or a column of the result")
    end
    picks[output] = pick
  end
  return picks
end

--- A list to loop over: one text that is split, or a list of texts.
function types.items(value)
  if type(value) == "string" then return value end
  local items = types.values(value)
  if not items then return nil, "a text such as \"a,b,${list}\", or a list of texts" end
  return items
end

local LIST = {
  list = { type = "items", required = true },
  name = { type = "string" },
  separator = { type = "string" },
  pattern = { type = "string" },
}

--- Several lists that are walked in step.
function types.loop_lists(value, _, report, name)
  if not types.is_list(value) or #value == 0 then return nil, "a list of { list =, name =, separator = }" end
  local lists = {}
  for i, one in ipairs(value) do
    if not types.is_plain(one) then return nil, "a list of { list =, name =, separator = }" end
    if one[1] ~= nil then one = { list = one } end
    lists[i] = read_part(("list %d"):format(i), one, LIST, report, name)
  end
  return lists
end

-- What each rule of a check takes: its own fields behind `from`, the name of its short form.
local COLUMNS = { type = "strings", single = true, filled = true, required = true }
local COLUMN = { type = "string", required = true }
local RULES = {
  not_null = { short = "columns", columns = COLUMNS },
  unique = { short = "columns", columns = COLUMNS },
  rows = { min = { type = "integer", min = 0, varies = true }, max = { type = "integer", min = 0, varies = true } },
  accepted = { column = COLUMN, values = { type = "values", required = true } },
  range = { column = COLUMN, min = { type = "value" }, max = { type = "value" } },
  fresh = { column = COLUMN, within = { type = "duration", positive = true, required = true } },
  sql = { short = "sql", sql = { type = "string", required = true } },
  references = { column = COLUMN, table = { type = "relation", required = true }, to = COLUMN },
}
local ABOUT_RULE = {
  name = { type = "string" },
  severity = { type = "choice", choices = { "fail", "warn" }, default = "fail" },
  max = { type = "integer", min = 0 },
}

local function read_rule(i, given, report, name)
  local kind, rest = nil, {}
  for _, key in ipairs(suggest.keys(given)) do
    if not RULES[key] then rest[key] = given[key]
    elseif kind then return report(name, ("rule %d is both '%s' and '%s'"):format(i, kind, key), "write two rules")
    else kind = key end
  end
  if not kind then
    local first
    for _, key in ipairs(suggest.keys(rest)) do
      if not ABOUT_RULE[key] then first = first or key end
    end
    return report(name, first and ("rule %d is of unknown kind '%s'"):format(i, first)
      or ("rule %d does not say what it checks"):format(i), suggest.hint(first or "", suggest.keys(RULES), "kinds"))
  end
  local what = ("rule %d ('%s')"):format(i, kind)
  local declared, short = {}, RULES[kind].short
  for key, field in pairs(RULES[kind]) do
    if key ~= "short" then declared[key] = field end
  end
  local own = given[kind]
  if short and (type(own) == "string" or types.is_list(own)) then own = { [short] = own } end
  if not types.is_plain(own) then return report(name, ("%s wants %s"):format(what, short or "a table")) end
  local rule = read_part(what, own, declared, report, name)
  local about = read_part(what, rest, ABOUT_RULE, report, name)
  if (kind == "rows" or kind == "range") and own.min == nil and own.max == nil then
    report(name, what .. " needs 'min' or 'max'")
  end
  if about.max and (kind == "rows" or kind == "fresh") then
    report(name, what .. " has 'max', but counts no violations", "a tolerance in rows goes with the other kinds")
  end
  rule.kind, rule.severity, rule.allowed = kind, about.severity, about.max or 0
  local subject = rule.columns and table.concat(rule.columns, ", ") or rule.column
  rule.name = about.name or (subject and ("%s: %s"):format(kind, subject)) or kind
  return rule
end

--- The rules of a check, each as { kind, name, severity, allowed, and the fields of its kind }.
function types.rules(value, _, report, name)
  if not types.is_list(value) or #value == 0 then return nil, "a list of rules such as { not_null = \"id\" }" end
  local rules = {}
  for i, one in ipairs(value) do
    if not types.is_plain(one) then return nil, "a list of rules such as { not_null = \"id\" }" end
    rules[#rules + 1] = read_rule(i, one, report, name)
  end
  return rules
end

-- ---- rules that tie fields together ----

local finish = {}
nodes.finish = finish

function finish.sql(spec, report)
  if spec.exactly_once and not spec.transaction then
    report("exactly_once", "is exactly_once without a transaction", "its ledger row is written in that transaction")
  end
end

-- Rules of COPY that tie several fields of an extract together.
function finish.extract(spec, report)
  checks.finish_extract(spec, report)
  split.finish(spec, report)
  increment.finish(spec, report)
  if (spec.query == nil) == (spec.table == nil) then
    report(spec.query and "query" or nil, spec.query and "has both query and table" or "needs a query or a table",
      "give one of query and table")
  end
  if spec.columns and not spec.map then
    report("columns", "has columns but no map", "columns names what a map returns; without one, name them in the query")
  end
  local text = spec.format == "text"
  if text then
    for _, name in ipairs { "quote", "escape" } do
      if spec[name] then report(name, ("has '%s', which only format csv knows"):format(name)) end
    end
    if spec.header then report("header", "has 'header', which only format csv knows") end
  end
  spec.delimiter = spec.delimiter or (text and "\t" or ",")
  spec.null = spec.null or (text and "\\N" or "")
  if not text then
    spec.quote = spec.quote or '"'
    spec.escape = spec.escape or spec.quote
    if spec.quote == spec.delimiter then report("quote", "has the same quote and delimiter") end
  elseif spec.delimiter:find "[%l%d\\.]" then
    report("delimiter", ("has delimiter '%s', which COPY text does not take"):format(spec.delimiter))
  end
  if spec.null:find("[\r\n]") or spec.null:find(spec.delimiter, 1, true)
    or spec.quote and spec.null:find(spec.quote, 1, true) then
    report("null", "has a null text with a line end, the delimiter or the quote in it")
  end
  local most = ({ none = 0, gzip = 9, zstd = 22 })[spec.compress]
  if spec.level and most and spec.level > most then
    report("level", spec.compress == "none" and "has a level but no compression"
      or ("has level %d; %s goes to %d"):format(spec.level, spec.compress, most))
  end
  if not spec.encoding:match "^[%w_-]+$" then report("encoding", ("has encoding '%s'"):format(spec.encoding)) end
end

function finish.load(spec, report)
  modes.finish(spec, report)
  target.finish(spec, report)
  checks.finish_load(spec, report)
end

local function name_list(one, i, seen, report)
  one.name = one.name or (i == 1 and "loop.item" or ("loop.item%d"):format(i - 1))
  if not one.name:match "^[%w_.]+$" then
    report("name", ("names a list '%s'"):format(one.name), "names are letters, digits, '_' and '.'")
  elseif seen[one.name] or one.name == "loop.index" then
    report("name", ("has two loop variables '%s'"):format(one.name))
  end
  seen[one.name] = true
  if one.separator and one.pattern then
    report("pattern", "has both a separator and a pattern", "a separator is plain text, a pattern is one of Lua")
  elseif type(one.list) == "table" and (one.separator or one.pattern) then
    report("separator", "has a separator for a list of texts", "a separator splits a list that is one text")
  elseif one.pattern then
    local ok, raised = pcall(string.find, "", one.pattern)
    if not ok then report("pattern", ("has a malformed pattern '%s' (%s)"):format(one.pattern, raised)) end
    if ok and ("").find("", one.pattern) then
      report("pattern", ("has a pattern '%s' that matches nothing at all"):format(one.pattern))
    end
  elseif type(one.list) == "string" then
    one.separator = one.separator or ","
  end
end

function finish.loop(spec, report, _, fields)
  local given = {}
  for _, name in ipairs { "list", "lists", "count" } do
    if fields[name] ~= nil then given[#given + 1] = name end
  end
  if #given ~= 1 then
    report(given[2], #given == 0 and "needs a list, lists or a count"
      or ("has both %s and %s"):format(given[1], given[2]),
      "a loop walks over one list, over several in step, or counts")
  end
  if spec.list ~= nil and not spec.lists then
    spec.lists = { { list = spec.list, name = spec.name, separator = spec.separator, pattern = spec.pattern } }
  elseif spec.name or spec.separator or spec.pattern then
    local name = spec.name and "name" or spec.separator and "separator" or "pattern"
    report(name, ("has '%s' without 'list'"):format(name), "in 'lists', it belongs to each of them")
  end
  spec.list, spec.name, spec.separator, spec.pattern = nil, nil, nil, nil
  local seen = {}
  for i, one in ipairs(spec.lists or {}) do name_list(one, i, seen, report) end
end

local WAITS = { -- what is waited for: the field that says so, the fields that go with it
  { "flow", { node = true, at = true, offset = true, from = true, to = true, all = true,
    fail_fast = true } },
  { "previous", { node = true, fail_fast = true } },
  { "object", {} },
  { "extracted", {} },
  { "query", { on = true } },
  { "table", { on = true, column = true, newer_than = true } },
}
local ANY_WAIT = { every = true, timeout = true }

function finish.wait_for(spec, report, node)
  spec.timeout = node.timeout -- of the whole waiting, not of one look
  local found
  for _, wait in ipairs(WAITS) do
    if spec[wait[1]] and found then
      report(wait[1], ("waits for both '%s' and '%s'"):format(found[1], wait[1]), "write two nodes")
      return
    end
    if spec[wait[1]] then found = wait end
  end
  if not found then
    report(nil, "does not say what it waits for", "give one of flow, previous = true, object, extracted, query, table")
    return
  end
  spec.what = found[1]
  for _, name in ipairs(suggest.keys(nodes.fields.wait_for)) do
    if name ~= found[1] and not found[2][name] and not ANY_WAIT[name] and spec[name] then
      report(name, ("has '%s', which does not go with '%s'"):format(name, found[1]))
    end
  end
  if (spec.what == "query" or spec.what == "table") and not spec.on then report(nil, "needs 'on'") end
  if spec.what == "table" and not (spec.column and spec.newer_than) then
    report(nil, "needs 'column' and 'newer_than' beside 'table'")
  end
  if (spec.from == nil) ~= (spec.to == nil) then
    report(spec.from and "from" or "to", "needs both 'from' and 'to', or neither")
  elseif spec.from and (spec.at or spec.offset) then
    report("at", "has 'at' or 'offset' beside 'from' and 'to'")
  elseif spec.what == "flow" and not spec.from then
    spec.at = spec.at or "day"
  end
  if spec.what == "flow" and spec.all == nil then spec.all = true end
end

function finish.check(spec, report)
  for _, rule in ipairs(spec.rules or {}) do
    if rule.kind ~= "sql" and not spec.table then
      report("rules", ("needs 'table' for rule '%s'"):format(rule.name))
      return
    end
  end
end

function finish.subflow(spec, report)
  if (spec.flow == nil) == (spec.file == nil) then
    report(spec.flow and "file" or nil, spec.flow and "has both flow and file" or "needs a flow or a file",
      "flow names a published flow, file a flow file beside this one")
    spec.file = nil
  elseif spec.file and (spec.file:find("${", 1, true) or not spec.file:find "%.lua$" or spec.file:find "^/") then
    report("file", ("has file '%s'"):format(spec.file), "a Lua file, relative to this one, without variables")
    spec.file = nil
  end
  spec.set = spec.set or {}
end

-- ---- what a node hands on ----

-- Outputs that every node of a kind has; they are named with the node only: ${node.rows}.
local FIXED = {
  sql = { "rows" },
  extract = { "manifest", "rows", "objects", "bytes", "report" },
  load = { "rows", "rejected", "rejects" },
  loop = { "rows", "iterations" },
  branch = { "result" },
  check = { "passed", "warned", "failed", "violations", "report" },
  subflow = { "run_id" },
  shell = { "exit_code" },
}
local WAIT_OUTPUTS = { flow = { "run_id" }, previous = { "run_id" }, object = { "size", "etag" },
  extracted = { "manifest", "rows" }, query = { "value" }, table = {} }

--- The outputs of a node: those it declares (named `${name}`, or `${node.name}`), those that its
--- kind always has (`${node.name}` only), and whether it may have others, which nobody can know
--- before it runs.
---@param kind string
---@param spec table
---@return string[] declared, string[] fixed, boolean open
function nodes.outputs(kind, spec)
  local declared = kind == "assign" and suggest.keys(spec.outputs or {}) or spec.outputs or {}
  local fixed = kind == "wait_for" and WAIT_OUTPUTS[spec.what] or FIXED[kind] or {}
  local open = kind == "subflow" or kind == "wait_for" and (spec.what == "flow" or spec.what == "previous")
  return declared, fixed, open
end

--- The variables that one field of a node alone knows, since they differ from turn to turn: those of
--- a loop in its sql, the bounds of a range in an extract's query. Nil if there are none.
---@param kind string
---@param spec table
---@return string? field, string[]? names
function nodes.own_variables(kind, spec)
  if kind == "extract" and spec.query and spec.split_by then return "query", { "range", "lo", "hi" } end
  if kind ~= "loop" then return nil end
  local names = { "loop.index" }
  for i, one in ipairs(spec.lists or {}) do names[i + 1] = one.name end
  return "sql", names
end

return nodes
