/*
** background.c: a pump in a thread of its own
*/
#include "stream/background.h"

#include <errno.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "base/thread.h"

struct tm_background {
  struct tm_source *source;
  struct tm_stage **stages; /* the array is ours too */
  size_t count;
  struct tm_sink *sink;
  struct tm_pump_opts opts;
  int done_fd;
  pthread_t thread;
  bool joined;

  /* The thread's until it is joined. */
  bool ok;
  struct tm_pump_stats stats;
  struct tm_error error;

  pthread_mutex_t lock; /* guards done; held while cancelling, so that done comes after */
  bool done;
};

static void *background_main(void *arg)
{
  struct tm_background *b = arg;
  b->ok =
      tm_pump(b->source, b->stages, b->count, b->sink, &b->opts, &b->stats, &b->error);
  pthread_mutex_lock(&b->lock);
  b->done = true;
  pthread_mutex_unlock(&b->lock);
  eventfd_write(b->done_fd, 1);
  return NULL;
}

static void destroy(struct tm_background *b)
{
  if (b->done_fd >= 0)
    close(b->done_fd);
  pthread_mutex_destroy(&b->lock);
  free(b->stages);
  free(b);
}

/* Builds and starts it; NULL with *err, nothing closed. */
static struct tm_background *start(struct tm_source *source,
                                   struct tm_stage *const *stages, size_t count,
                                   struct tm_sink *sink, const struct tm_pump_opts *opts,
                                   struct tm_error *err)
{
  struct tm_background *b = calloc(1, sizeof *b);
  struct tm_stage **copy = calloc(count + 1, sizeof *copy);
  if (b == NULL || copy == NULL) {
    free(b);
    free(copy);
    tm_error_set(err, TM_EMEMORY, "out of memory for a stream of %zu stages", count);
    return NULL;
  }
  if (count > 0)
    memcpy(copy, stages, count * sizeof *copy);
  b->source = source;
  b->stages = copy;
  b->count = count;
  b->sink = sink;
  if (opts != NULL)
    b->opts = *opts;
  pthread_mutex_init(&b->lock, NULL);
  b->done_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
  int rc = b->done_fd < 0 ? errno : tm_thread_start(&b->thread, background_main, b);
  if (rc == 0)
    return b;
  tm_error_errno(err, TM_ESYSTEM, rc, "cannot start a thread for a stream");
  destroy(b);
  return NULL;
}

static void close_all(struct tm_source *source, struct tm_stage *const *stages,
                      size_t count, struct tm_sink *sink)
{
  tm_source_close(source);
  for (size_t i = 0; i < count; i++)
    tm_stage_close(stages[i]);
  tm_sink_close(sink);
}

struct tm_background *tm_background_start(struct tm_source *source,
                                          struct tm_stage *const *stages, size_t count,
                                          struct tm_sink *sink,
                                          const struct tm_pump_opts *opts,
                                          struct tm_error *err)
{
  struct tm_background *b = start(source, stages, count, sink, opts, err);
  if (b == NULL)
    close_all(source, stages, count, sink);
  return b;
}

int tm_background_done_fd(const struct tm_background *b)
{
  return b->done_fd;
}

static void join(struct tm_background *b)
{
  if (!b->joined)
    pthread_join(b->thread, NULL);
  b->joined = true;
}

bool tm_background_join(struct tm_background *b, struct tm_pump_stats *stats,
                        struct tm_error *err)
{
  join(b);
  if (stats != NULL)
    *stats = b->stats;
  if (!b->ok)
    *err = b->error;
  return b->ok;
}

void tm_background_cancel(struct tm_background *b)
{
  pthread_mutex_lock(&b->lock);
  if (!b->done) {
    if (b->source->ops->cancel != NULL)
      b->source->ops->cancel(b->source);
    for (size_t i = 0; i < b->count; i++)
      if (b->stages[i]->ops->cancel != NULL)
        b->stages[i]->ops->cancel(b->stages[i]);
    if (b->sink->ops->cancel != NULL)
      b->sink->ops->cancel(b->sink);
  }
  pthread_mutex_unlock(&b->lock);
}

void tm_background_release(struct tm_background *b)
{
  if (b == NULL)
    return;
  tm_background_cancel(b);
  join(b);
  destroy(b);
}

void tm_background_free(struct tm_background *b)
{
  if (b == NULL)
    return;
  tm_background_cancel(b);
  join(b);
  close_all(b->source, b->stages, b->count, b->sink);
  destroy(b);
}
