/*
** crash.h: named moments at which a test kills the program
**
** Code calls tm_crash_point right before and right after each step that outlives it: an object
** is there, a row is committed. In the program that people run the call does nothing. The
** program of `make crash` is linked with another object of crash.c, compiled with
** -DTM_CRASH_POINTS, and obeys the environment:
**
**   TIDEMILL_CRASH=NAME[:N]    SIGKILL to itself when it passes the point for the N-th time (1st)
**   TIDEMILL_CRASH_ONCE=FILE   but only if it can create FILE: of all processes one, once
**   TIDEMILL_CRASH=list:FILE   no kill: each passing appends a line "NAME" to FILE
**
** Names are AREA.STEP.before and AREA.STEP.after. tests/e2e/crash_matrix_test.lua finds every
** call in the sources by its literal name, and fails for one that no transfer reaches.
*/
#ifndef TM_BASE_CRASH_H
#define TM_BASE_CRASH_H

/* Passes the point `name`, a literal. Safe from any thread; takes no lock, allocates nothing. */
void tm_crash_point(const char *name);

#endif
