/*
** match.h: which objects a foreign table is made of
**
** Keys that end in '/', empty objects and objects of transactions that are not committed
** (name.h) never match. The order is the byte order of the keys; a filepath table of the
** RDS dialect has its objects as they are numbered: f, f.1, f.2 up to the first gap.
*/
#ifndef FDW_MATCH_H
#define FDW_MATCH_H

#include "postgres.h"

#include "base/error.h"
#include "oss_fdw/options.h"
#include "oss_fdw/server.h"

struct fdw_object {
  char *key;
  int64 size;        /* as stored, so compressed */
  int64 modified_ms; /* since 1970, or -1 */
  char *etag;        /* without quotes; "" unknown */
};

struct fdw_objects {
  struct fdw_object *items;
  int count;
  int64 bytes; /* of all of them */
  int hidden;  /* left out because their transaction is not committed */
  int empty;   /* left out because they are empty */
  bool warned; /* that there are none */
};

/* Lists now, in CurrentMemoryContext; raises what goes wrong. No object is no error. */
struct fdw_objects *fdw_match(const struct fdw_table *t, struct fdw_store *store);

/*
** The listing of this statement, for the planner: lists at the first call, later calls get
** the same. NULL with *err when it cannot be listed (interrupts are raised all the same).
** Belongs to match.c; do not keep it beyond the planner's run.
*/
const struct fdw_objects *fdw_match_plan(const struct fdw_table *t,
                                         struct fdw_store *store, struct tm_error *err);

/*
** The listing of this statement, for its execution: what the planner saw, else a new one.
** Every scan with the same `owner` (es_query_cxt) gets the same list; it lives as long as
** the owner. NULL with *err when it could not be listed, now or for the planner.
*/
struct fdw_objects *fdw_match_take(const struct fdw_table *t, struct fdw_store *store,
                                   MemoryContext owner, struct tm_error *err);

/* The WARNING of a table that has no object at all, once a list; silent when it has. */
void fdw_match_warn(const struct fdw_table *t, struct fdw_objects *objects);

/* "dir \"a/\" of bucket \"b\"" and so on: palloc'd, for messages. */
char *fdw_match_where(const struct fdw_table *t);

#endif
