/*
** errfile.c: lines appended to a bounded file by many processes
**
** The lock is flock on the directory: it works across processes and dies with them, and
** is held for one write at a time. There is no fsync: after a crash of the machine the last
** lines may be missing or torn, and that is all a log of bad rows has to promise.
*/
#include "oss_fdw/errfile.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

enum { LOCK_TRIES = 2000 }; /* a millisecond apart */

struct path {
  char now[PATH_MAX], old[PATH_MAX];
};

static bool make_path(struct path *path, const char *dir, const char *name,
                      struct tm_error *err)
{
  int n = snprintf(path->now, sizeof path->now, "%s/%s", dir, name);
  int m = snprintf(path->old, sizeof path->old, "%s/%s.1", dir, name);
  if (n > 0 && m > 0 && (size_t)m < sizeof path->old)
    return true;
  tm_error_set(err, TM_ESYSTEM, "the path of '%s' is too long", name);
  return false;
}

int fdw_errfile_lock(const char *dir, bool shared, struct tm_error *err)
{
  int fd = open(dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
  if (fd < 0 && errno == ENOENT && (mkdir(dir, 0750) == 0 || errno == EEXIST))
    fd = open(dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
  if (fd < 0) {
    tm_error_errno(err, TM_ESYSTEM, errno, "cannot open directory '%s'", dir);
    return -1;
  }
  for (int tries = 0; flock(fd, (shared ? LOCK_SH : LOCK_EX) | LOCK_NB) != 0; tries++) {
    if ((errno != EWOULDBLOCK && errno != EINTR) || tries == LOCK_TRIES) {
      tm_error_errno(err, TM_ESYSTEM, errno, "cannot lock directory '%s'", dir);
      close(fd);
      return -1;
    }
    nanosleep(&(struct timespec){.tv_nsec = 1000000}, NULL);
  }
  return fd;
}

static bool write_all(int fd, const char *bytes, size_t len)
{
  while (len > 0) {
    ssize_t n = write(fd, bytes, len);
    if (n < 0 && errno == EINTR)
      continue;
    if (n <= 0)
      return false;
    bytes += n;
    len -= (size_t)n;
  }
  return true;
}

/* Whether the file's last line lacks its end. */
static bool is_torn(int fd, int64_t size)
{
  char last = '\n';
  return size > 0 && (pread(fd, &last, 1, size - 1) != 1 || last != '\n');
}

/* PostgreSQL's umask takes the group's rights away, unless the cluster gives it some. */
static int open_log(const char *path)
{
  return open(path, O_RDWR | O_CREAT | O_APPEND | O_CLOEXEC, 0640);
}

/* With the lock held. */
static bool append(const struct path *path, const char *lines, size_t len, int64_t limit,
                   struct tm_error *err)
{
  struct stat st;
  int fd = open_log(path->now);
  if (fd < 0 || fstat(fd, &st) != 0)
    goto fail;
  if (st.st_size > 0 && st.st_size + (int64_t)len > limit / 2) {
    close(fd);
    fd = rename(path->now, path->old) == 0 ? open_log(path->now) : -1;
    if (fd < 0)
      goto fail;
    st.st_size = 0;
  }
  if ((is_torn(fd, st.st_size) && !write_all(fd, "\n", 1)) ||
      !write_all(fd, lines, len)) {
    int errnum = errno;
    if (ftruncate(fd, st.st_size) != 0)
      errnum = errno; /* a torn line then, which readers know how to pass over */
    errno = errnum;
    goto fail;
  }
  close(fd);
  return true;

fail:
  tm_error_errno(err, TM_ESYSTEM, errno, "cannot write '%s'", path->now);
  if (fd >= 0)
    close(fd);
  return false;
}

bool fdw_errfile_append(const char *dir, const char *name, const char *lines, size_t len,
                        int64_t limit, struct tm_error *err)
{
  struct path path;
  if (!make_path(&path, dir, name, err))
    return false;
  int lock = fdw_errfile_lock(dir, false, err);
  if (lock < 0)
    return false;
  bool ok = append(&path, lines, len, limit, err);
  close(lock);
  return ok;
}

bool fdw_errfile_remove(const char *dir, const char *name, bool *was,
                        struct tm_error *err)
{
  struct path path;
  *was = false;
  if (!make_path(&path, dir, name, err))
    return false;
  if (access(dir, F_OK) != 0 && errno == ENOENT)
    return true;
  int lock = fdw_errfile_lock(dir, false, err);
  if (lock < 0)
    return false;
  const char *const paths[] = {path.now, path.old};
  bool ok = true;
  for (int i = 0; i < 2 && ok; i++) {
    if (unlink(paths[i]) == 0) {
      *was = true;
    } else if (errno != ENOENT) {
      tm_error_errno(err, TM_ESYSTEM, errno, "cannot remove '%s'", paths[i]);
      ok = false;
    }
  }
  close(lock);
  return ok;
}
