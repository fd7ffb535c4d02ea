--- tidemill.statements: where statements end, which line they start on, what is refused.

local lu = require "luaunit"
local statements = require "tidemill.statements"

TestStatements = {}

local function texts(sql, opts)
  local found, fault = statements.split(sql, opts)
  lu.assertNotNil(found, fault and fault.message)
  local list = {}
  for i, one in ipairs(found) do list[i] = one.text end
  return list
end

local function fault_of(sql)
  local found, fault = statements.split(sql)
  lu.assertNil(found)
  return fault
end

-- Each of these is one statement, however it is cut.
local WHOLE = {
  "SELECT 1",
  "SELECT ';'",
  "SELECT 'it''s; so'",
  [[SELECT 'a\']],                                -- standard_conforming_strings
  [[SELECT E'a\';b']],
  [[SELECT e'\\' || ';']],
  "SELECT E'a'\n  'b\\';c'",                      -- goes on with its escapes
  "SELECT E'a' -- no piece; of it\n",
  "SELECT E'a'\n-- a note;\n'b\\';c'",
  [[SELECT "a;b", "say ""x;"""]],
  [[SELECT U&'\0041;' , U&"d\0061;", B'1;', X'1;', N';']],
  "SELECT $$;$$",
  "SELECT $a$ ; $$ ; $b$ ; $a$",
  "SELECT $ж$;$ж$",
  "SELECT a$b$;",                                 -- an identifier, not a quote
  "SELECT $1, $2",
  "SELECT /* ; */ 1",
  "SELECT /* a /* b; */ c; */ 1",
  "SELECT /**/ 1 /***/ + 2 /*/ ; */",
  "SELECT 1 -- the end; really",
  "CREATE RULE r AS ON INSERT TO t DO ALSO (INSERT INTO a VALUES (1); DELETE FROM b)",
  [[CREATE FUNCTION f() RETURNS int BEGIN ATOMIC SELECT 1; SELECT CASE WHEN true THEN 2 END; END]],
  [[CREATE OR REPLACE PROCEDURE p() LANGUAGE sql BEGIN atomic INSERT INTO t VALUES (1); END]],
  "CREATE FUNCTION f() RETURNS void LANGUAGE plpgsql AS $$ BEGIN PERFORM 1; END; $$",
  "DO $do$ BEGIN EXECUTE 'x; y'; END $do$",
  "COPY t (a, b) FROM '/tmp/x;y' WITH (FORMAT csv)",
  "SELECT 1e5, .5, 1.e3, 0x1F",
  "SELECT * FROM t WHERE a ->> 'x' = $tag$;$tag$ AND b @> '{}' AND c <@ ARRAY[1,2]",
  "*",
}

function TestStatements.test_semicolons_inside_end_nothing()
  for _, sql in ipairs(WHOLE) do
    local trimmed = sql:match "^%s*(.-)[%s;]*$"
    lu.assertEquals(#texts(sql), 1, sql)
    lu.assertEquals(texts(sql)[1]:match "^(.-)[%s;]*$", trimmed)
  end
end

function TestStatements.test_what_is_empty_or_comment_alone_is_no_statement()
  for _, sql in ipairs { "", "  \n\t", ";", " ; ;\n;", "-- nothing", "/* a; b */ ; -- c", "\n;\n" } do
    lu.assertEquals(texts(sql), {}, sql)
  end
end

function TestStatements.test_lines_are_those_of_the_first_word()
  local found = statements.split "-- head\n\nSELECT 1;  SELECT\n2;\n/* two\nlines */ /* x */ DELETE\nFROM t;\r\n;;\nVACUUM"
  local seen = {}
  for i, one in ipairs(found) do seen[i] = one.word .. one.line end
  lu.assertEquals(seen, { "SELECT3", "SELECT3", "DELETE6", "VACUUM9" })
end

function TestStatements.test_comments_stay_with_the_statement_behind_them()
  lu.assertEquals(texts "SELECT 1; /*+ SeqScan(t) */ SELECT 2;", { "SELECT 1", "/*+ SeqScan(t) */ SELECT 2" })
end

function TestStatements.test_a_routine_may_be_called_begin()
  lu.assertEquals(#texts "CREATE FUNCTION begin() RETURNS int RETURN 1; SELECT 2", 2)
  lu.assertEquals(#texts "CREATE FUNCTION f() RETURNS int BEGIN ATOMIC SELECT 1; END; SELECT 2", 2)
  lu.assertEquals(#texts "BEGIN; SELECT atomic; END", 3)
end

function TestStatements.test_backslashes_escape_where_the_session_says_so()
  lu.assertEquals(#texts([[SELECT 'a\'; b'; SELECT 2]], { escapes = true }), 2)
  lu.assertEquals(#texts [[SELECT 'a\'; SELECT 2]], 2)
end

function TestStatements.test_transaction_control_is_told()
  local control = { "BEGIN", "begin isolation level serializable", "START TRANSACTION", "COMMIT", "END", "ROLLBACK",
    "ROLLBACK WORK", "ABORT", "PREPARE TRANSACTION 'x'", "COMMIT PREPARED 'x'", "/* c */ commit" }
  local none = { "SAVEPOINT a", "ROLLBACK TO a", "ROLLBACK WORK TO SAVEPOINT a", "RELEASE a", "PREPARE p AS SELECT 1",
    "SELECT commit FROM begin", "SET TRANSACTION READ ONLY", "(SELECT 1)" }
  for _, sql in ipairs(control) do lu.assertTrue(statements.split(sql)[1].control, sql) end
  for _, sql in ipairs(none) do lu.assertFalse(statements.split(sql)[1].control, sql) end
end

function TestStatements.test_what_only_psql_knows_is_refused_with_its_line()
  local cases = {
    { "SELECT 1;\n\\copy t from 'x'", 2, "'\\copy'", "flow.load" },
    { "\\d t", 1, "'\\d'", "server" },
    { "SELECT 1 \\gset", 1, "'\\gset'", "flow.assign" },
    { "SELECT 1;\n\nCOPY t FROM STDIN;\n1\t2\n\\.\n", 3, "COPY FROM STDIN", "flow.load" },
    { "COPY t (a) from stdin WITH CSV", 1, "COPY FROM STDIN", "flow.load" },
    { "COPY (SELECT 1) TO STDOUT", 1, "COPY TO STDOUT", "flow.extract" },
  }
  for _, case in ipairs(cases) do
    local fault = fault_of(case[1])
    lu.assertEquals(fault.line, case[2], case[1])
    lu.assertStrContains(fault.message, case[3])
    lu.assertStrContains(fault.hint, case[4])
  end
  lu.assertEquals(#texts "SELECT 'COPY t FROM STDIN'; COPY stdin FROM '/x'", 2)
end

function TestStatements.test_what_does_not_end_is_refused_where_it_begins()
  for sql, line in pairs { ["SELECT 1;\nSELECT 'a"] = 2, ["SELECT \"a\n"] = 1, ["SELECT 1;\n\n/* a /* b */"] = 3,
    ["\nDO $x$ BEGIN $$ END"] = 2, ["SELECT E'a\\'"] = 1 } do
    local fault = fault_of(sql)
    lu.assertEquals(fault.line, line, sql)
    lu.assertStrContains(fault.message, "unterminated")
  end
end

-- ---- properties ----

local random

local function choice(list) return list[random(#list)] end

local function noise() return choice { "", " ", "\n", "  \n ", "-- c;\n", "/* ; /* ' */ $$ */", "\t" } end

function TestStatements.test_joined_statements_come_apart_again()
  local seed = os.time()
  math.randomseed(seed)
  random = math.random
  for _ = 1, 500 do
    local parts, wanted, lines, sql = {}, {}, {}, ""
    for i = 1, random(6) do
      parts[i] = choice(WHOLE)
      if parts[i]:find("%-%-[^\n]*$") then parts[i] = parts[i] .. "\n" end
      parts[i] = parts[i]:gsub(";$", "")
      local lead = noise()
      lines[i] = 1 + select(2, (sql .. lead):gsub("\n", ""))
      wanted[i] = (lead .. parts[i]):match "^%s*(.-)%s*$"
      sql = sql .. lead .. parts[i] .. ";"
    end
    local found = statements.split(sql)
    lu.assertEquals(#found, #wanted, ("seed %d: %s"):format(seed, sql))
    for i, one in ipairs(found) do
      lu.assertEquals(one.text, wanted[i], seed)
      lu.assertEquals(one.line, lines[i], sql)
    end
  end
end

function TestStatements.test_any_bytes_are_split_or_refused_and_nothing_is_lost()
  local seed = os.time()
  math.randomseed(seed)
  random = math.random
  local pieces = { "'", '"', "$$", "$a$", "--", "/*", "*/", "\\", "\n", ";", "(", ")", "E'", "BEGIN ATOMIC", "END",
    "CASE", "CREATE", "COPY", "FROM", "STDIN", " ", "x", "1", "\xff", "é", "$", "$1" }
  for _ = 1, 3000 do
    local parts = {}
    for i = 1, random(14) do parts[i] = choice(pieces) .. choice { "", " " } end
    local sql = table.concat(parts)
    local found, fault = statements.split(sql)
    if found then
      local at = 1
      for _, one in ipairs(found) do
        local start, stop = sql:find(one.text, at, true)
        lu.assertNotNil(start, sql)
        at = stop + 1
      end
    else
      lu.assertTrue(fault.line >= 1 and fault.message ~= "", sql)
    end
  end
end

function TestStatements.test_a_long_text_is_split_in_linear_time()
  local sql = ("INSERT INTO t VALUES (1, 'it''s', $$x;y$$); -- note\n"):rep(40000)
  local start = os.clock()
  lu.assertEquals(#texts(sql), 40000)
  lu.assertEquals(#texts("SELECT '" .. (" "):rep(1 << 20) .. "' ;" .. (" "):rep(1 << 20)), 1)
  lu.assertTrue(os.clock() - start < 10, os.clock() - start)
end

os.exit(lu.LuaUnit.run())
