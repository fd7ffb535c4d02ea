/*
** calendar.h: civil dates of the proleptic Gregorian calendar, years 1 to 9999
**
** A local time is seconds since 1970-01-01T00:00:00 on some wall clock; which zone's is
** the caller's affair. Pure functions.
*/
#ifndef TM_CRON_CALENDAR_H
#define TM_CRON_CALENDAR_H

#include <stdint.h>

#include "base/error.h"

#define TM_DAY 86400

struct tm_civil {
  int32_t year;           /* 1 to 9999 */
  int32_t month, day;     /* 1 to 12, 1 to 31 */
  int32_t hour, min, sec; /* 0 to 23, 59, 59 */
};

/* Days since 1970-01-01; any int32 year, month 1 to 12, any day count. */
int64_t tm_calendar_days(int32_t year, int32_t month, int32_t day);

/* Local seconds to a date and time, and back. Any local time within the years -9999 to
** 99999 is turned; tm_calendar_valid says whether a date exists in years 1 to 9999. */
void tm_calendar_civil(int64_t local, struct tm_civil *out);
int64_t tm_calendar_local(const struct tm_civil *civil);
bool tm_calendar_valid(const struct tm_civil *civil);

int32_t tm_calendar_month_days(int32_t year, int32_t month);
int32_t tm_calendar_day_of_year(int32_t year, int32_t month, int32_t day); /* from 1 */

/* 1 = Monday to 7 = Sunday (ISO 8601). */
int32_t tm_calendar_weekday(int64_t days);

/* Adds months (may be negative; years are 12) and clamps the day to the month's last, as
** java.time does. False: the year leaves 1 to 9999; *civil unchanged. */
bool tm_calendar_add_months(struct tm_civil *civil, int64_t months) TM_MUSTCHECK;

/*
** Reads "2026-01-02", "2026-01-02 03:04", "2026-01-02T03:04:05.678", each with or without
** "Z", "+08:00", "+0800" or "+08" at the end (ISO 8601; 'T', 't' or one blank between).
** *nanos is the fraction; *offset the seconds east of UTC, INT32_MIN when none is
*written.
** False with TM_EUSAGE: the message quotes the text.
*/
bool tm_calendar_parse(const char *text, struct tm_civil *out, int32_t *nanos,
                       int32_t *offset, struct tm_error *err) TM_MUSTCHECK;

#endif
