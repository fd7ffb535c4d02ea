/*
** held_all.h: completing or dropping many held objects, several at a time
**
** What the end of a transaction does. All requests run in threads of their own, which have
** ended when a function returns; the caller's thread only waits for them.
*/
#ifndef TM_OSS_HELD_ALL_H
#define TM_OSS_HELD_ALL_H

#include "oss/held.h"

struct tm_oss_held_item {
  struct tm_oss *store;
  struct tm_oss_held *held;
};

/*
** Completes all of them (create only), 4 at a time. False with the first failure in *err: none
** was begun after it, and each one's state says what became of it. Cancelled: TM_ECANCELED.
*/
bool tm_oss_held_complete_all(const struct tm_oss_held_item *items, size_t count,
                              const struct tm_cancel *cancel, struct tm_error *err)
    TM_MUSTCHECK;

/*
** Drops all of them, 4 at a time; no request is begun after `deadline`, nor to a store that
** could not be reached, and each is bounded as in tm_oss_held_drop. Returns how many left
** something behind, the first one's reason in *err.
*/
size_t tm_oss_held_drop_all(const struct tm_oss_held_item *items, size_t count,
                            int64_t deadline, struct tm_error *err);

#endif
