/*
** split.h: where records end in csv and text, as PostgreSQL's COPY sees it
**
** Pure C, for the backend's own thread and for tests. The splitter never fails and never keeps
** bytes: the caller hands it an object piece by piece and is told where each record ends.
*/
#ifndef TM_FDW_SPLIT_H
#define TM_FDW_SPLIT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* Whether the second byte of a character may look like ASCII: SAFE in every encoding that
** PostgreSQL can use on a server; TRAILS in BIG5, GBK, GB18030, UHC, JOHAB; SJIS in SJIS and
** SHIFT_JIS_2004, where the bytes a1..df are characters of one byte. */
enum fdw_split_bytes { FDW_SPLIT_SAFE, FDW_SPLIT_TRAILS, FDW_SPLIT_SJIS };

enum fdw_split_fault {
  FDW_SPLIT_GOOD,
  FDW_SPLIT_STRAY_CR, /* a carriage return that ends no line of this object */
  FDW_SPLIT_STRAY_LF, /* a newline, where lines end in CR or CRLF */
};

/* The record that has just ended. */
struct fdw_record {
  int64_t line;   /* the physical line it begins on, from 1 */
  int64_t offset; /* of its first byte in the object */
  int64_t size;   /* with its line end */
  int newline;    /* bytes of its line end: 0 (the object ended), 1 or 2 */
  bool marker;    /* "\." alone on its line: the data ends before it */
  enum fdw_split_fault fault;
};

struct fdw_splitter { /* nothing in it is the caller's but `record` */
  struct fdw_record record;
  bool csv;
  unsigned char quote, escape;
  enum fdw_split_bytes bytes;
  bool stop[256]; /* bytes that must be looked at */
  enum { FDW_EOL_UNKNOWN, FDW_EOL_LF, FDW_EOL_CR, FDW_EOL_CRLF } eol;
  bool ended; /* the record has ended: the next byte begins another */
  bool in_quote, after_escape, after_backslash, after_lead, after_cr;
  int marker;     /* how much of "\." the record is, and nothing else: 0, 1, 2; or -1 */
  int64_t lf, cr; /* in this record, its line end included */
};

/* For the start of an object. `quote` and `escape` count in csv only. */
void fdw_split_start(struct fdw_splitter *s, bool csv, char quote, char escape,
                     enum fdw_split_bytes bytes);

/*
** Goes on with p[0..len). True: the record ended after *used of these bytes, maybe none of them,
** and s->record tells about it. False: all `len` bytes belong to a record that goes on.
*/
bool fdw_split_next(struct fdw_splitter *s, const char *p, size_t len, size_t *used);

/* The object has ended: true when a record without a line end (or one that ends in a CR whose
** LF might have followed) ended with it; s->record tells about it. */
bool fdw_split_end(struct fdw_splitter *s);

#endif
