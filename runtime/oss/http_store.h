/*
** http_store.h: the operations of oss:// and s3://, split over http_object.c, http_list.c
** and http_multipart.c; signatures as in backend.h
*/
#ifndef TM_OSS_HTTP_STORE_H
#define TM_OSS_HTTP_STORE_H

#include "oss/call.h"

/* http_get.c */
bool tm_http_stream(struct tm_oss *store, const char *key,
                    const struct tm_oss_get_opts *opts, tm_oss_take *take, void *data,
                    struct tm_oss_info *info, const struct tm_cancel *cancel,
                    struct tm_error *err) TM_MUSTCHECK;

/* http_list.c */
bool tm_http_list(struct tm_oss *store, const struct tm_oss_list_opts *opts,
                  const char *token, struct tm_oss_page *page,
                  const struct tm_cancel *cancel, struct tm_error *err) TM_MUSTCHECK;
bool tm_http_delete_many(struct tm_oss *store, const char *const *keys, size_t count,
                         struct tm_oss_failures *failed, const struct tm_cancel *cancel,
                         struct tm_error *err) TM_MUSTCHECK;

/* http_multipart.c */
bool tm_http_multipart_create(struct tm_oss *store, const char *key,
                              const struct tm_oss_put_opts *opts, char **upload_id,
                              const struct tm_cancel *cancel, struct tm_error *err)
    TM_MUSTCHECK;
bool tm_http_multipart_part(struct tm_oss *store, const char *key, const char *upload_id,
                            int number, const void *bytes, size_t n,
                            struct tm_oss_part *part, const struct tm_cancel *cancel,
                            struct tm_error *err) TM_MUSTCHECK;
bool tm_http_multipart_complete(struct tm_oss *store, const char *key,
                                const char *upload_id, const struct tm_oss_part *parts,
                                size_t count, bool create_only, struct tm_oss_info *info,
                                const struct tm_cancel *cancel, struct tm_error *err)
    TM_MUSTCHECK;
bool tm_http_multipart_abort(struct tm_oss *store, const char *key, const char *upload_id,
                             bool cleanup, struct tm_error *err) TM_MUSTCHECK;
bool tm_http_multipart_parts(struct tm_oss *store, const char *key, const char *upload_id,
                             struct tm_oss_parts *parts, const struct tm_cancel *cancel,
                             struct tm_error *err) TM_MUSTCHECK;
bool tm_http_multipart_uploads(struct tm_oss *store, const char *prefix,
                               struct tm_oss_uploads *uploads,
                               const struct tm_cancel *cancel, struct tm_error *err)
    TM_MUSTCHECK;
bool tm_http_multipart_forget(struct tm_oss *store, const char *key, struct tm_error *err)
    TM_MUSTCHECK;

#endif
