/*
** rowhash.h: a hash of the rows of a stream that does not depend on their order
**
** The same figure in SQL, on any PostgreSQL: of each row the text form of ROW(a, b, ...), of it
** the MD5 digest, of that the first 64 bits, and the sum of these:
**
**   SELECT sum(('x' || substr(md5(ROW(a, b)::text), 1, 16))::bit(64)::bigint) FROM t
**
** modulo 2^64. Values of type real and double precision go as their bits in hex, since servers
** before PostgreSQL 12 write more digits. What is equal here is equal but for a chance of 2^-64;
** it is no defence against somebody who wants two sums to be equal.
*/
#ifndef TM_STREAM_ROWHASH_H
#define TM_STREAM_ROWHASH_H

#include "base/format.h"
#include "stream/stream.h"

enum tm_rowhash_type { TM_ROWHASH_TEXT, TM_ROWHASH_FLOAT4, TM_ROWHASH_FLOAT8 };

struct tm_rowhash_opts {
  struct tm_format format;    /* of the bytes; with `header`, each stream has one */
  const char *const *columns; /* names; copied */
  const enum tm_rowhash_type *types; /* of the columns; copied; NULL: all text */
  size_t count;                      /* at least 1 */
  bool by_column; /* sum each column as well, as of rows of that alone */
};

/*
** A stage that hands on what it is given, and sums it. It may be part of one stream after
** another; the sums go on. Rows that cannot be read are counted and not summed, for whoever
** comes behind has more to say about them. NULL with *err: no memory, an encoding that iconv
** lacks, MD5 forbidden by a policy of libcrypto.
*/
struct tm_stage *tm_rowhash_new(const struct tm_rowhash_opts *opts, struct tm_error *err);

struct tm_rowhash_sums {
  uint64_t rows, unread; /* unread: rows that could not be read */
  uint64_t sum;
  const uint64_t *columns; /* NULL unless by_column; the stage's */
  size_t count;
};

/* What was summed; while a stream runs it may be asked by that thread only. */
void tm_rowhash_sums(const struct tm_stage *stage, struct tm_rowhash_sums *sums);

#endif
