/*
** rowtext.c: records of COPY's text format
**
** Fields without a backslash, nearly all of them, are pointed at where they stand; the others
** are unescaped into row->text, which is given room for the whole record first, so it does
** not move while fields point into it (unescaping never makes anything longer).
*/
#include "stream/rowtext.h"

#include <stdint.h>
#include <string.h>

bool tm_rowtext_continues(const char *line, size_t len)
{
  size_t n = 0;
  while (n < len && line[len - 1 - n] == '\\')
    n++;
  return n % 2 == 1;
}

static int hex_digit(char c)
{
  if (c >= '0' && c <= '9')
    return c - '0';
  c |= 0x20;
  return c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

static bool is_octal(const char *p, const char *end)
{
  return p < end && *p >= '0' && *p <= '7';
}

/* The byte that the escape at *p (after its backslash) stands for; *p is moved past it. */
static char unescape(const char **p, const char *end)
{
  char c = *(*p)++;
  switch (c) {
  case 'b':
    return '\b';
  case 'f':
    return '\f';
  case 'n':
    return '\n';
  case 'r':
    return '\r';
  case 't':
    return '\t';
  case 'v':
    return '\v';
  case 'x': {
    int value = 0, digits = 0;
    while (digits < 2 && *p < end && hex_digit(**p) >= 0) {
      value = value * 16 + hex_digit(*(*p)++);
      digits++;
    }
    return digits > 0 ? (char)value : c;
  }
  default:
    break;
  }
  if (c < '0' || c > '7')
    return c;
  int value = c - '0';
  for (int i = 0; i < 2 && is_octal(*p, end); i++)
    value = value * 8 + (*(*p)++ - '0');
  return (char)(value & 0xff);
}

/* Unescapes the field at p into the row's text (room was made). Returns where it ends: at its
** delimiter, or end. */
static const char *read_escaped(const struct tm_format *f, const char *p, const char *end,
                                struct tm_row *row)
{
  struct tm_buffer *text = &row->text;
  while (p < end && *p != f->delimiter) {
    char c = *p++;
    if (c == '\\' && p < end)
      c = unescape(&p, end);
    text->data[text->len++] = c;
  }
  return p;
}

static bool set_full(struct tm_row *row, struct tm_error *err)
{
  if (row->count >= TM_FORMAT_FIELDS_MAX)
    tm_error_set(err, TM_EDATA, "more than %d fields", TM_FORMAT_FIELDS_MAX);
  else
    tm_error_set(err, TM_EMEMORY, "out of memory");
  return false;
}

static bool is_null(const struct tm_format *f, const char *p, size_t n)
{
  return n == f->null_len && memcmp(p, f->null, n) == 0;
}

bool tm_rowtext_read(const struct tm_format *format, const char *bytes, size_t len,
                     struct tm_row *row, struct tm_error *err)
{
  const char *p = bytes, *end = bytes + len;
  const char *slash = memchr(p, '\\', len);
  row->count = 0;
  row->text.len = 0;
  if (slash != NULL && !tm_buffer_reserve(&row->text, len)) {
    tm_error_set(err, TM_EMEMORY, "out of memory");
    return false;
  }
  for (;;) {
    const char *stop = memchr(p, format->delimiter, (size_t)(end - p));
    if (stop == NULL)
      stop = end;
    struct tm_field field = {p, (size_t)(stop - p)};
    if (slash != NULL && slash < p)
      slash = memchr(p, '\\', (size_t)(end - p));
    if (slash != NULL && slash < stop) {
      size_t start = row->text.len;
      stop = read_escaped(format, p, end, row);
      if (!is_null(format, p, (size_t)(stop - p)))
        field = (struct tm_field){row->text.data + start, row->text.len - start};
      else
        field.data = NULL;
    } else if (is_null(format, p, field.len)) {
      field.data = NULL;
    }
    if (!tm_row_add(row, field.data, field.len))
      return set_full(row, err);
    if (stop == end)
      return true;
    p = stop + 1;
  }
}

/* The letter after the backslash for this byte, or 0 when it stands for itself. */
static char escape_of(const struct tm_format *f, char c)
{
  char letter = tm_format_escape(c);
  return letter != 0 ? letter : c == '\\' || c == f->delimiter ? c : 0;
}

bool tm_rowtext_write(const struct tm_format *format, const struct tm_field *fields,
                      size_t count, struct tm_buffer *out)
{
  for (size_t i = 0; i < count; i++) {
    const struct tm_field *field = &fields[i];
    if (field->len > SIZE_MAX / 4 ||
        !tm_buffer_reserve(out, 2 * field->len + format->null_len + 3))
      return false;
    char *to = out->data + out->len;
    if (i > 0)
      *to++ = format->delimiter;
    if (field->data == NULL) {
      memcpy(to, format->null, format->null_len);
      to += format->null_len;
    }
    for (size_t j = 0; field->data != NULL && j < field->len; j++) {
      char c = field->data[j];
      bool ordinary = (unsigned char)c >= 0x20 && c != '\\' && c != format->delimiter;
      char escaped = ordinary ? 0 : escape_of(format, c);
      if (escaped != 0)
        *to++ = '\\';
      *to++ = escaped != 0 ? escaped : c;
    }
    out->len = (size_t)(to - out->data);
  }
  return tm_buffer_adds(out, format->newline == TM_NEWLINE_CRLF ? "\r\n" : "\n");
}
