/*
** sqlite.h: one SQLite database file
**
** Opened in WAL mode with synchronous=NORMAL: a commit survives the death of the process, and the
** database stays whole if the machine dies. A connection belongs to one thread. Statements
** live as long as their connection and are finalised by it.
*/
#ifndef TM_DRIVER_SQLITE_H
#define TM_DRIVER_SQLITE_H

#include <stdint.h>

#include "base/error.h"

struct tm_sqlite;
struct tm_sqlite_stmt;

/* Opens or creates the file; ":memory:" is private to this connection. Waits up to
** `busy_ms` for other writers. NULL: TM_ESYSTEM, TM_EINTEGRITY (not a database). */
struct tm_sqlite *tm_sqlite_open(const char *path, int busy_ms, struct tm_error *err)
    TM_MUSTCHECK;
void tm_sqlite_close(struct tm_sqlite *db); /* NULL is fine */

/* Runs every statement of the text and drops their rows. */
bool tm_sqlite_exec(struct tm_sqlite *db, const char *sql, struct tm_error *err)
    TM_MUSTCHECK;

bool tm_sqlite_in_transaction(const struct tm_sqlite *db);

/* Rows changed by the last statement. */
int64_t tm_sqlite_changes(const struct tm_sqlite *db);

/* A statement, reset and without bindings, from a cache of the texts prepared so far; it is
** the connection's and is good until the next call with the same text. TM_EUSAGE when the
** text holds several statements. */
struct tm_sqlite_stmt *tm_sqlite_prepare(struct tm_sqlite *db, const char *sql,
                                         size_t len, struct tm_error *err) TM_MUSTCHECK;

/* Parameters and columns count from 0. Text is copied. */
int tm_sqlite_params(const struct tm_sqlite_stmt *st);
bool tm_sqlite_bind_null(struct tm_sqlite_stmt *st, int i, struct tm_error *err)
    TM_MUSTCHECK;
bool tm_sqlite_bind_int(struct tm_sqlite_stmt *st, int i, int64_t value,
                        struct tm_error *err) TM_MUSTCHECK;
bool tm_sqlite_bind_double(struct tm_sqlite_stmt *st, int i, double value,
                           struct tm_error *err) TM_MUSTCHECK;
bool tm_sqlite_bind_text(struct tm_sqlite_stmt *st, int i, const char *text, size_t len,
                         struct tm_error *err) TM_MUSTCHECK;

/* 1: a row is there, 0: done, -1: *err set. Kinds: TM_ECONFLICT for a broken constraint
** (code "SQLITE_CONSTRAINT..."), TM_ETIMEOUT when the database stayed locked, TM_EIO, TM_EINTEGRITY,
** TM_ESQL. */
int tm_sqlite_step(struct tm_sqlite_stmt *st, struct tm_error *err) TM_MUSTCHECK;

/* Ends the statement's run, so that it holds no lock. */
void tm_sqlite_reset(struct tm_sqlite_stmt *st);

enum tm_sqlite_type { TM_SQLITE_NULL, TM_SQLITE_INT, TM_SQLITE_DOUBLE, TM_SQLITE_TEXT };

int tm_sqlite_columns(const struct tm_sqlite_stmt *st);
const char *tm_sqlite_name(struct tm_sqlite_stmt *st, int i);
enum tm_sqlite_type tm_sqlite_type(struct tm_sqlite_stmt *st, int i);
int64_t tm_sqlite_int(struct tm_sqlite_stmt *st, int i);
double tm_sqlite_double(struct tm_sqlite_stmt *st, int i);

/* Text or blob; good until the next step or reset. */
const char *tm_sqlite_text(struct tm_sqlite_stmt *st, int i, size_t *len);

#endif
