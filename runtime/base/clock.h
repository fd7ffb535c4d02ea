/*
** clock.h: the two clocks, and waiting that can be cancelled
*/
#ifndef TM_BASE_CLOCK_H
#define TM_BASE_CLOCK_H

#include <stdint.h>

#include "base/cancel.h"

/* Milliseconds of a clock that never jumps; for deadlines and durations. */
int64_t tm_clock_mono_ms(void);

/* Milliseconds since 1970-01-01 UTC; for people and protocols. */
int64_t tm_clock_wall_ms(void);

/* A deadline is a tm_clock_mono_ms() to be, or -1 for none: made from a timeout (negative:
** none), and asked what is left of it: 0 once it has passed, -1 when there is none. */
int64_t tm_clock_deadline(int64_t timeout_ms);
int64_t tm_clock_left(int64_t deadline);

/* Sleeps; false with TM_ECANCELED when `cancel` (may be NULL) or the process's
** interrupt fires first. */
bool tm_clock_sleep(int64_t ms, const struct tm_cancel *cancel, struct tm_error *err)
    TM_MUSTCHECK;

/* Waits until `fd` is ready for `events` (POLLIN, POLLOUT), or `timeout_ms` passed
** (negative: no limit). Returns the revents (> 0), 0 on timeout, -1 with
** TM_ECANCELED or TM_ESYSTEM. */
int tm_clock_poll(int fd, short events, int64_t timeout_ms,
                  const struct tm_cancel *cancel, struct tm_error *err) TM_MUSTCHECK;

/* As tm_clock_poll, but the process's interrupt does not end it: for a thread that must go on
** while the process ends what it does. */
int tm_clock_poll_on(int fd, short events, int64_t timeout_ms,
                     const struct tm_cancel *cancel, struct tm_error *err) TM_MUSTCHECK;

/* Backoff with full jitter: a random time in [0, min(base * 2^attempt, cap)] ms;
** attempt counts from 0. */
int64_t tm_clock_backoff_ms(int attempt, int64_t base_ms, int64_t cap_ms);

#endif
