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
  const char *method;  /* upper case */
  const char *bucket;  /* NULL at service level */
  const char *key;     /* raw bytes, unencoded; NULL or "" at bucket level */
  const char *path;    /* S3 only: the path as on the wire, encoded once */
  const char *region;  /* signing form: "cn-hangzhou", "us-east-1" */
  const struct tm_pair *query; /* decoded */
  size_t query_count;
  const struct tm_pair *headers; /* all that will be sent, Host included */
  size_t header_count;
  const char *additional_headers; /* OSS V4: "host;range", or NULL */
  const char *payload_hash;       /* S3: what x-amz-content-sha256 carries */
  int64_t time;                   /* seconds since 1970 UTC */
  int64_t expires;                /* presigned: seconds of validity; else 0 */
  const char *access_key_id, *access_key_secret;
  const char *security_token;     /* or NULL */
};

struct tm_signature {
  struct tm_buffer canonical_request; /* empty for V1 */
  struct tm_buffer string_to_sign;
  struct tm_buffer value;         /* the signature alone */
  struct tm_buffer authorization; /* the header's value; empty when presigned */
};

/*
** Header form: the date and content-sha256 headers must already be among `headers`
** (tm_sign_date writes their values); fills all four buffers. Presigned form (`expires`
** > 0): `query` must hold every parameter that is signed (tm_presign_query adds them).
** False: TM_EUSAGE, TM_EMEMORY.
*/
bool tm_sign(const struct tm_sign_request *request, struct tm_signature *out,
             struct tm_error *err) TM_MUSTCHECK;
void tm_signature_free(struct tm_signature *s);

#endif
