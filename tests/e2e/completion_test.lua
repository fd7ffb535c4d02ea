--- The Tab key at a shell: what is offered, and bash and zsh themselves at a pseudo-terminal.

local lu = require "luaunit"
local lab = require "tests.support.lab"
local proc = require "proc"
local terminal = require "tests.support.terminal"

local FLOW = [[
local flow = require "flow"
return flow %q {
  params = { day = { type = "date", default = "2026-01-31", description = "the day to load" }, size = 5 },
  vars = { mydate = flow.time "yyyyMMdd" },
  flow.lua "orders to the lake" { run = function() end },
  flow.lua "orders: load" { after = "orders to the lake", run = function() end },
}
]]

TestCompletion = {}
local T = TestCompletion

function T:setUp()
  self.lab = lab.new "completion"
  self.lab:project()
  self.lab:write("a.lua", FLOW:format "Import RDS PG data")
  self.lab:write("b.lua", FLOW:format "daily:load=all")
  self.lab:write("broken.lua", "return 1 +")
  self.lab:write("notes.txt", "")
  os.execute(("mkdir '%s/runs' '%s/flows'"):format(self.lab.dir, self.lab.dir))
  -- the programs' names on the lines are "tidemill"
  os.execute(("mkdir '%s/bin' && ln -s '%s' '%s/bin/tidemill'"):format(self.lab.dir, os.getenv "TM_BIN", self.lab.dir))
  self.lab.env.PATH = self.lab.dir .. "/bin:" .. os.getenv "PATH"
end

function T:tearDown() self.lab:close() end

function T:publish()
  for _, file in ipairs { "a.lua", "b.lua" } do
    local r = self.lab:run("publish", file)
    lu.assertEquals(r.code, 0, r.all)
  end
end

-- What is offered for the last of the words: the words alone, and the directives.
function T:offered(...)
  local r = self.lab:run("complete", "--", ...)
  lu.assertEquals({ r.code, r.err }, { 0, "" })
  local words, directives = {}, {}
  for line in r.out:gmatch "[^\n]+" do
    if line:sub(1, 1) == "=" then words[#words + 1] = line:match "^=(.-)\t" else directives[#directives + 1] = line end
  end
  return words, table.concat(directives, " ")
end

function T:test_commands_and_options()
  lu.assertEquals(self:offered("ver"), { "versions", "version" })
  lu.assertNotTableContains((self:offered ""), "node")
  lu.assertEquals(self:offered("logs", "--fo"), { "--follow" })
  lu.assertEquals(self:offered("logs", "last", "--"), { "--follow", "--tail", "--attempt", "--json", "--help" })
  lu.assertEquals(self:offered("runs", "--state", "su"), { "success" })
  lu.assertEquals(self:offered("runs", "--state=su"), { "--state=success" })
  lu.assertEquals(self:offered("mark", "last", ""), { "success", "failed" })
  lu.assertEquals(self:offered("run", "a.lua", "--jobs", ""), {})
  lu.assertEquals(self:offered("nonsense", ""), {})
  lu.assertTableContains((self:offered("help", "flow")), "flow-file")
  lu.assertEquals({ self:offered("run", "--", "--") }, { {}, "@files lua" })
end

function T:test_every_command_has_offers_for_its_options()
  for _, name in ipairs(require "tidemill.main".commands) do
    local command = require "tidemill.main".command(name)
    if not command.hidden then
      local words = self:offered(name, "--")
      lu.assertEquals(words[#words], "--help", name)
      lu.assertEquals(#words, #(command.options or {}) + 1, name)
    end
  end
end

function T:test_files_and_what_is_in_them()
  lu.assertEquals({ self:offered("run", "") }, { {}, "@files lua" })
  lu.assertEquals({ self:offered("check", "a.lua", "b") }, { {}, "@files lua" })
  lu.assertEquals({ self:offered("run", "a.lua", "") }, { {}, "" })
  lu.assertEquals(self:offered("run", "a.lua", "--only", ""), { "orders to the lake", "orders: load" })
  lu.assertEquals(self:offered("run", "a.lua", "--only=orders:"), { "--only=orders: load" })
  lu.assertEquals({ self:offered("run", "a.lua", "--set", "") }, { { "day=", "mydate=", "size=" }, "@open" })
  lu.assertEquals({ self:offered("run", "broken.lua", "--only", "") }, { {}, "" })
  lu.assertEquals({ self:offered("run", "absent.lua", "--only", "") }, { {}, "" })
end

function T:test_nothing_is_made_by_looking()
  lu.assertEquals(self:offered("show", ""), {})
  lu.assertEquals(self:offered("versions", ""), {})
  lu.assertNil(io.open(self.lab.dir .. "/.tidemill/state.db"))
end

function T:test_flows_runs_and_nodes_of_the_store()
  self:publish()
  self.lab:run("run", "a.lua")
  local id = self.lab:run("runs", "--json").out:match '"id":%s*"([^"]+)"'
  lu.assertEquals(self:offered("versions", ""), { "Import RDS PG data", "daily:load=all" })
  lu.assertEquals(self:offered("pause", "dai"), { "daily:load=all" })
  lu.assertEquals(self:offered("show", ""), { "last", id })
  lu.assertEquals(self:offered("show", id:sub(1, 10)), { id })
  lu.assertEquals(self:offered("show", id:sub(-6, -3)), id:sub(-6, -3) == id:sub(1, 4) and { id } or { id:sub(-6) })
  lu.assertEquals(self:offered("logs", "last", ""), { "orders to the lake", "orders: load" })
  lu.assertEquals(self:offered("rerun", "last", "--from", "orders:"), { "orders: load" })
  lu.assertEquals(self:offered("trigger", "Import RDS PG data", "--set", "s"), { "size=" })
  lu.assertEquals(self:offered("trigger", "Import RDS PG data", "--only", "orders:"), { "orders: load" })
  lu.assertEquals(self:offered("backfill", "Import RDS PG data", "--without", ""),
    { "orders to the lake", "orders: load" })
  lu.assertEquals(self:offered("runs", "--flow", "I"), { "Import RDS PG data" })
  lu.assertEquals(self:offered("rollback", "Import RDS PG data", ""), { "1" })
end

-- ---- the shells ----

local function shell(self, cmd)
  local env = { HOME = self.lab.dir, PS1 = "$ ", PROMPT = "$ ", INPUTRC = "/dev/null", ZDOTDIR = self.lab.dir, TERM = "dumb" }
  for name, value in pairs(self.lab.env) do env[name] = value end
  return terminal.start { cmd = cmd, env = env, cwd = self.lab.dir, size = "200x50" }
end

-- Types a line and Tab; then takes the line back with Ctrl-U.
local function completes(t, typed, wanted)
  t:type(typed .. "\t")
  t:expect(wanted)
  t:type "\21" -- forget the line
end

function T:test_bash()
  self:publish()
  self.lab:run("run", "a.lua")
  local t <close> = shell(self, { "bash", "--norc", "--noprofile", "-i" })
  t:type 'source <(tidemill completion bash); echo rea"dy"\n'
  t:expect "ready"
  completes(t, "tidemill publ", "tidemill publish ")
  completes(t, "tidemill run", "tidemill run") -- also runs: a folder "runs" is no file here
  completes(t, "tidemill logs --fol", "--follow ")
  completes(t, "tidemill runs --state=succ", "--state=success ")
  completes(t, "tidemill versions Imp", "Import\\ RDS\\ PG\\ data ")
  completes(t, "tidemill versions Import\\ R", "Import\\ RDS\\ PG\\ data ")
  completes(t, "tidemill versions 'Import R", "'Import RDS PG data' ")
  completes(t, 'tidemill versions "Import R', '"Import RDS PG data" ')
  completes(t, "tidemill versions daily:l", "daily:load=all ")
  completes(t, "tidemill versions dai", "daily:load=all ")
  completes(t, "tidemill show la", "show last ")
  completes(t, "tidemill rerun last --from orders\\ ", "orders\\ to\\ the\\ lake ")
  completes(t, "tidemill run a.lua --set da", "--set day=")
  completes(t, "tidemill check a.lua br", "a.lua broken.lua ")
  completes(t, "tidemill exec no", "exec no") -- notes.txt is no script
  t:type "tidemill versions 'Import R\t; echo \"d\"one\n"
  t:expect "done"
  lu.assertStrContains(t:text(), "publish of version 1")
  t:type "exit\n"
  lu.assertEquals(t:finish(), 0)
end

function T:test_zsh()
  self:publish()
  local t <close> = shell(self, { "zsh", "-f", "-i" })
  t:type 'unsetopt zle_bracketed_paste prompt_sp; autoload -U compinit; compinit -u -D; source <(tidemill completion zsh); echo rea"dy"\n'
  t:expect "ready\n"
  completes(t, "tidemill publ", "publish ")
  completes(t, "tidemill versions Imp", "Import\\ RDS\\ PG\\ data ")
  completes(t, "tidemill versions 'Import R", "'Import RDS PG data' ")
  completes(t, "tidemill pause dai", "daily:load=all ")
  completes(t, "tidemill runs --state=succ", "--state=success ")
  completes(t, "tidemill check a.lua br", "broken.lua ")
  t:type "exit\n"
  t:finish()
end

function T.test_the_scripts_are_sound()
  local function script(name)
    return proc.run { cmd = { os.getenv "TM_BIN", "completion", name }, check = true }.stdout
  end
  proc.run { cmd = { "bash", "-n", "/dev/stdin" }, input = script "bash", check = true }
  proc.run { cmd = { "zsh", "-f", "-n", "/dev/stdin" }, input = script "zsh", check = true }
  local r = proc.run { cmd = { os.getenv "TM_BIN", "completion", "fish" } }
  lu.assertEquals(r.code, 2)
end

os.exit(lu.LuaUnit.run())
