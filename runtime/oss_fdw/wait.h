/*
** wait.h: how the backend waits for threads, and how their errors become PostgreSQL's
**
** Network I/O runs in threads that never touch PostgreSQL; the backend's own thread waits on
** its latch, so cancel, statement_timeout and terminate work at once. Nothing here raises
** while it owns anything that an error would leak.
*/
#ifndef FDW_WAIT_H
#define FDW_WAIT_H

#include "postgres.h"

#include "base/cancel.h"

/* Runs in a thread of its own: nothing of PostgreSQL may be called or touched in it, palloc
** and ereport included. `cancel` is fired when the backend is interrupted: it must then end
** soon. False with *err set: it failed. */
typedef bool fdw_task(void *data, const struct tm_cancel *cancel, struct tm_error *err);

/*
** Runs the task and waits for its end on the backend's latch. Returns what the task did. An
** interrupt (cancel, timeout, terminate) cancels the task, joins the thread and then raises;
** so `data` is used by nobody any more once this has returned or raised, but what the task
** has put into it is then still the caller's: malloc'd results of a task that may be
** interrupted must be hung into something fdw_own'd before the call. May raise; while
** interrupts are held (at abort) it does not, and returns when the task ends.
*/
bool fdw_run(fdw_task *task, void *data, struct tm_error *err) TM_MUSTCHECK;

/* The same, but the task is cancelled after `timeout_ms` (it then fails with TM_ETIMEOUT): for
** aborts, where nothing else would end it. */
bool fdw_run_for(fdw_task *task, void *data, int timeout_ms, struct tm_error *err)
    TM_MUSTCHECK;

/* Waits until `fd` (an eventfd of a channel or background pump) is readable or the latch is
** set, then CHECK_FOR_INTERRUPTS: may raise, and may return for nothing, so the caller tries
** again in a loop. Does not read from fd. Everything the caller holds must be fdw_own'd. */
void fdw_wait(int fd);

/*
** Raises `err` as an ERROR: SQLSTATE by kind (table in wait.c), the message; where the store
** answered, a detail `oss server returned error: StatusCode=..., ErrorCode=...,
** ErrorMessage="...", RequestId=...`, else err->detail; err->hint. TM_ECANCELED that came of
** an interrupt raises that interrupt's own error.
*/
void fdw_raise(const struct tm_error *err) pg_attribute_noreturn();

/* The same as a WARNING, its message "WHAT: message" (`what` NULL: the message alone). Safe in
** abort callbacks: raises nothing. */
void fdw_warn(const struct tm_error *err, const char *what);

/* The SQLSTATE of a kind, as ERRCODE_... */
int fdw_sqlstate(const struct tm_error *err);

/* `text` (UTF-8: a key, a message of the store) fit for a message of this database: bytes that
** it cannot hold are '?'. palloc'd. Never raises but for memory. Where the exact text counts
** (results of functions) use pg_any_to_server(text, strlen(text), PG_UTF8). */
char *fdw_text(const char *text);

/* Calls release(arg) when `cxt` is reset or deleted, so also when an error unwinds. Raises only
** when memory runs out, and has then called release(arg) itself. Releases run in the
** opposite order of their registration. `release` must not raise. */
void fdw_own(MemoryContext cxt, void (*release)(void *), void *arg);

#endif
