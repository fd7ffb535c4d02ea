--- The module json: integers survive whole, bad input raises tables.

local lu = require "luaunit"
local json = require "json"

TestJson = {}

function TestJson.test_integers_keep_all_64_bits()
  for _, n in ipairs { 0, -1, 123456789012345, 1 << 53, math.maxinteger, math.mininteger } do
    local back = json.decode(json.encode { n = n }).n
    lu.assertEquals(back, n)
    lu.assertEquals(math.type(back), "integer")
  end
  lu.assertEquals(json.decode("[2.5, 1e3]"), { 2.5, 1000.0 })
  lu.assertEquals(json.decode(json.encode(0.1)), 0.1)
end

function TestJson.test_null_is_one_value()
  lu.assertTrue(json.decode("[null]")[1] == json.null)
  lu.assertEquals(json.encode { json.null }, "[null]")
end

function TestJson.test_arrays_and_objects_are_told_apart()
  lu.assertEquals(json.encode {}, "{}")
  lu.assertEquals(json.encode(json.array()), "[]")
  lu.assertEquals(json.encode(json.decode("[[],{}]")), "[[],{}]")
  lu.assertEquals(json.encode { 1, 2, [4] = 4 }, '{"1":1,"2":2,"4":4}')
  lu.assertEquals(json.encode { b = 1, a = { true, false } }, '{"a":[true,false],"b":1}')
end

function TestJson.test_bad_text_and_bad_values_raise_kind_data()
  for _, text in ipairs { "", "{", '{"a":}', "[1,]", "nul", "[1] x", '{"a":1,"a":2}', '"\xff"' } do
    local ok, err = pcall(json.decode, text)
    lu.assertFalse(ok, text)
    lu.assertEquals(err.kind, "data")
    lu.assertStrContains(err.message, "line ")
  end
  local circle = {}
  circle.circle = circle
  for _, value in ipairs { print, { print }, { 0 / 0 }, { math.huge }, "\xff", { [{}] = 1 }, circle } do
    local ok, err = pcall(json.encode, value)
    lu.assertFalse(ok)
    lu.assertEquals(err.kind, "data")
  end
  lu.assertFalse(pcall(json.decode, ("["):rep(100000)))
end

function TestJson.test_strings_of_every_kind_go_round()
  local all = {}
  for c = 0, 127 do all[#all + 1] = string.char(c) end
  local text = table.concat(all) .. "é 漢 😀"
  lu.assertEquals(json.decode(json.encode { text })[1], text)
end

os.exit(lu.LuaUnit.run())
