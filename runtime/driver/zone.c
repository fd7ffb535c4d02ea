/*
** zone.c: time zones, from the system's time zone database through GLib
**
** GLib reads the database; a zone here is the sorted list of its spans, found once by
** asking GLib where each of its intervals begins. The list ends with 400 years of spans
** after the last year that GLib is asked for: these follow from the zone's rule, and from
** there on everything repeats, since the calendar itself repeats every 400 years.
**
** Why not ask GLib for those years too: it stops near the year 3000, and it misreads some
** rules (2.74: a summer offset of 0 is taken for "not given", so that Europe/Dublin is at
** +02:00 from the end of the file's table, 2037, on). A rule speaks of "the last Sunday in
** March", so a month's changes are those of any other month of that number that begins on
** the same weekday; eleven years hold each kind of month, February's length apart (no zone
** has a rule for February). The eleven are the last ones asked for, or, where GLib shows
** an offset after 2037 that the years before do not have, the last up to 2037.
*/
#include "driver/zone.h"

#include <glib.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define DAY 86400
#define CYCLE (INT64_C(146097) * DAY) /* 400 years */

enum {
  TABLE_YEAR = 2038, /* the database's own tables end before it */
  ASKED_YEAR = 2100, /* GLib is asked for instants before it; Gaza and Morocco have
                         tables up to 2087, because of Ramadan */
  WINDOW = 11,       /* years that hold each kind of month */
  MAX_OFFSET = 18 * 3600,
};

struct change { /* a span that ends where the next one starts */
  int64_t start;
  int32_t offset;
  char abbrev[12];
};

struct tm_zone {
  char name[64];
  struct change *changes; /* changes[0].start is INT64_MIN */
  size_t count, cap;
  int64_t repeats; /* from here on the spans of `CYCLE` before hold; or INT64_MAX */
};

/* ---- days, as few as are needed here (the calendar proper is cron/calendar.h) ---- */

static int64_t days_before_month(int64_t year, int month)
{
  int64_t y = year - (month <= 2), m = month + (month > 2 ? -3 : 9);
  return y * 365 + y / 4 - y / 100 + y / 400 + (153 * m + 2) / 5 - 719468;
}

static int64_t month_start(int64_t year, int month)
{
  return days_before_month(month == 13 ? year + 1 : year, month == 13 ? 1 : month) * DAY;
}

/* ---- the list ---- */

static bool add_change(struct tm_zone *z, int64_t start, int32_t offset,
                       const char *abbrev)
{
  struct change *last = z->count > 0 ? &z->changes[z->count - 1] : NULL;
  if (last != NULL && last->offset == offset &&
      strncmp(last->abbrev, abbrev, sizeof last->abbrev - 1) == 0)
    return true;
  if (z->count == z->cap) {
    size_t cap = z->cap == 0 ? 64 : z->cap * 2;
    struct change *more = realloc(z->changes, cap * sizeof *more);
    if (more == NULL)
      return false;
    z->changes = more;
    z->cap = cap;
  }
  struct change *c = &z->changes[z->count++];
  c->start = start;
  c->offset = offset;
  snprintf(c->abbrev, sizeof c->abbrev, "%s", abbrev);
  return true;
}

/* Index of the change in force at an instant. */
static size_t index_at(const struct tm_zone *z, int64_t instant)
{
  size_t low = 0,
         high = z->count; /* changes[low].start <= instant < changes[high].start */
  while (high - low > 1) {
    size_t mid = low + (high - low) / 2;
    if (z->changes[mid].start <= instant)
      low = mid;
    else
      high = mid;
  }
  return low;
}

/* The first instant from `from` on at which GLib's interval is `interval` or a later one. GLib
** searches its list one by one, so the search widens from `from` instead of halving
** all of time. */
static int64_t start_of(GTimeZone *tz, int interval, int64_t from, int64_t limit)
{
  if (g_time_zone_find_interval(tz, G_TIME_TYPE_UNIVERSAL, from) >= interval)
    return from;
  int64_t low = from, step = 64 * DAY, high = from + step;
  while (high < limit &&
         g_time_zone_find_interval(tz, G_TIME_TYPE_UNIVERSAL, high) < interval) {
    low = high;
    step *= 2;
    high = low + step;
  }
  if (high > limit)
    high = limit;
  while (high - low > 1) {
    int64_t mid = low + (high - low) / 2;
    if (g_time_zone_find_interval(tz, G_TIME_TYPE_UNIVERSAL, mid) >= interval)
      high = mid;
    else
      low = mid;
  }
  return high;
}

static bool list_from_glib(struct tm_zone *z, GTimeZone *tz)
{
  int64_t limit = month_start(ASKED_YEAR, 1), at = TM_TIME_MIN;
  int first = g_time_zone_find_interval(tz, G_TIME_TYPE_UNIVERSAL, at);
  int last = g_time_zone_find_interval(tz, G_TIME_TYPE_UNIVERSAL, limit - 1);
  for (int i = first; i <= last; i++) {
    if (i > first)
      at = start_of(tz, i, at, limit);
    if (!add_change(z, i == first ? INT64_MIN : at, g_time_zone_get_offset(tz, i),
                    g_time_zone_get_abbreviation(tz, i)))
      return false;
  }
  return true;
}

/* Whether some span from TABLE_YEAR on has an offset and name that the eleven years before
** do not have: then GLib misread the rule. */
static bool is_misread(const struct tm_zone *z)
{
  size_t from = index_at(z, month_start(TABLE_YEAR - WINDOW, 1));
  size_t table_end = index_at(z, month_start(TABLE_YEAR, 1));
  for (size_t i = table_end + 1; i < z->count; i++) {
    bool known = false;
    for (size_t k = from; k <= table_end && !known; k++)
      known = z->changes[k].offset == z->changes[i].offset &&
              strcmp(z->changes[k].abbrev, z->changes[i].abbrev) == 0;
    if (!known)
      return true;
  }
  return false;
}

/* Adds what changes in a month after the list's end, as in a like month of the window. */
static bool add_month(struct tm_zone *z, int64_t year, int month, int64_t window_end,
                      size_t listed)
{
  int64_t start = month_start(year, month), length = month_start(year, month + 1) - start;
  int64_t like = 0;
  for (int64_t y = window_end - WINDOW; y < window_end; y++) {
    int64_t s = month_start(y, month);
    if ((start - s) % (7 * DAY) != 0)
      continue;
    like = s;
    if (month_start(y, month + 1) - s == length)
      break;
  }
  for (size_t i = index_at(z, like); i < listed && z->changes[i].start < like + length;
       i++) {
    struct change c = z->changes[i]; /* a copy: the list may move as it grows */
    if (c.start >= like && !add_change(z, c.start - like + start, c.offset, c.abbrev))
      return false;
  }
  return true;
}

static bool follow_rule(struct tm_zone *z)
{
  int64_t end = ASKED_YEAR;
  if (is_misread(z)) {
    end = TABLE_YEAR;
    z->count = index_at(z, month_start(end, 1) - 1) + 1;
  }
  size_t listed = z->count;
  if (z->changes[listed - 1].start < month_start(end - 2, 1))
    return true; /* no rule: the last offset stays */
  for (int64_t y = end; y <= end + 400; y++)
    for (int m = 1; m <= 12; m++)
      if (!add_month(z, y, m, end, listed))
        return false;
  z->repeats = z->changes[z->count - 1].start;
  return true;
}

/* ---- opening ---- */

/* "+08:00", "-0330", "+8", each also after "UTC" or "GMT"; "UTC" and "Z" themselves. */
static bool fixed_offset(const char *name, int32_t *offset)
{
  const char *p = name;
  if (strncmp(p, "UTC", 3) == 0 || strncmp(p, "GMT", 3) == 0)
    p += 3;
  if (*p == '\0' || strcmp(name, "Z") == 0) {
    *offset = 0;
    return *name != '\0';
  }
  int sign = *p == '+' ? 1 : *p == '-' ? -1 : 0;
  size_t digits = strspn(p + 1, "0123456789");
  if (sign == 0 || digits == 0 || digits > 4 || digits == 3)
    return false;
  int hours = atoi(p + 1), minutes = 0;
  if (digits == 4) {
    minutes = hours % 100;
    hours /= 100;
  }
  p += 1 + digits;
  if (digits <= 2 && p[0] == ':' && strspn(p + 1, "0123456789") == 2) {
    minutes = atoi(p + 1);
    p += 3;
  }
  if (*p != '\0' || minutes > 59 || hours * 3600 + minutes * 60 > MAX_OFFSET)
    return false;
  *offset = sign * (hours * 3600 + minutes * 60);
  return true;
}

/* GLib takes paths and POSIX rules as well; only names of the database are wanted. */
static bool in_database(const char *name)
{
  static const char allowed[] = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ"
                                "0123456789_+-/";
  if (name[0] == '\0' || name[0] == '/' || name[strspn(name, allowed)] != '\0')
    return false;
  const char *dir = getenv("TZDIR");
  char path[512];
  snprintf(path, sizeof path, "%s/%s", dir != NULL ? dir : "/usr/share/zoneinfo", name);
  return access(path, R_OK) == 0;
}

static struct tm_zone *open_fixed(struct tm_zone *z, int32_t offset)
{
  int32_t minutes = abs(offset) / 60;
  if (offset == 0)
    snprintf(z->name, sizeof z->name, "UTC");
  else
    snprintf(z->name, sizeof z->name, "%c%02d:%02d", offset < 0 ? '-' : '+', minutes / 60,
             minutes % 60);
  if (add_change(z, INT64_MIN, offset, z->name))
    return z;
  tm_zone_close(z);
  return NULL;
}

struct tm_zone *tm_zone_open(const char *name, struct tm_error *err)
{
  struct tm_zone *z = calloc(1, sizeof *z);
  if (z == NULL)
    goto no_memory;
  z->repeats = INT64_MAX;
  int32_t offset;
  if (fixed_offset(name, &offset)) {
    z = open_fixed(z, offset);
    if (z == NULL)
      goto no_memory;
    return z;
  }
  GTimeZone *tz = NULL;
  if (strlen(name) < sizeof z->name && in_database(name))
    tz = g_time_zone_new_identifier(name);
  if (tz == NULL) {
    tm_error_set(err, TM_EUSAGE, "unknown time zone '%.80s'", name);
    tm_error_hint(err, in_database("Europe/Paris")
                           ? "use a name such as Asia/Shanghai, UTC or +08:00"
                           : "the time zone database is not installed (package tzdata)");
    free(z);
    return NULL;
  }
  snprintf(z->name, sizeof z->name, "%s", name);
  bool ok = list_from_glib(z, tz) && follow_rule(z);
  g_time_zone_unref(tz);
  if (ok)
    return z;

no_memory:
  tm_zone_close(z);
  tm_error_set(err, TM_EMEMORY, "out of memory");
  return NULL;
}

void tm_zone_close(struct tm_zone *z)
{
  if (z == NULL)
    return;
  free(z->changes);
  free(z);
}

const char *tm_zone_name(const struct tm_zone *z)
{
  return z->name;
}

/* ---- asking ---- */

static int64_t clamp(int64_t t)
{
  return t < TM_TIME_MIN ? TM_TIME_MIN : t > TM_TIME_MAX ? TM_TIME_MAX : t;
}

void tm_zone_span_at(const struct tm_zone *z, int64_t instant, struct tm_zone_span *out)
{
  int64_t t = clamp(instant), shift = 0;
  if (t >= z->repeats) {
    shift = ((t - z->repeats) / CYCLE + 1) * CYCLE;
    t -= shift;
  }
  size_t i = index_at(z, t);
  out->start = i == 0 ? INT64_MIN : z->changes[i].start + shift;
  /* only a list without a rule has a last change that is asked for */
  out->end = i + 1 == z->count ? INT64_MAX : z->changes[i + 1].start + shift;
  out->offset = z->changes[i].offset;
  memcpy(out->abbrev, z->changes[i].abbrev, sizeof out->abbrev);
}

int32_t tm_zone_offset(const struct tm_zone *z, int64_t instant)
{
  struct tm_zone_span span;
  tm_zone_span_at(z, instant, &span);
  return span.offset;
}

/* No two clocks differ by more than 26 hours and no zone jumps by more than 24, so the spans
** that can hold a local time are those within two days of it. */
void tm_zone_from_local(const struct tm_zone *z, int64_t local, struct tm_zone_local *out)
{
  local = clamp(local);
  struct tm_zone_span span, before = {.end = INT64_MIN};
  bool found = false;
  *out =
      (struct tm_zone_local){.fold = TM_ZONE_UNIQUE, .from = local, .until = local + 1};
  tm_zone_span_at(z, local - 2 * DAY, &span);
  for (;;) {
    int64_t instant = local - span.offset;
    bool inside = instant >= span.start && instant < span.end;
    if (inside && !found) {
      out->first = out->last = instant;
    } else if (inside) {
      out->fold = TM_ZONE_OVERLAP;
      out->last = instant;
      out->from = span.start + span.offset;
      out->until = span.start + before.offset;
    } else if (!found && instant < span.start && before.end == span.start) {
      *out = (struct tm_zone_local){.fold = TM_ZONE_GAP,
                                    .first = span.start,
                                    .last = span.start,
                                    .from = span.start + before.offset,
                                    .until = span.start + span.offset};
      return;
    }
    found = found || inside;
    if (span.end > local + 2 * DAY)
      return;
    before = span;
    tm_zone_span_at(z, span.end, &span);
  }
}

int64_t tm_zone_resolve(const struct tm_zone *z, int64_t local, int32_t offset)
{
  struct tm_zone_local at;
  tm_zone_from_local(z, local, &at);
  if (at.fold == TM_ZONE_GAP)
    return at.first + (local - at.from);
  if (at.fold == TM_ZONE_OVERLAP && tm_zone_offset(z, at.last) == offset &&
      at.last == local - offset)
    return at.last;
  return at.first;
}
