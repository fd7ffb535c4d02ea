return [[
# Policies

What happens when something fails, is late, or is in the way; of a flow, and of a node.

## Of a flow

    on_error     complete_running  running nodes finish, no other starts but those whose trigger is
                                   there for failures (default)
                 stop              running nodes are cancelled
                 continue          branches that do not need the failed node go on
    concurrency  skip              a firing while the last run still runs is recorded, not run (default)
                 queue             it waits
                 parallel          it runs beside it
    missed       skip              firings while no runner was up are recorded only (default)
                 latest            the latest of them runs
                 all               each of them runs
                 { "all", window = "3d" }   ... none older than that (default "1d")
    priority     1 to 10, 10 first: whose nodes get a free place (default 5)
    deadline     "2h": a run that is not over so long after its scheduled time is late
                 (one by hand or a subflow's: after it was made; those of a backfill never are)

Runs by hand (`tidemill run`) are in nobody's way.

## Hooks

on_success, on_failure and on_late (of the run, or of a node) tell others, by one of these or a list of them:

    on_failure = {
      { webhook = "alerts" },             -- a connection of tidemill.lua; JSON, signed
      { shell = "logger 'flow failed'" },
      { email = { "data@example.com" }, subject = "orders failed" },
    }

They are sent by a runner once the run's end is recorded, and tried again if that fails.

## Of a node

    retries, retry_delay, backoff    further attempts; the first pause, the factor of each next
    timeout        an attempt is cancelled after it; a flow.wait_for gives up waiting
    max_wait       longest wait in the queue: a node that may start, or try again, and gets no place
                   (--jobs, pool) for so long fails, kind timeout, without a retry (default: none).
                   A pause and another runner begin that wait anew
    deadline       counted from the start of the run (the flow's: from its scheduled time): a node that
                   has not ended then is late. That is recorded once and told by on_late, which
                   names the node; nothing else happens
    after          the nodes that must be over first
    trigger        what must have become of them
        all_success   all succeeded (default)      one_success   at least one did
        all_done      all are over                 one_failed    at least one failed
        none_failed   none failed; skipped is fine all_failed    all failed
    when           a condition; if it is false the node is skipped
    allow_failure  a failure counts as success, for nodes behind it and for the run
    pool           at most so many nodes of the pool run at once; tidemill.lua: pools = { rds = 4 }.
                   A pool named as a connection holds all nodes on that connection
    priority       1 to 10, 10 first: which waiting node gets a free place (default 5)
    exactly_once   of flow.sql and flow.loop: the transaction also records that it was done, so a
                   repetition after a lost connection or a crash does not do it again; loads always
                   do that (tidemill help exactly-once)

## A load while its extract runs

A flow.load whose `after` names one flow.extract to the place that it loads from takes each object as
soon as it is complete, while the extract goes on. Nothing of it is to be seen before the extract has
succeeded; then the load commits, if what it took is what the manifest lists. `tidemill plan` says which
loads do so and why others do not; pipeline = false turns it off, pipeline = true makes `check` insist.

- The extract does not wait for its load. A load that fails does not fail the extract, and is repeated
  as its retries say, from the first object on.
- If the extract fails, the load rolls back and waits. When the extract is tried again so is the load:
  that uses up none of its retries, and its last attempt is shown as canceled.
- Such a load starts behind every other node that may start, and takes the last place of no pool, and of
  --jobs only if there are no more than two. Without a place it loads when the extract is through.
- Its timeout counts from the success of the extract. At the target it has a transaction open from its
  first object on: where vacuum must not wait so long, pipeline = false.
- Not with a trigger or `when` of its own, not with variables that come from the extract (${out.rows}), nor
  behind two extracts: these wait for the end.

## Waiting for another flow

    flow.wait_for "B" { flow = "B", at = "week", offset = "-1w", timeout = "6h" }

waits for the runs of B whose scheduled time lies in the week before. Each scheduled time that has a run
must have a success: one that is under way is waited for, and so is one that failed, until it is
restored, repeated or marked (fail_fast = true fails at once). Firings that are due and not made
yet are waited for too; skipped, missed and later ones do not count, nor do trial runs; without any run
it waits. all = false is content with one success. With `node` the same is asked of that node.

## Skips

A node that is skipped skips what needs it, unless the trigger says otherwise. Behind a flow.branch
whose condition is false, nodes count it as skipped.

## Conditions

`when` and flow.branch take a text, a list of texts that must all hold, or a function that is
given the variables and returns true or false:

    when = "${rows} > 0 and ${region} in ('eu', 'us')"
    when = { "${extract.status}", "not ${check.warned} > 3" }
    when = function(vars) return tonumber(vars.rows) > 0 end

Operators: = == != <> < <= > >=, in (a, b), not in, like (with % and _), matches (a Lua pattern),
and, or, not, parentheses. Texts stand in quotes, single words need none. Two numbers are compared
as numbers, anything else as text. A variable alone is true or false: success, true, t, yes, on and
numbers but 0 are true; failed, skipped, canceled, false, f, no, off, 0 and nothing are false; other
values are an error. The text is taken apart before values are put in, so no value can change
what it means. What a condition said, and of what values, is in `tidemill why RUN`.

`${node.status}` is success, failed, skipped or canceled, `${node.error}` the message of a failure.
Behind one_success and one_failed the other nodes may not be over: then it is waiting, running,
polling, retrying or lost, all of them false.
]]
