---@meta csv

--- Rows of the csv and text formats of PostgreSQL's COPY, as Lua tables.
---
--- What COPY TO writes is read, and what is written here COPY FROM reads, with the same options,
--- defaults and messages. A field is a string, or `csv.null` (the same value as `pg.null` and
--- `json.null`) for SQL NULL: in csv an unquoted field equal to the null string is NULL, a quoted
--- one never is. Bad quoting is an error that names line, column and bytes, never a guess.
---
--- For rows on their way through a stream use `stream.map`, which is many times faster.
---
--- Example:
---
---     local csv = require "csv"
---     for row in csv.parse("id,name\n1,\"Ada, L.\"\n2,\n", { header = true }) do
---       print(row.id, row.name == csv.null and "(null)" or row.name)
---     end
---     io.write(csv.format({ { 1, "a,b" }, { 2, csv.null } }, { delimiter = "|" }))

local csv = {}

---@class csv.Format
---@field format? "csv"|"text"  default "csv"
---@field delimiter? string     one byte (default "," for csv, a tab for text)
---@field quote? string         csv: one byte (default '"')
---@field escape? string        csv: what precedes a quote inside quotes (default: the quote)
---@field null? string          what stands for NULL (default "" for csv, "\\N" for text)
---@field header? boolean       the first record holds the column names (default false)
---@field newline? "lf"|"crlf"|"auto"  reading: auto (default) takes what the first record has;
---                             writing: auto is lf
---@field encoding? string      PostgreSQL's or iconv's name (default "utf8", which is checked;
---                             "sql_ascii": bytes as they come)
---@field force_quote? boolean  csv, writing: quote every value that is not NULL (default false)
---@field max_record? integer   reading: longest record in bytes (default 33554432, 32 MiB)

---@class csv.ParseOpts : csv.Format
---@field columns? string[]     the columns' names; with `header` the header must hold the same
---@field reject? fun(bytes: string, err: table)|stream.Sink  receives each record that cannot be
---                             read; parsing goes on at the next line (default: it raises)

---@class csv.WriteOpts : csv.Format
---@field columns? string[]     the columns' names, for rows with named fields and for the header

--- SQL NULL: the one null value of all modules.
---@type lightuserdata
csv.null = nil

--- Iterates over the rows of a string or a source; use it in a `for`.
---
--- A row is a table of its own: fields by name if names are known (`columns` or `header`), else an
--- array. Every row must then have as many fields as there are columns. `\.` alone on a line ends
--- the data, as in PostgreSQL up to 17; data after it is an error. A byte order mark is skipped.
--- Raises an error of kind `data` for a record that cannot be read, unless `reject` takes it.
---@param input string|stream.Source
---@param opts? csv.ParseOpts
---@return csv.Reader
function csv.parse(input, opts) end

--- Calling a reader gives the next row, or nil at the end.
---@class csv.Reader
---@operator call: table?
local Reader = {}

--- The column names, once they are known (with `header`: after the first row).
---@return string[]?
function Reader:columns() end

--- How many records were rejected so far.
---@return integer
function Reader:rejected() end

--- Frees the reader; leaving the `for` does it too. The source stays open.
function Reader:close() end

--- Writes rows to a string, as COPY TO would.
---
--- A row is an array, or a table with the names in `opts.columns`. Values are strings (UTF-8),
--- numbers (written so that they read back exactly), booleans (t, f), nil or null. Without
--- `columns` an array with trailing nils is short: use `csv.null`.
---@param rows table[]|fun(): table?  an array of rows, or what gives one a call and nil at the end
---@param opts? csv.WriteOpts
---@return string
function csv.format(rows, opts) end

--- A writer that sends rows to a sink in slabs of 256 KiB.
---@param sink stream.Sink
---@param opts? csv.WriteOpts
---@return csv.Writer
function csv.writer(sink, opts) end

---@class csv.Writer
local Writer = {}

--- Writes one row; see `csv.format` for its shape.
---@param row table
---@return csv.Writer
function Writer:write(row) end

--- Sends what is left, finishes the sink and closes the writer. A writer that is closed without
--- it sends no more and does not finish the sink.
function Writer:finish() end

--- Frees the writer; what was not sent is dropped.
function Writer:close() end

return csv
