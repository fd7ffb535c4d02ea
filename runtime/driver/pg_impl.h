/*
** pg_impl.h: what the files of the PostgreSQL driver share; nobody else includes it
**
** Names with one underscore after pg (pg_wait, pg_stop) are the driver's own.
*/
#ifndef TM_DRIVER_PG_IMPL_H
#define TM_DRIVER_PG_IMPL_H

#include <libpq-fe.h>
#include <pthread.h>
#include <stdatomic.h>

#include "base/buffer.h"
#include "driver/pg.h"

enum pg_use { PG_FREE, PG_ROWS, PG_COPY }; /* who has the session for itself */

enum { PG_FORGOTTEN = 64 }; /* prepared statements that wait to be deallocated */

struct tm_pg {
  pthread_mutex_t lock; /* held by a COPY stream in each of its calls, and by close: it
                           guards conn against a close in the middle of a stream's call */
  PGconn *conn;         /* NULL once closed */
  atomic_int refs;      /* the owner, and each open stream */
  atomic_int use;       /* enum pg_use */
  atomic_bool broken;   /* lost or dropped: never used again */
  struct tm_cancel cancel;
  _Atomic int64_t timeout_ms; /* 0: none */
  int pid;
  bool pooled, greenplum, background;
  char backend_start[48];
  char version_text[256];
  void (*notice)(void *data, const struct tm_pg_notice *notice);
  void *notice_data;
  unsigned prepared; /* statements prepared so far */
  unsigned forgotten[PG_FORGOTTEN];
  int forgotten_count;
  bool in_tx;     /* what was sent last ran inside a transaction block */
  char *rows_sql; /* of the iteration, for its errors; malloc'd */
};

struct tm_pg_result {
  PGresult *res;
};

/* ---- pg_connect.c ---- */

/* Drops one reference; the last frees the struct. */
void pg_unref(struct tm_pg *pg);

/* ---- pg_wait.c ---- */

/* Whether a statement may start; false with *err set. */
bool pg_ready(struct tm_pg *pg, struct tm_error *err) TM_MUSTCHECK;

/* Monotonic ms at which a statement that starts now must have ended; -1: never. */
int64_t pg_deadline(const struct tm_pg *pg);

/* As pg_poll, for at most `ms` and whatever the deadline: 0 when they are over. */
int pg_poll_ms(struct tm_pg *pg, short events, int64_t ms, struct tm_error *err)
    TM_MUSTCHECK;

/* Waits for `events` on the session's socket. Returns revents, or -1 with TM_ECANCELED,
** TM_ETIMEOUT or TM_ESYSTEM. Nothing is cancelled at the server yet. */
int pg_poll(struct tm_pg *pg, short events, int64_t deadline, struct tm_error *err)
    TM_MUSTCHECK;

/* Sends what is queued, then waits until PQgetResult would not block. False: the wait was
** cut short (a lost connection is told by the next result, not here). */
bool pg_wait(struct tm_pg *pg, int64_t deadline, struct tm_error *err) TM_MUSTCHECK;

/* 1: *res is the next result, the caller's; 0: the statement has ended; -1: the wait was
** cut short, *err set: call pg_stop. */
int pg_next(struct tm_pg *pg, int64_t deadline, PGresult **res, struct tm_error *err)
    TM_MUSTCHECK;

enum pg_ending {
  PG_ENDED_WELL, /* its last result was a success */
  PG_ENDED,      /* it failed, or was cancelled */
  PG_LOST,       /* it would not end: the session is dropped */
};

/* Ends whatever is under way: cancels it at the server (unless `cancel` is false) and reads
** what is left, each for a few seconds, whatever has been interrupted. Unfires the
** session's token, for this was its work. */
enum pg_ending pg_stop(struct tm_pg *pg, bool cancel);

/* Reads and drops what is left for at most `ms`. */
enum pg_ending pg_drain(struct tm_pg *pg, int64_t ms);

/* Closes the socket and marks the session broken. */
void pg_drop(struct tm_pg *pg);

/* Whether the session was lost so that what was sent last may yet have been done. Not so
** when the server says it had been idle; an administrator's FATAL leaves it open, for a
** commit that waits for a standby ends in the same way. */
bool pg_lost_in_flight(const struct tm_pg *pg, const struct tm_error *err);

/* Unfires the session's token. */
void pg_uncancel(struct tm_pg *pg);

/* ---- pg_error.c ---- */

/* The server's error in `res`, or libpq's when it has none. `sql` may be NULL. */
void pg_error_result(struct tm_pg *pg, const PGresult *res, const char *sql,
                     struct tm_error *err);

/* A call of libpq failed without a result. */
void pg_error_conn(struct tm_pg *pg, struct tm_error *err);

/* A connection that did not come about. `conn` may be NULL. */
void pg_error_connect(PGconn *conn, struct tm_error *err);

/* A conninfo that libpq could not parse; `message` is libpq's and is scrubbed. */
void pg_error_conninfo(const char *message, struct tm_error *err);

/* Adds what is known about the SQL: the line with a caret under `position` (1-based, in
** characters; 0: unknown), else its beginning. Literals that follow words such as password,
** secret or key are masked. */
void pg_error_sql(struct tm_error *err, const char *sql, size_t position);

/* ---- pg.c ---- */

/* Sends a query; NULL params: simple text. False with *err set. */
bool pg_send(struct tm_pg *pg, const char *sql, const char *prepared,
             const struct tm_pg_params *params, struct tm_error *err) TM_MUSTCHECK;

/* The last result of what was sent, all in memory; NULL with *err set. */
PGresult *pg_collect(struct tm_pg *pg, const char *sql, struct tm_error *err)
    TM_MUSTCHECK;

#endif
