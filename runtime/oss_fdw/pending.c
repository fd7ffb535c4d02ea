/*
** pending.c: what reading needs of parts that have not landed; theirs replace these at once
*/
#include "postgres.h"

#include "oss_fdw/reject.h"

#define WEAK __attribute__((weak))

WEAK struct fdw_reject *fdw_reject_open(MemoryContext cxt, Relation rel,
                                        const struct fdw_table *t, List *copy_options)
{
  (void)cxt;
  (void)copy_options;
  (void)rel;
  ereport(ERROR, (errcode(ERRCODE_FEATURE_NOT_SUPPORTED),
                  errmsg("foreign table \"%s\" cannot be read tolerantly", t->relname)));
}

WEAK void fdw_reject_object(struct fdw_reject *r, struct fdw_feed *feed,
                            const struct fdw_object *object)
{
  (void)r;
  (void)feed;
  (void)object;
}

WEAK bool fdw_reject_next(struct fdw_reject *r, ExprContext *econtext, Datum *values,
                          bool *nulls)
{
  (void)r;
  (void)econtext;
  (void)values;
  (void)nulls;
  return false;
}

WEAK void fdw_reject_finish(struct fdw_reject *r)
{
  (void)r;
}

WEAK void fdw_reject_rewind(struct fdw_reject *r)
{
  (void)r;
}

WEAK void fdw_reject_close(struct fdw_reject *r)
{
  (void)r;
}

WEAK void fdw_reject_no_workers(EState *estate)
{
  (void)estate;
}
