/*
** cron.h: cron expressions and their fire times
**
** Quartz expressions have six or seven fields (second minute hour day-of-month month
** day-of-week [year]), crontab ones five (minute hour day-of-month month day-of-week), or
** are one of @yearly @annually @monthly @weekly @daily @midnight @hourly. An expression
** says nothing about a zone; what happens when the clock changes is the rule's matter.
** A parsed expression never changes, so threads may share it.
**
** Quartz: `?` in exactly one of the two day fields; day-of-week 1 = SUN to 7 = SAT; L,
*L-n,
** LW, L-nW, nW in day-of-month; L, nL, n#k in day-of-week; n/step runs to the field's
*end;
** ranges wrap (22-2, FRI-MON), years do not. Beyond Quartz: a step after named ranges
** counts (JAN-MAR/2), and # may stand in a list. crontab: 0 and 7 are Sunday; when both
*day
** fields are restricted either is enough; n/step without a range is refused, because
** crons disagree about it.
*/
#ifndef TM_CRON_CRON_H
#define TM_CRON_CRON_H

#include "base/buffer.h"
#include "driver/zone.h"

struct tm_cron;

enum tm_cron_dst {
  /* Near to Vixie cron. "Fixed" expressions (second, minute and hour hold only numbers,
  ** lists, ranges): a time that a gap of at most three hours skips fires at the first
  ** instant after it, several of them once; a repeated time fires at the first pass.
  ** Any other expression fires at every real instant whose local time matches. */
  TM_CRON_ONCE,
  /* As Quartz 2.5: a skipped time is left out, a repeated one fires at the last pass
  *only,
  ** and a search that starts in the first pass goes on from its local time. */
  TM_CRON_QUARTZ,
  /* Every real instant whose local time matches: skipped times are left out, repeated
  *ones
  ** fire twice. */
  TM_CRON_EACH,
};

/* NULL with TM_EUSAGE: the message names the field, the text and the range; or
 * TM_EMEMORY. */
struct tm_cron *tm_cron_parse(const char *expression, struct tm_error *err) TM_MUSTCHECK;
void tm_cron_free(struct tm_cron *cron); /* NULL is fine */

/* "once", "quartz", "each"; false: something else. */
bool tm_cron_dst_by_name(const char *name, enum tm_cron_dst *out);

/*
** The first fire time after `instant`, or the last one before it (strictly). False: there
*is
** none (in the years 1 to 9999, or for as long as calendar and zone repeat: 400 years).
** Both cost microseconds; an expression that never fires is found out within
*milliseconds.
*/
bool tm_cron_next(const struct tm_cron *cron, const struct tm_zone *zone,
                  enum tm_cron_dst dst, int64_t instant, int64_t *out);
bool tm_cron_previous(const struct tm_cron *cron, const struct tm_zone *zone,
                      enum tm_cron_dst dst, int64_t instant, int64_t *out);

/* The expression as it was given. */
const char *tm_cron_text(const struct tm_cron *cron);

/* Appends what it means in English: "at 02:00 on the last day of every month". False: out
** of memory. */
bool tm_cron_describe(const struct tm_cron *cron, struct tm_buffer *out) TM_MUSTCHECK;

#endif
