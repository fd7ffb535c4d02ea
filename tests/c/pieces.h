/*
** pieces.h: bytes in memory as a source of small pieces, and a sink that drops what it gets
*/
#ifndef TM_TESTS_PIECES_H
#define TM_TESTS_PIECES_H

#include "stream/stream.h"

struct pieces {
  struct tm_source base;
  const char *bytes;
  size_t len, at, piece;
};

static inline int pieces_read(struct tm_source *self, struct tm_slab **out,
                              struct tm_error *err)
{
  struct pieces *p = (struct pieces *)self;
  size_t n = p->len - p->at < p->piece ? p->len - p->at : p->piece;
  if (n == 0)
    return 0;
  *out = tm_slab_new(n, err);
  if (*out == NULL || !tm_slab_add(*out, p->bytes + p->at, n, err))
    return -1;
  p->at += n;
  return 1;
}

static inline bool drop_write(struct tm_sink *self, struct tm_slab *slab,
                              struct tm_error *err)
{
  (void)self;
  (void)err;
  tm_slab_free(slab);
  return true;
}

static inline bool drop_finish(struct tm_sink *self, struct tm_error *err)
{
  (void)self;
  (void)err;
  return true;
}

static inline void drop_abort(struct tm_sink *self, const char *why)
{
  (void)self;
  (void)why;
}

static const struct tm_sink_ops drop_ops = {
    .name = "drop", .write = drop_write, .finish = drop_finish, .abort = drop_abort};

/* Moves the bytes through a stage, `piece` at a time. */
static inline bool pump_pieces(struct tm_stage *stage, const char *bytes, size_t len,
                               size_t piece, struct tm_error *err)
{
  static const struct tm_source_ops pieces_ops = {.name = "pieces", .read = pieces_read};
  struct pieces source = {{&pieces_ops}, bytes, len, 0, piece};
  struct tm_sink sink = {&drop_ops};
  return tm_pump(&source.base, &stage, 1, &sink, NULL, NULL, err);
}

#endif
