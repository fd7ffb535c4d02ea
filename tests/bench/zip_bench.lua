-- Megabytes a second through zip's stages, and the size they leave, on rows of text. Prints one
-- line a case. `build/tidemill exec tests/bench/zip_bench.lua [MB]`
local stream = require "stream"
local time = require "time"
local zip = require "zip"

local megabytes = math.tointeger(arg and arg[1] or 64)

local function sample()
  local t, size = {}, 0
  for i = 1, math.maxinteger do
    t[i] = ("%d|%d|%.2f|2024-03-%02d 10:11:12.5+08|%s|text %x\n"):format(i, i * 7919 % 100003,
      i * 1.37 % 10000, i % 28 + 1, i % 7 == 0 and "" or "open", i * 2654435761 % 4294967296)
    size = size + #t[i]
    if size >= megabytes * 1000000 then
      return table.concat(t)
    end
  end
end

local bytes = sample()

-- zip.auto() cuts the plain bytes into slabs, as a COPY would give them.
local function bench(name, stage, input)
  local sink <close> = stream.collect()
  local start = time.mono()
  stream.pump(stream.bytes(input), zip.auto(), stage, sink)
  local seconds = time.mono() - start
  local out = stream.collected(sink)
  print(("%-24s %7.0f MB/s of plain data  %5.1f %% of its size"):format(name,
    #bytes / 1e6 / seconds, 100 * #out / #input))
  return out
end

for _, level in ipairs { 1, 2, 4, 6 } do
  bench("gzip " .. level, zip.gzip { level = level }, bytes)
end
bench("zstd 2", zip.zstd(), bytes)
bench("gzip 1, one worker", zip.gzip { workers = 1 }, bytes)
for _, codec in ipairs { "gzip", "zstd" } do
  bench("decompress " .. codec, zip.auto(),
    zip.compress(bytes, codec))
end
