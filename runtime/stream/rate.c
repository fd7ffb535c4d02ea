/*
** rate.c: a pace in bytes a second that several streams share, and the stage that keeps it
**
** Kept is the time at which the bucket will be, or was, out of debt: a take moves it on by the
** bytes' own time. After a pause it is behind now, by no more than the burst's time.
*/
#include "stream/rate.h"

#include <pthread.h>
#include <stdlib.h>

#include "base/clock.h"

struct tm_rate {
  uint64_t bytes_per_second;
  int64_t burst_us;

  pthread_mutex_t lock; /* guards what follows */
  bool begun;           /* a first take has told the time */
  int64_t even_us;      /* when what was taken is earned */
  uint64_t rest;        /* of the division: bytes not yet in even_us, times a million */
};

enum { SECOND_US = 1000000, BURST_US = SECOND_US / 4, MOST_SECONDS = 1000000000 };

/* Bytes' time in whole microseconds; *rest carries what is less than one. */
static int64_t time_of(const struct tm_rate *r, uint64_t bytes, uint64_t *rest)
{
  uint64_t seconds = bytes / r->bytes_per_second;
  if (seconds >= MOST_SECONDS)
    return (int64_t)MOST_SECONDS * SECOND_US;
  uint64_t left = (bytes % r->bytes_per_second) * SECOND_US + *rest;
  *rest = left % r->bytes_per_second;
  return (int64_t)(seconds * SECOND_US + left / r->bytes_per_second);
}

struct tm_rate *tm_rate_new(uint64_t bytes_per_second, uint64_t burst,
                            struct tm_error *err)
{
  enum { MOST_GIB = 1024 }; /* a second: keeps the arithmetic within 64 bits */
  if (bytes_per_second == 0 || bytes_per_second > (uint64_t)MOST_GIB << 30) {
    tm_error_set(err, TM_EUSAGE, "a rate is 1 byte to %d GiB a second", MOST_GIB);
    return NULL;
  }
  struct tm_rate *r = calloc(1, sizeof *r);
  if (r == NULL) {
    tm_error_set(err, TM_EMEMORY, "out of memory for a rate");
    return NULL;
  }
  uint64_t rest = 0;
  r->bytes_per_second = bytes_per_second;
  r->burst_us = burst == 0 ? BURST_US : time_of(r, burst, &rest);
  pthread_mutex_init(&r->lock, NULL);
  return r;
}

void tm_rate_free(struct tm_rate *rate)
{
  if (rate == NULL)
    return;
  pthread_mutex_destroy(&rate->lock);
  free(rate);
}

uint64_t tm_rate_take(struct tm_rate *r, uint64_t bytes, int64_t now_us)
{
  pthread_mutex_lock(&r->lock);
  if (!r->begun || r->even_us < now_us - r->burst_us) {
    r->even_us = now_us - r->burst_us;
    r->rest = 0;
  }
  r->begun = true;
  r->even_us += time_of(r, bytes, &r->rest);
  int64_t wait = r->even_us - now_us;
  pthread_mutex_unlock(&r->lock);
  return wait > 0 ? (uint64_t)wait : 0;
}

/* ---- the stage ---- */

struct throttle {
  struct tm_stage base;
  struct tm_rate *rate;
  struct tm_cancel cancel;
};

static bool throttle_push(struct tm_stage *self, struct tm_slab *in, struct tm_emit *out,
                          struct tm_error *err)
{
  struct throttle *t = (struct throttle *)self;
  if (in == NULL)
    return true;
  uint64_t bytes = in->raw_bytes > 0 ? in->raw_bytes : in->len;
  uint64_t wait_us = tm_rate_take(t->rate, bytes, tm_clock_mono_ms() * 1000);
  if (tm_clock_sleep((int64_t)((wait_us + 999) / 1000), &t->cancel, err))
    return tm_emit(out, in, err);
  tm_slab_free(in);
  return false;
}

static void throttle_cancel(struct tm_stage *self)
{
  tm_cancel_fire(&((struct throttle *)self)->cancel);
}

static void throttle_close(struct tm_stage *self)
{
  tm_cancel_close(&((struct throttle *)self)->cancel);
  free(self);
}

struct tm_stage *tm_rate_stage(struct tm_rate *rate, struct tm_error *err)
{
  static const struct tm_stage_ops ops = {.name = "throttle",
                                          .push = throttle_push,
                                          .cancel = throttle_cancel,
                                          .close = throttle_close};
  struct throttle *t = calloc(1, sizeof *t);
  if (t == NULL) {
    tm_error_set(err, TM_EMEMORY, "out of memory for a throttle");
    return NULL;
  }
  t->base.ops = &ops;
  t->rate = rate;
  t->cancel.fd = -1;
  if (tm_cancel_open(&t->cancel, err))
    return &t->base;
  free(t);
  return NULL;
}
