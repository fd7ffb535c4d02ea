-- Every vector of tests/vectors/crc64.json, by the fast code and by the tables.

local lu = require "luaunit"
local json = require "json"
local sign = require "tidemill.sign"

local function load()
  local file = assert(io.open "tests/vectors/crc64.json")
  local text = file:read "a"
  file:close()
  return json.decode(text)
end

local function pattern(size)
  local bytes = {}
  for i = 0, 255 do
    bytes[i + 1] = string.char((i * 131 + 17) % 256)
  end
  return table.concat(bytes):rep(size // 256 + 1):sub(1, size)
end

local function input(i)
  if i.kind == "utf8" then
    return i.text
  elseif i.kind == "hex" then
    return (i.hex:gsub("%x%x", function(h) return string.char(tonumber(h, 16)) end))
  elseif i.kind == "repeat" then
    return string.char(i.byte):rep(i.size)
  elseif i.kind == "pattern" then
    return pattern(i.size)
  end
  error("unknown kind of input " .. i.kind)
end

TestCrc64 = {}

local function combine(parts, data)
  local crc = "0"
  for _, part in ipairs(parts) do
    if data then
      local piece = data:sub(part.offset + 1, part.offset + part.size)
      lu.assertEquals(sign.crc64(piece), part.crc64_decimal)
    end
    crc = sign.crc64_combine(crc, part.crc64_decimal, part.size)
  end
  return crc
end

function TestCrc64:test_every_vector()
  local seen = {}
  for _, v in ipairs(load()) do
    seen[v.type] = (seen[v.type] or 0) + 1
    local want = v.expected.crc64_decimal
    if v.type == "combine-lengths-only" then
      local a, b = v.parts[1], v.parts[2]
      local size = math.tointeger(b.size)
      lu.assertEquals(sign.crc64_combine(a.crc64_decimal, b.crc64_decimal, size), want, v.name)
    else
      local data = input(v.input)
      lu.assertEquals(#data, v.input.size, v.name)
      lu.assertEquals(sign.crc64(data), want, v.name)
      lu.assertEquals(sign.crc64_table(data), want, v.name)
      if v.type == "combine" then
        lu.assertEquals(combine(v.parts, data), want, v.name)
      end
    end
  end
  lu.assertTrue(seen.whole > 0 and seen.combine > 0 and seen["combine-lengths-only"] > 0)
end

function TestCrc64:test_check_value()
  lu.assertEquals(sign.crc64 "123456789", "11051210869376104954")
  lu.assertEquals(sign.crc64 "", "0")
end

function TestCrc64:test_feeding_in_pieces_gives_the_same()
  local data = pattern(1000)
  for cut = 0, 40 do
    local crc = sign.crc64(data:sub(1, cut))
    lu.assertEquals(sign.crc64(data:sub(cut + 1), crc), sign.crc64(data))
    local table_crc = sign.crc64_table(data:sub(1, cut))
    lu.assertEquals(sign.crc64_table(data:sub(cut + 1), table_crc), sign.crc64(data))
  end
end

os.exit(lu.LuaUnit.run())
