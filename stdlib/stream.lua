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
---
--- Several at once: `stream.start` runs a stream beside the script, `stream.wait` waits for the
--- first of many to end. Three of them, at 20 MB a second together:
---
---     local stream = require "stream"
---     local pace, jobs, bytes = stream.rate(20e6), {}, 0
---     for i = 1, 3 do
---       jobs[i] = stream.start(stream.bytes(("x"):rep(i * 1000)),
---         stream.throttle { rate = pace }, stream.discard())
---     end
---     while #jobs > 0 do
---       local ended = stream.wait(jobs)[1]
---       bytes = bytes + ended:join().bytes_out
---       for i = #jobs, 1, -1 do
---         if jobs[i] == ended then table.remove(jobs, i) end
---       end
---     end
---     print(bytes) --> 6000

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

---@class stream.StartOpts
---@field queue? integer     slabs between two threads (default 4)
---@field interval? integer  milliseconds between two looks at the figures of `job:stats` (default 100)

--- Starts moving everything from the source through the stages into the sink, in threads of its
--- own, and returns at once. Until the job is joined or closed the streams are its own: nothing
--- else can be done with them (only `objects` of an objects sink tells what is completed). A
--- connection that one of them uses is busy as long. At most 16 stages; no map, which runs Lua.
---@param source stream.Source
---@param ... stream.Stage|stream.Sink|stream.StartOpts  stages, then the sink, then the options
---@return stream.Job
function stream.start(source, ...) end

--- Waits until a job has ended, a chain is hungry or a descriptor can be read, and returns those
--- of the list that are and do, in its order; none when the time is over. A chain that failed is
--- never hungry: its job ends, so wait for that too. Raises canceled on Ctrl-C.
---@param list (stream.Job|stream.Chain|integer)[]  at most 4096
---@param seconds? number  (default: no limit)
---@return (stream.Job|stream.Chain|integer)[]
function stream.wait(list, seconds) end

--- A source made of sources that are given one after another while a job reads it: so one sink
--- takes many ranges of a table. A source given is read to its end and closed before the chain
--- is hungry again, so the connection that it used is then free. An error of a source is the
--- chain's. With the connection of a database and a store:
---
---     local chain <close> = stream.chain()
---     local job <close> = stream.start(chain:source(), store:objects { prefix = "orders/" })
---     for page = 0, pages - 1, 1000 do
---       local ready = stream.wait { job, chain }
---       if ready[1] == job then break end -- it failed, and join says why
---       chain:give(conn:copy_out(("COPY (SELECT * FROM orders WHERE ctid >= '(%d,0)' " ..
---         "AND ctid < '(%d,0)') TO STDOUT (FORMAT csv)"):format(page, page + 1000), { wait = false }))
---     end
---     chain:finish()
---     job:join()
---@return stream.Chain
function stream.chain() end

--- A pace that several throttles keep together.
---@param bytes_per_second number
---@param burst? number  bytes that may pass at once after a pause (default: a quarter of a second's)
---@return stream.Rate
function stream.rate(bytes_per_second, burst) end

---@class stream.ThrottleOpts
---@field rate number|stream.Rate  bytes a second, or a pace shared with other streams
---@field burst? number            as of `stream.rate`; only with a number

--- A stage that lets through so many bytes a second, counted before compression. Put it next to
--- the source: what it holds back, the source does not read.
---@param opts stream.ThrottleOpts
---@return stream.Stage
function stream.throttle(opts) end

---@class stream.RowHashOpts : csv.Format
---@field columns string[]    their names
---@field types? string[]     for each "text", "float4" or "float8" (default: all "text")
---@field by_column? boolean  sums each column as well (default false)

--- A stage that hands on the bytes of rows as they are, and sums a hash of each: the sum does not depend on
--- the order of rows, and is the one that this query gives, modulo 2^64, on any PostgreSQL:
---
---     SELECT sum(('x' || substr(md5(ROW(a, b)::text), 1, 16))::bit(64)::bigint) FROM t
---
--- Columns of type real and double precision are float4 and float8: in the query, they are
--- CASE WHEN a = 'NaN' THEN 'NaN' ELSE encode(float8send(a), 'hex') END, for servers before 12 write more
--- digits. A stage may be part of one stream after another; the sums go on. It tells accidents, not enemies.
---@param opts stream.RowHashOpts
---@return stream.RowHash
function stream.rowhash(opts) end

---@class stream.RowHash : stream.Stage
local RowHash = {}

--- What was summed so far, when the stream has ended: rows, sum (an integer that wraps at 64 bits), unread (rows
--- that could not be read, and are not in the sum), and with by_column columns, their sums.
---@return {rows: integer, unread: integer, sum: integer, columns: integer[]?}
function RowHash:sums() end

---@class stream.ChunksOpts : csv.Format
---@field bytes? integer  a chunk ends with the record that makes it so long (default 1 MiB)
---@field rows? integer   or with so many records (default 10000)

--- What a job writes to and Lua reads, in chunks of whole records, cut where COPY would cut them: to send
--- rows again around one that was refused. A header is passed over, and what stands behind "\." alone on a line.
---
---     local chunks <close> = stream.chunks { format = "csv" }
---     local job <close> = stream.start(store:reader "a.csv", chunks:sink())
---     while true do
---       local count, state = chunks:next()
---       if state == "end" then break end
---       if count then print(count, chunks:record(1)) else stream.wait { chunks.fd } end
---     end
---     job:join()
---@param opts? stream.ChunksOpts
---@return stream.Chunks
function stream.chunks(opts) end

---@class stream.Chunks
---@field fd integer  readable when `next` may have more than "wait" to say
local Chunks = {}

--- The sink, once.
---@return stream.Sink
function Chunks:sink() end

--- Goes to the next chunk and returns how many records it has. Nil and "wait" when it is not there yet, nil and
--- "end" when there is none. Raises when the stream has failed; its job's join has more to say.
---@return integer? count, string? state
function Chunks:next() end

--- A record of the chunk: its bytes without the line end, the line of the object on which it begins, and
--- "carriage return" or "newline" if there is one in it where COPY takes none.
---@param i integer
---@return string bytes, integer line, string? fault
function Chunks:record(i) end

--- The first record from this one on that has such a fault; nil if none has.
---@param from integer
---@return integer?
function Chunks:fault(from) end

--- The record in which a COPY that was given the records from `from` on is on its line `line`, as CONTEXT of
--- an error tells it; nil when that is behind the last.
---@param from integer
---@param line integer
---@return integer?
function Chunks:find(from, line) end

--- A source of some records of the chunk.
---@param from integer
---@param to integer
---@return stream.Source
function Chunks:source(from, to) end

--- Frees it; a stream that writes to it fails.
function Chunks:close() end

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

--- A stream that runs beside this script.
---@class stream.Job
---@field fd integer  a descriptor that can be read once the stream has ended; nil when closed
local Job = {}

--- Whether the stream has ended, well or not.
---@return boolean
function Job:done() end

--- Waits for the end and returns the figures, or raises what went wrong; may be called again. Then
--- the streams are free to be asked for their results and closed. Ctrl-C cancels the job.
---@return stream.Stats
function Job:join() end

--- The figures so far, not older than the job's `interval`.
---@return stream.Stats
function Job:stats() end

--- Makes the stream fail soon: `join` raises canceled, unless it has ended before.
function Job:cancel() end

--- Cancels a job that was not joined, waits for its end and closes its streams; after `join` it
--- only forgets them. Closing twice is harmless. A variable marked `<close>` does it.
function Job:close() end

--- A source made of sources.
---@class stream.Chain
---@field fd integer  a descriptor that can be read while the chain is hungry; nil when closed
local Chain = {}

--- The source to start a job with; once.
---@return stream.Source
function Chain:source() end

--- Puts a source behind those given before. It is the chain's from then on, also when the chain
--- has failed, which false says: join the job to learn why.
---@param source stream.Source
---@return boolean taken
function Chain:give(source) end

--- No more will be given: the stream ends when all that was given is read.
function Chain:finish() end

--- Whether all that was given has been read and closed, and the chain is neither finished nor has
--- failed. True at first.
---@return boolean
function Chain:hungry() end

---@class stream.ChainStats
---@field sources integer  read to their ends
---@field rows integer     read so far
---@field bytes integer    read so far

--- The figures so far; while the chain is hungry, of exactly what was given.
---@return stream.ChainStats
function Chain:stats() end

--- Lets go of it; the stream fails unless `finish` was called. Closing twice is harmless.
function Chain:close() end

--- A pace in bytes a second.
---@class stream.Rate

--- Where bytes come from.
---@class stream.Source
local Source = {}

--- Reads by hand: the next bytes and how many rows end in them; nil at the end. Raises on failure.
---@return string?
---@return integer?
function Source:read() end

--- Closes it and stops what is under way at the far side. Closing twice is harmless. What a job
--- has is closed by the job; so with stages and sinks.
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
