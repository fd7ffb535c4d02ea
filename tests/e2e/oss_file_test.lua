--- file:// stores: a directory is a store like the others, and nothing leads out of it.

local lu = require "luaunit"
local oss = require "oss"
local suite = require "tests.support.oss_suite"

local tmp = os.getenv "TM_TMP" or (os.getenv "TM_BUILD" or "build") .. "/tmp/oss_file"
local dir = tmp .. "/store"

local function sh(command) assert(os.execute(command)) end

local function open()
  sh("rm -rf '" .. dir .. "' && mkdir -p '" .. dir .. "'")
  return oss.open("file://" .. dir)
end

TestFile = {}
suite.add(TestFile, { open = open, any_key = false, metadata = false, min_part = 1 << 20 })

TestDirectory = {}

function TestDirectory:setUp() self.store = open() end

function TestDirectory:test_keys_that_lead_elsewhere_are_refused()
  for _, key in ipairs { "../x", "a/../../x", "/etc/x", "a//b", "./x", "a/", ".tidemill-x", ("n"):rep(256) } do
    suite.raises("usage", self.store.put, self.store, key, "x")
    suite.raises("usage", self.store.get, self.store, key)
  end
end

function TestDirectory:test_a_killed_writer_leaves_nothing()
  local script = tmp .. "/write.lua"
  local f <close> = assert(io.open(script, "w"))
  f:write(([[local store = require "oss".open("file://%s")
    local sink = store:writer "deep/in/a"
    sink:write(("x"):rep(1 << 20))
    print "written"
    io.stdout:flush()
    require "time".sleep(60)]]):format(dir))
  f:close()
  local child <close> = require "proc".spawn { cmd = { assert(os.getenv "TM_BIN"), "exec", script }, stdout = "pipe" }
  lu.assertEquals(child:read(1, 60), "written\n")
  child:kill "KILL"
  child:wait(60)
  local found <close> = assert(io.popen(("find '%s' -type f"):format(dir)))
  lu.assertEquals(found:read "a", "")
end

function TestDirectory:test_a_directory_that_goes_while_an_object_is_written_is_made_again()
  for _, create_only in ipairs { true, false } do
    self.store:put("d/e/one", "1")
    local sink <close> = self.store:writer("d/e/two", { create_only = create_only })
    sink:write "2"
    self.store:delete "d/e/one"
    sink:finish()
    lu.assertEquals((self.store:get "d/e/two"), "2")
    self.store:delete "d/e/two"
    lu.assertNil(self.store:list()())
  end
end

function TestDirectory:test_symbolic_links_are_neither_followed_nor_listed()
  sh(("ln -s /etc '%s/out' && ln -s /etc/passwd '%s/passwd'"):format(dir, dir))
  lu.assertFalse(pcall(self.store.get, self.store, "passwd"))
  lu.assertFalse(pcall(self.store.get, self.store, "out/passwd"))
  lu.assertFalse(pcall(self.store.put, self.store, "out/new", "x"))
  lu.assertNil(self.store:list()())
  self.store:put("passwd", "mine") -- replaces the link, not its target
  lu.assertEquals((self.store:get "passwd"), "mine")
end

function TestDirectory:test_an_emptied_directory_is_gone()
  self.store:put("a/b/c", "x")
  self.store:delete "a/b/c"
  lu.assertNil(self.store:list { delimiter = "/" }())
  sh(("mkdir -p '%s/empty/deep'"):format(dir))
  lu.assertNil(self.store:list { delimiter = "/" }())
end

function TestDirectory:test_a_missing_directory_is_said_to_be()
  suite.raises("not_found", oss.open, "file://" .. dir .. "/nope")
  suite.raises("usage", oss.open, "file://relative")
end

function TestDirectory:test_a_file_in_the_way_is_a_conflict()
  self.store:put("a", "x")
  suite.raises("conflict", self.store.put, self.store, "a/b", "x")
end

os.exit(lu.LuaUnit.run())
