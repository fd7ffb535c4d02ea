/*
** access.h: what another program needs to reach the same store: addresses and keys
**
** For a database that reads objects by itself (lua/load/pull.lua). Everything is as
** the store uses it now: options, environment, profile files and roles are settled.
*/
#ifndef TM_OSS_ACCESS_H
#define TM_OSS_ACCESS_H

#include "oss/address.h"
#include "oss/cred.h"
#include "oss/oss.h"

struct tm_oss_access {
  struct tm_address address;
  const char *prefix;    /* "" or ends in '/': goes before every key; the store's */
  const char *signature; /* "v4", "v1", "none" */
  struct tm_cred cred;   /* zero when requests are not signed */
};

/* Fills *out, which tm_oss_access_free empties. TM_EUSAGE for a file:// store, and what
** tm_cred_get says. */
bool tm_oss_access(struct tm_oss *store, struct tm_oss_access *out,
                   const struct tm_cancel *cancel, struct tm_error *err) TM_MUSTCHECK;

void tm_oss_access_free(
    struct tm_oss_access *access); /* overwrites keys; twice is fine */

#endif
