/*
** cancel.c: a flag that also wakes whoever waits in poll
*/
#include "base/cancel.h"

#include <errno.h>
#include <signal.h>
#include <stdint.h>
#include <sys/eventfd.h>
#include <unistd.h>

/* The signal flag, and how a signal is to be taken. */
static struct tm_cancel interrupt = {.fd = -1};
static atomic_int signal_count;
static atomic_int signal_ending;
static atomic_bool signal_deferred;
static atomic_bool signal_prompt;
static atomic_uint signal_deadline;

bool tm_cancel_open(struct tm_cancel *c, struct tm_error *err)
{
  atomic_init(&c->fired, 0);
  c->fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
  if (c->fd < 0) {
    tm_error_errno(err, TM_ESYSTEM, errno, "cannot make an eventfd");
    return false;
  }
  return true;
}

void tm_cancel_close(struct tm_cancel *c)
{
  if (c->fd >= 0)
    close(c->fd);
  c->fd = -1;
}

void tm_cancel_fire(struct tm_cancel *c)
{
  int saved = errno;
  atomic_store(&c->fired, 1);
  uint64_t one = 1;
  if (c->fd >= 0 && write(c->fd, &one, sizeof one) < 0)
    atomic_store(&c->fired, 1); /* full means already readable: nothing to do */
  errno = saved;
}

bool tm_cancel_fired(const struct tm_cancel *c)
{
  return c != NULL && atomic_load(&c->fired) != 0;
}

int tm_cancel_fd(const struct tm_cancel *c)
{
  return c == NULL ? -1 : c->fd;
}

struct tm_cancel *tm_interrupt(void)
{
  return &interrupt;
}

bool tm_interrupt_start(struct tm_error *err)
{
  return tm_cancel_open(&interrupt, err);
}

void tm_interrupt_reset(void)
{
  uint64_t n;
  if (interrupt.fd >= 0 && read(interrupt.fd, &n, sizeof n) < 0)
    n = 0; /* it was not fired */
  atomic_store(&interrupt.fired, 0);
}

void tm_interrupt_signal(int number)
{
  if (number != SIGINT)
    atomic_store(&signal_ending, number);
  unsigned seconds = atomic_load(&signal_deadline);
  if (atomic_fetch_add(&signal_count, 1) == 0 && seconds > 0)
    alarm(seconds);
  tm_cancel_fire(&interrupt);
}

int tm_interrupt_count(void)
{
  return atomic_load(&signal_count);
}

void tm_interrupt_defer(bool on)
{
  atomic_store(&signal_deferred, on);
}

bool tm_interrupt_deferred(void)
{
  return atomic_load(&signal_deferred);
}

void tm_interrupt_prompt(bool on)
{
  atomic_store(&signal_prompt, on);
}

bool tm_interrupt_at_prompt(void)
{
  return atomic_load(&signal_prompt);
}

int tm_interrupt_ending(void)
{
  return atomic_load(&signal_ending);
}

void tm_interrupt_deadline(unsigned seconds)
{
  atomic_store(&signal_deadline, seconds);
}
