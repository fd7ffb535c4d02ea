/*
** zone_test.c: every zone of the database, held against the C library's reading of it
**
** glibc reads the same files by itself and follows their rules for good, so the two must agree
** on any instant: on the seconds around every change and on random ones up to the year 9999.
*/
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "cron/calendar.h"
#include "driver/zone.h"

enum { MOST_ZONES = 1000 };

static char zones[MOST_ZONES][64];
static int zone_count;

/* The names in zone1970.tab, and some that it leaves out. */
static int read_names(void **state)
{
  (void)state;
  char line[512];
  FILE *f = fopen("/usr/share/zoneinfo/zone1970.tab", "r");
  assert_non_null(f);
  while (fgets(line, sizeof line, f) != NULL && zone_count < MOST_ZONES - 3)
    if (line[0] != '#' && sscanf(line, "%*s %*s %63s", zones[zone_count]) == 1)
      zone_count++;
  fclose(f);
  static const char *const more[] = {"UTC", "Etc/GMT+5", "EST5EDT"};
  for (int i = 0; i < 3; i++)
    strcpy(zones[zone_count++], more[i]);
  assert_true(zone_count > 300);
  return 0;
}

static uint64_t seed = 20260102;

static int64_t random_instant(int64_t low, int64_t high)
{
  seed = seed * 6364136223846793005u + 1442695040888963407u;
  return low + (int64_t)((seed >> 11) % (uint64_t)(high - low));
}

static void same_as_libc(const struct tm_zone *zone, int64_t instant)
{
  struct tm tm;
  time_t t = (time_t)instant;
  assert_non_null(localtime_r(&t, &tm));
  struct tm_zone_span span;
  tm_zone_span_at(zone, instant, &span);
  if (span.offset != tm.tm_gmtoff || strcmp(span.abbrev, tm.tm_zone) != 0)
    print_error("%s at %lld: %d %s, the C library says %ld %s\n", tm_zone_name(zone),
                (long long)instant, span.offset, span.abbrev, tm.tm_gmtoff, tm.tm_zone);
  assert_int_equal(span.offset, tm.tm_gmtoff);
  assert_true(span.start <= instant && instant < span.end);
}

static void leads_back(const struct tm_zone *zone, int64_t instant)
{
  struct tm_zone_local at;
  int64_t local = instant + tm_zone_offset(zone, instant);
  tm_zone_from_local(zone, local, &at);
  assert_int_not_equal(at.fold, TM_ZONE_GAP);
  assert_true(at.first == instant || at.last == instant);
  assert_true(at.from <= local && local < at.until);
  assert_int_equal(tm_zone_resolve(zone, local, tm_zone_offset(zone, instant)), instant);
}

static void each_zone_agrees_with_the_c_library(void **state)
{
  (void)state;
  for (int i = 0; i < zone_count; i++) {
    struct tm_error err;
    struct tm_zone *zone = tm_zone_open(zones[i], &err);
    assert_non_null(zone);
    setenv("TZ", zones[i], 1);
    tzset();
    for (int k = 0; k < 300; k++) {
      int64_t t = random_instant(k % 2 == 0 ? 0 : -2000000000,
                                 k % 3 == 0 ? TM_TIME_MAX - TM_DAY : 7000000000);
      same_as_libc(zone, t);
      leads_back(zone, t);
      struct tm_zone_span span;
      tm_zone_span_at(zone, t, &span);
      if (span.end < TM_TIME_MAX - TM_DAY) { /* the seconds around a change */
        same_as_libc(zone, span.end - 1);
        same_as_libc(zone, span.end);
        leads_back(zone, span.end - 1);
        leads_back(zone, span.end);
      }
    }
    tm_zone_close(zone);
  }
}

/* Around each change: what is skipped is a gap, what comes twice an overlap. */
static void changes_are_gaps_and_overlaps(void **state)
{
  (void)state;
  for (int i = 0; i < zone_count; i++) {
    struct tm_error err;
    struct tm_zone *zone = tm_zone_open(zones[i], &err);
    struct tm_zone_span before, after;
    tm_zone_span_at(zone, 946684800, &before); /* 2000 */
    for (int k = 0; k < 100 && before.end < TM_TIME_MAX; k++, before = after) {
      tm_zone_span_at(zone, before.end, &after);
      int32_t jump = after.offset - before.offset;
      struct tm_zone_local at;
      if (jump > 0) {
        tm_zone_from_local(zone, before.end + before.offset, &at);
        assert_int_equal(at.fold, TM_ZONE_GAP);
        assert_int_equal(at.first, before.end);
        assert_int_equal(at.until - at.from, jump);
      } else if (jump < 0) {
        tm_zone_from_local(zone, before.end + before.offset - 1, &at);
        assert_int_equal(at.fold, TM_ZONE_OVERLAP);
        assert_int_equal(at.last - at.first, -jump);
        assert_int_equal(at.until - at.from, -jump);
      }
    }
    tm_zone_close(zone);
  }
}

static void the_calendar_agrees_with_the_c_library(void **state)
{
  (void)state;
  for (int k = 0; k < 20000; k++) {
    int64_t t = random_instant(TM_TIME_MIN, TM_TIME_MAX);
    struct tm_civil c;
    struct tm tm;
    tm_calendar_civil(t, &c);
    assert_non_null(gmtime_r(&(time_t){(time_t)t}, &tm));
    assert_int_equal(c.year, tm.tm_year + 1900);
    assert_int_equal(c.month, tm.tm_mon + 1);
    assert_int_equal(c.day, tm.tm_mday);
    assert_int_equal(c.hour * 3600 + c.min * 60 + c.sec,
                     tm.tm_hour * 3600 + tm.tm_min * 60 + tm.tm_sec);
    assert_int_equal(tm_calendar_day_of_year(c.year, c.month, c.day), tm.tm_yday + 1);
    assert_int_equal(tm_calendar_weekday(tm_calendar_days(c.year, c.month, c.day)) % 7,
                     tm.tm_wday);
    assert_int_equal(tm_calendar_local(&c), t);
    assert_true(tm_calendar_valid(&c));
  }
}

int main(void)
{
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(each_zone_agrees_with_the_c_library),
      cmocka_unit_test(changes_are_gaps_and_overlaps),
      cmocka_unit_test(the_calendar_agrees_with_the_c_library),
  };
  return cmocka_run_group_tests(tests, read_names, NULL);
}
