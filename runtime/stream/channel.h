/*
** channel.h: a bounded queue of slabs between a stream's threads and one that must not block
**
** The caller's side waits for a descriptor in its own event loop (a database's backend waits
** for its latch as well) and then tries; the other side is a sink or a source that a pump
** runs in a thread. A channel has one direction: the thread side is either a sink, and the
** caller gets, or a source, and the caller puts.
**
**   reading:  [source -> stages -> tm_channel_sink] -> tm_channel_try_get
**   writing:  tm_channel_try_put -> [tm_channel_source -> stages -> sink]
**
** A failure on either side ends both, and what is left in the channel is dropped; it can
** never be taken for an end. The first error is kept.
*/
#ifndef TM_STREAM_CHANNEL_H
#define TM_STREAM_CHANNEL_H

#include "stream/stream.h"

struct tm_channel;

/* A channel that holds at most `slabs` (at least 1). NULL: TM_EMEMORY, TM_ESYSTEM (no
** descriptor left). */
struct tm_channel *tm_channel_new(size_t slabs, struct tm_error *err);

/* Gives up the caller's side: the thread side, if it is still open, fails with TM_ECANCELED.
** Memory goes when both sides are closed, in any order. NULL is fine. */
void tm_channel_free(struct tm_channel *ch);

/* ---- the thread side; one of them, once; owned by whoever runs it (a pump's caller) ---- */

/* write blocks while the channel is full; finish is the end, after which all that was written
** can be got, whatever becomes of the sink; abort fails the channel with TM_ECANCELED and the
** reason. */
struct tm_sink *tm_channel_sink(struct tm_channel *ch);

/* read blocks while the channel is empty and not ended; close before the end fails the
** channel. */
struct tm_source *tm_channel_source(struct tm_channel *ch);

/* ---- the caller's side: never blocks; one thread, but tm_channel_fail any ---- */

/* An eventfd, for poll only: readable unless the last try said TM_CHANNEL_WAIT and nothing
** has happened since. So trying, and waiting after TM_CHANNEL_WAIT, misses nothing. */
int tm_channel_fd(const struct tm_channel *ch);

enum tm_channel_result {
  TM_CHANNEL_OK,
  TM_CHANNEL_WAIT, /* empty (get) or full (put): wait for the descriptor */
  TM_CHANNEL_END,  /* get: all has been got and the sink was finished; put: tm_channel_end
                     ** was called before */
  TM_CHANNEL_FAILED, /* *err is why, as far as the channel was told: when the thread side
                     ** failed, the whole error is the one of the pump (tm_background_join) */
};

/* *out is then the caller's. */
enum tm_channel_result tm_channel_try_get(struct tm_channel *ch, struct tm_slab **out,
                                          struct tm_error *err) TM_MUSTCHECK;

/* Gives the slab away when TM_CHANNEL_OK; else it is still the caller's. */
enum tm_channel_result tm_channel_try_put(struct tm_channel *ch, struct tm_slab *slab,
                                          struct tm_error *err) TM_MUSTCHECK;

/* No more will be put: the source ends when it has read what is left. */
void tm_channel_end(struct tm_channel *ch);

/* Ends both sides with this error, unless the channel has failed already. */
void tm_channel_fail(struct tm_channel *ch, const struct tm_error *why);

#endif
