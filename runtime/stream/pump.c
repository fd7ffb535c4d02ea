/*
** pump.c: source, stages and sink, each in its thread, joined by bounded queues
**
**   [source] -> q0 -> [stage 0] -> q1 -> ... -> [stage n-1] -> qn -> [sink]
**
** Every "[...]" is a station; every arrow that leaves one is a queue. One station runs in
** the caller's thread: the stage that must (it runs Lua), else the sink. The others get a
** thread each. The first failure wins: it is kept, every queue is aborted and every
** station cancelled, so nobody goes on waiting; an abort is not an end, so the sink is
** finished only when an end has come through the whole line.
*/
#include "stream/stream.h"

#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "base/queue.h"
#include "base/thread.h"

enum { DEFAULT_QUEUE_SLABS = 4, DEFAULT_INTERVAL_MS = 250, TICK_MS = 100 };

struct pump;

struct station {
  struct pump *pump;
  size_t index; /* 0: source, 1..count: stages, count + 1: sink */
  pthread_t thread;
  bool started;
};

struct pump {
  struct tm_source *source;
  struct tm_stage *const *stages;
  size_t count; /* stages */
  struct tm_sink *sink;
  const struct tm_pump_opts *opts;
  struct tm_queue **queues; /* count + 1: queue i leaves station i */
  struct station *stations; /* count + 2 */
  size_t on_caller;         /* the station of the caller's thread */
  int64_t next_report;      /* used by the caller's thread only */
  atomic_ullong rows_in, bytes_in, rows_out, bytes_out;

  pthread_mutex_t lock; /* guards failed and error */
  bool failed;
  struct tm_error error; /* of the first failure */
};

struct tm_emit {
  struct pump *pump;
  size_t station;
};

/* Keeps the first error and makes every station stop. Calls cancel under no lock. */
static void fail(struct pump *p, const struct tm_error *err)
{
  pthread_mutex_lock(&p->lock);
  bool first = !p->failed;
  if (first) {
    p->failed = true;
    p->error = *err;
  }
  pthread_mutex_unlock(&p->lock);
  if (!first)
    return;
  for (size_t i = 0; i <= p->count; i++)
    tm_queue_abort(p->queues[i]);
  if (p->source->ops->cancel != NULL)
    p->source->ops->cancel(p->source);
  for (size_t i = 0; i < p->count; i++)
    if (p->stages[i]->ops->cancel != NULL)
      p->stages[i]->ops->cancel(p->stages[i]);
  if (p->sink->ops->cancel != NULL)
    p->sink->ops->cancel(p->sink);
}

static void snapshot(struct pump *p, struct tm_pump_stats *stats)
{
  stats->rows_in = atomic_load(&p->rows_in);
  stats->bytes_in = atomic_load(&p->bytes_in);
  stats->rows_out = atomic_load(&p->rows_out);
  stats->bytes_out = atomic_load(&p->bytes_out);
}

/* Whether the stream may go on; reports progress when it is time. Caller's thread. */
static bool tick(struct pump *p, struct tm_error *err)
{
  if (tm_cancel_fired(tm_interrupt())) {
    tm_error_set(err, TM_ECANCELED, "cancelled");
    return false;
  }
  if (p->opts->progress == NULL)
    return true;
  int64_t now = tm_clock_mono_ms();
  if (now < p->next_report)
    return true;
  p->next_report =
      now + (p->opts->interval_ms > 0 ? p->opts->interval_ms : DEFAULT_INTERVAL_MS);
  struct tm_pump_stats stats;
  snapshot(p, &stats);
  return p->opts->progress(p->opts->data, &stats, err);
}

static void set_aborted(struct tm_error *err)
{
  tm_error_set(err, TM_ECANCELED, "stopped by another part of the stream");
}

/* Sends on the queue that leaves station `i`, ticking meanwhile in the caller's thread. */
static bool send(struct pump *p, size_t i, struct tm_slab *slab, struct tm_error *err)
{
  for (;;) {
    int64_t wait = i == p->on_caller ? TICK_MS : -1;
    switch (tm_queue_send(p->queues[i], slab, wait)) {
    case TM_QUEUE_OK:
      return true;
    case TM_QUEUE_TIMEOUT:
      if (tick(p, err))
        continue;
      break;
    default:
      set_aborted(err);
    }
    tm_slab_free(slab);
    return false;
  }
}

bool tm_emit(struct tm_emit *out, struct tm_slab *slab, struct tm_error *err)
{
  return send(out->pump, out->station, slab, err);
}

/* 1 and a slab, 0 at the end, -1 with err set: what arrives at station `i`. */
static int receive(struct pump *p, size_t i, struct tm_slab **slab, struct tm_error *err)
{
  for (;;) {
    int64_t wait = i == p->on_caller ? TICK_MS : -1;
    void *item = NULL;
    switch (tm_queue_receive(p->queues[i - 1], &item, wait)) {
    case TM_QUEUE_OK:
      *slab = item;
      return 1;
    case TM_QUEUE_END:
      return 0;
    case TM_QUEUE_TIMEOUT:
      if (!tick(p, err))
        return -1;
      continue;
    default:
      set_aborted(err);
      return -1;
    }
  }
}

static bool run_source(struct pump *p, struct tm_error *err)
{
  for (;;) {
    struct tm_slab *slab = NULL;
    int got = p->source->ops->read(p->source, &slab, err);
    if (got < 0)
      return false;
    if (got == 0)
      break;
    atomic_fetch_add(&p->rows_in, slab->rows);
    atomic_fetch_add(&p->bytes_in, slab->len);
    if (!send(p, 0, slab, err))
      return false;
  }
  tm_queue_end(p->queues[0]);
  return true;
}

static bool run_stage(struct pump *p, size_t i, struct tm_error *err)
{
  struct tm_stage *stage = p->stages[i - 1];
  struct tm_emit out = {.pump = p, .station = i};
  for (;;) {
    struct tm_slab *slab = NULL;
    int got = receive(p, i, &slab, err);
    if (got < 0 || (i == p->on_caller && !tick(p, err))) {
      tm_slab_free(slab);
      return false;
    }
    if (!stage->ops->push(stage, slab, &out, err)) /* slab is NULL at the end */
      return false;
    if (got == 0)
      break;
  }
  tm_queue_end(p->queues[i]);
  return true;
}

static bool run_sink(struct pump *p, struct tm_error *err)
{
  size_t i = p->count + 1;
  for (;;) {
    struct tm_slab *slab = NULL;
    int got = receive(p, i, &slab, err);
    if (got == 0)
      break;
    if (got < 0 || (i == p->on_caller && !tick(p, err))) {
      tm_slab_free(slab);
      return false;
    }
    uint64_t rows = slab->rows, bytes = slab->len;
    if (!p->sink->ops->write(p->sink, slab, err))
      return false;
    atomic_fetch_add(&p->rows_out, rows);
    atomic_fetch_add(&p->bytes_out, bytes);
  }
  return p->sink->ops->finish(p->sink, err);
}

static void run_station(struct pump *p, size_t i)
{
  struct tm_error err = {0};
  bool ok = i == 0 ? run_source(p, &err)
                   : (i <= p->count ? run_stage(p, i, &err) : run_sink(p, &err));
  if (!ok)
    fail(p, &err);
}

static void *station_main(void *arg)
{
  struct station *station = arg;
  run_station(station->pump, station->index);
  return NULL;
}

static bool build(struct pump *p, struct tm_error *err)
{
  size_t slabs = p->opts->queue_slabs > 0 ? p->opts->queue_slabs : DEFAULT_QUEUE_SLABS;
  p->queues = calloc(p->count + 1, sizeof *p->queues);
  p->stations = calloc(p->count + 2, sizeof *p->stations);
  bool ok = p->queues != NULL && p->stations != NULL;
  for (size_t i = 0; ok && i <= p->count; i++)
    ok = (p->queues[i] = tm_queue_new(slabs, tm_slab_drop)) != NULL;
  if (!ok)
    tm_error_set(err, TM_EMEMORY, "out of memory for a stream of %zu stages", p->count);
  p->on_caller = p->count + 1;
  for (size_t i = 1; i <= p->count; i++)
    if (p->stages[i - 1]->ops->on_caller)
      p->on_caller = i;
  return ok;
}

static void start_threads(struct pump *p)
{
  for (size_t i = 0; i < p->count + 2; i++) {
    if (i == p->on_caller)
      continue;
    struct station *s = &p->stations[i];
    s->pump = p;
    s->index = i;
    int rc = tm_thread_start(&s->thread, station_main, s);
    s->started = rc == 0;
    if (rc != 0) {
      struct tm_error err;
      tm_error_errno(&err, TM_ESYSTEM, rc, "cannot start a thread");
      fail(p, &err);
    }
  }
}

static void release(struct pump *p)
{
  for (size_t i = 0; p->queues != NULL && i <= p->count; i++)
    tm_queue_free(p->queues[i]);
  free(p->queues);
  free(p->stations);
  pthread_mutex_destroy(&p->lock);
}

bool tm_pump(struct tm_source *source, struct tm_stage *const *stages, size_t count,
             struct tm_sink *sink, const struct tm_pump_opts *opts,
             struct tm_pump_stats *stats, struct tm_error *err)
{
  static const struct tm_pump_opts defaults;
  struct pump p = {.source = source,
                   .stages = stages,
                   .count = count,
                   .sink = sink,
                   .opts = opts != NULL ? opts : &defaults};
  pthread_mutex_init(&p.lock, NULL);
  bool ok = build(&p, err);
  if (ok) {
    start_threads(&p);
    run_station(&p, p.on_caller);
    for (size_t i = 0; i < count + 2; i++)
      if (p.stations[i].started)
        pthread_join(p.stations[i].thread, NULL);
    ok = !p.failed;
    if (!ok)
      *err = p.error;
  }
  if (!ok)
    sink->ops->abort(sink, err->message);
  if (stats != NULL)
    snapshot(&p, stats);
  release(&p);
  return ok;
}
