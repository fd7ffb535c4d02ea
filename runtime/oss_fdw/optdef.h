/*
** optdef.h: the names of options, where each may stand, and what values it takes
**
** The union of both dialects' options and ours. Names are compared without regard to case.
** Values of secret options go into no message.
*/
#ifndef FDW_OPTDEF_H
#define FDW_OPTDEF_H

#include "postgres.h"

#include "nodes/pg_list.h"

/* Where options stand; bits. */
enum fdw_place {
  FDW_ON_WRAPPER = 0,
  FDW_ON_SERVER = 1,
  FDW_ON_MAPPING = 2,
  FDW_ON_TABLE = 4,
  FDW_ON_COLUMN = 8
};

/* The place of objects of a catalogue (ForeignServerRelationId, ...); others: the wrapper. */
enum fdw_place fdw_place_of(Oid catalog);

/*
** Checks each option of the list by itself: known, allowed in this place, given once, its value
** of the right kind and range. Raises with a hint that has the closest name and all that are
** valid here.
*/
void fdw_options_check(List *options, enum fdw_place place);

/* Whether the option's value is a secret: id and key. */
bool fdw_option_is_secret(const char *name);

/* The value of an option, or NULL; points into the list. */
const char *fdw_option(List *options, const char *name);

/* The same in lower case (of a value that is one word of a list); palloc'd. */
char *fdw_option_lower(List *options, const char *name);

/* A server's host or endpoint, or NULL: it has neither. */
const char *fdw_server_endpoint(List *options);

/* The first option of a server that names what lies on its host (files, programs, secrets), or
** NULL: there is none. Who may have one fdw_may_read_files says. */
const char *fdw_option_of_host(List *options);

/* Whether a server speaks S3: `protocol`, else whether the endpoint is Amazon's. */
bool fdw_server_is_s3(List *options, const char *endpoint);

/* The options of a table that are COPY's own, as it takes them: force_not_null and force_null
** as lists, of a column of any name when they mean all. */
List *fdw_copy_options(List *options);

/* Values that fdw_options_check has passed; `otherwise` when not given. */
int fdw_option_int(List *options, const char *name, int otherwise);
bool fdw_option_bool(List *options, const char *name, bool otherwise);

/* Of two names for one thing, the one that is given ("connect_timeout" and
** "oss_connect_timeout"), or NULL. Raises when both are. */
const char *fdw_option_either(List *options, const char *a, const char *b);

/* force_not_null and force_null: true and false are words of a bool written out, so that a
** column may be called t or f; anything else is a list of columns. */
enum fdw_force { FDW_FORCE_NONE, FDW_FORCE_ALL, FDW_FORCE_COLUMNS };
enum fdw_force fdw_option_force(List *options, const char *name, List **columns);

/* "10" and "10%" of segment_reject_limit; false: neither. */
bool fdw_option_reject(const char *value, int64 *limit, bool *percent);

#endif
