/*
** rowtext_fuzz.c: a record of the text format, read, written and read again, keeps its fields
*/
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "stream/rowtext.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
  static const struct tm_format_opts options[] = {
      {.format = "text"},
      {.format = "text", .delimiter = "|", .null = ""},
      {.format = "text", .delimiter = ",", .null = "NULL"}};
  struct tm_error err;
  struct tm_format f;
  struct tm_row row = {0}, back = {0};
  struct tm_buffer out = {0};
  if (size < 1)
    return 0;
  if (!tm_format_parse(&f, &options[data[0] % 3], &err))
    abort();
  const char *p = (const char *)data + 1;
  if (tm_rowtext_read(&f, p, size - 1, &row, &err)) {
    if (!tm_rowtext_write(&f, row.fields, row.count, &out) ||
        !tm_rowtext_read(&f, out.data, out.len - 1, &back, &err) ||
        back.count != row.count)
      abort();
    for (size_t i = 0; i < row.count; i++) {
      const struct tm_field *a = &row.fields[i], *b = &back.fields[i];
      bool ambiguous = a->data != NULL && a->len == f.null_len &&
                       memcmp(a->data, f.null, a->len) == 0; /* as in COPY itself */
      if (!ambiguous && ((a->data == NULL) != (b->data == NULL) ||
                         (a->data != NULL &&
                          (a->len != b->len || memcmp(a->data, b->data, a->len) != 0))))
        abort();
    }
  }
  tm_row_free(&row);
  tm_row_free(&back);
  tm_buffer_free(&out);
  return 0;
}
