/*
** rows.h: the rows of a list of objects, through PostgreSQL's own COPY parser
**
** One COPY state an object: header, line numbers, newline style and a missing last newline
** are each object's own. This is what scans and ANALYZE share. Bad rows are errors, or go
** to reject.h when the table is tolerant.
*/
#ifndef FDW_ROWS_H
#define FDW_ROWS_H

#include "postgres.h"

#include "executor/tuptable.h"
#include "nodes/execnodes.h"
#include "oss_fdw/feed.h"
#include "utils/rel.h"

struct fdw_rows;

/*
** Nothing is fetched yet. Lives in a child of `cxt`. `columns` (Strings) are the columns
** that must be converted, others become NULL; NIL with `all`: every one. The other
** arguments must outlive it.
*/
struct fdw_rows *fdw_rows_open(MemoryContext cxt, Relation rel, const struct fdw_table *t,
                               struct fdw_store *store, const struct fdw_objects *objects,
                               List *columns, bool all);

/* Begins no further object once `bytes` have been fetched: the rows then end. */
void fdw_rows_limit(struct fdw_rows *rows, int64 bytes);

/*
** Stores the next row into `slot` (virtual) or clears it at the end. Values are palloc'd in
** CurrentMemoryContext, which the caller resets between rows. Raises errors with the
** object and the line in their context.
*/
void fdw_rows_next(struct fdw_rows *rows, ExprContext *econtext, TupleTableSlot *slot);

/* Bytes of objects, as stored, fetched so far; objects begun so far. */
int64 fdw_rows_bytes(const struct fdw_rows *rows);
int fdw_rows_objects(const struct fdw_rows *rows);

/* Rows rejected so far; -1: the table is not tolerant. */
int64 fdw_rows_rejected(const struct fdw_rows *rows);

/* Back to before the first row: transfers are stopped, the next row is the first again. */
void fdw_rows_rewind(struct fdw_rows *rows);

/* NULL is fine. */
void fdw_rows_close(struct fdw_rows *rows);

#endif
