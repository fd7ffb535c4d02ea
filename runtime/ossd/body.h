/*
** body.h: a request's body on its way to a file or into memory
**
** Decodes aws-chunked with its signatures and trailers, and checks what the headers
** promised: x-amz-content-sha256, Content-MD5, x-amz-decoded-content-length. Memory is
** bounded whatever comes.
*/
#ifndef TM_OSSD_BODY_H
#define TM_OSSD_BODY_H

#include "ossd/auth.h"

struct tm_ossd_body;

enum { TM_OSSD_MEMORY_BODY = 2 << 20 }; /* longest XML document in bytes */

struct tm_ossd_body_options {
  int fd;        /* file to write from its start, or -1: keep in memory */
  bool discard;  /* neither: count and check only */
  bool no_md5;   /* the etag is made of CRC and size unless Content-MD5 came */
  uint64_t most; /* bytes; more is EntityTooLarge */
  const struct tm_ossd_request *request; /* must outlive the body */
  const struct tm_ossd_identity *who;
};

/* NULL with *refusal filled: memory, malformed headers. */
struct tm_ossd_body *tm_ossd_body_new(const struct tm_ossd_body_options *options,
                                      struct tm_ossd_refusal *refusal);
void tm_ossd_body_free(struct tm_ossd_body *b); /* NULL is fine */

/* Takes the next bytes. False with *refusal: nothing more need be fed. */
bool tm_ossd_body_feed(struct tm_ossd_body *b, const char *bytes, size_t n,
                       struct tm_ossd_refusal *refusal) TM_MUSTCHECK;

struct tm_ossd_digest {
  uint64_t size, crc;
  char etag[TM_OSSD_ETAG]; /* MD5 in lower-case hex */
};
/* Ends the body: every check has passed when this is true. */
bool tm_ossd_body_finish(struct tm_ossd_body *b, struct tm_ossd_digest *digest,
                         struct tm_ossd_refusal *refusal) TM_MUSTCHECK;

/* What a body in memory holds; valid until free. */
const struct tm_buffer *tm_ossd_body_memory(const struct tm_ossd_body *b);

#endif
