/*
** call.h: one operation on a store over HTTP: built, signed, sent, judged, tried again
*/
#ifndef TM_OSS_CALL_H
#define TM_OSS_CALL_H

#include "oss/reply.h"
#include "oss/store.h"

struct tm_pairs { /* owned copies */
  struct tm_pair *items;
  size_t count, cap;
};

/*
** Zero-initialise, set what is needed, tm_call_query and tm_call_header the rest, send, read
** `reply`, free. A failed allocation while building is reported by send.
*/
struct tm_call {
  struct tm_oss *store;
  const char *what; /* for messages: "put", "list" */
  const char *method;
  const char *key;   /* relative to the store's prefix; NULL: the bucket */
  const char *under; /* of a listing, for messages: what keys begin with; or NULL, "" */
  const void *body;
  size_t body_len;
  bool has_body;
  bool create_only; /* a failed precondition is TM_EEXISTS */
  int stall_timeout_ms;
  bool
      cleanup; /* bounded by the store's cleanup_ms, not stopped by cancel or interrupt */
  bool settles; /* a cancel leaves a request that was sent cleanup_ms for its reply */
  const struct tm_cancel *cancel;

  /* Called before each try, to set headers that change (a range). May be NULL. */
  void (*prepare)(void *data, struct tm_call *call);
  /* As in http.h, for 2xx replies. May be NULL. */
  bool (*on_body)(void *data, const struct tm_http_reply *reply, const char *bytes,
                  size_t n, struct tm_error *err);
  /* Judges a 2xx reply as a whole; false with *err set is a failed try, repeated when the
  ** kind is retryable or TM_EINTEGRITY. May be NULL. */
  bool (*check)(void *data, struct tm_call *call, struct tm_error *err);
  void *data;
  bool progressed;   /* set by on_body: bytes came, so the count of tries begins anew */
  bool error_in_200; /* a 2xx with an <Error> body is a failure */

  struct tm_http_reply reply; /* of the last try */
  int tries;                  /* made so far */
  bool maybe_done;            /* a failed try may have taken effect all the same */

  char payload_hash[65]; /* S3: of the body, computed once */
  struct tm_pairs query, headers;
  bool out_of_memory;
};

/* Adds a query parameter (value NULL: none) or header; a header that is there is
** replaced. tm_call_vendor writes "x-oss-NAME" or "x-amz-NAME". */
void tm_call_query(struct tm_call *call, const char *name, const char *value);
void tm_call_header(struct tm_call *call, const char *name, const char *value);
void tm_call_vendor(struct tm_call *call, const char *name, const char *value);
void tm_call_no_header(struct tm_call *call, const char *name);

/* Content type, metadata, create-only. */
void tm_call_put_opts(struct tm_call *call, const struct tm_oss_put_opts *opts);

/* The header that makes the store refuse an existing key, in its own form. */
void tm_call_create_only(struct tm_call *call);

bool tm_call_send(struct tm_call *call, struct tm_error *err) TM_MUSTCHECK;
void tm_call_free(struct tm_call *call);

/* A presigned URL of the call. */
bool tm_call_presign(struct tm_call *call, int64_t expires_s, struct tm_buffer *url,
                     struct tm_error *err) TM_MUSTCHECK;

#endif
