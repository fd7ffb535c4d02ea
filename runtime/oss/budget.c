/*
** budget.c: so many bytes for several writers together
*/
#include "oss/budget.h"

#include <pthread.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <time.h>

enum { MAPPED = 1 << 20 }; /* bytes from which on memory comes from the system itself */
enum { TICK_MS = 1000 }; /* a wait looks at the tokens so often, should nobody wake it */

struct idle { /* at the start of memory that was released */
  struct idle *next;
  size_t bytes;
};

struct tm_oss_budget {
  size_t total;
  pthread_mutex_t lock; /* guards what follows */
  pthread_cond_t freed;
  size_t used;
  size_t made;               /* bytes of memory, lent or idle */
  struct idle *first, **end; /* idle memory, from what was released first */
};

/* A share may be smaller than what an idle one is linked by. */
static size_t memory_size(size_t bytes)
{
  return bytes > sizeof(struct idle) ? bytes : sizeof(struct idle);
}

/* Whole parts are mapped, so that they go back to the system when the budget does: between the
** small pieces of many threads malloc would keep them for long. */
static void *make(size_t bytes)
{
  if (bytes < MAPPED)
    return malloc(bytes);
  void *memory =
      mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  return memory != MAP_FAILED ? memory : NULL;
}

static void unmake(void *memory, size_t bytes)
{
  if (bytes < MAPPED)
    free(memory);
  else
    munmap(memory, bytes);
}

struct tm_oss_budget *tm_oss_budget_new(size_t bytes, struct tm_error *err)
{
  struct tm_oss_budget *b = calloc(1, sizeof *b);
  if (b == NULL) {
    tm_error_set(err, TM_EMEMORY, "out of memory");
    return NULL;
  }
  b->total = bytes;
  b->end = &b->first;
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
  for (struct idle *i = budget->first, *next; i != NULL; i = next) {
    next = i->next;
    unmake(i, i->bytes);
  }
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

/* Takes what was released first off the list. The lock is held. */
static struct idle *oldest(struct tm_oss_budget *b)
{
  struct idle *i = b->first;
  b->first = i->next;
  if (b->first == NULL)
    b->end = &b->first;
  return i;
}

void *tm_oss_budget_memory(struct tm_oss_budget *b, size_t bytes)
{
  size_t size = memory_size(bytes);
  void *memory = NULL;
  pthread_mutex_lock(&b->lock);
  while (memory == NULL && b->first != NULL && b->made + size > b->total) {
    struct idle *i = oldest(b);
    if (i->bytes == size) {
      memory = i;
    } else { /* parts have grown */
      b->made -= i->bytes;
      unmake(i, i->bytes);
    }
  }
  if (memory == NULL && (memory = make(size)) != NULL)
    b->made += size;
  pthread_mutex_unlock(&b->lock);
  return memory;
}

void tm_oss_budget_release(struct tm_oss_budget *b, void *memory, size_t bytes)
{
  struct idle *i = memory;
  pthread_mutex_lock(&b->lock);
  *i = (struct idle){.bytes = memory_size(bytes)};
  *b->end = i;
  b->end = &i->next;
  pthread_mutex_unlock(&b->lock);
}
