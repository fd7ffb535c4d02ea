---@meta pg

--- PostgreSQL: connections, statements, transactions and COPY streams.
---
--- Works with PostgreSQL 9.4 and later and with the Greenplum family (AnalyticDB for
--- PostgreSQL among it). Every wait can be cancelled, by Ctrl-C or `Conn:cancel`, and the
--- statement is then cancelled at the server too.
---
--- Values: integers, floats, booleans and bytea (a binary string) come as Lua's own types;
--- numeric, timestamps, uuid, arrays, json and all others as the server's exact text; NULL is
--- `pg.null`, which is true in a condition, so compare: `if row.a == pg.null then`. Text is
--- UTF-8.
---
--- Failures raise an error table: kind, message, and where they apply code (the SQLSTATE),
--- detail (DETAIL, CONTEXT, and the SQL with a caret at the place) and hint. Kinds: "connect",
--- "auth", "not_found", "exists", "data" (a value that does not fit, a violated constraint),
--- "sql", "server" and "io" (a repeat may help), "timeout", "canceled", "in_doubt" (the
--- connection broke while a COMMIT was on its way), "usage". None holds a password.
---
--- Example:
---
---     local pg = require "pg"
---     local conn <close> = pg.connect(os.getenv "RDS_URL")
---     local tx <close> = conn:transaction()
---     conn:query("UPDATE t SET seen = now() WHERE id = $1", 42)
---     for row in conn:rows("SELECT id, name FROM t WHERE a > $1", 10) do
---       print(row.id, row.name)
---     end
---     tx:commit()

local pg = {}

--- SQL NULL: the same value as `json.null`.
pg.null = nil

---@class pg.Opts
---@field application_name? string  as pg_stat_activity shows it (default: the conninfo's, else "tidemill")
---@field connect_timeout? number   seconds for each host (default: the conninfo's, else 10)
---@field timeout? number           see `Conn:timeout` (default 0: no limit)
---@field session? "plain"|"data"   "data" moves rows: no server timeouts, row_security off (default "plain")
---@field read_only? boolean        transactions are read-only unless they say otherwise (default false)
---@field timezone? string          the session's TimeZone (default: the server's for this role)
---@field statement_timeout? number seconds, enforced by the server (default: the server's; "data": none)
---@field notice? fun(notice: pg.Notice)  see `Conn:notices`

---@class pg.Notice
---@field severity string  "NOTICE", "WARNING", "INFO" ...
---@field message string
---@field code? string     SQLSTATE
---@field detail? string
---@field hint? string
---@field context? string

---@class pg.Conn
local Conn = {}

---@class pg.Stmt
local Stmt = {}

---@class pg.Tx
local Tx = {}

---@class pg.Source
local Source = {}

---@class pg.Sink
local Sink = {}

--- Connects.
---
--- `conninfo` is what libpq takes: a URI, `host=... dbname=...`, `service=NAME`, or a table of
--- libpq's options, `{host = "db", port = 5433, sslmode = "verify-full"}`. What it leaves out
--- comes from the PG* environment, the service file and ~/.pgpass.
---
--- The session is set up with client_encoding UTF8, DateStyle ISO, IntervalStyle postgres,
--- extra_float_digits 3 and bytea_output hex. No `options` are sent at start, so PgBouncer in
--- session mode is fine; in transaction mode it breaks session settings, LISTEN and prepared
--- statements (see `Conn:pooled`). A peer that is gone is noticed after 60 s by TCP keepalive.
---
--- Raises kind "connect", "auth", "not_found" (no such database), "usage" (a bad
--- conninfo or option) or "canceled".
---@param conninfo? string|table  default: the PG* environment
---@param opts? pg.Opts
---@return pg.Conn  use it as `local conn <close> = pg.connect(...)`
function pg.connect(conninfo, opts) end

--- Marks a string as bytes, for a bytea parameter; it may hold zero bytes.
---@param bytes string
---@return userdata
function pg.bytea(bytes) end

--- Quotes a name for use in SQL: `a"b` becomes `"a""b"`.
---
--- A dot is part of the name: quote schema and table apart. Raises kind "usage" for an empty
--- name, a zero byte and text that is not UTF-8.
---@param name string
---@return string
function pg.quote_ident(name) end

--- Quotes a value for use in SQL where a parameter cannot stand; nil and `pg.null` give NULL.
---
--- Safe whatever standard_conforming_strings is. Raises kind "usage" for a zero byte and
--- text that is not UTF-8.
---@param value? string|number
---@return string
function pg.quote_literal(value) end

--- Ends the session; an open transaction is rolled back, an open stream fails.
---
--- Closing twice is harmless; every other call on a closed connection raises "connection is
--- closed".
function Conn:close() end

---@class pg.ExecOpts
---@field results? boolean  keep the rows that statements return (default false: they are dropped)

---@class pg.Done
---@field command string       command tag: "INSERT 0 5"
---@field rows? integer        rows affected or returned, when the command tells
---@field result? pg.Result    with opts.results, for a statement that returns rows

--- Runs one or several statements, without parameters, as one simple query.
---
--- Outside a transaction several statements run as one: all or nothing, unless the text itself
--- has BEGIN or COMMIT. The result has one entry for each statement, and the fields of the
--- last one. On an error nothing after it runs. If the connection breaks outside a
--- transaction, the hint says that it is not known whether the statement took effect.
---@param sql string
---@param opts? pg.ExecOpts
---@return pg.Done  also an array of pg.Done, one for each statement
function Conn:exec(sql, opts) end

---@class pg.Result
---@field columns string[]   column names in order
---@field command string     command tag
---@field affected? integer  rows affected or returned

--- Runs one statement with parameters $1, $2 ... and returns all its rows.
---
--- Parameters: nil and `pg.null` are NULL; booleans, numbers and strings go as text whose
--- type the server infers (write `$1::date` where it cannot); arrays become PostgreSQL arrays
--- (`pg.null` for a NULL inside, arrays in arrays for more dimensions); bytes need `pg.bytea`.
--- All rows are in memory: for many, use `Conn:rows`. Of two columns with one name the later
--- one is kept.
---@param sql string
---@param ... any
---@return pg.Result  an array of rows, each a table by column name
function Conn:query(sql, ...) end

--- As `Conn:query`, but returns the first row only, nil when there is none.
---@param sql string
---@param ... any
---@return table?    row
---@return string[]? columns
function Conn:one(sql, ...) end

--- As `Conn:query`, but returns the first value of the first row, nil when there is no row.
---@param sql string
---@param ... any
---@return any
function Conn:value(sql, ...) end

--- Iterates over the rows of a query in constant memory.
---
--- The connection can do nothing else until the loop ends. Leaving the loop early cancels
--- the query; inside a transaction the rest is first read and dropped for up to 2 s, for a
--- cancel makes the transaction fail. An error in the middle is raised, never taken for the
--- end. Each row is a new table.
---@param sql string
---@param ... any
---@return fun(): table?
function Conn:rows(sql, ...) end

--- Prepares a statement for repeated use with other parameters.
---@param sql string
---@return pg.Stmt  deallocated at the server some time after it was closed or dropped
function Conn:prepare(sql) end

--- Runs it and returns all rows, as `Conn:query`.
---@param ... any
---@return pg.Result
function Stmt:query(...) end

--- Runs it and returns the first row, nil when there is none.
---@param ... any
---@return table?
function Stmt:one(...) end

--- Runs it and returns the first value of the first row, nil when there is no row.
---@param ... any
---@return any
function Stmt:value(...) end

--- Runs it and returns the rows affected or returned, nil when the command tells none.
---@param ... any
---@return integer?
function Stmt:exec(...) end

--- Gives it up. Twice is harmless.
function Stmt:close() end

---@class pg.TxOpts
---@field isolation? "read committed"|"repeatable read"|"serializable"  default: the server's
---@field read_only? boolean   default false
---@field deferrable? boolean  default false

--- Opens a transaction; inside another one, a savepoint (then without options).
---
--- It is rolled back when it goes out of scope uncommitted:
---
---     local tx <close> = conn:transaction { isolation = "repeatable read" }
---     ...
---     tx:commit()
---@param opts? pg.TxOpts
---@return pg.Tx
function Conn:transaction(opts) end

--- Commits (a savepoint: releases it).
---
--- Raises kind "in_doubt" when the connection broke while the COMMIT was on its way: look in
--- the database before doing it again. Raises kind "sql" when a statement had failed before
--- and the server rolled back instead.
function Tx:commit() end

--- Rolls back what was not committed. Nothing when the transaction has ended.
function Tx:rollback() end

--- The connection it runs on.
---@return pg.Conn
function Tx:conn() end

---@class pg.Column
---@field name string
---@field type string         as format_type tells it: "numeric(12,2)"
---@field oid integer         of the type
---@field typmod integer      -1 for none
---@field nullable? boolean   nil when it cannot be known

--- The result columns of a statement (which may have $n) without running it.
---@param sql string
---@return pg.Column[]  empty when it returns no rows
function Conn:describe(sql) end

--- Runs COPY ... TO STDOUT as a stream of bytes, for `stream.pump`.
---
--- Bytes are as the server sends them, in slabs of whole rows. The end comes only after the
--- server confirmed the command. The connection can do nothing else until then; closing the
--- source early cancels the COPY.
---
--- The server says that the COPY began when it has its first rows, which may take long. With
--- `wait = false` that is waited for by the first read, so in the thread of a job, which then also
--- has the error of a bad command.
---@param sql string  "COPY (SELECT ...) TO STDOUT (FORMAT csv)"
---@param opts? { wait: boolean? }  (default true)
---@return pg.Source
function Conn:copy_out(sql, opts) end

--- Reads one slab by hand: bytes and how many rows they hold; nil at the end.
---@return string?  bytes
---@return integer? rows
function Source:read() end

--- Rows of the command tag, once the end was read; else nil.
---@return integer?
function Source:rows() end

--- Gives up what was not read. Twice is harmless.
function Source:close() end

--- Runs COPY ... FROM STDIN as a sink of bytes, for `stream.pump`.
---
--- A row that the server refuses fails a write soon after, or `finish`, with the server's
--- CONTEXT: table, line, column. Nothing is loaded unless `finish` succeeds and, in a
--- transaction, that commits.
---@param sql string  "COPY t (a, b) FROM STDIN (FORMAT csv)"
---@return pg.Sink
function Conn:copy_in(sql) end

--- Writes bytes by hand; rows may be cut anywhere.
---@param bytes string
---@param rows? integer  how many rows end in them (default 0)
---@return pg.Sink
function Sink:write(bytes, rows) end

--- Ends the COPY; returns only after the server confirmed it.
---
--- Raises kind "in_doubt" when the connection breaks meanwhile outside a transaction.
function Sink:finish() end

--- Ends the COPY so that the server discards all of it.
---@param why? string  for the server's log (default "aborted")
function Sink:abort(why) end

--- Rows of the command tag, after `finish`; else nil.
---@return integer?
function Sink:rows() end

--- Aborts unless it was finished. Twice is harmless.
function Sink:close() end

--- Sets the function that hears notices (RAISE NOTICE, warnings ...); nil for none.
---
--- It runs while a statement runs and must not use the connection (but may `cancel` it). An
--- error in it goes to the log. Notices that come while a stream moves go to the log too.
---@param f? fun(notice: pg.Notice)
function Conn:notices(f) end

--- Listens on a channel (LISTEN). The name is taken as it is, case and all.
---@param channel string
function Conn:listen(channel) end

--- Stops listening on a channel (UNLISTEN).
---@param channel string
function Conn:unlisten(channel) end

---@class pg.Notification
---@field channel string
---@field payload string  "" for none
---@field pid integer     server process of the sender

--- Waits for a notification.
---@param seconds? number  default: no limit; 0 only looks
---@return pg.Notification?  nil when none came in time
function Conn:wait_notify(seconds) end

--- Makes the call under way on this connection, else the next one, fail with kind "canceled",
--- and cancels its statement at the server. For use from a progress or notice function.
function Conn:cancel() end

--- Sets how long a statement may take, and how long a COPY or an iteration may be silent.
---
--- Then kind "timeout" is raised and the statement is cancelled at the server; the
--- connection stays usable if the server answers within seconds.
---@param seconds? number  0 or nil: no limit
function Conn:timeout(seconds) end

--- Process id of the session at the server, true also behind a pooler.
---@return integer
function Conn:pid() end

--- When that process started, as text of a timestamptz; with the pid it names the session.
---@return string  "" when the server does not tell
function Conn:backend_start() end

--- Version of the server.
---@return integer  150004 for 15.4, 90426 for 9.4.26
---@return string   the text of `version()`
function Conn:server_version() end

--- "postgresql" or "greenplum".
---@return string
function Conn:flavor() end

--- A setting that the server reports by itself, such as "TimeZone"; nil when it does not.
---@param name string
---@return string?
function Conn:parameter(name) end

--- Whether a pooler such as PgBouncer lies between.
---@return boolean
function Conn:pooled() end

--- Whether the connection uses TLS.
---@return boolean
function Conn:encrypted() end

--- "idle", "transaction", "failed" (a transaction that can only roll back), "busy" (a stream or
--- an iteration is open), "broken" or "closed".
---@return string
function Conn:state() end
