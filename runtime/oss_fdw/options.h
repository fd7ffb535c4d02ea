/*
** options.h: what a foreign table's options, and those of its server and columns, amount to
**
** The names, ranges and conflicts of options are checked when they are given (validator.c);
** here they are read, with everything that needs more than one catalogue object: the dialect,
** the bucket, the columns of force_not_null and force_null.
*/
#ifndef FDW_OPTIONS_H
#define FDW_OPTIONS_H

#include "postgres.h"

#include "nodes/pg_list.h"

/* The server says which: `host` means ApsaraDB RDS, `endpoint` AnalyticDB. */
enum fdw_dialect { FDW_RDS, FDW_ADBPG };

/* How the table names its objects; exactly one of the three options. */
enum fdw_locator { FDW_DIR, FDW_PREFIX, FDW_FILEPATH };

enum fdw_format { FDW_CSV, FDW_TEXT };

/* Of the objects: compressiontype or filetype. */
enum fdw_codec { FDW_PLAIN, FDW_GZIP, FDW_ZSTD };

struct fdw_table { /* every pointer is palloc'd with it */
  Oid relid, serverid;
  Oid userid; /* whose credentials count: the effective user, never InvalidOid */
  const char *schemaname, *relname;

  enum fdw_dialect dialect;
  enum fdw_locator locator;
  const char
      *location;      /* of the locator, UTF-8, one leading '/' stripped; dir ends in '/'
                        ** unless it is "" (the bucket's root) */
  const char *bucket; /* the table's, else the server's */
  const char *endpoint; /* as the server has it: host[:port], perhaps with http(s):// */
  bool s3;              /* the protocol: s3, else oss */

  enum fdw_codec codec;
  const char *codec_name; /* "none", "gzip", "zstd" for people */
  int level;              /* of compression on write; 0: the codec's default */
  int zip_workers;        /* threads that compress; 1..8 */

  enum fdw_format format;
  /* DefElems for BeginCopyFrom: format, delimiter, quote, escape, null, header, encoding, and
  ** force_not_null and force_null as lists of columns that COPY reads. */
  List *copy_options;
  char delimiter;
  char quote, escape;     /* csv only; else '\0' */
  const char *null_print; /* database encoding, as COPY takes it */
  bool header;            /* the first line of each object holds the column names */
  bool force_quote_all;   /* csv, writing */
  int encoding;           /* of the objects: PG_UTF8 ...; never -1 */
  const char
      *newline; /* ends each row written: "\n", "\r\n" or "\r" (reading finds out) */

  int64 object_bytes; /* writing: a new object once this much was stored */
  size_t part_bytes; /* writing: of a multipart upload; what the store demands at least */

  /* Reading: rows that cannot be parsed are skipped, up to a limit. */
  bool tolerant; /* reject_limit counts; else the first error raises */
  int64
      reject_limit; /* so many may fail, one more raises; or per cent of the rows so far */
  bool reject_percent;
  bool log_errors; /* keep them for gp_read_error_log */
};

/*
** Reads the options of foreign table `relid` (of our wrapper), for `userid` (InvalidOid: the
** current user); palloc'd in CurrentMemoryContext. Talks to nobody, needs no permission.
** Raises: not a table of oss_fdw, no bucket anywhere, a column of force_not_null or
** force_null that does not exist, options made invalid by hand.
*/
struct fdw_table *fdw_table_get(Oid relid, Oid userid);

/* Whether a foreign-data wrapper's handler is ours, whatever the wrapper is called. */
bool fdw_wrapper_is_ours(Oid fdwid);

/* "dir", "prefix", "filepath". */
const char *fdw_locator_name(enum fdw_locator locator);

#endif
