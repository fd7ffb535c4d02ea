return [[
# Exactly once

A process may be killed, stopped or cut off at any moment. What is then repeated must not be done
twice. These nodes see to it:

    flow.load      always, in each mode, with any number of jobs
    flow.sql       with exactly_once = true: all of its statements are one transaction
    flow.loop      with exactly_once = true: each batch is one transaction
    flow.extract   writes objects that no other attempt touches; the manifest, put last, is the commit

Three things work together:

- An attempt's session on a server is recorded before its first statement. The next attempt of the
  node ends the sessions of the one before (pg_terminate_backend), and waits until they are gone.
- The target database has a ledger, tidemill.load_ledger, made on first use. An attempt puts its
  number there before it works. Its transaction ends by marking the row as done, which works only
  while no newer attempt has put its own: one that slept while its successor worked rolls back,
  with an error of kind "conflict".
- An attempt that finds the work done reports success with the recorded rows, and does nothing. So
  does `tidemill restore`. `tidemill rerun` is a new run, and does the work again.

An extract has one place for its manifest in the store, and only the first put to it counts. The next
attempt of the node puts a mark there before it writes anything: an attempt that slept meanwhile
cannot commit any more, and what it wrote is removed. (Buckets that keep versions on OSS, and some
servers that speak S3, know no put that only creates. There a late manifest may appear; the loads of
the run still read the one they were given, and no load takes objects that are missing or changed.)

Objects have rows of their own in the ledger, written in the transaction that commits their rows: with one job, and
from a staging table, that of the whole load; with several jobs that append, one for each object. An attempt leaves
out what is there (key and etag), so a load of several jobs goes on where it stopped, in the next attempt or
when the run is restored. What is there must be in the manifest that is loaded: if the extract was run again in
between and has committed other objects, the load fails with an error of kind "conflict" that says which rows of
the ledger to remove, once the rows of the run are out of the table. A staging table is never taken over: each
attempt makes its own under its own name, so what an older one still writes goes nowhere.

A load beside its extract commits nothing before the manifest is there, and nothing that it does not list.

An extract with a watermark begins where the last delivered one ended, and asks the ledger when nobody else
knows whether that was delivered (`tidemill help incremental`).

If the connection breaks while COMMIT is on its way, the ledger is asked what became of it.

## What the role needs

To make the ledger: CREATE on the database. Or an administrator makes the schema, once:

    CREATE SCHEMA IF NOT EXISTS tidemill AUTHORIZATION the_role;

Staging tables (`tidemill help loads`) want CREATE on that schema. A further role that loads there needs
USAGE on the schema, and SELECT, INSERT and UPDATE on the table. Old rows may be deleted once their runs will not
be restored any more:

    DELETE FROM tidemill.load_ledger WHERE claimed_at < now() - interval '180 days';

## What it does not cover

A flow.sql node without exactly_once may run twice if its runner dies between its COMMIT and the
report of it; so may flow.shell and flow.lua. Statements that cannot be in a transaction (VACUUM,
CREATE INDEX CONCURRENTLY) need transaction = false and cannot be exactly_once.
]]
