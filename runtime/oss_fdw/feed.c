/*
** feed.c: the bytes of a list of objects, decompressed, several objects ahead
**
** Each object on its way is a lane: a stream in threads that ends in a channel,
**
**   [counted object reader] -> [decompress] -> [channel]  |  fdw_feed_read
**
** Lanes are begun in the order of the objects, as long as what they may hold at most stays
** within oss_fdw.prefetch and there are no more than LANES; the one being read always is. The
** lanes belong to the feed's memory context: its end cancels them all, then joins them.
*/
#include "oss_fdw/feed.h"

#include <poll.h>
#include <stdatomic.h>

#include "miscadmin.h"
#include "oss/reader.h"
#include "oss_fdw/guc.h"
#include "oss_fdw/wait.h"
#include "storage/fd.h"
#include "stream/background.h"
#include "stream/channel.h"
#include "stream/zip_stage.h"
#include "utils/memutils.h"

enum {
  LANES = 8,         /* objects on their way: hides the latency of many small ones */
  PARALLEL = 3,      /* ranges in flight of one object */
  CHANNEL_SLABS = 4, /* read by nobody yet */
  QUEUE_SLABS = 2,   /* between two threads of a lane */
  LANE_FDS = 4,      /* descriptors of a lane: channel, end, cancel, a connection */
};

struct counted { /* a source that counts what it lets through */
  struct tm_source base;
  struct tm_source *inner;
  atomic_llong bytes;
};

struct lane {
  struct tm_channel *channel;
  struct tm_background *background;
  struct counted *counted; /* the background's */
  int64 cost;              /* bytes that it may hold */
};

struct fdw_feed {
  MemoryContext context;
  const struct fdw_table *t;
  struct fdw_store *store;
  const struct fdw_objects *objects;
  struct lane lanes[LANES]; /* of object i: i % LANES */
  int head, tail;       /* objects on their way: head <= i < tail; head is being read */
  bool begun;           /* head counts: next_object was called */
  int64 budget, cost;   /* what all lanes together may hold and do at most */
  int64 bytes;          /* that came of objects left behind */
  struct tm_slab *slab; /* being read */
  size_t taken;         /* of it */
  bool ended;           /* of the object being read */
  bool looked;          /* at its first bytes */
};

/* ---- counting ---- */

static int counted_read(struct tm_source *self, struct tm_slab **out,
                        struct tm_error *err)
{
  struct counted *c = (struct counted *)self;
  int got = c->inner->ops->read(c->inner, out, err);
  if (got > 0)
    atomic_fetch_add(&c->bytes, (long long)(*out)->len);
  return got;
}

static void counted_cancel(struct tm_source *self)
{
  struct counted *c = (struct counted *)self;
  c->inner->ops->cancel(c->inner);
}

static void counted_close(struct tm_source *self)
{
  struct counted *c = (struct counted *)self;
  tm_source_close(c->inner);
  free(c);
}

static const struct tm_source_ops counted_ops = {.name = "counted object",
                                                 .read = counted_read,
                                                 .cancel = counted_cancel,
                                                 .close = counted_close};

/* Takes `inner` over, also when it fails. */
static struct counted *counted_new(struct tm_source *inner, struct tm_error *err)
{
  struct counted *c = inner != NULL ? calloc(1, sizeof *c) : NULL;
  if (c != NULL) {
    c->base.ops = &counted_ops;
    c->inner = inner;
    return c;
  }
  if (inner != NULL)
    tm_error_set(err, TM_EMEMORY, "out of memory");
  tm_source_close(inner);
  return NULL;
}

/* ---- lanes ---- */

static struct lane *lane_of(struct fdw_feed *f, int object)
{
  return &f->lanes[object % LANES];
}

static int64 range_bytes(const struct fdw_feed *f)
{
  int64 range = f->budget / 8;
  return Min(Max(range, 256 * 1024), 8 * 1024 * 1024);
}

/* Ranges in flight, and slabs in the queues and the channel. */
static int64 lane_cost(const struct fdw_feed *f, const struct fdw_object *o)
{
  int64 slabs = CHANNEL_SLABS + QUEUE_SLABS;
  if (f->t->codec != FDW_PLAIN)
    slabs += QUEUE_SLABS;
  return Min(o->size, PARALLEL * range_bytes(f)) + Min(o->size, slabs * TM_SLAB_BYTES);
}

static void lane_close(struct fdw_feed *f, struct lane *lane)
{
  tm_background_free(lane->background);
  tm_channel_free(lane->channel);
  f->cost -= lane->cost;
  *lane = (struct lane){0};
}

/* What is between reader and channel: nothing for plain objects (*count 0). */
static bool make_stage(const struct fdw_table *t, struct tm_stage **stage, size_t *count,
                       struct tm_error *err)
{
  struct tm_zip_opts zip = {.kind = t->codec == FDW_GZIP ? TM_ZIP_GZIP : TM_ZIP_ZSTD};
  *count = t->codec == FDW_PLAIN ? 0 : 1;
  *stage = *count > 0 ? tm_unzip_stage_new(&zip, err) : NULL;
  return *count == 0 || *stage != NULL;
}

static bool lane_open(struct fdw_feed *f, struct lane *lane, const struct fdw_object *o,
                      struct tm_error *err)
{
  struct tm_oss_reader_opts opts = {.range_bytes = (size_t)range_bytes(f),
                                    .parallel = PARALLEL,
                                    .etag = o->etag,
                                    .has_size = true,
                                    .size = o->size};
  struct tm_pump_opts pump = {.queue_slabs = QUEUE_SLABS};
  struct tm_stage *stage;
  size_t stages;
  if ((lane->channel = tm_channel_new(CHANNEL_SLABS, err)) == NULL)
    return false;
  lane->counted =
      counted_new(tm_oss_reader_open(fdw_store_oss(f->store), o->key, &opts, err), err);
  if (lane->counted == NULL)
    return false;
  if (!make_stage(f->t, &stage, &stages, err)) {
    counted_close(&lane->counted->base);
    return false;
  }
  lane->background = tm_background_start(&lane->counted->base, &stage, stages,
                                         tm_channel_sink(lane->channel), &pump, err);
  return lane->background != NULL;
}

/* Begins as many lanes as there is room for. One ahead that cannot be begun (descriptors,
** threads) may be later; the one that is to be read must. */
static void begin_lanes(struct fdw_feed *f)
{
  while (f->tail < f->objects->count && f->tail - f->head < LANES) {
    const struct fdw_object *o = &f->objects->items[f->tail];
    struct lane *lane = lane_of(f, f->tail);
    struct tm_error err;
    int64 cost = lane_cost(f, o);
    if (f->tail > f->head && f->cost + cost > f->budget)
      break;
    lane->cost = cost;
    f->cost += cost;
    if (!lane_open(f, lane, o, &err)) {
      lane_close(f, lane);
      if (f->tail == f->head)
        fdw_raise(&err);
      break;
    }
    f->tail++;
  }
}

/* ---- the feed ---- */

static void release(void *arg)
{
  struct fdw_feed *f = arg;
  tm_slab_free(f->slab);
  for (int i = f->head; i < f->tail; i++)
    tm_background_cancel(lane_of(f, i)->background);
  for (int i = f->head; i < f->tail; i++)
    lane_close(f, lane_of(f, i));
  for (int i = 0; i < LANES * LANE_FDS; i++)
    ReleaseExternalFD();
}

struct fdw_feed *fdw_feed_open(MemoryContext cxt, const struct fdw_table *t,
                               struct fdw_store *store, const struct fdw_objects *objects)
{
  MemoryContext context =
      AllocSetContextCreate(cxt, "oss_fdw feed", ALLOCSET_SMALL_SIZES);
  struct fdw_feed *f = MemoryContextAllocZero(context, sizeof *f);
  f->context = context;
  f->t = t;
  f->store = store;
  f->objects = objects;
  f->budget = (int64)fdw_prefetch_mb * 1024 * 1024;
  for (int i = 0; i < LANES * LANE_FDS; i++)
    ReserveExternalFD();
  fdw_own(context, release, f);
  return f;
}

static void leave_object(struct fdw_feed *f)
{
  struct lane *lane = lane_of(f, f->head);
  tm_slab_free(f->slab);
  f->slab = NULL;
  f->taken = 0;
  f->ended = f->looked = false;
  f->bytes += atomic_load(&lane->counted->bytes);
  lane_close(f, lane);
  f->head++;
}

bool fdw_feed_next_object(struct fdw_feed *f, const struct fdw_object **object)
{
  if (f->begun)
    leave_object(f);
  f->begun = false;
  if (f->head == f->objects->count)
    return false;
  begin_lanes(f);
  f->begun = true;
  *object = &f->objects->items[f->head];
  return true;
}

static bool readable(int fd)
{
  struct pollfd p = {.fd = fd, .events = POLLIN};
  return poll(&p, 1, 0) > 0;
}

/* Raises what ended the lane being read. */
static void pg_attribute_noreturn() fail(struct fdw_feed *f)
{
  struct lane *lane = lane_of(f, f->head);
  const char *key = f->objects->items[f->head].key;
  struct tm_error err;
  while (!readable(tm_background_done_fd(lane->background)))
    fdw_wait(tm_background_done_fd(lane->background));
  if (tm_background_join(lane->background, NULL, &err))
    tm_error_set(&err, TM_ECANCELED, "reading was stopped");
  if (strstr(err.message, key) == NULL)
    tm_error_prefix(&err, "object '%.200s'", key);
  if (err.kind == TM_EDATA && err.hint[0] == '\0')
    tm_error_hint(&err, "the foreign table says that its objects are compressed with %s",
                  f->t->codec_name);
  fdw_raise(&err);
}

/* What is compressed though the table does not say so would be a mess of parse errors. */
static void look_at_magic(struct fdw_feed *f)
{
  const char *codec = NULL;
  struct tm_error err;
  f->looked = true;
  if (f->t->codec != FDW_PLAIN)
    return;
  if (f->slab->len >= 3 && memcmp(f->slab->data, "\x1f\x8b\x08", 3) == 0)
    codec = "gzip";
  else if (f->slab->len >= 4 && memcmp(f->slab->data, "\x28\xb5\x2f\xfd", 4) == 0)
    codec = "zstd";
  if (codec == NULL)
    return;
  tm_error_set(&err, TM_EDATA,
               "object '%.200s' is compressed with %s, which foreign table '%s' does not "
               "say",
               f->objects->items[f->head].key, codec, f->t->relname);
  tm_error_hint(&err, "add the option %s '%s' to the foreign table",
                f->t->dialect == FDW_RDS ? "compressiontype" : "filetype", codec);
  fdw_raise(&err);
}

/* Gets the next slab of the object; false: its end. */
static bool next_slab(struct fdw_feed *f)
{
  struct lane *lane = lane_of(f, f->head);
  struct tm_error err;
  tm_slab_free(f->slab);
  f->slab = NULL;
  f->taken = 0;
  for (;;) {
    switch (tm_channel_try_get(lane->channel, &f->slab, &err)) {
    case TM_CHANNEL_OK:
      return true;
    case TM_CHANNEL_WAIT:
      fdw_wait(tm_channel_fd(lane->channel));
      continue;
    case TM_CHANNEL_END:
      return false;
    case TM_CHANNEL_FAILED:
      fail(f);
    }
  }
}

int fdw_feed_read(struct fdw_feed *f, void *buf, int min, int max)
{
  (void)min;
  CHECK_FOR_INTERRUPTS();
  if (!f->begun || f->ended)
    return 0;
  while (f->slab == NULL || f->taken == f->slab->len)
    if (!next_slab(f)) {
      f->ended = true;
      return 0;
    }
  if (!f->looked)
    look_at_magic(f);
  size_t n = Min(f->slab->len - f->taken, (size_t)max);
  memcpy(buf, f->slab->data + f->taken, n);
  f->taken += n;
  return (int)n;
}

int64 fdw_feed_bytes(const struct fdw_feed *f)
{
  const struct lane *lane = &f->lanes[f->head % LANES];
  return f->bytes + (f->begun ? atomic_load(&lane->counted->bytes) : 0);
}

void fdw_feed_close(struct fdw_feed *f)
{
  if (f != NULL)
    MemoryContextDelete(f->context);
}
