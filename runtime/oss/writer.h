/*
** writer.h: a sink that streams into one object
**
** What fits into one part goes up as a plain put, more as a multipart upload with several
** parts in flight. The object appears as a whole at finish, or not at all. Memory stays
** within a budget, which several writers may share: full parts wait for uploads to end, so
** a slow store slows the stream. Parts grow with their number (the first 2,000 have the
** configured size) until one part alone fills the budget.
*/
#ifndef TM_OSS_WRITER_H
#define TM_OSS_WRITER_H

#include "oss/budget.h"
#include "oss/held.h"
#include "stream/stream.h"

struct tm_oss_writer_opts { /* NULL and zero mean the default */
  struct tm_oss_put_opts put;
  size_t part_bytes;            /* 8 MiB; at least 5 MiB on s3, 100 KiB on oss */
  int parallel;                 /* 3 parts in flight */
  size_t budget_bytes;          /* 40 MiB; raised to one part */
  struct tm_oss_budget *budget; /* shared; then budget_bytes does not count */
  bool hold; /* finish leaves nothing visible, but an object to be completed later */
  struct tm_oss_budget
      *hold_budget; /* of the bytes kept in memory by objects that fit into
                                     ** one part; without room it is a one-part upload;
                                     ** NULL: always kept */
};

struct tm_oss_written {
  int64_t size;
  uint64_t
      crc64; /* CRC-64/XZ of all bytes, compared with the store's where it reports one */
  char etag[128];
  int parts; /* 0: a plain put */
};

/* `store` must outlive the sink; key and options are copied. Nothing is sent before the
** first part is full or finish comes. The result is NULL with *err: TM_EMEMORY, TM_EUSAGE. */
struct tm_sink *tm_oss_writer_open(struct tm_oss *store, const char *key,
                                   const struct tm_oss_writer_opts *opts,
                                   struct tm_error *err);

/* After a successful finish; false before, and of a writer that holds. */
bool tm_oss_writer_result(const struct tm_sink *writer, struct tm_oss_written *out);

/* Of a writer that holds, once: *out is the caller's. After a successful finish it can be
** completed; after an abort or a failed finish it is an upload that was begun, if one was, and
** only good for being dropped. What nobody took is dropped when the writer is closed. */
bool tm_oss_writer_held(struct tm_sink *writer, struct tm_oss_held **out);

#endif
