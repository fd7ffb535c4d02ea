/*
** pg_types.c: results, how their values are to be understood, and quoting
*/
#include "driver/pg_impl.h"

#include <stdlib.h>
#include <string.h>

int tm_pg_rows(const struct tm_pg_result *r)
{
  return PQntuples(r->res);
}

int tm_pg_columns(const struct tm_pg_result *r)
{
  return PQnfields(r->res);
}

const char *tm_pg_column_name(const struct tm_pg_result *r, int column)
{
  return PQfname(r->res, column);
}

/* OIDs of pg_type.dat, fixed for ever. */
static enum tm_pg_type type_of(Oid oid)
{
  switch (oid) {
  case 16: /* bool */
    return TM_PG_BOOL;
  case 17: /* bytea */
    return TM_PG_BYTEA;
  case 20: /* int8 */
  case 21: /* int2 */
  case 23: /* int4 */
  case 26: /* oid */
    return TM_PG_INT;
  case 700: /* float4 */
  case 701: /* float8 */
    return TM_PG_FLOAT;
  default:
    return TM_PG_TEXT;
  }
}

enum tm_pg_type tm_pg_column_type(const struct tm_pg_result *r, int column)
{
  return type_of(PQftype(r->res, column));
}

const char *tm_pg_command(const struct tm_pg_result *r)
{
  return PQcmdStatus(r->res);
}

int64_t tm_pg_affected(const struct tm_pg_result *r)
{
  const char *tuples = PQcmdTuples(r->res);
  return *tuples == '\0' ? -1 : strtoll(tuples, NULL, 10);
}

const char *tm_pg_value(const struct tm_pg_result *r, int row, int column, size_t *len)
{
  if (PQgetisnull(r->res, row, column))
    return NULL;
  if (len != NULL)
    *len = (size_t)PQgetlength(r->res, row, column);
  return PQgetvalue(r->res, row, column);
}

void tm_pg_result_free(struct tm_pg_result *r)
{
  if (r == NULL)
    return;
  PQclear(r->res);
  free(r);
}

/* ---- quoting ---- */

/* Length of the UTF-8 character at `s` (RFC 3629), or 0 when it is none. */
static size_t utf8_length(const unsigned char *s, size_t left)
{
  if (s[0] < 0x80)
    return 1;
  size_t n = s[0] >= 0xF0 ? 4 : s[0] >= 0xE0 ? 3 : 2;
  if (s[0] < 0xC2 || s[0] > 0xF4 || n > left)
    return 0;
  for (size_t i = 1; i < n; i++)
    if ((s[i] & 0xC0) != 0x80)
      return 0;
  if ((s[0] == 0xE0 && s[1] < 0xA0) || (s[0] == 0xED && s[1] > 0x9F) ||
      (s[0] == 0xF0 && s[1] < 0x90) || (s[0] == 0xF4 && s[1] > 0x8F))
    return 0; /* overlong, surrogate, past U+10FFFF */
  return n;
}

static bool check_text(const char *s, size_t len, struct tm_error *err)
{
  for (size_t i = 0, n; i < len; i += n) {
    n = s[i] == '\0' ? 0 : utf8_length((const unsigned char *)s + i, len - i);
    if (n > 0)
      continue;
    tm_error_set(err, TM_EUSAGE, "cannot quote: %s at byte %zu",
                 s[i] == '\0' ? "a zero byte" : "not UTF-8", i + 1);
    return false;
  }
  return true;
}

/* Appends s between two `quote`s, with those inside doubled, and backslashes if asked. */
static bool add_quoted(struct tm_buffer *out, const char *s, size_t len, char quote,
                       bool escape, struct tm_error *err)
{
  size_t start = out->len;
  bool ok = tm_buffer_addc(out, quote);
  for (size_t i = 0; ok && i < len; i++) {
    if (s[i] == quote || (escape && s[i] == '\\'))
      ok = tm_buffer_addc(out, s[i]);
    ok = ok && tm_buffer_addc(out, s[i]);
  }
  ok = ok && tm_buffer_addc(out, quote);
  if (!ok) {
    out->len = start;
    tm_error_set(err, TM_EMEMORY, "out of memory");
  }
  return ok;
}

bool tm_pg_quote_ident(struct tm_buffer *out, const char *s, size_t len,
                       struct tm_error *err)
{
  if (len == 0) {
    tm_error_set(err, TM_EUSAGE, "cannot quote: an identifier is never empty");
    return false;
  }
  return check_text(s, len, err) && add_quoted(out, s, len, '"', false, err);
}

bool tm_pg_quote_literal(struct tm_buffer *out, const char *s, size_t len,
                         struct tm_error *err)
{
  if (!check_text(s, len, err))
    return false;
  bool escape = memchr(s, '\\', len) != NULL;
  if (escape && !tm_buffer_adds(out, " E")) { /* the blank: never glued to a word */
    tm_error_set(err, TM_EMEMORY, "out of memory");
    return false;
  }
  return add_quoted(out, s, len, '\'', escape, err);
}
