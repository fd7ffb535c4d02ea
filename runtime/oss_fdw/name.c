/*
** name.c: names of the objects that this cluster writes, and which of them may be seen
**
** A name promises that its transaction id is this transaction's and nobody else's, for ever. An
** id alone is not: one that no WAL record mentions is given out again after a crash. So before
** the first name is made, a record that carries the id is on disk.
**
** The cluster is its system identifier, timeline, host and directory: a copy of the directory
** that is started elsewhere, or restored to an earlier time, goes on with the same ids, and must
** not take the original's objects for its own.
*/
#include "postgres.h"

#include <limits.h>
#include <unistd.h>

#include "access/transam.h"
#include "access/xact.h"
#include "access/xlog.h"
#include "access/xloginsert.h"
#include "catalog/pg_control.h"
#include "mb/pg_wchar.h"
#include "miscadmin.h"
#include "pgtime.h"
#include "storage/lwlock.h"
#include "storage/procarray.h"
#include "utils/timestamp.h"

#include "oss_fdw/name.h"
#include "oss_fdw/options.h"

enum { KEY_BYTES = 1023, /* OSS: of a key, at most; S3: 1024 */ FILE_BYTES = 40 };

struct fdw_name {
  struct tm_oss_name_base base;
};

/* ---- which cluster ---- */

static uint32 timeline(void)
{
#if PG_VERSION_NUM >= 150000
  return GetWALInsertionTimeLine();
#else
  return ThisTimeLineID; /* known to a backend once it knows that recovery has ended */
#endif
}

/* This cluster's number; false while it is in recovery, for then it writes nothing. */
static bool own_cluster(uint64 *cluster)
{
  static bool known = false;
  static uint64 number; /* none of its parts changes while a primary runs */
  if (!known) {
    char host[HOST_NAME_MAX + 1] = "", directory[PATH_MAX];
    if (RecoveryInProgress())
      return false;
    if (gethostname(host, sizeof host - 1) != 0)
      ereport(ERROR,
              (errcode_for_file_access(), errmsg("could not get the host's name: %m")));
    if (realpath(DataDir, directory) == NULL)
      ereport(ERROR, (errcode_for_file_access(),
                      errmsg("could not resolve directory \"%s\": %m", DataDir)));
    if (!tm_oss_name_cluster(GetSystemIdentifier(), timeline(), host, directory, &number))
      ereport(ERROR, (errcode(ERRCODE_INTERNAL_ERROR),
                      errmsg("could not compute a digest of the cluster's identity")));
    known = true;
  }
  *cluster = number;
  return true;
}

/* ---- what became of a transaction ---- */

/*
** As pg_xact_status, whose way to tell old ids is not public: the commit log is read only where
** it cannot be truncated meanwhile, and what is in progress is asked before what is committed.
*/
static enum fdw_writer status_of(uint64 fxid)
{
  TransactionId xid = (TransactionId)fxid;
  enum fdw_writer status;
  LWLockAcquire(XactTruncationLock, LW_SHARED);
#if PG_VERSION_NUM >= 170000
  TransactionId oldest = TransamVariables->oldestClogXid;
#else
  TransactionId oldest = ShmemVariableCache->oldestClogXid;
#endif
  uint64 next = U64FromFullTransactionId(ReadNextFullTransactionId());
  uint64 first_known = next - (uint32)((TransactionId)next - oldest);
  if (fxid >= next || !TransactionIdIsNormal(xid))
    status = FDW_STRANGER;
  else if (fxid < first_known)
    status = FDW_COMMITTED;
  else if (TransactionIdIsInProgress(xid))
    status = FDW_RUNNING;
  else
    status = TransactionIdDidCommit(xid) ? FDW_COMMITTED : FDW_ABORTED;
  LWLockRelease(XactTruncationLock);
  return status;
}

enum fdw_writer fdw_name_writer(const char *key)
{
  static uint64 last_xid = 0; /* one transaction makes many objects */
  static enum fdw_writer last_status;
  struct tm_oss_name name;
  uint64 cluster;
  if (!tm_oss_name_parse(key, &name) || !own_cluster(&cluster) || name.cluster != cluster)
    return FDW_STRANGER;
  if (name.xid != last_xid) {
    enum fdw_writer status = status_of(name.xid);
    if (status == FDW_RUNNING || status == FDW_STRANGER)
      return status;
    last_xid = name.xid;
    last_status = status; /* for good */
  }
  return last_status;
}

bool fdw_name_visible(const char *key)
{
  enum fdw_writer writer = fdw_name_writer(key);
  return writer != FDW_RUNNING && writer != FDW_ABORTED;
}

/* ---- names to write ---- */

static void refuse_filepath(const struct fdw_table *t)
{
  if (t->locator == FDW_FILEPATH)
    ereport(ERROR,
            (errcode(ERRCODE_FEATURE_NOT_SUPPORTED),
             errmsg("foreign table \"%s\" cannot be written to", t->relname),
             errdetail("It is made of the objects that its option \"filepath\" names."),
             errhint("Use the option \"dir\" or \"prefix\" instead.")));
}

char *fdw_name_head(const struct fdw_table *t)
{
  refuse_filepath(t);
  if (t->dialect == FDW_ADBPG && t->locator == FDW_PREFIX)
    return pstrdup(t->location);
  char *copy = pstrdup(t->relname);
  for (char *c = strchr(copy, '/'); c != NULL; c = strchr(c, '/'))
    *c = '_'; /* in no encoding of a server is it part of another character */
  return psprintf("%s%s", t->location,
                  pg_server_to_any(copy, (int)strlen(copy), PG_UTF8));
}

char *fdw_name_time(const struct fdw_table *t, TimestampTz when)
{
  struct pg_tm tm;
  fsec_t fsec;
  int zone;
  if (t->dialect == FDW_RDS)
    return psprintf(INT64_FORMAT, when);
  if (timestamp2tm(when, &zone, &tm, &fsec, NULL, NULL) != 0)
    ereport(ERROR, (errcode(ERRCODE_DATETIME_VALUE_OUT_OF_RANGE),
                    errmsg("timestamp out of range")));
  return psprintf("%04d%02d%02d%02d%02d%02d", tm.tm_year, tm.tm_mon, tm.tm_mday,
                  tm.tm_hour, tm.tm_min, tm.tm_sec);
}

/* Sees to it that the ids of this transaction and subtransaction are on disk. The record says
** nothing but its header, where the id is; one of the subtransaction, being younger than the
** transaction's, does for both. */
static uint64 own_xid(void)
{
  static uint64 on_disk = 0;
  (void)GetCurrentTransactionId();
  uint64 xid = U64FromFullTransactionId(GetTopFullTransactionId());
  if (xid != on_disk) {
    char nothing[4] = "";
    XLogBeginInsert();
    XLogRegisterData(nothing, sizeof nothing);
    XLogFlush(XLogInsert(RM_XLOG_ID, XLOG_NOOP));
    on_disk = xid;
  }
  return xid;
}

/* The statement's number in its transaction, and its time. Numbers come again after a thousand
** statements, so the time then moves on by a second at least: no name is made twice. */
static unsigned next_statement(uint64 xid, TimestampTz *when)
{
  static uint64 last_xid = 0;
  static unsigned number;
  static TimestampTz last;
  *when = GetCurrentStatementStartTimestamp();
  if (xid != last_xid) {
    last_xid = xid;
    number = 0;
  } else {
    number = (number + 1) % TM_OSS_NAME_STATEMENTS;
    *when = Max(*when, number == 0 ? last + USECS_PER_SEC : last);
  }
  last = *when;
  return number;
}

struct fdw_name *fdw_name_base(const struct fdw_table *t)
{
  char number[TM_OSS_NAME_NUMBER];
  TimestampTz when;
  uint64 cluster;
  char *head = fdw_name_head(t);
  PreventCommandIfReadOnly("INSERT");
  PreventCommandDuringRecovery("INSERT");
  PreventCommandIfParallelMode("INSERT");
  if (!own_cluster(&cluster))
    elog(ERROR, "recovery began again"); /* it does not */
  uint64 xid = own_xid();
  unsigned statement = next_statement(xid, &when);
  tm_oss_name_number(cluster, statement, xid, number);
  struct fdw_name *name = palloc(sizeof *name);
  name->base.rds = t->dialect == FDW_RDS;
  name->base.stem = psprintf("%s_%s_%s", head, fdw_name_time(t, when), number);
  name->base.ending = psprintf("%s%s", t->format == FDW_CSV ? ".csv" : ".txt",
                               t->codec == FDW_GZIP   ? ".gz"
                               : t->codec == FDW_ZSTD ? ".zst"
                                                      : "");
  if (strlen(name->base.stem) + FILE_BYTES > KEY_BYTES)
    ereport(ERROR,
            (errcode(ERRCODE_NAME_TOO_LONG),
             errmsg("names of the objects of foreign table \"%s\" would be too long",
                    t->relname),
             errdetail("They begin with %zu bytes; a name has %d at most.",
                       strlen(name->base.stem), KEY_BYTES)));
  return name;
}

char *fdw_name_object(void *base, size_t index)
{
  const struct fdw_name *name = base;
  return tm_oss_name_object(&name->base, index);
}
