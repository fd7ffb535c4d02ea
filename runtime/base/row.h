/*
** row.h: one row as its fields
**
** A field is bytes somewhere else, or SQL NULL. A row is reused for every record of a
** stream: its fields point into the input or into its own `text`, and stay valid until
** the next record is read.
*/
#ifndef TM_BASE_ROW_H
#define TM_BASE_ROW_H

#include <stdint.h>

#include "base/buffer.h"

struct tm_field {
  const char *data; /* NULL is SQL NULL; an empty string is not NULL */
  size_t len;
};

struct tm_row {
  struct tm_field *fields;
  size_t count, cap;
  struct tm_buffer text; /* what had to be unescaped */
  const char *raw;       /* the record as it stood, its newline included */
  size_t raw_len;
  uint64_t number; /* 1 is the first record after the header */
  uint64_t line;   /* 1 is the first line of the input; where the record starts */
};

/* Makes room for one more field. False: out of memory or TM_FORMAT_FIELDS_MAX reached. */
bool tm_row_grow(struct tm_row *row) TM_MUSTCHECK;

/* Adds a field; data NULL is SQL NULL. False as tm_row_grow. */
static inline bool tm_row_add(struct tm_row *row, const char *data, size_t len)
{
  if (row->count == row->cap && !tm_row_grow(row))
    return false;
  row->fields[row->count++] = (struct tm_field){data, len};
  return true;
}

/* Frees what the row owns; harmless twice. */
void tm_row_free(struct tm_row *row);

/* Writes bytes for a message: printable ASCII as it is, the rest as \xHH, cut with "..."
** so that it fits `size` (and at 80 characters). Returns out. */
const char *tm_row_show(char *out, size_t size, const char *bytes, size_t len);

/* Offset of the first byte that is not valid UTF-8 (RFC 3629) or is NUL, which no
** PostgreSQL value may hold; len when there is none. */
size_t tm_utf8_check(const char *bytes, size_t len);

#endif
