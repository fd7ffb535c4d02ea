/*
** modify.h: INSERT and COPY into foreign tables, as callbacks of the handler's routine
**
** A statement's rows become text in slabs, which a pump in threads compresses and uploads;
** a full line of slabs holds the statement up (the wait is on the latch). At its end the
** objects are uploaded but not visible, and belong to the transaction (xact.h). A statement
** of no rows talks to nobody. On any error everything is released with the query's memory.
*/
#ifndef FDW_MODIFY_H
#define FDW_MODIFY_H

#include "postgres.h"

#include "foreign/fdwapi.h"

int fdw_is_updatable(Relation rel); /* CMD_INSERT unless the table has a filepath */

/* INSERT: see the manual of PostgreSQL, "Foreign Data Wrapper Callback Routines". */
List *fdw_plan_modify(PlannerInfo *root, ModifyTable *plan, Index rel, int subplan);
void fdw_begin_modify(ModifyTableState *state, ResultRelInfo *info, List *fdw_private,
                      int subplan, int eflags);
TupleTableSlot *fdw_exec_insert(EState *estate, ResultRelInfo *info, TupleTableSlot *slot,
                                TupleTableSlot *plan_slot);
void fdw_end_modify(EState *estate, ResultRelInfo *info);

/* COPY FROM, and rows routed to a partition. */
void fdw_begin_insert(ModifyTableState *state, ResultRelInfo *info);
void fdw_end_insert(EState *estate, ResultRelInfo *info);

#if PG_VERSION_NUM >= 140000
TupleTableSlot **fdw_exec_batch_insert(EState *estate, ResultRelInfo *info,
                                       TupleTableSlot **slots,
                                       TupleTableSlot **plan_slots, int *count);
int fdw_batch_size(ResultRelInfo *info);
#endif

#endif
