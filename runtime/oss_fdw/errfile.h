/*
** errfile.h: lines appended to a bounded file by many processes
**
** Pure POSIX: it takes no descriptor of PostgreSQL's and raises nothing, so a reset callback can
** use it. A log is the file NAME and the older NAME.1 of one directory.
*/
#ifndef TM_FDW_ERRFILE_H
#define TM_FDW_ERRFILE_H

#include <stdint.h>

#include "base/error.h"

/*
** Takes the lock on the directory, which is made if it is not there: many readers (`shared`) or
** one writer. Returns a descriptor: closing it, or the end of the process, releases the lock.
** -1: it was not free for 2 seconds, or *err says what else.
*/
int fdw_errfile_lock(const char *dir, bool shared, struct tm_error *err);

/*
** Appends whole lines, each ended by '\n', in one write. What a crash left without an end gets
** one, so a torn line spoils only itself. When NAME would grow past limit / 2 it
** becomes NAME.1, and what NAME.1 held is gone. False: nothing was added.
*/
bool fdw_errfile_append(const char *dir, const char *name, const char *lines, size_t len,
                        int64_t limit, struct tm_error *err) TM_MUSTCHECK;

/* Removes both files; *was: there was one. */
bool fdw_errfile_remove(const char *dir, const char *name, bool *was,
                        struct tm_error *err) TM_MUSTCHECK;

#endif
