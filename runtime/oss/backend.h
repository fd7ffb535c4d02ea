/*
** backend.h: what each kind of store implements; oss.c checks arguments and dispatches
**
** The functions are those of oss.h without the checks: `info` is never NULL and zeroed,
** keys are not empty, results are zeroed.
*/
#ifndef TM_OSS_BACKEND_H
#define TM_OSS_BACKEND_H

#include "oss/oss.h"

struct tm_oss_backend {
  bool (*put)(struct tm_oss *, const char *key, const void *bytes, size_t n,
              const struct tm_oss_put_opts *, struct tm_oss_info *,
              const struct tm_cancel *, struct tm_error *);
  bool (*stream)(struct tm_oss *, const char *key, const struct tm_oss_get_opts *,
                 tm_oss_take *, void *data, struct tm_oss_info *,
                 const struct tm_cancel *, struct tm_error *);
  bool (*head)(struct tm_oss *, const char *key, struct tm_oss_info *,
               const struct tm_cancel *, struct tm_error *);
  bool (*delete)(struct tm_oss *, const char *key, bool cleanup, const struct tm_cancel *,
                 struct tm_error *);
  bool (*delete_many)(struct tm_oss *, const char *const *keys, size_t count,
                      struct tm_oss_failures *, const struct tm_cancel *,
                      struct tm_error *); /* at most 1000 */
  bool (*copy)(struct tm_oss *, const char *from, const char *to,
               const struct tm_oss_put_opts *, struct tm_oss_info *,
               const struct tm_cancel *, struct tm_error *);
  bool (*list)(struct tm_oss *, const struct tm_oss_list_opts *, const char *token,
               struct tm_oss_page *, const struct tm_cancel *, struct tm_error *);
  bool (*multipart_create)(struct tm_oss *, const char *key,
                           const struct tm_oss_put_opts *, char **upload_id,
                           const struct tm_cancel *, struct tm_error *);
  bool (*multipart_part)(struct tm_oss *, const char *key, const char *upload_id,
                         int number, const void *bytes, size_t n, struct tm_oss_part *,
                         const struct tm_cancel *, struct tm_error *);
  bool (*multipart_complete)(struct tm_oss *, const char *key, const char *upload_id,
                             const struct tm_oss_part *, size_t count, bool create_only,
                             struct tm_oss_info *, const struct tm_cancel *,
                             struct tm_error *);
  bool (*multipart_abort)(struct tm_oss *, const char *key, const char *upload_id,
                          bool cleanup, struct tm_error *);
  bool (*multipart_parts)(struct tm_oss *, const char *key, const char *upload_id,
                          struct tm_oss_parts *, const struct tm_cancel *,
                          struct tm_error *);
  bool (*multipart_uploads)(struct tm_oss *, const char *prefix, struct tm_oss_uploads *,
                            const struct tm_cancel *, struct tm_error *);
  /* Cleans up: aborts every upload to the key. */
  bool (*multipart_forget)(struct tm_oss *, const char *key, struct tm_error *);
};

extern const struct tm_oss_backend tm_oss_http_backend; /* oss and s3 */
extern const struct tm_oss_backend tm_oss_file_backend; /* a directory */

#endif
