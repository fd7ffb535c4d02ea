/*
** scan.c: executor callbacks of a foreign scan: begin, iterate, rescan, end
**
** The objects are listed (or taken over from the planner) when the executor starts, so a
** cursor reads what there was when it was opened; transfers begin with the first row. All lies
** below es_query_cxt, whose end, an error's too, stops what is under way.
*/
#include "oss_fdw/scan.h"

#include "executor/executor.h"
#include "miscadmin.h"
#include "oss_fdw/plan.h"
#include "oss_fdw/reject.h"
#include "oss_fdw/rows.h"
#include "oss_fdw/wait.h"

Oid fdw_scan_user(ForeignScanState *node)
{
  ForeignScan *plan = castNode(ForeignScan, node->ss.ps.plan);
#if PG_VERSION_NUM >= 160000
  Oid user = plan->checkAsUser;
#else
  Oid user = exec_rt_fetch(plan->scan.scanrelid, node->ss.ps.state)->checkAsUser;
#endif
  return OidIsValid(user) ? user : GetUserId();
}

void fdw_scan_begin(ForeignScanState *node, int eflags)
{
  ForeignScan *plan = castNode(ForeignScan, node->ss.ps.plan);
  EState *estate = node->ss.ps.state;
  struct tm_error err;
  if (eflags & EXEC_FLAG_EXPLAIN_ONLY)
    return;
  Relation rel = node->ss.ss_currentRelation;
  struct fdw_table *t = fdw_table_get(RelationGetRelid(rel), fdw_scan_user(node));
  if (t->tolerant)
    fdw_reject_no_workers(estate);
  struct fdw_store *store = fdw_store_acquire_in(estate->es_query_cxt, t);
  struct fdw_objects *objects = fdw_match_take(t, store, estate->es_query_cxt, &err);
  if (objects == NULL)
    fdw_raise(&err);
  fdw_match_warn(t, objects);
  struct fdw_columns columns = fdw_plan_columns(plan->fdw_private);
  node->fdw_state = fdw_rows_open(estate->es_query_cxt, rel, t, store, objects,
                                  columns.names, columns.all);
}

TupleTableSlot *fdw_scan_iterate(ForeignScanState *node)
{
  TupleTableSlot *slot = node->ss.ss_ScanTupleSlot;
  fdw_rows_next(node->fdw_state, node->ss.ps.ps_ExprContext, slot);
  return slot;
}

void fdw_scan_rescan(ForeignScanState *node)
{
  if (node->fdw_state != NULL)
    fdw_rows_rewind(node->fdw_state);
}

void fdw_scan_end(ForeignScanState *node)
{
  fdw_rows_close(node->fdw_state);
  node->fdw_state = NULL;
}

void fdw_scan_counts(ForeignScanState *node, int64 *objects, int64 *bytes,
                     int64 *rejected)
{
  const struct fdw_rows *rows = node->fdw_state;
  *objects = rows != NULL ? fdw_rows_objects(rows) : 0;
  *bytes = rows != NULL ? fdw_rows_bytes(rows) : 0;
  *rejected = rows != NULL ? fdw_rows_rejected(rows) : -1;
}
