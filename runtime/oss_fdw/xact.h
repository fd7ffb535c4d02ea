/*
** xact.h: uploads that become objects when the transaction commits
**
** Whatever is added is completed before the commit record is written, and dropped if the
** transaction, or the subtransaction that added it, does not get there. What an abort cannot
** clean up in time is found by the next writer's sweep (sweep.h), from the names alone.
*/
#ifndef FDW_XACT_H
#define FDW_XACT_H

struct fdw_table;
struct fdw_store;
struct tm_oss_held;

/*
** Before a statement's first row: refuses a read-only transaction and recovery, registers the
** callbacks of the transaction (once a backend) and sweeps the table's location (at most once a
** transaction and a minute). Raises on those and on interrupts, never because of the store.
*/
void fdw_xact_begin_write(const struct fdw_table *t, struct fdw_store *store);

/*
** Takes the uploads over for the current (sub)transaction: `list`, a malloc'd array, and its
** `count` elements, whatever happens. Retains the store. Raises without memory.
*/
void fdw_xact_add(const struct fdw_table *t, struct fdw_store *store,
                  struct tm_oss_held **list, size_t count);

/* How many bytes of small objects the next statement may keep in memory until the commit
** (tm_oss_objects_opts.hold_bytes): 16 MiB less what the transaction's statements keep now,
** and never 0. */
size_t fdw_xact_hold_bytes(void);

#endif
