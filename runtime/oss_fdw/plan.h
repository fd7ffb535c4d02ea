/*
** plan.h: planner callbacks: size, paths, plan
**
** The list of objects is not in the plan, which may outlive it: see match.h.
*/
#ifndef FDW_PLAN_H
#define FDW_PLAN_H

#include "postgres.h"

#include "foreign/fdwapi.h"
#include "storage/block.h"

void fdw_plan_size(PlannerInfo *root, RelOptInfo *rel, Oid relid);
void fdw_plan_paths(PlannerInfo *root, RelOptInfo *rel, Oid relid);
ForeignScan *fdw_plan_scan(PlannerInfo *root, RelOptInfo *rel, Oid relid,
                           ForeignPath *path, List *tlist, List *clauses, Plan *outer);

struct fdw_columns { /* which columns a scan needs */
  bool all;
  List *names; /* Strings; nothing when `all` */
};

/* Reads them from the fdw_private of a ForeignScan. */
struct fdw_columns fdw_plan_columns(List *fdw_private);

/* What so many bytes of objects count for in relpages and costs: at least 1. */
BlockNumber fdw_plan_pages(int64 bytes);

#endif
