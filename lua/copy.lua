--- COPY options and pieces of a transfer that extract and load share.

local pg = require "pg"
local zip = require "zip"

local copy = {}

-- The options of a data format that COPY knows, in the order they are written.
local OPTIONS = { "delimiter", "null", "quote", "escape" }

--- The parenthesised options of a COPY for this data format, without HEADER: header lines
--- are ours to write and the server's to skip only where a load asks for it.
---@param format table  format, delimiter, null, quote, escape, encoding
---@param header? boolean
---@return string  "(FORMAT csv, DELIMITER '|')"
function copy.options(format, header)
  local parts = { "FORMAT " .. format.format }
  for _, name in ipairs(OPTIONS) do
    if format[name] then parts[#parts + 1] = name:upper() .. " " .. pg.quote_literal(format[name]) end
  end
  if format.encoding then parts[#parts + 1] = "ENCODING " .. pg.quote_literal(format.encoding) end
  if header then parts[#parts + 1] = "HEADER true" end
  return "(" .. table.concat(parts, ", ") .. ")"
end

--- The same format as options for the row codecs of csv and stream.map.
---@param format table
---@return table
function copy.codec(format)
  local t = {}
  for _, name in ipairs { "format", "delimiter", "null", "quote", "escape", "encoding", "header" } do
    t[name] = format[name]
  end
  return t
end

--- The data format of a node, as it stands in the manifest.
---@param spec table  the node's fields
---@return table
function copy.format_of(spec)
  local format = copy.codec(spec)
  format.format = spec.format or "csv"
  format.compress = spec.compress or "none"
  format.header = spec.header or nil
  return format
end

local DECOMPRESS = { gzip = "gunzip", zstd = "unzstd" }

--- The stage that undoes the compression of objects, to be closed behind its stream; nil if they have none.
---@param format table  of the manifest
---@return stream.Stage?
function copy.unzip(format)
  if format.compress == "none" then return nil end
  return zip[DECOMPRESS[format.compress]]()
end

return copy
