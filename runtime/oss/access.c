/*
** access.c: what another program needs to reach the same store
*/
#include "oss/access.h"

#include <string.h>

#include "oss/store.h"

static const char *signature_of(const struct tm_oss *store)
{
  switch (store->sign) {
  case TM_SIGN_NONE:
    return "none";
  case TM_SIGN_OSS_V1:
    return "v1";
  default:
    return "v4";
  }
}

bool tm_oss_access(struct tm_oss *store, struct tm_oss_access *out,
                   const struct tm_cancel *cancel, struct tm_error *err)
{
  memset(out, 0, sizeof *out);
  if (store->scheme == TM_OSS_FILE) {
    tm_error_set(err, TM_EUSAGE, "%s is a directory, which nobody else can reach",
                 store->url);
    return false;
  }
  pthread_mutex_lock(&store->lock);
  out->address = store->address;
  pthread_mutex_unlock(&store->lock);
  out->prefix = store->prefix;
  out->signature = signature_of(store);
  return store->cred == NULL || tm_cred_get(store->cred, &out->cred, cancel, err);
}

void tm_oss_access_free(struct tm_oss_access *access)
{
  tm_cred_free(&access->cred);
}
