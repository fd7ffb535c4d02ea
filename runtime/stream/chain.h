/*
** chain.h: a source made of sources, given one after another while the stream runs
**
** So one sink takes many ranges: a pump reads the chain in its thread, and the owner, in
** another one, gives the next source whenever the chain is hungry.
**
**   owner:  tm_chain_give, tm_chain_give, ..., tm_chain_end
**   pump:   [tm_chain_source -> stages -> sink]
**
** What is given is read to its end, closed, and only then followed by the next, or by
** hunger: so a connection that the source used is free again when the chain is hungry. An
** error of a source given is the chain's, and a chain that failed never ends.
*/
#ifndef TM_STREAM_CHAIN_H
#define TM_STREAM_CHAIN_H

#include "stream/stream.h"

struct tm_chain;

/* NULL: TM_EMEMORY, TM_ESYSTEM (no descriptor left). */
struct tm_chain *tm_chain_new(struct tm_error *err);

/* Gives up the owner's side: unless the chain was ended, its source fails with TM_ECANCELED.
** Memory goes when both sides are closed, in any order. NULL is fine. */
void tm_chain_free(struct tm_chain *ch);

/* The thread side, once; owned by whoever runs it. read blocks while the chain is hungry;
** close closes what was given and not read to its end. */
struct tm_source *tm_chain_source(struct tm_chain *ch);

/* ---- the owner's side: never blocks; one thread, but tm_chain_fail any ---- */

/* An eventfd, for poll only: readable while the chain is hungry. */
int tm_chain_fd(const struct tm_chain *ch);

/* Whether everything given has been read and closed, and the chain has neither ended nor
** failed. True at birth. */
bool tm_chain_hungry(struct tm_chain *ch);

/* Puts a source behind those given before; it is given away, also when this fails. False:
** TM_EUSAGE after tm_chain_end, TM_EMEMORY, or the error with which the chain has failed. */
bool tm_chain_give(struct tm_chain *ch, struct tm_source *source, struct tm_error *err)
    TM_MUSTCHECK;

/* No more will come: the chain ends when it has read what was given. */
void tm_chain_end(struct tm_chain *ch);

/* Makes the chain fail with this error, unless it has failed or was read to its end. What is
** being read is cancelled. */
void tm_chain_fail(struct tm_chain *ch, const struct tm_error *why);

struct tm_chain_stats {
  uint64_t sources;     /* read to their ends */
  uint64_t rows, bytes; /* handed on so far, also of the one being read */
};

/* While the chain is hungry these are the figures of exactly what was given so far. */
void tm_chain_stats(struct tm_chain *ch, struct tm_chain_stats *stats);

#endif
