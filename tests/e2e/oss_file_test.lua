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
