/*
** guc.h: the settings oss_fdw.*
*/
#ifndef FDW_GUC_H
#define FDW_GUC_H

#include "postgres.h"

enum fdw_sweep { FDW_SWEEP_ALL, FDW_SWEEP_UPLOADS, FDW_SWEEP_OFF };

extern char
    *fdw_read_one_file; /* rds_read_one_file: the only key that tables match, or "" */
extern char
    *fdw_allowed_endpoints;     /* allowed_endpoints: "" any; see fdw_endpoint_allowed */
extern int fdw_sweep;           /* sweep: enum fdw_sweep */
extern int fdw_prefetch_mb;     /* prefetch: bytes read ahead by one scan */
extern int fdw_write_buffer_mb; /* write_buffer: parts in flight of one statement */
extern int fdw_analyze_size_mb; /* analyze_size: what ANALYZE reads at most */
extern int fdw_error_log_size_mb; /* error_log_size: rejected rows kept of one table */

/* Defines them all; once, from _PG_init. */
void fdw_guc_init(void);

/*
** Whether oss_fdw.allowed_endpoints lists the endpoint ("host[:port]", perhaps with http(s)://
** before it); with an empty list any is. An entry is host[:port] or *.domain[:port]; without a
** port it means that of the scheme.
*/
bool fdw_endpoint_allowed(const char *endpoint);

#endif
