/*
** file_multipart.c: multipart uploads of a file:// store
**
** An upload is the directory .tidemill-uploads/ID of the store with the file "key" (the
** key) and one file a part, "NUMBER.CRC64"; completing joins them into the object.
*/
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <unistd.h>

#include "driver/crc64.h"
#include "oss/file_store.h"

#define UPLOADS TM_FILE_OURS "uploads"
enum { ID_LEN = 16, PIECE = 256 * 1024, KEY_BYTES = 1100 };

static bool system_error(const char *what, const char *key, struct tm_error *err)
{
  tm_error_errno(err, TM_ESYSTEM, errno, "cannot %s the upload to '%.200s'", what, key);
  return false;
}

static bool no_upload(const char *key, struct tm_error *err)
{
  tm_error_set(err, TM_ENOTFOUND, "there is no such upload to '%.200s'", key);
  memcpy(err->code, "NoSuchUpload", 13);
  return false;
}

static bool good_id(const char *id)
{
  return strlen(id) == ID_LEN && strspn(id, "0123456789abcdef") == ID_LEN;
}

static bool write_file(int dir, const char *name, const void *bytes, size_t n)
{
  int fd = openat(dir, name, O_WRONLY | O_CREAT | O_TRUNC | O_NOFOLLOW | O_CLOEXEC, 0666);
  if (fd < 0)
    return false;
  const char *p = bytes;
  while (n > 0) {
    ssize_t w = write(fd, p, n);
    if (w < 0 && errno != EINTR)
      break;
    if (w > 0) {
      p += w;
      n -= (size_t)w;
    }
  }
  int e = errno;
  close(fd);
  errno = e;
  return n == 0;
}

/* The key an upload is for; false when the file is not there. */
static bool read_key(int dir, char key[KEY_BYTES])
{
  int fd = openat(dir, "key", O_RDONLY | O_NOFOLLOW | O_CLOEXEC);
  if (fd < 0)
    return false;
  ssize_t n = read(fd, key, KEY_BYTES - 1);
  close(fd);
  key[n < 0 ? 0 : n] = '\0';
  return n > 0;
}

/* The upload's directory, after checking that it is for this key; -1 with *err. */
static int open_upload(struct tm_oss *store, const char *key, const char *id,
                       struct tm_error *err)
{
  char path[64], its[KEY_BYTES];
  if (!good_id(id)) {
    no_upload(key, err);
    return -1;
  }
  snprintf(path, sizeof path, UPLOADS "/%s", id);
  int dir = openat(store->root, path, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
  if (dir >= 0 && read_key(dir, its) && strcmp(its, key) == 0)
    return dir;
  if (dir >= 0)
    close(dir);
  no_upload(key, err);
  return -1;
}

bool tm_file_multipart_create(struct tm_oss *store, const char *key,
                              const struct tm_oss_put_opts *opts, char **upload_id,
                              const struct tm_cancel *cancel, struct tm_error *err)
{
  (void)opts;
  (void)cancel;
  char path[64];
  const char *name;
  uint64_t r = 0;
  *upload_id = NULL;
  int parent = tm_file_dir(store, key, true, &name, err); /* checks the key */
  if (parent < 0)
    return false;
  close(parent);
  if (getrandom(&r, sizeof r, 0) != (ssize_t)sizeof r)
    return system_error("begin", key, err);
  snprintf(path, sizeof path, UPLOADS "/%016" PRIx64, r);
  if (mkdirat(store->root, UPLOADS, 0777) != 0 && errno != EEXIST)
    return system_error("begin", key, err);
  if (mkdirat(store->root, path, 0777) != 0)
    return system_error("begin", key, err);
  int dir = openat(store->root, path, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
  bool ok = dir >= 0 && write_file(dir, "key", key, strlen(key));
  if (!ok)
    system_error("begin", key, err);
  if (dir >= 0)
    close(dir);
  if (ok && (*upload_id = strdup(strchr(path, '/') + 1)) == NULL) {
    tm_error_set(err, TM_EMEMORY, "out of memory");
    ok = false;
  }
  return ok;
}

/* "00012.0123456789abcdef" */
static bool parse_part(const char *name, int *number, uint64_t *crc64)
{
  char *end;
  if (strlen(name) != 5 + 1 + 16 || name[5] != '.' || strspn(name, "0123456789") != 5 ||
      strspn(name + 6, "0123456789abcdef") != 16)
    return false;
  *number = (int)strtol(name, &end, 10);
  *crc64 = strtoull(name + 6, &end, 16);
  return true;
}

static int by_number(const void *a, const void *b)
{
  return ((const struct tm_oss_part *)a)->number -
         ((const struct tm_oss_part *)b)->number;
}

/* Every part of the upload, in order. */
static bool read_parts(int dir, const char *key, struct tm_oss_parts *parts,
                       struct tm_error *err)
{
  int fd = openat(dir, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
  DIR *d = fd >= 0 ? fdopendir(fd) : NULL;
  if (d == NULL) {
    system_error("read", key, err);
    if (fd >= 0)
      close(fd);
    return false;
  }
  bool ok = true;
  for (struct dirent *e; ok && (e = readdir(d)) != NULL;) {
    struct tm_oss_part p = {.has_crc64 = true};
    struct stat st;
    if (!parse_part(e->d_name, &p.number, &p.crc64) ||
        fstatat(fd, e->d_name, &st, 0) != 0)
      continue;
    p.size = st.st_size;
    snprintf(p.etag, sizeof p.etag, "%016" PRIx64, p.crc64);
    struct tm_oss_part *grown = realloc(parts->items, (parts->count + 1) * sizeof *grown);
    ok = grown != NULL;
    if (ok) {
      parts->items = grown;
      grown[parts->count++] = p;
      parts->cap = parts->count;
    }
  }
  closedir(d);
  if (!ok)
    tm_error_set(err, TM_EMEMORY, "out of memory");
  if (ok && parts->count > 1)
    qsort(parts->items, parts->count, sizeof *parts->items, by_number);
  return ok;
}

static void part_name(const struct tm_oss_part *p, char out[32])
{
  snprintf(out, 32, "%05d.%016" PRIx64, p->number, p->crc64);
}

bool tm_file_multipart_part(struct tm_oss *store, const char *key, const char *upload_id,
                            int number, const void *bytes, size_t n,
                            struct tm_oss_part *part, const struct tm_cancel *cancel,
                            struct tm_error *err)
{
  (void)cancel;
  char name[32], old[32];
  int dir = open_upload(store, key, upload_id, err);
  if (dir < 0)
    return false;
  *part = (struct tm_oss_part){.number = number,
                               .size = (int64_t)n,
                               .has_crc64 = true,
                               .crc64 =
                                   part->has_crc64 ? part->crc64 : tm_crc64(0, bytes, n)};
  snprintf(part->etag, sizeof part->etag, "%016" PRIx64, part->crc64);
  part_name(part, name);
  struct tm_oss_parts before = {0};
  bool ok = read_parts(dir, key, &before, err);
  if (ok && !write_file(dir, name, bytes, n))
    ok = system_error("write a part of", key, err);
  for (size_t i = 0; ok && i < before.count; i++) {
    part_name(&before.items[i], old);
    if (before.items[i].number == number && strcmp(old, name) != 0)
      unlinkat(dir, old, 0);
  }
  tm_oss_parts_free(&before);
  close(dir);
  return ok;
}

static bool append_part(int dir, const struct tm_oss_part *part, struct tm_file_out *out,
                        struct tm_error *err)
{
  char name[32], *piece = malloc(PIECE);
  struct tm_oss_part wanted = *part;
  char *end;
  wanted.crc64 = strtoull(part->etag, &end, 16);
  part_name(&wanted, name);
  int fd = piece == NULL ? -1 : openat(dir, name, O_RDONLY | O_NOFOLLOW | O_CLOEXEC);
  bool ok = fd >= 0;
  if (!ok) {
    tm_error_set(err, TM_EUSAGE, "part %d with this etag was not uploaded", part->number);
    memcpy(err->code, "InvalidPart", 12);
  }
  while (ok) {
    ssize_t n = read(fd, piece, PIECE);
    if (n == 0)
      break;
    if (n < 0 && errno == EINTR)
      continue;
    if (n < 0)
      ok = system_error("read a part of", out->name, err);
    else
      ok = tm_file_write(out, piece, (size_t)n, err);
  }
  if (fd >= 0)
    close(fd);
  free(piece);
  return ok;
}

static void remove_upload(struct tm_oss *store, int dir, const char *id)
{
  struct tm_oss_parts parts = {0};
  struct tm_error ignored;
  char path[64], name[32];
  if (read_parts(dir, "", &parts, &ignored))
    for (size_t i = 0; i < parts.count; i++) {
      part_name(&parts.items[i], name);
      unlinkat(dir, name, 0);
    }
  tm_oss_parts_free(&parts);
  unlinkat(dir, "key", 0);
  snprintf(path, sizeof path, UPLOADS "/%s", id);
  unlinkat(store->root, path, AT_REMOVEDIR);
  unlinkat(store->root, UPLOADS, AT_REMOVEDIR); /* goes when it was the last one */
}

bool tm_file_multipart_complete(struct tm_oss *store, const char *key,
                                const char *upload_id, const struct tm_oss_part *parts,
                                size_t count, bool create_only, struct tm_oss_info *info,
                                const struct tm_cancel *cancel, struct tm_error *err)
{
  (void)cancel;
  struct tm_file_out out;
  int dir = open_upload(store, key, upload_id, err);
  if (dir < 0)
    return false;
  bool ok = tm_file_begin(store, key, &out, err);
  for (size_t i = 0; ok && i < count; i++) {
    if (i > 0 && parts[i].number <= parts[i - 1].number) {
      tm_error_set(err, TM_EUSAGE, "the parts are not in ascending order");
      memcpy(err->code, "InvalidPartOrder", 17);
      ok = false;
    }
    ok = ok && append_part(dir, &parts[i], &out, err);
  }
  ok = ok && tm_file_commit(store, key, &out, create_only, info, err);
  tm_file_abandon(&out);
  if (ok)
    remove_upload(store, dir, upload_id);
  close(dir);
  return ok;
}

bool tm_file_multipart_abort(struct tm_oss *store, const char *key, const char *upload_id,
                             bool cleanup, struct tm_error *err)
{
  (void)cleanup;
  int dir = open_upload(store, key, upload_id, err);
  if (dir < 0)
    return err->kind == TM_ENOTFOUND; /* gone already */
  remove_upload(store, dir, upload_id);
  close(dir);
  return true;
}

bool tm_file_multipart_parts(struct tm_oss *store, const char *key, const char *upload_id,
                             struct tm_oss_parts *parts, const struct tm_cancel *cancel,
                             struct tm_error *err)
{
  (void)cancel;
  int dir = open_upload(store, key, upload_id, err);
  bool ok = dir >= 0 && read_parts(dir, key, parts, err);
  if (dir >= 0)
    close(dir);
  if (!ok)
    tm_oss_parts_free(parts);
  return ok;
}

static bool add_upload(struct tm_oss_uploads *uploads, const char *key, const char *id,
                       int64_t started_ms)
{
  struct tm_oss_upload *grown =
      realloc(uploads->items, (uploads->count + 1) * sizeof *grown);
  if (grown == NULL)
    return false;
  uploads->items = grown;
  struct tm_oss_upload u = {
      .key = strdup(key), .upload_id = strdup(id), .started_ms = started_ms};
  if (u.key == NULL || u.upload_id == NULL) {
    free(u.key);
    free(u.upload_id);
    return false;
  }
  grown[uploads->count++] = u;
  uploads->cap = uploads->count;
  return true;
}

static int by_key(const void *a, const void *b)
{
  const struct tm_oss_upload *x = a, *y = b;
  int c = strcmp(x->key, y->key);
  return c != 0 ? c : strcmp(x->upload_id, y->upload_id);
}

bool tm_file_multipart_uploads(struct tm_oss *store, const char *prefix,
                               struct tm_oss_uploads *uploads,
                               const struct tm_cancel *cancel, struct tm_error *err)
{
  (void)cancel;
  bool ok = true;
  int fd = openat(store->root, UPLOADS, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
  DIR *d = fd >= 0 ? fdopendir(fd) : NULL;
  if (d == NULL)
    return errno == ENOENT || system_error("list", prefix != NULL ? prefix : "", err);
  for (struct dirent *e; ok && (e = readdir(d)) != NULL;) {
    char key[KEY_BYTES];
    struct stat st;
    int dir = good_id(e->d_name)
                  ? openat(fd, e->d_name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC)
                  : -1;
    if (dir < 0)
      continue;
    if (read_key(dir, key) && fstat(dir, &st) == 0 &&
        (prefix == NULL || strncmp(key, prefix, strlen(prefix)) == 0))
      ok = add_upload(uploads, key, e->d_name, tm_file_mtime_ms(&st));
    close(dir);
  }
  closedir(d);
  if (!ok) {
    tm_error_set(err, TM_EMEMORY, "out of memory");
    tm_oss_uploads_free(uploads);
  } else if (uploads->count > 1) {
    qsort(uploads->items, uploads->count, sizeof *uploads->items, by_key);
  }
  return ok;
}

bool tm_file_multipart_forget(struct tm_oss *store, const char *key, struct tm_error *err)
{
  struct tm_oss_uploads uploads = {0};
  bool ok = tm_file_multipart_uploads(store, key, &uploads, NULL, err);
  for (size_t i = 0; ok && i < uploads.count; i++)
    if (strcmp(uploads.items[i].key, key) == 0)
      ok = tm_file_multipart_abort(store, key, uploads.items[i].upload_id, true, err);
  tm_oss_uploads_free(&uploads);
  return ok;
}
