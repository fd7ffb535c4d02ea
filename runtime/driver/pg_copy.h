/*
** pg_copy.h: what the COPY streams of the PostgreSQL driver share; nobody else includes it
*/
#ifndef TM_DRIVER_PG_COPY_H
#define TM_DRIVER_PG_COPY_H

#include "driver/pg_impl.h"

enum pg_copy_state { PG_COPY_OPEN, PG_COPY_ENDED, PG_COPY_FAILED };

/* Zeroed, with its gate initialised, before pg_copy_start; then pg_copy_release, always. */
struct pg_copy {
  struct tm_pg *pg; /* NULL: not started */
  char *sql;
  enum pg_copy_state state;
  bool begun;            /* the server has said that the COPY began */
  bool batch;            /* the socket wakes for many bytes at once */
  bool in_tx;            /* else the COPY commits by itself */
  int64_t rows;          /* of the command tag; -1 until it came */
  atomic_bool cancelled; /* set by any thread */
  /* Guards state in cancel and detach: once the stream has let go of the session, a late
  ** cancel must not hit what comes next. */
  pthread_mutex_t gate;
};

/* Sends the command; from then on the stream has the session. */
bool pg_copy_start(struct pg_copy *c, struct tm_pg *pg, const char *sql,
                   struct tm_error *err) TM_MUSTCHECK;

/* Waits until the server says that the COPY began: for the first rows of a COPY out, which
** come with it. Without success the stream has ended. */
bool pg_copy_begin(struct pg_copy *c, ExecStatusType want, struct tm_error *err)
    TM_MUSTCHECK;

/* Whether the socket wakes us for 256 KiB at once, or for one byte. */
void pg_copy_batch(struct pg_copy *c, bool on);

/* The stream no longer has the session. */
void pg_copy_detach(struct pg_copy *c, enum pg_copy_state state);

/* Ends a stream that went wrong; *err is what went wrong. False, for `return`. */
bool pg_copy_stop(struct pg_copy *c);

/* False with *err set when the stream cannot go on. */
bool pg_copy_check(struct pg_copy *c, struct tm_error *err) TM_MUSTCHECK;

/* Reads the results after the data. True: the server confirmed the command. */
bool pg_copy_confirm(struct pg_copy *c, struct tm_error *err) TM_MUSTCHECK;

/* As pg_copy_confirm, but a wait cut short stops the stream. */
bool pg_copy_ended(struct pg_copy *c, struct tm_error *err) TM_MUSTCHECK;

/* Makes what waits, and what comes, fail with TM_ECANCELED. Any thread. */
void pg_copy_cancel(struct pg_copy *c);

void pg_copy_release(struct pg_copy *c);

#endif
