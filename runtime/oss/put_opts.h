/*
** put_opts.h: put options that outlive their caller's
*/
#ifndef TM_OSS_PUT_OPTS_H
#define TM_OSS_PUT_OPTS_H

#include "oss/oss.h"

/* Copies `from` with all its strings. False: TM_EMEMORY; *to is to be freed in either case. */
bool tm_oss_put_opts_copy(struct tm_oss_put_opts *to, const struct tm_oss_put_opts *from,
                          struct tm_error *err) TM_MUSTCHECK;

/* Frees the strings of a copy; twice is fine. */
void tm_oss_put_opts_free(struct tm_oss_put_opts *opts);

#endif
