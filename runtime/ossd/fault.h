/*
** fault.h: failures that tests ask ossd for
*/
#ifndef TM_OSSD_FAULT_H
#define TM_OSSD_FAULT_H

#include <stdatomic.h>
#include <stdint.h>

#include "base/error.h"

enum tm_ossd_fault_kind {
  TM_FAULT_503,            /* every n-th request: 503, nothing done */
  TM_FAULT_CUT,            /* every n-th GET of an object: the connection ends mid-body */
  TM_FAULT_CUT_PUT,        /* every n-th upload: the connection ends mid-body */
  TM_FAULT_DROP_PUT,       /* every n-th upload: stored, but no answer */
  TM_FAULT_SLOW,           /* every n-th GET of an object: 16 KiB each 50 ms */
  TM_FAULT_CORRUPT,        /* every n-th GET of an object: one byte differs */
  TM_FAULT_CRC,            /* every n-th CRC header: wrong */
  TM_FAULT_COMPLETE_ERROR, /* every n-th complete: 200 with an <Error> body, not done */
  TM_FAULT_COMPLETE_DROP,  /* every n-th complete: done, but no answer */
  TM_FAULT_STALL, /* every n-th put or complete of an object: begun three seconds late */
  TM_FAULT_LATE, /* every n-th put or complete of an object: answered three seconds late */
  TM_FAULT_EXPIRED_TOKEN, /* every n-th signed request: the token has expired */
  TM_FAULT_PAGE,          /* not a count: lists have pages of at most n, truncated */
  TM_FAULT_SKEW,          /* not a count: the server's clock is n seconds ahead */
  TM_FAULT_KINDS
};

struct tm_ossd_faults {
  int64_t setting[TM_FAULT_KINDS]; /* n; 0: off */
  atomic_uint seen[TM_FAULT_KINDS];
};

/* Reads "KIND=N" ("503=3", "skew=-1200"). False: TM_EUSAGE. */
bool tm_ossd_fault_parse(struct tm_ossd_faults *f, const char *text, struct tm_error *err)
    TM_MUSTCHECK;

/* Counts one occasion; true when it is the n-th. */
bool tm_ossd_fault(struct tm_ossd_faults *f, enum tm_ossd_fault_kind kind);

/* Counts one occasion, and sleeps three seconds when it is the n-th. */
void tm_ossd_fault_wait(struct tm_ossd_faults *f, enum tm_ossd_fault_kind kind);

#endif
