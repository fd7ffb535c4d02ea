/*
** store_private.h: what store.c shares with upload.c
*/
#ifndef TM_OSSD_STORE_PRIVATE_H
#define TM_OSSD_STORE_PRIVATE_H

#include <pthread.h>

#include "ossd/store.h"

struct tm_ossd_entry {
  uint64_t size;
  int64_t mtime;
  char etag[TM_OSSD_ETAG];
  char upload[TM_OSSD_ID];
  char key[]; /* never moves or changes */
};

struct tm_ossd_bucket {
  char name[64];
  int64_t created;
  struct tm_ossd_entry **entries; /* sorted by key as bytes */
  size_t count, capacity;
};

struct tm_ossd_store {
  int root; /* directory */
  bool sync;
  pthread_mutex_t
      lock; /* guards buckets, what they hold, and every rename and unlink below
                           objects/ and uploads/ */
  struct tm_ossd_bucket **buckets; /* sorted by name; TM_OSSD_MOST_BUCKETS places */
  size_t bucket_count;
};

/* With the lock held: */
enum tm_ossd_result tm_ossd_commit_locked(struct tm_ossd_store *s, const char *bucket,
                                          struct tm_ossd_temp *temp,
                                          const struct tm_ossd_record *r,
                                          const struct tm_ossd_condition *condition,
                                          struct tm_error *err);

/* Fills id with 32 random hex digits. */
bool tm_ossd_random_id(char id[TM_OSSD_ID], struct tm_error *err) TM_MUSTCHECK;

/* fsyncs the directory that `path` lies in, when the store syncs. */
bool tm_ossd_sync_parent(struct tm_ossd_store *s, const char *path, struct tm_error *err)
    TM_MUSTCHECK;

/* Removes a directory of plain files, as far as it goes. */
void tm_ossd_remove_directory(struct tm_ossd_store *s, const char *path);

/* Reads the uploads of a bucket at start: ends those whose object was committed, removes
** parts that no object and no upload owns. Called before any other thread. */
void tm_ossd_uploads_recover(struct tm_ossd_store *s, struct tm_ossd_bucket *bucket);

#endif
