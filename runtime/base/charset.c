/*
** charset.c: converting bytes between character sets, in pieces
*/
#include "base/charset.h"

#include <errno.h>
#include <iconv.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { KEEP_MAX = 16 }; /* longer than any character of any set iconv knows */

struct tm_charset {
  iconv_t cd;
  char from[32], to[32];
  char keep[KEEP_MAX]; /* the start of a character that was cut */
  size_t keep_len;
  uint64_t offset; /* bytes converted so far */
};

struct tm_charset *tm_charset_open(const char *from, const char *to, struct tm_error *err)
{
  struct tm_charset *c = calloc(1, sizeof *c);
  if (c == NULL) {
    tm_error_set(err, TM_EMEMORY, "out of memory");
    return NULL;
  }
  snprintf(c->from, sizeof c->from, "%s", from);
  snprintf(c->to, sizeof c->to, "%s", to);
  c->cd = iconv_open(to, from);
  if (c->cd == (iconv_t)-1) {
    tm_error_set(err, TM_EUSAGE, "cannot convert from encoding %s to %s", from, to);
    free(c);
    return NULL;
  }
  return c;
}

void tm_charset_close(struct tm_charset *c)
{
  if (c == NULL)
    return;
  iconv_close(c->cd);
  free(c);
}

/* Converts until the input is used up (true), or errno says why not: EILSEQ, EINVAL (cut),
** ENOMEM. The pointers are moved on. */
static bool run(struct tm_charset *c, char **in, size_t *left, struct tm_buffer *out)
{
  for (;;) {
    if (!tm_buffer_reserve(out, *left + *left / 2 + 64)) {
      errno = ENOMEM;
      return false;
    }
    char *to = out->data + out->len;
    size_t room = out->cap - out->len, before = *left;
    size_t rc = iconv(c->cd, in, left, &to, &room);
    int failed = rc == (size_t)-1 ? errno : 0;
    out->len = out->cap - room;
    c->offset += before - *left;
    if (failed == E2BIG)
      continue;
    errno = failed;
    return failed == 0;
  }
}

static bool fail(struct tm_charset *c, const char *bytes, struct tm_error *err)
{
  if (errno == ENOMEM) {
    tm_error_set(err, TM_EMEMORY, "out of memory");
    return false;
  }
  tm_error_set(err, TM_EDATA,
               "invalid or unconvertible character for encoding %s at byte "
               "%llu: 0x%02x ...",
               strcmp(c->from, "UTF-8") == 0 ? c->to : c->from,
               (unsigned long long)c->offset, (unsigned char)bytes[0]);
  return false;
}

/* Completes the character kept from the last call, byte by byte. */
static bool finish_kept(struct tm_charset *c, const char **bytes, size_t *len,
                        struct tm_buffer *out, struct tm_error *err)
{
  while (c->keep_len > 0 && *len > 0) {
    if (c->keep_len == KEEP_MAX) {
      errno = EILSEQ;
      return fail(c, c->keep, err);
    }
    c->keep[c->keep_len++] = *(*bytes)++;
    (*len)--;
    char *in = c->keep;
    size_t left = c->keep_len;
    bool ok = run(c, &in, &left, out);
    if (!ok && errno != EINVAL)
      return fail(c, in, err);
    memmove(c->keep, in, left);
    c->keep_len = left;
  }
  return true;
}

bool tm_charset_convert(struct tm_charset *c, const char *bytes, size_t len,
                        struct tm_buffer *out, struct tm_error *err)
{
  if (!finish_kept(c, &bytes, &len, out, err))
    return false;
  if (len == 0)
    return true;
  char *in = (char *)bytes; /* iconv does not write through it */
  size_t left = len;
  if (run(c, &in, &left, out))
    return true;
  if (errno != EINVAL || left > KEEP_MAX)
    return fail(c, in, err);
  memcpy(c->keep, in, left);
  c->keep_len = left;
  return true;
}

bool tm_charset_end(struct tm_charset *c, struct tm_buffer *out, struct tm_error *err)
{
  if (c->keep_len > 0) {
    errno = EILSEQ;
    return fail(c, c->keep, err);
  }
  if (!tm_buffer_reserve(out, 64)) {
    tm_error_set(err, TM_EMEMORY, "out of memory");
    return false;
  }
  char *to = out->data + out->len;
  size_t room = out->cap - out->len;
  iconv(c->cd, NULL, NULL, &to, &room); /* back to the initial shift state */
  out->len = out->cap - room;
  return true;
}
