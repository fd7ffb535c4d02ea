/*
** store.h: buckets and objects in a directory
**
**   ROOT/BUCKET/bucket                  empty; its time is when the bucket was made
**   ROOT/BUCKET/objects/ab/...          objects, named by the SHA-256 of their keys
**   ROOT/BUCKET/uploads/ID/meta, 00001  open uploads, and the parts of completed ones
**   ROOT/BUCKET/tmp/                    what is being written; emptied at start
**
** A sorted index of every bucket's keys lives in memory (about 250 bytes a key, at most
** TM_OSSD_MOST_OBJECTS) and is made anew from the files at start. Every function is safe
** from any thread.
*/
#ifndef TM_OSSD_STORE_H
#define TM_OSSD_STORE_H

#include "ossd/record.h"

enum { TM_OSSD_MOST_OBJECTS = 4000000, TM_OSSD_MOST_BUCKETS = 1000 };

struct tm_ossd_store;

/* How an operation ended. */
enum tm_ossd_result {
  TM_OSSD_OK,
  TM_OSSD_NO_BUCKET,
  TM_OSSD_NO_KEY,
  TM_OSSD_NO_UPLOAD,
  TM_OSSD_EXISTS, /* create-only, and it is there */
  TM_OSSD_NOT_EMPTY,
  TM_OSSD_PRECONDITION, /* the etag differs */
  TM_OSSD_BAD_PART,     /* missing, or its etag differs */
  TM_OSSD_PART_ORDER,
  TM_OSSD_PART_SIZE, /* a part but the last is too small */
  TM_OSSD_FULL,      /* a limit of this server */
  TM_OSSD_FAILED,    /* the disk; *err tells */
};

/* Opens or makes the directory. `sync`: fsync files and directories before an answer. */
struct tm_ossd_store *tm_ossd_store_open(const char *root, bool sync,
                                         struct tm_error *err);
void tm_ossd_store_close(struct tm_ossd_store *s); /* NULL is fine */

enum tm_ossd_result tm_ossd_bucket_create(struct tm_ossd_store *s, const char *name,
                                          struct tm_error *err);
enum tm_ossd_result tm_ossd_bucket_delete(struct tm_ossd_store *s, const char *name,
                                          struct tm_error *err);
/* *created: seconds since 1970 UTC; may be NULL. */
bool tm_ossd_bucket_find(struct tm_ossd_store *s, const char *name, int64_t *created);
/* The n-th name in order, from 0; false past the last. */
bool tm_ossd_bucket_at(struct tm_ossd_store *s, size_t n, char name[64],
                       int64_t *created);

/* A file being written; it vanishes unless it is committed. */
struct tm_ossd_temp {
  int fd; /* -1: none */
  char path[TM_OSSD_PATH];
};
bool tm_ossd_temp_open(struct tm_ossd_store *s, const char *bucket,
                       struct tm_ossd_temp *temp, struct tm_error *err) TM_MUSTCHECK;
void tm_ossd_temp_drop(struct tm_ossd_store *s, struct tm_ossd_temp *temp);

/* Appends the record to the file and syncs it. The order is: seal, then commit. */
bool tm_ossd_temp_seal(struct tm_ossd_store *s, struct tm_ossd_temp *temp,
                       const struct tm_ossd_record *r, struct tm_error *err) TM_MUSTCHECK;

struct tm_ossd_condition {
  bool create_only;     /* EXISTS when the key is there */
  const char *if_match; /* etag without quotes, or NULL: PRECONDITION, NO_KEY */
};

/* Moves the sealed file into place under r->key and tells the index; `condition` and the
** move are one step. *temp is then empty. */
enum tm_ossd_result tm_ossd_commit(struct tm_ossd_store *s, const char *bucket,
                                   struct tm_ossd_temp *temp,
                                   const struct tm_ossd_record *r,
                                   const struct tm_ossd_condition *condition,
                                   struct tm_error *err);

/* Opens an object: its record and a descriptor of its file, the caller's to close and
** free. Both stay whole when the object is replaced meanwhile. */
enum tm_ossd_result tm_ossd_open(struct tm_ossd_store *s, const char *bucket,
                                 const char *key, int *fd, struct tm_ossd_record *r,
                                 struct tm_error *err);

/* Opens a part of an upload, open or completed; -1 when it is gone. */
int tm_ossd_part_open(struct tm_ossd_store *s, const char *bucket, const char *upload,
                      unsigned part);

/* OK as well when there was no such key. */
enum tm_ossd_result tm_ossd_remove(struct tm_ossd_store *s, const char *bucket,
                                   const char *key, struct tm_error *err);

struct tm_ossd_item {
  char *name; /* a key, or a common prefix */
  bool is_prefix;
  uint64_t size;
  int64_t mtime;
  char etag[TM_OSSD_ETAG];
  bool is_multipart;
};

struct tm_ossd_page {
  struct tm_ossd_item *items;
  size_t count;
  bool truncated; /* more follows after the last item */
};

/* The first `most` keys (and common prefixes, when delimiter is not "") after `after` (""
** begins) that begin with `prefix`. Free the page also after a failure. */
enum tm_ossd_result tm_ossd_list(struct tm_ossd_store *s, const char *bucket,
                                 const char *prefix, const char *delimiter,
                                 const char *after, size_t most,
                                 struct tm_ossd_page *page, struct tm_error *err);
void tm_ossd_page_free(struct tm_ossd_page *page);

#endif
