--- The command line: parsing, --help, unknown commands, exit codes.

local desk = require "tests.support.desk"
local lu = require "luaunit"
local main = require "tidemill.main"
local options = require "tidemill.cli.options"

local command = {
  name = "demo", summary = "shows", usage = "FLOW [ARG...]", args = { 1, 3 },
  options = {
    { name = "json", help = "print JSON" },
    { name = "limit", short = "n", value = "N", type = "integer", min = 1, max = 50, default = 20, help = "at most" },
    { name = "dry-run", help = "do nothing" },
    { name = "var", value = "NAME=VALUE", many = true, help = "set" },
    { name = "state", value = "STATE", choices = { "failed", "succeeded" }, help = "which" },
  },
}

local function parse(...) return options.parse(command, { ... }) end

TestOptions = {}

function TestOptions.test_words_become_options_and_arguments()
  local opts, args = parse("a.lua", "--json", "-n", "5", "--var", "a=1", "--var=b=2", "x", "--dry-run")
  lu.assertEquals(args, { "a.lua", "x" })
  lu.assertEquals(opts, { json = true, limit = 5, dry_run = true, var = { "a=1", "b=2" } })
end

function TestOptions.test_short_values_may_stick_and_defaults_are_filled_in()
  lu.assertEquals(parse("a", "-n7").limit, 7)
  lu.assertEquals(parse("a", "--limit=7").limit, 7)
  lu.assertEquals(parse("a").limit, 20)
end

function TestOptions.test_two_dashes_end_the_options()
  local opts, args = parse("a", "--", "--json", "-")
  lu.assertNil(opts.json)
  lu.assertEquals(args, { "a", "--json", "-" })
end

function TestOptions.test_options_first_leaves_a_scripts_options_alone()
  local exec = { name = "exec", summary = "", args = { 1 }, options_first = true, options = command.options }
  local opts, args = options.parse(exec, { "--json", "s.lua", "--json", "-x" })
  lu.assertTrue(opts.json)
  lu.assertEquals(args, { "s.lua", "--json", "-x" })
end

function TestOptions.test_wrong_words_are_usage_errors_that_help()
  for _, case in ipairs {
    { { "a", "--jsn" }, "no option '--jsn'", "did you mean '--json'?" },
    { { "a", "-q" }, "no option '-q'" },
    { { "a", "--limit" }, "--limit wants a value: N" },
    { { "a", "--limit", "x" }, "--limit wants an integer from 1 to 50, got 'x'" },
    { { "a", "--limit", "51" }, "got '51'" },
    { { "a", "--limit", "1.5" }, "got '1.5'" },
    { { "a", "--json=1" }, "--json takes no value" },
    { { "a", "--state", "faild" }, "--state does not know 'faild'", "did you mean 'failed'?" },
    { {}, "too few arguments", "usage: tidemill demo FLOW" },
    { { "a", "b", "c", "d" }, "unexpected argument 'd'" },
  } do
    local ok, err = pcall(options.parse, command, case[1])
    lu.assertFalse(ok, case[2])
    lu.assertEquals(err.kind, "usage")
    lu.assertStrContains(err.message, case[2])
    if case[3] then lu.assertStrContains(err.hint, case[3]) end
  end
end

function TestOptions.test_help_names_every_option_and_default()
  local text = options.help(command)
  for _, word in ipairs { "usage: tidemill demo", "-n, --limit N", "(default 20)", "--dry-run", "failed, succeeded",
    "-h, --help" } do
    lu.assertStrContains(text, word)
  end
  lu.assertTrue(parse("--help").help) -- also without the arguments it wants
end

TestMain = {}

function TestMain.setUp() TestMain.desk = desk.new "options" end
function TestMain.tearDown() TestMain.desk:close() end

function TestMain.test_every_command_explains_itself()
  for _, name in ipairs(main.commands) do
    local r = TestMain.desk:run(name, "--help")
    lu.assertEquals(r.code, 0, name)
    lu.assertStrContains(r.out, "usage: tidemill " .. name)
    lu.assertStrContains(r.out, main.command(name).summary)
    for _, option in ipairs(main.command(name).options or {}) do
      lu.assertTrue(#option.help > 3, name .. " --" .. option.name)
    end
  end
end

function TestMain.test_exit_codes_and_messages()
  local d = TestMain.desk
  d:write("raise.lua", [[
    local kind = ...
    if kind == "text" then error "plain text" end
    if kind == "code" then return 7 end
    error(require("tidemill.error").new { kind = kind, message = "went wrong", code = "42P01",
      detail = "one\ntwo", hint = "try again" })]])
  for _, case in ipairs {
    { { "raise.lua", "usage" }, 2, "tidemill: error: went wrong\n  SQLSTATE 42P01\n  one\n  two\nhint: try again\n" },
    { { "raise.lua", "connect" }, 3, "went wrong" },
    { { "raise.lua", "auth" }, 3, "went wrong" },
    { { "raise.lua", "canceled" }, 130, "went wrong" },
    { { "raise.lua", "sql" }, 1, "went wrong" },
    { { "raise.lua", "text" }, 1, "raise.lua:2: plain text" },
    { { "raise.lua", "code" }, 7, "" },
    { { "missing.lua" }, 2, "missing.lua" },
  } do
    local r = d:run("exec", table.unpack(case[1]))
    lu.assertEquals(r.code, case[2], r.all)
    lu.assertStrContains(r.err, case[3])
  end
end

function TestMain.test_commands_and_versions()
  local d = TestMain.desk
  local r = d:run "chekc"
  lu.assertEquals(r.code, 2)
  lu.assertStrContains(r.err, "tidemill: error: no command 'chekc'\nhint: did you mean 'check'?")
  for _, words in ipairs { { "nod" }, { "help", "nod" }, { "help", "hoook" } } do -- commands that are not for people
    lu.assertNotStrContains(d:run(table.unpack(words)).err, "did you mean 'node'")
    lu.assertNotStrContains(d:run(table.unpack(words)).err, "did you mean 'hook'?")
  end
  lu.assertEquals(d:run("--version").out, d:run("version").out)
  lu.assertStrMatches(d:run("version").out, "tidemill %d+%.%d+%.%d+\n")
  lu.assertEquals(d:run().out, d:run("help").out)
end

function TestMain.test_a_script_sees_its_arguments()
  local d = TestMain.desk
  d:write("args.lua", "#!/usr/bin/env tidemill\nprint(arg[0], #arg, ...)")
  lu.assertEquals(d:run("exec", "args.lua", "--json", "x").out, "args.lua\t2\t--json\tx\n")
end

os.exit(lu.LuaUnit.run())
