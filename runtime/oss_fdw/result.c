/*
** result.c: what SQL functions of ours that return rows share
*/
#include "postgres.h"

#include "funcapi.h"
#include "mb/pg_wchar.h"
#include "miscadmin.h"
#include "utils/builtins.h"
#include "utils/timestamp.h"

#include "oss_fdw/result.h"

struct fdw_result fdw_result_begin(FunctionCallInfo fcinfo)
{
  ReturnSetInfo *info = (ReturnSetInfo *)fcinfo->resultinfo;
  struct fdw_result result;
  if (info == NULL || !IsA(info, ReturnSetInfo) ||
      (info->allowedModes & SFRM_Materialize) == 0)
    ereport(ERROR,
            (errcode(ERRCODE_FEATURE_NOT_SUPPORTED),
             errmsg("set-valued function called in context that cannot accept a set")));
  MemoryContext old = MemoryContextSwitchTo(info->econtext->ecxt_per_query_memory);
  if (get_call_result_type(fcinfo, NULL, &result.desc) != TYPEFUNC_COMPOSITE)
    elog(ERROR, "return type must be a row type");
  result.rows = tuplestore_begin_heap((info->allowedModes & SFRM_Materialize_Random) != 0,
                                      false, work_mem);
  info->returnMode = SFRM_Materialize;
  info->setResult = result.rows;
  info->setDesc = result.desc;
  MemoryContextSwitchTo(old);
  return result;
}

void fdw_result_put(const struct fdw_result *result, Datum *values, bool *nulls)
{
  tuplestore_putvalues(result->rows, result->desc, values, nulls);
}

Datum fdw_result_text(const char *utf8)
{
  return CStringGetTextDatum(pg_any_to_server(utf8, (int)strlen(utf8), PG_UTF8));
}

Datum fdw_result_time(int64 unix_ms)
{
  const int64 days = POSTGRES_EPOCH_JDATE - UNIX_EPOCH_JDATE;
  return TimestampTzGetDatum((unix_ms - days * SECS_PER_DAY * 1000) * 1000);
}
