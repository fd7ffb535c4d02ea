/*
** thread.c: starting a thread that no signal is delivered to
**
** A new thread inherits the mask of its maker, so the mask is set for a moment here; set in
** the thread itself it would come too late for a signal that is pending already.
*/
#include "base/thread.h"

#include <signal.h>

int tm_thread_start(pthread_t *thread, void *(*main)(void *), void *arg)
{
  sigset_t all, before;
  pthread_attr_t attr;
  pthread_t detached;
  int rc = pthread_attr_init(&attr);
  if (rc != 0)
    return rc;
  if (thread == NULL)
    pthread_attr_setdetachstate(&attr, PTHREAD_CREATE_DETACHED);
  sigfillset(&all);
  pthread_sigmask(SIG_SETMASK, &all, &before);
  rc = pthread_create(thread != NULL ? thread : &detached, &attr, main, arg);
  pthread_sigmask(SIG_SETMASK, &before, NULL);
  pthread_attr_destroy(&attr);
  return rc;
}
