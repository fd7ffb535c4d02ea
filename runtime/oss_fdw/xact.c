/*
** xact.c: uploads that become objects when the transaction commits
**
** One list for the backend, newest first, of what each statement handed over, with the nesting
** level of the subtransaction it counts with. PRE_COMMIT completes: there an error still aborts,
** and the wait can be interrupted. What core does after it may still fail (NOTIFY, serializable
** checks), so ABORT deletes what was completed, and what may have been. Callbacks of an abort
** raise nothing and take a bounded time, over all aborts of one transaction.
**
** Nothing here is palloc'd: the list has to outlive every error.
*/
#include "postgres.h"

#include "access/xact.h"
#include "miscadmin.h"

#include "base/clock.h"
#include "oss/held_all.h"
#include "oss_fdw/server.h"
#include "oss_fdw/sweep.h"
#include "oss_fdw/wait.h"
#include "oss_fdw/xact.h"

enum {
  HOLD_BYTES = 16 << 20,
  CLEANUP_MS = 20000, /* no request is begun later; one takes ten seconds at most */
};

struct batch { /* of one statement */
  struct batch *next;
  int level;
  struct fdw_store *store;
  struct tm_oss_held **list; /* malloc'd, as its elements */
  size_t count;
};

static struct batch *batches;           /* levels only grow towards the newest */
static size_t held_bytes;               /* of objects in memory */
static int64_t cleanup_ms = CLEANUP_MS; /* what is left of it for this transaction */

/* ---- the list ---- */

static size_t bytes_of(const struct batch *b)
{
  size_t bytes = 0;
  for (size_t i = 0; i < b->count; i++)
    if (b->list[i]->bytes != NULL)
      bytes += (size_t)b->list[i]->size;
  return bytes;
}

static void free_batch(struct batch *b)
{
  held_bytes -= bytes_of(b);
  for (size_t i = 0; i < b->count; i++)
    tm_oss_held_free(b->list[i]);
  free(b->list);
  fdw_store_release(b->store);
  free(b);
}

/* Frees the batches of `level` and deeper. */
static void forget(int level)
{
  for (struct batch *b; (b = batches) != NULL && b->level >= level;) {
    batches = b->next;
    free_batch(b);
  }
}

static size_t count_of(int level)
{
  size_t count = 0;
  for (const struct batch *b = batches; b != NULL && b->level >= level; b = b->next)
    count += b->count;
  return count;
}

/* Fills `items` with the batches of `level` and deeper, the oldest first. */
static void gather(int level, struct tm_oss_held_item *items, size_t count)
{
  for (const struct batch *b = batches; b != NULL && b->level >= level; b = b->next) {
    count -= b->count;
    for (size_t i = 0; i < b->count; i++)
      items[count + i] = (struct tm_oss_held_item){fdw_store_oss(b->store), b->list[i]};
  }
}

/* ---- commit ---- */

struct completion {
  struct tm_oss_held_item *items;
  size_t count;
};

static bool complete(void *data, const struct tm_cancel *cancel, struct tm_error *err)
{
  const struct completion *c = data;
  return tm_oss_held_complete_all(c->items, c->count, cancel, err);
}

/* The commit record must be on disk when the transaction is told to have committed: were it
** lost in a crash, the objects would be those of a transaction that never was, and swept. */
static void pre_commit(void)
{
  struct tm_error err;
  struct completion c = {.count = count_of(0)};
  if (c.count == 0)
    return;
  c.items = palloc(c.count * sizeof *c.items); /* in the transaction's context */
  gather(0, c.items, c.count);
  ForceSyncCommit();
  if (!fdw_run(complete, &c, &err))
    fdw_raise(&err);
}

/* ---- abort ---- */

/* Leaves nothing of the batches of `level` and deeper; raises nothing. The thread waits
** without its latch: interrupts are held now, and the time is bounded. */
static void drop(int level)
{
  struct tm_error err;
  size_t count = count_of(level), left = 0;
  if (count == 0)
    return;
  struct tm_oss_held_item *items = malloc(count * sizeof *items);
  if (items != NULL) {
    int64_t before = tm_clock_mono_ms();
    gather(level, items, count);
    left = tm_oss_held_drop_all(items, count, tm_clock_deadline(cleanup_ms), &err);
    int64_t used = tm_clock_mono_ms() - before;
    cleanup_ms = used < cleanup_ms ? cleanup_ms - used : 0;
    free(items);
  } else {
    left = count;
    tm_error_set(&err, TM_EMEMORY, "out of memory");
  }
  forget(level);
  if (left == 0)
    return;
  char what[80];
  snprintf(what, sizeof what, "%zu upload%s of oss_fdw left behind", left,
           left == 1 ? "" : "s");
  fdw_sweep_soon();
  tm_error_hint(&err,
                "the next write to the same place removes it all, or oss_fdw_sweep()");
  fdw_warn(&err, what);
}

/* ---- callbacks ---- */

static void on_xact(XactEvent event, void *arg)
{
  (void)arg;
  switch (event) {
  case XACT_EVENT_PRE_COMMIT:
  case XACT_EVENT_PARALLEL_PRE_COMMIT:
    pre_commit();
    return;
  case XACT_EVENT_PRE_PREPARE:
    if (batches != NULL)
      ereport(ERROR, (errcode(ERRCODE_FEATURE_NOT_SUPPORTED),
                      errmsg("cannot PREPARE a transaction that has written to a foreign "
                             "table of oss_fdw")));
    return;
  case XACT_EVENT_ABORT:
  case XACT_EVENT_PARALLEL_ABORT:
    drop(0);
    break;
  case XACT_EVENT_COMMIT:
  case XACT_EVENT_PARALLEL_COMMIT:
  case XACT_EVENT_PREPARE:
    forget(0);
    break;
  }
  cleanup_ms = CLEANUP_MS;
}

static void on_subxact(SubXactEvent event, SubTransactionId id, SubTransactionId parent,
                       void *arg)
{
  int level = GetCurrentTransactionNestLevel();
  (void)id;
  (void)parent;
  (void)arg;
  if (event == SUBXACT_EVENT_ABORT_SUB)
    drop(level);
  if (event == SUBXACT_EVENT_COMMIT_SUB)
    for (struct batch *b = batches; b != NULL && b->level >= level; b = b->next)
      b->level = level - 1;
}

static void watch(void)
{
  static bool watching = false;
  if (watching)
    return;
  RegisterXactCallback(on_xact, NULL);
  RegisterSubXactCallback(on_subxact, NULL);
  watching = true;
}

/* ---- writing ---- */

void fdw_xact_begin_write(const struct fdw_table *t, struct fdw_store *store)
{
  PreventCommandIfReadOnly("INSERT");
  PreventCommandDuringRecovery("INSERT");
  PreventCommandIfParallelMode("INSERT");
  watch();
  fdw_sweep_before_write(t, store);
}

void fdw_xact_add(const struct fdw_table *t, struct fdw_store *store,
                  struct tm_oss_held **list, size_t count)
{
  struct batch *b = malloc(sizeof *b);
  if (b == NULL) {
    for (size_t i = 0; i < count; i++)
      tm_oss_held_free(list[i]); /* an upload among them is left to the sweep */
    free(list);
    ereport(ERROR,
            (errcode(ERRCODE_OUT_OF_MEMORY), errmsg("out of memory"),
             errdetail("The objects of foreign table \"%s\" are dropped.", t->relname)));
  }
  watch();
  fdw_store_retain(store);
  *b = (struct batch){batches, GetCurrentTransactionNestLevel(), store, list, count};
  batches = b;
  held_bytes += bytes_of(b);
}

size_t fdw_xact_hold_bytes(void)
{
  return held_bytes < HOLD_BYTES ? HOLD_BYTES - held_bytes : 1;
}
