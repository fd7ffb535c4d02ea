/*
** pg_copy.c: what COPY streams of both directions have in common
**
** Each call of a stream holds the session's lock, so that the session may be closed from the
** thread that owns it while a pump's thread is in there. A stream keeps the struct alive
** (pg_unref).
*/
#include "driver/pg_copy.h"

#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

enum { BATCH_BYTES = 256 * 1024 };

bool pg_copy_start(struct pg_copy *c, struct tm_pg *pg, const char *sql,
                   struct tm_error *err)
{
  if (!pg_ready(pg, err))
    return false;
  c->sql = strdup(sql);
  if (c->sql == NULL) {
    tm_error_set(err, TM_EMEMORY, "out of memory");
    return false;
  }
  if (!pg_send(pg, sql, NULL, NULL, err))
    return false;
  c->pg = pg;
  c->in_tx = pg->in_tx;
  c->rows = -1;
  atomic_init(&c->cancelled, false);
  atomic_fetch_add(&pg->refs, 1);
  atomic_store(&pg->use, PG_COPY);
  return true;
}

void pg_copy_batch(struct pg_copy *c, bool on)
{
  int bytes = on ? BATCH_BYTES : 1;
  if (c->batch == on || c->pg->conn == NULL)
    return;
  c->batch = setsockopt(PQsocket(c->pg->conn), SOL_SOCKET, SO_RCVLOWAT, &bytes,
                        sizeof bytes) == 0 &&
             on;
}

void pg_copy_detach(struct pg_copy *c, enum pg_copy_state state)
{
  pg_copy_batch(c, false);
  pthread_mutex_lock(&c->gate);
  if (c->state == PG_COPY_OPEN && atomic_load(&c->cancelled))
    pg_uncancel(c->pg);
  if (c->state == PG_COPY_OPEN)
    atomic_store(&c->pg->use, PG_FREE);
  c->state = state;
  pthread_mutex_unlock(&c->gate);
}

bool pg_copy_stop(struct pg_copy *c)
{
  pg_copy_batch(c, false);
  (void)pg_stop(c->pg, true);
  pg_copy_detach(c, PG_COPY_FAILED);
  return false;
}

bool pg_copy_begin(struct pg_copy *c, ExecStatusType want, struct tm_error *err)
{
  PGresult *res = NULL;
  int got = pg_next(c->pg, pg_deadline(c->pg), &res, err);
  ExecStatusType status = got > 0 ? PQresultStatus(res) : PGRES_EMPTY_QUERY;
  c->begun = got > 0 && status == want;
  if (got > 0 && status == PGRES_FATAL_ERROR)
    pg_error_result(c->pg, res, c->sql, err);
  else if (got >= 0 && !c->begun)
    tm_error_set(err, TM_EUSAGE, "not a COPY %s: %.60s",
                 want == PGRES_COPY_OUT ? "... TO STDOUT" : "... FROM STDIN", c->sql);
  else if (got < 0)
    pg_error_sql(err, c->sql, 0);
  PQclear(res);
  if (c->begun)
    return true;
  (void)pg_stop(c->pg, got < 0 || status != PGRES_FATAL_ERROR);
  pg_copy_detach(c, PG_COPY_FAILED);
  return false;
}

bool pg_copy_check(struct pg_copy *c, struct tm_error *err)
{
  if (c->state == PG_COPY_OPEN && c->pg->conn == NULL) {
    pg_copy_detach(c, PG_COPY_FAILED);
    tm_error_set(err, TM_EIO, "connection is closed");
    return false;
  }
  if (atomic_load(&c->cancelled) ||
      (c->state == PG_COPY_OPEN &&
       (tm_cancel_fired(&c->pg->cancel) || tm_cancel_fired(tm_interrupt())))) {
    tm_error_set(err, TM_ECANCELED, "cancelled");
    return c->state == PG_COPY_OPEN ? pg_copy_stop(c) : false;
  }
  if (c->state == PG_COPY_FAILED)
    tm_error_set(err, TM_EIO, "the COPY failed before");
  return c->state != PG_COPY_FAILED;
}

bool pg_copy_confirm(struct pg_copy *c, struct tm_error *err)
{
  bool confirmed = false, failed = false;
  PGresult *res = NULL;
  int got;
  pg_copy_batch(c, false);
  while ((got = pg_next(c->pg, pg_deadline(c->pg), &res, err)) > 0) {
    ExecStatusType status = PQresultStatus(res);
    if (status == PGRES_COMMAND_OK) {
      confirmed = true;
      c->rows = strtoll(PQcmdTuples(res), NULL, 10);
    } else if (status == PGRES_COPY_IN || status == PGRES_COPY_OUT) {
      PQclear(res);
      tm_error_set(err, TM_EUSAGE,
                   "a second COPY follows the first: give them one by one");
      return false;
    } else if (!failed) {
      pg_error_result(c->pg, res, c->sql, err);
      failed = true;
    }
    PQclear(res);
  }
  if (got < 0)
    return false;
  if (PQstatus(c->pg->conn) == CONNECTION_BAD)
    pg_drop(c->pg);
  if (!failed && !confirmed)
    tm_error_set(err, TM_EPROTOCOL, "the server did not confirm the COPY");
  pg_copy_detach(c, confirmed && !failed ? PG_COPY_ENDED : PG_COPY_FAILED);
  return c->state == PG_COPY_ENDED;
}

bool pg_copy_ended(struct pg_copy *c, struct tm_error *err)
{
  return pg_copy_confirm(c, err) || (c->state == PG_COPY_OPEN && pg_copy_stop(c));
}

void pg_copy_cancel(struct pg_copy *c)
{
  pthread_mutex_lock(&c->gate);
  atomic_store(&c->cancelled, true);
  if (c->state == PG_COPY_OPEN)
    tm_cancel_fire(&c->pg->cancel);
  pthread_mutex_unlock(&c->gate);
}

void pg_copy_release(struct pg_copy *c)
{
  if (c->pg != NULL)
    pg_unref(c->pg);
  pthread_mutex_destroy(&c->gate);
  free(c->sql);
}
