---@meta stream

--- Moving bytes and rows: sources, stages, sinks, and the pump that joins them.
---
--- Other modules make the ends (`pg` COPY, `oss` objects) and stages (`zip`); here are the pump, the
--- Lua map, and small streams for tests and glue. Bytes travel in slabs of about 256 KiB through
--- bounded queues between threads: a slow sink slows the source, and memory does not depend on
--- the amount of data. An error anywhere aborts the whole: the sink makes nothing of it count.
---
--- Example:
---
---     local stream = require "stream"
---     local sink <close> = stream.collect()
---     local stats = stream.pump(
---       stream.bytes("1,new\n2,void\n"),
---       stream.map(function(row)
---         if row.state ~= "void" then return row end
---       end, { columns = { "id", "state" } }),
---       sink)
---     print(stats.rows_out, stream.collected(sink))

local stream = {}

---@class stream.Stats
---@field rows_in integer    rows read from the source, where it knows rows
---@field bytes_in integer   bytes read from the source
---@field rows_out integer   rows given to the sink, where they are known
---@field bytes_out integer  bytes given to the sink

---@class stream.PumpOpts
---@field progress? fun(stats: stream.Stats)  called now and then; an error it raises stops the stream
---@field interval? integer  milliseconds between two calls of `progress` (default 250)
---@field queue? integer     slabs between two threads (default 4)

--- Moves everything from the source through the stages into the sink, and finishes the sink.
---
--- The source and each stage run in threads of their own; a map, or else the sink, runs in this
--- one. On any failure, and on Ctrl-C, the sink is aborted and the first error is raised. Nothing
--- is closed. At most 16 stages, at most one of them a map.
---@param source stream.Source
---@param ... stream.Stage|stream.Sink|stream.PumpOpts  stages, then the sink, then the options
---@return stream.Stats
function stream.pump(source, ...) end

---@class stream.MapOpts
---@field columns? string[]         names of the input's columns (not needed with a header)
---@field input? csv.Format         how the rows come (default csv)
---@field output? csv.Format        how they go on (default: as they come)
---@field output_columns? string[]  names of the columns that go on, in order; one that the input lacks
---                                 may be assigned like any other and is NULL until then
---                                 (default: the input's)
---@field reject? fun(bytes: string, err: table)|stream.Sink  receives each record that cannot be
---                                 read, instead of the stream failing

--- A stage that calls a function for each row.
---
--- The row is one object, reused for every row and valid only during the call. Its fields are read
--- by name or position (`row.name`, `row[1]`) as strings, or `csv.null` for NULL, and assigned
--- strings, numbers, booleans, nil or null (both are NULL). A name that is no column raises.
--- `#row` counts the columns, `pairs(row)` and `ipairs(row)` go through them in order, and
--- `row:copy()` is a table that may be kept (a column named `copy` hides it).
---
--- Returning the row keeps it, with what was assigned; returning nil drops it; returning a table, an
--- array or by name, puts that in its place, where a missing column is NULL. An error stops the
--- stream; its message names the row and the line of the function. A stage maps one stream.
---
--- Reading one field costs some tens of nanoseconds, an untouched field nothing; a row that was not
--- changed is given on as the bytes it came in, if input and output have the same format.
---@param fn fun(row: stream.Row): stream.Row|table|nil
---@param opts? stream.MapOpts
---@return stream.Stage
function stream.map(fn, opts) end

---@class stream.Row
---@field [string] string|number|boolean|lightuserdata|nil
---@field [integer] string|number|boolean|lightuserdata|nil
local Row = {}

--- The row as a table: fields by name, or an array when names are not known.
---@return table
function Row:copy() end

--- A source of exactly these bytes, in one slab.
---@param bytes string
---@param rows? integer  how many rows they are, for the statistics (default 0)
---@return stream.Source
function stream.bytes(bytes, rows) end

--- A sink that keeps all bytes in memory; `stream.collected` gives them.
---@return stream.Sink
function stream.collect() end

--- The bytes that a sink made by `stream.collect` holds.
---@param sink stream.Sink
---@return string
function stream.collected(sink) end

--- A sink that counts and drops what it is given.
---@return stream.Sink
function stream.discard() end

--- Which kind of stream value this is; nil for anything else.
---@param value any
---@return "source"|"stage"|"sink"|nil
function stream.kind(value) end

--- Where bytes come from.
---@class stream.Source
local Source = {}

--- Reads by hand: the next bytes and how many rows end in them; nil at the end. Raises on failure.
---@return string?
---@return integer?
function Source:read() end

--- Closes it and stops what is under way at the far side. Closing twice is harmless.
function Source:close() end

--- What bytes pass through.
---@class stream.Stage
local Stage = {}

--- Frees it. Closing twice is harmless.
function Stage:close() end

--- Where bytes go.
---@class stream.Sink
local Sink = {}

--- Writes by hand; `rows` is how many rows end in `bytes` (default 0). Raises on failure.
---@param bytes string
---@param rows? integer
---@return stream.Sink
function Sink:write(bytes, rows) end

--- Makes what was written count: the COPY ends, the object exists. Once; then only close.
function Sink:finish() end

--- Makes nothing of it count.
---@param why? string  told to the far side where it has a place for it (default "aborted")
function Sink:abort(why) end

--- Closes it; aborts first if it was neither finished nor aborted. Closing twice is harmless.
function Sink:close() end

return stream
