return [[
# Extracts

What flow.extract reads, in which moment, by how many sessions, and what it costs the source. How rows
become objects is in `tidemill help formats`; what is never done twice, in `tidemill help exactly-once`.

    local flow = require "flow"

    return flow "Orders" {
      flow.extract "out" {
        from = "rds", table = "orders", where = "day = '${bizdate}'",
        to = "lake:orders/${bizdate}/", compress = "gzip",
        jobs = 4, max_rate = "40MB", max_snapshot_age = "2h",
      },
      flow.load "in" { after = "out", from = "lake:orders/${bizdate}/", on = "adbpg", into = "orders" },
    }

## One snapshot

All rows are those of one moment, however long it takes and whoever writes meanwhile: every session of the
attempt reads under one snapshot, in a read-only transaction. Before it is taken, a table is locked in mode ACCESS
SHARE, as a query would do: writers are not disturbed, TRUNCATE, DROP and VACUUM FULL wait.

The price is that the source keeps dead rows until the last session is through. `tidemill show RUN` says how
long that was and how many transactions began meanwhile. max_snapshot_age makes the attempt fail when it
becomes too long; max_rate spares the source's disks, and makes it longer. A session that is lost ends the
attempt, and all others at once.

All sessions must reach one server. A pooler in session mode is fine. In transaction mode it lends the session to others
between two statements: that is noticed, and is an error.

## Ranges

Several sessions take ranges from one queue, each writes objects of its own. What divides the rows:

    split_by = "ctid"      ranges of `range_pages` pages (1000, of 8 KB), in the order in which they lie on disk.
                           Needs no index. Ordinary tables, partitioned tables and those with heirs (leaf by
                           leaf), materialized views; PostgreSQL 14 and later. Not views, foreign tables,
                           tables with row-level security, leaves that the role may not read by themselves,
                           tables that Citus or TimescaleDB keep, the Greenplum family
    split_by = "id"        ranges of a column of any type that sorts, `ranges` of them (4 for each job). They
                           are cut by the statistics, else by a sample, so gaps and lumps do no harm. The first
                           and the last are open-ended, and rows without a value are a range of their own.
                           The column should be the first of an index: else each range reads the whole table

Without split_by it is ctid where that is possible. Then two jobs are the default for a table from 64 MB on, if
there are two cores and memory enough (--memory), and no index serves the condition. An increment that an index
serves is read by one session, whatever `jobs` says. Partitions that `where` rules out are not read. Write times into
it as ${variables}: now() differs by milliseconds from session to session.

With jobs = N alone, a table that cannot be read by pages is divided by the first column of its primary key. A
server of the Greenplum family shares no snapshot between sessions: there, jobs = 1; let its segments write
(`tidemill help warehouse`).

A query says itself where its range goes, and split_by names the column in whose table the values
are looked up:

    flow.extract "lines" {
      from = "rds", to = "lake:lines/", jobs = 4, split_by = "orders.id",
      query = "SELECT o.id, l.item FROM orders o JOIN lines l ON l.order_id = o.id " ..
        "WHERE o.id >= ${lo} AND o.id < ${hi}",
    },

    ${lo}, ${hi}    the bounds, as values of the column's type. Compare with >= and < alone; at an open end
                    the comparison holds. Rows whose key is NULL are in no such range: if the column has any,
                    or an outer join may make some, the extract fails and asks for
    ${range}        the whole condition, as `orders.id >= '1'::bigint AND orders.id < '9'::bigint`, or
                    `orders.id IS NULL`: so the query must know the table by that name

A map sees its rows one after another: it goes with one job.

## Going on after a failure

A repeated attempt reads everything anew, under its own snapshot. With resume = true it takes over the ranges
of its key that earlier attempts of the same run have finished (16 ranges unless `ranges` says otherwise), and reads
the others. So a long extract gets through at last. But its rows are then of several moments: a row that
changed its key meanwhile may be there twice or not at all. It is for keys that do not change, and for what a later
increment corrects. (An increment that resumes keeps to the moment of the first attempt.) What has changed in
columns, query or format since is noticed, and read again.
]]
