/*
** store.h: what an open store is, inside runtime/oss
*/
#ifndef TM_OSS_STORE_H
#define TM_OSS_STORE_H

#include <pthread.h>

#include "driver/http.h"
#include "oss/address.h"
#include "oss/backend.h"
#include "oss/cred.h"
#include "oss/oss.h"
#include "oss/sign.h"

struct tm_oss {
  enum tm_oss_scheme scheme;
  const struct tm_oss_backend *backend;
  char *url;    /* for people, ends in '/' */
  char *prefix; /* "" or ends in '/': goes before every key */
  int attempts, retry_time_ms, cleanup_ms;

  int root; /* file: descriptor of the directory; else -1 */

  struct tm_http *http;       /* NULL for file */
  struct tm_cred_chain *cred; /* NULL: anonymous */
  enum tm_sign_scheme sign;
  pthread_mutex_t lock; /* guards address and skew_ms */
  struct tm_address address;
  int64_t skew_ms; /* the store's clock minus ours */
};

/* "oss://bucket/key" for messages, cut when long, control characters shown as '?'. */
enum { TM_OSS_NAME_SIZE = 320 };
void tm_oss_name(const struct tm_oss *store, const char *key, char out[TM_OSS_NAME_SIZE]);

/* Cleans up: deletes within cleanup_ms, whatever was interrupted; a failure is logged. */
void tm_oss_remove(struct tm_oss *store, const char *key);

/* Removes the quotes of an ETag. */
void tm_oss_etag(const char *value, char out[128]);

#endif
