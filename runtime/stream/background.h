/*
** background.h: a pump in a thread of its own
**
** For a caller that must not block: it starts the stream, exchanges slabs with it through a
** channel (or nothing at all), waits for tm_background_done_fd in its own event loop and then
** joins. When the channel fails, the stream is ending: wait for the descriptor (an abort may
** talk to a store for some seconds), join, and take the error of the join.
*/
#ifndef TM_STREAM_BACKGROUND_H
#define TM_STREAM_BACKGROUND_H

#include "stream/stream.h"

struct tm_background;

/* Starts tm_pump with these arguments, all of which are given away (the array of stages is
** copied): they are closed by tm_background_free, or here when it fails. What `opts` points
** to must live as long; its progress is called from the thread. NULL: TM_EMEMORY,
** TM_ESYSTEM. */
struct tm_background *tm_background_start(struct tm_source *source,
                                          struct tm_stage *const *stages, size_t count,
                                          struct tm_sink *sink,
                                          const struct tm_pump_opts *opts,
                                          struct tm_error *err);

/* An eventfd, for poll only: readable once the pump has ended, from then on. */
int tm_background_done_fd(const struct tm_background *b);

/* Waits for the end and tells how it went, as tm_pump does; may be called again. Source,
** stages and sink can then be asked for their results until tm_background_free. `stats` may
** be NULL. */
bool tm_background_join(struct tm_background *b, struct tm_pump_stats *stats,
                        struct tm_error *err) TM_MUSTCHECK;

/* Makes the stream fail soon with TM_ECANCELED, unless it has ended. Any thread. */
void tm_background_cancel(struct tm_background *b);

/* Cancels, joins and gives source, stages and sink back to the caller, to be asked and closed
** by him. NULL is fine. */
void tm_background_release(struct tm_background *b);

/* Cancels, joins and closes everything. NULL is fine. */
void tm_background_free(struct tm_background *b);

#endif
