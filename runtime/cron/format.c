/*
** format.c: time variables: java.time format letters and "+1d" offsets
**
** Each letter has a row in the table `letters`: how many of it may stand together and
** which number it writes; the ones that write names have a function of their own.
*/
#include "cron/format.h"

#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* The moment, and what the letters need of it. */
struct moment {
  const struct tm_civil *civil;
  int64_t days; /* since 1970-01-01 */
  int32_t nanos, utc_offset;
  enum tm_time_locale locale;
  int next; /* the pattern's next character, or 0 */
};

/* ---- weeks: Monday first, week 1 holds the first day ---- */

/* Which week a day is in, both counted from 1, if day 1 is this weekday (1 = Monday). */
static int32_t week_of(int32_t day, int32_t first_weekday)
{
  return (day + first_weekday - 2) / 7 + 1;
}

static int32_t week_year(const struct moment *m)
{
  int32_t year = m->civil->year;
  int64_t sunday = m->days + 7 - tm_calendar_weekday(m->days);
  return sunday >= tm_calendar_days(year + 1, 1, 1) ? year + 1 : year;
}

static int32_t week_of_year(const struct moment *m)
{
  if (week_year(m) != m->civil->year)
    return 1;
  int64_t first = tm_calendar_days(m->civil->year, 1, 1);
  return week_of((int32_t)(m->days - first) + 1, tm_calendar_weekday(first));
}

static int32_t week_of_month(const struct moment *m)
{
  return week_of(m->civil->day, tm_calendar_weekday(m->days - m->civil->day + 1));
}

/* ---- names ---- */

static const char *const months_en[] = {"January",   "February", "March",    "April",
                                        "May",       "June",     "July",     "August",
                                        "September", "October",  "November", "December"};
static const char *const months_zh[] = {"一月", "二月", "三月",   "四月",
                                        "五月", "六月", "七月",   "八月",
                                        "九月", "十月", "十一月", "十二月"};
static const char *const days_en[] = {"Monday", "Tuesday",  "Wednesday", "Thursday",
                                      "Friday", "Saturday", "Sunday"};
static const char *const days_zh[] = {"星期一", "星期二", "星期三", "星期四",
                                      "星期五", "星期六", "星期日"};

/* Three letters mean the short English name, four the full one. */
static bool name(struct tm_buffer *out, const struct moment *m, int count,
                 const char *const *en, const char *const *zh, int32_t which)
{
  if (m->locale == TM_LOCALE_ZH)
    return tm_buffer_adds(out, zh[which]);
  return tm_buffer_add(out, en[which], count < 4 ? 3 : strlen(en[which]));
}

static bool era(struct tm_buffer *out, const struct moment *m)
{
  if (m->locale == TM_LOCALE_ZH)
    return tm_buffer_adds(out, "公元");
  return tm_buffer_adds(out, m->next == 'y' || m->next == 'Y' ? "AD " : "AD");
}

static bool half_day(struct tm_buffer *out, const struct moment *m)
{
  bool pm = m->civil->hour >= 12;
  if (m->locale == TM_LOCALE_ZH)
    return tm_buffer_adds(out, pm ? "下午" : "上午");
  return tm_buffer_adds(out, pm ? "PM" : "AM");
}

static bool zone_offset(struct tm_buffer *out, const struct moment *m)
{
  int32_t offset = abs(m->utc_offset);
  if (offset == 0)
    return tm_buffer_adds(out, "UTC");
  if (!tm_buffer_addf(out, "UTC%c%02d:%02d", m->utc_offset < 0 ? '-' : '+', offset / 3600,
                      offset / 60 % 60))
    return false;
  return offset % 60 == 0 || tm_buffer_addf(out, ":%02d", offset % 60); /* before 1900 */
}

static bool fraction(struct tm_buffer *out, const struct moment *m, int count)
{
  char digits[16];
  snprintf(digits, sizeof digits, "%09d", (int)m->nanos);
  return tm_buffer_add(out, digits, (size_t)count);
}

static bool year(struct tm_buffer *out, int32_t value, int count)
{
  if (count == 2)
    return tm_buffer_addf(out, "%02d", value % 100);
  return tm_buffer_addf(out, "%0*d", count == 1 ? 4 : count, value);
}

/* ---- letters ---- */

static const struct {
  char letter;
  signed char most; /* how many may stand together, as in java.time */
} letters[] = {{'G', 3}, {'y', 9}, {'Y', 9}, {'M', 4}, {'w', 2}, {'W', 1}, {'D', 3},
               {'d', 2}, {'E', 4}, {'e', 2}, {'a', 1}, {'H', 2}, {'h', 2}, {'K', 2},
               {'k', 2}, {'m', 2}, {'s', 2}, {'S', 9}, {'z', 4}};

static int most_of(char letter)
{
  for (size_t i = 0; i < sizeof letters / sizeof letters[0]; i++)
    if (letters[i].letter == letter)
      return letters[i].most;
  return 0;
}

static int32_t number_of(const struct moment *m, char letter)
{
  const struct tm_civil *c = m->civil;
  switch (letter) {
  case 'M':
    return c->month;
  case 'w':
    return week_of_year(m);
  case 'W':
    return week_of_month(m);
  case 'D':
    return tm_calendar_day_of_year(c->year, c->month, c->day);
  case 'd':
    return c->day;
  case 'e':
    return tm_calendar_weekday(m->days);
  case 'H':
    return c->hour;
  case 'h':
    return c->hour % 12 == 0 ? 12 : c->hour % 12;
  case 'K':
    return c->hour % 12;
  case 'k':
    return c->hour == 0 ? 24 : c->hour;
  case 'm':
    return c->min;
  default: /* 's' */
    return c->sec;
  }
}

static bool field(struct tm_buffer *out, const struct moment *m, char letter, int count)
{
  switch (letter) {
  case 'G':
    return era(out, m);
  case 'y':
    return year(out, m->civil->year, count);
  case 'Y':
    return year(out, week_year(m), count);
  case 'E':
    return name(out, m, count, days_en, days_zh, tm_calendar_weekday(m->days) - 1);
  case 'a':
    return half_day(out, m);
  case 'S':
    return fraction(out, m, count);
  case 'z':
    return zone_offset(out, m);
  case 'M':
    if (count >= 3)
      return name(out, m, count, months_en, months_zh, m->civil->month - 1);
    break;
  }
  return tm_buffer_addf(out, "%0*d", count, number_of(m, letter));
}

/* ---- the pattern ---- */

/* Appends the literal that starts after an opening quote; returns the position after the
** closing one, or 0 when there is none. *ok is false when memory ran out. */
static size_t quoted(struct tm_buffer *out, const char *format, size_t length, size_t at,
                     bool *ok)
{
  if (at < length && format[at] == '\'') {
    *ok = tm_buffer_addc(out, '\'');
    return at + 1;
  }
  for (; at < length && *ok; at++) {
    if (format[at] != '\'')
      *ok = tm_buffer_addc(out, format[at]);
    else if (at + 1 < length && format[at + 1] == '\'')
      *ok = tm_buffer_addc(out, format[at++]);
    else
      return at + 1;
  }
  return 0;
}

static bool is_letter(char c)
{
  return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z');
}

/* How a format is quoted in a message: at most 80 bytes of it. */
static int shown(size_t length)
{
  return length > 80 ? 80 : (int)length;
}

static bool no_memory(struct tm_error *err)
{
  tm_error_set(err, TM_EMEMORY, "out of memory");
  return false;
}

static bool bad_letter(const char *format, size_t length, size_t at, int count,
                       struct tm_error *err)
{
  int most = most_of(format[at]);
  if (most == 0) {
    tm_error_set(err, TM_EUSAGE,
                 "unknown letter '%c' at position %zu of the time format '%.*s'",
                 format[at], at + 1, shown(length), format);
    tm_error_hint(err,
                  "letters are G y Y M w W D d E e a H h K k m s S z; put other text "
                  "in single quotes: yyyyMMdd'T'HHmm");
  } else {
    tm_error_set(
        err, TM_EUSAGE,
        "letter '%c' stands %d times at position %zu of the time format '%.*s', at "
        "most %d",
        format[at], count, at + 1, shown(length), format, most);
  }
  return false;
}

/* Appends the local time. */
static bool format_civil(struct tm_buffer *out, const char *format, size_t length,
                         const struct tm_civil *civil, int32_t nanos, int32_t utc_offset,
                         enum tm_time_locale locale, struct tm_error *err)
{
  struct moment m = {.civil = civil,
                     .days = tm_calendar_days(civil->year, civil->month, civil->day),
                     .nanos = nanos,
                     .utc_offset = utc_offset,
                     .locale = locale};
  for (size_t at = 0; at < length;) {
    char c = format[at];
    bool ok = true;
    if (c == '\'') {
      size_t end = quoted(out, format, length, at + 1, &ok);
      if (end == 0 && ok) {
        tm_error_set(
            err, TM_EUSAGE,
            "the quote at position %zu of the time format '%.*s' is never closed", at + 1,
            shown(length), format);
        tm_error_hint(err, "write '' for one quote");
        return false;
      }
      at = end;
    } else if (is_letter(c)) {
      size_t end = at + 1;
      while (end < length && format[end] == c)
        end++;
      int count = end - at > 1000 ? 1000 : (int)(end - at);
      if (count > most_of(c))
        return bad_letter(format, length, at, count, err);
      m.next = end < length ? format[end] : 0;
      ok = field(out, &m, c, count);
      at = end;
    } else {
      ok = tm_buffer_addc(out, c);
      at++;
    }
    if (!ok)
      return no_memory(err);
  }
  return true;
}

bool tm_time_format_instant(struct tm_buffer *out, const char *format, size_t length,
                            int64_t instant, int32_t nanos, const struct tm_zone *zone,
                            enum tm_time_locale locale, struct tm_error *err)
{
  int32_t offset = tm_zone_offset(zone, instant);
  struct tm_civil civil = {.year = 0};
  if (instant >= TM_TIME_MIN && instant <= TM_TIME_MAX)
    tm_calendar_civil(instant + offset, &civil);
  if (!tm_calendar_valid(&civil)) {
    tm_error_set(err, TM_EUSAGE, "the time %lld lies outside the years 1 to 9999",
                 (long long)instant);
    return false;
  }
  return format_civil(out, format, length, &civil, nanos, offset, locale, err);
}

/* ---- offsets ---- */

static int64_t *unit_of(struct tm_time_offset *sum, char unit)
{
  switch (unit) {
  case 'y':
    return &sum->years;
  case 'M':
    return &sum->months;
  case 'w':
    return &sum->weeks;
  case 'd':
    return &sum->days;
  case 'h':
    return &sum->hours;
  case 'm':
    return &sum->minutes;
  }
  return NULL;
}

static bool bad_offset(const char *text, size_t length, size_t at, struct tm_error *err)
{
  tm_error_set(err, TM_EUSAGE, "cannot read the time offset '%.*s' at position %zu",
               shown(length), text, at + 1);
  tm_error_hint(err, "write a sign, a number and a unit (y year, M month, w week, d day, "
                     "h hour, m minute), as in -1M+2d");
  return false;
}

bool tm_time_offset_parse(const char *text, size_t length, struct tm_time_offset *sum,
                          struct tm_error *err)
{
  const int64_t most = 1000000000; /* of each unit; any more leaves the calendar anyway */
  for (size_t at = 0; at < length;) {
    if (text[at] == ' ') {
      at++;
      continue;
    }
    size_t start = at;
    int sign = text[at] == '+' ? 1 : text[at] == '-' ? -1 : 0;
    if (sign == 0)
      return bad_offset(text, length, at, err);
    int64_t n = 0;
    for (at++; at < length && text[at] >= '0' && text[at] <= '9' && n <= most; at++)
      n = n * 10 + (text[at] - '0');
    int64_t *unit = at < length ? unit_of(sum, text[at]) : NULL;
    if (at == start + 1 || unit == NULL || n > most)
      return bad_offset(text, length, n > most ? start : at, err);
    *unit += sign * n;
    if (*unit > most || *unit < -most)
      return bad_offset(text, length, start, err);
    at++;
  }
  return true;
}

long tm_time_variable_split(const char *text, size_t length, struct tm_time_offset *sum,
                            struct tm_error *err)
{
  size_t bar = length;
  bool in_quotes = false;
  for (size_t i = 0; i < length; i++) {
    if (text[i] == '\'')
      in_quotes = !in_quotes; /* '' closes and opens again */
    else if (text[i] == '|' && !in_quotes)
      bar = i;
  }
  if (bar == length)
    return (long)length;
  if (!tm_time_offset_parse(text + bar + 1, length - bar - 1, sum, err))
    return -1;
  return (long)bar;
}

static bool out_of_range(struct tm_error *err)
{
  tm_error_set(err, TM_EUSAGE, "a time offset leads outside the years 1 to 9999");
  return false;
}

bool tm_time_add(int64_t instant, const struct tm_time_offset *o,
                 const struct tm_zone *zone, int64_t *out, struct tm_error *err)
{
  if (instant < TM_TIME_MIN || instant > TM_TIME_MAX)
    return out_of_range(err);
  int32_t utc_offset = tm_zone_offset(zone, instant);
  int64_t days = o->weeks * 7 + o->days;
  if (o->years != 0 || o->months != 0 || days != 0) {
    struct tm_civil c;
    tm_calendar_civil(instant + utc_offset, &c);
    if (!tm_calendar_add_months(&c, o->years * 12) ||
        !tm_calendar_add_months(&c, o->months))
      return out_of_range(err);
    int64_t local = tm_calendar_local(&c) + days * TM_DAY;
    if (local < TM_TIME_MIN || local > TM_TIME_MAX)
      return out_of_range(err);
    instant = tm_zone_resolve(zone, local, utc_offset);
  }
  instant += o->hours * 3600 + o->minutes * 60;
  if (instant < TM_TIME_MIN || instant > TM_TIME_MAX)
    return out_of_range(err);
  *out = instant;
  return true;
}
