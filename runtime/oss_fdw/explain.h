/*
** explain.h: what EXPLAIN shows of scans and inserts: the lines of either dialect
*/
#ifndef FDW_EXPLAIN_H
#define FDW_EXPLAIN_H

#include "postgres.h"

#include "foreign/fdwapi.h"

void fdw_explain_scan(ForeignScanState *node, struct ExplainState *es);
void fdw_explain_modify(ModifyTableState *state, ResultRelInfo *info, List *fdw_private,
                        int subplan, struct ExplainState *es);

#endif
