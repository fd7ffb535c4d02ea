/*
** queue.h: bounded queue of owned pointers between threads
**
** A sender blocks while the queue is full, a receiver while it is empty. An item sent
** belongs to the queue until it is received; a refused send leaves it with the sender.
** tm_queue_end: no more will come, receivers drain what is left and then see the end.
** tm_queue_abort: both sides are turned away at once and what is left is dropped; an
** abort can never be taken for an end.
*/
#ifndef TM_BASE_QUEUE_H
#define TM_BASE_QUEUE_H

#include <stdint.h>

#include "base/error.h"

struct tm_queue;

enum tm_queue_result {
  TM_QUEUE_OK,
  TM_QUEUE_END,     /* receive only: ended and drained */
  TM_QUEUE_ABORTED, /* aborted, or (send) already ended */
  TM_QUEUE_TIMEOUT,
};

/* `drop` frees an item that nobody received. NULL: out of memory. */
struct tm_queue *tm_queue_new(size_t capacity, void (*drop)(void *item));
void tm_queue_free(struct tm_queue *q); /* NULL is fine; no thread may use it any more */

/* timeout_ms < 0 waits without limit (an abort still wakes). */
enum tm_queue_result tm_queue_send(struct tm_queue *q, void *item, int64_t timeout_ms)
    TM_MUSTCHECK;
enum tm_queue_result tm_queue_receive(struct tm_queue *q, void **item, int64_t timeout_ms)
    TM_MUSTCHECK;

void tm_queue_end(struct tm_queue *q);
void tm_queue_abort(struct tm_queue *q);

#endif
