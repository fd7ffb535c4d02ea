/*
** lease.h: a thread that keeps a runner's lease in the state store
**
** A runner is a row of the table `runners` (on PostgreSQL `tidemill.runners`). The thread has a
** database connection of its own and renews the row every `every_ms`, whatever the rest of the
** process does:
**
**     UPDATE runners SET lease_until = <now + lease_ms> WHERE id = <runner> AND state = 'alive'
**
** <now> is the database's clock on PostgreSQL and this host's on SQLite, milliseconds since
** 1970. A renewal that touches no row tells that another runner took over: the lease is lost, for
** ever. One that fails is tried again soon, on a new connection if need be, and until one
** succeeds the lease counts as held for lease_ms from the start of the last good one, by a
** clock that goes on in a suspended machine. SIGINT and SIGTERM do not stop the thread.
*/
#ifndef TM_LEASE_LEASE_H
#define TM_LEASE_LEASE_H

#include <stdint.h>

#include "base/error.h"

struct tm_lease;

enum tm_lease_store { TM_LEASE_SQLITE, TM_LEASE_POSTGRES };

struct tm_lease_opts {
  enum tm_lease_store store;
  const char *where;  /* path of the file, or conninfo */
  const char *runner; /* runners.id */
  int64_t lease_ms;
  int64_t every_ms; /* less than lease_ms */
  int64_t age_ms;   /* since the row was written with lease_until = then + lease_ms */
};

/* Starts the thread; does not wait for the database. Copies the options. NULL: TM_EMEMORY,
** TM_ESYSTEM, TM_EUSAGE (times that make no sense). */
struct tm_lease *tm_lease_start(const struct tm_lease_opts *opts, struct tm_error *err)
    TM_MUSTCHECK;

/* Ends the thread; waits for it 2 s at most, after which it ends by itself. The row is left as
** it is. NULL is fine. */
void tm_lease_close(struct tm_lease *lease);

/* False with *why set: TM_ECONFLICT when it was taken over (for ever so), TM_ETIMEOUT when no
** renewal succeeded in time, with what the last one said as its detail. */
bool tm_lease_held(struct tm_lease *lease, struct tm_error *why);

/* Milliseconds since the start of the last good renewal, or of tm_lease_start's `age_ms`. */
int64_t tm_lease_age_ms(struct tm_lease *lease);

#endif
