/*
** analyze.c: ANALYZE of a foreign table: a sample of its objects' rows
**
** Objects are read in random order until oss_fdw.analyze_size bytes of them, as stored, have
** come; no other one is begun then, and a large one is left OVERRUN bytes later. Among the rows read each
** is as likely in the sample as any other (reservoir sampling). The total is scaled by bytes.
*/
#include "oss_fdw/analyze.h"

#include "access/htup_details.h"
#include "catalog/pg_class.h"
#include "commands/vacuum.h"
#include "executor/executor.h"
#include "miscadmin.h"
#include "oss_fdw/guc.h"
#include "oss_fdw/plan.h"
#include "oss_fdw/rows.h"
#include "oss_fdw/wait.h"
#include "utils/memutils.h"
#include "utils/sampling.h"

enum { OVERRUN = 32 * 1024 * 1024 };

struct sample {
  Relation rel;
  struct fdw_rows *rows;
  TupleTableSlot *slot;
  EState *estate;
  HeapTuple *kept;
  int wanted, count;
  double seen, skip; /* rows; to be left out before the next one is kept, -1: not drawn */
  ReservoirStateData reservoir;
};

/* At least 0 and below 1. */
static double fraction(struct sample *s)
{
#if PG_VERSION_NUM >= 150000
  return sampler_random_fract(&s->reservoir.randstate);
#else
  return sampler_random_fract(s->reservoir.randstate);
#endif
}

/* The list in random order (Fisher and Yates). */
static struct fdw_objects *shuffle(struct sample *s, const struct fdw_objects *objects)
{
  struct fdw_objects *out = palloc(sizeof *out);
  *out = *objects;
  out->items = MemoryContextAllocHuge(CurrentMemoryContext,
                                      sizeof *out->items * (Size)Max(out->count, 1));
  for (int i = 0; i < out->count; i++) {
    int j = (int)(fraction(s) * (i + 1));
    out->items[i] = out->items[j];
    out->items[j] = objects->items[i];
  }
  return out;
}

/* Keeps the row in the slot, or not (Vitter's algorithm, as for local tables). */
static void consider(struct sample *s)
{
  if (s->count < s->wanted) {
    s->kept[s->count++] = ExecCopySlotHeapTuple(s->slot);
  } else {
    if (s->skip < 0)
      s->skip = reservoir_get_next_S(&s->reservoir, s->seen, s->wanted);
    if (s->skip <= 0) {
      int k = (int)(s->wanted * fraction(s));
      heap_freetuple(s->kept[k]);
      s->kept[k] = ExecCopySlotHeapTuple(s->slot);
    }
    s->skip -= 1;
  }
  s->seen += 1;
}

/*
** Reads rows until the last object that the limit lets begin has ended, or is far beyond it:
** bytes that have come but were not read yet are then few against those that were.
*/
static void read_rows(struct sample *s)
{
  ExprContext *econtext = GetPerTupleExprContext(s->estate);
  int64 enough = (int64)fdw_analyze_size_mb * 1024 * 1024;
  fdw_rows_limit(s->rows, enough);
  for (;;) {
    vacuum_delay_point();
    ResetExprContext(econtext);
    MemoryContext old = MemoryContextSwitchTo(econtext->ecxt_per_tuple_memory);
    fdw_rows_next(s->rows, econtext, s->slot);
    MemoryContextSwitchTo(old);
    if (TupIsNull(s->slot))
      return;
    consider(s);
    if (fdw_rows_bytes(s->rows) >= enough + OVERRUN)
      return;
  }
}

static void sample_table(struct sample *s, const struct fdw_table *t, MemoryContext work,
                         int elevel, double *total)
{
  struct tm_error err;
  struct fdw_store *store = fdw_store_acquire_in(work, t);
  struct fdw_objects *objects = fdw_match_take(t, store, work, &err);
  if (objects == NULL)
    fdw_raise(&err);
  fdw_match_warn(t, objects);
  MemoryContext old = MemoryContextSwitchTo(work);
  struct fdw_objects *order = shuffle(s, objects);
  MemoryContextSwitchTo(old);
  s->rows = fdw_rows_open(work, s->rel, t, store, order, NIL, true);
  read_rows(s);
  int64 bytes = fdw_rows_bytes(s->rows);
  *total = bytes > 0 ? s->seen * ((double)objects->bytes / (double)bytes) : 0;
  ereport(
      elevel,
      (errmsg("\"%s\": read " INT64_FORMAT " of " INT64_FORMAT " bytes in %d of %d "
              "objects, containing %.0f rows; %d rows in sample, %.0f estimated total "
              "rows",
              RelationGetRelationName(s->rel), bytes, objects->bytes,
              fdw_rows_objects(s->rows), objects->count, s->seen, s->count, *total)));
  fdw_rows_close(s->rows);
}

static int sample_rows(Relation rel, int elevel, HeapTuple *kept, int wanted,
                       double *total, double *dead)
{
  struct sample s = {.rel = rel, .kept = kept, .wanted = wanted, .skip = -1};
  MemoryContext work = AllocSetContextCreate(CurrentMemoryContext, "oss_fdw analyze",
                                             ALLOCSET_DEFAULT_SIZES);
  reservoir_init_selection_state(&s.reservoir, wanted);
  s.estate = CreateExecutorState();
  s.slot = MakeSingleTupleTableSlot(RelationGetDescr(rel), &TTSOpsHeapTuple);
  sample_table(&s, fdw_table_get(RelationGetRelid(rel), InvalidOid), work, elevel, total);
  *dead = 0;
  ExecDropSingleTupleTableSlot(s.slot);
  FreeExecutorState(s.estate);
  MemoryContextDelete(work);
  return s.count;
}

bool fdw_analyze(Relation rel, AcquireSampleRowsFunc *func, BlockNumber *pages)
{
  struct fdw_table *t = fdw_table_get(RelationGetRelid(rel), InvalidOid);
  struct fdw_store *store = fdw_store_acquire_in(CurrentMemoryContext, t);
  struct tm_error err;
  const struct fdw_objects *objects = fdw_match_plan(t, store, &err);
  if (objects == NULL)
    fdw_raise(&err);
  *pages = fdw_plan_pages(objects->bytes);
  *func = sample_rows;
  return true;
}
