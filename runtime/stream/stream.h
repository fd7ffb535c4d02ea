/*
** stream.h: what rows flow through: slabs, sources, stages, sinks, and the pump
**
** A slab is a run of bytes that holds whole rows (unless a source cannot know rows). It
** has one owner; passing it on gives it away, always, also when the call fails.
** A source is read until its end; a stage turns slabs into slabs; a sink takes slabs and
** is then either finished or aborted. An error is never taken for an end: a source says
** "end" only after the far side confirmed that nothing is missing, and after any error the
** pump aborts the sink.
** Each of them is used by one thread at a time; only cancel may come from another one.
*/
#ifndef TM_STREAM_STREAM_H
#define TM_STREAM_STREAM_H

#include <stdint.h>

#include "base/cancel.h"

enum { TM_SLAB_BYTES = 256 * 1024 }; /* what a source gathers before it hands on */

struct tm_slab {
  char *data;
  size_t len, cap;
  uint64_t rows;      /* rows that end in this slab */
  uint64_t raw_bytes; /* what len was before compression; set by tm_slab_new's user */
};

/* NULL: out of memory (err set). */
struct tm_slab *tm_slab_new(size_t cap, struct tm_error *err);
bool tm_slab_reserve(struct tm_slab *s, size_t more, struct tm_error *err) TM_MUSTCHECK;
bool tm_slab_add(struct tm_slab *s, const void *bytes, size_t n, struct tm_error *err)
    TM_MUSTCHECK;
void tm_slab_free(struct tm_slab *s); /* NULL is fine */
void tm_slab_drop(void *slab);        /* the same, for queues */

/* ---- sources: embed struct tm_source first in your own struct ---- */

struct tm_source;
struct tm_source_ops {
  const char *name;
  /* 1: *out is a slab, now the caller's. 0: the end. -1: *err set; read no more. */
  int (*read)(struct tm_source *self, struct tm_slab **out, struct tm_error *err);
  /* Makes a read that blocks, and later ones, fail soon with TM_ECANCELED. Any thread. */
  void (*cancel)(struct tm_source *self);
  /* Releases everything, self included. Stops what is still under way at the far side. */
  void (*close)(struct tm_source *self);
};
struct tm_source {
  const struct tm_source_ops *ops;
};

/* ---- stages ---- */

struct tm_emit; /* where a stage's output goes */

/* Gives `slab` to whatever comes next. False: stop, *err set. */
bool tm_emit(struct tm_emit *out, struct tm_slab *slab, struct tm_error *err)
    TM_MUSTCHECK;

struct tm_stage;
struct tm_stage_ops {
  const char *name;
  bool on_caller; /* must run in the thread that called the pump (it runs Lua) */
  /* Takes `in`; NULL is the end of the data: emit what is left. */
  bool (*push)(struct tm_stage *self, struct tm_slab *in, struct tm_emit *out,
               struct tm_error *err);
  void (*cancel)(struct tm_stage *self); /* may be NULL */
  void (*close)(struct tm_stage *self);
};
struct tm_stage {
  const struct tm_stage_ops *ops;
};

/* ---- sinks ---- */

struct tm_sink;
struct tm_sink_ops {
  const char *name;
  bool (*write)(struct tm_sink *self, struct tm_slab *slab, struct tm_error *err);
  /* Makes what was written count (COPY end, object complete). Once, then only close. */
  bool (*finish)(struct tm_sink *self, struct tm_error *err);
  /* Makes nothing of it count: COPY ends with an error, uploads are aborted. `why` is
  ** told to the far side where it has a place for it. */
  void (*abort)(struct tm_sink *self, const char *why);
  void (*cancel)(struct tm_sink *self); /* as a source's */
  void (*close)(struct tm_sink *self);  /* aborts first if neither came */
};
struct tm_sink {
  const struct tm_sink_ops *ops;
};

/* NULL-safe. */
void tm_source_close(struct tm_source *source);
void tm_stage_close(struct tm_stage *stage);
void tm_sink_close(struct tm_sink *sink);

/* ---- the pump ---- */

struct tm_pump_stats {
  uint64_t rows_in, bytes_in;   /* as read from the source */
  uint64_t rows_out, bytes_out; /* as given to the sink */
};

struct tm_pump_opts {
  size_t queue_slabs; /* slabs between two threads; 0: 4 */
  /* Called from the caller's thread about every `interval_ms` (0: 250); may be NULL.
  ** False with *err set stops the stream. */
  bool (*progress)(void *data, const struct tm_pump_stats *stats, struct tm_error *err);
  void *data;
  int interval_ms;
};

/*
** Moves everything from `source` through `stages[0..count-1]` into `sink` and finishes
** the sink; on any failure, or when the process is interrupted, aborts it. The source and
** each stage run in threads of their own with bounded queues between, so a slow sink slows
** the source; an on_caller stage (at most one) or else the sink runs in the caller's thread.
** All threads have ended when it returns. Closes nothing: what was passed in is the
** caller's still. `stats` (may be NULL) is filled in either case.
*/
bool tm_pump(struct tm_source *source, struct tm_stage *const *stages, size_t count,
             struct tm_sink *sink, const struct tm_pump_opts *opts,
             struct tm_pump_stats *stats, struct tm_error *err) TM_MUSTCHECK;

#endif
