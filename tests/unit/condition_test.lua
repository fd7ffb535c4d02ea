--- tidemill.condition: what a condition means, what it says of itself, and what is none.

local condition = require "tidemill.condition"
local lu = require "luaunit"

local VALUES = { rows = "12", zero = "0", region = "eu", name = "it's", empty = "", big = "9007199254740993",
  price = "0.10", sci = "1e3", yes = "t", no = "f", odd = "perhaps", evil = "x' or 1 = 1 --", ref = "${rows}",
  ["extract.status"] = "success", ["load.status"] = "failed", ["slow.status"] = "running", ["orders to the lake.rows"] = "7" }

local function made(text)
  return assert(condition.new(text, function(fault) error(fault .. " in " .. text, 0) end))
end

local function eval(text)
  return condition.eval(made(text), function(name) return VALUES[name] end)
end

TestCondition = {}

function TestCondition.test_what_holds()
  for _, text in ipairs {
    "${rows} > 0", "${rows} = 12", "${rows} == 12.0", "${rows} <> 13", "${rows} != 13", "${rows} >= 12", "${rows}<=12",
    "${rows} > 9", -- as numbers; as texts 12 is before 9
    "0 < ${rows}", "${price} = 0.1", "${price} < .11", "${sci} = 1000", "${sci} > 999.5", "-1 < ${zero}", "${zero} = -0.00",
    "${big} = 9007199254740993", "${big} > 9007199254740992", -- beyond what a float holds
    "${region} = eu", "${region} = 'eu'", '${region} == "eu"', "${region} != us", "${region} < us", "${region} > 5",
    "'${region}' = 'eu'", "'${region}-${rows}' = 'eu-12'", "'$${region}' != ${region}",
    "${name} = 'it''s'", '${name} = "it\'s"', "${empty} = ''",
    "${region} in (us, eu)", "${region} in ('us', ${region})", "${rows} in (1, 12.00)", "${region} not in (us, 'uk')",
    "${region} like 'e%'", "${region} like '_u'", "${region} not like 'u%'", "${price} like '0.10'", "${rows} like '1_'",
    "${region} matches '^e.$'", "${rows} matches '%d%d'", "${region} not matches '%d'",
    "${extract.status}", "not ${load.status}", "${yes}", "not ${no}", "${rows}", "not ${zero}", "not ${empty}",
    "${orders to the lake.rows} = 7",
    "${rows} > 0 and ${region} = eu", "${rows} < 0 or ${region} = eu", "not (${rows} < 0 or ${region} = us)",
    "${rows} < 0 and ${region} = us or ${yes}", "${yes} or ${rows} < 0 and ${region} = us",
    "NOT ${no} AND ${region} IN (eu)", "not not ${yes}", "(((${yes})))",
  } do
    lu.assertTrue((eval(text)), text)
  end
end

function TestCondition.test_what_does_not_hold()
  for _, text in ipairs { "${rows} > 12", "${rows} = 012x", "${region} = EU", "${region} in (us, uk)", "${region} like 'u%'",
    "${price} like '0x10'", "${load.status}", "${slow.status}", "not ${yes}", "${yes} and ${no}", "not (${yes} or ${no})", "${empty} = ' '",
    "${big} = 9007199254740992", "${rows} = ''", "${region} matches '^u'" } do
    lu.assertFalse((eval(text)), text)
  end
end

function TestCondition.test_values_are_data()
  lu.assertFalse((eval "${evil} = 'x'"))
  lu.assertTrue((eval "${evil} like 'x'' or%'"))
  lu.assertFalse((eval "${ref} = 12"))
  lu.assertTrue((eval "${ref} = '$${rows}'"))
end

function TestCondition.test_it_says_why()
  for text, wanted in pairs {
    ["${zero} > 0"] = "${zero} > 0: 0 > 0 is false",
    ["${region} = eu"] = "${region} = eu: 'eu' = 'eu' is true",
    ["${region} in (us, 'uk')"] = "${region} in (us, 'uk'): 'eu' in ('us', 'uk') is false",
    ["not ${yes}"] = "not (${yes}): not ('t') is false",
    ["${rows} < 0 or ${region} = eu"] = "${rows} < 0 or ${region} = eu: 12 < 0 or 'eu' = 'eu' is true",
    ["${no} and ${rows} > 0"] = "${no}: 'f' is false", -- the rest was not looked at
    ["(${yes} or ${no}) and ${zero} = 1"] = "(${yes}) and ${zero} = 1: ('t') and 0 = 1 is false",
  } do
    local _, reason = eval(text)
    lu.assertEquals(reason, wanted)
  end
end

function TestCondition.test_of_a_list_all_must_hold()
  local cond = made { "${rows} > 0", "${region} = us", "${odd}" }
  local holds, reason = condition.eval(cond, function(name) return VALUES[name] end)
  lu.assertFalse(holds)
  lu.assertEquals(reason, "${region} = us: 'eu' = 'us' is false")
  lu.assertEquals(condition.texts(cond), { "${rows} > 0", "${region} = us", "${odd}" })
  holds, reason = condition.eval(made { "${rows} > 0", "${yes}" }, function(name) return VALUES[name] end)
  lu.assertTrue(holds)
  lu.assertEquals(reason, "${rows} > 0: 12 > 0 is true; ${yes}: 't' is true")
end

function TestCondition.test_a_function_is_given_the_variables_and_may_say_why()
  local cond = condition.new(function(vars) return vars.region == "eu", "the region is " .. vars.region end)
  local holds, reason = condition.eval(cond, nil, VALUES)
  lu.assertTrue(holds)
  lu.assertEquals(reason, "the region is eu")
  holds, reason = condition.eval(condition.new(function() end), nil, VALUES)
  lu.assertFalse(holds)
  lu.assertEquals(reason, "the function says false")
end

function TestCondition.test_a_side_that_cannot_matter_needs_no_value()
  lu.assertTrue((eval "${yes} or ${nothing} > 3"))
  lu.assertFalse((eval "${no} and ${nothing} > 3"))
end

function TestCondition.test_what_cannot_be_evaluated_is_an_error()
  for text, message in pairs { ["${nothing} > 3"] = "'${nothing}' has no value", ["${odd}"] = "'perhaps' is neither true nor false",
    ["${region} matches '['"] = "'[' is no Lua pattern" } do
    local ok, err = pcall(eval, text)
    lu.assertFalse(ok, text)
    lu.assertEquals(err.kind, "usage")
    lu.assertEquals(err.message, message)
  end
end

function TestCondition.test_what_is_no_condition_is_refused_with_its_place()
  for text, wanted in pairs {
    [""] = { 1, "an empty condition" },
    ["   "] = { 1, "an empty condition" },
    ["${rows} >"] = { 10, "the end where a variable or a value is wanted" },
    ["${rows} > > 1"] = { 11, "'>' where a variable or a value is wanted" },
    ["${rows} => 1"] = { 9, "'=>' is no operator" },
    ["${rows} 1"] = { 9, "'1' where and, or, or the end is wanted" },
    ["${rows} > 1 ${x}"] = { 13, "'x' where and, or, or the end is wanted" },
    ["${a} < 1 < 2"] = { 10, "'<' where and, or, or the end is wanted" },
    ["(${rows} > 1"] = { 13, "the end where ')' is wanted" },
    ["${rows} > 1)"] = { 12, "')' where and, or, or the end is wanted" },
    ["${rows} in 1"] = { 12, "'1' where '(' is wanted" },
    ["${rows} in ()"] = { 13, "')' where a variable or a value is wanted" },
    ["${rows} in (1 2)"] = { 15, "'2' where ',' or ')' is wanted" },
    ["${rows} not > 1"] = { 13, "'>' where in, like or matches is wanted" },
    ["and ${rows}"] = { 1, "'and' where a variable or a value is wanted" },
    ["${rows} = 'open"] = { 11, "the quote ' is never closed" },
    ["${ro ws} = 1"] = { 1, "malformed variable '${ro ws} = 1'" },
    ["${rows} = '${a b}'"] = { 11, "malformed variable '${a b}'" },
    ["rows > 0"] = { 1, "'rows' is a fixed text, not a variable", "write ${rows} for the variable" },
    ["rows"] = { 1, "'rows' is a fixed text, not a variable" },
    ["1 = 1"] = { 1, "'1' is a fixed text, not a variable" },
    ["eu in (eu, us)"] = { 1, "'eu' is a fixed text, not a variable" },
    ["${rows} = 1; DROP"] = { 12, "';' has no meaning here" },
    [("("):rep(200) .. "${rows}" .. (")"):rep(200)] = { 101, "too deeply nested" },
  } do
    local tree, fault, at, hint = condition.parse(text)
    lu.assertNil(tree, text)
    lu.assertEquals({ at, fault }, { wanted[1], wanted[2] }, text)
    if wanted[3] then lu.assertEquals(hint, wanted[3]) end
  end
end

function TestCondition.test_no_text_is_more_than_a_fault()
  local words = { "${rows}", "${region}", "${nothing}", "eu", "'x", "x'", "'e%u'", '"', "(", ")", "in", "not", "and", "or", "like",
    "matches", ">", "=", "!=", "=>", ",", "-1", "0.5e3", "${", "}", "$", "\n", " ", "\0", "\xff", ";", "%", "[a" }
  local seed = 20261122
  local function random(n)
    seed = (seed * 6364136223846793005 + 1442695040888963407)
    return (seed >> 33) % n + 1
  end
  local conditions = 0
  for _ = 1, 20000 do
    local parts = {}
    for i = 1, random(9) do parts[i] = words[random(#words)] end
    local text = table.concat(parts, random(2) == 1 and " " or "")
    local tree, fault, at = condition.parse(text)
    lu.assertEquals(tree == nil, fault ~= nil)
    if tree then
      conditions = conditions + 1
      local ok, result = pcall(eval, text)
      lu.assertTrue(ok and type(result) == "boolean" or not ok and result.kind == "usage", text)
    else
      lu.assertTrue(at >= 1 and at <= #text + 1, text)
    end
  end
  lu.assertTrue(conditions > 200, conditions)
end

function TestCondition.test_other_values_are_no_conditions()
  for _, value in ipairs { 5, true, {}, { 1 }, { "${a}", x = 1 }, setmetatable({ "${a}" }, {}) } do
    lu.assertNil(condition.new(value, function() end))
  end
end

function TestCondition.test_its_references_are_found_where_they_stand()
  local cond = made { "${a} = '$${no} ${b}'", "${c}" }
  lu.assertEquals(condition.references(cond), { { name = "a", text = "${a} = '$${no} ${b}'", at = 1 },
    { name = "b", text = "${a} = '$${no} ${b}'", at = 16 }, { name = "c", text = "${c}", at = 1 } })
end

os.exit(lu.LuaUnit.run())
