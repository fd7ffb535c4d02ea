/*
** encode.c: percent encoding and dates, without the locale
*/
#include "oss/encode.h"

#include <stdio.h>
#include <string.h>
#include <time.h>

#include "driver/digest.h"

static bool is_plain(unsigned char c)
{
  return (c >= 'A' && c <= 'Z') || (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9') ||
         c == '-' || c == '_' || c == '.' || c == '~';
}

static bool encode(struct tm_buffer *out, const char *bytes, size_t n, char keep)
{
  static const char digits[] = "0123456789ABCDEF";
  if (n > SIZE_MAX / 4 || !tm_buffer_reserve(out, 3 * n))
    return false;
  for (size_t i = 0; i < n; i++) {
    unsigned char c = (unsigned char)bytes[i];
    if (is_plain(c) || (keep != '\0' && c == (unsigned char)keep)) {
      out->data[out->len++] = (char)c;
    } else {
      out->data[out->len++] = '%';
      out->data[out->len++] = digits[c >> 4];
      out->data[out->len++] = digits[c & 15];
    }
  }
  return true;
}

bool tm_encode(struct tm_buffer *out, const char *bytes, size_t n)
{
  return encode(out, bytes, n, '\0');
}

bool tm_encode_path(struct tm_buffer *out, const char *bytes, size_t n)
{
  return encode(out, bytes, n, '/');
}

bool tm_decode(struct tm_buffer *out, const char *text, size_t n, struct tm_error *err)
{
  if (!tm_buffer_reserve(out, n)) {
    tm_error_set(err, TM_EMEMORY, "out of memory");
    return false;
  }
  for (size_t i = 0; i < n; i++) {
    unsigned char c = (unsigned char)text[i];
    if (c == '%') {
      if (n - i < 3 || !tm_unhex(text + i + 1, 2, &c)) {
        tm_error_set(err, TM_EDATA, "percent sign without two hex digits at byte %zu", i);
        return false;
      }
      i += 2;
    }
    out->data[out->len++] = (char)c;
  }
  return true;
}

static const char days[7][4] = {"Sun", "Mon", "Tue", "Wed", "Thu", "Fri", "Sat"};
static const char months[12][4] = {"Jan", "Feb", "Mar", "Apr", "May", "Jun",
                                   "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"};

#define FIRST_SECOND INT64_C(-62167219200) /* 0000-01-01 */
#define LAST_SECOND INT64_C(253402300799)  /* 9999-12-31 */

static struct tm broken_down(int64_t time)
{
  struct tm t;
  time_t clamped = time < FIRST_SECOND  ? FIRST_SECOND
                   : time > LAST_SECOND ? LAST_SECOND
                                        : time;
  gmtime_r(&clamped, &t);
  return t;
}

void tm_date_rfc1123(int64_t time, char out[TM_DATE_SIZE])
{
  struct tm t = broken_down(time);
  snprintf(out, TM_DATE_SIZE, "%s, %02u %s %04u %02u:%02u:%02u GMT", days[t.tm_wday % 7],
           (unsigned)t.tm_mday % 100, months[t.tm_mon % 12],
           (unsigned)(t.tm_year + 1900) % 10000, (unsigned)t.tm_hour % 100,
           (unsigned)t.tm_min % 100, (unsigned)t.tm_sec % 100);
}

static void iso(int64_t time, const char *format, char out[TM_DATE_SIZE])
{
  struct tm t = broken_down(time);
  strftime(out, TM_DATE_SIZE, format, &t); /* digits only: no locale in it */
}

void tm_date_iso_basic(int64_t time, char out[TM_DATE_SIZE])
{
  iso(time, "%Y%m%dT%H%M%SZ", out);
}

void tm_date_iso(int64_t time, char out[TM_DATE_SIZE])
{
  iso(time, "%Y-%m-%dT%H:%M:%S.000Z", out);
}

/* Reads `count` digits at *p into *value and moves on. */
static bool digits_at(const char **p, int count, int *value)
{
  *value = 0;
  for (; count > 0; count--, (*p)++) {
    if (**p < '0' || **p > '9')
      return false;
    *value = *value * 10 + (**p - '0');
  }
  return true;
}

static bool literal_at(const char **p, const char *text)
{
  size_t n = strlen(text);
  if (strncmp(*p, text, n) != 0)
    return false;
  *p += n;
  return true;
}

static bool name_at(const char **p, const char (*names)[4], int count, int *index)
{
  for (*index = 0; *index < count; (*index)++)
    if (literal_at(p, names[*index]))
      return true;
  return false;
}

/* A day that the calendar lacks would come back from timegm as another one. */
static bool seconds_of(struct tm *t, int64_t *time)
{
  struct tm given = *t;
  *time = timegm(t);
  return t->tm_mday == given.tm_mday && t->tm_mon == given.tm_mon &&
         t->tm_hour == given.tm_hour && t->tm_min == given.tm_min &&
         t->tm_sec == given.tm_sec;
}

bool tm_date_parse_rfc1123(const char *text, int64_t *time)
{
  struct tm t = {0};
  int weekday;
  const char *p = text;
  if (!name_at(&p, days, 7, &weekday) || !literal_at(&p, ", ") ||
      !digits_at(&p, 2, &t.tm_mday) || !literal_at(&p, " ") ||
      !name_at(&p, months, 12, &t.tm_mon) || !literal_at(&p, " ") ||
      !digits_at(&p, 4, &t.tm_year) || !literal_at(&p, " ") ||
      !digits_at(&p, 2, &t.tm_hour) || !literal_at(&p, ":") ||
      !digits_at(&p, 2, &t.tm_min) || !literal_at(&p, ":") ||
      !digits_at(&p, 2, &t.tm_sec) || !literal_at(&p, " GMT") || *p != '\0')
    return false;
  t.tm_year -= 1900;
  return seconds_of(&t, time) && t.tm_wday == weekday;
}

bool tm_date_parse_iso_basic(const char *text, int64_t *time)
{
  struct tm t = {0};
  const char *p = text;
  if (!digits_at(&p, 4, &t.tm_year) || !digits_at(&p, 2, &t.tm_mon) ||
      !digits_at(&p, 2, &t.tm_mday) || !literal_at(&p, "T") ||
      !digits_at(&p, 2, &t.tm_hour) || !digits_at(&p, 2, &t.tm_min) ||
      !digits_at(&p, 2, &t.tm_sec) || !literal_at(&p, "Z") || *p != '\0')
    return false;
  t.tm_year -= 1900;
  t.tm_mon -= 1;
  return seconds_of(&t, time);
}
