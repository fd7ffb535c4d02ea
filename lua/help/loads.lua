return [==[
# Loads: modes, jobs, beside the extract

    flow.load "orders" {
      after = "orders to the lake", from = "lake:orders/${bizdate}/", on = "adbpg", into = "dw.orders",
      mode = "merge", keys = "id", order_by = "updated_at", jobs = 2,
    }

A load takes the objects that a manifest lists, and nothing else. Each is a COPY of its own, so an error names
object, line and column. Whatever commits rows also writes the target's ledger: see `tidemill help exactly-once`.

## mode: what becomes of the rows that are there

    append          they stay
    create          an append into a table that this load makes, or that is empty (`tidemill help warehouse`)
    replace         all of them go
    replace_where   those of the condition `where` go, such as "day = '${bizdate}'"; every row that is loaded must
                    satisfy it, else nothing is
    merge           those with a key that is loaded are updated, other keys inserted

What is replaced or merged changes in one transaction: readers see the old rows or the new ones. Names in these
fields are columns of the table.

replace empties the table by TRUNCATE, which waits for its readers and lets none in until the load commits; rows
then are frozen as they come in where that can be (one job, an ordinary table), so no later VACUUM writes them
again. With `delete = true` rows are deleted instead: readers go on and see the old rows, and a table that
foreign keys refer to can be replaced too; VACUUM has more to do.

merge keeps of several rows with one key the one that is greatest in the columns of `order_by` (NULL is least);
of rows that are equal in these, the last one by order of objects and lines. (On Greenplum, where lines have no
order in a table, an arbitrary one, but always the same.) NULL in a key is an error. Columns that the objects
lack are left as they are.

    delete_when = "op = 'D'"      such a row, if it is the last of its key, deletes it

A column that only `delete_when` or `order_by` name need not be in the table. The keys want a unique index: it makes
the merge fast, and keeps other writers from adding a key twice; without one there is a warning. A table that `create`
makes has them as its primary key.

While rows are replaced or merged other writers of the table wait (readers do not). Loads of several days by
replace_where go side by side; two of the same condition take turns.

## jobs: several objects at once

The default is one. With `jobs = N`, at most 8, N connections take objects from one queue; it pays where the
target has cores to spare, rarely beyond 4 for one table, and less the more indexes there are.

- append: each object is a transaction, with its row in the ledger. Readers see the table fill. A load that
  fails goes on where it stopped: in its next attempt, or after `tidemill restore`. One job is one transaction:
  all or nothing.
- other modes: rows gather in a staging table, and one transaction publishes them.

Should the extract be run again in between and commit other objects, the load refuses to go on (kind
"conflict"), for the table would hold rows of both. A load without an extract before it goes on with the
manifest that it began with.

## Beside the extract

A load right behind its extract takes objects as they are completed: `pipeline`, true where it can be. It
publishes nothing before the manifest is there, and only what that lists: an append keeps its transactions open,
other modes use the staging table. If the extract fails, is lost or tries again, what was loaded is rolled back
and the load waits for the next attempt; that counts as no failure of the load. `pipeline = false` makes it wait
for the end.

A load of several jobs whose rows wait for each other (a trigger that counts in one row, a key that stands in two
objects) waits with them until the manifest is there.

## The staging table

tidemill.stage_..., unlogged, in the target database, with the columns that are loaded and their NOT NULL and
CHECK constraints. Each attempt makes its own and drops it in the publishing transaction. What a killed one
leaves is dropped by the next load of the same node of the flow, in whichever run; its comment names flow, node,
run and attempt. The role needs CREATE on schema tidemill. It takes the space of the rows once more while the
load runs. ]==]