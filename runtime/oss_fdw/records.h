/*
** records.h: the records of an object, one after the other
*/
#ifndef TM_FDW_RECORDS_H
#define TM_FDW_RECORDS_H

#include "oss_fdw/feed.h"
#include "stream/split.h"

#include "lib/stringinfo.h"

enum { FDW_RECORD_BYTES_MAX = 128 * 1024 * 1024, FDW_RECORD_START = 8 * 1024 };

struct fdw_records {
  struct tm_splitter split; /* split.record tells about the record at hand */
  const char *bytes;        /* of it, until the next call */
  size_t len;               /* without its line end */
  bool
      too_long; /* more than FDW_RECORD_BYTES_MAX: `bytes` has FDW_RECORD_START of them */

  /* what follows is records.c's */
  MemoryContext context;
  struct fdw_feed *feed;
  char *chunk;
  size_t chunk_at, chunk_len;
  StringInfoData begun; /* what chunks before this one held of the record under way */
  bool taken;           /* the record is whole; what comes next is another */
  bool ended;
};

/* Buffers live in `cxt`. */
void fdw_records_init(struct fdw_records *r, MemoryContext cxt);

/* `feed` stands at the start of an object of table `t`. */
void fdw_records_start(struct fdw_records *r, const struct fdw_table *t,
                       struct fdw_feed *feed);

/* Goes to the next record, wherever it ends; raises what the feed does. False: the object has
** no more. */
bool fdw_records_next(struct fdw_records *r);

/* The same if it is complete in what was fetched already: fetches nothing. */
bool fdw_records_next_here(struct fdw_records *r);

/* The data ends here, whatever the object still has. */
void fdw_records_stop(struct fdw_records *r);

#endif
