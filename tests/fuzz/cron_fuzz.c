/*
** cron_fuzz.c: any text as a cron expression, and what holds for those that parse
**
** Input: the first byte picks the rule, the second the zone, eight make the instant, the rest is
** the expression.
*/
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "cron/cron.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void require(bool truth, const char *what)
{
  if (truth)
    return;
  fprintf(stderr, "does not hold: %s\n", what);
  abort();
}

static void check(const struct tm_cron *cron, const struct tm_zone *zone,
                  enum tm_cron_dst dst, int64_t instant)
{
  int64_t next, back;
  for (int i = 0; i < 4 && tm_cron_next(cron, zone, dst, instant, &next); i++) {
    require(next > instant, "next is later");
    require(tm_cron_previous(cron, zone, dst, next + 1, &back) && back == next,
            "previous leads back to next");
    instant = next;
  }
  if (tm_cron_previous(cron, zone, dst, instant, &back)) {
    require(back < instant, "previous is earlier");
    require(dst == TM_CRON_QUARTZ || back <= TM_TIME_MIN ||
                (tm_cron_next(cron, zone, dst, back - 1, &next) && next == back),
            "next leads back to previous");
  }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
  static const char *const names[] = {"UTC",
                                      "America/New_York",
                                      "Europe/Berlin",
                                      "Africa/Cairo",
                                      "Australia/Lord_Howe",
                                      "Pacific/Apia",
                                      "Europe/Dublin",
                                      "-11:00"};
  static struct tm_zone *zones[8]; /* opened once: it takes long */
  if (size < 10 || size > 400)
    return 0;
  struct tm_error err;
  struct tm_zone **zone = &zones[data[1] % 8];
  if (*zone == NULL && (*zone = tm_zone_open(names[data[1] % 8], &err)) == NULL)
    abort();
  int64_t instant;
  memcpy(&instant, data + 2, 8);
  if (data[0] & 0x80) /* most of the time within the years that matter */
    instant = instant % TM_TIME_MAX;
  char text[400];
  memcpy(text, data + 10, size - 10);
  text[size - 10] = '\0';
  struct tm_cron *cron = tm_cron_parse(text, &err);
  if (cron == NULL) {
    require(err.kind == TM_EUSAGE && err.message[0] != '\0', "a refusal says why");
    return 0;
  }
  check(cron, *zone, (enum tm_cron_dst)(data[0] % 3), instant);
  struct tm_buffer words = {0};
  require(tm_cron_describe(cron, &words) && words.len > 0, "it can be described");
  tm_buffer_free(&words);
  tm_cron_free(cron);
  return 0;
}
