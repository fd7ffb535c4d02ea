/*
** queue.c: bounded queue of owned pointers between threads; a ring under one mutex
*/
#include "base/queue.h"

#include <errno.h>
#include <pthread.h>
#include <stdlib.h>
#include <time.h>

struct tm_queue {
  pthread_mutex_t lock; /* guards every field below but capacity and drop */
  pthread_cond_t not_empty, not_full;
  void (*drop)(void *item);
  size_t capacity, head, count;
  bool ended, aborted;
  void *ring[];
};

struct tm_queue *tm_queue_new(size_t capacity, void (*drop)(void *item))
{
  struct tm_queue *q = calloc(1, sizeof *q + capacity * sizeof q->ring[0]);
  if (q == NULL)
    return NULL;
  q->capacity = capacity;
  q->drop = drop;
  pthread_condattr_t attr; /* deadlines must not jump with the wall clock */
  pthread_condattr_init(&attr);
  pthread_condattr_setclock(&attr, CLOCK_MONOTONIC);
  pthread_mutex_init(&q->lock, NULL);
  pthread_cond_init(&q->not_empty, &attr);
  pthread_cond_init(&q->not_full, &attr);
  pthread_condattr_destroy(&attr);
  return q;
}

static void drop_all(struct tm_queue *q)
{
  for (; q->count > 0; q->count--) {
    q->drop(q->ring[q->head]);
    q->head = (q->head + 1) % q->capacity;
  }
}

void tm_queue_free(struct tm_queue *q)
{
  if (q == NULL)
    return;
  drop_all(q);
  pthread_mutex_destroy(&q->lock);
  pthread_cond_destroy(&q->not_empty);
  pthread_cond_destroy(&q->not_full);
  free(q);
}

static struct timespec deadline_after(int64_t ms)
{
  struct timespec ts;
  clock_gettime(CLOCK_MONOTONIC, &ts);
  ts.tv_sec += ms / 1000;
  ts.tv_nsec += (ms % 1000) * 1000000;
  if (ts.tv_nsec >= 1000000000) {
    ts.tv_sec++;
    ts.tv_nsec -= 1000000000;
  }
  return ts;
}

/* Waits once; false on timeout. The lock is held. */
static bool wait_on(struct tm_queue *q, pthread_cond_t *cond,
                    const struct timespec *until)
{
  if (until == NULL)
    return pthread_cond_wait(cond, &q->lock) == 0;
  return pthread_cond_timedwait(cond, &q->lock, until) != ETIMEDOUT;
}

enum tm_queue_result tm_queue_send(struct tm_queue *q, void *item, int64_t timeout_ms)
{
  struct timespec ts = deadline_after(timeout_ms < 0 ? 0 : timeout_ms);
  const struct timespec *until = timeout_ms < 0 ? NULL : &ts;
  enum tm_queue_result result = TM_QUEUE_OK;
  pthread_mutex_lock(&q->lock);
  while (!q->aborted && !q->ended && q->count == q->capacity)
    if (!wait_on(q, &q->not_full, until)) {
      result = TM_QUEUE_TIMEOUT;
      break;
    }
  if (q->aborted || q->ended) {
    result = TM_QUEUE_ABORTED;
  } else if (q->count < q->capacity) {
    result = TM_QUEUE_OK;
    q->ring[(q->head + q->count++) % q->capacity] = item;
    pthread_cond_signal(&q->not_empty);
  }
  pthread_mutex_unlock(&q->lock);
  return result;
}

enum tm_queue_result tm_queue_receive(struct tm_queue *q, void **item, int64_t timeout_ms)
{
  struct timespec ts = deadline_after(timeout_ms < 0 ? 0 : timeout_ms);
  const struct timespec *until = timeout_ms < 0 ? NULL : &ts;
  enum tm_queue_result result = TM_QUEUE_OK;
  pthread_mutex_lock(&q->lock);
  while (!q->aborted && !q->ended && q->count == 0)
    if (!wait_on(q, &q->not_empty, until)) {
      result = TM_QUEUE_TIMEOUT;
      break;
    }
  if (q->aborted) {
    result = TM_QUEUE_ABORTED;
  } else if (q->count > 0) {
    result = TM_QUEUE_OK;
    *item = q->ring[q->head];
    q->head = (q->head + 1) % q->capacity;
    q->count--;
    pthread_cond_signal(&q->not_full);
  } else if (q->ended) {
    result = TM_QUEUE_END;
  }
  pthread_mutex_unlock(&q->lock);
  return result;
}

static void wake_everyone(struct tm_queue *q)
{
  pthread_cond_broadcast(&q->not_empty);
  pthread_cond_broadcast(&q->not_full);
}

void tm_queue_end(struct tm_queue *q)
{
  pthread_mutex_lock(&q->lock);
  q->ended = true;
  wake_everyone(q);
  pthread_mutex_unlock(&q->lock);
}

void tm_queue_abort(struct tm_queue *q)
{
  pthread_mutex_lock(&q->lock);
  q->aborted = true;
  drop_all(q); /* drop frees memory and takes no lock: safe here */
  wake_everyone(q);
  pthread_mutex_unlock(&q->lock);
}
