/*
** objects.c: a sink that rolls over objects of about one size, split on slab bounds
**
** The object that is full is completed by a thread while the next one fills; there is at
** most one such thread, and both objects share one budget.
** The list is the writing thread's; under the lock the completing one adds to the object that
** it completed, and any thread reads those that are.
*/
#include "oss/objects.h"

#include <inttypes.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/log.h"
#include "base/thread.h"
#include "oss/held_all.h"
#include "oss/put_opts.h"
#include "oss/store.h"

enum {
  OBJECT_BYTES = 128 << 20,
  DIGITS = 5,
  BUDGET_BYTES = 40 << 20,
  HOLD_BYTES = 16 << 20,
  CLEANUP_MS = 30000, /* for removing what was completed, all together */
};

struct objects;

struct completion { /* of one object, in its own thread */
  struct objects *objects;
  struct tm_sink *writer;
  size_t index;
  pthread_t thread;
  bool running;
  bool ok;
  struct tm_error error;
};

struct objects {
  struct tm_sink base;
  struct tm_oss *store;
  struct tm_oss_objects_opts opts; /* prefix, suffix, preamble are ours */
  struct tm_oss_budget *budget;
  struct tm_oss_budget *hold_budget;
  struct tm_oss_object *list;
  struct tm_oss_held **held; /* with hold: beside the list; NULL: not ended yet */
  size_t count, cap;
  uint64_t bytes; /* written, of all objects */
  bool in_doubt;  /* the last completion may have made its object */
  bool ended;
  struct completion done;

  pthread_mutex_t
      lock; /* guards where list and held are, completed, what of an object its
                          ** completion tells, the descriptor, and the two writers
                          ** against cancel */
  size_t completed;
  int fd;                 /* an eventfd; -1 until it is asked for */
  struct tm_sink *writer; /* of the object being filled, or NULL */
  struct tm_sink *finishing;
  bool canceled;
};

static bool out_of_memory(struct tm_error *err)
{
  tm_error_set(err, TM_EMEMORY, "out of memory");
  return false;
}

static void set_writer(struct objects *o, struct tm_sink **which, struct tm_sink *writer)
{
  pthread_mutex_lock(&o->lock);
  *which = writer;
  if (writer != NULL && o->canceled)
    writer->ops->cancel(writer);
  pthread_mutex_unlock(&o->lock);
}

/* The lock is held. */
static bool grow(struct objects *o)
{
  size_t cap = o->cap == 0 ? 16 : o->cap * 2;
  struct tm_oss_object *list = realloc(o->list, cap * sizeof *list);
  if (list == NULL)
    return false;
  o->list = list;
  if (o->opts.hold) {
    struct tm_oss_held **held = realloc(o->held, cap * sizeof *held);
    if (held == NULL)
      return false;
    o->held = held;
  }
  o->cap = cap;
  return true;
}

/* The key of object `index`, from 0, malloc'd; NULL: out of memory. */
static char *name_object(const struct objects *o, size_t index)
{
  char *key = NULL;
  if (o->opts.name != NULL)
    return o->opts.name(o->opts.name_data, index);
  if (asprintf(&key, "%s%0*zu%s", o->opts.prefix, o->opts.digits, index + 1,
               o->opts.suffix) < 0)
    return NULL;
  return key;
}

static struct tm_oss_object *add_object(struct objects *o, struct tm_error *err)
{
  pthread_mutex_lock(&o->lock);
  bool room = o->count < o->cap || grow(o);
  pthread_mutex_unlock(&o->lock);
  if (!room) {
    out_of_memory(err);
    return NULL;
  }
  struct tm_oss_object *object = &o->list[o->count];
  *object = (struct tm_oss_object){.key = name_object(o, o->count)};
  if (o->opts.hold)
    o->held[o->count] = NULL;
  if (object->key == NULL) {
    out_of_memory(err);
    return NULL;
  }
  o->count++;
  return object;
}

static bool write_preamble(struct objects *o, struct tm_oss_object *object,
                           struct tm_error *err)
{
  size_t n = o->opts.preamble_bytes;
  if (n == 0)
    return true;
  struct tm_slab *slab = tm_slab_new(n, err);
  if (slab == NULL)
    return false;
  memcpy(slab->data, o->opts.preamble, n);
  slab->len = n;
  object->bytes = n;
  o->bytes += n;
  object->raw_bytes = (uint64_t)o->opts.preamble_raw_bytes;
  return o->writer->ops->write(o->writer, slab, err);
}

static bool begin_object(struct objects *o, struct tm_error *err)
{
  struct tm_oss_object *object = add_object(o, err);
  if (object == NULL)
    return false;
  struct tm_sink *writer =
      tm_oss_writer_open(o->store, object->key, &o->opts.writer, err);
  if (writer == NULL)
    return false;
  set_writer(o, &o->writer, writer);
  return write_preamble(o, object, err);
}

/* A store that refuses the key, or has no bucket, made none, nor would it let us remove one. */
bool tm_oss_may_exist(const struct tm_error *err)
{
  return err->kind != TM_EEXISTS && err->kind != TM_EAUTH &&
         strcmp(err->code, "NoSuchBucket") != 0;
}

/* With hold: takes what is left of a writer that failed or was aborted, to be dropped. */
static void take_over(struct objects *o, struct tm_sink *writer, size_t index)
{
  if (o->opts.hold)
    tm_oss_writer_held(writer, &o->held[index]);
}

/* A writer was finished: notes what became of its object. */
static void note_finished(struct objects *o, struct tm_sink *writer, size_t index)
{
  pthread_mutex_lock(&o->lock);
  struct tm_oss_object *object = &o->list[index];
  struct tm_oss_written w;
  struct tm_oss_held *h;
  if (tm_oss_writer_held(writer, &h)) {
    h->rows = object->rows;
    h->raw_bytes = object->raw_bytes;
    object->crc64 = h->crc64;
    o->held[index] = h;
  } else if (tm_oss_writer_result(writer, &w)) {
    object->crc64 = w.crc64;
    memcpy(object->etag, w.etag, sizeof w.etag);
  }
  o->completed++;
  if (o->fd >= 0)
    eventfd_write(o->fd, 1);
  pthread_mutex_unlock(&o->lock);
}

static bool complete(struct objects *o, struct tm_sink *writer, size_t index,
                     struct tm_error *err)
{
  if (!writer->ops->finish(writer, err)) {
    o->in_doubt = tm_oss_may_exist(err);
    return false;
  }
  note_finished(o, writer, index);
  return true;
}

static void *complete_main(void *arg)
{
  struct completion *c = arg;
  c->ok = c->writer->ops->finish(c->writer, &c->error);
  if (c->ok)
    note_finished(c->objects, c->writer, c->index);
  return NULL;
}

/* Waits for the object that is being completed, if there is one. */
static bool settle(struct objects *o, struct tm_error *err)
{
  struct completion *c = &o->done;
  if (!c->running)
    return true;
  pthread_join(c->thread, NULL);
  c->running = false;
  if (!c->ok)
    take_over(o, c->writer, c->index);
  set_writer(o, &o->finishing, NULL);
  tm_sink_close(c->writer);
  c->writer = NULL;
  if (c->ok)
    return true;
  o->in_doubt = tm_oss_may_exist(&c->error);
  *err = c->error;
  return false;
}

/* Hands the full object to the completing thread. */
static bool roll(struct objects *o, struct tm_error *err)
{
  if (!settle(o, err))
    return false;
  struct completion *c = &o->done;
  *c = (struct completion){.objects = o, .writer = o->writer, .index = o->count - 1};
  set_writer(o, &o->finishing, o->writer);
  set_writer(o, &o->writer, NULL);
  int rc = tm_thread_start(&c->thread, complete_main, c);
  c->running = rc == 0;
  if (c->running)
    return true;
  bool ok = complete(o, c->writer, c->index, err); /* no thread: here and now */
  set_writer(o, &o->finishing, NULL);
  tm_sink_close(c->writer);
  c->writer = NULL;
  return ok;
}

/* Whether the object being filled has its size (objects.h, first_bytes). */
static bool is_full(const struct objects *o)
{
  uint64_t bytes = o->list[o->count - 1].bytes, before = o->bytes - bytes;
  uint64_t full = (uint64_t)o->opts.object_bytes, first = (uint64_t)o->opts.first_bytes;
  uint64_t early = before > first ? before : first;
  return bytes >= full || (first > 0 && bytes >= early);
}

static bool write_slab(struct objects *o, struct tm_slab *slab, struct tm_error *err)
{
  if (o->ended) {
    tm_error_set(err, TM_EUSAGE, "the objects are finished");
    tm_slab_free(slab);
    return false;
  }
  if ((o->writer != NULL && is_full(o) && !roll(o, err)) ||
      (o->writer == NULL && !begin_object(o, err))) {
    tm_slab_free(slab);
    return false;
  }
  struct tm_oss_object *object = &o->list[o->count - 1];
  object->rows += slab->rows;
  object->bytes += slab->len;
  o->bytes += slab->len;
  object->raw_bytes += slab->raw_bytes;
  return o->writer->ops->write(o->writer, slab, err);
}

static bool objects_write(struct tm_sink *self, struct tm_slab *slab,
                          struct tm_error *err)
{
  return write_slab((struct objects *)self, slab, err);
}

static bool objects_finish(struct tm_sink *self, struct tm_error *err)
{
  struct objects *o = (struct objects *)self;
  if (o->ended) {
    tm_error_set(err, TM_EUSAGE, "the objects are finished");
    return false;
  }
  if (!settle(o, err) || (o->count == 0 && o->opts.empty_object && !begin_object(o, err)))
    return false;
  if (o->writer != NULL) {
    if (!complete(o, o->writer, o->count - 1, err))
      return false;
    struct tm_sink *writer = o->writer;
    set_writer(o, &o->writer, NULL);
    tm_sink_close(writer);
  }
  o->ended = true;
  return true;
}

/* With hold: drops what was uploaded and nobody took. */
static void drop_held(struct objects *o)
{
  struct tm_error err;
  size_t count = 0, left = 0;
  struct tm_oss_held_item *items = calloc(o->count + 1, sizeof *items);
  for (size_t i = 0; items != NULL && o->held != NULL && i < o->count; i++)
    if (o->held[i] != NULL)
      items[count++] = (struct tm_oss_held_item){o->store, o->held[i]};
  if (items != NULL && count > 0)
    left = tm_oss_held_drop_all(items, count, tm_clock_deadline(CLEANUP_MS), &err);
  if (left > 0)
    tm_log(TM_WARN, "%zu of %zu unfinished uploads are left behind: %s", left, count,
           err.message);
  for (size_t i = 0; o->held != NULL && i < o->count; i++)
    tm_oss_held_free(o->held[i]);
  free(items);
  free(o->held);
  o->held = NULL;
}

/* Deletes what was completed. The one whose completion failed may be there too. */
static void remove_completed(struct objects *o)
{
  int64_t deadline = tm_clock_mono_ms() + CLEANUP_MS;
  size_t n = o->completed + (o->in_doubt && o->completed < o->count ? 1 : 0);
  for (size_t i = 0; i < n && tm_clock_mono_ms() < deadline; i++)
    tm_oss_remove(o->store, o->list[i].key);
}

static void cancel_writers(struct objects *o)
{
  pthread_mutex_lock(&o->lock);
  o->canceled = true;
  if (o->writer != NULL)
    o->writer->ops->cancel(o->writer);
  if (o->finishing != NULL)
    o->finishing->ops->cancel(o->finishing);
  pthread_mutex_unlock(&o->lock);
}

static void objects_abort(struct tm_sink *self, const char *why)
{
  struct objects *o = (struct objects *)self;
  struct tm_error ignored;
  if (o->ended)
    return;
  o->ended = true;
  cancel_writers(o);
  if (!settle(o, &ignored) && ignored.kind == TM_EEXISTS)
    o->in_doubt = false;
  struct tm_sink *writer = o->writer;
  set_writer(o, &o->writer, NULL);
  if (writer != NULL) {
    writer->ops->abort(writer, why);
    take_over(o, writer, o->count - 1);
    tm_sink_close(writer);
  }
  if (o->opts.hold)
    drop_held(o);
  else
    remove_completed(o);
}

static void objects_cancel(struct tm_sink *self)
{
  cancel_writers((struct objects *)self);
}

static void objects_close(struct tm_sink *self)
{
  struct objects *o = (struct objects *)self;
  objects_abort(self, "closed");
  drop_held(o);
  for (size_t i = 0; i < o->count; i++)
    free(o->list[i].key);
  free(o->list);
  free((char *)o->opts.prefix);
  free((char *)o->opts.suffix);
  free((void *)o->opts.preamble);
  tm_oss_put_opts_free(&o->opts.writer.put);
  tm_oss_budget_free(o->budget);
  tm_oss_budget_free(o->hold_budget);
  if (o->fd >= 0)
    close(o->fd);
  pthread_mutex_destroy(&o->lock);
  free(o);
}

static const struct tm_sink_ops ops = {.name = "objects",
                                       .write = objects_write,
                                       .finish = objects_finish,
                                       .abort = objects_abort,
                                       .cancel = objects_cancel,
                                       .close = objects_close};

static bool init(struct objects *o, const struct tm_oss_objects_opts *from,
                 struct tm_error *err)
{
  struct tm_oss_objects_opts *to = &o->opts;
  size_t budget =
      from->writer.budget_bytes > 0 ? from->writer.budget_bytes : BUDGET_BYTES;
  *to = *from;
  to->writer.put = (struct tm_oss_put_opts){0};
  to->prefix = strdup(from->prefix != NULL ? from->prefix : "");
  to->suffix = strdup(from->suffix != NULL ? from->suffix : "");
  to->preamble = malloc(from->preamble_bytes + 1);
  if (to->prefix == NULL || to->suffix == NULL || to->preamble == NULL)
    return out_of_memory(err);
  if (!tm_oss_put_opts_copy(&to->writer.put, &from->writer.put, err))
    return false;
  if (from->preamble_bytes > 0)
    memcpy((void *)to->preamble, from->preamble, from->preamble_bytes);
  if (to->preamble_raw_bytes == 0)
    to->preamble_raw_bytes = (int64_t)from->preamble_bytes;
  to->writer.put.create_only = !from->overwrite;
  if (to->digits <= 0 || to->digits > 18)
    to->digits = DIGITS;
  if (to->object_bytes <= 0)
    to->object_bytes = OBJECT_BYTES;
  if (budget < to->writer.part_bytes)
    budget = to->writer.part_bytes;
  o->budget = tm_oss_budget_new(budget, err);
  to->writer.budget = o->budget;
  to->writer.hold = from->hold;
  if (o->budget != NULL && from->hold) {
    size_t bytes = from->hold_bytes > 0 ? from->hold_bytes : HOLD_BYTES;
    o->hold_budget = tm_oss_budget_new(bytes, err);
    to->writer.hold_budget = o->hold_budget;
  }
  return o->budget != NULL && (!from->hold || o->hold_budget != NULL);
}

struct tm_sink *tm_oss_objects_open(struct tm_oss *store,
                                    const struct tm_oss_objects_opts *opts,
                                    struct tm_error *err)
{
  if (opts->prefix == NULL && opts->name == NULL) {
    tm_error_set(err, TM_EUSAGE, "objects need a prefix or a function for their keys");
    return NULL;
  }
  struct objects *o = calloc(1, sizeof *o);
  if (o == NULL) {
    out_of_memory(err);
    return NULL;
  }
  o->base.ops = &ops;
  o->store = store;
  o->fd = -1;
  pthread_mutex_init(&o->lock, NULL);
  if (init(o, opts, err))
    return &o->base;
  objects_close(&o->base);
  return NULL;
}

bool tm_oss_objects_get(struct tm_sink *objects, size_t index,
                        struct tm_oss_object *object)
{
  struct objects *o = (struct objects *)objects;
  if (objects->ops != &ops)
    return false;
  pthread_mutex_lock(&o->lock);
  bool there = index < o->completed;
  eventfd_t news;
  if (there)
    *object = o->list[index];
  else if (o->fd >= 0)
    eventfd_read(o->fd, &news);
  pthread_mutex_unlock(&o->lock);
  return there;
}

int tm_oss_objects_fd(struct tm_sink *objects)
{
  struct objects *o = (struct objects *)objects;
  if (objects->ops != &ops)
    return -1;
  pthread_mutex_lock(&o->lock);
  if (o->fd < 0)
    o->fd = eventfd(o->completed > 0, EFD_CLOEXEC | EFD_NONBLOCK);
  int fd = o->fd;
  pthread_mutex_unlock(&o->lock);
  return fd;
}

void tm_oss_objects_remove(struct tm_sink *objects)
{
  struct objects *o = (struct objects *)objects;
  if (objects->ops == &ops && o->ended && !o->opts.hold)
    remove_completed(o);
}

bool tm_oss_objects_held(struct tm_sink *objects, struct tm_oss_held ***list,
                         size_t *count)
{
  struct objects *o = (struct objects *)objects;
  if (objects->ops != &ops || !o->opts.hold || !o->ended || o->completed < o->count ||
      (o->count > 0 && o->held == NULL))
    return false;
  *list = o->held;
  *count = o->held != NULL ? o->count : 0;
  o->held = NULL;
  return true;
}
