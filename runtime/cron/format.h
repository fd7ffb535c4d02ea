/*
** format.h: time variables: java.time format letters and "+1d" offsets
**
** The letters, ranges and offset grammar are those of Alibaba Cloud DMS (Configure
** variables; UpdateTaskFlowTimeVariables). Letters: G y Y M w W D d E e a H h K k m s S
*z.
** A run of one letter is one field; 'text' is literal, '' is one quote; every other
*letter
** is refused, every other character passes through. Weeks run Monday to Sunday; week 1 of
** a year (w, Y) and of a month (W) is the one that holds its first day. S is the fraction
** of a second, as many digits as letters; z is "UTC+08:00" ("UTC" without an offset); G
*is
** "AD", set apart by a blank from a year letter that follows it at once.
*/
#ifndef TM_CRON_FORMAT_H
#define TM_CRON_FORMAT_H

#include "base/buffer.h"
#include "cron/calendar.h"
#include "driver/zone.h"

enum tm_time_locale { TM_LOCALE_EN, TM_LOCALE_ZH };

/* Sums of each unit. Years to days are steps on the calendar (a month's missing day is
*its
** last), applied largest first; hours and minutes are elapsed time, applied after. */
struct tm_time_offset {
  int64_t years, months, weeks, days, hours, minutes;
};

/* Appends the instant as `format` writes it on the zone's clock. False: TM_EUSAGE (an unknown
** letter, too many of one, an open quote; the message says where), TM_EMEMORY. `out` may then
** hold a part. */
bool tm_time_format_instant(struct tm_buffer *out, const char *format, size_t length,
                            int64_t instant, int32_t nanos, const struct tm_zone *zone,
                            enum tm_time_locale locale, struct tm_error *err)
    TM_MUSTCHECK;

/*
** Adds to *sum the offsets of a text: {sign digits unit}, unit y M w d h m; blanks
*between
** them are fine, an empty text adds nothing. False: TM_EUSAGE.
*/
bool tm_time_offset_parse(const char *text, size_t length, struct tm_time_offset *sum,
                          struct tm_error *err) TM_MUSTCHECK;

/*
** Splits a serialized variable, "yyyy-MM-dd|+0m-2d": the last '|' outside quotes ends the
** format. Returns the length of the format and adds the offsets to *sum. Without such a
** '|' all of it is the format. Negative: TM_EUSAGE.
*/
long tm_time_variable_split(const char *text, size_t length, struct tm_time_offset *sum,
                            struct tm_error *err) TM_MUSTCHECK;

/* Moves an instant: the calendar part on the zone's clock (tm_zone_resolve keeps the
*offset),
** then hours and minutes. False with TM_EUSAGE: the result leaves the years 1 to 9999. */
bool tm_time_add(int64_t instant, const struct tm_time_offset *offset,
                 const struct tm_zone *zone, int64_t *out, struct tm_error *err)
    TM_MUSTCHECK;

#endif
