/*
** deal.c: a sink that deals slabs over a number of objects, which grow evenly
**
** A slab goes to the object with the fewest bytes. Objects are completed by several threads,
** each of which takes the next one that nobody has; `state` of an object belongs to who has it,
** and to the thread that finishes or aborts the sink once they were joined.
*/
#include "oss/deal.h"

#include <inttypes.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "base/thread.h"
#include "oss/store.h"

enum {
  DIGITS = 5,
  THREADS = 8, /* that complete objects */
  CLEANUP_MS = 30000,
};

enum state { OPEN, COMPLETE, IN_DOUBT, FAILED };

struct lane {
  struct tm_sink *writer;
  struct tm_oss_object object;
  enum state state;
  struct tm_error error; /* of a completion that failed */
};

struct deal {
  struct tm_sink base;
  struct tm_oss *store;
  char *preamble;
  size_t preamble_bytes;
  uint64_t preamble_raw_bytes;
  size_t count;
  struct lane *lanes;
  bool ended, finished;
  atomic_size_t next; /* lane to be completed */
  atomic_bool failed;
};

static bool out_of_memory(struct tm_error *err)
{
  tm_error_set(err, TM_EMEMORY, "out of memory");
  return false;
}

/* ---- writing ---- */

static bool write_to(struct lane *l, struct tm_slab *slab, struct tm_error *err)
{
  l->object.rows += slab->rows;
  l->object.bytes += slab->len;
  l->object.raw_bytes += slab->raw_bytes;
  return l->writer->ops->write(l->writer, slab, err);
}

/* The first thing in an object is its preamble. */
static bool begin(const struct deal *d, struct lane *l, struct tm_error *err)
{
  if (l->object.bytes > 0 || d->preamble_bytes == 0)
    return true;
  struct tm_slab *slab = tm_slab_new(d->preamble_bytes, err);
  if (slab == NULL)
    return false;
  memcpy(slab->data, d->preamble, d->preamble_bytes);
  slab->len = d->preamble_bytes;
  slab->raw_bytes = d->preamble_raw_bytes;
  return write_to(l, slab, err);
}

static struct lane *smallest(const struct deal *d)
{
  struct lane *found = &d->lanes[0];
  for (size_t i = 1; i < d->count; i++)
    if (d->lanes[i].object.bytes < found->object.bytes)
      found = &d->lanes[i];
  return found;
}

static bool is_open(const struct deal *d, struct tm_error *err)
{
  if (!d->ended)
    return true;
  tm_error_set(err, TM_EUSAGE, "the objects are finished");
  return false;
}

static bool deal_write(struct tm_sink *self, struct tm_slab *slab, struct tm_error *err)
{
  struct deal *d = (struct deal *)self;
  struct lane *l = smallest(d);
  if (!is_open(d, err) || !begin(d, l, err)) {
    tm_slab_free(slab);
    return false;
  }
  return write_to(l, slab, err);
}

/* ---- completing ---- */

/* Whether a completion that failed so may have made its object (objects.c). */
static bool may_exist(const struct tm_error *err)
{
  return err->kind != TM_EEXISTS && err->kind != TM_EAUTH &&
         strcmp(err->code, "NoSuchBucket") != 0;
}

static bool complete(const struct deal *d, struct lane *l, struct tm_error *err)
{
  struct tm_oss_written w;
  if (!begin(d, l, err))
    return false;
  if (!l->writer->ops->finish(l->writer, err)) {
    l->state = may_exist(err) ? IN_DOUBT : FAILED;
    return false;
  }
  l->state = COMPLETE;
  if (tm_oss_writer_result(l->writer, &w)) {
    l->object.crc64 = w.crc64;
    memcpy(l->object.etag, w.etag, sizeof w.etag);
  }
  return true;
}

static void *complete_main(void *arg)
{
  struct deal *d = arg;
  for (size_t i; (i = atomic_fetch_add(&d->next, 1)) < d->count;) {
    struct lane *l = &d->lanes[i];
    if (atomic_load(&d->failed))
      break;
    if (!complete(d, l, &l->error)) {
      if (l->error.kind == TM_OK)
        tm_error_set(&l->error, TM_EIO, "an object was not completed");
      atomic_store(&d->failed, true);
    }
  }
  return NULL;
}

static bool deal_finish(struct tm_sink *self, struct tm_error *err)
{
  struct deal *d = (struct deal *)self;
  pthread_t threads[THREADS];
  size_t started = 0;
  if (!is_open(d, err))
    return false;
  while (started < THREADS && started + 1 < d->count &&
         tm_thread_start(&threads[started], complete_main, d) == 0)
    started++;
  complete_main(d); /* this thread is one more, or the only one */
  for (size_t i = 0; i < started; i++)
    pthread_join(threads[i], NULL);
  for (size_t i = 0; i < d->count; i++)
    if (d->lanes[i].error.kind != TM_OK) {
      *err = d->lanes[i].error;
      return false;
    }
  d->ended = d->finished = true;
  return true;
}

/* ---- ending ---- */

static void deal_cancel(struct tm_sink *self)
{
  struct deal *d = (struct deal *)self;
  for (size_t i = 0; i < d->count; i++)
    if (d->lanes[i].writer != NULL)
      d->lanes[i].writer->ops->cancel(d->lanes[i].writer);
}

static void deal_abort(struct tm_sink *self, const char *why)
{
  struct deal *d = (struct deal *)self;
  int64_t deadline = tm_clock_mono_ms() + CLEANUP_MS;
  if (d->ended)
    return;
  d->ended = true;
  deal_cancel(self);
  for (size_t i = 0; i < d->count; i++) {
    struct lane *l = &d->lanes[i];
    if (l->state == OPEN && l->writer != NULL)
      l->writer->ops->abort(l->writer, why);
    else if ((l->state == COMPLETE || l->state == IN_DOUBT) &&
             tm_clock_mono_ms() < deadline)
      tm_oss_remove(d->store, l->object.key);
  }
}

static void deal_close(struct tm_sink *self)
{
  struct deal *d = (struct deal *)self;
  deal_abort(self, "closed");
  for (size_t i = 0; i < d->count && d->lanes != NULL; i++) {
    tm_sink_close(d->lanes[i].writer);
    free(d->lanes[i].object.key);
  }
  free(d->lanes);
  free(d->preamble);
  free(d);
}

static const struct tm_sink_ops ops = {.name = "objects",
                                       .write = deal_write,
                                       .finish = deal_finish,
                                       .abort = deal_abort,
                                       .cancel = deal_cancel,
                                       .close = deal_close};

/* ---- opening ---- */

static bool open_lane(struct deal *d, struct lane *l, const struct tm_oss_deal_opts *o,
                      struct tm_error *err)
{
  struct tm_oss_writer_opts writer = o->writer;
  writer.put.create_only = !o->overwrite;
  int digits = o->digits > 0 && o->digits <= 18 ? o->digits : DIGITS;
  if (asprintf(&l->object.key, "%s%0*zu%s", o->prefix, digits, (size_t)(l - d->lanes) + 1,
               o->suffix != NULL ? o->suffix : "") < 0) {
    l->object.key = NULL;
    return out_of_memory(err);
  }
  l->writer = tm_oss_writer_open(d->store, l->object.key, &writer, err);
  return l->writer != NULL;
}

static bool init(struct deal *d, const struct tm_oss_deal_opts *o, struct tm_error *err)
{
  d->lanes = calloc(o->count, sizeof *d->lanes);
  d->preamble = malloc(o->preamble_bytes + 1);
  if (d->lanes == NULL || d->preamble == NULL)
    return out_of_memory(err);
  d->count = o->count;
  if (o->preamble_bytes > 0)
    memcpy(d->preamble, o->preamble, o->preamble_bytes);
  d->preamble_bytes = o->preamble_bytes;
  d->preamble_raw_bytes =
      o->preamble_raw_bytes > 0 ? (uint64_t)o->preamble_raw_bytes : o->preamble_bytes;
  for (size_t i = 0; i < d->count; i++)
    if (!open_lane(d, &d->lanes[i], o, err))
      return false;
  return true;
}

struct tm_sink *tm_oss_deal_open(struct tm_oss *store,
                                 const struct tm_oss_deal_opts *opts,
                                 struct tm_error *err)
{
  if (opts->prefix == NULL || opts->count == 0 || opts->count > TM_OSS_DEAL_MOST) {
    tm_error_set(err, TM_EUSAGE,
                 "objects that rows are dealt over need a prefix and a "
                 "count of 1 to %d",
                 TM_OSS_DEAL_MOST);
    return NULL;
  }
  struct deal *d = calloc(1, sizeof *d);
  if (d == NULL) {
    out_of_memory(err);
    return NULL;
  }
  d->base.ops = &ops;
  d->store = store;
  if (init(d, opts, err))
    return &d->base;
  deal_close(&d->base);
  return NULL;
}

bool tm_oss_deal_get(struct tm_sink *deal, size_t index, struct tm_oss_object *object)
{
  struct deal *d = (struct deal *)deal;
  if (deal->ops != &ops || !d->finished || index >= d->count)
    return false;
  *object = d->lanes[index].object;
  return true;
}
