return [==[
# The warehouse: tables that loads make, AnalyticDB and Greenplum

## create: the table from the data

    flow.load "orders" { from = "lake:orders/", on = "adbpg", into = "dw.orders", create = true }

makes the table, and its schema, if it is not there: the columns of the objects under the names and types of the
source, or as the load's `columns` maps them. A table that is there is left as it is, whatever it looks like. `create`
goes with every mode. The table is made before the rows come; a load that then fails leaves it empty.

    create = {
      distributed_by = { "id" },                 -- or "randomly", "replicated"
      with = { appendonly = true, orientation = "column", compresstype = "zstd" },
      columns = { amount = "numeric(18,4) NOT NULL" },   -- another type, with constraints if you like
      primary_key = { "id" },                    -- or false
      partition_by = "RANGE (day) (START (date '2026-01-01') END (date '2027-01-01') EVERY (interval '1 month'))",
      unlogged = true,
    }

distributed_by, partition_by and the storage options of Greenplum are left out on a stock PostgreSQL, with a line in
the log, so that a flow can be tried there. Without distributed_by rows go by the keys of a merge, else by the primary
key, else at random (a table distributed by an accident of its first column is slow for ever).

A type that the target does not have becomes text, with a warning that names the column: enums, and types of
extensions that are not installed. Domains become the type below them, jsonb becomes json where only that is known,
regclass and its like become text. Serial and identity columns become plain integers.

The one index that is made is that of the primary key: `primary_key`, else the keys of a merge; on the Greenplum family
these only if rows are distributed by columns of theirs, into a table that is neither append-optimized nor
partitioned. AnalyticDB in Serverless mode takes none: primary_key = false.

mode = "create" is an append to a table that this load makes, or that is there and empty: one with rows is an error.

## via = "oss_fdw": the segments read

By default rows pass through tidemill and the coordinator: one COPY an object. With

    flow.extract "orders to the lake" { ..., compress = "gzip", objects = 16 },
    flow.load "orders" { ..., via = "oss_fdw" }

the database reads the manifest's objects itself, by INSERT ... SELECT from a foreign table: each segment takes
objects of its own. The extension oss_fdw must be there: AnalyticDB's own, or ours on a stock PostgreSQL (`tidemill help
oss_fdw`), where one process reads, so that nothing but the network between gains. Every mode can have it;
`jobs`, `reject` and a pipelined edge cannot be.

- Exactly the manifest's objects are read: by one prefix when nothing else has it, else one by one. They are compared
  with the store before and after, and the rows are counted against the manifest, all in the transaction that
  commits them. What the CRC64 of the manifest would tell is left to the extension; verify = "hash" compares the rows.
- Server, user mapping and foreign table are made in that transaction and are gone at its end, however it ends. The
  role needs USAGE on the foreign data wrapper and CREATE in schema tidemill.
- The store's keys are sent as data, not as a statement: no log of statements, pg_stat_activity or error has them. They
  are in a statement within a function for a moment, which pg_stat_statements with track = all, pgaudit, and warnings
  of event triggers would show. No key travels at all if the database has a server with a mapping of its own:
  via = { "oss_fdw", server = "oss_serv" }. Temporary keys (of a role) can only be used so.
- A database that knows the store under another address: via = { "oss_fdw", endpoint = "oss-cn-x-internal..." }.
- AnalyticDB's extension reads gzip, and no zstd.
- `objects = N` of an extract makes exactly N objects of even size, over which all its jobs deal their rows: take
  the number of segments, or several times that. The load warns when segments would idle. All N are open until the
  end, so more of them want more --memory: 512 KiB each on OSS, 5 MiB on S3.

What is sent to AnalyticDB and Greenplum follows their manuals and is tested as text; the tests run on PostgreSQL 15
with our oss_fdw.
]==]
