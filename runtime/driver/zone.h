/*
** zone.h: time zones, from the system's time zone database through GLib
**
** A zone is read whole when it is opened and never changes after, so any number of
** threads may use it. Instants are seconds since 1970-01-01T00:00:00Z; a local time is
** the same count taken on the zone's wall clock (tm_calendar_* turns it into a date).
** Both hold for the years 1 to 9999; every function accepts any int64 and answers for the
** nearest instant in that range.
*/
#ifndef TM_DRIVER_ZONE_H
#define TM_DRIVER_ZONE_H

#include <stdint.h>

#include "base/error.h"

#define TM_TIME_MIN (-62135596800) /* 0001-01-01T00:00:00 */
#define TM_TIME_MAX 253402300799   /* 9999-12-31T23:59:59 */

struct tm_zone;

/* A stretch of time with one offset: instants start <= t < end. */
struct tm_zone_span {
  int64_t start, end; /* INT64_MIN and INT64_MAX where nothing bounds it */
  int32_t offset;     /* seconds east of UTC */
  char abbrev[12];    /* "CEST", "+0330" */
};

enum tm_zone_fold {
  TM_ZONE_UNIQUE,  /* one instant has this local time */
  TM_ZONE_GAP,     /* none has: the clock jumped over it */
  TM_ZONE_OVERLAP, /* two have: the clock was set back */
};

struct tm_zone_local {
  enum tm_zone_fold fold;
  int64_t first, last; /* unique: the same instant twice; overlap: the first and the last
                          pass; gap: the first instant after it, twice */
  int64_t from, until; /* gap and overlap: their local times, from <= local < until */
};

/*
** Opens an IANA zone ("Asia/Shanghai"), "UTC", "Z", or a fixed offset ("+08:00", "-0330",
** "+8", "UTC+08:00"; east is positive, at most 18 hours). NULL with TM_EUSAGE for a name
** that is unknown, TM_EMEMORY. Costs a few milliseconds: keep the zone.
*/
struct tm_zone *tm_zone_open(const char *name, struct tm_error *err) TM_MUSTCHECK;
void tm_zone_close(struct tm_zone *zone); /* NULL is fine */

/* The name as given; a fixed offset is written "+08:00", no offset "UTC". */
const char *tm_zone_name(const struct tm_zone *zone);

/* The span that holds this instant. */
void tm_zone_span_at(const struct tm_zone *zone, int64_t instant,
                     struct tm_zone_span *out);

/* Seconds east of UTC at this instant. */
int32_t tm_zone_offset(const struct tm_zone *zone, int64_t instant);

/* The instants of a local time. */
void tm_zone_from_local(const struct tm_zone *zone, int64_t local,
                        struct tm_zone_local *out);

/*
** One instant for a local time, as java.time resolves it: in an overlap the one with
** `offset` if there is such, else the first pass; in a gap the local time moves later by
** the gap's length. Without an offset to keep, pass INT32_MIN.
*/
int64_t tm_zone_resolve(const struct tm_zone *zone, int64_t local, int32_t offset);

#endif
