/*
** encoder.c: rows to bytes (the second half of codec.h)
*/
#include <stdlib.h>
#include <string.h>

#include "base/charset.h"
#include "driver/csv.h"
#include "stream/codec.h"
#include "stream/rowtext.h"

struct tm_encoder {
  struct tm_format format;
  struct tm_charset *charset; /* NULL: the output is UTF-8 */
  struct tm_buffer out;
  struct tm_buffer record; /* one record in UTF-8, when there is a charset */
};

struct tm_encoder *tm_encoder_new(const struct tm_format *format, struct tm_error *err)
{
  struct tm_encoder *e = calloc(1, sizeof *e);
  if (e == NULL) {
    tm_error_set(err, TM_EMEMORY, "out of memory");
    return NULL;
  }
  e->format = *format;
  if (format->encoding[0] != '\0' &&
      (e->charset = tm_charset_open("UTF-8", format->encoding, err)) == NULL) {
    free(e);
    return NULL;
  }
  return e;
}

void tm_encoder_free(struct tm_encoder *e)
{
  if (e == NULL)
    return;
  tm_charset_close(e->charset);
  tm_buffer_free(&e->out);
  tm_buffer_free(&e->record);
  free(e);
}

struct tm_buffer *tm_encoder_out(struct tm_encoder *e)
{
  return &e->out;
}

static bool no_memory(struct tm_error *err)
{
  tm_error_set(err, TM_EMEMORY, "out of memory");
  return false;
}

bool tm_encoder_row(struct tm_encoder *e, const struct tm_field *fields, size_t count,
                    struct tm_error *err)
{
  struct tm_buffer *to = e->charset != NULL ? &e->record : &e->out;
  size_t before = to->len;
  bool ok = e->format.kind == TM_FORMAT_CSV
                ? tm_csv_write(&e->format, fields, count, to)
                : tm_rowtext_write(&e->format, fields, count, to);
  if (!ok) {
    to->len = before;
    return no_memory(err);
  }
  if (e->charset == NULL)
    return true;
  ok = tm_charset_convert(e->charset, e->record.data, e->record.len, &e->out, err);
  e->record.len = 0;
  return ok;
}

/* As COPY writes it: names are never quoted for force_quote's sake alone. */
bool tm_encoder_header(struct tm_encoder *e, const char *const *names, size_t count,
                       struct tm_error *err)
{
  struct tm_field *fields = calloc(count > 0 ? count : 1, sizeof *fields);
  if (fields == NULL)
    return no_memory(err);
  for (size_t i = 0; i < count; i++)
    fields[i] = (struct tm_field){names[i], strlen(names[i])};
  bool force = e->format.force_quote;
  e->format.force_quote = false;
  bool ok = tm_encoder_row(e, fields, count, err);
  e->format.force_quote = force;
  free(fields);
  return ok;
}

bool tm_encoder_raw(struct tm_encoder *e, const char *bytes, size_t len,
                    struct tm_error *err)
{
  if (e->charset != NULL)
    return tm_charset_convert(e->charset, bytes, len, &e->out, err);
  return tm_buffer_add(&e->out, bytes, len) || no_memory(err);
}
