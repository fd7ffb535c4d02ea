/*
** explain.h: what EXPLAIN shows of scans and inserts: the lines of either dialect
*/
#ifndef TM_FDW_EXPLAIN_H
#define TM_FDW_EXPLAIN_H

#include "foreign/fdwapi.h"

void fdw_explain_scan(ForeignScanState *node, struct ExplainState *es);
void fdw_explain_modify(ModifyTableState *mtstate, ResultRelInfo *rinfo,
                        List *fdw_private, int subplan_index, struct ExplainState *es);

#endif
