/*
** scan.h: executor callbacks of a foreign scan: begin, iterate, rescan, end
*/
#ifndef FDW_SCAN_H
#define FDW_SCAN_H

#include "postgres.h"

#include "foreign/fdwapi.h"

void fdw_scan_begin(ForeignScanState *node, int eflags);
TupleTableSlot *fdw_scan_iterate(ForeignScanState *node);
void fdw_scan_rescan(ForeignScanState *node);
void fdw_scan_end(ForeignScanState *node);

/* Whose rights a scan node reads with: a view's owner, else the current user. */
Oid fdw_scan_user(ForeignScanState *node);

/* For EXPLAIN ANALYZE, of all runs of the node: objects begun, bytes fetched, rows rejected (-1:
** the table is not tolerant). */
void fdw_scan_counts(ForeignScanState *node, int64 *objects, int64 *bytes,
                     int64 *rejected);

#endif
