/*
** result.h: what SQL functions of ours that return rows share. Include after postgres.h.
*/
#ifndef FDW_RESULT_H
#define FDW_RESULT_H

#include "fmgr.h"
#include "utils/tuplestore.h"

struct fdw_result {
  Tuplestorestate *rows;
  TupleDesc desc;
};

/* The function returns what is put into the rows. Raises where no set is accepted. */
struct fdw_result fdw_result_begin(FunctionCallInfo fcinfo);

void fdw_result_put(const struct fdw_result *result, Datum *values, bool *nulls);

/* UTF-8 (a key, an etag) as a text of this database; raises when it is not. */
Datum fdw_result_text(const char *utf8);

/* Milliseconds since 1970 as a timestamptz. */
Datum fdw_result_time(int64 unix_ms);

#endif
