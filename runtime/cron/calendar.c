/*
** calendar.c: civil dates of the proleptic Gregorian calendar, years 1 to 9999
**
** Day counts use years that begin in March, so that the leap day is a year's last and the
** month lengths follow one straight line; 400 such years are one era of 146,097 days.
*/
#include "cron/calendar.h"

#include <stdlib.h>
#include <string.h>

enum { ERA_DAYS = 146097, EPOCH_SHIFT = 719468 /* 0000-03-01 to 1970-01-01 */ };

static int64_t floor_div(int64_t a, int64_t b)
{
  return a / b - (a % b < 0);
}

int64_t tm_calendar_days(int32_t year, int32_t month, int32_t day)
{
  int64_t y = (int64_t)year - (month <= 2);
  int64_t era = floor_div(y, 400);
  int64_t year_of_era = y - era * 400;
  int64_t day_of_year = (153 * (month + (month > 2 ? -3 : 9)) + 2) / 5;
  int64_t day_of_era =
      year_of_era * 365 + year_of_era / 4 - year_of_era / 100 + day_of_year;
  return era * ERA_DAYS + day_of_era - EPOCH_SHIFT + day - 1;
}

static void date_of_days(int64_t days, struct tm_civil *out)
{
  int64_t z = days + EPOCH_SHIFT;
  int64_t era = floor_div(z, ERA_DAYS);
  int64_t day_of_era = z - era * ERA_DAYS;
  int64_t year_of_era = (day_of_era - day_of_era / 1460 + day_of_era / 36524 -
                         day_of_era / (ERA_DAYS - 1)) /
                        365;
  int64_t day_of_year =
      day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
  int64_t m = (5 * day_of_year + 2) / 153; /* 0 = March */
  out->day = (int32_t)(day_of_year - (153 * m + 2) / 5 + 1);
  out->month = (int32_t)(m < 10 ? m + 3 : m - 9);
  out->year = (int32_t)(year_of_era + era * 400 + (out->month <= 2));
}

void tm_calendar_civil(int64_t local, struct tm_civil *out)
{
  int64_t days = floor_div(local, TM_DAY);
  int32_t sec = (int32_t)(local - days * TM_DAY);
  date_of_days(days, out);
  out->hour = sec / 3600;
  out->min = sec / 60 % 60;
  out->sec = sec % 60;
}

int64_t tm_calendar_local(const struct tm_civil *c)
{
  return tm_calendar_days(c->year, c->month, c->day) * TM_DAY + c->hour * 3600 +
         c->min * 60 + c->sec;
}

static bool is_leap(int32_t year)
{
  return year % 4 == 0 && (year % 100 != 0 || year % 400 == 0);
}

int32_t tm_calendar_month_days(int32_t year, int32_t month)
{
  static const int8_t days[] = {31, 28, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31};
  return month == 2 && is_leap(year) ? 29 : days[month - 1];
}

bool tm_calendar_valid(const struct tm_civil *c)
{
  return c->year >= 1 && c->year <= 9999 && c->month >= 1 && c->month <= 12 &&
         c->day >= 1 && c->day <= tm_calendar_month_days(c->year, c->month) &&
         c->hour >= 0 && c->hour <= 23 && c->min >= 0 && c->min <= 59 && c->sec >= 0 &&
         c->sec <= 59;
}

int32_t tm_calendar_day_of_year(int32_t year, int32_t month, int32_t day)
{
  return (int32_t)(tm_calendar_days(year, month, day) - tm_calendar_days(year, 1, 1)) + 1;
}

int32_t tm_calendar_weekday(int64_t days)
{
  int64_t w = (days + 3) % 7; /* 1970-01-01 was a Thursday */
  return (int32_t)(w < 0 ? w + 7 : w) + 1;
}

bool tm_calendar_add_months(struct tm_civil *c, int64_t months)
{
  if (months < -120000 || months > 120000)
    return false;
  int64_t total = (int64_t)c->year * 12 + (c->month - 1) + months;
  int64_t year = floor_div(total, 12);
  if (year < 1 || year > 9999)
    return false;
  c->year = (int32_t)year;
  c->month = (int32_t)(total - year * 12) + 1;
  int32_t last = tm_calendar_month_days(c->year, c->month);
  if (c->day > last)
    c->day = last;
  return true;
}

/* ---- reading ---- */

/* Exactly `width` digits; advances *p. */
static bool digits(const char **p, int width, int32_t *out)
{
  int32_t n = 0;
  for (int i = 0; i < width; i++) {
    char c = (*p)[i];
    if (c < '0' || c > '9')
      return false;
    n = n * 10 + (c - '0');
  }
  *p += width;
  *out = n;
  return true;
}

static bool literal(const char **p, char c)
{
  if (**p != c)
    return false;
  (*p)++;
  return true;
}

/* ".678" or ",678" to nanoseconds; nothing there is fine. More than nine digits are not. */
static bool fraction(const char **p, int32_t *nanos)
{
  *nanos = 0;
  if (**p != '.' && **p != ',')
    return true;
  (*p)++;
  int32_t scale = 100000000, n = 0;
  int count = 0;
  for (; **p >= '0' && **p <= '9'; (*p)++, count++, scale /= 10)
    n += (**p - '0') * scale;
  *nanos = n;
  return count >= 1 && count <= 9;
}

/* "Z", "+08:00", "+0800", "+08", or nothing. */
static bool offset_of(const char **p, int32_t *offset)
{
  *offset = INT32_MIN;
  if (**p == '\0')
    return true;
  if (literal(p, 'Z') || literal(p, 'z')) {
    *offset = 0;
    return true;
  }
  char sign = **p;
  if (sign != '+' && sign != '-')
    return false;
  (*p)++;
  int32_t hours, minutes = 0;
  if (!digits(p, 2, &hours))
    return false;
  if (**p != '\0') {
    literal(p, ':');
    if (!digits(p, 2, &minutes))
      return false;
  }
  if (minutes > 59 || hours * 60 + minutes > 18 * 60)
    return false;
  *offset = (hours * 3600 + minutes * 60) * (sign == '-' ? -1 : 1);
  return true;
}

static bool time_of(const char **p, struct tm_civil *out, int32_t *nanos)
{
  if (!digits(p, 2, &out->hour) || !literal(p, ':') || !digits(p, 2, &out->min))
    return false;
  if (!literal(p, ':'))
    return true;
  return digits(p, 2, &out->sec) && fraction(p, nanos);
}

bool tm_calendar_parse(const char *text, struct tm_civil *out, int32_t *nanos,
                       int32_t *offset, struct tm_error *err)
{
  const char *p = text;
  memset(out, 0, sizeof *out);
  *nanos = 0;
  *offset = INT32_MIN;
  bool ok = digits(&p, 4, &out->year) && literal(&p, '-') && digits(&p, 2, &out->month) &&
            literal(&p, '-') && digits(&p, 2, &out->day);
  if (ok && (*p == ' ' || *p == 'T' || *p == 't')) {
    p++;
    ok = time_of(&p, out, nanos);
    if (ok && *p == ' ' && (p[1] == '+' || p[1] == '-' || p[1] == 'Z'))
      p++;
  }
  ok = ok && offset_of(&p, offset) && *p == '\0';
  if (!ok) {
    tm_error_set(err, TM_EUSAGE, "cannot read the time '%.80s'", text);
    tm_error_hint(err, "write it as 2026-01-02, 2026-01-02 03:04:05 or "
                       "2026-01-02T03:04:05+08:00");
    return false;
  }
  if (!tm_calendar_valid(out)) {
    tm_error_set(err, TM_EUSAGE, "there is no such time as '%.80s'", text);
    tm_error_hint(err, "years 0001 to 9999, hours 00 to 23, seconds 00 to 59");
    return false;
  }
  return true;
}
