/*
** cron_match.c: the local times that a cron expression matches
**
** The days of a month that match are one mask, made at once from its length and the weekday
** it begins on; so a search goes month by month, and within a day by the bits of the
** hour, minute and second sets. Nothing is stepped through second by second.
*/
#include "cron/cron_fields.h"

#include <stddef.h>

/* The lowest bit >= from, or the highest <= from; -1 when there is none. */
static int bit_from(uint64_t set, int from)
{
  if (from > 63)
    return -1;
  set &= ~UINT64_C(0) << from;
  return set == 0 ? -1 : __builtin_ctzll(set);
}

static int bit_until(uint64_t set, int from)
{
  if (from < 0)
    return -1;
  set &= ~UINT64_C(0) >> (63 - from);
  return set == 0 ? -1 : 63 - __builtin_clzll(set);
}

/* ---- days ---- */

/* The working day nearest to `day` within its month; w is its weekday, 0 = Sunday. */
static int nearest(int day, int w, int length)
{
  if (w == 6)
    return day > 1 ? day - 1 : day + 2;
  if (w == 0)
    return day < length ? day + 1 : day - 2;
  return day;
}

static uint32_t days_by_date(const struct tm_cron *c, int first, int length)
{
  uint32_t days = c->dom;
  for (int d = 1; d <= length; d++) {
    int last = length - d; /* how many days before the month's last */
    if (c->dom_last >> last & 1)
      days |= UINT32_C(1) << d;
    if ((c->dom_near >> d & 1) || (c->dom_last_near >> last & 1))
      days |= UINT32_C(1) << nearest(d, (first + d - 1) % 7, length);
  }
  return days;
}

static uint32_t days_by_weekday(const struct tm_cron *c, int first, int length)
{
  uint32_t days = 0;
  for (int d = 1; d <= length; d++) {
    int w = (first + d - 1) % 7;
    unsigned set = c->dow | c->dow_nth[(d - 1) / 7];
    if (d + 7 > length)
      set |= c->dow_last;
    if (set >> w & 1)
      days |= UINT32_C(1) << d;
  }
  return days;
}

/* The days of a month that match, bits 1 to 31. */
static uint32_t days_of(const struct tm_cron *c, int32_t year, int32_t month)
{
  int length = tm_calendar_month_days(year, month);
  uint32_t all = (uint32_t)((UINT64_C(2) << length) - 2);
  if (c->any_dom && c->any_dow)
    return all;
  int first = tm_calendar_weekday(tm_calendar_days(year, month, 1)) % 7;
  uint32_t by_date = c->any_dom ? all : days_by_date(c, first, length);
  uint32_t by_weekday = c->any_dow ? all : days_by_weekday(c, first, length);
  return (c->either ? by_date | by_weekday : by_date & by_weekday) & all;
}

static bool year_in(const struct tm_cron *c, int32_t year)
{
  if (c->any_year)
    return true;
  int32_t n = year - TM_CRON_YEAR_MIN;
  return n >= 0 && year <= TM_CRON_YEAR_MAX && (c->years[n / 64] >> (n % 64) & 1);
}

/* The first matching day >= days, or INT64_MAX. */
static int64_t day_from(const struct tm_cron *c, int64_t days, int32_t last_year)
{
  struct tm_civil at;
  tm_calendar_civil(days * TM_DAY, &at);
  int month = at.month, day = at.day;
  for (int32_t year = at.year; year <= last_year; year++, month = day = 1) {
    if (!year_in(c, year))
      continue;
    for (int asked = month; (month = bit_from(c->months, month)) > 0; month++) {
      int found = bit_from(days_of(c, year, month), month == asked ? day : 1);
      if (found > 0)
        return tm_calendar_days(year, month, found);
      asked = 0;
    }
  }
  return INT64_MAX;
}

/* The last matching day <= days, or INT64_MIN. */
static int64_t day_until(const struct tm_cron *c, int64_t days, int32_t first_year)
{
  struct tm_civil at;
  tm_calendar_civil(days * TM_DAY, &at);
  int month = at.month, day = at.day;
  for (int32_t year = at.year; year >= first_year; year--, month = 12, day = 31) {
    if (!year_in(c, year))
      continue;
    for (int asked = month; (month = bit_until(c->months, month)) > 0; month--) {
      int found = bit_until(days_of(c, year, month), month == asked ? day : 31);
      if (found > 0)
        return tm_calendar_days(year, month, found);
      asked = 0;
    }
  }
  return INT64_MIN;
}

/* ---- time of day ---- */

/* The first matching second of the day >= sec, or -1. */
static int time_from(const struct tm_cron *c, int sec)
{
  int h = sec / 3600, m = sec / 60 % 60, s = sec % 60;
  int hour = bit_from(c->hours, h);
  if (hour == h) {
    int minute = bit_from(c->minutes, m);
    if (minute == m) {
      int second = bit_from(c->seconds, s);
      if (second >= 0)
        return h * 3600 + m * 60 + second;
      minute = bit_from(c->minutes, m + 1);
    }
    if (minute >= 0)
      return h * 3600 + minute * 60 + bit_from(c->seconds, 0);
    hour = bit_from(c->hours, h + 1);
  }
  if (hour < 0)
    return -1;
  return hour * 3600 + bit_from(c->minutes, 0) * 60 + bit_from(c->seconds, 0);
}

/* The last matching second of the day <= sec, or -1. */
static int time_until(const struct tm_cron *c, int sec)
{
  int h = sec / 3600, m = sec / 60 % 60, s = sec % 60;
  int hour = bit_until(c->hours, h);
  if (hour == h) {
    int minute = bit_until(c->minutes, m);
    if (minute == m) {
      int second = bit_until(c->seconds, s);
      if (second >= 0)
        return h * 3600 + m * 60 + second;
      minute = bit_until(c->minutes, m - 1);
    }
    if (minute >= 0)
      return h * 3600 + minute * 60 + bit_until(c->seconds, 59);
    hour = bit_until(c->hours, h - 1);
  }
  if (hour < 0)
    return -1;
  return hour * 3600 + bit_until(c->minutes, 59) * 60 + bit_until(c->seconds, 59);
}

/* ---- both ---- */

static int64_t day_number(int64_t local)
{
  return local / TM_DAY - (local % TM_DAY < 0);
}

static int32_t year_of(int64_t local)
{
  struct tm_civil c;
  tm_calendar_civil(local, &c);
  return c.year;
}

bool tm_cron_match_from(const struct tm_cron *c, int64_t local, int64_t limit,
                        int64_t *out)
{
  if (local < TM_TIME_MIN)
    local = TM_TIME_MIN;
  if (limit > TM_TIME_MAX)
    limit = TM_TIME_MAX;
  if (local > limit)
    return false;
  int32_t last_year = year_of(limit);
  int64_t today = day_number(local), day = day_from(c, today, last_year);
  int sec = 0;
  if (day == today) {
    sec = time_from(c, (int)(local - today * TM_DAY));
    if (sec < 0)
      day = day_from(c, today + 1, last_year);
  }
  if (day == INT64_MAX)
    return false;
  if (day != today)
    sec = time_from(c, 0);
  *out = day * TM_DAY + sec;
  return *out <= limit;
}

bool tm_cron_match_until(const struct tm_cron *c, int64_t local, int64_t limit,
                         int64_t *out)
{
  if (local > TM_TIME_MAX)
    local = TM_TIME_MAX;
  if (limit < TM_TIME_MIN)
    limit = TM_TIME_MIN;
  if (local < limit)
    return false;
  int32_t first_year = year_of(limit);
  int64_t today = day_number(local), day = day_until(c, today, first_year);
  int sec = 0;
  if (day == today) {
    sec = time_until(c, (int)(local - today * TM_DAY));
    if (sec < 0)
      day = day_until(c, today - 1, first_year);
  }
  if (day == INT64_MIN)
    return false;
  if (day != today)
    sec = time_until(c, TM_DAY - 1);
  *out = day * TM_DAY + sec;
  return *out >= limit;
}
