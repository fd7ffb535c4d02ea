/*
** reader.c: a source that reads one object, ranges ahead in parallel, bytes in order
**
** Range i lies in slot i % parallel. Threads take ranges in order, at most `parallel`
** beyond the one being handed out, and put slabs into their slot; read hands out the slabs
** of the first slot as they come. CRCs of the ranges are combined in order at the end. What
** is one slab in all is fetched by read itself. A reader that was opened ahead fetches its
** first range only, until it is read from: that much memory hides the wait for the store.
*/
#include "oss/reader.h"

#include <inttypes.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "base/thread.h"
#include "driver/crc64.h"
#include "oss/store.h"

enum { RANGE_BYTES = 8 << 20, PARALLEL = 3, PARALLEL_MAX = 16 };

struct slot {
  struct tm_slab **slabs; /* ready ones, as many as a range can have */
  size_t ready, taken;
  bool done; /* the whole range is there */
  uint64_t crc64;
  int64_t length;
};

struct reader {
  struct tm_source base;
  struct tm_oss *store;
  char *key;
  struct tm_oss_reader_opts opts; /* etag is in `etag` */
  char etag[128];                 /* what every request must meet */
  bool expected_etag;             /* it was given by the caller */
  struct tm_cancel cancel;
  bool started, begun, has_info;
  struct tm_oss_info info;
  int64_t first, total; /* the bytes wanted */
  int64_t ranges;
  size_t range_bytes;
  int parallel;
  pthread_t threads[PARALLEL_MAX];
  int thread_count;
  uint64_t crc64; /* of the ranges handed out whole */

  pthread_mutex_t lock; /* guards what follows */
  bool told;            /* a GET said what CRC64 the object has: there may be no HEAD */
  uint64_t told_crc64;
  pthread_cond_t arrived, wanted;
  struct slot slots[PARALLEL_MAX];
  int64_t head, next; /* range being handed out; next range to fetch */
  int window;         /* ranges to go ahead: those that may be in memory */
  bool stopping, failed;
  struct tm_error error;
};

static bool out_of_memory(struct tm_error *err)
{
  tm_error_set(err, TM_EMEMORY, "out of memory");
  return false;
}

static void fail(struct reader *r, const struct tm_error *err)
{
  pthread_mutex_lock(&r->lock);
  if (!r->failed) {
    r->failed = true;
    r->error = *err;
  }
  pthread_cond_broadcast(&r->arrived);
  pthread_cond_broadcast(&r->wanted);
  pthread_mutex_unlock(&r->lock);
}

/* ---- fetching ---- */

struct fetch {
  struct reader *r;
  struct slot *slot;
  struct tm_slab *slab; /* being filled */
  int64_t left;         /* of the range */
  uint64_t crc64;
};

static void publish(struct fetch *f)
{
  pthread_mutex_lock(&f->r->lock);
  f->slot->slabs[f->slot->ready++] = f->slab;
  pthread_cond_signal(&f->r->arrived);
  pthread_mutex_unlock(&f->r->lock);
  f->slab = NULL;
}

static bool take(void *data, const char *bytes, size_t n, struct tm_error *err)
{
  struct fetch *f = data;
  if ((int64_t)n > f->left) {
    tm_error_set(err, TM_EPROTOCOL, "the store sends more than was asked for");
    return false;
  }
  f->crc64 = tm_crc64(f->crc64, bytes, n);
  while (n > 0) {
    if (f->slab == NULL) {
      size_t cap = f->left < TM_SLAB_BYTES ? (size_t)f->left : TM_SLAB_BYTES;
      if ((f->slab = tm_slab_new(cap, err)) == NULL)
        return false;
    }
    size_t room = f->slab->cap - f->slab->len, some = n < room ? n : room;
    memcpy(f->slab->data + f->slab->len, bytes, some);
    f->slab->len += some;
    f->left -= (int64_t)some;
    bytes += some;
    n -= some;
    if (f->slab->len == f->slab->cap)
      publish(f);
  }
  return true;
}

static bool differs(struct reader *r, const char *what, struct tm_error *err)
{
  char name[TM_OSS_NAME_SIZE];
  tm_oss_name(r->store, r->key, name);
  tm_error_set(err, TM_EINTEGRITY,
               "%s is not the object that was expected: its %s differs", name, what);
  tm_error_hint(err, "it was replaced or altered after it was written");
  return false;
}

static bool fetch_range(struct reader *r, int64_t index, struct tm_error *err)
{
  struct slot *slot = &r->slots[index % r->parallel];
  int64_t offset = index * (int64_t)r->range_bytes;
  int64_t length = r->total - offset;
  if (length > (int64_t)r->range_bytes)
    length = (int64_t)r->range_bytes;
  struct fetch f = {.r = r, .slot = slot, .left = length};
  struct tm_oss_get_opts get = {
      .range = true,
      .offset = r->first + offset,
      .length = length,
      .if_match = r->etag[0] != '\0' ? r->etag : NULL,
  };
  struct tm_oss_info info = {.size = -1};
  bool ok = tm_oss_stream(r->store, r->key, &get, take, &f, &info, &r->cancel, err);
  bool told = ok && info.has_crc64;
  uint64_t told_crc64 = info.crc64;
  if (ok)
    tm_oss_info_free(&info);
  if (ok && f.left > 0) {
    tm_error_set(err, TM_EINTEGRITY, "'%.200s' is shorter than it was said to be",
                 r->key);
    ok = false;
  }
  if (ok && info.size >= 0 && info.size != r->info.size)
    ok = differs(r, "size", err);
  tm_slab_free(f.slab);
  if (!ok)
    return false;
  pthread_mutex_lock(&r->lock);
  if (told) {
    r->told = true;
    r->told_crc64 = told_crc64;
  }
  slot->crc64 = f.crc64;
  slot->length = length;
  slot->done = true;
  pthread_cond_signal(&r->arrived);
  pthread_mutex_unlock(&r->lock);
  return true;
}

/* The next range to fetch, or -1 when there is nothing more to do. */
static int64_t next_range(struct reader *r)
{
  pthread_mutex_lock(&r->lock);
  while (!r->stopping && !r->failed && r->next < r->ranges &&
         r->next >= r->head + r->window)
    pthread_cond_wait(&r->wanted, &r->lock);
  int64_t index = r->stopping || r->failed || r->next >= r->ranges ? -1 : r->next++;
  pthread_mutex_unlock(&r->lock);
  return index;
}

static void *fetch_main(void *arg)
{
  struct reader *r = arg;
  struct tm_error err;
  for (int64_t index; (index = next_range(r)) >= 0;)
    if (!fetch_range(r, index, &err)) {
      if (err.kind == TM_ECONFLICT && r->expected_etag)
        err.kind = TM_EINTEGRITY; /* not the object the manifest names */
      fail(r, &err);
      break;
    }
  return NULL;
}

/* ---- starting ---- */

/* What the object is, from the store, or from the caller when that says enough. */
static bool look(struct reader *r, struct tm_error *err)
{
  const struct tm_oss_reader_opts *o = &r->opts;
  if (r->expected_etag && o->has_size) {
    r->info = (struct tm_oss_info){.size = o->size, .modified_ms = -1};
    r->info.has_crc64 = o->has_crc64;
    r->info.crc64 = o->crc64;
    memcpy(r->info.etag, r->etag, sizeof r->info.etag);
    r->has_info = true;
    return true;
  }
  if (!tm_oss_head(r->store, r->key, &r->info, &r->cancel, err))
    return false;
  r->has_info = true;
  if (r->info.size < 0) {
    tm_error_set(err, TM_EPROTOCOL, "the store does not tell the size of '%.200s'",
                 r->key);
    return false;
  }
  if (r->expected_etag && strcasecmp(r->etag, r->info.etag) != 0)
    return differs(r, "etag", err);
  if (o->has_size && o->size != r->info.size)
    return differs(r, "size", err);
  if (o->has_crc64 && r->info.has_crc64 && o->crc64 != r->info.crc64)
    return differs(r, "CRC64", err);
  memcpy(r->etag, r->info.etag, sizeof r->etag);
  return true;
}

static bool plan(struct reader *r, struct tm_error *err)
{
  int64_t size = r->info.size;
  r->first = r->opts.offset;
  if (r->first < 0 || r->opts.length < 0 || r->first > size) {
    tm_error_set(err, TM_EUSAGE, "'%.200s' has %" PRId64 " bytes: nothing at %" PRId64,
                 r->key, size, r->first);
    return false;
  }
  r->total = size - r->first;
  if (r->opts.length > 0 && r->opts.length < r->total)
    r->total = r->opts.length;
  int64_t step = (int64_t)r->range_bytes;
  r->ranges = r->total / step + (r->total % step != 0);
  size_t slabs = r->range_bytes / TM_SLAB_BYTES + 2;
  for (int i = 0; i < r->parallel; i++)
    if ((r->slots[i].slabs = calloc(slabs, sizeof(struct tm_slab *))) == NULL)
      return out_of_memory(err);
  return true;
}

/* Goes so many ranges ahead, each with a thread. Fewer threads than that will do. */
static bool widen(struct reader *r, int window, struct tm_error *err)
{
  pthread_mutex_lock(&r->lock);
  r->window = window;
  pthread_cond_broadcast(&r->wanted);
  pthread_mutex_unlock(&r->lock);
  while (r->thread_count < window && r->thread_count < r->ranges) {
    int rc = tm_thread_start(&r->threads[r->thread_count], fetch_main, r);
    if (rc != 0 && r->thread_count == 0) {
      tm_error_errno(err, TM_ESYSTEM, rc, "cannot start a thread");
      return false;
    }
    if (rc != 0)
      break;
    r->thread_count++;
  }
  return true;
}

static bool start(struct reader *r, int window, struct tm_error *err)
{
  r->started = true;
  r->window = window;
  if (!look(r, err) || !plan(r, err))
    return false;
  if (r->ranges == 1 && r->total <= TM_SLAB_BYTES &&
      !r->opts.ahead) { /* one slab: nothing to be ahead of */
    fetch_main(r);
    return true;
  }
  return widen(r, window, err);
}

/* The reader is read from for the first time. */
static bool begin(struct reader *r, struct tm_error *err)
{
  if (r->begun)
    return true;
  r->begun = true;
  return r->started ? widen(r, r->parallel, err) : start(r, r->parallel, err);
}

/* ---- handing out ---- */

/* Everything was handed out: is it what it should be? */
static int check_end(struct reader *r, struct tm_error *err)
{
  bool whole = r->first == 0 && r->total == r->info.size;
  bool known = r->opts.has_crc64 || r->info.has_crc64 || r->told;
  uint64_t must = r->opts.has_crc64   ? r->opts.crc64
                  : r->info.has_crc64 ? r->info.crc64
                                      : r->told_crc64;
  if (!whole || !known || must == r->crc64)
    return 0;
  char name[TM_OSS_NAME_SIZE];
  tm_oss_name(r->store, r->key, name);
  tm_error_set(err, TM_EINTEGRITY,
               "%s: CRC64 of what was read is %" PRIu64 ", expected %" PRIu64, name,
               r->crc64, must);
  return -1;
}

/* Called with the lock held; the slot is drained and complete. */
static void advance(struct reader *r, struct slot *slot)
{
  r->crc64 = tm_crc64_combine(r->crc64, slot->crc64, (uint64_t)slot->length);
  slot->ready = slot->taken = 0;
  slot->done = false;
  r->head++;
  pthread_cond_broadcast(&r->wanted);
}

static int reader_read(struct tm_source *self, struct tm_slab **out, struct tm_error *err)
{
  struct reader *r = (struct reader *)self;
  if (!begin(r, err)) {
    fail(r, err);
    return -1;
  }
  int result = 0;
  pthread_mutex_lock(&r->lock);
  for (;;) {
    struct slot *slot = &r->slots[r->head % r->parallel];
    if (r->failed) {
      *err = r->error;
      result = -1;
      break;
    }
    if (r->head == r->ranges)
      break;
    if (slot->taken < slot->ready) {
      *out = slot->slabs[slot->taken];
      slot->slabs[slot->taken++] = NULL;
      result = 1;
      break;
    }
    if (slot->done)
      advance(r, slot);
    else
      pthread_cond_wait(&r->arrived, &r->lock);
  }
  pthread_mutex_unlock(&r->lock);
  if (result == 1)
    (*out)->raw_bytes = (*out)->len;
  return result == 0 ? check_end(r, err) : result;
}

static void reader_cancel(struct tm_source *self)
{
  struct reader *r = (struct reader *)self;
  struct tm_error err;
  tm_cancel_fire(&r->cancel);
  tm_error_set(&err, TM_ECANCELED, "cancelled");
  fail(r, &err);
}

static void reader_close(struct tm_source *self)
{
  struct reader *r = (struct reader *)self;
  tm_cancel_fire(&r->cancel);
  pthread_mutex_lock(&r->lock);
  r->stopping = true;
  pthread_cond_broadcast(&r->wanted);
  pthread_mutex_unlock(&r->lock);
  for (int i = 0; i < r->thread_count; i++)
    pthread_join(r->threads[i], NULL);
  for (int i = 0; i < PARALLEL_MAX; i++) {
    struct slot *s = &r->slots[i];
    for (size_t k = s->taken; k < s->ready; k++)
      tm_slab_free(s->slabs[k]);
    free(s->slabs);
  }
  tm_oss_info_free(&r->info);
  tm_cancel_close(&r->cancel);
  pthread_mutex_destroy(&r->lock);
  pthread_cond_destroy(&r->arrived);
  pthread_cond_destroy(&r->wanted);
  free(r->key);
  free(r);
}

static const struct tm_source_ops ops = {.name = "object",
                                         .read = reader_read,
                                         .cancel = reader_cancel,
                                         .close = reader_close};

struct tm_source *tm_oss_reader_open(struct tm_oss *store, const char *key,
                                     const struct tm_oss_reader_opts *opts,
                                     struct tm_error *err)
{
  struct reader *r = calloc(1, sizeof *r);
  if (r == NULL) {
    out_of_memory(err);
    return NULL;
  }
  r->base.ops = &ops;
  r->store = store;
  r->cancel.fd = -1;
  pthread_mutex_init(&r->lock, NULL);
  pthread_cond_init(&r->arrived, NULL);
  pthread_cond_init(&r->wanted, NULL);
  if (opts != NULL)
    r->opts = *opts;
  if (r->opts.etag != NULL && r->opts.etag[0] != '\0') {
    tm_oss_etag(r->opts.etag, r->etag);
    r->expected_etag = true;
  }
  r->opts.etag = NULL; /* the caller's */
  r->range_bytes = r->opts.range_bytes > 0 ? r->opts.range_bytes : RANGE_BYTES;
  r->parallel = r->opts.parallel > 0 ? r->opts.parallel : PARALLEL;
  if (r->parallel > PARALLEL_MAX)
    r->parallel = PARALLEL_MAX;
  if (store->scheme == TM_OSS_FILE)
    r->parallel = 1;
  r->key = strdup(key);
  if (r->key == NULL || !tm_cancel_open(&r->cancel, err)) {
    if (r->key == NULL)
      out_of_memory(err);
    reader_close(&r->base);
    return NULL;
  }
  struct tm_error fault;
  if (r->opts.ahead && r->expected_etag && r->opts.has_size && !start(r, 1, &fault))
    fail(r, &fault); /* read tells */
  return &r->base;
}

bool tm_oss_reader_info(const struct tm_source *reader, struct tm_oss_info *out)
{
  const struct reader *r = (const struct reader *)reader;
  if (reader->ops != &ops || !r->has_info)
    return false;
  *out = r->info;
  return true;
}
