/*
** budget.h: so many bytes for several writers together
*/
#ifndef TM_OSS_BUDGET_H
#define TM_OSS_BUDGET_H

#include "base/cancel.h"

struct tm_oss_budget; /* bytes of buffers; shared by threads */

/* NULL: TM_EMEMORY. */
struct tm_oss_budget *tm_oss_budget_new(size_t bytes, struct tm_error *err);
void tm_oss_budget_free(struct tm_oss_budget *budget); /* NULL is fine */

/* The whole, as it was made. */
size_t tm_oss_budget_total(const struct tm_oss_budget *budget);

/* Takes a share, waiting until it is there; more than the whole is given when nothing else is
** out. False: `cancel` or tm_interrupt() fired. */
bool tm_oss_budget_take(struct tm_oss_budget *budget, size_t bytes,
                        const struct tm_cancel *cancel) TM_MUSTCHECK;

/* The same without waiting, and never more than the whole. False: no room. */
bool tm_oss_budget_try(struct tm_oss_budget *budget, size_t bytes) TM_MUSTCHECK;

/* Gives a share back. */
void tm_oss_budget_give(struct tm_oss_budget *budget, size_t bytes);

/*
** Memory for a share that was taken, to be given back by tm_oss_budget_release. While the whole
** has not been made yet it is new, then what was released longest ago: so what is resident does
** not depend on how many shares happened to be out at one time. NULL: out of memory.
*/
void *tm_oss_budget_memory(struct tm_oss_budget *budget, size_t bytes) TM_MUSTCHECK;
void tm_oss_budget_release(struct tm_oss_budget *budget, void *memory, size_t bytes);

#endif
