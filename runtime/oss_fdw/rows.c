/*
** rows.c: the rows of a list of objects, through PostgreSQL's own COPY parser
**
** COPY's data source has no argument: `reading` says whose bytes it is to give, and is set
** around each call into COPY and put back after, whatever is raised, because scans interleave
** (a join) and nest (an input function that runs a query). Around the same calls activity
** tracking is off: COPY would report its progress over that of the command that we are in.
** The COPY state of an object needs no end but that of its memory.
*/
#include "oss_fdw/rows.h"

#include "catalog/pg_type.h"
#include "commands/copy.h"
#include "commands/defrem.h"
#include "executor/executor.h"
#include "mb/pg_wchar.h"
#include "nodes/makefuncs.h"
#include "optimizer/optimizer.h"
#include "oss_fdw/reject.h"
#include "oss_fdw/wait.h"
#include "pgstat.h"
#include "rewrite/rewriteHandler.h"
#include "utils/memutils.h"

#if PG_VERSION_NUM >= 140000
#include "commands/copyfrom_internal.h"
#else
typedef CopyState CopyFromState;
#endif

struct fdw_rows {
  MemoryContext context, object_context;
  Relation rel;
  const struct fdw_table *t;
  struct fdw_store *store;
  const struct fdw_objects *objects;
  bool no_column;        /* is wanted: rows are only counted */
  List *options;         /* of COPY */
  ExprState **values;    /* of generated columns, by attribute; NULL: there are none */
  struct fdw_feed *feed; /* NULL: not begun */
  struct fdw_reject *reject;       /* of a tolerant table, once begun */
  const struct fdw_object *object; /* being read, or NULL */
  const char *name;                /* its key, for messages */
  CopyFromState copy;              /* of it; NULL when the table is tolerant */
  uint64 first_line;               /* where the row being read begins */
  bool ended;
  int begun;          /* objects, in this pass and those before */
  int64 limit;        /* of bytes: no object is begun after; 0: none */
  int64 bytes_before; /* fetched by feeds before this one */
};

/* Whose bytes COPY reads now. */
static struct fdw_rows *reading;

static int give(void *buf, int min, int max)
{
  return fdw_feed_read(reading->feed, buf, min, max);
}

/* ---- opening ---- */

/* The expressions of stored generated columns: COPY has no values for them. */
static void find_generated(struct fdw_rows *r, List *columns, bool all)
{
  TupleDesc desc = RelationGetDescr(r->rel);
  for (int i = 0; i < desc->natts; i++) {
    Form_pg_attribute a = TupleDescAttr(desc, i);
    if (a->attgenerated != ATTRIBUTE_GENERATED_STORED || a->attisdropped)
      continue;
    if (!all && !list_member(columns, makeString(pstrdup(NameStr(a->attname)))))
      continue;
    if (r->values == NULL)
      r->values = palloc0(sizeof *r->values * (Size)desc->natts);
    Expr *e = (Expr *)build_column_default(r->rel, i + 1);
    if (e == NULL)
      elog(ERROR, "no generation expression found for column \"%s\"",
           NameStr(a->attname));
    r->values[i] = ExecInitExpr(expression_planner(e), NULL);
  }
}

/* A column that COPY reads, in a list by itself, best one of text; NIL: there is none. */
static List *any_column(TupleDesc desc)
{
  Form_pg_attribute any = NULL;
  for (int i = 0; i < desc->natts; i++) {
    Form_pg_attribute a = TupleDescAttr(desc, i);
    if (a->attisdropped || a->attgenerated != '\0')
      continue;
    if (any == NULL || a->atttypid == TEXTOID)
      any = a;
  }
  return any != NULL ? list_make1(makeString(pstrdup(NameStr(any->attname)))) : NIL;
}

/*
** Converting only what is wanted; but what a generated column is made of is unknown, and in a
** tolerant table the rows that are rejected must not depend on the query. To COPY an empty
** list means every column, so where none is wanted one is named, and left out in begin_copy
** where the version lets us.
*/
static List *copy_options(struct fdw_rows *r, List *columns, bool all)
{
  if (all || r->values != NULL || r->t->tolerant)
    return r->t->copy_options;
  r->no_column = columns == NIL;
  if (r->no_column)
    columns = any_column(RelationGetDescr(r->rel));
  DefElem *e = makeDefElem(pstrdup("convert_selectively"), (Node *)columns, -1);
  return lappend(list_copy(r->t->copy_options), e);
}

struct fdw_rows *fdw_rows_open(MemoryContext cxt, Relation rel, const struct fdw_table *t,
                               struct fdw_store *store, const struct fdw_objects *objects,
                               List *columns, bool all)
{
  MemoryContext context =
      AllocSetContextCreate(cxt, "oss_fdw rows", ALLOCSET_DEFAULT_SIZES);
  MemoryContext old = MemoryContextSwitchTo(context);
  struct fdw_rows *r = palloc0(sizeof *r);
  r->context = context;
  r->object_context =
      AllocSetContextCreate(context, "oss_fdw object", ALLOCSET_DEFAULT_SIZES);
  r->rel = rel;
  r->t = t;
  r->store = store;
  r->objects = objects;
  find_generated(r, columns, all);
  r->options = copy_options(r, columns, all);
  MemoryContextSwitchTo(old);
  return r;
}

/* ---- reading ---- */

#if PG_VERSION_NUM >= 140000
/* COPY's line numbers; a row of several lines is told from its first to where it is. */
static void add_place(const struct fdw_rows *r)
{
  const char *column = r->copy->cur_attname;
  uint64 line = r->copy->cur_lineno;
  if (column == NULL && geterrcode() == ERRCODE_PROGRAM_LIMIT_EXCEEDED)
    errhint(
        "A row cannot be longer than 1 GB. A quote that is not closed makes a row of all "
        "that follows it.");
  if (line > r->first_line)
    errcontext("oss_fdw: object \"%s\", lines " UINT64_FORMAT " to " UINT64_FORMAT "%s%s",
               r->name, r->first_line, line, column != NULL ? ", column " : "",
               column != NULL ? column : "");
  else
    errcontext("oss_fdw: object \"%s\", line " UINT64_FORMAT "%s%s", r->name, line,
               column != NULL ? ", column " : "", column != NULL ? column : "");
}
#else
/* COPY's state is private: its own line of context has to say the rest. */
static void add_place(const struct fdw_rows *r)
{
  errcontext("oss_fdw: object \"%s\"", r->name);
}
#endif

static void add_context(void *arg)
{
  struct fdw_rows *r = arg;
  if (r->copy == NULL)
    return;
  add_place(r);
  CopyFromErrorCallback(r->copy);
}

static void begin_copy(struct fdw_rows *r)
{
#if PG_VERSION_NUM >= 140000
  r->copy = BeginCopyFrom(NULL, r->rel, NULL, NULL, false, give, NIL, r->options);
  if (r->no_column)
    memset(r->copy->convert_select_flags, 0,
           sizeof(bool) * (Size)RelationGetDescr(r->rel)->natts);
#else
  r->copy = BeginCopyFrom(NULL, r->rel, NULL, false, give, NIL, r->options);
#endif
}

static bool next_object(struct fdw_rows *r)
{
  MemoryContext old = MemoryContextSwitchTo(r->context);
  if (r->feed == NULL)
    r->feed = fdw_feed_open(r->context, r->t, r->store, r->objects);
  if (r->t->tolerant && r->reject == NULL)
    r->reject = fdw_reject_open(r->context, r->rel, r->t, r->options);
  bool enough = r->limit > 0 && fdw_rows_bytes(r) >= r->limit;
  if (enough || !fdw_feed_next_object(r->feed, &r->object)) {
    MemoryContextSwitchTo(old);
    return false;
  }
  r->begun++;
  MemoryContextSwitchTo(r->object_context);
  r->name = fdw_text(r->object->key);
  if (r->t->tolerant)
    fdw_reject_object(r->reject, r->feed, r->object);
  else
    begin_copy(r);
  MemoryContextSwitchTo(old);
  return true;
}

static void leave_object(struct fdw_rows *r)
{
  r->object = NULL;
  r->copy = NULL;
  MemoryContextReset(r->object_context);
}

static bool next_of_object(struct fdw_rows *r, ExprContext *econtext,
                           TupleTableSlot *slot)
{
  if (r->t->tolerant)
    return fdw_reject_next(r->reject, econtext, slot->tts_values, slot->tts_isnull);
#if PG_VERSION_NUM >= 140000
  r->first_line = r->copy->cur_lineno + 1;
  if (r->t->header && r->first_line == 1)
    r->first_line = 2;
#endif
  return NextCopyFrom(r->copy, econtext, slot->tts_values, slot->tts_isnull);
}

/* Gives back threads, buffers and descriptors, not only at the end of the query: a scan of a
** hundred partitions ends them one by one. */
static void close_feed(struct fdw_rows *r)
{
  r->bytes_before = fdw_rows_bytes(r);
  fdw_feed_close(r->feed);
  r->feed = NULL;
}

static void end(struct fdw_rows *r)
{
  r->ended = true;
  if (r->reject != NULL)
    fdw_reject_finish(r->reject);
  close_feed(r);
}

static bool next_row(struct fdw_rows *r, ExprContext *econtext, TupleTableSlot *slot)
{
  while (!r->ended) {
    if (r->object == NULL && !next_object(r)) {
      end(r);
      break;
    }
    if (next_of_object(r, econtext, slot))
      return true;
    leave_object(r);
  }
  return false;
}

static void generate(struct fdw_rows *r, ExprContext *econtext, TupleTableSlot *slot)
{
  econtext->ecxt_scantuple = slot;
  for (int i = 0; i < slot->tts_tupleDescriptor->natts; i++)
    if (r->values[i] != NULL)
      slot->tts_values[i] =
          ExecEvalExprSwitchContext(r->values[i], econtext, &slot->tts_isnull[i]);
}

void fdw_rows_next(struct fdw_rows *r, ExprContext *econtext, TupleTableSlot *slot)
{
  struct fdw_rows *outer = reading;
  bool tracked = pgstat_track_activities;
  volatile bool found = false;
  ErrorContextCallback context = {
      .previous = error_context_stack, .callback = add_context, .arg = r};
  ExecClearTuple(slot);
  error_context_stack = &context;
  PG_TRY();
  {
    reading = r;
    pgstat_track_activities = false;
    found = next_row(r, econtext, slot);
  }
  PG_FINALLY();
  {
    reading = outer;
    pgstat_track_activities = tracked;
  }
  PG_END_TRY();
  error_context_stack = context.previous;
  if (!found)
    return;
  ExecStoreVirtualTuple(slot);
  if (r->values != NULL)
    generate(r, econtext, slot);
}

void fdw_rows_limit(struct fdw_rows *r, int64 bytes)
{
  r->limit = bytes;
}

/* ---- counts, rewinding, closing ---- */

int64 fdw_rows_bytes(const struct fdw_rows *r)
{
  return r->bytes_before + (r->feed != NULL ? fdw_feed_bytes(r->feed) : 0);
}

int fdw_rows_objects(const struct fdw_rows *r)
{
  return r->begun;
}

int64 fdw_rows_rejected(const struct fdw_rows *r)
{
  if (!r->t->tolerant)
    return -1;
  return r->reject != NULL ? fdw_reject_rows(r->reject) : 0;
}

void fdw_rows_rewind(struct fdw_rows *r)
{
  leave_object(r);
  close_feed(r);
  r->ended = false;
  if (r->reject != NULL)
    fdw_reject_rewind(r->reject);
}

void fdw_rows_close(struct fdw_rows *r)
{
  if (r == NULL)
    return;
  fdw_reject_close(r->reject);
  MemoryContextDelete(r->context);
}
