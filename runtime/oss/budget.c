/*
** budget.c: so many bytes for several writers together
*/
#include "oss/budget.h"

#include <pthread.h>
#include <stdlib.h>
#include <time.h>

enum { TICK_MS = 1000 }; /* a wait looks at the tokens so often, should nobody wake it */

struct tm_oss_budget {
  size_t total;
  pthread_mutex_t lock; /* guards used */
  pthread_cond_t freed;
  size_t used;
};

struct tm_oss_budget *tm_oss_budget_new(size_t bytes, struct tm_error *err)
{
  struct tm_oss_budget *b = calloc(1, sizeof *b);
  if (b == NULL) {
    tm_error_set(err, TM_EMEMORY, "out of memory");
    return NULL;
  }
  b->total = bytes;
  pthread_condattr_t attr;
  pthread_condattr_init(&attr);
  pthread_condattr_setclock(&attr, CLOCK_MONOTONIC);
  pthread_mutex_init(&b->lock, NULL);
  pthread_cond_init(&b->freed, &attr);
  pthread_condattr_destroy(&attr);
  return b;
}

void tm_oss_budget_free(struct tm_oss_budget *budget)
{
  if (budget == NULL)
    return;
  pthread_mutex_destroy(&budget->lock);
  pthread_cond_destroy(&budget->freed);
  free(budget);
}

size_t tm_oss_budget_total(const struct tm_oss_budget *budget)
{
  return budget->total;
}

/* The lock is held. */
static bool has_room(const struct tm_oss_budget *b, size_t bytes)
{
  return b->used <= b->total && bytes <= b->total - b->used;
}

bool tm_oss_budget_take(struct tm_oss_budget *b, size_t bytes,
                        const struct tm_cancel *cancel)
{
  bool ok = true;
  pthread_mutex_lock(&b->lock);
  while (b->used > 0 && !has_room(b, bytes)) {
    struct timespec until;
    if (tm_cancel_fired(cancel) || tm_cancel_fired(tm_interrupt())) {
      ok = false;
      break;
    }
    clock_gettime(CLOCK_MONOTONIC, &until);
    until.tv_sec += TICK_MS / 1000;
    pthread_cond_timedwait(&b->freed, &b->lock, &until);
  }
  if (ok)
    b->used += bytes;
  pthread_mutex_unlock(&b->lock);
  return ok;
}

bool tm_oss_budget_try(struct tm_oss_budget *b, size_t bytes)
{
  pthread_mutex_lock(&b->lock);
  bool ok = has_room(b, bytes);
  if (ok)
    b->used += bytes;
  pthread_mutex_unlock(&b->lock);
  return ok;
}

void tm_oss_budget_give(struct tm_oss_budget *b, size_t bytes)
{
  pthread_mutex_lock(&b->lock);
  b->used -= bytes;
  pthread_cond_broadcast(&b->freed);
  pthread_mutex_unlock(&b->lock);
}
