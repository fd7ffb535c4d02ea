/*
** row.c: one row as its fields; UTF-8
*/
#include "base/row.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/format.h"

bool tm_row_grow(struct tm_row *row)
{
  if (row->cap >= TM_FORMAT_FIELDS_MAX)
    return false;
  size_t cap = row->cap == 0 ? 16 : row->cap * 2;
  if (cap > TM_FORMAT_FIELDS_MAX)
    cap = TM_FORMAT_FIELDS_MAX;
  struct tm_field *fields = realloc(row->fields, cap * sizeof *fields);
  if (fields == NULL)
    return false;
  row->fields = fields;
  row->cap = cap;
  return true;
}

void tm_row_free(struct tm_row *row)
{
  free(row->fields);
  tm_buffer_free(&row->text);
  *row = (struct tm_row){0};
}

enum { SHOW_MAX = 80 };

const char *tm_row_show(char *out, size_t size, const char *bytes, size_t len)
{
  size_t limit = size < SHOW_MAX + 4 ? size - 4 : SHOW_MAX, n = 0;
  for (size_t i = 0; i < len; i++) {
    unsigned char c = (unsigned char)bytes[i];
    bool plain = c >= 0x20 && c < 0x7f && c != '\\';
    if (n + (plain ? 1 : 4) > limit) {
      memcpy(out + n, "...", 4);
      return out;
    }
    if (plain)
      out[n++] = (char)c;
    else
      n += (size_t)snprintf(out + n, size - n, "\\x%02x", c);
  }
  out[n] = '\0';
  return out;
}

/* Length of the well-formed sequence at p (RFC 3629, table of section 4), or 0. */
static size_t sequence(const unsigned char *p, size_t left)
{
  unsigned char c = p[0], low = 0x80, high = 0xbf;
  size_t n;
  if (c >= 0xc2 && c <= 0xdf)
    n = 2;
  else if (c >= 0xe0 && c <= 0xef)
    n = 3;
  else if (c >= 0xf0 && c <= 0xf4)
    n = 4;
  else
    return 0;
  if (left < n)
    return 0;
  if (c == 0xe0)
    low = 0xa0; /* no overlong form */
  else if (c == 0xed)
    high = 0x9f; /* no surrogates */
  else if (c == 0xf0)
    low = 0x90;
  else if (c == 0xf4)
    high = 0x8f; /* nothing above U+10FFFF */
  if (p[1] < low || p[1] > high)
    return 0;
  for (size_t i = 2; i < n; i++)
    if ((p[i] & 0xc0) != 0x80)
      return 0;
  return n;
}

#define ONES 0x0101010101010101u
#define HIGHS 0x8080808080808080u

/* Whether all eight bytes are 0x01 to 0x7f. Without a high bit, a byte borrows into its own
** only if it is zero. */
static bool plain_word(const unsigned char *p)
{
  uint64_t w;
  memcpy(&w, p, sizeof w);
  return ((w | (w - ONES)) & HIGHS) == 0;
}

size_t tm_utf8_check(const char *bytes, size_t len)
{
  const unsigned char *p = (const unsigned char *)bytes;
  size_t i = 0;
  while (i < len) {
    if (len - i >= 8 && plain_word(p + i)) {
      i += 8;
      continue;
    }
    if (p[i] != 0 && p[i] < 0x80) {
      i++;
      continue;
    }
    size_t n = sequence(p + i, len - i);
    if (n == 0)
      return i;
    i += n;
  }
  return len;
}
