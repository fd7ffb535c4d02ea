/*
** zip.c: compressing to gzip members and zstd frames
**
** gzip levels: 1 is ISA-L's 1, 2 and 3 its 2, 4 and 5 its 3 (its best, some five times
** faster than zlib at a like size); 6 to 9 are zlib's, for who wants size above all.
*/
#include "driver/zip.h"

#include <limits.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <zlib.h>
#include <zstd.h>

#include "driver/zip_isal.h"

enum {
  OUT_BYTES = 64 * 1024, /* room made for output at a time */
  GZIP_DEFAULT = 1,
  ZSTD_DEFAULT = 2,
  ZSTD_MAX = 19, /* above it a window may need more memory than a transfer has */
  ZSTD_WINDOW_LOG = 23
};

struct tm_zipper {
  struct tm_isal_deflate *isal; /* one of the three is used */
  z_stream zlib;
  bool zlib_open;
  ZSTD_CCtx *zstd;
};

bool tm_zip_kind_parse(const char *name, enum tm_zip_kind *kind)
{
  static const struct {
    const char *name;
    enum tm_zip_kind kind;
  } kinds[] = {{"auto", TM_ZIP_AUTO},
               {"gzip", TM_ZIP_GZIP},
               {"gz", TM_ZIP_GZIP},
               {"zstd", TM_ZIP_ZSTD},
               {"zst", TM_ZIP_ZSTD}};
  for (size_t i = 0; i < sizeof kinds / sizeof kinds[0]; i++)
    if (strcasecmp(name, kinds[i].name) == 0) {
      *kind = kinds[i].kind;
      return true;
    }
  return false;
}

static bool no_memory(struct tm_error *err)
{
  tm_error_set(err, TM_EMEMORY, "out of memory");
  return false;
}

static bool open_gzip(struct tm_zipper *z, int level, enum tm_gzip_engine engine,
                      struct tm_error *err)
{
  if (engine == TM_GZIP_ANY)
    engine = tm_isal_fast() && level <= 5 ? TM_GZIP_ISAL : TM_GZIP_ZLIB;
  if (engine == TM_GZIP_ISAL) {
    z->isal = tm_isal_deflate_new(level == 1 ? 1 : (level <= 3 ? 2 : 3));
    return z->isal != NULL || no_memory(err);
  }
  int rc = deflateInit2(&z->zlib, level, Z_DEFLATED, 15 + 16, 8, Z_DEFAULT_STRATEGY);
  z->zlib_open = rc == Z_OK;
  return z->zlib_open || no_memory(err);
}

static bool open_zstd(struct tm_zipper *z, int level, struct tm_error *err)
{
  z->zstd = ZSTD_createCCtx();
  if (z->zstd == NULL)
    return no_memory(err);
  size_t rc = ZSTD_CCtx_setParameter(z->zstd, ZSTD_c_compressionLevel, level);
  if (!ZSTD_isError(rc))
    rc = ZSTD_CCtx_setParameter(z->zstd, ZSTD_c_checksumFlag, 1);
  if (!ZSTD_isError(rc) && level >= ZSTD_MAX)
    rc = ZSTD_CCtx_setParameter(z->zstd, ZSTD_c_windowLog, ZSTD_WINDOW_LOG);
  if (!ZSTD_isError(rc))
    return true;
  tm_error_set(err, TM_EUSAGE, "zstd level %d: %s", level, ZSTD_getErrorName(rc));
  return false;
}

struct tm_zipper *tm_zipper_new(const struct tm_zip_opts *opts, struct tm_error *err)
{
  bool gzip = opts->kind == TM_ZIP_GZIP;
  if (!gzip && opts->kind != TM_ZIP_ZSTD) {
    tm_error_set(err, TM_EUSAGE, "compress with gzip or zstd");
    return NULL;
  }
  int level = opts->level != 0 ? opts->level : (gzip ? GZIP_DEFAULT : ZSTD_DEFAULT);
  int max = gzip ? 9 : ZSTD_MAX;
  if (level < 1 || level > max) {
    tm_error_set(err, TM_EUSAGE, "%s has no level %d", gzip ? "gzip" : "zstd", level);
    tm_error_hint(err, "levels are 1 (fast) to %d (small)", max);
    return NULL;
  }
  struct tm_zipper *z = calloc(1, sizeof *z);
  if (z == NULL) {
    no_memory(err);
    return NULL;
  }
  if (gzip ? open_gzip(z, level, opts->engine, err) : open_zstd(z, level, err))
    return z;
  tm_zipper_free(z);
  return NULL;
}

void tm_zipper_free(struct tm_zipper *z)
{
  if (z == NULL)
    return;
  tm_isal_deflate_free(z->isal);
  if (z->zlib_open)
    deflateEnd(&z->zlib);
  ZSTD_freeCCtx(z->zstd);
  free(z);
}

bool tm_zipper_begin(struct tm_zipper *z, uint64_t size, struct tm_error *err)
{
  if (z->isal != NULL) {
    tm_isal_deflate_begin(z->isal);
    return true;
  }
  if (z->zstd == NULL) {
    deflateReset(&z->zlib);
    return true;
  }
  size_t rc = ZSTD_CCtx_reset(z->zstd, ZSTD_reset_session_only);
  if (!ZSTD_isError(rc))
    rc = ZSTD_CCtx_setPledgedSrcSize(z->zstd, size);
  if (ZSTD_isError(rc))
    tm_error_set(err, TM_EDATA, "zstd: %s", ZSTD_getErrorName(rc));
  return !ZSTD_isError(rc);
}

static bool run_isal(struct tm_zipper *z, const void *bytes, size_t n, bool last,
                     struct tm_buffer *out, struct tm_error *err)
{
  struct tm_isal_io io = {.in = bytes, .in_len = n};
  do {
    if (!tm_buffer_reserve(out, OUT_BYTES))
      return no_memory(err);
    io.out = out->data + out->len;
    io.out_len = out->cap - out->len;
    if (!tm_isal_deflate_run(z->isal, &io, last, err))
      return false;
    out->len = out->cap - io.out_len;
  } while (io.in_len > 0 || io.out_len == 0 || (last && !io.finished));
  return true;
}

static bool run_zlib(struct tm_zipper *z, const void *bytes, size_t n, bool last,
                     struct tm_buffer *out, struct tm_error *err)
{
  const char *p = bytes;
  int rc = Z_OK;
  do {
    size_t piece = n < INT_MAX ? n : INT_MAX;
    if (!tm_buffer_reserve(out, OUT_BYTES))
      return no_memory(err);
    size_t room = out->cap - out->len < INT_MAX ? out->cap - out->len : INT_MAX;
    z->zlib.next_in = (Bytef *)p;
    z->zlib.avail_in = (uInt)piece;
    z->zlib.next_out = (Bytef *)out->data + out->len;
    z->zlib.avail_out = (uInt)room;
    rc = deflate(&z->zlib, last && piece == n ? Z_FINISH : Z_NO_FLUSH);
    if (rc == Z_STREAM_ERROR) {
      tm_error_set(err, TM_EDATA, "gzip: the compressor failed");
      return false;
    }
    p += piece - z->zlib.avail_in;
    n -= piece - z->zlib.avail_in;
    out->len += room - z->zlib.avail_out;
  } while (n > 0 || z->zlib.avail_out == 0 || (last && rc != Z_STREAM_END));
  return true;
}

static bool run_zstd(struct tm_zipper *z, const void *bytes, size_t n, bool last,
                     struct tm_buffer *out, struct tm_error *err)
{
  ZSTD_inBuffer in = {.src = bytes, .size = n};
  for (;;) {
    if (!tm_buffer_reserve(out, OUT_BYTES))
      return no_memory(err);
    ZSTD_outBuffer to = {.dst = out->data + out->len, .size = out->cap - out->len};
    size_t left =
        ZSTD_compressStream2(z->zstd, &to, &in, last ? ZSTD_e_end : ZSTD_e_continue);
    if (ZSTD_isError(left)) {
      tm_error_set(err, TM_EDATA, "zstd: %s", ZSTD_getErrorName(left));
      return false;
    }
    out->len += to.pos;
    if (last ? left == 0 : in.pos == in.size)
      return true;
  }
}

static bool run(struct tm_zipper *z, const void *bytes, size_t n, bool last,
                struct tm_buffer *out, struct tm_error *err)
{
  if (z->isal != NULL)
    return run_isal(z, bytes, n, last, out, err);
  if (z->zstd != NULL)
    return run_zstd(z, bytes, n, last, out, err);
  return run_zlib(z, bytes, n, last, out, err);
}

bool tm_zipper_add(struct tm_zipper *z, const void *bytes, size_t n,
                   struct tm_buffer *out, struct tm_error *err)
{
  return n == 0 || run(z, bytes, n, false, out, err);
}

bool tm_zipper_end(struct tm_zipper *z, struct tm_buffer *out, struct tm_error *err)
{
  return run(z, "", 0, true, out, err);
}
