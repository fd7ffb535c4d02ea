/*
** errlog.c: the rows that scans rejected, kept for gp_read_error_log
**
** Files oss_fdw_errlog/DATABASE_TABLE and DATABASE_TABLE.1 (older) of the data directory, by
** OIDs; errfile.c writes them. A line is a row: fields parted by tabs, the last one a CRC-32C
** of what is before it, so that a torn or damaged line is passed over. The first field is the
** OID of the table's row type, which no two tables share: a table that got the OID
** of a dropped one does not show its rows.
**
** Rows are gathered and written 32 KiB at a time, at the latest when the scan ends, whether well
** or with an error; only a killed backend loses those it has gathered. Nothing here fails a
** scan: a log that cannot be written is a WARNING.
**
** Logs of dropped tables and databases are removed when a table gets its first log.
*/
#include "postgres.h"

#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "lib/stringinfo.h"
#include "mb/pg_wchar.h"
#include "miscadmin.h"
#include "port/pg_crc32c.h"
#include "storage/fd.h"
#include "utils/builtins.h"
#include "utils/lsyscache.h"
#include "utils/memutils.h"
#include "utils/syscache.h"

#include "oss_fdw/errfile.h"
#include "oss_fdw/errlog.h"
#include "oss_fdw/guc.h"
#include "oss_fdw/wait.h"

static const char DIRECTORY[] = "oss_fdw_errlog"; /* a backend's directory is PGDATA */

enum {
  GATHER_BYTES = 32 * 1024,
  MESSAGE_BYTES = 4096,
  LINE_BYTES = 128 * 1024, /* no line of ours is longer */
  FIELDS = 10,
  NAME_BYTES = 32,
  ORPHAN_AGE_S = 24 * 3600, /* a new table may not be committed yet */
};

struct fdw_errlog {
  Oid relid, type;
  StringInfoData lines;
  bool begun;  /* a first write was tried */
  bool failed; /* and said so */
};

static void make_name(char *name, Oid database, Oid relid)
{
  snprintf(name, NAME_BYTES, "%u_%u", database, relid);
}

/* ---- lines ---- */

static void add_field(StringInfo line, const char *p, size_t len)
{
  for (size_t i = 0; i < len; i++) {
    char c = p[i];
    const char *as = c == '\t' ? "\\t" : c == '\n' ? "\\n" : c == '\\' ? "\\\\" : NULL;
    if (c == '\0')
      appendBinaryStringInfo(line, "\\0", 2);
    else if (as != NULL)
      appendBinaryStringInfo(line, as, 2);
    else
      appendStringInfoCharMacro(line, c);
  }
  appendStringInfoCharMacro(line, '\t');
}

static pg_crc32c crc_of(const char *p, size_t len)
{
  pg_crc32c crc;
  INIT_CRC32C(crc);
  COMP_CRC32C(crc, p, len);
  FIN_CRC32C(crc);
  return crc;
}

static void add_line(StringInfo out, Oid type, const struct fdw_errlog_row *row)
{
  int from = out->len;
  size_t message = strlen(row->errmsg);
  if (message > MESSAGE_BYTES)
    message = (size_t)pg_mbcliplen(row->errmsg, (int)message, MESSAGE_BYTES);
  appendStringInfo(out, "%u\t" INT64_FORMAT "\t", type, (int64)row->cmdtime);
  add_field(out, row->relname, strlen(row->relname));
  add_field(out, row->filename, strlen(row->filename));
  appendStringInfo(out, INT64_FORMAT "\t" INT64_FORMAT "\t", row->linenum, row->bytenum);
  add_field(out, row->errmsg, message);
  appendStringInfo(out, "%c\t", row->raw_is_text ? 't' : 'b');
  add_field(out, row->raw, row->raw_len);
  appendStringInfo(out, "%08x\n", crc_of(out->data + from, (size_t)(out->len - from)));
}

/* ---- writing ---- */

/* Raises nothing, so that it serves a reset callback too. */
static bool write_lines(struct fdw_errlog *log, struct tm_error *err)
{
  char name[NAME_BYTES];
  if (log->lines.len == 0)
    return true;
  make_name(name, MyDatabaseId, log->relid);
  bool ok = fdw_errfile_append(DIRECTORY, name, log->lines.data, (size_t)log->lines.len,
                               (int64)fdw_error_log_size_mb * 1024 * 1024, err);
  log->lines.len = 0;
  return ok;
}

static void write_at_end(void *arg)
{
  struct tm_error err;
  (void)write_lines(arg, &err);
}

struct fdw_errlog *fdw_errlog_open(MemoryContext cxt, Oid relid)
{
  MemoryContext old = MemoryContextSwitchTo(cxt);
  struct fdw_errlog *log = palloc0(sizeof *log);
  log->relid = relid;
  log->type = get_rel_type_id(relid);
  initStringInfo(&log->lines);
  MemoryContextSwitchTo(old);
  fdw_own(cxt, write_at_end, log);
  return log;
}

/* The database and the table of a file's name; false: it is no log. */
static bool parse_name(const char *name, Oid *database, Oid *relid)
{
  int end = 0;
  return sscanf(name, "%u_%u%n", database, relid, &end) == 2 &&
         (name[end] == '\0' || strcmp(name + end, ".1") == 0);
}

static bool is_orphan(Oid database, Oid relid)
{
  if (database == MyDatabaseId)
    return !SearchSysCacheExists1(RELOID, ObjectIdGetDatum(relid));
  return !SearchSysCacheExists1(DATABASEOID, ObjectIdGetDatum(database));
}

static bool is_old(const char *name)
{
  char path[MAXPGPATH];
  struct stat st;
  snprintf(path, sizeof path, "%s/%s", DIRECTORY, name);
  return stat(path, &st) == 0 && time(NULL) - st.st_mtime > ORPHAN_AGE_S;
}

static void remove_orphans(void)
{
  struct dirent *entry;
  DIR *dir = AllocateDir(DIRECTORY);
  char name[NAME_BYTES];
  struct tm_error err;
  Oid database, relid;
  bool was;
  if (dir == NULL)
    return; /* the first log of all */
  while ((entry = ReadDirExtended(dir, DIRECTORY, LOG)) != NULL)
    if (parse_name(entry->d_name, &database, &relid) && is_orphan(database, relid) &&
        is_old(entry->d_name)) {
      make_name(name, database, relid);
      if (!fdw_errfile_remove(DIRECTORY, name, &was, &err))
        break; /* another time */
    }
  FreeDir(dir);
}

void fdw_errlog_flush(struct fdw_errlog *log)
{
  struct tm_error err;
  if (log->lines.len == 0)
    return;
  if (!log->begun) {
    char path[MAXPGPATH], name[NAME_BYTES];
    make_name(name, MyDatabaseId, log->relid);
    snprintf(path, sizeof path, "%s/%s", DIRECTORY, name);
    log->begun = true;
    if (access(path, F_OK) != 0)
      remove_orphans();
  }
  if (!write_lines(log, &err) && !log->failed) {
    log->failed = true;
    fdw_warn(&err, "rejected rows are not logged");
  }
}

void fdw_errlog_add(struct fdw_errlog *log, const struct fdw_errlog_row *row)
{
  add_line(&log->lines, log->type, row);
  if (log->lines.len >= GATHER_BYTES)
    fdw_errlog_flush(log);
}

/* ---- reading ---- */

struct reading {
  Oid type;
  Tuplestorestate *rows;
  TupleDesc desc;
  MemoryContext row_context;
};

/* Undoes add_field in place; returns the length. */
static size_t unescape(char *p)
{
  char *to = p;
  for (const char *from = p; *from != '\0'; from++) {
    char c = *from;
    if (c == '\\' && from[1] != '\0') {
      c = *++from;
      c = c == 't' ? '\t' : c == 'n' ? '\n' : c == '0' ? '\0' : c;
    }
    *to++ = c;
  }
  *to = '\0';
  return (size_t)(to - p);
}

/* Cuts `line` (without its newline) at the tabs. False: not a whole line of ours. */
static bool cut(char *line, size_t len, char *fields[FIELDS])
{
  char *crc = line + len, *end;
  while (crc > line && crc[-1] != '\t')
    crc--;
  unsigned long said = strtoul(crc, &end, 16);
  if (end != line + len || crc_of(line, (size_t)(crc - line)) != (pg_crc32c)said)
    return false;
  int count = 0;
  for (char *p = line; p != NULL && count < FIELDS; count++) {
    fields[count] = p;
    p = strchr(p, '\t');
    if (p != NULL)
      *p++ = '\0';
  }
  return count == FIELDS;
}

static Datum to_text(char *p)
{
  return PointerGetDatum(cstring_to_text_with_len(p, (int)unescape(p)));
}

static void read_line(const struct reading *r, char *line, size_t len)
{
  char *f[FIELDS];
  Datum values[8];
  bool nulls[8] = {false};
  if (!cut(line, len, f) || strtoul(f[0], NULL, 10) != r->type)
    return;
  MemoryContext old = MemoryContextSwitchTo(r->row_context);
  values[0] = TimestampTzGetDatum(strtoll(f[1], NULL, 10));
  values[1] = to_text(f[2]);
  values[2] = to_text(f[3]);
  values[3] = Int64GetDatum(strtoll(f[4], NULL, 10));
  values[4] = Int64GetDatum(strtoll(f[5], NULL, 10));
  values[5] = to_text(f[6]);
  bool is_text = f[7][0] == 't';
  nulls[6] = !is_text;
  nulls[7] = is_text;
  if (is_text) {
    values[6] = to_text(f[8]);
  } else {
    size_t n = unescape(f[8]);
    values[7] = PointerGetDatum(cstring_to_text_with_len(f[8], (int)n)); /* as a bytea */
  }
  tuplestore_putvalues(r->rows, r->desc, values, nulls);
  MemoryContextSwitchTo(old);
  MemoryContextReset(r->row_context);
}

/* The lines of an open file; one that is longer than any of ours is passed over. */
static void read_file(const struct reading *r, int fd)
{
  char *buffer = palloc(LINE_BYTES);
  size_t len = 0;
  bool skipping = false;
  ssize_t n;
  while ((n = read(fd, buffer + len, LINE_BYTES - len)) > 0) {
    char *from = buffer, *end = buffer + len + n, *newline;
    CHECK_FOR_INTERRUPTS();
    while ((newline = memchr(from, '\n', (size_t)(end - from))) != NULL) {
      *newline = '\0';
      if (!skipping)
        read_line(r, from, (size_t)(newline - from));
      skipping = false;
      from = newline + 1;
    }
    len = (size_t)(end - from);
    if (len == LINE_BYTES) {
      skipping = true;
      len = 0;
    }
    memmove(buffer, from, len);
  }
  if (n < 0)
    ereport(ERROR, (errcode_for_file_access(), errmsg("could not read error log: %m")));
  pfree(buffer);
}

void fdw_errlog_read(Oid relid, Tuplestorestate *rows, TupleDesc desc)
{
  struct reading r = {.type = get_rel_type_id(relid), .rows = rows, .desc = desc};
  char name[NAME_BYTES], path[MAXPGPATH];
  struct tm_error err;
  int files[2];
  struct stat st;
  if (stat(DIRECTORY, &st) != 0)
    return;
  make_name(name, MyDatabaseId, relid);
  int lock = fdw_errfile_lock(DIRECTORY, true, &err);
  if (lock < 0)
    fdw_raise(&err);
  PG_TRY();
  {
    for (int i = 0; i < 2; i++) {
      snprintf(path, sizeof path, "%s/%s%s", DIRECTORY, name, i == 0 ? ".1" : "");
      files[i] = OpenTransientFile(path, O_RDONLY | PG_BINARY);
      if (files[i] < 0 && errno != ENOENT)
        ereport(ERROR, (errcode_for_file_access(),
                        errmsg("could not open file \"%s\": %m", path)));
    }
  }
  PG_FINALLY();
  {
    close(lock);
  }
  PG_END_TRY();
  r.row_context = AllocSetContextCreate(CurrentMemoryContext, "oss_fdw error log",
                                        ALLOCSET_DEFAULT_SIZES);
  for (int i = 0; i < 2; i++) {
    if (files[i] < 0)
      continue;
    read_file(&r, files[i]);
    CloseTransientFile(files[i]);
  }
  MemoryContextDelete(r.row_context);
}

/* ---- removing ---- */

static void remove_log(Oid database, Oid relid, bool *was)
{
  char name[NAME_BYTES];
  struct tm_error err;
  make_name(name, database, relid);
  if (!fdw_errfile_remove(DIRECTORY, name, was, &err))
    fdw_raise(&err);
}

bool fdw_errlog_truncate(Oid relid)
{
  bool was;
  remove_log(MyDatabaseId, relid, &was);
  return was;
}

void fdw_errlog_truncate_all(Oid database)
{
  struct dirent *entry;
  struct stat st;
  Oid of, relid;
  bool was;
  if (stat(DIRECTORY, &st) != 0)
    return;
  DIR *dir = AllocateDir(DIRECTORY);
  while ((entry = ReadDir(dir, DIRECTORY)) != NULL)
    if (parse_name(entry->d_name, &of, &relid) &&
        (database == InvalidOid || of == database))
      remove_log(of, relid, &was);
  FreeDir(dir);
}
