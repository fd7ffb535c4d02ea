/*
** lease.c: a thread that keeps a runner's lease in the state store
**
** The thread and the owner share one struct; whoever lets go of it last frees it, so that a
** thread which hangs in a name lookup holds up nobody. No wait on the database is longer
** than a fifth of the lease, so several renewals fit into one even when some fail. A connection
** that failed is thrown away: the next try makes a new one.
*/
#include "lease/lease.h"

#include <inttypes.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "base/clock.h"
#include "base/thread.h"
#include "driver/digest.h"
#include "driver/pg.h"
#include "driver/sqlite.h"

enum { CLOSE_MS = 2000, RETRY_MS = 500, MIN_WAIT_MS = 200 };

struct tm_lease {
  enum tm_lease_store store;
  char *where, *runner;
  int64_t lease_ms, every_ms;

  pthread_mutex_t lock;   /* guards what follows */
  pthread_cond_t changed; /* stop or ended was set */
  int refs;               /* the owner and the thread */
  bool stop, ended, lost;
  int64_t renewed;      /* boot_ms() at which the last good renewal began */
  struct tm_error last; /* of the last renewal; TM_OK when it was good */
  struct tm_pg *pg;     /* set by the thread, under the lock; open: close may cancel it */
  struct tm_sqlite *sqlite; /* the thread's alone */
};

/* Unlike CLOCK_MONOTONIC it counts the time that the machine was suspended. */
static int64_t boot_ms(void)
{
  struct timespec ts;
  clock_gettime(CLOCK_BOOTTIME, &ts);
  return (int64_t)ts.tv_sec * 1000 + ts.tv_nsec / 1000000;
}

static struct timespec monotonic_in(int64_t ms)
{
  struct timespec ts;
  clock_gettime(CLOCK_MONOTONIC, &ts);
  ts.tv_sec += ms / 1000;
  ts.tv_nsec += ms % 1000 * 1000000;
  if (ts.tv_nsec >= 1000000000) {
    ts.tv_sec++;
    ts.tv_nsec -= 1000000000;
  }
  return ts;
}

/* ---- one renewal ---- */

static int64_t wait_ms(const struct tm_lease *l)
{
  int64_t ms = l->lease_ms / 5;
  return ms > MIN_WAIT_MS ? ms : MIN_WAIT_MS;
}

static void set_pg(struct tm_lease *l, struct tm_pg *pg)
{
  pthread_mutex_lock(&l->lock);
  l->pg = pg;
  pthread_mutex_unlock(&l->lock);
}

static void disconnect(struct tm_lease *l)
{
  struct tm_pg *pg = l->pg;
  set_pg(l, NULL);
  tm_pg_close(pg);
  tm_sqlite_close(l->sqlite);
  l->sqlite = NULL;
}

/* Rows touched, or -1 with *err set. */
static int64_t renew_postgres(struct tm_lease *l, struct tm_error *err)
{
  if (l->pg == NULL) {
    struct tm_pg_opts opts = {.conninfo = l->where,
                              .application_name = "tidemill lease",
                              .connect_timeout_ms = wait_ms(l),
                              .timeout_ms = wait_ms(l),
                              .statement_timeout_ms = wait_ms(l),
                              .background = true};
    struct tm_pg *pg = tm_pg_open(&opts, err);
    if (pg == NULL)
      return -1;
    set_pg(l, pg);
  }
  char lease[24];
  snprintf(lease, sizeof lease, "%" PRId64, l->lease_ms);
  const char *values[] = {lease, l->runner};
  struct tm_pg_params params = {.count = 2, .values = values};
  struct tm_pg_result *r =
      tm_pg_query(l->pg,
                  "UPDATE tidemill.runners SET lease_until ="
                  " (extract(epoch FROM clock_timestamp()) * 1000)::bigint + $1::bigint"
                  " WHERE id = $2 AND state = 'alive'",
                  &params, err);
  if (r == NULL)
    return -1;
  int64_t rows = tm_pg_affected(r);
  tm_pg_result_free(r);
  return rows;
}

static int64_t renew_sqlite(struct tm_lease *l, struct tm_error *err)
{
  static const char sql[] =
      "UPDATE runners SET lease_until = ? WHERE id = ? AND state = 'alive'";
  if (l->sqlite == NULL)
    l->sqlite = tm_sqlite_open(l->where, (int)wait_ms(l), err);
  if (l->sqlite == NULL)
    return -1;
  struct tm_sqlite_stmt *st = tm_sqlite_prepare(l->sqlite, sql, sizeof sql - 1, err);
  /* The time is read before the wait for other writers: the lease may only seem shorter. */
  if (st == NULL || !tm_sqlite_bind_int(st, 0, tm_clock_wall_ms() + l->lease_ms, err) ||
      !tm_sqlite_bind_text(st, 1, l->runner, strlen(l->runner), err))
    return -1;
  int result = tm_sqlite_step(st, err);
  tm_sqlite_reset(st);
  return result < 0 ? -1 : tm_sqlite_changes(l->sqlite);
}

/* Returns how long to wait before the next one; -1: never again. */
static int64_t renew(struct tm_lease *l)
{
  struct tm_error err = {.kind = TM_OK};
  int64_t began = boot_ms();
  int64_t rows =
      l->store == TM_LEASE_POSTGRES ? renew_postgres(l, &err) : renew_sqlite(l, &err);
  if (rows < 0)
    disconnect(l);
  pthread_mutex_lock(&l->lock);
  l->last = err;
  if (rows > 0)
    l->renewed = began;
  else if (rows == 0)
    l->lost = true;
  pthread_mutex_unlock(&l->lock);
  if (rows == 0)
    return -1;
  int64_t wait = rows < 0 && l->every_ms > RETRY_MS ? RETRY_MS : l->every_ms;
  int64_t left = rows < 0 ? wait : wait - (boot_ms() - began);
  return left > 0 ? left : 0;
}

/* ---- the thread ---- */

/* Waits so long unless it is to stop; whether it is. */
static bool wait_for_stop(struct tm_lease *l, int64_t ms)
{
  struct timespec until = monotonic_in(ms);
  pthread_mutex_lock(&l->lock);
  while (!l->stop && pthread_cond_timedwait(&l->changed, &l->lock, &until) == 0)
    continue;
  bool stop = l->stop;
  pthread_mutex_unlock(&l->lock);
  return stop;
}

/* Lets go of the struct, which the caller has locked. */
static void release(struct tm_lease *l)
{
  bool last = --l->refs == 0;
  pthread_mutex_unlock(&l->lock);
  if (!last)
    return;
  pthread_cond_destroy(&l->changed);
  pthread_mutex_destroy(&l->lock);
  tm_wipe(l->where, strlen(l->where));
  free(l->where);
  free(l->runner);
  free(l);
}

static void *lease_main(void *arg)
{
  struct tm_lease *l = arg;
  int64_t wait = 0;
  while (wait >= 0 && !wait_for_stop(l, wait))
    wait = renew(l);
  disconnect(l);
  pthread_mutex_lock(&l->lock);
  l->ended = true;
  pthread_cond_broadcast(&l->changed);
  release(l);
  return NULL;
}

static void init_lock(struct tm_lease *l)
{
  pthread_condattr_t attr;
  pthread_condattr_init(&attr);
  pthread_condattr_setclock(&attr, CLOCK_MONOTONIC);
  pthread_cond_init(&l->changed, &attr);
  pthread_condattr_destroy(&attr);
  pthread_mutex_init(&l->lock, NULL);
}

struct tm_lease *tm_lease_start(const struct tm_lease_opts *opts, struct tm_error *err)
{
  if (opts->every_ms <= 0 || opts->lease_ms <= opts->every_ms ||
      opts->lease_ms > INT64_C(86400000) || opts->age_ms < 0) {
    tm_error_set(err, TM_EUSAGE,
                 "a lease of %lld ms, renewed every %lld ms, makes no sense",
                 (long long)opts->lease_ms, (long long)opts->every_ms);
    return NULL;
  }
  struct tm_lease *l = calloc(1, sizeof *l);
  char *where = strdup(opts->where), *runner = strdup(opts->runner);
  if (l == NULL || where == NULL || runner == NULL) {
    free(l);
    free(where);
    free(runner);
    tm_error_set(err, TM_EMEMORY, "out of memory");
    return NULL;
  }
  *l = (struct tm_lease){.store = opts->store,
                         .where = where,
                         .runner = runner,
                         .lease_ms = opts->lease_ms,
                         .every_ms = opts->every_ms,
                         .refs = 2,
                         .renewed = boot_ms() - opts->age_ms};
  init_lock(l);
  int failed = tm_thread_start(NULL, lease_main, l);
  if (failed == 0)
    return l;
  tm_error_errno(err, TM_ESYSTEM, failed, "cannot start the lease's thread");
  l->refs = 1;
  pthread_mutex_lock(&l->lock);
  release(l);
  return NULL;
}

void tm_lease_close(struct tm_lease *l)
{
  if (l == NULL)
    return;
  struct timespec until = monotonic_in(CLOSE_MS);
  pthread_mutex_lock(&l->lock);
  l->stop = true;
  pthread_cond_broadcast(&l->changed);
  if (l->pg != NULL)
    tm_pg_cancel(l->pg);
  while (!l->ended && pthread_cond_timedwait(&l->changed, &l->lock, &until) == 0)
    continue;
  release(l);
}

/* ---- asking ---- */

bool tm_lease_held(struct tm_lease *l, struct tm_error *why)
{
  pthread_mutex_lock(&l->lock);
  int64_t age = boot_ms() - l->renewed;
  bool lost = l->lost;
  struct tm_error last = l->last;
  pthread_mutex_unlock(&l->lock);
  if (!lost && age < l->lease_ms)
    return true;
  if (lost) {
    tm_error_set(why, TM_ECONFLICT, "runner '%s' has lost its lease: it was taken over",
                 l->runner);
  } else {
    tm_error_set(why, TM_ETIMEOUT,
                 "runner '%s' could not renew its lease of %lld ms for %lld ms",
                 l->runner, (long long)l->lease_ms, (long long)age);
    if (last.kind != TM_OK)
      tm_error_detail(why, "%s", last.message);
  }
  return false;
}

int64_t tm_lease_age_ms(struct tm_lease *l)
{
  pthread_mutex_lock(&l->lock);
  int64_t age = boot_ms() - l->renewed;
  pthread_mutex_unlock(&l->lock);
  return age;
}
