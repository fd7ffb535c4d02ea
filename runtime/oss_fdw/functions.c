/*
** functions.c: what the dialects offer as SQL functions
**
**   oss_fdw_list_file(relname, schema)   RDS: the objects a foreign table matches now
**   get_oss_table_meta(ft)               ADBPG: the same, with etag and time
**   gp_read_error_log(ft)                ADBPG, of Greenplum: rows that scans rejected
**   gp_truncate_error_log(ft)            removes them; '*' of all tables of the database
**                                        (its owner), '*.*' of all databases (superusers)
**
** Reading either of a table needs SELECT on all of it, truncating needs its ownership. As in
** Greenplum a table that does not exist has no rejected rows.
*/
#include "postgres.h"

#include "access/htup_details.h"
#include "catalog/namespace.h"
#include "catalog/pg_class.h"
#include "catalog/pg_database.h"
#include "commands/dbcommands.h"
#include "fmgr.h"
#include "miscadmin.h"
#include "utils/acl.h"
#include "utils/builtins.h"
#include "utils/lsyscache.h"
#include "utils/varlena.h"

#include "oss_fdw/errlog.h"
#include "oss_fdw/match.h"
#include "oss_fdw/options.h"
#include "oss_fdw/result.h"
#include "oss_fdw/server.h"

PGDLLEXPORT Datum oss_fdw_list_file(PG_FUNCTION_ARGS);
PGDLLEXPORT Datum get_oss_table_meta(PG_FUNCTION_ARGS);
PGDLLEXPORT Datum gp_read_error_log(PG_FUNCTION_ARGS);
PGDLLEXPORT Datum gp_truncate_error_log(PG_FUNCTION_ARGS);
PG_FUNCTION_INFO_V1(oss_fdw_list_file);
PG_FUNCTION_INFO_V1(get_oss_table_meta);
PG_FUNCTION_INFO_V1(gp_read_error_log);
PG_FUNCTION_INFO_V1(gp_truncate_error_log);

/* ---- the table asked for ---- */

static void check_select(Oid relid)
{
  AclResult result = pg_class_aclcheck(relid, GetUserId(), ACL_SELECT);
  if (result != ACLCHECK_OK)
    aclcheck_error(result, OBJECT_FOREIGN_TABLE, get_rel_name(relid));
}

/* InvalidOid: there is none. */
static Oid find_table(text *name)
{
  RangeVar *relation = makeRangeVarFromNameList(textToQualifiedNameList(name));
  return RangeVarGetRelid(relation, NoLock, true);
}

static bool is_owner_of_table(Oid relid)
{
#if PG_VERSION_NUM >= 160000
  return object_ownercheck(RelationRelationId, relid, GetUserId());
#else
  return pg_class_ownercheck(relid, GetUserId());
#endif
}

static bool is_owner_of_database(void)
{
#if PG_VERSION_NUM >= 160000
  return object_ownercheck(DatabaseRelationId, MyDatabaseId, GetUserId());
#else
  return pg_database_ownercheck(MyDatabaseId, GetUserId());
#endif
}

/* ---- objects ---- */

/* The objects of the table as rows of (name, size), with `all` also (etag, modified). */
static void put_objects(const struct fdw_result *result, Oid relid, bool all)
{
  check_select(relid);
  struct fdw_table *t = fdw_table_get(relid, InvalidOid);
  struct fdw_store *store = fdw_store_acquire_in(CurrentMemoryContext, t);
  const struct fdw_objects *objects = fdw_match(t, store);
  for (int i = 0; i < objects->count; i++) {
    const struct fdw_object *o = &objects->items[i];
    Datum values[4] = {fdw_result_text(o->key), Int64GetDatum(o->size)};
    bool nulls[4] = {false};
    if (all) {
      values[2] = fdw_result_text(o->etag);
      values[3] = fdw_result_time(o->modified_ms);
      nulls[2] = o->etag[0] == '\0';
      nulls[3] = o->modified_ms < 0;
    }
    fdw_result_put(result, values, nulls);
  }
}

Datum oss_fdw_list_file(PG_FUNCTION_ARGS)
{
  const char *name = text_to_cstring(PG_GETARG_TEXT_PP(0));
  const char *schema = text_to_cstring(PG_GETARG_TEXT_PP(1));
  struct fdw_result result = fdw_result_begin(fcinfo);
  Oid relid = get_relname_relid(name, LookupExplicitNamespace(schema, false));
  if (!OidIsValid(relid))
    ereport(ERROR, (errcode(ERRCODE_UNDEFINED_TABLE),
                    errmsg("relation \"%s.%s\" does not exist", schema, name)));
  put_objects(&result, relid, false);
  return (Datum)0;
}

Datum get_oss_table_meta(PG_FUNCTION_ARGS)
{
  text *name = PG_GETARG_TEXT_PP(0);
  struct fdw_result result = fdw_result_begin(fcinfo);
  RangeVar *relation = makeRangeVarFromNameList(textToQualifiedNameList(name));
  put_objects(&result, RangeVarGetRelid(relation, NoLock, false), true);
  return (Datum)0;
}

/* ---- rejected rows ---- */

Datum gp_read_error_log(PG_FUNCTION_ARGS)
{
  struct fdw_result result = fdw_result_begin(fcinfo);
  Oid relid = find_table(PG_GETARG_TEXT_PP(0));
  if (!OidIsValid(relid))
    return (Datum)0;
  check_select(relid);
  fdw_errlog_read(relid, result.rows, result.desc);
  return (Datum)0;
}

Datum gp_truncate_error_log(PG_FUNCTION_ARGS)
{
  text *name = PG_GETARG_TEXT_PP(0);
  const char *all = text_to_cstring(name);
  if (strcmp(all, "*.*") == 0) {
    if (!superuser())
      ereport(ERROR, (errcode(ERRCODE_INSUFFICIENT_PRIVILEGE),
                      errmsg("must be superuser to delete all error log files")));
    fdw_errlog_truncate_all(InvalidOid);
    PG_RETURN_BOOL(true);
  }
  if (strcmp(all, "*") == 0) {
    if (!is_owner_of_database())
      aclcheck_error(ACLCHECK_NOT_OWNER, OBJECT_DATABASE,
                     get_database_name(MyDatabaseId));
    fdw_errlog_truncate_all(MyDatabaseId);
    PG_RETURN_BOOL(true);
  }
  Oid relid = find_table(name);
  if (!OidIsValid(relid))
    PG_RETURN_BOOL(false);
  if (!is_owner_of_table(relid))
    aclcheck_error(ACLCHECK_NOT_OWNER, OBJECT_FOREIGN_TABLE, get_rel_name(relid));
  fdw_errlog_truncate(relid);
  PG_RETURN_BOOL(true);
}
