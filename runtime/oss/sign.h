/*
** sign.h: request signatures of OSS (V1, V4) and S3 (V4)
**
** Pure functions over a request as it goes on the wire; the same code signs in the client
** and verifies in ossd. Vectors: tests/vectors/oss-v1.json, oss-v4.json, s3-v4.json.
*/
#ifndef TM_OSS_SIGN_H
#define TM_OSS_SIGN_H

#include <stdint.h>

#include "base/buffer.h"

enum tm_sign_scheme { TM_SIGN_NONE, TM_SIGN_OSS_V1, TM_SIGN_OSS_V4, TM_SIGN_S3_V4 };

struct tm_pair {
  const char *name;  /* header names in any case */
  const char *value; /* NULL: a query parameter without '=' */
};

struct tm_sign_request {
  enum tm_sign_scheme scheme;
  const char *method; /* upper case */
  const char *bucket; /* NULL or "" at service level */
  const char *key;    /* raw bytes, unencoded; NULL or "" at bucket level */
  const char *path;   /* S3 only: the path as on the wire, encoded once; "" means "/" */
  const char *region; /* signing form: "cn-hangzhou", "us-east-1" */
  const struct tm_pair
      *query; /* decoded; the signature itself, if there, is passed over */
  size_t query_count;
  const struct tm_pair *headers; /* all that will be sent, Host included */
  size_t header_count;
  const char *additional_headers; /* OSS V4: "host;range", any order; or NULL */
  const char
      *signed_headers;      /* S3: "host;range;...", any order. NULL: host, content-type,
                                     content-md5 and every x-amz- header that is there */
  const char *payload_hash; /* S3: what x-amz-content-sha256 carries; NULL:
                                     UNSIGNED-PAYLOAD. OSS V4 is always unsigned */
  int64_t time;             /* seconds since 1970 UTC */
  int64_t expires;          /* presigned: seconds of validity; else 0 */
  const char *access_key_id, *access_key_secret;
  const char *security_token; /* or NULL; only tm_presign reads it, a header-signed
                                     request carries it among `headers` */
};

struct tm_signature {
  struct tm_buffer canonical_request; /* empty for V1 */
  struct tm_buffer string_to_sign;
  struct tm_buffer value;         /* the signature alone */
  struct tm_buffer authorization; /* the header's value; empty when presigned */
};

/*
** Header form: the date and content-sha256 headers must already be among `headers`
** (tm_date_rfc1123 and tm_date_iso_basic in encode.h write the dates: `x-oss-date` or
** `Date` for V1, `x-oss-date` for OSS V4, `x-amz-date` for S3); fills all four buffers,
** each ended by a NUL that len does not count. Presigned form (`expires` > 0): `query` must
** hold every parameter that is signed, `authorization` stays empty. Zero *out before the
** first call; a second call reuses it. False: TM_EUSAGE, TM_EMEMORY.
*/
bool tm_sign(const struct tm_sign_request *request, struct tm_signature *out,
             struct tm_error *err) TM_MUSTCHECK;
void tm_signature_free(struct tm_signature *s);

/*
** Appends to `query_string` the whole encoded query of a presigned URL, without '?': the
** parameters of `request->query`, those of the scheme, and the signature. `expires` must
** be 1 to 604800 seconds for the V4 schemes. `headers` are those the user of the URL will
** send (for S3 at least Host). False: TM_EUSAGE, TM_EMEMORY.
*/
bool tm_presign(const struct tm_sign_request *request, struct tm_buffer *query_string,
                struct tm_error *err) TM_MUSTCHECK;

/* Appends the query (without '?') as it goes on the wire: "a=1&b", in the order given. */
bool tm_query_string(const struct tm_pair *query, size_t count, struct tm_buffer *out)
    TM_MUSTCHECK;

/* The key that signs, derived from the secret; good for one day, region and scheme (V4). */
struct tm_sign_key {
  unsigned char bytes[32];
};
bool tm_sign_derive(enum tm_sign_scheme scheme, const char *secret, int64_t time,
                    const char *region, struct tm_sign_key *key, struct tm_error *err)
    TM_MUSTCHECK;

/* One link of a chain of S3 streaming signatures (aws-chunked). */
struct tm_sign_chunk {
  const struct tm_sign_key *key;
  int64_t time; /* of the request */
  const char *region;
  const char *previous;    /* 64 hex: of the chunk before, first of the request */
  const char *data_sha256; /* 64 hex: of the chunk's data, or of "name:value\n" lines */
  bool trailer;            /* the trailer's signature instead of a chunk's */
};
/* Writes 64 hex digits and a NUL; string_to_sign (may be NULL) is replaced. */
bool tm_sign_chunk(const struct tm_sign_chunk *chunk, struct tm_buffer *string_to_sign,
                   char signature[65], struct tm_error *err) TM_MUSTCHECK;

#endif
