return [[
# Checks

Fields of flow.extract and flow.load that say what must hold, and what happens when it does not.
(For rules on the data of a table there is flow.check.)

## verify: is it all there?

    flow.extract "out" { ..., verify = "hash" },
    flow.load "in" { after = "out", ..., verify = "hash" },

"count" compares numbers of rows, "hash" a sum over a hash of every row as well. What differs fails the
node before it commits, and the error names the columns.

An extract asks the server once more for the whole of its query, in the same snapshot, and compares
that with what went into the objects. A load compares three things: the source as the manifest tells
it, the objects as they were read, and the table, in the transaction that is about to commit: the rows
it has made (append), the whole table (replace), the rows of the predicate (replace_where), the rows with
the keys that were merged (merge). The proof is a section of the report: `tidemill show RUN`.

- A load with verify = "hash" wants an extract with verify = "hash", for its sum is in the manifest.
- A query that gives other rows each time it is read (random(), LIMIT without ORDER BY) cannot be
  verified; nor can a map by hash, which makes other rows than the source has, or an extract that resumes.
- A column may have another type in the table. It is compared in the source's type, where putting the
  value into that type and back leaves it as it is; what a type has lost (digits, say) differs.
- Appended rows are told by their transaction (xmin). With several jobs, with reject and on the Greenplum
  family they go through a staging table, which is what is compared then; on Greenplum that is all.
- It costs a scan of the query at the source and one of the table; some 2.5 million rows a second and
  core here. Anybody can repeat the sum:

    SELECT sum(('x' || substr(md5(ROW(a, b)::text), 1, 16))::bit(64)::bigint) FROM t

  modulo 2^64, in columns' order, with the TimeZone that the manifest tells, and real and double precision
  as their bits: CASE WHEN a = 'NaN' THEN 'NaN' ELSE encode(float8send(a), 'hex') END. It finds accidents;
  it is no defence against somebody who forges rows.

## reject: go on past bad rows

    flow.load "in" { ..., reject = { max = 100, percent = 1, to = "lake:rejects/${bizdate}/" } },
    flow.load "bad rows" { after = "in", when = "${in.rejected} > 0",
      from = "lake:rejects/${bizdate}/", on = "dw", into = "bad_rows" },

A row that the table does not take, for its values or for a constraint (SQLSTATE 22... and 23...), is set
aside; all others are loaded. More than max rows, or more than percent of all, fail the load, and
nothing is loaded. Without a limit any number is set aside.

Rejected rows are csv with a header and a manifest, so another load can read them:

    object text          key of the object, below its prefix
    line bigint          the line of its text on which the row begins, from 1, the header counted
    sqlstate text        such as 22P02
    message text
    column_name text     where the server tells one
    record text          the bytes of the row ...
    record_bytes bytea   ... here, where they are not UTF-8

The load's outputs are `rows` (loaded), `rejected`, and `rejects`, the manifest's id when there are
any. All three of the load, the manifest and the ledger agree: loaded and rejected rows are those of the
manifest.

Foreign keys are looked at when many rows are there, and deferred constraints at COMMIT: they fail
the load. So do unique keys in modes that publish from a staging table (replace with several jobs,
merge). Pieces of about 2 MiB are copied one after the other, each under a savepoint: where no row is bad that
takes some 15 % longer.

## on_drift: other columns than last time

For flow.extract, compared with the last manifest of the node, whose columns are kept with it:

    "fail"     (default) columns that are new, gone or of another type fail it, all of them named
    "ignore"   new columns are left out, now and later
    "add"      new columns go along

With the last two, columns that are gone or have another type are logged; rows go without them, or with the
new type. Another order is no drift, nor is what you change in the flow's query or table. To accept once
what there is: tidemill watermark FLOW NODE --reset columns

For flow.load, columns that the objects have and the table lacks:

    "fail"     (default)
    "ignore"   they are left out
    "add"      the table gets them, in the transaction that publishes the rows
]]
