/*
** held.h: an object that is uploaded but not visible yet
**
** A writer with `hold` ends with one of these instead of an object: an upload whose parts
** are all there, or, when it is small, its bytes. Completing makes the object appear as a
** whole; dropping leaves nothing. Until one of the two it is the caller's to keep: nothing
** of it is in any listing of objects.
*/
#ifndef TM_OSS_HELD_H
#define TM_OSS_HELD_H

#include "oss/oss.h"

enum tm_oss_held_state {
  TM_HELD_PENDING,
  TM_HELD_IN_DOUBT, /* a completion failed, but may have made the object */
  TM_HELD_COMPLETED,
  TM_HELD_DROPPED,
};

struct tm_oss_held {
  char *key;
  char *upload_id; /* NULL: small, kept in `bytes` */
  struct tm_oss_part *parts;
  size_t part_count;
  void *bytes;                /* `size` of them, when there is no upload */
  int64_t size;               /* of the whole object */
  uint64_t crc64;             /* CRC-64/XZ of the whole object */
  uint64_t rows, raw_bytes;   /* as counted by the objects sink; else 0 */
  struct tm_oss_put_opts put; /* content type and metadata; owned */
  enum tm_oss_held_state state;
  bool stray; /* only to be dropped: an upload may have been begun whose id got lost */
  char etag[128]; /* once completed; "" where the store tells none */
};

/*
** Makes the object appear: completes the upload, or puts the bytes. Once done, doing it
** again is success without a request; a completion whose reply was lost, in this call or in
** an earlier one, is recognised by size and CRC64 (or ETag) and is success too. With
** `create_only` somebody else's object under the key is TM_EEXISTS. The held object is used
** by one thread at a time; different ones may be completed by different threads.
*/
bool tm_oss_held_complete(struct tm_oss *store, struct tm_oss_held *held,
                          bool create_only, const struct tm_cancel *cancel,
                          struct tm_error *err) TM_MUSTCHECK;

/* Leaves nothing of it: aborts the upload, deletes the object when it was completed or may
** have been. Not stopped by an interrupt; each request is bounded by the
** store's cleanup_timeout_ms and none is begun after `deadline` (as tm_clock_deadline gives it; TM_ETIMEOUT). False: something is
** left behind, *err says what; may be called again. */
bool tm_oss_held_drop(struct tm_oss *store, struct tm_oss_held *held, int64_t deadline,
                      struct tm_error *err) TM_MUSTCHECK;

/* Frees the memory and talks to nobody: complete or drop it first. NULL is fine. */
void tm_oss_held_free(struct tm_oss_held *held);

#endif
