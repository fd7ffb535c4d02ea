/*
** channel.c: a bounded queue of slabs between a stream's threads and one that must not block
**
** A ring under one mutex. The thread side waits on a condition. The caller's side has an
** eventfd: a try that says WAIT empties it and sets `wanted`, in the same locked section in
** which it saw that there is nothing to do, and whoever changes that fills it again and clears
** `wanted`. So it costs one write a wait, not one a slab, and no wake-up falls between.
** A caller that puts is woken when half of the channel is free: it then fills it at one go.
*/
#include "stream/channel.h"

#include <errno.h>
#include <pthread.h>
#include <stdlib.h>
#include <sys/eventfd.h>
#include <unistd.h>

struct tm_channel {
  struct tm_sink sink; /* the thread side: one of the two is handed out */
  struct tm_source source;
  int fd;
  size_t capacity;

  pthread_mutex_t lock; /* guards what follows */
  pthread_cond_t changed;
  size_t head, count;
  bool ended;       /* no more will be put */
  bool failed;      /* `error` is why */
  bool wanted;      /* the caller waits for the descriptor */
  bool caller_open; /* tm_channel_free has not been called */
  bool thread_open; /* the sink or source was handed out and is not closed */
  struct tm_error error;
  struct tm_slab *ring[];
};

struct tm_channel *tm_channel_new(size_t slabs, struct tm_error *err)
{
  size_t capacity = slabs > 0 ? slabs : 1;
  struct tm_channel *ch = calloc(1, sizeof *ch + capacity * sizeof ch->ring[0]);
  if (ch == NULL) {
    tm_error_set(err, TM_EMEMORY, "out of memory for a channel of %zu slabs", slabs);
    return NULL;
  }
  ch->fd = eventfd(1, EFD_CLOEXEC | EFD_NONBLOCK);
  if (ch->fd < 0) {
    tm_error_errno(err, TM_ESYSTEM, errno, "cannot make an eventfd");
    free(ch);
    return NULL;
  }
  ch->capacity = capacity;
  ch->caller_open = true;
  pthread_mutex_init(&ch->lock, NULL);
  pthread_cond_init(&ch->changed, NULL);
  return ch;
}

/* ---- with the lock held ---- */

/* Fills the eventfd if the caller waits for it. Adding 1 to 0 cannot fail. */
static void wake_caller(struct tm_channel *ch)
{
  if (!ch->wanted)
    return;
  ch->wanted = false;
  eventfd_write(ch->fd, 1);
}

static enum tm_channel_result wait_for_change(struct tm_channel *ch)
{
  eventfd_t value;
  if (!ch->wanted)
    eventfd_read(ch->fd, &value); /* full, or the caller has read it himself: no matter */
  ch->wanted = true;
  return TM_CHANNEL_WAIT;
}

static void drop_all(struct tm_channel *ch)
{
  for (; ch->count > 0; ch->count--) {
    tm_slab_free(ch->ring[ch->head]);
    ch->head = (ch->head + 1) % ch->capacity;
  }
}

static void set_failed(struct tm_channel *ch, const struct tm_error *why)
{
  if (ch->failed)
    return;
  ch->failed = true;
  ch->error = *why;
  drop_all(ch);
  pthread_cond_broadcast(&ch->changed);
  wake_caller(ch);
}

static struct tm_slab *take(struct tm_channel *ch)
{
  struct tm_slab *slab = ch->ring[ch->head];
  ch->head = (ch->head + 1) % ch->capacity;
  ch->count--;
  return slab;
}

static void put(struct tm_channel *ch, struct tm_slab *slab)
{
  ch->ring[(ch->head + ch->count++) % ch->capacity] = slab;
}

/* ---- both sides ---- */

/* Frees the channel once neither side uses it any more; unlocks. */
static void unref(struct tm_channel *ch)
{
  bool last = !ch->caller_open && !ch->thread_open;
  pthread_mutex_unlock(&ch->lock);
  if (!last)
    return;
  drop_all(ch);
  close(ch->fd);
  pthread_mutex_destroy(&ch->lock);
  pthread_cond_destroy(&ch->changed);
  free(ch);
}

void tm_channel_fail(struct tm_channel *ch, const struct tm_error *why)
{
  pthread_mutex_lock(&ch->lock);
  set_failed(ch, why);
  pthread_mutex_unlock(&ch->lock);
}

void tm_channel_free(struct tm_channel *ch)
{
  struct tm_error err;
  if (ch == NULL)
    return;
  tm_error_set(&err, TM_ECANCELED, "nobody is at the other end of the channel any more");
  pthread_mutex_lock(&ch->lock);
  set_failed(ch, &err);
  ch->caller_open = false;
  unref(ch);
}

/* ---- the thread side: a sink ---- */

static struct tm_channel *of_sink(struct tm_sink *self)
{
  return (struct tm_channel *)((char *)self - offsetof(struct tm_channel, sink));
}

static bool sink_write(struct tm_sink *self, struct tm_slab *slab, struct tm_error *err)
{
  struct tm_channel *ch = of_sink(self);
  pthread_mutex_lock(&ch->lock);
  while (!ch->failed && ch->count == ch->capacity)
    pthread_cond_wait(&ch->changed, &ch->lock);
  bool ok = !ch->failed;
  if (ok) {
    put(ch, slab);
    wake_caller(ch);
  } else {
    *err = ch->error;
  }
  pthread_mutex_unlock(&ch->lock);
  if (!ok)
    tm_slab_free(slab);
  return ok;
}

static bool sink_finish(struct tm_sink *self, struct tm_error *err)
{
  struct tm_channel *ch = of_sink(self);
  pthread_mutex_lock(&ch->lock);
  bool ok = !ch->failed;
  if (ok) {
    ch->ended = true;
    wake_caller(ch);
  } else {
    *err = ch->error;
  }
  pthread_mutex_unlock(&ch->lock);
  return ok;
}

/* After finish it is too late: what was written is the caller's to get. */
static void sink_abort(struct tm_sink *self, const char *why)
{
  struct tm_channel *ch = of_sink(self);
  struct tm_error err;
  tm_error_set(&err, TM_ECANCELED, "%s", why);
  pthread_mutex_lock(&ch->lock);
  if (!ch->ended)
    set_failed(ch, &err);
  pthread_mutex_unlock(&ch->lock);
}

static void sink_cancel(struct tm_sink *self)
{
  sink_abort(self, "cancelled");
}

static void sink_close(struct tm_sink *self)
{
  struct tm_channel *ch = of_sink(self);
  sink_abort(self, "closed before the end");
  pthread_mutex_lock(&ch->lock);
  ch->thread_open = false;
  unref(ch);
}

struct tm_sink *tm_channel_sink(struct tm_channel *ch)
{
  static const struct tm_sink_ops ops = {.name = "channel",
                                         .write = sink_write,
                                         .finish = sink_finish,
                                         .abort = sink_abort,
                                         .cancel = sink_cancel,
                                         .close = sink_close};
  ch->sink.ops = &ops;
  ch->thread_open = true;
  return &ch->sink;
}

/* ---- the thread side: a source ---- */

static struct tm_channel *of_source(struct tm_source *self)
{
  return (struct tm_channel *)((char *)self - offsetof(struct tm_channel, source));
}

static int source_read(struct tm_source *self, struct tm_slab **out, struct tm_error *err)
{
  struct tm_channel *ch = of_source(self);
  int got = 0;
  pthread_mutex_lock(&ch->lock);
  while (!ch->failed && !ch->ended && ch->count == 0)
    pthread_cond_wait(&ch->changed, &ch->lock);
  if (ch->failed) {
    *err = ch->error;
    got = -1;
  } else if (ch->count > 0) {
    *out = take(ch);
    got = 1;
    if (ch->count <= ch->capacity / 2)
      wake_caller(ch);
  }
  pthread_mutex_unlock(&ch->lock);
  return got;
}

static void source_cancel(struct tm_source *self)
{
  struct tm_error err;
  tm_error_set(&err, TM_ECANCELED, "cancelled");
  tm_channel_fail(of_source(self), &err);
}

static void source_close(struct tm_source *self)
{
  struct tm_channel *ch = of_source(self);
  pthread_mutex_lock(&ch->lock);
  if (!ch->ended || ch->count > 0) {
    struct tm_error err;
    tm_error_set(&err, TM_ECANCELED, "closed before the end");
    set_failed(ch, &err);
  }
  ch->thread_open = false;
  unref(ch);
}

struct tm_source *tm_channel_source(struct tm_channel *ch)
{
  static const struct tm_source_ops ops = {.name = "channel",
                                           .read = source_read,
                                           .cancel = source_cancel,
                                           .close = source_close};
  ch->source.ops = &ops;
  ch->thread_open = true;
  return &ch->source;
}

/* ---- the caller's side ---- */

int tm_channel_fd(const struct tm_channel *ch)
{
  return ch->fd;
}

enum tm_channel_result tm_channel_try_get(struct tm_channel *ch, struct tm_slab **out,
                                          struct tm_error *err)
{
  enum tm_channel_result result = TM_CHANNEL_OK;
  pthread_mutex_lock(&ch->lock);
  if (ch->failed) {
    *err = ch->error;
    result = TM_CHANNEL_FAILED;
  } else if (ch->count > 0) {
    *out = take(ch);
    pthread_cond_signal(&ch->changed);
  } else {
    result = ch->ended ? TM_CHANNEL_END : wait_for_change(ch);
  }
  pthread_mutex_unlock(&ch->lock);
  return result;
}

enum tm_channel_result tm_channel_try_put(struct tm_channel *ch, struct tm_slab *slab,
                                          struct tm_error *err)
{
  enum tm_channel_result result = TM_CHANNEL_OK;
  pthread_mutex_lock(&ch->lock);
  if (ch->failed) {
    *err = ch->error;
    result = TM_CHANNEL_FAILED;
  } else if (ch->ended) {
    result = TM_CHANNEL_END;
  } else if (ch->count < ch->capacity) {
    put(ch, slab);
    pthread_cond_signal(&ch->changed);
  } else {
    result = wait_for_change(ch);
  }
  pthread_mutex_unlock(&ch->lock);
  return result;
}

void tm_channel_end(struct tm_channel *ch)
{
  pthread_mutex_lock(&ch->lock);
  ch->ended = true;
  pthread_cond_broadcast(&ch->changed);
  pthread_mutex_unlock(&ch->lock);
}
