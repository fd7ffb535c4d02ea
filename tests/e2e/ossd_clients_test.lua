-- The vendors' own clients drive ossd: each check of tests/clients is a test here.
-- needs: ossd

local lu = require "luaunit"

local build = assert(os.getenv "TM_BUILD")
local clients = build .. "/clients"

local function sh(command)
  local pipe = assert(io.popen(command .. " 2>&1; echo \"exit $?\""))
  local text = pipe:read "a"
  pipe:close()
  return text, tonumber(text:match "exit (%d+)\n$")
end

-- Installs into the build directory; what is there from before is kept.
local function install()
  local text, code = sh(("mkdir -p '%s' && cp tests/clients/package.json '%s/' && cd '%s' && " ..
    "(npm ls >/dev/null || npm install --no-audit --no-fund --no-package-lock)")
    :format(clients, clients, clients))
  assert(code == 0, "npm install failed: " .. text)
end

local function add_tests(suite, script, least)
  local text = sh(("TM_CLIENTS='%s' timeout 250 node tests/clients/%s"):format(clients, script))
  local count = 0
  for line in text:gmatch "[^\n]+" do
    local result, name = line:match "^(%a+) (.*)$"
    if result == "ok" or result == "FAILED" then
      count = count + 1
      suite[("test_%02d_%s"):format(count, name)] = function()
        lu.assertEquals(result, "ok", (name:gsub("%%", "%%%%")))
      end
    end
  end
  suite.test_every_check_ran = function()
    lu.assertTrue(count >= least, text)
  end
end

TestAliOss, TestAwsSdk = {}, {}

install()
add_tests(TestAliOss, "ali.mjs", 21)
add_tests(TestAwsSdk, "aws.mjs", 19)

os.exit(lu.LuaUnit.run())
