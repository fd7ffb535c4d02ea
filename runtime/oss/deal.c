/*
** deal.c: a sink that deals slabs over a number of objects, which grow evenly
**
** Each sink (a port) belongs to one stream; what they share is counted by them. A slab goes
** to the object with the fewest bytes that nobody writes to at the moment, and there are no
** more ports than objects. The last port to finish completes the objects, by several threads,
** each of which takes the next one that nobody has; the last port to end after a failure
** removes them.
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
  bool busy; /* a port writes to it, and alone may look at object */
  enum state state;
  struct tm_error error; /* of a completion that failed */
};

struct deal {
  struct tm_oss *store;
  char *preamble;
  size_t preamble_bytes;
  uint64_t preamble_raw_bytes;
  size_t count;
  struct lane *lanes;
  atomic_size_t next; /* lane to be completed */
  atomic_bool failed; /* nothing will come of it */

  pthread_mutex_t lock; /* guards what follows, and busy */
  size_t ports;         /* that are not closed */
  size_t active;        /* that have not ended */
};

struct port {
  struct tm_sink base;
  struct deal *deal;
  bool ended;
  atomic_bool completed; /* it was the one that completed the objects; any thread asks */
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

/* The smallest that is free becomes busy. */
static struct lane *take_lane(struct deal *d)
{
  struct lane *found = NULL;
  pthread_mutex_lock(&d->lock);
  for (size_t i = 0; i < d->count; i++)
    if (!d->lanes[i].busy &&
        (found == NULL || d->lanes[i].object.bytes < found->object.bytes))
      found = &d->lanes[i];
  found->busy = true;
  pthread_mutex_unlock(&d->lock);
  return found;
}

static void give_lane(struct deal *d, struct lane *l)
{
  pthread_mutex_lock(&d->lock);
  l->busy = false;
  pthread_mutex_unlock(&d->lock);
}

static bool is_open(const struct port *p, struct tm_error *err)
{
  if (p->ended)
    tm_error_set(err, TM_EUSAGE, "the objects are finished");
  else if (atomic_load(&p->deal->failed))
    tm_error_set(err, TM_ECANCELED, "another stream to the same objects failed");
  else
    return true;
  return false;
}

static bool deal_write(struct tm_sink *self, struct tm_slab *slab, struct tm_error *err)
{
  struct port *p = (struct port *)self;
  if (!is_open(p, err)) {
    tm_slab_free(slab);
    return false;
  }
  struct lane *l = take_lane(p->deal);
  bool ok = begin(p->deal, l, err);
  if (ok)
    ok = write_to(l, slab, err);
  else
    tm_slab_free(slab);
  give_lane(p->deal, l);
  return ok;
}

/* ---- completing ---- */

static bool complete(const struct deal *d, struct lane *l, struct tm_error *err)
{
  struct tm_oss_written w;
  if (!begin(d, l, err))
    return false;
  if (!l->writer->ops->finish(l->writer, err)) {
    l->state = tm_oss_may_exist(err) ? IN_DOUBT : FAILED;
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

/* All of them. */
static bool complete_all(struct deal *d, struct tm_error *err)
{
  pthread_t threads[THREADS];
  size_t started = 0;
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
  return true;
}

/* ---- ending ---- */

/* Whether no other port is active any more. */
static bool leave(struct port *p)
{
  struct deal *d = p->deal;
  p->ended = true;
  pthread_mutex_lock(&d->lock);
  bool last = --d->active == 0;
  pthread_mutex_unlock(&d->lock);
  return last;
}

static void cancel_all(struct deal *d)
{
  for (size_t i = 0; i < d->count; i++)
    if (d->lanes[i].writer != NULL)
      d->lanes[i].writer->ops->cancel(d->lanes[i].writer);
}

/* Deletes what is, or may be, there. */
static void delete_all(struct deal *d)
{
  int64_t deadline = tm_clock_mono_ms() + CLEANUP_MS;
  for (size_t i = 0; i < d->count && tm_clock_mono_ms() < deadline; i++)
    if (d->lanes[i].state == COMPLETE || d->lanes[i].state == IN_DOUBT)
      tm_oss_remove(d->store, d->lanes[i].object.key);
}

/* Nobody writes any more. */
static void remove_all(struct deal *d, const char *why)
{
  cancel_all(d);
  for (size_t i = 0; i < d->count; i++)
    if (d->lanes[i].state == OPEN && d->lanes[i].writer != NULL)
      d->lanes[i].writer->ops->abort(d->lanes[i].writer, why);
  delete_all(d);
}

static bool deal_finish(struct tm_sink *self, struct tm_error *err)
{
  struct port *p = (struct port *)self;
  struct deal *d = p->deal;
  if (!is_open(p, err))
    return false;
  if (!leave(p))
    return true;
  if (atomic_load(&d->failed))
    tm_error_set(err, TM_ECANCELED, "another stream to the same objects failed");
  else
    atomic_store(&p->completed, complete_all(d, err));
  if (atomic_load(&p->completed))
    return true;
  atomic_store(&d->failed, true);
  remove_all(d, "not finished");
  return false;
}

static void deal_abort(struct tm_sink *self, const char *why)
{
  struct port *p = (struct port *)self;
  if (p->ended)
    return;
  atomic_store(&p->deal->failed, true);
  if (leave(p))
    remove_all(p->deal, why);
  else
    cancel_all(p->deal); /* wakes the others, which leave too */
}

static void deal_cancel(struct tm_sink *self)
{
  struct deal *d = ((struct port *)self)->deal;
  atomic_store(&d->failed, true);
  cancel_all(d);
}

static void deal_free(struct deal *d)
{
  for (size_t i = 0; i < d->count; i++) {
    tm_sink_close(d->lanes[i].writer);
    free(d->lanes[i].object.key);
  }
  pthread_mutex_destroy(&d->lock);
  free(d->lanes);
  free(d->preamble);
  free(d);
}

static void deal_close(struct tm_sink *self)
{
  struct port *p = (struct port *)self;
  struct deal *d = p->deal;
  deal_abort(self, "closed");
  pthread_mutex_lock(&d->lock);
  bool last = --d->ports == 0;
  pthread_mutex_unlock(&d->lock);
  if (last)
    deal_free(d);
  free(p);
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

static struct tm_sink *new_port(struct deal *d, struct tm_error *err)
{
  struct port *p = calloc(1, sizeof *p);
  if (p == NULL) {
    out_of_memory(err);
    return NULL;
  }
  p->base.ops = &ops;
  p->deal = d;
  pthread_mutex_lock(&d->lock);
  bool ok = d->ports == 0 || (d->active > 0 && d->ports < d->count);
  if (ok) {
    d->ports++;
    d->active++;
  }
  pthread_mutex_unlock(&d->lock);
  if (ok)
    return &p->base;
  free(p);
  tm_error_set(err, TM_EUSAGE, "no more streams to %zu objects, or they have ended",
               d->count);
  return NULL;
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
  d->store = store;
  pthread_mutex_init(&d->lock, NULL);
  struct tm_sink *port = init(d, opts, err) ? new_port(d, err) : NULL;
  if (port == NULL)
    deal_free(d);
  return port;
}

struct tm_sink *tm_oss_deal_another(struct tm_sink *deal, struct tm_error *err)
{
  if (deal->ops == &ops)
    return new_port(((struct port *)deal)->deal, err);
  tm_error_set(err, TM_EUSAGE, "only objects of a given count take several streams");
  return NULL;
}

bool tm_oss_deal_get(struct tm_sink *deal, size_t index, struct tm_oss_object *object)
{
  struct port *p = (struct port *)deal;
  if (deal->ops != &ops || !atomic_load(&p->completed) || index >= p->deal->count)
    return false;
  *object = p->deal->lanes[index].object;
  return true;
}

void tm_oss_deal_remove(struct tm_sink *deal)
{
  struct port *p = (struct port *)deal;
  if (deal->ops == &ops && atomic_load(&p->completed))
    delete_all(p->deal);
}
