/*
** cutter.h: an object's bytes as chunks of whole records, to be copied again around a bad one
**
** Records end where COPY says (split.h). A chunk knows of each record where it lies, on which
** line of the object it begins, and how many lines COPY counts in it, so that the line in a
** server's error leads to the record. A header is passed over. What follows "\." alone on a
** line is no data: the cutter then has nothing more.
*/
#ifndef TM_STREAM_CUTTER_H
#define TM_STREAM_CUTTER_H

#include "base/buffer.h"
#include "base/format.h"
#include "stream/split.h"

struct tm_chunk_record {
  size_t offset, size; /* in the chunk; size with its line end */
  size_t text;         /* without its line end */
  int64_t line;        /* of the object, where it begins, from 1 */
  int32_t lines;       /* that COPY counts in it */
  int32_t
      lines_first; /* the same, if it is the first of its COPY: before PostgreSQL has seen
                       ** a line end it knows none within quotes */
  enum tm_split_fault fault;
};

/* Zeroed at birth, then reused. */
struct tm_chunk {
  struct tm_buffer bytes;
  struct tm_chunk_record *records;
  size_t count, cap;
};

void tm_chunk_free(struct tm_chunk *chunk); /* what it holds; harmless twice */

/* The record in which COPY, given the chunk from record `from` on, is on its line `line`
** (from 1); count when it is behind the last. */
size_t tm_chunk_find(const struct tm_chunk *chunk, size_t from, int64_t line);

struct tm_cutter;

/* A chunk ends with the record that makes it `bytes` long, or `rows` many. NULL: no memory. */
struct tm_cutter *tm_cutter_new(const struct tm_format *format, size_t bytes, size_t rows,
                                struct tm_error *err);
void tm_cutter_free(struct tm_cutter *c); /* NULL is fine */

/* Lends bytes to the cutter: they stay where they are until next has returned 0. */
void tm_cutter_feed(struct tm_cutter *c, const char *bytes, size_t len);

/* No more bytes will come. */
void tm_cutter_end(struct tm_cutter *c);

/* 1: *chunk is the next one, at least one record. 0: feed more (or, after end, that was the
** last); *chunk holds what there is of the next one, and is to be given again. -1: *err: no
** memory, or a record longer than the format's max_record_bytes. */
int tm_cutter_next(struct tm_cutter *c, struct tm_chunk *chunk, struct tm_error *err)
    TM_MUSTCHECK;

#endif
