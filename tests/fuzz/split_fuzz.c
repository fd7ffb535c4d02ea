/*
** split_fuzz.c: the records of hostile csv and text are all of the input, end in the same places
** whatever the pieces it comes in, and where the runtime's own csv reader reads one it agrees
**
** The first byte chooses the dialect, the second the size of the pieces.
*/
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "driver/csv.h"
#include "stream/split.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static const struct {
  struct tm_format_opts opts;
  enum tm_split_bytes bytes;
} looks[] = {
    {{.delimiter = ","}, TM_SPLIT_SAFE},
    {{.delimiter = "|", .quote = "'", .escape = "\\"}, TM_SPLIT_SAFE},
    {{.delimiter = ","}, TM_SPLIT_TRAILS},
    {{.format = "text"}, TM_SPLIT_SAFE},
    {{.format = "text"}, TM_SPLIT_TRAILS},
    {{.format = "text"}, TM_SPLIT_SJIS},
};

/* The record at p, read line by line: the reader must not end before it nor go on after it. */
static void compare(struct tm_csv *reader, const char *p, const struct tm_split_record *r)
{
  struct tm_row row = {0};
  struct tm_error err;
  size_t len = (size_t)(r->size - r->newline), from = 0, at;
  const char *ends[] = {"", "\n", "\r\n"};
  for (;;) {
    const char *lf = memchr(p + from, '\n', len - from);
    size_t to = lf != NULL ? (size_t)(lf - p) : len;
    enum tm_record got = tm_csv_line(
        reader, p, to, from, lf != NULL ? "\n" : ends[r->newline], &row, &at, &err);
    if (got == TM_RECORD_BAD)
      break; /* it reads quotes more strictly */
    if ((got == TM_RECORD_MORE) != (lf != NULL))
      abort();
    if (lf == NULL)
      break;
    from = to + 1;
  }
  tm_row_free(&row);
}

static void start(struct tm_splitter *s, const struct tm_format *f,
                  enum tm_split_bytes bytes)
{
  tm_split_start(s, f->kind == TM_FORMAT_CSV, f->quote, f->escape, bytes);
}

/* In pieces: the same records as `whole` found in one go. */
static void check_pieces(const struct tm_format *f, enum tm_split_bytes bytes,
                         const char *p, size_t len, size_t piece,
                         const struct tm_split_record *whole, size_t count)
{
  struct tm_splitter s;
  size_t found = 0;
  start(&s, f, bytes);
  for (size_t at = 0, used; at < len; at += used) {
    size_t n = len - at < piece ? len - at : piece;
    if (!tm_split_next(&s, p + at, n, &used))
      continue;
    if (found >= count || memcmp(&whole[found], &s.record, sizeof s.record) != 0)
      abort();
    found++;
  }
  if (tm_split_end(&s) &&
      (found >= count || memcmp(&whole[found++], &s.record, sizeof s.record) != 0))
    abort();
  if (found != count)
    abort();
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
  if (size < 2)
    return 0;
  struct tm_error err;
  struct tm_format f;
  size_t look = data[0] % (sizeof looks / sizeof looks[0]);
  if (!tm_format_parse(&f, &looks[look].opts, &err))
    abort();
  const char *p = (const char *)data + 2;
  size_t len = size - 2, count = 0, used;
  struct tm_split_record *records = calloc(len + 1, sizeof *records);
  struct tm_csv *reader = tm_csv_new(&f, &err);
  struct tm_splitter s;
  int64_t offset = 0, line = 1;
  if (records == NULL || reader == NULL)
    abort();
  start(&s, &f, looks[look].bytes);
  for (size_t at = 0; at < len || tm_split_end(&s); at += used) {
    used = 0;
    if (at < len && !tm_split_next(&s, p + at, len - at, &used))
      continue;
    const struct tm_split_record *r = &s.record;
    if (r->offset != offset || r->size <= 0 || r->line < line || r->newline > r->size)
      abort();
    offset += r->size;
    line = r->line;
    if (look < 2 && r->fault == TM_SPLIT_GOOD && !r->marker && s.eol != TM_EOL_CR)
      compare(reader, p + r->offset, r);
    memcpy(&records[count++], r, sizeof *r);
  }
  if (offset != (int64_t)len)
    abort();
  check_pieces(&f, looks[look].bytes, p, len, (size_t)data[1] + 1, records, count);
  tm_csv_free(reader);
  free(records);
  return 0;
}
