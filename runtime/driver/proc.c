/*
** proc.c: child processes, their pipes, their end and what they used
**
** Between vfork and exec the child shares our memory: child() calls only system calls, writes
** nothing but its own stack, and reports an errno through a close-on-exec pipe. All signals are
** blocked over that window, so that none of our handlers runs in it. Every descriptor that the
** child shall have is first moved above the numbers it can be given, so that no dup2 overwrites a
** source; close_range shuts all others.
*/
#include "driver/proc.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <poll.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/clock.h"

extern char **environ;

struct tm_proc {
  pid_t pid; /* 0 once reaped, or never started */
  int pidfd;
  int fds[TM_PROC_FDS]; /* our ends; -1: none */
  bool group;
  bool ended;
  struct tm_proc_status status; /* once ended */
};

static void close_fd(int *fd)
{
  if (*fd >= 0)
    close(*fd);
  *fd = -1;
}

/* ---- between vfork and exec ---- */

struct child {
  const struct tm_proc_options *options;
  const char *const *paths; /* candidates for exec, NULL-terminated */
  const int *sources;       /* for each descriptor of the child, what to dup; -1: close */
  pid_t parent;
  int report; /* where errno goes */
};

enum { STEP_SETUP, STEP_CWD, STEP_EXEC };

struct report {
  int step, errnum;
};

static void child_fail(const struct child *c, int step)
{
  struct report report = {step, errno};
  ssize_t n = write(c->report, &report, sizeof report);
  _exit(n == (ssize_t)sizeof report ? 127 : 126);
}

static void child_descriptors(const struct child *c)
{
  for (int fd = 0; fd < TM_PROC_FDS; fd++) {
    if (c->sources[fd] < 0)
      close(fd);
    else if (dup2(c->sources[fd], fd) < 0)
      child_fail(c, STEP_SETUP);
  }
  int report = c->report; /* above TM_PROC_FDS, and close-on-exec: it stays until then */
  if (syscall(SYS_close_range, TM_PROC_FDS, report - 1, 0) == 0)
    syscall(SYS_close_range, report + 1, UINT_MAX, 0);
}

/* Our handlers must not run here, in memory that is the parent's. What the terminal or a service
** manager sent to the parent's group meanwhile is not for a child with a group of its own. */
static void reset_signals(bool own_group)
{
  static const int caught[] = {SIGINT, SIGTERM, SIGHUP, SIGQUIT, SIGWINCH};
  for (size_t i = 0; i < sizeof caught / sizeof caught[0]; i++) {
    void (*before)(int) =
        signal(caught[i], own_group ? SIG_IGN : SIG_DFL); /* ignoring forgets */
    signal(caught[i], before == SIG_IGN ? SIG_IGN : SIG_DFL);
  }
  signal(SIGPIPE, SIG_DFL);
}

/* Only what may run between vfork and exec. */
__attribute__((noreturn)) static void child(const struct child *c)
{
  const struct tm_proc_options *o = c->options;
  sigset_t none;
  if (o->group && setpgid(0, 0) != 0)
    child_fail(c, STEP_SETUP);
  reset_signals(o->group);
  if (o->death_signal != 0) {
    if (prctl(PR_SET_PDEATHSIG, o->death_signal) != 0)
      child_fail(c, STEP_SETUP);
    if (getppid() != c->parent) /* it died before prctl */
      _exit(126);
  }
  if (o->cwd != NULL && chdir(o->cwd) != 0)
    child_fail(c, STEP_CWD);
  child_descriptors(c);
  sigemptyset(&none);
  sigprocmask(SIG_SETMASK, &none, NULL);
  const char *const *envp = o->envp != NULL ? o->envp : (const char *const *)environ;
  int worst = ENOENT;
  for (const char *const *path = c->paths; *path != NULL; path++) {
    execve(*path, (char *const *)o->argv, (char *const *)envp);
    if (errno != ENOENT && errno != ENOTDIR)
      worst = errno;
  }
  errno = worst;
  child_fail(c, STEP_EXEC);
  _exit(126);
}

/* ---- spawning ---- */

/* A copy above the numbers a child can be given; takes the original away. */
static int lift(int fd)
{
  if (fd < 0 || fd >= TM_PROC_FDS)
    return fd;
  int high = fcntl(fd, F_DUPFD_CLOEXEC, TM_PROC_FDS);
  int saved = errno;
  close(fd);
  errno = saved;
  return high;
}

static int bytes_file(const char *bytes, size_t len)
{
  int fd = lift(memfd_create("tidemill-input", MFD_CLOEXEC));
  size_t done = 0;
  while (fd >= 0 && done < len) {
    ssize_t n = write(fd, bytes + done, len - done);
    if (n < 0 && errno != EINTR) {
      close(fd);
      return -1;
    }
    done += n > 0 ? (size_t)n : 0;
  }
  if (fd >= 0)
    lseek(fd, 0, SEEK_SET);
  return fd;
}

/* Makes the child's end *theirs (>= TM_PROC_FDS) and ours, if there is one. */
static bool make_descriptor(struct tm_proc *p, const struct tm_proc_options *o, int fd,
                            int *theirs)
{
  int ends[2];
  switch (o->use[fd]) {
  case TM_PROC_CLOSED:
    return true;
  case TM_PROC_INHERIT:
    *theirs = fcntl(fd, F_DUPFD_CLOEXEC, TM_PROC_FDS);
    return *theirs >= 0;
  case TM_PROC_NULL:
    *theirs = lift(open("/dev/null", O_RDWR | O_CLOEXEC));
    return *theirs >= 0;
  case TM_PROC_BYTES:
    *theirs = bytes_file(o->input, o->input_len);
    return *theirs >= 0;
  case TM_PROC_READ:
  case TM_PROC_WRITE:
    if (pipe2(ends, O_CLOEXEC) != 0)
      return false;
    bool reads = o->use[fd] == TM_PROC_READ;
    p->fds[fd] = lift(ends[reads ? 0 : 1]);
    *theirs = lift(ends[reads ? 1 : 0]);
    return p->fds[fd] >= 0 && *theirs >= 0 && fcntl(p->fds[fd], F_SETFL, O_NONBLOCK) == 0;
  }
  return false;
}

/* argv[0] in each directory of PATH, or as it is; one block of memory, freed by the caller. */
static const char **candidates(const char *file)
{
  const char *path = getenv("PATH");
  if (path == NULL || path[0] == '\0')
    path = "/usr/local/bin:/usr/bin:/bin";
  if (strchr(file, '/') != NULL)
    path = "";
  size_t dirs = 1, file_len = strlen(file);
  for (const char *s = path; *s != '\0'; s++)
    dirs += *s == ':';
  size_t table = (dirs + 1) * sizeof(char *);
  size_t text = strlen(path) + dirs * (file_len + 3); /* "./" or "/", and NUL */
  const char **list = malloc(table + text);
  if (list == NULL)
    return NULL;
  char *out = (char *)list + table;
  size_t n = 0;
  for (const char *s = path; n < dirs; n++) {
    size_t len = strcspn(s, ":");
    list[n] = out;
    if (path[0] != '\0') {
      memcpy(out, len > 0 ? s : ".", len > 0 ? len : 1);
      out += len > 0 ? len : 1;
      *out++ = '/';
    }
    memcpy(out, file, file_len + 1);
    out += file_len + 1;
    s += len + (s[len] == ':');
  }
  list[n] = NULL;
  return list;
}

/* vfork wants a frame of its own, whose locals nobody changes. */
__attribute__((noinline)) static pid_t start(const struct child *c)
{
  pid_t pid = vfork();
  if (pid == 0)
    child(c);
  return pid;
}

/* Forks and learns whether exec happened. Returns the pid, or -1 with *err set. */
static pid_t fork_exec(struct child *c, const char *name, struct tm_error *err)
{
  int ends[2];
  if (pipe2(ends, O_CLOEXEC) != 0) {
    tm_error_errno(err, TM_ESYSTEM, errno, "cannot start '%s'", name);
    return -1;
  }
  c->report = fcntl(ends[1], F_DUPFD_CLOEXEC, TM_PROC_FDS);
  close(ends[1]);
  sigset_t all, before;
  sigfillset(&all);
  sigprocmask(SIG_SETMASK, &all, &before);
  pid_t pid = c->report >= 0 ? start(c) : -1;
  int saved = errno;
  sigprocmask(SIG_SETMASK, &before, NULL);
  if (c->report >= 0)
    close(c->report);
  struct report report;
  ssize_t n = 0;
  if (pid < 0) {
    tm_error_errno(err, TM_ESYSTEM, saved, "cannot start '%s'", name);
  } else {
    do
      n = read(ends[0], &report, sizeof report);
    while (n < 0 && errno == EINTR);
  }
  close(ends[0]);
  if (pid < 0 || n != (ssize_t)sizeof report)
    return pid;
  while (waitpid(pid, NULL, 0) < 0 && errno == EINTR)
    continue;
  bool missing = report.errnum == ENOENT || report.errnum == ENOTDIR;
  const char *what = report.step == STEP_CWD ? c->options->cwd : name;
  const char *verb = report.step == STEP_CWD ? "enter directory" : "run";
  tm_error_errno(err, missing ? TM_ENOTFOUND : TM_ESYSTEM, report.errnum,
                 "cannot %s '%s'", verb, what);
  return -1;
}

static int open_pidfd(pid_t pid)
{
  return (int)syscall(SYS_pidfd_open, pid, 0); /* close-on-exec by itself */
}

struct tm_proc *tm_proc_spawn(const struct tm_proc_options *o, struct tm_error *err)
{
  struct tm_proc *p = calloc(1, sizeof *p);
  const char **paths = candidates(o->argv[0]);
  int sources[TM_PROC_FDS];
  for (int fd = 0; fd < TM_PROC_FDS; fd++)
    sources[fd] = -1;
  if (p == NULL || paths == NULL) {
    tm_error_set(err, TM_EMEMORY, "out of memory");
    free(p);
    free(paths);
    return NULL;
  }
  p->pidfd = -1;
  p->group = o->group;
  memset(p->fds, -1, sizeof p->fds);
  bool ok = true;
  for (int fd = 0; ok && fd < TM_PROC_FDS; fd++)
    ok = make_descriptor(p, o, fd, &sources[fd]);
  if (!ok) {
    tm_error_errno(err, TM_ESYSTEM, errno, "cannot make the pipes of '%s'", o->argv[0]);
  } else {
    struct child c = {
        .options = o, .paths = paths, .sources = sources, .parent = getpid()};
    pid_t pid = fork_exec(&c, o->argv[0], err);
    p->pid = pid > 0 ? pid : 0;
    ok = pid > 0;
  }
  for (int fd = 0; fd < TM_PROC_FDS; fd++)
    close_fd(&sources[fd]);
  free(paths);
  if (ok && (p->pidfd = open_pidfd(p->pid)) < 0) {
    tm_error_errno(err, TM_ESYSTEM, errno, "pidfd_open");
    ok = false;
  }
  if (!ok) {
    tm_proc_close(p);
    return NULL;
  }
  return p;
}

/* ---- the end ---- */

/* While its leader is a zombie, no other group can have got this number. */
static void kill_rest_of_group(const struct tm_proc *p, int options)
{
  siginfo_t info = {0};
  if (waitid(P_PID, (id_t)p->pid, &info, WEXITED | WNOWAIT | options) == 0 &&
      info.si_pid == p->pid)
    kill(-p->pid, SIGKILL);
}

/* True once the child has ended and p->status is filled. */
static bool reap(struct tm_proc *p, int options)
{
  int status;
  struct rusage use;
  if (p->ended)
    return true;
  if (p->group)
    kill_rest_of_group(p, options);
  pid_t pid;
  do
    pid = wait4(p->pid, &status, options, &use);
  while (pid < 0 && errno == EINTR);
  if (pid == 0)
    return false;
  p->ended = true;
  p->status.code = -1;
  if (pid == p->pid) {
    p->status.code = WIFEXITED(status) ? WEXITSTATUS(status) : -1;
    p->status.signal = WIFSIGNALED(status) ? WTERMSIG(status) : 0;
    p->status.user_s = (double)use.ru_utime.tv_sec + use.ru_utime.tv_usec / 1e6;
    p->status.system_s = (double)use.ru_stime.tv_sec + use.ru_stime.tv_usec / 1e6;
    p->status.max_rss_bytes = (int64_t)use.ru_maxrss * 1024;
  }
  return true;
}

void tm_proc_close(struct tm_proc *p)
{
  if (p == NULL)
    return;
  if (p->pid > 0 && !p->ended) {
    kill(p->group ? -p->pid : p->pid, SIGKILL);
    reap(p, 0);
  }
  for (int fd = 0; fd < TM_PROC_FDS; fd++)
    close_fd(&p->fds[fd]);
  close_fd(&p->pidfd);
  free(p);
}

pid_t tm_proc_pid(const struct tm_proc *p)
{
  return p->pid;
}

/* Our end of the child's descriptor; -1 when it is no pipe or was closed. */
static int our_end(const struct tm_proc *p, int fd)
{
  return fd < 0 || fd >= TM_PROC_FDS ? -1 : p->fds[fd];
}

void tm_proc_close_fd(struct tm_proc *p, int fd)
{
  if (fd >= 0 && fd < TM_PROC_FDS)
    close_fd(&p->fds[fd]);
}

int tm_proc_wait(struct tm_proc *p, int64_t timeout_ms, struct tm_proc_status *status,
                 struct tm_error *err)
{
  if (!reap(p, WNOHANG)) {
    int ready = tm_clock_poll(p->pidfd, POLLIN, timeout_ms, NULL, err);
    if (ready <= 0)
      return ready;
    reap(p, 0);
  }
  *status = p->status;
  return 1;
}

bool tm_proc_kill(struct tm_proc *p, int signal, struct tm_error *err)
{
  if (p->ended)
    return true;
  if (kill(p->group ? -p->pid : p->pid, signal) == 0 || errno == ESRCH)
    return true;
  tm_error_errno(err, TM_ESYSTEM, errno, "cannot send signal %d to process %d", signal,
                 (int)p->pid);
  return false;
}

/* ---- pipes ---- */

ssize_t tm_proc_read(struct tm_proc *p, int fd, char *bytes, size_t size,
                     int64_t timeout_ms, struct tm_error *err)
{
  int ours = our_end(p, fd);
  if (ours < 0) {
    tm_error_set(err, TM_EUSAGE, "descriptor %d of process %d is not a pipe to read", fd,
                 (int)p->pid);
    return -1;
  }
  for (;;) {
    ssize_t n = read(ours, bytes, size);
    if (n >= 0)
      return n;
    if (errno == EINTR)
      continue;
    if (errno != EAGAIN) {
      tm_error_errno(err, TM_EIO, errno, "cannot read from process %d", (int)p->pid);
      return -1;
    }
    int ready = tm_clock_poll(ours, POLLIN, timeout_ms, NULL, err);
    if (ready <= 0)
      return ready == 0 ? TM_PROC_TIMEOUT : -1;
  }
}

bool tm_proc_write(struct tm_proc *p, int fd, const char *bytes, size_t len,
                   int64_t timeout_ms, struct tm_error *err)
{
  int ours = our_end(p, fd);
  if (ours < 0) {
    tm_error_set(err, TM_EUSAGE, "descriptor %d of process %d is not a pipe to write", fd,
                 (int)p->pid);
    return false;
  }
  while (len > 0) {
    ssize_t n = write(ours, bytes, len);
    if (n >= 0) {
      bytes += n;
      len -= (size_t)n;
    } else if (errno == EAGAIN) {
      int ready = tm_clock_poll(ours, POLLOUT, timeout_ms, NULL, err);
      if (ready == 0)
        tm_error_set(err, TM_ETIMEOUT, "process %d does not read its input", (int)p->pid);
      if (ready <= 0)
        return false;
    } else if (errno != EINTR) {
      tm_error_errno(err, TM_EIO, errno, "cannot write to process %d", (int)p->pid);
      return false;
    }
  }
  return true;
}

/* ---- many at once ---- */

struct watch {
  size_t index;
  int fd; /* the child's, or -1 */
};

static bool readable(const struct tm_proc *p, int fd)
{
  int flags = p->fds[fd] < 0 ? -1 : fcntl(p->fds[fd], F_GETFL);
  return flags >= 0 && (flags & O_ACCMODE) == O_RDONLY;
}

/* Fills one entry a descriptor; returns how many. With NULL tables it only counts. */
static size_t watched(struct tm_proc *const *procs, size_t count, struct pollfd *fds,
                      struct watch *watches)
{
  size_t n = 0;
  for (size_t i = 0; i < count; i++) {
    for (int fd = -1; procs[i] != NULL && fd < TM_PROC_FDS; fd++) {
      if (fd < 0 ? procs[i]->ended : !readable(procs[i], fd))
        continue;
      if (fds != NULL) {
        fds[n] = (struct pollfd){.fd = fd < 0 ? procs[i]->pidfd : procs[i]->fds[fd],
                                 .events = POLLIN};
        watches[n] = (struct watch){i, fd};
      }
      n++;
    }
  }
  return n;
}

/* poll until something is ready: its count, 0 on timeout, -1 with *err set. */
static int wait_any(struct pollfd *fds, size_t n, int64_t timeout_ms,
                    struct tm_error *err)
{
  int64_t deadline = tm_clock_deadline(timeout_ms);
  for (;;) {
    int64_t left = tm_clock_left(deadline);
    int ready = poll(fds, n, left > INT_MAX ? INT_MAX : (int)left);
    if (ready < 0 && errno != EINTR) {
      tm_error_errno(err, TM_ESYSTEM, errno, "poll");
      return -1;
    }
    if (tm_cancel_fired(tm_interrupt())) {
      tm_error_set(err, TM_ECANCELED, "cancelled");
      return -1;
    }
    if (ready > 0 || (ready == 0 && deadline >= 0 && tm_clock_mono_ms() >= deadline))
      return ready;
  }
}

int tm_proc_poll(struct tm_proc *const *procs, size_t count, int64_t timeout_ms,
                 struct tm_proc_event *events, size_t max, struct tm_error *err)
{
  size_t n = watched(procs, count, NULL, NULL);
  struct pollfd *fds = calloc(n + 1, sizeof *fds);
  struct watch *watches = calloc(n + 1, sizeof *watches);
  int found = -1;
  if (fds == NULL || watches == NULL) {
    tm_error_set(err, TM_EMEMORY, "out of memory");
  } else {
    watched(procs, count, fds, watches);
    fds[n] = (struct pollfd){.fd = tm_cancel_fd(tm_interrupt()), .events = POLLIN};
    found = wait_any(fds, n + 1, timeout_ms, err);
  }
  if (found > 0) {
    found = 0;
    for (size_t i = 0; i < n && (size_t)found < max; i++)
      if (fds[i].revents != 0)
        events[found++] = (struct tm_proc_event){watches[i].index, watches[i].fd};
  }
  free(fds);
  free(watches);
  return found;
}

/* ---- everything it says ---- */

/* Reads once. False: *err set. At the end our pipe is closed. */
static bool gather(struct tm_proc *p, int fd, struct tm_buffer *out, size_t limit,
                   struct tm_error *err)
{
  if (!tm_buffer_reserve(out, 65536)) {
    tm_error_set(err, TM_EMEMORY, "out of memory");
    return false;
  }
  ssize_t n = tm_proc_read(p, fd, out->data + out->len, 65536, 0, err);
  if (n == 0)
    tm_proc_close_fd(p, fd);
  if (n > 0)
    out->len += (size_t)n;
  if (out->len > limit) {
    tm_error_set(err, TM_EDATA, "process %d wrote more than %zu bytes", (int)p->pid,
                 limit);
    return false;
  }
  return n >= 0 || n == TM_PROC_TIMEOUT;
}

bool tm_proc_collect(struct tm_proc *p, struct tm_buffer out[2], size_t limit,
                     int64_t timeout_ms, struct tm_proc_status *status,
                     struct tm_error *err)
{
  int64_t deadline = tm_clock_deadline(timeout_ms);
  for (;;) {
    int64_t left = tm_clock_left(deadline);
    struct tm_proc_event events[3];
    bool reading = p->fds[1] >= 0 || p->fds[2] >= 0;
    int n = reading ? tm_proc_poll(&p, 1, left, events, 3, err)
                    : tm_proc_wait(p, left, status, err);
    if (n < 0 || (n > 0 && !reading))
      return n > 0;
    if (n == 0) {
      tm_error_set(err, TM_ETIMEOUT, "process %d still runs after %lld ms", (int)p->pid,
                   (long long)timeout_ms);
      return false;
    }
    for (int i = 0; i < n; i++) {
      int fd = events[i].fd;
      if (fd < 0)
        reap(p, WNOHANG);
      else if ((fd == 1 || fd == 2) && !gather(p, fd, &out[fd - 1], limit, err))
        return false;
    }
  }
}
