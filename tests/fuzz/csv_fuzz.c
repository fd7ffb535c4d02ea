/*
** csv_fuzz.c: hostile csv and text input, in pieces, never crashes; and what is read, once
** written, is read the same again
**
** The first byte chooses the options, the second the size of the pieces.
*/
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "stream/codec.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static const struct tm_format_opts options[] = {
    {0},
    {.delimiter = "|", .null = "NULL"},
    {.escape = "\\"},
    {.header = true},
    {.encoding = "gbk"},
    {.encoding = "sql_ascii"},
    {.max_record_bytes = 64},
    {.format = "text"},
    {.format = "text", .delimiter = ",", .null = "-"},
};

static bool ignore(void *data, const char *raw, size_t len, struct tm_error *err)
{
  (void)err;
  if (len > 0)
    *(volatile char *)data = raw[len - 1];
  return true;
}

struct reading {
  struct tm_decoder *d;
  struct tm_encoder *e;
  uint64_t rows;
};

static bool drain(struct reading *r)
{
  struct tm_row *row;
  struct tm_error err;
  int got;
  while ((got = tm_decoder_next(r->d, &row, &err)) > 0) {
    r->rows++;
    if (r->e != NULL && !tm_encoder_row(r->e, row->fields, row->count, &err))
      abort();
  }
  return got == 0;
}

/* Reads all; writes what was read to `e` (may be NULL). False: the input was refused. */
static bool read_all(struct reading *r, const char *p, size_t n, size_t piece)
{
  struct tm_error err;
  bool ok = true;
  for (size_t i = 0; ok && i < n; i += piece)
    ok = tm_decoder_feed(r->d, p + i, n - i < piece ? n - i : piece, &err) && drain(r);
  return ok && tm_decoder_end(r->d, &err) && drain(r);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
  if (size < 2)
    return 0;
  struct tm_error err;
  struct tm_format in, out;
  char sink;
  size_t choice = data[0] % (sizeof options / sizeof options[0]);
  struct tm_decoder_opts opts = {.reject = (data[0] & 0x80) != 0 ? ignore : NULL,
                                 .data = &sink};
  if (!tm_format_parse(&in, &options[choice], &err) ||
      !tm_format_parse(&out, &(struct tm_format_opts){.encoding = "sql_ascii"}, &err))
    abort();
  struct reading first = {.d = tm_decoder_new(&in, &opts, &err),
                          .e = tm_encoder_new(&out, &err)};
  struct reading again = {.d = tm_decoder_new(&out, NULL, &err)};
  if (first.d == NULL || first.e == NULL || again.d == NULL)
    abort();
  read_all(&first, (const char *)data + 2, size - 2, (size_t)data[1] + 1);
  struct tm_buffer *written = tm_encoder_out(first.e);
  if (written->len > 0 && !read_all(&again, written->data, written->len, written->len))
    abort();
  if (again.rows != first.rows)
    abort();
  tm_decoder_free(first.d);
  tm_encoder_free(first.e);
  tm_decoder_free(again.d);
  return 0;
}
