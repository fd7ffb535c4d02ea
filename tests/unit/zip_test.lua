-- The module "zip": stages and strings, against the gzip and zstd programs.
local lu = require "luaunit"
local stream = require "stream"
local zip = require "zip"

local scratch = (os.getenv "TM_BUILD" or "build") .. "/tmp"
os.execute("mkdir -p '" .. scratch .. "'")

local function path(name)
  return ("%s/zip_test.%s"):format(scratch, name)
end

local function write(name, bytes)
  local f <close> = assert(io.open(path(name), "wb"))
  assert(f:write(bytes))
  return path(name)
end

local function capture(command)
  local f = assert(io.popen(command, "r"))
  local bytes = f:read "a"
  return bytes, f:close()
end

local function sample(rows)
  local t = {}
  for i = 1, rows do
    t[i] = ("%d|row %d|%x"):format(i, i * 7919, i * 2654435761)
  end
  return table.concat(t, "\n") .. "\n"
end

local function through(stage, bytes)
  local sink <close> = stream.collect()
  stream.pump(stream.bytes(bytes), stage, sink)
  return stream.collected(sink)
end

local big = sample(200000) -- several members

TestStages = {}

function TestStages.test_the_gzip_program_reads_our_gzip()
  for _, level in ipairs { 1, 2, 4, 6, 9 } do
    local file = write("gz", through(zip.gzip { level = level }, big))
    lu.assertTrue(capture("gzip -dc " .. file) == big)
  end
end

function TestStages.test_the_zstd_program_reads_our_zstd()
  for _, level in ipairs { 1, 3, 9 } do
    local file = write("zst", through(zip.zstd { level = level, workers = 3 }, big))
    lu.assertTrue(capture("zstd -qdc " .. file) == big)
  end
end

function TestStages.test_we_read_the_programs_output()
  local file = write("plain", big)
  lu.assertTrue(through(zip.gunzip(), (capture("gzip -c " .. file))) == big)
  lu.assertTrue(through(zip.gunzip { engine = "zlib" }, (capture("gzip -c " .. file))) == big)
  lu.assertTrue(through(zip.unzstd(), (capture("zstd -qc " .. file))) == big)
  lu.assertTrue(through(zip.unzstd(), (capture("zstd -qc -19 " .. file))) == big)
end

function TestStages.test_no_input_gives_one_empty_member()
  local gz = through(zip.gzip(), "")
  lu.assertEquals(gz:sub(1, 2), "\x1f\x8b")
  lu.assertEquals(zip.decompress(gz, "gzip"), "")
  lu.assertEquals(through(zip.unzstd(), through(zip.zstd(), "")), "")
end

function TestStages.test_small_chunks_keep_their_order()
  for _, workers in ipairs { 1, 2, 7 } do
    local out = through(zip.gzip { workers = workers, chunk = 1024 }, big)
    lu.assertTrue(through(zip.gunzip(), out) == big)
  end
end

function TestStages.test_rows_are_carried_through_compression()
  local sink <close> = stream.discard()
  local stats = stream.pump(stream.bytes(big, 200000), zip.gzip(), sink)
  lu.assertEquals(stats.rows_out, 200000)
  lu.assertTrue(stats.bytes_out < #big)
end

function TestStages.test_auto_detects_by_the_first_bytes()
  lu.assertEquals(through(zip.auto(), zip.compress("hello", "gzip")), "hello")
  lu.assertEquals(through(zip.auto(), zip.compress("hello", "zstd")), "hello")
  lu.assertEquals(through(zip.auto(), "hello"), "hello")
  lu.assertEquals(through(zip.auto(), ""), "")
end

function TestStages.test_a_cut_off_stream_fails()
  local gz = zip.compress(big, "gzip")
  local ok, err = pcall(through, zip.gunzip(), gz:sub(1, -2))
  lu.assertFalse(ok)
  lu.assertEquals(err.kind, "data")
  lu.assertStrContains(err.message, "gzip data ends too early")
end

function TestStages.test_an_abandoned_stage_ends_its_threads()
  for _ = 1, 20 do
    local stage = zip.gzip { chunk = 1024 }
    local sink <close> = stream.discard()
    pcall(stream.pump, stream.bytes(big), stage, zip.gunzip(), zip.gunzip(), sink)
    stage:close()
  end
end

TestStrings = {}

function TestStrings.test_round_trip()
  for _, codec in ipairs { "gzip", "zstd" } do
    for _, text in ipairs { "", "a", ("abc"):rep(100000), big } do
      lu.assertTrue(zip.decompress(zip.compress(text, codec), codec) == text)
    end
  end
end

function TestStrings.test_a_bomb_is_stopped_at_the_limit()
  local bomb = zip.compress(("\0"):rep(1 << 20), "gzip")
  local ok, err = pcall(zip.decompress, bomb, "gzip", { limit = 1000 })
  lu.assertFalse(ok)
  lu.assertEquals(err.message, "the data expands to more than 1000 bytes")
end

function TestStrings.test_damage_names_the_byte()
  local gz = zip.compress("some text", "gzip")
  local ok, err = pcall(zip.decompress, gz:sub(1, -9) .. "\0\0\0\0" .. gz:sub(-4), "gzip")
  lu.assertFalse(ok)
  lu.assertEquals(err.kind, "data")
  lu.assertStrMatches(err.message, "gzip data is corrupt at byte %d+: .*")
end

function TestStrings.test_levels_and_codecs_are_checked()
  lu.assertErrorMsgContains("level must be an integer from 1 to 9", zip.gzip, { level = 10 })
  lu.assertErrorMsgContains("level must be an integer from 1 to 19", zip.zstd, { level = 20 })
  lu.assertErrorMsgContains("no codec 'lzma'", zip.compress, "x", "lzma")
end

os.exit(lu.LuaUnit.run())
