--- tidemill.sqlite: values, transactions, locks, errors.

local lu = require "luaunit"
local proc = require "proc"
local sqlite = require "tidemill.sqlite"

TestSqlite = {}

local function raised(fn, ...)
  local ok, err = pcall(fn, ...)
  lu.assertFalse(ok)
  return err
end

function TestSqlite:setUp()
  self.path = os.tmpname()
  self.db = sqlite.open(self.path)
  self.db:script "CREATE TABLE t (k TEXT PRIMARY KEY, v); CREATE TABLE u (k TEXT REFERENCES t)"
end

function TestSqlite:tearDown()
  self.db:close()
  for _, suffix in ipairs { "", "-wal", "-shm" } do os.remove(self.path .. suffix) end
end

function TestSqlite:test_many_make_the_same_file_at_once()
  local script = self.path .. ".lua"
  local f <close> = assert(io.open(script, "w"))
  f:write [[
    for n = 1, 150 do
      local db <close> = require "tidemill.sqlite".open(("%s.%d"):format(arg[1], n), 60000)
    end]]
  f:close()
  local children = {}
  for i = 1, 4 do
    children[i] = proc.spawn { cmd = { os.getenv "TM_BIN", "exec", script, self.path }, stderr = "pipe" }
  end
  for _, child in ipairs(children) do
    local said = {}
    for bytes in function() return child:read(2, 60) end do said[#said + 1] = bytes end
    lu.assertEquals({ child:wait(60).code, table.concat(said) }, { 0, "" })
  end
  os.remove(script)
  for n = 1, 150 do
    for _, suffix in ipairs { "", "-wal", "-shm" } do os.remove(("%s.%d%s"):format(self.path, n, suffix)) end
  end
end

function TestSqlite:test_values_keep_their_types()
  local values = { 1, math.mininteger, math.maxinteger, 0.5, "text", "a\0b", "", "é" }
  for i, v in ipairs(values) do self.db:exec("INSERT INTO t VALUES (?, ?)", "k" .. i, v) end
  for i, v in ipairs(values) do
    local row = self.db:row("SELECT v FROM t WHERE k = ?", "k" .. i)
    lu.assertEquals(row.v, v)
    lu.assertEquals(math.type(row.v), math.type(v))
  end
  self.db:exec("INSERT INTO t VALUES (?, ?)", "null", nil)
  lu.assertEquals(self.db:query("SELECT * FROM t WHERE k = 'null'"), { { k = "null" } })
  self.db:exec("INSERT INTO t VALUES (?, ?)", "true", true)
  lu.assertEquals(self.db:row("SELECT v FROM t WHERE k = 'true'").v, 1)
end

function TestSqlite:test_exec_counts_and_row_may_be_nil()
  lu.assertEquals(self.db:exec("INSERT INTO t VALUES ('a', 1), ('b', 2)"), 2)
  lu.assertEquals(self.db:exec("UPDATE t SET v = 3"), 2)
  lu.assertNil(self.db:row("SELECT * FROM t WHERE k = 'c'"))
  lu.assertEquals(#self.db:query("SELECT * FROM t"), 2)
end

function TestSqlite:test_a_transaction_commits_and_returns()
  local a, b = self.db:transaction(function()
    self.db:exec("INSERT INTO t VALUES ('a', 1)")
    return self.db:transaction(function() return 1, "two" end)
  end)
  lu.assertEquals({ a, b }, { 1, "two" })
  lu.assertEquals(#self.db:query("SELECT * FROM t"), 1)
end

function TestSqlite:test_a_raise_rolls_back_and_goes_on()
  local err = raised(self.db.transaction, self.db, function()
    self.db:exec("INSERT INTO t VALUES ('a', 1)")
    error({ kind = "mine" })
  end)
  lu.assertEquals(err.kind, "mine")
  lu.assertEquals(self.db:query("SELECT * FROM t"), {})
end

function TestSqlite:test_broken_constraints_are_conflicts()
  self.db:exec("INSERT INTO t VALUES ('a', 1)")
  local err = raised(self.db.exec, self.db, "INSERT INTO t VALUES ('a', 1)")
  lu.assertEquals({ err.kind, err.code }, { "conflict", "SQLITE_CONSTRAINT_PRIMARYKEY" })
  err = raised(self.db.exec, self.db, "INSERT INTO u VALUES ('nobody')")
  lu.assertEquals({ err.kind, err.code }, { "conflict", "SQLITE_CONSTRAINT_FOREIGNKEY" })
end

function TestSqlite:test_errors_name_the_sql()
  local err = raised(self.db.query, self.db, "SELECT a FROM nowhere")
  lu.assertEquals(err.kind, "sql")
  lu.assertStrContains(err.message, "no such table: nowhere")
  lu.assertEquals(err.detail, "SELECT a FROM nowhere")
  lu.assertEquals(raised(self.db.query, self.db, "SELECT 1; SELECT 2").kind, "usage")
  raised(self.db.query, self.db, "SELECT ?", 1, 2)
  raised(self.db.query, self.db, "SELECT ?", {})
  lu.assertEquals(self.db:query("SELECT 1 AS one;\n"), { { one = 1 } })
end

function TestSqlite:test_more_texts_than_the_cache_holds()
  for round = 1, 2 do
    for i = 1, 150 do
      lu.assertEquals(self.db:row(("SELECT %d + ? AS n"):format(i), round).n, i + round)
    end
  end
end

function TestSqlite.test_a_file_that_is_no_database_is_refused()
  local path = os.tmpname()
  local f = assert(io.open(path, "w"))
  f:write(("no database "):rep(200))
  f:close()
  local err = raised(sqlite.open, path)
  os.remove(path)
  lu.assertEquals(err.kind, "integrity")
  lu.assertStrContains(err.message, path)
  lu.assertEquals(raised(sqlite.open, "/no/such/dir/state.db").kind, "system")
end

function TestSqlite:test_a_second_writer_waits_its_time_then_raises()
  local other <close> = sqlite.open(self.path, 50)
  self.db:transaction(function()
    self.db:exec("INSERT INTO t VALUES ('a', 1)")
    lu.assertEquals(raised(other.exec, other, "INSERT INTO t VALUES ('b', 1)").kind, "timeout")
    lu.assertEquals(other:query("SELECT * FROM t"), {}) -- readers go on
  end)
  lu.assertEquals(other:exec("INSERT INTO t VALUES ('b', 1)"), 1)
end

function TestSqlite:test_a_commit_survives_a_kill()
  local script = self.path .. ".lua"
  local f = assert(io.open(script, "w"))
  f:write(([[local db = require "tidemill.sqlite".open(%q)
    db:exec("INSERT INTO t VALUES ('kept', 1)")
    db:script "BEGIN IMMEDIATE; INSERT INTO t VALUES ('lost', 1)"
    print "ready" io.stdout:flush()
    require "proc".poll({}, 60)]]):format(self.path))
  f:close()
  local child <close> = proc.spawn { cmd = { "/proc/self/exe", "exec", script }, stdout = "pipe" }
  lu.assertEquals(child:read(1, 60), "ready\n")
  child:kill "KILL"
  child:wait(60)
  os.remove(script)
  lu.assertEquals(self.db:query("SELECT k FROM t"), { { k = "kept" } })
end

function TestSqlite.test_a_closed_database_says_so()
  local db = sqlite.open(":memory:")
  db:close()
  db:close()
  lu.assertStrContains(tostring(raised(db.query, db, "SELECT 1")), "the database is closed")
end

os.exit(lu.LuaUnit.run())
