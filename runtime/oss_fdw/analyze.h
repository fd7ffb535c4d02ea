/*
** analyze.h: ANALYZE of a foreign table: a sample of its objects' rows
*/
#ifndef FDW_ANALYZE_H
#define FDW_ANALYZE_H

#include "postgres.h"

#include "foreign/fdwapi.h"

bool fdw_analyze(Relation rel, AcquireSampleRowsFunc *func, BlockNumber *pages);

#endif
