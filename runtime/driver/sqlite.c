/*
** sqlite.c: one SQLite database file
**
** Prepared statements are kept by their text in a small table, oldest replaced first: the state
** store repeats some dozens of texts thousands of times.
*/
#include "driver/sqlite.h"

#include <sqlite3.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "base/clock.h"

enum { CACHE = 64 };

struct tm_sqlite_stmt {
  sqlite3_stmt *stmt; /* its database is sqlite3_db_handle(stmt); NULL: a free entry */
};

struct tm_sqlite {
  sqlite3 *db;
  int busy_ms;
  int64_t busy_until;
  size_t next; /* the entry that is replaced next */
  struct tm_sqlite_stmt cache[CACHE];
};

static const struct {
  int code; /* primary result code */
  enum tm_kind kind;
} kinds[] = {
    {SQLITE_NOMEM, TM_EMEMORY},      {SQLITE_BUSY, TM_ETIMEOUT},
    {SQLITE_LOCKED, TM_ETIMEOUT},    {SQLITE_CONSTRAINT, TM_ECONFLICT},
    {SQLITE_IOERR, TM_EIO},          {SQLITE_FULL, TM_EIO},
    {SQLITE_CORRUPT, TM_EINTEGRITY}, {SQLITE_NOTADB, TM_EINTEGRITY},
    {SQLITE_CANTOPEN, TM_ESYSTEM},   {SQLITE_READONLY, TM_ESYSTEM},
    {SQLITE_PERM, TM_ESYSTEM},       {SQLITE_MISUSE, TM_EUSAGE},
};

static const char *code_name(int extended)
{
  switch (extended) {
  case SQLITE_CONSTRAINT_UNIQUE:
    return "SQLITE_CONSTRAINT_UNIQUE";
  case SQLITE_CONSTRAINT_PRIMARYKEY:
    return "SQLITE_CONSTRAINT_PRIMARYKEY";
  case SQLITE_CONSTRAINT_FOREIGNKEY:
    return "SQLITE_CONSTRAINT_FOREIGNKEY";
  case SQLITE_CONSTRAINT_NOTNULL:
    return "SQLITE_CONSTRAINT_NOTNULL";
  case SQLITE_CONSTRAINT_CHECK:
    return "SQLITE_CONSTRAINT_CHECK";
  default:
    return (extended & 0xff) == SQLITE_BUSY ? "SQLITE_BUSY" : "";
  }
}

static void fail(sqlite3 *db, const char *what, struct tm_error *err)
{
  int extended = sqlite3_extended_errcode(db);
  enum tm_kind kind = TM_ESQL;
  for (size_t i = 0; i < sizeof kinds / sizeof kinds[0]; i++)
    if (kinds[i].code == (extended & 0xff))
      kind = kinds[i].kind;
  tm_error_set(err, kind, "%s: %s", what, sqlite3_errmsg(db));
  snprintf(err->code, sizeof err->code, "%s", code_name(extended));
}

/* SQLite's own handler sleeps up to 100 ms between two tries; beside processes that write
** without a rest, one that looks so seldom has been passed over for 30 s. */
static int wait_for_writer(void *arg, int tries)
{
  struct tm_sqlite *db = arg;
  if (tries == 0)
    db->busy_until = tm_clock_deadline(db->busy_ms);
  if (tm_clock_left(db->busy_until) == 0)
    return 0;
  struct timespec pause = {.tv_nsec = tries < 100 ? 300000 : 2000000};
  nanosleep(&pause, NULL);
  return 1;
}

/* Of two that turn a new file into one with a log at the same time SQLite refuses one, without
** asking the handler: whoever waits there could wait for ever. Here nothing is held yet. */
static bool configure(struct tm_sqlite *db, struct tm_error *err)
{
  const char *settings = "PRAGMA journal_mode = WAL; PRAGMA synchronous = NORMAL;"
                         "PRAGMA foreign_keys = ON";
  int64_t until = tm_clock_deadline(db->busy_ms);
  while (!tm_sqlite_exec(db, settings, err)) {
    if ((sqlite3_errcode(db->db) & 0xff) != SQLITE_BUSY || tm_clock_left(until) == 0)
      return false;
    nanosleep(&(struct timespec){.tv_nsec = 1000000}, NULL);
  }
  return true;
}

struct tm_sqlite *tm_sqlite_open(const char *path, int busy_ms, struct tm_error *err)
{
  struct tm_sqlite *db = calloc(1, sizeof *db);
  if (db == NULL) {
    tm_error_set(err, TM_EMEMORY, "out of memory");
    return NULL;
  }
  int flags = SQLITE_OPEN_READWRITE | SQLITE_OPEN_CREATE | SQLITE_OPEN_NOMUTEX;
  if (sqlite3_open_v2(path, &db->db, flags, NULL) != SQLITE_OK) {
    if (db->db != NULL)
      fail(db->db, "cannot open", err);
    else
      tm_error_set(err, TM_EMEMORY, "out of memory");
    tm_error_prefix(err, "%s", path);
    tm_sqlite_close(db);
    return NULL;
  }
  sqlite3_extended_result_codes(db->db, 1);
  db->busy_ms = busy_ms;
  sqlite3_busy_handler(db->db, wait_for_writer, db);
  if (!configure(db, err)) {
    tm_error_prefix(err, "%s", path);
    tm_sqlite_close(db);
    return NULL;
  }
  return db;
}

void tm_sqlite_close(struct tm_sqlite *db)
{
  if (db == NULL)
    return;
  for (size_t i = 0; i < CACHE; i++)
    sqlite3_finalize(db->cache[i].stmt);
  sqlite3_close(db->db);
  free(db);
}

bool tm_sqlite_exec(struct tm_sqlite *db, const char *sql, struct tm_error *err)
{
  if (sqlite3_exec(db->db, sql, NULL, NULL, NULL) == SQLITE_OK)
    return true;
  fail(db->db, "sqlite", err);
  return false;
}

bool tm_sqlite_in_transaction(const struct tm_sqlite *db)
{
  return sqlite3_get_autocommit(db->db) == 0;
}

int64_t tm_sqlite_changes(const struct tm_sqlite *db)
{
  return sqlite3_changes64(db->db);
}

/* ---- statements ---- */

static struct tm_sqlite_stmt *find(struct tm_sqlite *db, const char *sql, size_t len)
{
  for (size_t i = 0; i < CACHE; i++) {
    const char *text = db->cache[i].stmt != NULL ? sqlite3_sql(db->cache[i].stmt) : NULL;
    if (text != NULL && strlen(text) == len && memcmp(text, sql, len) == 0)
      return &db->cache[i];
  }
  return NULL;
}

/* Only blanks and semicolons may follow the statement. */
static bool is_blank(const char *s, const char *end)
{
  while (s < end && strchr(" \t\r\n;", *s) != NULL && *s != '\0')
    s++;
  return s == end;
}

struct tm_sqlite_stmt *tm_sqlite_prepare(struct tm_sqlite *db, const char *sql,
                                         size_t len, struct tm_error *err)
{
  struct tm_sqlite_stmt *st = find(db, sql, len);
  if (st != NULL) {
    sqlite3_reset(st->stmt);
    sqlite3_clear_bindings(st->stmt);
    return st;
  }
  sqlite3_stmt *stmt = NULL;
  const char *tail = NULL;
  if (len > INT32_MAX) {
    tm_error_set(err, TM_EUSAGE, "sqlite: a statement of %zu bytes is too long", len);
    return NULL;
  }
  if (sqlite3_prepare_v3(db->db, sql, (int)len, SQLITE_PREPARE_PERSISTENT, &stmt,
                         &tail) != SQLITE_OK) {
    fail(db->db, "sqlite", err);
    tm_error_detail(err, "%s", sql);
    return NULL;
  }
  if (stmt == NULL || !is_blank(tail, sql + len)) {
    sqlite3_finalize(stmt);
    tm_error_set(err, TM_EUSAGE, "sqlite: one statement at a time");
    tm_error_detail(err, "%s", sql);
    return NULL;
  }
  st = &db->cache[db->next];
  db->next = (db->next + 1) % CACHE;
  sqlite3_finalize(st->stmt);
  st->stmt = stmt;
  return st;
}

int tm_sqlite_params(const struct tm_sqlite_stmt *st)
{
  return sqlite3_bind_parameter_count(st->stmt);
}

static bool bound(struct tm_sqlite_stmt *st, int result, struct tm_error *err)
{
  if (result == SQLITE_OK)
    return true;
  fail(sqlite3_db_handle(st->stmt), "sqlite", err);
  return false;
}

bool tm_sqlite_bind_null(struct tm_sqlite_stmt *st, int i, struct tm_error *err)
{
  return bound(st, sqlite3_bind_null(st->stmt, i + 1), err);
}

bool tm_sqlite_bind_int(struct tm_sqlite_stmt *st, int i, int64_t value,
                        struct tm_error *err)
{
  return bound(st, sqlite3_bind_int64(st->stmt, i + 1, value), err);
}

bool tm_sqlite_bind_double(struct tm_sqlite_stmt *st, int i, double value,
                           struct tm_error *err)
{
  return bound(st, sqlite3_bind_double(st->stmt, i + 1, value), err);
}

bool tm_sqlite_bind_text(struct tm_sqlite_stmt *st, int i, const char *text, size_t len,
                         struct tm_error *err)
{
  int result =
      sqlite3_bind_text64(st->stmt, i + 1, text, len, SQLITE_TRANSIENT, SQLITE_UTF8);
  return bound(st, result, err);
}

int tm_sqlite_step(struct tm_sqlite_stmt *st, struct tm_error *err)
{
  int result = sqlite3_step(st->stmt);
  if (result == SQLITE_ROW)
    return 1;
  if (result == SQLITE_DONE)
    return 0;
  fail(sqlite3_db_handle(st->stmt), "sqlite", err);
  tm_error_detail(err, "%s", sqlite3_sql(st->stmt));
  return -1;
}

void tm_sqlite_reset(struct tm_sqlite_stmt *st)
{
  sqlite3_reset(st->stmt);
}

int tm_sqlite_columns(const struct tm_sqlite_stmt *st)
{
  return sqlite3_column_count(st->stmt);
}

const char *tm_sqlite_name(struct tm_sqlite_stmt *st, int i)
{
  const char *name = sqlite3_column_name(st->stmt, i);
  return name != NULL ? name : "";
}

enum tm_sqlite_type tm_sqlite_type(struct tm_sqlite_stmt *st, int i)
{
  switch (sqlite3_column_type(st->stmt, i)) {
  case SQLITE_NULL:
    return TM_SQLITE_NULL;
  case SQLITE_INTEGER:
    return TM_SQLITE_INT;
  case SQLITE_FLOAT:
    return TM_SQLITE_DOUBLE;
  default:
    return TM_SQLITE_TEXT;
  }
}

int64_t tm_sqlite_int(struct tm_sqlite_stmt *st, int i)
{
  return sqlite3_column_int64(st->stmt, i);
}

double tm_sqlite_double(struct tm_sqlite_stmt *st, int i)
{
  return sqlite3_column_double(st->stmt, i);
}

const char *tm_sqlite_text(struct tm_sqlite_stmt *st, int i, size_t *len)
{
  const char *text = (const char *)sqlite3_column_text(st->stmt, i);
  *len = (size_t)sqlite3_column_bytes(st->stmt, i);
  return text != NULL ? text : "";
}
