/*
** rowhash_fuzz.c: hostile rows have one sum, whatever the pieces they come in, and the records that
** the cutter makes of them are all of them, each with its sum, where the reader agrees on records
**
** The first byte chooses the dialect, the second the size of the pieces.
*/
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "../c/pieces.h"
#include "stream/cutter.h"
#include "stream/rowhash.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static const struct tm_format_opts looks[] = {
    {.format = "csv"},
    {.format = "csv", .delimiter = "|", .quote = "'", .escape = "\\", .null = "NULL"},
    {.format = "text"},
    {.format = "csv", .header = true},
};

/* False: what cannot be hashed at all, such as data behind \. */
static bool sum(const struct tm_format *format, const char *bytes, size_t len,
                size_t piece, struct tm_rowhash_sums *sums)
{
  static const char *const columns[] = {"a", "b"};
  static const enum tm_rowhash_type types[] = {TM_ROWHASH_TEXT, TM_ROWHASH_FLOAT8};
  struct tm_rowhash_opts opts = {
      .format = *format, .columns = columns, .types = types, .count = 2};
  struct tm_error err;
  opts.format.header = false;
  struct tm_stage *stage = tm_rowhash_new(&opts, &err);
  if (stage == NULL)
    abort();
  bool ok = pump_pieces(stage, bytes, len, piece, &err);
  tm_rowhash_sums(stage, sums);
  tm_stage_close(stage);
  return ok;
}

/* Goes through the chunks; returns the bytes of their records. */
static size_t cut(const struct tm_format *format, const char *bytes, size_t len,
                  size_t piece, size_t *count)
{
  enum { CHUNK = 64, ROWS = 5 };
  struct tm_error err;
  struct tm_chunk chunk = {0};
  struct tm_cutter *c = tm_cutter_new(format, CHUNK, ROWS, &err);
  size_t total = 0, at = 0;
  int64_t line = 0;
  int got;
  if (c == NULL)
    abort();
  for (bool ended = false; !ended; at += piece) {
    ended = at >= len;
    if (ended)
      tm_cutter_end(c);
    else
      tm_cutter_feed(c, bytes + at, len - at < piece ? len - at : piece);
    while ((got = tm_cutter_next(c, &chunk, &err)) == 1) {
      if (chunk.count == 0 || chunk.count > ROWS)
        abort();
      size_t offset = 0;
      for (size_t i = 0; i < chunk.count; i++) {
        const struct tm_chunk_record *r = &chunk.records[i];
        if (r->offset != offset || r->text > r->size || r->line < line || r->lines < 1 ||
            r->lines_first < 1)
          abort();
        if (memcmp(chunk.bytes.data + offset, bytes + total + offset, r->size) != 0 &&
            !format->header)
          abort();
        offset += r->size;
        line = r->line;
      }
      if (offset != chunk.bytes.len)
        abort();
      total += offset;
      *count += chunk.count;
    }
    if (got < 0)
      abort();
  }
  tm_chunk_free(&chunk);
  tm_cutter_free(c);
  return total;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
  if (size < 2 || size > 2000)
    return 0;
  struct tm_error err;
  struct tm_format format;
  if (!tm_format_parse(&format, &looks[data[0] % (sizeof looks / sizeof looks[0])], &err))
    abort();
  const char *p = (const char *)data + 2;
  size_t len = size - 2, piece = (size_t)data[1] + 1, count = 0, again = 0;
  struct tm_rowhash_sums whole, pieces;
  bool ok = sum(&format, p, len, len + 1, &whole);
  if (sum(&format, p, len, piece, &pieces) != ok)
    abort();
  if (ok && (whole.sum != pieces.sum || whole.rows != pieces.rows ||
             whole.unread != pieces.unread))
    abort();
  size_t total = cut(&format, p, len, len + 1, &count);
  if (cut(&format, p, len, piece, &again) != total || again != count || total > len)
    abort();
  return 0;
}
