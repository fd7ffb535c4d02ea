/*
** pg_wait.c: waiting for the server, and stopping what it does
**
** Every wait is a tm_clock_poll, so it ends when the session's token or the process's
** interrupt fires, or at the deadline. Stopping is different: it must also work after an
** interrupt, so it uses poll with short limits of its own.
**
** PQcancel opens a connection of its own and blocks until the postmaster closes it; when the
** far side hangs, for ever. So it runs in a detached thread that owns all it needs, and we
** wait for that thread only so long. A request that reaches the server before it has begun the
** statement does nothing there, so requests are repeated until the statement ends.
*/
#include "driver/pg_impl.h"

#include <errno.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/thread.h"

enum { CANCEL_MS = 3000, DRAIN_MS = 3000, RECANCEL_MS = 100 };

bool pg_ready(struct tm_pg *pg, struct tm_error *err)
{
  if (pg->conn == NULL) {
    tm_error_set(err, TM_EUSAGE, "connection is closed");
    return false;
  }
  switch (atomic_load(&pg->use)) {
  case PG_ROWS:
    tm_error_set(err, TM_EUSAGE,
                 "connection is busy: rows of a query are still being read");
    tm_error_hint(err, "read them to the end or close the iteration; or open a second "
                       "connection");
    return false;
  case PG_COPY:
    tm_error_set(err, TM_EUSAGE, "connection is busy: a COPY stream is open on it");
    tm_error_hint(err, "end or close the stream first; or open a second connection");
    return false;
  default:
    break;
  }
  if (atomic_load(&pg->broken) || PQstatus(pg->conn) == CONNECTION_BAD) {
    tm_error_set(err, TM_EIO, "connection is lost: an earlier call broke it");
    return false;
  }
  return true;
}

int64_t pg_deadline(const struct tm_pg *pg)
{
  int64_t ms = atomic_load(&pg->timeout_ms);
  return tm_clock_deadline(ms > 0 ? ms : -1);
}

int pg_poll_ms(struct tm_pg *pg, short events, int64_t ms, struct tm_error *err)
{
  int (*wait)(int, short, int64_t, const struct tm_cancel *, struct tm_error *) =
      pg->background ? tm_clock_poll_on : tm_clock_poll;
  return wait(PQsocket(pg->conn), events, ms, &pg->cancel, err);
}

int pg_poll(struct tm_pg *pg, short events, int64_t deadline, struct tm_error *err)
{
  int revents = pg_poll_ms(pg, events, tm_clock_left(deadline), err);
  if (revents != 0)
    return revents;
  tm_error_set(err, TM_ETIMEOUT, "no answer from the server within %lld ms",
               (long long)atomic_load(&pg->timeout_ms));
  return -1;
}

bool pg_wait(struct tm_pg *pg, int64_t deadline, struct tm_error *err)
{
  for (;;) {
    int pending = PQflush(pg->conn);
    if (!PQisBusy(pg->conn) && pending <= 0)
      return true; /* also when flushing failed: the result will say why */
    if (PQstatus(pg->conn) == CONNECTION_BAD)
      return true;
    short events = pending > 0 ? POLLIN | POLLOUT : POLLIN;
    int revents = pg_poll(pg, events, deadline, err);
    if (revents < 0)
      return false;
    if ((revents & ~POLLOUT) != 0 && PQconsumeInput(pg->conn) == 0)
      return true;
  }
}

int pg_next(struct tm_pg *pg, int64_t deadline, PGresult **res, struct tm_error *err)
{
  *res = NULL;
  if (!pg_wait(pg, deadline, err))
    return -1;
  *res = PQgetResult(pg->conn);
  return *res != NULL;
}

/* ---- stopping ---- */

void pg_uncancel(struct tm_pg *pg)
{
  uint64_t n;
  if (pg->cancel.fd >= 0 && read(pg->cancel.fd, &n, sizeof n) < 0)
    n = 0; /* it was not fired */
  atomic_store(&pg->cancel.fired, 0);
}

struct canceller {      /* shared by the waiter and the thread; the last one frees it */
  pthread_mutex_t lock; /* guards done and refs */
  pthread_cond_t changed;
  PGcancel *request;
  bool done;
  int refs;
};

static void canceller_unref(struct canceller *c)
{
  pthread_mutex_lock(&c->lock);
  int left = --c->refs;
  pthread_mutex_unlock(&c->lock);
  if (left > 0)
    return;
  PQfreeCancel(c->request);
  pthread_cond_destroy(&c->changed);
  pthread_mutex_destroy(&c->lock);
  free(c);
}

static void *canceller_main(void *arg)
{
  struct canceller *c = arg;
  char why[256];
  (void)PQcancel(c->request, why, sizeof why); /* draining shows whether it worked */
  pthread_mutex_lock(&c->lock);
  c->done = true;
  pthread_cond_signal(&c->changed);
  pthread_mutex_unlock(&c->lock);
  canceller_unref(c);
  return NULL;
}

static struct canceller *canceller_new(PGconn *conn)
{
  struct canceller *c = calloc(1, sizeof *c);
  if (c == NULL)
    return NULL;
  c->refs = 1;
  c->request = PQgetCancel(conn);
  pthread_mutex_init(&c->lock, NULL);
  pthread_condattr_t attr;
  pthread_condattr_init(&attr);
  pthread_condattr_setclock(&attr, CLOCK_MONOTONIC);
  pthread_cond_init(&c->changed, &attr);
  pthread_condattr_destroy(&attr);
  return c;
}

static void wait_done(struct canceller *c)
{
  struct timespec until;
  clock_gettime(CLOCK_MONOTONIC, &until);
  until.tv_sec += CANCEL_MS / 1000;
  pthread_mutex_lock(&c->lock);
  while (!c->done)
    if (pthread_cond_timedwait(&c->changed, &c->lock, &until) == ETIMEDOUT)
      break;
  pthread_mutex_unlock(&c->lock);
}

/* Asks the server to cancel; returns when it was told, or after CANCEL_MS. */
static void request_cancel(PGconn *conn)
{
  struct canceller *c = canceller_new(conn);
  if (c == NULL)
    return;
  c->refs = 2;
  if (c->request != NULL && tm_thread_start(NULL, canceller_main, c) == 0)
    wait_done(c);
  else
    c->refs = 1;
  canceller_unref(c);
}

/* One step of draining: drops what has arrived. Returns 1 when all has ended, 0 when more
** must be waited for. */
static int drop_arrived(PGconn *conn, bool *well)
{
  while (!PQisBusy(conn)) {
    PGresult *res = PQgetResult(conn);
    if (res == NULL)
      return 1;
    ExecStatusType status = PQresultStatus(res);
    PQclear(res);
    if (status == PGRES_COPY_OUT || status == PGRES_COPY_BOTH) {
      char *row = NULL;
      int n;
      while ((n = PQgetCopyData(conn, &row, 1)) > 0)
        PQfreemem(row);
      if (n == 0)
        return 0;
    } else if (status == PGRES_COPY_IN) {
      if (PQputCopyEnd(conn, "cancelled") == 0)
        return 0;
    } else {
      *well = status == PGRES_COMMAND_OK || status == PGRES_TUPLES_OK;
    }
  }
  return 0;
}

/* Drains until `deadline`; *well is whether the last result so far was a good one. */
static enum pg_ending drain_until(struct tm_pg *pg, int64_t deadline, bool *well)
{
  while (PQstatus(pg->conn) != CONNECTION_BAD) {
    int pending = PQflush(pg->conn);
    if (drop_arrived(pg->conn, well) > 0)
      return PQstatus(pg->conn) == CONNECTION_BAD ? PG_LOST
                                                  : (*well ? PG_ENDED_WELL : PG_ENDED);
    int64_t left = deadline - tm_clock_mono_ms();
    if (left <= 0)
      return PG_LOST;
    struct pollfd fd = {.fd = PQsocket(pg->conn),
                        .events = pending > 0 ? POLLIN | POLLOUT : POLLIN};
    int n = poll(&fd, 1, (int)left);
    if (n > 0 && (fd.revents & ~POLLOUT) != 0 && PQconsumeInput(pg->conn) == 0 &&
        PQstatus(pg->conn) == CONNECTION_BAD)
      return PG_LOST;
  }
  return PG_LOST;
}

enum pg_ending pg_drain(struct tm_pg *pg, int64_t ms)
{
  bool well = false;
  return drain_until(pg, tm_clock_mono_ms() + ms, &well);
}

/* Asks the server to cancel, and again after growing pauses, until the statement has ended. */
static enum pg_ending cancel_and_drain(struct tm_pg *pg)
{
  bool well = false;
  int64_t pause = RECANCEL_MS, deadline = tm_clock_mono_ms() + DRAIN_MS;
  for (;;) {
    request_cancel(pg->conn);
    int64_t now = tm_clock_mono_ms();
    int64_t until = now + pause < deadline ? now + pause : deadline;
    enum pg_ending ending = drain_until(pg, until, &well);
    if (ending != PG_LOST || PQstatus(pg->conn) == CONNECTION_BAD || until == deadline)
      return ending;
    pause *= 2;
  }
}

void pg_drop(struct tm_pg *pg)
{
  atomic_store(&pg->broken, true);
  if (pg->conn != NULL && PQsocket(pg->conn) >= 0)
    shutdown(PQsocket(pg->conn), SHUT_RDWR); /* PQfinish then cannot block, nor commit */
}

bool pg_lost_in_flight(const struct tm_pg *pg, const struct tm_error *err)
{
  bool was_idle = strcmp(err->code, "25P03") == 0 || strcmp(err->code, "57P05") == 0;
  return (atomic_load(&pg->broken) || PQstatus(pg->conn) == CONNECTION_BAD) && !was_idle;
}

enum pg_ending pg_stop(struct tm_pg *pg, bool cancel)
{
  enum pg_ending ending = PG_LOST;
  const int at_once = 1; /* a COPY under way may have asked to be woken for much only */
  if (PQsocket(pg->conn) >= 0)
    (void)setsockopt(PQsocket(pg->conn), SOL_SOCKET, SO_RCVLOWAT, &at_once,
                     sizeof at_once);
  if (PQstatus(pg->conn) != CONNECTION_BAD && !pg->background) {
    ending = cancel ? cancel_and_drain(pg) : pg_drain(pg, DRAIN_MS);
  }
  if (ending == PG_LOST)
    pg_drop(pg);
  pg_uncancel(pg);
  return ending;
}
