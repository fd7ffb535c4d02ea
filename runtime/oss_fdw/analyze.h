/*
** analyze.h: ANALYZE of a foreign table: a sample of its objects' rows
*/
#ifndef TM_FDW_ANALYZE_H
#define TM_FDW_ANALYZE_H

#include "foreign/fdwapi.h"

bool fdw_analyze(Relation rel, AcquireSampleRowsFunc *func, BlockNumber *pages);

#endif
