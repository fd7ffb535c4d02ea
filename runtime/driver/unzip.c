/*
** unzip.c: decompressing gzip members and zstd frames (the second half of zip.h)
**
** A stream is at its START (nothing read), in the BODY of a member, BETWEEN two, in the zero
** PADDING after the last, or PLAIN: neither gzip nor zstd, handed through. For detection up to
** four bytes are kept in `peek` and then read like any others.
*/
#include <limits.h>
#include <stdlib.h>
#include <string.h>
#include <zlib.h>
#include <zstd.h>
#include <zstd_errors.h>

#include "driver/zip.h"
#include "driver/zip_isal.h"

enum state { START, BODY, BETWEEN, PADDING, PLAIN };
enum { PEEK = 4 };

struct tm_unzipper {
  enum tm_zip_kind kind; /* AUTO until it is known */
  bool detects;
  enum state state;
  struct tm_isal_inflate *isal; /* one of the three, made when the kind is known */
  z_stream zlib;
  bool zlib_open;
  ZSTD_DCtx *zstd;
  enum tm_gzip_engine engine;
  int window_log_max;
  char peek[PEEK];
  size_t peek_len, peek_pos;
  uint64_t offset; /* compressed bytes read */
};

static bool no_memory(struct tm_error *err)
{
  tm_error_set(err, TM_EMEMORY, "out of memory");
  return false;
}

static bool open_codec(struct tm_unzipper *u, struct tm_error *err)
{
  if (u->kind == TM_ZIP_ZSTD) {
    u->zstd = ZSTD_createDCtx();
    if (u->zstd == NULL)
      return no_memory(err);
    size_t rc = ZSTD_DCtx_setParameter(u->zstd, ZSTD_d_windowLogMax, u->window_log_max);
    if (ZSTD_isError(rc))
      tm_error_set(err, TM_EUSAGE, "zstd window log %d: %s", u->window_log_max,
                   ZSTD_getErrorName(rc));
    return !ZSTD_isError(rc);
  }
  if (u->engine == TM_GZIP_ZLIB || (u->engine == TM_GZIP_ANY && !tm_isal_fast())) {
    u->zlib_open = inflateInit2(&u->zlib, 15 + 16) == Z_OK;
    return u->zlib_open || no_memory(err);
  }
  u->isal = tm_isal_inflate_new();
  return u->isal != NULL || no_memory(err);
}

struct tm_unzipper *tm_unzipper_new(const struct tm_zip_opts *opts, struct tm_error *err)
{
  struct tm_unzipper *u = calloc(1, sizeof *u);
  if (u == NULL) {
    no_memory(err);
    return NULL;
  }
  u->kind = opts->kind;
  u->detects = opts->kind == TM_ZIP_AUTO;
  u->engine = opts->engine;
  u->window_log_max =
      opts->window_log_max > 0 ? opts->window_log_max : TM_ZSTD_WINDOW_LOG_MAX;
  if (u->detects || open_codec(u, err))
    return u;
  tm_unzipper_free(u);
  return NULL;
}

void tm_unzipper_free(struct tm_unzipper *u)
{
  if (u == NULL)
    return;
  tm_isal_inflate_free(u->isal);
  if (u->zlib_open)
    inflateEnd(&u->zlib);
  ZSTD_freeDCtx(u->zstd);
  free(u);
}

static bool corrupt(struct tm_unzipper *u, struct tm_error *err, const char *what)
{
  tm_error_set(err, TM_EDATA, "%s data is corrupt at byte %llu: %s",
               u->kind == TM_ZIP_ZSTD ? "zstd" : "gzip", (unsigned long long)u->offset,
               what);
  return false;
}

/* ---- one step of each codec: moves io on ---- */

static void begin_gzip(struct tm_unzipper *u)
{
  if (u->isal != NULL)
    tm_isal_inflate_begin(u->isal);
  else
    inflateReset(&u->zlib);
  u->state = BODY;
}

static bool zlib_step(struct tm_unzipper *u, struct tm_isal_io *io, const char **what)
{
  z_stream *z = &u->zlib;
  uInt in = io->in_len < INT_MAX ? (uInt)io->in_len : INT_MAX;
  uInt out = io->out_len < INT_MAX ? (uInt)io->out_len : INT_MAX;
  z->next_in = (Bytef *)io->in;
  z->avail_in = in;
  z->next_out = (Bytef *)io->out;
  z->avail_out = out;
  int rc = inflate(z, Z_NO_FLUSH);
  io->in += in - z->avail_in;
  io->in_len -= in - z->avail_in;
  io->out += out - z->avail_out;
  io->out_len -= out - z->avail_out;
  io->finished = rc == Z_STREAM_END;
  *what = z->msg != NULL ? z->msg : "invalid data";
  return rc == Z_OK || rc == Z_STREAM_END || rc == Z_BUF_ERROR;
}

static bool gzip_step(struct tm_unzipper *u, struct tm_isal_io *io, struct tm_error *err)
{
  const char *what = "";
  if (io->in_len > 0 && (u->state == START || (u->state == BETWEEN && io->in[0] == 0x1f)))
    begin_gzip(u);
  if (u->state == BETWEEN && io->in_len > 0)
    u->state = PADDING;
  if (u->state == PADDING) {
    size_t n = 0;
    while (n < io->in_len && io->in[n] == 0)
      n++;
    io->in += n;
    io->in_len -= n;
    if (io->in_len == 0)
      return true;
    u->offset += n;
    return corrupt(u, err, "what follows the last gzip member is not another one");
  }
  if (u->state != BODY)
    return true;
  size_t before = io->in_len;
  bool ok =
      u->isal != NULL ? tm_isal_inflate_run(u->isal, io, &what) : zlib_step(u, io, &what);
  if (ok && io->finished)
    u->state = BETWEEN;
  if (ok)
    return true;
  u->offset += before - io->in_len;
  return corrupt(u, err, what);
}

static bool zstd_step(struct tm_unzipper *u, struct tm_isal_io *io, struct tm_error *err)
{
  ZSTD_inBuffer in = {.src = io->in, .size = io->in_len};
  ZSTD_outBuffer out = {.dst = io->out, .size = io->out_len};
  if (io->in_len == 0 && u->state != BODY)
    return true;
  size_t left = ZSTD_decompressStream(u->zstd, &out, &in);
  if (ZSTD_isError(left)) {
    u->offset += in.pos;
    if (ZSTD_getErrorCode(left) != ZSTD_error_frameParameter_windowTooLarge)
      return corrupt(u, err, ZSTD_getErrorName(left));
    tm_error_set(err, TM_EDATA, "zstd data needs a window above the limit of %d MiB",
                 1 << (u->window_log_max - 20));
    tm_error_hint(err, "compress it without --ultra and --long, or raise window_log");
    return false;
  }
  io->in += in.pos;
  io->in_len -= in.pos;
  io->out += out.pos;
  io->out_len -= out.pos;
  u->state = left == 0 ? BETWEEN : BODY;
  return true;
}

static void plain_step(struct tm_isal_io *io)
{
  size_t n = io->in_len < io->out_len ? io->in_len : io->out_len;
  memcpy(io->out, io->in, n);
  io->in += n;
  io->in_len -= n;
  io->out += n;
  io->out_len -= n;
}

static bool step(struct tm_unzipper *u, struct tm_isal_io *io, struct tm_error *err)
{
  size_t before = io->in_len;
  bool ok = true;
  if (u->state == PLAIN)
    plain_step(io);
  else
    ok = u->kind == TM_ZIP_ZSTD ? zstd_step(u, io, err) : gzip_step(u, io, err);
  if (ok)
    u->offset += before - io->in_len;
  return ok;
}

/* ---- detection ---- */

/* Whether the first n bytes may be this magic (RFC 1952 2.3.1, RFC 8878 3.1.1 and 3.1.2). */
static bool like_gzip(const unsigned char *p, size_t n)
{
  static const unsigned char magic[] = {0x1f, 0x8b};
  return memcmp(p, magic, n < 2 ? n : 2) == 0;
}

static bool like_zstd(const unsigned char *p, size_t n)
{
  static const unsigned char frame[] = {0x28, 0xb5, 0x2f, 0xfd};
  static const unsigned char skippable[] = {0x50, 0x2a, 0x4d, 0x18};
  if (memcmp(p, frame, n) == 0)
    return true;
  return (p[0] & 0xf0) == skippable[0] && memcmp(p + 1, skippable + 1, n - 1) == 0;
}

/* Reads into `peek` until the kind is known, or (no input: the end) must be PLAIN. */
static bool detect(struct tm_unzipper *u, const char **in, size_t *in_len,
                   struct tm_error *err)
{
  const unsigned char *p = (const unsigned char *)u->peek;
  bool ended = *in_len == 0;
  while (u->kind == TM_ZIP_AUTO && u->state == START && *in_len > 0) {
    u->peek[u->peek_len++] = *(*in)++;
    (*in_len)--;
    if (like_gzip(p, u->peek_len)) {
      if (u->peek_len >= 2)
        u->kind = TM_ZIP_GZIP;
    } else if (!like_zstd(p, u->peek_len)) {
      u->state = PLAIN;
    } else if (u->peek_len == PEEK) {
      u->kind = TM_ZIP_ZSTD;
    }
  }
  if (ended && u->peek_len > 0)
    u->state = PLAIN;
  return u->kind == TM_ZIP_AUTO || open_codec(u, err);
}

/* ---- the whole ---- */

ptrdiff_t tm_unzipper_run(struct tm_unzipper *u, const char **in, size_t *in_len,
                          char *out, size_t cap, struct tm_error *err)
{
  struct tm_isal_io io = {.out = out, .out_len = cap};
  if (u->kind == TM_ZIP_AUTO && u->state == START && !detect(u, in, in_len, err))
    return -1;
  if (u->kind == TM_ZIP_AUTO && u->state == START)
    return 0; /* not known yet */
  for (;;) {
    bool peeked = u->peek_pos < u->peek_len;
    io.in = peeked ? u->peek + u->peek_pos : *in;
    io.in_len = peeked ? u->peek_len - u->peek_pos : *in_len;
    size_t before = io.in_len, room = io.out_len;
    if (!step(u, &io, err))
      return -1;
    size_t used = before - io.in_len;
    if (peeked) {
      u->peek_pos += used;
    } else {
      *in = io.in;
      *in_len = io.in_len;
    }
    if (io.out_len == 0 || (used == 0 && room == io.out_len))
      return (ptrdiff_t)(cap - io.out_len);
  }
}

bool tm_unzipper_end(struct tm_unzipper *u, struct tm_error *err)
{
  const char *name = u->kind == TM_ZIP_ZSTD ? "zstd" : "gzip";
  if (u->state == BODY) {
    tm_error_set(err, TM_EDATA, "%s data ends too early, after %llu bytes", name,
                 (unsigned long long)u->offset);
    tm_error_hint(err, "the object was cut off; write or fetch it again");
    return false;
  }
  if (u->offset == 0 && !u->detects) {
    tm_error_set(err, TM_EDATA, "no %s data: the input is empty", name);
    return false;
  }
  return true;
}
