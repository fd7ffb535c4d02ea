/*
** explain.c: what EXPLAIN shows of scans: the lines of either dialect
**
** Of a table with several objects the RDS form names the first one and adds their number.
** EXPLAIN must not fail where a plan can be shown: what cannot be listed is a warning.
*/
#include "oss_fdw/explain.h"

#include "commands/explain.h"
#if PG_VERSION_NUM >= 180000
#include "commands/explain_format.h"
#endif
#include "oss_fdw/match.h"
#include "oss_fdw/scan.h"
#include "oss_fdw/wait.h"
#include "utils/rel.h"

static char *url(const struct fdw_table *t)
{
  return psprintf("endpoint=%s bucket=%s %s=%s filetype=%s|%s", t->endpoint, t->bucket,
                  fdw_locator_name(t->locator), fdw_text(t->location),
                  t->codec == FDW_PLAIN ? "plain" : t->codec_name,
                  t->format == FDW_CSV ? "csv" : "text");
}

static void explain_rds(const struct fdw_table *t, const struct fdw_objects *objects,
                        struct ExplainState *es)
{
  const char *key = objects->count > 0 ? objects->items[0].key : t->location;
  ExplainPropertyText("Foreign OssFile", fdw_text(key), es);
  ExplainPropertyInteger("Foreign OssFile Size", NULL, objects->bytes, es);
  if (objects->count != 1)
    ExplainPropertyInteger("Foreign OssFiles", NULL, objects->count, es);
}

static void explain_adbpg(const struct fdw_table *t, const struct fdw_objects *objects,
                          struct ExplainState *es)
{
  ExplainPropertyText("Oss Url", url(t), es);
  ExplainPropertyText("Oss Parallel (Max 4) Get",
                      psprintf("total %d file(s) with " INT64_FORMAT " bytes byte(s).",
                               objects->count, objects->bytes),
                      es);
}

void fdw_explain_scan(ForeignScanState *node, struct ExplainState *es)
{
  EState *estate = node->ss.ps.state;
  struct tm_error err;
  struct fdw_table *t =
      fdw_table_get(RelationGetRelid(node->ss.ss_currentRelation), fdw_scan_user(node));
  struct fdw_store *store = fdw_store_acquire_in(estate->es_query_cxt, t);
  const struct fdw_objects *objects =
      fdw_match_take(t, store, estate->es_query_cxt, &err);
  if (objects == NULL)
    fdw_warn(&err, psprintf("foreign table \"%s\" cannot be listed", t->relname));
  else if (t->dialect == FDW_RDS)
    explain_rds(t, objects, es);
  else
    explain_adbpg(t, objects, es);
  if (!es->analyze)
    return;
  int64 count, bytes, rejected;
  fdw_scan_counts(node, &count, &bytes, &rejected);
  ExplainPropertyInteger("Oss Objects Read", NULL, count, es);
  ExplainPropertyInteger("Oss Bytes Read", NULL, bytes, es);
  if (rejected >= 0)
    ExplainPropertyInteger("Oss Rows Rejected", NULL, rejected, es);
}

/* The documentation of either dialect shows nothing here; where the rows go is worth a line. */
void fdw_explain_modify(ModifyTableState *state, ResultRelInfo *info, List *fdw_private,
                        int subplan, struct ExplainState *es)
{
  (void)state;
  (void)fdw_private;
  (void)subplan;
  Oid relid = RelationGetRelid(info->ri_RelationDesc);
  ExplainPropertyText("Oss Url", url(fdw_table_get(relid, InvalidOid)), es);
}
