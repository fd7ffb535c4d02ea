/*
** plan.h: planner callbacks: size, paths, plan
**
** fdw_private of a ForeignScan is list_make1(columns): the names (Strings) of the columns
** to be converted, or NIL for all. The list of objects is not in it: see match.h.
*/
#ifndef TM_FDW_PLAN_H
#define TM_FDW_PLAN_H

#include "foreign/fdwapi.h"

void fdw_plan_size(PlannerInfo *root, RelOptInfo *rel, Oid relid);
void fdw_plan_paths(PlannerInfo *root, RelOptInfo *rel, Oid relid);
ForeignScan *fdw_plan_scan(PlannerInfo *root, RelOptInfo *rel, Oid relid,
                           ForeignPath *path, List *tlist, List *clauses, Plan *outer);

#endif
