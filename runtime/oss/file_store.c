/*
** file_store.c: objects as files: put, get, head, delete, copy
**
** A path is walked segment by segment with O_NOFOLLOW, so no symbolic link and no ".."
** leads out of the directory. An object is written to a file that has no name until it is
** committed, so that a process which is killed leaves nothing; where the file system knows
** no such files, to one with a temporary name, which then stays.
*/
#include "oss/file_store.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <unistd.h>

#include "driver/crc64.h"

enum { COPY_BYTES = 256 * 1024, DIR_RACES = 5 };

static bool failed(const struct tm_oss *store, const char *what, const char *key,
                   struct tm_error *err)
{
  char name[TM_OSS_NAME_SIZE];
  int e = errno;
  enum tm_kind kind = TM_ESYSTEM;
  if (e == ENOENT || e == ENOTDIR)
    kind = TM_ENOTFOUND;
  else if (e == EACCES || e == EPERM || e == EROFS)
    kind = TM_EAUTH;
  else if (e == EEXIST)
    kind = TM_EEXISTS;
  tm_oss_name(store, key, name);
  if (strcmp(what, "put") == 0 && (e == ENOTDIR || e == EISDIR))
    tm_error_set(err, TM_ECONFLICT, "cannot put %s: a %s is in the way", name,
                 e == EISDIR ? "directory" : "file");
  else if (kind == TM_ENOTFOUND)
    tm_error_set(err, kind, "cannot %s %s: no such object", what, name);
  else if (kind == TM_EEXISTS)
    tm_error_set(err, kind, "cannot %s %s: the object exists already", what, name);
  else if (e == ELOOP)
    tm_error_set(err, kind, "cannot %s %s: a symbolic link is in the way", what, name);
  else
    tm_error_errno(err, kind, e, "cannot %s %s", what, name);
  return false;
}

static bool bad_key(const struct tm_oss *store, const char *key, struct tm_error *err)
{
  char name[TM_OSS_NAME_SIZE];
  tm_oss_name(store, key, name);
  tm_error_set(err, TM_EUSAGE, "%s: this key cannot be a file", name);
  tm_error_hint(err, "file:// keys are relative paths without empty, '.' or '..' parts, "
                     "each at most 255 bytes and not beginning with '" TM_FILE_OURS "'");
  return false;
}

/* A segment of `n` bytes that may be a file name of ours. */
static bool good_segment(const char *s, size_t n)
{
  return n > 0 && n <= 255 && !(n == 1 && s[0] == '.') &&
         !(n == 2 && s[0] == '.' && s[1] == '.') &&
         strncmp(s, TM_FILE_OURS, strlen(TM_FILE_OURS)) != 0;
}

int tm_file_dir(struct tm_oss *store, const char *key, bool create, const char **name,
                struct tm_error *err)
{
  char segment[256];
  for (const char *p = key;; p += strcspn(p, "/") + 1) {
    if (!good_segment(p, strcspn(p, "/"))) {
      bad_key(store, key, err);
      return -1;
    }
    if (strchr(p, '/') == NULL)
      break;
  }
  int dir = fcntl(store->root, F_DUPFD_CLOEXEC, 0);
  const char *p = key;
  for (const char *slash; dir >= 0 && (slash = strchr(p, '/')) != NULL; p = slash + 1) {
    size_t n = (size_t)(slash - p);
    memcpy(segment, p, n);
    segment[n] = '\0';
    if (create && mkdirat(dir, segment, 0777) != 0 && errno != EEXIST) {
      failed(store, "put", key, err);
      close(dir);
      return -1;
    }
    int next = openat(dir, segment, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
    int e = errno;
    close(dir);
    errno = e;
    dir = next;
  }
  *name = p;
  if (dir < 0)
    failed(store, create ? "put" : "find", key, err);
  return dir;
}

void tm_file_etag(const struct stat *st, char out[128])
{
  snprintf(out, 128, "%" PRIx64 "-%" PRIx64 "%09lx-%" PRIx64, (uint64_t)st->st_size,
           (uint64_t)st->st_mtim.tv_sec, (unsigned long)st->st_mtim.tv_nsec,
           (uint64_t)st->st_ino);
}

int64_t tm_file_mtime_ms(const struct stat *st)
{
  return (int64_t)st->st_mtim.tv_sec * 1000 + st->st_mtim.tv_nsec / 1000000;
}

static void info_of(const struct stat *st, struct tm_oss_info *info)
{
  info->size = st->st_size;
  info->modified_ms = tm_file_mtime_ms(st);
  tm_file_etag(st, info->etag);
}

/* ---- writing ---- */

bool tm_file_begin(struct tm_oss *store, const char *key, struct tm_file_out *out,
                   struct tm_error *err)
{
  uint64_t r = 0;
  const char *name;
  *out = (struct tm_file_out){.dir = -1, .fd = -1};
  if (getrandom(&r, sizeof r, 0) != (ssize_t)sizeof r)
    return failed(store, "put", key, err);
  snprintf(out->temporary, sizeof out->temporary, TM_FILE_OURS "%016" PRIx64, r);
  for (int i = 0; i < DIR_RACES; i++) { /* a delete may remove the directory meanwhile */
    out->dir = tm_file_dir(store, key, true, &name, err);
    if (out->dir < 0 && err->kind != TM_ENOTFOUND)
      return false;
    if (out->dir >= 0) {
      snprintf(out->name, sizeof out->name, "%s", name);
      out->fd = openat(out->dir, ".", O_WRONLY | O_TMPFILE | O_CLOEXEC, 0666);
      out->nameless = out->fd >= 0;
      if (out->fd < 0 && errno != ENOENT) /* not every file system has such files */
        out->fd = openat(out->dir, out->temporary,
                         O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0666);
      if (out->fd >= 0)
        return true;
      int e = errno;
      close(out->dir);
      out->dir = -1;
      errno = e;
      if (e != ENOENT)
        return failed(store, "put", key, err);
    }
  }
  errno = ENOTDIR;
  return failed(store, "put", key, err);
}

bool tm_file_write(struct tm_file_out *out, const void *bytes, size_t n,
                   struct tm_error *err)
{
  out->crc64 = tm_crc64(out->crc64, bytes, n);
  out->size += (int64_t)n;
  for (const char *p = bytes; n > 0;) {
    ssize_t w = write(out->fd, p, n);
    if (w < 0 && errno == EINTR)
      continue;
    if (w < 0) {
      tm_error_errno(err, TM_ESYSTEM, errno, "cannot write '%s'", out->name);
      return false;
    }
    p += w;
    n -= (size_t)w;
  }
  return true;
}

/* Gives a file without a name this one. */
static int link_nameless(struct tm_file_out *out, const char *name)
{
  char path[64];
  snprintf(path, sizeof path, "/proc/self/fd/%d", out->fd);
  return linkat(AT_FDCWD, path, out->dir, name, AT_SYMLINK_FOLLOW);
}

/* Such a file does not keep its directory from being removed by a delete meanwhile. */
static bool reopen_dir(struct tm_oss *store, const char *key, struct tm_file_out *out,
                       struct tm_error *err)
{
  const char *name;
  int dir = tm_file_dir(store, key, true, &name, err);
  if (dir < 0)
    return err->kind == TM_ENOTFOUND; /* again */
  close(out->dir);
  out->dir = dir;
  return true;
}

/* Gives the file its name, or the temporary one where that is to be renamed. */
static bool name_nameless(struct tm_oss *store, const char *key, struct tm_file_out *out,
                          bool create_only, struct tm_error *err)
{
  const char *name = create_only ? out->name : out->temporary;
  int rc = link_nameless(out, name);
  for (int i = 0; rc != 0 && errno == ENOENT && i < DIR_RACES; i++) {
    if (!reopen_dir(store, key, out, err))
      return false;
    rc = link_nameless(out, name);
  }
  if (rc != 0 && errno == ENOENT)
    errno = ENOTDIR;
  return rc == 0 || failed(store, "put", key, err);
}

bool tm_file_commit(struct tm_oss *store, const char *key, struct tm_file_out *out,
                    bool create_only, struct tm_oss_info *info, struct tm_error *err)
{
  struct stat st;
  if (fsync(out->fd) != 0 || fstat(out->fd, &st) != 0)
    return failed(store, "put", key, err);
  if (out->nameless && !name_nameless(store, key, out, create_only, err))
    return false;
  int rc = 0;
  if (create_only && !out->nameless) {
    rc = linkat(out->dir, out->temporary, out->dir, out->name, 0);
    if (rc == 0)
      unlinkat(out->dir, out->temporary, 0);
  } else if (!create_only) {
    rc = renameat(out->dir, out->temporary, out->dir, out->name);
  }
  if (rc != 0 || fsync(out->dir) != 0)
    return failed(store, "put", key, err);
  out->temporary[0] = '\0'; /* nothing left to remove */
  info_of(&st, info);
  info->has_crc64 = true;
  info->crc64 = out->crc64;
  return true;
}

void tm_file_abandon(struct tm_file_out *out)
{
  if (out->fd >= 0)
    close(out->fd);
  if (out->dir >= 0 && out->temporary[0] != '\0')
    unlinkat(out->dir, out->temporary, 0);
  if (out->dir >= 0)
    close(out->dir);
  out->dir = out->fd = -1;
}

static bool file_put(struct tm_oss *store, const char *key, const void *bytes, size_t n,
                     const struct tm_oss_put_opts *opts, struct tm_oss_info *info,
                     const struct tm_cancel *cancel, struct tm_error *err)
{
  (void)cancel;
  struct tm_file_out out;
  bool ok =
      tm_file_begin(store, key, &out, err) && tm_file_write(&out, bytes, n, err) &&
      tm_file_commit(store, key, &out, opts != NULL && opts->create_only, info, err);
  tm_file_abandon(&out);
  return ok;
}

/* ---- reading ---- */

static int open_object(struct tm_oss *store, const char *what, const char *key,
                       struct stat *st, struct tm_error *err)
{
  const char *name;
  int dir = tm_file_dir(store, key, false, &name, err);
  if (dir < 0)
    return -1;
  int fd = openat(dir, name, O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC);
  int e = errno;
  close(dir);
  errno = e;
  if (fd >= 0 && fstat(fd, st) == 0 && S_ISREG(st->st_mode))
    return fd;
  if (fd >= 0) {
    close(fd);
    errno = ENOENT; /* a directory or device is no object */
  }
  failed(store, what, key, err);
  return -1;
}

static bool file_head(struct tm_oss *store, const char *key, struct tm_oss_info *info,
                      const struct tm_cancel *cancel, struct tm_error *err)
{
  (void)cancel;
  struct stat st;
  int fd = open_object(store, "look at", key, &st, err);
  if (fd < 0)
    return false;
  close(fd);
  info_of(&st, info);
  return true;
}

static bool read_range(struct tm_oss *store, const char *key, int fd, int64_t from,
                       int64_t to, tm_oss_take *take, void *data,
                       const struct tm_cancel *cancel, struct tm_error *err)
{
  char *piece = malloc(COPY_BYTES);
  bool ok = piece != NULL;
  if (!ok)
    tm_error_set(err, TM_EMEMORY, "out of memory");
  while (ok && from < to) {
    size_t want = to - from < COPY_BYTES ? (size_t)(to - from) : COPY_BYTES;
    ssize_t got = pread(fd, piece, want, from);
    if (got < 0 && errno == EINTR)
      continue;
    if (got < 0) {
      ok = failed(store, "get", key, err);
    } else if (got == 0) {
      tm_error_set(err, TM_ECONFLICT, "'%.200s' became shorter while it was read", key);
      ok = false;
    } else if (tm_cancel_fired(cancel) || tm_cancel_fired(tm_interrupt())) {
      tm_error_set(err, TM_ECANCELED, "cancelled");
      ok = false;
    } else {
      ok = take(data, piece, (size_t)got, err);
      from += got;
    }
  }
  free(piece);
  return ok;
}

static bool file_stream(struct tm_oss *store, const char *key,
                        const struct tm_oss_get_opts *opts, tm_oss_take *take, void *data,
                        struct tm_oss_info *info, const struct tm_cancel *cancel,
                        struct tm_error *err)
{
  struct stat st;
  int fd = open_object(store, "get", key, &st, err);
  if (fd < 0)
    return false;
  info_of(&st, info);
  bool ok = true;
  int64_t from = 0, to = st.st_size;
  if (opts->if_match != NULL && strcmp(opts->if_match, info->etag) != 0) {
    tm_error_set(err, TM_ECONFLICT, "'%.200s' was replaced", key);
    ok = false;
  } else if (opts->range && opts->offset >= st.st_size) {
    tm_error_set(err, TM_EUSAGE,
                 "cannot get '%.200s': byte %" PRId64 " lies beyond the end", key,
                 opts->offset);
    memcpy(err->code, "InvalidRange", 13);
    ok = false;
  } else if (opts->range) {
    from = opts->offset;
    if (opts->length > 0 && from + opts->length < to)
      to = from + opts->length;
  }
  ok = ok && read_range(store, key, fd, from, to, take, data, cancel, err);
  close(fd);
  return ok;
}

/* Removes the key's directories as far as they are empty: they are not objects. */
static void prune(struct tm_oss *store, const char *key)
{
  char *path = strdup(key);
  struct tm_error ignored;
  for (char *slash; path != NULL && (slash = strrchr(path, '/')) != NULL;) {
    const char *name;
    *slash = '\0';
    int dir = tm_file_dir(store, path, false, &name, &ignored);
    bool removed = dir >= 0 && unlinkat(dir, name, AT_REMOVEDIR) == 0;
    if (dir >= 0)
      close(dir);
    if (!removed)
      break;
  }
  free(path);
}

static bool file_delete(struct tm_oss *store, const char *key, bool cleanup,
                        const struct tm_cancel *cancel, struct tm_error *err)
{
  (void)cleanup;
  (void)cancel;
  const char *name;
  int dir = tm_file_dir(store, key, false, &name, err);
  if (dir < 0)
    return err->kind == TM_ENOTFOUND;
  int rc = unlinkat(dir, name, 0), e = errno;
  close(dir);
  errno = e;
  if (rc != 0)
    return e == ENOENT || e == EISDIR || failed(store, "delete", key, err);
  prune(store, key);
  return true;
}

static bool file_delete_many(struct tm_oss *store, const char *const *keys, size_t count,
                             struct tm_oss_failures *bad, const struct tm_cancel *cancel,
                             struct tm_error *err)
{
  for (size_t i = 0; i < count; i++) {
    struct tm_error why;
    if (file_delete(store, keys[i], false, cancel, &why))
      continue;
    struct tm_oss_failure *items = realloc(bad->items, (bad->count + 1) * sizeof *items);
    char *key = strdup(keys[i]);
    if (items != NULL)
      bad->items = items;
    if (items == NULL || key == NULL) {
      free(key);
      tm_error_set(err, TM_EMEMORY, "out of memory");
      return false;
    }
    struct tm_oss_failure *f = &items[bad->count++];
    *f = (struct tm_oss_failure){.key = key};
    snprintf(f->code, sizeof f->code, "%s", tm_kind_name(why.kind));
    snprintf(f->message, sizeof f->message, "%.159s", why.message);
  }
  return true;
}

static bool take_file(void *data, const char *bytes, size_t n, struct tm_error *err)
{
  return tm_file_write(data, bytes, n, err);
}

static bool file_copy(struct tm_oss *store, const char *from, const char *to,
                      const struct tm_oss_put_opts *opts, struct tm_oss_info *info,
                      const struct tm_cancel *cancel, struct tm_error *err)
{
  static const struct tm_oss_get_opts whole;
  struct tm_file_out out;
  bool ok = tm_file_begin(store, to, &out, err) &&
            file_stream(store, from, &whole, take_file, &out, info, cancel, err) &&
            tm_file_commit(store, to, &out, opts != NULL && opts->create_only, info, err);
  tm_file_abandon(&out);
  return ok;
}

const struct tm_oss_backend tm_oss_file_backend = {
    .put = file_put,
    .stream = file_stream,
    .head = file_head,
    .delete = file_delete,
    .delete_many = file_delete_many,
    .copy = file_copy,
    .list = tm_file_list,
    .multipart_create = tm_file_multipart_create,
    .multipart_part = tm_file_multipart_part,
    .multipart_complete = tm_file_multipart_complete,
    .multipart_abort = tm_file_multipart_abort,
    .multipart_parts = tm_file_multipart_parts,
    .multipart_uploads = tm_file_multipart_uploads,
    .multipart_forget = tm_file_multipart_forget,
};
