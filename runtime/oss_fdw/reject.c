/*
** reject.c: reading on past rows that cannot be parsed: parse_errors, segment_reject_limit
**
** COPY cannot go on after an error, since it may have half a record in its buffers. So it never
** gets more than one record: records.c cuts the object's bytes as COPY would, COPY is given
** one, its line end made a plain newline, and after an error a new COPY state
** is begun for the next record. The header line is dropped here.
**
** Errors are caught in a subtransaction, the only way to undo what an input function was in the
** middle of. One serves up to 64 rows, as many as are complete in the 64 KiB at hand, for it
** costs as much as a row. Within it nothing is fetched from the store. A bad row ends it; the
** rows before it are handed out first, so whatever is counted, logged or raised comes when its
** turn comes, also under LIMIT.
**
** Tolerated: class 22 of SQLSTATE (values that do not fit their type, wrong numbers of columns,
** bad encoding and quoting), 23514 and 23502 (domains). All else is raised: cancel, timeouts,
** memory, limits of the program, missing objects, errors of the store.
**
** An unterminated quote makes one record of the rest of the object, and so one bad row, as COPY
** sees it: none of its lines is taken for a row. A record of more than 128 MiB (the most that
** the dialects allow a row) is a bad row and is passed over, not kept, up to its end.
**
** Limits. RDS: parse_errors N tolerates N rows of a scan, one more raises. ADBPG: the same for
** segment_reject_limit 'N'; 'N%' raises when, after more than 300 rows, whole per cent of bad
** ones reach N (Greenplum's rule and gp_reject_percent_threshold's default). A scan of several
** objects counts through. A rescan counts again, but logs nothing twice.
*/
#include "postgres.h"

#include "access/xact.h"
#include "commands/copy.h"
#include "executor/executor.h"
#include "mb/pg_wchar.h"
#include "miscadmin.h"
#include "nodes/plannodes.h"
#include "utils/builtins.h"
#include "utils/memutils.h"
#include "utils/resowner.h"

#include "oss_fdw/errlog.h"
#include "oss_fdw/records.h"
#include "oss_fdw/reject.h"
#include "oss_fdw/wait.h"

#if PG_VERSION_NUM >= 140000
#include "commands/copyfrom_internal.h"
#else
typedef CopyState CopyFromState;
#endif

enum {
  RAW_BYTES_MAX = 8 * 1024, /* of a bad row in the log */
  ROWS_MAX = 64,
  PERCENT_FROM_ROWS = 300,
};

/* Why the next row is bad; in the context `bad_context`. */
struct bad_row {
  bool is;
  int code; /* SQLSTATE */
  const char *message;
};

struct fdw_reject {
  MemoryContext context, batch_context, bad_context;
  Relation rel;
  const struct fdw_table *t;
  List *options; /* of COPY, without header */
  CopyFromState copy;

  /* the object */
  const struct fdw_object *object;
  int index; /* of it in this pass, from 1 */
  bool header_due;
  struct fdw_records records;

  /* how much of the record at hand COPY was given */
  size_t given; /* without its line end */
  bool newline_due;
  bool drained; /* it wanted more than the record */

  /* rows that were parsed and not yet handed out */
  Datum *values; /* ROWS_MAX times natts */
  bool *nulls;
  int rows, next;
  struct bad_row bad; /* comes after them */

  /* counts of this pass */
  int64 processed, rejected;
  int64 rejected_before;  /* in earlier passes */
  struct fdw_errlog *log; /* NULL: log_errors is off */
  int far_index;          /* how far bad rows are logged already */
  int64 far_offset;
  bool told; /* the NOTICE */
};

/* Whose record COPY is given now; put back when a scan inside an input function is done. */
static struct fdw_reject *giving;

static int give(void *buf, int min, int max)
{
  struct fdw_reject *r = giving;
  size_t n = Min((size_t)max, r->records.len - r->given);
  (void)min;
  memcpy(buf, r->records.bytes + r->given, n);
  r->given += n;
  if (n < (size_t)max && r->newline_due) {
    ((char *)buf)[n++] = '\n';
    r->newline_due = false;
  }
  r->drained = r->drained || n == 0;
  return (int)n;
}

static void begin_copy(struct fdw_reject *r)
{
  MemoryContext old = MemoryContextSwitchTo(r->context);
#if PG_VERSION_NUM >= 140000
  r->copy = BeginCopyFrom(NULL, r->rel, NULL, NULL, false, give, NIL, r->options);
#else
  r->copy = BeginCopyFrom(NULL, r->rel, NULL, false, give, NIL, r->options);
#endif
  MemoryContextSwitchTo(old);
}

static void end_copy(struct fdw_reject *r)
{
  if (r->copy != NULL)
    EndCopyFrom(r->copy);
  r->copy = NULL;
}

/* The column that COPY was converting, or NULL. */
static const char *column_of(const struct fdw_reject *r)
{
#if PG_VERSION_NUM >= 140000
  return r->copy != NULL ? r->copy->cur_attname : NULL;
#else
  (void)r;
  return NULL;
#endif
}

/* What an error says of its place. */
static void add_context(void *arg)
{
  struct fdw_reject *r = arg;
  const char *column = column_of(r);
  errcontext("oss_fdw: object \"%s\", line " INT64_FORMAT "%s%s",
             fdw_text(r->object->key), r->records.split.record.line,
             column != NULL ? ", column " : "", column != NULL ? column : "");
}

/* ---- opening ---- */

struct fdw_reject *fdw_reject_open(MemoryContext cxt, Relation rel,
                                   const struct fdw_table *t, List *copy_options)
{
  MemoryContext context =
      AllocSetContextCreate(cxt, "oss_fdw tolerant", ALLOCSET_DEFAULT_SIZES);
  MemoryContext old = MemoryContextSwitchTo(context);
  struct fdw_reject *r = palloc0(sizeof *r);
  Size natts = (Size)RelationGetDescr(rel)->natts;
  ListCell *cell;
  r->context = context;
  r->batch_context =
      AllocSetContextCreate(context, "oss_fdw batch", ALLOCSET_DEFAULT_SIZES);
  r->bad_context =
      AllocSetContextCreate(context, "oss_fdw bad row", ALLOCSET_SMALL_SIZES);
  r->rel = rel;
  r->t = t;
  foreach (cell, copy_options)
    if (strcmp(((DefElem *)lfirst(cell))->defname, "header") != 0)
      r->options = lappend(r->options, lfirst(cell));
  r->values = palloc(ROWS_MAX * natts * sizeof *r->values);
  r->nulls = palloc(ROWS_MAX * natts * sizeof *r->nulls);
  fdw_records_init(&r->records, context);
  if (t->log_errors)
    r->log = fdw_errlog_open(context, t->relid);
  MemoryContextSwitchTo(old);
  return r;
}

void fdw_reject_object(struct fdw_reject *r, struct fdw_feed *feed,
                       const struct fdw_object *object)
{
  r->object = object;
  r->index++;
  r->header_due = r->t->header;
  r->rows = r->next = 0;
  r->bad.is = false;
  fdw_records_start(&r->records, r->t, feed);
}

/* ---- bad rows ---- */

static void set_bad(struct fdw_reject *r, int code, const char *message,
                    const char *column)
{
  MemoryContextReset(r->bad_context);
  r->bad.is = true;
  r->bad.code = code;
  r->bad.message = MemoryContextStrdup(r->bad_context, message);
  if (column != NULL) {
    MemoryContext old = MemoryContextSwitchTo(r->bad_context);
    r->bad.message = psprintf("%s, column %s", message, column);
    MemoryContextSwitchTo(old);
  }
}

/* What split.c found, in COPY's words. False: nothing. */
static bool is_at_fault(struct fdw_reject *r)
{
  bool csv = r->t->format == FDW_CSV;
  char text[128];
  if (r->records.too_long) {
    snprintf(text, sizeof text, "row is longer than %d MB%s", FDW_RECORD_BYTES_MAX >> 20,
             csv ? ": perhaps a quote that is not closed" : "");
    set_bad(r, ERRCODE_PROGRAM_LIMIT_EXCEEDED, text, NULL);
    return true;
  }
  if (r->records.split.record.fault == TM_SPLIT_GOOD)
    return false;
  snprintf(text, sizeof text, "%s %s found in data", csv ? "unquoted" : "literal",
           r->records.split.record.fault == TM_SPLIT_STRAY_CR ? "carriage return"
                                                              : "newline");
  set_bad(r, ERRCODE_BAD_COPY_FILE_FORMAT, text, NULL);
  return true;
}

static bool is_tolerated(int code)
{
  return ERRCODE_TO_CATEGORY(code) == ERRCODE_DATA_EXCEPTION ||
         code == ERRCODE_CHECK_VIOLATION || code == ERRCODE_NOT_NULL_VIOLATION;
}

/* Whether all of p is right in the encoding. */
static bool is_valid(int encoding, const char *p, int len)
{
#if PG_VERSION_NUM >= 140000
  return pg_encoding_verifymbstr(encoding, p, len) == len;
#else
  return pg_verify_mbstr(encoding, p, len, true);
#endif
}

/* The start of the record for the log: as text where that is certain to work. */
static void set_raw(const struct fdw_reject *r, struct fdw_errlog_row *row)
{
  int server = GetDatabaseEncoding(); /* COPY takes bytes of SQL_ASCII for its own */
  int encoding = r->t->encoding == PG_SQL_ASCII ? server : r->t->encoding;
  const char *bytes = r->records.bytes;
  int len = (int)Min(r->records.len, RAW_BYTES_MAX);
  if ((size_t)len < r->records.len || r->records.too_long)
    len = pg_encoding_mbcliplen(encoding, bytes, len, len);
  row->raw = bytes;
  row->raw_len = (size_t)len;
  if (r->bad.code == ERRCODE_CHARACTER_NOT_IN_REPERTOIRE ||
      r->bad.code == ERRCODE_UNTRANSLATABLE_CHARACTER || !is_valid(encoding, bytes, len))
    return;
  if (encoding != server) {
    if (r->records.too_long || r->records.split.record.fault != TM_SPLIT_GOOD)
      return; /* COPY has not shown that it can be converted */
    char *copy = pnstrdup(bytes, (Size)len);
    row->raw = pg_any_to_server(copy, len, encoding);
    row->raw_len = strlen(row->raw);
  }
  row->raw_is_text = true;
}

static void log_bad(struct fdw_reject *r)
{
  struct fdw_errlog_row row = {.cmdtime = GetCurrentStatementStartTimestamp(),
                               .relname = r->t->relname,
                               .filename = fdw_text(r->object->key),
                               .linenum = r->records.split.record.line,
                               .bytenum = r->records.split.record.offset,
                               .errmsg = r->bad.message};
  if (r->index < r->far_index ||
      (r->index == r->far_index && row.bytenum <= r->far_offset))
    return;
  r->far_index = r->index;
  r->far_offset = row.bytenum;
  set_raw(r, &row);
  fdw_errlog_add(r->log, &row);
}

static bool is_over_limit(const struct fdw_reject *r)
{
  if (!r->t->reject_percent)
    return r->rejected > r->t->reject_limit;
  return r->processed > PERCENT_FROM_ROWS &&
         r->rejected * 100 / r->processed >= r->t->reject_limit;
}

static int hint_at_log(const struct fdw_reject *r)
{
  if (r->log == NULL)
    return 0;
  const char *name = quote_qualified_identifier(r->t->schemaname, r->t->relname);
  return errhint("SELECT * FROM gp_read_error_log(%s) has the rejected rows.",
                 quote_literal_cstr(name));
}

static void raise_limit(struct fdw_reject *r)
{
  const struct fdw_table *t = r->t;
  if (t->dialect == FDW_ADBPG)
    ereport(ERROR, (errcode(ERRCODE_BAD_COPY_FILE_FORMAT),
                    errmsg("segment reject limit reached, aborting operation"),
                    errdetail("Last error was: %s", r->bad.message), hint_at_log(r)));
  ereport(ERROR,
          (errcode(ERRCODE_BAD_COPY_FILE_FORMAT),
           errmsg("more rows of foreign table \"%s\" cannot be parsed than parse_errors "
                  "allows (" INT64_FORMAT ")",
                  t->relname, t->reject_limit),
           errdetail("Last error was: %s", r->bad.message), hint_at_log(r)));
}

/* The bad row's turn has come: counts it, logs it, and raises when it is one too many. */
static void reject(struct fdw_reject *r)
{
  MemoryContext old = MemoryContextSwitchTo(r->bad_context);
  r->processed++;
  r->rejected++;
  if (r->log != NULL)
    log_bad(r);
  end_copy(r);
  if (is_over_limit(r)) {
    if (r->log != NULL)
      fdw_errlog_flush(r->log);
    raise_limit(r);
  }
  r->bad.is = false;
  MemoryContextSwitchTo(old);
}

/* ---- rows ---- */

/* Parses the record into the next row; raises. False: COPY says that the data ends here. */
static bool parse(struct fdw_reject *r, ExprContext *econtext)
{
  Size at = (Size)r->rows * (Size)RelationGetDescr(r->rel)->natts;
  r->given = 0;
  r->newline_due = r->records.split.record.newline > 0;
  r->drained = false;
  bool found = NextCopyFrom(r->copy, econtext, r->values + at, r->nulls + at);
  if (found) {
    r->rows++;
    r->processed++;
  }
  return found;
}

/* Whether the COPY state, after a row, is as it was before it. */
static bool is_clean(const struct fdw_reject *r)
{
#if PG_VERSION_NUM >= 140000
  if (INPUT_BUF_BYTES(r->copy) > 0 ||
      (r->copy->need_transcoding && RAW_BUF_BYTES(r->copy) > 0))
    return false; /* without transcoding both are one buffer, and raw_buf_index lags */
#endif
  return !r->drained && r->given == r->records.len;
}

/* The record at hand and those that follow it in the chunk, up to the first bad one. */
static void parse_some(struct fdw_reject *r, ExprContext *econtext)
{
  do {
    if (is_at_fault(r))
      return;
    if (r->records.split.record.marker || !parse(r, econtext)) {
      fdw_records_stop(&r->records);
      return;
    }
    if (!is_clean(r)) {
      r->drained = true;
      return;
    }
  } while (r->rows < ROWS_MAX && fdw_records_next_here(&r->records));
}

/* In the handler of an error: back before the subtransaction, and on only if it is tolerated. */
static void catch_error(struct fdw_reject *r)
{
  int code = geterrcode();
  const char *column = column_of(r);
  RollbackAndReleaseCurrentSubTransaction();
  if (!is_tolerated(code))
    PG_RE_THROW();
  MemoryContextSwitchTo(r->batch_context);
  ErrorData *error = CopyErrorData();
  FlushErrorState();
  set_bad(r, code, error->message != NULL ? error->message : "unknown error", column);
}

static void parse_in_subtransaction(struct fdw_reject *r, ExprContext *econtext)
{
  MemoryContext old = CurrentMemoryContext;
  ResourceOwner owner = CurrentResourceOwner;
  struct fdw_reject *outer = giving;
  ErrorContextCallback context = {
      .previous = error_context_stack, .callback = add_context, .arg = r};
  error_context_stack = &context;
  BeginInternalSubTransaction(NULL);
  PG_TRY();
  {
    giving = r;
    MemoryContextSwitchTo(r->batch_context);
    parse_some(r, econtext);
    giving = outer;
    ReleaseCurrentSubTransaction();
  }
  PG_CATCH();
  {
    giving = outer;
    catch_error(r);
  }
  PG_END_TRY();
  error_context_stack = context.previous;
  CurrentResourceOwner = owner;
  MemoryContextSwitchTo(old);
}

/* More rows, or a bad one. False: the object has no more. */
static bool fill(struct fdw_reject *r, ExprContext *econtext)
{
  MemoryContextReset(r->batch_context);
  r->rows = r->next = 0;
  if (r->drained)
    end_copy(r);
  if (!fdw_records_next(&r->records))
    return false;
  if (r->header_due) {
    r->header_due = false;
    return true;
  }
  if (r->copy == NULL)
    begin_copy(r);
  parse_in_subtransaction(r, econtext);
  return true;
}

bool fdw_reject_next(struct fdw_reject *r, ExprContext *econtext, Datum *values,
                     bool *nulls)
{
  Size natts = (Size)RelationGetDescr(r->rel)->natts;
  ErrorContextCallback context = {
      .previous = error_context_stack, .callback = add_context, .arg = r};
  while (r->next == r->rows) {
    if (r->bad.is) {
      error_context_stack = &context;
      reject(r);
      error_context_stack = context.previous;
    }
    if (!fill(r, econtext))
      return false;
  }
  memcpy(values, r->values + (Size)r->next * natts, natts * sizeof *values);
  memcpy(nulls, r->nulls + (Size)r->next * natts, natts * sizeof *nulls);
  r->next++;
  return true;
}

/* ---- the end ---- */

void fdw_reject_finish(struct fdw_reject *r)
{
  if (r->log != NULL)
    fdw_errlog_flush(r->log);
  if (r->rejected > 0 && !r->told)
    ereport(NOTICE, (errmsg("found " INT64_FORMAT " data formatting errors (" INT64_FORMAT
                            " or more input rows), rejected related input data",
                            r->rejected, r->rejected)));
  r->told = true;
}

int64 fdw_reject_rows(const struct fdw_reject *r)
{
  return r->rejected_before + r->rejected;
}

void fdw_reject_rewind(struct fdw_reject *r)
{
  /* A bad row whose turn has not come may have left COPY in its middle. */
  r->drained = true;
  r->rejected_before += r->rejected;
  r->index = 0;
  r->processed = r->rejected = 0;
  r->rows = r->next = 0;
  r->bad.is = false;
}

void fdw_reject_close(struct fdw_reject *r)
{
  if (r == NULL)
    return;
  if (r->log != NULL)
    fdw_errlog_flush(r->log);
  MemoryContextDelete(r->context);
}

void fdw_reject_no_workers(EState *estate)
{
#if PG_VERSION_NUM < 170000
  estate->es_plannedstmt->parallelModeNeeded = false;
#else
  (void)estate;
#endif
}
