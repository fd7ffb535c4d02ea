--- Flows: named graphs of nodes that move and change data, declared in a Lua file.
---
--- A flow file returns one flow. Declaring has no effect in the world: the file may be
--- checked, planned and published safely anywhere. What its nodes do happens later, when
--- the flow runs, in dependency order, each node in a process of its own.
---
---     local flow = require "flow"
---
---     return flow "Orders to the warehouse" {
---       schedule    = { cron = "0 30 1 * * ?", timezone = "Asia/Shanghai" },
---       on_error    = "complete_running",
---       concurrency = "skip",
---       vars        = { day = flow.time "yyyy-MM-dd", tomorrow = flow.time("yyyy-MM-dd", "+1d") },
---
---       flow.extract "orders to the lake" {
---         from  = "rds",
---         query = "SELECT * FROM orders WHERE created_at >= '${day}' AND created_at < '${tomorrow}'",
---         to    = "lake:orders/${day}/", compress = "gzip",
---       },
---
---       flow.load "orders into the warehouse" {
---         after = "orders to the lake",
---         from  = "lake:orders/${day}/", on = "adbpg", into = "public.orders",
---       },
---
---       flow.sql "statistics" {
---         after = "orders into the warehouse",
---         on    = "adbpg", sql = "ANALYZE public.orders",
---       },
---     }
---
--- Names such as `rds`, `lake` and `adbpg` are connections; the project file `tidemill.lua`
--- defines them (`tidemill help connections`). `${name}` is a variable (`tidemill help
--- variables`). Try the file with `tidemill check FILE`, `tidemill plan FILE` and
--- `tidemill run FILE`; tests of your own for it need no database (`tidemill help flowtest`).

local flow = {}

---@class flow.Schedule
---One of cron, every, at and after; `tidemill help schedules` explains each.
---@field cron? string      Quartz expression of six or seven fields, or five fields as in crontab
---@field every? flow.Duration  fires each so often, counted from `from`, else from midnight 1970-01-01
---@field at? string        fires once, at "yyyy-MM-dd HH:mm:ss"
---@field after? string|string[]|{flow: string, node: string?}[]  starts when all of these have
---succeeded: "flow", or "flow/node"
---@field timezone? string  IANA name, such as "Asia/Shanghai"; also the zone of time variables
---(default: that of the project, else "UTC")
---@field dst? "once"|"quartz"|"each"  of cron: what a clock change does to a firing (default "once")
---@field from? string      of cron and every: "yyyy-MM-dd" or "yyyy-MM-dd HH:mm:ss"; nothing fires before
---@field to? string        nothing fires after it; a date counts to its end
---@field timeout? flow.Duration  of after: longest time between the first of them and the last
---@field trial? boolean    of after: runs by hand count too (default true)

---@class flow.Param
---@field type? "text"|"integer"|"number"|"boolean"|"date"  (default: that of `default`, else "text")
---@field default? string|number|boolean|flow.Time  without one, every run must set it
---@field description? string

---@class flow.Hook
---One of these:
---@field webhook? string         a webhook connection of tidemill.lua: gets a signed JSON body
---@field shell? string           a command for /bin/sh
---@field email? string|string[]  addresses, through sendmail
---@field subject? string         of the e-mail

---@class flow.Missed
---@field [1] "skip"|"latest"|"all"  the rule
---@field window? string|integer     how far back missed firings count, such as "6h" (default "1d")

---@alias flow.Vars table<string, string|number|boolean|flow.Time>
---@alias flow.Duration string|number  seconds, or text such as "90s", "5m", "1h30m", "2d"

---@class flow.Fields
---@field [integer] flow.Node|flow.Node[]  the nodes, in any order; a list of nodes may stand for
---one
---@field schedule? flow.Schedule|string   a string is the cron expression alone; without a
---schedule the flow runs by hand only
---@field on_error? "complete_running"|"stop"|"continue"  after a node failed: let running nodes
---finish and start none (default), cancel them, or go on with branches that do not need it
---@field concurrency? "skip"|"queue"|"parallel"  a firing while the last run still runs: leave a
---skipped record (default), wait, or run beside it
---@field missed? "skip"|"latest"|"all"|flow.Missed  firings while no runner was up: record only
---(default), run the latest, or run each
---@field params? table<string, flow.Param|string|number|boolean>  what `run --set NAME=VALUE` may
---give; a plain value is the default
---@field vars? flow.Vars        variables of every node
---@field constants? table<string, string|number|boolean>  fixed texts of every node
---@field locale? "en"|"zh"      of names of months, weekdays and half days in time variables (default "en")
---@field priority? integer      1 to 10, 10 first: when nodes wait for a place (default 5)
---@field deadline? flow.Duration  after the scheduled time: a run that is not over then is late
---@field on_success? flow.Hook|flow.Hook[]  told when a run succeeded
---@field on_failure? flow.Hook|flow.Hook[]  told when a run failed
---@field on_late? flow.Hook|flow.Hook[]     told when a run passes its deadline, or a node its own
---@field description? string
---@field owner? string
---@field tags? string[]

--- Such as "${rows} > 0 and ${region} in ('eu', 'us')". A list holds if all in it hold. A function
--- is given the variables. `tidemill help policies` has the operators.
---@alias flow.Condition string|string[]|fun(vars: table<string, string>): boolean

---@class flow.NodeFields
---@field after? string|flow.Node|(string|flow.Node)[]  the nodes that must be over first
---@field trigger? "all_success"|"all_done"|"one_success"|"one_failed"|"all_failed"|"none_failed"  what
---must have become of them (default "all_success")
---@field when? flow.Condition        if it is false, the node and what needs it are skipped
---@field vars? flow.Vars             variables of this node alone
---@field retries? integer            further attempts after a failure (default 0)
---@field retry_delay? flow.Duration  before the first retry (default "10s")
---@field backoff? number             factor of the delay from retry to retry (default 2, the
---delay is capped at one hour)
---@field timeout? flow.Duration      the attempt is cancelled after it (default: none)
---@field max_wait? flow.Duration     a node that may start and gets no place (--jobs, pool) for so long fails,
---without a retry (default: it waits for ever)
---@field deadline? flow.Duration     after the run's start: a node that has not ended then is late, which
---on_late tells; nothing else happens (default: none)
---@field allow_failure? boolean      a failure counts as success for the nodes behind it and for the run
---(default false)
---@field priority? integer           1 to 10, 10 first: among nodes that wait for a place (default 5)
---@field pool? string                of tidemill.lua's pools: at most so many nodes of it run at once (default: that
---of its connection's name, if there is one)
---@field description? string

---@class flow.SqlFields : flow.NodeFields
---@field on string            a PostgreSQL connection
---@field sql string|string[]  statements, sent as they are after variables are filled in
---@field transaction? boolean  all of them in one transaction (default), or each by itself
---@field exactly_once? boolean  the transaction also records that it was done, so that no repeat
---does it again (default false)

---@class flow.Watermark
---@field column string       of the table or query: best a time that writers set, or a number that grows; an index
---on it serves when there is a lower bound
---@field overlap? string|number  how far below the highest value an increment looks for rows that came late: "1 hour",
---or a number (default: of times a day below the oldest transaction that was open; of others no limit)

---@class flow.ExtractFields : flow.NodeFields
---@field from string         a PostgreSQL connection
---@field query? string       either a query ...
---@field table? string       ... or a table, "schema.table"
---@field where? string       of a table: only these rows, such as "day = '${day}'"
---@field to string           "connection:path/" in an object store
---@field jobs? integer       sessions that read at once, 1 to 16 (default 2 for a large table that can be
---read by pages, on two cores or more; else 1); an increment that an index finds is read by one. See `tidemill help
---extracts`
---@field split_by? string    what divides the rows into ranges for the jobs: "ctid", a table's pages
---(PostgreSQL 14 and later), or a column of the table; of a query "table.column", which then has ${range} in its
---text, or ${lo} and ${hi} (default "ctid" where it is possible)
---@field ranges? integer     of a column: how many ranges (default 4 for each job, 16 with resume)
---@field range_pages? integer  of ctid: pages of 8 KB in a range (default 1000)
---@field max_rate? string|integer  bytes a second, of all jobs together, as read from the server: "20MB"
---@field max_snapshot_age? flow.Duration  the attempt fails when its snapshot is older (default: no limit)
---@field resume? boolean     a repeated attempt keeps the ranges that earlier ones have finished: it reads
---only the others, under its own, later snapshot (default false)
---@field watermark? string|flow.Watermark  an incremental extract: each run takes the rows that came since the last
---one whose loads succeeded, none twice; a column, or a table; see `tidemill help incremental`
---@field since? string|number  the first increment begins with this value of the watermark's column (default: all rows)
---@field format? "csv"|"text"  CSV, or PostgreSQL's COPY text format (default "csv")
---@field delimiter? string   one byte (default "," for csv, a tab for text)
---@field quote? string       one byte, csv only (default '"')
---@field escape? string      one byte, csv only (default: the quote)
---@field null? string        what stands for NULL (default an empty unquoted field for csv, "\N"
---for text)
---@field header? boolean     a first line of column names in each object, csv only (default false)
---@field encoding? string    of the objects (default "UTF8")
---@field compress? "none"|"gzip"|"zstd"  (default "none")
---@field level? integer      of compression (default: that of the compressor)
---@field object_size? string|integer  a new object starts at about this many bytes as stored, such as
---"64MB" (default: by the size of the table, "8MB" to "64MB"; of a query "32MB"; the first ones are smaller where
---a load takes them meanwhile)
---@field objects? integer    instead of object_size: exactly so many objects of even size, 1 to 256. For a load's
---`via`, whose segments read whole objects: their number, or several times that
---@field map? fun(row: table): table?  changes each row, or drops it by returning nil; see
---`tidemill help flow-file`
---@field columns? string[]   the names of what `map` returns (default: those of the query)
---@field verify? "count"|"hash"  the objects are compared with the source, in the same snapshot, by the number of
---rows or by a hash of every row as well, which goes into the manifest; see `tidemill help checks` (default: neither)
---@field on_drift? "fail"|"ignore"|"add"  when the source's columns are other ones than in the last manifest of this
---node: fail; leave new ones out; or take them along (default "fail"). A column that is gone or has another type fails
---unless it is "ignore" or "add"; then the log says so

---@class flow.Create
---@field distributed_by? string[]|"randomly"|"replicated"  Greenplum family (default: the keys of a merge, else the
---primary key, else randomly); elsewhere it is left out, with a line in the log
---@field with? table<string, string|number|boolean>  storage options, such as { appendonly = true, orientation =
---"column", compresstype = "zstd" }; elsewhere those of the Greenplum family alone are left out
---@field columns? table<string, string>  other types than the objects', by the table's names; constraints may follow,
---"numeric(18,4) NOT NULL"
---@field primary_key? string|string[]|false  (default: the keys of a merge, on the Greenplum family where it can keep
---them; else none)
---@field unlogged? boolean     (default false)
---@field partition_by? string  SQL behind PARTITION BY, Greenplum family; elsewhere left out

---@class flow.Via
---@field [1] "oss_fdw"
---@field server? string        a foreign server that is there, and knows its keys (default: one of this load alone,
---with the keys of the store's connection)
---@field endpoint? string      of the store, as the database reaches it (default: that of the store's connection)

---@class flow.Reject
---@field max? integer     rows; one more fails the load (default: no limit)
---@field percent? number  of all rows of the load; more fail it (default: no limit)
---@field to string        "connection:path/" where they are written, as csv with a manifest, so that a load can read
---them: object, line, sqlstate, message, column_name, record, record_bytes; see `tidemill help checks`

---@class flow.LoadFields : flow.NodeFields
---@field from string   "connection:path/" in an object store: what an extract of this run wrote there, else
---the newest that was extracted there
---@field on string     a PostgreSQL connection
---@field into string   "schema.table" or "table", which must exist unless `create` makes it
---@field columns? string[]|table<string, string>  the target's columns in the order of the
---source's, or a map from source to target names (default: by equal names)
---@field mode? "append"|"create"|"replace"|"replace_where"|"merge"  append rows (default), or into a table that this
---load makes or that is empty; replace all rows; replace those of `where`; or update and insert by `keys`. Names of
---columns below are those of the table. See `tidemill help loads`
---@field where? string  replace_where: an SQL condition, such as "day = '${bizdate}'". Rows of it go, and all that are
---loaded must satisfy it
---@field keys? string|string[]  merge: the columns that tell which row is which; none may be NULL
---@field order_by? string|string[]  merge: of several rows of one key the one greatest in these columns wins (NULL
---is least), and of equal ones the last in order of objects and lines (default: that order alone)
---@field delete_when? string  merge: an SQL condition for rows that delete those of their key, such as "op = 'D'". A
---column that only it or order_by names need not be in the table
---@field delete? boolean  replace: DELETE the rows instead of TRUNCATE. Readers of the table go on, and see the old
---rows until the load commits; TRUNCATE waits for them and shuts them out till then (default false)
---@field jobs? integer  objects loaded side by side, 1 to 8 (default 1). With one an append is a single transaction;
---with more each object is one, so readers see the table fill, and a load that failed goes on where it stopped.
---Other modes then gather rows in a staging table and publish them in one transaction
---@field pipeline? boolean  takes the objects while the extract right before it still runs, and commits once that has
---succeeded (default: true where it can be: one extract in `after`, to the same place; no `when`, no other trigger)
---@field create? boolean|flow.Create  makes the table if it is not there, and its schema, with the names and types of
---the objects (default false); see `tidemill help warehouse`
---@field via? "oss_fdw"|flow.Via  the database reads the objects itself, a Greenplum family one on all segments at
---once (default: rows are sent by COPY)
---@field verify? "count"|"hash"  before it commits, source, objects and table are compared by number of rows, or by a
---hash of every row as well; "hash" wants an extract with verify = "hash"; see `tidemill help checks` (default:
---neither)
---@field reject? flow.Reject  rows that the table does not take are set aside instead of failing the load
---@field on_drift? "fail"|"ignore"|"add"  when the objects have columns that the table lacks: fail; leave them out;
---or add them to the table (default "fail")

---@class flow.LuaFields : flow.NodeFields
---@field run fun(ctx: flow.Context): table<string, string>?  the work; every module may be required in
---it. What it returns are the node's outputs
---@field outputs? string|string[]  names of the outputs, for `${name}` in nodes behind this one

---@class flow.ShellFields : flow.NodeFields
---@field command string|string[]  text for /bin/sh -c, or { program, argument, ... } without a shell.
---Values become part of a text: what comes from outside (outputs, errors) goes into a list or into `env`
---@field cwd? string           (default: where tidemill was started)
---@field env? table<string, string|number|boolean>  added to the environment, which is that of the
---runner, secrets in it included. What the command prints is kept in the run's log as it is: let it
---print no secret
---@field outputs? string|string[]  names: if the last line of standard output is a JSON object, its
---values are these outputs

---@class flow.Pick
---@field row? integer|"all"            from 1 (default 1)
---@field column? integer|string|"all"  from 1, or its name (default 1)
---@field separator? string             between the values of a row or column (default ",")
---@field default? string|number|boolean  when there is no such row, or NULL (default: an error)

---@class flow.AssignFields : flow.NodeFields
---@field on string   a PostgreSQL connection
---@field sql string  one query
---@field outputs table<string, flow.Pick|string|integer>  name = which cell, row or column; a name or
---number alone is a column of the first row

---@class flow.LoopList
---@field list string|string[]  a text that is split, such as "a,b,${more}", or a list of texts
---@field name? string          of the variable (default "loop.item", then "loop.item1", ...)
---@field separator? string     plain text (default ",")
---@field pattern? string       instead of separator: a Lua pattern, such as "[,;]%s*"

---@class flow.LoopFields : flow.NodeFields
---@field on string             a PostgreSQL connection
---@field sql string|string[]   run for each item; knows ${loop.item} and ${loop.index}, which counts from 1
---@field list? string|string[] one list; name, separator and pattern as of flow.LoopList
---@field lists? flow.LoopList[]  several lists of one length, walked in step
---@field count? integer|string instead of lists: so many times, 1 to 100
---@field name? string          of the item (default "loop.item")
---@field separator? string     (default ",")
---@field pattern? string
---@field batch? integer        so many items are one transaction, 1 to 200 (default 1)
---@field pause? flow.Duration  between batches, at most 180 s (default 0)
---@field exactly_once? boolean  each batch is recorded in its transaction, so that a repeated attempt
---goes on behind those that were committed (default false)

---@class flow.BranchFields : flow.NodeFields
---@field condition flow.Condition  if it is false, what is behind this node is skipped

---@class flow.WaitFields : flow.NodeFields
---Waits for one of: a run of another flow, the previous cycle of this one, an object, an extract, a query, new rows.
---@field flow? string       a flow whose runs must have succeeded, at least one ...
---@field node? string       ... or only this node of it
---@field at? "same"|"hour"|"day"|"week"|"month"  ... whose scheduled time is the same as this run's, or in
---the same hour, day, week (from Monday) or month, in this flow's zone (default "day")
---@field offset? string     moves that: at = "week", offset = "-1w" is the week before
---@field from? string       instead of at: "-7d" and ...
---@field to? string         ... "+0d", offsets from this run's scheduled time, both included
---@field all? boolean       every scheduled time in that span that has a run so far must have a success, so one
---that is under way or has failed is waited for, and skipped or missed firings do not count (default); false:
---one success is enough
---@field previous? boolean  the run of this flow (or its `node`) scheduled before this one must have
---succeeded, if there is any
---@field object? string     "connection:path" must exist; behind a "/" any object
---@field extracted? string  an extract must have committed something to this "connection:path/"
---@field on? string         a PostgreSQL connection, on which ...
---@field query? string      ... the first value must be true, or not 0
---@field table? string      ... a row of this table
---@field column? string     must have in this column
---@field newer_than? string a later value than this text
---@field every? flow.Duration    between two looks (default "30s")
---@field timeout? flow.Duration  fails after it (default "1h")
---@field fail_fast? boolean      fails at once when the awaited run failed, rather than hope that it
---is repaired (default false)

---@class flow.Rule
---One of these, which may also have a name of its own:
---@field not_null? string|string[]  columns
---@field unique? string|string[]    columns, unique together
---@field accepted? {column: string, values: any[]}
---@field range? {column: string, min: any, max: any}      one of them may be absent
---@field references? {column: string, table: string, to: string}  each value exists there
---@field sql? string                rows that this query returns are violations
---@field rows? {min: integer?, max: integer?}             how many rows there are
---@field fresh? {column: string, within: flow.Duration}   the latest value is not older, seen from now
---@field name? string               (default: kind and columns)
---@field severity? "fail"|"warn"    (default "fail")
---@field max? integer               rows that may violate it (default 0)

---@class flow.CheckFields : flow.NodeFields
---@field on string      a PostgreSQL connection
---@field table? string  "schema.table"; sql rules alone need none
---@field where? string  only these rows, such as "day = '${day}'"
---@field rules flow.Rule[]

---@class flow.SubflowFields : flow.NodeFields
---@field flow? string  the name of a published flow ...
---@field file? string  ... or a flow file, relative to this one; published together with it
---@field set? table<string, string|number|boolean>  its params and variables

--- What the function of a flow.lua node is given. Methods are called with a colon:
--- `ctx:output("rows", 5)`. Connections made here carry flow, run and node in their
--- application_name, and are ended if the attempt is lost.
---@class flow.Context
---@field flow string        name of the flow
---@field node string        name of the node
---@field run_id string
---@field attempt integer    1, and one more for each retry
---@field scheduled number   the scheduled time, epoch seconds
---@field business number    the business time, epoch seconds
---@field timezone string
---@field vars table<string, string>  every variable of the node, outputs before it included
---@field upstream table<string, table<string, string|number|boolean>>
---outputs by node and name, of all nodes before this one
---@field output fun(self, name: string, value: string|number|boolean)  hands a value to the nodes behind
---@field progress fun(self, p: {rows: integer?, bytes: integer?, detail: string?})
---shows how far the node is; cheap, call it often
---@field log fun(self, level: "debug"|"info"|"warn"|"error", format: string, ...)
---a line in the log, as by string.format
---@field postgres fun(self, connection: string, opts: table?): pg.Conn
---connects to a database of the project; opts as of pg.connect
---@field store fun(self, connection: string): oss.Store  opens an object store of the project
---@field location fun(self, location: string): oss.Store, string
---opens the store of "connection:path/" and gives the key prefix

--- One node, as the functions below return it.
---@class flow.Node
---@field kind string
---@field name string
---@field fields table
---@field file string
---@field line integer

---@class flow.Flow
---@field name string
---@field fields flow.Fields
---@field file string
---@field line integer

--- A time variable, as `flow.time` returns it.
---@class flow.Time
---@field pattern string  "format|offsets"
---@field file string
---@field line integer

local Node = { __name = "flow.Node" }
local Flow = { __name = "flow.Flow" }
local Time = { __name = "flow.Time" }
local Headless = { __name = "flow.Headless" } -- a name that still waits for its { ... }

-- Where the caller of the caller stands: the flow file, for messages. A tail call has no
-- place; line 0 then.
local function place()
  local info = debug.getinfo(3, "Sl")
  if not info or info.currentline < 0 then return "?", 0 end
  return info.source:gsub("^@", ""), info.currentline
end

local function finish(head, fields)
  if type(fields) ~= "table" then
    error(("%s:%d: %s '%s' wants a table { ... }, got %s"):format(head.file, head.line, head.word,
      head.name, type(fields)), 0)
  end
  local made = { kind = head.kind, name = head.name, fields = fields, file = head.file, line = head.line }
  return setmetatable(made, head.kind and Node or Flow)
end

Headless.__call = finish

local function head_of(word, kind, name, file, line)
  if type(name) ~= "string" then
    error(("%s wants a name before its table: %s \"name\" { ... }"):format(word, word), 2)
  end
  return setmetatable({ word = word, kind = kind, name = name, file = file, line = line }, Headless)
end

--- Declares a node that runs SQL on a PostgreSQL connection, its own text after variables
--- are filled in: `flow.sql "name" { on = "rds", sql = "..." }`.
---@param name string  unique in the flow
---@return fun(fields: flow.SqlFields): flow.Node
function flow.sql(name) return head_of("flow.sql", "sql", name, place()) end

--- Declares a node that copies the rows of a query or table to objects in a store, and
--- commits them by a manifest: `flow.extract "name" { from = "rds", query = "...", to = "lake:path/" }`.
---@param name string  unique in the flow
---@return fun(fields: flow.ExtractFields): flow.Node
function flow.extract(name) return head_of("flow.extract", "extract", name, place()) end

--- Declares a node that puts what an extract wrote into a table, each row once:
--- `flow.load "name" { from = "lake:path/", on = "adbpg", into = "t" }`.
---@param name string  unique in the flow
---@return fun(fields: flow.LoadFields): flow.Node
function flow.load(name) return head_of("flow.load", "load", name, place()) end

--- Declares a node that runs a Lua function: `flow.lua "name" { run = function(ctx) ... end }`.
---@param name string  unique in the flow
---@return fun(fields: flow.LuaFields): flow.Node
function flow.lua(name) return head_of("flow.lua", "lua", name, place()) end

--- Declares a node that runs a command: `flow.shell "name" { command = "make report" }`. It
--- fails if the command's exit code is not 0.
---@param name string  unique in the flow
---@return fun(fields: flow.ShellFields): flow.Node
function flow.shell(name) return head_of("flow.shell", "shell", name, place()) end

--- Declares a node that makes outputs out of a query's result:
--- `flow.assign "limits" { on = "rds", sql = "SELECT quota FROM settings", outputs = { quota = 1 } }`.
---@param name string  unique in the flow
---@return fun(fields: flow.AssignFields): flow.Node
function flow.assign(name) return head_of("flow.assign", "assign", name, place()) end

--- Declares a node that runs SQL for each item of a list, or a number of times:
--- `flow.loop "name" { on = "rds", list = "eu,us", sql = "CALL refresh('${loop.item}')" }`.
---@param name string  unique in the flow
---@return fun(fields: flow.LoopFields): flow.Node
function flow.loop(name) return head_of("flow.loop", "loop", name, place()) end

--- Declares a gate: nodes behind it run if its condition holds, else they are skipped:
--- `flow.branch "any?" { after = "count", condition = "${rows} > 0" }`.
---@param name string  unique in the flow
---@return fun(fields: flow.BranchFields): flow.Node
function flow.branch(name) return head_of("flow.branch", "branch", name, place()) end

--- Declares a node that waits for another flow, for the previous cycle, for an object or for what a
--- query says; it holds no worker meanwhile: `flow.wait_for "b" { flow = "B", timeout = "3h" }`.
---@param name string  unique in the flow
---@return fun(fields: flow.WaitFields): flow.Node
function flow.wait_for(name) return head_of("flow.wait_for", "wait_for", name, place()) end

--- Declares a node that looks at the quality of data and reports each rule:
--- `flow.check "name" { on = "dw", table = "orders", rules = { { not_null = "id" }, { unique = "id" } } }`.
---@param name string  unique in the flow
---@return fun(fields: flow.CheckFields): flow.Node
function flow.check(name) return head_of("flow.check", "check", name, place()) end

--- Declares a node that is a run of another flow, for the same business time:
--- `flow.subflow "name" { flow = "Another", set = { region = "eu" } }`.
---@param name string  unique in the flow
---@return fun(fields: flow.SubflowFields): flow.Node
function flow.subflow(name) return head_of("flow.subflow", "subflow", name, place()) end

--- Makes a time variable: the business time of the run (its scheduled time minus one day)
--- written by `format`, after `offsets`. `flow.time("yyyyMMdd", "+1d")` is the scheduled day.
--- `tidemill help variables` lists the letters.
---@param format string  letters such as "yyyy-MM-dd", or "format|offsets" as one text
---@param ... string|string[]  offsets: sign, number, unit (y M w d h m), such as "-1M", "+1d"
---@return flow.Time
function flow.time(format, ...)
  if type(format) ~= "string" then
    error("flow.time wants a format such as \"yyyyMMdd\", got " .. type(format), 2)
  end
  local offsets = {}
  for _, offset in ipairs { ... } do
    for _, one in ipairs(type(offset) == "table" and offset or { offset }) do
      if type(one) ~= "string" then error("flow.time: an offset is text such as \"-1d\", got " .. type(one), 2) end
      offsets[#offsets + 1] = one
    end
  end
  local file, line = place()
  local pattern = format
  if #offsets > 0 then pattern = format .. "|" .. table.concat(offsets) end
  return setmetatable({ pattern = pattern, file = file, line = line }, Time)
end

--- What a value is among the things that this module makes: "flow", "node", "time",
--- "headless" (a name without its table), or nil.
---@param value any
---@return string?
function flow.is(value)
  local meta = getmetatable(value)
  return meta == Flow and "flow" or meta == Node and "node" or meta == Time and "time"
    or meta == Headless and "headless" or nil
end

return setmetatable(flow, {
  --- Declares a flow: `return flow "Name" { nodes and settings }`.
  __call = function(_, name) return head_of("flow", nil, name, place()) end,
})
