/*
** writer.c: a sink that streams into one object
**
** The caller's thread fills a part; full parts wait in a list for the upload threads. A
** part holds its share of the budget from the moment it is begun until it is uploaded. The
** first failure is kept and stops everybody. A file:// store is written through directly,
** unless the object is to be held.
*/
#include "oss/writer.h"

#include <pthread.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "base/log.h"
#include "base/thread.h"
#include "driver/crc64.h"
#include "oss/file_store.h"
#include "oss/put_opts.h"

enum {
  PART_BYTES = 8 << 20,
  S3_PART_MIN = 5 << 20,
  OSS_PART_MIN = 100 << 10,
  BUDGET_BYTES = 40 << 20,
  PARALLEL = 3,
  PARALLEL_MAX = 16,
  MAX_PARTS = 10000,
  DROP_MS = 10000, /* for what was held and nobody took */
};

struct job { /* a part on its way */
  struct job *next;
  int number;
  size_t len, cap;
  uint64_t crc64; /* of bytes, taken while they are in the cache */
  char *bytes;    /* the budget's */
};

struct writer {
  struct tm_sink base;
  struct tm_oss *store;
  char *key;
  struct tm_oss_put_opts put; /* strings are ours */
  struct tm_oss_budget *budget;
  bool own_budget;
  size_t part_bytes;
  int parallel;
  struct tm_cancel cancel;
  bool hold;
  struct tm_oss_budget *hold_budget; /* or NULL */
  struct tm_oss_held *held;          /* finished, and taken by nobody yet */

  struct job *filling; /* of the caller's thread */
  int parts;           /* begun so far */
  char *upload_id;     /* NULL: no multipart upload yet */
  bool stray;          /* one may have been begun whose id was not told */
  pthread_t threads[PARALLEL_MAX];
  int thread_count;
  struct tm_file_out file; /* file:// only */
  bool file_open;
  bool ended; /* finished or aborted */
  bool has_result;
  struct tm_oss_written result;

  pthread_mutex_t lock; /* guards what follows */
  pthread_cond_t work;
  struct job *first, **last;
  bool closing; /* no more jobs will come */
  bool failed;
  struct tm_error error;
  struct tm_oss_part *done; /* by number - 1 */
  size_t done_cap;
};

static bool out_of_memory(struct tm_error *err)
{
  tm_error_set(err, TM_EMEMORY, "out of memory");
  return false;
}

/* Part n's size: grows so that 10,000 parts go far, never above the budget. */
static size_t part_size(const struct writer *w, int number)
{
  static const unsigned eighths[] = {8, 10, 13, 20, 40};
  size_t size = w->part_bytes / 8 * eighths[(number - 1) / 2000];
  if (size > tm_oss_budget_total(w->budget) && number > 2000)
    size = tm_oss_budget_total(w->budget);
  return size > w->part_bytes ? size : w->part_bytes;
}

static void job_free(struct writer *w, struct job *j)
{
  if (j == NULL)
    return;
  tm_oss_budget_release(w->budget, j->bytes, j->cap);
  tm_oss_budget_give(w->budget, j->cap);
  free(j);
}

/* Keeps the first failure and stops the other uploads. */
static void fail(struct writer *w, const struct tm_error *err)
{
  pthread_mutex_lock(&w->lock);
  if (!w->failed) {
    w->failed = true;
    w->error = *err;
  }
  pthread_mutex_unlock(&w->lock);
  tm_cancel_fire(&w->cancel);
}

static bool has_failed(struct writer *w, struct tm_error *err)
{
  pthread_mutex_lock(&w->lock);
  bool failed = w->failed;
  if (failed)
    *err = w->error;
  pthread_mutex_unlock(&w->lock);
  return failed;
}

static struct job *next_job(struct writer *w)
{
  pthread_mutex_lock(&w->lock);
  while (w->first == NULL && !w->closing)
    pthread_cond_wait(&w->work, &w->lock);
  struct job *j = w->first;
  if (j != NULL) {
    w->first = j->next;
    if (w->first == NULL)
      w->last = &w->first;
  }
  pthread_mutex_unlock(&w->lock);
  return j;
}

static void *upload_main(void *arg)
{
  struct writer *w = arg;
  for (struct job *j; (j = next_job(w)) != NULL; job_free(w, j)) {
    struct tm_error err;
    struct tm_oss_part part = {.has_crc64 = true, .crc64 = j->crc64};
    if (tm_cancel_fired(&w->cancel))
      continue;
    if (!tm_oss_multipart_part(w->store, w->key, w->upload_id, j->number, j->bytes,
                               j->len, &part, &w->cancel, &err)) {
      fail(w, &err);
      continue;
    }
    pthread_mutex_lock(&w->lock);
    w->done[j->number - 1] = part;
    pthread_mutex_unlock(&w->lock);
  }
  return NULL;
}

static bool begin_part(struct writer *w, struct tm_error *err)
{
  size_t size = part_size(w, w->parts + 1);
  if (w->parts == MAX_PARTS) {
    tm_error_set(err, TM_EUSAGE, "'%.200s' grew beyond %d parts", w->key, MAX_PARTS);
    tm_error_hint(err, "write several objects, or give a larger part_bytes and budget");
    return false;
  }
  if (!tm_oss_budget_take(w->budget, size, &w->cancel)) {
    if (!has_failed(w, err))
      tm_error_set(err, TM_ECANCELED, "cancelled");
    return false;
  }
  struct job *j = calloc(1, sizeof *j);
  if (j != NULL)
    j->bytes = tm_oss_budget_memory(w->budget, size);
  if (j == NULL || j->bytes == NULL) {
    free(j);
    tm_oss_budget_give(w->budget, size);
    return out_of_memory(err);
  }
  j->number = ++w->parts;
  j->cap = size;
  w->filling = j;
  return true;
}

static bool begin_upload(struct writer *w, struct tm_error *err)
{
  if (w->upload_id != NULL ||
      tm_oss_multipart_create(w->store, w->key, &w->put, &w->upload_id, &w->cancel, err))
    return true;
  w->stray = err->kind != TM_EAUTH && err->kind != TM_EUSAGE && err->kind != TM_ENOTFOUND;
  return false;
}

/* Room for the part's entry, made before any thread may write to it. */
static bool reserve_done(struct writer *w, size_t count, struct tm_error *err)
{
  bool ok = true;
  pthread_mutex_lock(&w->lock);
  if (count > w->done_cap) {
    size_t cap = w->done_cap == 0 ? 64 : w->done_cap * 2;
    struct tm_oss_part *grown = realloc(w->done, cap * sizeof *grown);
    ok = grown != NULL;
    if (ok) {
      w->done = grown;
      w->done_cap = cap;
    }
  }
  pthread_mutex_unlock(&w->lock);
  return ok || out_of_memory(err);
}

/* Gives the part being filled to the upload threads. */
static bool submit(struct writer *w, struct tm_error *err)
{
  struct job *j = w->filling;
  if (!begin_upload(w, err) || !reserve_done(w, (size_t)j->number, err))
    return false;
  if (w->thread_count < w->parallel) {
    int rc = tm_thread_start(&w->threads[w->thread_count], upload_main, w);
    if (rc == 0) {
      w->thread_count++;
    } else if (w->thread_count == 0) {
      tm_error_errno(err, TM_ESYSTEM, rc, "cannot start a thread");
      return false;
    }
  }
  w->filling = NULL;
  pthread_mutex_lock(&w->lock);
  *w->last = j;
  w->last = &j->next;
  pthread_cond_signal(&w->work);
  pthread_mutex_unlock(&w->lock);
  return true;
}

static bool writes_through(const struct writer *w)
{
  return w->store->scheme == TM_OSS_FILE && !w->hold;
}

static bool write_file(struct writer *w, const struct tm_slab *slab, struct tm_error *err)
{
  if (!w->file_open) {
    w->file_open = true;
    if (!tm_file_begin(w->store, w->key, &w->file, err))
      return false;
  }
  if (tm_cancel_fired(&w->cancel) || tm_cancel_fired(tm_interrupt())) {
    tm_error_set(err, TM_ECANCELED, "cancelled");
    return false;
  }
  return tm_file_write(&w->file, slab->data, slab->len, err);
}

static bool write_bytes(struct writer *w, const char *bytes, size_t n,
                        struct tm_error *err)
{
  while (n > 0) {
    if (w->filling == NULL && (has_failed(w, err) || !begin_part(w, err)))
      return false;
    struct job *j = w->filling;
    size_t room = j->cap - j->len, some = n < room ? n : room;
    memcpy(j->bytes + j->len, bytes, some);
    j->crc64 = tm_crc64(j->crc64, bytes, some);
    j->len += some;
    bytes += some;
    n -= some;
    if (j->len == j->cap && !submit(w, err))
      return false;
  }
  return true;
}

static bool writer_write(struct tm_sink *self, struct tm_slab *slab, struct tm_error *err)
{
  struct writer *w = (struct writer *)self;
  bool ok = false;
  if (w->ended)
    tm_error_set(err, TM_EUSAGE, "the writer is finished");
  else if (writes_through(w))
    ok = write_file(w, slab, err);
  else
    ok = write_bytes(w, slab->data, slab->len, err);
  if (ok)
    w->result.size += (int64_t)slab->len;
  tm_slab_free(slab);
  return ok;
}

static void join(struct writer *w)
{
  pthread_mutex_lock(&w->lock);
  w->closing = true;
  pthread_cond_broadcast(&w->work);
  pthread_mutex_unlock(&w->lock);
  for (int i = 0; i < w->thread_count; i++)
    pthread_join(w->threads[i], NULL);
  w->thread_count = 0;
}

static void drop_upload(struct writer *w)
{
  struct tm_error err;
  if (w->upload_id != NULL &&
      !tm_oss_multipart_abort(w->store, w->key, w->upload_id, true, &err))
    tm_log(TM_WARN, "an unfinished upload is left behind: %s", err.message);
  free(w->upload_id);
  w->upload_id = NULL;
}

/* After a failure: a writer that holds leaves the upload to whoever takes it, or to close. */
static void give_up(struct writer *w)
{
  if (w->hold && (w->upload_id != NULL || w->stray) &&
      (w->held = calloc(1, sizeof *w->held)) != NULL) {
    w->held->key = w->key;
    w->held->upload_id = w->upload_id;
    w->held->stray = w->stray;
    w->key = w->upload_id = NULL;
  }
  drop_upload(w);
}

static bool finish_file(struct writer *w, struct tm_oss_info *info, struct tm_error *err)
{
  struct tm_slab nothing = {0};
  bool ok = write_file(w, &nothing, err) && /* an empty object is one too */
            tm_file_commit(w->store, w->key, &w->file, w->put.create_only, info, err);
  tm_file_abandon(&w->file);
  return ok;
}

static bool finish_put(struct writer *w, struct tm_oss_info *info, struct tm_error *err)
{
  const struct job *j = w->filling;
  w->parts = 0;
  return tm_oss_put(w->store, w->key, j != NULL ? j->bytes : "", j != NULL ? j->len : 0,
                    &w->put, info, &w->cancel, err);
}

/* Uploads what is left and waits until every part is there. */
static bool finish_parts(struct writer *w, struct tm_error *err)
{
  bool ok = w->filling == NULL || submit(w, err);
  join(w);
  return ok && !has_failed(w, err);
}

static bool finish_upload(struct writer *w, struct tm_oss_info *info,
                          struct tm_error *err)
{
  if (!finish_parts(w, err) ||
      !tm_oss_multipart_complete(w->store, w->key, w->upload_id, w->done,
                                 (size_t)w->parts, w->put.create_only, info, &w->cancel,
                                 err))
    return false;
  free(w->upload_id); /* it is an object now */
  w->upload_id = NULL;
  return true;
}

/* Whether the object stays in memory until it is completed: a part that nothing was sent of. */
static bool keeps_bytes(struct writer *w)
{
  size_t n = w->filling != NULL ? w->filling->len : 0;
  return w->upload_id == NULL &&
         (w->hold_budget == NULL || tm_oss_budget_try(w->hold_budget, n));
}

static bool hold_bytes(struct writer *w, struct tm_oss_held *h, struct tm_error *err)
{
  const struct job *j = w->filling;
  size_t n = j != NULL ? j->len : 0;
  h->bytes = malloc(n + 1); /* no more than it needs: a part's buffer is larger */
  if (h->bytes == NULL)
    return out_of_memory(err);
  if (n > 0)
    memcpy(h->bytes, j->bytes, n);
  h->crc64 = j != NULL ? j->crc64 : 0;
  return true;
}

static bool hold_upload(struct writer *w, struct tm_oss_held *h, struct tm_error *err)
{
  if (!finish_parts(w, err))
    return false;
  for (int i = 0; i < w->parts; i++)
    h->crc64 = tm_crc64_combine(h->crc64, w->done[i].crc64, (uint64_t)w->done[i].size);
  h->upload_id = w->upload_id;
  h->parts = w->done;
  h->part_count = (size_t)w->parts;
  w->upload_id = NULL;
  w->done = NULL;
  return true;
}

static bool finish_hold(struct writer *w, struct tm_error *err)
{
  struct tm_oss_held *h = calloc(1, sizeof *h);
  if (h == NULL)
    return out_of_memory(err);
  bool ok = keeps_bytes(w) ? hold_bytes(w, h, err) : hold_upload(w, h, err);
  if (!ok) {
    tm_oss_held_free(h);
    return false;
  }
  h->key = w->key;
  w->key = NULL;
  h->put = w->put;
  w->put = (struct tm_oss_put_opts){0};
  h->size = w->result.size;
  w->held = h;
  return true;
}

static bool writer_finish(struct tm_sink *self, struct tm_error *err)
{
  struct writer *w = (struct writer *)self;
  struct tm_oss_info info = {0};
  bool ok;
  if (w->ended) {
    tm_error_set(err, TM_EUSAGE, "the writer is finished");
    return false;
  }
  w->ended = true;
  if (w->hold)
    ok = finish_hold(w, err);
  else if (writes_through(w))
    ok = finish_file(w, &info, err);
  else if (w->upload_id == NULL)
    ok = finish_put(w, &info, err);
  else
    ok = finish_upload(w, &info, err);
  job_free(w, w->filling);
  w->filling = NULL;
  if (!ok) {
    join(w);
    give_up(w);
    return false;
  }
  w->has_result = !w->hold;
  w->result.crc64 = info.crc64;
  w->result.parts = w->parts;
  memcpy(w->result.etag, info.etag, sizeof w->result.etag);
  tm_oss_info_free(&info);
  return true;
}

static void writer_abort(struct tm_sink *self, const char *why)
{
  (void)why;
  struct writer *w = (struct writer *)self;
  if (w->ended)
    return;
  w->ended = true;
  tm_cancel_fire(&w->cancel);
  join(w);
  give_up(w);
  if (w->file_open)
    tm_file_abandon(&w->file);
  job_free(w, w->filling);
  w->filling = NULL;
}

static void writer_cancel(struct tm_sink *self)
{
  tm_cancel_fire(&((struct writer *)self)->cancel);
}

static void drop_held(struct writer *w)
{
  struct tm_error err;
  if (w->held != NULL &&
      !tm_oss_held_drop(w->store, w->held, tm_clock_deadline(DROP_MS), &err))
    tm_log(TM_WARN, "an unfinished upload is left behind: %s", err.message);
  tm_oss_held_free(w->held);
  w->held = NULL;
}

static void writer_close(struct tm_sink *self)
{
  struct writer *w = (struct writer *)self;
  if (w->base.ops == NULL) /* half built */
    w->ended = true;
  writer_abort(self, "closed");
  drop_held(w);
  if (w->own_budget)
    tm_oss_budget_free(w->budget);
  tm_oss_put_opts_free(&w->put);
  tm_cancel_close(&w->cancel);
  pthread_mutex_destroy(&w->lock);
  pthread_cond_destroy(&w->work);
  free(w->done);
  free(w->key);
  free(w);
}

static const struct tm_sink_ops ops = {.name = "object",
                                       .write = writer_write,
                                       .finish = writer_finish,
                                       .abort = writer_abort,
                                       .cancel = writer_cancel,
                                       .close = writer_close};

static bool init(struct writer *w, const char *key, const struct tm_oss_writer_opts *o,
                 struct tm_error *err)
{
  size_t least = w->store->scheme == TM_OSS_S3 ? S3_PART_MIN : OSS_PART_MIN;
  w->part_bytes = o->part_bytes > 0 ? o->part_bytes : PART_BYTES;
  if (w->part_bytes < least)
    w->part_bytes = least;
  w->parallel = o->parallel > 0 ? o->parallel : PARALLEL;
  if (w->parallel > PARALLEL_MAX)
    w->parallel = PARALLEL_MAX;
  size_t budget = o->budget_bytes > 0 ? o->budget_bytes : BUDGET_BYTES;
  w->budget = o->budget;
  if (w->budget == NULL) {
    w->budget = tm_oss_budget_new(budget > w->part_bytes ? budget : w->part_bytes, err);
    w->own_budget = true;
    if (w->budget == NULL)
      return false;
  }
  w->key = strdup(key);
  if (w->key == NULL)
    return out_of_memory(err);
  w->hold = o->hold;
  w->hold_budget = o->hold_budget;
  return tm_oss_put_opts_copy(&w->put, &o->put, err) && tm_cancel_open(&w->cancel, err);
}

struct tm_sink *tm_oss_writer_open(struct tm_oss *store, const char *key,
                                   const struct tm_oss_writer_opts *opts,
                                   struct tm_error *err)
{
  static const struct tm_oss_writer_opts defaults;
  struct writer *w = calloc(1, sizeof *w);
  if (w == NULL) {
    out_of_memory(err);
    return NULL;
  }
  w->store = store;
  w->cancel.fd = -1;
  w->file.dir = w->file.fd = -1;
  w->last = &w->first;
  pthread_mutex_init(&w->lock, NULL);
  pthread_cond_init(&w->work, NULL);
  if (!init(w, key, opts != NULL ? opts : &defaults, err)) {
    writer_close(&w->base);
    return NULL;
  }
  w->base.ops = &ops;
  return &w->base;
}

bool tm_oss_writer_result(const struct tm_sink *writer, struct tm_oss_written *out)
{
  const struct writer *w = (const struct writer *)writer;
  if (writer->ops != &ops || !w->has_result)
    return false;
  *out = w->result;
  return true;
}

bool tm_oss_writer_held(struct tm_sink *writer, struct tm_oss_held **out)
{
  struct writer *w = (struct writer *)writer;
  if (writer->ops != &ops || w->held == NULL)
    return false;
  *out = w->held;
  w->held = NULL;
  return true;
}
