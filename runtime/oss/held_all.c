/*
** held_all.c: completing or dropping many held objects, several at a time
*/
#include "oss/held_all.h"

#include <pthread.h>
#include <string.h>

#include "base/clock.h"
#include "base/thread.h"

enum { THREADS = 4 };

struct crew {
  const struct tm_oss_held_item *items;
  size_t count;
  bool drop;
  const struct tm_cancel *cancel; /* of completing */
  int64_t deadline;               /* of dropping */

  pthread_mutex_t lock; /* guards what follows */
  size_t next;
  size_t failed;
  struct tm_oss *dead; /* a store that could not be reached */
  struct tm_error error;
};

static bool is_unreachable(const struct tm_error *err)
{
  return err->kind == TM_ECONNECT || err->kind == TM_EIO || err->kind == TM_ETIMEOUT;
}

/* Whether dropping it takes a request: not what memory alone knows. */
static bool is_remote(const struct tm_oss_held *h)
{
  return h->upload_id != NULL || h->stray || h->state != TM_HELD_PENDING;
}

/* The next item that is to be worked on, or NULL. Those of a dead store count as failed. */
static const struct tm_oss_held_item *next_item(struct crew *c)
{
  const struct tm_oss_held_item *item = NULL;
  pthread_mutex_lock(&c->lock);
  while (item == NULL && c->next < c->count && (c->drop || c->failed == 0)) {
    item = &c->items[c->next++];
    if (c->drop && item->store == c->dead && is_remote(item->held)) {
      c->failed++;
      item = NULL;
    }
  }
  pthread_mutex_unlock(&c->lock);
  return item;
}

static void note_failure(struct crew *c, const struct tm_oss_held_item *item,
                         const struct tm_error *err)
{
  pthread_mutex_lock(&c->lock);
  if (c->failed == 0 || (c->error.kind == TM_ECANCELED && err->kind != TM_ECANCELED))
    c->error = *err;
  c->failed++;
  if (is_unreachable(err))
    c->dead = item->store;
  pthread_mutex_unlock(&c->lock);
}

static void *crew_main(void *arg)
{
  struct crew *c = arg;
  const struct tm_oss_held_item *item;
  while ((item = next_item(c)) != NULL) {
    struct tm_error err;
    bool ok = c->drop
                  ? tm_oss_held_drop(item->store, item->held, c->deadline, &err)
                  : tm_oss_held_complete(item->store, item->held, true, c->cancel, &err);
    if (!ok)
      note_failure(c, item, &err);
  }
  return NULL;
}

/* What nobody took, for want of a thread, has failed too. */
static void run(struct crew *c)
{
  pthread_t threads[THREADS];
  int started = 0, code = 0;
  pthread_mutex_init(&c->lock, NULL);
  while (started < THREADS && (size_t)started < c->count &&
         (code = tm_thread_start(&threads[started], crew_main, c)) == 0)
    started++;
  for (int i = 0; i < started; i++)
    pthread_join(threads[i], NULL);
  if (started == 0 && c->count > 0) {
    tm_error_errno(&c->error, TM_ESYSTEM, code, "cannot start a thread");
    c->failed = c->count;
  }
  pthread_mutex_destroy(&c->lock);
}

bool tm_oss_held_complete_all(const struct tm_oss_held_item *items, size_t count,
                              const struct tm_cancel *cancel, struct tm_error *err)
{
  struct crew c = {.items = items, .count = count, .cancel = cancel};
  run(&c);
  if (c.failed > 0)
    *err = c.error;
  return c.failed == 0;
}

size_t tm_oss_held_drop_all(const struct tm_oss_held_item *items, size_t count,
                            int64_t deadline, struct tm_error *err)
{
  struct crew c = {.items = items, .count = count, .drop = true, .deadline = deadline};
  size_t local = 0;
  while (local < count && !is_remote(items[local].held))
    local++;
  if (local == count) { /* no request, so no thread */
    pthread_mutex_init(&c.lock, NULL);
    crew_main(&c);
    pthread_mutex_destroy(&c.lock);
  } else {
    run(&c);
  }
  if (c.failed > 0)
    *err = c.error;
  return c.failed;
}
