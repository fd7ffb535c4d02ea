/*
** reply.h: what the stores' replies mean
*/
#ifndef TM_OSS_REPLY_H
#define TM_OSS_REPLY_H

#include "driver/http.h"
#include "oss/oss.h"

/* What to do about a failed try. */
enum tm_verdict {
  TM_GIVE_UP,
  TM_TRY_AGAIN,
  TM_TRY_SLOWER, /* throttled */
  TM_FIX_CLOCK,  /* once, with the offset from the reply */
  TM_FIX_TOKEN,  /* once, with fresh credentials */
  TM_FIX_REGION, /* once, with the region from the reply */
};

struct tm_refusal {
  enum tm_verdict verdict;
  char region[64];        /* where the bucket is, or "" */
  char endpoint[128];     /* OSS: where it must be addressed, or "" */
  int64_t server_ms;      /* the store's clock, or -1 */
  int64_t retry_after_ms; /* or -1 */
};

/*
** Fills err (kind, status, code, request id, the store's message; no prefix, no hint) and
** *out from a reply that is not 2xx, or a 2xx whose body is an <Error>. `create_only`: a
** failed precondition means that the object exists.
*/
void tm_reply_refusal(enum tm_oss_scheme scheme, const struct tm_http_reply *reply,
                      bool create_only, struct tm_refusal *out, struct tm_error *err);

/* Whether the body is an XML document whose root is <Error>. */
bool tm_reply_is_error(const struct tm_http_reply *reply);

/* Size, etag, CRC64, dates, metadata from the headers. The size is that of the whole object
** (Content-Range, else Content-Length, else -1). False: out of memory. */
bool tm_reply_info(const struct tm_http_reply *reply, struct tm_oss_info *out,
                   struct tm_error *err) TM_MUSTCHECK;

/* "bytes a-b/total"; false when absent or malformed. */
bool tm_reply_content_range(const struct tm_http_reply *reply, int64_t *first,
                            int64_t *last, int64_t *total) TM_MUSTCHECK;

/*
** Parsers of XML bodies. All take hostile input; errors are TM_EPROTOCOL and TM_EMEMORY.
** `strip` is how many bytes of the store's prefix begin every key.
*/
bool tm_reply_list(enum tm_oss_scheme scheme, const char *body, size_t n,
                   const char *prefix, struct tm_oss_page *page, struct tm_error *err)
    TM_MUSTCHECK;

/* Element `name` of the root as a malloc'd string ("UploadId"). */
char *tm_reply_field(const char *body, size_t n, const char *name, struct tm_error *err);

struct tm_reply_deleted {        /* result of a delete-many request */
  struct tm_oss_failures failed; /* keys still with the store's prefix */
  size_t deleted;                /* <Deleted> elements */
};
bool tm_reply_delete(enum tm_oss_scheme scheme, const char *body, size_t n,
                     struct tm_reply_deleted *out, struct tm_error *err) TM_MUSTCHECK;

/* One page, appended. *next: part number to go on after, or 0 at the end. */
bool tm_reply_parts(const char *body, size_t n, struct tm_oss_parts *parts, int *next,
                    struct tm_error *err) TM_MUSTCHECK;

/* One page, appended. *next_key, *next_id: malloc'd markers, NULL at the end. */
bool tm_reply_uploads(enum tm_oss_scheme scheme, const char *body, size_t n,
                      const char *prefix, struct tm_oss_uploads *uploads, char **next_key,
                      char **next_id, struct tm_error *err) TM_MUSTCHECK;

/* Unsigned decimal of the whole string; false on anything else. */
bool tm_parse_u64(const char *text, uint64_t *out) TM_MUSTCHECK;

/* Milliseconds of "2024-01-02T03:04:05.000Z", or -1. */
int64_t tm_parse_iso_ms(const char *text);

#endif
