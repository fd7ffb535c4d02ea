/*
** modify.c: INSERT and COPY into foreign tables
**
**   slot -> rowtext -> slab -> channel -> | [zip stage] -> objects sink -> parts |   threads
**
** A writer is made when a statement begins and talks to nobody until its first row. Its
** threads start when the first slab is full or the statement ends. It lives in a memory
** context of its own below the query's: whatever ends the query resets that, and the reset
** stops the threads, which abort their uploads, before anything that they use goes.
*/
#include "oss_fdw/modify.h"

#include <malloc.h>
#include <poll.h>

#include "access/xact.h"
#include "executor/executor.h"
#include "foreign/foreign.h"
#include "lib/ilist.h"
#include "miscadmin.h"
#include "nodes/plannodes.h"
#include "parser/parsetree.h"
#include "utils/lsyscache.h"
#include "utils/memutils.h"
#include "utils/rel.h"

#include "driver/zip.h"
#include "oss/objects.h"
#include "oss_fdw/guc.h"
#include "oss_fdw/name.h"
#include "oss_fdw/optdef.h"
#include "oss_fdw/options.h"
#include "oss_fdw/rowtext.h"
#include "oss_fdw/server.h"
#include "oss_fdw/wait.h"
#include "oss_fdw/xact.h"
#include "stream/background.h"
#include "stream/channel.h"
#include "stream/zip_stage.h"

enum {
  FEW = 4,                 /* writers that may each take what one takes, but for parts */
  SLABS = 4,               /* in the channel and between threads */
  SLACK_BYTES = 16 * 1024, /* of a slab: for the row that fills it */
  CHECK_ROWS = 64, /* after so many rows one looks whether the threads have failed */
  COPY_BATCH_ROWS = 1000, /* as many as COPY gathers, and it gathers 64 KB at most */
  PARTS_IN_FLIGHT = 3,
  MANY_CHUNK_BYTES = 256 * 1024,
  MANY_SLAB_BYTES = 64 * 1024,
  LARGE_BYTES = 8 << 20, /* a statement that has used the memory of parts */
};

struct writer {
  dlist_node node; /* of `writers`, from the first row on */
  MemoryContext cxt;
  TupleDesc desc;
  struct fdw_table *table;
  bool copy; /* for COPY FROM */
  uint64 rows;
  uint64 bytes; /* given to the threads, before compression */

  /* from the first row on */
  SubTransactionId subxact;
  struct fdw_store *store;
  struct fdw_rowtext *text;
  struct fdw_name *name; /* used by the threads */
  struct tm_slab *slab;  /* being filled; NULL: the next row gets a new one */

  /* once the first slab is full */
  struct tm_slab *header; /* the line of column names, as each object begins */
  int64 header_raw_bytes; /* before compression */
  struct tm_channel *channel;
  struct tm_background *background;
  struct tm_sink *objects; /* the background's */
  bool finished;           /* the threads have ended, and well */
};

/* Writers of this backend that have rows, and how many: they share the memory of one. */
static dlist_head writers = DLIST_STATIC_INIT(writers);
static int active;

/* Those that an abort of this writer's subtransaction ends as well: they stop at the same time,
** not each after the one before has told a store that does not answer. */
static void cancel_with(const struct writer *w)
{
  dlist_iter i;
  dlist_foreach(i, &writers)
  {
    struct writer *other = dlist_container(struct writer, node, i.cur);
    if (other->subxact >= w->subxact && other->background != NULL)
      tm_background_cancel(other->background);
  }
}

/* Stops everything and leaves nothing behind, at whatever point the writer is. */
static void release(void *arg)
{
  struct writer *w = arg;
  dlist_delete(&w->node);
  active--;
  if (!w->finished)
    cancel_with(w);
  tm_background_free(w->background);
  tm_channel_free(w->channel);
  tm_slab_free(w->slab);
  tm_slab_free(w->header);
  /* The arenas of the threads would keep what they had, each its own, and the next statement's
  ** threads take others: six statements made 101 MiB, and 62 with this. */
  if (w->bytes >= LARGE_BYTES)
    malloc_trim(0);
}

static struct writer *new_writer(EState *estate, Relation rel, Oid userid)
{
  MemoryContext cxt =
      AllocSetContextCreate(estate->es_query_cxt, "oss_fdw writer", ALLOCSET_SMALL_SIZES);
  MemoryContext before = MemoryContextSwitchTo(cxt);
  struct writer *w = palloc0(sizeof *w);
  w->cxt = cxt;
  w->desc = RelationGetDescr(rel);
  w->table = fdw_table_get(RelationGetRelid(rel), userid);
  MemoryContextSwitchTo(before);
  return w;
}

/* ---- the threads ---- */

static struct tm_zip_opts zip_opts(const struct fdw_table *t)
{
  return (struct tm_zip_opts){.kind = t->codec == FDW_ZSTD ? TM_ZIP_ZSTD : TM_ZIP_GZIP,
                              .level = t->level};
}

/* Replaces *slab by one that holds it as one compressed member. False: it is as it was. */
static bool compress(const struct tm_zip_opts *opts, struct tm_slab **slab,
                     struct tm_error *err)
{
  struct tm_buffer out = {0};
  struct tm_slab *done = NULL;
  struct tm_zipper *zipper = tm_zipper_new(opts, err);
  bool ok = zipper != NULL && tm_zipper_begin(zipper, (*slab)->len, err) &&
            tm_zipper_add(zipper, (*slab)->data, (*slab)->len, &out, err) &&
            tm_zipper_end(zipper, &out, err) &&
            (done = tm_slab_new(out.len, err)) != NULL &&
            tm_slab_add(done, out.data, out.len, err);
  tm_zipper_free(zipper);
  tm_buffer_free(&out);
  if (!ok) {
    tm_slab_free(done);
    return false;
  }
  tm_slab_free(*slab);
  *slab = done;
  return true;
}

static void make_header(struct writer *w)
{
  struct tm_error err;
  struct tm_zip_opts zip = zip_opts(w->table);
  w->header = tm_slab_new(SLACK_BYTES, &err);
  if (w->header == NULL)
    fdw_raise(&err);
  fdw_rowtext_header(w->text, w->header);
  w->header_raw_bytes = (int64)w->header->len;
  if (w->table->codec != FDW_PLAIN && !compress(&zip, &w->header, &err))
    fdw_raise(&err);
}

static struct tm_sink *open_objects(const struct writer *w, struct tm_error *err)
{
  const struct fdw_table *t = w->table;
  size_t budget = ((size_t)fdw_write_buffer_mb << 20) / (size_t)active;
  size_t part = active > 1 ? Min(t->part_bytes, budget / PARTS_IN_FLIGHT) : t->part_bytes;
  struct tm_oss_objects_opts opts = {
      .object_bytes = t->object_bytes,
      .name = fdw_name_object,
      .name_data = w->name,
      .hold = true,
      .hold_bytes = Max(fdw_xact_hold_bytes() / (size_t)active, 1),
      .writer = {.part_bytes = Max(part, 1),
                 .parallel = active > FEW ? 1 : PARTS_IN_FLIGHT,
                 .budget_bytes = budget}};
  if (w->header != NULL) {
    opts.preamble = w->header->data;
    opts.preamble_bytes = w->header->len;
    opts.preamble_raw_bytes = w->header_raw_bytes;
  }
  return tm_oss_objects_open(fdw_store_oss(w->store), &opts, err);
}

/*
** A writer alone takes all of oss_fdw.write_buffer for its parts; of several at a time, in
** partitions or CTEs, each takes its share, in smaller parts. When they are many, the rest is
** made small as well: each would have some ten threads and 20 MiB.
*/
static bool start_threads(struct writer *w, struct tm_error *err)
{
  bool many = active > FEW;
  struct tm_zip_stage_opts zip = {.zip = zip_opts(w->table),
                                  .workers = many ? 1 : w->table->zip_workers,
                                  .chunk_bytes = many ? MANY_CHUNK_BYTES : 0};
  struct tm_pump_opts pump = {.queue_slabs = many ? 1 : SLABS};
  struct tm_stage *stage = NULL;
  size_t stages = w->table->codec != FDW_PLAIN ? 1 : 0;
  w->channel = tm_channel_new(pump.queue_slabs, err);
  if (w->channel == NULL || (w->objects = open_objects(w, err)) == NULL)
    return false;
  if (stages > 0 && (stage = tm_zip_stage_new(&zip, err)) == NULL) {
    tm_sink_close(w->objects);
    return false;
  }
  w->background = tm_background_start(tm_channel_source(w->channel), &stage, stages,
                                      w->objects, &pump, err);
  return w->background != NULL;
}

static size_t slab_bytes(void)
{
  return active > FEW ? MANY_SLAB_BYTES : TM_SLAB_BYTES;
}

static bool has_ended(const struct writer *w)
{
  struct pollfd fd = {.fd = tm_background_done_fd(w->background), .events = POLLIN};
  return poll(&fd, 1, 0) > 0;
}

/* Waits for the threads and raises what went wrong in them. */
static void join(struct writer *w)
{
  struct tm_error err;
  while (!has_ended(w))
    fdw_wait(tm_background_done_fd(w->background));
  if (!tm_background_join(w->background, NULL, &err))
    fdw_raise(&err);
}

/* Gives the slab to the threads, which are started with the first one. */
static void put(struct writer *w)
{
  struct tm_error err;
  if (w->background == NULL) {
    if (w->table->header)
      make_header(w);
    if (!start_threads(w, &err))
      fdw_raise(&err);
  }
  size_t raw_bytes = w->slab->raw_bytes = w->slab->len;
  for (;;) {
    switch (tm_channel_try_put(w->channel, w->slab, &err)) {
    case TM_CHANNEL_OK:
      w->bytes += raw_bytes;
      w->slab = NULL;
      return;
    case TM_CHANNEL_WAIT:
      fdw_wait(tm_channel_fd(w->channel));
      break;
    default:
      join(w); /* its error is the first one, the channel's a consequence */
      fdw_raise(&err);
    }
  }
}

/* ---- a statement's rows ---- */

static void begin(struct writer *w)
{
  MemoryContext before = MemoryContextSwitchTo(w->cxt);
  w->store = fdw_store_acquire_in(w->cxt, w->table);
  w->subxact = GetCurrentSubTransactionId();
  dlist_push_head(&writers, &w->node);
  active++;
  fdw_own(w->cxt, release, w); /* runs before the store's release */
  fdw_xact_begin_write(w->table, w->store);
  w->name = fdw_name_base(w->table);
  w->text = fdw_rowtext_new(w->table, w->desc);
  MemoryContextSwitchTo(before);
}

static void write_row(struct writer *w, TupleTableSlot *slot)
{
  struct tm_error err;
  if (w->text == NULL)
    begin(w);
  if (w->slab == NULL &&
      (w->slab = tm_slab_new(slab_bytes() + SLACK_BYTES, &err)) == NULL)
    fdw_raise(&err);
  fdw_rowtext_add(w->text, slot, w->slab);
  w->rows++;
  if (w->slab->len >= slab_bytes())
    put(w);
  else if (w->rows % CHECK_ROWS == 0 && w->background != NULL && has_ended(w))
    join(w);
}

/* Gives the uploads to the transaction. */
static void hand_over(struct writer *w)
{
  struct tm_oss_held **list = NULL;
  size_t count = 0;
  uint64 rows = 0;
  if (tm_oss_objects_held(w->objects, &list, &count)) {
    for (size_t i = 0; i < count; i++)
      rows += list[i]->rows;
    fdw_xact_add(w->table, w->store, list, count);
  }
  if (rows != w->rows)
    elog(ERROR, "%llu of %llu rows are in the objects of foreign table \"%s\"",
         (unsigned long long)rows, (unsigned long long)w->rows, w->table->relname);
}

static void finish(struct writer *w)
{
  if (w == NULL)
    return;
  if (w->rows > 0) {
    if (w->slab != NULL)
      put(w);
    tm_channel_end(w->channel);
    join(w);
    w->finished = true;
    hand_over(w);
  }
  MemoryContextDelete(w->cxt);
}

/* ---- callbacks ---- */

/* The user whose rights count: a view's owner for what the view writes. */
static Oid effective_user(EState *estate, ResultRelInfo *info)
{
#if PG_VERSION_NUM >= 160000
  return ExecGetResultRelCheckAsUser(info, estate);
#else
  Index index = info->ri_RangeTableIndex;
  if (index == 0) /* a partition that rows are routed to; 13 has it since 13.2 */
    index = info->ri_RootResultRelInfo->ri_RangeTableIndex;
  Oid as = exec_rt_fetch(index, estate)->checkAsUser;
  return OidIsValid(as) ? as : GetUserId();
#endif
}

static bool has_filepath(Oid relid)
{
  return fdw_option(GetForeignTable(relid)->options, "filepath") != NULL;
}

int fdw_is_updatable(Relation rel)
{
  return has_filepath(RelationGetRelid(rel)) ? 0 : 1 << CMD_INSERT;
}

List *fdw_plan_modify(PlannerInfo *root, ModifyTable *plan, Index rel, int subplan)
{
  Oid relid = planner_rt_fetch(rel, root)->relid;
  (void)subplan;
  if (plan->operation == CMD_INSERT && has_filepath(relid))
    ereport(ERROR,
            (errcode(ERRCODE_FEATURE_NOT_SUPPORTED),
             errmsg("cannot insert into foreign table \"%s\": its filepath names one "
                    "object",
                    get_rel_name(relid)),
             errhint("Each INSERT makes new objects: give the table dir or prefix "
                     "instead.")));
  return NIL;
}

void fdw_begin_modify(ModifyTableState *state, ResultRelInfo *info, List *fdw_private,
                      int subplan, int eflags)
{
  EState *estate = state->ps.state;
  (void)fdw_private;
  (void)subplan;
  if ((eflags & EXEC_FLAG_EXPLAIN_ONLY) == 0)
    info->ri_FdwState =
        new_writer(estate, info->ri_RelationDesc, effective_user(estate, info));
}

void fdw_begin_insert(ModifyTableState *state, ResultRelInfo *info)
{
  EState *estate = state->ps.state;
  ModifyTable *plan = castNode(ModifyTable, state->ps.plan); /* NULL in COPY */
  struct writer *w;
  if (plan != NULL && plan->onConflictAction == ONCONFLICT_UPDATE)
    ereport(ERROR, (errcode(ERRCODE_FEATURE_NOT_SUPPORTED),
                    errmsg("ON CONFLICT DO UPDATE cannot reach foreign table \"%s\"",
                           RelationGetRelationName(info->ri_RelationDesc))));
  w = new_writer(estate, info->ri_RelationDesc, effective_user(estate, info));
  w->copy = plan == NULL;
  info->ri_FdwState = w;
}

TupleTableSlot *fdw_exec_insert(EState *estate, ResultRelInfo *info, TupleTableSlot *slot,
                                TupleTableSlot *plan_slot)
{
  (void)estate;
  (void)plan_slot;
  write_row(info->ri_FdwState, slot);
  return slot;
}

void fdw_end_modify(EState *estate, ResultRelInfo *info)
{
  (void)estate;
  finish(info->ri_FdwState);
  info->ri_FdwState = NULL;
}

void fdw_end_insert(EState *estate, ResultRelInfo *info)
{
  fdw_end_modify(estate, info);
}

#if PG_VERSION_NUM >= 140000
TupleTableSlot **fdw_exec_batch_insert(EState *estate, ResultRelInfo *info,
                                       TupleTableSlot **slots,
                                       TupleTableSlot **plan_slots, int *count)
{
  (void)estate;
  (void)plan_slots;
  for (int i = 0; i < *count; i++)
    write_row(info->ri_FdwState, slots[i]);
  return slots;
}

/*
** COPY gathers rows anyway. An INSERT copies each row for the sake of a batch, which costs more
** than the calls that are saved: 5 million rows took 3.1 s in batches of 100, 2.7 s without.
** And a row at a time where something must see each row before the next one is made.
*/
int fdw_batch_size(ResultRelInfo *info)
{
  const struct writer *w = info->ri_FdwState; /* NULL in EXPLAIN */
  const TriggerDesc *triggers = info->ri_TrigDesc;
  if (w == NULL || !w->copy || info->ri_projectReturning != NULL ||
      info->ri_WithCheckOptions != NIL ||
      (triggers != NULL &&
       (triggers->trig_insert_before_row || triggers->trig_insert_after_row)))
    return 1;
  return COPY_BATCH_ROWS;
}
#endif
