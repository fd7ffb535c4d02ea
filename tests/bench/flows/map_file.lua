--- A file of rows of the table `mixed` in COPY's text form through a Lua map that reads one
--- column and writes another, into a file: `tidemill exec map_file.lua FILE TO`.

local oss = require "oss"
local stream = require "stream"

local COLUMNS = { "id", "n", "amount", "at", "note", "ratio", "day" }

local function at(path)
  local dir, name = path:match "^(.*)/([^/]+)$"
  return oss.open("file://" .. dir), name
end

local from, source = at(arg[1])
local to, target = at(arg[2])
stream.pump(from:reader(source), stream.map(function(row)
  row.n = row.id
  return row
end, { columns = COLUMNS, input = { format = "text" }, output = { format = "text" } }), to:writer(target))
