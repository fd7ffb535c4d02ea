/*
** proc.h: child processes, their pipes, their end and what they used
**
** A child is started with exactly the descriptors it was given, in a process group of its
** own if asked, and dies with the thread that started it (PR_SET_PDEATHSIG) if asked. It is
** watched through a pidfd, so no SIGCHLD is caught and other code's children are left alone.
** A struct tm_proc belongs to one thread. Closing one kills and reaps what still runs.
*/
#ifndef TM_DRIVER_PROC_H
#define TM_DRIVER_PROC_H

#include <stdint.h>
#include <sys/types.h>

#include "base/buffer.h"
#include "base/cancel.h"

enum { TM_PROC_FDS = 16 }; /* a child's descriptors 0 to 15 can be given */

enum tm_proc_use {
  TM_PROC_CLOSED,  /* the child does not have it */
  TM_PROC_INHERIT, /* ours, under the same number */
  TM_PROC_NULL,    /* /dev/null */
  TM_PROC_READ,    /* a pipe that we read and the child writes */
  TM_PROC_WRITE,   /* a pipe that we write and the child reads */
  TM_PROC_BYTES,   /* a file in memory with `input`: nobody has to feed it */
};

struct tm_proc_options {
  const char *const *argv; /* argv[0] is looked up in PATH unless it has a slash */
  const char *const *envp; /* "NAME=value", or NULL: ours */
  const char *cwd;         /* or NULL: ours */
  enum tm_proc_use use[TM_PROC_FDS];
  const char *input; /* for TM_PROC_BYTES; one descriptor at most */
  size_t input_len;
  bool group;       /* a new process group: kill reaches all of it, and what is left of it
                       is killed when the child ends */
  int death_signal; /* sent to the child when the thread that started it ends; 0: none */
};

struct tm_proc_status {
  int code;   /* exit code, or -1 when a signal ended it */
  int signal; /* the signal that ended it, or 0 */
  double user_s, system_s;
  int64_t max_rss_bytes; /* peak resident memory */
};

struct tm_proc;

/* Starts a child. NULL: TM_ENOTFOUND (no such program or directory), TM_ESYSTEM. The options are
** only read during the call. */
struct tm_proc *tm_proc_spawn(const struct tm_proc_options *options, struct tm_error *err)
    TM_MUSTCHECK;

/* Kills (SIGKILL) and reaps the child if it still runs, closes the pipes. NULL is fine. */
void tm_proc_close(struct tm_proc *p);

pid_t tm_proc_pid(const struct tm_proc *p);

/* Closes our end of the child's descriptor `fd`: the child reads the end of its input, or gets
** SIGPIPE. */
void tm_proc_close_fd(struct tm_proc *p, int fd);

enum { TM_PROC_TIMEOUT = -2 };

/* Reads what is there, at most `size` bytes. Returns the count, 0 at the end, -1 with *err
** set, TM_PROC_TIMEOUT. timeout_ms < 0: no limit. */
ssize_t tm_proc_read(struct tm_proc *p, int fd, char *bytes, size_t size,
                     int64_t timeout_ms, struct tm_error *err) TM_MUSTCHECK;

/* Writes all of it. False: TM_EIO (the child closed its end), TM_ETIMEOUT, TM_ECANCELED. */
bool tm_proc_write(struct tm_proc *p, int fd, const char *bytes, size_t len,
                   int64_t timeout_ms, struct tm_error *err) TM_MUSTCHECK;

/* Waits for the end. 1: *status filled (as often as asked), 0: still running, -1: *err set. */
int tm_proc_wait(struct tm_proc *p, int64_t timeout_ms, struct tm_proc_status *status,
                 struct tm_error *err) TM_MUSTCHECK;

/* Sends a signal to the child, or to its group. True also when it has ended already. */
bool tm_proc_kill(struct tm_proc *p, int signal, struct tm_error *err) TM_MUSTCHECK;

/* Reads the child's descriptors 1 and 2 (those that are pipes) to their end, then waits. False
** with TM_ETIMEOUT, TM_ECANCELED, or TM_EDATA when one passed `limit` bytes: the child
** then still runs. */
bool tm_proc_collect(struct tm_proc *p, struct tm_buffer out[2], size_t limit,
                     int64_t timeout_ms, struct tm_proc_status *status,
                     struct tm_error *err) TM_MUSTCHECK;

/* What tm_proc_poll found. */
struct tm_proc_event {
  size_t index; /* of the child in `procs` */
  int fd;       /* the child's descriptor that can be read, or -1: the child has ended */
};

/* Waits until any of the children has something to read or has ended; NULL entries are
** skipped. Fills at most `max` events and returns their number, 0 on timeout, -1 with
** TM_ECANCELED (the process was interrupted) or TM_ESYSTEM. A child is reported as ended
** until tm_proc_wait has seen it. */
int tm_proc_poll(struct tm_proc *const *procs, size_t count, int64_t timeout_ms,
                 struct tm_proc_event *events, size_t max, struct tm_error *err)
    TM_MUSTCHECK;

#endif
