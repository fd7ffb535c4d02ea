/*
** cron_describe.c: a cron expression in English
**
** Works on the sets, not on the text, so that two spellings of one schedule read alike:
** "every 15 minutes, in hours 8 to 18, on Monday to Friday".
*/
#include <string.h>

#include "cron/cron.h"
#include "cron/cron_fields.h"

struct words {
  struct tm_buffer *out;
  bool ok; /* false once memory ran out */
};

static void say(struct words *w, const char *text)
{
  w->ok = w->ok && tm_buffer_adds(w->out, text);
}

/* The set's values in writing: how each looks is `one`'s business. */
typedef void value_writer(struct words *w, int value);

static void plain(struct words *w, int value)
{
  w->ok = w->ok && tm_buffer_addf(w->out, "%d", value);
}

static void year_value(struct words *w, int value)
{
  plain(w, value + TM_CRON_YEAR_MIN);
}

static void month_value(struct words *w, int value)
{
  static const char *const names[] = {"January",   "February", "March",    "April",
                                      "May",       "June",     "July",     "August",
                                      "September", "October",  "November", "December"};
  say(w, names[value - 1]);
}

static void weekday_value(struct words *w, int value)
{
  static const char *const names[] = {"Sunday",   "Monday", "Tuesday", "Wednesday",
                                      "Thursday", "Friday", "Saturday"};
  say(w, names[value % 7]);
}

struct set {
  const uint64_t *bits;
  int count; /* values are 0 to count - 1 */
};

static bool has(const struct set *s, int value)
{
  return value >= 0 && value < s->count && (s->bits[value / 64] >> (value % 64) & 1);
}

/* "1, 3 to 5 and 9": runs of three and more as ranges. */
static void values(struct words *w, struct set s, value_writer *one)
{
  bool first = true;
  for (int v = 0; v < s.count; v++) {
    if (!has(&s, v))
      continue;
    int last = v;
    while (has(&s, last + 1))
      last++;
    if (last < v + 2)
      last = v;
    bool more = false;
    for (int k = last + 1; k < s.count && !more; k++)
      more = has(&s, k);
    say(w, first ? "" : more ? ", " : " and ");
    first = false;
    one(w, v);
    if (last > v) {
      say(w, " to ");
      one(w, last);
    }
    v = last;
  }
}

static int size_of(uint64_t bits)
{
  return __builtin_popcountll(bits);
}

/* The step of a set that begins below its step and runs to the field's end; else 0. */
static int step_of(uint64_t bits, int count)
{
  if (size_of(bits) < 3)
    return 0;
  int first = __builtin_ctzll(bits);
  int step = __builtin_ctzll(bits & (bits - 1)) - first;
  uint64_t expected = 0;
  for (int v = first; v < count; v += step)
    expected |= UINT64_C(1) << v;
  return first < step && bits == expected ? step : 0;
}

/* "every minute", "every 15 minutes from 5" or "at minute 1, 2 and 30" */
static void rhythm(struct words *w, uint64_t bits, int count, const char *unit)
{
  int step = step_of(bits, count), first = __builtin_ctzll(bits);
  if (step == 0) {
    w->ok = w->ok && tm_buffer_addf(w->out, "at %s ", unit);
    values(w, (struct set){&bits, count}, plain);
    return;
  }
  if (step == 1)
    w->ok = w->ok && tm_buffer_addf(w->out, "every %s", unit);
  else
    w->ok = w->ok && tm_buffer_addf(w->out, "every %d %ss", step, unit);
  if (first > 0)
    w->ok = w->ok && tm_buffer_addf(w->out, " from %s %d", unit, first);
}

/* "at 02:30", "at 02:30 and 14:30" */
static void clock_times(struct words *w, const struct tm_cron *c)
{
  int minute = __builtin_ctzll(c->minutes), second = __builtin_ctzll(c->seconds);
  int left = size_of(c->hours);
  say(w, "at ");
  for (int h = 0; h < 24; h++) {
    if (!(c->hours >> h & 1))
      continue;
    w->ok = w->ok && tm_buffer_addf(w->out, "%02d:%02d", h, minute);
    if (second != 0)
      w->ok = w->ok && tm_buffer_addf(w->out, ":%02d", second);
    left--;
    say(w, left > 1 ? ", " : left == 1 ? " and " : "");
  }
}

/* Whether clock times were said, which want a day. */
static bool time_of_day(struct words *w, const struct tm_cron *c)
{
  uint64_t hours = c->hours;
  if (size_of(c->seconds) == 1 && size_of(c->minutes) == 1 && size_of(hours) <= 4) {
    clock_times(w, c);
    return true;
  }
  bool whole_minute = c->seconds == 1, whole_hour = c->minutes == 1;
  if (!whole_minute) {
    rhythm(w, c->seconds, 60, "second");
    if (step_of(c->minutes, 60) != 1)
      say(w, ", ");
  }
  if (!(whole_minute && whole_hour) && (whole_minute || step_of(c->minutes, 60) != 1))
    rhythm(w, c->minutes, 60, "minute");
  int hour_step = step_of(hours, 24);
  if (whole_minute && whole_hour) {
    rhythm(w, hours, 24, "hour");
  } else if (hour_step > 1) {
    say(w, ", ");
    rhythm(w, hours, 24, "hour");
  } else if (hour_step == 0) {
    say(w, size_of(hours) == 1 ? ", in hour " : ", in hours ");
    values(w, (struct set){&hours, 24}, plain);
  }
  return false;
}

/* ---- days ---- */

/* "or " between two sayings about days, "on " before the first. */
static void on(struct words *w, bool *said)
{
  say(w, *said ? " or " : " on ");
  *said = true;
}

static void last_days(struct words *w, uint32_t offsets, const char *last, bool *said)
{
  for (int n = 0; n <= 30; n++) {
    if (!(offsets >> n & 1))
      continue;
    on(w, said);
    if (n == 0)
      w->ok = w->ok && tm_buffer_addf(w->out, "the last %s", last);
    else if (strcmp(last, "day") == 0)
      w->ok = w->ok && tm_buffer_addf(w->out, "the day %d before the last", n);
    else
      w->ok = w->ok &&
              tm_buffer_addf(w->out, "the working day nearest to %d before the last", n);
  }
}

static void by_date(struct words *w, const struct tm_cron *c, bool *said)
{
  uint64_t dom = c->dom, near = c->dom_near;
  if (dom != 0) {
    on(w, said);
    say(w, size_of(dom) == 1 ? "day " : "days ");
    values(w, (struct set){&dom, 32}, plain);
  }
  if (near != 0) {
    on(w, said);
    say(w, "the working day nearest to day ");
    values(w, (struct set){&near, 32}, plain);
  }
  last_days(w, c->dom_last, "day", said);
  last_days(w, c->dom_last_near, "working day", said);
}

static void by_weekday(struct words *w, const struct tm_cron *c, bool *said)
{
  static const char *const nth[] = {"first", "second", "third", "fourth", "fifth"};
  uint64_t week = c->dow, last = c->dow_last;
  if (week == 0x41) /* Saturday and Sunday read better in this order */
    week = 0xc0;
  else if (week & 1 && size_of(week) > 1) /* Sunday last */
    week = (week & ~UINT64_C(1)) | 0x80;
  if (week != 0) {
    on(w, said);
    values(w, (struct set){&week, 8}, weekday_value);
  }
  for (int n = 0; n < 5; n++) {
    uint64_t set = c->dow_nth[n];
    if (set == 0)
      continue;
    on(w, said);
    w->ok = w->ok && tm_buffer_addf(w->out, "the %s ", nth[n]);
    values(w, (struct set){&set, 7}, weekday_value);
  }
  if (last != 0) {
    on(w, said);
    say(w, "the last ");
    values(w, (struct set){&last, 7}, weekday_value);
  }
}

static void days(struct words *w, const struct tm_cron *c, bool clock_said)
{
  bool said = false, dates = !c->any_dom, monthly = c->months == 0x1ffe;
  if (c->any_dom && c->any_dow) {
    say(w, clock_said ? " every day" : "");
  } else {
    if (!clock_said)
      say(w, ",");
    if (dates)
      by_date(w, c, &said);
    if (dates && !c->any_dow && !c->either) {
      say(w, " if it is");
      said = false;
    }
    if (!c->any_dow)
      by_weekday(w, c, &said);
  }
  uint64_t months = c->months;
  if (!monthly) {
    say(w, c->any_dom && c->any_dow && !clock_said ? ", in " : " in ");
    values(w, (struct set){&months, 13}, month_value);
  } else if (dates || c->dow_last != 0 ||
             (c->dow_nth[0] | c->dow_nth[1] | c->dow_nth[2] | c->dow_nth[3] |
              c->dow_nth[4]) != 0) {
    say(w, " of every month");
  }
  if (!c->any_year) {
    say(w, ", in ");
    values(w, (struct set){c->years, TM_CRON_YEAR_MAX - TM_CRON_YEAR_MIN + 1},
           year_value);
  }
}

bool tm_cron_describe(const struct tm_cron *cron, struct tm_buffer *out)
{
  struct words w = {.out = out, .ok = true};
  bool clock_said = time_of_day(&w, cron);
  days(&w, cron, clock_said);
  return w.ok;
}
