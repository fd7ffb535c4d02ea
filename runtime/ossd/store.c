/*
** store.c: buckets and objects in a directory
**
** Commit order: write and fsync the temporary file (no lock), then under the lock check the
** condition, rename, change the index, and fsync the directory after the lock is let go.
** A reader takes the record from the file it opened, never from the index, so what it
** sends belongs together. The index serves listings and conditions only.
*/
#include "ossd/store.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/log.h"
#include "driver/digest.h"
#include "ossd/store_private.h"

bool tm_ossd_random_id(char id[TM_OSSD_ID], struct tm_error *err)
{
  unsigned char bytes[16];
  if (getrandom(bytes, sizeof bytes, 0) != (ssize_t)sizeof bytes) {
    tm_error_errno(err, TM_ESYSTEM, errno, "no random numbers");
    return false;
  }
  tm_hex(bytes, sizeof bytes, id);
  return true;
}

bool tm_ossd_sync_parent(struct tm_ossd_store *s, const char *path, struct tm_error *err)
{
  if (!s->sync)
    return true;
  char parent[TM_OSSD_PATH];
  snprintf(parent, sizeof parent, "%s", path);
  char *slash = strrchr(parent, '/');
  if (slash == NULL)
    snprintf(parent, sizeof parent, ".");
  else
    *slash = '\0';
  int fd = openat(s->root, parent, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
  bool ok = fd >= 0 && fsync(fd) == 0;
  if (!ok)
    tm_error_errno(err, TM_EIO, errno, "cannot sync directory '%s'", parent);
  if (fd >= 0)
    close(fd);
  return ok;
}

void tm_ossd_remove_directory(struct tm_ossd_store *s, const char *path)
{
  int fd = openat(s->root, path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
  DIR *dir = fd >= 0 ? fdopendir(fd) : NULL;
  if (dir == NULL) {
    if (fd >= 0)
      close(fd);
    return;
  }
  for (struct dirent *d; (d = readdir(dir)) != NULL;)
    if (strcmp(d->d_name, ".") != 0 && strcmp(d->d_name, "..") != 0)
      unlinkat(dirfd(dir), d->d_name, 0);
  closedir(dir);
  unlinkat(s->root, path, AT_REMOVEDIR);
}

/* -- the index -- */

/* With the lock held. */
static struct tm_ossd_bucket *get_bucket(struct tm_ossd_store *s, const char *name)
{
  for (size_t i = 0; i < s->bucket_count; i++)
    if (strcmp(s->buckets[i]->name, name) == 0)
      return s->buckets[i];
  return NULL;
}

static void bucket_free(struct tm_ossd_bucket *b)
{
  for (size_t i = 0; i < b->count; i++)
    free(b->entries[i]);
  free(b->entries);
  free(b);
}

/* The place of the first key that is not less than `key`. */
static size_t lower_bound(const struct tm_ossd_bucket *b, const char *key)
{
  size_t low = 0, high = b->count;
  while (low < high) {
    size_t middle = low + (high - low) / 2;
    if (strcmp(b->entries[middle]->key, key) < 0)
      low = middle + 1;
    else
      high = middle;
  }
  return low;
}

static struct tm_ossd_entry *find_entry(const struct tm_ossd_bucket *b, const char *key)
{
  size_t i = lower_bound(b, key);
  return i < b->count && strcmp(b->entries[i]->key, key) == 0 ? b->entries[i] : NULL;
}

static bool make_room(struct tm_ossd_bucket *b)
{
  if (b->count < b->capacity)
    return true;
  size_t capacity = b->capacity < 64 ? 64 : b->capacity * 2;
  struct tm_ossd_entry **entries = realloc(b->entries, capacity * sizeof(void *));
  if (entries == NULL)
    return false;
  b->entries = entries;
  b->capacity = capacity;
  return true;
}

static struct tm_ossd_entry *new_entry(const struct tm_ossd_record *r)
{
  size_t n = strlen(r->key);
  struct tm_ossd_entry *e = calloc(1, sizeof *e + n + 1);
  if (e == NULL)
    return NULL;
  e->size = r->size;
  e->mtime = r->mtime;
  memcpy(e->etag, r->etag, sizeof e->etag);
  memcpy(e->upload, r->upload, sizeof e->upload);
  memcpy(e->key, r->key, n + 1);
  return e;
}

/* Puts the entry in, or in place of the one of the same key, which is freed. */
static void insert_entry(struct tm_ossd_bucket *b, struct tm_ossd_entry *e)
{
  size_t i = lower_bound(b, e->key);
  if (i < b->count && strcmp(b->entries[i]->key, e->key) == 0) {
    free(b->entries[i]);
  } else {
    memmove(b->entries + i + 1, b->entries + i, (b->count - i) * sizeof(void *));
    b->count++;
  }
  b->entries[i] = e;
}

static void remove_entry(struct tm_ossd_bucket *b, const char *key)
{
  size_t i = lower_bound(b, key);
  if (i == b->count || strcmp(b->entries[i]->key, key) != 0)
    return;
  free(b->entries[i]);
  b->count--;
  memmove(b->entries + i, b->entries + i + 1, (b->count - i) * sizeof(void *));
}

/* -- start -- */

static int compare_entries(const void *a, const void *b)
{
  return strcmp((*(struct tm_ossd_entry *const *)a)->key,
                (*(struct tm_ossd_entry *const *)b)->key);
}

static bool load_object(struct tm_ossd_bucket *b, int dir, const char *name,
                        struct tm_error *err)
{
  struct tm_ossd_record *r = calloc(1, sizeof *r);
  int fd = openat(dir, name, O_RDONLY | O_CLOEXEC | O_NOFOLLOW);
  bool ok = true;
  tm_error_errno(err, TM_EIO, errno,
                 "cannot open"); /* unless the next line says better */
  if (fd >= 0 && r != NULL && tm_ossd_record_read(fd, r, err)) {
    struct tm_ossd_entry *e = make_room(b) ? new_entry(r) : NULL;
    ok = e != NULL && b->count < TM_OSSD_MOST_OBJECTS;
    if (ok)
      b->entries[b->count++] = e;
    else
      tm_error_set(err, TM_EMEMORY, "more than %d objects", TM_OSSD_MOST_OBJECTS);
  } else {
    tm_log(TM_WARN, "ossd: passed over %s/%s: %s", b->name, name, err->message);
  }
  if (fd >= 0)
    close(fd);
  if (r != NULL)
    tm_ossd_record_free(r);
  free(r);
  return ok;
}

/* Reads every object of one of the 256 directories; a missing one has none. */
static bool load_fan(struct tm_ossd_store *s, struct tm_ossd_bucket *b, unsigned n,
                     struct tm_error *err)
{
  char path[TM_OSSD_PATH];
  snprintf(path, sizeof path, "%s/objects/%02x", b->name, n);
  int fd = openat(s->root, path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
  if (fd < 0)
    return true;
  DIR *dir = fdopendir(fd);
  bool ok = dir != NULL;
  for (struct dirent *d; ok && (d = readdir(dir)) != NULL;)
    if (strlen(d->d_name) == 62)
      ok = load_object(b, fd, d->d_name, err);
  if (dir != NULL)
    closedir(dir);
  else
    close(fd);
  return ok;
}

static void empty_tmp(struct tm_ossd_store *s, const char *bucket)
{
  char path[TM_OSSD_PATH];
  snprintf(path, sizeof path, "%s/tmp", bucket);
  tm_ossd_remove_directory(s, path);
  mkdirat(s->root, path, 0777);
}

/* Places the bucket among the others by name; the caller saw that there is room. */
static void insert_bucket(struct tm_ossd_store *s, struct tm_ossd_bucket *b)
{
  size_t i = s->bucket_count++;
  for (; i > 0 && strcmp(s->buckets[i - 1]->name, b->name) > 0; i--)
    s->buckets[i] = s->buckets[i - 1];
  s->buckets[i] = b;
}

static bool load_bucket(struct tm_ossd_store *s, const char *name, struct tm_error *err)
{
  struct stat st;
  char path[TM_OSSD_PATH];
  snprintf(path, sizeof path, "%.63s/bucket", name);
  if (fstatat(s->root, path, &st, 0) != 0)
    return true; /* not ours, or its making was cut short */
  struct tm_ossd_bucket *b = calloc(1, sizeof *b);
  if (b == NULL || s->bucket_count == TM_OSSD_MOST_BUCKETS) {
    free(b);
    tm_error_set(err, TM_EMEMORY, "more than %d buckets", TM_OSSD_MOST_BUCKETS);
    return false;
  }
  snprintf(b->name, sizeof b->name, "%.63s", name);
  b->created = st.st_mtim.tv_sec;
  insert_bucket(s, b);
  empty_tmp(s, name);
  for (unsigned n = 0; n < 256; n++)
    if (!load_fan(s, b, n, err))
      return false;
  if (b->count > 0)
    qsort(b->entries, b->count, sizeof(void *), compare_entries);
  tm_ossd_uploads_recover(s, b);
  return true;
}

static bool load(struct tm_ossd_store *s, struct tm_error *err)
{
  int fd = openat(s->root, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
  DIR *dir = fd >= 0 ? fdopendir(fd) : NULL;
  if (dir == NULL) {
    tm_error_errno(err, TM_ESYSTEM, errno, "cannot read the store's directory");
    if (fd >= 0)
      close(fd);
    return false;
  }
  bool ok = true;
  for (struct dirent *d; ok && (d = readdir(dir)) != NULL;)
    if (tm_ossd_is_bucket_name(d->d_name))
      ok = load_bucket(s, d->d_name, err);
  closedir(dir);
  return ok;
}

struct tm_ossd_store *tm_ossd_store_open(const char *root, bool sync,
                                         struct tm_error *err)
{
  struct tm_ossd_store *s = calloc(1, sizeof *s);
  if (s == NULL) {
    tm_error_set(err, TM_EMEMORY, "out of memory");
    return NULL;
  }
  pthread_mutex_init(&s->lock, NULL);
  s->sync = sync;
  s->buckets = calloc(TM_OSSD_MOST_BUCKETS, sizeof *s->buckets);
  if (mkdir(root, 0777) != 0 && errno != EEXIST)
    tm_error_errno(err, TM_ESYSTEM, errno, "cannot make directory '%s'", root);
  s->root = open(root, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
  if (s->root < 0)
    tm_error_errno(err, TM_ESYSTEM, errno, "cannot open directory '%s'", root);
  if (s->buckets == NULL)
    tm_error_set(err, TM_EMEMORY, "out of memory");
  if (s->root < 0 || s->buckets == NULL || !load(s, err)) {
    tm_ossd_store_close(s);
    return NULL;
  }
  return s;
}

void tm_ossd_store_close(struct tm_ossd_store *s)
{
  if (s == NULL)
    return;
  for (size_t i = 0; i < s->bucket_count; i++)
    bucket_free(s->buckets[i]);
  free(s->buckets);
  if (s->root >= 0)
    close(s->root);
  pthread_mutex_destroy(&s->lock);
  free(s);
}

/* -- buckets -- */

static enum tm_ossd_result failed(struct tm_error *err, const char *what,
                                  const char *name)
{
  tm_error_errno(err, TM_EIO, errno, "cannot %s '%s'", what, name);
  return TM_OSSD_FAILED;
}

static enum tm_ossd_result make_bucket(struct tm_ossd_store *s, struct tm_ossd_bucket *b,
                                       struct tm_error *err)
{
  static const char *const inner[] = {"", "/objects", "/uploads", "/tmp"};
  char path[TM_OSSD_PATH];
  for (size_t i = 0; i < sizeof inner / sizeof *inner; i++) {
    snprintf(path, sizeof path, "%s%s", b->name, inner[i]);
    if (mkdirat(s->root, path, 0777) != 0 && errno != EEXIST)
      return failed(err, "make directory", path);
  }
  snprintf(path, sizeof path, "%s/bucket", b->name); /* last: it makes the bucket real */
  int fd = openat(s->root, path, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0666);
  if (fd < 0)
    return failed(err, "make", path);
  close(fd);
  if (!tm_ossd_sync_parent(s, path, err) || !tm_ossd_sync_parent(s, b->name, err))
    return TM_OSSD_FAILED;
  return TM_OSSD_OK;
}

enum tm_ossd_result tm_ossd_bucket_create(struct tm_ossd_store *s, const char *name,
                                          struct tm_error *err)
{
  struct tm_ossd_bucket *b = calloc(1, sizeof *b);
  enum tm_ossd_result result = TM_OSSD_FULL;
  if (b == NULL)
    return result;
  snprintf(b->name, sizeof b->name, "%.63s", name);
  b->created = tm_clock_wall_ms() / 1000;
  pthread_mutex_lock(&s->lock);
  if (get_bucket(s, name) != NULL)
    result = TM_OSSD_EXISTS;
  else if (s->bucket_count < TM_OSSD_MOST_BUCKETS)
    result = make_bucket(s, b, err);
  if (result == TM_OSSD_OK) {
    insert_bucket(s, b);
    b = NULL;
  }
  pthread_mutex_unlock(&s->lock);
  free(b);
  return result;
}

static bool has_uploads(struct tm_ossd_store *s, const char *bucket)
{
  char path[TM_OSSD_PATH];
  snprintf(path, sizeof path, "%s/uploads", bucket);
  int fd = openat(s->root, path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
  DIR *dir = fd >= 0 ? fdopendir(fd) : NULL;
  bool any = false;
  for (struct dirent *d; dir != NULL && (d = readdir(dir)) != NULL;)
    any = any || tm_ossd_is_upload_id(d->d_name);
  if (dir != NULL)
    closedir(dir);
  else if (fd >= 0)
    close(fd);
  return any;
}

static void remove_bucket_files(struct tm_ossd_store *s, const char *name)
{
  char path[TM_OSSD_PATH];
  snprintf(path, sizeof path, "%s/bucket", name); /* first: from here it is no bucket */
  unlinkat(s->root, path, 0);
  for (unsigned n = 0; n < 256; n++) {
    snprintf(path, sizeof path, "%s/objects/%02x", name, n);
    tm_ossd_remove_directory(s, path);
  }
  static const char *const inner[] = {"/objects", "/uploads", "/tmp", ""};
  for (size_t i = 0; i < sizeof inner / sizeof *inner; i++) {
    snprintf(path, sizeof path, "%s%s", name, inner[i]);
    tm_ossd_remove_directory(s, path);
  }
}

enum tm_ossd_result tm_ossd_bucket_delete(struct tm_ossd_store *s, const char *name,
                                          struct tm_error *err)
{
  enum tm_ossd_result result = TM_OSSD_NO_BUCKET;
  pthread_mutex_lock(&s->lock);
  for (size_t i = 0; i < s->bucket_count; i++) {
    struct tm_ossd_bucket *b = s->buckets[i];
    if (strcmp(b->name, name) != 0)
      continue;
    result = TM_OSSD_NOT_EMPTY;
    if (b->count > 0 || has_uploads(s, name))
      break;
    remove_bucket_files(s, name);
    s->bucket_count--;
    memmove(s->buckets + i, s->buckets + i + 1, (s->bucket_count - i) * sizeof(void *));
    bucket_free(b);
    result = tm_ossd_sync_parent(s, name, err) ? TM_OSSD_OK : TM_OSSD_FAILED;
    break;
  }
  pthread_mutex_unlock(&s->lock);
  return result;
}

bool tm_ossd_bucket_find(struct tm_ossd_store *s, const char *name, int64_t *created)
{
  pthread_mutex_lock(&s->lock);
  struct tm_ossd_bucket *b = get_bucket(s, name);
  if (b != NULL && created != NULL)
    *created = b->created;
  pthread_mutex_unlock(&s->lock);
  return b != NULL;
}

bool tm_ossd_bucket_at(struct tm_ossd_store *s, size_t n, char name[64], int64_t *created)
{
  pthread_mutex_lock(&s->lock);
  bool found = n < s->bucket_count;
  if (found) {
    memcpy(name, s->buckets[n]->name, 64);
    *created = s->buckets[n]->created;
  }
  pthread_mutex_unlock(&s->lock);
  return found;
}

/* -- writing -- */

bool tm_ossd_temp_open(struct tm_ossd_store *s, const char *bucket,
                       struct tm_ossd_temp *temp, struct tm_error *err)
{
  char id[TM_OSSD_ID];
  temp->fd = -1;
  if (!tm_ossd_random_id(id, err))
    return false;
  snprintf(temp->path, sizeof temp->path, "%.63s/tmp/%s", bucket, id);
  temp->fd = openat(s->root, temp->path, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0666);
  if (temp->fd < 0)
    tm_error_errno(err, TM_EIO, errno, "cannot write to bucket '%s'", bucket);
  return temp->fd >= 0;
}

void tm_ossd_temp_drop(struct tm_ossd_store *s, struct tm_ossd_temp *temp)
{
  if (temp->fd < 0)
    return;
  close(temp->fd);
  temp->fd = -1;
  unlinkat(s->root, temp->path, 0);
}

bool tm_ossd_temp_seal(struct tm_ossd_store *s, struct tm_ossd_temp *temp,
                       const struct tm_ossd_record *r, struct tm_error *err)
{
  struct tm_buffer b = {0};
  bool ok = tm_ossd_record_write(r, &b);
  if (!ok)
    tm_error_set(err, TM_EMEMORY, "out of memory");
  off_t end = r->upload[0] != '\0' ? 0 : (off_t)r->size;
  for (size_t done = 0; ok && done < b.len;) {
    ssize_t n = pwrite(temp->fd, b.data + done, b.len - done, end + (off_t)done);
    ok = n > 0 || (n < 0 && errno == EINTR);
    done += n > 0 ? (size_t)n : 0;
    if (!ok)
      tm_error_errno(err, TM_EIO, errno, "cannot write an object");
  }
  tm_buffer_free(&b);
  if (ok && s->sync && fsync(temp->fd) != 0) {
    tm_error_errno(err, TM_EIO, errno, "cannot sync an object");
    ok = false;
  }
  return ok;
}

static enum tm_ossd_result check_condition(const struct tm_ossd_bucket *b,
                                           const char *key,
                                           const struct tm_ossd_condition *condition)
{
  if (condition == NULL)
    return TM_OSSD_OK;
  const struct tm_ossd_entry *e = find_entry(b, key);
  if (condition->create_only && e != NULL)
    return TM_OSSD_EXISTS;
  if (condition->if_match == NULL)
    return TM_OSSD_OK;
  if (e == NULL)
    return TM_OSSD_NO_KEY;
  bool same = strcmp(condition->if_match, "*") == 0 ||
              strcasecmp(condition->if_match, e->etag) == 0;
  return same ? TM_OSSD_OK : TM_OSSD_PRECONDITION;
}

static bool rename_into_place(struct tm_ossd_store *s, const char *from, const char *to)
{
  if (renameat(s->root, from, s->root, to) == 0)
    return true;
  if (errno != ENOENT)
    return false;
  char fan[TM_OSSD_PATH]; /* the first object whose digest begins so */
  struct tm_error err;
  snprintf(fan, sizeof fan, "%s", to);
  *strrchr(fan, '/') = '\0';
  if ((mkdirat(s->root, fan, 0777) != 0 && errno != EEXIST) ||
      !tm_ossd_sync_parent(s, fan, &err))
    return false;
  return renameat(s->root, from, s->root, to) == 0;
}

enum tm_ossd_result tm_ossd_commit_locked(struct tm_ossd_store *s, const char *bucket,
                                          struct tm_ossd_temp *temp,
                                          const struct tm_ossd_record *r,
                                          const struct tm_ossd_condition *condition,
                                          struct tm_error *err)
{
  struct tm_ossd_bucket *b = get_bucket(s, bucket);
  if (b == NULL)
    return TM_OSSD_NO_BUCKET;
  enum tm_ossd_result result = check_condition(b, r->key, condition);
  if (result != TM_OSSD_OK)
    return result;
  char path[TM_OSSD_PATH], old_upload[TM_OSSD_ID] = "";
  struct tm_ossd_entry *e = NULL, *old = find_entry(b, r->key);
  if (old != NULL)
    memcpy(old_upload, old->upload, sizeof old_upload);
  if (b->count >= TM_OSSD_MOST_OBJECTS || !make_room(b) || (e = new_entry(r)) == NULL)
    return TM_OSSD_FULL;
  if (!tm_ossd_object_path(bucket, r->key, path) ||
      !rename_into_place(s, temp->path, path)) {
    free(e);
    return failed(err, "move into place", temp->path);
  }
  close(temp->fd);
  temp->fd = -1;
  insert_entry(b, e);
  if (old_upload[0] != '\0' && strcmp(old_upload, r->upload) != 0) {
    char parts[TM_OSSD_PATH];
    snprintf(parts, sizeof parts, "%s/uploads/%s", bucket, old_upload);
    tm_ossd_remove_directory(s, parts);
  }
  return TM_OSSD_OK;
}

enum tm_ossd_result tm_ossd_commit(struct tm_ossd_store *s, const char *bucket,
                                   struct tm_ossd_temp *temp,
                                   const struct tm_ossd_record *r,
                                   const struct tm_ossd_condition *condition,
                                   struct tm_error *err)
{
  pthread_mutex_lock(&s->lock);
  enum tm_ossd_result result = tm_ossd_commit_locked(s, bucket, temp, r, condition, err);
  pthread_mutex_unlock(&s->lock);
  char path[TM_OSSD_PATH];
  if (result == TM_OSSD_OK && s->sync &&
      (!tm_ossd_object_path(bucket, r->key, path) || !tm_ossd_sync_parent(s, path, err)))
    result = TM_OSSD_FAILED;
  return result;
}

enum tm_ossd_result tm_ossd_remove(struct tm_ossd_store *s, const char *bucket,
                                   const char *key, struct tm_error *err)
{
  char path[TM_OSSD_PATH], parts[TM_OSSD_PATH];
  if (!tm_ossd_object_path(bucket, key, path))
    return failed(err, "name", "object");
  enum tm_ossd_result result = TM_OSSD_NO_BUCKET;
  bool removed = false;
  pthread_mutex_lock(&s->lock);
  struct tm_ossd_bucket *b = get_bucket(s, bucket);
  struct tm_ossd_entry *e = b == NULL ? NULL : find_entry(b, key);
  if (b != NULL)
    result = TM_OSSD_OK;
  if (e != NULL && unlinkat(s->root, path, 0) != 0 && errno != ENOENT) {
    result = failed(err, "remove", path);
  } else if (e != NULL) {
    if (e->upload[0] != '\0') {
      snprintf(parts, sizeof parts, "%s/uploads/%s", bucket, e->upload);
      tm_ossd_remove_directory(s, parts);
    }
    remove_entry(b, key);
    removed = true;
  }
  pthread_mutex_unlock(&s->lock);
  if (removed && !tm_ossd_sync_parent(s, path, err))
    result = TM_OSSD_FAILED;
  return result;
}

/* -- reading -- */

enum tm_ossd_result tm_ossd_open(struct tm_ossd_store *s, const char *bucket,
                                 const char *key, int *fd, struct tm_ossd_record *r,
                                 struct tm_error *err)
{
  char path[TM_OSSD_PATH];
  *fd = -1;
  if (!tm_ossd_bucket_find(s, bucket, NULL))
    return TM_OSSD_NO_BUCKET;
  if (!tm_ossd_object_path(bucket, key, path))
    return failed(err, "name", "object");
  *fd = openat(s->root, path, O_RDONLY | O_CLOEXEC | O_NOFOLLOW);
  if (*fd < 0 && errno == ENOENT)
    return TM_OSSD_NO_KEY;
  if (*fd < 0)
    return failed(err, "open", path);
  if (!tm_ossd_record_read(*fd, r, err)) {
    close(*fd);
    *fd = -1;
    return TM_OSSD_FAILED;
  }
  return TM_OSSD_OK;
}

int tm_ossd_part_open(struct tm_ossd_store *s, const char *bucket, const char *upload,
                      unsigned part)
{
  char path[TM_OSSD_PATH];
  tm_ossd_part_path(bucket, upload, part, path);
  return openat(s->root, path, O_RDONLY | O_CLOEXEC | O_NOFOLLOW);
}

/* -- listing -- */

static bool add_item(struct tm_ossd_page *page, const struct tm_ossd_entry *e,
                     size_t prefix_len)
{
  struct tm_ossd_item *item = &page->items[page->count];
  *item = (struct tm_ossd_item){.is_prefix = prefix_len > 0};
  item->name = prefix_len > 0 ? strndup(e->key, prefix_len) : strdup(e->key);
  item->size = e->size;
  item->mtime = e->mtime;
  item->is_multipart = e->upload[0] != '\0';
  memcpy(item->etag, e->etag, sizeof item->etag);
  page->count += item->name != NULL;
  return item->name != NULL;
}

/* The place after every key that begins with `prefix`, which is at place i. */
static size_t skip_prefix(const struct tm_ossd_bucket *b, size_t i, const char *prefix,
                          size_t n)
{
  size_t low = i, high = b->count;
  while (low < high) { /* keys with the prefix are neighbours */
    size_t middle = low + (high - low) / 2;
    if (strncmp(b->entries[middle]->key, prefix, n) <= 0)
      low = middle + 1;
    else
      high = middle;
  }
  return low;
}

static bool fill_page(const struct tm_ossd_bucket *b, const char *prefix,
                      const char *delimiter, const char *after, size_t most,
                      struct tm_ossd_page *page)
{
  size_t prefix_len = strlen(prefix);
  size_t i = lower_bound(b, strcmp(after, prefix) > 0 ? after : prefix);
  while (i < b->count && strncmp(b->entries[i]->key, prefix, prefix_len) == 0) {
    const struct tm_ossd_entry *e = b->entries[i];
    const char *cut =
        delimiter[0] == '\0' ? NULL : strstr(e->key + prefix_len, delimiter);
    size_t common = cut == NULL ? 0 : (size_t)(cut - e->key) + strlen(delimiter);
    bool seen = cut == NULL
                    ? strcmp(e->key, after) <= 0
                    : strlen(after) == common && strncmp(e->key, after, common) == 0;
    if (!seen && page->count == most) {
      page->truncated = true;
      return true;
    }
    if (!seen && !add_item(page, e, common))
      return false;
    i = cut == NULL ? i + 1 : skip_prefix(b, i, e->key, common);
  }
  return true;
}

enum tm_ossd_result tm_ossd_list(struct tm_ossd_store *s, const char *bucket,
                                 const char *prefix, const char *delimiter,
                                 const char *after, size_t most,
                                 struct tm_ossd_page *page, struct tm_error *err)
{
  *page = (struct tm_ossd_page){0};
  page->items = calloc(most + 1, sizeof *page->items);
  enum tm_ossd_result result = TM_OSSD_OK;
  pthread_mutex_lock(&s->lock);
  struct tm_ossd_bucket *b = get_bucket(s, bucket);
  if (b == NULL) {
    result = TM_OSSD_NO_BUCKET;
  } else if (page->items == NULL ||
             (most > 0 && !fill_page(b, prefix, delimiter, after, most, page))) {
    tm_error_set(err, TM_EMEMORY, "out of memory");
    result = TM_OSSD_FAILED;
  }
  pthread_mutex_unlock(&s->lock);
  return result;
}

void tm_ossd_page_free(struct tm_ossd_page *page)
{
  for (size_t i = 0; i < page->count; i++)
    free(page->items[i].name);
  free(page->items);
  *page = (struct tm_ossd_page){0};
}
