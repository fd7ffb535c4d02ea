/*
** oss_fdw.c: what PostgreSQL calls first: magic, start, handler
**
** The handler's routine is made with makeNode, so a callback this version of
** PostgreSQL knows and we do not have is NULL.
*/
#include "postgres.h"

#include "fmgr.h"
#include "foreign/fdwapi.h"

#include "oss_fdw/guc.h"

PG_MODULE_MAGIC;

PGDLLEXPORT void _PG_init(void);
PGDLLEXPORT Datum oss_fdw_handler(PG_FUNCTION_ARGS);
PG_FUNCTION_INFO_V1(oss_fdw_handler);

void _PG_init(void)
{
  fdw_guc_init();
}

Datum oss_fdw_handler(PG_FUNCTION_ARGS)
{
  FdwRoutine *routine = makeNode(FdwRoutine);
  (void)fcinfo;
  PG_RETURN_POINTER(routine);
}
