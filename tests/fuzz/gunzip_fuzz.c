/*
** gunzip_fuzz.c: hostile compressed input, in pieces, never crashes nor grows
**
** The first byte chooses codec and library, the second the size of the pieces.
*/
#include <stdint.h>
#include <stdlib.h>

#include "driver/zip.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

enum { OUT_MAX = 1 << 22 }; /* a bomb need not be followed to its end */

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
  static const struct tm_zip_opts options[] = {
      {.kind = TM_ZIP_AUTO},
      {.kind = TM_ZIP_GZIP, .engine = TM_GZIP_ISAL},
      {.kind = TM_ZIP_GZIP, .engine = TM_GZIP_ZLIB},
      {.kind = TM_ZIP_ZSTD, .window_log_max = 20}};
  struct tm_error err;
  char out[1000];
  size_t total = 0;
  if (size < 2)
    return 0;
  struct tm_unzipper *u = tm_unzipper_new(&options[data[0] % 4], &err);
  if (u == NULL)
    abort();
  const char *p = (const char *)data + 2;
  size_t left = size - 2, piece = (size_t)data[1] + 1;
  ptrdiff_t n = 0;
  while (n >= 0 && total < OUT_MAX) {
    size_t len = left < piece ? left : piece;
    bool last = len == 0;
    left -= len;
    do {
      n = tm_unzipper_run(u, &p, &len, out, sizeof out, &err);
      total += n > 0 ? (size_t)n : 0;
    } while (n > 0 && total < OUT_MAX && ((size_t)n == sizeof out || len > 0));
    if (len > 0 && n >= 0 && total < OUT_MAX)
      abort(); /* it neither took its input nor refused it */
    if (last)
      break;
  }
  if (n >= 0 && total < OUT_MAX && !tm_unzipper_end(u, &err) && err.kind != TM_EDATA)
    abort();
  tm_unzipper_free(u);
  return 0;
}
