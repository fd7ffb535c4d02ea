/*
** request.h: an HTTP request as ossd understands it, without the connection
**
** Pure: bytes in, struct out; the fuzz target calls it as the server does. Every string
** lives in the request and is freed with it.
*/
#ifndef TM_OSSD_REQUEST_H
#define TM_OSSD_REQUEST_H

#include "oss/sign.h"
#include "ossd/record.h"

enum {
  TM_OSSD_URI = 16384, /* longest path and query */
  TM_OSSD_QUERY = 128, /* most query parameters */
  TM_OSSD_REQUEST_HEADERS = 128,
};

/* The signature a request came with; texts are "" when not given. */
struct tm_ossd_auth {
  enum tm_sign_scheme scheme; /* TM_SIGN_NONE: anonymous */
  bool presigned;
  const char *id, *signature;
  const char *day, *region; /* V4: from the credential's scope */
  const char *names;        /* additional (OSS V4) or signed (S3) headers */
  bool has_names;
  const char *date, *expires; /* presigned: as in the query */
  const char *token;
};

struct tm_ossd_request {
  const char *method;
  const char *path;   /* as on the wire, without the query */
  const char *bucket; /* "": service level */
  const char *key;    /* decoded; "": bucket level */
  bool virtual_host;
  struct tm_pair *query; /* decoded */
  size_t query_count;
  struct tm_pair *headers; /* names lower case */
  size_t header_count;
  struct tm_ossd_auth auth;
  bool s3;                    /* which protocol the answer speaks */
  struct tm_ossd_text *texts; /* what the strings live in */
};

/*
** Takes apart what came: `uri` is the request target as on the wire. The bucket is the part
** of the Host header before one of `suffixes` (NULL-ended: "localhost", ...), else the first
** segment of the path. Zero *out before; free it also after a failure. False with TM_EDATA:
** code is the store's error code ("InvalidURI", "InvalidArgument", ...).
*/
bool tm_ossd_request_parse(const char *method, const char *uri,
                           const struct tm_pair *headers, size_t header_count,
                           const char *const *suffixes, struct tm_ossd_request *out,
                           struct tm_error *err) TM_MUSTCHECK;
void tm_ossd_request_free(struct tm_ossd_request *r);

/* Value of a header (lower-case name), or NULL. */
const char *tm_ossd_header(const struct tm_ossd_request *r, const char *name);

/* The value of x-oss-NAME or x-amz-NAME, after the protocol; or NULL. */
const char *tm_ossd_vendor_header(const struct tm_ossd_request *r, const char *name);

/* Value of a query parameter, "" when it has none, NULL when it is not there. */
const char *tm_ossd_param(const struct tm_ossd_request *r, const char *name);

/* One range of a Range header, against an object of `size` bytes. */
enum tm_ossd_range { TM_OSSD_WHOLE, TM_OSSD_PARTIAL, TM_OSSD_UNSATISFIABLE };
/* `strict`: S3's reading (clipped, 416); else OSS's: whatever goes past the end is ignored
** and the answer is whole. Malformed text is ignored by both. */
enum tm_ossd_range tm_ossd_range_parse(const char *text, uint64_t size, bool strict,
                                       uint64_t *first, uint64_t *length);

#endif
