/*
** file_store.h: file:// stores: a directory whose files are the objects
**
** A key is a relative path without empty, "." or ".." segments; symbolic links are never
** followed and never listed. An object appears by rename (or link, create-only) after
** fsync. Content type and metadata are not kept. The etag is size, time and inode.
** Names that begin with ".tidemill-" are ours: unfinished objects and uploads.
*/
#ifndef TM_OSS_FILE_STORE_H
#define TM_OSS_FILE_STORE_H

#include <sys/stat.h>

#include "oss/store.h"

#define TM_FILE_OURS ".tidemill-"

/* An object being written. Zero-initialise; abandon after a failure or commit. */
struct tm_file_out {
  int dir, fd;
  char temporary[64], name[256];
  bool
      nameless; /* the file has no name yet: the system removes it if nobody gives it one */
  int64_t size;
  uint64_t crc64;
};

bool tm_file_begin(struct tm_oss *store, const char *key, struct tm_file_out *out,
                   struct tm_error *err) TM_MUSTCHECK;
bool tm_file_write(struct tm_file_out *out, const void *bytes, size_t n,
                   struct tm_error *err) TM_MUSTCHECK;
bool tm_file_commit(struct tm_oss *store, const char *key, struct tm_file_out *out,
                    bool create_only, struct tm_oss_info *info, struct tm_error *err)
    TM_MUSTCHECK;
void tm_file_abandon(struct tm_file_out *out);

/* Descriptor of the directory that holds the last segment of `key`, which is put into
** *name; made when `create`. -1 with *err. */
int tm_file_dir(struct tm_oss *store, const char *key, bool create, const char **name,
                struct tm_error *err);

void tm_file_etag(const struct stat *st, char out[128]);
int64_t tm_file_mtime_ms(const struct stat *st);

/* file_list.c */
bool tm_file_list(struct tm_oss *store, const struct tm_oss_list_opts *opts,
                  const char *token, struct tm_oss_page *page,
                  const struct tm_cancel *cancel, struct tm_error *err) TM_MUSTCHECK;

/* file_multipart.c */
bool tm_file_multipart_create(struct tm_oss *store, const char *key,
                              const struct tm_oss_put_opts *opts, char **upload_id,
                              const struct tm_cancel *cancel, struct tm_error *err)
    TM_MUSTCHECK;
bool tm_file_multipart_part(struct tm_oss *store, const char *key, const char *upload_id,
                            int number, const void *bytes, size_t n,
                            struct tm_oss_part *part, const struct tm_cancel *cancel,
                            struct tm_error *err) TM_MUSTCHECK;
bool tm_file_multipart_complete(struct tm_oss *store, const char *key,
                                const char *upload_id, const struct tm_oss_part *parts,
                                size_t count, bool create_only, struct tm_oss_info *info,
                                const struct tm_cancel *cancel, struct tm_error *err)
    TM_MUSTCHECK;
bool tm_file_multipart_abort(struct tm_oss *store, const char *key, const char *upload_id,
                             bool cleanup, struct tm_error *err) TM_MUSTCHECK;
bool tm_file_multipart_parts(struct tm_oss *store, const char *key, const char *upload_id,
                             struct tm_oss_parts *parts, const struct tm_cancel *cancel,
                             struct tm_error *err) TM_MUSTCHECK;
bool tm_file_multipart_uploads(struct tm_oss *store, const char *prefix,
                               struct tm_oss_uploads *uploads,
                               const struct tm_cancel *cancel, struct tm_error *err)
    TM_MUSTCHECK;
bool tm_file_multipart_forget(struct tm_oss *store, const char *key, struct tm_error *err)
    TM_MUSTCHECK;

#endif
