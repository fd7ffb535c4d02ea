/*
** name.h: names of the objects that this cluster writes, and which of them may be seen
**
** See oss/name.h for their form. Include after postgres.h.
*/
#ifndef FDW_NAME_H
#define FDW_NAME_H

#include "datatype/timestamp.h"
#include "oss/name.h"

struct fdw_table;
struct fdw_name; /* what the names of one statement's objects share */

/*
** Called once a statement, at its first row or before. Assigns the transaction's top-level id,
** and has made sure on return that no crash of the server can give the id away again. palloc'd
** in CurrentMemoryContext; raises (read-only transaction, recovery, name too long, filepath).
*/
struct fdw_name *fdw_name_base(const struct fdw_table *t);

/* The key of the statement's object `index`, from 0: malloc'd, NULL without memory. Any thread;
** the type of tm_oss_objects_opts.name, `base` being a struct fdw_name. */
char *fdw_name_object(void *base, size_t index);

/* What all keys of the table begin with, up to the underscore before the time, palloc'd:
** "<dir><table>_", and so on. Raises for filepath. */
char *fdw_name_head(const struct fdw_table *t);

/* The text of a time as names of the table have it; palloc'd. */
char *fdw_name_time(const struct fdw_table *t, TimestampTz when);

enum fdw_writer {
  FDW_STRANGER,  /* not a name of this cluster's, or of a transaction still to come */
  FDW_RUNNING,   /* its transaction has not ended (our own has not, either) */
  FDW_COMMITTED, /* or so long ago that nobody knows */
  FDW_ABORTED,   /* rolled back, or running when the server crashed */
};

/* Who wrote the object, by its name alone. In recovery everything is a stranger's. */
enum fdw_writer fdw_name_writer(const char *key);

/* False: this cluster wrote it in a transaction that is not, or not yet, committed. */
bool fdw_name_visible(const char *key);

#endif
