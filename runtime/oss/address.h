/*
** address.h: which host and path a bucket and key have
*/
#ifndef TM_OSS_ADDRESS_H
#define TM_OSS_ADDRESS_H

#include "oss/cred.h"
#include "oss/oss.h"

enum tm_addressing { TM_ADDR_VIRTUAL, TM_ADDR_PATH, TM_ADDR_CNAME };

enum { TM_HOST_SIZE = 320, TM_REGION_SIZE = 64, TM_BUCKET_SIZE = 256 };

struct tm_address {
  enum tm_oss_scheme scheme;
  char bucket[TM_BUCKET_SIZE];
  bool tls;
  bool derived;            /* the host follows from the region and changes with it */
  char host[TM_HOST_SIZE]; /* of the service: lower case, with :port unless the default */
  char region[TM_REGION_SIZE]; /* signing form; "" unknown */
  enum tm_addressing style;
};

/* Fills *out from the bucket, the options, the environment (OSS_ENDPOINT, OSS_REGION,
** AWS_ENDPOINT_URL_S3, AWS_ENDPOINT_URL, AWS_REGION, AWS_DEFAULT_REGION) and what the
** profile says, in this order. TM_EUSAGE when something is missing or malformed. */
bool tm_address_resolve(enum tm_oss_scheme scheme, const char *bucket,
                        const struct tm_oss_opts *opts,
                        const struct tm_cred_settings *profile, struct tm_address *out,
                        struct tm_error *err) TM_MUSTCHECK;

/* The store said that the bucket lives in `region`; true when that is news. */
bool tm_address_set_region(struct tm_address *a, const char *region);

/* Writes the Host header's value, and appends the encoded path of the key (NULL: of the
** bucket) to *path. False: out of memory. */
bool tm_address_of(const struct tm_address *a, const char *key,
                   char host[TM_HOST_SIZE * 2], struct tm_buffer *path) TM_MUSTCHECK;

#endif
