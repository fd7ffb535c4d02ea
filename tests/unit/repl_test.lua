--- repl: how values are shown, what completes, what the history keeps. tests/e2e/repl_test.lua types.

local complete = require "tidemill.repl.complete"
local errors = require "tidemill.errors"
local json = require "json"
local lu = require "luaunit"
local project = require "tidemill.project"
local repl = require "tidemill.repl"
local show = require "tidemill.repl.print"

TestShow = {}

function TestShow.test_values_read_as_lua_writes_them()
  for text, value in pairs {
    ["1"] = 1, ["1.5"] = 1.5, ["true"] = true, ["null"] = json.null, ['"a\\"b\\n\\t\\\\\\x01"'] = "a\"b\n\t\\\1",
    ['"漢字"'] = "漢字", ['"\\xff\\xfe"'] = "\xff\xfe", ["{}"] = {}, ["{ 1, 2, 3 }"] = { 1, 2, 3 },
    ['{ "x", nil, "y", a = 1, ["b c"] = 2, ["end"] = 3 }'] = { "x", nil, "y", a = 1, ["b c"] = 2, ["end"] = 3 },
    ["function (native)"] = print,
  } do
    lu.assertEquals(show.value(value), text)
  end
  lu.assertEquals(show.value(nil), "nil")
  lu.assertStrMatches(show.value(function() end), "function %(.*repl_test.lua:%d+%)")
end

function TestShow.test_what_does_not_fit_on_a_line_is_indented()
  local value = { name = ("n"):rep(20), list = { ("a"):rep(20), ("b"):rep(20) } }
  lu.assertEquals(show.value(value, { width = 40 }), ([[
{
  list = {
    "aaaaaaaaaaaaaaaaaaaa",
    "bbbbbbbbbbbbbbbbbbbb"
  },
  name = "nnnnnnnnnnnnnnnnnnnn"
}]]))
end

function TestShow.test_what_is_deep_long_or_goes_round_is_cut()
  local round = { a = {} }
  round.a.back = round
  lu.assertEquals(show.value(round), "{ a = { back = { itself } } }")
  local shared = { 1 }
  lu.assertEquals(show.value { shared, shared }, "{ { 1 }, { 1 } }")
  lu.assertEquals(show.value({ { { {} } } }, { depth = 2 }), "{ { { ... } } }")
  local long = {}
  for i = 1, 1000 do long[i] = i end
  lu.assertStrContains(show.value(long, { items = 3 }), "1, 2, 3, ... 997 more")
  lu.assertEquals(show.value({ ("漢"):rep(1000) }, { text = 4 }), '{ "漢"... (3000 bytes) }')
  local deep = {}
  for _ = 1, 100000 do deep = { deep } end
  lu.assertStrContains(show.value(deep), "{ ... }")
end

function TestShow.test_objects_show_themselves_and_nothing_of_theirs_else_is_called()
  local touched = function() error "touched" end
  local object = setmetatable({}, { __tostring = function() return "an object" end, __index = touched, __pairs = touched })
  lu.assertEquals(show.value(object), "an object")
  lu.assertEquals(show.value(setmetatable({ 1 }, { __name = "thing", __index = touched, __len = touched })), "thing { 1 }")
  lu.assertEquals(show.value(setmetatable({}, { __tostring = touched })), "table (its __tostring fails)")
  lu.assertEquals(show.value(errors.new("sql", "no such table", { hint = "make it" })),
    "error: no such table\nhint: make it")
end

function TestShow.test_result_sets_are_aligned()
  local result = { { id = 1, name = "ann", amount = "10.50" }, { id = 22, name = json.null, amount = "-1.25" },
    { id = 333, name = "漢字\n", amount = json.null }, columns = { "id", "name", "amount" }, command = "SELECT 3" }
  lu.assertEquals(show.value(result), ([[
  id | name   | amount
-----+--------+--------
   1 | ann    |  10.50
  22 | NULL   |  -1.25
 333 | 漢字\n |   NULL
(3 rows)]]))
  lu.assertStrContains(show.value(result, { limit = 2 }), "(2 of 3 rows; .limit N shows more)")
  lu.assertEquals(show.value { columns = { "a" }, command = "SELECT 0" }, " a\n---\n(0 rows)")
  lu.assertEquals(show.value { columns = {}, command = "CREATE TABLE" }, "CREATE TABLE")
end

function TestShow.test_wide_result_sets_are_cut_on_demand()
  local result = { { a = ("x"):rep(100), b = 1 }, columns = { "a", "b" }, command = "SELECT 1" }
  local cut = show.value(result, { cut = true, width = 30 })
  for line in cut:gmatch "[^\n]+" do lu.assertTrue(utf8.len(line) <= 30, line) end
  lu.assertStrContains(cut, "xxx… | 1")
  lu.assertStrContains(show.value(result, { width = 30 }), ("x"):rep(100))
end

function TestShow.test_bytes_that_are_no_text_are_shown_as_hexadecimal()
  lu.assertStrContains(show.value { { a = "\xff\0a" }, columns = { "a" }, command = "SELECT 1" }, "\\xff0061")
end

TestComplete = {}

local function completer(more)
  local self = {
    env = setmetatable({ conn = setmetatable({}, { __index = { query = print, close = print, limit = 5 } }), db = {},
      nested = { deep = { er = 1 } }, strange = setmetatable({}, { __index = function() error "called" end }) }, nil),
    modules = { "pg", "cron", "csv" },
    connections = function() return { rds = "postgres", lake = "store", rdb = "postgres" } end,
    opened = function() end,
    commands = function() return { ".help", ".flow", ".limit", ".lua" } end,
    arguments = { [".help"] = function() return { "pg", "plan" } end, [".flow"] = "files" },
  }
  for key, value in pairs(more or {}) do self[key] = value end
  return self
end

local function names(text, more) return table.concat((complete.names(completer(more), text)), " ") end

function TestComplete.test_names_follow_what_stands_before()
  for text, want in pairs {
    ["nest"] = "nested", ["x = nested.de"] = "deep", ["nested.deep."] = "er", ["conn:"] = "close query",
    ["conn:q"] = "query", ["conn.l"] = "limit", ["print(cr"] = "cron", ["pg.quote_i"] = "quote_ident",
    ["whi"] = "while", ["db."] = "lake rdb rds", ["db.rd"] = "rdb rds", ["db.rds:server_v"] = "server_version",
    ["db.lake:presi"] = "presign", ["db.nothing:"] = "", ["strange.x"] = "", ["f().qu"] = "", ["a[1]:qu"] = "",
    ["'a' .. nest"] = "nested", [".h"] = ".help ", [".l"] = ".limit .lua",
    [".help p"] = "pg plan", ["require 'c"] = "cron csv", ["require(\"pg"] = "pg", ["string.for"] = "format",
    [""] = "", ["math.pi:"] = "",
  } do
    lu.assertEquals(names(text), want, text)
  end
end

function TestComplete.test_a_common_part_is_inserted_and_choices_are_shown()
  lu.assertEquals({ complete.at(completer(), "db.r") }, { "d" })
  lu.assertEquals({ complete.at(completer(), "db.rd") }, { nil, "rdb  rds\n" })
  lu.assertEquals({ complete.at(completer(), "db.rds") }, {})
  lu.assertEquals({ complete.at(completer(), "nothing_like_it") }, {})
end

function TestComplete.test_sql_words_keep_their_case()
  local more = { sql = { "SELECT", "SET" } }
  lu.assertEquals(names("SE", more), "SELECT SET")
  lu.assertEquals(names("values (1); sel", more), "select")
end

function TestComplete.test_choices_stand_in_columns_sorted_down()
  lu.assertEquals(complete.columns({ "a", "bb", "ccc", "d", "e" }, 15), "a    ccc  e\nbb   d\n")
  lu.assertEquals(complete.columns({ "very long name", "b" }, 10), "very long name\nb\n")
end

TestHistory = {}

function TestHistory.test_lines_that_look_like_secrets_are_not_kept()
  local open = project.none()
  for _, line in ipairs { "", " x = 1", "\tx = 1", "pg.connect 'postgres://u:secret@h/d'", "x = { password = 'abc' }",
    "pg.connect 'host=h password=abc'", "ALTER ROLE a PASSWORD 'abc';", "CREATE USER u WITH PASSWORD 'abc'",
    "opts['password'] = \"abc\"", "access_key_secret = 'abc'", "s = 'AKIAIOSFODNN7EXAMPLE'", "token = 'abc'",
    "export AWS_SECRET_ACCESS_KEY=abc", "oss.open { url = 'oss://b', access_key_id = 'i', access_key_secret = 's' }",
    "id = 'LTAIabcdefghijk'", "PGPASSWORD=x" } do
    lu.assertFalse(repl.keeps(line, open), line)
  end
  for _, line in ipairs { "x = 1", "SELECT count(*) FROM tokens", "pg.connect 'postgres://u@h/d'", "db.rds:query 'TABLE t'",
    "print(password_hash)", "https = 'http://host:80/path'", ".sql rds", "SELECT secret_count FROM t" } do
    lu.assertTrue(repl.keeps(line, open), line)
  end
  open.secrets.swordfish = true
  lu.assertFalse(repl.keeps("x = 'swordfish'", open))
end

TestInput = {}

-- What a session says to some lines: the words and values of `env`.
local function feed(session, ...)
  local what
  for _, line in ipairs { ... } do what = session:feed(line) end
  return what
end

function TestInput.test_locals_at_the_start_of_an_input_persist()
  local session <close> = repl.new { project = project.none() }
  for line, check in pairs {
    ["local a = 1"] = "a == 1", ["local b <const>, c <close> = 2"] = "b == 2 and c == nil", ["  local d"] = "d == nil",
    ["local function f(x) return x end"] = "f(3) == 3", ["local e, g = 1, 2; h = e + g"] = "h == 3",
    ["local i = 1 local j = 2"] = "i == 1 and j == nil", ["locale = 5"] = "locale == 5",
    ["local k == 1"] = "k == nil",
  } do
    session.env.held = nil
    feed(session, line, ("held = %s"):format(check))
    lu.assertTrue(session.env.held, line)
  end
end

function TestInput.test_an_input_is_complete_when_lua_says_so()
  local session <close> = repl.new { project = project.none() }
  lu.assertEquals(feed(session, "x = {"), "more")
  lu.assertTrue(session:pending())
  lu.assertEquals(feed(session, "1, 2", "}"), "ok")
  lu.assertEquals(#session.env.x, 2)
  lu.assertEquals(feed(session, "y = [[", ".help", "", "]]"), "ok")
  lu.assertEquals(session.env.y, ".help\n\n")
  lu.assertEquals(feed(session, "z = 1 +", "2"), "ok")
  lu.assertEquals(session.env.z, 3)
  lu.assertEquals(feed(session, "w = 1 1"), "error")
  lu.assertFalse(session:pending())
  lu.assertEquals(feed(session, "if x then"), "more")
  session:drop()
  lu.assertEquals(feed(session, "v = 1"), "ok")
end

function TestInput.test_modules_are_there_and_stay_out_of_the_way()
  local session <close> = repl.new { project = project.none() }
  feed(session, "a = csv.null == pg.null", "cron = 7", "b = cron", "c = _G.a")
  lu.assertEquals({ session.env.a, session.env.b, session.env.c }, { true, 7, true })
  lu.assertNil(rawget(_G, "a"))
end

os.exit(lu.LuaUnit.run())
