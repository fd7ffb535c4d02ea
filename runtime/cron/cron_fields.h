/*
** cron_fields.h: a parsed cron expression, and the local times it matches
**
** Inner header of cron/: cron_parse.c fills the struct, cron_match.c finds local times that
** match, cron.c turns them into instants, cron_describe.c puts them into words.
*/
#ifndef TM_CRON_CRON_FIELDS_H
#define TM_CRON_CRON_FIELDS_H

#include "cron/calendar.h"
#include "cron/cron.h"

#define TM_CRON_YEAR_MIN 1970 /* Quartz: a year field holds 1970 to 2099 */
#define TM_CRON_YEAR_MAX 2099

/* Sets are bit masks; bit n stands for the value n. */
struct tm_cron {
  char *text;
  uint64_t seconds, minutes;
  uint32_t hours, months; /* months: bits 1 to 12 */
  uint64_t years[3];      /* bit 0 is TM_CRON_YEAR_MIN; unused when any_year */
  bool any_year;
  bool fixed; /* seconds, minutes and hours hold only numbers, lists and ranges */

  /* Days: those of `any_dom` or the four sets by date, and `any_dow` or the three by
  ** weekday; with `either`, days of one of them are enough (crontab). */
  bool any_dom, any_dow, either;
  uint32_t dom;           /* bits 1 to 31 */
  uint32_t dom_near;      /* 15W: bits 1 to 31 */
  uint32_t dom_last;      /* L-n: bits 0 to 30 */
  uint32_t dom_last_near; /* L-nW */
  uint8_t dow;            /* bits 0 to 6, 0 = Sunday */
  uint8_t dow_last;       /* 6L */
  uint8_t dow_nth[5];     /* [0] first to [4] fifth: 6#3 */
};

/* The first local time >= `local`, or the last <= `local`, that matches; not past `limit`.
** All lie within TM_TIME_MIN and TM_TIME_MAX. False: none. */
bool tm_cron_match_from(const struct tm_cron *cron, int64_t local, int64_t limit,
                        int64_t *out);
bool tm_cron_match_until(const struct tm_cron *cron, int64_t local, int64_t limit,
                         int64_t *out);

#endif
