/*
** objects.h: a sink that rolls over objects of about one size, split on slab bounds
**
** A slab holds whole rows and, when compressed, a whole gzip member or zstd frame, so every
** object can be read alone. The next object is begun when the current one has reached
** object_bytes; it fills while the one before is being completed. With `first_bytes` the
** first ones are smaller, for somebody who waits for them. An abort removes the objects
** already completed as well (best effort, bounded time).
** With `hold` no object is completed: finish leaves them uploaded but not visible, and
** tm_oss_objects_held hands them over.
*/
#ifndef TM_OSS_OBJECTS_H
#define TM_OSS_OBJECTS_H

#include "oss/writer.h"

struct tm_oss_objects_opts { /* NULL and zero mean the default */
  const char *prefix;        /* key = prefix + number + suffix; required without `name` */
  const char *suffix;        /* "" */
  int digits;                /* 5; numbers count from 1 and may outgrow it */
  int64_t object_bytes;      /* 128 MiB */
  /* The first object has so many bytes, each next one what all before it have, until that
  ** is object_bytes; 0: all have object_bytes. */
  int64_t first_bytes;
  const void *preamble; /* put at the start of each object: a header line */
  size_t preamble_bytes;
  int64_t preamble_raw_bytes; /* what it was before compression; 0: preamble_bytes */
  bool overwrite;             /* default: create only, TM_EEXISTS on an existing key */
  bool empty_object;          /* with no rows at all still make one object */
  /* Instead of prefix, digits and suffix: the key of object `index`, from 0, malloc'd; NULL
  ** is out of memory. Called in the thread that writes. */
  char *(*name)(void *data, size_t index);
  void *name_data;
  bool hold;
  size_t
      hold_bytes; /* 16 MiB: of small objects kept in memory, all together; what does not
                     ** fit becomes an upload of one part */
  struct tm_oss_writer_opts writer; /* content type, metadata, part sizes */
};

struct tm_oss_object {
  char *key;
  uint64_t rows, bytes, raw_bytes; /* bytes include the preamble */
  uint64_t crc64;
  char etag[128];
};

/* As tm_oss_writer_open. */
struct tm_sink *tm_oss_objects_open(struct tm_oss *store,
                                    const struct tm_oss_objects_opts *opts,
                                    struct tm_error *err);

/* The object at `index` of those completed so far, from 0, in order: false when there are no
** more. Any thread, also while another one writes. The key lives as long as the sink. */
bool tm_oss_objects_get(struct tm_sink *objects, size_t index,
                        struct tm_oss_object *object);

/* A descriptor of the sink's that can be read while an object is completed that tm_oss_objects_get
** was not yet asked behind. -1: it is no such sink, or there is no descriptor left. */
int tm_oss_objects_fd(struct tm_sink *objects);

/* Deletes what a finished sink completed, as an abort does before: best effort, in bounded
** time, also after an interrupt. */
void tm_oss_objects_remove(struct tm_sink *objects);

/* Whether a completion that failed so may have made its object all the same. */
bool tm_oss_may_exist(const struct tm_error *err);

/* After a successful finish with `hold`, once: *list (malloc'd) and the objects in it are the
** caller's, in order. What nobody took is dropped when the sink is closed. False: nothing
** to hand over. */
bool tm_oss_objects_held(struct tm_sink *objects, struct tm_oss_held ***list,
                         size_t *count);

#endif
