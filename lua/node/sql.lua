--- The body of a flow.sql node: its statements, as written, one text after the other.
---
--- Each text is one simple query: several statements in it are one transaction unless they
--- say otherwise, as in psql -c. The rows that statements affected are added up.

local errors = require "tidemill.errors"

---@param ctx tidemill.Context
---@param spec table  the node's fields, variables filled in
return function(ctx, spec)
  local texts = type(spec.sql) == "table" and spec.sql or { spec.sql }
  local conn <close> = ctx:postgres(spec.on)
  local rows
  for i, text in ipairs(texts) do
    if #texts > 1 then ctx:progress { rows = rows, detail = ("statement %d of %d"):format(i, #texts) } end
    for _, done in ipairs(conn:exec(text)) do
      if done.rows then rows = (rows or 0) + done.rows end
      if done.command ~= "" then ctx:log("info", "%s", done.command) end
    end
  end
  local state = conn:state()
  if state ~= "idle" then -- a list of texts with BEGIN and no COMMIT: the server would drop it all
    error(errors.new("sql", "the statements leave a transaction open, so nothing of it is kept",
      { hint = "end it with COMMIT; several statements in one text are one transaction anyway" }), 0)
  end
  ctx:progress { rows = rows, detail = "", done = true }
  if rows then ctx:output("rows", rows) end
end
