/*
** cred.h: where keys come from: options, environment, profile files, instance roles
**
** Explicit options > environment > profile > container or instance role; id, secret and
** token always come from one place. A profile or a role that the options name goes before
** the environment, and nothing else is then looked at. Files: for oss ~/.ossutilconfig
** (OSS_CONFIG_FILE) and ~/.aliyun/config.json, for s3 ~/.aws/credentials
** (AWS_SHARED_CREDENTIALS_FILE) and ~/.aws/config (AWS_CONFIG_FILE). A chain is used by many threads; one of them refreshes at a time,
** five minutes before expiry, and the old set is used on while it is valid. No secret
** ever goes into an error or a log line.
*/
#ifndef TM_OSS_CRED_H
#define TM_OSS_CRED_H

#include <stdint.h>

#include "base/cancel.h"

enum tm_cred_scheme { TM_CRED_OSS, TM_CRED_S3 };

struct tm_cred {
  char *id, *secret;
  char *token;        /* or NULL */
  int64_t expires_ms; /* tm_clock_wall_ms(), or 0: never */
};

struct tm_cred_opts { /* strings are copied; NULL: not given */
  enum tm_cred_scheme scheme;
  const char *id, *secret, *token; /* explicit: the chain then holds these alone */
  const char *profile;             /* section of the profile files; "default" */
  const char *role_name;           /* instance role; asked of the metadata service */
  /* Base URL of the metadata service in place of the cloud's own; that of s3 also comes
  ** from AWS_EC2_METADATA_SERVICE_ENDPOINT. */
  const char *metadata_url;
};

struct tm_cred_chain;

/* Reads nothing yet. NULL with *err: TM_EMEMORY, TM_EUSAGE (an id without its secret). */
struct tm_cred_chain *tm_cred_open(const struct tm_cred_opts *opts, struct tm_error *err);
void tm_cred_close(struct tm_cred_chain *chain); /* NULL is fine */

/* A copy of the current set, refreshed when need be; *out is the caller's, to be freed
** with tm_cred_free. False: TM_EAUTH (nothing found: the message says where was looked),
** TM_ECONNECT, TM_ECANCELED ... */
bool tm_cred_get(struct tm_cred_chain *chain, struct tm_cred *out,
                 const struct tm_cancel *cancel, struct tm_error *err) TM_MUSTCHECK;

/* The store refused the set whose id and token these are as expired: the next get
** fetches anew. */
void tm_cred_invalidate(struct tm_cred_chain *chain, const struct tm_cred *refused);

/* Overwrites the secrets, frees, and zeroes *cred; twice is fine. */
void tm_cred_free(struct tm_cred *cred);

/* What the profile says about the store itself. Owned strings; NULL: nothing, or the
** environment says it already (OSS_ENDPOINT, OSS_REGION; AWS_ENDPOINT_URL_S3,
** AWS_ENDPOINT_URL, AWS_REGION, AWS_DEFAULT_REGION). */
struct tm_cred_settings {
  char *endpoint, *region;
  char *addressing; /* "virtual", "path", "auto", "cname" */
};

/* Reads the profile files; `bucket` may have an endpoint of its own ([Bucket-Endpoint],
** [Bucket-Cname] of ~/.ossutilconfig). False: TM_EUSAGE (no such profile), TM_EAUTH (half a
** key), TM_EPROTOCOL, TM_EMEMORY. */
bool tm_cred_settings(const struct tm_cred_opts *opts, const char *bucket,
                      struct tm_cred_settings *out, struct tm_error *err) TM_MUSTCHECK;
void tm_cred_settings_free(struct tm_cred_settings *settings); /* zeroes; twice is fine */

#endif
