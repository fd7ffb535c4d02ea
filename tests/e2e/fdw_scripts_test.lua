-- needs: fdw fdw2 ossd
--- scripts/rds_to_adbpg_fdw.lua runs as it stands, after the tutorial's own statements.

local lab = require "tests.support.lab"
local lu = require "luaunit"

-- The lines of SQL of the tutorial's text, without what is glued to their ends there.
local function tutorial()
  local lines = {}
  for line in io.lines "tests/fdw/tutorial.txt" do
    local sql = line:match "^(CREATE .*;)" or line:match "^(DROP .*;)"
    if sql then lines[#lines + 1] = sql end
  end
  return lines
end

TestFdwScripts = {}

function TestFdwScripts.test_the_flow_has_the_tutorials_two_texts_byte_for_byte()
  local lines, declared = tutorial(), dofile "scripts/rds_to_adbpg_fdw.lua"
  lu.assertEquals(#lines, 8)
  lu.assertEquals({ declared.fields[1].fields.sql, declared.fields[2].fields.sql }, { lines[7], lines[8] })
end

function TestFdwScripts.test_the_tutorials_pipeline_moves_its_thousand_rows()
  local l <close> = lab.new "fdw_scripts"
  local rds, rds_url = l:database("rds", os.getenv "TM_FDW")
  local adbpg, adbpg_url = l:database("adbpg", os.getenv "TM_FDW2")
  local store <close> = l:lake("lake", "lab-fdw-scripts")
  for entry in store:list {} do store:delete(entry.key) end
  for n, sql in ipairs(tutorial()) do
    sql = sql:gsub("<([%w_]+)>", {
      oss_endpoint = os.getenv "TM_OSSD", bucket_name = "lab-fdw-scripts",
      access_key_id = os.getenv "TM_OSSD_ID", access_key_secret = os.getenv "TM_OSSD_SECRET",
    })
    for statement in (n < 7 and sql or ""):gmatch "[^;]+;" do
      local conn = n <= 3 and rds or adbpg
      conn:exec(statement)
    end
  end
  for name, value in pairs { RDS_URL = rds_url, ADBPG_URL = adbpg_url } do l.env[name] = value end
  for _, name in ipairs { "tidemill.lua", "rds_to_adbpg_fdw.lua" } do
    local f <close> = assert(io.open("scripts/" .. name))
    l:write(name, f:read "a")
  end
  local r = l:run("run", "rds_to_adbpg_fdw.lua")
  lu.assertEquals(r.code, 0, r.all)
  local figures = "SELECT count(*) || '/' || sum(a) || '/' || min(c) || '/' || max(c) FROM "
  lu.assertEquals(adbpg:value(figures .. "t_target"), rds:value(figures .. "t_src"))
  local keys = {}
  for entry in store:list {} do keys[#keys + 1] = entry.key end
  lu.assertEquals(#keys, 1)
  lu.assertStrMatches(keys[1], "rds/t3/%d+/oss_%d+_%d+_%d+")
end

os.exit(lu.LuaUnit.run())
