/*
** sweep.h: removing what transactions left that did not commit
**
** Only objects and uploads are ever touched that this cluster's own names give away, and whose
** transaction has certainly ended; the SQL function oss_fdw_sweep besides aborts uploads of
** unknown origin that are old enough. Include after postgres.h.
*/
#ifndef FDW_SWEEP_H
#define FDW_SWEEP_H

struct fdw_table;
struct fdw_store;

/* As the setting oss_fdw.sweep says, at most once a transaction and a minute for a location in
** one backend, in at most ten seconds. Two requests where nothing is to be removed. Failures
** are WARNINGs; raises on interrupts, and without memory. */
void fdw_sweep_before_write(const struct fdw_table *t, struct fdw_store *store);

/* Something was left behind: the next write sweeps, whenever the last sweep was. */
void fdw_sweep_soon(void);

#endif
