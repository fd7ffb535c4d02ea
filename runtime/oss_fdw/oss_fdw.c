/*
** oss_fdw.c: what PostgreSQL calls first: magic, start, handler
**
** The handler's routine is made with makeNode, so a callback this version of
** PostgreSQL knows and we do not have is NULL.
*/
#include "postgres.h"

#include "fmgr.h"
#include "foreign/fdwapi.h"

#include "oss_fdw/analyze.h"
#include "oss_fdw/explain.h"
#include "oss_fdw/guc.h"
#include "oss_fdw/hook.h"
#include "oss_fdw/modify.h"
#include "oss_fdw/plan.h"
#include "oss_fdw/scan.h"

PG_MODULE_MAGIC;

PGDLLEXPORT void _PG_init(void);
PGDLLEXPORT Datum oss_fdw_handler(PG_FUNCTION_ARGS);
PG_FUNCTION_INFO_V1(oss_fdw_handler);

void _PG_init(void)
{
  fdw_guc_init();
  fdw_hook_init();
}

Datum oss_fdw_handler(PG_FUNCTION_ARGS)
{
  FdwRoutine *routine = makeNode(FdwRoutine);
  (void)fcinfo;

  routine->GetForeignRelSize = fdw_plan_size;
  routine->GetForeignPaths = fdw_plan_paths;
  routine->GetForeignPlan = fdw_plan_scan;
  routine->BeginForeignScan = fdw_scan_begin;
  routine->IterateForeignScan = fdw_scan_iterate;
  routine->ReScanForeignScan = fdw_scan_rescan;
  routine->EndForeignScan = fdw_scan_end;
  routine->ExplainForeignScan = fdw_explain_scan;
  routine->AnalyzeForeignTable = fdw_analyze;

  routine->IsForeignRelUpdatable = fdw_is_updatable;
  routine->PlanForeignModify = fdw_plan_modify;
  routine->BeginForeignModify = fdw_begin_modify;
  routine->ExecForeignInsert = fdw_exec_insert;
  routine->EndForeignModify = fdw_end_modify;
  routine->ExplainForeignModify = fdw_explain_modify;
  routine->BeginForeignInsert = fdw_begin_insert;
  routine->EndForeignInsert = fdw_end_insert;
#if PG_VERSION_NUM >= 140000
  routine->ExecForeignBatchInsert = fdw_exec_batch_insert;
  routine->GetForeignModifyBatchSize = fdw_batch_size;
#endif

  PG_RETURN_POINTER(routine);
}
