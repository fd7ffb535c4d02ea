--- One session of a database, run as `tidemill exec` beside a test; tests/support/fdw.lua starts it.
---
--- Connects to FDW_URI, prints "pid N", then runs the statements of the JSON array FDW_STEPS in
--- turn, each after a line "step I", and ends with a line of JSON: how the last of them went.

local json = require "json"
local pg = require "pg"

local conn = pg.connect(os.getenv "FDW_URI")
conn:notices(function() end)
io.stdout:setvbuf "line"
print("pid " .. conn:pid())

local function run()
  local done
  for i, sql in ipairs(json.decode(os.getenv "FDW_STEPS")) do
    print("step " .. i)
    done = conn:exec(sql)
  end
  return done
end

local ok, err = pcall(run)
if ok then
  print(json.encode { ok = true, rows = err.rows })
else
  local e = type(err) == "table" and err or { message = tostring(err) }
  print(json.encode { ok = false, kind = e.kind, code = e.code, message = e.message, detail = e.detail, hint = e.hint })
end
