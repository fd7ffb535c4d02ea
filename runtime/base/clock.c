/*
** clock.c: the two clocks, and waiting that can be cancelled
*/
#include "base/clock.h"

#include <errno.h>
#include <limits.h>
#include <poll.h>
#include <sys/random.h>
#include <time.h>

static int64_t read_ms(clockid_t id)
{
  struct timespec ts;
  clock_gettime(id, &ts);
  return (int64_t)ts.tv_sec * 1000 + ts.tv_nsec / 1000000;
}

int64_t tm_clock_mono_ms(void)
{
  return read_ms(CLOCK_MONOTONIC);
}

int64_t tm_clock_wall_ms(void)
{
  return read_ms(CLOCK_REALTIME);
}

int64_t tm_clock_deadline(int64_t timeout_ms)
{
  return timeout_ms < 0 ? -1 : tm_clock_mono_ms() + timeout_ms;
}

int64_t tm_clock_left(int64_t deadline)
{
  if (deadline < 0)
    return -1;
  int64_t left = deadline - tm_clock_mono_ms();
  return left > 0 ? left : 0;
}

/* Either token may be NULL. */
static int wait_for(int fd, short events, int64_t timeout_ms,
                    const struct tm_cancel *interrupt, const struct tm_cancel *cancel,
                    struct tm_error *err)
{
  struct pollfd fds[3] = {
      {.fd = fd, .events = events}, /* poll skips negative descriptors */
      {.fd = tm_cancel_fd(interrupt), .events = POLLIN},
      {.fd = tm_cancel_fd(cancel), .events = POLLIN},
  };
  int64_t deadline = tm_clock_deadline(timeout_ms);
  for (;;) {
    int64_t left = tm_clock_left(deadline);
    int n = poll(fds, 3, left > INT_MAX ? INT_MAX : (int)left);
    if (n < 0 && errno != EINTR) {
      tm_error_errno(err, TM_ESYSTEM, errno, "poll");
      return -1;
    }
    if (tm_cancel_fired(interrupt) || tm_cancel_fired(cancel)) {
      tm_error_set(err, TM_ECANCELED, "cancelled");
      return -1;
    }
    if (n > 0 && fds[0].revents != 0)
      return fds[0].revents;
    if (n == 0 && deadline >= 0 && tm_clock_mono_ms() >= deadline)
      return 0;
  }
}

int tm_clock_poll(int fd, short events, int64_t timeout_ms,
                  const struct tm_cancel *cancel, struct tm_error *err)
{
  return wait_for(fd, events, timeout_ms, tm_interrupt(), cancel, err);
}

int tm_clock_poll_on(int fd, short events, int64_t timeout_ms,
                     const struct tm_cancel *cancel, struct tm_error *err)
{
  return wait_for(fd, events, timeout_ms, NULL, cancel, err);
}

bool tm_clock_sleep(int64_t ms, const struct tm_cancel *cancel, struct tm_error *err)
{
  return tm_clock_poll(-1, 0, ms < 0 ? 0 : ms, cancel, err) == 0;
}

int64_t tm_clock_backoff_ms(int attempt, int64_t base_ms, int64_t cap_ms)
{
  int64_t top = base_ms;
  while (attempt-- > 0 && top < cap_ms)
    top *= 2;
  if (top > cap_ms)
    top = cap_ms;
  uint32_t r = 0;
  if (getrandom(&r, sizeof r, 0) != (ssize_t)sizeof r)
    r = UINT32_MAX / 2;
  return (int64_t)((double)top * r / UINT32_MAX);
}
