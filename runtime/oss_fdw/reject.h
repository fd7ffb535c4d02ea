/*
** reject.h: reading on past rows that cannot be parsed: parse_errors, segment_reject_limit
**
** The rows of one scan of a tolerant table (fdw_table.tolerant). What goes between the feed and
** COPY, and what that costs, is told in reject.c.
*/
#ifndef TM_FDW_REJECT_H
#define TM_FDW_REJECT_H

#include "nodes/execnodes.h"
#include "oss_fdw/feed.h"
#include "utils/rel.h"

struct fdw_reject;

/*
** Lives in `cxt` (the scan's); `rel`, `t` and `copy_options` (DefElems as for BeginCopyFrom,
** `header` among them or not: it is taken from `t`) must outlive it.
*/
struct fdw_reject *fdw_reject_open(MemoryContext cxt, Relation rel,
                                   const struct fdw_table *t, List *copy_options);

/* `feed` stands at the start of `object`; both are kept until the next call of this. */
void fdw_reject_object(struct fdw_reject *r, struct fdw_feed *feed,
                       const struct fdw_object *object);

/*
** As NextCopyFrom: the next good row of the object, its values palloc'd in CurrentMemoryContext.
** False: the object has no more. Bad rows are counted and, with log_errors, logged. Raises
** once there are more than the table allows, and every error that is not of the data.
*/
bool fdw_reject_next(struct fdw_reject *r, ExprContext *econtext, Datum *values,
                     bool *nulls);

/* The last object is read: the NOTICE that tells how many rows were rejected. Once a scan; a
** scan that LIMIT stops says nothing, as in Greenplum. */
void fdw_reject_finish(struct fdw_reject *r);

/* The scan begins again, with counts of zero; what the first pass said and logged is not
** said and logged again. */
void fdw_reject_rewind(struct fdw_reject *r);

/* Bad rows of all passes so far. */
int64 fdw_reject_rows(const struct fdw_reject *r);

/* Writes what is not yet in the error log and frees all; NULL is fine. Not called when an
** error unwinds: the end of `cxt` then does the same. */
void fdw_reject_close(struct fdw_reject *r);

/*
** To be called when the executor starts a scan of a tolerant table: its plan runs without
** parallel workers, since before PostgreSQL 17 there are no subtransactions beside them.
*/
void fdw_reject_no_workers(EState *estate);

#endif
