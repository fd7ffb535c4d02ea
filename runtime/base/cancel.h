/*
** cancel.h: a flag that also wakes whoever waits in poll
**
** Each thing that can block for long (a query, a transfer) owns one token, and its
** waits watch that token and the process's interrupt, which SIGINT and SIGTERM fire.
** Firing is safe from any thread and from a signal handler; a token stays fired.
*/
#ifndef TM_BASE_CANCEL_H
#define TM_BASE_CANCEL_H

#include <stdatomic.h>

#include "base/error.h"

struct tm_cancel {
  atomic_int fired;
  int fd; /* eventfd: readable once fired; -1 when closed */
};

/* False: no descriptor left. A token that failed or was never opened ({.fd = -1})
** may be closed and asked. */
bool tm_cancel_open(struct tm_cancel *c, struct tm_error *err) TM_MUSTCHECK;
void tm_cancel_close(struct tm_cancel *c);

void tm_cancel_fire(struct tm_cancel *c);
bool tm_cancel_fired(const struct tm_cancel *c); /* NULL: false */
int tm_cancel_fd(const struct tm_cancel *c);     /* NULL: -1 */

/* The process-wide token. Before tm_interrupt_start it is never fired. */
struct tm_cancel *tm_interrupt(void);

/* Opens the process-wide token; called once, in main, before any thread. The
** signal handler itself is main's. */
bool tm_interrupt_start(struct tm_error *err) TM_MUSTCHECK;

/* Unfires the process-wide token: only a prompt that survives Ctrl-C, and a runner that first
** ends its children, do this. */
void tm_interrupt_reset(void);

/* What main's signal handler calls: counts, fires the process-wide token and starts the
** deadline, if there is one. `number` is the signal. */
void tm_interrupt_signal(int number);

/* How many signals came since the start. */
int tm_interrupt_count(void);

/* While deferred, a signal does nothing more than tm_interrupt_signal. */
void tm_interrupt_defer(bool on);
bool tm_interrupt_deferred(void);

/* A prompt survives SIGINT: while on, a second one does not end the process but raises in
** Lua until control is back at the prompt. Other signals end it as ever. */
void tm_interrupt_prompt(bool on);
bool tm_interrupt_at_prompt(void);

/* The last signal that was not SIGINT, so one that wants the process to end; 0: none came. */
int tm_interrupt_ending(void);

/* So many seconds after the first signal the process is ended (SIGALRM); 0: never. */
void tm_interrupt_deadline(unsigned seconds);

#endif
