/*
** exchange.h: one request and its answer, as the handlers see them
**
** The server fills `request` and, when the operation takes one, feeds the body; a handler
** then fills `answer`, or `refusal`. No handler knows the HTTP library.
*/
#ifndef TM_OSSD_EXCHANGE_H
#define TM_OSSD_EXCHANGE_H

#include "ossd/auth.h"
#include "ossd/body.h"
#include "ossd/fault.h"
#include "ossd/reader.h"
#include "ossd/upload.h"

struct tm_ossd {
  struct tm_ossd_store *store;
  struct tm_ossd_policy policy;
  struct tm_ossd_faults *faults;
  const char *const *suffixes; /* of host names that begin with a bucket; NULL-ended */
  const char *region;          /* what ?location tells */
  int64_t least_part;          /* bytes; negative: the vendor's */
  bool fast_etag, verbose;
};

/* What happens with the request's body. */
enum tm_ossd_intake { TM_OSSD_DISCARD, TM_OSSD_MEMORY, TM_OSSD_FILE };

struct tm_ossd_exchange;

struct tm_ossd_operation {
  const char *name; /* the vendors' name of the operation */
  enum tm_ossd_intake intake;
  /* Called when the body is in. False: refusal is filled. */
  bool (*run)(struct tm_ossd_exchange *x);
};

struct tm_ossd_answer {
  int status;
  struct tm_buffer headers;      /* "name\0value\0" ... */
  struct tm_buffer body;         /* when there is no reader */
  struct tm_ossd_reader *reader; /* owned; bytes of an object */
  uint64_t first, length;        /* what of the reader */
  bool drop;                     /* a fault: end the connection instead */
};

struct tm_ossd_exchange {
  struct tm_ossd *server;
  struct tm_ossd_request request;
  const struct tm_ossd_operation *operation;
  struct tm_ossd_identity who;
  struct tm_ossd_body *body;
  struct tm_ossd_temp temp;
  struct tm_ossd_digest digest; /* of the body */
  struct tm_ossd_refusal refusal;
  bool refused;
  struct tm_ossd_answer answer;
  char id[25]; /* request id */
};

/* The operation that the request asks for, or NULL with the refusal filled. */
const struct tm_ossd_operation *tm_ossd_choose(struct tm_ossd_exchange *x);

/* -- answer.c: what the handlers build answers with; false means out of memory -- */

bool tm_ossd_set(struct tm_ossd_exchange *x, const char *name, const char *format, ...)
    TM_PRINTF(3, 4);
/* A header of the vendor's: x-oss-NAME or x-amz-NAME. */
bool tm_ossd_set_vendor(struct tm_ossd_exchange *x, const char *name, const char *value);
/* ETag in quotes, in the vendor's case. */
bool tm_ossd_set_etag(struct tm_ossd_exchange *x, const char *etag);
/* x-oss-hash-crc64ecma, on OSS only; may lie on demand. */
bool tm_ossd_set_crc(struct tm_ossd_exchange *x, uint64_t crc);

/* XML into the answer's body. */
bool tm_ossd_open_root(struct tm_ossd_exchange *x, const char *name);
bool tm_ossd_open_element(struct tm_ossd_exchange *x, const char *name);
bool tm_ossd_close_element(struct tm_ossd_exchange *x, const char *name);
bool tm_ossd_element(struct tm_ossd_exchange *x, const char *name, const char *text);
bool tm_ossd_element_number(struct tm_ossd_exchange *x, const char *name, uint64_t n);
bool tm_ossd_element_time(struct tm_ossd_exchange *x, const char *name, int64_t time);
bool tm_ossd_element_etag(struct tm_ossd_exchange *x, const char *etag);
/* Percent-encoded the vendor's way when `encode`. */
bool tm_ossd_element_name(struct tm_ossd_exchange *x, const char *name, const char *text,
                          bool encode);
/* Ends an XML answer with this status; the result of the handler. */
bool tm_ossd_answer_xml(struct tm_ossd_exchange *x, int status, bool ok);

/* Refuses with what the result of a store's function means. */
bool tm_ossd_refuse_result(struct tm_ossd_exchange *x, enum tm_ossd_result result,
                           const struct tm_error *err);
/* Turns the refusal into the answer. */
void tm_ossd_answer_refusal(struct tm_ossd_exchange *x);

/* -- handlers -- */

bool tm_ossd_list_buckets(struct tm_ossd_exchange *x);
bool tm_ossd_put_bucket(struct tm_ossd_exchange *x);
bool tm_ossd_head_bucket(struct tm_ossd_exchange *x);
bool tm_ossd_delete_bucket(struct tm_ossd_exchange *x);
bool tm_ossd_bucket_location(struct tm_ossd_exchange *x);
bool tm_ossd_bucket_info(struct tm_ossd_exchange *x);
bool tm_ossd_bucket_versioning(struct tm_ossd_exchange *x);
bool tm_ossd_get_acl(struct tm_ossd_exchange *x);
bool tm_ossd_list_objects(struct tm_ossd_exchange *x);
bool tm_ossd_list_objects_v2(struct tm_ossd_exchange *x);
bool tm_ossd_delete_many(struct tm_ossd_exchange *x);

bool tm_ossd_put_object(struct tm_ossd_exchange *x);
bool tm_ossd_get_object(struct tm_ossd_exchange *x); /* and HEAD */
bool tm_ossd_delete_object(struct tm_ossd_exchange *x);
bool tm_ossd_copy_object(struct tm_ossd_exchange *x);

bool tm_ossd_initiate(struct tm_ossd_exchange *x);
bool tm_ossd_put_part(struct tm_ossd_exchange *x);
bool tm_ossd_copy_part(struct tm_ossd_exchange *x);
bool tm_ossd_complete(struct tm_ossd_exchange *x);
bool tm_ossd_abort(struct tm_ossd_exchange *x);
bool tm_ossd_list_parts(struct tm_ossd_exchange *x);
bool tm_ossd_list_uploads(struct tm_ossd_exchange *x);

/* -- shared by object.c and multipart.c -- */

/* Fills key, mtime and the headers to keep from the request. */
bool tm_ossd_record_request(struct tm_ossd_exchange *x, struct tm_ossd_record *r);
/* What the headers demand of a write. */
bool tm_ossd_condition(struct tm_ossd_exchange *x, struct tm_ossd_condition *condition);
/* Opens the source of a copy, with its conditions checked. */
bool tm_ossd_copy_source(struct tm_ossd_exchange *x, struct tm_ossd_reader **reader);
/* Copies bytes of a reader into x->temp and digests them. */
bool tm_ossd_copy_bytes(struct tm_ossd_exchange *x, struct tm_ossd_reader *reader,
                        uint64_t first, uint64_t length);

#endif
