/*
** oss_fdw.c: what PostgreSQL calls first: magic, start, handler, validator
**
** The handler's routine is made with makeNode, so a callback this version of
** PostgreSQL knows and we do not have is NULL.
*/
#include "postgres.h"

#include "fmgr.h"
#include "foreign/fdwapi.h"

PG_MODULE_MAGIC;

PGDLLEXPORT void _PG_init(void);
PGDLLEXPORT Datum oss_fdw_handler(PG_FUNCTION_ARGS);
PGDLLEXPORT Datum oss_fdw_validator(PG_FUNCTION_ARGS);
PG_FUNCTION_INFO_V1(oss_fdw_handler);
PG_FUNCTION_INFO_V1(oss_fdw_validator);

void _PG_init(void)
{
}

Datum oss_fdw_handler(PG_FUNCTION_ARGS)
{
  FdwRoutine *routine = makeNode(FdwRoutine);
  (void)fcinfo;
  PG_RETURN_POINTER(routine);
}

Datum oss_fdw_validator(PG_FUNCTION_ARGS)
{
  (void)fcinfo;
  PG_RETURN_VOID();
}
