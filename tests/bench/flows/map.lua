--- Rows through a Lua map that reads one column and writes another: `tidemill exec map.lua FILE`
--- with rows of the table `mixed` in COPY's text form. Prints rows a second. They come from
--- memory and go nowhere, so that neither a server nor a disk is measured.

local stream = require "stream"
local time = require "time"

local COLUMNS = { "id", "n", "amount", "at", "note", "ratio", "day" }
local BYTES, ROUNDS = 32 << 20, 5

local f <close> = assert(io.open(arg[1]))
local text = f:read(BYTES)
text = text:match "^(.*\n)" -- whole rows; a row has no bare line end in this form
local _, rows = text:gsub("\n", "")

local best = 0
for _ = 1, ROUNDS do
  local start = time.now()
  stream.pump(stream.bytes(text, rows), stream.map(function(row)
    row.n = row.id
    return row
  end, { columns = COLUMNS, input = { format = "text" }, output = { format = "text" } }), stream.discard())
  best = math.max(best, rows / (time.now() - start))
end
print(math.floor(best))
