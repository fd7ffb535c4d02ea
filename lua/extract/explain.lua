--- What the planner would do with a query: which tables it reads, and whether by an index.
---
--- Ranges of pages must not undo what a condition gains: partitions that it rules out stay unread, and what an
--- index finds is not searched page by page.

local json = require "json"
local pg = require "pg"

local explain = {}

local function walk(node, plan)
  if node["Relation Name"] then
    plan.tables[pg.quote_ident(node.Schema) .. "." .. pg.quote_ident(node["Relation Name"])] = true
  end
  local kind = node["Node Type"]
  plan.indexed = plan.indexed or kind:find "Index" ~= nil or kind:find "^Bitmap" ~= nil
  for _, below in ipairs(node.Plans or {}) do walk(below, plan) end
end

---@class extract.Plan
---@field rows number                 that are expected
---@field tables table<string, true>  quoted names
---@field indexed boolean             an index is used anywhere

--- Asks for the plan of a query, which is not run.
---@param conn pg.Conn
---@param sql string
---@return extract.Plan
function explain.of(conn, sql)
  local text = conn:value("EXPLAIN (FORMAT JSON, VERBOSE) " .. sql)
  local top = json.decode(text)[1].Plan
  local plan = { rows = top["Plan Rows"], tables = {}, indexed = false }
  walk(top, plan)
  return plan
end

return explain
