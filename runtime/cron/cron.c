/*
** cron.c: fire times of a cron expression in a zone
**
** Two ways of searching, by what a rule asks for:
** - real: every instant whose local time matches. Goes through the zone's spans; within
**   one, local time and instants differ by a constant.
** - civil: each matching local time gives at most one instant, and a later local time never
**   an earlier one. Goes through local times; a gap or overlap is left in one step.
*/
#include "cron/cron.h"

#include <stdlib.h>
#include <string.h>

#include "cron/cron_fields.h"

#define CYCLE (INT64_C(146097) * TM_DAY) /* 400 years: calendar and zone rules repeat */
#define RULES_SETTLED 4102444800         /* 2100: from here a zone follows its rule */
#define BEFORE_CHANGES (-2208988800)     /* 1900: before it zones did not change */
#define MADE_UP_GAP (3 * 3600) /* as Vixie cron: longer gaps are not made up for */
#define MARGIN (2 * TM_DAY)    /* more than clocks differ or jump */

bool tm_cron_dst_by_name(const char *name, enum tm_cron_dst *out)
{
  static const char *const names[] = {"once", "quartz", "each"};
  for (int i = 0; i < 3; i++) {
    if (strcmp(name, names[i]) == 0) {
      *out = (enum tm_cron_dst)i;
      return true;
    }
  }
  return false;
}

const char *tm_cron_text(const struct tm_cron *cron)
{
  return cron->text;
}

void tm_cron_free(struct tm_cron *cron)
{
  if (cron == NULL)
    return;
  free(cron->text);
  free(cron);
}

/* ---- real ---- */

static bool next_real(const struct tm_cron *c, const struct tm_zone *zone,
                      int64_t instant, int64_t limit, int64_t *out)
{
  int64_t at = instant + 1;
  while (at <= limit) {
    struct tm_zone_span span;
    int64_t local;
    tm_zone_span_at(zone, at, &span);
    bool found = tm_cron_match_from(c, at + span.offset, limit, &local);
    if (found && local - span.offset < span.end) {
      *out = local - span.offset;
      return true;
    }
    /* a clock set back soon may bring local times again that have passed here */
    bool may_repeat = span.end <= at + MARGIN;
    if (span.end == INT64_MAX || (!found && !may_repeat))
      return false;
    at = span.end;
    if (found && !may_repeat && local - MARGIN > at)
      at = local - MARGIN;
  }
  return false;
}

static bool previous_real(const struct tm_cron *c, const struct tm_zone *zone,
                          int64_t instant, int64_t limit, int64_t *out)
{
  int64_t at = instant - 1;
  while (at >= limit) {
    struct tm_zone_span span;
    int64_t local;
    tm_zone_span_at(zone, at, &span);
    bool found = tm_cron_match_until(c, at + span.offset, limit, &local);
    if (found && local - span.offset >= span.start) {
      *out = local - span.offset;
      return true;
    }
    bool may_repeat = span.start >= at - MARGIN;
    if (span.start == INT64_MIN || (!found && !may_repeat))
      return false;
    at = span.start - 1;
    if (found && !may_repeat && local + MARGIN < at)
      at = local + MARGIN;
  }
  return false;
}

/* ---- civil ---- */

/* When a matching local time fires; false: it does not. */
static bool fire_of(const struct tm_zone_local *at, bool quartz, int64_t *fire)
{
  *fire = quartz ? at->last : at->first;
  return at->fold != TM_ZONE_GAP || (!quartz && at->until - at->from <= MADE_UP_GAP);
}

/* The local time an instant has, and whether it is in the second pass of an overlap. */
static int64_t local_of(const struct tm_zone *zone, int64_t instant,
                        struct tm_zone_local *at, bool *second_pass)
{
  int64_t local = instant + tm_zone_offset(zone, instant);
  tm_zone_from_local(zone, local, at);
  *second_pass = at->fold == TM_ZONE_OVERLAP && instant == at->last;
  return local;
}

static bool next_civil(const struct tm_cron *c, const struct tm_zone *zone, bool quartz,
                       int64_t instant, int64_t limit, int64_t *out)
{
  struct tm_zone_local at;
  bool second_pass;
  int64_t local, from = local_of(zone, instant, &at, &second_pass) + 1;
  if (second_pass && !quartz)
    from = at.until; /* the whole overlap fired in its first pass */
  while (tm_cron_match_from(c, from, limit, &local)) {
    tm_zone_from_local(zone, local, &at);
    if (fire_of(&at, quartz, out) && *out > instant)
      return true;
    from = at.until; /* a unique local time: the next second */
  }
  return false;
}

static bool previous_civil(const struct tm_cron *c, const struct tm_zone *zone,
                           bool quartz, int64_t instant, int64_t limit, int64_t *out)
{
  struct tm_zone_local at;
  bool second_pass;
  int64_t local, from = local_of(zone, instant, &at, &second_pass) - 1;
  if (second_pass && !quartz)
    from = at.until - 1;
  while (tm_cron_match_until(c, from, limit, &local)) {
    tm_zone_from_local(zone, local, &at);
    if (fire_of(&at, quartz, out) && *out < instant)
      return true;
    from = at.from - 1;
  }
  return false;
}

/* ---- by rule ---- */

static bool is_real(const struct tm_cron *c, enum tm_cron_dst dst)
{
  return dst == TM_CRON_EACH || (dst == TM_CRON_ONCE && !c->fixed);
}

bool tm_cron_next(const struct tm_cron *c, const struct tm_zone *zone,
                  enum tm_cron_dst dst, int64_t instant, int64_t *out)
{
  if (instant >= TM_TIME_MAX)
    return false;
  if (instant < TM_TIME_MIN)
    instant = TM_TIME_MIN - 1;
  int64_t limit = (instant > RULES_SETTLED ? instant : RULES_SETTLED) + CYCLE + MARGIN;
  if (limit > TM_TIME_MAX)
    limit = TM_TIME_MAX;
  if (is_real(c, dst))
    return next_real(c, zone, instant, limit, out);
  return next_civil(c, zone, dst == TM_CRON_QUARTZ, instant, limit, out);
}

bool tm_cron_previous(const struct tm_cron *c, const struct tm_zone *zone,
                      enum tm_cron_dst dst, int64_t instant, int64_t *out)
{
  if (instant <= TM_TIME_MIN)
    return false;
  if (instant > TM_TIME_MAX)
    instant = TM_TIME_MAX + 1;
  int64_t limit = (instant < BEFORE_CHANGES ? instant : BEFORE_CHANGES) - CYCLE - MARGIN;
  if (limit < TM_TIME_MIN)
    limit = TM_TIME_MIN;
  if (is_real(c, dst))
    return previous_real(c, zone, instant, limit, out);
  return previous_civil(c, zone, dst == TM_CRON_QUARTZ, instant, limit, out);
}
