/*
** reader.h: a source that reads one object, ranges ahead in parallel, bytes in order
**
** Every request is pinned to one etag, so an object that is replaced meanwhile is an error
** and never a mixture. A broken body is resumed where it broke. The end is reported only
** after size and, where known, CRC64 of everything were compared.
*/
#ifndef TM_OSS_READER_H
#define TM_OSS_READER_H

#include "oss/oss.h"
#include "stream/stream.h"

struct tm_oss_reader_opts { /* NULL and zero mean the default */
  size_t range_bytes;       /* 8 MiB a request */
  int parallel;             /* 3 ranges in flight */
  int64_t offset;           /* first byte */
  int64_t length;           /* bytes; 0: to the end */
  bool ahead; /* fetch the first range at once, if size and etag are given */
  /* What the object must be (from a manifest): TM_EINTEGRITY when it is not. */
  const char *etag;
  bool has_size, has_crc64;
  int64_t size;
  uint64_t crc64;
};

/*
** `store` must outlive the source; key and options are copied. Talks to the store at the
** first read (unless `ahead`): a HEAD, then ranges; without HEAD if size and etag are
** given. Slabs hold up to 256 KiB and know no rows. Errors of read: TM_ENOTFOUND,
** TM_EINTEGRITY (not what was promised, CRC differs), TM_ECONFLICT (replaced while being
** read) and those of the store.
*/
struct tm_source *tm_oss_reader_open(struct tm_oss *store, const char *key,
                                     const struct tm_oss_reader_opts *opts,
                                     struct tm_error *err);

/* What HEAD said; false before the first read. Strings belong to the reader. */
bool tm_oss_reader_info(const struct tm_source *reader, struct tm_oss_info *out);

#endif
