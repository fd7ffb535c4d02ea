/*
** errlog.h: the rows that scans rejected, kept for gp_read_error_log
**
** Files of the data directory, one or two a table; what is in them belongs to no transaction, so
** a scan that fails leaves its bad rows to be looked at. Bounded by oss_fdw.error_log_size:
** the oldest rows go. See errlog.c and errfile.c for the shape.
*/
#ifndef TM_FDW_ERRLOG_H
#define TM_FDW_ERRLOG_H

#include "postgres.h"

#include "utils/timestamp.h"
#include "utils/tuplestore.h"

struct fdw_errlog;

struct fdw_errlog_row {
  TimestampTz cmdtime;
  const char *relname, *filename; /* the table; the object's key */
  int64 linenum, bytenum;         /* where the row begins in the object, decompressed */
  const char *errmsg;
  const char *raw; /* its first bytes, without the newline */
  size_t raw_len;
  bool raw_is_text; /* valid in the database's encoding: rawdata, else rawbytes */
};

/* Opens nothing yet. Lives in `cxt`, whose end writes what is not yet written. */
struct fdw_errlog *fdw_errlog_open(MemoryContext cxt, Oid relid);

/* Keeps a row; it is copied. A log that cannot be written is one WARNING, no error. */
void fdw_errlog_add(struct fdw_errlog *log, const struct fdw_errlog_row *row);

/* Writes what is not yet written. */
void fdw_errlog_flush(struct fdw_errlog *log);

/* Appends the table's rows, oldest first, to a tuplestore of gp_read_error_log's columns. */
void fdw_errlog_read(Oid relid, Tuplestorestate *rows, TupleDesc desc);

/* Removes the log of a table; false: there was none. */
bool fdw_errlog_truncate(Oid relid);

/* Removes the logs of all tables of a database, InvalidOid: of all databases. */
void fdw_errlog_truncate_all(Oid database);

#endif
