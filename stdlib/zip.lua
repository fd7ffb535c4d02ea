---@meta zip

--- gzip and zstd: as stages of a stream, in worker threads, and on strings.
---
--- What is written is read by `gzip -d`, `zstd -d` and every reader of the two formats; each
--- megabyte or so is a member (frame) of its own. What is read may hold any number of members.
--- Memory does not depend on the size of the data or on what it claims to expand to.
---
--- Example:
---
---     local stream = require "stream"
---     local zip = require "zip"
---     local sink <close> = stream.collect()
---     stream.pump(stream.bytes("1|one\n2|two\n", 2), zip.gzip { level = 1 }, sink)
---     assert(zip.decompress(stream.collected(sink)) == "1|one\n2|two\n")

local zip = {}

---@class zip.CompressOpts
---@field level? integer    gzip: 1 (fast, the default) to 9 (small); zstd: 1 to 19 (default 2)
---@field workers? integer  threads that compress, 1 to 64 (default 2, or 1 on a single core)
---@field chunk? integer    bytes of input in one member (default 1048576)

---@class zip.DecompressOpts
---@field window_log? integer  zstd: largest window to accept, as a power of two (default 26, 64 MiB)

---@class zip.StringOpts
---@field level? integer       compressing: as in zip.CompressOpts
---@field window_log? integer  decompressing: as in zip.DecompressOpts
---@field limit? integer       decompressing: most bytes of the result (default 67108864, 64 MiB)

--- A stage that compresses to gzip.
---
--- Each slab it gives on is one complete member and holds whole rows if its input did, so an object
--- may end after any of them. Input without a byte gives an empty member. Levels 1 to 5 use ISA-L
--- where it exists (x86-64, 64-bit ARM), the others zlib. Raises on a level that does not exist.
---@param opts? zip.CompressOpts
---@return stream.Stage
function zip.gzip(opts) end

--- A stage that compresses to zstd, with checksums. As `zip.gzip` otherwise.
---@param opts? zip.CompressOpts
---@return stream.Stage
function zip.zstd(opts) end

--- A stage that decompresses gzip.
---
--- Concatenated members are read; zero bytes after the last are ignored, as `gzip -d` does; anything
--- else there, damage, a wrong checksum or an early end stops the stream with an error of kind
--- `data` that names the byte. The slabs it gives on may begin and end inside a row.
---@return stream.Stage
function zip.gunzip() end

--- A stage that decompresses zstd. As `zip.gunzip` otherwise.
---@param opts? zip.DecompressOpts
---@return stream.Stage
function zip.unzstd(opts) end

--- A stage that decompresses gzip or zstd by the first bytes, and hands anything else through.
---@param opts? zip.DecompressOpts
---@return stream.Stage
function zip.auto(opts) end

--- Compresses a string.
---@param bytes string
---@param codec? "gzip"|"zstd"  default "gzip"
---@param opts? zip.StringOpts
---@return string
function zip.compress(bytes, codec, opts) end

--- Decompresses a string; raises an error of kind `data` when it is damaged, cut off, or expands to
--- more than `opts.limit` bytes.
---@param bytes string
---@param codec? "gzip"|"zstd"|"auto"  default "auto"
---@param opts? zip.StringOpts
---@return string
function zip.decompress(bytes, codec, opts) end

return zip
