/*
** ours.h: is the object under a key the one that was sent?
**
** For a request whose reply was lost: when the next try is refused because the object is
** there, or because the upload is gone, the earlier one may have made it.
*/
#ifndef TM_OSS_OURS_H
#define TM_OSS_OURS_H

#include "oss/oss.h"

struct tm_oss_sent { /* either `bytes` or `parts` */
  int64_t size;
  bool has_crc64;
  uint64_t crc64;
  const void *bytes;
  const struct tm_oss_part *parts;
  size_t part_count;
};

/* Asks the store. 1: the object has the size and CRC64 of what was sent, or, where the store
** tells no CRC64, the ETag; *info (zeroed by the caller) is filled. 0: it is another one, or
** there is none. -1: the store did not answer. */
int tm_oss_is_ours(struct tm_oss *store, const char *key, const struct tm_oss_sent *sent,
                   struct tm_oss_info *info, const struct tm_cancel *cancel);

#endif
