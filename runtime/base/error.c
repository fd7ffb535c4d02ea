/*
** error.c: the table of error kinds, and filling struct tm_error
*/
#include "base/error.h"

#include <stdio.h>
#include <string.h>

static const struct {
  const char *name;
  bool retryable;
  int exit_code;
} kinds[] = {
    [TM_OK] = {"ok", false, 0},
    [TM_EMEMORY] = {"memory", false, 1},
    [TM_EUSAGE] = {"usage", false, 2},
    [TM_ECONNECT] = {"connect", true, 3},
    [TM_EAUTH] = {"auth", false, 3},
    [TM_ENOTFOUND] = {"not_found", false, 1},
    [TM_EEXISTS] = {"exists", false, 1},
    [TM_ECONFLICT] = {"conflict", false, 1},
    [TM_EIO] = {"io", true, 1},
    [TM_ETHROTTLED] = {"throttled", true, 1},
    [TM_ESERVER] = {"server", true, 1},
    [TM_EPROTOCOL] = {"protocol", false, 1},
    [TM_EDATA] = {"data", false, 1},
    [TM_EINTEGRITY] = {"integrity", false, 1},
    [TM_ESQL] = {"sql", false, 1},
    [TM_ETIMEOUT] = {"timeout", true, 1},
    [TM_ECANCELED] = {"canceled", false, 130},
    [TM_EINDOUBT] = {"in_doubt", false, 1},
    [TM_ESYSTEM] = {"system", false, 1},
};

enum { KIND_COUNT = sizeof kinds / sizeof kinds[0] };

/* A message is one line: newlines and tabs become blanks, trailing ones go. */
static void one_line(char *s)
{
  for (char *p = s; *p != '\0'; p++)
    if (*p == '\n' || *p == '\r' || *p == '\t')
      *p = ' ';
  size_t n = strlen(s);
  while (n > 0 && s[n - 1] == ' ')
    s[--n] = '\0';
}

static void set(struct tm_error *err, enum tm_kind kind, const char *format, va_list ap)
{
  char message[sizeof err->message]; /* arguments may point into *err */
  vsnprintf(message, sizeof message, format, ap);
  one_line(message);
  memset(err, 0, sizeof *err);
  err->kind = kind;
  memcpy(err->message, message, sizeof message);
}

void tm_error_set(struct tm_error *err, enum tm_kind kind, const char *format, ...)
{
  va_list ap;
  va_start(ap, format);
  set(err, kind, format, ap);
  va_end(ap);
}

void tm_error_errno(struct tm_error *err, enum tm_kind kind, int errnum,
                    const char *format, ...)
{
  va_list ap;
  va_start(ap, format);
  set(err, kind, format, ap);
  va_end(ap);
  char text[128];
  size_t n = strlen(err->message);
  snprintf(err->message + n, sizeof err->message - n, ": %s",
           strerror_r(errnum, text, sizeof text));
}

void tm_error_hint(struct tm_error *err, const char *format, ...)
{
  va_list ap;
  va_start(ap, format);
  vsnprintf(err->hint, sizeof err->hint, format, ap);
  va_end(ap);
  one_line(err->hint);
}

void tm_error_detail(struct tm_error *err, const char *format, ...)
{
  size_t n = strlen(err->detail);
  if (n > 0 && n + 1 < sizeof err->detail)
    err->detail[n++] = '\n';
  va_list ap;
  va_start(ap, format);
  vsnprintf(err->detail + n, sizeof err->detail - n, format, ap);
  va_end(ap);
}

void tm_error_prefix(struct tm_error *err, const char *format, ...)
{
  char prefix[256], message[sizeof err->message];
  va_list ap;
  va_start(ap, format);
  vsnprintf(prefix, sizeof prefix, format, ap);
  va_end(ap);
  snprintf(message, sizeof message, "%.255s: %.500s", prefix, err->message);
  one_line(message);
  memcpy(err->message, message, sizeof message);
}

const char *tm_kind_name(enum tm_kind kind)
{
  return (unsigned)kind < KIND_COUNT ? kinds[kind].name : "unknown";
}

bool tm_kind_retryable(enum tm_kind kind)
{
  return (unsigned)kind < KIND_COUNT && kinds[kind].retryable;
}

int tm_kind_exit_code(enum tm_kind kind)
{
  return (unsigned)kind < KIND_COUNT ? kinds[kind].exit_code : 1;
}

enum tm_kind tm_kind_by_name(const char *name)
{
  for (int k = 0; k < KIND_COUNT; k++)
    if (strcmp(kinds[k].name, name) == 0)
      return (enum tm_kind)k;
  return TM_OK;
}
