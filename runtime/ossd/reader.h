/*
** reader.h: the bytes of one object, in one file or in parts
*/
#ifndef TM_OSSD_READER_H
#define TM_OSSD_READER_H

#include <sys/types.h>

#include "ossd/store.h"

struct tm_ossd_reader {
  struct tm_ossd_record record;
  int fd;     /* of the object's file */
  int *parts; /* descriptors of segments, -1: not open; NULL without segments */
  struct tm_ossd_store *store;
  char bucket[64];
  size_t last_segment; /* where the last read was, and the offset it begins at */
  uint64_t last_offset;
  /* faults, for the server to set: */
  uint64_t cut_at;     /* reading past it fails; UINT64_MAX: never */
  uint64_t corrupt_at; /* this byte is changed; UINT64_MAX: none */
  bool slow;
};

/* Opens an object, and of its parts as many descriptors as are cheap (64 from `first`), so
** that it stays whole when it is replaced meanwhile. */
enum tm_ossd_result tm_ossd_reader_open(struct tm_ossd_store *s, const char *bucket,
                                        const char *key, struct tm_ossd_reader **reader,
                                        struct tm_error *err);
void tm_ossd_reader_close(struct tm_ossd_reader *r); /* NULL is fine */

/* Opens the parts that hold `first` and what follows; false when one is gone. */
bool tm_ossd_reader_pin(struct tm_ossd_reader *r, uint64_t first, uint64_t length)
    TM_MUSTCHECK;

/* Up to n bytes at an offset; 0 at the end, -1 when it cannot be read. */
ssize_t tm_ossd_reader_read(struct tm_ossd_reader *r, uint64_t offset, char *bytes,
                            size_t n);

/* A descriptor and offset that hold the whole range, for sendfile; -1 when there is none
** or a fault is set. The descriptor is the caller's. */
int tm_ossd_reader_file(struct tm_ossd_reader *r, uint64_t first, uint64_t length,
                        uint64_t *offset);

#endif
