--- What the planner would do with a query: which tables it reads, and whether by an index.
---
--- Ranges of pages must not undo what a condition gains: partitions that it rules out stay unread, and what an
--- index finds is not searched page by page.

local json = require "json"
local pg = require "pg"

local explain = {}

-- Which side of an outer join may be without a row.
local OPTIONAL = { Left = { Inner = true }, Right = { Outer = true }, Full = { Inner = true, Outer = true } }

local function walk(node, plan, is_optional)
  if node["Relation Name"] then
    local name = pg.quote_ident(node.Schema) .. "." .. pg.quote_ident(node["Relation Name"])
    plan.tables[name] = true
    plan.optional[name] = is_optional or plan.optional[name]
  end
  local kind = node["Node Type"]
  plan.indexed = plan.indexed or kind:find "Index" ~= nil or kind:find "^Bitmap" ~= nil
  local sides = OPTIONAL[node["Join Type"]] or {}
  for _, below in ipairs(node.Plans or {}) do
    walk(below, plan, is_optional or sides[below["Parent Relationship"]])
  end
end

---@class extract.Plan
---@field rows number                 that are expected
---@field tables table<string, true>  quoted names
---@field optional table<string, true>  those of them that an outer join may give no row of
---@field indexed boolean             an index is used anywhere

--- Asks for the plan of a query, which is not run.
---@param conn pg.Conn
---@param sql string
---@return extract.Plan
function explain.of(conn, sql)
  local text = conn:value("EXPLAIN (FORMAT JSON, VERBOSE) " .. sql)
  local top = json.decode(text)[1].Plan
  local plan = { rows = top["Plan Rows"], tables = {}, optional = {}, indexed = false }
  walk(top, plan)
  return plan
end

return explain
