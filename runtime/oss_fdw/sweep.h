/*
** sweep.h: removing what transactions left that did not commit
**
** Only objects and uploads that this cluster's own names give away, and whose transaction
** has certainly ended, are ever touched; oss_fdw_sweep() besides aborts old uploads of others.
*/
#ifndef FDW_SWEEP_H
#define FDW_SWEEP_H

struct fdw_table;
struct fdw_store;

/* Before a write (GUC oss_fdw.sweep): with nothing to remove two requests, at most once a
** minute for a location in one backend, in at most ten seconds. Failures are WARNINGs; raises on
** interrupts only. */
void fdw_sweep(const struct fdw_table *t, struct fdw_store *store);

#endif
