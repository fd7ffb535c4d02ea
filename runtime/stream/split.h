/*
** split.h: where records end in csv and text, as PostgreSQL's COPY sees it
**
** The splitter never fails and never keeps bytes: the caller hands it an object piece by piece
** and is told where each record ends.
*/
#ifndef TM_TM_SPLIT_H
#define TM_TM_SPLIT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* Whether the second byte of a character may look like ASCII: SAFE in every encoding that
** PostgreSQL can use on a server; TRAILS in BIG5, GBK, GB18030, UHC, JOHAB; SJIS in SJIS and
** SHIFT_JIS_2004, where the bytes a1..df are characters of one byte. */
enum tm_split_bytes { TM_SPLIT_SAFE, TM_SPLIT_TRAILS, TM_SPLIT_SJIS };

enum tm_split_fault {
  TM_SPLIT_GOOD,
  TM_SPLIT_STRAY_CR, /* a carriage return that ends no line of this object */
  TM_SPLIT_STRAY_LF, /* a newline, where lines end in CR or CRLF */
};

/* The record that has just ended. */
struct tm_split_record {
  int64_t line;   /* the physical line it begins on, from 1 */
  int64_t offset; /* of its first byte in the object */
  int64_t size;   /* with its line end */
  int newline;    /* bytes of its line end: 0 (the object ended), 1 or 2 */
  int64_t lf, cr; /* in it, its line end included */
  bool marker;    /* "\." alone on its line: the data ends before it */
  enum tm_split_fault fault;
};

struct tm_splitter { /* nothing in it is the caller's but `record` */
  struct tm_split_record record;
  bool csv;
  unsigned char quote, escape;
  enum tm_split_bytes bytes;
  bool stop[256]; /* bytes that must be looked at */
  enum { TM_EOL_UNKNOWN, TM_EOL_LF, TM_EOL_CR, TM_EOL_CRLF } eol;
  bool ended; /* the record has ended: the next byte begins another */
  bool in_quote, after_escape, after_backslash, after_lead, after_cr;
  int marker; /* how much of "\." the record is, and nothing else: 0, 1, 2; or -1 */
};

/* For the start of an object. `quote` and `escape` count in csv only. */
void tm_split_start(struct tm_splitter *s, bool csv, char quote, char escape,
                    enum tm_split_bytes bytes);

/*
** Goes on with p[0..len). True: the record ended after *used of these bytes, maybe none of them,
** and s->record tells about it. False: all `len` bytes belong to a record that goes on.
*/
bool tm_split_next(struct tm_splitter *s, const char *p, size_t len, size_t *used);

/* The object has ended: true when a record without a line end (or one that ends in a CR whose
** LF might have followed) ended with it; s->record tells about it. */
bool tm_split_end(struct tm_splitter *s);

#endif
