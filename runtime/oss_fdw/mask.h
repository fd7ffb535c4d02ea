/*
** mask.h: access keys struck out of the text of a statement
*/
#ifndef FDW_MASK_H
#define FDW_MASK_H

#include "postgres.h"

#include "nodes/pg_list.h"

/*
** A copy of `query` in which the values of the options `id` and `key` are asterisks, in all its
** statements about servers and user mappings; every other place stays where it was. `query`
** itself when there is nothing to strike out, or `options` (of the statement that is run) have
** not come from it.
*/
const char *fdw_mask(const char *query, List *options);

/*
** Puts the masked text in the place of the original wherever that is this session's current
** statement: pg_stat_activity, current_query(), the STATEMENT line of errors. Out of reach are
** log_statement and log_min_duration_statement (they have their own pointer to the text), and
** the text of a function or DO block that holds the statement; and a text of several statements
** until the first of these runs.
*/
void fdw_mask_show(const char *query, const char *masked);

#endif
