/*
** rate.h: a pace in bytes a second that several streams share, and the stage that keeps it
**
** A token bucket that may owe: whoever comes takes what he wants and waits until it is earned.
** So slabs of any size pass, in the order in which they came, and the streams together never
** exceed the rate for longer than the burst lasts.
*/
#ifndef TM_STREAM_RATE_H
#define TM_STREAM_RATE_H

#include "stream/stream.h"

struct tm_rate;

/* `burst` is the bytes that may pass at once after a pause; 0: a quarter of a second's. The
** bucket is full at birth. NULL: TM_EUSAGE for no bytes a second, TM_EMEMORY. */
struct tm_rate *tm_rate_new(uint64_t bytes_per_second, uint64_t burst,
                            struct tm_error *err);

/* No stage of it may be left. NULL is fine. */
void tm_rate_free(struct tm_rate *rate);

/* Takes `bytes` at the time `now_us` (microseconds of a clock that never jumps) and returns
** for how many microseconds to wait before they may pass. Any thread. */
uint64_t tm_rate_take(struct tm_rate *rate, uint64_t bytes, int64_t now_us);

/* A stage that holds each slab until its bytes, as they were before compression, are earned.
** `rate` must outlive it. NULL: TM_EMEMORY, TM_ESYSTEM. */
struct tm_stage *tm_rate_stage(struct tm_rate *rate, struct tm_error *err);

#endif
