/*
** zip_isal.c: ISA-L's gzip
*/
#include "driver/zip_isal.h"

#include <limits.h>
#include <stdlib.h>

#if defined(__x86_64__) || defined(__aarch64__)

#include <isa-l/igzip_lib.h>

struct tm_isal_deflate {
  struct isal_zstream stream;
  int level;
  uint8_t *work;
  uint32_t work_size;
};

struct tm_isal_inflate {
  struct inflate_state state;
};

bool tm_isal_fast(void)
{
  return true;
}

static uint32_t work_size(int level)
{
  static const uint32_t sizes[] = {0, ISAL_DEF_LVL1_DEFAULT, ISAL_DEF_LVL2_DEFAULT,
                                   ISAL_DEF_LVL3_DEFAULT};
  return sizes[level];
}

struct tm_isal_deflate *tm_isal_deflate_new(int level)
{
  struct tm_isal_deflate *d = calloc(1, sizeof *d);
  if (d == NULL)
    return NULL;
  d->level = level;
  d->work_size = work_size(level);
  d->work = malloc(d->work_size);
  if (d->work == NULL) {
    free(d);
    return NULL;
  }
  return d;
}

void tm_isal_deflate_free(struct tm_isal_deflate *d)
{
  if (d == NULL)
    return;
  free(d->work);
  free(d);
}

void tm_isal_deflate_begin(struct tm_isal_deflate *d)
{
  isal_deflate_init(&d->stream);
  d->stream.level = (uint32_t)d->level;
  d->stream.level_buf = d->work;
  d->stream.level_buf_size = d->work_size;
  d->stream.gzip_flag = IGZIP_GZIP;
}

static uint32_t piece(size_t n)
{
  return n < INT_MAX ? (uint32_t)n : INT_MAX;
}

bool tm_isal_deflate_run(struct tm_isal_deflate *d, struct tm_isal_io *io, bool last,
                         struct tm_error *err)
{
  struct isal_zstream *s = &d->stream;
  uint32_t in = piece(io->in_len), out = piece(io->out_len);
  s->next_in = (uint8_t *)io->in;
  s->avail_in = in;
  s->next_out = (uint8_t *)io->out;
  s->avail_out = out;
  s->end_of_stream = last && in == io->in_len;
  s->flush = NO_FLUSH;
  int rc = isal_deflate(s);
  if (rc != COMP_OK) {
    tm_error_set(err, TM_EDATA, "gzip: the compressor failed (%d)", rc);
    return false;
  }
  io->in += in - s->avail_in;
  io->in_len -= in - s->avail_in;
  io->out += out - s->avail_out;
  io->out_len -= out - s->avail_out;
  io->finished = s->internal_state.state == ZSTATE_END;
  return true;
}

struct tm_isal_inflate *tm_isal_inflate_new(void)
{
  return calloc(1, sizeof(struct tm_isal_inflate));
}

void tm_isal_inflate_free(struct tm_isal_inflate *i)
{
  free(i);
}

void tm_isal_inflate_begin(struct tm_isal_inflate *i)
{
  isal_inflate_init(&i->state);
  i->state.crc_flag = ISAL_GZIP;
}

static const char *reason(int rc)
{
  switch (rc) {
  case ISAL_INVALID_BLOCK:
    return "invalid block";
  case ISAL_INVALID_SYMBOL:
    return "invalid symbol";
  case ISAL_INVALID_LOOKBACK:
    return "invalid distance";
  case ISAL_INVALID_WRAPPER:
    return "invalid header";
  case ISAL_UNSUPPORTED_METHOD:
    return "unknown compression method";
  case ISAL_INCORRECT_CHECKSUM:
    return "checksum or length differs";
  default:
    return "invalid data";
  }
}

bool tm_isal_inflate_run(struct tm_isal_inflate *i, struct tm_isal_io *io,
                         const char **what)
{
  struct inflate_state *s = &i->state;
  uint32_t in = piece(io->in_len), out = piece(io->out_len);
  s->next_in = (uint8_t *)io->in;
  s->avail_in = in;
  s->next_out = (uint8_t *)io->out;
  s->avail_out = out;
  int rc = isal_inflate(s);
  io->in += in - s->avail_in;
  io->in_len -= in - s->avail_in;
  io->out += out - s->avail_out;
  io->out_len -= out - s->avail_out;
  io->finished = s->block_state == ISAL_BLOCK_FINISH;
  *what = reason(rc);
  return rc >= 0 && rc != ISAL_NEED_DICT;
}

#else

bool tm_isal_fast(void)
{
  return false;
}

struct tm_isal_deflate *tm_isal_deflate_new(int level)
{
  (void)level;
  return NULL;
}

void tm_isal_deflate_free(struct tm_isal_deflate *d)
{
  (void)d;
}

void tm_isal_deflate_begin(struct tm_isal_deflate *d)
{
  (void)d;
}

bool tm_isal_deflate_run(struct tm_isal_deflate *d, struct tm_isal_io *io, bool last,
                         struct tm_error *err)
{
  (void)d;
  (void)io;
  (void)last;
  tm_error_set(err, TM_EUSAGE, "ISA-L is not available on this machine");
  return false;
}

struct tm_isal_inflate *tm_isal_inflate_new(void)
{
  return NULL;
}

void tm_isal_inflate_free(struct tm_isal_inflate *i)
{
  (void)i;
}

void tm_isal_inflate_begin(struct tm_isal_inflate *i)
{
  (void)i;
}

bool tm_isal_inflate_run(struct tm_isal_inflate *i, struct tm_isal_io *io,
                         const char **what)
{
  (void)i;
  (void)io;
  *what = "ISA-L is not available on this machine";
  return false;
}

#endif
