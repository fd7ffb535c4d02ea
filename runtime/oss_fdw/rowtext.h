/*
** rowtext.h: rows of an executor as csv or text, byte for byte what COPY TO writes
**
** Columns that were dropped or are generated have no field, as in COPY. Values are in ISO
** dates, postgres intervals, shortest exact floats and hex bytea, whatever the session has
** set. A string goes through the conversion of encodings before it is quoted, since only
** then is it known which bytes of it are characters of their own.
*/
#ifndef FDW_ROWTEXT_H
#define FDW_ROWTEXT_H

#include "postgres.h"

#include "executor/tuptable.h"

#include "oss_fdw/options.h"
#include "stream/stream.h"

struct fdw_rowtext;

/* For rows of `desc`, in the format of `t`; both must outlive it. It lives in the current
** memory context. Raises: no output function, no conversion between the encodings. */
struct fdw_rowtext *fdw_rowtext_new(const struct fdw_table *t, TupleDesc desc);

/* Appends one row and counts it in slab->rows. What output functions allocate is freed
** before it returns. Raises what they raise, and program_limit_exceeded for a row beyond
** 1 GB; the slab then ends in a part of a row and is only good for being freed. */
void fdw_rowtext_add(struct fdw_rowtext *r, TupleTableSlot *slot, struct tm_slab *slab);

/* Appends the line of column names that COPY's HEADER writes; no row is counted. */
void fdw_rowtext_header(struct fdw_rowtext *r, struct tm_slab *slab);

#endif
