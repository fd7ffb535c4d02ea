/*
** thread.h: starting a thread that no signal is delivered to
**
** Signals belong to the thread that the process began with: its handlers set flags and fire
** tokens that waits there look at. A thread of ours that took one would keep it from them
** (and inside a database's backend would run that backend's handlers). So every thread of
** runtime/ is started here.
*/
#ifndef TM_BASE_THREAD_H
#define TM_BASE_THREAD_H

#include <pthread.h>

/* Runs main(arg) in a new thread with every signal blocked; threads it starts in turn have
** them blocked too. `thread` is to be joined; NULL: it is detached. 0, or an errno. */
int tm_thread_start(pthread_t *thread, void *(*main)(void *), void *arg);

#endif
