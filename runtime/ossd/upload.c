/*
** upload.c: multipart uploads
**
** Every rename and unlink here happens under the store's lock, so an upload that is found
** open under the lock stays open until it is let go.
*/
#include "ossd/upload.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/clock.h"
#include "driver/crc64.h"
#include "driver/digest.h"
#include "ossd/store_private.h"

static enum tm_ossd_result failed(struct tm_error *err, const char *what,
                                  const char *name)
{
  tm_error_errno(err, TM_EIO, errno, "cannot %s '%s'", what, name);
  return TM_OSSD_FAILED;
}

static enum tm_ossd_result no_memory(struct tm_error *err)
{
  tm_error_set(err, TM_EMEMORY, "out of memory");
  return TM_OSSD_FAILED;
}

static void upload_path(const char *bucket, const char *id, const char *file,
                        char out[TM_OSSD_PATH])
{
  snprintf(out, TM_OSSD_PATH, "%.63s/uploads/%.32s%s", bucket, id, file);
}

enum tm_ossd_result tm_ossd_upload_begin(struct tm_ossd_store *s, const char *bucket,
                                         const struct tm_ossd_record *r,
                                         char id[TM_OSSD_ID], struct tm_error *err)
{
  char path[TM_OSSD_PATH];
  struct tm_ossd_temp temp = {.fd = -1};
  if (!tm_ossd_bucket_find(s, bucket, NULL))
    return TM_OSSD_NO_BUCKET;
  if (!tm_ossd_random_id(id, err) || !tm_ossd_temp_open(s, bucket, &temp, err))
    return TM_OSSD_FAILED;
  enum tm_ossd_result result = TM_OSSD_FAILED;
  if (tm_ossd_temp_seal(s, &temp, r, err)) {
    pthread_mutex_lock(&s->lock);
    upload_path(bucket, id, "", path);
    if (mkdirat(s->root, path, 0777) != 0) {
      result = failed(err, "make", path);
    } else {
      upload_path(bucket, id, "/meta", path);
      if (renameat(s->root, temp.path, s->root, path) == 0)
        result = TM_OSSD_OK;
      else
        failed(err, "make", path);
    }
    pthread_mutex_unlock(&s->lock);
  }
  if (result == TM_OSSD_OK) {
    close(temp.fd);
    if (!tm_ossd_sync_parent(s, path, err))
      result = TM_OSSD_FAILED;
  } else {
    tm_ossd_temp_drop(s, &temp);
  }
  return result;
}

static enum tm_ossd_result read_file(struct tm_ossd_store *s, const char *path,
                                     struct tm_ossd_record *r, struct tm_error *err)
{
  int fd = openat(s->root, path, O_RDONLY | O_CLOEXEC | O_NOFOLLOW);
  if (fd < 0)
    return TM_OSSD_NO_UPLOAD;
  bool ok = tm_ossd_record_read(fd, r, err);
  close(fd);
  return ok ? TM_OSSD_OK : TM_OSSD_FAILED;
}

enum tm_ossd_result tm_ossd_upload_find(struct tm_ossd_store *s, const char *bucket,
                                        const char *id, const char *key,
                                        struct tm_ossd_record *r, struct tm_error *err)
{
  char path[TM_OSSD_PATH];
  if (!tm_ossd_is_upload_id(id))
    return TM_OSSD_NO_UPLOAD;
  upload_path(bucket, id, "/meta", path);
  enum tm_ossd_result result = read_file(s, path, r, err);
  if (result == TM_OSSD_OK && key != NULL && strcmp(key, r->key) != 0)
    result = TM_OSSD_NO_UPLOAD;
  return result;
}

enum tm_ossd_result tm_ossd_part_commit(struct tm_ossd_store *s, const char *bucket,
                                        const char *id, unsigned part,
                                        struct tm_ossd_temp *temp, struct tm_error *err)
{
  char path[TM_OSSD_PATH];
  enum tm_ossd_result result = TM_OSSD_OK;
  pthread_mutex_lock(&s->lock);
  upload_path(bucket, id, "/meta", path);
  if (faccessat(s->root, path, F_OK, 0) != 0)
    result = TM_OSSD_NO_UPLOAD;
  tm_ossd_part_path(bucket, id, part, path);
  if (result == TM_OSSD_OK && renameat(s->root, temp->path, s->root, path) != 0)
    result = failed(err, "move into place", path);
  pthread_mutex_unlock(&s->lock);
  if (result != TM_OSSD_OK)
    return result;
  close(temp->fd);
  temp->fd = -1;
  return tm_ossd_sync_parent(s, path, err) ? TM_OSSD_OK : TM_OSSD_FAILED;
}

static int compare_parts(const void *a, const void *b)
{
  const struct tm_ossd_part *x = a, *y = b;
  return x->number < y->number ? -1 : x->number > y->number;
}

/* "00001" to "10000", else 0. */
static unsigned part_number(const char *name)
{
  if (strlen(name) != 5 || strspn(name, "0123456789") != 5)
    return 0;
  unsigned n = (unsigned)strtoul(name, NULL, 10);
  return n <= TM_OSSD_PARTS ? n : 0;
}

static bool read_part(int dir, const char *name, struct tm_ossd_part *part,
                      struct tm_error *err)
{
  struct tm_ossd_record *r = calloc(1, sizeof *r);
  int fd = openat(dir, name, O_RDONLY | O_CLOEXEC | O_NOFOLLOW);
  tm_error_set(err, TM_EIO, "cannot open part %s", name);
  bool ok = r != NULL && fd >= 0 && tm_ossd_record_read(fd, r, err);
  if (ok) {
    *part = (struct tm_ossd_part){.number = part_number(name),
                                  .size = r->size,
                                  .crc = r->crc,
                                  .has_crc = r->has_crc,
                                  .mtime = r->mtime};
    memcpy(part->etag, r->etag, sizeof part->etag);
    tm_ossd_record_free(r);
  }
  if (fd >= 0)
    close(fd);
  free(r);
  return ok;
}

static enum tm_ossd_result read_parts(struct tm_ossd_store *s, const char *bucket,
                                      const char *id, struct tm_ossd_part **parts,
                                      size_t *count, struct tm_error *err)
{
  char path[TM_OSSD_PATH];
  *count = 0;
  *parts = calloc(TM_OSSD_PARTS, sizeof **parts);
  if (*parts == NULL)
    return no_memory(err);
  upload_path(bucket, id, "", path);
  int fd = openat(s->root, path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
  DIR *dir = fd >= 0 ? fdopendir(fd) : NULL;
  enum tm_ossd_result result = dir == NULL ? TM_OSSD_NO_UPLOAD : TM_OSSD_OK;
  for (struct dirent *d; result == TM_OSSD_OK && (d = readdir(dir)) != NULL;) {
    if (part_number(d->d_name) == 0)
      continue;
    if (*count == TM_OSSD_PARTS || !read_part(fd, d->d_name, &(*parts)[*count], err))
      result = TM_OSSD_FAILED;
    else
      ++*count;
  }
  if (dir != NULL)
    closedir(dir);
  else if (fd >= 0)
    close(fd);
  qsort(*parts, *count, sizeof **parts, compare_parts);
  return result;
}

enum tm_ossd_result tm_ossd_parts(struct tm_ossd_store *s, const char *bucket,
                                  const char *id, const char *key,
                                  struct tm_ossd_part **parts, size_t *count,
                                  struct tm_error *err)
{
  struct tm_ossd_record *r = calloc(1, sizeof *r);
  *parts = NULL;
  *count = 0;
  if (r == NULL)
    return no_memory(err);
  pthread_mutex_lock(&s->lock);
  enum tm_ossd_result result = tm_ossd_upload_find(s, bucket, id, key, r, err);
  if (result == TM_OSSD_OK)
    result = read_parts(s, bucket, id, parts, count, err);
  pthread_mutex_unlock(&s->lock);
  tm_ossd_record_free(r);
  free(r);
  return result;
}

/* Keeps of `have` what `wanted` names. Both ascend by number when all is well. */
static enum tm_ossd_result choose(struct tm_ossd_part *have, size_t *have_count,
                                  const struct tm_ossd_part *wanted, size_t count)
{
  size_t kept = 0;
  for (size_t i = 0, j = 0; i < count; i++) {
    if (i > 0 && wanted[i].number <= wanted[i - 1].number)
      return TM_OSSD_PART_ORDER;
    while (j < *have_count && have[j].number < wanted[i].number)
      j++;
    if (j == *have_count || have[j].number != wanted[i].number ||
        strcasecmp(have[j].etag, wanted[i].etag) != 0)
      return TM_OSSD_BAD_PART;
    have[kept++] = have[j++];
  }
  *have_count = kept;
  return TM_OSSD_OK;
}

/* Fills in the object's size, CRC, segments and its etag: the MD5 of the parts' MD5s. */
static enum tm_ossd_result sum_up(const struct tm_ossd_part *parts, size_t count,
                                  uint64_t least, struct tm_ossd_record *r,
                                  struct tm_error *err)
{
  unsigned char digest[TM_DIGEST_MAX];
  struct tm_buffer all = {0};
  r->has_crc = true;
  r->crc = r->size = 0;
  r->segments = calloc(count, sizeof *r->segments);
  enum tm_ossd_result result = r->segments == NULL ? no_memory(err) : TM_OSSD_OK;
  for (size_t i = 0; result == TM_OSSD_OK && i < count; i++) {
    const struct tm_ossd_part *p = &parts[i];
    if (i + 1 < count && p->size < least)
      result = TM_OSSD_PART_SIZE;
    else if (!tm_unhex(p->etag, 32, digest) || !tm_buffer_add(&all, digest, 16))
      result = no_memory(err);
    r->crc = tm_crc64_combine(r->crc, p->crc, p->size);
    r->has_crc = r->has_crc && p->has_crc;
    r->size += p->size;
    r->segments[r->segment_count++] = (struct tm_ossd_segment){p->number, p->size};
  }
  if (result == TM_OSSD_OK && !tm_digest(TM_MD5, all.data, all.len, digest))
    result = no_memory(err);
  tm_buffer_free(&all);
  if (result == TM_OSSD_OK) {
    tm_hex(digest, 16, r->etag);
    snprintf(r->etag + 32, sizeof r->etag - 32, "-%u", (unsigned)count % 100000);
    r->mtime = tm_clock_wall_ms() / 1000;
  }
  return result;
}

/* Writes the object file and moves it into place, then closes the upload. */
static enum tm_ossd_result finish(struct tm_ossd_store *s, const char *bucket,
                                  const char *id, const struct tm_ossd_record *r,
                                  const struct tm_ossd_condition *condition,
                                  struct tm_error *err)
{
  struct tm_ossd_temp temp;
  char path[TM_OSSD_PATH];
  if (!tm_ossd_temp_open(s, bucket, &temp, err))
    return TM_OSSD_FAILED;
  enum tm_ossd_result result = TM_OSSD_FAILED;
  if (tm_ossd_temp_seal(s, &temp, r, err))
    result = tm_ossd_commit_locked(s, bucket, &temp, r, condition, err);
  if (result != TM_OSSD_OK) {
    tm_ossd_temp_drop(s, &temp);
    return result;
  }
  /* The object must be durable before the upload may be forgotten. */
  if (!tm_ossd_object_path(bucket, r->key, path) || !tm_ossd_sync_parent(s, path, err))
    return TM_OSSD_FAILED;
  upload_path(bucket, id, "/meta", path);
  unlinkat(s->root, path, 0);
  return TM_OSSD_OK;
}

/* Removes the parts that did not become a segment. */
static void drop_unused(struct tm_ossd_store *s, const char *bucket, const char *id,
                        const struct tm_ossd_part *parts, size_t count,
                        const struct tm_ossd_record *r)
{
  char path[TM_OSSD_PATH];
  for (size_t i = 0, j = 0; i < count; i++) {
    if (j < r->segment_count && r->segments[j].part == parts[i].number) {
      j++;
      continue;
    }
    tm_ossd_part_path(bucket, id, parts[i].number, path);
    unlinkat(s->root, path, 0);
  }
}

enum tm_ossd_result tm_ossd_upload_complete(struct tm_ossd_store *s, const char *bucket,
                                            const char *id, const char *key,
                                            const struct tm_ossd_part *wanted,
                                            size_t count, uint64_t least,
                                            const struct tm_ossd_condition *condition,
                                            struct tm_ossd_record *r,
                                            struct tm_error *err)
{
  struct tm_ossd_part *all = NULL, *chosen = NULL;
  size_t all_count = 0, chosen_count = 0;
  pthread_mutex_lock(&s->lock);
  enum tm_ossd_result result = tm_ossd_upload_find(s, bucket, id, key, r, err);
  if (result == TM_OSSD_OK)
    result = read_parts(s, bucket, id, &all, &all_count, err);
  if (result == TM_OSSD_OK) {
    chosen = calloc(all_count + 1, sizeof *chosen);
    chosen_count = all_count;
    if (chosen == NULL)
      result = no_memory(err);
    else if (all_count > 0)
      memcpy(chosen, all, all_count * sizeof *chosen);
  }
  if (result == TM_OSSD_OK && wanted != NULL)
    result = choose(chosen, &chosen_count, wanted, count);
  if (result == TM_OSSD_OK && chosen_count == 0)
    result = TM_OSSD_BAD_PART;
  if (result == TM_OSSD_OK)
    result = sum_up(chosen, chosen_count, least, r, err);
  if (result == TM_OSSD_OK) {
    memcpy(r->upload, id, TM_OSSD_ID);
    result = finish(s, bucket, id, r, condition, err);
  }
  if (result == TM_OSSD_OK)
    drop_unused(s, bucket, id, all, all_count, r);
  pthread_mutex_unlock(&s->lock);
  free(all);
  free(chosen);
  return result;
}

enum tm_ossd_result tm_ossd_upload_abort(struct tm_ossd_store *s, const char *bucket,
                                         const char *id, const char *key,
                                         struct tm_error *err)
{
  char path[TM_OSSD_PATH];
  struct tm_ossd_record *r = calloc(1, sizeof *r);
  if (r == NULL)
    return no_memory(err);
  pthread_mutex_lock(&s->lock);
  enum tm_ossd_result result = tm_ossd_upload_find(s, bucket, id, key, r, err);
  if (result == TM_OSSD_OK) {
    upload_path(bucket, id, "/meta", path);
    unlinkat(s->root, path, 0);
    upload_path(bucket, id, "", path);
    tm_ossd_remove_directory(s, path);
  }
  pthread_mutex_unlock(&s->lock);
  tm_ossd_record_free(r);
  free(r);
  return result;
}

static int compare_uploads(const void *a, const void *b)
{
  const struct tm_ossd_upload *x = a, *y = b;
  int c = strcmp(x->key, y->key);
  return c != 0 ? c : strcmp(x->id, y->id);
}

void tm_ossd_uploads_free(struct tm_ossd_upload *uploads, size_t count)
{
  for (size_t i = 0; i < count; i++)
    free(uploads[i].key);
  free(uploads);
}

static bool add_upload(struct tm_ossd_store *s, const char *bucket, const char *id,
                       struct tm_ossd_upload **list, size_t *count, size_t *capacity)
{
  struct tm_error err;
  struct tm_ossd_record *r = calloc(1, sizeof *r);
  bool ok = r != NULL;
  if (ok && tm_ossd_upload_find(s, bucket, id, NULL, r, &err) == TM_OSSD_OK) {
    if (*count == *capacity) {
      *capacity = *capacity == 0 ? 64 : *capacity * 2;
      struct tm_ossd_upload *more = realloc(*list, *capacity * sizeof **list);
      ok = more != NULL;
      *list = ok ? more : *list;
    }
    char *key = ok ? strdup(r->key) : NULL;
    ok = key != NULL;
    if (ok) {
      (*list)[*count] = (struct tm_ossd_upload){.key = key, .begun = r->mtime};
      memcpy((*list)[(*count)++].id, id, TM_OSSD_ID);
    }
  }
  if (r != NULL)
    tm_ossd_record_free(r);
  free(r);
  return ok;
}

static DIR *open_uploads(struct tm_ossd_store *s, const char *bucket)
{
  char path[TM_OSSD_PATH];
  snprintf(path, sizeof path, "%.63s/uploads", bucket);
  int fd = openat(s->root, path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
  DIR *dir = fd >= 0 ? fdopendir(fd) : NULL;
  if (dir == NULL && fd >= 0)
    close(fd);
  return dir;
}

enum tm_ossd_result tm_ossd_uploads(struct tm_ossd_store *s, const char *bucket,
                                    struct tm_ossd_upload **uploads, size_t *count,
                                    struct tm_error *err)
{
  size_t capacity = 0;
  *uploads = NULL;
  *count = 0;
  if (!tm_ossd_bucket_find(s, bucket, NULL))
    return TM_OSSD_NO_BUCKET;
  bool ok = true;
  pthread_mutex_lock(&s->lock);
  DIR *dir = open_uploads(s, bucket);
  for (struct dirent *d; ok && dir != NULL && (d = readdir(dir)) != NULL;)
    if (tm_ossd_is_upload_id(d->d_name))
      ok = add_upload(s, bucket, d->d_name, uploads, count, &capacity);
  if (dir != NULL)
    closedir(dir);
  pthread_mutex_unlock(&s->lock);
  if (*count > 0)
    qsort(*uploads, *count, sizeof **uploads, compare_uploads);
  return ok ? TM_OSSD_OK : no_memory(err);
}

static int compare_ids(const void *a, const void *b)
{
  return strcmp(a, b);
}

void tm_ossd_uploads_recover(struct tm_ossd_store *s, struct tm_ossd_bucket *b)
{
  char path[TM_OSSD_PATH];
  char(*used)[TM_OSSD_ID] = calloc(b->count + 1, sizeof *used);
  DIR *dir = open_uploads(s, b->name);
  size_t count = 0;
  for (size_t i = 0; used != NULL && i < b->count; i++)
    if (b->entries[i]->upload[0] != '\0')
      memcpy(used[count++], b->entries[i]->upload, TM_OSSD_ID);
  if (used != NULL)
    qsort(used, count, sizeof *used, compare_ids);
  for (struct dirent *d; used != NULL && dir != NULL && (d = readdir(dir)) != NULL;) {
    if (!tm_ossd_is_upload_id(d->d_name))
      continue;
    upload_path(b->name, d->d_name, "/meta", path);
    if (bsearch(d->d_name, used, count, sizeof *used, compare_ids) != NULL) {
      unlinkat(s->root, path, 0); /* committed; the upload was not closed any more */
    } else if (faccessat(s->root, path, F_OK, 0) != 0) {
      upload_path(b->name, d->d_name, "", path);
      tm_ossd_remove_directory(s, path);
    }
  }
  if (dir != NULL)
    closedir(dir);
  free(used);
}
