--- state: the suite on SQLite, and what is SQLite's alone.

local lu = require "luaunit"
local proc = require "proc"
local state = require "tidemill.state"
local suite = require "tests.support.state_suite"

local count = 0

suite.define("TestState", function()
  count = count + 1
  local file = ("%s/state-%d.db"):format(os.getenv "TM_TMP" or "/tmp", count)
  local function clean() os.execute(("rm -f %s %s-wal %s-shm"):format(file, file, file)) end
  clean()
  return function(options) return state.open("sqlite:" .. file, options) end, clean, "sqlite:" .. file
end)

TestSqlite = {}

function TestSqlite.test_a_folder_that_cannot_be_made_is_named()
  local ok, err = pcall(state.open, "sqlite:/proc/nope/state.db")
  lu.assertFalse(ok)
  lu.assertEquals({ err.kind, err.message },
    { "io", "cannot make the folder '/proc/nope' of the state store: No such file or directory" })
end

function TestSqlite.test_a_file_is_made_with_its_directory_and_kept()
  local dir = (os.getenv "TM_TMP" or "/tmp") .. "/state-test"
  os.execute("rm -rf " .. dir)
  local store = state.open("sqlite:deep/state.db", { directory = dir })
  local id = store:create_run(suite.a_run())
  store:close()
  local again <close> = state.open("sqlite:" .. dir .. "/deep/state.db", { directory = "/elsewhere" })
  lu.assertEquals(again:find_run(id).flow, "f")
  again.db:exec "INSERT INTO schema_version VALUES (99)"
  local ok, err = pcall(state.open, "sqlite:deep/state.db", { directory = dir })
  lu.assertFalse(ok)
  lu.assertStrContains(err.message, "schema version 99")
  os.execute("rm -rf " .. dir)
end

function TestSqlite.test_a_process_that_dies_inside_a_transaction_leaves_no_lock_and_no_trace()
  local dir = os.getenv "TM_TMP" or "/tmp"
  local url, script = "sqlite:" .. dir .. "/dies.db", dir .. "/dies.lua"
  os.execute("rm -f " .. dir .. "/dies.db*")
  local store <close> = state.open(url)
  local f = assert(io.open(script, "w"))
  f:write [[
    local store = require "tidemill.state".open(arg[1])
    store.db:transaction(function()
      store:touch()
      print "inside"
      require "proc".poll({}, 60)
    end)]]
  f:close()
  local child <close> = proc.spawn { cmd = { os.getenv "TM_BIN", "exec", script, url }, stdout = "pipe" }
  lu.assertStrContains(child:read(1, 60), "inside")
  child:kill "KILL"
  lu.assertEquals(child:wait(60).signal, "SIGKILL")
  store:touch()
  lu.assertEquals(store:changes(), 2)
end

function TestSqlite.test_another_kind_of_database_is_refused()
  local ok, err = pcall(state.open, "mysql://user:secret@host/x")
  lu.assertFalse(ok)
  lu.assertNotStrContains(err.message, "secret")
end

-- ---- statements for PostgreSQL ----

TestTranslate = {}

function TestTranslate.test_question_marks_become_numbers_unless_they_are_something_else()
  local translate = require "tidemill.state.postgres_face".translate
  for _, case in ipairs {
    { "SELECT 1", "SELECT 1", 0 },
    { "a = ? AND b IN (?, ?)", "a = $1 AND b IN ($2, $3)", 3 },
    { "'?' || ? || 'it''s ?'", "'?' || $1 || 'it''s ?'", 1 },
    { [["?" = ? AND "a""?" = ?]], [["?" = $1 AND "a""?" = $2]], 2 },
    { "? -- ?\n? /* ? */ - ? / ?", "$1 -- ?\n$2 /* ? */ - $3 / $4", 4 },
    { "DO $$ ? $$, $tag$ ? $$ ? $tag$ ?", "DO $$ ? $$, $tag$ ? $$ ? $tag$ $1", 1 },
    { "? IS NULL OR a = ?", "$1::text IS NULL OR a = $2", 2 },
    { "? is not null", "$1::text is not null", 1 },
    { "'unfinished ?", "'unfinished ?", 0 },
    { "/* unfinished ?", "/* unfinished ?", 0 },
    { "?", "$1", 1 },
  } do
    lu.assertEquals({ translate(case[1]) }, { case[2], case[3] })
  end
end

os.exit(lu.LuaUnit.run())
