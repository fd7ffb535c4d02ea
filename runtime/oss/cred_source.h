/*
** cred_source.h: the places where keys may be, one function each
**
** Inner header of oss/: cred.c asks the places in turn and keeps what it got. Each answers
** TM_CRED_FOUND with *out filled, TM_CRED_ABSENT, having added to `looked` where it looked
** and what was the matter, or TM_CRED_FAILED with *err.
*/
#ifndef TM_OSS_CRED_SOURCE_H
#define TM_OSS_CRED_SOURCE_H

#include "base/buffer.h"
#include "driver/http.h"
#include "oss/cred.h"

enum tm_cred_answer { TM_CRED_FOUND, TM_CRED_ABSENT, TM_CRED_FAILED };

/* What a profile says, besides the keys in `set` (id NULL: it has none). Owned strings. */
struct tm_profile {
  struct tm_cred set;
  char *role_name; /* of an instance role; "" stands for whichever there is */
  char *endpoint, *region, *addressing;
};

/* Copies a set; false with *err: TM_EMEMORY. `token` may be NULL or "". */
bool tm_cred_copy(struct tm_cred *out, const char *id, const char *secret,
                  const char *token, struct tm_error *err) TM_MUSTCHECK;

/* Adds "; "-separated places to the list. */
void tm_cred_looked(struct tm_buffer *looked, const char *format, ...) TM_PRINTF(2, 3);

enum tm_cred_answer tm_cred_from_environment(enum tm_cred_scheme scheme,
                                             struct tm_cred *out,
                                             struct tm_buffer *looked,
                                             struct tm_error *err);

/*
** Reads the profile files. FOUND when the profile exists in one of them, with or without
** keys; a profile that was asked for by name and is nowhere is FAILED (TM_EUSAGE). `bucket`
** (or NULL) picks an endpoint of its own in ~/.ossutilconfig.
*/
enum tm_cred_answer tm_profile_load(const struct tm_cred_opts *opts, const char *bucket,
                                    struct tm_profile *out, struct tm_buffer *looked,
                                    struct tm_error *err);
void tm_profile_free(struct tm_profile *profile); /* twice is fine */

/* Asks the container's or the instance's metadata service. `role` NULL or "": whichever
** there is. */
enum tm_cred_answer tm_cred_from_role(const struct tm_cred_opts *opts, const char *role,
                                      struct tm_http *http, struct tm_cred *out,
                                      struct tm_buffer *looked,
                                      const struct tm_cancel *cancel,
                                      struct tm_error *err);

#endif
