/*
** time_format_fuzz.c: any text as a variable, an offset, a date and a zone name
**
** Input: the first byte says which, eight make the instant, the rest is the text.
*/
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "cron/format.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void require(bool truth, const char *what)
{
  if (truth)
    return;
  fprintf(stderr, "does not hold: %s\n", what);
  abort();
}

static void variable(const struct tm_zone *zone, int64_t instant, const char *text,
                     size_t length)
{
  struct tm_time_offset sum = {0};
  struct tm_buffer out = {0};
  struct tm_error err;
  long split = tm_time_variable_split(text, length, &sum, &err);
  if (split >= 0) {
    require((size_t)split <= length, "the format is a part of the text");
    if (tm_time_add(instant, &sum, zone, &instant, &err))
      require(instant >= TM_TIME_MIN && instant <= TM_TIME_MAX, "a moved time exists");
    if (!tm_time_format_instant(&out, text, (size_t)split, instant, 5, zone, TM_LOCALE_EN,
                                &err))
      require(err.kind == TM_EUSAGE, "a refusal says why");
  }
  tm_buffer_free(&out);
}

static void date(const char *text)
{
  struct tm_civil civil, again;
  struct tm_error err;
  int32_t nanos, offset;
  if (!tm_calendar_parse(text, &civil, &nanos, &offset, &err))
    return;
  require(tm_calendar_valid(&civil), "what is read is a date");
  require(nanos >= 0 && nanos < 1000000000, "a fraction is below a second");
  tm_calendar_civil(tm_calendar_local(&civil), &again);
  require(memcmp(&civil, &again, sizeof civil) == 0, "a date leads back to itself");
}

static void zone_name(const char *text, int64_t instant)
{
  struct tm_error err;
  struct tm_zone *zone = tm_zone_open(text, &err);
  if (zone == NULL)
    return;
  struct tm_zone_local local;
  tm_zone_from_local(zone, instant, &local);
  require(local.first <= local.last && local.from < local.until,
          "local times are ordered");
  tm_zone_close(zone);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
  static struct tm_zone *zone; /* opened once: it takes long */
  if (size < 9 || size > 400)
    return 0;
  struct tm_error err;
  if (zone == NULL && (zone = tm_zone_open("Europe/Berlin", &err)) == NULL)
    abort();
  int64_t instant;
  memcpy(&instant, data + 1, 8);
  if (data[0] & 0x80)
    instant = instant % TM_TIME_MAX;
  char text[400];
  memcpy(text, data + 9, size - 9);
  text[size - 9] = '\0';
  if (data[0] % 8 == 0)
    date(text);
  else if (data[0] % 8 == 1)
    zone_name(text, instant);
  else
    variable(zone, instant, text, size - 9);
  return 0;
}
