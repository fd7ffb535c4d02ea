/*
** plan.c: planner callbacks: size, paths, plan
**
** The rows are estimated as file_fdw does it: the bytes of the objects now, with the rows a
** page that ANALYZE found, else with the width of the columns. Each object costs a round trip;
** a rescan costs as much as the scan, for it fetches all again, so the planner materialises.
*/
#include "oss_fdw/plan.h"

#include "access/sysattr.h"
#include "access/table.h"
#include "miscadmin.h"
#include "nodes/makefuncs.h"
#include "optimizer/cost.h"
#include "optimizer/optimizer.h"
#include "optimizer/pathnode.h"
#include "optimizer/planmain.h"
#include "optimizer/restrictinfo.h"
#include "oss_fdw/match.h"
#include "oss_fdw/wait.h"
#include "parser/parsetree.h"
#include "utils/rel.h"

enum {
  COMPRESSION = 4, /* what compressed text expands to, until ANALYZE knows better */
  UNKNOWN_BYTES = 10 * BLCKSZ, /* of a table that cannot be listed: file_fdw's guess */
  LISTING_COST = 100, /* before the first row; postgres_fdw's cost of a connection */
  OBJECT_COST = 5,    /* a request, most of it hidden behind others */
};

struct plan_info { /* RelOptInfo.fdw_private */
  struct fdw_columns columns;
  int64 bytes;
  int objects;
  bool compressed;
};

/* ---- columns ---- */

/*
** The columns that the query wants of the table; `all` when a whole row is among them, or
** nothing would be saved. A query that wants none (count(*)) converts none.
*/
static struct fdw_columns wanted_columns(RelOptInfo *rel, Oid relid)
{
  struct fdw_columns columns = {0};
  Bitmapset *used = NULL;
  int present = 0;
  pull_varattnos((Node *)rel->reltarget->exprs, rel->relid, &used);
  ListCell *cell;
  foreach (cell, rel->baserestrictinfo)
    pull_varattnos((Node *)lfirst_node(RestrictInfo, cell)->clause, rel->relid, &used);
  Relation table = table_open(relid, AccessShareLock);
  TupleDesc desc = RelationGetDescr(table);
  columns.all =
      bms_is_member(InvalidAttrNumber - FirstLowInvalidHeapAttributeNumber, used);
  for (int i = 0; i < desc->natts; i++) {
    Form_pg_attribute a = TupleDescAttr(desc, i);
    if (a->attisdropped)
      continue;
    present++;
    if (bms_is_member(a->attnum - FirstLowInvalidHeapAttributeNumber, used))
      columns.names = lappend(columns.names, makeString(pstrdup(NameStr(a->attname))));
  }
  table_close(table, AccessShareLock);
  if (columns.all || list_length(columns.names) == present)
    columns = (struct fdw_columns){.all = true};
  return columns;
}

static List *columns_private(struct fdw_columns columns)
{
#if PG_VERSION_NUM >= 150000
  return list_make2(makeBoolean(columns.all), columns.names);
#else
  return list_make2(makeInteger(columns.all), columns.names);
#endif
}

struct fdw_columns fdw_plan_columns(List *fdw_private)
{
  struct fdw_columns columns;
#if PG_VERSION_NUM >= 150000
  columns.all = boolVal(linitial(fdw_private));
#else
  columns.all = intVal(linitial(fdw_private)) != 0;
#endif
  columns.names = lsecond(fdw_private);
  return columns;
}

/* ---- size ---- */

BlockNumber fdw_plan_pages(int64 bytes)
{
  int64 pages = bytes / BLCKSZ + (bytes % BLCKSZ != 0);
  return (BlockNumber)Min(Max(pages, 1), (int64)MaxBlockNumber);
}

/* reltuples / relpages of ANALYZE, or 0: unknown. */
static double rows_per_page(const RelOptInfo *rel)
{
  return rel->pages > 0 && rel->tuples > 0 ? rel->tuples / rel->pages : 0;
}

static double estimate_rows(const RelOptInfo *rel, const struct plan_info *info)
{
  double density = rows_per_page(rel);
  if (density > 0)
    return clamp_row_est(density * fdw_plan_pages(info->bytes));
  double bytes = (double)info->bytes * (info->compressed ? COMPRESSION : 1);
  int width = MAXALIGN(rel->reltarget->width) + MAXALIGN(SizeofHeapTupleHeader);
  return clamp_row_est(bytes / width);
}

static Oid plan_user(PlannerInfo *root, RelOptInfo *rel)
{
#if PG_VERSION_NUM >= 160000
  (void)root;
  Oid user = rel->userid;
#else
  Oid user = planner_rt_fetch(rel->relid, root)->checkAsUser;
#endif
  return OidIsValid(user) ? user : GetUserId();
}

void fdw_plan_size(PlannerInfo *root, RelOptInfo *rel, Oid relid)
{
  struct plan_info *info = palloc0(sizeof *info);
  struct tm_error err;
  struct fdw_table *t = fdw_table_get(relid, plan_user(root, rel));
  struct fdw_store *store = fdw_store_acquire_in(CurrentMemoryContext, t);
  const struct fdw_objects *objects = fdw_match_plan(t, store, &err);
  info->bytes = objects != NULL ? objects->bytes : UNKNOWN_BYTES;
  info->objects = objects != NULL ? objects->count : 1;
  info->compressed = t->codec != FDW_PLAIN;
  info->columns = wanted_columns(rel, relid);
  rel->fdw_private = info;
  double rows = estimate_rows(rel, info);
  rel->tuples = rows;
  rel->rows = clamp_row_est(
      rows * clauselist_selectivity(root, rel->baserestrictinfo, 0, JOIN_INNER, NULL));
}

/* ---- paths and plan ---- */

void fdw_plan_paths(PlannerInfo *root, RelOptInfo *rel, Oid relid)
{
  const struct plan_info *info = rel->fdw_private;
  (void)relid;
  /* Ten times cpu_tuple_cost, as file_fdw: parsing text is dear. */
  Cost per_row = cpu_tuple_cost * 10 + rel->baserestrictcost.per_tuple;
  Cost startup = LISTING_COST + rel->baserestrictcost.startup;
  Cost total = startup + seq_page_cost * fdw_plan_pages(info->bytes) +
               (Cost)OBJECT_COST * info->objects + per_row * rel->tuples;
  ForeignPath *path =
      create_foreignscan_path(root, rel, NULL, rel->rows,
#if PG_VERSION_NUM >= 180000
                              0,
#endif
                              startup, total, NIL, rel->lateral_relids, NULL,
#if PG_VERSION_NUM >= 170000
                              NIL,
#endif
                              columns_private(info->columns));
  add_path(rel, (Path *)path);
}

ForeignScan *fdw_plan_scan(PlannerInfo *root, RelOptInfo *rel, Oid relid,
                           ForeignPath *path, List *tlist, List *clauses, Plan *outer)
{
  (void)root;
  (void)relid;
  return make_foreignscan(tlist, extract_actual_clauses(clauses, false), rel->relid, NIL,
                          path->fdw_private, NIL, NIL, outer);
}
