return [[
# Incremental extracts

With a watermark, each run of an extract takes the rows that came since the last run that delivered: rows of
writers that commit late are not skipped, and no row comes twice.

    local flow = require "flow"

    return flow "Orders, hourly" {
      schedule = { cron = "0 5 * * * ?" },

      flow.extract "out" {
        from = "rds", table = "orders", to = "lake:orders/${time}/",
        vars = { time = flow.time "yyyyMMddHHmm" },
        watermark = { column = "updated_at", overlap = "2 hours" },
      },
      flow.load "in" {
        after = "out", from = "lake:orders/${time}/", on = "adbpg", into = "orders", mode = "merge", keys = "id",
        vars = { time = flow.time "yyyyMMddHHmm" },
      },
    }

The first run takes all rows, or those from `since` on, and the next one goes on from there without a gap. A run that
finds nothing changes nothing. Runs need no order of business times: each takes what is new when it runs,
a backfill and a trial run too.

## Tables of PostgreSQL

What is kept from run to run is which transactions have been seen, and an increment is the rows of those that have
ended since. So it does not matter how long a transaction was open, in which order they
committed, whether it had savepoints or was prepared, or what its rows have in the column: NULL, a date in the future, a
number that came late from a sequence. That holds for ordinary and partitioned tables of PostgreSQL 10 and later;
a partition that is attached comes as a whole. On a standby rows wait for older transactions to end.

The column bounds how far down the increment looks, so that an index on it can serve:

    times      `overlap` (a day, unless you say) below the start of the oldest transaction that was open, and below
               the highest value. A row is skipped only if its value is older than its transaction by more than
               that: give an overlap that covers it where clients set times of their own ("2 days")
    numbers    `overlap` below the highest value. Without one the increment reads the table from end to end
    others     no bound: text, uuid

To know the oldest transaction the role wants pg_read_all_stats (GRANT pg_read_all_stats TO etl); without it, or while
a prepared transaction is open, there is no bound for one run: right, and slower.

A row that is updated comes again, unless it is below the bound. Let the load merge by key then. A load that appends
gets every version: that is for tables that only grow. Deleted rows are not seen: mark them in a column
(`delete_when` of the load), or replace the table now and then.
A load that replaces all rows leaves those of the increment alone: that is for a table of changes.

The numbers of transactions are those of one server. After a restore from a backup, or when a standby has taken over,
the extract fails rather than guess; so it does, if a load appends, when the table was written anew (ALTER TABLE with
another type, TRUNCATE, a copy put in its place). Look at what the target has, and say where to go on:

    tidemill watermark "Orders, hourly" out --set "2026-01-02 03:00"    rows above this value come next
    tidemill watermark "Orders, hourly" out --reset watermark           all rows come next

## Queries, views, the Greenplum family

There the values are all there is. One of two ways:

    an overlap         the increment is the rows above the highest value minus the overlap. What lies in the
                       overlap comes again, so loads must merge; a row that turns up below it is skipped
    timestamptz        without an overlap: rows below the start of the oldest open transaction (and 5 s
                       old). Nothing is skipped, nothing doubled, if the server's clock sets the column in the
                       transaction that writes the row (now(), clock_timestamp()); newer rows wait. PostgreSQL 10 and
                       later

A row without a value in the column would never come: it fails the extract.

## When it moves

The watermark is saved in the transaction of the state store that records the success of the last load behind the
extract that reads its place; where there is none in the flow, with the extract's own. A load that was skipped counts
when the run has succeeded and another one has loaded. A run with --only that leaves the loads out moves nothing.

If a load fails, either way is right:

- `tidemill restore RUN` loads what the run has extracted, and the watermark moves.
- The next run begins where the failed one began. It asks the ledger in the target first whether a load had
  committed without being able to tell: then it goes on behind that. If it had not, its rows come with the new
  increment, and a later restore of the failed run makes an increment of its own.

Only if some loads of the failed run have committed and others not, or a load with several jobs has committed some
objects, the next run fails until the first is restored.

One run of a flow at a time has its increments; another one waits: `tidemill why RUN` says for whom. An append of an
increment belongs to the run that made it; a load in another flow takes the newest manifest of a place, so let
each increment have a place of its own, as above. `tidemill sweep --replaced` removes no increments.

resume = true goes with a watermark: a first increment that takes hours gets through, whatever fails.
]]
